"""The site's sources: no public name is missing from the API, and no page from the navigation."""

from __future__ import annotations

import pkgutil
import re
import runpy
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path, PurePosixPath

import pytest

import skbae

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^(```|:::)\{toctree\}\n(.*?)^\1", re.DOTALL | re.MULTILINE)


def public_modules():
    """Return the names of the modules without an underscore that say what they offer."""
    names = ["skbae"]
    for module in pkgutil.walk_packages(skbae.__path__, "skbae."):
        if "._" not in module.name and hasattr(import_module(module.name), "__all__"):
            names.append(module.name)
    return names


def referenced(text):
    """Return the names that the reference lists, by module."""
    found: dict[str, set[str]] = {}
    module = None
    for line in text.splitlines():
        if directive := re.match(r"\.\. (?:currentmodule|automodule):: (\S+)", line):
            module = directive[1]
            found.setdefault(module, set())
        elif directive := re.match(r"\.\. py:data:: (\S+)", line):
            found[module].add(directive[1])
        elif module and (name := re.fullmatch(r"   (\w+)", line)):
            found[module].add(name[1])
        elif line.startswith("```") and not line.endswith("{eval-rst}"):
            module = None
    return found


def children(page, pages):
    """Return the pages in the toctrees of a page."""
    found = set()
    for _, block in BLOCK.findall((DOCS / f"{page}.md").read_text("utf-8")):
        for line in block.splitlines():
            entry = re.sub(r".*<(.*)>$", r"\1", line.strip())
            if entry and not entry.startswith(":"):
                entry = str(PurePosixPath(page).parent / entry)
                found |= {name for name in pages if fnmatchcase(name, entry)}
    return found


def pages_of_the_site():
    return {
        path.relative_to(DOCS).with_suffix("").as_posix()
        for path in DOCS.rglob("*.md")
        if not path.relative_to(DOCS).parts[0].startswith("_")
    }


def test_every_public_name_is_in_the_reference():
    pages = sorted((DOCS / "api").glob("*.md"))
    listed = referenced("\n".join(page.read_text("utf-8") for page in pages))
    assert set(listed) == set(public_modules())
    for module, names in listed.items():
        assert names == set(import_module(module).__all__), module


def test_the_reference_is_read_line_by_line():
    text = (DOCS / "api" / "model_selection.md").read_text("utf-8")
    without = text.replace("   evidence_scorer\n", "")
    assert "evidence_scorer" in referenced(text)["skbae.model_selection"]
    assert "evidence_scorer" not in referenced(without)["skbae.model_selection"]


def test_every_page_is_in_the_navigation():
    pages = pages_of_the_site()
    reached, waiting = set(), ["index"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            waiting += children(page, pages)
    assert reached == pages


def test_links_that_lead_nowhere_are_found(tmp_path):
    check = runpy.run_path(str(DOCS / "_ext" / "links_of_pages.py"))["broken_links"]
    (tmp_path / "sub").mkdir()
    right = '<p id="here"><a href="sub/b.html#there">b</a><a href="#here">a</a><img src="c.png">'
    (tmp_path / "a.html").write_text(right + '<a href="mailto:a@b"></a>', "utf-8")
    (tmp_path / "sub" / "b.html").write_text('<h2 id="there"><a href="../a.html">a</a>', "utf-8")
    (tmp_path / "c.png").write_bytes(b"")
    assert check(tmp_path) == []
    wrong = '<a href="d.html"></a>\n<a href="sub/b.html#gone"></a>\n<a href="../../x"></a>'
    (tmp_path / "e.html").write_text(wrong, "utf-8")
    assert check(tmp_path) == [
        "e.html:1: d.html leads to no file",
        "e.html:2: sub/b.html#gone leads to no place in its page",
        "e.html:3: ../../x leads out of the site",
    ]


@pytest.mark.parametrize("page", sorted(pages_of_the_site()))
def test_a_page_begins_with_its_title(page):
    text = (DOCS / f"{page}.md").read_text("utf-8")
    assert text.startswith(("# ", "```{include}"))


def test_the_version_to_cite_is_one():
    cff = (ROOT / "CITATION.cff").read_text("utf-8")
    version = re.search(r'^version: "(.*)"$', cff, re.MULTILINE)[1]
    assert version == skbae.__version__
    assert f"version = {{{version}}}" in (DOCS / "cite.md").read_text("utf-8")
