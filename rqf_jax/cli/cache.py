"""Compiled programs on disk, so that a second start of the command line compiles nothing."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

SWITCH = "RQF_JAX_CACHE"
"""The environment variable: a folder for the cache, or "off"."""

_MOST_BYTES = 2**30


def place(environment: Mapping[str, str]) -> Path | None:
    """The folder of the cache, in the user's cache directory; None if it is switched off."""
    wanted = environment.get(SWITCH, "")
    if wanted.lower() in ("off", "0", "no", "false"):
        return None
    if wanted:
        return Path(wanted).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "rqf_jax"


def switch_on() -> None:
    """Let JAX keep compiled programs in `place`, unless the user chose another place for JAX.

    A folder that cannot be used is no error: programs are compiled, as without a cache.
    """
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    try:
        folder = place(os.environ)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        _shorten(folder)
    except (OSError, RuntimeError):  # no home, no permission, a full disk
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def _shorten(folder: Path) -> None:
    """Remove the programs that were made first, until the rest has at most 1 GiB."""
    entries = [(entry.stat(), entry) for entry in folder.glob("*-cache")]
    total = sum(status.st_size for status, _ in entries)
    for status, entry in sorted(entries, key=lambda pair: pair[0].st_mtime):
        if total <= _MOST_BYTES:
            return
        entry.unlink(missing_ok=True)
        total -= status.st_size
