"""Theorems about the covariances of isotropic fields: expectations by brute force, and slopes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import gaussian_nodes
from scipy.integrate import quad
from scipy.special import erf, expit

from rqf_jax.kernels import MLP, PowerSeries

ONE = jnp.ones(())
ACTIVATIONS = {
    "relu": lambda u: np.maximum(u, 0),
    "tanh": np.tanh,
    "gelu": lambda u: u * (1 + erf(u / math.sqrt(2))) / 2,
    "silu": lambda u: u * expit(u),
    "sigmoid": expit,
}


def test_the_relu_kernel_is_the_average_over_the_plane():
    for rho in (-0.7, 0.2, 0.95):
        # Two unit normals of correlation ρ are R cos φ and R cos(φ - α), E R² = 2.
        alpha = math.acos(rho)
        expected = quad(
            lambda p, a=alpha: max(math.cos(p), 0) * max(math.cos(p - a), 0) / math.pi,
            alpha - math.pi / 2,
            math.pi / 2,
        )[0]
        assert float(MLP("relu", 1)(jnp.asarray(rho))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("activation", "tolerance"), [("tanh", 3.5e-5), ("sigmoid", 1e-8)])
def test_the_series_holds_to_the_widest_input_that_is_allowed(activation, tolerance):
    phi, (z, w) = ACTIVATIONS[activation], gaussian_nodes(1, 300)
    expected = w @ phi(2.0 * z[:, 0]) ** 2
    found = float(MLP(activation, 1, math.sqrt(3.0))(ONE))
    assert found == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_kernel_is_the_expectation_of_two_activations(activation):
    dim, bias_in, bias_out = 3, 0.4, 0.3
    phi, kernel = ACTIVATIONS[activation], MLP(activation, dim, bias_in, bias_out)
    nodes, weights = gaussian_nodes(2, 150)
    variance = 1 / dim + bias_in**2
    # relu has a kink on which a quadrature stumbles.
    tolerance = 3e-4 if activation == "relu" else 1e-9
    for r in (-1.0, -0.3, 0.0, 0.6, 0.95):
        rho = (r / dim + bias_in**2) / variance
        first = math.sqrt(variance) * nodes[:, 0]
        second = math.sqrt(variance) * (rho * nodes[:, 0] + math.sqrt(1 - rho**2) * nodes[:, 1])
        expected = weights @ (phi(first) * phi(second)) + bias_out**2
        assert float(kernel(jnp.asarray(r))) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_slopes_are_finite_and_right_up_to_coincident_and_antipodal_tokens(activation, dtype):
    # d/dr E φ(ξ) φ(η) = E φ'(ξ) φ'(η)/d (Price's theorem); at coincidence E φ'(ξ)²/d.
    dim, bias = 4, 0.3
    kernel = MLP(activation, dim, jnp.asarray(bias, dtype), jnp.zeros((), dtype))
    scale = math.sqrt(1 / dim + bias**2)
    z, w = gaussian_nodes(1, 200)
    step = 1e-5
    phi = ACTIVATIONS[activation]
    derivative = (phi(scale * z[:, 0] + step) - phi(scale * z[:, 0] - step)) / (2 * step)
    expected = w @ derivative**2 / dim
    found = jax.grad(kernel)(jnp.ones((), dtype))
    assert float(found) == pytest.approx(expected, rel=2e-5)
    beyond = jnp.nextafter(jnp.ones((), dtype), jnp.asarray(2.0, dtype))
    for r in (beyond, -jnp.ones((), dtype), jnp.zeros((), dtype)):
        assert np.isfinite(kernel(r)) and np.isfinite(jax.grad(kernel)(r))


@pytest.mark.slow
def test_the_strengths_of_a_kernel_are_parameters_with_gradients():
    def value(bias):
        return MLP("gelu", 3, bias, bias)(jnp.asarray(0.4))

    eps = 1e-6
    central = (value(0.3 + eps) - value(0.3 - eps)) / (2 * eps)
    assert float(jax.grad(value)(0.3)) == pytest.approx(float(central), rel=1e-7)


def test_a_power_series_is_its_polynomial():
    r = jnp.linspace(-1, 1, 7)
    np.testing.assert_allclose(
        PowerSeries([0.2, 0.0, 0.5, 0.1])(r), 0.2 + 0.5 * r**2 + 0.1 * r**3, atol=1e-15
    )


BAD = {
    "activation": (lambda: MLP("softplus", 3), "`activation` must be one of relu", "'softplus'"),
    "dim": (lambda: MLP("relu", 0), "`dim` must be at least 1", "0"),
    "bias": (lambda: MLP("relu", 3, -0.1), "`bias_in` must be at least 0", "-0.1"),
    "wide input": (lambda: MLP("gelu", 2, 2.0), "`bias_in`", "at most 4", "4.5"),
    "negative coefficient": (
        lambda: PowerSeries([0.1, -0.2]), "`coefficients` must be at least 0", "-0.2",
    ),
    "no coefficient": (lambda: PowerSeries([]), "`coefficients` must be one axis", "(0,)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, refused):
    refused(*BAD[case])
