"""How results show themselves, as text and in a notebook."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from skbae._report import svg_lines
from skbae._types import SamplingResult
from skbae.inference.evidence._verdict import thinned
from skbae.model_selection import EvidenceCheck, EvidencePair
from skbae.thermodynamics import (
    CodeTemperatureCurve,
    CriticalTemperatures,
    FreeEnergyCurve,
    LearningCoefficient,
    SplitTree,
)

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


# -- results of model selection and of thermodynamics ----------------------------------------------

PAIRS = EvidenceCheck(
    (
        EvidencePair((1, 2), -3.25, 0.125, -3.0, 0.1, (-5.0, 2.0), 40.0),
        EvidencePair((2, 3), 9.0, 0.125, 1.0, 0.1, (-5.0, 2.0), 40.0),
    )
)
CURVE = FreeEnergyCurve(
    np.array([4.0, 1.0]),
    10.0,
    *(np.array([value, value]) for value in (-2.0, 0.5, -1.0, 0.25, 3.0, 0.125, 7.0, 0.5)),
    ("ok", "suspect"),
    ((), ("few draws & <more>",)),
)
LEARNED = LearningCoefficient(
    2.5, 0.25, "variance", False, 2.25, 0.5, 4.75, "suspect", ("R-hat < 1.2",)
)
TREE = SplitTree(
    np.array([-1, 0, 0]),
    np.array([np.inf, 2.0, 2.0]),
    np.array([2.5, 1.0, 0.5]),
    np.array([2.0, NAN, NAN]),
    np.array([1.0, 0.75, 0.25]),
    np.zeros((3, 2)),
    -1.5,
)
CRITICAL = CriticalTemperatures(np.array([3.0, 0.5]), 1.0, None)
CODES = CodeTemperatureCurve(*(np.array([1.0, value]) for value in (2, 3, 4, NAN, 6)), ())
RESULTS = [PAIRS, CURVE, LEARNED, TREE, CRITICAL, CODES]


@pytest.mark.parametrize("result", RESULTS, ids=lambda each: type(each).__name__)
def test_every_result_shows_itself_as_text_and_in_a_notebook(result):
    page = Page(result._repr_html_())
    assert page.balanced
    assert not set(page.tags) & {"script", "more"}
    text = str(result)
    assert not text.startswith(type(result).__name__)
    for shown in page.texts:  # a reader of either sees the same words
        words = shown.rstrip(":").replace("±", "+-").split()
        if words and result is not PAIRS:
            assert words[0] in text.replace("±", "+-")


def test_contradictions_are_named_in_a_notebook():
    page = Page(PAIRS._repr_html_())
    assert "the evidences of 2 and 3 components contradict each other" in page.texts
    assert page.texts.count("contradiction") == 1
    assert "failed" in page.texts
    agree = Page(EvidenceCheck(PAIRS.pairs[:1])._repr_html_())
    assert "ok" in agree.texts
    assert "failed" not in agree.texts


def test_a_curve_is_as_doubtful_as_its_worst_point():
    first, second, *table = str(CURVE).splitlines()
    assert first == "Free energy of the models: suspect"
    assert second == "  - tau 1: few draws & <more>"
    assert table[0].split()[:3] == ["tau", "Hmaxemax", "G"]
    assert table[1].startswith("4  ")
    assert table[1].endswith("ok")
    assert "-2 ± 0.5" in table[1]
    assert table[2].endswith("suspect")


def test_a_coefficient_has_its_error_and_its_doubts():
    lines = str(LEARNED).splitlines()
    assert lines[:2] == ["Learning coefficient: suspect", "  - R-hat < 1.2"]
    assert lines[2].split(maxsplit=1)[1] == "2.5 ± 0.25"
    local = replace(LEARNED, local=True, slope=NAN, slope_error=NAN)
    assert str(local).startswith("Local learning coefficient")
    assert "slope" not in str(local)


def test_tables_have_the_columns_of_their_frames():
    for result in (TREE, CRITICAL, CODES):
        names, *rows = str(result).splitlines()
        assert names.split() == list(result.to_frame().columns)
        assert len(rows) == len(result.to_frame())
    assert str(CRITICAL).splitlines()[1].split() == ["0", "3", "yes"]
