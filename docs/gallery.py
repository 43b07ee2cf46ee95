"""Writes the gallery: every notebook with its question and its first figure, made small.

`conf.py` calls `write`. Nothing here needs Sphinx, so that a test can look at the page.
"""

import base64
import io
import json
import shutil
from pathlib import Path

from PIL import Image

_WIDTH = 640


def question(notebook: dict) -> str:
    """The heading of a notebook, which is the question that it answers."""
    return "".join(notebook["cells"][0]["source"]).splitlines()[0].removeprefix("# ")


def figure(notebook: dict) -> bytes:
    """The first figure that a notebook keeps."""
    outputs = (output for cell in notebook["cells"] for output in cell.get("outputs", []))
    kept = (output["data"] for output in outputs if "image/png" in output.get("data", {}))
    return base64.b64decode(next(kept)["image/png"])


def write(notebooks: Path, folder: Path) -> None:
    """Write the page and its pictures into `folder`, which is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cards, names = [], []
    for path in sorted(notebooks.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        picture = Image.open(io.BytesIO(figure(notebook))).convert("RGB")
        picture.thumbnail((_WIDTH, _WIDTH))
        picture.quantize(128).save(folder / f"{path.stem}.png", optimize=True)
        names.append(f"/notebooks/{path.stem}")
        link = f"/notebooks/{path.name}"
        cards.append(f"[![Figure of the notebook]({path.stem}.png) {question(notebook)}]({link})")
    lines = ["# Gallery", "", "Each notebook asks one question and ends with theory over data.", ""]
    lines += ["```{raw} html", '<div class="gallery">', "```", ""]
    lines += [line for card in cards for line in (card, "")]
    lines += ["```{raw} html", "</div>", "```", ""]
    lines += ["```{toctree}", ":hidden:", "", *names, "```", ""]
    (folder / "index.md").write_text("\n".join(lines), encoding="utf-8")
