"""The quasi-likelihood of the noise strengths, from whitened steps; pure functions of arrays.

Parameters are θ = (ln p,) or (ln p, ln r) with p = σ_s², r = σ_a².
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._linalg.jacobi import eigh
from ._steps import Steps

_NEWTON_STEPS = 25
_LONGEST = 0.7


def levy_floor(p, dt, dim: int):
    """r_eff = p² dt (n+2)/8: what symmetric noise looks like in directions that it leaves free.

    Two increments of Q do not commute, and their commutators are antisymmetric: over a step dt
    they have the variance of antisymmetric noise of this strength (derived; it is the number in
    `IsotropicNoise.log_flow` for h = dt).
    """
    return p * p * dt * (dim + 2) / 8


def deviance(theta: Float[Array, " parameters"], steps: Steps) -> Float[Array, "*steps"]:
    """-2 ln of the density of every step, up to a constant.

    The directions that symmetric noise leaves free have the variance (r + r_eff) dt; with σ_s alone
    they are not used, because r_eff is only the leading order of a non-normal number, but the mixed
    numbers are, with the floor in their variance so that it never vanishes.
    """
    w, dt = steps.whitened, steps.dt
    p = jnp.exp(theta[0])
    r = jnp.exp(theta[1]) if theta.size == 2 else jnp.zeros_like(p)
    free = r + levy_floor(p, dt, steps.dim)
    outside = (p + r) / 2
    total = w.n_s * theta[0] + w.q_s / (p * dt)
    total = total + w.n_o * jnp.log(outside) + w.q_o / (outside * dt)
    variance = p * w.w + free[..., None] * (1 - w.w)
    mixed = jnp.log(variance) + w.z**2 / (variance * dt[..., None])
    total = total + jnp.sum(jnp.where(w.mixed, mixed, 0.0), -1)
    if theta.size == 2:
        total = total + w.n_a * jnp.log(free) + w.q_a / (free * dt)
    return total


def scores(theta: Float[Array, " parameters"], steps: Steps) -> Float[Array, "*steps parameters"]:
    """The derivatives of ln density with respect to θ, step by step."""
    units = jnp.eye(theta.size, dtype=theta.dtype)

    def along(unit):
        return jax.jvp(lambda point: deviance(point, steps), (theta,), (unit,))[1]

    return -jnp.stack([along(unit) for unit in units], axis=-1) / 2


def information(
    theta: Float[Array, " parameters"], steps: Steps, floor: float = 1.0
) -> Float[Array, "parameters parameters"]:
    """The Fisher information about θ of all steps together: ½ Σ (∂ ln variance)².

    `floor` 0 leaves the Lévy floor out: the information of the law of first order.
    """
    w, dt = steps.whitened, steps.dt
    p = jnp.exp(theta[0])
    r = jnp.exp(theta[1]) if theta.size == 2 else jnp.zeros_like(p)
    eff = floor * levy_floor(p, dt, steps.dim)
    free = r + eff
    outside = jnp.stack([p, r]) / (p + r)
    variance = p * w.w + free[..., None] * (1 - w.w)
    safe = jnp.where(w.mixed, variance, 1.0)
    by_p = jnp.where(w.mixed, (p * w.w + 2 * eff[..., None] * (1 - w.w)) / safe, 0.0)
    by_r = jnp.where(w.mixed, r * (1 - w.w) / safe, 0.0)
    if theta.size == 1:
        return (total(w.n_s) + total(w.n_o) + total(by_p**2)).reshape(1, 1) / 2
    null_p, null_r = 2 * eff / free, r / free
    pp = total(w.n_s) + total(w.n_o) * outside[0] ** 2
    pp = pp + total(by_p**2) + total(w.n_a * null_p**2)
    rr = total(w.n_o) * outside[1] ** 2 + total(by_r**2) + total(w.n_a * null_r**2)
    pr = total(w.n_o) * outside[0] * outside[1]
    pr = pr + total(by_p * by_r) + total(w.n_a * null_p * null_r)
    return jnp.stack([jnp.stack([pp, pr]), jnp.stack([pr, rr])]) / 2


def start(steps: Steps, parameters: int) -> Float[Array, " parameters"]:
    """A first θ in closed form: without the mixed numbers, and less the floor."""
    w, dt = steps.whitened, steps.dt
    p = total((w.q_s + 2 * w.q_o) / dt) / jnp.maximum(total(w.n_s + w.n_o), 1.0)
    if parameters == 1:
        return jnp.log(p)[None]
    inside = total(w.q_s / dt) / jnp.maximum(total(w.n_s), 1.0)
    p = jnp.where(inside > 0, inside, p)
    count = jnp.maximum(total(w.n_a), 1.0)
    r = total(w.q_a / dt - w.n_a * levy_floor(p, dt, steps.dim)) / count
    other = 2 * total(w.q_o / dt) / jnp.maximum(total(w.n_o), 1.0) - p
    r = jnp.where(total(w.n_a) > 0, r, other)
    return jnp.log(jnp.stack([p, jnp.maximum(r, 0.01 * p)]))


def maximise(theta: Float[Array, " parameters"], steps: Steps) -> Float[Array, " parameters"]:
    """θ of the largest quasi-likelihood, by Newton's method with steps held at 0.7."""

    def objective(point):
        return total(deviance(point, steps)) / 2

    def move(state):
        point, _, number = state
        gradient, hessian = jax.grad(objective)(point), jax.hessian(objective)(point)
        # A direction of negative curvature is walked downhill all the same.
        values, vectors = eigh(hessian)
        curvature = jnp.maximum(jnp.abs(values), 1e-6 * jnp.max(jnp.abs(values)))
        step = vectors @ ((vectors.T @ gradient) / jnp.where(curvature > 0, curvature, 1.0))
        step = jnp.clip(step, -_LONGEST, _LONGEST)
        return point - step, jnp.max(jnp.abs(step)), number + 1

    def more(state):
        return (state[1] > 30 * jnp.finfo(theta.dtype).eps) & (state[2] < _NEWTON_STEPS)

    first = (theta, jnp.asarray(jnp.inf, theta.dtype), 0)
    return lax.while_loop(more, move, first)[0]


def without_mixed(steps: Steps) -> Steps:
    """The same steps with the mixed numbers left out: the `robust` estimator."""
    nothing = jnp.zeros_like(steps.whitened.mixed)
    return eqx.tree_at(lambda s: s.whitened.mixed, steps, nothing)


def total(values: Float[Array, "..."]) -> Float[Array, ""]:
    """The sum over all axes. Blocks first: one long sum in float32 loses digits."""
    flat = values.reshape(-1)
    block = 1024
    whole = flat.size // block * block
    if whole == 0:
        return jnp.sum(flat)
    # Without the barrier XLA would join the two sums into one.
    rows = lax.optimization_barrier(jnp.sum(flat[:whole].reshape(-1, block), axis=1))
    return jnp.sum(rows) + jnp.sum(flat[whole:])
