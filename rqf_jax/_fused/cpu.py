"""Kernels for this machine's CPU: LLVM through llvmlite, called by XLA as a foreign function.

Members are divided among threads in whole vectors, so that the numbers of a member do not depend
on how many members or threads there are.
"""

import ctypes
import functools
import hashlib
import os
import re
import threading
from pathlib import Path
from typing import Any

import jax

from .cache import kept
from .llvm import REMEDY, llvm
from .loop import Loop
from .values import Unavailable

_ALIVE: dict[str, Any] = {}
"""Compiled kernels by name; XLA may call them as long as the process lives."""

_LOCK = threading.Lock()


@functools.cache
def width() -> int:
    """Members in a lane value: the floats of this CPU's widest vector registers."""
    features = _machine()[1]
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


def target(loop: Loop) -> str:
    """Compile the kernel of a loop; the name by which XLA knows it. `Unavailable` if that fails.

    It takes words (2, members), states (numbers, members), the numbers first and substeps, start
    and h, and parameters, and gives states. `members` must be a multiple of `width()`.
    """
    text = _program(loop)
    name = "rqf_jax_" + hashlib.sha256(text.encode()).hexdigest()[:24]
    with _LOCK:
        if name not in _ALIVE:
            engine, handler = _compiled(text)
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform="cpu")
            _ALIVE[name] = engine, handler
    return name


@functools.cache
def _machine() -> tuple[str, Any]:
    """Name and features of this CPU."""
    binding = llvm()
    try:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        found = binding.get_host_cpu_name(), binding.get_host_cpu_features()
    except RuntimeError as error:
        raise Unavailable(f"llvmlite does not know this CPU ({error}). {REMEDY}") from error
    if os.name != "posix":
        raise Unavailable("this system has no POSIX threads. Use Linux or macOS for speed")
    return found


def _compiled(text: str) -> tuple[Any, Any]:
    """The compiled program, and the C function of its `handler`."""
    binding, (cpu, features) = llvm(), _machine()
    target = binding.Target.from_default_triple()

    def machine():
        return target.create_target_machine(cpu=cpu, features=features.flatten(), opt=1, jit=True)

    def make() -> bytes:
        module, mine = binding.parse_assembly(text), machine()
        # Lanes are vectors and operations are written once: optimising triples the time to compile
        # and gains nothing that could be measured.
        options = binding.create_pipeline_tuning_options(speed_level=0)
        builder = binding.create_pass_builder(mine, options)
        builder.getModulePassManager().run(module, builder)
        return mine.emit_object(module)

    key = repr((text, cpu, features.flatten(), binding.llvm_version_info))
    try:
        object_file = kept(hashlib.sha256(key.encode()).hexdigest(), make)
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine())
        engine.add_object_file(binding.ObjectFileRef.from_data(object_file))
        engine.finalize_object()
    except RuntimeError as error:
        raise Unavailable(f"LLVM could not compile a kernel ({error}). {REMEDY}") from error
    handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    return engine, handler(engine.get_function_address("handler"))


@functools.cache
def _version() -> tuple[int, int]:
    """Version of XLA's interface to foreign functions, from the header that jaxlib ships."""
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text(encoding="utf-8")
    major, minor = (
        re.search(rf"#define XLA_FFI_API_{x} (\d+)", header) for x in ("MAJOR", "MINOR")
    )
    if not (major and minor):
        raise Unavailable("this jaxlib has no interface to foreign functions. Install a newer jax")
    return int(major[1]), int(minor[1])


def _threads() -> int:
    """CPU cores of this process, shared among JAX's CPU devices."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(_MOST_THREADS, (cores or 1) // len(jax.local_devices(backend="cpu"))))


_MOST_THREADS = 256
_WORTH_A_THREAD = 200_000
"""Operations on vectors that take several times as long as to start a thread."""

_BUFFERS = ("words", "xs", "ints", "reals", "parameters")

# Offsets are those of XLA_FFI_CallFrame, XLA_FFI_Buffer and XLA_FFI_Metadata in XLA's c_api.h.
_PROGRAM = """
{declarations}
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
%task = type {{ ptr, i64, i64 }}

; All steps of the members in the vectors from %low up to %high.
define internal void @vectors(ptr %frame, i64 %low, i64 %high) #0 {{
entry:
  %args.p = getelementptr i8, ptr %frame, i64 72
  %args = load ptr, ptr %args.p
{buffers}
  %rets.p = getelementptr i8, ptr %frame, i64 112
  %rets = load ptr, ptr %rets.p
  %ys.b = load ptr, ptr %rets
  %ys.p = getelementptr i8, ptr %ys.b, i64 24
  %ys = load ptr, ptr %ys.p
  %members = call i64 @members(ptr %frame)
  %first = load i32, ptr %ints
  %substeps.p = getelementptr i32, ptr %ints, i64 1
  %substeps = load i32, ptr %substeps.p
  %start = load float, ptr %reals
  %h.p = getelementptr float, ptr %reals, i64 1
  %h = load float, ptr %h.p
{entry}
  br label %head
head:
  %vector = phi i64 [ %low, %entry ], [ %following, %after ]
  %some = icmp ult i64 %vector, %high
  br i1 %some, label %before, label %out
before:
  %member = mul i64 %vector, {width}
{loop}
  %following = add i64 %vector, 1
  br label %head
out:
  ret void
}}

; The last dimension of the result.
define internal i64 @members(ptr %frame) #0 {{
  %rets.p = getelementptr i8, ptr %frame, i64 112
  %rets = load ptr, ptr %rets.p
  %y = load ptr, ptr %rets
  %dims.p = getelementptr i8, ptr %y, i64 40
  %dims = load ptr, ptr %dims.p
  %last.p = getelementptr i64, ptr %dims, i64 1
  %last = load i64, ptr %last.p
  ret i64 %last
}}

