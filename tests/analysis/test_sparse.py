"""Equations from trajectories: the terms of known flows, and dictionaries."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax.analysis import Monomials, koopman_modes, sparse_dynamics

SDE = rqf.SDE(rqf.systems.Lorenz63(), rqf.noises.NoNoise(), rqf.manifolds.Euclidean())


@pytest.fixture(scope="module")
def lorenz():
    return rqf.simulate(
        SDE, rqf.laws.Normal((3,), 5.0), np.arange(0.0, 10.0, 0.005), substeps=1, members=2,
        key=jax.random.key(0), solver=diffrax.Tsit5(),
    )  # fmt: skip


def test_the_seven_terms_of_lorenz_are_found_within_one_percent(lorenz):
    found = sparse_dynamics(lorenz, dictionary=Monomials(3, 3), threshold=0.2)
    terms = {
        (name, i): value
        for name, row in zip(found.names, found.coefficients, strict=True)
        for i, value in enumerate(row)
        if value
    }
    known = {
        ("x0", 0): -10.0, ("x1", 0): 10.0, ("x0", 1): 28.0, ("x1", 1): -1.0,
        ("x0 x2", 1): -1.0, ("x2", 2): -8 / 3, ("x0 x1", 2): 1.0,
    }  # fmt: skip
    assert terms.keys() == known.keys()
    for key, value in known.items():
        assert abs(terms[key] / value - 1) < 1e-2
    assert "terms=7 of 60" in repr(found)
    x = jnp.asarray([1.0, 2.0, 20.0])
    np.testing.assert_allclose(
        found.drift(jnp.zeros(()), x), SDE.drift(jnp.zeros(()), x), rtol=1e-2
    )


def test_standard_errors_hold_the_truth_under_noise(lorenz):
    rng = np.random.default_rng(1)
    ys = np.asarray(lorenz.ys) + 1e-3 * rng.normal(size=lorenz.ys.shape)
    found = sparse_dynamics(ys, lorenz.ts, dictionary=Monomials(3, 2), threshold=0.2)
    beta, stderr = found.coefficients[3, 2], found.stderr[3, 2]
    # The noise of the states biases products by less than its own size.
    assert 0 < stderr < 0.01 and abs(beta + 8 / 3) < 5 * stderr


def test_monomials_are_all_products_and_serve_koopman_modes():
    basis = Monomials(2, 3)
    assert basis.names[:6] == ("1", "x0", "x1", "x0 x0", "x0 x1", "x1 x1")
    x = jnp.asarray([2.0, 3.0])
    assert basis(x).tolist() == [1, 2, 3, 4, 6, 9, 8, 12, 18, 27]
    # Products of eigenvalues of a linear map are eigenvalues.
    states = np.random.default_rng(0).normal(size=(200, 1, 2))
    runs = np.concatenate([states, states * [0.9, 0.5]], 1)
    values = koopman_modes(runs, [0.0, 1.0], dictionary=Monomials(2, 2)).eigenvalues
    np.testing.assert_allclose(np.sort(values.real), [0.25, 0.45, 0.5, 0.81, 0.9, 1.0], atol=1e-10)


SERIES = np.random.default_rng(0).normal(size=(30, 2))
WRONG = {
    "few": ({"dictionary": Monomials(2, 6)}, "`runs` must hold more pairs of steps"),
    "size": ({"dictionary": Monomials(3, 1)}, "`size` must be 2 for this state; got 3"),
    "names": ({"names": ["a"]}, "`names` must be 6, one for each function"),
    "twice": (
        {"dictionary": lambda x: jnp.concatenate([x, x])},
        "`dictionary` must have independent",
    ),
    "still": ({"runs": SERIES * [1, 0]}, "`runs` must move in every coordinate"),
    "unequal": ({"times": np.arange(30.0) ** 2}, "`times` must be equally spaced"),
    "complex": ({"dictionary": lambda x: 1j * x.astype(complex)}, "must return real functions"),
}


@pytest.mark.parametrize(("change", "text"), WRONG.values(), ids=WRONG)
def test_arguments_that_break_a_rule_are_named(change, text):
    given = {"runs": SERIES, "times": np.arange(30.0), "dictionary": Monomials(2, 2)}
    with pytest.raises(ValueError, match=text):
        sparse_dynamics(**(given | change), threshold=0.1)


def test_too_many_products_are_refused():
    with pytest.raises(ValueError, match="`degree` must make at most"):
        Monomials(100, 5)
