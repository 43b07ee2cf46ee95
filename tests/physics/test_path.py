"""Theorems about the counter path: whose noise it is, and on which grid."""

import hashlib
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax._brownian.path import draw, stream

DTYPES = ["float32", "float64"]
SHAPES = [(3, 3), (5, 2), (1,)]
TS = [0.0, 0.5, 0.625, 2.0]
FIRST, COUNT = 5, 7


def streams(members, first=0):
    """The members' words (2, members)."""

    def one(member):
        return stream(rqf.member_keys(jax.random.key(0), member)[1])

    return jax.vmap(one, out_axes=-1)(first + jnp.arange(members, dtype=jnp.uint32))


def numbers(words, shape, dtype, lanes_last):
    """What `draw` makes for some members, members first, compiled for just this case."""
    compiled = jax.jit(
        lambda words: draw(
            words, jnp.asarray(FIRST), COUNT, shape, np.dtype(dtype), lanes_last=lanes_last
        )
    )
    return np.moveaxis(np.asarray(compiled(words)), -1 if lanes_last else 1, 0)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        pytest.param(shape, dtype, marks=() if i == j else pytest.mark.slow)
        for i, shape in enumerate(SHAPES[:2])
        for j, dtype in enumerate(DTYPES)
    ],
)
def test_a_members_noise_has_the_same_bits_in_every_ensemble_batch_and_layout(shape, dtype):
    everybody = numbers(streams(37), shape, dtype, lanes_last=True)
    for first, members, lanes_last in (
        (0, 1, True), (0, 1, False), (0, 5, True), (0, 13, False), (0, 37, False),
        (20, 1, True), (20, 9, False),
    ):  # fmt: skip
        some = numbers(streams(members, first), shape, dtype, lanes_last)
        np.testing.assert_array_equal(some, everybody[first : first + members])


def test_a_members_noise_is_its_step_and_element_wherever_drawing_starts():
    @jax.jit
    def both(words):
        whole = draw(words, jnp.asarray(0), 12, (4, 3), np.dtype("float64"))
        return whole[7:], draw(words, jnp.asarray(7), 5, (4, 3), np.dtype("float64"))

    np.testing.assert_array_equal(*both(streams(4)))


ON_DEVICES = """
import hashlib, json
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from test_path import COUNT, FIRST, streams
from rqf_jax._brownian.path import draw

assert len(jax.devices()) == 4
hashes = {}
for dtype in ("float32", "float64"):
    for devices in (1, 2, 4):
        mesh = Mesh(np.array(jax.devices()[:devices]), "m")
        over_members = NamedSharding(mesh, PartitionSpec(None, "m"))
        words = jax.device_put(streams(16), over_members)
        compiled = jax.jit(
            lambda words: draw(words, jnp.asarray(FIRST), COUNT, (3, 3), np.dtype(dtype)),
            out_shardings=NamedSharding(mesh, PartitionSpec(None, None, None, "m")),
        )
        pairs = compiled(words)
        assert len(pairs.sharding.device_set) == devices
        bits = np.ascontiguousarray(np.moveaxis(np.asarray(pairs), -1, 0))
        hashes[f"{dtype} {devices}"] = hashlib.sha256(bits.tobytes()).hexdigest()
print(json.dumps(hashes))
"""


def test_noise_has_the_same_bits_on_one_two_and_four_devices():
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": "4",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    hashes = json.loads(done.stdout)
    for dtype in DTYPES:
        bits = np.ascontiguousarray(numbers(streams(16), (3, 3), dtype, lanes_last=True))
        here = hashlib.sha256(bits.tobytes()).hexdigest()
        assert {hashes[f"{dtype} {devices}"] for devices in (1, 2, 4)} == {here}


def test_the_streams_of_ten_thousand_members_are_distinct():
    first, second = np.asarray(streams(10_000)).astype(np.uint64)
    assert np.unique((first << np.uint64(32)) | second).size == 10_000


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (0, (0x1AB2C6AF, 0x580F9389)),
        (1, (0x1741070E, 0x5CB9AA86)),
        (2**32 - 1, (0x8C22446A, 0xF3120ABA)),
    ],
)
def test_the_stream_of_a_member_is_the_same_in_every_version_of_jax(member, words):
    assert tuple(int(word) for word in streams(1, np.uint32(member))[:, 0]) == words


