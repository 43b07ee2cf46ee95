"""Pull and noise of weight matrices, from trajectories: exact at every step length."""

import math
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._arguments import data, flag
from .._ensemble.series import equally_spaced
from ..manifolds import AbstractLinearSpace, Euclidean, Hermitian, Symmetric
from . import _martingale as martingale
from ._density import OfPositive
from ._ou_goodness import TEXTS, goodness
from ._ou_likelihood import conditional_likelihood, stationary_likelihood
from ._result import FitResult, IdentifiabilityError, log_normal


def fit_matrix_ou(
    runs: Any,
    times: Any = None,
    *,
    target: Any = None,
    stationary: bool = False,
    manifold: AbstractLinearSpace | None = None,
) -> FitResult:
    """Rate and noise of a linear pull with equal noise in every entry: exact likelihood.

        dW = -rate (W - target) dt + s P dB

    **Arguments**

    - `runs`: `Trajectories` of whole states, or an array ([members,] times, *state) together with
      `times`, equally spaced. Members are pooled.
    - `target`: a number or a state where it is known. By default it is not, and every member has
      one of its own.
    - `stationary`: whether the first state has the stationary law too, which counts where the
      target is unknown and runs are short. Starts from elsewhere would bias such a fit.
    - `manifold`: whose projection is P: `Euclidean()` (the default), `Symmetric()` or
      `Hermitian()`, for which s = √2 g of `models.dyson`.

    **Returns** a `FitResult` with the names "rate" and "s"; intervals are normal in the logarithms.
    `goodness` holds correlations that should be 0, of residuals with those before them and with a
    pull that is not linear, and a ratio that is 1 if entries have equal and independent noise.

    With a = e^{-rate h} the deviations from the target are autoregressive, D' = a D + noise of
    variance v = s² (1 - a²)/(2 rate), so that with a known target the maximum is a regression.
    Around the means of the paths that is too high in the rate by about 2/T over a time T, however
    large the matrix is, because the mean score of a is -b'(a) for every entry and every start of
    K steps. Taking that off leaves the likelihood

        -2 ln L = (K-1) ln v + Σ (D' - a D)²/v - 2 b(a),   b(a) = Σ_{t<K} (K-t)/(K t) a^t

    of every entry, whose first maximum above the regression is the estimate. With a stationary
    start the likelihood is exact, and around an unknown target the restricted one, that of all
    differences; the bias of its maximum, of the order of one over the entries, is taken off the
    rate, and `log_density()` keeps it.

    `log_density()` is -inf unless both parameters are positive. As the rate tends to 0 it tends to
    a constant, and as the rate tends to infinity to one along s² ∝ rate: a prior that is flat in
    ln(rate) has no proper posterior. Take one whose tails can be integrated, for instance the
    half-Cauchy law of scale 1/T over a time T, 1/(1 + (T rate)²).

    `bound` is that of a known target: over a time T in units of 1/rate an unknown one allows 1.31
    (T = 5), 1.16 (10) and 1.03 (50) bounds where starts are known to be stationary, and 1.49, 1.23
    and 1.04 where they are so and nobody knows.

    **Raises** ValueError for arguments that break a rule; `IdentifiabilityError` if deviations do
    not shrink, which no pull explains.

    **Example**

    >>> sde, law = rqf.models.weight_ou(0.5, 1.0, np.zeros((3, 2))), rqf.laws.Zeros((3, 2))
    >>> ts, key = np.linspace(0.0, 4.0, 41), jax.random.key(0)
    >>> runs = rqf.simulate(sde, law, ts, substeps=1, members=20, key=key)
    >>> fit = rqf.inference.fit_matrix_ou(runs, target=0.0)
    >>> abs(fit.estimate["rate"] - 1) < 5 * fit.stderr["rate"]
    True

    Source: the likelihood is classical; the bias is Nickell's, Econometrica 49 (1981) 1417, and the
    likelihood without it Lancaster's, Rev. Econ. Stud. 69 (2002) 647 (both recalled; b derived);
    the restricted one is Patterson & Thompson's, Biometrika 58 (1971) 545 (recalled; its
    determinants derived).
    """
    stationary = flag("stationary", stationary)
    manifold = Euclidean() if manifold is None else manifold
    if not isinstance(manifold, Euclidean | Symmetric | Hermitian):
        raise ValueError(f"`manifold` must be a linear space of matrices; got {manifold!r}.")
    xs, h = equally_spaced(runs, times, least=3 if target is None else 2)
    shape = xs.shape[2:]
    if isinstance(manifold, Symmetric | Hermitian) and (len(shape) != 2 or shape[0] != shape[1]):
        raise ValueError(f"`runs` must hold square matrices for {manifold}; got shape {shape}.")
    if isinstance(manifold, Symmetric):
        skew = np.abs(xs - np.swapaxes(xs, -1, -2)).max()
        if skew > 1e-5 * np.abs(xs).max():
            raise ValueError(f"`runs` must hold symmetric matrices; got entries {skew:.3g} apart.")
    members, steps = xs.shape[0], xs.shape[1] - 1
    if target is not None:
        centre = data("target", target)
        if centre.shape not in ((), shape):
            raise ValueError(
                f"`target` must be a number or have shape {shape}; got {centre.shape}."
            )
        xs = xs - centre
    if not np.any(xs[:, 1:] != xs[:, :-1]):
        raise ValueError("`runs` must hold states that move; got the same state at all times.")
    law = stationary_likelihood if stationary else conditional_likelihood
    entries = _entries(xs, manifold)
    likelihood = law(entries, centred=target is None)
    shrink, seen = likelihood.largest(), likelihood.seen
    if not 0 < shrink < 1:
        raise IdentifiabilityError(
            f"`runs` must hold deviations that shrink; they change by the factor {seen:.4g} in a "
            f"step of length {h:.3g}, which no pull at a rate > 0 does. Only the variance of a "
            "step is identified: take a longer run"
            f"{'' if target is not None else ' or give the `target`'}."
        )
    shrink = likelihood.unbiased(shrink)
    slope, lost = 1 - shrink, shrink * (2 - shrink)
    rate = -math.log1p(-shrink) / h
    innovation, information = likelihood.around(shrink)
    square = innovation * 2 * rate / lost
    # d(u, ln v)/d(ln rate, ln s), for v = s² (1 - a²)/(2 rate).
    log_slope = 2 * rate * h * slope**2 / lost - 1
    jacobian = np.array([[rate * h * slope, 0.0], [log_slope, 2.0]])
    information_log = jacobian.T @ information @ jacobian
    scale = np.array([rate, math.sqrt(square)])
    names = ("rate", "s")
    covariance_log = np.linalg.inv(information_log)
    full = steps * entries.shape[1]
    bound = scale * np.sqrt(
        [(math.exp(2 * rate * h) - 1) / (full * (rate * h) ** 2), 1 / (2 * full)]
    )

    def log_density(parameters):
        r, s = parameters["rate"], parameters["s"]
        v = -(s**2) * jnp.expm1(-2 * r * h) / (2 * r)
        return likelihood.log(-jnp.expm1(-r * h), v)

    whole = entries.reshape(len(entries), members, -1)
    checks = goodness(whole, slope, centred=target is None)
    method = "exact likelihood"
    if target is None:
        method = "restricted likelihood" if stationary else "likelihood, unknown target corrected"
    return FitResult(
        estimate=dict(zip(names, map(float, scale), strict=True)),
        covariance=covariance_log * np.outer(scale, scale),
        fisher=information_log / np.outer(scale, scale),
        bound=dict(zip(names, map(float, bound), strict=True)),
        method=method,
        intervals=partial(log_normal, names, scale, np.sqrt(np.diagonal(covariance_log))),
        density=OfPositive(log_density, names),
        dof_used=float(likelihood.degrees),
        dof_available=float(full),
        steps_used=members * steps,
        goodness=checks,
        warnings=martingale.warnings(checks, TEXTS),
        identifiability=""
        if target is not None
        else f"target unknown: a step keeps {seen:.4g} of a deviation, {slope:.4g} corrected",
    )


def _entries(xs: np.ndarray, manifold: AbstractLinearSpace) -> np.ndarray:
    """Independent ones with equal noise, (times, entries of all members)."""
    if isinstance(manifold, Symmetric):
        i, j = np.triu_indices(xs.shape[-1])
        xs = xs[..., i, j] * np.where(i == j, 1.0, math.sqrt(2))
    return np.moveaxis(xs, 1, 0).reshape(xs.shape[1], -1)
