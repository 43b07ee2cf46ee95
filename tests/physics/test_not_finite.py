"""Every observable of a state with a NaN or an infinite entry is NaN where it depends on it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rqf_jax import observables

rng = np.random.default_rng(0)
TOKENS = rng.standard_normal((3, 4))
SQUARE = rng.standard_normal((3, 3))
VALUES = np.array([-1.0, 0.5, 0.75, 3.0])
UNIT = np.array([1.0, 0.0, 0.0, 0.0])


def everything(out, index):
    """A function of the whole state."""
    return np.ones(out, bool)


def pairs(out, index):
    """Numbers of pairs of tokens, in the order of `overlaps`."""
    rows, columns = np.triu_indices(3, 1)
    return (rows == index[0]) | (columns == index[0])


def own(out, index):
    """Numbers of a token itself."""
    return np.broadcast_to((np.arange(3) == index[0]).reshape(3, *[1] * (len(out) - 1)), out)


def cross(out, index):
    """Rows and columns of a token."""
    return np.logical_or.outer(np.arange(3) == index[0], np.arange(3) == index[0])


def from_the_first(out, index):
    """A number of every token, seen from the first."""
    return (np.arange(3) == index[0]) | (index[0] == 0)


def mirrored(out, index):
    """An entry and its mirror image."""
    mask = np.zeros(out, bool)
    mask[index] = mask[index[::-1]] = True
    return mask


def neighbours(out, index):
    """Numbers of successive values."""
    first = np.arange(out[0])
    return (first <= index[0]) & (index[0] <= first + len(VALUES) - out[0])


CASES = {
    "angles": (observables.angles, [TOKENS], pairs),
    "cluster_signs": (observables.cluster_signs, [TOKENS], from_the_first),
    "cosines": (observables.cosines, [TOKENS], pairs),
    "directions": (observables.directions, [TOKENS], own),
    "effective_rank": (observables.effective_rank, [TOKENS, TOKENS.T, TOKENS[:1]], everything),
    "gaps": (observables.gaps, [VALUES], neighbours),
    "gram": (observables.gram, [TOKENS], cross),
    "hermitian": (observables.hermitian, [SQUARE], mirrored),
    "hermitian_spectrum": (observables.hermitian_spectrum, [SQUARE], everything),
    "largest_logit": (lambda x: observables.largest_logit(x, 0.5), [TOKENS], everything),
    "log_det_gram": (
        observables.log_det_gram, [TOKENS, TOKENS.T, TOKENS[:1], TOKENS[:, :1]], everything,
    ),
    "log_radius_ratio": (observables.log_radius_ratio, [TOKENS], pairs),
    "matrix_function": (
        lambda x: observables.matrix_function(x, jnp.tanh), [SQUARE], everything,
    ),
    "nematic_order": (
        observables.nematic_order, [TOKENS, TOKENS.T, TOKENS[:, :1]], everything,
    ),
    "outlier_overlap": (
        lambda x: observables.outlier_overlap(x, jnp.asarray(UNIT[:3], x.dtype)),
        [SQUARE], everything,
    ),
    "overlaps": (observables.overlaps, [TOKENS], pairs),
    "polar_order": (observables.polar_order, [TOKENS, TOKENS[:1, :1]], everything),
    "power_sums": (observables.power_sums, [VALUES], everything),
    "radii": (observables.radii, [TOKENS], own),
    "singular_overlaps": (
        lambda x: observables.singular_overlaps(
            x, *(jnp.asarray(UNIT[:size], x.dtype) for size in x.shape)
        ),
        [TOKENS, TOKENS.T], everything,
    ),
    "singular_values": (observables.singular_values, [TOKENS, TOKENS[:1, :1]], everything),
    "spacing_ratios": (observables.spacing_ratios, [VALUES], neighbours),
    "spectrum": (observables.spectrum, [SQUARE, SQUARE[:1, :1]], everything),
    "stable_rank": (observables.stable_rank, [TOKENS, TOKENS.T], everything),
}  # fmt: skip


def test_every_observable_is_in_the_table():
    functions = {n for n in observables.__all__ if inspect.isroutine(getattr(observables, n))}
    assert functions == set(CASES)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_an_observable_is_nan_where_it_depends_on_an_entry_that_is_not_finite(name, dtype):
    function, states, depends = CASES[name]
    for state in states:
        indices = list(np.ndindex(*state.shape))
        bad = np.array([state] * len(indices), dtype)
        function_of_all = jax.jit(jax.vmap(function))
        good = np.asarray(function_of_all(bad))[0]
        for value in (np.nan, np.inf, -np.inf):
            for x, index in zip(bad, indices, strict=True):
                x[index] = value
            for found, index in zip(np.asarray(function_of_all(bad)), indices, strict=True):
                expected = depends(found.shape, index)
                assert np.array_equal(np.isnan(found), expected), (index, value, found)
                np.testing.assert_allclose(found[~expected], good[~expected], rtol=1e-5)
