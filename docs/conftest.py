"""Tests of the pages: their examples, and none of the files that build the site."""

from __future__ import annotations

import sys

import pytest

collect_ignore_glob = ["*.py", "api/generated/*", "auto_examples/*"]


@pytest.fixture(autouse=True)
def _close_figures():
    """Close what a page has drawn."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
