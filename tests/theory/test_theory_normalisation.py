"""Tokens with radii: coefficients, exponents and laws under Post-LN, nGPT, Pre-LN and Peri-LN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from rqf_jax.theory import multistability, normalisation, sphere, value_noise

STRENGTHS = [(1.0, 1.0), (1.0, 0.0), (0.7, 1.9), (2.0, 0.3)]


def basis(dim, symmetric, antisymmetric):
    """Matrices E_k with A = Σ E_k B_k, B_k independent Brownian motions."""
    for i in range(dim):
        for j in range(dim):
            entry = np.zeros((dim, dim))
            entry[i, j] = 1.0
            yield symmetric * (entry + entry.T) / 2
            yield antisymmetric * (entry - entry.T) / 2


def coordinates(x):
    """η and z of two tokens, shape (2, dim)."""
    one, other = jnp.linalg.norm(x[0]), jnp.linalg.norm(x[1])
    return jnp.stack([jnp.log(one / other), x[0] @ x[1] / (one * other)])


@pytest.mark.parametrize(
    "dim", [3, *(pytest.param(dim, marks=pytest.mark.slow) for dim in (2, 5, 8))]
)
@pytest.mark.parametrize("symmetric, antisymmetric", STRENGTHS)
def test_the_pair_is_autonomous_with_these_coefficients(dim, symmetric, antisymmetric):
    x = np.random.default_rng(dim).standard_normal((2, dim)) * [[1.3], [0.4]]
    radii = np.linalg.norm(x, axis=1)
    eta, z = (float(c) for c in coordinates(jnp.asarray(x)))
    first = jax.jacobian(coordinates)(jnp.asarray(x))
    second = jax.hessian(coordinates)(jnp.asarray(x))
    # Every token is moved by the same matrix, acting on its direction.
    moves = np.array([x / radii[:, None] @ e.T for e in basis(dim, symmetric, antisymmetric)])
    slopes = np.einsum("fai,kai->kf", first, moves)
    covariance = slopes.T @ slopes * radii.prod()
    drift = np.einsum("faibj,kai,kbj->f", second, moves, moves) / 2 * radii.prod()
    options = {"symmetric": symmetric, "antisymmetric": antisymmetric}
    found = normalisation.pair_drift(z, eta, dim=dim, **options)
    np.testing.assert_allclose(found, drift, rtol=1e-12, atol=1e-12)
    variances = normalisation.pair_variance(z, eta, **options)
    np.testing.assert_allclose(np.diag(variances), covariance, rtol=1e-12, atol=1e-12)
    # ln sin φ = ½ ln(1 - z²) by Itô's formula.
    sine2 = 1 - z**2
    expected = -z / sine2 * found[1] - (1 + z**2) / sine2**2 / 2 * variances[1]
    rate = normalisation.log_sine_drift(z, eta, dim=dim, **options)
    assert rate == pytest.approx(expected, rel=1e-12)


def test_a_field_of_linear_covariance_is_equal_symmetric_and_antisymmetric_noise():
    for dim, z, radii in ((3, 0.4, (0.5, 2.0)), (8, -0.7, (1.0, 1.2))):
        found = normalisation.kernel_pair(z, radii, lambda r: r, dim=dim)
        clock, eta = radii[0] * radii[1], np.log(radii[0] / radii[1])
        options = {"symmetric": 1.0, "antisymmetric": 1.0}
        drifts = normalisation.pair_drift(z, eta, dim=dim, **options)
        variances = normalisation.pair_variance(z, eta, **options)
        expected = np.array([drifts[0], variances[0], drifts[1], variances[1]]) / clock
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_equal_radii_are_the_sphere_for_an_instant():
    options = {"symmetric": 1.3, "antisymmetric": 0.6}
    z = np.linspace(-0.9, 0.9, 7)
    drift = normalisation.pair_drift(z, 0.0, dim=5, **options)[1]
    np.testing.assert_allclose(drift, sphere.overlap_drift(z, sigma=1.3), rtol=1e-13)
    variance = normalisation.pair_variance(z, 0.0, **options)[1]
    np.testing.assert_allclose(variance, sphere.overlap_variance(z, sigma=1.3), rtol=1e-13)


# ---- one token


def test_one_token_is_a_brownian_motion_at_any_step():
    # Five layers of step 1/2: x ← x + √h W θ with W of standard normal entries.
    rng, x = np.random.default_rng(0), np.zeros((40_000, 8))
    x[:, 0] = 1
    for _ in range(5):
        theta = x / np.linalg.norm(x, axis=1, keepdims=True)
        x = x + np.sqrt(0.5) * np.einsum("mij,mj->mi", rng.standard_normal((40_000, 8, 8)), theta)
    square = np.sum(x**2, 1)
    mean = normalisation.squared_radius_mean(2.5, 1.0, value=1.0, dim=8)
    variance = normalisation.squared_radius_variance(2.5, 1.0, value=1.0, dim=8)
    assert mean == 21 and variance == 110
    assert abs(square.mean() - mean) < 4 * np.sqrt(variance / 40_000)
    about = (square - mean) ** 2
    assert abs(about.mean() - variance) < 4 * about.std() / np.sqrt(40_000)
    below = normalisation.squared_radius_cdf(20.0, 2.5, 1.0, value=1.0, dim=8)
    assert abs(np.mean(square < 20) - below) < 4 * np.sqrt(below * (1 - below) / 40_000)


@pytest.mark.parametrize("reading, square", [("ito", 4.5), ("stratonovich", 7.0)])
def test_symmetric_noise_grows_the_radius_in_the_sense_of_ito(reading, square):
    # E r² = 1 + σ² + (n-1)σ²/2 for weights that act on the state before the layer; a midpoint rule
    # has 1 + nσ².
    members, dim = 4_000, 6

    def found(steps):
        rng, x = np.random.default_rng(1), np.zeros((members, dim))
        x[:, 0] = 1
        for _ in range(steps):
            b = rng.standard_normal((members, dim, dim)) / np.sqrt(steps)
            b = (b + np.swapaxes(b, 1, 2)) / 2

            def branch(x, b=b):
                return np.einsum("mij,mj->mi", b, x / np.linalg.norm(x, axis=1, keepdims=True))

            move = branch(x)
            x = x + (move if reading == "ito" else (move + branch(x + move)) / 2)
        return np.sum(x**2, 1)

    steps = 20
    whole = found(steps)
    # Itô's mean is exact at any step; the other errs by O(h), as much as halving the step shows.
    bias = 0.0 if reading == "ito" else abs(found(steps // 2).mean() - whole.mean())
    assert abs(whole.mean() - square) < 4 * whole.std() / np.sqrt(members) + bias
    options = {"symmetric": 1.0, "antisymmetric": 0.0, "dim": dim}
    mean = normalisation.matrix_squared_radius_mean(1.0, 1.0, **options)
    assert (mean == square) == (reading == "ito")


def test_layer_norm_is_root_mean_square_norm_of_one_dimension_less():
    # x ← x + √h W N(x - mean x), whose centred part is a token of R^{n-1}.
    rng, x, n = np.random.default_rng(2), np.zeros((30_000, 6)), 6
    x[:, 0] = 1
    for _ in range(4):
        centred = x - x.mean(1, keepdims=True)
        theta = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        x = x + np.sqrt(0.25) * np.einsum("mij,mj->mi", rng.standard_normal((30_000, n, n)), theta)
    square = np.sum((x - x.mean(1, keepdims=True)) ** 2, 1)
    options = {"value": 1.0, "dim": n - 1}
    mean = normalisation.squared_radius_mean(1.0, 1 - 1 / n, **options)
    variance = normalisation.squared_radius_variance(1.0, 1 - 1 / n, **options)
    assert abs(square.mean() - mean) < 4 * np.sqrt(variance / 30_000)


# ---- wide tokens


def test_wide_tokens_are_one_family():
    z = np.array([0.25, 0.5, 0.8, 0.95])
    post, pre = (normalisation.aligned_probability(z, scheme) for scheme in ("post", "pre"))
    np.testing.assert_allclose(post, [0.5804, 0.6667, 0.7952, 0.8989], atol=5e-5)
    np.testing.assert_allclose(post, sphere.aligned_probability(np.arccos(z)), rtol=1e-12)
    np.testing.assert_allclose(pre, [0.5484, 0.6022, 0.6919, 0.7847], atol=5e-5)
    with pytest.raises(ValueError, match="`scheme` must let pairs decide"):
        normalisation.aligned_probability(0.5, "peri")
    at_once = [normalisation.wide_expectation(np.square, 1.0, 0.0, s) for s in normalisation.INDEX]
    np.testing.assert_allclose(at_once, [0.649, 0.582, 0.582, 0.521], atol=2e-3)
    later = [normalisation.wide_expectation(np.square, 2.0, 0.5, s) for s in normalisation.INDEX]
    np.testing.assert_allclose(later, [0.829, 0.742, 0.742, 0.648], atol=2e-3)


def test_wide_expectations_are_exact_for_post_and_peri():
    start = np.array([-0.6, 0.0, 0.97, 1.0])
    for clock in (1e-3, 1.0, 8.0):
        found = normalisation.wide_expectation(np.square, clock, start, "post")
        exact = sphere.mean_squared_overlap(clock, start, sigma=1.0)
        np.testing.assert_allclose(found, exact, atol=1e-8)
        # Under Peri-LN the rapidity is a Brownian motion.
        x = np.linspace(-9, 9, 4001)
        u = np.arctanh(start[:3, None]) + np.sqrt(2 * clock) * x
        exact = np.tanh(u) ** 2 @ np.exp(-(x**2) / 2) / np.exp(-(x**2) / 2).sum()
        found = normalisation.wide_expectation(np.square, clock, start[:3], "peri")
        np.testing.assert_allclose(found, exact, atol=1e-8)


# ---- exponents


def test_exponents_near_consensus_have_their_values():
    cosines = [normalisation.mean_squared_cosine(n) for n in (4, 8, 16, 64, 768)]
    np.testing.assert_allclose(cosines, [0.29289, 0.13870, 0.06622, 0.01587, 0.001304], atol=6e-6)
    assert cosines[0] == pytest.approx(2 - 0.5 / (1 - 2**-0.5), rel=1e-12)
    table = {
        "post": [-1, -1, -1, -1, -1],
        "ngpt": [-0.75, -0.5833, -0.5357, -0.5081, -0.50065],
        "pre": [-0.2929, -0.4161, -0.4635, -0.4919, -0.49935],
        "peri": [0.0406, 0.0097, 0.0022, 0.0001, 0.0],
    }
    for scheme, expected in table.items():
        found = [normalisation.exponent(scheme, n) for n in (4, 8, 16, 64, 768)]
        np.testing.assert_allclose(found, expected, atol=6e-5)
    assert normalisation.exponent("peri", 3) == pytest.approx(0.069, abs=6e-4)
    depth = [normalisation.depth_exponent(n) for n in (4, 8, 16)]
    np.testing.assert_allclose(depth, [-0.1464, -0.0693, -0.0331], atol=6e-5)
    assert normalisation.decayed_rate(0.5, 6) == pytest.approx(0.0947, abs=6e-5)


def test_exponents_of_any_strengths_reduce_to_those_of_a_field():
    for dim in (3, 4, 8, 50):
        same = normalisation.matrix_exponent(symmetric=1.2, antisymmetric=1.2, dim=dim)
        assert same == pytest.approx(1.44 * normalisation.exponent("pre", dim), rel=1e-9)
    for dim, expected in ((8, -0.0949), (16, -0.0562)):
        found = normalisation.matrix_exponent(symmetric=1.0, antisymmetric=0.0, dim=dim)
        assert found / ((dim - 1) / 2 - 1) == pytest.approx(expected, abs=6e-5)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", normalisation.INDEX)
def test_close_tokens_part_or_meet_at_the_exponent(scheme):
    # The tangent flow of random layers per clock, n = 4, extrapolated in the step.
    def measured(step, members=4000, clocks=12):
        rng = np.random.default_rng(3)
        x = rng.standard_normal((members, 4))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        d = rng.standard_normal((members, 4))
        d -= np.sum(d * x, 1, keepdims=True) * x
        slope = 1.0 if scheme in ("pre", "post") else 3 / 2
        total = np.zeros(members)
        steps = round(clocks / step)
        for k in range(steps):
            across = d - np.sum(d * x, 1, keepdims=True) * x
            length = np.linalg.norm(across, axis=1, keepdims=True)
            x = x + np.sqrt(step) * rng.standard_normal(x.shape)
            d = d + np.sqrt(step * slope) * length * rng.standard_normal(x.shape)
            radius = np.linalg.norm(x, axis=1, keepdims=True)
            x, d = x / radius, d / radius
            if scheme in ("post", "ngpt"):  # the stream is put back to the sphere
                d = d - np.sum(d * x, 1, keepdims=True) * x
            size = np.linalg.norm(d, axis=1, keepdims=True)
            if k >= steps // 4:
                total += np.log(size[:, 0])
            d /= size
        return total.mean() / (0.75 * clocks)

    found = 2 * measured(0.01) - measured(0.02)
    assert found == pytest.approx(float(normalisation.exponent(scheme, 4)), abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("dim, other", [(4, 1), (4, 2), (8, 1), (8, 2)])
def test_pairs_of_random_layers_have_their_measured_moments(dim, other):
    def run(epsilon, members=60_000):
        rng, t, found = np.random.default_rng(dim), 0.0, []
        x = np.zeros((members, 2, dim))
        x[:, 0, 0], x[:, 1, 0], x[:, 1, 1] = 1, 0.5 * other, np.sqrt(0.75) * other
        for mark in (1, 10, 100):
            while t < mark - 1e-9:
                h = min(epsilon * (1 + t) * 4 / dim, mark - t)
                q = x / np.linalg.norm(x, axis=2, keepdims=True)
                z = np.clip(np.sum(q[:, 0] * q[:, 1], 1), -1, 1)[:, None]
                a = rng.standard_normal((members, dim))
                b = z * a + np.sqrt(1 - z * z) * rng.standard_normal((members, dim))
                x = x + np.sqrt(h) * np.stack([a, b], 1)
                t += h
            q = x / np.linalg.norm(x, axis=2, keepdims=True)
            z = np.sum(q[:, 0] * q[:, 1], 1)
            sine = np.linalg.norm(q[:, 1] - z[:, None] * q[:, 0], axis=1)
            found.append([z, z * z, np.log(sine)])
        return np.mean(found, axis=2), np.var(found, axis=2) / members

    (fine, of_fine), (coarse, of_coarse) = run(0.03), run(0.06)
    stderr = np.sqrt(4 * of_fine + of_coarse)
    assert stderr.max() < 0.015
    table = np.array(list(normalisation.MEASURED_PAIRS[dim, other].values()))
    assert np.all(np.abs(2 * fine - coarse - table) < 4 * stderr)


# ---- outputs of unit length


def test_outputs_of_unit_length_have_their_kernel():
    assert normalisation.unit_output_kernel(0.6, dim=4) == pytest.approx(0.54796, abs=5e-6)
    rng, z = np.random.default_rng(0), 0.6
    one = rng.standard_normal((200_000, 4))
    other = z * one + 0.8 * rng.standard_normal((200_000, 4))
    cosine = np.sum(one * other, 1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    found = normalisation.unit_output_kernel(z, dim=4)
    assert abs(cosine.mean() - found) < 4 * cosine.std() / np.sqrt(200_000)
    for dim in (3, 8, 40, 41, 10**6):
        assert normalisation.unit_output_kernel(1.0, dim=dim) == pytest.approx(1, rel=1e-12)
        slope = (1 - normalisation.unit_output_kernel(1 - 1e-6, dim=dim)) * 1e6
        assert slope == pytest.approx((dim - 1) / (dim - 2), rel=2e-3)
        # f_n(z) ≈ z - z(1-z²)/2n.
    wide = normalisation.unit_output_kernel(0.5, dim=10_000)
    assert wide == pytest.approx(0.5 - 0.5 * 0.75 / 2e4, rel=1e-8)


# ---- attention


def test_tokens_of_one_overlap_follow_one_curve():
    # Pre-LN with softmax attention and V = 1, from a simplex of N tokens: dx_i = Σ_j w_ij θ_j.
    tokens, beta = 4, 1.7

    def flow(_, x):
        x = x.reshape(tokens, tokens)
        q = x / np.linalg.norm(x, axis=1, keepdims=True)
        w = np.exp(beta * q @ q.T)
        return (w / w.sum(1, keepdims=True) @ q).ravel()

    start = np.linalg.cholesky(0.9 * np.eye(tokens) + 0.1)
    found = solve_ivp(flow, (0, 3), start.ravel(), rtol=1e-11, atol=1e-12).y[:, -1]
    x = found.reshape(tokens, tokens)
    r = np.linalg.norm(x, axis=1)
    curve = solve_ivp(
        lambda _, z: normalisation.simplex_slope(z, beta=beta, tokens=tokens),
        (0, np.log(r[0])), [0.1], rtol=1e-11, atol=1e-12,
    ).y[0, -1]  # fmt: skip
    assert x[0] @ x[1] / (r[0] * r[1]) == pytest.approx(curve, abs=1e-8)
    free = normalisation.simplex_slope(0.3, beta=0.0, tokens=5)
    assert free == pytest.approx(2 * 0.7, rel=1e-12)  # (1-z)r² is constant


def attention_flow(value, beta):
    """dx_i/d ln t of Pre-LN softmax attention, time from 1."""

    def flow(log_time, x):
        x = x.reshape(-1, len(value))
        q = x / np.linalg.norm(x, axis=1, keepdims=True)
        w = np.exp(beta * (q @ q.T - 1))
        return np.exp(log_time) * (w / w.sum(1, keepdims=True) @ q @ value.T).ravel()

    return flow


def test_equilibria_of_the_sphere_become_self_similar_at_their_exponents():
    value, start = np.diag([1.0, 0.3, -0.4]), np.eye(3) + np.array([0.9, 0.1, 0.2])
    marks = np.log([1e3, 1e4, 1e5])
    found = solve_ivp(
        attention_flow(value, 1.0), (0, marks[-1]), start.ravel(), t_eval=marks,
        method="LSODA", rtol=1e-11, atol=1e-14,
    ).y.T.reshape(3, 3, 3)  # fmt: skip
    q = found / np.linalg.norm(found, axis=2, keepdims=True)
    mean = np.log(np.abs(q.mean(1)))[:, 1:]
    apart = np.log(np.abs(q[:, 0, 1] - q[:, 1, 1]))
    slopes = [*(mean[2] - mean[1]), apart[2] - apart[1]] / (marks[2] - marks[1])
    spectrum = multistability.split_spectrum(
        3, 0, eigenvalue=1.0, others=[0.3, -0.4], alignment=1.0
    ).real
    exponents = normalisation.self_similar_exponents(np.unique(np.round(spectrum, 12)), 1.0)
    np.testing.assert_allclose(np.sort(exponents)[::-1], [-0.7, -1.0, -1.4], atol=1e-12)
    np.testing.assert_allclose(slopes, [-0.7, -1.4, -1.0], atol=1e-3)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_antipodal_tokens_part_as_a_power_of_their_radius(beta):
    start = np.array([[1.0, 0.0], [-1.0, 1e-7]])
    marks = np.array([1.0, 3.0])
    found = solve_ivp(
        attention_flow(np.eye(2), beta), (0, marks[-1]), start.ravel(), t_eval=marks,
        rtol=1e-12, atol=1e-15,
    ).y.T.reshape(2, 2, 2)  # fmt: skip
    r = np.linalg.norm(found, axis=2)
    defect = np.abs(np.linalg.det(found)) / r.prod(1)
    slope = np.diff(np.log(defect)) / np.diff(np.log(r[:, 0]))
    assert slope[0] == pytest.approx(float(normalisation.antipodal_exponent(beta)), abs=1e-3)


def test_exponents_and_thresholds_of_attention():
    found = normalisation.antipodal_exponent([0.5, 1.0])
    np.testing.assert_allclose(found, [1.1640, 0.3130], atol=6e-5)
    np.testing.assert_allclose(
        normalisation.antipodal_lifetime_exponent([0.5, 1.0]) * found, 1, rtol=1e-12
    )
    for dim, expected in ((3, 3.725), (4, 5.562), (8, 13.28), (16, 29.14), (64, 125.03)):
        assert np.cosh(2 * normalisation.critical_beta(dim)) == pytest.approx(expected, rel=2e-4)
    assert normalisation.critical_beta(4) == pytest.approx(1.200, abs=5e-4)
    assert normalisation.critical_beta(4, "post") == pytest.approx(value_noise.critical_beta(4))
    rates = normalisation.random_value_exponent([0.9, 1.09, 1.4], dim=4)
    np.testing.assert_allclose(rates, [0.333, 0.090, -0.108], atol=6e-4)
    still = normalisation.random_value_exponent(normalisation.critical_beta(7), dim=7)
    assert still == pytest.approx(0, abs=1e-11)
    spectrum = normalisation.self_similar_exponents([-0.7, -1.4, -1.0], 1.0)
    np.testing.assert_allclose(spectrum, [-0.7, -1.4, -1.0])


def test_causal_exponents_are_those_of_the_recursion():
    tokens = 4
    mask = np.tril(np.ones((tokens, tokens)))
    p = mask / mask.sum(1, keepdims=True)
    k, marks = 0.5 * np.eye(tokens) + 0.5, []
    for step in range(4001):
        root = np.sqrt(np.diag(k))
        z = k / np.outer(root, root)
        if step in (2000, 4000):
            marks.append((np.log(k[0, 0]), np.log(1 - z[0, 1])))
        k = k + 1e-2 * np.diag(k).mean() * p @ z @ p.T
    slope = (marks[1][1] - marks[0][1]) / (marks[1][0] - marks[0][0])
    exponents = normalisation.causal_exponents(tokens)
    assert exponents[0] == -0.75 and slope == pytest.approx(-0.75, abs=0.01)
    assert normalisation.causal_exponents(3, fresh=False)[0] == -0.5


@pytest.mark.parametrize("tokens, turns, beta", [(7, 1, 1.0), (7, 2, 5.0), (5, 1, 0.3)])
def test_rotary_spectra_are_those_of_the_jacobian(tokens, turns, beta):
    omega = 2 * np.pi * turns / tokens
    j = np.arange(tokens)

    def velocity(angle):
        apart = angle[None, :] - angle[:, None]
        weights = np.exp(beta * np.cos(apart + (j[None, :] - j[:, None]) * omega))
        return np.sum(weights / weights.sum(1, keepdims=True) * np.sin(apart), 1)

    e, here = 1e-6 * np.eye(tokens), np.full(tokens, 0.7)
    jacobian = np.array([(velocity(here + v) - velocity(here - v)) / 2e-6 for v in e]).T
    measured = np.sort(np.linalg.eigvals(jacobian).real)[::-1]
    found = normalisation.rope_spectrum(1.0, omega, beta=beta, tokens=tokens).real
    np.testing.assert_allclose(np.sort(found)[::-1], measured, atol=1e-6)
    # A twisted state, angles -jω: uniform weights, rest, and the spectrum 1/2, 1/2, 0, …, 0.
    twisted = -j * omega
    assert np.abs(velocity(twisted)).max() < 1e-12
    jacobian = np.array([(velocity(twisted + v) - velocity(twisted - v)) / 2e-6 for v in e]).T
    modes = np.sort(np.linalg.eigvals(jacobian).real)[::-1]
    np.testing.assert_allclose(modes, [0.5, 0.5, *[0.0] * (tokens - 2)], atol=1e-6)


def test_a_causal_mask_leaves_the_own_weights():
    found = normalisation.rope_spectrum(1.0, 0.3, beta=0.0, tokens=4, causal=True)
    np.testing.assert_allclose(found, [0, -1 / 2, -2 / 3, -3 / 4], atol=1e-15)
