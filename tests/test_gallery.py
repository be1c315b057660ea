"""The gallery's examples are made as sphinx-gallery needs them, and use what is public of skbae.

They are run when the site is built, not here.
"""

import ast
import importlib
from pathlib import Path

import pytest

GALLERY = Path(__file__).parent.parent / "examples" / "gallery"
EXAMPLES = sorted(GALLERY.glob("plot_*.py"))


def public_names(module):
    """Return the names that a module says are public."""
    return set(importlib.import_module(module).__all__)


def imported_names(tree):
    """Return (module, name) of each import from skbae; the name is None if all is imported."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(each.name, None) for each in node.names]
        if isinstance(node, ast.ImportFrom):
            found += [(node.module, each.name) for each in node.names]
    return [pair for pair in found if pair[0].split(".")[0] == "skbae"]


def private_attributes(tree):
    """Return the attributes that are read and start with an underscore."""
    attributes = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return [name for name in attributes if name.startswith("_") and not name.startswith("__")]


def test_the_gallery_has_a_header_and_at_least_twelve_examples():
    title, underline, *_ = (GALLERY / "GALLERY_HEADER.rst").read_text().splitlines()
    assert set(underline) == {"="}
    assert len(underline) == len(title)
    assert len(EXAMPLES) >= 12


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_title_an_introduction_and_cells(path):
    text = path.read_text()
    tree = ast.parse(text)
    compile(tree, str(path), "exec")
    title, underline, blank, *rest = ast.get_docstring(tree).splitlines()
    assert underline == "=" * len(title)
    assert blank == ""
    assert len(" ".join(rest)) > 150  # what one learns
    assert text.count("\n# %%\n") >= 3
    assert "plt.show()" in text
    assert 'filterwarnings("ignore' not in text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_uses_only_public_names_of_skbae(path):
    tree = ast.parse(path.read_text())
    imported = imported_names(tree)
    assert imported
    for module, name in imported:
        assert not any(part.startswith("_") for part in module.split("."))
        assert name is None or name in public_names(module), f"{module}.{name} is not public"
    assert private_attributes(tree) == []


def test_a_private_import_and_a_private_attribute_are_noticed():
    tree = ast.parse("from skbae.plotting import _canvas\nmodel._fitted\nimport skbae._types")
    assert [module for module, _ in imported_names(tree)] == ["skbae.plotting", "skbae._types"]
    assert "_canvas" not in public_names("skbae.plotting")
    assert private_attributes(tree) == ["_fitted"]
