"""How results show themselves: as lines of text, and as HTML in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The colour of a status, readable on light and on dark pages, beside the word itself.
_COLOURS = {"ok": "#2e8b57", "suspect": "#c77700", "failed": "#d0342c"}


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


def html_report(title: str, status: str, reasons: Sequence[str], facts: Mapping[str, str]) -> str:
    """Return a result as a small HTML table; all texts are escaped.

    Parameters
    ----------
    title, status : str
    reasons : sequence of str
    facts : mapping from names to texts

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
        + (f"<table><tbody>{rows}</tbody></table>" if rows else "")
        + "</div>"
    )
