"""Where a store may be written: nowhere that something of anybody else would be lost."""

import os
from pathlib import Path

from .files import DataFileError
from .manifest import ROOT, Root

_LONGEST = 255
# Files and folders beside a store have ten bytes more in their names while they are written.
_MORE = len(".." + "12345678")


def real_target(path: Path) -> Path:
    """The place that `path` names: behind it, if it is a link to a store.

    Raises `DataFileError` for a name that is empty or too long for a disk and for a place inside
    another store, FileExistsError for a link to nothing.
    """
    if not path.name:
        raise DataFileError(f"the path of a store must end in a name; got {str(path)!r}.")
    for part, most in ((path.name, _LONGEST - _MORE), *((part, _LONGEST) for part in path.parts)):
        if len(os.fsencode(part)) > most:
            raise DataFileError(
                f"a name in the path of a store must have at most {most} bytes; got "
                f"{len(os.fsencode(part))} in {part[:40]!r}…"
            )
    if path.is_symlink() and not path.exists():
        raise FileExistsError(f"{path} is a link to {os.readlink(path)}, which does not exist.")
    real = Path(os.path.realpath(path))
    for folder in real.parents:
        unfinished = folder.suffix == ".partial" and (folder / "plan.json").exists()
        if unfinished or (folder / ROOT).exists():
            raise DataFileError(f"{path} is inside {folder}, which is a store. Write it elsewhere.")
    return real if path.is_symlink() else path


def check_target(path: Path, *, overwrite: bool) -> None:
    """FileExistsError unless a store may be written to `path`; the message says why.

    With `overwrite` a store of this library may be there, if it holds nothing but its own files.
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise FileExistsError(f"{path} exists.")
    try:
        root = Root.read(path)
    except DataFileError as error:
        raise FileExistsError(f"{path} exists, and is no run of rqf_jax ({error})") from error
    strange = root.faults(path, "nothing").strange
    if strange:
        raise FileExistsError(
            f"{path} holds files that were not written with it: {', '.join(strange[:3])}"
            f"{', …' if len(strange) > 3 else ''}. Move them away, or the run."
        )
