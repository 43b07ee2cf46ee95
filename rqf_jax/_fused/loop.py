"""The loop: all steps of a save interval for the members of one lane value, in LLVM's language."""

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .lanes import evaluate
from .llvm import Emitter
from .memory import TYPES, Name, Room, Stored
from .rows import ROWS
from .values import Lanes, Pair, Unsupported, array_of, cell


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
    `after`; `entry` are lines for the start of the function. Members of the lane value are the ones
    from %member on. Pointers: %words (2, members), %xs and %ys (numbers of a state, members),
    %parameters (numbers); %members is their count, %first the number of the first step, %substeps
    how many, %start the time and %h a step's length.
    """

    text: str
    entry: str
    declarations: tuple[str, ...]
    operations: int


@functools.lru_cache(64)
def loop(step: Step, width: int) -> Loop:
    """The loop over steps, with `width` members in a lane value.

    Raises `Unsupported` if an operation of the step has no rule.
    """
    emit = Emitter(width)
    words = array_of([_load(emit, "%words", row, "uint32") for row in range(2)], (2,))
    size = sum(map(math.prod, step.shapes))
    x = split([_load(emit, "%xs", row, "float32") for row in range(size)], step.shapes)
    shapes = [aval.shape for aval in step.begin.in_avals[: step.parameters]]
    count = sum(map(math.prod, shapes))
    given = Room("%parameters", "float32", shared=True)
    parameters = split(list(map(given.at, range(count))), shapes)
    h, start = (cell(emit.spread(name, "float32")) for name in ("%h", "%start"))
    handed = evaluate(emit, step.begin, *parameters, start, *x)
    arrays = [*x, *handed]
    if any(isinstance(value, Pair) for array in arrays for value in array.flat):
        raise Unsupported("a complex state")
    carried, phis = zip(*(_carried(emit, array) for array in arrays), strict=True)
    before, began, block = emit.lines, emit.block, "loop"
    emit.lines, emit.seen, emit.block = [], {}, block
    emit.lines += [
        "%past = uitofp i32 %s to float",
        "%passed = fmul float %past, %h",
        "%now = fadd float %start, %passed",
        "%number = add i32 %first, %s",
    ]
    number, now = cell(emit.spread("%number", "int32")), cell(emit.spread("%now", "float32"))
    out = evaluate(emit, step.step, *parameters, words, number, now, h, *carried)
    after = [[emit.text(value) for value in array.flat] for array in out]
    for array, texts in zip(carried, after, strict=True):
        for value, text in zip(array.flat, texts, strict=True):
            if isinstance(value, Stored):
                emit.store(value.room, str(value.place), Name(text, value.dtype))
    lines = [
        *before,
        "br label %loop",
        "loop:",
        f"%s = phi i32 [ 0, %{began} ], [ %next, %{emit.block} ]",
        *(
            f"{name.text} = phi {emit.type(name.dtype)} "
            f"[ {first}, %{began} ], [ {text}, %{emit.block} ]"
            for array, firsts, texts in zip(carried, phis, after, strict=True)
            for name, first, text in zip(array.flat, firsts, texts, strict=True)
            if isinstance(name, Name)
        ),
        *emit.lines,
        "%next = add i32 %s, 1",
        "%done = icmp uge i32 %next, %substeps",
        "br i1 %done, label %after, label %loop",
        "after:",
    ]
    for row, text in enumerate(itertools.chain(*after[: len(x)])):
        lines += _place(f"%y{row}", "%ys", row, "float")
        lines.append(f"store {emit.type('float32')} {text}, ptr %y{row}.p, align 4")
    operations = len(before) + len(emit.lines) + emit.repeated
    return Loop("\n".join(lines), "\n".join(emit.entry), tuple(sorted(emit.declared)), operations)


def _carried(emit: Emitter, array: Lanes) -> tuple[Lanes, list[str]]:
    """The names of an array in the loop over steps, and its values before it.

    A large one is in memory; every entry of another has a name.
    """
    texts = list(map(emit.text, array.flat))
    if array.size < ROWS:
        names = [emit.fresh(emit.dtype(value)) for value in array.flat]
        return array_of(names, array.shape), texts
    room = emit.room(array.size, array.flat[0])
    for place, (value, text) in enumerate(zip(array.flat, texts, strict=True)):
        emit.store(room, str(place), Name(text, emit.dtype(value)))
    return array_of([room.at(place) for place in range(array.size)], array.shape), texts


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


def split(values: list[Any], shapes: list[tuple[int, ...]]) -> list[Lanes]:
    """Arrays of these shapes from the lane values of all of them."""
    ends = np.cumsum([0, *map(math.prod, shapes)])
    parts = zip(ends, ends[1:], shapes, strict=False)
    return [array_of(values[low:high], shape) for low, high, shape in parts]
