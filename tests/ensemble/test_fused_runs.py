"""Runs by fused kernels are the runs by XLA's scan, and say when they are not."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax import _store

KEY = jax.random.key(3)
TS = [0.0, 0.64, 1.28]
Q = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def as_a_user():
    """float32 and JAX's usual promotion, as kernels are for."""
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


@pytest.fixture
def fused(monkeypatch):
    """Turn kernels on or off for the next calls."""
    return lambda on: monkeypatch.setenv("RQF_JAX_FUSED", "1" if on else "0")


def tokens(noise, drift=None, dim=3):
    sde = rqf.SDE(drift or rqf.drifts.NoDrift(), noise, rqf.manifolds.Sphere())
    return sde, rqf.laws.Uniform(5, dim)


def matrix(sde, shape=(3, 3)):
    return sde, rqf.laws.Zeros(shape)


def attention_of_matrices():
    mask = rqf.drifts.causal_mask(5)
    return rqf.drifts.Attention(1.0, query_key=Q, value=Q.T, mask=mask)


def model(make, *args):
    return lambda: (make(*args), rqf.laws.Uniform(5, 3))


# Made when they are used: parameters have the precision of the moment.
MODELS = {
    "shared noise": lambda: tokens(rqf.noises.IsotropicNoise(1.0, 0.0)),
    "rotations": lambda: tokens(rqf.noises.IsotropicNoise(0.8, 0.5)),
    "plane": lambda: tokens(rqf.noises.IsotropicNoise(1.0, 0.3), dim=2),
    "space of four": lambda: tokens(rqf.noises.IsotropicNoise(1.0, 0.3), dim=4),
    "noise of its own": lambda: tokens(rqf.noises.TokenNoise(0.5)),
    "attention": model(rqf.models.noisy_attention, 1.0, 1.0),
    "matrices": lambda: tokens(rqf.noises.IsotropicNoise(0.8, 0.0), attention_of_matrices()),
    "unnormalised": model(rqf.models.noisy_unnormalised_attention, 1.0, 0.7),
    "forced": model(rqf.models.forced_rqf, 1.0, 0.5),
    "random values": model(rqf.models.stochastic_transformer, 1.0),
    "mean field": model(rqf.models.mean_field_attention, 1.0, 0.1),
    "without noise": model(rqf.models.self_attention, 1.0),
    "weights": lambda: matrix(rqf.models.weight_ou(1.0, 0.5, jnp.ones((3, 3)))),
}


def run(model, *, members=200, **others):
    sde, law = model
    runs = rqf.simulate(sde, law, TS, substeps=64, members=members, key=KEY, **others)
    return np.asarray(runs.ys)


@pytest.mark.parametrize("name", MODELS)
def test_a_kernel_follows_the_scan_to_rounding_for_every_model_of_few_numbers(name, fused):
    ours = MODELS[name]()
    assert "one fused kernel" in rqf.explain(*ours)
    fused(True)
    found = run(ours)
    fused(False)
    wanted = run(ours)
    assert not np.array_equal(found, wanted)  # it is another program
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


