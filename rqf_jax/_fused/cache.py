"""Compiled kernels on disk, in the folder of JAX's own compilation cache where that is on.

A file is the SHA-256 of an object file, and the object file. A folder that cannot be used or a file
that is damaged costs one warning and a compilation.
"""

import contextlib
import functools
import hashlib
import os
import secrets
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

_DIGEST = hashlib.sha256().digest_size


def kept(key: str, make: Callable[[], bytes]) -> bytes:
    """The result of `make`, from the cache if it is there."""
    place = _place(key)
    if place is None:
        return make()
    made = None
    try:
        if (found := _read(place)) is not None:
            return found
        made = make()
        _write(place, made)
    except OSError as error:
        warn(
            f"Fused kernels are compiled anew in each process: {place.parent} cannot be used "
            f"({error.strerror}). "
            "Set `JAX_COMPILATION_CACHE_DIR` to a folder that you can write to."
        )
    return make() if made is None else made


@functools.cache
def warn(text: str) -> None:
    """Warn, once in a process."""
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def _place(key: str) -> Path | None:
    config: Any = jax.config
    folder = config.jax_compilation_cache_dir
    if not folder or "://" in folder or not config.jax_enable_compilation_cache:
        return None
    return Path(folder, f"rqf_jax-{key}-cache")


def _read(place: Path) -> bytes | None:
    """The content of a file; None if there is none or it is damaged."""
    try:
        data = place.read_bytes()
    except FileNotFoundError:
        return None
    digest, data = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(data).digest() == digest:
        return data
    warn(f"A fused kernel is compiled again: {place} is damaged. It is replaced.")
    return None


def _write(place: Path, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    name = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    # Not one of `tempfile`: people who share a cache read each other's files.
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(name, place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
