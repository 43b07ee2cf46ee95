"""Short names of argument types, so that `help` shows a signature that one can read."""

from collections.abc import Sequence

from jaxtyping import ArrayLike, Float, PRNGKeyArray
from numpy import typing as npt
from typing_extensions import TypeAliasType

# Real: run-time type checkers do not count Python numbers among the array-likes of NumPy.
Key = TypeAliasType("Key", PRNGKeyArray)
Real = TypeAliasType("Real", npt.ArrayLike | float | int)
Times = TypeAliasType("Times", Float[ArrayLike, " times"] | Sequence[float])
