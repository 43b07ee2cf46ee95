"""Posteriors: the likelihood of a fit under a sampler, against what is known of it."""

import functools
import importlib
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from _ensembles import isotropic

import rqf_jax as rqf
from rqf_jax.inference import fit_noise

PAGE = (Path(__file__).parents[2] / "docs" / "inference.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```python\n(import blackjax\n.*?)```", PAGE, re.DOTALL)


@functools.cache
def runs(members=1):
    return rqf.simulate(
        isotropic(1.0),
        rqf.laws.Uniform(4, 8),
        2e-4 * jnp.arange(41.0),
        substeps=2,
        members=members,
        key=jax.random.key(0),
    )


@pytest.mark.slow
def test_the_interval_is_that_of_the_posterior_with_a_flat_prior():
    # P19: the posterior of the robust likelihood is an inverse gamma law.
    fit = fit_noise(runs(), method="robust")
    center, width = math.log(fit.estimate["symmetric"]), fit.stderr["symmetric"]
    logs = np.linspace(center - 12 * width, center + 12 * width, 20_001)
    density = jax.jit(jax.vmap(fit.log_density()))({"symmetric": jnp.exp(logs)})
    mass = np.exp(np.asarray(density) - np.max(density))
    below = np.concatenate([[0.0], np.cumsum((mass[1:] + mass[:-1]) / 2)])
    low, high = fit.interval(0.9)["symmetric"]
    found = np.interp([math.log(low), math.log(high)], logs, below / below[-1])
    np.testing.assert_allclose(found, [0.05, 0.95], atol=1e-6)


@pytest.mark.slow
def test_densities_of_many_fits_are_one_program():
    fits = [fit_noise(path, runs(3).ts) for path in runs(3).ys]
    densities = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(f.log_density() for f in fits))
    point = {"symmetric": jnp.asarray(1.1)}
    together = jax.vmap(lambda density: density(point))(densities)
    np.testing.assert_allclose(together, [f.log_density()(point) for f in fits], rtol=1e-12)


@pytest.mark.slow
def test_the_draws_of_the_page_are_those_of_the_closed_form():
    from arviz_stats.base import array_stats

    page = {}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(EXAMPLE, page)
    draws, fit = np.asarray(page["draws"]), page["fit"]
    assert draws.shape == (4, 1000) and not np.any(page["divergent"])
    assert array_stats.rhat(draws) < 1.01 and array_stats.ess(draws) > 1000
    # ν σ̂²/σ² is χ²: mean and variance of its logarithm.
    dof = fit.dof_used
    mean = math.log(fit.estimate["symmetric"])
    mean += (math.log(dof / 2) - scipy.special.digamma(dof / 2)) / 2
    spread = math.sqrt(scipy.special.polygamma(1, dof / 2)) / 2
    assert abs(draws.mean() - mean) < 5 * array_stats.mcse(draws)
    assert abs(draws.std() - spread) < 5 * array_stats.mcse(draws, method="sd")
    low, high = fit.interval()["symmetric"]
    inside = (draws > math.log(low)) & (draws < math.log(high))
    size = array_stats.ess(inside.astype(float), method="mean")
    assert abs(inside.mean() - 0.95) < 5 * math.sqrt(0.95 * 0.05 / size)


@pytest.mark.slow
def test_draws_spread_by_the_standard_errors_and_do_not_diverge(monkeypatch):
    # 500 draws of Hamiltonian Monte Carlo for two strengths of 60 paths; 1000 degrees of freedom.
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    posteriors = importlib.import_module("posteriors")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        fits = posteriors.drawn(60)
        draws, divergent, _ = posteriors.hamiltonian(fits, 500)
    assert draws.shape == (60, 500, 2) and not divergent.any()
    ratios = draws[:, 50:].std(1) / fits.errors
    np.testing.assert_allclose(np.median(ratios, 0), 1.0, atol=0.05)
