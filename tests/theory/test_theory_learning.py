"""Theorems about learning: thresholds of batches, densities, curves of activations, rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from rqf_jax.analysis import fit_activation_curve, learning_rate_sensitivity, stability_gap
from rqf_jax.theory import fokker_planck, learning, sgd, synchronisation

RNG = np.random.default_rng(0)


def test_the_frobenius_norm_of_a_stable_hessian_grows_as_the_root_of_the_batch():
    # α |H| ≤ 2√B for least squares (take Σ = H in the quotient of `critical_rate`).
    for _ in range(20):
        n, samples = RNG.integers(2, 6), int(RNG.integers(2, 9))
        x = RNG.standard_normal((samples, n)) * RNG.gamma(0.5, size=(samples, 1))
        hessians = x[:, :, None] * x[:, None, :]
        for batch in (1, 2, 4):
            rate = sgd.critical_rate(hessians, batch=batch)
            assert rate * np.linalg.norm(hessians.mean(0)) <= 2 * np.sqrt(batch) * (1 + 1e-6)
    # Isotropic inputs of the worst dimension come near: slope 1/2 over four decades of batches.
    batches = 4 ** np.arange(1, 7)
    worst = [
        max(
            np.sqrt(n) * sgd.gaussian_critical_rate(np.ones(n), batch=int(b))
            for n in (b // 2, b, b + 1, 2 * b)
        )
        for b in batches
    ]
    slope = np.polyfit(np.log(batches), np.log(worst), 1)[0]
    assert slope == pytest.approx(0.5, abs=0.02)


def test_gaussian_inputs_of_twenty_dimensions_grow_and_fall_as_their_moments():
    # log₁₀ of E |w|² after 400 updates: -1.93, 0.38, 3.44 at α = 0.085, 0.092, 0.1.
    for rate, expected in ((0.085, -1.93), (0.092, 0.38), (0.1, 3.44)):
        grown = sgd.moments(np.ones(20), np.ones(20), [0, 400], learning_rate=rate).sum(1)
        assert np.log10(grown[1] / grown[0]) == pytest.approx(expected, abs=0.005)


def test_the_gaussian_of_ornstein_and_uhlenbeck_solves_the_kpz_equation_of_its_logarithm():
    # φ_t = ∇L·∇φ + ΔL + D (Δφ + |∇φ|²) for L = κx²/2, by derivatives of its exact density.
    kappa, d = 1.3, 0.4

    def log(t, x):
        mean, variance = 1.5 * jnp.exp(-kappa * t), d / kappa + 0.2 * jnp.exp(-2 * kappa * t)
        return -((x - mean) ** 2) / (2 * variance) - jnp.log(2 * jnp.pi * variance) / 2

    def residual(t, x):
        slope, bend = jax.grad(log, 1)(t, x), jax.grad(jax.grad(log, 1), 1)(t, x)
        return jax.grad(log)(t, x) - kappa * x * slope - kappa - d * (bend + slope**2)

    t, x = jnp.linspace(0.1, 2.0, 7), jnp.linspace(-3.0, 3.0, 13)
    off = jax.jit(jax.vmap(jax.vmap(residual, (None, 0)), (0, None)))(t, x)
    assert np.abs(off).max() < 1e-10
    # The solver's density has that logarithm.
    grid = np.linspace(-6, 6, 1201)
    start = np.exp(np.asarray(log(0.0, jnp.asarray(grid))))
    found = fokker_planck.density(
        kappa * grid**2 / 2, start, [1.0], spacing=grid[1] - grid[0], diffusion=d
    )[0]
    np.testing.assert_allclose(found, np.exp(log(1.0, jnp.asarray(grid))), atol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_the_balance_of_deep_linear_layers_decays_with_their_weights(decay):
    # W_{l+1}ᵀ W_{l+1} - W_l W_lᵀ e^{2λt} is conserved, from any start and in any depth.
    sizes, target = [(4, 3), (5, 4), (2, 5)], RNG.standard_normal((2, 3))
    layers = [jnp.asarray(RNG.standard_normal(size)) / 2 for size in sizes]
    flat, shaped = jax.flatten_util.ravel_pytree(layers)

    def loss(p):
        w = shaped(p)
        whole = w[2] @ w[1] @ w[0]
        return jnp.sum((whole - target) ** 2) / 2 + decay / 2 * jnp.sum(p**2)

    slope = jax.jit(jax.grad(loss))
    end = solve_ivp(
        lambda _, p: -np.asarray(slope(p)), (0, 2.0), np.asarray(flat), rtol=1e-12, atol=1e-13,
        method="DOP853",
    ).y[:, -1]  # fmt: skip
    moved = shaped(jnp.asarray(end))
    for below, above, first, second in zip(
        layers[:-1], layers[1:], moved[:-1], moved[1:], strict=True
    ):
        before = above.T @ above - below @ below.T
        after = second.T @ second - first @ first.T
        np.testing.assert_allclose(after, before * np.exp(-2 * decay * 2.0), atol=1e-10)
    assert np.linalg.norm(end - flat) > 0.5


@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_a_curve_of_massive_activations_is_found_again(noise):
    truth = {"amplitude": 3.0, "decay": 0.5, "growth": 0.02, "offset": 1.2, "level": 0.7}
    t = np.linspace(0.0, 500.0, 154)
    curve = learning.activation_curve(t, **truth)
    seen = curve + noise * np.ptp(curve) * RNG.standard_normal(t.size)
    fit = fit_activation_curve(t, seen)
    # (e^{W(1/λ)} - t₀)/γ = 57.2875.
    assert fit.peak == pytest.approx(57.2875, abs=1e-4 if noise == 0 else 1.0)
    for name, value in truth.items():
        assert fit.estimate[name] == pytest.approx(value, abs=0.05 * value + 5 * fit.stderr[name])
    assert fit.explained > 0.99 and "peak at" in repr(fit)
    if noise == 0:
        assert all(fit.estimate[n] == pytest.approx(v, rel=1e-6) for n, v in truth.items())


def test_the_cost_of_a_wrong_rate_on_a_parabola_is_its_closed_form():
    # ℓ(α) = ℓ₀ (1 - αh)^{2k}, of which rates above 2/h learn nothing.
    h, k, start = 2.0, 3, 0.8
    rates = np.geomspace(1e-3, 10.0, 41)
    losses = start * (1 - rates * h) ** (2 * k)
    expected = np.mean(np.minimum(losses, start)) - losses.min()
    cost, stderr = learning_rate_sensitivity(losses, start=start)
    assert cost == pytest.approx(expected, rel=1e-12) and np.isnan(stderr)
    lost = np.where(losses > start, np.nan, losses)
    assert learning_rate_sensitivity(lost, start=start)[0] == pytest.approx(cost, rel=1e-12)
    seeds = losses + 0.01 * RNG.standard_normal((200, 41)) * (losses < start)
    cost, stderr = learning_rate_sensitivity(seeds, start=start)
    assert abs(cost - expected) < 5 * stderr < 0.01


def test_the_gap_after_a_switch_between_two_wells_is_its_closed_form():
    # After the switch w_k = 1 - q^k leaves the well at 0 for that at 1, and the loss w²/2 of the
    # first rises fastest in a window of m where q^k (1 + q^m) = 1: by (1 - q^m)/(1 + q^m)/2. With
    # q^m the golden section that is at k = m.
    m, switch, last = 7, 40, 200
    r = (np.sqrt(5) - 1) / 2
    updates = np.arange(switch + last + 1)
    w = np.where(updates < switch, 0.0, 1 - r ** ((updates - switch) / m))
    scores = -np.stack([w**2, (w - 1) ** 2], 1) / 2
    found = stability_gap(updates, scores, starts=[0, switch], window=m).estimate
    lost = (1 - r ** (last / m)) ** 2 / 2
    assert found["minimum"] == pytest.approx(-lost, rel=1e-12)
    end = -(r ** (2 * last / m)) / 2
    assert found["worst_case"] == pytest.approx((end - lost) / 2, rel=1e-12)
    # The second task gains most at once, (1 - q^2m)/2, and loses nothing; the first gains nothing.
    assert found["forgetting"] == pytest.approx((1 - r) / (1 + r) / 4, rel=1e-12)
    assert found["plasticity"] == pytest.approx((1 - r**2) / 4, rel=1e-12)
    # A constant of each seed moves the minimum by its mean, and no change.
    shifts = RNG.standard_normal(50)
    many = stability_gap(
        updates, scores[None] + shifts[:, None, None], starts=[0, switch], window=m
    )
    assert many.estimate["minimum"] == pytest.approx(-lost + shifts.mean(), rel=1e-10)
    assert many.stderr["minimum"] == pytest.approx(shifts.std(ddof=1) / np.sqrt(50), rel=1e-10)
    assert many.stderr["forgetting"] < 1e-15 and "minimum" in repr(many)
    # One task has nothing to lose to another.
    alone = stability_gap([0, 1], [[0.2], [0.9]], starts=[0], window=1).estimate
    assert alone["worst_case"] == alone["minimum"] == 0.9


def test_copies_of_one_weight_meet_by_dawsons_integral():
    # E ln|1 - αx²| = ln α - γ - ln 2 + 4 ∫ D, from 0 to 1/√(2α): the Hilbert transform of a normal.
    from scipy.integrate import quad
    from scipy.special import dawsn

    for rate in (0.01, 0.5, 2.4, 7.0):
        area = quad(dawsn, 0, 1 / np.sqrt(2 * rate), epsabs=1e-13, limit=500)[0]
        expected = np.log(rate / 2) - np.euler_gamma + 4 * area
        found = synchronisation.exponent(learning_rate=rate / 3, curvature=3.0)
        assert found == pytest.approx(expected, abs=1e-12)
    assert synchronisation.exponent(learning_rate=synchronisation.critical_rate()) == pytest.approx(
        0, abs=1e-12
    )
    # Many examples: the descent of the whole loss.
    whole = synchronisation.exponent(learning_rate=0.5, batch=10**6)
    assert whole == pytest.approx(np.log(0.5), abs=1e-5)
    # Small rates: -α, whatever else.
    small = synchronisation.exponent(learning_rate=1e-7, batch=3, dim=4)
    assert small == pytest.approx(-1e-7, rel=1e-5)


@pytest.mark.parametrize(("dim", "batch"), [(2, 1), (5, 8), (20, 1)])
def test_the_exponent_of_many_weights_is_that_of_one_direction(dim, batch):
    rate = 0.9 * synchronisation.critical_rate(dim=dim, batch=batch)
    x = RNG.standard_normal((60_000, batch, dim))
    moved = -rate / batch * np.einsum("sb,sbj->sj", x[:, :, 0], x)
    moved[:, 0] += 1
    logs = np.log(np.linalg.norm(moved, axis=1))
    found = synchronisation.exponent(learning_rate=rate, dim=dim, batch=batch)
    assert abs(found - logs.mean()) < 5 * logs.std() / np.sqrt(logs.size)
    # Mean square stability is lost first.
    assert sgd.gaussian_critical_rate(np.ones(dim), batch=batch) < rate / 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_activation_curve([0, 1, 2], [0, 1, 2]), "`ts` must be at least 6 increasing"),
        (lambda: fit_activation_curve(np.arange(6), np.ones(5)), r"`values` must have the shape"),
        (lambda: fit_activation_curve(np.arange(6), np.ones(6)), "`values` must differ; got 1"),
        (
            lambda: stability_gap([0, 2, 2], np.ones((3, 1)), starts=[0], window=1),
            "`updates` must be at least 2 increasing numbers; got an array",
        ),
        (
            lambda: stability_gap(
                [0, 1], [[[0.5], [0.6]], [[0.5], [np.nan]]], starts=[0], window=1
            ),
            "`scores` must be finite; got nan. Leave out the seeds that failed",
        ),
        (
            lambda: stability_gap([0, 1], np.ones((3, 2)), starts=[0, 1], window=1),
            r"`scores` must be \(times, tasks\) or .* with 2 times and 2 tasks; got shape \(3, 2\)",
        ),
        (
            lambda: stability_gap([0, 1], np.ones((2, 2)), starts=[0, 1], window=1),
            r"`starts` must increase and begin before the last save, after 1 updates; got \[0, 1\]",
        ),
        (lambda: learning_rate_sensitivity(1.0, start=1.0), r"`losses` must be \(rates,\) or"),
        (lambda: learning_rate_sensitivity([1.0], start=np.nan), "`start` must be finite"),
    ],
)
def test_a_bad_series_has_one_clear_error(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
