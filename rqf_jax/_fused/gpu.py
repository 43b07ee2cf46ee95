"""Kernels for NVIDIA GPUs: PTX by LLVM, run by XLA's own custom call for PTX.

No compiler, toolkit, device or driver is needed to make PTX; the driver compiles it for the GPU at
hand when XLA loads the program. A thread computes one member.
"""

import ctypes
import functools
import re

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from .llvm import REMEDY, llvm
from .loop import Loop
from .values import Unavailable

_CAPABILITY = "sm_75"
"""The oldest GPU that current CUDA versions know. PTX for it runs on every later one."""

_ISA = "ptx70"
"""The PTX version: old, because a driver refuses PTX that is newer than itself."""

_CUDA = 11_000
"""The version of CUDA that this version of PTX came with."""

_TARGET = "__gpu$xla.gpu.ptx"

_PROGRAM = """
target triple = "nvptx64-nvidia-cuda"
{declarations}
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
define ptx_kernel void @save_interval(ptr noalias readonly %words, ptr noalias readonly %xs,
    ptr noalias readonly %ints, ptr noalias readonly %reals, ptr noalias readonly %parameters,
    ptr noalias %ys) {{
entry:
  %tid = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %ntid = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
  %ctaid = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %block = mul i32 %ctaid, %ntid
  %thread = add i32 %block, %tid
  %member = zext i32 %thread to i64
  %first = load i32, ptr %ints
  %substeps.p = getelementptr i32, ptr %ints, i64 1
  %substeps = load i32, ptr %substeps.p
  %members.p = getelementptr i32, ptr %ints, i64 2
  %members.i = load i32, ptr %members.p
  %members = zext i32 %members.i to i64
  %start = load float, ptr %reals
  %h.p = getelementptr float, ptr %reals, i64 1
  %h = load float, ptr %h.p
{entry}
  %inside = icmp ult i64 %member, %members
  br i1 %inside, label %before, label %out
before:
{loop}
  br label %out
out:
  ret void
}}
"""


@functools.lru_cache(maxsize=256)
def ptx(loop: Loop) -> str:
    """The loop of one member a thread as PTX; `Unavailable` if it cannot be made."""
    binding = llvm()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        target = binding.Target.from_triple("nvptx64-nvidia-cuda")
    except RuntimeError as error:
        raise Unavailable(f"this llvmlite does not write PTX. {REMEDY}") from error
    program = _PROGRAM.format(
        declarations="\n".join(loop.declarations), entry=loop.entry, loop=loop.text
    )
    try:
        machine = target.create_target_machine(cpu=_CAPABILITY, features=f"+{_ISA}", opt=3)
        module = binding.parse_assembly(program)
        module.data_layout = str(machine.target_data)
        options = binding.create_pipeline_tuning_options(speed_level=3)
        options.loop_unrolling = False
        builder = binding.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        text = machine.emit_assembly(module)
    except RuntimeError as error:
        raise Unavailable(f"LLVM could not compile a kernel ({error}). {REMEDY}") from error
    return re.sub(r"^//.*\n", "", text, flags=re.MULTILINE)


def check_device() -> None:
    """`Unavailable` if the GPU or its driver is too old for the PTX that is made here."""
    version = _driver_version()
    if version is not None and version < _CUDA:
        raise Unavailable(
            f"the NVIDIA driver knows CUDA {version // 1000}.{version % 1000 // 10}, and kernels "
            f"need {_CUDA // 1000}.{_CUDA % 1000 // 10}. Install a newer driver"
        )
    found = getattr(jax.local_devices()[0], "compute_capability", None)
    if found and float(found) * 10 < int(_CAPABILITY[3:]):
        raise Unavailable(f"the GPU has compute capability {found}, and kernels need 7.5")


def _driver_version() -> int | None:
    """1000 times the major and 10 times the minor version of CUDA that the driver knows."""
    version = ctypes.c_int()
    try:
        found = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return version.value if found == 0 else None


def call(
    text: str,
    words: UInt32[Array, "2 members"],
    xs: Float[Array, "numbers members"],
    ints: Int[Array, "3"],
    reals: Float[Array, "2"],
    parameters: Float[Array, " parameters"],
) -> Float[Array, "numbers members"]:
    """States after one save interval, by a kernel in PTX."""
    members = xs.shape[1]
    # A small ensemble is spread over all multiprocessors.
    threads = 128 if members >= 65_536 else 32
    out = jax.ShapeDtypeStruct(xs.shape, xs.dtype)
    return jax.ffi.ffi_call(_TARGET, out, vmap_method="sequential")(
        *(words, xs, ints, reals, parameters),
        name="save_interval",
        kernel_type="ptx",
        kernel_data=text,
        grid_x=np.int32(-(-members // threads)),
        grid_y=np.int32(1),
        grid_z=np.int32(1),
        block_x=np.int32(threads),
        block_y=np.int32(1),
        block_z=np.int32(1),
        shared_mem_bytes=np.int32(0),
    )
