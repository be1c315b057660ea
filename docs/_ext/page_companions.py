"""What stands beside each page: its Markdown, a notebook, and what machines read of it.

- ``page.md`` beside ``page.html``: the page's source, for pages that are written in Markdown.
- ``page.ipynb``: the page as a notebook, where it has examples. Outputs are left to Jupyter.
- A link to edit the page's source, where ``repository`` of ``conf.py`` is known.
- ``llms.txt``: the title and first sentence of every page, with the address of its Markdown if it
  has any (https://llmstxt.org).
- OpenGraph's properties in the head of each page.
"""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.util.osutil import relative_uri

FENCE = re.compile(r"^(`{3,}|:{3,})")


def first_sentence(doctree: nodes.document) -> str:
    """Return the first sentence of a page's text, of at most 300 characters."""
    for paragraph in doctree.findall(nodes.paragraph):
        inside = paragraph.parent
        while inside is not None and isinstance(inside, nodes.section | nodes.container):
            inside = inside.parent
        text = " ".join(paragraph.astext().split())
        if isinstance(inside, nodes.document) and text:
            return re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0].rstrip(":")[:300]
    for description in doctree.findall(lambda node: node.tagname == "desc_content"):
        paragraph = next(iter(description.findall(nodes.paragraph)), None)
        if paragraph is not None:
            return re.split(r"(?<=[.!?])\s", " ".join(paragraph.astext().split()), maxsplit=1)[0]
    return ""


def remember_sentence(app, doctree: nodes.document) -> None:
    """Store a page's first sentence when it has been read."""
    if not hasattr(app.env, "first_sentences"):
        app.env.first_sentences = {}
    app.env.first_sentences[app.env.docname] = first_sentence(doctree)


def merge_sentences(app, env, docnames, other) -> None:
    """Take over what another process has read."""
    for name in docnames:
        env.first_sentences[name] = other.first_sentences[name]


def markdown(app, docname: str) -> str:
    """Return the Markdown of a page, with what it includes."""
    path = Path(app.env.doc2path(docname))

    def included(match: re.Match[str]) -> str:
        return (path.parent / match[1]).read_text("utf-8")

    text = path.read_text("utf-8")
    return re.sub(r"^```\{include\} (\S+)\n.*?^```$", included, text, flags=re.M | re.S)


def source_of(app, docname: str) -> str | None:
    """Return the file of the repository that a page is written in; None if it is made from code."""
    if docname.startswith("auto_examples/plot_"):
        return f"examples/gallery/{docname.removeprefix('auto_examples/')}.py"
    return f"docs/{docname}.md" if has_markdown(app, docname) else None


def has_markdown(app, docname: str) -> bool:
    """Return whether the page is written in Markdown."""
    return docname in app.env.found_docs and str(app.env.doc2path(docname)).endswith(".md")


def cells_of(text: str) -> list[dict]:
    """Return the cells of a notebook: prose, and the code of fenced examples."""
    cells: list[dict] = []
    prose: list[str] = []

    def add(kind: str, source: str) -> None:
        if source.strip():
            cell = {"cell_type": kind, "metadata": {}, "source": source.strip("\n")}
            cell["id"] = f"cell-{len(cells)}"
            if kind == "code":
                cell |= {"execution_count": None, "outputs": []}
            cells.append(cell)

    lines = iter(text.splitlines())
    for line in lines:
        fence = FENCE.match(line)
        if not fence:
            prose.append(line)
            continue
        mark = fence[1]
        if mark.startswith(":"):
            continue  # containers and notes: their text remains
        inside = []
        for following in lines:
            if following.startswith(mark) and not following.strip("`"):
                break
            inside.append(following)
        examples = doctest.DocTestParser().get_examples("\n".join(inside) + "\n")
        if examples:
            add("markdown", "\n".join(prose))
            prose = []
            add("code", "".join(example.source for example in examples))
        elif not line.startswith(mark + "{"):  # directives have no meaning in a notebook
            prose += [line, *inside, mark]
    add("markdown", "\n".join(prose))
    return cells


def notebook(text: str) -> dict | None:
    """Return a Markdown page as a notebook, or None if it has no examples."""
    cells = cells_of(text)
    if all(cell["cell_type"] != "code" for cell in cells):
        return None
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def add_to_page(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Tell the templates of a page what stands beside it, and describe it in its head."""
    if doctree is None:
        return
    here = app.builder.get_target_uri(pagename)
    context["companions"] = []
    if has_markdown(app, pagename):
        address = relative_uri(here, f"{pagename}.md")
        context["companions"].append((address, "Markdown"))
        context["metatags"] += f'<link rel="alternate" type="text/markdown" href="{address}">\n'
        if notebook(markdown(app, pagename)):
            context["companions"].append((relative_uri(here, f"{pagename}.ipynb"), "Notebook"))
    repository = app.config.html_context["repository"].rstrip("/")
    if repository and (source := source_of(app, pagename)):
        context["companions"].append((f"{repository}/edit/main/{source}", "Edit this page"))
    title = re.sub(r"<[^>]+>", "", context.get("title", ""))
    described = app.env.first_sentences.get(pagename, "")
    properties = {
        "og:type": "website" if pagename == app.config.root_doc else "article",
        "og:site_name": app.config.project,
        "og:title": title,
        "og:description": described,
    }
    base = app.config.html_baseurl
    if base:
        properties["og:url"] = f"{base.rstrip('/')}/{here}"
    for name, value in properties.items():
        value = value.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        if value:
            context["metatags"] += f'<meta property="{name}" content="{value}">\n'
            if name == "og:description":
                context["metatags"] += f'<meta name="description" content="{value}">\n'


def in_order(app, docname: str, seen: set[str]) -> list[str]:
    """Return a page and those below it, in the order of the toctrees."""
    if docname in seen:
        return []
    seen.add(docname)
    found = [docname]
    for child in app.env.toctree_includes.get(docname, []):
        found += in_order(app, child, seen)
    return found


def write_companions(app, error) -> None:
    """Write Markdown, notebooks and llms.txt when all pages have been written."""
    if error or app.builder.name != "html":
        return
    out = Path(app.outdir)
    lines = [
        "# skbae",
        "",
        f"> {app.env.first_sentences[app.config.root_doc]}",
        "",
    ]
    base = app.config.html_baseurl.rstrip("/") + "/" if app.config.html_baseurl else ""
    for top in in_order(app, app.config.root_doc, set()):
        title = app.env.titles[top].astext()
        if top == app.config.root_doc or top in app.env.toctree_includes[app.config.root_doc]:
            if top != app.config.root_doc:
                lines += ["", f"## {title}", ""]
            else:
                lines += ["## Start", ""]
        address = base + app.builder.get_target_uri(top)
        if has_markdown(app, top):
            source = markdown(app, top)
            address = f"{base}{top}.md"
            (out / f"{top}.md").write_text(source, encoding="utf-8")
            cells = notebook(source)
            if cells:
                text = json.dumps(cells, indent=1, ensure_ascii=False)
                (out / f"{top}.ipynb").write_text(text + "\n", encoding="utf-8")
        described = app.env.first_sentences.get(top, "")
        lines.append(f"- [{title}]({address})" + (f": {described}" if described else ""))
    (out / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app) -> dict:
    """Connect."""
    app.connect("doctree-read", remember_sentence)
    app.connect("env-merge-info", merge_sentences)
    app.connect("html-page-context", add_to_page)
    app.connect("build-finished", write_companions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
