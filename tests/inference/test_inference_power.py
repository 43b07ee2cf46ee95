"""How often the goodness of a noise fit objects: to noise that it fits, and to other noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean

import rqf_jax as rqf
from rqf_jax.inference import fit_noise

pytestmark = pytest.mark.slow
TS, LAW = 0.01 * jnp.arange(41.0), rqf.laws.Uniform(4, 8)


def paths(noise, count, seed, law=LAW, ts=TS):
    sde = rqf.SDE(rqf.drifts.NoDrift(), noise, rqf.manifolds.Sphere())
    return rqf.simulate(sde, law, ts, substeps=4, members=count, key=jax.random.key(seed)).ys


@functools.cache
def isotropic_fits():
    return [fit_noise(y, TS) for y in paths(rqf.noises.IsotropicNoise(1.0, 0.0), 1000, 1)]


def scores(fits, line):
    return np.array([fit.goodness[line][1] for fit in fits])


@pytest.mark.parametrize("line", ["free directions", "in / out of span"])
def test_isotropic_noise_is_objected_to_as_often_as_the_level_says(line):
    z = scores(isotropic_fits(), line)
    assert 0.03 <= np.mean(np.abs(z) > 1.96) <= 0.07
    assert_mean(z * z, 1.0, bias=0.1)
    assert not any(fit.warnings for fit in isotropic_fits())


@pytest.mark.parametrize("noise", ["weak antisymmetric", "of tokens"])
def test_other_noise_is_found_on_one_path(noise):
    # By the ratio that isotropic noise exceeds one time in twenty.
    threshold = np.quantile([fit.null_ratio for fit in isotropic_fits()], 0.95)
    others = {
        "weak antisymmetric": rqf.noises.IsotropicNoise(1.0, 0.1),
        "of tokens": rqf.noises.TokenNoise(1.0),
    }
    ratios = np.array([fit_noise(y, TS).null_ratio for y in paths(others[noise], 1000, 2)])
    assert np.mean(ratios > threshold) >= 0.95


def anisotropic(low):
    factor = np.diag(np.sqrt(np.linspace(low, 2 - low, 8)))
    return rqf.noises.AnisotropicNoise(factor, factor)


def test_noise_that_prefers_directions_is_seen_on_ten_paths_and_isotropic_noise_is_not():
    def fits(noise):
        ys = paths(noise, 300, 3)
        return [fit_noise(ys[i : i + 10], TS, antisymmetric=True) for i in range(0, 300, 10)]

    clean = fits(rqf.noises.IsotropicNoise(1.0, 1.0))
    assert not any(fit.warnings for fit in clean)
    assert np.mean(np.abs(scores(clean, "scatter of steps")) > 1.96) < 0.05 + 3 * 0.04
    strong = fits(anisotropic(0.05))
    assert np.mean(scores(strong, "scatter of steps") > 3) > 0.9
    assert any("prefers directions" in warning for fit in strong for warning in fit.warnings)


def used_error(ys, ts):
    """(σ̂² - 1) over √(2/dof) with the freedom that was used, and whether 95 % hold the truth."""
    fits = [fit_noise(y, ts) for y in ys]
    z = [(fit.estimate["symmetric"] ** 2 - 1) / np.sqrt(2 / fit.dof_used) for fit in fits]
    return np.array(z), np.array([low < 1 < high for low, high in map(ends, fits)])


def ends(fit):
    return fit.interval()["symmetric"]


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_uneven_steps_and_missing_tokens_leave_the_error_of_what_is_used(missing):
    rng = np.random.default_rng(4)
    lengths = np.clip(np.exp(rng.normal(np.log(0.006), 0.8, 40)), 5e-4, 0.03)
    ts = jnp.asarray(np.concatenate([[0.0], np.cumsum(lengths)]))
    ys = np.array(paths(rqf.noises.IsotropicNoise(1.0, 0.0), 200, 5, rqf.laws.Uniform(5, 8), ts))
    ys[rng.random(ys.shape[:-1]) < missing] = np.nan
    z, inside = used_error(ys, ts)
    assert_mean(z, 0.0, scores=4)
    assert_mean(z * z, 1.0, bias=1.05**2 - 1, scores=4)
    assert_mean(inside, 0.95, bias=0.02, scores=3)
