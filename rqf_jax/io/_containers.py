"""Named arrays from files of many kinds; no reader runs anything that a file holds.

`.npz` and `.npy` are read without pickles, `.safetensors` by its format (a header of JSON, then
bytes), `.h5` by h5py, and `.pt`, `.pth` and `.bin` by PyTorch's loader of weights alone.
"""

import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._arguments import fitting
from .._store.files import DataFileError

TORCH = (".pt", ".pth", ".bin")
SUFFIXES = (".npz", ".npy", ".safetensors", ".h5", ".hdf5", *TORCH)

_MOST_HEADER = 100_000_000
_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def check_file(path: Path) -> None:
    """`DataFileError` unless there is a file at `path`."""
    if not path.is_file():
        found = "a folder, where a file is wanted" if path.is_dir() else "no such file"
        raise DataFileError(f"{path}: {found}.")


def named_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a file by name; `DataFileError` for what cannot be read, or not safely."""
    check_file(path)
    match path.suffix.lower():
        case ".npz":
            with opened_npz(path) as file:
                return {name: _member(path, file, name) for name in file.files}
        case ".npy":
            return {"array": _npy(path)}
        case ".safetensors":
            return _safetensors(path)
        case ".h5" | ".hdf5":
            return _hdf5(path)
        case ".pt" | ".pth" | ".bin":
            return _torch(path)
    raise DataFileError(
        f"{path}: must end in one of {', '.join(SUFFIXES)}; got {path.suffix or 'no ending'}."
    )


def as_array(value: Any) -> np.ndarray:
    """An array of NumPy, JAX or PyTorch as NumPy's; bfloat16 becomes float32, without loss."""
    if hasattr(value, "detach"):  # PyTorch's, perhaps on another device and with a gradient
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        value = value.numpy()
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == jnp.bfloat16 else array


@contextmanager
def opened_npz(path: Path) -> Iterator[Any]:
    """An npz file of NumPy's; `DataFileError` for anything else, inside the context too."""
    try:
        # NumPy leaves a file that it opened itself open if it is no zip archive.
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataFileError(f"{path}: must be an npz file; got a single npy array.")
            with file:
                _check_members(path, file.zip.infolist() if file.zip else ())
                yield file
    except MemoryError as error:
        raise DataFileError(f"{path}: needs more memory than there is.") from error
    # NumPy takes whatever has neither magic number for a pickle, and refuses with a ValueError.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(f"{path}: not an npz file, or cut short ({error}).") from error


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """DataFileError for a zip archive that NumPy did not write."""
    for member in members:
        if member.flag_bits & 1:
            raise DataFileError(f"{path}: `{member.filename}` is encrypted; save it without.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataFileError(
                f"{path}: `{member.filename}` is compressed by method {member.compress_type}, and "
                "NumPy reads none but 0 and 8; save it with numpy.savez_compressed."
            )


def _member(path: Path, file: Any, name: str) -> np.ndarray:
    try:
        array = file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataFileError(
            f"{path}: `{name}` holds Python objects, which are pickled and may run code; they are "
            "not read. Save arrays of numbers or strings."
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataFileError(f"{path}: `{name}` must be an array in NumPy's format; got bytes.")
    return array


def _npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (EOFError, OSError, ValueError) as error:
        raise DataFileError(
            f"{path}: not a npy file of numbers, or cut short ({error}). Pickled objects may run "
            "code and are not read."
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataFileError(f"{path}: must be a single npy array; got an npz file. Name it .npz.")
    return array


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _MOST_HEADER):
            raise DataFileError(
                f"{path}: not a safetensors file, or cut short; its header would take {length} of "
                f"{size} bytes."
            )
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise DataFileError(f"{path}: not a safetensors file ({error}).") from None
    start = 8 + length
    body = np.memmap(path, np.uint8, "r") if size > start else np.empty(0, np.uint8)
    found = {}
    for name, entry in header.items() if isinstance(header, dict) else ():
        if name != "__metadata__":
            dtype, shape, (first, last) = _entry(path, name, entry, size - start)
            found[name] = body[start + first : start + last].view(dtype).reshape(shape)
    if not found:
        raise DataFileError(f"{path}: holds no array.")
    return found


def _entry(path: Path, name: str, entry: Any, size: int):
    """dtype, shape and place of an array of a safetensors file."""
    fields = entry if isinstance(entry, dict) else {}
    kind, shape, place = (fields.get(one) for one in ("dtype", "shape", "data_offsets"))
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise DataFileError(
            f"{path}: `{name}` must have a dtype of {', '.join(_DTYPES)}; got {kind!r}."
        )
    whole = all(
        isinstance(numbers, list)
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers)
        for numbers in (shape, place)
    )
    dtype = np.dtype(_DTYPES[kind])
    if not whole or shape is None or place is None or len(place) != 2 or place[1] > size:
        raise DataFileError(f"{path}: `{name}` lies outside of the file; it was cut short.")
    if place[1] - place[0] != math.prod(shape) * dtype.itemsize:
        raise DataFileError(
            f"{path}: `{name}` must take {math.prod(shape) * dtype.itemsize} bytes for shape "
            f"{tuple(shape)}; it has {place[1] - place[0]}."
        )
    return dtype, tuple(shape), (place[0], place[1])


def _hdf5(path: Path) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError:
        raise DataFileError(
            f"{path}: an HDF5 file needs the extra `files`: pip install 'rqf_jax[files]'."
        ) from None
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise DataFileError(
                    f"{path}: `{name}` takes its numbers from other files, which are not read. "
                    "Save an array in the file itself."
                )
            fitting(name, item.shape or (), item.dtype.itemsize)
            array = item.asstr()[...] if h5py.check_string_dtype(item.dtype) else item[...]
            found[name.replace("/", ".")] = np.asarray(array)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except DataFileError:
        raise
    except (OSError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise DataFileError(
            f"{path}: not an HDF5 file of arrays, or cut short ({error})."
        ) from None
    return {name: a.astype(str) if a.dtype.kind == "O" else a for name, a in found.items()}


def _torch(path: Path) -> dict[str, np.ndarray]:
    import importlib
    import warnings

    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise DataFileError(
            f"{path}: a {path.suffix} file needs PyTorch, of the extra `models`: pip install "
            "'rqf_jax[models]'. Or save the tensors as .safetensors or .npz."
        ) from None
    # Before 2.6 a file could run code in spite of `weights_only` (CVE-2025-32434).
    if tuple(map(int, str(torch.__version__).split(".")[:2])) < (2, 6):
        raise DataFileError(
            f"{path}: a {path.suffix} file needs PyTorch 2.6 or later, whose loader runs nothing; "
            f"got {torch.__version__}. Upgrade it, or save the tensors as .safetensors."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a loader that foreign bytes may confuse in any way
        # PyTorch's own message says how to run what is in the file, which is not said again.
        raise DataFileError(
            f"{path}: holds more than tensors, or is cut short ({type(error).__name__}); nothing "
            "in it was run. Save `model.state_dict()`, or a .safetensors file."
        ) from None
    found: dict[str, np.ndarray] = {}

    def visit(value: Any, name: str) -> None:
        if isinstance(value, torch.Tensor):
            found[name or "array"] = as_array(value)
        elif isinstance(value, Mapping):
            for key, one in value.items():
                visit(one, f"{name}.{key}" if name else str(key))
        elif isinstance(value, list | tuple):
            for number, one in enumerate(value):
                visit(one, f"{name}.{number}" if name else str(number))

    visit(whole, "")
    if not found:
        raise DataFileError(f"{path}: holds no tensor.")
    return found
