"""Theorems about descent in linear problems: closed forms against each other and enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import solve_discrete_lyapunov

import rqf_jax as rqf
from rqf_jax.theory import currents, fokker_planck, learning, linear_networks, sgd

RNG = np.random.default_rng(0)
ROOT = RNG.standard_normal((3, 3))
HESSIAN = ROOT @ ROOT.T + 0.2 * np.eye(3)
NOISE = np.diag([1.0, 2.0, 0.5]) + 0.3
DIFFUSION = NOISE / 4


# ---- around a minimum


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_the_stationary_covariance_solves_its_equations(momentum):
    alpha, batch = 0.15, 4
    sigma = sgd.stationary_covariance(
        HESSIAN, NOISE, learning_rate=alpha, batch=batch, momentum=momentum
    )
    one = np.eye(3)
    step = np.block([[one - alpha * HESSIAN, -alpha * momentum * one], [HESSIAN, momentum * one]])
    kick = np.vstack([-alpha * one, one])
    whole = solve_discrete_lyapunov(step, kick @ (NOISE / batch) @ kick.T)
    np.testing.assert_allclose(sigma, whole[:3, :3], rtol=1e-10)
    if not momentum:
        left = HESSIAN @ sigma + sigma @ HESSIAN - alpha * HESSIAN @ sigma @ HESSIAN
        np.testing.assert_allclose(left, alpha / batch * NOISE, rtol=1e-10)
        # Fluctuation and dissipation: E w·∇L = (α/2) E |gradient|².
        squares = np.trace(HESSIAN @ sigma @ HESSIAN) + np.trace(NOISE) / batch
        assert np.trace(HESSIAN @ sigma) == pytest.approx(alpha / 2 * squares, rel=1e-12)
    single = sgd.stationary_covariance([[2.0]], [[0.5]], learning_rate=0.3, momentum=momentum)
    variance = learning.stationary_variance(
        2.0, learning_rate=0.3, gradient_variance=0.5, momentum=momentum
    )
    np.testing.assert_allclose(single, variance, rtol=1e-12)


def test_an_order_of_all_examples_leaves_the_variance_of_all_its_orders():
    # Sums over all permutations of four examples, mapped to their stationary state.
    e, alpha, kappa = np.array([1.0, -2.0, 0.5, 0.5]), 0.3, 1.4
    a = 1 - alpha * kappa
    ends = [sum(a ** (3 - k) * alpha * p[k] for k in range(4)) for p in itertools.permutations(e)]
    expected = np.mean(np.square(ends)) / (1 - a**8)
    options = {"learning_rate": alpha, "variance": np.mean(e**2), "samples": 4}
    found = sgd.epoch_variance(kappa, replacement=False, **options)
    assert found == pytest.approx(expected, rel=1e-12)
    again = sgd.epoch_variance(kappa, replacement=True, **options)
    assert again == pytest.approx(alpha**2 * np.mean(e**2) / (1 - a**2), rel=1e-12)
    # Where one update forgets all, an end of an epoch has the noise of its last example.
    with np.errstate(divide="raise"):
        near = np.array([1.0, 1 + 1e-9, 1 - 1e-9]) / alpha
        forgotten = sgd.epoch_variance(near, replacement=False, **options)
    np.testing.assert_allclose(forgotten, alpha**2 * options["variance"], rtol=1e-7)
    # The cube of a small step, and its square root of a relative error.
    for rate in (1e-3, 1e-5):
        small = sgd.epoch_variance(
            kappa, learning_rate=rate, variance=1.0, samples=8, replacement=False
        )
        assert small == pytest.approx(rate**3 * kappa * 8 * 9 / 24, rel=20 * rate)


# ---- stability


def dense(hessians, alpha, batches):
    """T as a matrix, by enumeration of batches."""
    n = hessians.shape[1]
    steps = [np.eye(n) - alpha * hessians[list(b)].mean(0) for b in batches]
    return np.mean([np.kron(s, s) for s in steps], axis=0)


@pytest.mark.parametrize("replacement", [True, False])
def test_the_radius_of_second_moments_is_that_of_all_batches(replacement):
    g = RNG.standard_normal((4, 5))
    hessians = g[:, :, None] * g[:, None, :] + 0.1 * np.eye(5)
    pairs = list(itertools.product(range(4), repeat=2))
    batches = pairs if replacement else [p for p in pairs if p[0] != p[1]]
    options = {"batch": 2, "replacement": replacement}
    for alpha in (0.05, 0.4):
        expected = np.linalg.eigvals(dense(hessians, alpha, batches)).real.max()
        found = sgd.stability_radius(hessians, learning_rate=alpha, **options)
        assert found == pytest.approx(expected, rel=1e-9)
    critical = sgd.critical_rate(hessians, **options)
    radius = np.abs(np.linalg.eigvals(dense(hessians, critical, batches))).max()
    assert radius == pytest.approx(1, abs=1e-9)


def test_least_squares_one_by_one_are_stable_below_two_over_the_trace_and_whole_ones_over_the_top():
    worst = 0.0
    for _ in range(60):
        n, samples = RNG.integers(1, 5), RNG.integers(1, 7)
        g = RNG.standard_normal((samples, n)) * RNG.gamma(0.5, size=(samples, 1))
        hessians = g[:, :, None] * g[:, None, :]
        rate = sgd.critical_rate(hessians)
        worst = max(worst, rate * np.trace(hessians.mean(0)))
        full = sgd.critical_rate(hessians, batch=int(samples), replacement=False)
        top = np.linalg.eigvalsh(hessians.mean(0))[-1]
        assert full == pytest.approx(2 / top, rel=1e-6)
    assert 1.99 < worst <= 2 + 1e-6


def test_gaussian_inputs_in_many_dimensions_need_small_steps():
    assert sgd.gaussian_critical_rate(np.ones(20)) == pytest.approx(2 / 22, rel=1e-12)
    assert sgd.gaussian_critical_rate([3.0, 1.0], batch=10**9) == pytest.approx(2 / 3, rel=1e-6)
    # There the step of `moments` neither grows nor decays.
    values = np.array([2.0, 1.0, 0.3])
    rate = sgd.gaussian_critical_rate(values, batch=3)
    late = sgd.moments(values, np.ones(3), [4000, 8000], learning_rate=rate, batch=3)
    np.testing.assert_allclose(late[0], late[1], rtol=1e-9)
    grown = sgd.moments(np.ones(20), np.ones(20), [0, 1500], learning_rate=0.092).sum(1)
    assert 0 < np.log10(grown[1] / grown[0])


# ---- regression


def test_moments_are_those_of_their_recursion_and_settle():
    values, alpha, batch, noise = np.array([2.0, 1.0, 0.3]), 0.1, 4, 0.5
    c, times = np.array([1.0, 0.5, 2.0]), [0, 1, 7, 60]
    found = sgd.moments(values, c, times, learning_rate=alpha, batch=batch, noise=noise)
    for update in range(61):
        if update in times:
            np.testing.assert_allclose(found[times.index(update)], c, rtol=1e-10)
        spread = alpha**2 / batch * values * (values @ c + noise)
        c = (1 - 2 * alpha * values + alpha**2 * (1 + 1 / batch) * values**2) * c + spread
    assert found.shape == (4, 3)
    start = np.ones(3)
    np.testing.assert_allclose(
        sgd.moments(values, start, [60], learning_rate=alpha, batch=batch, noise=noise)[0],
        [0.00763, 0.00716, 0.03343],
        atol=1e-5,
    )
    # Ends: the whole batch without noise leaves nothing, a step of zero everything.
    np.testing.assert_allclose(sgd.moments(values, start, [9], learning_rate=0.0)[0], start)
    # One update from rest: α² λ σ²/B, however small α is.
    first = sgd.moments([1.0], [0.0], [1], learning_rate=1e-11, noise=2.0)
    np.testing.assert_allclose(first, [[2e-22]], rtol=1e-12)


def test_random_features_split_their_target_in_two_independent_parts():
    f, t = RNG.standard_normal((3, 6)), RNG.standard_normal(6)
    values, start, noise = sgd.random_features(f, t, noise=0.1)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(f @ f.T), rtol=1e-10)
    best = np.linalg.solve(f @ f.T, f @ t)
    assert start.sum() == pytest.approx(best @ best, rel=1e-10)
    assert noise == pytest.approx(0.1 + np.sum((t - f.T @ best) ** 2), rel=1e-10)
    # Nothing is lost: the loss at 0 is that of the whole target.
    assert values @ start + noise == pytest.approx(0.1 + t @ t, rel=1e-10)


# ---- currents


def test_entropy_is_produced_unless_noise_and_curvature_have_the_same_axes():
    q = currents.current(HESSIAN, DIFFUSION)
    sigma = currents.covariance(HESSIAN, DIFFUSION)
    np.testing.assert_allclose(q, HESSIAN @ sigma - DIFFUSION, atol=1e-12)
    np.testing.assert_allclose(q, -q.T, atol=1e-12)
    found = currents.entropy_production(HESSIAN, DIFFUSION)
    inverse = np.linalg.inv(DIFFUSION)
    expected = np.trace(HESSIAN.T @ inverse @ HESSIAN @ sigma) - np.trace(HESSIAN)
    assert found == pytest.approx(expected, rel=1e-10) and found > 0.1
    assert currents.entropy_production(HESSIAN, HESSIAN @ HESSIAN) == pytest.approx(0, abs=1e-12)


def test_the_entropy_of_paths_fluctuates_by_its_integral_theorem_and_grows_at_its_rate():
    # Exact transitions, seen at short times.
    h, steps, paths = 0.01, 30, 40_000
    sigma = currents.covariance(HESSIAN, DIFFUSION)
    values, axes = np.linalg.eigh(HESSIAN)
    carried = (axes * np.exp(-values * h)) @ axes.T
    root = np.linalg.cholesky(sigma - carried @ sigma @ carried.T)
    x = np.empty((paths, steps + 1, 3))
    x[:, 0] = RNG.standard_normal((paths, 3)) @ np.linalg.cholesky(sigma).T
    for k in range(steps):
        x[:, k + 1] = x[:, k] @ carried.T + RNG.standard_normal((paths, 3)) @ root.T
    entropy = currents.path_entropy(x, HESSIAN, DIFFUSION, time=h)
    weight = np.exp(-entropy)
    assert abs(weight.mean() - 1) < 5 * weight.std() / np.sqrt(paths)
    rate = entropy.mean() / (h * steps)
    error = entropy.std() / np.sqrt(paths) / (h * steps)
    expected = currents.entropy_production(HESSIAN, DIFFUSION)
    assert abs(rate - expected) < 0.05 * expected + 3 * error
    assert error < 0.05 * expected


# ---- densities


def test_the_density_of_ornstein_and_uhlenbeck_is_gaussian_at_all_times():
    x, d = np.linspace(-6, 6, 801), 0.5
    h = x[1] - x[0]

    def gaussian(t):
        mean, variance = 1.5 * np.exp(-t), d + (0.09 - d) * np.exp(-2 * t)
        return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    times = [0.0, 0.3, 1.0]
    found = fokker_planck.density(x**2 / 2, gaussian(0), times, spacing=h, diffusion=d)
    np.testing.assert_allclose(found, [gaussian(t) for t in times], atol=1e-4)
    np.testing.assert_allclose(found.sum(1) * h, 1, rtol=1e-10)


def test_the_log_density_obeys_its_kpz_equation_to_second_order():
    errors = []
    for points in (121, 241):
        x = np.linspace(-3, 3, points)
        h, d, dt = x[1] - x[0], 0.7, 1e-4
        loss = x**4 / 4 - x**2 / 2
        p = np.exp(-(x**2) - 0.3 * np.sin(x))
        early, now, late = np.log(
            fokker_planck.density(loss, p, [0.1, 0.1 + dt, 0.1 + 2 * dt], spacing=h, diffusion=d)
        )
        slope, bend = np.gradient(now, h), np.gradient(np.gradient(now, h), h)
        right = (x**3 - x) * slope + (3 * x**2 - 1) + d * (bend + slope**2)
        middle = np.abs(x) < 2
        errors.append(np.abs((late - early) / (2 * dt) - right)[middle].max())
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)


def test_a_density_at_late_times_is_that_of_gibbs_or_refused_with_the_work_it_needs(refused):
    loss, h, d = np.array([0.0, 0.4, 0.1, 0.9]), 0.5, 0.7
    options = {"spacing": h, "diffusion": d}
    gibbs = np.exp(-loss / d) / np.sum(np.exp(-loss / d)) / h
    # In any order of the times, and far beyond the slowest relaxation.
    late, early, now = fokker_planck.density(loss, [0, 1, 0, 0], [200.0, 0.3, 0.0], **options)
    np.testing.assert_allclose(late, gibbs, rtol=1e-9)
    np.testing.assert_allclose(now, [0, 2, 0, 0])
    alone = fokker_planck.density(loss, [0, 1, 0, 0], [0.3], **options)[0]
    np.testing.assert_allclose(early, alone, rtol=1e-12)
    for last in (1e12, 1e30, 1e300):
        words = "`times` must need at most 1,000,000 jumps", f"until {last:g}", "`spacing`"
        refused(
            lambda last=last: fokker_planck.density(loss, np.ones(4), [1, last], **options), *words
        )


def test_a_density_in_two_dimensions_is_the_product_of_its_axes_and_ends_at_gibbs():
    x, y = np.linspace(-3, 3, 41), np.linspace(-2.4, 2.4, 33)
    u, v = x**2, y**2 / 2 - 0.3 * y
    p, q = np.exp(-((x - 1) ** 2)), np.exp(-4 * y**2)
    options = {"spacing": 0.15, "diffusion": 0.6}
    whole = fokker_planck.density(u[:, None] + v, p[:, None] * q, [0.4, 40.0], **options)
    first = fokker_planck.density(u, p, [0.4], **options)[0]
    second = fokker_planck.density(v, q, [0.4], **options)[0]
    np.testing.assert_allclose(whole[0], first[:, None] * second, atol=1e-10)
    gibbs = np.exp(-(u[:, None] + v) / 0.6)
    np.testing.assert_allclose(whole[1], gibbs / gibbs.sum() / 0.15**2, rtol=1e-8)


# ---- deep linear networks


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("start", [0.05, 3.0])
def test_a_mode_of_any_depth_solves_its_equation_and_its_time_is_the_inverse(layers, start):
    s, tau, times = 1.5, 2.0, np.array([0.3, 1.0, 4.0])
    exact = solve_ivp(
        lambda _, u: layers * u ** (2 - 2 / layers) * (s - u) / tau, (0, 4.0), [start],
        t_eval=times, rtol=1e-11, atol=1e-13,
    ).y[0]  # fmt: skip
    options = {"target": s, "layers": layers, "scale": tau}
    found = linear_networks.deep_mode(times, start, **options)
    np.testing.assert_allclose(found, exact, rtol=1e-7)
    seen = found != s
    clock = linear_networks.deep_time(found[seen], start, **options)
    np.testing.assert_allclose(clock, times[seen], rtol=1e-6)
    if layers == 2 and start < s:
        balanced = linear_networks.balanced_mode(times, start, target=s, scale=tau)
        np.testing.assert_allclose(found, balanced, rtol=1e-10)


def test_modes_are_learnt_in_order_and_orthogonal_layers_need_no_more_time_in_any_depth():
    # From u₀ a mode of two layers takes ln(1/u₀)/2s: delays of small starts are in that ratio.
    s = np.array([3.0, 2.0, 1.0])
    times = linear_networks.deep_time(s / 2, 1e-8, target=s, layers=2)
    assert np.all(np.diff(times) > 0)
    delays = times - linear_networks.deep_time(s / 2, 1e-4, target=s, layers=2)
    np.testing.assert_allclose(delays, np.log(1e4) / (2 * s), rtol=0.01)
    # From u₀ = 1 with a rate ∝ 1/L the time has a limit.
    depths = [2, 4, 8, 16, 32, 64]
    orthogonal = [L * linear_networks.deep_time(1.9, 1.0, target=2.0, layers=L) for L in depths]
    assert np.all(np.diff(orthogonal) < 0) and orthogonal[-1] > 0.98 * orthogonal[-2]
    # Small layers, each half of an orthogonal one, take a time that explodes.
    small = [L * linear_networks.deep_time(1.9, 0.5**L, target=2.0, layers=L) for L in depths[:4]]
    assert np.all(np.diff(small) > 0) and small[-1] > 1000 * small[0]


# ---- logits and activations


@pytest.mark.parametrize(
    ("kind", "bits"), [(np.float16, 11), (np.float32, 24), (np.float64, 53), ("bfloat16", 8)]
)
def test_a_softmax_collapses_where_its_precision_ends(kind, bits):
    gap = learning.collapse_gap(bits)
    for far, collapsed in ((gap + 0.1, True), (gap - 0.1, False)):
        logits = jnp.array([far, 0.0], kind)
        loss, slope = jax.value_and_grad(lambda z: -jax.nn.log_softmax(z)[0])(logits)
        assert (float(slope[0]) == 0) == collapsed
        assert (float(loss) == 0) == collapsed


def test_massive_activations_peak_where_their_curve_says():
    options = {"decay": 0.05, "growth": 0.3, "offset": 2.0}
    peak = learning.activation_peak(**options)
    t = peak + np.array([-1e-3, 0.0, 1e-3])
    curve = learning.activation_curve(t, amplitude=5.0, level=1.0, **options)
    assert curve[1] > max(curve[0], curve[2])
    x = 0.3 * peak + 2.0
    assert x * np.log(x) == pytest.approx(20.0, rel=1e-12)
    late = learning.activation_curve(1e5, amplitude=5.0, level=1.0, **options)
    assert late == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sgd.stationary_covariance(HESSIAN, NOISE, learning_rate=5.0),
            "`learning_rate` must keep the descent stable; got 5.0",
        ),
        (
            lambda: sgd.stationary_covariance(-np.eye(2), np.eye(2), learning_rate=0.1),
            "`hessian` must have no negative eigenvalue",
        ),
        (
            lambda: sgd.stationary_covariance(np.eye(2), np.eye(3), learning_rate=0.1),
            r"`noise` must be of shape \(2, 2\); got shape \(3, 3\)",
        ),
        (lambda: sgd.critical_rate(np.zeros((2, 1, 1))), "`hessians` must not all be zero"),
        (lambda: sgd.critical_rate(np.eye(2)), r"`hessians` must be of shape \(N, n, n\)"),
        (
            lambda: sgd.critical_rate(np.ones((2, 1, 1)), batch=3, replacement=False),
            "`batch` must be at most the 2 examples there are; got 3",
        ),
        (
            lambda: sgd.moments([1.0], [1.0, 2.0], [0], learning_rate=0.1),
            "`start` must be 1 numbers, one for each of `eigenvalues`; got 2",
        ),
        (lambda: sgd.random_features([[1.0, 0.0]], [1.0]), r"must be of shape \(p, 1\)"),
        (lambda: currents.covariance(-np.eye(2), np.eye(2)), "`drift` must have eigenvalues with"),
        (
            lambda: fokker_planck.density(np.ones(3), np.ones(4), [0], spacing=1, diffusion=1),
            r"`start` must be of the shape of `loss`, \(3,\); got shape \(4,\)|got \(4,\)",
        ),
        (
            lambda: linear_networks.deep_time(2.0, 0.1, target=1.0, layers=2),
            "`end` must lie between `start` and `target`; got 2.0",
        ),
    ],
)
def test_a_bad_argument_of_an_oracle_has_one_clear_error(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_doors_to_the_oracles_are_open():
    assert {"sgd", "currents", "fokker_planck"} <= set(dir(rqf.theory))
