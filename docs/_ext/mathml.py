"""Formulas as MathML, which browsers show without a script, and which needs no download."""

from __future__ import annotations

import re
from html import escape

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

FUNCTION = r"<mi>(?:log|exp)</mi>(?:\s*<mo>&ApplyFunction;</mo>)?+"
CLOSED = "</mi>|</mfrac>|</msub>|</munder>|</mrow>"
THIN = '<mspace width="0.17em"/>'

logger = logging.getLogger(__name__)


def convert(node: nodes.Element, as_block: bool) -> str:
    """Return the MathML of a formula."""
    try:
        formula = tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        logger.warning("this formula is no MathML: %s", error, location=node)
        return f"<code>{escape(node.astext())}</code>"
    # functions are set apart from letters and sums, as TeX does, but not from parentheses
    formula = re.sub(rf"({CLOSED})(\s*)({FUNCTION})", rf"\1{THIN}\2\3", formula)
    return re.sub(rf"({FUNCTION})(?!\s*<mo[^>]*>[(\[])", rf"\1{THIN}", formula)


def visit_inline(translator, node: nodes.Element) -> None:
    """Write a formula within a line."""
    translator.body.append(convert(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node: nodes.Element) -> None:
    """Write a formula that stands alone, with its number if it has one."""
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    names = "".join(f' id="{escape(name)}"' for name in node.get("ids", [])[:1])
    translator.body.append(f'<div class="math"{names}>{number}{convert(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app) -> dict:
    """Add the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
