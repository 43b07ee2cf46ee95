"""Values as errors and the screen show them: short, and with their numbers."""

import dataclasses
import html
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

FEW = 4
"""So many entries of an array are shown; of a longer one its dtype and shape are."""


def shown(value: Any) -> str:
    """`value` in an error: its repr on one line, cut where it is long."""
    if isinstance(value, int) and value.bit_length() > 80:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, jax.Array | np.ndarray) and value.ndim:
        return f"an array of dtype {value.dtype} and shape {value.shape}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 120 else f"{text[:119]}…"


def described(self: Any) -> str:
    """The repr of a module: its class and its numbers; `Attention(beta=2, strength=1)`.

    Fields that are None are left out, and arrays of more than a few entries are shown by their
    dtype and shape.
    """
    fields = [(field.name, getattr(self, field.name, None)) for field in dataclasses.fields(self)]
    # A module made of parts, like a sum, is shown as it was made.
    if len(fields) == 1 and isinstance(fields[0][1], tuple):
        inside = ", ".join(map(_value, fields[0][1]))
    else:
        inside = ", ".join(f"{name}={_value(one)}" for name, one in fields if one is not None)
    return f"{type(self).__name__}({inside})"


def table(title: str, rows: Mapping[str, Any]) -> str:
    """Names and values as a small table, for notebooks."""
    lines = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td>"
        f"<td>{html.escape(one if isinstance(one, str) else _value(one))}</td></tr>"
        for name, one in rows.items()
    )
    return f"<table><caption>{html.escape(title)}</caption>{lines}</table>"


def _value(value: Any) -> str:
    if isinstance(value, jax.Array | np.ndarray):
        return _array(value)
    if isinstance(value, eqx.Module) and type(value).__repr__ is eqx.Module.__repr__:
        count = sum(leaf.size for leaf in jax.tree.leaves(value) if eqx.is_inexact_array(leaf))
        return f"{type(value).__name__}({count} parameters)"
    if isinstance(value, tuple | list):
        opened, closed = "()" if isinstance(value, tuple) else "[]"
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return f"{opened}{', '.join(map(_value, value))}{comma}{closed}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    return repr(value)


def _array(value: Any) -> str:
    known = not isinstance(value, Tracer) and not jnp.issubdtype(value.dtype, jax.dtypes.extended)
    if known and value.size <= FEW:
        whole = np.asarray(value)
        return f"{whole[()]:.6g}" if not whole.ndim else f"[{', '.join(map(_value, whole))}]"
    return f"{value.dtype}{list(value.shape)}"
