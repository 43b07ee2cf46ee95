"""A fused kernel that cannot be had costs one warning, which says what to do, and nothing else."""

import sys
import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rqf_jax as rqf
from rqf_jax._ensemble import kernel
from rqf_jax._fused import cache, cpu, gpu, switch, values
from rqf_jax._fused.loop import Loop

LAW = rqf.laws.Zeros((2, 2))


@pytest.fixture(autouse=True)
def as_in_a_new_process():
    """float32, and nothing found, compiled or warned of yet."""
    alive = dict(cpu._ALIVE)
    cpu._ALIVE.clear()
    with jax.enable_x64(False):
        yield
    for found in (cpu._machine, cache.warn, gpu.ptx):
        found.cache_clear()
    # XLA knows a kernel by its name for as long as the process lives.
    cpu._ALIVE.update(alive)


@pytest.fixture(autouse=True)
def nothing_known():
    """The same before the test."""
    for found in (cpu._machine, cache.warn, gpu.ptx):
        found.cache_clear()


def run(rate):
    """An equation, and a run of it with so many members."""
    sde = rqf.models.weight_ou(rate, 1.0, np.eye(2, dtype=np.float32))
    return sde, lambda members: rqf.simulate(
        sde, LAW, [0.0, 1.0], substeps=2, members=members, key=jax.random.key(0)
    )


def test_a_compiler_that_is_missing_is_named_once_and_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    sde, simulate = run(0.5)
    with pytest.warns(RuntimeWarning, match="pip install llvmlite") as caught:
        ys = simulate(3).ys
    assert len(caught) == 1 and np.all(np.isfinite(ys))
    # Another program says nothing more; `explain` still does.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(4)
    assert "pip install llvmlite" in rqf.explain(sde, LAW)


def test_a_compiler_that_fails_is_named(monkeypatch):
    import llvmlite.binding as binding

    def broken(text):
        raise RuntimeError("LLVM is broken")

    monkeypatch.setattr(binding, "parse_assembly", broken)
    _, simulate = run(0.25)
    with pytest.warns(RuntimeWarning, match=r"LLVM is broken.*force-reinstall llvmlite"):
        simulate(5)


def test_a_driver_or_gpu_that_is_too_old_is_named(monkeypatch):
    monkeypatch.setattr(gpu, "_driver_version", lambda: 10_020)
    with pytest.raises(values.Unavailable, match=r"CUDA 10\.2.*11\.0.*newer driver"):
        gpu.check_device()
    monkeypatch.setattr(gpu, "_driver_version", lambda: 13_000)
    gpu.check_device()

    class Old:
        compute_capability = "6.1"

    monkeypatch.setattr(jax, "local_devices", lambda: [Old()])
    with pytest.raises(values.Unavailable, match=r"6\.1.*7\.5"):
        gpu.check_device()


TEXT = "define i32 @handler(ptr %frame) {\n ret i32 {number}\n}"


