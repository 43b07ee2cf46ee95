"""Parts that close over a traced array, in place of holding it in a field, work all the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf

RATE, START, STEPS, H = 0.7, 1.5, 4, 0.125


def pulled(rate, start, **others):
    """A mean of x² after steps of Euler's, x ← (1 - h rate) x."""

    class Pull(rqf.drifts.AbstractDrift):
        def __call__(self, t, x):
            return -rate * x

    class At(rqf.laws.AbstractLaw):
        def __call__(self, key):
            return jnp.full(2, start)

    sde = rqf.SDE(Pull(), rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
    runs = rqf.simulate(
        sde, At(), [0.0, STEPS * H], substeps=STEPS, members=2, key=jax.random.key(0),
        solver=rqf.solvers.GeodesicEuler(), **others,
    )  # fmt: skip
    return jnp.mean(runs.ys[:, -1] ** 2)


VALUE = START**2 * (1 - H * RATE) ** (2 * STEPS)
SLOPES = (-2 * STEPS * H / (1 - H * RATE) * VALUE, 2 / START * VALUE)
WAYS = {
    "grad": lambda f: jax.grad(f, (0, 1))(RATE, START),
    "grad of jit": lambda f: jax.grad(jax.jit(f), (0, 1))(RATE, START),
    "jvp": lambda f: [jax.jvp(f, (RATE, START), along)[1] for along in ((1.0, 0.0), (0.0, 1.0))],
}


@pytest.mark.parametrize("way", WAYS)
def test_derivatives_by_what_parts_close_over_are_exact(way):
    np.testing.assert_allclose(WAYS[way](pulled), SLOPES, rtol=1e-12)


def test_a_batch_of_what_parts_close_over_is_that_of_each():
    both = jax.vmap(pulled)(jnp.array([RATE, 0.0]), jnp.array([START, 2.0]))
    np.testing.assert_allclose(both, [VALUE, 4.0], rtol=1e-12)


def test_seeds_start_from_what_a_process_closes_over():
    def ends(start):
        class Halved(rqf.training.AbstractProcess):
            def start(self, key):
                return jnp.full(3, start)

            def weights(self, state):
                return state

            def update(self, key, number, state):
                return state / 2

        return rqf.training.train(Halved(), [0, 2], seeds=2, key=jax.random.key(0)).ys[:, -1]

    found = jax.vmap(ends)(jnp.array([1.0, 4.0]))
    np.testing.assert_array_equal(found, np.broadcast_to([[[0.25]], [[1.0]]], (2, 2, 3)))


def test_tokens_enter_layers_from_what_a_law_closes_over():
    layer = rqf.layers.Residual(rqf.layers.RandomMLP("tanh", width=2))

    def norm(size):
        class At(rqf.laws.AbstractLaw):
            def __call__(self, key):
                return size * jnp.ones((2, 2))

        return jnp.sum(rqf.propagate(layer, At(), 1, members=1, key=jax.random.key(0)).ys[:, 0])

    np.testing.assert_allclose(jax.value_and_grad(norm)(3.0), (12.0, 4.0))
