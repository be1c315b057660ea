"""Public names in code letters link to their page of the API, on every page.

Code blocks end with their last line.

A name that may as well be a parameter or a method (`entropy`, `hmax`) does so only with its
module's name before it, as in `functionals.entropy`.
"""

from __future__ import annotations

from docutils import nodes


def pages_of_names(app) -> dict[str, str]:
    """Return the page of each way to write a public name."""
    pages = {}
    for docname in app.env.found_docs:
        if not docname.startswith("api/generated/"):
            continue
        full = docname.removeprefix("api/generated/")
        module, _, name = full.rpartition(".")
        pages[full] = docname
        pages[f"{module.rpartition('.')[2]}.{name}"] = docname
        if not name.islower() or "_" in name:
            pages[name] = docname
    return pages


def add_links(app, doctree: nodes.document, docname: str) -> None:
    """Link the literals of a page that are public names."""
    pages = pages_of_names(app)
    for literal in list(doctree.findall(nodes.literal)):
        inside, plain = literal.parent, True
        while inside is not None and plain:
            plain = not isinstance(inside, nodes.reference | nodes.title | nodes.rubric)
            inside = inside.parent
        text = literal.astext().removesuffix("()")
        target = pages.get(text)
        address = target and app.builder.get_relative_uri(docname, target)
        if target is None and text in app.env.domains.python_domain.modules:
            module = app.env.domains.python_domain.modules[text]
            target = module.docname
            address = f"{app.builder.get_relative_uri(docname, target)}#{module.node_id}"
        if plain and target and target != docname:
            reference = nodes.reference("", "", refuri=address, internal=True)
            literal.replace_self(reference)
            reference += literal


def end_code_blocks(app, doctree: nodes.document) -> None:
    """Remove empty lines at the end of code blocks, which doctests in Markdown need."""
    for block in doctree.findall(nodes.literal_block):
        if block.rawsource == block.astext():  # others have markup in them
            block.rawsource = block.rawsource.rstrip("\n")
            block[:] = [nodes.Text(block.rawsource)]


def setup(app) -> dict:
    """Connect."""
    app.connect("doctree-read", end_code_blocks)
    app.connect("doctree-resolved", add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
