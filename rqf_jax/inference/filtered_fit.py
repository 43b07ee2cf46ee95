"""Parameters of an equation from partial, noisy observations: the likelihood of the filter."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import Key, Times, calling, function_of, part, prng_key, real, shown
from .._ensemble.members import typed_key
from .._sde import SDE
from ..laws import AbstractLaw
from ._newton import maximum
from ._result import FitResult, IdentifiabilityError, normal
from .filtering import ensemble_kalman

_KEYS = 8
"""So many other keys measure the error that the filter's own draws leave in the estimate."""


class FilterLikelihood(eqx.Module):
    """The log likelihood of a filter as a function of a dict of parameters."""

    model: Callable[[dict[str, Array]], SDE]
    law: AbstractLaw
    ys: Float[Array, "times seen"]
    times: Float[np.ndarray, " times"]
    key: Key
    options: dict[str, Any]
    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, parameters: Mapping[str, Any]) -> Float[Array, ""]:
        """At `parameters` like `FitResult.estimate`; -inf where the filter fails."""
        given = {name: jnp.asarray(parameters[name], float) for name in self.names}
        found = ensemble_kalman(
            self.model(given), self.law, self.ys, self.times, key=self.key, **self.options
        )
        value = found.log_likelihood
        return jnp.where(jnp.isnan(value), -jnp.inf, value)


def fit_filtered(
    model: Callable[[dict[str, Array]], SDE],
    start: Mapping[str, Any],
    law: AbstractLaw,
    ys: Any,
    ts: Times,
    *,
    observe: Callable[[Any], Any],
    observation: Any,
    substeps: int,
    members: int,
    key: Key,
    method: str = "square_root",
    inflation: Any = 1.0,
    solver: diffrax.AbstractSolver | None = None,
) -> FitResult:
    """Parameters of an equation from partial, noisy observations, by maximum likelihood.

        θ̂ = argmax Σ_k ln N(y_k; h_k(θ), S_k(θ)),   covariance = (-∂² ln L)⁻¹ + Monte Carlo

    with the mean h_k and covariance S_k of each observation before it is seen, those of
    `ensemble_kalman` under one key. Draws of the filter leave an error in θ̂, which is measured with
    8 other keys and added to the covariance.

    **Arguments**

    - `model`: a JAX function of a dict of parameters to an `SDE`.
    - `start`: the parameters to begin with, by name: numbers near the truth.
    - `law`, `ys`, `ts`, `observe`, `observation`, `substeps`, `members`, `key`, `method`,
      `inflation`, `solver`: as of `ensemble_kalman`.

    **Returns** a `FitResult` with the names of `start` and normal intervals. `bound` is the error
    without that of the draws. Goodness holds `innovations`, whose mean square is 1 if the equation
    is right. `log_density()` is the likelihood for a sampler: with blackjax as in the guide, with
    numpyro as `numpyro.factor("data", density(parameters))`.

    **Raises** ValueError for arguments that break a rule; `IdentifiabilityError` if the likelihood
    has no maximum near the start.

    **Example**: rate and noise of a decaying number that is seen with noise.

    >>> def model(p):
    ...     drift, noise = rqf.drifts.Pull(p["rate"]), rqf.noises.TokenNoise(p["sigma"])
    ...     return rqf.SDE(drift, noise, rqf.manifolds.Euclidean())
    >>> truth, law = {"rate": 1.0, "sigma": 1.0}, rqf.laws.Normal((1,), 0.7)
    >>> times, key = np.linspace(0.0, 30.0, 151), jax.random.key(0)
    >>> path = rqf.simulate(model(truth), law, times, substeps=1, members=1, key=key).ys[0]
    >>> ys = path + 0.3 * jax.random.normal(jax.random.key(1), path.shape)
    >>> fit = rqf.inference.fit_filtered(
    ...     model, {"rate": 0.7, "sigma": 0.8}, law, ys, times, observe=lambda x: x,
    ...     observation=0.3, substeps=1, members=100, key=jax.random.key(2),
    ... )
    >>> all(abs(fit.estimate[name] - truth[name]) < 5 * fit.stderr[name] for name in truth)
    True
    """
    function_of("a dict of parameters")("model", model)
    names, point = started(start)
    key = typed_key(prng_key("key", key))
    options = {
        "observe": observe,
        "observation": observation,
        "substeps": substeps,
        "members": members,
        "method": method,
        "inflation": inflation,
        "solver": solver,
    }
    first = equation(model, names, point)
    # Everything that can be wrong is found here, outside of any compiled program.
    once = ensemble_kalman(first, law, ys, ts, key=key, **options)
    density = FilterLikelihood(
        model, law, jnp.asarray(ys, float), np.asarray(ts, float), key, options, names
    )

    def likelihood(values, key=key):
        named = {name: values[i] for i, name in enumerate(names)}
        return eqx.tree_at(lambda d: d.key, density, key)(named)

    best, fisher, _, found = maximum(likelihood, point)
    if not found:
        raise IdentifiabilityError(
            f"`ys` must determine {', '.join(names)}: the likelihood has no maximum near `start`. "
            "Start nearer to the truth, fix a parameter, or take more members."
        )
    inner = np.linalg.inv(fisher)
    others = jax.random.split(jax.random.fold_in(key, 1), _KEYS)
    slope = jax.jit(jax.jacfwd(likelihood))
    scores = np.stack([np.asarray(slope(jnp.asarray(best), one), float) for one in others])
    drawn = inner @ np.atleast_2d(np.cov(scores.T)) @ inner
    covariance = inner + drawn
    bound, errors = np.sqrt(np.diagonal(inner)), np.sqrt(np.diagonal(covariance))
    warnings = []
    if np.any(errors > 1.2 * bound):
        warnings.append(
            f"draws of the filter add {np.max(errors / bound) - 1:.0%} to a standard error: take "
            "more `members`."
        )
    at_best = ensemble_kalman(equation(model, names, best), law, ys, ts, key=key, **options)
    seen = int(jnp.sum(once.seen))
    return FitResult(
        estimate=dict(zip(names, map(float, best), strict=True)),
        covariance=covariance,
        fisher=fisher,
        bound=dict(zip(names, map(float, bound), strict=True)),
        method="ensemble Kalman filter",
        intervals=partial(normal, names, best, errors),
        density=density,
        dof_used=float(seen),
        dof_available=float(once.seen.size),
        steps_used=once.ts.size - 1,
        goodness={"innovations": at_best.consistency},
        warnings=tuple(warnings),
    )


def started(start: Any) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and values of the parameters to begin with, from the argument `start`."""
    if not isinstance(start, Mapping) or not start or not all(isinstance(k, str) for k in start):
        raise ValueError(f"`start` must be a dict of numbers by name; got {shown(start)}.")
    return tuple(start), np.array([real(f"start[{name!r}]", one) for name, one in start.items()])


def equation(model: Callable, names: tuple[str, ...], values: np.ndarray) -> SDE:
    """The equation of `model` at parameters; ValueError if it makes none."""
    with calling(
        "model", f"make an equation of a dict of {', '.join(names)}, the names of `start`"
    ):
        sde = model(dict(zip(names, map(jnp.asarray, values), strict=True)))
    return part(SDE, "a function of a dict to an `rqf_jax.SDE`")("model", sde)
