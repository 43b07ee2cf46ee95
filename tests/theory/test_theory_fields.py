"""Closed forms of kernel fields, forcing, private and anisotropic noise, by enumeration."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ito import (
    field_moves,
    ito,
    matrix_moves,
    overlap_ito,
    symmetric_basis,
    unit_tokens,
)
from scipy.integrate import quad
from scipy.linalg import expm
from scipy.special import roots_hermitenorm

from rqf_jax.kernels import MLP
from rqf_jax.theory import anisotropic, circle, fields, forcing, private_noise, sphere

ROWS, COLUMNS = np.diag([3.0, 1.0, 0.4]), np.diag([0.5, 1.0, 2.5])

DIMS = pytest.mark.parametrize("dim", [2, 3, 5, 8])
SIGMA, FORCING = 1.1, 0.7


def gram(x, kernel):
    return kernel(np.clip(x @ x.T, -1, 1))


def quadratic_kernel(r):
    return 0.3 + 0.8 * r + 0.5 * r**2


@DIMS
def test_kernel_fields_move_overlaps_by_their_ito_coefficients(dim):
    for kernel in (
        quadratic_kernel,
        lambda r: np.asarray(MLP("silu", dim, 0.4)(jnp.asarray(r))),
    ):
        x = unit_tokens(2, dim, seed=1)
        r = x[0] @ x[1]
        moves = field_moves(gram(x, kernel), dim)
        drift, variance = overlap_ito(x, moves)
        assert fields.overlap_drift(r, kernel, dim=dim) == pytest.approx(drift, abs=1e-12)
        assert fields.overlap_variance(r, kernel) == pytest.approx(variance, abs=1e-12)
        one_point = fields.one_point_correlation(1.0, value=kernel(1.0), dim=dim)
        np.testing.assert_allclose(ito(x, moves)[0], np.log(one_point) * x, atol=1e-12)


def volume_rates(x, moves):
    """Drift of ln of the volume spanned by tokens 1, ..., k around token 0, for every k."""
    drift, noise = ito(x, moves)
    sides, change, push = x[1:] - x[0], drift[1:] - drift[0], noise[:, 1:] - noise[:, :1]
    rates = []
    for k in range(1, len(sides) + 1):
        e, b, g = sides[:k], change[:k], push[:, :k]
        metric = np.linalg.inv(e @ e.T)
        first = b @ e.T + e @ b.T + np.einsum("mai,mbi->ab", g, g)
        turned = metric @ (np.einsum("mai,bi->mab", g, e) + np.einsum("ai,mbi->mab", e, g))
        second = np.einsum("mab,mba->", turned, turned)
        rates.append((np.sum(metric * first) - second / 2) / 2)
    return np.array(rates)


def close_tokens(dim, distance):
    """Token 0 and dim - 1 tokens at a small distance from it in orthogonal directions."""
    frame = np.linalg.qr(np.random.default_rng(4).standard_normal((dim, dim)))[0]
    x = np.concatenate([frame[:1], frame[0] + distance * frame[1:]])
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_infinitesimal_volumes_shrink_at_the_sums_of_lyapunov_exponents(dim):
    x = close_tokens(dim, 1e-3)

    def kernel(r):
        return 0.6 * r + 0.3 + 0.2 * r**2

    found = volume_rates(x, field_moves(gram(x, kernel), dim))
    spectrum = fields.lyapunov_spectrum(dim, value=kernel(1.0), slope=1.0)
    np.testing.assert_allclose(found, np.cumsum(spectrum), atol=1e-4)
    if dim == 4:
        np.testing.assert_allclose(spectrum, [-1.15, -2.15, -3.15], atol=1e-12)
    bias = np.broadcast_to(FORCING * np.eye(dim)[:, None], (dim, dim, dim))
    moves = np.concatenate([SIGMA * matrix_moves(x, symmetric_basis(dim)), bias])
    # The quadratic form is Stratonovich; its Itô correction is a multiple of x and drops out.
    spectrum = forcing.lyapunov_spectrum(dim, sigma=SIGMA, forcing=FORCING)
    np.testing.assert_allclose(volume_rates(x, moves), np.cumsum(spectrum), atol=1e-4)
    unforced = forcing.lyapunov_spectrum(dim, sigma=SIGMA, forcing=0.0)
    np.testing.assert_array_equal(unforced, sphere.lyapunov_spectrum(dim, sigma=SIGMA))


# Activation, n, σ_U = σ_W: digits printed in arXiv:2604.26898 for κ(1), κ'(1), λ_1, λ̄.
PRINTED = [
    ("relu", 64, 0.1, (2.28e-2, 7.81e-3, -0.480, -0.899)),
    ("silu", 128, 0.0, (None, None, -1.73e-3, None)),
    ("sigmoid", 5, 0.0, (None, None, -0.511, -0.477)),
    ("tanh", 128, 0.1, (None, None, -1.26, -2.44)),
]


def rates(activation, dim, bias):
    kernel = MLP(activation, dim, bias, bias)
    value, slope = (float(f(jnp.ones(()))) for f in (kernel, jax.grad(kernel)))
    first = fields.lyapunov_spectrum(dim, value=value, slope=slope)[0]
    return value, slope, first, fields.energy_rate(dim, value=value, slope=slope)


@pytest.mark.parametrize(("activation", "dim", "bias", "expected"), PRINTED)
def test_perceptron_rates_have_the_printed_digits(activation, dim, bias, expected):
    for found, printed in zip(rates(activation, dim, bias), expected, strict=True):
        assert printed is None or float(f"{found:.2e}") == pytest.approx(printed, rel=1e-9)


FUNCTIONS = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
    "silu": (
        lambda x: x / (1 + np.exp(-x)),
        lambda x: (1 + np.exp(-x) * (1 + x)) / (1 + np.exp(-x)) ** 2,
    ),
}


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("dim", [5, 64, 128])
@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_the_24_perceptrons_of_the_table_agree_with_gauss_hermite_nodes(activation, dim, bias):
    nodes, weights = roots_hermitenorm(100)
    weights = weights / weights.sum()
    scaled = math.sqrt(1 / dim + bias**2) * nodes
    function, slope = FUNCTIONS[activation]
    expected_value = weights @ function(scaled) ** 2 + bias**2
    expected_slope = weights @ slope(scaled) ** 2 / dim
    value, slope, first, energy = rates(activation, dim, bias)
    assert value == pytest.approx(expected_value, rel=1e-10)
    assert slope == pytest.approx(expected_slope, rel=1e-10)
    assert first == pytest.approx(((dim - 3) * slope - (dim - 1) * value) / 2, rel=1e-12)
    if activation == "relu":
        bias2 = bias**2
        closed = -1 / (2 * dim) - 3 * bias2 * (dim - 1) / 4
        assert first == pytest.approx(closed, rel=1e-12)
        assert energy == pytest.approx(1 / dim - 3 * bias2 * (dim - 3) / 2, rel=1e-12)


@DIMS
def test_forced_tokens_have_their_ito_coefficients(dim):
    x = unit_tokens(2, dim, seed=2)
    z = x[0] @ x[1]
    bias = np.broadcast_to(FORCING * np.eye(dim)[:, None], (dim, 2, dim))
    moves = np.concatenate([SIGMA * matrix_moves(x, symmetric_basis(dim)), bias])
    drift, variance = overlap_ito(x, moves)
    found = forcing.overlap_drift(z, sigma=SIGMA, forcing=FORCING, dim=dim)
    assert found == pytest.approx(drift, abs=1e-12)
    found = forcing.overlap_variance(z, sigma=SIGMA, forcing=FORCING)
    assert found == pytest.approx(variance, abs=1e-12)
    correlation = forcing.one_point_correlation(1.0, symmetric=SIGMA, forcing=FORCING, dim=dim)
    one_point = ito(x, moves)[0]
    np.testing.assert_allclose(one_point, np.log(correlation) * x, atol=1e-12)
    both = forcing.one_point_correlation(
        0.3, symmetric=SIGMA, antisymmetric=0.5, forcing=0.0, dim=dim
    )
    unforced = sphere.one_point_correlation(0.3, symmetric=SIGMA, antisymmetric=0.5, dim=dim)
    assert both == pytest.approx(unforced, rel=1e-14)


@pytest.mark.parametrize("dim", [2, 3, 20])
def test_forced_scale_density_solves_its_equation(dim):
    z = np.linspace(-0.999, 0.999, 9)
    step = 1e-6
    options = {"sigma": SIGMA, "forcing": FORCING, "dim": dim}
    ahead, behind = (forcing.scale_density(z + h, **options) for h in (step, -step))
    found = (np.log(ahead) - np.log(behind)) / (2 * step)
    half = forcing.overlap_variance(z, sigma=SIGMA, forcing=FORCING) / 2
    expected = -forcing.overlap_drift(z, **options) / half
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


SHALOVA = 2**0.5
"""σ of the clock of arXiv:2608.16664."""


@pytest.mark.parametrize(
    ("dim", "strength", "expected"),
    [(3, 0.3, 5.485), (3, 0.1, 15.54), (3, 0.03, 51.19), (3, 0.01, 153.9), (20, 0.1, 4.893)],
)
def test_merge_times_have_the_tabulated_values_and_solve_the_backward_equation(
    dim, strength, expected
):
    options = {"sigma": SHALOVA, "forcing": strength, "dim": dim}
    found = forcing.mean_merge_time(**options)
    assert found == pytest.approx(expected, rel=5e-4)
    z, step = np.array([-0.8, 0.0, 0.7]), 1e-3
    times = forcing.mean_merge_time(**options, overlap0=z + step * np.array([[-1], [0], [1]]))
    first, second = (times[2] - times[0]) / (2 * step), (times[2] - 2 * times[1] + times[0])
    half = forcing.overlap_variance(z, sigma=SHALOVA, forcing=strength) / 2
    left = forcing.overlap_drift(z, **options) * first + half * second / step**2
    np.testing.assert_allclose(left, -1, rtol=4e-4)
    # From z = -1 the drift alone acts.
    near = forcing.mean_merge_time(**options, overlap0=-1 + 1e-4 * strength**2)
    slope = 1 / forcing.overlap_drift(-1.0, **options)
    assert (found - near) / (1e-4 * strength**2) == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("dim", [2, 3, 20])
def test_merge_times_grow_as_one_over_the_forcing(dim):
    errors = []
    for strength in (1e-3, 1e-4, 1e-5):
        options = {"sigma": 0.9, "dim": dim, "forcing": strength}
        options |= {"overlap0": np.array([-1.0, 0.3]), "overlap": 0.9}
        found, expected = forcing.mean_merge_time(**options), forcing.weak_merge_time(**options)
        errors.append(np.abs(found / expected - 1))
    # The correction is of order γ ln(1/γ).
    assert np.all(errors[2] < 3e-4)
    assert np.all(errors[2] < errors[1] / 6)
    assert np.all(errors[1] < errors[0] / 6)
    # n = 3 in the source's clock: π/2γ.
    expected = forcing.weak_merge_time(sigma=SHALOVA, forcing=0.1, dim=3)
    assert expected == pytest.approx(math.pi / 0.2, rel=1e-12)


def test_merge_time_without_quadratic_form_is_that_of_a_projected_bias():
    # σ = 0, n = 3: b = g²(1-z)², a = g²(1-z)²(1+z), so h' = (1/g² - (1-z)² h)/((1-z)²(1+z)).
    def inner(z):
        # ∫_{-1}^z s'(z)/(s'(y) a(y)) dy, s' = exp(-∫ b/a) = 1/(1+z).
        return quad(lambda y: 1 / (1 - y) ** 2, -1, z)[0] / (1 + z)

    expected = quad(inner, -1, 0.9)[0] / FORCING**2
    found = forcing.mean_merge_time(sigma=0.0, forcing=FORCING, dim=3, overlap=0.9)
    assert found == pytest.approx(expected, rel=1e-7)


def angle_generator(drift, variance, cells):
    """The generator of θ = arccos z on cell centres, by differences, reflecting at both ends."""
    width = np.pi / cells
    theta = (np.arange(cells) + 0.5) * width
    z, sine = np.cos(theta), np.sin(theta)
    v = variance(z) / sine**2
    b = -drift(z) / sine - z * variance(z) / (2 * sine**3)
    up, down = v / (2 * width**2) + b / (2 * width), v / (2 * width**2) - b / (2 * width)
    up, down = np.maximum(up, 0), np.maximum(down, 0)
    matrix = np.diag(up[:-1], 1) + np.diag(down[1:], -1)
    return theta, matrix - np.diag(matrix.sum(1))


@pytest.mark.parametrize(("dim", "strength"), [(3, 0.5), (3, 2.0), (8, 1.0)])
def test_forced_pairs_stay_below_the_distance_bound(dim, strength):
    theta, matrix = angle_generator(
        lambda z: forcing.overlap_drift(z, sigma=SHALOVA, forcing=strength, dim=dim),
        lambda z: forcing.overlap_variance(z, sigma=SHALOVA, forcing=strength),
        300,
    )
    half_step, distance = expm(0.5 * matrix), theta
    for time in (0.5, 1.0, 1.5, 2.0):
        distance = half_step @ distance
        bound = forcing.distance_bound(time, sigma=SHALOVA, forcing=strength, dim=dim)
        assert np.all(distance < bound)
    square = strength**2
    expected = math.pi * math.exp(-2 * square * (dim - 1) / (square + 4) * 2.0)
    assert bound == pytest.approx(expected, rel=1e-12)
    assert forcing.distance_bound(3.0, sigma=0.0, forcing=0.0, dim=dim) == math.pi


@pytest.mark.parametrize("harmonic", [1, 3, 7])
def test_gaps_of_harmonics_follow_the_sphere_in_the_clock_of_the_half_phase(harmonic):
    # dδ = [cos kφ' - cos kφ] dB¹ + ..., so d<δ>/dt = 2 - 2 cos kδ, and δ is a martingale.
    gap = 0.7 * 2 * np.pi / harmonic
    phase, sigma = circle.half_phase(gap, harmonic), circle.sphere_sigma(harmonic)
    variance = harmonic**2 / 4 * (2 - 2 * np.cos(harmonic * gap))
    overlap_variance = sphere.overlap_variance(np.cos(phase), sigma=sigma)
    assert variance == pytest.approx(overlap_variance / np.sin(phase) ** 2, rel=1e-12)
    found = circle.mean_log_sine([0.0, 0.4], gap, harmonic)
    expected = sphere.mean_log_sine([0.0, 0.4], phase, sigma=sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert circle.almost_sure_rate(harmonic) == pytest.approx(sigma**2, rel=1e-14)
    assert circle.annealed_rate(harmonic) == pytest.approx(sigma**2 / 4, rel=1e-14)
    assert circle.closing_probability(gap, harmonic) == pytest.approx(0.3, rel=1e-12)
    assert circle.mean_log_sine(1.0, 0.0, harmonic) == -np.inf


def test_a_cascade_of_harmonics_moves_one_point_as_a_brownian_motion():
    # Each pair cos(kφ) ∂B¹ + sin(kφ) ∂B² has unit bracket and no Itô correction.
    amplitudes = np.array([1.0, 0.3, 0.09])
    found = circle.one_point_correlation(2.0, amplitudes)
    assert found == pytest.approx(math.exp(-np.sum(amplitudes**2)), rel=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fields.lyapunov_spectrum(1, value=1.0, slope=1.0),
            "`dim` must be at least 2; got 1",
        ),
        (
            lambda: forcing.mean_merge_time(sigma=1.0, forcing=0.0, dim=3),
            "`forcing` must be finite and positive; got 0.0",
        ),
        (
            lambda: forcing.mean_merge_time(sigma=1.0, forcing=1.0, dim=3, overlap=1.0),
            "`overlap` must lie strictly between -1 and 1; got 1.0",
        ),
        (
            lambda: forcing.scale_density([0.1, -1.0], sigma=1.0, forcing=1.0, dim=3),
            "`overlap` must lie strictly between -1 and 1; got -1.0",
        ),
        (
            lambda: private_noise.mean_sine(sigma=1.0, private=0.0, dim=3),
            "`private` must be finite and positive; got 0.0",
        ),
        (
            lambda: anisotropic.second_moment(-ROWS, COLUMNS),
            "`rows` must be positive definite; got an eigenvalue -3",
        ),
        (
            lambda: anisotropic.second_moment(ROWS, np.eye(2)),
            r"`columns` must have the shape of `rows`, \(3, 3\); got \(2, 2\)",
        ),
        (
            lambda: anisotropic.second_moment(ROWS, COLUMNS + np.eye(3, k=1)),
            "`columns` must be symmetric; got entries that differ by 1",
        ),
        (
            lambda: anisotropic.density([1.0, 1.0, 0.0], ROWS, COLUMNS),
            "`x` must have norm 1; got 1.41",
        ),
        (
            lambda: anisotropic.drift([1.0, 0.0], ROWS, COLUMNS),
            r"`x` must have shape \(\.\.\., 3\)",
        ),
        (
            lambda: circle.half_phase(2.2, 3),
            r"`gap` must lie in \[0, 2 pi/`harmonic`\] = .*; got 2.2",
        ),
        (lambda: circle.sphere_sigma(0), "`harmonic` must be at least 1; got 0"),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
