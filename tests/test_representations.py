"""How estimators show themselves, as text and in notebooks: never an error, and no computation."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from _altered import quick
from _data import overlapping_blobs
from _instances import (
    ENERGY_INSTANCES,
    INSTANCES,
    MACHINE_INSTANCES,
    NETWORK_INSTANCES,
    SAMPLED_INSTANCES,
)
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skbae
from skbae import BayesianGMMAutoEncoder, BayesianMixtureAutoEncoder, ConditionalRegressor, _version
from skbae.components import Gaussian

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ALL = [
    *INSTANCES,
    *MACHINE_INSTANCES,
    *NETWORK_INSTANCES,
    *ENERGY_INSTANCES,
    *SAMPLED_INSTANCES,
]
X = overlapping_blobs()[:40]
# Packages in which something is computed.
WORK = ("skbae.energies", "skbae.inference", "skbae.operators")
# Functions there that only say what an object is, and loops within them.
DESCRIBING = ("__repr__", "get_params", "_arguments", "<dictcomp>", "<genexpr>")


def calls_in(work):
    """Return what `work()` returns, and the functions that it called where things are computed."""
    called = set()

    def note(frame, event, argument):
        if event == "call":
            called.add((frame.f_globals.get("__name__", ""), frame.f_code.co_name))

    sys.setprofile(note)
    try:
        found = work()
    finally:
        sys.setprofile(None)
    return found, {
        (module, name)
        for module, name in called
        if module.startswith(WORK) and name not in DESCRIBING
    }


def shown(estimator):
    with config_context(display="diagram"):
        return repr(estimator), estimator._repr_html_(), estimator._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize("instance", ALL, ids=lambda row: row.name)
def test_estimators_show_themselves_without_computing_anything(instance):
    rows = (X > 0).astype(float) if instance.name.startswith("rbm-bernoulli") else X
    estimator = quick(instance.make())
    (text, page, _), called = calls_in(lambda: shown(estimator))
    assert text.startswith("Quick")
    assert "<style>" in page
    assert not called
    estimator.fit(rows)
    (again, page, _), called = calls_in(lambda: shown(estimator))
    assert again == text
    assert "fitted" in page
    assert not called
    assert len(page) < 200_000  # arrays are abridged


def test_what_computes_is_noticed():
    """The check above is not blind: scoring a row is work."""
    fitted = BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0).fit(X)
    _, called = calls_in(lambda: fitted.score_samples(X[:1]))
    assert any(module.startswith("skbae.energies") for module, _ in called)


def test_parts_of_other_estimators_are_shown_too():
    regressor = ConditionalRegressor().fit(X[:, :1], X[:, 1])
    pipeline = make_pipeline(StandardScaler(), BayesianGMMAutoEncoder(model_temperature=0)).fit(X)
    table = BayesianMixtureAutoEncoder(
        2, components=[("all", Gaussian(), slice(None))], model_temperature=0, random_state=0
    ).fit(X)
    for estimator in (regressor, pipeline, table):
        assert all(shown(estimator))


NAMES = sorted(name for name in skbae.__all__ if isinstance(getattr(skbae, name), type))


@pytest.mark.parametrize("name", NAMES)
def test_there_is_a_link_to_the_page_of_the_api_once_there_is_a_site(name, monkeypatch):
    kind = getattr(skbae, name)
    estimator = kind(None) if name == "EnergyAutoEncoder" else kind()
    monkeypatch.setattr(_version, "DOCUMENTATION", "https://docs.example/stable")
    page = f"https://docs.example/stable/api/generated/skbae.{name}.html"
    assert estimator._get_doc_link() == page
    assert f'href="{page}"' in shown(estimator)[1]
    monkeypatch.setattr(_version, "DOCUMENTATION", "..")  # pages of the site itself
    assert estimator._get_doc_link() == f"../api/generated/skbae.{name}.html"


def test_without_a_site_there_is_no_link(monkeypatch):
    monkeypatch.setattr(_version, "DOCUMENTATION", "")
    page = shown(BayesianGMMAutoEncoder())[1]
    assert "generated/" not in page
    assert "Documentation for" not in page


def test_estimators_of_others_do_not_lead_to_our_pages(monkeypatch):
    """A subclass in another package has no page here."""
    monkeypatch.setattr(_version, "DOCUMENTATION", "https://docs.example")
    assert quick(BayesianGMMAutoEncoder())._get_doc_link() == ""


def test_a_trace_is_stored_of_sampled_fits_alone():
    fitted = quick(BayesianGMMAutoEncoder(2, random_state=0)).fit(X)
    trace = fitted.sampling_.trace
    assert trace.shape[0] <= 6
    assert trace.shape[1] <= 200
    assert np.isfinite(trace).all()
    error = fitted.sampling_.hmaxe_variance**0.5
    assert abs(trace.mean() - fitted.internal_energy_) < error
