"""The documentation site: `make docs`. It needs no network, and warnings are errors."""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import reference  # noqa: E402
import single_file  # noqa: E402

import rqf_jax  # noqa: E402

project, author = "rqf_jax", "the rqf_jax authors"
version = release = rqf_jax.__version__
extensions = ["myst_nb", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"rqf_jax {version}"
exclude_patterns = ["_build"]
# Notebooks are shown with the outputs they were saved with.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 2

# Pages and notebooks at the root of the repository are copied in; the reference and
# the page to play with are written.
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks")
(HERE / "repository").mkdir(exist_ok=True)
for page in ("CHANGELOG.md", "CONTRIBUTING.md"):
    shutil.copy(HERE.parent / page, HERE / "repository" / page.lower())
reference.write(HERE / "reference")
single_file.write(HERE / "explore", HERE / "site" / "explore" / "index.html")
html_extra_path = ["site"]


def _links_of_the_repository(app, name, source):
    """Pages link to notebooks and to pages at the root as the repository has them."""
    text = source[0].replace("](../notebooks/", "](notebooks/").replace("](docs/", "](")
    source[0] = text.replace("](../CONTRIBUTING.md)", "](repository/contributing.md)")


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _links_of_the_repository)
