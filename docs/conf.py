"""The documentation site: `make docs`. It needs no network, and warnings are errors."""

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import gallery  # noqa: E402
import links  # noqa: E402
import reference  # noqa: E402
import single_file  # noqa: E402
from sphinx.util import logging  # noqa: E402

import rqf_jax  # noqa: E402

project, author = "rqf_jax", "the rqf_jax authors"
version = release = rqf_jax.__version__
extensions = ["myst_nb", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"rqf_jax {version}"
html_static_path, html_css_files = ["_static"], ["gallery.css"]
exclude_patterns = ["_build"]
# Notebooks are shown with the outputs they were saved with.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 2

# Pages and notebooks at the root of the repository are copied in; the reference,
# the gallery and the page to play with are written.
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks")
(HERE / "repository").mkdir(exist_ok=True)
for page in ("CHANGELOG.md", "CONTRIBUTING.md"):
    shutil.copy(HERE.parent / page, HERE / "repository" / page.lower())
reference.write(HERE / "reference")
gallery.write(HERE / "notebooks", HERE / "gallery")
single_file.write(HERE / "explore", HERE / "site" / "explore" / "index.html")
html_extra_path = ["site"]


def _links_of_the_repository(app, name, source):
    """Pages link to notebooks and to pages at the root as the repository has them."""
    text = source[0].replace("](../notebooks/", "](notebooks/").replace("](docs/", "](")
    source[0] = text.replace("](../CONTRIBUTING.md)", "](repository/contributing.md)")


def _links_of_the_sources(app, name, template, context, doctree):
    """Sources link back to the page of every name; viewcode knows one page for each file."""

    def mended(link):
        page, name = link[1], link[2]
        home = max((m for m in modules if name.startswith(f"{m}.")), key=len)
        return f"{page}.html#{page}{name.removeprefix(home)}"

    if name.startswith("_modules/rqf_jax"):
        modules = list(reference.pages())
        context["body"] = re.sub(r"([\w.]+)\.html#(rqf_jax[\w.]+)", mended, context["body"])


def _links_of_the_site(app, exception):
    """A dead link is a warning, hence an error."""
    if exception is None and app.builder.name == "html":
        for link in links.dead_links(Path(app.outdir)):
            logging.getLogger(__name__).warning("dead link: %s", link)


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _links_of_the_repository)
    app.connect("html-page-context", _links_of_the_sources)
    app.connect("build-finished", _links_of_the_site)
