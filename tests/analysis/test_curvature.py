"""Theorems about curvature: dense Hessians, exact traces and spectra, observables of a process."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rqf_jax.analysis import curvature
from rqf_jax.training import LeastSquares

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((7, 2)), RNG.standard_normal(7)
RESIDUALS = LeastSquares(lambda net, batch: jax.vmap(net)(batch[0]) - batch[1])


def network():
    """A small module, with functions among its leaves."""
    return eqx.nn.MLP(2, "scalar", 4, 1, activation=jnp.tanh, key=jax.random.key(3))


def loss(net):
    return RESIDUALS(net, (X, Y))


@eqx.filter_jit
def dense(net):
    return curvature.hessian(loss, net)


@pytest.fixture(scope="module")
def known():
    """The Hessian of the network, written down."""
    floats, rest = eqx.partition(network(), eqx.is_inexact_array)
    point, shaped = ravel_pytree(floats)
    return np.asarray(jax.hessian(lambda p: loss(eqx.combine(shaped(p), rest)))(point))


def quadratic(values):
    """A loss whose Hessian has given eigenvalues, in a random basis, and its weights."""
    q = np.linalg.qr(RNG.standard_normal((len(values), len(values))))[0]
    matrix = (q * np.asarray(values)) @ q.T
    return lambda w: (
        (jnp.concatenate([w["a"], w["b"]]) @ matrix @ jnp.concatenate([w["a"], w["b"]])) / 2
    )


def halves(count):
    return {"a": jnp.ones(count // 2), "b": jnp.ones(count - count // 2)}


def test_products_with_a_vector_are_those_of_the_dense_hessian(known):
    net = network()
    floats = eqx.filter(net, eqx.is_inexact_array)
    v = jax.tree.map(lambda leaf: jnp.asarray(RNG.standard_normal(leaf.shape)), floats)
    found = eqx.filter_jit(curvature.hessian_product)(loss, net, v)
    np.testing.assert_allclose(ravel_pytree(found)[0], known @ ravel_pytree(v)[0], atol=1e-10)
    np.testing.assert_allclose(dense(net), known, atol=1e-10)


def test_the_gauss_newton_part_has_the_spectrum_of_its_small_matrix_and_is_all_where_data_fit():
    # spec(JᵀJ/n) is spec(JJᵀ/n) and a bulk of zeros of multiplicity P - n.
    net = network()
    floats, rest = eqx.partition(net, eqx.is_inexact_array)
    point, shaped = ravel_pytree(floats)

    def outputs(net):
        return jax.vmap(net)(X)

    def of_fit(net):
        return RESIDUALS(net, (X, jax.lax.stop_gradient(outputs(network()))))

    @eqx.filter_jit
    def both(net):
        def product(v):
            found = curvature.gauss_newton_product(
                outputs, lambda f: jnp.mean((f - Y) ** 2) / 2, net, shaped(v)
            )
            return ravel_pytree(found)[0]

        return jax.vmap(product)(jnp.eye(point.size)), curvature.hessian(of_fit, net)

    newton, whole = both(net)
    np.testing.assert_allclose(newton, whole, atol=1e-10)
    jacobian = jax.jacobian(lambda p: outputs(eqx.combine(shaped(p), rest)))(point)
    values = np.linalg.eigvalsh(newton)
    assert np.abs(values[: point.size - 7]).max() < 1e-10
    np.testing.assert_allclose(
        values[-7:], np.linalg.eigvalsh(jacobian @ jacobian.T / 7), atol=1e-8
    )


def test_the_trace_is_found_within_its_error():
    values = np.linspace(-1, 3, 30)
    found = curvature.hessian_trace(quadratic(values), halves(30), key=KEY, probes=200)
    assert abs(float(found.value) - values.sum()) < 4 * float(found.stderr)
    assert 0 < float(found.stderr) < 1


@pytest.mark.parametrize("steps", [12, pytest.param(None, marks=pytest.mark.slow)])
def test_the_largest_eigenvalues_are_found_within_their_bounds(steps):
    values = np.concatenate([[50.0, 20.0, 20.0, 9.0], np.linspace(-2, 2, 36)])
    found = curvature.hessian_eigenvalues(quadratic(values), halves(40), 4, key=KEY, steps=steps)
    errors = np.asarray(found.errors)
    # In a space that a start spans, the double eigenvalue is there once.
    nearest = np.abs(np.asarray(found.values)[:, None] - values).min(1)
    assert np.all(nearest <= errors + 1e-9)
    np.testing.assert_allclose(found.values[:2], [50, 20], rtol=1e-6)
    assert errors[:2].max() < 1e-3


def test_all_eigenvalues_with_their_multiplicities_are_found_in_the_whole_space():
    values = np.repeat([3.0, 1.0, 0.0], [2, 3, 4])
    found = curvature.hessian_eigenvalues(quadratic(values), halves(9), 9, key=KEY)
    np.testing.assert_allclose(found.values, values, atol=1e-9)
    np.testing.assert_allclose(found.errors, 0)


def test_outliers_stand_before_the_widest_gap():
    values = jnp.array([50.0, 40.0, 30.0, 2.0, 1.5, -0.1])
    assert curvature.Extremes(values, jnp.zeros(6)).outliers() == 3


@pytest.mark.slow
def test_a_density_has_the_moments_and_the_shape_of_its_spectrum():
    values = np.concatenate([np.linspace(-1, 1, 60), [6.0, 8.0]])
    found = curvature.spectral_density(quadratic(values), halves(62), key=KEY, steps=12, probes=40)
    for power in (1, 2, 5):
        mean = found.mean(lambda x, k=power: x**k)
        assert abs(float(mean.value) - np.mean(values**power)) < 4 * float(mean.stderr)
    x = np.linspace(-3, 10, 1301)
    shape = np.asarray(found.density(x, 0.2))
    assert shape.sum() * 0.01 == pytest.approx(1, abs=1e-3)
    assert shape[x > 4].sum() * 0.01 == pytest.approx(2 / 62, rel=0.3)


def test_a_density_needs_a_width():
    found = curvature.SpectralDensity(jnp.ones((1, 1)), jnp.ones((1, 1)))
    with pytest.raises(ValueError, match="`width` must be positive; got 0"):
        found.density(1.0, 0.0)


def test_gradients_of_examples_add_up_and_their_covariance_is_that_of_batches_of_one():
    w = jnp.array([0.5, -1.0])
    squares = LeastSquares(lambda w, batch: batch[0] @ w - batch[1])
    rows = np.asarray(curvature.example_gradients(squares, w, (X, Y)))
    np.testing.assert_allclose(rows, (X @ np.asarray(w) - Y)[:, None] * X, rtol=1e-10)
    covariance = curvature.gradient_covariance(squares, w, (X, Y))
    np.testing.assert_allclose(covariance, np.cov(rows.T, ddof=0), rtol=1e-10)
    hessians = curvature.example_hessians(squares, w, (X, Y))
    np.testing.assert_allclose(hessians, X[:, :, None] * X[:, None, :], atol=1e-12)
    see = curvature.Curvature(squares, (X, Y), learning_rate=0.1, batch=2, key=KEY, probes=400)
    found = {name: float(value) for name, value in eqx.filter_jit(see)(w).items()}
    slope, hessian = rows.mean(0), X.T @ X / 7
    assert found["loss"] == pytest.approx(np.mean((X @ w - Y) ** 2) / 2)
    assert found["gradient"] == pytest.approx(slope @ slope)
    assert found["noise"] == pytest.approx(np.trace(covariance))
    assert abs(found["trace"] - np.trace(hessian)) < 4 * found["trace_stderr"]
    assert found["sharpness"] == pytest.approx(np.linalg.eigvalsh(hessian)[-1])
    assert found["rate_sharpness"] == pytest.approx(0.1 * found["sharpness"])
    assert found["dissipation"] == pytest.approx(np.asarray(w) @ slope)
    square = slope @ slope + np.trace(covariance) / 2
    assert found["fluctuation"] == pytest.approx(0.05 * square)


def half_square(weights, batch):
    return jnp.sum((batch @ weights) ** 2) / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curvature.hessian(lambda w: w, jnp.ones(2)), "`loss` must return one real number"),
        (
            lambda: curvature.hessian_product(lambda w: 1.0, jnp.ones(2), jnp.ones(2)),
            "`loss` must return one real number; got 1.0",
        ),
        (
            lambda: curvature.hessian_trace(jnp.sum, jnp.ones(2), key=KEY, probes=1),
            "`probes` must be at least 2; got 1",
        ),
        (
            lambda: curvature.hessian_eigenvalues(jnp.sum, jnp.ones(2), 3, key=KEY),
            "`count` must be at most 2; got 3",
        ),
        (lambda: curvature.hessian_trace(jnp.sum, jnp.ones(2), key=3), "`key` must be a JAX key"),
        (
            lambda: curvature.hessian(lambda w: jnp.array(1.0), {"a": 3}),
            "`weights` must hold arrays of floats",
        ),
        (lambda: curvature.hessian(jnp.sum, 1j * np.ones(2)), "`weights` must be real"),
        (
            lambda: curvature.hessian_product(jnp.sum, jnp.ones(2), jnp.ones(3)),
            r"`vector` must be like the floats of `weights`, of shapes \[\(2,\)\]",
        ),
        (
            lambda: curvature.gauss_newton_product(jnp.sin, jnp.sum, np.ones(2), {"a": np.ones(2)}),
            "`vector` must be like the floats of `weights`",
        ),
        (lambda: curvature.example_gradients(3, jnp.ones(2), X), "`loss` must be a function of"),
        (
            lambda: curvature.example_gradients(lambda w, x: x @ w, jnp.ones(2), X),
            "`loss` must return one real number; got",
        ),
        (
            lambda: curvature.hessian_trace(lambda w: w["a"], jnp.ones(2), key=KEY),
            "`loss` must be a function of weights to one real number; it raised TypeError",
        ),
        (
            lambda: curvature.example_hessians(half_square, jnp.ones(2), "text"),
            "`data` must be a pytree of arrays",
        ),
        (
            lambda: curvature.gradient_covariance(half_square, jnp.ones(2), (X, Y[:3])),
            "`data` must be arrays with one first axis",
        ),
        (
            lambda: curvature.example_gradients(half_square, jnp.ones(2), ()),
            "`data` must hold arrays",
        ),
    ],
)
def test_bad_input_of_curvature_has_one_clear_error(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
