"""JSON documents of a store: sealed by a checksum of their own, and never believed unread.

A sealed document holds `"sha256": "…"`, the SHA-256 of its own bytes with zeros in the place of
these 64 digits, so that every byte of it is covered. The description of an array is accepted only
if zarr can read the array without running anybody's code: numbers, and three known codecs.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .files import DamagedError, DataFileError

SEAL = "sha256"
"""The key of a document's own checksum."""

_BLANK = "0" * 64
_SEALED = re.compile(rb'"sha256": "([0-9a-f]{64})"')
_NUMBERS = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)")
_CODECS = ("bytes", "zstd", "crc32c")


def seal(document: Mapping[str, Any]) -> bytes:
    """The bytes of a document, in which the value of the first key `SEAL` becomes its checksum.

    Raises TypeError for a value that JSON cannot hold.
    """
    data = json.dumps(document, ensure_ascii=False).encode()
    return _SEALED.sub(lambda _: _entry(hashlib.sha256(data).hexdigest()), data, count=1)


def blank() -> dict[str, str]:
    """The entry that `seal` fills in; it must be the first of that name."""
    return {SEAL: _BLANK}


def unseal(data: bytes, source: Path) -> tuple[dict[str, Any], bool]:
    """The document, and whether a checksum vouches for all of it.

    Raises `DataFileError` naming `source` for bytes that are not a JSON object, for a key that
    occurs twice; `DamagedError` for a checksum that is not the document's.
    """
    try:
        document = json.loads(data.decode(), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{source}: cannot be read as JSON ({_short(error)}).") from error
    if not isinstance(document, dict):
        raise DataFileError(f"{source}: must hold a JSON object; got {type(document).__name__}.")
    found = _SEALED.search(data)
    if found is None:
        return document, False
    blanked = data[: found.start()] + _entry(_BLANK) + data[found.end() :]
    if hashlib.sha256(blanked).hexdigest().encode() != found[1]:
        raise DamagedError(f"{source}: damaged; its checksum is not that of its bytes.")
    return document, True


def array_document(
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: np.dtype,
    dims: Sequence[str],
    attributes: Mapping[str, Any],
) -> bytes:
    """The description (`zarr.json`) of an array whose chunks are zstd behind their CRC-32C."""
    kind = np.dtype(dtype).kind
    zero: Any = {"f": "NaN", "b": False, "c": ["NaN", "NaN"]}.get(kind, 0)
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": np.dtype(dtype).name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": zero,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
            {"name": "crc32c"},
        ],
        "attributes": dict(attributes),
        "dimension_names": list(dims),
        "storage_transformers": [],
    }
    return json.dumps(document, ensure_ascii=False).encode()


def is_number(dtype: np.dtype) -> bool:
    """Whether arrays of this type can be stored: NumPy's numbers and booleans."""
    return _NUMBERS.fullmatch(np.dtype(dtype).name) is not None


def check_array(path: Path) -> None:
    """DataFileError unless the `zarr.json` at `path` describes plain numbers.

    Zarr builds whatever codec and type a description names, and some of them run code that the
    array brings along. Ours are numbers, as bytes, by zstd and CRC-32C.
    """
    try:
        document, _ = unseal(path.read_bytes(), path)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror}).") from error
    kind, codecs = document.get("data_type"), document.get("codecs")
    names = [codec.get("name") if isinstance(codec, dict) else codec for codec in codecs or ()]
    wrong = [name for name in names if name not in _CODECS]
    if document.get("zarr_format") != 3 or document.get("node_type") != "array":
        rule = "is not the description of an array in zarr format 3"
    elif not isinstance(kind, str) or not _NUMBERS.fullmatch(kind):
        rule = f"must describe numbers; got the data type {kind!r}"
    elif not isinstance(codecs, list) or not names or wrong:
        rule = f"must use no codec but {', '.join(_CODECS)}; got {wrong or codecs}"
    elif document.get("storage_transformers"):
        rule = f"must have no storage transformers; got {document['storage_transformers']}"
    else:
        return
    raise DataFileError(f"{path}: {rule}.")


def plain(value: Any) -> Any:
    """An attribute as JSON has it: NumPy's numbers and arrays as numbers and lists."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def _entry(digits: str) -> bytes:
    return f'"{SEAL}": "{digits}"'.encode()


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON text; a key that occurs twice means two things, so it is an error."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return entries


def _short(error: BaseException) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
