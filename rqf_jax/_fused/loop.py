"""The loop: all steps of a save interval for the members of one lane value, in LLVM's language."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .lanes import Lanes, Unsupported, evaluate, known
from .llvm import TYPES, Emitter, Name


@dataclass(frozen=True)
class Step:
    """A solver's step of one member, as jaxprs.

    `begin(*parameters, time, *x) -> *handed` and
    `step(*parameters, words, number, time, h, *x, *handed) -> *x, *handed`, where `x` are the
    arrays of a state and there are `parameters` arrays of parameters.
    """

    begin: Any
    step: Any
    parameters: int

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of a state's arrays."""
        return [aval.shape for aval in self.begin.in_avals[self.parameters + 1 :]]


@dataclass(frozen=True)
class Loop:
    """All steps of a save interval for the members of one lane value, as lines of LLVM.

    They stand after a block called `before`, between the label `loop` and the end of the block
    `after`. Members of the lane value are the ones from %member on. Pointers: %words (2, members),
    %xs and %ys (numbers of a state, members), %parameters (numbers); %members is their count,
    %first the number of the first step, %substeps how many, %start the time and %h a step's length.
    """

    text: str
    declarations: tuple[str, ...]
    operations: int


def loop(step: Step, width: int) -> Loop:
    """The loop over steps, with `width` members in a lane value.

    Raises `Unsupported` if an operation of the step has no rule.
    """
    emit = Emitter(width)
    words = _array([_load(emit, "%words", row, "uint32") for row in range(2)], (2,))
    size = sum(map(math.prod, step.shapes))
    x = _split([_load(emit, "%xs", row, "float32") for row in range(size)], step.shapes)
    shapes = [aval.shape for aval in step.begin.in_avals[: step.parameters]]
    count = sum(map(math.prod, shapes))
    parameters = _split([_parameter(emit, place) for place in range(count)], shapes)
    h, start = (_shared(emit, name, "float32") for name in ("%h", "%start"))
    handed = evaluate(emit, step.begin, *parameters, start, *x)
    moving = [value for array in (*x, *handed) for value in array.flat]
    if not all(isinstance(value, Name) or known(value) for value in moving):
        raise Unsupported("a complex state")
    before, emit.lines, emit.seen = emit.lines, [], {}

    carried = [emit.fresh(emit.dtype(value)) for value in moving]
    emit.lines += [
        "%past = uitofp i32 %s to float",
        "%passed = fmul float %past, %h",
        "%now = fadd float %start, %passed",
        "%number = add i32 %first, %s",
    ]
    number, now = _shared(emit, "%number", "int32"), _shared(emit, "%now", "float32")
    arrays = _split(carried, [*step.shapes, *(array.shape for array in handed)])
    out = evaluate(emit, step.step, *parameters, words, number, now, h, *arrays)
    after = [value for array in out for value in array.flat]
    phis = [
        f"{name.text} = phi {emit.type(name.dtype)} "
        f"[ {emit.text(a)}, %before ], [ {emit.text(b)}, %loop ]"
        for name, a, b in zip(carried, moving, after, strict=True)
    ]
    lines = [
        *before,
        "br label %loop",
        "loop:",
        "%s = phi i32 [ 0, %before ], [ %next, %loop ]",
        *phis,
        *emit.lines,
        "%next = add i32 %s, 1",
        "%done = icmp uge i32 %next, %substeps",
        "br i1 %done, label %after, label %loop",
        "after:",
    ]
    for row, value in enumerate(after[:size]):
        lines += _place(f"%y{row}", "%ys", row, "float")
        lines.append(f"store {emit.type('float32')} {emit.text(value)}, ptr %y{row}.p, align 4")
    return Loop("\n".join(lines), tuple(sorted(emit.declared)), len(before) + len(emit.lines))


def _place(name: str, pointer: str, row: int, kind: str) -> list[str]:
    """Lines that make `name`.p point to a row of an array (rows, members), at %member."""
    return [
        f"{name}.i = mul i64 %members, {row}",
        f"{name}.j = add i64 {name}.i, %member",
        f"{name}.p = getelementptr {kind}, ptr {pointer}, i64 {name}.j",
    ]


def _load(emit: Emitter, pointer: str, row: int, dtype: str) -> Name:
    """A row of an array (rows, members), for the members of this lane value."""
    one = emit.fresh(dtype)
    emit.lines += _place(one.text, pointer, row, TYPES[dtype])
    emit.lines.append(f"{one.text} = load {emit.type(dtype)}, ptr {one.text}.p, align 4")
    return one


def _parameter(emit: Emitter, place: int) -> Name:
    """A number of %parameters, as a lane value."""
    name = f"%p{place}"
    emit.lines += [
        f"{name}.p = getelementptr float, ptr %parameters, i64 {place}",
        f"{name} = load float, ptr {name}.p, align 4",
    ]
    return _shared(emit, name, "float32").item()


def _shared(emit: Emitter, name: str, dtype: str) -> Lanes:
    """A number that all members share, as an array of one lane value."""
    one = Name(name, dtype)
    if emit.width > 1:
        one, vector = emit.fresh(dtype), emit.type(dtype)
        emit.lines += [
            f"{one.text}.1 = insertelement {vector} poison, {TYPES[dtype]} {name}, i32 0",
            f"{one.text} = shufflevector {vector} {one.text}.1, {vector} poison, "
            f"<{emit.width} x i32> zeroinitializer",
        ]
    return _array([one], ())


def _array(values: list[Any], shape: tuple[int, ...]) -> Lanes:
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)


def _split(values: list[Any], shapes: list[tuple[int, ...]]) -> list[Lanes]:
    """Arrays of these shapes from the lane values of all of them."""
    ends = np.cumsum([0, *map(math.prod, shapes)])
    parts = zip(ends, ends[1:], shapes, strict=False)
    return [_array(values[low:high], shape) for low, high, shape in parts]
