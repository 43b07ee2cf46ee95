"""Keys of a config by name: the one rule for short keys, and an error's words for a wrong one."""

import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from . import catalogue
from .catalogue import ConfigError, Section

Table = dict[str, Any]
_LONGEST = 80


def sections(root: type[Section], table: Mapping[str, Any]) -> dict[str, type[Section]]:
    """The sections that a table chooses, by key; without those that are optional and left out."""
    found = {}
    for key, info in root.model_fields.items():
        choices = (info.annotation, *typing.get_args(info.annotation))
        (kind,) = (c for c in choices if isinstance(c, type) and issubclass(c, Section))
        given = table.get(key)
        if issubclass(kind, catalogue.AbstractNamed):
            name = given.get("name") if isinstance(given, Mapping) else None
            kind = catalogue.find(kind, name) if isinstance(name, str) else None
        if kind is not None and (given is not None or info.default is not None):
            found[key] = kind
    return found


def full(key: str, keys: Sequence[str], rule: str = "unknown key") -> str:
    """The one of the full `keys`, such as "model.sigma", that `key` is or is the last part of.

    Raises `ConfigError`, with `rule`, the nearest key and all of them, if there is none or more.
    """
    if key in keys:
        return key
    same = [one for one in keys if one.rpartition(".")[2] == key]
    if len(same) == 1:
        return same[0]
    if same:
        raise ConfigError(f"{key}: is more than one key. Write {' or '.join(same)}.")
    short = {one.rpartition(".")[2]: one for one in keys}
    close = catalogue.nearest(key, keys) or short.get(catalogue.nearest(key, list(short)) or "")
    hint = f"Did you mean {close}?" if close else f"Keys: {', '.join(keys)}."
    raise ConfigError(f"{key}: {rule}. {hint}")


def put(root: type[Section], table: Table, change: str) -> None:
    """Put "section.key=value" or "key=value" into a table.

    The value is a TOML value, or a word without quotes; a short key is one that no other section of
    the config has.
    """
    key, equals, text = change.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path) or len(path) > 2:
        raise ConfigError(f"--set {change}: must look like section.key=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        if not re.fullmatch(r"[\w./~-]+", text.strip()):
            raise ConfigError(
                f"--set {shown(change)}: the value must be a TOML value, such as 0.5, [1, 2] or "
                "'\"text\"'."
            ) from None
        value = text.strip()
    if len(path) == 1 and path[0] not in root.model_fields:
        known = sections(root, table)
        every = [f"{name}.{one}" for name, kind in known.items() for one in kind.model_fields]
        try:
            path = full(path[0], every).split(".")
        except ConfigError as error:
            raise ConfigError(f"--set {error}") from None
    for name in path[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {change}: {name} is a value, not a section.")
    table[path[-1]] = value


def explained(root: type[Section], table: Table, error: ValidationError) -> list[str]:
    """One line for each thing that is wrong with a table."""
    errors = error.errors(include_url=False)
    inside = {one["loc"][:-1] for one in errors}
    known = sections(root, table)
    # A list whose items are wrong is also reported as too short, for want of right ones.
    return [
        _problem(one, root, known)
        for one in errors
        if not (one["type"] == "too_short" and one["loc"] in inside)
    ]


def shown(value: Any) -> str:
    """A value as an error quotes it: never longer than a line."""
    try:
        text = repr(value) if not isinstance(value, str) or "\n" in value else value
    except (ValueError, RecursionError):  # more digits or levels than Python prints
        return "a value that is too large to show"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _problem(error: Any, root: type[Section], known: Mapping[str, type[Section]]) -> str:
    location, kind = error["loc"], error["type"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)[1:]
    section = known.get(location[0], root) if len(location) > 1 else root
    allowed = f"Keys here: {', '.join(section.model_fields)}."
    if kind == "extra_forbidden":
        close = catalogue.nearest(str(location[-1]), list(section.model_fields))
        return f"{key}: unknown key.{f' Did you mean {close}?' if close else ''} {allowed}"
    if kind == "missing":
        return f"{key}: missing.{'' if key.endswith(']') else f' {allowed}'}"
    if kind == "section_name":
        return f"{key}.name: {error['msg']}{'' if error['msg'].endswith('?') else '.'}"
    if kind == "value_error":
        text = str(error["ctx"]["error"])
        return f"{key}: {text}." if key else f"{text}."
    rule = re.sub("^(Input|Value|Tuple) should | after validation, not.*", "", error["msg"])
    value = error["input"]
    got = repr(value) if isinstance(value, str) and len(value) < _LONGEST else shown(value)
    return f"{key}: must {rule.replace('tuple', 'list')}; got {got}."
