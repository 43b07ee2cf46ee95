"""The strengths of common matrix noise, from trajectories of tokens."""

import math
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import flag, one_of
from .._linalg.jacobi import inverse
from ._checks import Checks, checks, rounding_warning
from ._data import Observed, in_own_precision, observed
from ._density import OfPositive
from ._goodness import in_out, null_error, scatter
from ._likelihood import information, levy_floor, maximise, start, total, without_mixed
from ._noise_density import NAMES, LogDensity, corrected, two_intervals
from ._result import FitResult, IdentifiabilityError, chi_square
from ._step_error import SHAPE, Corrected, correct, sample_size
from ._steps import Steps, whitened_steps
from .increments import LARGEST_ANGLE

CANDIDATES = 4
"""Of more than so many times `dim` tokens, that many, evenly spaced, are looked at."""

METHODS = ("qmle", "robust")

SUMS = "steps dof tokens s o a ss so oo sa oa aa n_s n_o n_a floor".split()
"""The names of `summary`, in the order in which they are stacked."""


class NoiseFit(eqx.Module):
    """θ = ln of the squared strengths as arrays: what `fit_noise` makes its report from.

    `sums` are those named `SUMS`, over the steps that were observed or, after the correction,
    simulated, and then the ratios named `SHAPE`: one array, since copies to the host cost more than
    what is copied.
    """

    theta: Float[Array, " parameters"]
    covariance: Float[Array, "parameters parameters"]
    fisher: Float[Array, "parameters parameters"]
    first_order: Float[Array, "parameters parameters"]
    sums: Float[Array, " sums"]


@in_own_precision
def fit_noise(
    runs: Any,
    times: Any = None,
    *,
    antisymmetric: bool = False,
    method: str = "qmle",
    mask: Any = None,
    normalise: str = "raise",
) -> FitResult:
    """The strengths σ_s, and if `antisymmetric` σ_a, of common matrix noise on the sphere.

        dX_a = -P_{X_a} ∂A X_a,   A = σ_s Q + σ_a R   (Stratonovich)

    **Arguments**

    - `runs`: `Trajectories` of whole states, or an array ([members,] times, tokens, dim) together
      with `times` (times,), strictly increasing and spaced as you like. Members are pooled: they
      are independent and share the strengths. NaN tokens are missing, and so are those where
      `mask` (broadcast to members, times, tokens) is False.
    - `antisymmetric`: estimate σ_a too; without, it is zero.
    - `method`: "qmle", the whitened quasi-likelihood (see `inference.whitening`), or "robust", the
      same without its mixed numbers.
    - `normalise`: what becomes of tokens that are not of length 1, to 1e-3: "raise" or "project".

    **Returns** a `FitResult` with the names "symmetric" (σ_s) and "antisymmetric" (σ_a), strengths
    and not squares. Tokens close to the span of others are left out step by step, and synchronised
    tokens count as one: `dof_used` says what is left, and the interval follows it. The error of
    finite steps is removed by simulation, and the noise of that is in the standard error. One
    strength has a χ² interval, two have normal intervals in their logarithms; where σ_a cannot be
    told from 0 its interval starts there. Of more than `CANDIDATES` · dim tokens, that many are
    looked at: tokens beyond `dim` say nothing new about σ_s.

    **Raises** ValueError for arguments that break a rule, for zero vectors and for tokens that do
    not move; `IdentifiabilityError` for σ_a with one token, which shows σ_s² + σ_a² alone.

    **Example**

    >>> sde, law = rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(3, 4)
    >>> ts, key = np.linspace(0.0, 0.4, 21), jax.random.key(0)
    >>> runs = rqf.simulate(sde, law, ts, substeps=2, members=20, key=key)
    >>> fit = rqf.inference.fit_noise(runs)
    >>> abs(fit.estimate["symmetric"] - 1) < 5 * fit.stderr["symmetric"]
    True

    Source: derived for this library from the law of one step; see `inference.whitening` for the
    likelihood and `inference._step_error` for the correction, with their sources.
    """
    method, antisymmetric = one_of(*METHODS)("method", method), flag("antisymmetric", antisymmetric)
    data = observed(runs, times, mask, normalise)
    members, count, tokens, dim = data.xs.shape
    data = _candidates(data)
    parameters, robust = (2 if antisymmetric else 1), method == "robust"
    if antisymmetric and tokens == 1:
        raise IdentifiabilityError(
            "one token shows symmetric² + antisymmetric² alone. Fit with `antisymmetric=False`: "
            "its estimate is the root of the sum."
        )
    look, steps, fit = _estimate(data.xs, data.dt, data.mask, parameters, robust)
    seen, found = jax.device_get((look, fit))
    if not seen.rate > 0:
        raise ValueError("`runs` must hold tokens that move; got the same state at all times.")
    sums, simulated, seen_theta = _named(found.sums), None, found.theta
    if antisymmetric and sums["tokens"] < 1.0 + 1e-6:
        raise IdentifiabilityError(
            "in no step two tokens are well apart, which shows symmetric² + antisymmetric² alone. "
            "Fit with `antisymmetric=False`, or take earlier times."
        )
    largest = math.exp(found.theta[0]) * np.max(data.dt) * dim
    statistical = math.sqrt(np.min(np.diagonal(found.covariance)))
    # No step error is above 0.4 n p dt: one that cannot matter is not simulated.
    if 0.4 * largest > 0.05 * statistical:
        size, key = sample_size(members * (count - 1), dim), jax.random.key(0)
        found = jax.device_get(_without_step_error(fit, steps, data, look.rate, key, size, robust))
        simulated = _named(found.sums)
    inexact = float(np.trace(found.covariance @ found.fisher)) / parameters
    used = without_mixed(steps) if robust else steps
    density = corrected(used, seen_theta, found.theta, inexact if simulated else 1.0)
    return _report(found, density, sums, simulated, seen, data, tokens, method)


