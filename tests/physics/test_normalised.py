"""Theorems about tokens with radii: the wrappers that make Pre-LN, Peri-LN and nGPT of a model."""

import functools
import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, isotropic, unit_tokens
from scipy.integrate import quad, solve_ivp

import rqf_jax as rqf
from rqf_jax.drifts import Attention, MeanField, NoDrift
from rqf_jax.kernels import MLP, PowerSeries, UnitOutput
from rqf_jax.laws import Equiangular, Fixed, Pair
from rqf_jax.manifolds import Euclidean, Sphere
from rqf_jax.models import in_log_time, normalised
from rqf_jax.noises import BiasNoise, IsotropicNoise, KernelNoise, NoNoise, TokenNoise, ValueNoise
from rqf_jax.observables import angles, cosines, directions, log_radius_ratio, overlaps, radii
from rqf_jax.theory import normalisation

KEY, ZERO = jax.random.key(0), jnp.zeros(())


def scaled(dim, other=1.0):
    """Two tokens at 60 degrees with radii 1 and `other`."""
    return Fixed(jnp.array([[1.0], [other]]) * Pair(math.pi / 3, dim)(KEY))


# ---- one token


def test_one_token_has_the_exact_law_of_its_radius_at_any_step():
    # Five steps of 1/2: r² of noncentral χ², mean 21 and variance 110.
    sde = normalised(isotropic(1.0, 1.0), "pre")
    runs = rqf.simulate(
        sde, Pair(1.0, 8), [0.0, 2.5], substeps=5, members=8000, key=KEY, save=radii
    )
    square = np.asarray(runs.ys)[:, 1] ** 2
    assert_mean(square, 21.0, scores=4)
    assert_mean((square - 21) ** 2, 110.0, scores=4)
    below = normalisation.squared_radius_cdf(18.0, 2.5, 1.0, value=1.0, dim=8)
    assert_mean(square < 18, below, scores=4)


def test_symmetric_noise_grows_radii_in_the_sense_of_ito():
    # 1 + σ² + (n-1)σ²/2 = 4.5 for n = 6, at any step; Stratonovich's reading has 7.
    sde = normalised(rqf.models.random_quadratic_form(1.0), "pre")
    runs = rqf.simulate(
        sde, Pair(1.0, 6), [0.0, 1.0], substeps=4, members=4000, key=KEY, save=radii
    )
    assert_mean(np.asarray(runs.ys)[:, 1] ** 2, 4.5, scores=4)


@pytest.mark.slow
def test_layer_norm_is_the_same_in_one_dimension_less():
    n = 5
    law = Fixed(jnp.eye(n)[:2])
    sde = normalised(isotropic(1.0, 1.0), "pre", centre=True)
    runs = rqf.simulate(sde, law, [0.0, 1.0], substeps=4, members=8000, key=KEY)
    x = np.asarray(runs.ys)
    centred = x - x.mean(-1, keepdims=True)
    start = np.sum(centred[0, 0, 0] ** 2)
    assert_mean(np.sum(centred[:, 1] ** 2, -1), start + (n - 1), scores=4)
    # The pair of centred parts, <C e_1, C e_2> = -1/n, is a pair of R^{n-1}.
    gram = centred[0, 0] @ centred[0, 0].T
    law = Fixed(jnp.pad(jnp.linalg.cholesky(jnp.asarray(gram)), ((0, 0), (0, n - 3))))
    plain = normalised(isotropic(1.0, 1.0), "pre")
    options = {"substeps": 4, "members": 8000, "key": jax.random.key(1), "save": cosines}
    other = np.asarray(rqf.simulate(plain, law, [0.0, 1.0], **options).ys)[:, 1, 0]
    own = np.asarray(jax.vmap(cosines)(jnp.asarray(centred[:, 1])))[:, 0]
    for one, two in ((own, other), (own**2, other**2)):
        error = math.sqrt((one.var() + two.var()) / 8000)
        assert abs(one.mean() - two.mean()) < 4 * error


