"""Where an ensemble came from: versions, code and machine."""

import functools
import hashlib
import importlib.metadata
import platform
from datetime import UTC, datetime
from importlib import resources

import jax

_PACKAGES = ("rqf_jax", "jax", "jaxlib", "diffrax", "equinox", "numpy", "xarray", "zarr")
_PARTS_OF_A_RESULT = ("rqf_jax", "jax", "jaxlib", "diffrax", "equinox")


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
    """What decides, beside a config, over every bit of an ensemble.

    Versions of what computes, a digest of this package's own sources (a version does not change
    with every edit), the kind of device and the width of floats.
    """
    versions = {name: importlib.metadata.version(name) for name in _PARTS_OF_A_RESULT}
    return versions | {
        "code": _digest(),
        "device": jax.devices()[0].device_kind,
        "floats": "64 bits" if jax.config.jax_enable_x64 else "32 bits",  # pyright: ignore[reportAttributeAccessIssue]
    }


@functools.cache
def _digest() -> str:
    hasher = hashlib.sha256()
    todo = [resources.files("rqf_jax")]
    while todo:
        for entry in sorted(todo.pop().iterdir(), key=lambda entry: entry.name):
            if entry.is_dir():
                todo.append(entry)
            elif entry.name.endswith(".py"):
                hasher.update(entry.name.encode() + b"\0" + entry.read_bytes())
    return hasher.hexdigest()[:12]