@eqx.filter_jit
def _estimate(xs, dt, mask, parameters: int, robust: bool) -> tuple[Checks, Steps, NoiseFit]:
    """A look at the data, whitened steps, and the estimate with the step error still in it."""
    look = checks(xs, dt, mask)
    steps = whitened_steps(xs, dt, mask, look.rate)
    used = without_mixed(steps) if robust else steps
    theta = maximise(start(used, parameters), used)
    fisher = information(theta, used)
    first_order = information(theta, steps, floor=0.0)
    return look, steps, NoiseFit(theta, inverse(fisher), fisher, first_order, _stacked(steps))


@eqx.filter_jit
def _without_step_error(
    fit: NoiseFit, steps: Steps, data: Observed, rate, key, size: int, robust: bool
) -> NoiseFit:
    """`fit` after the correction of `inference._step_error`, from evenly spaced steps."""
    members, count, tokens, _ = data.xs.shape
    steps_of_all = members * (count - 1)
    # Not a whole number of steps apart, or all could be at the same few times.
    spaced = np.arange(size) * steps_of_all // size
    member, step = np.divmod(spaced, count - 1)
    available = jnp.ones((size, tokens), bool)
    if data.mask is not None:
        available = data.mask[member, step] & data.mask[member, step + 1]
    result: Corrected = correct(
        fit.theta,
        steps,
        data.xs[member, step],
        jnp.asarray(data.dt)[step],
        available,
        rate,
        key,
        robust=robust,
    )
    used = without_mixed(steps) if robust else steps
    fisher = information(result.theta, used)
    first_order = information(result.theta, steps, floor=0.0)
    sums = jnp.concatenate([_stacked(result.sample), result.shape])
    return NoiseFit(result.theta, result.covariance, fisher, first_order, sums)


def _stacked(steps: Steps) -> Float[Array, " sums"]:
    found = summary(steps)
    return jnp.stack([found[name] for name in SUMS])


def _named(sums: np.ndarray) -> dict[str, float]:
    names = SUMS if sums.size == len(SUMS) else (*SUMS, *SHAPE)
    return dict(zip(names, sums.tolist(), strict=True))


def summary(steps: Steps) -> dict[str, Float[Array, ""]]:
    """Sums over all steps that the report needs."""
    w, dt = steps.whitened, steps.dt
    used = (w.tokens > 0).astype(dt.dtype)
    count = total(used)
    s, o, a = w.q_s / dt, w.q_o / dt, w.q_a / dt
    each = jnp.maximum(w.n_s + w.n_o, 1.0)
    return {
        "steps": count,
        "dof": total(w.dof),
        "tokens": total(w.tokens) / jnp.maximum(count, 1.0),
        "s": total(s),
        "o": total(o),
        "a": total(a),
        "ss": total(s * s / each),
        "so": total(s * o / each),
        "oo": total(o * o / each),
        "sa": total(s * a),
        "oa": total(o * a),
        "aa": total(a * a),
        "n_s": total(w.n_s),
        "n_o": total(w.n_o),
        "n_a": total(w.n_a),
        "floor": total(w.n_a * levy_floor(1.0, dt, steps.dim)),
    }


def _candidates(data: Observed) -> Observed:
    tokens, dim = data.xs.shape[2:]
    most = CANDIDATES * dim
    if tokens <= most:
        return data
    spaced = np.arange(most) * tokens // most
    mask = None if data.mask is None else data.mask[:, :, spaced]
    return data._replace(xs=data.xs[:, :, spaced], mask=mask)


