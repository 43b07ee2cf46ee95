"""Losses of gradient fits: functions of an equation and a key, for `rqf_jax.fit`.

The mean squared distance between simulated and observed paths is not among them: it is least
without noise, whatever the noise of the data.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._arguments import finite, function_of, integer, is_concrete, maybe, part, scalar
from ._ensemble.members import whole_state
from ._ensemble.simulate import simulate
from ._ensemble.times import SaveTimes
from ._ensemble.trajectories import Trajectories
from ._ensemble.validity import taking
from ._sde import SDE, in_dtype
from .laws import AbstractLaw
from .manifolds import Euclidean, Hermitian

__all__ = [
    "MaximumMeanDiscrepancy",
    "SimulatedMoments",
    "TransitionLikelihood",
    "causal_weights",
]


def __dir__() -> list[str]:
    return __all__


SOLVER = "a solver of `rqf_jax.solvers` or diffrax"


class SimulatedMoments(eqx.Module):
    """The distance of means of simulated members from observed ones.

        mean over times and components of (( m(sde) - target ) / stderr)²

    m is the mean of `observable` over simulated members. To match second moments, return them from
    `observable`. The members are the same at every step of a fit; they add about 1/`members` to the
    variance of an estimate as one observed member would.

    **Arguments**

    - `law`: the law of the initial states, and `ts` (times,): the save times.
    - `target`: (times, *observable), such as the mean over the members of a data set.
    - `observable`: a function of one state; the state itself by default.
    - `substeps`, `members`, `solver`: as of `simulate`.
    - `stderr`: the standard error of `target`, a number > 0 or an array like it.

    **Raises** ValueError for targets of another shape or not finite and errors that are not
    positive.

    **Example**

    >>> loss = rqf.losses.SimulatedMoments(
    ...     rqf.laws.Pair(1.0, 3), [0.0, 0.1], jnp.ones((2, 1)), rqf.observables.overlaps,
    ...     substeps=2, members=10,
    ... )
    >>> loss(rqf.models.random_quadratic_form(1.0), jax.random.key(0)).shape
    ()
    """

    law: AbstractLaw
    times: SaveTimes
    target: Float[Array, "times *observable"]
    observable: Callable
    stderr: Float[Array, "..."]
    substeps: int = eqx.field(static=True)
    members: int = eqx.field(static=True)
    solver: diffrax.AbstractSolver | None

    def __init__(
        self,
        law: AbstractLaw,
        ts: Any,
        target: Any,
        observable: Callable = whole_state,
        *,
        substeps: int,
        members: int,
        stderr: Any = 1.0,
        solver: diffrax.AbstractSolver | None = None,
    ):
        self.law, self.observable = law, observable
        self.solver = maybe(part(diffrax.AbstractSolver, SOLVER))("solver", solver)
        self.times = SaveTimes.of(ts)
        self.target, self.stderr = finite("target", target), finite("stderr", stderr)
        self.substeps, self.members = integer("substeps", substeps), integer("members", members)
        shape = _observed_shape(law, self.times, observable)
        if self.target.shape != shape:
            raise ValueError(
                f"`target` must have the shape of `observable` at all `ts`, {shape}; got "
                f"{self.target.shape}."
            )
        if self.stderr.shape not in ((), shape):
            raise ValueError(f"`stderr` must be a number or have shape {shape}; got {stderr!r}.")
        if is_concrete(self.stderr) and not np.all(np.asarray(self.stderr) > 0):
            raise ValueError(f"`stderr` must be positive; got {np.min(self.stderr)}.")

    def __call__(self, sde: SDE, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean squared distance, in standard errors if `stderr` was given."""
        ys = _ensemble(self, sde, key)
        distance = jnp.mean(ys, 0) - self.target.astype(ys.dtype)
        return jnp.mean((distance / self.stderr.astype(ys.dtype)) ** 2)


