"""Writes the page to play with as one file, which a browser also opens from a disk.

The source in `explore/` is an HTML file, style sheets and JavaScript modules, and runs as it is
from any web server. Browsers load no modules from a disk, so the site gets them in one file.
"""

import re
from pathlib import Path

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)


def modules(folder: Path, name: str) -> list[str]:
    """The module `name` and all that it imports, each after those that it needs, and once."""
    text = (folder / name).read_text(encoding="utf-8")
    found = [module for other in _IMPORT.findall(text) for module in modules(folder, other)]
    return list(dict.fromkeys([*found, name]))


def script(folder: Path, name: str) -> str:
    """The modules as one, without imports and exports: their names differ."""
    texts = [(folder / module).read_text(encoding="utf-8") for module in modules(folder, name)]
    return "\n".join(re.sub(r"^export ", "", _IMPORT.sub("", t), flags=re.MULTILINE) for t in texts)


def page(folder: Path) -> str:
    """`index.html` with its style sheets and its script inside."""

    def style(link: re.Match) -> str:
        return f"<style>\n{(folder / link[1]).read_text(encoding='utf-8')}</style>"

    text = (folder / "index.html").read_text(encoding="utf-8")
    text = re.sub(r'<link rel="stylesheet" href="([\w.]+)" />', style, text)
    tag = '<script type="module" src="page.js"></script>'
    return text.replace(tag, f'<script type="module">\n{script(folder, "page.js")}</script>')


def write(source: Path, target: Path) -> None:
    """Write the page of the folder `source` to the file `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(source), encoding="utf-8")