; What a thread does.
define internal ptr @work(ptr %mine) #0 {{
  %frame = load ptr, ptr %mine
  %low.p = getelementptr %task, ptr %mine, i64 0, i32 1
  %low = load i64, ptr %low.p
  %high.p = getelementptr %task, ptr %mine, i64 0, i32 2
  %high = load i64, ptr %high.p
  call void @vectors(ptr %frame, i64 %low, i64 %high)
  ret ptr null
}}

define ptr @handler(ptr %frame) #0 {{
entry:
  %extension.p = getelementptr i8, ptr %frame, i64 8
  %extension = load ptr, ptr %extension.p
  %plain = icmp eq ptr %extension, null
  br i1 %plain, label %run, label %asked
asked:
  %kind.p = getelementptr i8, ptr %extension, i64 8
  %kind = load i32, ptr %kind.p
  %metadata = icmp eq i32 %kind, 1
  br i1 %metadata, label %answer, label %run
answer:
  %facts.p = getelementptr i8, ptr %extension, i64 24
  %facts = load ptr, ptr %facts.p
  %major.p = getelementptr i8, ptr %facts, i64 24
  store i32 {major}, ptr %major.p
  %minor.p = getelementptr i8, ptr %facts, i64 28
  store i32 {minor}, ptr %minor.p
  %traits.p = getelementptr i8, ptr %facts, i64 32
  store i32 0, ptr %traits.p
  ret ptr null

run:
  %members = call i64 @members(ptr %frame)
  %vectors = udiv i64 %members, {width}
  %args.p = getelementptr i8, ptr %frame, i64 72
  %args = load ptr, ptr %args.p
  %ints.q = getelementptr ptr, ptr %args, i64 2
  %ints.b = load ptr, ptr %ints.q
  %ints.p = getelementptr i8, ptr %ints.b, i64 24
  %ints = load ptr, ptr %ints.p
  %substeps.p = getelementptr i32, ptr %ints, i64 1
  %substeps.i = load i32, ptr %substeps.p
  %substeps = zext i32 %substeps.i to i64
  %a = mul i64 %vectors, %substeps
  %b = mul i64 %a, {operations}
  %c = udiv i64 %b, {worth}
  %d = call i64 @llvm.umin.i64(i64 %c, i64 %vectors)
  %e = call i64 @llvm.umin.i64(i64 %d, i64 {threads})
  %share = call i64 @llvm.umax.i64(i64 %e, i64 1)
  %tasks = alloca %task, i64 %share
  %ids = alloca i64, i64 %share
  br label %spawn
spawn:
  %i = phi i64 [ 1, %run ], [ %i.next, %spawned ]
  %more = icmp ult i64 %i, %share
  br i1 %more, label %start, label %own
start:
  %mine = getelementptr %task, ptr %tasks, i64 %i
  %id = getelementptr i64, ptr %ids, i64 %i
  %low.n = mul i64 %vectors, %i
  %low = udiv i64 %low.n, %share
  %i.next = add i64 %i, 1
  %high.n = mul i64 %vectors, %i.next
  %high = udiv i64 %high.n, %share
  store ptr %frame, ptr %mine
  %low.p = getelementptr %task, ptr %mine, i64 0, i32 1
  store i64 %low, ptr %low.p
  %high.p = getelementptr %task, ptr %mine, i64 0, i32 2
  store i64 %high, ptr %high.p
  %failed = call i32 @pthread_create(ptr %id, ptr null, ptr @work, ptr %mine)
  %bad = icmp ne i32 %failed, 0
  br i1 %bad, label %inline, label %spawned
inline:
  call ptr @work(ptr %mine)
  store ptr null, ptr %mine
  br label %spawned
spawned:
  br label %spawn
own:
  %upto = udiv i64 %vectors, %share
  call void @vectors(ptr %frame, i64 0, i64 %upto)
  br label %wait
wait:
  %j = phi i64 [ 1, %own ], [ %j.next, %waited ]
  %still = icmp ult i64 %j, %share
  br i1 %still, label %join, label %end
join:
  %theirs = getelementptr %task, ptr %tasks, i64 %j
  %frame.j = load ptr, ptr %theirs
  %done.j = icmp eq ptr %frame.j, null
  br i1 %done.j, label %waited, label %joins
joins:
  %id.j = getelementptr i64, ptr %ids, i64 %j
  %thread = load i64, ptr %id.j
  call i32 @pthread_join(i64 %thread, ptr null)
  br label %waited
waited:
  %j.next = add i64 %j, 1
  br label %wait
end:
  ret ptr null
}}
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.umax.i64(i64, i64)
attributes #0 = {{ nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }}
"""

_BUFFER = """
  %{name}.q = getelementptr ptr, ptr %args, i64 {place}
  %{name}.b = load ptr, ptr %{name}.q
  %{name}.p = getelementptr i8, ptr %{name}.b, i64 24
  %{name} = load ptr, ptr %{name}.p"""


def _program(loop: Loop) -> str:
    major, minor = _version()
    return _PROGRAM.format(
        declarations="\n".join(loop.declarations),
        buffers="".join(_BUFFER.format(name=name, place=i) for i, name in enumerate(_BUFFERS)),
        entry=loop.entry,
        loop=loop.text,
        width=width(),
        operations=loop.operations,
        worth=_WORTH_A_THREAD,
        threads=_threads(),
        major=major,
        minor=minor,
    )