class MaximumMeanDiscrepancy(eqx.Module):
    """The distance of the law of simulated members from the law of observed ones.

        MMD² = E k(X, X') + E k(Y, Y') - 2 E k(X, Y),   k(a, b) = exp(-|a - b|²/(2 ℓ²))

    X are simulated, Y observed: values of `observable` at all times, laid end to end. The estimate
    leaves out k(X, X) and is unbiased, so it may be negative. The cost is quadratic in the number
    of members.

    **Arguments**

    - `law`: the law of the initial states, and `ts` (times,): the save times.
    - `samples`: (observed members, times, *observable), whose start has the law `law`.
    - `observable`: a function of one state; the state itself by default.
    - `substeps`, `members`, `solver`: as of `simulate`.
    - `bandwidth`: ℓ > 0; by default ℓ² is half the median squared distance of samples.

    **Raises** ValueError for samples of another shape or not finite, fewer than two samples or
    members, samples that are all the same, and a bandwidth that is not positive.

    **Example**

    >>> sde, law = rqf.models.random_quadratic_form(1.0), rqf.laws.Pair(1.0, 3)
    >>> runs = rqf.simulate(
    ...     sde, law, [0.0, 0.1], substeps=2, members=10, key=jax.random.key(1),
    ...     save=rqf.observables.overlaps,
    ... )
    >>> loss = rqf.losses.MaximumMeanDiscrepancy(
    ...     law, runs.ts, runs.ys, rqf.observables.overlaps, substeps=2, members=10
    ... )
    >>> loss(sde, jax.random.key(0)).shape
    ()

    Source: Gretton et al., JMLR 13 (2012) 723, eq. (3) (recalled).
    """

    law: AbstractLaw
    times: SaveTimes
    samples: Float[Array, "samples times *observable"]
    observable: Callable
    bandwidth: Float[Array, ""]
    substeps: int = eqx.field(static=True)
    members: int = eqx.field(static=True)
    solver: diffrax.AbstractSolver | None

    def __init__(
        self,
        law: AbstractLaw,
        ts: Any,
        samples: Any,
        observable: Callable = whole_state,
        *,
        substeps: int,
        members: int,
        bandwidth: Any = None,
        solver: diffrax.AbstractSolver | None = None,
    ):
        self.law, self.observable = law, observable
        self.solver = maybe(part(diffrax.AbstractSolver, SOLVER))("solver", solver)
        self.times, self.samples = SaveTimes.of(ts), finite("samples", samples)
        self.substeps = integer("substeps", substeps)
        self.members = integer("members", members, minimum=2)
        shape = _observed_shape(law, self.times, observable)
        if self.samples.shape[1:] != shape or self.samples.shape[0] < 2:
            raise ValueError(
                "`samples` must have at least 2 members and the shape that `law`, `ts` and "
                f"`observable` make, (members, *{shape}); got {self.samples.shape}."
            )
        if bandwidth is None:
            flat = _flat(self.samples)
            rows, columns = np.triu_indices(len(flat), 1)
            bandwidth = jnp.sqrt(jnp.median(_squares(flat, flat)[rows, columns]) / 2)
        self.bandwidth = scalar("bandwidth")(bandwidth)
        if is_concrete(self.bandwidth) and not float(self.bandwidth) > 0:
            raise ValueError(f"`bandwidth` must be positive; got {float(self.bandwidth):g}.")

    def __call__(self, sde: SDE, key: PRNGKeyArray) -> Float[Array, ""]:
        """MMD², estimated without bias."""
        ys = _ensemble(self, sde, key)
        x, y = _flat(ys), _flat(self.samples.astype(ys.dtype))
        scale = 2 * self.bandwidth.astype(ys.dtype) ** 2

        def among(a):
            count = len(a)
            return (jnp.sum(jnp.exp(-_squares(a, a) / scale)) - count) / (count * (count - 1))

        return among(x) + among(y) - 2 * jnp.mean(jnp.exp(-_squares(x, y) / scale))


