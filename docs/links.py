"""Finds links inside the site that lead nowhere.

`conf.py` calls `dead_links` when a build is done, so that `make docs` fails for a dead link.
"""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The addresses that a page leads to, and the names of its places."""

    def __init__(self, text):
        super().__init__()
        self.links, self.places = [], {""}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Called by the parser for every tag."""
        given = dict(attrs)
        self.links += [given[name] for name in ("href", "src") if given.get(name)]
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}


def dead_links(folder: Path) -> list[str]:
    """Links inside `folder` to a file or a place in a file that is not there: 'page: link'."""
    pages = {path.resolve(): _Page(path.read_text("utf-8")) for path in folder.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if target in pages:
                missing = unquote(parts.fragment) not in pages[target].places
            else:
                missing = not target.exists()
            if missing:
                dead.append(f"{path.relative_to(folder.resolve())}: {link}")
    return dead
