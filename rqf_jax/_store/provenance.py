"""Where an ensemble came from, and what decides over its bits: versions, settings and machine."""

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import jax

NUMERICS = 1
"""Raised by every change of this package that moves a bit of a stored result, and by no other."""

_PACKAGES = ("rqf_jax", "jax", "jaxlib", "diffrax", "equinox", "numpy", "xarray", "zarr")
_PARTS_OF_A_RESULT = ("rqf_jax", "jax", "jaxlib", "diffrax", "equinox", "llvmlite", "optax")
_SETTINGS = (
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
    "jax_default_matmul_precision",
    "jax_disable_jit",
)
_FUSED = "RQF_JAX_FUSED"
_KINDS = {"0": "off", "xla": "in XLA"}
# How many devices share the work, and what XLA writes down about itself, moves no bit.
_OF_NO_INFLUENCE = ("--xla_force_host_platform_device_count", "--xla_dump_")
# The extensions of x86 and ARM that decide how XLA vectorises, and so how sums are rounded.
_INSTRUCTIONS = ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve", "sve2")
_CPU = Path("/proc") / "cpuinfo"


def provenance() -> dict[str, str]:
    """Versions, device, calculus and time of writing: the attributes of every store."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return versions | {
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "calculus": "Stratonovich",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def identity() -> dict[str, str]:
    """What decides, beside a config and the files that it reads, over every bit of an ensemble.

    Two runs of one config and one identity are equal bit for bit. It holds the versions of what
    computes, `NUMERICS`, the settings of JAX and flags of XLA that reach a result, whether kernels
    are fused, the width of floats, the kind of device and, for a CPU, its architecture and vector
    instructions.
    """
    versions = {name: importlib.metadata.version(name) for name in _PARTS_OF_A_RESULT}
    device = jax.devices()[0]
    flags = os.environ.get("XLA_FLAGS", "").split()
    settings = {name: str(getattr(jax.config, name)) for name in _SETTINGS}
    return (
        versions
        | settings
        | {
            "numerics": str(NUMERICS),
            "device": device.device_kind,
            "processor": _processor() if device.platform == "cpu" else "",
            "floats": "64 bits" if jax.config.jax_enable_x64 else "32 bits",  # pyright: ignore[reportAttributeAccessIssue]
            "fused kernels": _KINDS.get(os.environ.get(_FUSED, ""), "on"),
            "XLA_FLAGS": " ".join(sorted(f for f in flags if not f.startswith(_OF_NO_INFLUENCE))),
        }
    )


def _processor() -> str:
    """The architecture of this machine's CPU, and those of its vector instructions that count."""
    known: set[str] = set()
    if _CPU.exists():
        for line in _CPU.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, words = line.partition(":")
            if name.strip() in ("flags", "Features"):
                known = set(words.split())
                break
    return " ".join([platform.machine(), *(name for name in _INSTRUCTIONS if name in known)])
