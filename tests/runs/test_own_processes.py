"""Training processes of Python on disk: what they hold, how they go on, how they are told apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _stores import Killed, contents, killed_before

import rqf_jax as rqf
from rqf_jax.laws import Fixed, Normal, Product, Zeros
from rqf_jax.runs.trained import fingerprint
from rqf_jax.training import LeastSquares, Process
from rqf_jax.training.injections import WithReplacement

KEY = jax.random.key(0)
X = np.random.default_rng(0).standard_normal((6, 2))
SQUARES = LeastSquares(lambda w, batch: batch[0] @ w["a"] - batch[1] + w["b"])


def line(optimiser=None, slope=1.0, law=None):
    """A regression with two arrays of weights, made anew in every call."""
    start = Product({"a": Normal((2,)), "b": Fixed(np.zeros(()))}) if law is None else law
    return Process(
        SQUARES, start, (X, slope * X[:, 0]),
        optimiser=jax.tree_util.Partial(optax.adam, jnp.array(0.05)) if optimiser is None
        else optimiser,
        injections=[WithReplacement(2)],
    )  # fmt: skip


def whole(weights):
    return weights


def written(path, process=None, **changes):
    options = {"seeds": 40, "key": KEY, "chunk": 8, "quiet": True} | changes
    return rqf.runs.train(line() if process is None else process, [0, 3, 20], path, **options)


def test_a_process_on_disk_is_that_in_memory_and_nothing_takes_its_place(tmp_path):
    run = written(out := tmp_path / "run.zarr")
    known = rqf.training.train(line(), [0, 3, 20], seeds=40, key=KEY)
    np.testing.assert_allclose(run.a, known.ys["a"], rtol=1e-12)
    np.testing.assert_allclose(run.b, known.ys["b"], atol=1e-14)
    assert run.a.dims == ("member", "time", "a_0") and run.time.values.tolist() == [0, 3, 20]
    assert not run.status.any() and run.attrs["failed"] == 0 and run.attrs["seeds"] == 40
    # A complete run is only checked, and anything else at the same place refused.
    before = (out / "zarr.json").stat().st_mtime_ns
    written(out)
    for changes in ({"process": line(slope=2.0)}, {"seeds": 41}):
        with pytest.raises(FileExistsError, match="is another run"):
            written(out, **changes)
    assert (out / "zarr.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_process_on_disk_goes_on_bit_for_bit_and_is_mended(tmp_path):
    run = written(first := tmp_path / "first.zarr")
    out = tmp_path / "run.zarr"
    for number in (9, 14):
        with killed_before(lambda i, _, number=number: i == number), pytest.raises(Killed):
            written(out)
    assert not out.exists()
    written(out)
    assert contents(out) == contents(first)
    (out / "a" / "c" / "2" / "0" / "0").write_bytes(b"damaged")
    np.testing.assert_array_equal(written(out).a, run.a)
    assert written(out, seeds=16, overwrite=True).a.shape == (16, 3, 2)


@pytest.mark.slow
def test_segments_of_a_process_on_disk_keep_the_memory_of_its_optimiser(tmp_path):
    run = written(first := tmp_path / "whole.zarr", segment=1)
    np.testing.assert_allclose(run.a, written(tmp_path / "plain.zarr").a, rtol=1e-12)
    out = tmp_path / "run.zarr"
    for number in (9, 13, 20):
        with killed_before(lambda i, _, number=number: i == number), pytest.raises(Killed):
            written(out, segment=1)
    written(out, segment=1)
    assert contents(out) == contents(first)


@pytest.mark.slow
def test_an_optimiser_whose_memory_begins_as_infinite_fails_no_seed(tmp_path):
    # The line search of L-BFGS has not seen a value yet.
    run = written(tmp_path / "run.zarr", line(optax.lbfgs()), seeds=8)
    assert not run.status.any() and np.isfinite(run.a).all()


@pytest.mark.slow
def test_a_seed_that_diverges_is_marked_and_the_others_are_kept(tmp_path):
    process = Process(
        lambda w, _: -2 * jnp.sum(jnp.maximum(w, 0) ** 2), Normal((1,)), optimiser=optax.sgd(1.0)
    )
    run = rqf.runs.train(process, [0, 1, 500], tmp_path / "run.zarr", seeds=20, key=KEY, quiet=True)
    above = np.asarray(run.state[:, 0, 0]) > 0
    np.testing.assert_array_equal(run.status, 2 * above)
    assert run.attrs["failed"] == above.sum() > 0


@pytest.mark.parametrize("simplified", [False, True])
def test_an_array_of_jax_that_a_loss_closes_over_is_part_of_a_process(tmp_path, simplified):
    def around(points):
        loss = lambda w, _: jnp.mean((w[None] - points) ** 2)  # noqa: E731
        return Process(loss, Normal((2,)), optimiser=optax.sgd(0.1))

    points = jnp.arange(2000.0).reshape(1000, 2)
    moved = points.at[777, 1].add(1e-9)
    before = jax.config.jax_use_simplified_jaxpr_constants
    jax.config.update("jax_use_simplified_jaxpr_constants", simplified)
    try:
        written(out := tmp_path / "run.zarr", around(points), seeds=2)
        date = (out / "zarr.json").stat().st_mtime_ns
        written(out, around(jnp.array(points)), seeds=2)
        assert (out / "zarr.json").stat().st_mtime_ns == date
        with pytest.raises(FileExistsError, match="process"):
            written(out, around(moved), seeds=2)
    finally:
        jax.config.update("jax_use_simplified_jaxpr_constants", before)


def test_processes_are_told_apart_by_their_program_and_by_every_number():
    inside = np.random.default_rng(1).standard_normal((1000, 2))
    moved = inside.copy()
    moved[777, 1] += 1e-9

    def around(points):
        # Numbers that no part of the process holds, but a function of it.
        return Process(
            lambda w, _: jnp.mean((w[None] - points) ** 2), Normal((2,)), optimiser=optax.sgd(0.1)
        )

    processes = [
        line(),
        line(slope=1.001),
        line(jax.tree_util.Partial(optax.adam, jnp.array(0.051))),
        line(optax.sgd(0.05)),
        line(law=Product({"a": Zeros((2,)), "b": Zeros(())})),
        around(inside),
        around(moved),
    ]
    prints = [fingerprint(one, whole) for one in processes]
    assert len({*prints, fingerprint(line(), lambda w: w["a"])}) == 1 + len(prints)
    # The same, made anew.
    assert fingerprint(line(), whole) == prints[0]
    assert fingerprint(around(inside.copy()), whole) == prints[5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": 3}, "`path` must be the path of a file or folder; got 3"),
        ({"process": 3}, "`process` must be a process of `rqf_jax.training`; got 3"),
        ({"updates": [1, 3]}, "`updates` must start with 0; got 1"),
        ({"seeds": 0}, "`seeds` must be at least 1; got 0"),
        ({"chunk": 0}, "`chunk` must be at least 1; got 0"),
        ({"segment": 0.5}, "`segment` must be an integer; got 0.5"),
        ({"save": lambda w: {"time": w["b"]}}, "must give what it keeps names that be other than"),
    ],
)
def test_a_bad_argument_of_a_process_on_disk_has_one_clear_error(
    changes, message, tmp_path, unchecked
):
    options = {"process": line(), "updates": [0, 1], "path": tmp_path / "run.zarr"}
    options = options | {"seeds": 2, "key": KEY, "quiet": True} | changes
    with pytest.raises(ValueError, match=message):
        rqf.runs.train(**options)
    assert not list(tmp_path.iterdir())
