"""Posteriors of noise fits under samplers: calibrated ranks, and the time of draws.

A part of `calibration.py`. Strengths are drawn from a prior, a path of 4 tokens in dimension 8 and
40 steps from each pair, and all chains run in one vmap. Needs the extra `bayes`.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rqf_jax as rqf
from rqf_jax import inference

PRIOR = {"symmetric": (0.0, 0.3), "antisymmetric": (-0.5, 0.3)}
"""Mean and standard deviation of the normal law of every ln strength."""

MEANS, WIDTHS = np.array(list(PRIOR.values())).T


class Fits(NamedTuple):
    """ln of the true strengths, their estimates and covariances, and the densities, stacked."""

    truth: Any
    estimates: Any
    covariances: Any
    densities: Any

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the logarithms."""
        return np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))


def drawn(replicates: int) -> Fits:
    """Fits of paths whose strengths come from the prior."""
    keys = jax.random.split(jax.random.key(10), replicates)
    truth = MEANS + WIDTHS * jax.random.normal(jax.random.key(11), (replicates, len(PRIOR)))
    ts, law = 2e-4 * jnp.arange(41.0), rqf.laws.Uniform(4, 8)

    def path(logs, key):
        noise = rqf.noises.IsotropicNoise(*jnp.exp(logs))
        sde = rqf.SDE(rqf.drifts.NoDrift(), noise, rqf.manifolds.Sphere())
        return rqf.simulate(sde, law, ts, substeps=2, members=1, key=key).ys[0]

    fits = [
        inference.fit_noise(x, ts, antisymmetric=True) for x in jax.jit(jax.vmap(path))(truth, keys)
    ]
    estimates = jnp.log(jnp.asarray([list(fit.estimate.values()) for fit in fits]))
    covariances = jnp.asarray(
        [fit.covariance / np.outer(*[list(fit.estimate.values())] * 2) for fit in fits]
    )
    densities = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(f.log_density() for f in fits))
    return Fits(truth, estimates, covariances, densities)


def likelihood(density, logs):
    """The log likelihood at ln of the strengths."""
    return density({name: jnp.exp(logs[i]) for i, name in enumerate(PRIOR)})


def ranks(replicates: int, warm: int = 50, draws: int = 99, thin: int = 4):
    """Uniform numbers (replicates, strengths) from the ranks of the truth among draws of NUTS, the
    standard deviations of the draws over the standard errors of the fits, and the divergences."""
    import blackjax

    fits = drawn(replicates)

    def chain(density, start, covariance, key):
        def posterior(logs):
            return likelihood(density, logs) - jnp.sum(((logs - MEANS) / WIDTHS) ** 2) / 2

        sampler = blackjax.nuts(posterior, step_size=0.7, inverse_mass_matrix=covariance)

        def step(state, key):
            state, info = sampler.step(key, state)
            return state, (state.position, info.is_divergent)

        keys = jax.random.split(key, warm + thin * draws)
        return jax.lax.scan(step, sampler.init(start), keys)[1]

    keys = jax.random.split(jax.random.key(10), replicates)
    many = jax.jit(jax.vmap(chain))
    found, divergent = many(fits.densities, fits.estimates, fits.covariances, keys)
    found = np.asarray(found)[:, warm:]
    below = np.sum(found[:, ::thin] < np.asarray(fits.truth)[:, None], axis=1)
    jitter = np.random.default_rng(12).uniform(size=below.shape)
    return (below + jitter) / (draws + 1), found.std(1) / fits.errors, int(divergent.sum())


def calibrated(replicates: int) -> Iterator[str]:
    """One line a strength."""
    from arviz_stats.ecdf_utils import ecdf_pit

    yield "| strength | ranks and 95 % band | sd/stderr | divergences | time a replicate |"
    yield "|---|---|---|---|---|"
    start = time.perf_counter()
    uniform, widths, divergent = ranks(replicates)
    seconds = time.perf_counter() - start
    for i, name in enumerate(PRIOR):
        _, ecdf, low, high = ecdf_pit(uniform[:, i], 0.95, 1000)
        inside = "inside" if np.all((low <= ecdf) & (ecdf <= high)) else "**outside**"
        yield (
            f"| {name} | {inside} | {np.median(widths[:, i]):.3f} | {divergent} | "
            f"{1000 * seconds / replicates:.0f} ms |"
        )


def hamiltonian(fits: Fits, draws: int):
    """Draws (replicates, draws, strengths) of Hamiltonian Monte Carlo, which steps diverged, and
    the seconds of three more calls: a flat prior on logarithms, coordinates in which the normal
    approximation of the likelihood is standard, from its center. Two leaps of 0.8 a draw are a
    quarter of a period; half of one would turn a draw to its opposite, with the same square."""
    import blackjax

    def chain(density, center, covariance, key):
        factor = jnp.linalg.cholesky(covariance)
        sampler = blackjax.hmc(
            lambda u: likelihood(density, center + factor @ u),
            step_size=0.8,
            inverse_mass_matrix=jnp.ones(len(PRIOR)),
            num_integration_steps=2,
        )

        def step(state, key):
            state, info = sampler.step(key, state)
            return state, (center + factor @ state.position, info.is_divergent)

        first = sampler.init(jnp.zeros(len(PRIOR)))
        return jax.lax.scan(step, first, jax.random.split(key, draws))[1]

    keys = jax.random.split(jax.random.key(13), len(fits.truth))
    program = jax.jit(jax.vmap(chain))
    many = program.lower(fits.densities, fits.estimates, fits.covariances, keys).compile()
    found, divergent = many(fits.densities, fits.estimates, fits.covariances, keys)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(many(fits.densities, fits.estimates, fits.covariances, keys))
        seconds.append(time.perf_counter() - start)
    return np.asarray(found), np.asarray(divergent), seconds


def timed(replicates: int, draws: int = 500) -> Iterator[str]:
    """One line a strength."""
    yield f"| strength | sd/stderr | divergences | {draws} draws of a path | fastest of three |"
    yield "|---|---|---|---|---|"
    fits = drawn(replicates)
    found, divergent, seconds = hamiltonian(fits, draws)
    widths = np.median(found[:, draws // 10 :].std(1) / fits.errors, axis=0)
    middle, least = (f"{1000 * f(seconds) / replicates:.2f} ms" for f in (np.median, min))
    for name, width in zip(PRIOR, widths, strict=True):
        yield f"| {name} | {width:.3f} | {divergent.sum()} | {middle} | {least} |"
