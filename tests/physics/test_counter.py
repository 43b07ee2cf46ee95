"""Theorems about the normal numbers as a function of (stream, step, element)."""

import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax import lax
from jax.extend.random import threefry_2x32

from rqf_jax._brownian import counter as _counter

STEPS, ELEMENTS = 1000, 600
ONES = 0xFFFFFFFF


def words(*values):
    return tuple(jnp.asarray(value, jnp.uint32) for value in values)


def pairs(dtype, key=(1, 2)):
    """Complex numbers (steps, elements) of one stream."""
    shape = (STEPS, ELEMENTS)
    step, element = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1))
    stream = tuple(jnp.full(shape, word, jnp.uint32) for word in key)
    numbers = jax.jit(_counter.normal_pairs, static_argnums=3)
    return np.asarray(numbers(stream, step, element, np.dtype(dtype)))


@pytest.fixture(scope="module", params=["float32", "float64"])
def sample(request):
    return pairs(request.param)


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers_of_random123(key, counter, expected):
    bits = _counter.threefry(words(*key), words(*counter))
    assert tuple(int(word) for word in bits) == expected


def test_threefry_is_the_cipher_of_jax_keys():
    counters = np.random.default_rng(0).integers(0, 2**32, size=(2, 500), dtype=np.uint32)
    key = words(0x12345678, 0x9ABCDEF0)
    spread = tuple(jnp.full(500, word) for word in key)
    ours = _counter.threefry(spread, tuple(jnp.asarray(counters)))
    theirs = threefry_2x32(jnp.stack(key), jnp.asarray(counters.ravel()))
    np.testing.assert_array_equal(np.concatenate(ours), theirs)


def test_bits_are_the_same_in_every_version_of_jax():
    shape = (64, 64)
    counter = tuple(lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in (0, 1))
    key = tuple(jnp.full(shape, word, jnp.uint32) for word in (3, 4))
    digest = hashlib.sha256()
    for word in _counter.threefry(key, counter):
        digest.update(np.asarray(word).astype("<u4").tobytes())
    assert digest.hexdigest() == "a7e3f734db9474e6ef7d47c433ea2f82fceda6451c42a907880efc3f558eb3cc"


def test_numbers_are_standard_normal(sample):
    numbers = sample.view(sample.real.dtype).ravel().astype(np.float64)
    count = numbers.size
    assert count >= 1e6
    assert abs(numbers.mean()) < 5 * math.sqrt(1 / count)
    assert abs((numbers**2).mean() - 1) < 5 * math.sqrt(2 / count)
    assert abs((numbers**3).mean()) < 5 * math.sqrt(15 / count)
    assert abs((numbers**4).mean() - 3) < 5 * math.sqrt(96 / count)
    five_scores = 2 * scipy.stats.norm.sf(5)
    assert scipy.stats.kstest(numbers, "norm").pvalue > five_scores


@pytest.mark.parametrize("power", [1, 2], ids=["values", "squares"])
def test_parts_steps_elements_and_streams_are_uncorrelated(sample, power):
    real, imag = sample.real.astype(np.float64) ** power, sample.imag.astype(np.float64) ** power
    other = pairs(sample.real.dtype, key=(1, 3)).real.astype(np.float64) ** power
    for a, b in (
        (real, imag),
        (real[1:], real[:-1]),
        (real[1:], imag[:-1]),
        (real[:, 1:], real[:, :-1]),
        (real[:, 1:], imag[:, :-1]),
        (real, other),
    ):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / math.sqrt(a.size)


def test_float64_refines_float32_up_to_the_bits_that_float32_has():
    single, double = pairs("float32"), pairs("float64")
    radius, error = np.abs(double), np.abs(single - double)
    # Half a level of the radius' 31 bits, rounding of u next to 1, rounding of the rest.
    resolution = 2.0**-32 * np.exp(radius**2 / 2) / radius
    assert np.all(error <= resolution + 1.2e-7 / radius + 3e-7 * radius)
    assert np.sqrt(np.mean(error**2)) < 2e-7
    assert np.mean(error > 1e-5) < 1e-4


@pytest.fixture
def extreme_words(monkeypatch):
    """Every pair of words at the ends of the two ranges, in place of the cipher's."""
    ends = [0, 1, 2, 3, 0x7F, 0x80, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xC0000000]
    ends += [ONES - 2**k for k in range(0, 31)] + [2**k for k in range(2, 31)] + [ONES]
    first, second = np.meshgrid(np.array(ends, np.uint32), np.array(ends, np.uint32))
    bits = jnp.asarray(first.ravel()), jnp.asarray(second.ravel())
    monkeypatch.setattr(_counter, "threefry", lambda key, counter: bits)
    nothing = jnp.zeros(first.size, jnp.int32)
    numbers = jax.jit(_counter.normal_pairs, static_argnums=3)
    return lambda dtype: np.asarray(numbers(bits, nothing, nothing, dtype))


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 32), ("float64", 54)])
def test_extreme_bits_give_finite_numbers_and_the_stated_largest_radius(extreme_words, dtype, bits):
    numbers = extreme_words(np.dtype(dtype))
    assert np.all(np.isfinite(numbers))
    longest = math.sqrt(2 * bits * math.log(2))
    assert np.abs(numbers).max() == pytest.approx(longest, rel=3e-7)
    assert dtype == "float64" or round(longest, 2) == 6.66


def test_logarithm_is_right_to_two_roundings_at_every_float_of_a_binade_and_far_below():
    log = jax.jit(_counter._log)
    binade = (np.arange(2**23, dtype=np.uint32) + np.uint32(0x3F000000)).view(np.float32)
    tiny = np.exp2(np.random.default_rng(0).uniform(-32, 0, 100_000)).astype(np.float32)
    for u in (binade, tiny):
        value, exact = np.asarray(log(u)), np.log(u.astype(np.float64))
        # Never positive, whose root would be NaN.
        assert value.max() <= 0
        assert np.all(np.abs(value - exact) <= 1.3e-7 * np.abs(exact))
    assert float(log(jnp.float32(1))) == 0


def test_sine_and_cosine_are_right_to_two_roundings_on_their_interval():
    t = np.linspace(-math.pi / 4, math.pi / 4, 1_000_001).astype(np.float32)
    sine, cosine = map(np.asarray, jax.jit(_counter._sine_cosine)(t))
    assert np.abs(sine - np.sin(t.astype(np.float64))).max() < 6e-8
    assert np.abs(cosine - np.cos(t.astype(np.float64))).max() < 9e-8
