"""Statistics of ensembles of spectra: unfolded levels, neighbours, and the bulk of one matrix.

An ensemble of spectra is an array (members, n), ascending in n: one save of
`simulate(..., save=observables.spectrum)`. Members are independent, so standard errors are those
of the mean over members. What to compare with is in `theory.levels` and `theory.spectra`.
"""

import math
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arguments import data, integer, real
from ..observables import spacing_ratios
from ..theory import spectra


def unfold(values: Any) -> Float[np.ndarray, "members n"]:
    """Levels whose mean density is 1: how many of a member's eigenvalues lie below, on average.

    The average is over the ensemble: the rank among the eigenvalues of all members, over their
    number. (The rank within its own spectrum would make all spacings 1.) A member's own eigenvalues
    are a share 1/members of it, so take a hundred members or more.

    Raises ValueError unless `values` are spectra (members, n) of at least 2 members.
    """
    found = _spectra(values, 2)
    members, _ = found.shape
    pool = np.sort(found, axis=None)
    # The middle of both sides: an eigenvalue is half below itself.
    below = np.searchsorted(pool, found, "left") + np.searchsorted(pool, found, "right")
    return below / (2 * members)


def mean_spacing_ratio(values: Any, *, bulk: Any = 1.0) -> tuple[float, float]:
    """The mean of min(r, 1/r) over neighbouring gaps, and its standard error; no unfolding needed.

    `bulk` is the share of gaps, in the middle of each spectrum, that is used. Large Gaussian
    ensembles have .5307 (β = 1), .5996 (β = 2) and .6744 (β = 4) (Atas et al. 2013, recalled, by
    numerics), independent levels 2 ln 2 - 1 = .3863; `theory.levels.mean_spacing_ratio` is that of
    spectra of three values, .5359 for β = 1, which larger ones do not approach. Raises ValueError
    unless `values` are spectra (members, n), n ≥ 3, of at least 2 members, and 0 < bulk ≤ 1.
    """
    found = _spectra(values, 3)
    # An offset of the levels changes nothing, and is taken away before float32 rounds them.
    levels = jnp.asarray(found - found.mean(1, keepdims=True))
    ratios = np.asarray(jax.vmap(spacing_ratios)(levels), float)
    return _mean(ratios[:, _middle(ratios.shape[1], bulk)].mean(axis=1))


def number_variance(levels: Any, length: Any, *, bulk: Any = 0.5) -> tuple[float, float]:
    """The variance of the number of levels in a stretch of `length`, and its standard error.

    `levels` are unfolded (members, n); stretches lie side by side in the middle `bulk` of each
    spectrum. Raises ValueError if not even one fits, and for other shapes.
    """
    levels_, length = _spectra(levels, 2, "levels"), real("length", length, minimum=0)
    n = levels_.shape[1]
    middle = _middle(n, bulk)
    start, stop = middle.start, middle.stop
    if not 0 < length <= stop - start:
        raise ValueError(
            f"`length` must be positive and at most {stop - start}, the levels in the middle "
            f"`bulk`; got {length:g}."
        )
    edges = np.arange(start, stop + 1e-9, length)
    counts = np.stack([np.histogram(row, edges)[0] for row in levels_])
    return _mean(np.mean((counts - counts.mean()) ** 2, axis=1))


class MarchenkoPasturFit(eqx.Module):
    """A spectrum split into noise and signals.

    `variance` is that of an entry of the noise; `edges` (2,) are those of its squared singular
    values; `outliers` (count,) the squared singular values above, ascending; `distance` the largest
    difference of distribution functions between the bulk and the Marchenko-Pastur law.
    """

    variance: float
    edges: Float[np.ndarray, " 2"]
    outliers: Float[np.ndarray, " count"]
    distance: float

    def __repr__(self) -> str:
        return (
            f"MarchenkoPasturFit(variance={self.variance:.6g}, edges=({self.edges[0]:.4g}, "
            f"{self.edges[1]:.4g}), outliers={self.outliers.size}, distance={self.distance:.3g})"
        )


