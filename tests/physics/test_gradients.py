"""Derivatives through `simulate`: reverse, forward and differences agree, and none is NaN."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import isotropic, unit_tokens

import rqf_jax as rqf
from rqf_jax.laws import Fixed
from rqf_jax.noises import IsotropicNoise, SpanNoise, TokenNoise
from rqf_jax.observables import angles, overlaps
from rqf_jax.solvers import GeodesicEuler, GeodesicHeun, ProjectiveFlow

SPHERE = rqf.manifolds.Sphere()
SOLVERS = {s.__name__: s() for s in (ProjectiveFlow, GeodesicEuler, GeodesicHeun)}
OTHERS_SLOW = [
    "ProjectiveFlow",
    *(pytest.param(name, marks=pytest.mark.slow) for name in list(SOLVERS)[1:]),
]
POINT = {
    "symmetric": jnp.asarray(0.8),
    "antisymmetric": jnp.asarray(0.6),
    "x0": jnp.asarray(unit_tokens(3, 3)),
}
rng = np.random.default_rng(1)
DIRECTION = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), POINT)


def observe(x):
    """Overlaps, and a coordinate, which the antisymmetric noise moves too."""
    return jnp.sum(overlaps(x)) + x[0, 0]


def mean(point, solver, adjoint=None, **options):
    """A mean over an ensemble at two times, a function of strengths and initial tokens."""
    runs = rqf.simulate(
        isotropic(point["symmetric"], point["antisymmetric"]),
        Fixed(SPHERE.project(point["x0"])),
        jnp.asarray([0.0, 0.3, 1.0], point["x0"].dtype),
        substeps=6,
        members=8,
        key=jax.random.key(0),
        solver=solver,
        save=observe,
        adjoint=adjoint,
        **options,
    )
    return jnp.mean(runs.ys[:, 1:])


@functools.cache
def reverse(name):
    return jax.jit(jax.grad(functools.partial(mean, solver=SOLVERS[name])))


@functools.cache
def forward(name):
    """(point, direction) -> value and directional derivative."""
    f = functools.partial(mean, solver=SOLVERS[name], adjoint=diffrax.ForwardMode())
    return jax.jit(lambda point, direction: jax.jvp(f, (point,), (direction,)))


def along(gradient, direction):
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS_SLOW)
def test_reverse_and_forward_derivatives_agree_and_are_central_differences(name):
    gradient = reverse(name)(POINT)
    _, tangent = forward(name)(POINT, DIRECTION)
    np.testing.assert_allclose(along(gradient, DIRECTION), tangent, rtol=1e-12)
    eps = 1e-5
    for part in POINT:
        direction = jax.tree.map(jnp.zeros_like, POINT) | {part: DIRECTION[part]}
        above, below = (
            forward(name)(
                jax.tree.map(lambda p, d, s=sign: p + s * eps * d, POINT, direction), direction
            )[0]
            for sign in (1, -1)
        )
        np.testing.assert_allclose(
            (above - below) / (2 * eps), along(gradient, direction), rtol=1e-6
        )


@pytest.mark.slow
def test_the_jacobian_of_all_members_and_times_by_forward_mode_has_the_mean_gradient():
    def all_values(sigma):
        point = POINT | {"symmetric": sigma}
        return rqf.simulate(
            isotropic(sigma, point["antisymmetric"]),
            Fixed(SPHERE.project(point["x0"])),
            jnp.asarray([0.0, 0.3, 1.0]),
            substeps=6,
            members=8,
            key=jax.random.key(0),
            solver=GeodesicEuler(),
            save=observe,
            adjoint=diffrax.ForwardMode(),
        ).ys

    jacobian = jax.jacfwd(all_values)(POINT["symmetric"])
    assert jacobian.shape == (8, 3)
    np.testing.assert_array_equal(jacobian[:, 0], np.zeros(8))
    expected = reverse("GeodesicEuler")(POINT)["symmetric"]
    np.testing.assert_allclose(jnp.mean(jacobian[:, 1:]), expected, rtol=1e-12)


@pytest.mark.slow
def test_the_gradient_does_not_depend_on_batches():
    f = functools.partial(mean, solver=GeodesicEuler(), batch_size=3)
    batched, whole = jax.jit(jax.grad(f))(POINT), reverse("GeodesicEuler")(POINT)
    for part in POINT:
        np.testing.assert_allclose(batched[part], whole[part], rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_gradient_does_not_depend_on_how_often_the_path_is_saved(dtype):
    """Of few saves all states are kept, of many some are computed again, by a kernel or a scan."""
    steps, tokens = 40, jnp.asarray(unit_tokens(3, 3), dtype)

    def last(sigma, saves):
        runs = rqf.simulate(
            isotropic(sigma, jnp.asarray(0.6, dtype)),
            Fixed(tokens),
            np.linspace(0.0, 1.0, saves + 1),
            substeps=steps // saves,
            members=4,
            key=jax.random.key(0),
            save=observe,
        )
        return jnp.mean(runs.ys[:, -1])

    few, many = (jax.grad(last)(jnp.asarray(0.8, dtype), saves) for saves in (5, 20))
    np.testing.assert_allclose(few, many, rtol=1e-12 if dtype == jnp.float64 else 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_single_precision_gradients_are_those_of_double_precision(name):
    # The same noise, rounded: double precision refines the numbers of single precision.
    single = reverse(name)(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), POINT))
    double = reverse(name)(POINT)
    for part in POINT:
        assert single[part].dtype == jnp.float32
        scale = np.abs(double[part]).max()
        np.testing.assert_allclose(single[part], double[part], rtol=0, atol=1e-4 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS_SLOW)
def test_the_gradient_without_noise_is_finite_and_right_in_sigma_s(name):
    silent = POINT | {"symmetric": jnp.asarray(0.0), "antisymmetric": jnp.asarray(0.0)}
    gradient = reverse(name)(silent)
    assert all(jax.tree.leaves(jax.tree.map(lambda g: bool(jnp.all(jnp.isfinite(g))), gradient)))
    # A strength below 0 is refused only where it can be seen; its path is the mirrored one.
    zero, eps = jax.tree.map(jnp.zeros_like, POINT), 1e-5
    above, below = (
        forward(name)(silent | {"symmetric": jnp.asarray(s)}, zero)[0] for s in (eps, -eps)
    )
    np.testing.assert_allclose((above - below) / (2 * eps), gradient["symmetric"], rtol=1e-6)


ISOTROPIC, TOKEN = IsotropicNoise(symmetric=0.8, antisymmetric=0.6), TokenNoise(0.8)


@pytest.mark.parametrize(
    ("noise", "name"),
    [
        (ISOTROPIC, "ProjectiveFlow"),
        pytest.param(ISOTROPIC, "GeodesicEuler", marks=pytest.mark.slow),
        pytest.param(ISOTROPIC, "GeodesicHeun", marks=pytest.mark.slow),
        pytest.param(TOKEN, "GeodesicEuler", marks=pytest.mark.slow),
        pytest.param(TOKEN, "GeodesicHeun", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("dim", "dtype"), [(3, jnp.float32), pytest.param(6, jnp.float64, marks=pytest.mark.slow)]
)
def test_gradients_are_finite_at_coincident_and_antipodal_tokens(noise, name, dim, dtype):
    sde, solver = rqf.SDE(rqf.drifts.NoDrift(), noise, SPHERE), SOLVERS[name]
    e = jnp.eye(1, dim, dtype=dtype)
    x = jnp.concatenate([e, e, -e, jnp.roll(e, 1, axis=1)])
    dw = 0.3 * jax.random.normal(jax.random.key(0), noise.shape(x), dtype)

    @jax.jit
    @jax.grad
    def gradient(inputs):
        strengths, x, dw = inputs
        y = x
        for _ in range(2):
            y = solver.advance(strengths, jnp.zeros((), dtype), jnp.asarray(0.1, dtype), y, dw)
        return jnp.sum(overlaps(y)) + jnp.sum(angles(y))

    sde = jax.tree.map(lambda leaf: leaf.astype(dtype), sde)
    for strengths in (sde, jax.tree.map(jnp.zeros_like, sde)):
        for increment in (dw, jnp.zeros_like(dw)):
            found = gradient((strengths, x, increment))
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))


def test_gradients_through_the_noise_in_the_span_are_central_differences():
    noise = SpanNoise(symmetric=0.8, antisymmetric=0.6)
    x = jnp.asarray(unit_tokens(2, 5))
    dw = 0.3 * jax.random.normal(jax.random.key(0), noise.shape(x))

    @jax.jit
    def f(x, sigma):
        noise = SpanNoise(symmetric=sigma, antisymmetric=0.6)
        sde = rqf.SDE(rqf.drifts.NoDrift(), noise, SPHERE)
        y = GeodesicEuler().advance(sde, jnp.zeros(()), jnp.asarray(0.1), SPHERE.project(x), dw)
        return observe(y)

    gradient = jax.jit(jax.grad(f, (0, 1)))(x, jnp.asarray(0.8))
    direction, eps = jax.random.normal(jax.random.key(1), x.shape), 1e-5
    above, below = (f(x + s * direction, jnp.asarray(0.8 + s)) for s in (eps, -eps))
    expected = jnp.vdot(gradient[0], direction) + gradient[1]
    np.testing.assert_allclose((above - below) / (2 * eps), expected, rtol=1e-6)


# ---- attention


ATTENTION = {
    "beta": jnp.asarray(1.3),
    "strength": jnp.asarray(0.8),
    "value": jnp.asarray(np.eye(3) + 0.2 * rng.standard_normal((3, 3))),
    "query_key": jnp.asarray(np.eye(3) + 0.2 * rng.standard_normal((3, 3))),
    "sigma": jnp.asarray(0.5),
}


def attended(parameters, members=4, tokens=4, substeps=20, save=observe):
    """A mean overlap after 200 steps of attention and common noise."""
    dim = len(parameters["value"])
    drift = rqf.drifts.Attention(
        parameters["beta"],
        parameters["strength"],
        query_key=parameters["query_key"],
        value=parameters["value"],
    )
    runs = rqf.simulate(
        rqf.SDE(drift, IsotropicNoise(parameters["sigma"], 0.0), SPHERE),
        Fixed(jnp.asarray(unit_tokens(tokens, dim), parameters["beta"].dtype)),
        jnp.linspace(0.0, 1.0, 11),
        substeps=substeps,
        members=members,
        key=jax.random.key(0),
        save=save,
    )
    return jnp.mean(runs.ys[:, 1:])


@pytest.mark.slow
def test_gradients_through_200_steps_of_attention_are_central_differences():
    value, gradient = jax.jit(jax.value_and_grad(attended))(ATTENTION)
    directions = np.random.default_rng(2)
    f, eps = jax.jit(attended), 1e-5
    for name, leaf in ATTENTION.items():
        direction = jnp.asarray(directions.standard_normal(leaf.shape))
        above, below = (
            f(ATTENTION | {name: leaf + sign * eps * direction}) for sign in (1.0, -1.0)
        )
        found = float(jnp.vdot(gradient[name], direction))
        assert found == pytest.approx(float(above - below) / (2 * eps), rel=1e-5), name
    assert np.isfinite(value)


def memory(f, parameters):
    """What the compiled function needs beside its arguments and results."""
    return jax.jit(f).lower(parameters).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("members", "tokens", "dim"), [(4096, 8, 3), (256, 32, 16), (64, 64, 64)])
def test_the_reverse_pass_needs_at_most_three_times_the_memory_of_the_forward_scan(
    members, tokens, dim, monkeypatch
):
    matrices = {name: jnp.eye(dim, dtype=jnp.float32) for name in ("value", "query_key")}
    numbers = {name: jnp.float32(1.0) for name in ("beta", "strength", "sigma")}
    f = functools.partial(
        attended, members=members, tokens=tokens, save=rqf.observables.polar_order
    )
    parameters = numbers | matrices
    reverse = memory(jax.grad(f), parameters)
    monkeypatch.setenv("RQF_JAX_FUSED", "0")
    jax.clear_caches()
    scanned = memory(jax.grad(f), parameters)
    assert scanned < 3 * memory(f, parameters)
    # Kernels keep no block of noise.
    assert reverse < 1.05 * scanned


@pytest.mark.slow
@pytest.mark.parametrize(("fused", "block"), [("1", 4), ("0", 8)])
def test_the_memory_of_the_reverse_pass_grows_by_a_state_of_a_block_of_steps(
    fused, block, monkeypatch
):
    monkeypatch.setenv("RQF_JAX_FUSED", fused)
    jax.clear_caches()
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), ATTENTION)

    def peak(members, substeps):
        f = functools.partial(attended, members=members, tokens=8, substeps=substeps)
        return memory(jax.grad(f), single)

    # The states of one block are kept, and two arrays of that size of every other block. A block is
    # 16 steps in a scan, and the root of the steps of an interval by kernels.
    few, state = peak(820, 32), 820 * 8 * 3 * 4
    assert peak(820, 160) - few <= 128 / block * state
    # 4096 members are taken in five parts of so many.
    # What is saved of a member and its cotangent are numbers, eleven times two.
    assert peak(4096, 32) < 1.3 * few + 4096 * 4 * 11 * 2


@pytest.mark.slow
def test_what_the_saved_function_closes_over_has_a_derivative_too():
    def f(factor):
        runs = rqf.simulate(
            rqf.models.random_quadratic_form(1.0),
            Fixed(unit_tokens(3, 3)),
            [0.0, 0.2],
            substeps=2,
            members=5,
            key=jax.random.key(0),
            save=lambda x: factor**2 * observe(x),
        )
        return jnp.sum(runs.ys)

    value, slope = jax.value_and_grad(f)(jnp.asarray(3.0))
    assert float(slope) == pytest.approx(2 / 3 * float(value), rel=1e-12)
