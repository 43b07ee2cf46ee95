"""Spectra of attention equilibria and laws of selective state-space tokens, by their equations."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from rqf_jax.theory import mamba, multistability as multi


def velocity(x, value, logits):
    """P Σ_j softmax_j(x_iᵀ M x_j) V x_j, written out."""
    scores = x @ logits @ x.T
    weights = np.exp(scores - scores.max(1, keepdims=True))
    pulled = weights / weights.sum(1, keepdims=True) @ x @ value.T
    return pulled - np.sum(pulled * x, axis=1, keepdims=True) * x


def spectrum(x, value, logits, step=1e-6):
    """Eigenvalues of the differences of `velocity` in orthonormal bases of the tangent spaces."""
    frames = np.array([np.linalg.svd(token[None])[2][1:] for token in x])
    columns = []
    for token, frame in enumerate(frames):
        for direction in frame:
            moved = []
            for sign in (1, -1):
                y = x.copy()
                y[token] = math.cos(step) * y[token] + sign * math.sin(step) * direction
                moved.append(velocity(y, value, logits))
            change = (moved[0] - moved[1]) / (2 * step)
            columns.append(np.einsum("akd,ad->ak", frames, change).ravel())
    return np.linalg.eigvals(np.array(columns).T)


def distance(found, expected):
    """Largest distance between two spectra, matched greedily."""
    left, worst = list(found), 0.0
    assert len(found) == len(expected)
    for value in expected:
        gaps = [abs(value - other) for other in left]
        worst = max(worst, min(gaps))
        left.pop(int(np.argmin(gaps)))
    return worst


def pattern(direction, plus, minus):
    return np.repeat([1.0, -1.0], [plus, minus])[:, None] * direction


def real_eigenpairs(value):
    values, vectors = np.linalg.eig(value)
    for k in np.flatnonzero(np.abs(values.imag) < 1e-12):
        direction = vectors[:, k].real
        yield float(values[k].real), np.delete(values, k), direction / np.linalg.norm(direction)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("symmetric", [True, False])
def test_patterns_on_an_eigenvector_are_equilibria_with_the_closed_spectrum(seed, symmetric):
    rng, tokens = np.random.default_rng(seed), 6
    value, logits = rng.standard_normal((2, 4, 4))
    value = (value + value.T) / 2 if symmetric else value
    for eigenvalue, others, v in real_eigenpairs(value):
        for plus in (6, 5, 4, 3):
            x = pattern(v, plus, tokens - plus)
            np.testing.assert_allclose(velocity(x, value, logits), 0, atol=1e-12)
            found = multi.split_spectrum(
                plus,
                tokens - plus,
                eigenvalue=eigenvalue,
                others=others,
                alignment=float(v @ logits @ v),
            )
            assert distance(found, spectrum(x, value, logits)) < 3e-8
            same = multi.pattern_spectrum(value, logits, -3 * v, plus=plus, minus=tokens - plus)
            assert distance(found, same) < 1e-10


def test_consensus_ignores_the_query_and_key_and_is_stable_on_the_leading_eigenvector_only():
    for values in ([2.0, 1.0, -1.0], [-0.5, -1.0, -2.0], [1.0, 0.3, 0.2]):
        for k, eigenvalue in enumerate(values):
            others = np.delete(values, k)
            options = {"eigenvalue": eigenvalue, "others": others}
            found = multi.split_spectrum(5, 0, **options, alignment=0.7)
            again = multi.split_spectrum(5, 0, **options, alignment=-3.0)
            np.testing.assert_array_equal(found, again)
            expected = np.concatenate([np.full(8, -eigenvalue), others - eigenvalue])
            assert distance(found, expected) < 1e-12
            stable = eigenvalue > 0 and np.all(others < eigenvalue)
            assert (found.real.max() < 0) == stable


def test_a_balanced_split_has_its_three_families_of_eigenvalues():
    kappa, eigenvalue, others = 0.6, 1.4, np.array([0.3 + 0.5j, 0.3 - 0.5j, -1.0])
    found = multi.split_spectrum(3, 3, eigenvalue=eigenvalue, others=others, alignment=kappa)
    m = math.tanh(kappa)
    expected = [np.full(12, -eigenvalue * m), others - eigenvalue * m, (others - eigenvalue) * m]
    assert distance(found, np.concatenate(expected)) < 1e-12


def abscissa(plus, minus, eigenvalue, others, alignment):
    found = multi.split_spectrum(
        plus, minus, eigenvalue=eigenvalue, others=others, alignment=alignment
    )
    return found.real.max()


@pytest.mark.parametrize(
    ("eigenvalue", "others"),
    [(1.0, [0.3]), (2.0, [1.0, -3.0]), (1.5, [0.4 + 2j, 0.4 - 2j]), (1.0, [-0.2]), (-2.0, [1.0])],
)
def test_a_balanced_split_becomes_stable_at_the_critical_alignment(eigenvalue, others):
    critical = multi.critical_alignment(eigenvalue, others)
    assert math.copysign(1, critical) == math.copysign(1, eigenvalue)
    low, high = (-4.0, -1e-12) if eigenvalue < 0 else (1e-12, 4.0)
    stable_high = abscissa(3, 3, eigenvalue, others, high) < 0
    for _ in range(60):
        middle = (low + high) / 2
        if (abscissa(3, 3, eigenvalue, others, middle) < 0) == stable_high:
            high = middle
        else:
            low = middle
    assert (low + high) / 2 == pytest.approx(critical, abs=1e-9)


def test_a_split_that_does_not_lead_is_never_stable():
    assert multi.critical_alignment(1.0, [1.2, 0.1]) == math.inf
    assert multi.critical_alignment(-1.0, [-1.2, 0.1]) == -math.inf
    assert multi.critical_alignment(-1.0, [1.2]) == -math.inf
    for kappa in (-3.0, -0.5, 0.5, 3.0):
        assert abscissa(3, 3, 1.0, [1.2, 0.1], kappa) > 0
        assert abscissa(3, 3, -1.0, [-1.2, 0.1], kappa) > 0


@pytest.mark.parametrize(
    ("b", "expected"), [(0.3, 0.4174), (0.5, 0.0758), (0.6, -0.0741), (1.5, -0.8103)]
)
def test_a_split_on_a_repelling_eigenvector_has_the_tabulated_abscissa(b, expected):
    value, logits = np.diag([1.0, -2.0]), np.diag([1.0, -b])
    v = np.array([0.0, 1.0])
    found = multi.pattern_spectrum(value, logits, v, plus=4, minus=4).real.max()
    assert found == pytest.approx(expected, abs=5.1e-5)
    assert found == pytest.approx(spectrum(pattern(v, 4, 4), value, logits).real.max(), abs=1e-8)
    assert multi.critical_alignment(-2.0, [1.0]) == pytest.approx(-0.549306, abs=1e-6)


def test_splits_of_a_positive_semidefinite_value_are_stable_on_its_leading_eigenvector_only():
    rng = np.random.default_rng(7)
    for _ in range(30):
        root = rng.standard_normal((3, 3))
        values, vectors = np.linalg.eigh(root @ root.T)
        logits = 4 * rng.standard_normal((3, 3))
        for k in range(2):
            v = vectors[:, k]
            for plus in (3, 4, 5):
                kappa = float(v @ logits @ v)
                others = np.delete(values, k)
                assert abscissa(plus, 6 - plus, float(values[k]), others, kappa) > 0


@pytest.mark.parametrize(
    ("kappa", "expected"), [(0.4, 0.28479), (0.6, 0.11287), (0.8, -0.05476), (1.0, -0.20643)]
)
def test_an_unbalanced_split_has_the_tabulated_abscissa(kappa, expected):
    found = abscissa(6, 2, 1.0, [0.3], kappa)
    assert found == pytest.approx(expected, abs=1e-5)
    x = pattern(np.array([1.0, 0.0]), 6, 2)
    numeric = spectrum(x, np.diag([1.0, 0.3]), np.diag([kappa, -1.0]))
    assert found == pytest.approx(numeric.real.max(), abs=1e-8)
    bound = multi.unbalanced_alignment_bound(6, 2)
    assert bound == pytest.approx(math.log(3) / 2, rel=1e-14)
    # The minority repels its own members below the bound, whatever the other eigenvalues.
    assert abscissa(6, 2, 1.0, [-9.0], bound - 1e-6) > 0
    assert abscissa(6, 2, 1.0, [-9.0], bound + 1e-6) < 0


GOLDEN_VALUE = np.array([[0.25, -0.3, 0.16], [-0.3, 1.1, -0.49], [0.16, -0.49, 0.29]])
GOLDEN_LOGITS = np.array([[3.4, 1.7, -2.3], [2.0, 2.3, -0.3], [-0.8, -0.6, -5.1]])


def test_consensus_and_balanced_split_are_stable_at_once_and_six_to_four_is_not():
    v = np.linalg.eigh(GOLDEN_VALUE)[1][:, -1]
    assert v @ GOLDEN_LOGITS @ v == pytest.approx(0.20458, abs=5e-6)
    for plus, expected in ((10, -1.2736), (5, -0.1333), (6, 0.082)):
        options = {"plus": plus, "minus": 10 - plus}
        found = multi.pattern_spectrum(GOLDEN_VALUE, GOLDEN_LOGITS, v, **options).real.max()
        assert found == pytest.approx(expected, abs=6e-4 if plus == 6 else 1e-4)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(3, 0.5786), (4, 0.7864), (5, 0.5756), (6, 0.4622)]
)
def test_regular_polygons_have_the_closed_and_tabulated_spectrum(tokens, expected):
    phase = 2 * np.pi * np.arange(tokens) / tokens
    x = np.stack([np.cos(phase), np.sin(phase)], axis=1)
    for beta in (0.5, 1.0, 4.0, -1.0):
        found = multi.polygon_spectrum(tokens, beta=beta)
        for sign in (1.0, -1.0):
            value, logits = sign * np.eye(2), beta * np.eye(2)
            np.testing.assert_allclose(velocity(x, value, logits), 0, atol=1e-12)
            assert distance(sign * found, spectrum(x, value, logits)) < 1e-7
        if beta == 1.0:
            assert found.max() == pytest.approx(expected, abs=5.1e-5)
            assert found.min() == pytest.approx(0, abs=1e-15)


def softplus(x):
    return np.logaddexp(0.0, x)


def tokens_velocity(x, product, slope, decay, bias=0.0):
    """The equation of `theory.mamba` as the recurrence of its hidden state."""
    steps, hidden, moved = softplus(slope * x + bias), 0.0, np.empty_like(x)
    for token, (position, step) in enumerate(zip(x, steps, strict=True)):
        hidden = math.exp(-decay * step) * hidden + product * step * position**2
        moved[token] = position * hidden
    return moved


def flow(x, stop, **options):
    return solve_ivp(
        lambda _, y: tokens_velocity(y, **options),
        (0, stop),
        x,
        method="LSODA",
        rtol=1e-9,
        atol=1e-13,
    ).y[:, -1]


@pytest.mark.parametrize(("bias", "decay"), [(0.0, 1.0), (-0.5, 4.0)])
def test_decaying_tokens_reach_their_constants(bias, decay):
    time, start = 1e6, np.array([1.2, -0.8, 0.5, 2.0])
    expected = mamba.decay_constants(4, product=-1.0, decay=decay, step_bias=bias)
    if bias == 0:
        np.testing.assert_allclose(expected[:2], [0.84932, 0.60056], atol=5e-6)
    final = flow(start, time, product=-1.0, slope=1.0, decay=decay, bias=bias)
    np.testing.assert_allclose(np.abs(final) * math.sqrt(time), expected, rtol=5e-3)
    # No token crosses zero, and |x_l| falls as t^{-1/2}.
    np.testing.assert_array_equal(np.sign(final), np.sign(start))
    earlier = flow(start, time / 10, product=-1.0, slope=1.0, decay=decay, bias=bias)
    slopes = np.log10(final / earlier)
    np.testing.assert_allclose(slopes, -0.5, atol=0.01)
    # The constants are a fixed point: Σ_{j≤l} y_j² e^{-aΔ(l-j)} = 1/(2|μ|Δ).
    step = softplus(bias)
    level = 0.0
    for constant in expected:
        level = level * math.exp(-decay * step) + constant**2
        assert level == pytest.approx(1 / (2 * step), rel=1e-12)


@pytest.mark.parametrize("slope", [1.0, -0.5])
def test_slow_tokens_grow_by_the_implicit_law(slope):
    sign = -math.copysign(1.0, slope)
    for time in (1e8, 1e12):
        found = mamba.slow_growth(time, product=1.0, step_slope=slope)
        size = abs(slope)
        right = math.log(size * time) + 3 * math.log(found)
        assert size * found == pytest.approx(right, rel=1e-12)
        reached = mamba.first_token_time(0.5 * sign, sign * found, product=1.0, step_slope=slope)
        assert math.log(reached) == pytest.approx(math.log(time), rel=0.02)
    found = mamba.slow_growth(1e12, product=1.0, step_slope=1.0)
    assert found == pytest.approx(38.590, abs=5e-4)
    # The first token itself is at 38.50 then.
    reached = mamba.first_token_time(-0.5, -38.50, product=1.0, step_slope=1.0)
    assert math.log10(reached) == pytest.approx(12, abs=5e-3)


def test_slow_tokens_keep_their_ratio():
    times = (1e10, 1e11)
    ratios = []
    for time in times:
        x = flow(np.array([-0.5, -0.7, -0.4]), time, product=1.0, slope=1.0, decay=1.0)
        ratios.append(x[1:] / x[0])
        arrival = mamba.first_token_time(-0.5, float(x[0]), product=1.0, step_slope=1.0)
        assert arrival == pytest.approx(time, rel=1e-5)
    np.testing.assert_allclose(ratios[1], ratios[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("start", "product", "slope", "bias", "time"),
    [(0.5, 1.0, 1.0, 0.0, 1.2), (-0.7, 2.0, 1.0, 0.3, 3.0), (0.8, -1.5, -2.0, -0.4, 50.0)],
)
def test_the_first_token_arrives_when_the_equation_says(start, product, slope, bias, time):
    x = solve_ivp(
        lambda _, x: product * x**3 * softplus(slope * x + bias),
        (0, time),
        [start],
        rtol=1e-11,
        atol=1e-13,
    ).y[0, -1]
    found = mamba.first_token_time(
        start, float(x), product=product, step_slope=slope, step_bias=bias
    )
    assert found == pytest.approx(time, rel=1e-8)


def test_fast_tokens_blow_up_at_the_blow_up_time():
    expected = mamba.blow_up_time(0.5, product=1.0, step_slope=1.0)
    assert expected == pytest.approx(1.676939, abs=5e-7)

    # Arclength keeps the solver alive: d(x, t)/ds = (f, 1)/(1 + |f|).
    def stretched(_, state):
        moved = tokens_velocity(state[:1], 1.0, 1.0, 1.0)
        return np.append(moved, 1.0) / (1 + abs(moved[0]))

    solution = solve_ivp(stretched, (0, 3e3), [0.5, 0.0], method="LSODA", rtol=1e-11, atol=1e-13)
    assert solution.y[1, -1] == pytest.approx(expected, abs=1e-6)
    mirrored = mamba.blow_up_time(-0.5, product=1.0, step_slope=-1.0)
    assert mirrored == pytest.approx(expected, rel=1e-14)
    assert mamba.blow_up_time(0.5, product=2.0, step_slope=1.0) == pytest.approx(expected / 2)


def test_times_that_never_come_are_infinite():
    assert mamba.first_token_time(0.5, 0.0, product=-1.0, step_slope=1.0) == math.inf
    assert mamba.first_token_time(-0.5, -math.inf, product=1.0, step_slope=1.0) == math.inf
    without_slope = mamba.first_token_time(0.5, math.inf, product=1.0, step_slope=0.0)
    assert without_slope == pytest.approx(2 / math.log(2), rel=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: multi.split_spectrum(0, 2, eigenvalue=1.0, others=[1.0], alignment=1.0),
            "`plus` must be at least 1; got 0",
        ),
        (
            lambda: multi.split_spectrum(1, 2, eigenvalue=1.0, others=[np.nan], alignment=1.0),
            "`others` must be finite; got",
        ),
        (lambda: multi.critical_alignment(0.0, [1.0]), "`eigenvalue` must differ from 0; got 0.0"),
        (
            lambda: multi.pattern_spectrum(np.eye(3), np.eye(2), [1, 0, 0], plus=1, minus=1),
            r"`query_key` must have the shape of `value`, \(3, 3\); got \(2, 2\)",
        ),
        (
            lambda: multi.pattern_spectrum(GOLDEN_VALUE, np.eye(3), [1, 0, 0], plus=1, minus=1),
            "`direction` must be an eigenvector of `value`, |Vv - λv| = 0; got 0.3",
        ),
        (
            lambda: multi.pattern_spectrum(np.eye(2), np.eye(2), [0, 0], plus=1, minus=1),
            "`direction` must be a nonzero vector of 2 numbers",
        ),
        (lambda: multi.polygon_spectrum(1, beta=1.0), "`tokens` must be at least 2; got 1"),
        (
            lambda: mamba.decay_constants(2, product=1.0, decay=1.0),
            "`product` must be negative; got 1.0",
        ),
        (
            lambda: mamba.slow_growth(1e-3, product=1.0, step_slope=1.0),
            "`time` must be large enough for the growth law; got 0.001",
        ),
        (
            lambda: mamba.blow_up_time(-0.5, product=1.0, step_slope=1.0),
            "`start` must have the sign of `step_slope`; got -0.5",
        ),
        (
            lambda: mamba.first_token_time(0.5, -1.0, product=1.0, step_slope=1.0),
            "`stop` must have the sign of `start`; got -1.0",
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
