"""Text to learn from that every machine has."""

import sysconfig
from pathlib import Path

import numpy as np
from jaxtyping import Int

from .._arguments import integer


def standard_library(tokens: int) -> Int[np.ndarray, " tokens"]:
    """The first `tokens` ASCII characters of the standard library's sources, as numbers below 128.

    A text that every machine with Python has: its top modules in alphabetical order. Raises
    ValueError if there are not so many, or tokens < 1.
    """
    tokens = integer("tokens", tokens)
    parts, size = [], 0
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        part = np.frombuffer(file.read_bytes(), np.uint8)
        parts.append(part[part < 128])
        size += parts[-1].size
        if size >= tokens:
            return np.concatenate(parts)[:tokens].astype(np.int32)
    raise ValueError(f"`tokens` must be at most the {size} characters there are; got {tokens}.")
