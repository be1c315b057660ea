"""How the diagnostics of sampling show themselves, as text and in a notebook."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from skbae._report import svg_lines
from skbae._types import SamplingResult
from skbae.inference.evidence._verdict import thinned

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

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

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


TRACE = np.array([[0.0, 1.0, 2.0, 4.0], [1.0, 1.0, 1.0, 3.0]])


def points(svg):
    """Return the corners of each line, (S, T, 2)."""
    lines = re.findall(r'points="([^"]*)"', svg)
    return [[tuple(map(float, point.split(","))) for point in line.split()] for line in lines]


def test_a_trace_is_drawn_to_scale():
    first, second = points(svg_lines(TRACE, "trace"))
    heights = np.array([[y for _, y in first], [y for _, y in second]])
    bottom, top = heights[0, 0], heights[0, 3]  # 0 and 4; down is up on a screen
    assert 0 < top < bottom < 90
    np.testing.assert_allclose((bottom - heights) / (bottom - top) * 4, TRACE, atol=0.05)
    assert np.ptp(np.diff([x for x, _ in first])) <= 1
    assert [x for x, _ in first] == [x for x, _ in second]


def test_a_trace_is_read_aloud_and_follows_the_colours_of_the_page():
    result = replace(RESULT, trace=TRACE)
    html = result._repr_html_()
    page = Page(html)
    assert page.balanced
    assert page.tags.count("svg") == 1
    label = "Hmaxe of draws of each chain, in turn, from 0 to 4"
    assert f'role="img" aria-label="{label}"' in html
    assert label in page.texts
    # all but the lines themselves is in the colour of the text around it
    others = html[: html.index("<polyline")] + html[html.rindex("<polyline") :].partition("/>")[2]
    svg = others[others.index("<svg") :]
    assert set(re.findall(r'(?:fill|stroke)="([^"]*)"', svg)) == {"none", "currentColor"}
    assert fact(page, "Hmaxe of draws") == "0 to 4"
    assert fact(page, "means of chains") == "1.5 to 1.75"
    assert "means of chains" in str(result)
    particles = replace(result, method="smc")._repr_html_()
    assert "Hmaxe of draws of each island, from" in particles


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_what_is_not_finite_is_left_out_of_the_picture(bad):
    trace = TRACE.copy()
    trace[0, 1] = bad
    svg = svg_lines(trace, "trace")
    assert list(map(len, points(svg))) == [3, 4]
    assert not re.search(r"nan|inf", svg)
    assert svg_lines(np.full((2, 3), bad), "trace") == ""
    assert "Hmaxe" not in str(replace(RESULT, trace=np.full((2, 3), bad)))


def test_a_single_draw_and_a_constant_are_drawn():
    assert len(points(svg_lines(np.ones((1, 1)), "trace"))[0]) == 1
    heights = {y for _, y in points(svg_lines(np.full((1, 5), 7.0), "trace"))[0]}
    assert len(heights) == 1


def test_what_is_kept_of_traces_is_small_and_shows_the_chains_that_differ_most():
    rng = np.random.default_rng(0)
    trace = rng.normal(size=(40, 1000))
    trace[17] += 100
    trace[3] -= 100
    kept = thinned(trace)
    assert kept.shape == (6, 200)
    assert kept.nbytes < 10_000
    assert kept.base is None  # no hold on the whole trace
    assert (kept.mean(axis=1) > 50).sum() == (kept.mean(axis=1) < -50).sum() == 1
    for chain in kept:  # draws in their order, the first and the last among them
        where = [int(np.flatnonzero((trace == value).any(axis=0))[0]) for value in chain]
        assert where[0] == 0
        assert where[-1] == 999
        assert np.all(np.diff(where) > 0)
    np.testing.assert_array_equal(thinned(trace[:2, :7]), trace[:2, :7])


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
