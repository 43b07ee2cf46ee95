"""Which fused kernels this process wants."""

import os
from collections.abc import Collection

import jax
from jax.extend import backend

SWITCH = "RQF_JAX_FUSED"
"""The environment variable that turns fused kernels off: with 0 every interval is a scan in XLA.

With `xla`, steps are arithmetic in XLA as on devices that no kernel is made for (see `xla`). With
`all`, a program holds the kernels of every platform, so that it can be lowered for another.
"""

IN_XLA = "xla"


def wanted() -> str:
    """The kernels that are wanted: "1", `IN_XLA`, "all", or empty for none.

    ValueError for another value of the switch.
    """
    value = os.environ.get(SWITCH, "1").strip().lower()
    if value in ("", "0", "off", "no", "false"):
        return ""
    if value in ("1", "on", "yes", "true"):
        return "1"
    if value not in (IN_XLA, "all"):
        raise ValueError(f"`{SWITCH}` must be 0, 1, {IN_XLA} or all; got {value!r}.")
    return value


def platforms() -> list[str]:
    """The platforms to make kernels for, by JAX's names."""
    if wanted() == "all":
        return ["cpu", "cuda"]
    name = jax.default_backend()
    # A GPU of NVIDIA's is `cuda`, one of AMD's `rocm`.
    return [jax.local_devices()[0].client.platform if name == "gpu" else name]


def everywhere(names: Collection[str]) -> bool:
    """True if these are all platforms that a program of this process can be for."""
    if wanted() == "all":
        return False
    return {"cuda" if name == "gpu" else name for name in backend.backends()} <= set(names)
