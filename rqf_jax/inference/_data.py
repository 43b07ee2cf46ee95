"""What an estimator is given, as arrays: read and checked once, before anything else.

Times are differenced in float64 on the host, and data are computed with in the precision in which
they were given, so that neither an offset of time nor float64 data lose digits on the way.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._arguments import one_of, shown
from .._ensemble.series import read, steps
from .._ensemble.trajectories import Trajectories
from ._result import FitResult

P = ParamSpec("P")
R = TypeVar("R")

NORM_TOLERANCE = 1e-3
"""How far from 1 the length of a token may be."""

_SAMPLE = 4096
"""So many numbers are looked at to see whether the data are rounded."""


class Observed(NamedTuple):
    """`xs` (members, times, tokens, dim) of length one; lengths `dt` of the steps; `mask`, which
    tokens are there (None if all are: the others are e_1); how many are `missing`; `grid`, the
    spacing of the grid on which the first numbers lie as they were given, or 0.
    """

    xs: Float[Array, "members times tokens dim"]
    dt: Float[np.ndarray, " steps"]
    mask: Bool[Array, "members times tokens"] | None
    missing: Int[np.ndarray, ""]
    grid: Float[np.ndarray, ""]


def double_precision(on: bool) -> AbstractContextManager[Any]:
    """JAX computes in float64 inside if `on`, and as it is set otherwise."""
    single = jax.dtypes.canonicalize_dtype(np.float64) != np.float64
    return jax.enable_x64(True) if on and single else nullcontext()


def in_own_precision(estimator: Callable[P, R]) -> Callable[P, R]:
    """An estimator of `runs` or `sentences`, its first argument, that computes in float64 where
    they are float64.

    Data in float32 need no more: they are differenced before anything is added up. Arrays that it
    returns have the default precision again, that of the caller's other arrays.
    """

    @functools.wraps(estimator)
    def fit(*args: P.args, **kwargs: P.kwargs) -> R:
        given = args[0] if args else kwargs.get("runs", kwargs.get("sentences"))
        with double_precision(_holds_doubles(given)):
            result: Any = estimator(*args, **kwargs)
        if isinstance(result, FitResult):
            result = replace(result, density=in_default_precision(result.density))
        return in_default_precision(result)

    return fit


def in_default_precision(tree: R) -> R:
    """`tree` with its arrays in the float type of the caller's other arrays."""
    dtype = jnp.dtype(jax.dtypes.canonicalize_dtype(float))

    def narrow(leaf):
        if isinstance(leaf, jax.Array) and leaf.dtype == np.float64 and dtype != np.float64:
            return jnp.asarray(np.asarray(leaf).astype(dtype))
        return leaf

    return jax.tree.map(narrow, tree)


def _holds_doubles(given: Any) -> bool:
    given = given.ys if isinstance(given, Trajectories) else given
    parts = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    return any(
        getattr(getattr(part, "states", part), "dtype", None) == np.float64 for part in parts
    )


def observed(runs: Any, times: Any, mask: Any, normalise: str) -> Observed:
    """The arguments of an estimator of tokens, checked; see `fit_noise` for the rules."""
    one_of("raise", "project")("normalise", normalise)
    values, ts = read(runs, times)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(f"`runs` must hold floats; got dtype {values.dtype}.")
    shape = values.shape
    if len(shape) not in (3, 4) or 0 in shape or shape[-1] < 2:
        raise ValueError(
            "`runs` must be of shape ([members,] times, tokens, dim) with dim at least 2; "
            f"got shape {shape}."
        )
    shape = shape if len(shape) == 4 else (1, *shape)
    dt = steps(ts, shape[1])
    mask = None if mask is None else _mask(mask, shape[:3])
    xs, mask, missing, grid = _unit(values, mask, normalise)
    # NumPy's, which compiled functions take as they are: a conversion each costs more than a fit.
    return Observed(xs, dt.astype(xs.dtype), mask, np.asarray(missing), np.asarray(grid, xs.dtype))


def _mask(mask: Any, shape: tuple[int, ...]) -> Bool[np.ndarray, "members times tokens"]:
    if not isinstance(mask, jax.Array | np.ndarray) or mask.dtype != bool:
        raise ValueError(
            f"`mask` must be an array of booleans, True where observed; got {shown(mask)}."
        )
    try:
        return np.broadcast_to(np.asarray(mask), shape)
    except ValueError:
        raise ValueError(
            f"`mask` must fit (members, times, tokens) = {shape}; got shape {mask.shape}."
        ) from None


def _unit(values, mask, normalise: str):
    """Tokens of length one, `Observed.mask`, `.missing` and `.grid`; ValueError for tokens without
    a length or a direction."""
    xs, norms, there, seen = _lengths(values, mask)
    first, worst, shortest, some, infinite, missing = jax.device_get(seen)
    if infinite:
        raise ValueError("`runs` must be finite, or NaN where missing; got an infinite entry.")
    if not some:
        raise ValueError("`runs` must have tokens seen at two times in a row; all are missing.")
    if shortest == 0:
        raise ValueError("`runs` must not hold zero vectors, which have no direction; got one.")
    grid = _spacing(first)
    if missing:
        xs = _without_missing(xs, there)
    if worst > NORM_TOLERANCE:
        if normalise == "raise":
            raise ValueError(
                f"`runs` must hold unit tokens, to {NORM_TOLERANCE:g}; got one that is off by "
                f"{worst:.3g}. Pass `normalise='project'` if only directions matter."
            )
        xs = _divide(xs, norms)
    return xs, there if missing else None, missing, grid


@jax.jit
def _lengths(values, mask):
    """The tokens with all four axes, at least in single precision; their lengths, 1 where they are
    missing; which are there; what there is to say about them before anything is fitted."""
    xs = values if values.ndim == 4 else values[None]
    xs = xs.astype(jnp.float32) if xs.dtype.itemsize < 4 else xs
    norms = jnp.sqrt(jnp.sum(xs * xs, -1))
    there = ~jnp.isnan(norms)
    if mask is not None:
        there = there & mask
    known = jnp.where(there, norms, 1.0)
    some = jnp.any(there[:, 1:] & there[:, :-1])
    infinite = jnp.any(jnp.isinf(known))
    first = xs[0, : max(2, _SAMPLE // (xs.shape[2] * xs.shape[3]))]
    first = jnp.where(jnp.isnan(first), jnp.inf, first)
    worst, shortest = jnp.max(jnp.abs(known - 1)), jnp.min(known)
    return xs, known, there, (first, worst, shortest, some, infinite, jnp.sum(~there))


@jax.jit
def _without_missing(xs, there):
    return jnp.where(there[..., None], xs, jnp.eye(1, xs.shape[-1], dtype=xs.dtype)[0])


@jax.jit
def _divide(xs, norms):
    return xs / norms[..., None]


def _spacing(first: np.ndarray) -> float:
    sample = first[np.isfinite(first)]
    if not sample.size:
        return 0.0
    eps = float(jnp.finfo(sample.dtype).eps)
    for decimals in range(1, 7):
        grid = 10.0**-decimals
        if np.all(np.abs(sample / grid - np.round(sample / grid)) <= 4 * eps / grid):
            return grid
    for half in (jnp.bfloat16, np.float16):
        if np.array_equal(sample.astype(half).astype(sample.dtype), sample):
            return float(jnp.finfo(half).eps) / 2 * float(np.sqrt(np.mean(sample**2)))
    return 0.0
