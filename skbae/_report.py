"""How results show themselves: as lines of text, and as HTML in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# The colour of a status, readable on light and on dark pages, beside the word itself.
_COLOURS = {"ok": "#2e8b57", "suspect": "#c77700", "failed": "#d0342c"}
# Colours of lines, which can be told apart on light and on dark pages.
_LINES = ("#3b87c8", "#d98200", "#1a9c77", "#c0699a", "#8c7ae6", "#c8553d")
_WIDTH, _HEIGHT = 360, 90  # of a picture, in pixels


def number(value: float, error: float | None = None) -> str:
    """Return a number in six digits at most, with its standard error where one is given.

    Examples
    --------
    >>> from skbae._report import number
    >>> number(-1234.5678, 0.0312), number(float("nan"), 1.0), number(2.0)
    ('-1234.57 ± 0.031', 'not estimated', '2')
    """
    if value != value:
        return "not estimated"
    text = f"{value:.6g}"
    return text if error is None else f"{text} ± {error:.2g}"


def text_report(title: str, status: str, reasons: Sequence[str], facts: Mapping[str, str]) -> str:
    """Return a result as lines of text.

    Parameters
    ----------
    title, status : str
    reasons : sequence of str
    facts : mapping from names to texts

    Examples
    --------
    >>> from skbae._report import text_report
    >>> print(text_report("Sampling", "suspect", ["too short"], {"chains": "4", "R-hat": "1.3"}))
    Sampling: suspect
      - too short
      chains  4
      R-hat   1.3
    """
    width = max(map(len, facts), default=0)
    return "\n".join(
        [
            f"{title}: {status}",
            *(f"  - {reason}" for reason in reasons),
            *(f"  {name:<{width}}  {fact}" for name, fact in facts.items()),
        ]
    )


def text_table(columns: Mapping[str, Sequence[str]]) -> str:
    """Return columns of texts by name as lines, of which the first column is flush left.

    Parameters
    ----------
    columns : mapping from names to sequences of str

    Examples
    --------
    >>> from skbae._report import text_table
    >>> print(text_table({"fruit": ["apple", "fig"], "pieces": ["2", "10"]}))
    fruit  pieces
    apple       2
    fig        10
    """
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def html_table(columns: Mapping[str, Sequence[str]]) -> str:
    """Return columns of texts by name as an HTML table; all texts are escaped.

    Parameters
    ----------
    columns : mapping from names to sequences of str

    Examples
    --------
    >>> from skbae._report import html_table
    >>> html_table({"a": ["<b>"]}).count("&lt;b&gt;")
    1
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>"
        for row in zip(*columns.values(), strict=True)
    )
    return (
        f'<table style="color:inherit"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def svg_lines(values: NDArray[Any], name: str) -> str:
    """Return lines beside each other as a small picture, with the ends of their range in digits.

    Parameters
    ----------
    values : ndarray of shape (S, T)
        One line for each of S; what is not finite is left out.
    name : str
        What the lines are.

    Examples
    --------
    >>> from skbae._report import svg_lines
    >>> svg_lines(np.array([[0.0, 1.0], [0.5, 0.5]]), "two lines").count("<polyline")
    2
    """
    finite = np.isfinite(values)
    if not finite.any():
        return ""
    low, high = float(values[finite].min()), float(values[finite].max())
    across = np.linspace(2, _WIDTH - 2, values.shape[1]) if values.shape[1] > 1 else [_WIDTH / 2]
    with np.errstate(all="ignore"):
        share = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
    lines = []
    for line, (row, known) in enumerate(zip(share, finite, strict=True)):
        points = " ".join(
            f"{x:.0f},{2 + (1 - y) * (_HEIGHT - 4):.0f}"
            for x, y, there in zip(across, row, known, strict=True)
            if there
        )
        colour = _LINES[line % len(_LINES)]
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-opacity="0.8"/>'
        )
    label = f"{name}, from {number(low)} to {number(high)}"
    text = 'x="{}" y="{}" fill="currentColor" font-size="11" font-family="sans-serif"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(label)}" '
        f'width="{_WIDTH + 90}" height="{_HEIGHT + 18}" '
        f'viewBox="0 0 {_WIDTH + 90} {_HEIGHT + 18}" style="max-width:100%">'
        f"<title>{escape(label)}</title>"
        f'<rect x="0.5" y="0.5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" fill="none" '
        'stroke="currentColor" stroke-opacity="0.3"/>'
        f"{''.join(lines)}"
        f"<text {text.format(_WIDTH + 5, 10)}>{escape(number(high))}</text>"
        f"<text {text.format(_WIDTH + 5, _HEIGHT - 2)}>{escape(number(low))}</text>"
        f"<text {text.format(2, _HEIGHT + 13)}>{escape(name)}</text>"
        "</svg>"
    )


def html_report(
    title: str, status: str, reasons: Sequence[str], facts: Mapping[str, str], picture: str = ""
) -> str:
    """Return a result as a small HTML table; all texts are escaped.

    Parameters
    ----------
    title, status : str
    reasons : sequence of str
    facts : mapping from names to texts
    picture : str, default=""
        SVG, or another table, that stands below.

    Examples
    --------
    >>> from skbae._report import html_report
    >>> "R &lt; 1" in html_report("Sampling", "ok", ["R < 1"], {})
    True
    """
    colour = _COLOURS.get(status, "inherit")
    doubts = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(fact)}</td></tr>'
        for name, fact in facts.items()
    )
    return (
        f"<div><p><strong>{escape(title)}:</strong> "
        f'<strong style="color:{colour}">{escape(status)}</strong></p>'
        + (f"<ul>{doubts}</ul>" if doubts else "")
        + (f'<table style="color:inherit"><tbody>{rows}</tbody></table>' if rows else "")
        + picture
        + "</div>"
    )