LARGE = {
    "many queries": lambda: (rqf.models.noisy_attention(1.0, 0.3), rqf.laws.Uniform(32, 3)),
    "masked queries": lambda: (
        rqf.SDE(
            rqf.drifts.Attention(1.0, mask=rqf.drifts.causal_mask(24)),
            rqf.noises.IsotropicNoise(0.3, 0.3),
            rqf.manifolds.Sphere(),
        ),
        rqf.laws.Uniform(24, 3),
    ),
    "large matrices": lambda: (rqf.models.random_quadratic_form(0.3), rqf.laws.Uniform(24, 12)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_arrays_that_are_made_row_by_row_follow_the_scan_in_any_company(name, fused):
    sde, law = LARGE[name]()
    # A start without arithmetic: XLA rounds that of a random one by the size of the batch.
    law = rqf.laws.Fixed(np.asarray(law(jax.random.key(1))))
    assert "one fused kernel" in rqf.explain(sde, law)
    fused(True)
    found = run((sde, law), members=40)
    few = run((sde, law), members=5, first_member=30)
    np.testing.assert_array_equal(few, found[30:35])
    fused(False)
    np.testing.assert_allclose(found, run((sde, law), members=40), rtol=2e-5, atol=2e-5)


def test_members_have_the_same_bits_in_any_company(fused):
    fused(True)
    sde = rqf.models.noisy_attention(1.0, 1.0)
    # A start without arithmetic: XLA rounds that of a random one by the size of the batch.
    law = rqf.laws.Fixed(np.eye(3, dtype=np.float32)[[0, 1, 2, 0]])
    whole = run((sde, law), members=100)
    np.testing.assert_array_equal(run((sde, law), members=100, batch_size=37), whole)
    np.testing.assert_array_equal(run((sde, law), members=5), whole[:5])
    np.testing.assert_array_equal(run((sde, law), members=5, first_member=60), whole[60:65])


def test_derivatives_through_a_kernel_are_those_of_the_scan(fused):
    def loss(sigma, adjoint=None):
        sde = rqf.models.random_quadratic_form(sigma)
        runs = rqf.simulate(
            sde, rqf.laws.Uniform(2, 3), [0.0, 0.2], substeps=8, members=20, key=KEY,
            adjoint=adjoint,
        )  # fmt: skip
        return jnp.mean(runs.ys[:, -1, 0, 0] ** 2)

    found = {}
    for on in (True, False):
        fused(on)
        reverse = jax.value_and_grad(loss)(1.0)
        forward = jax.jvp(lambda s: loss(s, diffrax.ForwardMode()), (1.0,), (1.0,))
        found[on] = np.array([*reverse, *forward])
    np.testing.assert_allclose(found[True], found[False], rtol=1e-4, atol=1e-6)


def test_a_batch_of_parameters_is_a_loop_over_kernels(fused):
    fused(True)
    law = rqf.laws.Uniform(2, 3)

    def end(sigma):
        sde = rqf.models.random_quadratic_form(sigma)
        return rqf.simulate(sde, law, [0.0, 0.5], substeps=8, members=20, key=KEY).ys[:, -1]

    together = jax.vmap(end)(jnp.array([0.5, 1.0]))
    for sigma, found in zip((0.5, 1.0), together, strict=True):
        np.testing.assert_allclose(found, end(sigma), rtol=1e-5, atol=1e-6)


def test_a_program_for_cuda_holds_one_custom_call_for_all_intervals(monkeypatch):
    # Lowered without a GPU, its toolkit or its driver.
    monkeypatch.setenv("RQF_JAX_FUSED", "all")

    def end(sigma):
        sde = rqf.models.noisy_attention(sigma, 1.0)
        return rqf.simulate(sde, rqf.laws.Uniform(8, 3), TS, substeps=64, members=1000, key=KEY).ys

    text = jax.jit(end).trace(1.0).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.ptx") == 1
    assert "callback" not in text


def many_numbers():
    return rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(20, 32)


def eigenvalues():
    return rqf.models.dyson_eigenvalues(1.0, 1.0, 2.0), rqf.laws.Fixed([0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("make", "why"), [(many_numbers, "numbers of state"), (eigenvalues, "complex64")]
)
def test_a_step_that_no_kernel_is_for_is_explained_and_runs_as_a_scan(make, why, fused):
    ours, found = make(), {}
    assert why in rqf.explain(*ours)
    for on in (True, False):
        fused(on)
        found[on] = run(ours, members=3)
    np.testing.assert_array_equal(found[True], found[False])


def test_runs_with_and_without_kernels_do_not_continue_each_other(fused):
    fused(True)
    on = _store.identity()
    fused(False)
    off = _store.identity()
    assert {name for name in on if on[name] != off[name]} == {"fused kernels"}


def test_double_precision_is_a_scan():
    with jax.enable_x64(True):
        text = rqf.explain(rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(4, 3))
    assert "scan in XLA" in text and "float64" in text


def test_kernels_that_are_turned_off_are_said_to_be(fused):
    fused(False)
    text = rqf.explain(rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(4, 3))
    assert "RQF_JAX_FUSED" in text
