"""Which members the page of a class lists: those of this package that have a docstring."""

from __future__ import annotations

import inspect
import re
from importlib import import_module


def members_of(module: str, name: str) -> dict[str, list[str]]:
    """Return a class's documented methods and properties, those of scikit-learn left out."""
    owner = getattr(import_module(module), name)
    methods, properties = [], []
    for member, value in inspect.getmembers_static(owner):
        if member.startswith("_") or re.fullmatch(r"set_\w+_request", member):
            continue
        source = next(base for base in owner.__mro__ if member in vars(base))
        if not source.__module__.startswith("skbae"):
            continue
        if not inspect.getdoc(getattr(owner, member, value)):
            continue
        if isinstance(value, property) or type(value).__name__ == "cached_property":
            properties.append(member)
        elif callable(getattr(owner, member, None)) and not inspect.isclass(value):
            methods.append(member)
    return {"methods": methods, "properties": properties}


def add_to_context(app, config) -> None:
    """Let the template of classes call it."""
    config.autosummary_context["members_of"] = members_of


def setup(app) -> dict:
    """Connect."""
    app.connect("config-inited", add_to_context)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
