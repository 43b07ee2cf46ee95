"""Theorems about spectra: values against NumPy, gradients against differences and at degeneracy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rqf_jax import observables

RNG = np.random.default_rng(0)
GENERAL = RNG.standard_normal((4, 4))
SYMMETRIC = GENERAL + GENERAL.T
TALL = RNG.standard_normal((5, 3))


@pytest.mark.slow
def test_spectra_are_those_of_numpy_and_ascend():
    np.testing.assert_allclose(
        observables.spectrum(jnp.asarray(SYMMETRIC)), np.linalg.eigvalsh(SYMMETRIC), atol=1e-13
    )
    for x in (TALL, TALL.T):
        np.testing.assert_allclose(
            observables.singular_values(jnp.asarray(x)),
            np.linalg.svd(x, compute_uv=False)[::-1],
            atol=1e-13,
        )
    h = (GENERAL + GENERAL.T) / 2 + 1j * (GENERAL - GENERAL.T) / 2
    np.testing.assert_allclose(observables.hermitian(jnp.asarray(GENERAL)), h, atol=1e-15)
    np.testing.assert_allclose(
        observables.hermitian_spectrum(jnp.asarray(GENERAL)), np.linalg.eigvalsh(h), atol=1e-13
    )


def test_functions_of_a_spectrum_are_their_definitions():
    values = jnp.asarray([-1.0, 0.5, 0.75, 3.0])
    np.testing.assert_allclose(observables.gaps(values), [1.5, 0.25, 2.25])
    np.testing.assert_allclose(observables.spacing_ratios(values), [0.25 / 1.5, 0.25 / 2.25])
    np.testing.assert_allclose(
        observables.power_sums(values, 3), [np.sum(np.asarray(values) ** k) for k in (1, 2, 3)]
    )
    s = np.linalg.svd(TALL, compute_uv=False)
    found = observables.stable_rank(jnp.asarray(TALL))
    assert float(found) == pytest.approx(np.sum(s**2) / s[0] ** 2, rel=1e-12)


def test_overlaps_of_leading_vectors_are_those_of_numpy():
    u = RNG.standard_normal(4)
    u /= np.linalg.norm(u)
    v = np.linalg.eigh(SYMMETRIC)[1][:, -1]
    found = observables.outlier_overlap(jnp.asarray(SYMMETRIC), jnp.asarray(u))
    assert float(found) == pytest.approx((v @ u) ** 2, rel=1e-11)
    left, _, right = np.linalg.svd(TALL)
    both = observables.singular_overlaps(
        jnp.asarray(TALL), jnp.asarray(left[:, 0]), jnp.asarray(right[0])
    )
    np.testing.assert_allclose(both, [1, 1], rtol=1e-11)
    for x in (TALL, TALL.T):
        left, _, right = np.linalg.svd(x)
        ends = [np.ones(size) / np.sqrt(size) for size in x.shape]
        found = observables.singular_overlaps(jnp.asarray(x), *map(jnp.asarray, ends))
        expected = [(left[:, 0] @ ends[0]) ** 2, (right[0] @ ends[1]) ** 2]
        np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_a_matrix_function_is_that_of_its_power_series_and_has_its_derivative():
    x = jnp.asarray(SYMMETRIC)
    np.testing.assert_allclose(
        observables.matrix_function(x, lambda v: v**3),
        SYMMETRIC @ SYMMETRIC @ SYMMETRIC,
        atol=1e-11,
    )
    direction = jnp.asarray(RNG.standard_normal((4, 4)))
    direction = direction + direction.T
    for point in (x, jnp.eye(4)):  # the identity is degenerate throughout
        _, found = jax.jvp(
            lambda y: observables.matrix_function(y, lambda v: v**3), (point,), (direction,)
        )
        p, d = np.asarray(point), np.asarray(direction)
        np.testing.assert_allclose(found, p @ p @ d + p @ d @ p + d @ p @ p, atol=1e-10)


FUNCTIONS = {
    "p_4 of the spectrum": (
        lambda x: observables.power_sums(observables.spectrum(x))[3],
        SYMMETRIC,
    ),
    "stable rank": (observables.stable_rank, TALL),
    "largest singular value": (lambda x: observables.singular_values(x)[-1], TALL),
    "smallest eigenvalue": (lambda x: observables.spectrum(x)[0], SYMMETRIC),
    "an overlap": (lambda x: observables.outlier_overlap(x, jnp.eye(4)[0]), SYMMETRIC),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_gradients_are_central_differences(case):
    function, x = FUNCTIONS[case]
    direction = RNG.standard_normal(x.shape)
    gradient, eps = jax.grad(function)(jnp.asarray(x)), 1e-6
    above, below = (float(function(jnp.asarray(x + s * eps * direction))) for s in (1, -1))
    found = float(jnp.vdot(gradient, jnp.asarray(direction)))
    assert found == pytest.approx((above - below) / (2 * eps), rel=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", FUNCTIONS)
def test_gradients_are_finite_at_degenerate_spectra(case, dtype):
    function, x = FUNCTIONS[case]
    if case == "an overlap" and dtype == jnp.float32:

        def function(y):
            return observables.outlier_overlap(y, jnp.eye(4, dtype=dtype)[0])

    for point in (jnp.eye(*x.shape, dtype=dtype), jnp.zeros(x.shape, dtype)):
        assert np.all(np.isfinite(jax.grad(function)(point)))


BAD = {
    "a vector": (lambda: observables.spectrum(jnp.ones(3)), "`x` must be one matrix", "(3,)"),
    "not square": (lambda: observables.spectrum(jnp.ones((2, 3))), "square matrix", "(2, 3)"),
    "one value": (lambda: observables.gaps(jnp.ones(1)), "`values`", "at least 2", "(1,)"),
    "two values": (lambda: observables.spacing_ratios(jnp.ones(2)), "at least 3", "(2,)"),
    "no power": (lambda: observables.power_sums(jnp.ones(2), 0), "`order` must be at least 1"),
    "a direction": (
        lambda: observables.outlier_overlap(jnp.eye(3), jnp.ones(2)), "`direction`", "vector of 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, refused):
    refused(*BAD[case])


# ---- many small matrices at once

SPECTRA = jax.jit(jax.vmap(observables.spectrum))


def path_graph(n, dtype=float):
    """Adjacency of n points in a row: eigenvalues 2 cos(πk/(n+1)), some pivots exactly 0."""
    return np.eye(n, k=1, dtype=dtype) + np.eye(n, k=-1, dtype=dtype)


@pytest.mark.parametrize(
    "n", [1, 20, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 65))]
)
def test_eigenvalues_are_right_where_pivots_vanish_and_where_they_coincide(n):
    for dtype, tolerance in (("float32", 4e-6), ("float64", 1e-14)):
        exact = 2 * np.cos(np.pi * np.arange(n, 0, -1) / (n + 1))
        batch = np.stack([path_graph(n, dtype), np.eye(n, dtype=dtype), np.zeros((n, n), dtype)])
        found = SPECTRA(jnp.asarray(batch))
        assert found.dtype == dtype
        np.testing.assert_allclose(found[0], exact, atol=2 * tolerance)
        np.testing.assert_allclose(found[1:], np.outer([1.0, 0.0], np.ones(n)), atol=tolerance)


def test_eigenvalues_of_a_batch_are_those_of_lapack_however_it_is_mapped():
    n = 5
    batch = np.random.default_rng(1).standard_normal((3, 200, n, n)).astype("float32")
    batch = batch + np.swapaxes(batch, -1, -2)
    exact = np.linalg.eigvalsh(batch.astype(float))
    nested = jax.jit(jax.vmap(jax.vmap(observables.spectrum)))(jnp.asarray(batch))
    one = jax.jit(observables.spectrum)(jnp.asarray(batch[1, 7]))
    tolerance = 2e-6 * np.abs(exact).max()
    np.testing.assert_allclose(nested, exact, atol=tolerance)
    np.testing.assert_allclose(one, exact[1, 7], atol=tolerance)


@pytest.mark.slow
def test_eigenvalues_scale_with_the_matrix_and_pass_on_what_is_not_finite():
    x, scales = path_graph(5, "float32"), np.array([1e-30, 1e30, 1, 1], "float32")
    batch = x * scales[:, None, None]
    batch[2, 1, 2] = batch[2, 2, 1] = np.nan
    batch[3, 0, 0] = np.inf
    found = SPECTRA(jnp.asarray(batch))
    exact = np.linalg.eigvalsh(x)
    np.testing.assert_allclose(found[:2] / scales[:2, None], [exact, exact], atol=2e-6)
    assert np.all(np.isnan(found[2:]))
