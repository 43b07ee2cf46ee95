"""Files that a power cut or a kill leaves whole: old, new or absent, never a part."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


class DataFileError(ValueError):
    """A file that cannot be read as what it should be: names the file, the array and the rule."""


class LockedError(OSError):
    """Another process is writing this run."""


def replace(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`, at once and to stay: temporary file, fsync, rename."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the file or the entries of the folder are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fingerprint(path: Path) -> tuple[str, int]:
    """SHA-256, in hexadecimal, and size in bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the run `path` alone, by a lock on a hidden file beside it.

    The system drops the lock with the process that holds it, however that ends. Raises
    `LockedError`, an OSError, if another process has it.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.parent / f".{path.name}.lock"
    with _only_holder(lock, path):
        try:
            yield
        finally:
            # Removed while it is held: who opened it in the meantime finds out below.
            lock.unlink(missing_ok=True)
            # Folders made for a run that came to nothing.
            with contextlib.suppress(OSError):
                for folder in missing:
                    folder.rmdir()


@contextlib.contextmanager
def _only_holder(lock: Path, path: Path) -> Iterator[None]:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockedError(f"{path}: another process is writing this run.") from None
            # The last holder may have removed the file between our opening and our locking it.
            if not _is(lock, handle):
                continue
            yield
            return
        finally:
            os.close(handle)


def _is(path: Path, handle: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False
