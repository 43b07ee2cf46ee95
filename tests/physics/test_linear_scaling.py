"""Theorems about linear scaling: widths and gaps that depend on step over batch, and where not."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean

from rqf_jax.laws import Fixed
from rqf_jax.theory import learning
from rqf_jax.training import TeacherStudent, train

pytestmark = pytest.mark.slow
KEY = jax.random.key(0)
NOISE = 0.1


def student(rate, batch, inputs=None):
    """The teacher-student experiment in float32, started at the teacher."""
    return TeacherStudent(
        2 * np.eye(2), Fixed(2 * jnp.eye(2, dtype=jnp.float32)), learning_rate=rate, batch=batch,
        noise=NOISE, inputs=inputs,
    )  # fmt: skip


def of_curvature(curvature, batch):
    """Examples of which every batch has the covariance `curvature` times 1 exactly."""
    return math.sqrt(2 * curvature) * np.tile(np.eye(2), (batch // 2, 1))


def deviations(process, relaxation, seeds):
    """D = W - T (seeds, 4, 2, 2), at four stationary times that know little of each other."""
    updates = np.ceil(np.array([0, 4, 6, 8, 10]) * relaxation).astype(int)
    ys = np.asarray(train(process, updates, seeds=seeds, key=KEY).ys, float)
    return ys[:, 1:] - 2 * np.eye(2)


def gaps(d):
    """The difference of the two singular values of 2·1 + D."""
    return np.hypot(d[..., 0, 0] - d[..., 1, 1], d[..., 0, 1] + d[..., 1, 0])


@pytest.mark.parametrize(
    ("rate", "batch", "curvature"),
    [(0.02, 2, 0.5), (0.02, 16, 0.5), (0.1, 4, 1.0), (0.5, 16, 1.0), (0.5, 16, 2.0), (0.9, 4, 2.0)],
)
def test_a_student_of_one_curvature_has_its_stationary_variance_and_gap_at_every_step(
    rate, batch, curvature
):
    # α c/(2κB) / (1 - ακ/2) off the diagonal, twice that on it, and a gap of Rayleigh's law.
    process = student(rate, batch, of_curvature(curvature, batch))
    kept = max(abs(1 - rate * curvature), 0.1)
    d = deviations(process, -1 / math.log(kept), seeds=32_000)
    variance = learning.stationary_variance(
        curvature, learning_rate=rate, gradient_variance=NOISE**2 / batch
    )
    scaled = rate * NOISE**2 / (2 * curvature * batch)
    assert variance == pytest.approx(scaled / (1 - rate * curvature / 2), rel=1e-12)
    squares = (d**2).mean(1) / variance
    assert_mean(squares, np.array([[2.0, 1.0], [1.0, 2.0]]))
    np.testing.assert_allclose(squares.mean(0), [[2, 1], [1, 2]], rtol=0.02)
    gap = math.sqrt(math.pi * rate / (curvature * batch)) * NOISE
    gap /= math.sqrt(1 - rate * curvature / 2)
    found = gaps(d).mean(1) / gap
    assert_mean(found, 1.0)
    assert found.mean() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("rates", [(0.005,), (0.005, 0.01, 0.02)])
def test_gaps_grow_as_the_root_of_step_over_batch_while_the_step_is_short(rates):
    # With fresh inputs, whose noise adds α(1 + 3/B)/4 to ln gap: 0.005 at most.
    batches = (1, 4, 16) if len(rates) == 1 else (16,)
    settings = [(rate, batch) for rate in rates for batch in batches]
    found = [gaps(deviations(student(*each), 1 / each[0], 10_000)).mean(1) for each in settings]
    means = np.array([gap.mean() for gap in found])
    errors = np.array([gap.std() / math.sqrt(gap.size) for gap in found]) / means
    x = np.log([rate / batch for rate, batch in settings])
    weights = x - x.mean()
    slope = weights @ np.log(means) / (weights @ weights)
    error = math.sqrt(weights**2 @ errors**2) / (weights @ weights)
    assert error < 0.003
    assert slope == pytest.approx(0.5, rel=0.02)


def test_the_same_step_over_batch_leaves_the_same_gap_but_for_its_break():
    # α/B = 1/40 in five ways; the break at the longest step is 15 per cent.
    ratios = {}
    for batch in (1, 2, 4, 10, 20):
        rate = batch / 40
        gap = gaps(deviations(student(rate, batch), 1 / rate, 8000)).mean(1)
        expected = learning.teacher_gap(learning_rate=rate, batch=batch, noise=NOISE)
        assert_mean(gap / expected, 1.0)
        assert gap.mean() == pytest.approx(expected, rel=0.02)
        ratios[rate] = gap.mean() / (NOISE * math.sqrt(math.pi / 40))
    assert ratios[0.5] / ratios[0.025] > 1.1


@pytest.mark.parametrize(
    ("rate", "batch"),
    [(0.1, 4), (0.1, 8), (0.1, 32), (0.1, 64), (0.1, 16), (0.2, 16), (0.3, 16), (0.4, 16),
     (0.5, 16)],
)  # fmt: skip
def test_gaps_on_the_published_grid_have_the_ratio_of_their_second_moments(rate, batch):
    gap = gaps(deviations(student(rate, batch), 1 / rate, 8000)).mean(1)
    expected = learning.teacher_gap(learning_rate=rate, batch=batch, noise=NOISE)
    assert_mean(gap / expected, 1.0)
    assert gap.mean() == pytest.approx(expected, rel=0.02)
    # Linear scaling alone is √π, and low by the first correction at least.
    scaled = math.sqrt(math.pi * rate / batch) * NOISE
    assert expected / scaled > (1 - rate / 2) ** -0.5
