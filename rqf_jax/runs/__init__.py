"""Runs and sweeps: ensembles on disk, of configs (`rqf-jax run`) and of trainings in Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trained import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    # Later, so that reading a config does not import all of this.
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .trained import train

    return train


def __dir__() -> list[str]:
    return __all__