class TransitionLikelihood(eqx.Module):
    """Minus the mean log density of observed steps of an equation in flat space.

    Every step has the Gaussian law of the equation linearised at its start: exact for linear drifts
    with additive noise and any step length, with an error of O(h) of the parameters otherwise. The
    noise must move every entry of a state. States are small: the cost is cubic in their size.
    `runs` are `Trajectories` of whole states, or an array (members, times, *state) with `ts`.

    With J the Jacobian of the Itô drift b, C = g gᵀ and a step of length h,
    the mean is x + ∫_0^h e^(Js) b ds and the covariance ∫_0^h e^(Js) C e^(Jᵀs) ds.

    Raises ValueError for data of a wrong shape or not finite, times that do not increase and, when
    called, for equations on curved spaces, where noise common to all tokens has no density (use
    `inference.fit_noise`), and of symmetric matrices (use `inference.fit_matrix_ou`).
    Source: Ozaki, Statistica Sinica 2 (1992) 113, whose local linearisation this is, without the
    second-order Itô term of Shoji & Ozaki, Stoch. Anal. Appl. 16 (1998) 733; Van Loan, IEEE TAC 23
    (1978) 395 (recalled).
    """

    times: SaveTimes
    ys: Float[Array, "members times *state"]

    def __init__(self, runs: Any, ts: Any = None):
        if isinstance(runs, Trajectories):
            if ts is not None:
                raise ValueError(
                    "`ts` must be left out for `Trajectories`, which know their times."
                )
            runs, ts = runs.ys, runs.ts
        elif ts is None:
            raise ValueError("`ts` must be given with an array: steps may be of any length.")
        self.times, self.ys = SaveTimes.of(ts), finite("runs", runs)
        count = self.times.intervals + 1
        if self.ys.ndim < 3 or self.ys.shape[1] != count:
            raise ValueError(
                "`runs` must have shape (members, times, *state) with the times `ts`; got "
                f"{self.ys.shape} for `ts` of {count} times."
            )

    def __call__(self, sde: SDE, key: PRNGKeyArray) -> Float[Array, ""]:
        """Minus the mean log density of a step; `key` is not used."""
        if not isinstance(sde.manifold, Euclidean | Hermitian):
            raise ValueError(
                "`TransitionLikelihood` is for equations in flat space whose noise has a density; "
                f"got one on {type(sde.manifold).__name__}. See `rqf_jax.inference`."
            )
        sde, times = in_dtype(sde, self.ys.dtype), self.times.astype(self.ys.dtype)
        t, h = times.at[:-1], times.lengths
        over_steps = jax.vmap(lambda *a: _log_density(sde, *a))
        over_members = jax.vmap(over_steps, in_axes=(None, None, 0, 0))
        return -jnp.mean(over_members(t, h, self.ys[:, :-1], self.ys[:, 1:]))


def _log_density(sde: SDE, t, h, x, y) -> Float[Array, ""]:
    """ln of the density of a step from `x` at `t` to `y` at t + h."""
    shape, size = x.shape, x.size
    noise = sde.noise.shape(x)
    numbers = int(np.prod(noise))
    units = jnp.eye(numbers, dtype=x.dtype).reshape(numbers, *noise)

    def columns(state):
        return jax.vmap(lambda unit: sde.noise(t, state.reshape(shape), unit).ravel())(units)

    def ito(state):
        # The Stratonovich correction ½ Σ_k (∂ g_k) g_k, one directional derivative a column.
        def turned(unit, column):
            moved = jax.jvp(
                lambda s: sde.noise(t, s.reshape(shape), unit).ravel(), (state,), (column,)
            )
            return moved[1]

        drift = sde.drift(t, state.reshape(shape)).ravel()
        return drift + jnp.sum(jax.vmap(turned)(units, columns(state)), 0) / 2

    start = x.ravel()
    velocity, jacobian = ito(start), jax.jacfwd(ito)(start)
    g = columns(start)
    zero = jnp.zeros((size, size), x.dtype)
    # One exponential has both integrals in it (Van Loan).
    block = jnp.block([[-jacobian, jnp.matmul(g.T, g, precision="highest")], [zero, jacobian.T]])
    flow = jax.scipy.linalg.expm(block * h)
    forward = flow[size:, size:].T
    covariance = jnp.matmul(forward, flow[:size, size:], precision="highest")
    pushed = jnp.block([[jacobian, velocity[:, None]], [jnp.zeros((1, size + 1), x.dtype)]])
    mean = start + jax.scipy.linalg.expm(pushed * h)[:size, size]
    lower = jnp.linalg.cholesky((covariance + covariance.T) / 2)
    white = jax.scipy.linalg.solve_triangular(lower, y.ravel() - mean, lower=True)
    return -jnp.sum(white**2 + jnp.log(2 * jnp.pi)) / 2 - jnp.sum(jnp.log(jnp.diagonal(lower)))


