"""The strength and inverse temperature of attention, from trajectories of tokens under noise."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import each, scalar, words
from ..drifts import AbstractAttention
from ..manifolds import Sphere
from ._data import Observed, in_own_precision, observed
from ._likelihood import levy_floor, total
from ._result import FitResult, IdentifiabilityError, normal
from ._steps import over_steps, threshold
from .increments import half_angle, logarithm
from .noise import fit_noise
from .whitening import choose, whiten

_CLOSEST = 0.02
_SINGULAR = 1e3
"""So many roundings of the information about β must be left where strength is fitted too."""

_ROUNDS = 40
_HALVINGS = 8
_ONE_ERROR = math.erf(1 / math.sqrt(2))
_REACH = np.sinh(np.linspace(-4.0, 4.0, 61)) / 2.5


class Sums(eqx.Module):
    """Inner products of (V, b, ∂b/∂β), 3 x 3, in units of the noise, over all steps.

    `span` in the range of the covariance of the noise, `null` in the directions that symmetric
    noise leaves free; `dof` and `free` count their dimensions.
    """

    span: Float[Array, "3 3"]
    null: Float[Array, "3 3"]
    dof: Float[Array, ""]
    free: Float[Array, ""]
    steps: Float[Array, ""]
    tokens: Float[Array, ""]


class LogDensity(eqx.Module):
    """The log quasi-likelihood of attention at a strength, and if given at a β."""

    data: Observed
    unit: AbstractAttention
    p: Float[Array, ""]
    used_null: bool = eqx.field(static=True)

    def __call__(self, parameters: Mapping[str, Any]) -> Float[Array, ""]:
        """Up to a constant, at `parameters` like `FitResult.estimate`."""
        beta = jnp.asarray(parameters.get("beta", self.unit.beta), self.unit.beta.dtype)
        found = _sums(self.data, eqx.tree_at(lambda a: a.beta, self.unit, beta), self.p)
        products = found.span + (found.null if self.used_null else 0.0)
        strength = jnp.asarray(parameters["strength"]).astype(products.dtype)
        return strength * products[0, 1] - strength**2 * products[1, 1] / 2


@in_own_precision
def fit_attention(
    runs: Any,
    times: Any = None,
    *,
    attention: Any,
    parameters: Sequence[str] = ("strength",),
    noise: Any = None,
    mask: Any = None,
    normalise: str = "raise",
) -> FitResult:
    """The strength of attention, and if asked its β, under symmetric matrix noise.

        dX_a = P_{X_a} [ strength · f_a(X; β) dt - σ_s ∂Q X_a ]

    **Arguments**

    - `runs`: `Trajectories` of whole states, or an array ([members,] times, tokens, dim); `times`:
      (times,), strictly increasing, if `runs` is an array.
    - `mask`: (members, times, tokens) or what broadcasts to it, False where a token is missing.
    - `normalise`: "raise" for tokens that are not of length 1, to 1e-3, or "project" them.
    - `attention`: the drift with everything known in it (β, matrices, mask); what is fitted is
      replaced, with its value as the first guess of β.
    - `parameters`: ("strength",) or ("strength", "beta").
    - `noise`: σ_s, or a `FitResult` with the name "symmetric"; by default that of `fit_noise`,
      which the drift makes too large by a relative dt |f|²/(σ_s² dof).

    Steps with a missing token are left out, because its pull on the others is unknown.

    Two sources of information add up. In the range of the noise, increments by `logarithm` at the
    start of a step, whose mean is the drift: an error ~ 1/√T at every dt. In directions
    that symmetric noise leaves free only its commutators are in the way: half-angle increments at
    midpoints, of variance σ_s⁴ dt² (n+2)/8, with an error ~ √(dt/T) that dense observation makes
    as small as one likes. Both take the pull as constant over a step: what it changes there, about
    dt · strength/2 relative, enters no error. The latter needs three tokens; it is used if the
    residual `null_ratio` is between 0.3 and 3, so that data made with one step per observation, or
    with antisymmetric noise, do not look precise. `bound` is that of the range alone; the error may
    be below it.

    **Returns** a `FitResult`. Intervals of strength and β together are those of the profile
    likelihood, infinite where it does not fall: short paths may fix a combination of the two and
    hardly each of them. Goodness holds the noise seen in the range over
    σ_s²; its z counts what is beyond the error of finite steps, 0.4 n σ_s² dt, and knows the error
    of σ_s.
    **Raises** ValueError as `fit_noise` does and for bad options; `IdentifiabilityError` where
    tokens do not pull on each other, where no β is one standard error worse than the best, with the
    combination that the data do fix, and where the likelihood rises without end along β.
    Source: derived for this library.

    **Example**

    >>> sde, law = rqf.models.noisy_attention(1.0, sigma=0.5, strength=0.5), rqf.laws.Uniform(4, 3)
    >>> ts, key = np.linspace(0.0, 1.0, 41), jax.random.key(0)
    >>> runs = rqf.simulate(sde, law, ts, substeps=2, members=20, key=key)
    >>> fit = rqf.inference.fit_attention(runs, attention=rqf.drifts.Attention(1.0))
    >>> abs(fit.estimate["strength"] - 0.5) < 5 * fit.stderr["strength"]
    True
    """
    names = each(words)("parameters", parameters)
    if names not in (("strength",), ("strength", "beta")):
        raise ValueError(
            f"`parameters` must be ('strength',) or ('strength', 'beta'); got {parameters!r}."
        )
    if not isinstance(attention, AbstractAttention):
        raise ValueError(f"`attention` must be a drift of the attention family; got {attention!r}.")
    data = observed(runs, times, mask, normalise)
    members, count, tokens, _ = data.xs.shape
    if tokens < 2:
        raise ValueError(f"`runs` must hold at least 2 tokens; got {tokens}.")
    if noise is None:
        noise = fit_noise(runs, times, mask=mask, normalise=normalise)
    unsure = 0.0
    if isinstance(noise, FitResult):
        if "symmetric" not in noise.estimate:
            raise ValueError(
                "`noise` must have the name 'symmetric', as the fits of tokens do; got a fit of "
                f"{', '.join(noise.estimate)}."
            )
        unsure = 2 * noise.stderr["symmetric"] / noise.estimate["symmetric"]
        noise = noise.estimate["symmetric"]
    sigma = float(scalar("noise", minimum=0)(noise))
    if sigma == 0:
        raise ValueError("`noise` must be positive; got 0.")
    unit = eqx.tree_at(lambda a: a.strength, attention, jnp.ones_like(attention.strength))
    dtype = data.xs.dtype
    unit = jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, unit)
    p = jnp.asarray(sigma**2, data.xs.dtype)
    sums = _sums(data, unit, p)
    if not float(sums.steps):
        raise ValueError("`runs` must have a step in which no token is missing; got none.")
    used_null, ratio = _null_is_noise(sums)
    warnings = []
    if not used_null and float(sums.free):
        warnings.append(
            f"the directions that symmetric noise leaves free move {ratio:.2g} times as much as "
            "its commutators cause (one step per observation, or other noise): they are not used."
        )
    inner = _inner(sums, used_null)
    if not inner[1, 1] > 1e-6 * inner[0, 0] / max(float(sums.dof), 1.0):
        raise IdentifiabilityError("tokens do not pull on each other: strength is not in the data.")
    beta = float(unit.beta)
    if len(names) == 2:
        beta = _climbed(lambda b: _inner(_at(data, unit, b, p), used_null), beta, dtype)
        sums = _at(data, unit, beta, p)
        inner = _inner(sums, used_null)
    strength = inner[0, 1] / inner[1, 1]
    ends = np.array([1, strength])[: len(names)]
    size = 1 + len(names)
    fisher = inner[1:size, 1:size] * np.outer(ends, ends)
    in_span = np.asarray(sums.span, float)[1:size, 1:size] * np.outer(ends, ends)
    covariance = np.linalg.inv(fisher)
    bounds = np.sqrt(np.diagonal(np.linalg.pinv(in_span)))
    estimate = dict(zip(names, (strength, beta), strict=False))
    errors = np.sqrt(np.diagonal(covariance))
    rest = np.array([1, -strength, 0])
    dof = float(sums.dof)
    fit_of_span = float(rest @ np.asarray(sums.span, float) @ rest) / dof
    # A finite step changes the ratio by up to this; within it nothing speaks against the model.
    coarse = 0.4 * data.xs.shape[-1] * sigma**2 * float(np.max(data.dt))
    off = math.copysign(max(abs(fit_of_span - 1) - coarse, 0.0), fit_of_span - 1)
    score_of_span = off / math.sqrt(2 / dof + unsure**2)
    free = float(sums.free)
    null_ratio = float(rest @ np.asarray(sums.null, float) @ rest) / free if free else math.nan
    share = 1 - in_span[0, 0] / fisher[0, 0]
    text = f"{share:.0%} of the information about strength is from free directions"
    if len(names) == 2:
        text += f"; correlation {covariance[0, 1] / errors.prod():+.2f}"

    curve = None
    if len(names) == 2:
        unit = eqx.tree_at(lambda a: a.beta, unit, jnp.asarray(beta, unit.beta.dtype))
        betas = beta + errors[1] * _REACH
        inner = np.stack([_inner(_at(data, unit, b, p), used_null) for b in betas])
        here = np.all(np.isfinite(inner), axis=(1, 2)) & (inner[:, 1, 1] > 0)
        curve = betas[here], inner[here, 0, 1], inner[here, 1, 1]
        if all(map(math.isinf, _profiled(curve, _ONE_ERROR)["beta"])):
            raise _untold(fisher / np.outer(ends, ends), strength, beta)
    steps = round(float(sums.steps))
    return FitResult(
        estimate={name: float(value) for name, value in estimate.items()},
        covariance=covariance,
        fisher=fisher,
        bound=dict(zip(names, map(float, bounds), strict=True)),
        method="range and free directions" if used_null else "range",
        intervals=partial(_profiled, curve)
        if len(names) == 2
        else partial(normal, names, [strength], errors),
        density=LogDensity(data, unit, p, used_null),
        steps_used=steps,
        steps_dropped=members * (count - 1) - steps,
        tokens_used=float(sums.tokens) / steps,
        tokens_available=tokens,
        null_ratio=null_ratio,
        goodness={"noise in the range": (fit_of_span, score_of_span)},
        identifiability=text,
        warnings=tuple(warnings),
    )


def _at(data: Observed, unit: AbstractAttention, beta: float, p: Float[Array, ""]) -> Sums:
    return _sums(data, eqx.tree_at(lambda a: a.beta, unit, jnp.asarray(beta, unit.beta.dtype)), p)


def _profiled(curve, level: float) -> dict[str, tuple[float, float]]:
    """Intervals from the likelihood s u(β) - s² v(β)/2 along β: the other parameter at its best."""
    from scipy.special import ndtri

    betas, pulled, power = curve
    best, fall = np.max(pulled**2 / power / 2), ndtri((1 + level) / 2) ** 2 / 2
    by_beta = best - pulled**2 / power / 2
    # For a strength the best β of the curve; strengths as wide as those that belong to its ends.
    root = np.sqrt(np.maximum(2 * (fall - by_beta), 0.0) / power)
    inside = by_beta <= fall
    ends = (
        np.where(inside, pulled / power - root, np.inf),
        np.where(inside, pulled / power + root, -np.inf),
    )
    open_ends = inside[0] or inside[-1]
    strength = (float(np.min(ends[0])), float(np.max(ends[1])))
    if open_ends:
        strength = (-math.inf, math.inf)
    return {"strength": strength, "beta": _crossings(betas, by_beta, fall)}


def _crossings(x, rise, fall: float) -> tuple[float, float]:
    """Where `rise` first and last comes to `fall`, infinite where it is still below at an end."""
    inside = np.flatnonzero(rise <= fall)
    first, last = inside[0], inside[-1]
    low, high = -math.inf, math.inf
    if first > 0:
        low = float(np.interp(fall, [rise[first], rise[first - 1]], [x[first], x[first - 1]]))
    if last < len(x) - 1:
        high = float(np.interp(fall, [rise[last], rise[last + 1]], [x[last], x[last + 1]]))
    return low, high


def _inner(sums: Sums, used_null: bool) -> Float[np.ndarray, "3 3"]:
    return np.asarray(sums.span, float) + (np.asarray(sums.null, float) if used_null else 0.0)


def _null_is_noise(sums: Sums) -> tuple[bool, float]:
    """Whether what is left in the free directions, after the best strength, is Lévy area."""
    free, null = float(sums.free), np.asarray(sums.null, float)
    if not free:
        return False, math.nan
    left = null[0, 0] - (null[0, 1] ** 2 / null[1, 1] if null[1, 1] > 0 else 0.0)
    ratio = left / max(free - 1, 1.0)
    return bool(0.3 < ratio < 3), float(ratio)


def _climbed(products, beta: float, dtype) -> float:
    """β at the maximum of the profile likelihood u²/2v, from `products`(β) of (V, b, ∂b/∂β).

    The bend is that of the last two slopes, where they bend down, and else the information about β
    that an unknown strength leaves. Steps are held at 1 and halved until the likelihood rises.
    """
    inner, step, before = products(beta), 0.0, 0.0
    for _ in range(_ROUNDS):
        strength = inner[0, 1] / inner[1, 1]
        left = inner[2, 2] - inner[1, 2] ** 2 / inner[1, 1]
        if not left > _SINGULAR * np.finfo(dtype).eps * inner[2, 2]:
            raise _untold(inner[1:, 1:], strength, beta)
        slope = strength * (inner[0, 2] - strength * inner[1, 2])
        bend = (before - slope) / step if step else 0.0
        bend = bend if bend > 0 else strength**2 * left
        step = float(np.clip(slope / max(bend, 1e-300), -1.0, 1.0))
        if abs(step) < 1e-6 * (1 + abs(beta)):
            return beta
        for _ in range(_HALVINGS):
            higher = products(beta + step)
            if higher[0, 1] ** 2 * inner[1, 1] > inner[0, 1] ** 2 * higher[1, 1]:
                break
            step /= 2
        else:
            return beta  # it is the top, to rounding
        beta, inner, before = beta + step, higher, slope
    raise IdentifiabilityError(
        f"`beta` has no best value: the likelihood still rises at {beta:.3g}. Fit `strength` with "
        "a known one."
    )


def _untold(products, strength: float, beta: float) -> IdentifiabilityError:
    """The error that names what the data do fix, from the `products` of (b, ∂b/∂β)."""
    size = math.sqrt(max(products[0, 0] * products[1, 1], 1e-300))
    correlation = -math.copysign(products[0, 1] / size, products[0, 1] * strength)
    slope = strength * products[0, 1] / products[0, 0]
    return IdentifiabilityError(
        f"`beta` is not in the data: none is one standard error worse than the best, {beta:.3g}, "
        f"with the correlation {correlation:+.5f} to strength. They fix strength {slope:+.3g} beta "
        "alone. Fit `strength` with a known beta."
    )


@eqx.filter_jit
def _sums(data: Observed, unit: AbstractAttention, p: Float[Array, ""]) -> Sums:
    xs, dt = data.xs, data.dt
    members, times, tokens, dim = xs.shape
    size = members * (times - 1)
    whole = jnp.ones(xs.shape[:2], bool) if data.mask is None else jnp.all(data.mask, -1)
    zero = jnp.zeros((), xs.dtype)

    def pulls(x):
        """f and ∂f/∂β, ambient."""
        one = jnp.ones_like(unit.beta)

        def at(beta):
            return eqx.tree_at(lambda a: a.beta, unit, beta)(zero, x)

        return jax.jvp(at, (unit.beta,), (one,))

    def products(x, y, h, whole):
        available = jnp.broadcast_to(whole, (tokens,))
        least = jnp.maximum(threshold(p, h, dim), _CLOSEST)
        # The tokens that are kept feel all tokens.
        columns = jnp.concatenate([x, y, *pulls(x), *pulls(half_angle(x, y)[0])], axis=1)
        indices, active = choose(x, least, available)
        columns = jnp.where(active[:, None], columns[indices], 0.0)
        pole = jnp.eye(1, dim, dtype=x.dtype)
        x, y, f, g, f_middle, g_middle = jnp.split(columns, 6, axis=1)
        x, y = (jnp.where(active[:, None], part, pole) for part in (x, y))
        middle, moved = half_angle(x, y)
        root, tangent = jnp.sqrt(h), Sphere().tangent
        at_start = [logarithm(x, y) / root, tangent(x, f) * root, tangent(x, g) * root]
        at_middle = [moved / root, tangent(middle, f_middle) * root]
        at_middle.append(tangent(middle, g_middle) * root)
        span, w = _squares(x, at_start, active, lambda w: (w.q_s + 2 * w.q_o) / p)
        null, _ = _squares(middle, at_middle, active, lambda w: w.q_a / levy_floor(p, h, dim))
        return span, null, w.n_s + w.n_o, w.n_a, w.tokens

    x, y = (part.reshape(size, tokens, dim) for part in (xs[:, :-1], xs[:, 1:]))
    whole = (whole[:, :-1] & whole[:, 1:]).reshape(size)
    lengths = jnp.broadcast_to(dt, (members, times - 1)).reshape(size)
    span, null, dof, free, kept = over_steps(products, dim)(x, y, lengths, whole)
    span, null = (
        jnp.stack([jnp.stack([total(part[:, i, j]) for j in range(3)]) for i in range(3)])
        for part in (span, null)
    )
    steps = total(whole.astype(xs.dtype))
    return Sums(span, null, total(dof), total(free), steps, total(kept))


def _squares(x, vectors, active, form):
    """The 3 x 3 inner products of tangent vectors at x under a quadratic form of the whitening."""
    a, b, c = vectors
    six = jnp.stack([a, b, c, a + b, a + c, b + c])
    w = jax.vmap(whiten, (None, 0, None))(x, six, active)
    q = form(w)
    ab, ac, bc = (q[3] - q[0] - q[1]) / 2, (q[4] - q[0] - q[2]) / 2, (q[5] - q[1] - q[2]) / 2
    rows = [[q[0], ab, ac], [ab, q[1], bc], [ac, bc, q[2]]]
    matrix = jnp.stack([jnp.stack(row) for row in rows])
    return matrix, jax.tree.map(lambda leaf: leaf[0], w)