def _report(
    fit: NoiseFit,
    density: LogDensity,
    n: dict[str, float],
    simulated: dict[str, float] | None,
    seen: Checks,
    data: Observed,
    tokens: int,
    method: str,
) -> FitResult:
    members, count, _, dim = data.xs.shape
    theta = np.asarray(fit.theta, float)
    covariance = np.asarray(fit.covariance, float)
    names = NAMES[: theta.size]
    squares = np.exp(theta)
    strengths = np.sqrt(squares)
    scale = strengths / 2
    k = min(tokens, dim)
    full = (k * (k + 1) // 2 + k * (dim - k) - 1) * members * (count - 1)
    if theta.size == 1:
        bound = [scale[0] * math.sqrt(2 / full)]
    else:
        bound = scale * np.sqrt(np.diagonal(np.linalg.pinv(np.asarray(fit.first_order, float))))
    null_ratio = n["a"] / (n["floor"] * squares[0] ** 2) if n["n_a"] else math.nan
    fisher = np.asarray(fit.fisher, float)
    shape = {
        name: ratio(n, squares, fisher, covariance, simulated)
        for name, ratio in (("in / out of span", in_out), ("scatter of steps", scatter))
    }
    if simulated is not None:
        # What finite steps do to this ratio is known from the same simulation.
        if simulated["n_a"]:
            null_ratio /= simulated["a"] / (simulated["floor"] * squares[0] ** 2)
            if theta.size == 1:
                shape["free directions"] = (
                    null_ratio,
                    null_error(n, simulated, squares[0], covariance[0, 0]),
                )
    goodness, warnings = {}, []
    for name, (ratio, error) in shape.items():
        if not math.isnan(ratio):
            goodness[name] = (float(ratio), float((ratio - 1) / error))
    lag, lag_score = float(seen.lag), float(seen.lag_score)
    if count > 2:
        goodness["lag-1 correlation"] = (lag, lag_score)
    total_steps = members * (count - 1)
    if data.missing:
        warnings.append(f"{data.missing} tokens are missing and left out where they are.")
    if bool(seen.twins):
        warnings.append("some tokens are equal or opposite from the start; one of each is used.")
    fraction = n["dof"] / full
    if fraction < 0.7 and tokens > 1:
        warnings.append(
            f"{1 - fraction:.0%} of the degrees of freedom were dropped, because tokens are close "
            "to the span of others (synchronised?); `fit_pairs` sees `symmetric` in their overlaps."
        )
    if float(seen.angle) > LARGEST_ANGLE - 1e-3:
        warnings.append(
            f"a token turned by {float(seen.angle):.2f} rad in one step: the steps are too coarse."
        )
    if lag_score < -5 and lag < -0.02:
        warnings.append(
            "successive increments are negatively correlated, as if observed with noise, "
            "which this fit takes for motion: try `fit_noise_observed`."
        )
    if lag_score > 5 and lag > 0.02:
        warnings.append(
            "successive increments are positively correlated: something else than noise moves the "
            "tokens (a drift, for instance attention: see `fit_attention`), or the noise remembers."
        )
    ratio, score = goodness.get("in / out of span", (1.0, 0.0))
    if abs(score) > 5:
        warnings.append(
            f"tokens move {ratio:.2g} times as much (squared) in their span as out of it: the "
            "noise prefers directions, or is not common to all tokens. The strength is biased."
        )
    if theta.size == 1 and n["n_a"] >= 20:
        if null_ratio < 0.3:
            warnings.append(
                "nothing moves in the directions that symmetric noise leaves free: the data look "
                "as if made with one step per observation, or are layers rather than a diffusion."
            )
        if null_ratio > 3:
            warnings.append(
                "much moves in the directions that common symmetric noise leaves free: try "
                "`antisymmetric=True`; noise of its own for every token looks like this too."
            )
    # The logarithm of a σ_a that cannot be told from 0 does not settle, and need not.
    known = theta.size == 1 or not covariance[1, 1] > 0.25
    if simulated is not None and not simulated["settled"] and known:
        warnings.append(
            "the error of steps as coarse as these could not be removed: do not trust the numbers "
            "and take shorter steps."
        )
    times, score = goodness.get("scatter of steps", (1.0, 0.0))
    if score > 5 and times > 1.5:
        warnings.append(
            f"steps scatter {times:.2g} times as much as one strength allows: it changes in "
            "time, prefers directions, has heavy tails, or `times` are wrong. The interval is too "
            "narrow."
        )
    coarse = rounding_warning(float(data.grid), squares[0] * float(np.median(data.dt)))
    if coarse:
        warnings.append(coarse)

    identifiability = ""
    if theta.size == 2:
        errors = np.sqrt(np.diagonal(covariance))
        correlation = covariance[0, 1] / errors.prod()
        identifiability = f"correlation of the two logarithms {correlation:+.2f}"
        intervals = partial(two_intervals, names, theta, covariance, density)
        if errors[1] > 0.5:
            warnings.append("`antisymmetric` cannot be told from 0; its interval starts there.")
    else:
        intervals = partial(chi_square, names[0], squares[0], 2 / covariance[0, 0])
        if tokens == 1:
            identifiability = "one token shows the sum symmetric² + antisymmetric²"
    return FitResult(
        estimate=dict(zip(names, map(float, strengths), strict=True)),
        covariance=covariance * np.outer(scale, scale),
        fisher=fisher / np.outer(scale, scale),
        bound=dict(zip(names, map(float, bound), strict=True)),
        method=method,
        intervals=intervals,
        density=OfPositive(density, names),
        dof_used=n["dof"] if method == "qmle" else n["n_s"] + n["n_o"],
        dof_available=float(full),
        steps_used=round(n["steps"]),
        steps_dropped=total_steps - round(n["steps"]),
        tokens_used=n["tokens"],
        tokens_available=tokens,
        null_ratio=null_ratio,
        goodness=goodness,
        identifiability=identifiability,
        warnings=tuple(warnings),
    )
