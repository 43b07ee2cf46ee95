"""A surrogate that is trained on a double well has its stationary law and its rate of passages."""

import equinox as eqx
import jax
import numpy as np
import optax
import pytest

import rqf_jax as rqf
from rqf_jax import surrogates
from rqf_jax.theory import wells

SIGMA, STEP = 0.5, 0.2


def paths(members, times, seed):
    """Paths of the double well, seen at times `STEP` apart, in its stationary law."""
    sde = rqf.SDE(rqf.systems.DoubleWell(), rqf.noises.TokenNoise(SIGMA), rqf.manifolds.Euclidean())
    after = 20.0 + STEP * np.arange(times)
    runs = rqf.simulate(
        sde, rqf.laws.Normal((1,)), np.concatenate([[0.0], after]), substeps=200,
        members=members, key=jax.random.key(seed),
    )  # fmt: skip
    return np.asarray(runs.ys, float)[:, 1:]


def passages(paths):
    """The passages of each path from the bottom of one well to that of the other."""
    kept = [path[np.abs(path) >= 1] for path in paths[:, :, 0]]
    return np.array([np.count_nonzero(np.diff(np.sign(path))) for path in kept])


def rate(step):
    """The rate of passages of a path that is seen now and then: its barrier is farther away."""
    far = 1 + 0.5826 * SIGMA * np.sqrt(step)
    return 1 / wells.passage_time(-far, far, SIGMA)


@pytest.mark.slow
def test_a_trained_transformer_has_the_stationary_law_and_the_rate_of_the_double_well(as_a_user):
    truth, test = paths(240, 600, 0), paths(1000, 4, 1)
    grid = surrogates.grid_of(truth, 32, margin=0.02)

    def law(key):
        first, second = jax.random.split(key)
        head = surrogates.CellHead(grid, width=16, key=first)
        return surrogates.Transformer(head, blocks=1, heads=2, context=2, key=second)

    process = rqf.training.Process(
        surrogates.loss,
        law,
        surrogates.windows(truth, 5, every=3),
        optimiser=optax.adam(optax.cosine_decay_schedule(1e-2, 2000)),
        injections=[rqf.training.injections.WithReplacement(64)],
    )
    key = jax.random.key(2)
    model = jax.tree.map(
        lambda leaf: leaf[0, -1], rqf.training.train(process, [0, 2000], seeds=1, key=key).ys
    )
    model = eqx.combine(model, law(key))
    runs = surrogates.sample(model, test[:, :2], 750, members=1000, key=jax.random.key(3))
    found = np.asarray(runs.ys, float)[:, 250:]

    # 240 paths to learn from leave an error in the law, of the size of their own.
    hill = np.linspace(-0.5, 0.5, 1001)
    for expected, look in (
        (wells.moment(2, SIGMA), np.square),
        (wells.moment(4, SIGMA), lambda x: x**4),
        (np.mean(wells.density(hill, SIGMA)), lambda x: np.abs(x) < 0.5),
    ):
        drawn, own = (np.mean(look(xs[..., 0]), 1) for xs in (found, truth))
        error = np.hypot(drawn.std() / np.sqrt(1000), own.std() / np.sqrt(240))
        assert abs(drawn.mean() - expected) < 5 * error
    span = STEP * 500
    jumps, known = passages(found) / span, passages(truth) / (STEP * 599)
    error = np.hypot(jumps.std() / np.sqrt(1000), known.std() / np.sqrt(240))
    assert abs(jumps.mean() - rate(STEP)) < 5 * error
    # Kramers' rate is that of weak noise, and not the one that is seen.
    assert abs(jumps.mean() - wells.kramers_rate(SIGMA)) > abs(jumps.mean() - rate(STEP))
