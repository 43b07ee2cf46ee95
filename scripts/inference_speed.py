"""Speed of the closed-form fit beside a dense Gaussian likelihood and a gradient fit.

    python scripts/inference_speed.py [--rounds 5]

One path of σ_s = 1, 40 steps. The dense likelihood has the covariance of all increments as a
matrix, with a jitter where it is singular, and Adam on ln σ_s²; the gradient fit follows the mean
squared distance from the start through the solver, 32 members on common random numbers. Steps are
short enough that the closed form has no step error to simulate, but in the last row, which has.
Prints a markdown table; times are medians over rounds after compilation, the fastest in brackets.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from accuracy import device_name, table, versions
from jaxtyping import Array, Float
from racing import goal

import rqf_jax as rqf
from rqf_jax.inference import fit_noise, half_angle

STEPS, UPDATES = 40, 150
SHORT, LONG = 2e-4, 0.01


class Distance(eqx.Module):
    """The mean squared distance of the tokens from `start`."""

    start: Float[Array, "tokens dim"]

    def __call__(self, x: Float[Array, "tokens dim"]) -> Float[Array, ""]:
        """Of one state."""
        return jnp.mean(jnp.sum((x - self.start) ** 2, -1))


def path(tokens: int, dim: int, dt: float, seed: int = 0):
    """One path and its times."""
    sde, law = rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(tokens, dim)
    ts, key = dt * jnp.arange(STEPS + 1.0), jax.random.key(seed)
    return rqf.simulate(sde, law, ts, substeps=2, members=1, key=key).ys[0], ts


def covariance(x):
    """Of the increments of all tokens at x, for σ_s² dt = 1: the formula of `whitening`, dense."""
    gram, tangent = x @ x.T, jnp.eye(x.shape[1]) - x[:, :, None] * x[:, None, :]
    seen = jnp.einsum("aij,bj->abi", tangent, x)
    alike = jnp.einsum("ab,aij,bjk->aibk", gram, tangent, tangent)
    return (alike + jnp.einsum("abi,baj->aibj", seen, seen)).reshape(x.size, x.size) / 2


@jax.jit
def dense(ys, ts):
    """σ_s by Adam on the likelihood with a Cholesky factorisation a step."""
    middle, moved = jax.vmap(half_angle)(ys[:-1], ys[1:])
    shapes, dt = jax.vmap(covariance)(middle), jnp.diff(ts)
    moved = moved.reshape(STEPS, -1)
    jitter = 1e-3 * jnp.eye(moved.shape[1])

    def loss(theta):
        factor = jnp.linalg.cholesky(dt[:, None, None] * (jnp.exp(theta) * shapes + jitter))
        scaled = jax.scipy.linalg.solve_triangular(factor, moved[..., None], lower=True)
        logs = jnp.log(jnp.diagonal(factor, axis1=1, axis2=2))
        return jnp.sum(logs) + jnp.sum(scaled**2) / 2

    optimizer, theta = optax.adam(0.05), jnp.asarray(jnp.log(0.5))

    def update(carry, _):
        theta, state = carry
        step, state = optimizer.update(jax.grad(loss)(theta), state)
        return (theta + step, state), None

    (theta, _), _ = jax.lax.scan(update, (theta, optimizer.init(theta)), length=UPDATES)
    return jnp.exp(theta / 2)


def by_gradients(ys, ts):
    """σ_s by `rqf.fit` of a simulated moment."""
    distance = Distance(ys[0])
    target = jax.vmap(distance)(ys)
    loss = rqf.losses.SimulatedMoments(
        rqf.laws.Fixed(ys[0]), ts, target, distance, substeps=1, members=32
    )
    start = rqf.models.random_quadratic_form(0.7)
    where, key = (lambda s: s.noise.symmetric), jax.random.key(1)
    return rqf.fit(start, loss, where=where, steps=UPDATES, key=key).sde.noise.symmetric


def closed_form(ys, ts):
    """σ_s by `fit_noise`, with its error, interval and checks."""
    return fit_noise(ys, ts).estimate["symmetric"]


def seconds(call: Callable, arguments: tuple, rounds: int) -> tuple[float, list[float]]:
    """The estimate, and seconds of every round after the first."""
    found, times = float(call(*arguments)), []
    for _ in range(rounds):
        start = time.perf_counter()
        float(call(*arguments))
        times.append(time.perf_counter() - start)
    return found, times


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    load = os.getloadavg()[0]
    few = path(4, 8, SHORT)
    ways = [
        ("fit_noise", (4, 8), closed_form, few),
        ("dense likelihood", (4, 8), dense, few),
        ("gradient fit", (4, 8), by_gradients, few),
        ("fit_noise", (64, 512), closed_form, path(64, 512, 3e-7)),
        ("fit_noise, step error simulated", (4, 8), closed_form, path(4, 8, LONG)),
    ]
    rows, reference = [], None
    for name, size, call, data in ways:
        found, times = seconds(call, data, options.rounds)
        median = statistics.median(times)
        reference = median if reference is None else reference
        rows.append(
            [
                name,
                str(size),
                f"{found:.3f}",
                f"{1e3 * median:.3g} ({1e3 * min(times):.3g})",
                f"{1e3 * median / STEPS:.3g}",
                f"{median / reference:.3g}",
            ]
        )
    print(f"{device_name()}, load average {load:.1f}; {versions()}; float64, {STEPS} steps.\n")
    print(table(["fit", "(tokens, dim)", "σ_s", "ms", "ms a step", "times the first"], rows))
    factors = [goal(f"{row[0]} / fit_noise", 100, float(row[5])) for row in rows[1:3]]
    print("\n" + table(["goal", "at least", "measured", "reached"], factors))


if __name__ == "__main__":
    main()