def fit_marchenko_pastur(values: Any, rows: int) -> MarchenkoPasturFit:
    """The noise in a matrix of `rows` × n by the law of its n singular `values`.

    The variance is the mean of the k squares in the bulk over rows - n + k, as each outlier takes a
    row and a column of the noise with it. An outlier is a square above the edge by more than 4
    scales of its Tracy-Widom law, which one in 5000 matrices of noise has. Both are repeated until
    they agree. Values up to the largest times `rows` roundings of their type are the 0 of a matrix
    of low rank: where nothing else is left in the bulk the variance is 0, and all others are
    outliers.

    Raises ValueError unless `values` are n ≤ rows singular values along one axis, not all 0.
    """
    sizes, dtype = np.sort(np.abs(data("values", values)), axis=None), np.asarray(values).dtype
    eps = float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.floating) else 0.0
    rounding = eps * integer("rows", rows) * np.max(sizes, initial=0.0)
    squares = np.where(sizes > rounding, sizes, 0.0) ** 2
    if np.ndim(values) != 1 or squares.size < 2 or not squares[-1] > 0:
        raise ValueError(
            "`values` must be singular values along one axis, not all 0; got shape "
            f"{np.shape(values)}."
        )
    n = squares.size
    rows = integer("rows", rows)
    centre, scale = spectra.largest_singular_square(rows, n)
    bulk = n
    while True:
        variance = float(squares[:bulk].mean()) / (rows - n + bulk)
        within = int(np.searchsorted(squares, variance * (centre + 4 * scale), side="right"))
        if within >= bulk:
            break
        bulk = within
    if variance == 0:
        return MarchenkoPasturFit(0.0, np.zeros(2), squares[bulk:], 0.0)
    share = spectra.marchenko_pastur_cdf(squares[:bulk], rows, n, variance)
    steps = np.arange(bulk + 1) / bulk
    distance = max(np.max(share - steps[:-1]), np.max(steps[1:] - share))
    edges = spectra.marchenko_pastur_edges(rows, n, variance)
    return MarchenkoPasturFit(variance, edges, squares[bulk:], float(distance))


class TailExponent(eqx.Module):
    """The tail of a distribution, density ∝ x^{-exponent} above `start`.

    `stderr` is the standard error of the exponent, and `count` the number of values above `start`.
    """

    exponent: float
    stderr: float
    start: float
    count: int

    def __repr__(self) -> str:
        return (
            f"TailExponent({self.exponent:.3f} ± {self.stderr:.3f} above {self.start:.4g}, "
            f"{self.count} values)"
        )


def tail_exponent(values: Any, start: Any = None) -> TailExponent:
    """The exponent of a power law fitted to the largest of positive `values`.

    By the package `powerlaw` (maximum likelihood; Alstott, Bullmore & Plenz 2014), which also
    chooses `start`, if it is left out, by the least Kolmogorov distance. A fit always gives a
    number: for 128 squared singular values of a square matrix of pure noise, mostly from 2 to 8.

    Raises ValueError unless `values` are at least 10 positive numbers and `start` is at least 0,
    and ImportError without the package: `pip install 'powerlaw>=2'`.
    """
    found = data("values", values).reshape(-1)
    if found.size < 10 or not found.min() > 0:
        raise ValueError(
            f"`values` must be at least 10 positive numbers; got {found.size}"
            f"{f', the least of them {found.min():g}' if found.size else ''}."
        )
    threshold = None if start is None else real("start", start, minimum=0)
    if threshold is not None and not threshold < found.max():
        raise ValueError(
            f"`start` must be below the largest value, {found.max():g}; got {threshold:g}."
        )
    try:
        import powerlaw
    except ImportError:
        raise ImportError(
            "`tail_exponent` needs the package `powerlaw`: pip install 'powerlaw>=2'."
        ) from None
    with warnings.catch_warnings():
        # Its search warns of first guesses out of bounds. Its own bounds end at 3, and exponents of
        # weights do not.
        warnings.simplefilter("ignore")
        ranges = {"alpha": [1, None]}
        fit = powerlaw.Fit(found, xmin=threshold, parameter_ranges=ranges, verbose=False)
        law = fit.power_law
    count = int(np.sum(found >= law.xmin))
    return TailExponent(float(law.alpha), float(law.standard_err), float(law.xmin), count)


def _mean(samples: Float[np.ndarray, " members"]) -> tuple[float, float]:
    return float(samples.mean()), float(samples.std(ddof=1)) / math.sqrt(samples.size)


def _middle(count: int, bulk: Any) -> slice:
    share = real("bulk", bulk, minimum=0, maximum=1)
    kept = math.ceil(share * count)
    if not kept:
        raise ValueError(f"`bulk` must be above 0; got {share:g}.")
    start = (count - kept) // 2
    return slice(start, start + kept)


def _spectra(values: Any, least: int, name: str = "values") -> Float[np.ndarray, "members n"]:
    array = data(name, values)
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < least:
        raise ValueError(
            f"`{name}` must be spectra (members, n) of at least 2 members and {least} values; got "
            f"shape {array.shape}."
        )
    steps = np.diff(array, axis=1)
    if steps.size and steps.min() < 0:
        member = int(np.argwhere(steps < 0)[0, 0])
        raise ValueError(
            f"`{name}` must ascend in each spectrum; got member {member} out of order."
        )
    return array
