"""Links between the pages that were built: each must lead to a file, and to a place in it.

It runs at the end of each build, where a broken link is a warning; and by itself:
``python docs/_ext/links_of_pages.py build``.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the places in it that links can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, int]] = []
        self.places: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def has(self, fragment: str) -> bool:
        """Return whether the page has the place that a link's fragment names."""
        return unquote(fragment) in self.places

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links and places."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.places.add(value)
            elif name in ("href", "src") and tag != "use":
                self.links.append((value, self.getpos()[0]))


def broken_links(folder: Path) -> list[str]:
    """Return a line for each link of a folder's pages that leads nowhere."""
    folder = folder.resolve()
    written = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: Page(path) for path in written}
    found = []
    for path, page in pages.items():
        for link, line in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if target.is_dir():
                target = target / "index.html"
            where = f"{path.relative_to(folder)}:{line}: {link}"
            if not target.is_relative_to(folder):
                found.append(f"{where} leads out of the site")
            elif not target.exists():
                found.append(f"{where} leads to no file")
            elif parts.fragment and target in pages and not pages[target].has(parts.fragment):
                found.append(f"{where} leads to no place in its page")
    return found


def check(app, error) -> None:
    """Warn of broken links when the site has been written."""
    if error or app.builder.name != "html":
        return
    from sphinx.util import logging

    for line in broken_links(Path(app.outdir)):
        logging.getLogger(__name__).warning("broken link: %s", line)


def setup(app) -> dict:
    """Connect, after all that writes files."""
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    lines = broken_links(Path(sys.argv[1]))
    print("\n".join(lines) or "every link leads somewhere")
    sys.exit(bool(lines))
