"""The emitter: lane values as names in an LLVM program.

One text serves CPUs and GPUs. On a CPU a lane value is a vector, a member a lane; on a GPU it is a
number, a member a thread. Operations are not reassociated, so that every member has the same bits
wherever it stands; products and sums may contract to one rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .memory import Memory, Name, Stored
from .values import Unavailable, Unsupported, known

_FLOAT = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "rem": "frem"}
_WHOLE = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_SHIFTS = {"shift_left": "shl", "shift_right_logical": "lshr", "shift_right_arithmetic": "ashr"}
_DIVISIONS = ("div", "rem")
_SIGNS = {"int32": "s", "uint32": "u"}
_COMPARE_FLOAT = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_INTRINSICS = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "abs": "fabs"}
_FAST = "nsz contract"
_APPROXIMATE = {"fdiv", "frem", "sqrt"}
"""Operations that a GPU does many times faster to 2 units in the last place than to half a unit."""

REMEDY = "Reinstall it: pip install --force-reinstall llvmlite"


def llvm() -> Any:
    """LLVM, through llvmlite; `Unavailable` if it cannot be loaded."""
    try:
        import llvmlite.binding as binding
    except ImportError as error:
        raise Unavailable("llvmlite is not installed. Run: pip install llvmlite") from error
    except (OSError, RuntimeError) as error:
        raise Unavailable(f"llvmlite cannot be loaded ({error}). {REMEDY}") from error
    return binding


@dataclass
class Emitter(Memory):
    """Writes operations on lanes as LLVM instructions; the same operation is written once."""

    def fast(self, operation: str = "") -> str:
        """What the compiler may assume of a float operation."""
        return f"{_FAST} afn" if self.width == 1 and operation in _APPROXIMATE else _FAST

    def call(self, intrinsic: str, *args: Any) -> Name:
        """An intrinsic function of floats."""
        kind = self.type("float32")
        suffix = "f32" if self.width == 1 else f"v{self.width}f32"
        function = f"@llvm.{intrinsic}.{suffix}"
        self.declared.add(f"declare {kind} {function}({', '.join([kind] * len(args))})")
        operands = ", ".join(f"{kind} {self.text(a)}" for a in args)
        return self.put(f"call {self.fast(intrinsic)} {kind} {function}({operands})", "float32")

    def apply(self, primitive, params, *args):
        """One elementwise primitive."""
        args = tuple(Name(self.text(a), a.dtype) if isinstance(a, Stored) else a for a in args)
        out = self.written(primitive, params, *args)
        if isinstance(out, Name) and all(map(self.is_same, args)):
            self.same.add(out.text)
        return out

    def written(self, primitive, params, *args):
        """The same, without looking for what all members share."""
        name, dtype = primitive.name, self.dtype(args[-1])
        real, kind = dtype == "float32", self.type(dtype)
        x, *rest = (self.text(a) for a in args)
        if name == "mul":
            # One order for both, so that the products of a symmetric matrix are written once.
            x, *rest = sorted([x, *rest])
        if name in _FLOAT and real:
            return self.put(
                f"{_FLOAT[name]} {self.fast(_FLOAT[name])} {kind} {x}, {rest[0]}", dtype
            )
        if name in _WHOLE and not real:
            return self.put(f"{_WHOLE[name]} {kind} {x}, {rest[0]}", dtype)
        if name in _DIVISIONS and dtype in _SIGNS and known(args[1]) and args[1] > 0:
            return self.put(f"{_SIGNS[dtype]}{name} {kind} {x}, {rest[0]}", dtype)
        if name in _SHIFTS and known(args[1]) and 0 <= int(args[1]) < 32:
            return self.put(f"{_SHIFTS[name]} {kind} {x}, {rest[0]}", dtype)
        if name in _COMPARE_FLOAT:
            return self.compare(name, *args)
        if name in _INTRINSICS and real:
            return self.call(_INTRINSICS[name], args[0])
        rule: Callable[..., Any] | None = getattr(self, f"_{name}", None)
        if rule is None:
            raise Unsupported(f"`{name}` of {dtype}")
        return rule(*args, **params)

    def compare(self, name: str, a: Any, b: Any) -> Name:
        """A comparison."""
        dtype = self.dtype(a)
        if dtype == "float32":
            test = f"fcmp {_COMPARE_FLOAT[name]}"
        else:
            sign = "" if name in ("eq", "ne") else _SIGNS.get(dtype, "u")
            test = f"icmp {sign}{name}"
        return self.put(f"{test} {self.type(dtype)} {self.text(a)}, {self.text(b)}", "bool")

    def choose(self, test: Any, yes: Any, no: Any) -> Name:
        """`yes` where `test` holds, else `no`."""
        dtype = self.dtype(yes)
        kind, bit = self.type(dtype), self.type("bool")
        return self.put(
            f"select {bit} {self.text(test)}, {kind} {self.text(yes)}, {kind} {self.text(no)}",
            dtype,
        )

    def _neg(self, a, **_):
        if self.dtype(a) == "float32":
            return self.put(f"fneg {self.type('float32')} {self.text(a)}", "float32")
        kind = self.type(self.dtype(a))
        return self.put(f"sub {kind} {self.text(np.int32(0))}, {self.text(a)}", self.dtype(a))

    def _not(self, a, **_):
        dtype = self.dtype(a)
        ones = np.bool_(True) if dtype == "bool" else np.int32(-1)
        return self.put(f"xor {self.type(dtype)} {self.text(a)}, {self.text(ones)}", dtype)

    def _square(self, a, **_):
        return self.product(a, a)

    def product(self, a: Any, b: Any) -> Name:
        """a b."""
        dtype = self.dtype(a)
        word = f"fmul {self.fast()}" if dtype == "float32" else "mul"
        return self.put(f"{word} {self.type(dtype)} {self.text(a)}, {self.text(b)}", dtype)

    def _integer_pow(self, a, *, y, **_):
        if not y:
            return np.ones((), self.dtype(a))[()]
        power, square, bits = None, a, abs(y)
        while bits:
            if bits & 1:
                power = square if power is None else self.product(power, square)
            bits >>= 1
            square = self.product(square, square) if bits else square
        return power if y > 0 else self.inverse(power)

    def _rsqrt(self, a, **_):
        return self.inverse(self.call("sqrt", a))

    def inverse(self, a: Any) -> Name:
        """1 / a."""
        one, kind = self.text(np.float32(1)), self.type("float32")
        return self.put(f"fdiv {self.fast('fdiv')} {kind} {one}, {self.text(a)}", "float32")

    def _max(self, a, b, **_):
        return self.extreme("gt", a, b)

    def _min(self, a, b, **_):
        return self.extreme("lt", a, b)

    def extreme(self, order: str, a: Any, b: Any) -> Name:
        """The larger or smaller of two, NaN if one of them is."""
        found = self.choose(self.compare(order, a, b), a, b)
        if self.dtype(a) != "float32" or known(a):
            return found
        return self.choose(self.compare("ne", a, a), a, found)

    def _clamp(self, low, x, high, **_):
        return self.extreme("lt", self.extreme("gt", x, low), high)

    def _sign(self, a, **_):
        zero, one = np.array([0, 1], self.dtype(a))
        down = self.choose(self.compare("lt", a, zero), np.negative(one), a)
        return self.choose(self.compare("gt", a, zero), one, down)

    def _abs(self, a, **_):
        return self.extreme("gt", a, self._neg(a))

    def _round(self, a, *, rounding_method, **_):
        even = int(rounding_method) == 1
        return self.call("roundeven" if even else "round", a)

    def _is_finite(self, a, **_):
        return self.compare("lt", self.call("fabs", a), np.float32(np.inf))

    def _select_n(self, test, first, *others, **_):
        if self.dtype(test) == "bool":
            return self.choose(test, others[0], first)
        for number, other in enumerate(others, 1):
            reached = self.compare("ge", test, np.int32(number))
            first = self.choose(reached, other, first)
        return first

    def _convert_element_type(self, a, *, new_dtype, **_):
        old, new = self.dtype(a), str(np.dtype(new_dtype))
        if old == new or {old, new} == {"int32", "uint32"}:
            return Name(self.text(a), new)
        if new == "bool":
            return self.compare("ne", a, np.zeros((), old)[()])
        if old == "bool" and new != "float32":
            word = "zext"
        elif new == "float32":
            word = "uitofp" if old in ("bool", "uint32") else "sitofp"
        elif new in _SIGNS:
            return self.saturated(a, new)
        else:
            raise Unsupported(f"numbers of type {new}")
        return self.put(f"{word} {self.type(old)} {self.text(a)} to {self.type(new)}", new)

    def saturated(self, a: Any, dtype: str) -> Name:
        """The whole part of a float, at the ends of the range for floats beyond it, 0 for NaN."""
        sign = _SIGNS[dtype]
        real, whole = self.type("float32"), self.type(dtype)
        suffix = "i32.f32" if self.width == 1 else f"v{self.width}i32.v{self.width}f32"
        function = f"@llvm.fpto{sign}i.sat.{suffix}"
        self.declared.add(f"declare {whole} {function}({real})")
        return self.put(f"call {whole} {function}({real} {self.text(a)})", dtype)

    def _bitcast_convert_type(self, a, *, new_dtype, **_):
        old, new = self.dtype(a), str(np.dtype(new_dtype))
        if self.type(old) == self.type(new):
            return Name(self.text(a), new)
        if "bool" in (old, new):
            raise Unsupported("the bits of a truth value")
        return self.put(f"bitcast {self.type(old)} {self.text(a)} to {self.type(new)}", new)