def test_the_law_and_the_noise_of_members_use_different_keys():
    def keys(member):
        return jnp.stack(
            [jax.random.key_data(key) for key in rqf.member_keys(jax.random.key(0), member)]
        )

    every = np.asarray(jax.vmap(keys)(jnp.arange(1000, dtype=jnp.uint32))).reshape(-1, 2)
    assert np.unique(every, axis=0).shape == (2000, 2)


def grid(ts, substeps):
    """All micro-steps, as (start, end) pairs."""
    fractions = np.arange(substeps, dtype=ts.dtype) / substeps
    starts = ts[:-1, None] + np.diff(ts)[:, None] * fractions
    nodes = np.append(starts.ravel(), ts[-1]).astype(ts.dtype)
    return nodes[:-1], nodes[1:]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [SHAPES[0], *(pytest.param(s, marks=pytest.mark.slow) for s in SHAPES[1:])]
)
def test_increments_are_the_engines_numbers_in_order_times_the_root_of_the_step(shape, dtype):
    key = jax.random.key(4)
    starts, ends = grid(np.asarray(TS, dtype), 8)

    @jax.jit
    def both(key, starts, ends):
        path = rqf.CounterPath(jnp.asarray(TS, dtype), 8, shape=shape, key=key)
        normals = draw(stream(key), jnp.asarray(0), 24, shape, np.dtype(dtype))
        return jax.vmap(path.evaluate)(starts, ends), normals

    increments, pairs = both(key, starts, ends)
    assert increments.dtype == dtype and increments.shape == (24, *shape)
    normals = np.concatenate([pairs.real, pairs.imag], axis=1)[:, : shape[0]]
    roots = np.sqrt(ends - starts).reshape(-1, *[1] * len(shape))
    np.testing.assert_allclose(increments, roots * normals, rtol=3 * np.finfo(dtype).eps)


def test_the_path_has_the_grids_ends():
    path = rqf.CounterPath(jnp.asarray(TS), 8, shape=(3,), key=jax.random.key(0))
    assert (float(path.t0), float(path.t1)) == (0.0, 2.0)


OFF_GRID = {
    "two steps": (0.0, 0.125),
    "four steps": (0.0, 0.25),
    "over the end of an interval": (0.4375, 0.515625),
    "the whole path": (0.0, 2.0),
    "the right length from the middle of a step": (0.03125, 0.09375),
    "the right length around a save time": (0.46875, 0.53125),
    "before the start": (-0.0625, 0.0),
    "after the end": (2.0, 2.171875),
}


@pytest.fixture(scope="module")
def evaluate():
    @jax.jit
    def run(t0, t1):
        path = rqf.CounterPath(jnp.asarray(TS), 8, shape=(3,), key=jax.random.key(0))
        return path.evaluate(t0, t1)

    return run


@pytest.mark.parametrize(("t0", "t1"), OFF_GRID.values(), ids=OFF_GRID.keys())
def test_a_step_that_is_not_on_the_grid_raises(t0, t1, evaluate):
    with pytest.raises(RuntimeError, match="own grid"):
        evaluate(t0, t1)


def test_every_step_of_the_grid_is_taken(evaluate):
    for t0, t1 in zip(*grid(np.asarray(TS), 8), strict=True):
        assert np.all(np.isfinite(evaluate(t0, t1)))


def test_a_path_has_increments_and_not_values():
    path = rqf.CounterPath(jnp.asarray(TS), 8, shape=(3,), key=jax.random.key(0))
    with pytest.raises(ValueError, match="`t1` is needed"):
        path.evaluate(0.5)


@pytest.mark.parametrize(
    ("substeps", "shape", "text"),
    [
        (0, (3,), "`substeps` must be at least 1; got 0"),
        (1, (), r"`shape` must have at least one axis; got \(\)"),
    ],
)
def test_a_bad_path_is_refused(substeps, shape, text):
    with pytest.raises(ValueError, match=text):
        rqf.CounterPath(jnp.asarray(TS), substeps, shape=shape, key=jax.random.key(0))