@pytest.fixture
def folder(tmp_path):
    """JAX's compilation cache in a folder."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def compiled(number, monkeypatch=None):
    """What a tiny program with this number returns, and whether it was compiled to find out."""
    import llvmlite.binding as binding

    made, parse = [], binding.parse_assembly
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            binding, "parse_assembly", lambda text: (made.append(bool(text)), parse(text))[1]
        )
        _, handler = cpu._compiled(TEXT.replace("{number}", str(number)))
    return handler(None), any(made)


def test_a_kernel_is_compiled_once_for_all_processes_that_share_a_cache(folder):
    assert compiled(41) == (41, True)
    assert compiled(41) == (41, False)
    assert compiled(42) == (42, True)
    assert len(list(folder.glob("rqf_jax-*-cache"))) == 2


def test_a_damaged_file_of_the_cache_is_named_and_replaced(folder):
    compiled(41)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.warns(RuntimeWarning, match=f"{file.name} is damaged"):
        assert compiled(41) == (41, True)
    assert compiled(41) == (41, False)


def test_a_cache_that_cannot_be_written_costs_one_warning(folder):
    (folder / "file").write_text("no folder")
    jax.config.update("jax_compilation_cache_dir", str(folder / "file"))
    with pytest.warns(RuntimeWarning, match="JAX_COMPILATION_CACHE_DIR") as caught:
        assert compiled(41) == (41, True)
        assert compiled(42) == (42, True)
    assert len(caught) == 1


def test_a_primitive_without_a_rule_is_explained_and_not_warned_of():
    class Sorted(rqf.drifts.AbstractDrift):
        def __call__(self, t, x):
            return -lax.sort(x)

    sde = rqf.SDE(Sorted(), rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
    assert "the operation `sort`" in rqf.explain(sde, LAW)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs = rqf.simulate(sde, LAW, [0.0, 1.0], substeps=2, members=3, key=jax.random.key(0))
    assert jnp.all(jnp.isfinite(runs.ys))


class With(rqf.drifts.AbstractDrift):
    """A pull by a function of the state and an array of any kind."""

    given: jax.Array
    pull: Callable = eqx.field(static=True)

    def __call__(self, t, x):
        return self.pull(self.given, x)


def halved(y):
    """A number, halved until it is at most 1."""
    return lax.while_loop(lambda z: z > 1, lambda z: z / 2, y)


KEY = jax.random.key(3)
ODD = {
    "a parameter of key<fry>": (KEY, lambda k, x: -x * jax.random.uniform(k, (2, 2))),
    "a random key": (jnp.ones((1, 1)), lambda k, x: -x * jax.random.uniform(KEY, (2, 2))),
    "a parameter of int8": (jnp.ones((1, 1), jnp.int8), lambda k, x: -x * k.astype(x.dtype)),
    "rounding to fewer bits": (jnp.ones((1, 1)), lambda k, x: -lax.reduce_precision(x, 8, 7)),
    "numbers of type bfloat16": (
        jnp.ones((1, 1)),
        lambda k, x: -x.astype(jnp.bfloat16).astype(x.dtype),
    ),
    "of complex numbers": (jnp.ones((1, 1)), lambda k, x: -x * jnp.abs(lax.complex(x, x))),
    "ends for one number of a state before another": (
        jnp.ones((1, 1)),
        lambda k, x: -jax.vmap(jax.vmap(halved))(x),
    ),
}


@pytest.mark.parametrize("reason", ODD)
def test_operations_that_a_kernel_would_get_wrong_are_a_scan_that_is_explained(reason):
    sde = rqf.SDE(With(*ODD[reason]), rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
    assert reason in rqf.explain(sde, LAW, solver=rqf.solvers.GeodesicEuler())


@pytest.mark.parametrize("cause", ["driver", "compiler"])
def test_a_gpu_without_kernels_takes_xla_and_says_why(cause, monkeypatch):
    import llvmlite.binding as binding

    def broken(text):
        raise RuntimeError("LLVM is broken")

    monkeypatch.setattr(kernel, "platforms", lambda: ["cuda"])
    if cause == "driver":
        monkeypatch.setattr(gpu, "_driver_version", lambda: 10_020)
    else:
        monkeypatch.setattr(binding, "parse_assembly", broken)
    reason = {"driver": "the NVIDIA driver knows CUDA 10.2", "compiler": "LLVM is broken"}[cause]
    sde, _ = run(0.75)
    with pytest.warns(RuntimeWarning, match=reason):
        assert reason in rqf.explain(sde, LAW)


@pytest.mark.parametrize("value", ["0", "off", "No", "FALSE", ""])
def test_usual_words_turn_kernels_off(value, monkeypatch):
    monkeypatch.setenv("RQF_JAX_FUSED", value)
    assert switch.wanted() == ""


def test_other_words_of_the_switch_are_named(monkeypatch):
    monkeypatch.setenv("RQF_JAX_FUSED", "2")
    with pytest.raises(ValueError, match="`RQF_JAX_FUSED` must be 0, 1, xla or all; got '2'"):
        run(0.5)[1](3)
    for value, meant in (("on", "1"), ("XLA", "xla"), ("all", "all")):
        monkeypatch.setenv("RQF_JAX_FUSED", value)
        assert switch.wanted() == meant


def test_a_cache_that_refuses_a_file_costs_no_second_compilation(folder, monkeypatch):
    made = []

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache, "_write", refuse)
    with pytest.warns(RuntimeWarning, match="Permission denied"):
        assert cache.kept("key", lambda: made.append(1) or b"code") == b"code"
    assert made == [1]


def test_ptx_needs_a_compiler_that_writes_it(monkeypatch):
    import llvmlite.binding as binding

    def unknown(triple):
        raise RuntimeError("no target")

    monkeypatch.setattr(binding.Target, "from_triple", unknown)
    with pytest.raises(values.Unavailable, match="does not write PTX"):
        gpu.ptx(Loop("", "", (), 0))
