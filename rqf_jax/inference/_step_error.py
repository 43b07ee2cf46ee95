"""The error of finite steps, removed by simulation.

Half-angle increments follow the normal law of `whitening` up to relative errors of order n p dt. A
long record has a statistical error far below that, so its quasi-likelihood estimate θ̂ would be
precise and wrong. The cure is that of indirect inference: θ solves

    Σ_k s(θ, step_k) = Σ_k E_θ[s(θ, step) | tokens at the start of step k]

where s is the score of the quasi-likelihood. The right side would be zero if the normal law were
exact; here it is the mean over simulated steps from the tokens that were observed, so that it is
exact for every dt, configuration and choice of tokens (Gallant & Tauchen 1996; Gouriéroux,
Monfort & Renault 1993; recalled). The exact normal numbers of the driving increments serve as
control variates. The draws come from a fixed key: a function of the data.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Key

from .._linalg.jacobi import inverse
from .._sde import SDE
from ..drifts import NoDrift
from ..manifolds import Sphere
from ..noises import IsotropicNoise
from ..solvers import ProjectiveFlow
from ._likelihood import scores, total, without_mixed
from ._steps import Steps, chosen, over_steps, threshold
from .increments import half_angle
from .whitening import whiten

_SUBSTEPS = 4
_NORMALS = 2**22
_MOST_ROUNDS = 6
_PROBE = 0.1

SHAPE = ("in_out", "in_out_variance", "scatter", "scatter_variance", "spread", "settled")
"""The names of the numbers in `Corrected.shape`."""


class Corrected(eqx.Module):
    """θ without the step error, and the covariance of its error.

    `covariance` holds the noise of the data and of the simulation; `shift` is θ less the
    quasi-likelihood estimate; `sample` are the steps simulated at θ, and `shape` what is named
    `SHAPE`: their ratios (see `_shape`), and whether θ had settled.
    """

    theta: Float[Array, " parameters"]
    covariance: Float[Array, "parameters parameters"]
    shift: Float[Array, " parameters"]
    sample: Steps
    shape: Float[Array, " ratios"]


def sample_size(steps: int, dim: int) -> int:
    """How many steps to simulate: ten times those observed, within a budget of normals."""
    return max(16, min(max(10 * steps, 2048), _NORMALS // (_SUBSTEPS * dim * dim)))


def correct(
    theta: Float[Array, " parameters"],
    steps: Steps,
    starts: Float[Array, "sample tokens dim"],
    dt: Float[Array, " sample"],
    available: Bool[Array, "sample tokens"],
    p: Float[Array, ""],
    key: Key[Array, ""],
    *,
    robust: bool,
) -> Corrected:
    """Solve the equation above from the quasi-likelihood estimate `theta` on.

    `starts`, `dt`, `available`: a sample of the observed steps; `p` is the guess with which the
    tokens of `steps` were chosen. The `key` is an argument because of a constant one XLA would draw
    the numbers as it compiles, which takes longer than all the rest.
    """
    observed = without_mixed(steps) if robust else steps
    number = jnp.asarray(steps.dt.size, theta.dtype)
    sample, _, dim = starts.shape
    least = jax.vmap(lambda h: threshold(p, h, dim))(dt)
    x, _, active = jax.vmap(chosen)(starts, starts, least, available)
    normals = jax.random.normal(key, (sample, _SUBSTEPS, dim, dim), x.dtype)
    draw = over_steps(_simulated_step, dim)

    def simulated(point):
        """Mean score, covariances of the mean and of one score, the steps and their shape."""
        many = jnp.broadcast_to(point, (sample, point.size))
        whitened, exact = draw(normals, x, active, dt, many)
        moved = Steps(whitened, dt, dim)
        score = scores(point, without_mixed(moved) if robust else moved)
        ridge = 1e-6 * jnp.eye(exact.shape[-1], dtype=exact.dtype)
        centred = score - jnp.mean(score, 0, keepdims=True)
        slopes = inverse(_gram(exact, exact) + ridge) @ _gram(exact, centred)
        rest = score - exact @ slopes
        mean = jnp.mean(rest, 0)
        spread = _gram(rest - mean[None], rest - mean[None]) / rest.shape[0]
        single = _gram(score, score) - jnp.outer(mean, mean)
        return mean, spread, single, (moved, _shape(point, moved, exact))

    def mismatch(point):
        """Observed less simulated score, its covariance from simulation, and from the data."""
        mean, spread, single, moved = simulated(point)
        data = jnp.stack([total(part) for part in jnp.moveaxis(scores(point, observed), -1, 0)])
        return data - number * mean, number**2 * spread, number * single, moved

    unit = jnp.eye(theta.size, dtype=theta.dtype)
    probes = _PROBE * jnp.concatenate([jnp.zeros_like(unit[:1]), unit])

    def move(state):
        # The simulation is compiled once, so the slopes are found along with the value.
        point, _, _, _, rounds = state
        value, spread, single, moved = lax.map(mismatch, point[None] + probes)
        slope = inverse((value[1:] - value[:1]).T / _PROBE)
        step = -slope @ value[0]
        covariance = slope @ (spread[0] + single[0]) @ slope.T
        small = jnp.all(jnp.abs(step) < 0.1 * jnp.sqrt(jnp.diagonal(covariance)))
        here = jax.tree.map(lambda leaf: leaf[0], moved)
        return point + jnp.clip(step, -1.0, 1.0), covariance, here, small, rounds + 1

    def more(state):
        return ~state[3] & (state[4] < _MOST_ROUNDS)

    shapes = jax.eval_shape(lambda point: simulated(point)[3], theta)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    first = (theta, jnp.zeros_like(unit), nothing, jnp.asarray(False), 0)
    point, covariance, (moved, shape), settled, _ = lax.while_loop(more, move, first)
    shape = jnp.append(shape, settled.astype(shape.dtype))
    return Corrected(point, covariance, point - theta, moved, shape)


def _gram(a, b):
    """The mean of the outer products of the rows."""
    return jnp.matmul(a.T, b, precision="highest") / a.shape[0]


def _simulated_step(normals, x, active, dt, theta):
    """One step from the tokens x at θ: whitened, and the exact centred χ² of its noise."""
    strengths, silent = jnp.exp(theta / 2), jnp.zeros((), theta.dtype)
    noise = IsotropicNoise(strengths[0], strengths[1] if theta.size == 2 else silent)
    sde, h = SDE(NoDrift(), noise, Sphere()), dt / _SUBSTEPS
    flow = ProjectiveFlow(level=1)

    def advance(y, normal):
        return flow.advance(sde, silent, h, y, normal * jnp.sqrt(h)), None

    y = lax.scan(advance, x, normals)[0]
    # Tokens that do not count must not move, or the midpoint could vanish.
    y = jnp.where(active[:, None], y, x)
    middle, increment = half_angle(x, y)
    first = Sphere().tangent(x, noise(silent, x, jnp.sum(normals, 0) * jnp.sqrt(h)))
    both = jax.vmap(whiten, (0, 0, None))(
        jnp.stack([middle, x]), jnp.stack([increment, first]), active
    )
    step, linear = (jax.tree.map(lambda leaf, i=i: leaf[i], both) for i in range(2))
    p, r = jnp.exp(theta[0]), jnp.exp(theta[1]) if theta.size == 2 else silent
    exact = [linear.q_s / (p * dt) - linear.n_s, 2 * linear.q_o / ((p + r) * dt) - linear.n_o]
    if theta.size == 2:
        exact.append(linear.q_a / (r * dt) - linear.n_a)
    return step, jnp.stack(exact)


def _shape(theta, steps: Steps, exact) -> Float[Array, " ratios"]:
    """Ratios of simulated steps that are 1 for short ones, with the variances of these means, and
    the variance of the scatter of one step.

    They are the mean q_s/(n_s p dt) over the mean 2 q_o/(n_o (p+r) dt), and the mean (y - d)²/2d
    with y = q_s/(p dt) + 2 q_o/((p+r) dt) of d degrees of freedom. The `exact` numbers of the same
    normals have means that are known, so that only what differs from them is left to chance.
    """
    w, dt = steps.whitened, steps.dt
    p = jnp.exp(theta[0])
    outer = (p + jnp.exp(theta[1]) if theta.size == 2 else p) / 2
    inside, outside = w.q_s / (p * dt), w.q_o / (outer * dt)
    dof = w.n_s + w.n_o
    count = jnp.maximum(total((dof > 0).astype(dt.dtype)), 1.0)

    def mean(values):
        return total(values) / count

    each = 2 * jnp.maximum(dof, 1.0)
    square = (inside + outside - dof) ** 2 / each
    surplus = square - (exact[:, 0] + exact[:, 1]) ** 2 / each
    within, without = inside - exact[:, 0], outside - exact[:, 1]
    ratio = mean(within) / mean(w.n_s) / (mean(without) / mean(w.n_o))
    difference = within / mean(within) - without / mean(without)
    return jnp.stack(
        [
            ratio,
            ratio**2 * mean(difference**2) / count,
            1 + mean(surplus),
            (mean(surplus**2) - mean(surplus) ** 2) / count,
            mean(square**2) - mean(square) ** 2,
        ]
    )
