"""Tokens may be replaced by coordinates in their span where overlaps know no dimension."""

import jax
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax import drifts, models, noises, schedules
from rqf_jax.laws import Fixed, InSpan, Uniform
from rqf_jax.manifolds import Sphere

KEY = jax.random.key(4)
LAW = Uniform(3, 20)


def sde(drift=None, noise=None):
    return rqf.SDE(drift or drifts.NoDrift(), noise or noises.NoNoise(), Sphere())


def simulate(equation, law):
    return rqf.simulate(equation, law, [0.0, 0.05], substeps=2, members=2, key=KEY)


MATRIX = noises.IsotropicNoise(0.5, 0.2)
REFUSED = {
    "bias": (models.forced_rqf(0.5, 0.2), "Sum"),
    "fresh values": (models.stochastic_transformer(1.0), "ValueNoise"),
    "private": (sde(noise=noises.Sum(MATRIX, noises.TokenNoise(0.3))), "Sum"),
    "private alone": (sde(noise=noises.TokenNoise(0.3)), "TokenNoise"),
    "anisotropic": (sde(noise=noises.AnisotropicNoise(np.eye(3), np.eye(3))), "AnisotropicNoise"),
    "layers": (models.random_layers(0.01), "Layered"),
    "perceptron": (models.mlp_flow("relu", 20), "KernelNoise"),
    "scheduled": (
        sde(noise=noises.Scheduled(noises.TokenNoise(0.3), schedules.Exponential(1.0))),
        "Scheduled",
    ),
    "a direction": (sde(drifts.Constant(np.ones(3)), MATRIX), "Constant"),
    "a value matrix": (sde(drifts.Attention(1.0, value=np.eye(3)), MATRIX), "Attention"),
    "a sum with a direction": (
        sde(drifts.Sum(drifts.Attention(1.0), drifts.Linear(np.eye(3))), MATRIX),
        "Sum",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_part_that_knows_the_dimension_or_a_direction_is_refused(name):
    equation, part = REFUSED[name]
    with pytest.raises(ValueError, match=f"`law` InSpan does not suit.*{part}"):
        simulate(equation, InSpan(LAW))


ALLOWED = {
    "attention": models.noisy_attention(1.0, 0.5),
    "unnormalised attention and no noise": sde(drifts.UnnormalisedAttention(1.0)),
    "mean field": sde(drifts.Sum(drifts.MeanField(0.5), drifts.Attention(-1.0))),
    "one number a layer": sde(noise=noises.ScalarNoise(drifts.Attention(1.0), 0.3)),
}


@pytest.mark.parametrize(
    "name",
    [
        "mean field",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ALLOWED if n != "mean field"),
    ],
)
def test_other_parts_are_simulated(name):
    full, span = simulate(ALLOWED[name], LAW), simulate(ALLOWED[name], InSpan(LAW))
    np.testing.assert_allclose(
        jax.vmap(rqf.observables.overlaps)(span.ys[:, 0]),
        jax.vmap(rqf.observables.overlaps)(full.ys[:, 0]),
        atol=1e-12,
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param("unnormalised attention and no noise", marks=pytest.mark.slow), "mean field"],
)
def test_without_noise_the_overlaps_are_the_same_in_both(name):
    x0 = LAW(KEY)
    ends = [
        rqf.observables.overlaps(simulate(ALLOWED[name], law).ys[0, -1])
        for law in (Fixed(x0), InSpan(Fixed(x0)))
    ]
    np.testing.assert_allclose(*ends, atol=1e-13)


def test_a_users_noise_is_refused_unless_it_says_that_it_spans():
    class Own(noises.AbstractNoise):
        def shape(self, x):
            return x.shape

        def __call__(self, t, x, dw):
            return 0.1 * dw

        def calculus(self, manifold):
            return noises.Calculus.EITHER

    class Spanning(Own):
        @property
        def spans(self):
            return True

    with pytest.raises(ValueError, match="Own"):
        simulate(sde(noise=Own()), InSpan(LAW))
    simulate(sde(noise=Spanning()), InSpan(LAW))
