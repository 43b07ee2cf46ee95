"""Files that a power cut or a kill leaves whole: old, new or absent, never a part."""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

_PARTIAL = ".partial"
# Ours (version 0.1 took more letters), and zarr's; not a stranger's keep.partial.
_UNFINISHED = re.compile(r"(^|/)(\.[^/]+\.[a-z0-9_]{8}|[^/]+\.[0-9a-f]{32})\.partial$")
_DIGEST = hashlib.sha256().digest_size
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


class DataFileError(ValueError):
    """A file that cannot be read as what it should be: names the file, the array and the rule."""


class DamagedError(DataFileError):
    """A file that is not as it was written, and that cannot be made again from others."""


class LockedError(OSError):
    """Another process is writing this run."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes `path`, at once and to stay, when the block ends without an error."""
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
    # Not one of `tempfile`, which are closed to others whatever the umask says.
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    sync(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`, at once and to stay."""
    with replacing(path) as file:
        file.write(data)


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], save: Callable[..., None] = np.savez
) -> None:
    """Make a file of its own SHA-256 and, behind it, arrays in the npz format of `save`."""
    buffer = io.BytesIO()
    save(buffer, **arrays)
    data = buffer.getvalue()
    replace(path, hashlib.sha256(data).digest() + data)


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays that `write_arrays` wrote; None if the file is missing or damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        return None
    with np.load(io.BytesIO(data[_DIGEST:]), allow_pickle=False) as arrays:
        return dict(arrays)


def listing(folder: Path) -> dict[str, int]:
    """The size of every file in a folder, by its path in there; -1 for what is not a regular file.

    Links are named and never followed, so nothing outside the folder is ever read or deleted.
    """
    found, todo = {}, [folder] if folder.is_dir() else []
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
                    continue
                regular = entry.is_file(follow_symlinks=False)
                name = Path(entry.path).relative_to(folder).as_posix()
                found[name] = entry.stat(follow_symlinks=False).st_size if regular else -1
    return found


def remove(folder: Path, names: Iterable[str]) -> None:
    """Delete these files of a folder, by their paths in there, and the folders left empty.

    What somebody else has put there stays, and so does all that a link points to.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    for name in names:
        (folder / name).unlink()
    for inner, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(inner)


def is_partial(name: str) -> bool:
    """Whether a path ends as those of files do that were being written when a kill came."""
    return _UNFINISHED.search(name) is not None


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
    `LockedError`, an OSError, if another process has it. A disk that has no locks (Lustre, unless
    it is mounted with `flock`) is a warning: nothing else is wrong with it.
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
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                warnings.warn(
                    f"{path}: this disk has no locks ({error.strerror}), so make sure that no "
                    "other process writes this run.",
                    stacklevel=2,
                )
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
