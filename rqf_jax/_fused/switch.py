"""Which fused kernels this process wants."""

import os
from collections.abc import Collection

import jax
from jax.extend import backend

SWITCH = "RQF_JAX_FUSED"
"""The environment variable that turns fused kernels off: with 0 every interval is a scan in XLA.

With `all`, a program holds the kernels of every platform, so that it can be lowered for another.
"""


def wanted() -> bool:
    """Whether fused kernels are to be used where they can be."""
    return os.environ.get(SWITCH, "1") != "0"


def platforms() -> list[str]:
    """The platforms to make kernels for, by JAX's names."""
    if os.environ.get(SWITCH) == "all":
        return ["cpu", "cuda"]
    return ["cuda" if jax.default_backend() == "gpu" else jax.default_backend()]


def everywhere(names: Collection[str]) -> bool:
    """Whether these are all platforms that a program of this process can be for."""
    if os.environ.get(SWITCH) == "all":
        return False
    return {"cuda" if name == "gpu" else name for name in backend.backends()} <= set(names)