def test_squared_radii_on_a_logarithmic_clock_have_their_mean():
    n, h = 4, 0.25
    plain = normalised(isotropic(1.0, 1.0), "pre")
    runs = rqf.simulate(
        in_log_time(plain, 0.5), Pair(1.0, n), [0.0, 2.0], substeps=8, members=6000, key=KEY,
        save=radii,
    )  # fmt: skip
    time = h * np.exp(0.5 * h * np.arange(8)).sum()
    assert time == pytest.approx((math.e - 1) / 0.5, rel=0.07)
    assert_mean(np.asarray(runs.ys)[:, 1] ** 2, 1 + n * time, scores=4)


@pytest.mark.slow
def test_decay_keeps_the_radius_stationary():
    n, plain = 4, normalised(isotropic(1.0, 1.0), "pre")
    decay = rqf.SDE(rqf.drifts.Linear(-0.5 * jnp.eye(n)), plain.noise, Euclidean())
    runs = rqf.simulate(
        decay, Pair(1.0, n), [0.0, 8.0], substeps=80, members=2000, key=KEY, save=radii
    )
    # r² → n/(2λ - λ²h).
    assert_mean(np.asarray(runs.ys)[:, 1] ** 2, n / (1 - 0.25 * 0.1), bias=2e-3, scores=4)


# ---- flows


def test_without_temperature_differences_of_tokens_are_conserved():
    sde = normalised(rqf.models.self_attention(0.0), "pre")
    x = jnp.asarray(unit_tokens(4, 3)) * jnp.array([[1.0], [2.0], [0.3], [1.0]])
    runs = rqf.simulate(sde, Fixed(x), [0.0, 3.0, 6.0], substeps=30, members=1, key=KEY)
    moved = runs.ys[0] - runs.ys[0, :, :1]
    np.testing.assert_allclose(moved, jnp.broadcast_to(moved[:1], moved.shape), atol=1e-12)
    # So (1-z)r² is, where radii are equal.
    z, r = jax.vmap(cosines)(runs.ys[0])[:, 2], jax.vmap(radii)(runs.ys[0])
    square = r[:, 0] ** 2 + r[:, 3] ** 2 - 2 * z * r[:, 0] * r[:, 3]
    np.testing.assert_allclose(square, square[0], rtol=1e-12)


@pytest.mark.parametrize("scheme", [pytest.param("pre", marks=pytest.mark.slow), "peri"])
def test_tokens_of_one_overlap_follow_one_curve_under_both_schemes(scheme):
    sde = normalised(rqf.models.self_attention(1.7), scheme)
    runs = rqf.simulate(
        sde, Equiangular(4, 4, 0.1), [0.0, 2.0], substeps=200, members=1, key=KEY,
        solver=diffrax.Dopri5(),
    )  # fmt: skip
    found = float(cosines(runs.ys[0, 1])[0])
    end = float(jnp.log(radii(runs.ys[0, 1])[0]))
    curve = solve_ivp(
        lambda _, z: normalisation.simplex_slope(z, beta=1.7, tokens=4),
        (0, end), [0.1], rtol=1e-11, atol=1e-12,
    ).y[0, -1]  # fmt: skip
    assert found == pytest.approx(curve, abs=1e-8)


def test_ngpt_moves_at_unit_speed_before_it_is_projected():
    # Consensus is approached at the rate α = 1 of the drift's length.
    drift, x = rqf.drifts.UnitOutput(Attention(2.0)), jnp.asarray(unit_tokens(5, 3))
    np.testing.assert_allclose(radii(drift(ZERO, x)), 1, rtol=1e-14)
    sde = normalised(rqf.models.self_attention(2.0), "ngpt")
    law = Fixed(Sphere().project(jnp.array([[1.0, 1e-3], [1.0, -1e-3]])))
    runs = rqf.simulate(sde, law, [0.0, 1.0], substeps=20, members=1, key=KEY, save=angles)
    assert runs.ys[0, 1, 0] / runs.ys[0, 0, 0] == pytest.approx(math.exp(-1), rel=1e-3)


# ---- wrappers


def test_wrappers_call_the_inner_part_at_directions():
    x = jnp.asarray(unit_tokens(4, 3)) * jnp.array([[1.0], [2.0], [0.3], [1.0]])
    theta, gain = directions(x), jnp.array([1.0, 2.0, -0.5])
    dw = jax.random.normal(KEY, (3, 3))
    drift, noise = Attention(1.5), IsotropicNoise(1.0, 0.3)
    for centre, g in ((False, None), (False, gain), (True, None), (True, gain)):
        seen = directions(x - x.mean(1, keepdims=True)) if centre else theta
        seen = seen if g is None else seen * g[None, :]
        found = rqf.drifts.Normed(drift, g, centre)(ZERO, x)
        np.testing.assert_allclose(found, drift(ZERO, seen), rtol=1e-12)
        wrapped = rqf.noises.Normed(noise, g, centre)
        np.testing.assert_allclose(wrapped(ZERO, x, dw), noise(ZERO, seen, dw), rtol=1e-12)
    assert rqf.drifts.Normed(drift).spans and not rqf.drifts.Normed(drift, gain).spans


def test_a_scheme_is_a_manifold_and_a_wrapper():
    model = rqf.models.noisy_attention(1.0, 0.0)
    assert normalised(model, "post") == model
    model = rqf.SDE(Attention(1.0), ValueNoise(Attention(2.0), 1.0), Sphere())
    kinds = {}
    for scheme in ("post", "ngpt", "pre", "peri"):
        sde = normalised(model, scheme)
        kinds[scheme] = type(sde.manifold), type(sde.drift), type(sde.noise)
    drifts, noises = rqf.drifts, rqf.noises
    assert kinds == {
        "post": (Sphere, Attention, ValueNoise),
        "ngpt": (Sphere, drifts.UnitOutput, noises.UnitOutput),
        "pre": (Euclidean, drifts.Normed, noises.Normed),
        "peri": (Euclidean, drifts.UnitOutput, noises.Normed),
    }
    layers = rqf.models.normalised_layers("peri", 0.5, 2.0)
    model = rqf.SDE(Attention(2.0), IsotropicNoise(0.5, 0.5), Sphere())
    assert layers == normalised(model, "peri")
    quiet = normalised(rqf.SDE(NoDrift(), NoNoise(), Sphere()), "peri")
    assert isinstance(quiet.drift, NoDrift) and isinstance(quiet.noise, NoNoise)
    layers = normalised(rqf.models.random_layers(1.0), "pre")
    assert isinstance(rqf.solvers.default(layers), rqf.solvers.ProjectedEuler)
    # The branch of Post-LN sees its gain; then what projecting adds is a part of the equation.
    gained = normalised(isotropic(1.0, 1.0), "post", gain=jnp.ones(3))
    assert isinstance(rqf.solvers.default(gained), rqf.solvers.ProjectedEuler)


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 7, 8, 16, 41, 768])
def test_unit_outputs_have_their_kernel_and_its_slope(dim):
    # f_n(z) = z ∫ cos^n φ (1 - z² sin²φ)^{-1/2} dφ / ∫ cos^{n-1} φ dφ over (0, π/2).
    def integral(power, z, exponent):
        def integrand(phi):
            return np.cos(phi) ** power * (1 - (z * np.sin(phi)) ** 2) ** exponent

        points = [min(1.5, 6 / math.sqrt(dim))]
        return quad(integrand, 0, np.pi / 2, points=points, epsabs=0, epsrel=1e-12, limit=200)[0]

    # Of these numbers float32 has every bit.
    z, whole = 1 - np.array([255, 180, 100, 25, 3, 0.25]) / 256, integral(dim - 1, 0.0, 1)
    expected = np.array([x * integral(dim, x, -0.5) / whole for x in z])
    slopes = np.array([integral(dim, x, -1.5) / whole for x in z])

    def unit(r):
        return dim * UnitOutput(PowerSeries([0.0, 2.0]), dim)(r)

    for dtype, tolerance in ((jnp.float32, 1e-6), (jnp.float64, 1e-10)):
        r = jnp.asarray(z, dtype)
        found, slope = jax.jvp(unit, (r,), (jnp.ones_like(r),))
        np.testing.assert_allclose(found, expected, rtol=tolerance)
        np.testing.assert_allclose(unit(-r), -expected, rtol=tolerance)
        np.testing.assert_allclose(slope, slopes, rtol=tolerance)
        assert unit(jnp.ones((), dtype)) == pytest.approx(1, rel=tolerance)
    if dim > 2:
        assert jax.grad(unit)(1.0) == pytest.approx((dim - 1) / (dim - 2), rel=1e-8)


