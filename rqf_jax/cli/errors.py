"""Errors as the command line tells them: one message and an exit code."""

import errno
import sys

CONTINUE = "The same command continues the run."
_HANDLES = (errno.EMFILE, errno.ENFILE)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)


def explained(error: Exception) -> tuple[int | None, str]:
    """The exit code and the message of an error; no code for one that nobody foresaw."""
    from .. import _store, io as files
    from .._ensemble import program as _program
    from .._ensemble.trajectories import NonFiniteError
    from ..runs import config

    if short := _out_of_handles(error):
        where = f" ({short.filename})" if short.filename else ""
        return 3, f"{short.strerror}{where}. Raise the limit, ulimit -n. {CONTINUE}"
    match error:
        case NonFiniteError():
            return 1, str(error)
        case files.DamagedError():
            return 1, str(error)
        case config.ConfigError() | files.DataFileError():
            return 2, str(error)
        case FileExistsError():
            text = str(error).rstrip()
            gap = "\n" if "\n" in text else " "
            return 2, f"{text}{gap}--force replaces a run, and nothing else."
        case _store.LockedError():
            return 5, str(error)
        case OSError(errno=number) if number in _DISK:
            where = f" ({error.filename})" if error.filename else ""
            return 3, f"{error.strerror}{where}. {CONTINUE}"
        case OSError(strerror=str(reason), filename=str(name)):
            return 2, f"{name}: {reason}."
        case _ if _program.is_out_of_memory(error):
            return 4, f"out of memory: {error}"
    return None, ""


def _out_of_handles(error: BaseException | None) -> OSError | None:
    """The error of a process that may open no more files, perhaps inside that of a reader."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _HANDLES:
            return error
        error = error.__cause__
    return None


def tell(message: object) -> None:
    """Print a message to the user, on the stream of errors."""
    from ..runs.screen import visible

    print(f"rqf-jax: {visible(message)}", file=sys.stderr)


def warn(message, category, filename, lineno, file=None, line=None) -> None:
    """Print a warning as `tell` prints errors."""
    tell(message)
