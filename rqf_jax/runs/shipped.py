"""The configs that come with the package, so that `rqf-jax run demo` works in any folder."""

from importlib import resources
from pathlib import Path


def folder() -> Path:
    """Where they are: inside an installed package, beside it in a checkout."""
    package = Path(str(resources.files("rqf_jax")))
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def names() -> list[str]:
    """Their names, without .toml."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def found(path: Path) -> Path:
    """`path`, or the config that comes with the package if no file is there and that is its name.

    "demo", "demo.toml" and "configs/demo.toml" are names of one.
    """
    if path.exists() or path.parent.as_posix() not in (".", "configs"):
        return path
    name = path.name.removesuffix(".toml")
    return folder() / f"{name}.toml" if name in names() else path