def test_unit_outputs_take_a_kernel_of_any_kind():
    z = np.linspace(-1, 1, 41)
    kernel = UnitOutput(MLP("gelu", 5, 0.3), 5)
    inner = MLP("gelu", 5, 0.3)(jnp.asarray(z)) / MLP("gelu", 5, 0.3)(jnp.ones(()))
    expected = normalisation.unit_output_kernel(np.minimum(inner, 1.0), dim=5) / 5
    np.testing.assert_allclose(kernel(jnp.asarray(z)), expected, rtol=1e-10)


def test_noise_of_unit_output_is_that_of_normalised_gaussian_outputs():
    x = jnp.asarray(unit_tokens(3, 4))
    attention = ValueNoise(Attention(2.0), 0.7)
    for inner, outputs in (
        (IsotropicNoise(0.6, 0.6), x),
        (attention, Attention(2.0)(ZERO, x)),
        (KernelNoise(PowerSeries([0.0, 3.0])), x),
        (BiasNoise(0.2), jnp.ones((3, 1))),
        (TokenNoise(0.2), jnp.eye(3)),
    ):
        s = np.asarray(rqf.noises.UnitOutput(inner).covariance(ZERO, x))
        cosine = np.asarray(overlaps(directions(outputs)))
        rows, columns = np.triu_indices(3, 1)
        expected = normalisation.unit_output_kernel(cosine, dim=4) / 4
        np.testing.assert_allclose(s[rows, columns], expected, atol=1e-8)
        np.testing.assert_allclose(np.diag(s), 1 / 4, rtol=1e-7)
    # And of a layer's outputs themselves.
    keys = jax.random.split(KEY, 40_000)
    weights = jax.vmap(lambda key: jax.random.normal(key, (4, 4)))(keys)
    y = np.einsum("mij,aj->mai", weights, x)
    y /= np.linalg.norm(y, axis=2, keepdims=True)
    s = rqf.noises.UnitOutput(IsotropicNoise(1.0, 1.0)).covariance(ZERO, x)
    assert_mean(np.einsum("mai,mbi->mab", y, y) / 4, np.asarray(s), bias=1e-8, scores=4)


def test_a_zero_token_is_refused_at_the_start_and_has_finite_gradients():
    sde = normalised(isotropic(1.0, 1.0), "pre")
    options = {"substeps": 1, "members": 2, "key": KEY}
    for x in (jnp.eye(3).at[1].set(0.0), jnp.eye(3).at[1].set(1e-200)):
        with pytest.raises(ValueError, match=r"`law` must draw tokens with a norm.*got token 1"):
            rqf.simulate(sde, Fixed(x), [0.0, 1.0], **options)
    centred = normalised(isotropic(1.0, 1.0), "pre", centre=True)
    with pytest.raises(ValueError, match=r"after its mean is taken out.*got token 0"):
        rqf.simulate(centred, Fixed(jnp.ones((2, 3))), [0.0, 1.0], **options)
    x = jnp.eye(3).at[1].set(0.0)
    for drift in (rqf.drifts.Normed(Attention(1.0)), rqf.drifts.UnitOutput(MeanField(1.0))):
        slope = jax.jacobian(lambda x, drift=drift: drift(ZERO, x))(x)
        assert np.all(np.isfinite(slope))
    still = rqf.drifts.UnitOutput(NoDrift())
    np.testing.assert_array_equal(jax.jacobian(lambda x: still(ZERO, x))(x), 0.0)


# ---- observables