def causal_weights(errors: Any, strictness: Any = 1.0) -> Float[Array, " times"]:
    """Weights of errors in time, by which later ones wait until earlier ones are small.

        w_i = exp(-ε Σ_{k<i} L_k)

    Along a path of many Lyapunov times the error at the end is a useless function of the parameters
    until the path before it is right. Minimise Σ w_i L_i: the first weight is always 1, and all
    are 1 once the path is fitted. They have no gradient of their own.

    `errors` (times,) are L_i ≥ 0, each in units of what is to count as small, and `strictness` is
    ε ≥ 0. Returns the weights. Raises ValueError for other shapes and numbers.

    **Example**

    >>> print(rqf.losses.causal_weights(jnp.array([0.0, 0.0, 2.0, 2.0])).round(4))
    [1.     1.     1.     0.1353]

    Source: Wang, Sankaran & Perdikaris, arXiv:2203.07404 (recalled).
    """
    values, factor = finite("errors", errors), scalar("strictness", minimum=0)(strictness)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"`errors` must have shape (times,); got shape {values.shape}.")
    if is_concrete(values) and bool(jnp.any(values < 0)):
        raise ValueError(f"`errors` must not be negative; got {float(jnp.min(values)):g}.")
    before = jnp.cumsum(values) - values
    return jax.lax.stop_gradient(jnp.exp(-factor.astype(values.dtype) * before))


def _ensemble(loss: Any, sde: SDE, key: PRNGKeyArray) -> Float[Array, "members times *observable"]:
    # A member that fails makes the loss NaN, which `fit` reports with its step.
    runs = simulate(
        sde,
        loss.law,
        loss.times,
        substeps=loss.substeps,
        members=loss.members,
        key=key,
        solver=loss.solver,
        save=loss.observable,
        throw=False,
    )
    return runs.ys


def _observed_shape(law: Any, times: SaveTimes, observable: Any) -> tuple[int, ...]:
    part(AbstractLaw)("law", law)
    function_of("one state")("observable", observable)
    state = eqx.filter_eval_shape(law, jax.random.key(0))
    with taking("observable", state):
        seen = eqx.filter_eval_shape(observable, state)
    if not isinstance(seen, jax.ShapeDtypeStruct) or not jnp.issubdtype(seen.dtype, jnp.floating):
        raise ValueError(f"`observable` must return one array of floats; got {seen}.")
    return (times.intervals + 1, *seen.shape)


def _flat(samples: Float[Array, "samples ..."]) -> Float[Array, "samples features"]:
    return samples.reshape(len(samples), -1)


def _squares(a: Float[Array, "a features"], b: Float[Array, "b features"]) -> Float[Array, "a b"]:
    """Squared distances, by products: a difference for every pair would be a large array."""
    inner = jnp.matmul(a, b.T, precision="highest")
    return jnp.sum(a * a, -1)[:, None] + jnp.sum(b * b, -1)[None, :] - 2 * inner


def __getattr__(name: str) -> Any:
    if name in {"PathMSE", "PathMeanSquaredError", "MSE", "MeanSquaredError"}:
        raise AttributeError(
            f"rqf_jax.losses has no {name}, on purpose: E|X - Y|² of independent paths is "
            "|E X - E Y|² + Var X + Var Y, so it is least where the simulated noise is zero. Use "
            "SimulatedMoments, MaximumMeanDiscrepancy or a likelihood."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
