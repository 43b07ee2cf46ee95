"""Koopman modes from trajectories, each with its residual, so that false ones can be told.

The linear algebra is NumPy's: one singular value decomposition and one eigenvalue problem. Neither
`pydmd` nor `pykoopman` is the engine, and neither is needed: both fit modes without the residual
that tells a mode of the dynamics from one of the dictionary, which needs the data matrices that
they keep inside.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Complex, Float

from .._arguments import data, function_of, integer, maybe, one_of, real
from .._ensemble.series import equally_spaced
from ._dictionary import Lift, check_finite, check_moving

_SHOWN = 20
"""So many modes are printed; of the others the number above the bound is."""


class KoopmanModes(eqx.Module):
    """Eigenvalues λ of the Koopman operator over one `step`, and what belongs to each.

        φ(x_{k+1}) = λ φ(x_k) + residual,   x_k = Σ_j λ_j^k φ_j(x_0) ξ_j

    Modes come in the order of their `residuals`, the smallest first. `modes` (modes, *state) are
    the ξ, `coefficients` (functions, modes) the eigenfunctions φ in the dictionary. `pairs` of
    successive windows were used, and `skipped` ones held a gap. Modes whose residual is above
    `bound` are kept and marked: `within_bound`.
    """

    eigenvalues: Complex[np.ndarray, " modes"]
    residuals: Float[np.ndarray, " modes"]
    modes: Complex[np.ndarray, "modes *state"]
    coefficients: Complex[np.ndarray, "functions modes"]
    step: float
    bound: float
    pairs: int
    skipped: int
    delays: int
    lift: Callable[[np.ndarray], np.ndarray] = eqx.field(repr=False)

    @property
    def within_bound(self) -> Bool[np.ndarray, " modes"]:
        """True for modes with a residual of at most `bound`."""
        return self.residuals <= self.bound

    @property
    def rates(self) -> Complex[np.ndarray, " modes"]:
        """ln(λ)/step: growth in the real part, angular frequency in the imaginary one."""
        with np.errstate(divide="ignore"):
            return np.log(self.eigenvalues) / self.step

    def eigenfunctions(self, states: Any) -> Complex[np.ndarray, "states modes"]:
        """φ_j of `states` (states, *state); with delays, of windows (states, delays, *state).

        Raises ValueError for states of another shape and for entries that are not finite.
        """
        xs = data("states", states)
        one = self._window
        if xs.shape[1:] != one or not xs.size:
            shape = ", ".join(map(str, ("states", *one)))
            raise ValueError(f"`states` must have shape ({shape}); got {xs.shape}.")
        windows = xs if self.delays > 1 else xs[:, None]
        return self.lift(windows) @ self.coefficients

    def forecast(self, start: Any, steps: int) -> Float[np.ndarray, "times *state"]:
        """States at 0, 1, …, `steps` steps after `start`, by all modes.

        `start` is one state or, with delays, a window (delays, *state), of which the last state
        is the first of the forecast. Raises ValueError for another shape and for `steps` < 1.
        """
        given = data("start", start)
        if given.shape != self._window:
            raise ValueError(f"`start` must have shape {self._window}; got {given.shape}.")
        first = self.eigenfunctions(given[None])[0]
        powers = np.arange(integer("steps", steps, maximum=10**9) + 1)[:, None]
        return np.real(np.tensordot(first * self.eigenvalues**powers, self.modes, 1))

    @property
    def _window(self) -> tuple[int, ...]:
        state = self.modes.shape[1:]
        return (self.delays, *state) if self.delays > 1 else state

    def __repr__(self) -> str:
        inside = self.within_bound
        gaps = f", skipped={self.skipped}" if self.skipped else ""
        lines = [
            f"KoopmanModes(modes={inside.size}, within_bound={inside.sum()}, "
            f"bound={self.bound:g}, pairs={self.pairs}{gaps}, step={self.step:g})"
        ]
        for i, (value, residual) in enumerate(zip(self.eigenvalues, self.residuals, strict=True)):
            if i == _SHOWN:
                above = int(np.sum(~inside[i:]))
                lines.append(f"  … and {inside.size - i} more, {above} of them above the bound")
                break
            mark = "" if inside[i] else "  above the bound"
            lines.append(
                f"{i + 1:>4}  λ = {value.real:+.6f} {value.imag:+.6f}i  |λ| = {abs(value):.6f}  "
                f"residual {residual:.2g}{mark}"
            )
        return "\n".join(lines)


def koopman_modes(
    runs: Any,
    times: Any = None,
    *,
    dictionary: Callable[[Any], Any] | None = None,
    delays: int = 1,
    rank: int | None = None,
    bound: float = 0.1,
    gaps: str = "raise",
) -> KoopmanModes:
    """Koopman eigenvalues, modes and residuals: DMD, EDMD and Hankel-DMD in one function.

        K = argmin |Ψ(y) - Ψ(x) K|²,   K v = λ v,   residual = |Ψ(y) v - λ Ψ(x) v| / |Ψ(x) v|

    over all pairs (x, y) of states one step apart. Least squares give an eigenvalue for every
    function of a dictionary, true or not. The residual is that of ResDMD,
    √(v*(L - λA* - λ̄A + |λ|²G)v / v*Gv) with G, A, L the Gram matrices of Ψ(x)Ψ(x), Ψ(x)Ψ(y),
    Ψ(y)Ψ(y); from the data themselves it is exact to rounding and not to its square root. For an
    equation with noise it holds the noise of a step too, and does not tend to 0.

    **Arguments**

    - `runs`: `Trajectories`, or an array ([members,] times, *state) together with `times`, equally
      spaced. Members are pooled: for a map on a grid, members are the points and times are [0, 1].
    - `times`: the times of an array, in seconds of the model.
    - `dictionary`: a JAX function of one state (delays > 1: of a window) to an array (functions,),
      real or complex, evaluated in float64. By default the coordinates (DMD).
    - `delays`: successive states in a window, 1 for the state alone. Above 1 the method is
      Hankel-DMD, which sees with delays what was not observed.
    - `rank`: how many principal directions of the dictionary to keep; all that differ from
      rounding by default.
    - `bound`: residuals above it are marked.
    - `gaps`: "raise" for NaN entries in `runs`, or "skip" the pairs that hold one.

    **Returns** `KoopmanModes`. Residuals are in sample: with few more pairs than functions they are
    too small, so use many more.

    **Raises** ValueError for arguments that break a rule, times that are not equally spaced, fewer
    times than `delays` + 1, coordinates that never change, pairs that are no more than the
    functions, and a dictionary that is not finite on the data.

    **Example**: the rotation of the circle by 1 has the eigenvalues e^{ik}.

    >>> angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)[:, None, None]
    >>> runs = np.concatenate([angles, angles + 1.0], 1)  # (members, times, 1)
    >>> waves = lambda x: jnp.concatenate([jnp.cos(x), jnp.sin(x), jnp.cos(2 * x), jnp.sin(2 * x)])
    >>> found = rqf.analysis.koopman_modes(runs, [0.0, 1.0], dictionary=waves)
    >>> bool(np.allclose(np.sort(np.angle(found.eigenvalues)), [-2, -1, 1, 2]))
    True

    Source: Schmid (2010), Williams, Kevrekidis & Rowley (2015), Arbabi & Mezić (2017), Colbrook &
    Townsend (2024), all recalled; the tests compare with operators that are known.
    """
    delays = integer("delays", delays, maximum=10**6)
    bound = real("bound", bound, minimum=0)
    rank = maybe(integer)("rank", rank)
    skip = one_of("raise", "skip")("gaps", gaps) == "skip"
    if dictionary is not None:
        function_of("one state")("dictionary", dictionary)
    xs, step = equally_spaced(runs, times, least=2, gaps=skip)
    count = xs.shape[1]
    if count < delays + 1:
        raise ValueError(
            f"`delays` must be at most {count - 1} for {count} times, so that there is a pair of "
            f"windows; got {delays}."
        )
    check_moving(xs)
    before, after, skipped = _pairs(xs, delays)
    lift = _flat if dictionary is None else Lift(dictionary, delays)
    here, there = lift(before), lift(after)
    check_finite(here, "x")
    check_finite(there, "y")
    left, sizes, right = np.linalg.svd(here, full_matrices=False)
    known = int(np.sum(sizes > sizes[0] * max(here.shape) * np.finfo(float).eps))
    if rank is not None and rank > known:
        raise ValueError(
            f"`rank` must be at most {known}, the rank of the dictionary on the data; got {rank}."
        )
    rank = known if rank is None else rank
    if rank == 0 or len(here) <= rank:
        raise ValueError(
            f"`runs` must hold more pairs than functions, or every residual is 0; got {len(here)} "
            f"pairs for {rank}. Take a longer run, fewer `delays`, or a smaller `rank`."
        )
    directions = right[:rank].conj().T
    # Least squares in the basis of the left singular vectors.
    operator = (left[:, :rank].conj().T @ there @ directions) / sizes[:rank, None]
    values, vectors = np.linalg.eig(operator)
    coefficients = directions @ vectors
    seen, moved = here @ coefficients, there @ coefficients
    lengths = np.linalg.norm(seen, axis=0)
    residuals = np.linalg.norm(moved - seen * values, axis=0) / lengths
    order = np.argsort(residuals, kind="stable")
    # Functions of mean square 1 over the data.
    coefficients = coefficients[:, order] * np.sqrt(len(here)) / lengths[order]
    states = before[:, -1].reshape(len(before), -1).astype(complex)
    modes = np.linalg.lstsq(here @ coefficients, states, rcond=None)[0]
    return KoopmanModes(
        eigenvalues=values[order].astype(complex),
        residuals=residuals[order],
        modes=modes.reshape(rank, *xs.shape[2:]),
        coefficients=coefficients.astype(complex),
        step=step,
        bound=bound,
        pairs=len(before),
        skipped=skipped,
        delays=delays,
        lift=lift,
    )


def _flat(windows: np.ndarray) -> Float[np.ndarray, "windows functions"]:
    """The coordinates themselves."""
    return windows.reshape(len(windows), -1)


def _pairs(xs: np.ndarray, delays: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Windows (pairs, delays, *state) and those one step later, and how many held a gap."""
    windows = np.lib.stride_tricks.sliding_window_view(xs, delays, axis=1)
    windows = np.moveaxis(windows, -1, 2)
    before, after = (
        part.reshape(-1, *part.shape[2:]) for part in (windows[:, :-1], windows[:, 1:])
    )
    axes = tuple(range(1, before.ndim))
    whole = ~(np.isnan(before).any(axes) | np.isnan(after).any(axes))
    if not whole.any():
        raise ValueError(
            f"`runs` must hold {delays + 1} successive states without a gap; every pair has one."
        )
    return before[whole], after[whole], int(np.sum(~whole))
