"""Mixtures of PCA sampled from their modes, against enumeration, tempering and PCA."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from _pca_problems import bayesian_pca, pca_start
from _subspaces import IRIS, PRIOR, enumerated, mixture, small_rows, tempered
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianMixturePCAAutoEncoder
from skbae.estimators import _mixture_pca, _sampled
from skbae.inference import _anneal
from skbae.inference._anneal import anneal_plan, sample_from_modes
from skbae.inference._assess import combine_evidence
from skbae.inference._modes import Modes
from skbae.inference._rows import RowRunner, make_rows
from skbae.inference._smc import SMCPlan


def fit(X, n_components, n_latent, seed=0, sample_weight=None, **settings):
    estimator = BayesianMixturePCAAutoEncoder(
        n_components, n_latent=n_latent, random_state=seed, **settings
    )
    return estimator.fit(X, sample_weight=sample_weight)


def own_prior(X):
    """Return the constructor arguments that make the prior of the problems in `_subspaces`."""
    return {
        "component_variance_prior": PRIOR.component_variance,
        "mean_prior": PRIOR.mean,
        "mean_precision_prior": X.var(axis=0).mean() / PRIOR.mean_variance,
        "noise_shape_prior": PRIOR.noise_shape,
        "noise_scale_prior": PRIOR.noise_scale,
        "weight_concentration_prior": 1.6,
    }


def evidences(fits):
    values = np.array([fitted.log_evidence_ for fitted in fits])
    return values, np.array([fitted.sampling_.log_evidence_error for fitted in fits])


@pytest.mark.parametrize(
    ("n_components", "temperature", "equal"),
    [(1, 0.2, False), (2, 0.2, False), (2, 0.1, True), (3, 0.2, True)],
)
def test_evidence_by_enumeration(n_components, temperature, equal):
    """Few rows, cold enough that each counts for many."""
    X = small_rows(7)
    fitted = fit(X, n_components, 0, temperature=temperature, equal_weights=equal, **own_prior(X))
    exact = enumerated(X, n_components, PRIOR, temperature, None if equal else 1.6)
    assert fitted.sampling_.method == "modes"
    assert fitted.sampling_.log_evidence_error < 0.1
    assert abs(fitted.log_evidence_ - exact) < 5 * fitted.sampling_.log_evidence_error


@pytest.mark.parametrize(
    ("n_components", "n_latent", "tied", "equal"),
    [(2, 1, False, False), (2, 2, True, False), (3, 0, False, False), (2, 1, False, True)],
)
def test_modes_and_prior_lead_to_the_same(n_components, n_latent, tied, equal):
    X = small_rows(40)
    fitted = fit(X, n_components, n_latent, tied_noise=tied, equal_weights=equal, **own_prior(X))
    energy = mixture(n_components, n_latent, 1.0, tied, equal)
    theirs, error, _ = tempered(energy, make_rows(X, None), 1.0, n_particles=1024)
    own = fitted.sampling_.log_evidence_error
    assert fitted.sampling_.method == "modes"
    assert max(own, error) < 0.2
    assert abs(fitted.log_evidence_ - theirs) < 5 * np.hypot(own, error)


@pytest.mark.parametrize("n_latent", [0, 1, 2])
def test_one_component_is_pca(n_latent):
    fitted = fit(IRIS, 1, n_latent)
    energy = bayesian_pca(IRIS, n_latent)
    start = pca_start(energy)
    with RowRunner(1) as runner:
        run = sample_from_modes(
            energy,
            start,
            np.zeros((1, 1), dtype=bool),
            energy.moments.stand_in(),
            runner,
            np.random.default_rng(1),
            temperature=1.0,
            model_temperature=1.0,
            tilt=0.0,
            plan=anneal_plan(1, 28, 50),
        )
    value, error = combine_evidence(run.log_evidence, run.log_evidence_error)
    own = fitted.sampling_.log_evidence_error
    assert fitted.sampling_.status == "ok"
    assert max(own, error) < 0.05
    assert abs(fitted.log_evidence_ - value) < 5 * np.hypot(own, error)


@pytest.mark.parametrize(("n_components", "n_latent"), [(2, 0), (2, 1), (2, 2), (3, 1), (3, 2)])
def test_seeds_agree_on_iris(n_components, n_latent):
    fits = [fit(IRIS, n_components, n_latent, seed) for seed in range(3)]
    values, errors = evidences(fits)
    assert [fitted.sampling_.status for fitted in fits] == ["ok"] * 3
    assert errors.max() < 0.15
    assert np.ptp(values) < 5 * np.sqrt(2) * errors.max()


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0, "model_temperature": 1.0},
        {"temperature": 2.0, "model_temperature": 1.0},
        {"temperature": 0.5, "model_temperature": 1.0},
        {"tilt": 0.5},
    ],
)
def test_any_temperatures_and_tilt(settings):
    """On few, weighted rows tempering from the prior agrees, if with larger errors."""
    X = small_rows(20)
    weights = np.random.default_rng(0).uniform(0.5, 3.5, len(X))
    fitted = fit(X, 2, 1, sample_weight=weights, **settings)
    assert fitted.sampling_.method == "modes"
    with pytest.MonkeyPatch.context() as patch:
        from_prior = partial(_sampled.run_charted, few_rows=np.inf)
        patch.setattr(_mixture_pca, "run_charted", from_prior)
        patch.setattr(_sampled, "tempered_plan", lambda *_: SMCPlan(4, 1024, n_keep=5))
        other = fit(X, 2, 1, seed=1, sample_weight=weights, **settings)
    assert other.sampling_.method == "smc"
    own, theirs = (f.sampling_.log_evidence_error for f in (fitted, other))
    assert own < 0.2
    assert theirs < 1.0
    assert abs(fitted.log_evidence_ - other.log_evidence_) < 5 * np.hypot(own, theirs)


def least_with_a_vacancy():
    """Bound the log evidence of three components from below by that of two.

    Allocations of all rows to two of three labels: the same marginals, another Dirichlet factor.
    """
    two = fit(IRIS, 2, 2)
    n = len(IRIS)
    return two.log_evidence_ + np.log(3 * 2 / (n + 2)), two.sampling_.log_evidence_error


def test_a_component_may_be_vacant():
    least, error = least_with_a_vacancy()
    fitted = fit(IRIS, 3, 2)
    own = fitted.sampling_.log_evidence_error
    assert fitted.log_evidence_ > least - 5 * np.hypot(error, own)
    assert fitted.log_evidence_ < least + 1
    # most models have a component without rows
    assert np.mean(fitted.models_.weights.min(axis=1) < 0.03) > 0.7


def test_a_region_left_out_shows(monkeypatch):
    """Without starts that have a vacant component, its region is missed by several nats."""
    honest = _mixture_pca.sampling_starts

    def without_vacancies(*arguments):
        models, vacant = honest(*arguments)
        full = ~vacant.any(axis=1)
        return models.take(full), vacant[full]

    monkeypatch.setattr(_mixture_pca, "sampling_starts", without_vacancies)
    least, error = least_with_a_vacancy()
    fitted = fit(IRIS, 3, 2)
    own = fitted.sampling_.log_evidence_error
    assert fitted.log_evidence_ < least - 10 * np.hypot(error, own)


def test_modes_met_once_raise_doubt(monkeypatch):
    honest = _anneal.find_modes

    def lucky(*arguments, **more):
        modes = honest(*arguments, **more)
        return Modes(modes.fits, np.ones(len(modes.once), dtype=bool))

    monkeypatch.setattr(_anneal, "find_modes", lucky)
    with pytest.warns(ConvergenceWarning, match="a single start led to"):
        fitted = fit(IRIS, 2, 1)
    assert fitted.sampling_.status == "suspect"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_tempering_that_missed_a_mode_is_not_believed(monkeypatch):
    """A run from the prior that is sure of too little: what modes alone hold is far above it."""
    X = small_rows(12)
    honest = _sampled.sample_tempered

    def lower(*arguments, **more):
        run = honest(*arguments, **more)
        return replace(run, log_evidence=run.log_evidence - 3)

    monkeypatch.setattr(_sampled, "tempered_plan", lambda *_: SMCPlan(4, 1024, n_keep=5))
    reasons = fit(X, 2, 1, **own_prior(X)).sampling_.reasons
    assert not any("modes alone" in reason for reason in reasons)
    monkeypatch.setattr(_sampled, "sample_tempered", lower)
    with pytest.warns(ConvergenceWarning, match="about the modes alone"):
        fitted = fit(X, 2, 1, **own_prior(X))
    assert fitted.sampling_.method == "smc"
    assert fitted.sampling_.status != "ok"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_more_modes_than_starts_raise_doubt():
    """Cold, few rows: dozens of modes in which single rows have a component of their own."""
    X = small_rows(7)
    exact = enumerated(X, 3, PRIOR, 0.15, 1.6)
    fitted = fit(X, 3, 0, temperature=0.15, **own_prior(X))
    assert abs(fitted.log_evidence_ - exact) < 1
    assert fitted.sampling_.status != "ok"
