"""The noise that drove a path, as far as its tokens have felt it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import scalar
from ._data import in_own_precision, observed
from ._likelihood import levy_floor
from ._steps import chosen, over_steps, threshold
from .increments import half_angle
from .noise import fit_noise
from .whitening import Whitened, whiten


class DrivingNoise(eqx.Module):
    """`increments` of σ_s Q in every step, and how far they can be trusted.

    `error` is the relative root mean square error in the directions that the tokens feel: of
    those, √(1 - E|recovered|²/E|driven|²). `seen` is their share of the n(n+1)/2 directions of a
    symmetric matrix. Steps without tokens have zero increments, an error of 1 and nothing seen.
    """

    increments: Float[Array, "members steps dim dim"]
    error: Float[Array, "members steps"]
    seen: Float[Array, "members steps"]


@in_own_precision
def recover_noise(
    runs: Any,
    times: Any = None,
    *,
    symmetric: Any = None,
    mask: Any = None,
    normalise: str = "raise",
) -> DrivingNoise:
    """The increments of σ_s Q in dX_a = -σ_s P_{X_a} ∂Q X_a, given a path of the tokens.

        E[σ_s ΔQ | V] = -σ_s² dt J* C⁻¹ V,   J* λ = Σ_a (λ_a x_aᵀ + x_a λ_aᵀ)/2

    with V the half-angle increments and C their covariance with the Lévy floor in it: the
    minimum-norm noise that moves the tokens so, except that directions in which the commutators of
    the noise drown it are shrunk. The error is about √(σ_s² dt (n+2)/8), because the path shows its
    ends and not the area between them; directions that the tokens do not feel stay zero.

    **Arguments**

    - `runs`: `Trajectories` of whole states, or an array ([members,] times, tokens, dim); `times`:
      (times,), strictly increasing, if `runs` is an array.
    - `mask`: (members, times, tokens) or what broadcasts to it, False where a token is missing.
    - `normalise`: "raise" for tokens that are not of length 1, to 1e-3, or "project" them.
    - `symmetric`: σ_s > 0, by default that of `fit_noise`.

    **Returns** a `DrivingNoise` (members · steps · dim² numbers).

    **Raises** ValueError as `fit_noise`
    does, and unless σ_s > 0. Source: derived for this library (see `inference.whitening`).

    **Example**

    >>> sde, law = rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(3, 4)
    >>> ts, key = np.linspace(0.0, 0.4, 21), jax.random.key(0)
    >>> runs = rqf.simulate(sde, law, ts, substeps=2, members=20, key=key)
    >>> rqf.inference.recover_noise(runs, symmetric=1.0).increments.shape
    (20, 20, 4, 4)
    """
    data = observed(runs, times, mask, normalise)
    if symmetric is None:
        fit = fit_noise(runs, times, mask=mask, normalise=normalise)
        symmetric = fit.estimate["symmetric"]
    sigma = scalar("symmetric", minimum=0)(symmetric).astype(data.xs.dtype)
    if not float(sigma) > 0:
        raise ValueError(f"`symmetric` must be positive; got {float(sigma):g}.")
    return _recovered(data.xs, data.dt, data.mask, sigma**2)


@eqx.filter_jit
def _recovered(xs, dt, mask, p) -> DrivingNoise:
    members, times, tokens, dim = xs.shape
    size = members * (times - 1)
    both = jnp.ones((members, times - 1, tokens), bool)
    if mask is not None:
        both = mask[:, :-1] & mask[:, 1:]

    def recover(x, y, h, available):
        x, y, active = chosen(x, y, threshold(p, h, dim), available)
        middle, moved = half_angle(x, y)
        floor = levy_floor(p, h, dim)

        def quadratic(v) -> tuple[Float[Array, ""], Whitened]:
            w = whiten(middle, v, active)
            mixed = p * w.w + floor * (1 - w.w)
            value = w.q_s / p + 2 * w.q_o / (p + floor) + w.q_a / floor
            return (value + jnp.sum(jnp.where(w.mixed, w.z**2 / mixed, 0.0))) / 2, w

        force, w = jax.grad(quadratic, has_aux=True)(moved)
        force = jnp.where(active[:, None], force, 0.0)
        half = jnp.matmul(force.T, middle, precision="highest")
        shares = p * w.w / (p * w.w + floor * (1 - w.w))
        known = w.n_s + w.n_o * p / (p + floor) + jnp.sum(jnp.where(w.mixed, shares, 0.0))
        error = jnp.sqrt(1 - known / jnp.maximum(w.dof, 1.0))
        return -p * (half + half.T) / 2, error, w.dof / (dim * (dim + 1) / 2)

    x, y = (part.reshape(size, tokens, dim) for part in (xs[:, :-1], xs[:, 1:]))
    lengths = jnp.broadcast_to(dt, (members, times - 1)).reshape(size)
    found = over_steps(recover, dim)(x, y, lengths, both.reshape(size, tokens))
    return DrivingNoise(*(part.reshape(members, times - 1, *part.shape[1:]) for part in found))
