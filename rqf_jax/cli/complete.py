"""Words that the shell may complete; an error in a config completes nothing."""

from pathlib import Path

import typer


def models(incomplete: str) -> list[str]:
    """All that a config may name and run."""
    from ..runs import catalogue

    kinds = catalogue.AbstractModel, catalogue.AbstractProcess, catalogue.AbstractArchitecture
    every = [name for kind in kinds for name in catalogue.names(kind)]
    return [name for name in every if name.startswith(incomplete)]


def changes(context: typer.Context, incomplete: str) -> list[str]:
    """The keys of the config on the command line, each with its equals sign."""
    import tomllib

    from ..runs import keys
    from ..runs.config import kind_of

    path = next(iter(context.args), None)  # CONFIG, which is not parsed while words are completed
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8-sig")) if path else {}
    except (OSError, ValueError, RecursionError):
        return []
    sections = keys.sections(kind_of(table), table)
    every = [f"{name}.{key}=" for name, kind in sections.items() for key in kind.model_fields]
    return [key for key in every if key.startswith(incomplete)]
