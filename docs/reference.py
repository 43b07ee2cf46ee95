"""Writes the reference: one page for each public module, from signatures and docstrings.

`conf.py` calls `write`. Nothing here needs Sphinx, so that a test can compare the pages with the
package.
"""

import importlib
import inspect
import re
import shutil
from pathlib import Path
from types import ModuleType

import rqf_jax

_SECTIONS = {"Arguments", "Returns", "Raises", "Example", "Examples"}


def offered(module: ModuleType) -> list[str]:
    """The public names of a module: its `__all__`, or else the functions and classes it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    names = [name for name in dir(module) if not name.startswith("_")]
    return [n for n in names if getattr(vars(module)[n], "__module__", None) == module.__name__]


def pages() -> dict[str, dict[str, object]]:
    """For each public module its classes and functions, by name; each of them once.

    A module is public if the public names of its parent hold it.
    """
    found: dict[str, dict[str, object]] = {}
    seen: set[int] = set()

    def visit(module: ModuleType) -> None:
        values = {name: getattr(module, name) for name in offered(module)}
        own = {n: v for n, v in values.items() if callable(v) and id(v) not in seen}
        seen.update(map(id, own.values()))
        if own:
            found[module.__name__] = own
        for value in values.values():
            if inspect.ismodule(value):
                visit(value)

    visit(rqf_jax)
    return dict(sorted(found.items()))


def signature(value: object) -> str:
    """Names and defaults of the arguments, without types, which the docstring gives in words."""
    try:
        arguments = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return "()"
    shown = [argument for argument in arguments if argument.name not in ("self", "cls")]
    plain = []
    for argument in shown:
        default = argument.default
        if default is not inspect.Parameter.empty:
            text = repr(default)
            default = default if re.fullmatch(r"[\w.'\"+()\-]{1,24}", text) else ...
        plain.append(argument.replace(annotation=inspect.Parameter.empty, default=default))
    return str(inspect.Signature(plain)).replace("Ellipsis", "...")


def markdown(docstring: str) -> str:
    """A docstring as Markdown: sections become lists, an example becomes a program."""
    lines, out, section = docstring.splitlines(), [], None
    for line in lines:
        heading = line.removesuffix(":")
        if line.endswith(":") and heading in _SECTIONS:
            if section and section.startswith("Example"):
                out += ["```", ""]
            section = heading
            out += ["", f"**{heading}**", ""]
            out += ["```python"] if section.startswith("Example") else []
            continue
        if section and line and not line.startswith(" "):
            out += ["```", ""] if section.startswith("Example") else [""]
            section = None
        if section in ("Arguments", "Raises"):
            entry = re.match(r"    (\S[^:]*): ?(.*)", line)
            out.append(f"* `{entry[1]}`: {entry[2]}" if entry else line.removeprefix("      "))
        else:
            out.append(line.removeprefix("    ") if section else line)
    if section and section.startswith("Example"):
        out.append("```")
    return "\n".join(out)


def entry(module: str, name: str, value: object) -> str:
    """One function or class with its public methods, as directives of Sphinx's Python domain."""
    doc = markdown(inspect.getdoc(value) or "")
    if not inspect.isclass(value):
        return f"``````{{py:function}} {name}{signature(value)}\n\n{doc}\n``````\n"
    parts = [f"``````{{py:class}} {name}{signature(value)}\n\n{doc}\n"]
    for method, body in vars(value).items():
        text = getattr(body, "__doc__", None)
        if method.startswith("_") or not text:
            continue
        if isinstance(body, property):
            parts.append(
                f"`````{{py:property}} {method}\n\n{markdown(inspect.cleandoc(text))}\n`````\n"
            )
        elif inspect.isfunction(body):
            shown = f"{method}{signature(body)}"
            parts.append(
                f"`````{{py:method}} {shown}\n\n{markdown(inspect.cleandoc(text))}\n`````\n"
            )
    return "\n".join([*parts, "``````\n"])


def write(folder: Path) -> None:
    """Write all pages and their index into `folder`, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = ["# Reference", "", "```{toctree}", ":maxdepth: 1", ""]
    for module, names in pages().items():
        doc = inspect.getdoc(importlib.import_module(module)) or ""
        body = "\n".join(entry(module, name, value) for name, value in names.items())
        text = f"# {module}\n\n```{{py:module}} {module}\n```\n\n{markdown(doc)}\n\n{body}"
        (folder / f"{module}.md").write_text(text, encoding="utf-8")
        index.append(module)
    (folder / "index.md").write_text("\n".join([*index, "```", ""]), encoding="utf-8")
