"""A commented config for a model: every key with its meaning, and a value that runs."""

import inspect
import textwrap
import typing

from pydantic.fields import FieldInfo

from . import catalogue, keys
from .catalogue import (
    AbstractArchitecture,
    AbstractLaw,
    AbstractModel,
    AbstractProcess,
    ConfigError,
    Section,
)
from .config import ArchitectureConfig, Config, ProcessConfig, laws_of, toml_value

_WIDTH = 88


def models() -> list[tuple[str, str]]:
    """All that a config may name and run, with the first line of their descriptions."""
    return [
        (name, _about(type(catalogue.example(kind, name))))
        for kind in (AbstractModel, AbstractProcess, AbstractArchitecture)
        for name in catalogue.names(kind)
    ]


def config(name: str, law: str | None = None) -> str:
    """The text of a config for a model, with a law that draws such states, a process or a network.

    Raises `ConfigError` for a name that does not exist and a law that does not draw such states.
    """
    models = catalogue.names(AbstractModel)
    if name in models:
        return _of_model(name, law)
    others = ((AbstractProcess, ProcessConfig), (AbstractArchitecture, ArchitectureConfig))
    for kind, config in others:
        if name in catalogue.names(kind):
            if law is not None:
                raise ConfigError(f"--law: must be left out for {name}; got {law!r}.")
            section = catalogue.example(kind, name).model_dump(exclude_none=True)
            given = {"updates": {"stop": 1000, "points": 11}, config.section: section}
            return _written(name, keys.sections(config, {config.section: {"name": name}}), given)
    known = [*models, *(one for kind, _ in others for one in catalogue.names(kind))]
    raise ConfigError(f"{name}: {catalogue.unknown(name, known)}")


def _of_model(model: str, law: str | None) -> str:
    moved = catalogue.example(AbstractModel, model)
    fitting = laws_of(moved.state)
    if law is None and "pair" in fitting and moved.needs_space is None:
        law = "pair"
    chosen = catalogue.example(AbstractLaw, law or next(n for n in fitting if n != "hidden_states"))
    if chosen.name not in fitting:
        raise ConfigError(f"--law {catalogue.unknown(law, fitting)}.")
    given = {
        "run": {
            "save": list(moved.state.example),
            "coordinates": "overlaps" if moved.needs_space is None else "full",
        },
        "times": {"stop": 16 * moved.interval, "points": 17},
        "model": moved.model_dump(exclude_none=True),
        "law": chosen.model_dump(exclude_none=True) | dict(moved.examples.get(chosen.name, {})),
    }
    table = {"model": {"name": model}, "law": {"name": chosen.name}}
    return _written(model, keys.sections(Config, table), given)


def _written(name: str, kinds: dict[str, type[Section]], given: dict[str, typing.Any]) -> str:
    about = _about(next(kinds[n] for n in ("model", "process", "architecture") if n in kinds))
    parts = [f"# {about}\n#\n#     rqf-jax run {name}.toml\n"]
    parts += [_section(key, kind, given.get(key, {})) for key, kind in kinds.items()]
    return "\n".join(parts)


def _about(kind: type[Section]) -> str:
    """The first line of a description, without the name of the function that it describes."""
    line = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
    return line.partition("`: ")[2] or line


def _section(name: str, kind: type[Section], given: dict[str, typing.Any]) -> str:
    lines = [f"[{name}]{'' if name != 'law' else f'  # {_about(kind)}'}"]
    for key, info in kind.model_fields.items():
        if key == "name":
            lines.append(f"name = {toml_value(given[key])}")
            continue
        words = f"{' '.join((info.description or '').split())}"
        lines += [f"# {line}" for line in textwrap.wrap(words, _WIDTH)]
        value = given.get(
            key, info.examples[0] if info.is_required() and info.examples else info.default
        )
        off = "# " if not _needed(info) and key not in given else ""
        shown = "…" if value is None else toml_value(value)
        lines.append(f"{off}{key} = {shown}")
    return "\n".join(lines) + "\n"


def _needed(info: FieldInfo) -> bool:
    return info.is_required() and bool(info.examples)