def test_observables_of_radii_and_directions():
    theta, r = unit_tokens(4, 3), np.array([0.5, 2.0, 1e-3, 40.0])
    x = jnp.asarray(r[:, None] * theta)
    np.testing.assert_allclose(radii(x), r, rtol=1e-14)
    np.testing.assert_allclose(directions(x), theta, rtol=1e-13)
    np.testing.assert_allclose(cosines(x), overlaps(jnp.asarray(theta)), atol=1e-15)
    rows, columns = np.triu_indices(4, 1)
    np.testing.assert_allclose(log_radius_ratio(x), np.log(r[rows] / r[columns]), rtol=1e-13)
    lost = x.at[1].set(0.0)
    assert np.isnan(cosines(lost)).sum() == 3 and np.isposinf(log_radius_ratio(lost)[0])
    assert np.all(np.isfinite(jax.jacobian(radii)(lost)))


@pytest.mark.parametrize("scheme", ["ngpt", "peri"])
def test_strengths_that_only_a_program_knows_are_equal_or_give_no_numbers(scheme):
    def mean(antisymmetric):
        sde = normalised(isotropic(0.5, antisymmetric), scheme)
        return rqf.simulate(
            sde, Equiangular(3, 4, 0.1), [0.0, 0.5], substeps=4, members=4, key=KEY, save=cosines
        ).ys.mean()

    assert jax.jit(mean)(0.5) == pytest.approx(float(mean(0.5)), rel=1e-6)
    for traced in (jax.jit(mean), jax.grad(mean)):
        try:
            assert np.isnan(traced(0.4))
        except RuntimeError as error:
            assert "finite" in str(error)


BAD = {
    "flat": (
        lambda: normalised(normalised(isotropic(1.0), "pre"), "pre"),
        "`model` must be on the sphere; got one on Euclidean()",
    ),
    "scheme": (lambda: normalised(isotropic(1.0), "rms"), "`scheme` must be one of post, ngpt"),
    "correction": (
        lambda: normalised(rqf.models.random_linear_layers(np.eye(3), np.eye(3)), "pre"),
        "`model` must have noise of fresh weights",
        "AnisotropicNoise",
    ),
    "unequal strengths": (
        lambda: normalised(isotropic(1.0, 0.0), "peri"),
        "`noise` must have one covariance in all directions",
        "antisymmetric=0",
    ),
    "no covariance": (
        lambda: rqf.noises.UnitOutput(rqf.noises.ScalarNoise(MeanField(1.0), 1.0)),
        "`noise` must have one covariance in all directions",
    ),
    "gain": (lambda: rqf.drifts.Normed(MeanField(1.0), 2.0), "`gain` must be one number for"),
    "size of the gain": (
        lambda: rqf.drifts.Normed(MeanField(1.0), np.ones(2))(ZERO, jnp.eye(3)),
        "`gain` must have 3 numbers",
        "2",
    ),
    "centre": (lambda: rqf.noises.Normed(TokenNoise(1.0), centre=1), "`centre` must be True or"),
    "drift": (lambda: rqf.drifts.UnitOutput(1.0), "`drift` must be a drift"),
    "noise": (lambda: rqf.noises.Normed(MeanField(1.0)), "`noise` must be a noise"),
    "kernel": (lambda: UnitOutput(1.0, 3), "`kernel` must be a kernel"),
    "dim": (lambda: UnitOutput(PowerSeries([1.0]), 1), "`dim` must be at least 2", "1"),
    "stratonovich": (
        lambda: run(rqf.solvers.GeodesicHeun()),
        "`solver` GeodesicHeun does not suit",
        "fresh weights for the state before it (Itô)",
        "Use `GeodesicEuler`",
    ),
    "diffrax": (lambda: run(diffrax.Heun()), "fresh weights for the state before a step (Itô)"),
}


def run(solver):
    sde = normalised(isotropic(1.0, 1.0), "pre")
    return rqf.simulate(
        sde, Pair(1.0, 3), [0.0, 1.0], substeps=1, members=1, key=KEY, solver=solver
    )


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, refused):
    refused(*BAD[case])


@pytest.mark.slow
def test_itos_solvers_of_diffrax_step_a_normed_noise_as_ours_does():
    sde = normalised(isotropic(1.0, 1.0), "pre")
    call = functools.partial(
        rqf.simulate, sde, Pair(1.0, 3), [0.0, 1.0], substeps=4, members=3, key=KEY
    )
    np.testing.assert_allclose(call().ys, call(solver=diffrax.Euler()).ys, rtol=1e-12)
