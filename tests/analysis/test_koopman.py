"""Koopman modes against operators that are known: linear maps, the rotation, the doubling map."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax.analysis import koopman_modes

RNG = np.random.default_rng(0)
MATRIX = np.array([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.1], [0.0, 0.0, 0.7]])
WAVES = np.arange(-5, 6)
POINTS = 2 * np.pi * np.arange(400)[:, None, None] / 400


def waves(x):
    return jnp.exp(1j * jnp.asarray(WAVES, complex) * x.astype(complex))


def circle(image):
    """Pairs of a map on a grid: members are points."""
    return koopman_modes(np.concatenate([POINTS, image], 1), [0.0, 1.0], dictionary=waves)


def orbit(start, steps, matrix=MATRIX):
    states = [np.asarray(start)]
    for _ in range(steps):
        states.append(matrix @ states[-1])
    return np.stack(states)


def matched(found, known):
    """The largest distance from a known eigenvalue to the nearest found."""
    return max(np.abs(found - value).min() for value in known)


def test_edmd_finds_the_rotation_with_residuals_of_rounding():
    angle = np.sqrt(2)
    found = circle(POINTS + angle)
    assert matched(found.eigenvalues, np.exp(1j * WAVES * angle)) < 1e-12
    assert found.residuals.max() < 1e-12 and found.within_bound.all()
    # Modes of a rotation move one wave each.
    phi = found.eigenfunctions(POINTS[:, 0])
    assert np.abs(np.abs(phi) - 1).max() < 1e-12


def test_the_residual_rejects_ten_of_eleven_modes_of_the_doubling_map():
    found = circle(2 * POINTS)
    assert found.within_bound.tolist() == [True] + [False] * 10
    assert abs(found.eigenvalues[0] - 1) < 1e-12 and found.residuals[0] < 1e-12
    assert np.abs(found.eigenvalues[1:]).max() < 1e-3
    np.testing.assert_allclose(found.residuals[1:], 1.0, atol=1e-6)
    assert repr(found).count("above the bound") == 10


def test_the_residual_is_that_of_the_gram_matrices():
    here = RNG.normal(size=(200, 1, 2))
    there = np.tanh(here @ RNG.normal(size=(2, 2))) + 0.1 * RNG.normal(size=here.shape)
    found = koopman_modes(np.concatenate([here, there], 1), [0.0, 1.0])
    x, y = here[:, 0], there[:, 0]
    g, a, ll = x.T @ x, x.T @ y, y.T @ y
    for value, residual, v in zip(
        found.eigenvalues, found.residuals, found.coefficients.T, strict=True
    ):
        middle = ll - value * a.conj().T - value.conj() * a + abs(value) ** 2 * g
        square = (v.conj() @ middle @ v).real / (v.conj() @ g @ v).real
        assert abs(residual - np.sqrt(square)) < 1e-10


def test_dmd_finds_the_eigenvalues_modes_and_future_of_a_linear_map():
    runs = np.stack([orbit(RNG.normal(size=3), 12) for _ in range(4)])
    found = koopman_modes(runs, 0.5 * np.arange(13))
    known = np.linalg.eigvals(MATRIX)
    assert matched(found.eigenvalues, known) < 1e-10
    assert matched(found.rates, np.log(known.astype(complex)) / 0.5) < 1e-9
    start = RNG.normal(size=3)
    np.testing.assert_allclose(found.forecast(start, 20), orbit(start, 20), atol=1e-10)


def test_delays_find_the_eigenvalues_of_what_is_not_observed():
    series = orbit([1.0, 0.5, 2.0], 40)[:, :1]
    found = koopman_modes(series, np.arange(41), delays=3)
    assert matched(found.eigenvalues, np.linalg.eigvals(MATRIX)) < 1e-10
    np.testing.assert_allclose(found.forecast(series[:3], 30), series[2:33], atol=1e-9)
    # Without delays one number cannot tell, and the residual says so.
    assert koopman_modes(series, np.arange(41)).residuals[0] > 0.1


def test_noise_stays_in_the_residual():
    # x' = a x + noise: the residual of the coordinate is √(1 - a²) in the stationary law.
    law = rqf.laws.Normal((1,), 1.0)
    sde = rqf.SDE(
        rqf.drifts.Pull(1.0), rqf.noises.TokenNoise(np.sqrt(2)), rqf.manifolds.Euclidean()
    )
    runs = rqf.simulate(sde, law, [0.0, 0.3], substeps=1, members=20_000, key=jax.random.key(0))
    found = koopman_modes(runs)
    keep = np.exp(-0.3)
    assert abs(found.eigenvalues[0] - keep) < 5 * np.sqrt((1 - keep**2) / 20_000)
    assert abs(found.residuals[0] - np.sqrt(1 - keep**2)) < 5 / np.sqrt(20_000)


def test_gaps_are_refused_or_left_out_and_counted():
    runs = orbit([1.0, 0.5, 2.0], 30)
    runs[10, 1] = np.nan
    with pytest.raises(ValueError, match=r"`runs` must be finite.*nan"):
        koopman_modes(runs, np.arange(31))
    found = koopman_modes(runs, np.arange(31), gaps="skip")
    assert (found.pairs, found.skipped) == (28, 2)
    assert matched(found.eigenvalues, np.linalg.eigvals(MATRIX)) < 1e-10
    assert koopman_modes(runs, np.arange(31), delays=2, gaps="skip").skipped == 3


STILL = np.stack([np.linspace(0, 1, 30), np.ones(30)], 1)
NOISE = RNG.normal(size=(30, 2))
WRONG = {
    "short": (NOISE, {"delays": 30}, "`delays` must be at most 29 for 30 times"),
    "few pairs": (NOISE, {"delays": 12}, "`runs` must hold more pairs than functions.* 18 pairs"),
    "constant": (STILL, {}, r"`runs` must move in every coordinate; coordinate \(1,\) is 1"),
    "rank": (NOISE, {"rank": 3}, "`rank` must be at most 2"),
    "unequal": (NOISE, {"times": np.arange(30.0) ** 2}, "`times` must be equally spaced"),
    "never": (NOISE * [1, np.nan], {"gaps": "skip"}, r"coordinate \(1,\) never is"),
    "dictionary": (
        NOISE,
        {"dictionary": jnp.log},
        "`dictionary` must be finite.*function 1 is nan",
    ),
    "scalar": (NOISE, {"dictionary": jnp.sum}, "`dictionary` must return one axis of functions"),
    "infinite": (NOISE * np.inf, {"gaps": "skip"}, "infinite entry"),
}


@pytest.mark.parametrize(("runs", "options", "text"), WRONG.values(), ids=WRONG)
def test_data_that_break_a_rule_are_named(runs, options, text):
    options = {"times": np.arange(30.0), **options}
    with pytest.raises(ValueError, match=text):
        koopman_modes(runs, **options)


def test_the_figure_has_a_cross_for_every_mode_above_the_bound():
    ax = rqf.plot.koopman(circle(2 * POINTS))
    drawn = {points.get_label(): len(points.get_offsets()) for points in ax.collections}
    assert drawn == {"residual ≤ 0.1": 1, "residual > 0.1": 10}
    plt.close(ax.figure)
    with pytest.raises(ValueError, match=r"`modes` must be an `analysis.KoopmanModes`"):
        rqf.plot.koopman(3)
