"""Data of float64 keep their digits where the library's default is float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rqf_jax import analysis
from rqf_jax._ensemble.trajectories import Trajectories


@pytest.fixture
def single():
    with jax.enable_x64(False):
        yield


def spectra(members=40, n=60):
    x = np.random.default_rng(0).normal(size=(members, n, n))
    return np.linalg.eigvalsh((x + x.mT) / 2)


@pytest.mark.parametrize("offset", [1e4, 1e6, 1e8])
def test_an_offset_of_levels_changes_no_statistic(single, offset):
    levels = spectra()
    near = analysis.mean_spacing_ratio(levels)
    assert near[0] == pytest.approx(0.53, abs=0.02)
    np.testing.assert_allclose(analysis.mean_spacing_ratio(levels + offset), near, rtol=1e-5)
    np.testing.assert_array_equal(analysis.unfold(levels + offset), analysis.unfold(levels))


def test_durations_keep_small_differences_of_long_times(single):
    times = 1e6 + 0.01 * np.arange(8)
    durations = analysis.Durations(times, np.ones(8, bool))
    np.testing.assert_array_equal(durations.times, times)
    assert len(analysis.kaplan_meier(durations).times) == 8


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_threshold_keeps_its_digits(single, unchecked, offset):
    values = offset + 0.01 * np.arange(8.0)[None]
    runs = Trajectories(np.arange(8.0), values, np.zeros(1, np.int32))
    found = analysis.first_above(runs, offset + 0.035)
    np.testing.assert_array_equal(found.times, [4.0])


def test_a_horizon_keeps_its_digits(single):
    durations = analysis.Durations(1e6 + 0.01 * np.arange(4), np.ones(4, bool))
    mean, _ = analysis.kaplan_meier(durations).restricted_mean(1e6 + 0.02)
    assert mean == pytest.approx(1e6 + np.mean([0, 0.01, 0.02, 0.02]), rel=1e-12)


def test_exponents_are_summed_in_float64(single):
    dimension = analysis.kaplan_yorke_dimension([1.0 + 1e-9, -1.0])
    assert dimension == 2.0
    assert analysis.kaplan_yorke_dimension([1.0 - 1e-9, -1.0]) == pytest.approx(2 - 1e-9, abs=1e-12)


def test_counts_beyond_float32_are_counted(single):
    counts = np.array([2**24 + 1, 2**24 + 1])
    assert analysis.occupancy(counts).statistic == 0.0


def test_tokens_in_one_dimension_have_no_exponents():
    import rqf_jax as rqf

    with pytest.raises(ValueError, match="must leave states room to move"):
        analysis.lyapunov_spectrum(
            rqf.models.random_quadratic_form(1.0),
            rqf.laws.Fixed(jnp.ones((2, 1))),
            [0.0, 1.0],
            substeps=4,
            members=2,
            key=jax.random.key(0),
        )
