"""Equations of few terms from trajectories (SINDy)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import each, function_of, integer, maybe, real, words
from .._ensemble.series import equally_spaced
from ..drifts import AbstractDrift
from ._dictionary import Lift, check_finite, check_moving


class SparseDrift(AbstractDrift):
    """A drift that is a sum of functions of a dictionary.

        f(x) = Σ_j c_j ψ_j(x)

    `dictionary` is a function of one state to an array (functions,), `coefficients` are
    (functions, *state).
    """

    dictionary: Callable[[Any], Any]
    coefficients: Float[Array, "functions *state"]

    def __call__(self, t: Float[Array, ""], x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """The sum at x."""
        weights = self.coefficients.astype(x.dtype)
        return jnp.tensordot(self.dictionary(x).astype(x.dtype), weights, 1)


class SparseDynamics(eqx.Module):
    """Terms of an equation, `coefficients` (functions, *state) with `stderr`, 0 for no term.

    `names` are those of the functions, `drift` is the equation's, for an `SDE`. `print` shows the
    terms.
    """

    names: tuple[str, ...]
    coefficients: Float[np.ndarray, "functions *state"]
    stderr: Float[np.ndarray, "functions *state"]
    drift: SparseDrift

    def __repr__(self) -> str:
        shape = self.coefficients.shape[1:]
        terms = self.coefficients.reshape(len(self.names), -1)
        errors = self.stderr.reshape(terms.shape)
        lines = [f"SparseDynamics(terms={np.count_nonzero(terms)} of {terms.size})"]
        for i in range(terms.shape[1]):
            index = "".join(map(str, np.unravel_index(i, shape)))
            parts = [
                f"{terms[j, i]:+.6g} ± {errors[j, i]:.1g} {self.names[j]}"
                for j in np.flatnonzero(terms[:, i])
            ]
            lines.append(f"  dx{index}/dt = {'  '.join(parts) or '0'}")
        return "\n".join(lines)


def sparse_dynamics(
    runs: Any,
    times: Any = None,
    *,
    dictionary: Callable[[Any], Any],
    threshold: float,
    names: Sequence[str] | None = None,
    sweeps: int = 20,
) -> SparseDynamics:
    """The few terms of a dictionary that make an equation of the states (SINDy).

        x_{k+2} - x_k = Σ_j c_j (h/3)(ψ_j(x_k) + 4 ψ_j(x_{k+1}) + ψ_j(x_{k+2}))

    Least squares with thresholds: terms below `threshold` are dropped and the rest is fitted again,
    until nothing changes. The integral over two steps (Simpson's rule, an error of h⁴) takes the
    place of a numerical derivative, which noise would spoil.

    **Arguments**

    - `runs`: `Trajectories`, or an array ([members,] times, *state) together with `times`, equally
      spaced. Members are pooled.
    - `times`: the times of an array, in seconds of the model.
    - `dictionary`: a JAX function of one state to an array (functions,), such as
      `analysis.Monomials`.
    - `threshold`: the smallest size of a coefficient to keep.
    - `names`: of the functions; those of the dictionary, or their numbers, by default.
    - `sweeps`: at most so many fits.

    **Returns** `SparseDynamics`. Standard errors are those of a jackknife over 10 stretches of the
    data, for the terms that were kept; the error of the rule, h⁴, and of terms dropped in error are
    not in them.

    **Raises** ValueError for arguments that break a rule, times that are not equally spaced,
    coordinates that never change, series with fewer pairs of steps than functions, and a dictionary
    whose functions are dependent on the data.

    **Example**: a damped oscillator.

    >>> t = np.linspace(0.0, 10.0, 201)
    >>> x = np.exp(-0.1 * t) * np.cos(t)
    >>> v = -np.exp(-0.1 * t) * (np.sin(t) + 0.1 * np.cos(t))
    >>> found = rqf.analysis.sparse_dynamics(
    ...     np.stack([x, v], 1), t, dictionary=rqf.analysis.Monomials(2, 2), threshold=0.05
    ... )
    >>> np.round(found.coefficients[1:3, 1], 3).tolist()  # -1.01 x - 0.2 v
    [-1.01, -0.2]

    Source: Brunton, Proctor & Kutz (2016), recalled; the integral form derived here.
    """
    function_of("one state")("dictionary", dictionary)
    threshold = real("threshold", threshold, minimum=0)
    sweeps = integer("sweeps", sweeps, maximum=10**6)
    xs, h = equally_spaced(runs, times, least=3)
    check_moving(xs)
    members, count = xs.shape[:2]
    values = Lift(dictionary, 1)(xs.reshape(members * count, 1, *xs.shape[2:]))
    if np.iscomplexobj(values):
        raise ValueError("`dictionary` must return real functions; got complex ones.")
    check_finite(values, "state")
    functions = values.shape[1]
    names = maybe(each(words))("names", names) or getattr(dictionary, "names", None)
    names = tuple(map(str, range(functions))) if names is None else tuple(names)
    if len(names) != functions:
        raise ValueError(f"`names` must be {functions}, one for each function; got {len(names)}.")
    values = values.reshape(members, count, functions)
    whole = h / 3 * (values[:, :-2] + 4 * values[:, 1:-1] + values[:, 2:])
    left = whole.reshape(-1, functions)
    right = (xs[:, 2:] - xs[:, :-2]).reshape(len(left), -1)
    if len(left) <= functions:
        raise ValueError(
            f"`runs` must hold more pairs of steps than functions; got {len(left)} for {functions}."
        )
    scale = np.sqrt(np.mean(left**2, 0))
    sizes = np.linalg.svd(left / np.where(scale, scale, 1.0), compute_uv=False)
    if sizes[-1] <= sizes[0] * 1e-12:
        raise ValueError(
            "`dictionary` must have independent functions on the data; one is a sum of others. "
            "Leave it out, or take states that tell them apart."
        )
    kept = np.ones((functions, right.shape[1]), bool)
    for _ in range(sweeps):
        found = _fitted(left, right, kept)
        fewer = kept & (np.abs(found) >= threshold)
        if np.array_equal(fewer, kept):
            break
        kept = fewer
    found = _fitted(left, right, kept)
    stretches = np.array_split(np.arange(len(left)), min(10, len(left) // functions))
    stderr = np.full_like(found, np.nan)
    if len(stretches) > 1:
        rest = [np.delete(np.arange(len(left)), some) for some in stretches]
        without = np.stack([_fitted(left[i], right[i], kept) for i in rest])
        stderr = without.std(0) * math.sqrt(len(stretches) - 1)
    shape = (functions, *xs.shape[2:])
    coefficients = found.reshape(shape)
    drift = SparseDrift(dictionary, jnp.asarray(coefficients, float))
    return SparseDynamics(names, coefficients, stderr.reshape(shape), drift)


def _fitted(left: np.ndarray, right: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Least squares of every column of `right` by the columns of `left` that are kept for it."""
    found = np.zeros(kept.shape)
    for column, some in enumerate(kept.T):
        if some.any():
            found[some, column] = np.linalg.lstsq(left[:, some], right[:, column], rcond=None)[0]
    return found
