"""The writer of a program: names, loops and memory, in LLVM's language."""

import abc
import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .values import Ops, Unsupported, known

TYPES = {"float32": "float", "int32": "i32", "uint32": "i32", "bool": "i1"}
_SHORT = {"float": "f32", "i32": "i32"}

MOST_BYTES = 2**20
"""The most memory of one lane value's members; a thread's stack has several times as much."""


@dataclass(frozen=True)
class Name:
    """A lane value in the program: its name and type."""

    text: str
    dtype: str


@dataclass(frozen=True)
class Room:
    """Memory for so many lane values: a kernel's own, or `shared` numbers of all its members."""

    text: str
    dtype: str
    shared: bool = False

    def at(self, place: int) -> "Stored":
        """The lane value at a place, read where it is used."""
        return Stored(self, place)


@dataclass(frozen=True)
class Stored:
    """A lane value in memory."""

    room: Room
    place: int

    @property
    def dtype(self) -> str:
        """Its dtype."""
        return self.room.dtype


@dataclass(frozen=True, eq=False)
class Index:
    """The number of a turn of a loop, from 0 on: the name of a 32-bit integer."""

    text: str


@dataclass
class Memory(Ops, abc.ABC):
    """Writes a program line by line, block by block."""

    loops = True
    width: int
    """Members in a lane value: the lanes of a vector, or 1 for a number."""
    lines: list[str] = field(default_factory=list)
    entry: list[str] = field(default_factory=list)
    """Lines for the start of the function: memory, and numbers that stay in it."""
    seen: dict[str, Name] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    names: int = 0
    block: str = "before"
    """The label of the block that is being written."""
    repeated: int = 0
    """Lines that run beyond those that are written, in all turns of loops of known length."""
    bytes: int = 0
    same: set[str] = field(default_factory=set)
    """Names of lane values that are one number for all members, such as functions of time."""

    def type(self, dtype: str) -> str:
        """The LLVM type of lane values of a dtype."""
        kind = _kind(dtype)
        return kind if self.width == 1 else f"<{self.width} x {kind}>"

    def text(self, value: Any) -> str:
        """A lane value as an operand; one that is in memory is read now."""
        if isinstance(value, Stored):
            return self.load(value.room, str(value.place)).text
        if isinstance(value, Name):
            return value.text
        kind = _kind(self.dtype(value))
        one = _literal(value, kind)
        return one if self.width == 1 else f"splat ({kind} {one})"

    @staticmethod
    def dtype(value: Any) -> str:
        """The dtype of a lane value."""
        return str(value.dtype)

    def put(self, expression: str, dtype: str) -> Name:
        """The value of an instruction, written unless it stands above."""
        if expression not in self.seen:
            name = self.fresh(dtype)
            self.lines.append(f"{name.text} = {expression}")
            self.seen[expression] = name
        return self.seen[expression]

    def fresh(self, dtype: str) -> Name:
        """A name that nothing has yet."""
        self.names += 1
        return Name(f"%v{self.names}", dtype)

    @abc.abstractmethod
    def choose(self, test: Any, yes: Any, no: Any) -> Name:
        """`yes` where `test` holds, else `no`."""

    # ---- memory

    def room(self, count: int, like: Any) -> Room:
        """Memory for `count` lane values like this one."""
        dtype = self.dtype(like)
        self.bytes += 4 * count * self.width
        if self.bytes > MOST_BYTES:
            raise Unsupported(f"a step that needs more than {MOST_BYTES} bytes of memory")
        name = self.fresh(dtype).text
        self.entry.append(f"{name} = alloca [{count} x {self.type(dtype)}]")
        return Room(name, dtype)

    def store(self, room: Room, place: str, value: Any) -> None:
        """Write a lane value; numbers that are known, at a place that is, once and for all."""
        kind = self.type(room.dtype)
        lines = self.entry if known(value) and place.isdigit() else self.lines
        text, pointer = self.text(value), self.fresh("ptr").text
        lines.append(f"{pointer} = getelementptr {kind}, ptr {room.text}, i32 {place}")
        lines.append(f"store {kind} {text}, ptr {pointer}")

    def load(self, room: Room, place: str) -> Name:
        """Read a lane value."""
        kind = TYPES[room.dtype] if room.shared else self.type(room.dtype)
        pointer = self.put(f"getelementptr {kind}, ptr {room.text}, i32 {place}", "ptr")
        value = self.put(f"load {kind}, ptr {pointer.text}", room.dtype)
        return self.spread(value.text, room.dtype) if room.shared else value

    def found(self, room: Room, places: Name) -> Name:
        """Read a lane value whose place differs from member to member."""
        if room.dtype == "bool":
            raise Unsupported("a truth value at a place that depends on the state")
        if self.width == 1:
            return self.load(room, places.text)
        if places.text in self.same:
            first = f"extractelement {self.type('int32')} {places.text}, i32 0"
            return self.load(room, self.put(first, "place").text)
        own, kind, whole = self.type(room.dtype), TYPES[room.dtype], self.type("int32")
        at = places.text
        if not room.shared:
            first = self.put(f"mul {whole} {at}, {self.text(np.int32(self.width))}", "int32").text
            lanes = ", ".join(f"i32 {lane}" for lane in range(self.width))
            at = self.put(f"add {whole} {first}, <{lanes}>", "int32").text
        pointers, mask = f"<{self.width} x ptr>", self.type("bool")
        function = f"@llvm.masked.gather.v{self.width}{_SHORT[kind]}.v{self.width}p0"
        self.declared.add(f"declare {own} {function}({pointers}, i32, {mask}, {own})")
        where = self.put(f"getelementptr {kind}, ptr {room.text}, {whole} {at}", "ptr").text
        every = self.text(np.bool_(True))
        call = f"call {own} {function}({pointers} {where}, i32 4, {mask} {every}, {own} poison)"
        return self.put(call, room.dtype)

    def place(self, at: Index, start: int, step: int) -> str:
        """start + step · the number of the turn."""
        scaled = at.text if step == 1 else self.put(f"mul i32 {at.text}, {step}", "place").text
        return self.put(f"add i32 {scaled}, {start}", "place").text if start else scaled

    def places(self, values: Sequence[Any]) -> tuple[Room, int, int] | None:
        """The memory of these lane values, if they are in one at equal distances."""
        if not all(isinstance(v, Stored) and v.room is values[0].room for v in values):
            return None
        steps = np.diff([value.place for value in values])
        if len(steps) and (steps != steps[0]).any():
            return None
        return values[0].room, values[0].place, int(steps[0]) if len(steps) else 1

    def kept(self, values: Sequence[Any]) -> tuple[Room, int, int]:
        """Memory of these lane values, taken for them if they are in none at equal distances."""
        if all(map(known, values)):
            return self.table(values), 0, 1
        places = self.places(values)
        if places is None:
            places = self.room(len(values), values[0]), 0, 1
            for place, value in enumerate(values):
                self.store(places[0], str(place), value)
        return places

    def table(self, values: Sequence[Any]) -> Room:
        """Numbers that are known as constants of the program."""
        dtype = self.dtype(values[0])
        kind = _kind(dtype)
        numbers = ", ".join(f"{kind} {_literal(value, kind)}" for value in values)
        text = f"private unnamed_addr constant [{len(values)} x {kind}] [{numbers}]"
        name = f"@table_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
        self.declared.add(f"{name} = {text}")
        return Room(name, dtype, shared=True)

    def part(self, column: Sequence[Any], start: Any, size: int) -> list[Name]:
        """So many entries of a column, from a place on that differs from member to member."""
        room, first, step = self.kept(column)
        whole = self.type("int32")
        scaled = self.put(f"mul {whole} {self.text(start)}, {self.text(np.int32(step))}", "int32")
        found = []
        for number in range(size):
            place = self.text(np.int32(first + step * number))
            at = self.put(f"add {whole} {scaled.text}, {place}", "int32")
            if self.is_same(start):
                self.same.add(at.text)
            found.append(self.found(room, at))
        return found

    def is_same(self, value: Any) -> bool:
        """True for a lane value that is known to be one number for all members."""
        return known(value) or (isinstance(value, Name) and value.text in self.same)

    def spread(self, number: str, dtype: str) -> Name:
        """A number that all members share as a lane value."""
        if self.width == 1:
            return Name(number, dtype)
        kind = self.type(dtype)
        one = self.put(f"insertelement {kind} poison, {TYPES[dtype]} {number}, i32 0", dtype)
        zeros = f"<{self.width} x i32> zeroinitializer"
        out = self.put(f"shufflevector {kind} {one.text}, {kind} poison, {zeros}", dtype)
        self.same.add(out.text)
        return out

    def backwards(self, at: Index, count: int) -> Index:
        """The number of a turn, counted from the last of `count`."""
        return Index(self.place(at, count - 1, -1))

    # ---- loops

    def repeat(self, count: int, turn: Callable[[Index], None]) -> None:
        """`turn` of 0, 1, …, count - 1, as a loop."""

        def carried(at, values):
            turn(at)
            return values

        self.carry(count, [], carried)

    def carry(self, count: int, values: list[Any], turn: Callable) -> list[Any]:
        """A loop of `count` turns; `turn` makes new values of an index and values."""
        body, after = self.fresh("label").text, self.fresh("label").text
        index, following, done = (self.fresh("int32").text for _ in range(3))
        start, names = self._opened(body, values)
        head, outside = len(self.lines), self.seen
        self.seen = dict(outside)
        new = turn(Index(index), names)
        # Values in memory are read here, and known from here on.
        new = [v if known(v) else Name(self.text(v), self.dtype(v)) for v in new]
        self.lines.append(f"{following} = add i32 {index}, 1")
        self.lines.append(f"{done} = icmp uge i32 {following}, {count}")
        self.lines[head:head] = [
            f"{index} = phi i32 [ 0, %{start} ], [ {following}, %{self.block} ]",
            *self._phis(names, [(values, start), (new, self.block)]),
        ]
        self.repeated += (count - 1) * (len(self.lines) - head)
        self.lines.append(f"br i1 {done}, label {after}, label {body}")
        self._enter(after, outside)
        return new

    def again(self, values: list[Any], test: Callable, turn: Callable) -> list[Any]:
        """A loop as long as `test` of the values holds for a member, whose values then move on."""
        head, body, after = (self.fresh("label").text for _ in range(3))
        start, names = self._opened(head, values)
        place, outside = len(self.lines), self.seen
        self.seen = dict(outside)
        more = test(names)
        some = self.text(more)
        if self.width > 1:
            bits = self.put(f"bitcast {self.type('bool')} {some} to i{self.width}", "bits").text
            some = self.put(f"icmp ne i{self.width} {bits}, 0", "bit").text
        self.lines.append(f"br i1 {some}, label {body}, label {after}")
        self._enter(body, self.seen)
        new = turn(names)
        new = [self.choose(more, a, b) for a, b in zip(new, names, strict=True)]
        self.lines[place:place] = self._phis(names, [(values, start), (new, self.block)])
        self.lines.append(f"br label {head}")
        self._enter(after, outside)
        return names

    def _opened(self, label: str, values: list[Any]) -> tuple[str, list[Name]]:
        """Enter a loop: the block before it, and names for what it carries."""
        start = self.block
        # Values in memory are read before the loop.
        for value in values:
            self.text(value)
        self.lines.append(f"br label {label}")
        self._enter(label, self.seen)
        return start, [self.fresh(self.dtype(value)) for value in values]

    def _phis(self, names: list[Name], ways: list[tuple[list[Any], str]]) -> list[str]:
        lines = []
        for number, name in enumerate(names):
            given = ", ".join(
                f"[ {self.text(values[number])}, %{block} ]" for values, block in ways
            )
            lines.append(f"{name.text} = phi {self.type(name.dtype)} {given}")
        return lines

    def _enter(self, label: str, seen: dict[str, Name]) -> None:
        self.block, self.seen = label[1:], seen
        self.lines.append(f"{self.block}:")


def _literal(value: Any, kind: str) -> str:
    """A number as LLVM writes it: float constants are the bits of a double."""
    if kind == "float":
        return f"0x{struct.unpack('<Q', struct.pack('<d', float(value)))[0]:016X}"
    return str(int(value))


def _kind(dtype: str) -> str:
    """LLVM's type of one number."""
    if dtype not in TYPES:
        raise Unsupported(f"numbers of type {dtype}")
    return TYPES[dtype]
