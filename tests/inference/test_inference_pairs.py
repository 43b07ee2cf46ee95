"""The exact law of pairs: the density, the estimate at long steps and near synchronisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, isotropic

import rqf_jax as rqf
from rqf_jax.inference import fit_noise, fit_pairs
from rqf_jax.inference._pair_law import log_density, rapidity
from rqf_jax.theory import sphere

SIGMA, STEP, MEMBERS, TIMES = 0.8, 0.5, 60, 9
TS = STEP * jnp.arange(float(TIMES))


@functools.cache
def runs(antisymmetric=0.0):
    return rqf.simulate(
        isotropic(SIGMA, antisymmetric),
        rqf.laws.Uniform(3, 5),
        TS,
        substeps=8,
        members=MEMBERS,
        key=jax.random.key(3),
    )


@functools.cache
def fit():
    return fit_pairs(runs())


def warned(result, words):
    return any(words in warning for warning in result.warnings)


@pytest.mark.slow
def test_the_density_is_that_of_the_theory_and_has_derivatives():
    u, start, clock = (
        a.ravel() for a in np.meshgrid([-3.0, 0.1, 14.0], [0.0, 2.5, 13.0], [0.01, 2])
    )
    ours = log_density(jnp.asarray(u), jnp.asarray(start), jnp.asarray(clock))
    for t in (0.01, 2.0):
        here = clock == t
        theirs = sphere.angle_density(
            2 * np.arctan(np.exp(-u[here])), t, 2 * np.arctan(np.exp(-start[here])), sigma=1.0
        )
        finite = theirs > 1e-300
        expected = np.log(theirs[finite]) - np.log(np.cosh(u[here][finite]))
        np.testing.assert_allclose(np.asarray(ours)[here][finite], expected, rtol=1e-8, atol=1e-8)
    slope = jax.grad(lambda c: jnp.sum(log_density(jnp.asarray(u), jnp.asarray(start), c)))
    assert np.all(np.isfinite(slope(jnp.asarray(clock))))


def test_rapidities_keep_small_gaps():
    angle = 1e-9
    x, y = jnp.asarray([1.0, 0.0]), jnp.asarray([np.cos(angle), np.sin(angle)])
    assert float(rapidity(x, y)[0]) == pytest.approx(-np.log(np.tan(angle / 2)), rel=1e-12)
    assert float(rapidity(x, -y)[0]) == pytest.approx(np.log(np.tan(angle / 2)), rel=1e-12)
    assert np.isfinite(rapidity(x, x)[0])


@pytest.mark.slow
def test_long_steps_and_synchronised_tokens_leave_no_bias():
    result = fit()
    assert abs(result.estimate["symmetric"] - SIGMA) < 4 * result.stderr["symmetric"], str(result)
    assert result.stderr["symmetric"] < 0.03
    assert abs(result.goodness["drift / spread"][1]) < 4 and not result.warnings
    low, high = result.interval(0.999)["symmetric"]
    assert low < SIGMA < high
    # All but the first step or two are synchronised: whitening drops what pairs still show.
    assert result.steps_used == MEMBERS * (TIMES - 1)


@pytest.mark.slow
def test_antisymmetric_noise_is_not_seen():
    result = fit_pairs(runs(0.9))
    assert abs(result.estimate["symmetric"] - SIGMA) < 4 * result.stderr["symmetric"], str(result)
    assert "nothing about antisymmetric" in result.identifiability


@pytest.mark.slow
def test_the_density_of_the_fit_peaks_at_its_estimate():
    result, strength = fit(), fit().estimate["symmetric"]
    density = result.log_density()
    slope = jax.grad(lambda sigma: density({"symmetric": sigma}))(jnp.asarray(strength))
    assert abs(slope) < 1e-6 * abs(float(density({"symmetric": strength})))


@pytest.mark.slow
def test_noise_of_its_own_for_every_token_shows_in_the_drift():
    sde = rqf.SDE(rqf.drifts.NoDrift(), rqf.noises.TokenNoise(0.5), rqf.manifolds.Sphere())
    alone = rqf.simulate(
        sde, rqf.laws.Uniform(3, 5), TS, substeps=8, members=MEMBERS, key=jax.random.key(4)
    )
    result = fit_pairs(alone)
    ratio, score = result.goodness["drift / spread"]
    assert ratio < 0.5 and score < -5 and warned(result, "otherwise than common noise")


@pytest.mark.slow
def test_common_noise_with_a_little_private_noise_is_objected_to_and_without_it_is_not():
    # A fifth of the strength puts the estimate 4 % off; fits of 80 paths each.
    members, ts = 80, 0.1 * jnp.arange(9.0)

    def fits(private, count):
        common = rqf.noises.IsotropicNoise(1.0, 0.0)
        noise = rqf.noises.Sum(common, rqf.noises.TokenNoise(private))
        sde = rqf.SDE(rqf.drifts.NoDrift(), noise, rqf.manifolds.Sphere())
        ys = rqf.simulate(
            sde,
            rqf.laws.Uniform(3, 5),
            ts,
            substeps=8,
            members=members * count,
            key=jax.random.key(1),
        ).ys
        return [fit_pairs(part, ts) for part in np.split(np.asarray(ys), count)]

    right, wrong = fits(0.0, 40), fits(0.2, 10)
    scores = np.array([fit.goodness["drift / spread"][1] for fit in right])
    assert_mean(scores, 0.0)
    assert 0.5 < np.mean(scores**2) < 1.7 and not any(fit.warnings for fit in right)
    assert np.mean([fit.estimate["symmetric"] for fit in wrong]) > 1.03
    assert np.mean([warned(fit, "otherwise than common noise") for fit in wrong]) > 0.8


@pytest.mark.slow
def test_pairs_that_are_equal_to_rounding_are_left_out_and_named():
    ys = np.array(runs().ys)
    ys[:, :, 2] = ys[:, :, 1]
    result = fit_pairs(ys, TS)
    assert warned(result, "roundings and left out")
    assert abs(result.estimate["symmetric"] - SIGMA) < 4 * result.stderr["symmetric"]
    assert result.dof_used < fit().dof_used


def test_bad_data_are_one_clear_error():
    ys = np.random.default_rng(0).standard_normal((2, TIMES, 3, 5))
    ys = ys / np.linalg.norm(ys, axis=-1, keepdims=True)
    for data, words in (
        (ys[:, :, :1], "at least 2 tokens; got 1"),
        (np.broadcast_to(ys[:, :1], ys.shape), "overlaps that move"),
        (np.broadcast_to(ys[:, :, :1], ys.shape), "at least 2 steps with a pair"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_pairs(data, TS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fit", "step", "count", "most"),
    [(fit_noise, 0.25, 12, 0.17), (fit_pairs, 0.25, 12, 0.31), (fit_pairs, 1.0, 8, 0.35)],
)
def test_one_sparse_path_shows_the_squared_strength_to_a_third_or_better(fit, step, count, most):
    # Whole states at steps of a quarter, and overlaps alone at steps of a quarter and of one.
    members = 300
    many = rqf.simulate(
        isotropic(1.0),
        rqf.laws.Uniform(4, 8),
        step * jnp.arange(count + 1.0),
        substeps=8,
        members=members,
        key=jax.random.key(8),
    )
    squares = np.array([fit(path, many.ts).estimate["symmetric"] ** 2 for path in many.ys])
    assert_mean(squares, 1.0, bias=0.03, scores=3)
    assert np.sqrt(np.mean((squares - 1) ** 2)) < most * (1 + 3 / np.sqrt(2 * members))


@pytest.mark.slow
def test_dense_and_sparse_fits_agree():
    whole = rqf.simulate(
        isotropic(SIGMA),
        rqf.laws.Uniform(3, 5),
        jnp.linspace(0, 0.4, 41),
        substeps=2,
        members=50,
        key=jax.random.key(9),
    )
    dense, sparse = fit_noise(whole), fit_pairs(whole.ys[:, ::20], whole.ts[::20])
    difference = dense.estimate["symmetric"] - sparse.estimate["symmetric"]
    assert abs(difference) < 4 * sparse.stderr["symmetric"]


@pytest.mark.parametrize("clock", [1e-3, 1.0, 10.0, 1e3])
def test_the_density_of_a_rapidity_is_one_far_from_every_estimate(clock):
    # A sampler goes there: all of the mass, from near and far starts, at every clock.
    for start in (0.0, 2.0, -5.0):
        reach = 3 * clock + 20 * np.sqrt(2 * clock)
        u = np.linspace(start - reach, start + reach, 40_001)
        logs = log_density(jnp.asarray(u), jnp.full(u.size, start), jnp.full(u.size, clock))
        assert np.trapezoid(np.exp(np.asarray(logs)), u) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_no_strength_below_zero_has_a_density():
    density = fit_pairs(tokens_of_two_steps(), jnp.arange(3.0) / 100).log_density()
    assert np.isfinite(float(density({"symmetric": 1.0})))
    assert float(density({"symmetric": -1.0})) == -np.inf


def tokens_of_two_steps():
    """Three tokens that turn a little, twice."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5)) + 0.05 * np.cumsum(rng.standard_normal((3, 3, 5)), axis=0)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
