"""Fused kernels do what the jaxpr says: operations, functions, loops; on lanes and in LLVM."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax import lax

from rqf_jax._fused import cpu, functions, gpu, lanes, rows, values, xla
from rqf_jax._fused.loop import Step, loop

# Kernels are for float32.
pytestmark = pytest.mark.usefixtures("as_a_user")


def step_of(function, shape):
    """A step that applies a function to the state, and has neither noise nor parameters."""
    x, t, words = jnp.zeros(shape), jnp.float32(0), jnp.zeros(2, jnp.uint32)
    begin = jax.make_jaxpr(lambda time, x: ())(t, x)
    step = jax.make_jaxpr(lambda words, number, time, h, x: function(x))(
        words, jnp.int32(0), t, t, x
    )
    return Step(begin, step, 0)


def run(step, xs, *, words=None, first=0, substeps=1, start=0.0, h=0.0):
    """States (numbers, members) after so many steps of a kernel on the CPU."""
    members = xs.shape[1]
    whole = -(-members // cpu.width()) * cpu.width()
    padded = jnp.pad(jnp.asarray(xs), [(0, 0), (0, whole - members)])
    words = jnp.zeros((2, whole), jnp.uint32) if words is None else words
    name = cpu.target(loop(step, cpu.width()))
    call = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct(padded.shape, padded.dtype))
    ints = jnp.array([first, substeps, whole], jnp.int32)
    return np.asarray(call(words, padded, ints, jnp.array([start, h], jnp.float32), jnp.zeros(1)))[
        :, :members
    ]


def kernel(function, x):
    """A function of one state by a kernel, for each of `x` (members, ...)."""
    members, *shape = x.shape
    out = run(step_of(function, tuple(shape)), np.moveaxis(x.reshape(members, -1), 0, 1))
    return np.moveaxis(out, 1, 0).reshape(x.shape)


def units(found, wanted):
    """The largest error in units in the last place of float32."""
    spacing = np.spacing(np.abs(wanted).astype(np.float32)).astype(float)
    return float(np.max(np.abs(found - wanted) / np.maximum(spacing, 1.2e-38)))


FUNCTIONS = {
    "exp": (jnp.exp, np.exp, (-80, 80)),
    "exp2": (jnp.exp2, np.exp2, (-120, 120)),
    "expm1": (jnp.expm1, np.expm1, (-20, 80)),
    "log": (jnp.log, np.log, (1e-37, 1e37)),
    "log2": (jnp.log2, np.log2, (1e-37, 1e37)),
    "log1p": (jnp.log1p, np.log1p, (-0.99, 1e6)),
    "sin": (jnp.sin, np.sin, (-1e4, 1e4)),
    "cos": (jnp.cos, np.cos, (-1e4, 1e4)),
    "tanh": (jnp.tanh, np.tanh, (-10, 10)),
    "logistic": (jax.nn.sigmoid, scipy.special.expit, (-60, 60)),
    "erf": (jax.scipy.special.erf, scipy.special.erf, (-5, 5)),
    "erfc": (jax.scipy.special.erfc, scipy.special.erfc, (-5, 9)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_errors_of_a_few_units_in_the_last_place(name):
    ours, exact, (low, high) = FUNCTIONS[name]
    rng = np.random.default_rng(1)
    wide = rng.uniform(low, high, 40_000)
    narrow = wide * 10 ** rng.uniform(-6, 0, wide.size)
    x = np.concatenate([wide, narrow[(narrow > low) & (narrow < high)]]).astype(np.float32)
    # A multiple of π has a sine below the spacing of its neighbours: an absolute error there.
    wanted = exact(x.astype(float))
    found = kernel(ours, x[:, None])[:, 0]
    if name in ("sin", "cos"):
        assert np.max(np.abs(found - wanted)) < 2e-7
    else:
        assert units(found, wanted) < (8 if name == "erfc" else 5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_limits_infinities_and_nan_as_jax_does(name):
    ours = FUNCTIONS[name][0]
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 1.0, -1.0, 3e3, -3e3], np.float32)
    np.testing.assert_allclose(
        kernel(ours, x[:, None])[:, 0], np.asarray(ours(x)), rtol=3e-7, atol=2e-7
    )


def test_the_angle_of_a_point_is_right_in_every_quadrant_and_on_the_axes():
    special = np.array([0, -0.0, np.inf, -np.inf, 1, -1, 1e-30, 1e30], np.float32)
    y, x = (a.ravel() for a in np.meshgrid(special, special))
    rng = np.random.default_rng(2)
    y, x = (np.concatenate([a, rng.normal(size=10_000)]).astype(np.float32) for a in (y, x))
    both = np.stack([y, x], 1)
    found = kernel(lambda p: jnp.stack([jnp.arctan2(p[0], p[1]), p[0]]), both)[:, 0]
    np.testing.assert_allclose(found, np.arctan2(y.astype(float), x), rtol=4e-7, atol=1e-30)


def chosen(x):
    return jnp.stack([x[i] for i in (2, 0, 1)])


A = np.array([[0.5, -1.0, 2.0], [0.0, 1.5, -0.5], [1.0, 1.0, 0.25]], np.float32)
TABLE = jnp.asarray(np.random.default_rng(5).normal(size=300), jnp.float32)
COUNTS = np.arange(0, 40, 2, dtype=np.float32)
RULES = {
    "slices and stacks": chosen,
    "products of rows": lambda x: jnp.exp(-x @ x.T)[::-1] @ x + jnp.sum(x @ x.T * A, 0),
    "outer": lambda x: jnp.max(x[:, None, :] * x[None] + jnp.arange(3.0)[:, None], axis=(0, 2)) - x,
    "moved": lambda x: (2 * x)[None].reshape(3, 3, 1)[..., 0].T * jnp.eye(3) + (x * x)[:, 1:2],
    "arrays of 128": lambda x: (
        jnp.sum(
            jax.nn.softmax(jnp.tile(x, (4, 1)) @ jnp.tile(x, (4, 1)).T, axis=-1)
            @ jnp.tile(x, (4, 1)),
            axis=0,
        )
        - x
    ),
    "reversed": lambda x: x[::-1, ::-1],
    "gathered": lambda x: x[jnp.array([2, 0, 1])][:, jnp.array([1, 1, 0])],
    "added to": lambda x: x.at[jnp.array([1, 1, 0]), 2].add(x[:, 1]).at[2].add(x[0]),
    "slopes": jax.grad(
        lambda x: jnp.sum(
            jnp.tanh(jnp.sin(x[:, [1, 0, 1]])) * jax.nn.softmax(x @ x.T) + jax.scipy.special.erf(x)
        )
    ),
    "truth values": lambda x: (
        ((x > 0) @ (x.T > -0.3)) * x
        + (x > 0) @ (A > 0)
        + jnp.matmul(x > 0, x > 1, preferred_element_type=jnp.int32)
        + jnp.matmul((4 * x).astype(jnp.int32), COUNTS[:3, None].astype(np.int32))
    ),
    "updated": lambda x: x.at[1, 2].set(7.0).at[0].set(1.0),
    "padded by less than nothing": lambda x: lax.pad(x, 3.0, [(-1, 2, 1), (1, -2, 2)])[:3, :3],
    "padded by its own": lambda x: lax.pad(x, x[0, 0], [(1, -1, 0), (0, 0, 0)]),
    "padded": lambda x: jnp.pad(x, [(1, 0), (0, 1)], constant_values=3.0)[:3, 1:],
    "split": lambda x: jnp.concatenate(jnp.split(x, [1], axis=0)[::-1]),
    "rolled": lambda x: jnp.roll(x, 1, axis=1),
    "sums": lambda x: jnp.cumsum(x, axis=1) + jnp.sum(x, axis=0),
    "products": lambda x: x @ A + A @ x.T,
    "batched products": lambda x: jnp.einsum("ij,ikj->ik", x, jnp.stack([A, A.T, -A])),
    "extremes": lambda x: jnp.maximum(x, 0.3) + jnp.max(x, axis=1, keepdims=True) - jnp.min(x),
    "powers": lambda x: x**3 + (1.5 + x**2) ** -2 + x**0,
    "roots": lambda x: jnp.sqrt(jnp.abs(x)) + lax.rsqrt(1 + x * x),
    "rounding": lambda x: jnp.floor(3 * x) + jnp.ceil(x) + jnp.round(5 * x) + jnp.sign(x),
    "choices": lambda x: jnp.where((x > 0) & ~(x > 1), x, jnp.clip(x, -0.5, 2.0)),
    "branches": lambda x: lax.cond(x[0, 0] > 0, lambda y: 2 * y, lambda y: y - 1, x),
    "loops": lambda x: lax.fori_loop(0, 4, lambda i, y: y * 0.5 + jnp.asarray(A)[i % 3], x),
    "long loops": lambda x: lax.fori_loop(0, 300, lambda i, y: (y + i * x) @ (A / 9), x),
    "long stacked loops": lambda x: lax.scan(
        lambda c, r: (c * 0.9 + r, c * r), x[0], jnp.tile(x, (300, 1)), reverse=True
    )[1][897:],
    "open loops": lambda x: lax.while_loop(
        lambda y: jnp.sum(y * y) < 50, lambda y: y * 1.1 + 0.1, x
    ),
    "places": lambda x: (
        lax.dynamic_slice(
            lax.dynamic_update_slice(x, -x[:1, :2], (jnp.int32(x[0, 0] * 2), 1)),
            (jnp.int32(x[1, 1]), 0),
            (1, 3),
        )
        + x
    ),
    "places that differ": lambda x: (
        x.reshape(-1)[(x * 4).astype(jnp.int32)]
        + TABLE[:7][(x * 9).astype(jnp.int32)]
        + jnp.take(x, (x * 3).astype(jnp.int32)[0], axis=1, mode="fill", fill_value=2.0)
    ),
    "places in a table": lambda x: (
        TABLE[(x * 99).astype(jnp.int32)] + jnp.asarray(COUNTS)[(x * 5).astype(jnp.int32)]
    ),
    "lines between records": lambda x: jax.vmap(
        lambda y: jnp.interp(y, jnp.linspace(-2, 2, 40), TABLE[:40])
    )(x.reshape(-1)).reshape(3, 3),
    "added": lambda x: (
        x.at[jnp.array([0, 0, 2]), 1]
        .add(x[:, 0])
        .at[1]
        .add(3.0)
        .at[COUNTS[:0].astype(int)]
        .add(1.0)
    ),
    "divided integers": lambda x: ((x * 9).astype(jnp.int32) // 3 % 5).astype(jnp.float32),
    "signs of integers": lambda x: jnp.sign((x * 2).astype(jnp.int32)).astype(jnp.float32),
    "stacked loops": lambda x: lax.scan(lambda c, r: (c + r, c * r), jnp.ones(3), x)[1],
    "integers": lambda x: ((x * 8).astype(jnp.int32) & 3).astype(jnp.float32),
    "normal numbers": lambda x: jnp.where(jnp.isfinite(x), x, 0.0),
    "normalised": lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
    "softmax": lambda x: jax.nn.softmax(x @ x.T, axis=-1) @ x,
    "perceptron": lambda x: jax.nn.gelu(x @ A, approximate=False) + jax.nn.softplus(x),
}


@pytest.mark.parametrize(
    "entries",
    [pytest.param(2, marks=pytest.mark.slow, id="in loops"), pytest.param(10**9, id="written out")],
)
@pytest.mark.parametrize("name", RULES)
def test_every_rule_gives_what_jax_gives(name, entries, monkeypatch):
    # From so many entries on, arrays are made row by row.
    if name != "arrays of 128":
        for module in (rows, sys.modules[Step.__module__]):
            monkeypatch.setattr(module, "ROWS", entries)
        monkeypatch.setattr(rows, "_PRODUCTS", entries)
    function = RULES[name]
    x = np.random.default_rng(3).normal(size=(37, 3, 3)).astype(np.float32)
    wanted = np.asarray(jax.vmap(function)(x))
    np.testing.assert_allclose(kernel(function, x), wanted, rtol=3e-6, atol=3e-6)

    text = gpu.ptx(loop(step_of(function, (3, 3)), 1))
    assert ".entry save_interval" in text
    if name in ("arrays of 128", "open loops", "long loops", "long stacked loops"):
        return

    # The same interpreter on arrays, of which every lane is a member.
    cells = np.empty((3, 3), object)
    for place in np.ndindex(3, 3):
        cells[place] = jnp.asarray(x[:, *place])
    closed = jax.make_jaxpr(function)(x[0])
    (out,) = lanes.evaluate(values.ArrayOps(), closed, cells)
    found = np.stack([np.broadcast_to(out[p], 37) for p in np.ndindex(3, 3)], 1).reshape(37, 3, 3)
    np.testing.assert_allclose(found, wanted, rtol=3e-6, atol=3e-6)


@pytest.mark.slow
# JAX has no derivative of an open loop, and a kernel adds at no place that is not known.
@pytest.mark.parametrize(
    "name", sorted(RULES.keys() - {"open loops", "places that differ", "slopes"})
)
def test_slopes_through_every_rule_are_those_of_jax(name):
    weights = np.random.default_rng(8).normal(size=(3, 3)).astype(np.float32)
    slopes = jax.grad(lambda x: jnp.sum(RULES[name](x) * weights))
    x = np.random.default_rng(3).normal(size=(37, 3, 3)).astype(np.float32)
    wanted = np.asarray(jax.vmap(slopes)(x))
    atol = 3e-6 * np.abs(wanted).max()
    np.testing.assert_allclose(kernel(slopes, x), wanted, rtol=3e-6, atol=atol)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: jnp.linalg.eigvalsh(x + x.T)[0] * x, "operation"),
        (lambda x: x[jnp.argmax(x[0])] * x, "operation `argmax`"),
        (lambda x: jnp.sort(x), "operation `sort`"),
        (lambda x: jnp.abs(jnp.fft.fft(x)), "complex"),
        (lambda x: jnp.real(lax.complex(x, x) @ lax.complex(x, -x)), "complex"),
        (lambda x: lax.reduce_precision(x, 5, 10), "fewer bits"),
        (lambda x: jnp.tile(x, (4000, 1)).cumsum(0)[:3], "operations"),
        (lambda x: lax.scan(lambda c, _: (c + 1, c), x, length=9000)[1][:1].sum(0), "memory"),
    ],
)
def test_a_step_without_a_rule_says_which_operation_it_is(function, reason):
    with pytest.raises(values.Unsupported, match=reason):
        loop(step_of(function, (3, 3)), 16)


def test_nan_stays_nan_through_extremes_choices_and_products():
    x = np.array([[np.nan, 1.0, 2.0], [0.0, np.nan, 1.0], [1.0, 2.0, 3.0]], np.float32)
    for function in (
        lambda x: jnp.full(3, jnp.max(x)),
        lambda x: jnp.full(3, jnp.min(x)),
        lambda x: jnp.clip(x, -1.0, 1.0),
        lambda x: 0 * x,
        jnp.abs,
    ):
        np.testing.assert_array_equal(kernel(function, x), np.asarray(jax.vmap(function)(x)))


def test_steps_count_from_the_first_and_know_their_time():
    # x' = x + time + number, from number 5 and time 2 on, for 4 steps of length 1/2.
    t = jnp.float32(0)
    begin = jax.make_jaxpr(lambda time, x: ())(t, jnp.zeros(1))
    step = jax.make_jaxpr(
        lambda words, number, time, h, x: x + time + number.astype(jnp.float32) + 8 * h
    )(jnp.zeros(2, jnp.uint32), jnp.int32(0), t, t, jnp.zeros(1))
    out = run(
        Step(begin, step, 0), np.zeros((1, 20), np.float32), first=5, substeps=4, start=2, h=0.5
    )
    assert np.all(out == (2 + 2.5 + 3 + 3.5) + (5 + 6 + 7 + 8) + 4 * 4)


def test_a_step_in_xla_has_no_arithmetic_on_single_numbers_but_its_count():
    # XLA would make a kernel of its own of them: h / 2 of an equation, the time, a parameter.
    one = jnp.zeros(1)
    step = jax.make_jaxpr(
        lambda rate, words, number, time, h, x: x - rate * 0.5 * h * jnp.sin(2 * time + number) * x
    )(one[0], jnp.zeros(2, jnp.uint32), jnp.int32(0), one[0], one[0], one)
    begin = jax.make_jaxpr(lambda rate, time, x: ())(one[0], one[0], one)
    ways = functools.partial(xla.advance, Step(begin, step, 1), substeps=9)
    closed = jax.make_jaxpr(ways)(
        jnp.zeros((2, 5), jnp.uint32), jnp.zeros((1, 5)), jnp.int32(0), one[0], one[0], one
    )
    (loop_,) = (e for e in closed.jaxpr.eqns if e.primitive.name == "scan")
    body = loop_.params["jaxpr"].jaxpr
    single = [e for e in body.eqns if all(not v.aval.shape for v in e.outvars)]
    assert [e.primitive.name for e in single if e.primitive.name != "convert_element_type"] == [
        "add"
    ]


def test_a_step_in_xla_hands_on_floats_alone():
    # Arrays travel in pairs, as complex numbers.
    zero, words = jnp.zeros(()), jnp.zeros(2, jnp.uint32)
    begin = jax.make_jaxpr(lambda time, x: jnp.int32(0))(zero, jnp.zeros(1))
    step = jax.make_jaxpr(lambda words, number, time, h, x, turn: (x + turn, turn + 1))(
        words, jnp.int32(0), zero, zero, jnp.zeros(1), jnp.int32(0)
    )
    with pytest.raises(values.Unsupported, match="not float32"):
        xla.check(Step(begin, step, 0))


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    x = np.random.default_rng(4).normal(size=(6, 5000)).astype(np.float32)
    step = step_of(lambda x: jnp.sin(3 * x) + 0.1 * x, (6,))
    found = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(cpu, "_threads", lambda threads=threads: threads)
        monkeypatch.setattr(cpu, "_WORTH_A_THREAD", 1000)
        found.append(run(step, x, substeps=50))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    # The first members alone have the same bits as among many.
    np.testing.assert_array_equal(run(step, x[:, :3], substeps=50), found[0][:, :3])


def test_coefficients_of_functions_are_programs_of_arithmetic_alone():
    simple = {"convert_element_type", "bitcast_convert_type", "select_n", "jit", "pjit"}
    for name in functions.PROGRAMS:
        used = {equation.primitive.name for equation in functions.program(name).jaxpr.eqns}
        assert not used & set(functions.PROGRAMS), (name, used - simple)
