"""Values and gradients are finite where tokens coincide or oppose, or eigenvalues are equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax import observables as seen

E = np.eye(3)
TOKENS = jnp.asarray(np.stack([E[0], E[0], -E[0], E[1]]))
MATRICES = {"zero": jnp.zeros((3, 3)), "one": jnp.eye(3), "rank one": jnp.ones((3, 3))}
UNIT = jnp.asarray(E[0])

OF_TOKENS = {
    name: getattr(seen, name)
    for name in (
        "angles", "cosines", "cluster_signs", "directions", "effective_rank", "gram",
        "log_radius_ratio", "nematic_order", "overlaps", "polar_order", "radii",
    )
}  # fmt: skip
OF_MATRICES = {
    name: getattr(seen, name)
    for name in ("spectrum", "hermitian_spectrum", "singular_values", "stable_rank")
} | {
    "gaps": lambda x: seen.gaps(seen.spectrum(x)),
    "matrix_function": lambda x: seen.matrix_function(x, jnp.exp),
    "outlier_overlap": lambda x: seen.outlier_overlap(x, UNIT),
    "power_sums": lambda x: seen.power_sums(seen.spectrum(x)),
    "singular_overlaps": lambda x: seen.singular_overlaps(x, UNIT, UNIT),
    "spacing_ratios": lambda x: seen.spacing_ratios(seen.spectrum(x)),
}


def values_and_gradients(functions, x):
    """Every function at x, and the gradient of the sum of its squares, in one program."""

    def one(function):
        def total(x):
            value = function(x)
            return jnp.sum(value * value), value

        return jax.grad(total, has_aux=True)(x)

    return jax.jit(lambda x: {name: one(function) for name, function in functions.items()})(x)


def not_finite(found):
    return [
        name for name, leaves in found.items() if not np.all([np.isfinite(a).all() for a in leaves])
    ]


def test_observables_of_coincident_and_antipodal_tokens_have_finite_gradients():
    assert not_finite(values_and_gradients(OF_TOKENS, TOKENS)) == []


@pytest.mark.parametrize(
    "name", ["one", *(pytest.param(n, marks=pytest.mark.slow) for n in ("zero", "rank one"))]
)
def test_observables_of_degenerate_matrices_have_finite_gradients(name):
    assert not_finite(values_and_gradients(OF_MATRICES, MATRICES[name])) == []


WELL = rqf.potentials.Quartic(1.0)
STEPS = {
    "ProjectedEuler": (rqf.models.random_layers(1.0), TOKENS),
    "LinearFlow": (rqf.models.oja(jnp.diag(jnp.asarray([2.0, 2.0, 1.0]))), TOKENS),
    "ExactOU": (rqf.models.weight_ou(1.0, 0.5, jnp.zeros((3, 3))), MATRICES["zero"]),
    "MatrixJump": (rqf.models.dyson_eigenvalues(1.0, 0.5), jnp.zeros(3)),
    "BackwardEuler": (rqf.models.dyson_eigenvalues(1.0, 0.5, beta=3.0), jnp.zeros(3)),
    "Strang": (rqf.models.dyson(1.0, potential=WELL), MATRICES["one"]),
}


@pytest.mark.parametrize(
    "name",
    ["LinearFlow", *(pytest.param(n, marks=pytest.mark.slow) for n in STEPS if n != "LinearFlow")],
)
def test_steps_from_degenerate_states_have_finite_gradients(name):
    sde, x = STEPS[name]
    runs = jax.jit(jax.value_and_grad(lambda x: end(sde, x)))
    value, gradient = runs(x)
    assert type(rqf.solvers.default(sde)).__name__ == name
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


@pytest.mark.slow
def test_a_loss_of_coincident_tokens_has_a_finite_gradient():
    samples = jnp.broadcast_to(TOKENS, (3, 2, *TOKENS.shape))
    loss = rqf.losses.MaximumMeanDiscrepancy(
        rqf.laws.Fixed(TOKENS), [0.0, 0.1], samples, substeps=1, members=3, bandwidth=1.0
    )
    model = rqf.models.random_quadratic_form
    value, slope = jax.value_and_grad(lambda s: loss(model(s), jax.random.key(0)))(0.5)
    assert np.isfinite(value) and np.isfinite(slope)


def end(sde, x):
    """The sum of squares of the end of two members that start in x."""
    runs = rqf.simulate(
        sde, rqf.laws.Fixed(x), [0.0, 0.1], substeps=1, members=2, key=jax.random.key(0)
    )
    return jnp.sum(runs.ys**3)
