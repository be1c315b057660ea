"""How the diagnostics of sampling show themselves, as text and in a notebook."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from skbae._types import SamplingResult

NAN = float("nan")
RESULT = SamplingResult(
    method="gibbs",
    n_chains=4,
    n_sweeps=250,
    rhat=1.3,
    ess=17.25,
    log_evidence=-123.456,
    log_evidence_error=0.25,
    balance=1.0,
    acceptance=0.5,
    status="suspect",
    reasons=("chains disagree: R-hat 1.3", "<script>alert('x & y')</script>"),
    log_evidence_lower_bound=-130.0,
    n_modes=2,
    estimates={"bridge": (-123.5, 0.125), "<b>other</b>": (NAN, NAN)},
)


class Page(HTMLParser):
    """Collects the tags, and the texts between them; notes what is not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(html)
        self.close()
        self.balanced = self.balanced and not self._open

    balanced = True

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._open.append(tag)

    def handle_endtag(self, tag):
        self.balanced = self.balanced and bool(self._open) and self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def fact(page, name):
    """Return what stands beside a name in the table."""
    return page.texts[page.texts.index(name) + 1]


def test_the_text_says_verdict_reasons_evidence_and_chains():
    lines = str(RESULT).splitlines()
    assert lines[0] == "Sampling of the models: suspect"
    assert lines[1:3] == [f"  - {reason}" for reason in RESULT.reasons]
    facts = dict(line.strip().split("  ", 1) for line in lines[3:])
    facts = {name: value.strip() for name, value in facts.items()}
    assert facts == {
        "log evidence": "-123.456 ± 0.25",
        "method": "gibbs",
        "chains": "4",
        "sweeps": "250",
        "R-hat": "1.3",
        "effective draws": "17.25",
        "modes": "2",
        "log evidence is at least": "-130",
        "log evidence (bridge)": "-123.5 ± 0.12",
        "log evidence (<b>other</b>)": "not estimated",
    }


def test_a_notebook_shows_the_same_and_every_text_is_escaped():
    page = Page(RESULT._repr_html_())
    assert page.balanced
    assert set(page.tags) <= {"div", "p", "strong", "ul", "li", "table", "tbody", "tr", "th", "td"}
    assert set(RESULT.reasons) <= set(page.texts)  # as text, not as a tag
    assert "suspect" in page.texts
    assert fact(page, "log evidence") == "-123.456 ± 0.25"
    assert fact(page, "log evidence (<b>other</b>)") == "not estimated"


@pytest.mark.parametrize("status", ["ok", "suspect", "failed"])
def test_the_status_is_a_word_and_not_only_a_colour(status):
    page = Page(replace(RESULT, status=status, reasons=())._repr_html_())
    assert status in page.texts
    assert "ul" not in page.tags


def test_an_evidence_that_is_not_estimated_is_not_shown_as_a_number():
    result = replace(
        RESULT, log_evidence=NAN, log_evidence_error=NAN, log_evidence_lower_bound=NAN, estimates={}
    )
    page = Page(result._repr_html_())
    assert fact(page, "log evidence") == "not estimated"
    assert not any("at least" in text for text in page.texts)


def test_the_representation_in_python_is_that_of_a_dataclass():
    assert repr(RESULT).startswith("SamplingResult(method='gibbs', n_chains=4,")
