"""How every test runs: float64, strict promotion, checked types, no screen."""

import gc
import os
from pathlib import Path

# Read when jax and matplotlib are first imported, which is below or in a test module.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["MPLBACKEND"] = "Agg"
os.environ["RQF_JAX_CACHE"] = "off"

import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook

# Tests compile much and compute little: a compiler that optimises less saves a quarter of the
# processor time. With XLA_FLAGS set to nothing, programs are compiled as for users: `make test-all`
# and the jobs of continuous integration for several versions do that. JAX reads it at the first
# program. No optimisation at all saves more, but numbers are then rounded otherwise in a batch of
# another size.
QUICK = ["--xla_backend_optimization_level=1"]
if jax.__version_info__ < (0, 11):  # later versions have no other way to write loops
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ.setdefault("XLA_FLAGS", " ".join(QUICK))

# Until all tests are known: what is made up to then stays.
gc.disable()

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Shapes and dtypes of every annotated call of the library are checked for the whole session, but
# for those of the writer of kernels: hundreds of thousands of calls, which pass text, not arrays.
CHECKED = [path.stem for path in (Path(__file__).parents[1] / "rqf_jax").iterdir()]
install_import_hook([f"rqf_jax.{name}" for name in CHECKED if name != "_fused"], "_checked.checked")


def pytest_collection_finish():
    """No collection of garbage looks at modules and tests, which stay to the end."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs():
    """Compiled programs of one module are of no use to the next, and they fill the memory."""
    yield
    jax.clear_caches()


@pytest.fixture
def unchecked():
    """Calls as users make them, without the tests' type checker."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def refused(unchecked):
    """A call as a user makes it is one ValueError with these words, which is returned."""

    def refuse(call, *words):
        with pytest.raises(ValueError) as caught:
            call()
        for word in words:
            assert word in str(caught.value)
        return caught.value

    return refuse


@pytest.fixture
def as_a_user():
    """float32 and JAX's usual promotion, as a script has them."""
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield
