"""Mixtures sampled at T = tau: evidence and draws against exact answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _data import GALAXIES, GALAXIES_EVIDENCE
from _instances import COVARIANCE_TYPES
from _mixture_oracles import MixturePrior, enumerated_log_evidence, model_joints
from _oracles import (
    hmax,
)
from _samplers import fit, galaxies, make_prior, small_data
from scipy import stats
from scipy.special import logsumexp

from skbae.estimators._plans import SamplerPlans, gibbs_schedule

TEMPERATURES = (0.5, 1.0, 2.0)


# -- the evidence --------------------------------------------------------------------------------


def _cases():
    """All kinds, at three temperatures; features, components, weights and priors alternate."""
    cases = {}
    for i, kind in enumerate(COVARIANCE_TYPES):
        for j, temperature in enumerate(TEMPERATURES):
            n_features = 1 + (i + j) % 2
            n_components = 2 + (i + 2 * j) % 3 // 2
            settings = {
                "equal_weights": (i + j) % 4 == 3,
                "concentration": (0.5, 1.0, 3.0)[(i + j) % 3],
                "mean_precision": (0.05, 0.5)[(i + j // 2) % 2],
                "degrees_of_freedom": n_features + (0.5, 3.0)[j % 2],
            }
            prior = make_prior(kind, n_components, n_features, **settings)
            n_rows = 12 if n_components == 2 else 10
            name = f"{kind}-T{temperature}-D{n_features}-K{n_components}"
            cases[name] = prior, small_data(n_rows, n_features, i), temperature
    return cases


CASES = _cases()


@pytest.fixture(scope="module")
def enumerated():
    """Fit each case once: name -> (fitted, exact log evidence)."""
    cache = {}

    def get(name):
        if name not in cache:
            prior, X, temperature = CASES[name]
            exact = enumerated_log_evidence(X, prior, temperature)
            cache[name] = fit(prior, X, temperature), exact
        return cache[name]

    return get


@pytest.mark.parametrize("name", CASES)
def test_evidence_equals_enumeration(name, enumerated):
    fitted, exact = enumerated(name)
    _, X, temperature = CASES[name]
    assert fitted.sampling_.status == "ok", fitted.sampling_.reasons
    assert abs(fitted.log_evidence_ - exact) < 0.05
    # the same numbers in the other units
    sampling, scale = fitted.sampling_, temperature / len(X)
    assert fitted.log_evidence_ == sampling.log_evidence
    np.testing.assert_allclose(fitted.hmaxemax_, scale * fitted.log_evidence_, rtol=1e-12)
    np.testing.assert_allclose(fitted.hmaxemax_error_, scale * sampling.log_evidence_error)


def test_error_bars_of_the_evidence_cover(enumerated):
    z = []
    for name in CASES:
        fitted, exact = enumerated(name)
        z.append((fitted.log_evidence_ - exact) / fitted.sampling_.log_evidence_error)
    z = np.array(z)
    assert np.abs(z).max() < 5
    low, high = stats.chi2(len(z)).ppf([1e-6, 1 - 1e-6])
    assert low < (z**2).sum() < high


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_one_component_is_exact(kind, temperature):
    """The conditional given codes is the posterior, and every bridge draw tells the answer."""
    prior, X = make_prior(kind, 1, 2), small_data(11, 2)
    fitted = fit(prior, X, temperature)
    exact = enumerated_log_evidence(X, prior, temperature)
    assert abs(fitted.log_evidence_ - exact) < 1e-8
    assert fitted.sampling_.log_evidence_error < 1e-8
    # the internal energy is the slope of the evidence in the heat
    step = 1e-4
    slope = [enumerated_log_evidence(X, prior, 1 / (1 / temperature + h)) for h in (-step, step)]
    expected = (slope[1] - slope[0]) / (2 * step) / len(X)
    spread = (hmax(model_joints(fitted, X), 1.0).mean(axis=1)).std()
    error = spread / np.sqrt(fitted.sampling_.ess)
    assert abs(fitted.internal_energy_ - expected) < 5 * error + 1e-6


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_integer_weights_are_repeated_rows(temperature):
    """In distribution: both evidences and predictions meet the enumeration of the longer table."""
    prior, X = make_prior("full", 2, 2), small_data(6, 2)
    weights = np.array([1, 3, 2, 0, 1, 4])
    repeated = np.repeat(X, weights, axis=0)
    exact = enumerated_log_evidence(repeated, prior, temperature)
    for fitted in (
        fit(prior, X, temperature, sample_weight=weights),
        fit(prior, repeated, temperature),
    ):
        error = fitted.sampling_.log_evidence_error
        assert abs(fitted.log_evidence_ - exact) < min(5 * error, 0.05)
        np.testing.assert_allclose(
            fitted.hmaxemax_, temperature / weights.sum() * fitted.log_evidence_
        )
        assert fitted.sampling_.status == "ok"


# -- draws ---------------------------------------------------------------------------------------


# every kind at one temperature, and the first at all
PREDICTED = [
    pytest.param(kind, temperature, marks=[] if i == 0 or i % 3 == j else pytest.mark.slow)
    for i, kind in enumerate(COVARIANCE_TYPES)
    for j, temperature in enumerate(TEMPERATURES)
]


@pytest.mark.parametrize(("kind", "temperature"), PREDICTED)
def test_draws_predict_as_the_enumeration_does(kind, temperature):
    """``E_m[exp(Hmax_T(x) / T)]`` over draws is a ratio of evidences with and without the row."""
    prior, X = make_prior(kind, 2, 2, mean_precision=0.3), small_data(9, 2)
    fitted = fit(prior, X, temperature, n_models=1000)
    base = enumerated_log_evidence(X, prior, temperature)
    new = np.array(
        [[0.3, 0.2], [2.2, 2.5], [1.2, 1.0]]
    )  # tails are for the few draws that reach them
    values = np.exp(hmax(model_joints(fitted, new), temperature) / temperature)  # (S, 3)
    for row, value in zip(new, values.T, strict=True):
        exact = np.exp(enumerated_log_evidence(np.vstack([X, row]), prior, temperature) - base)
        error = value.std() / np.sqrt(len(value))
        assert error < 0.1 * exact
        assert abs(value.mean() - exact) < 5 * error


def expected_counts(joint):
    """Return how many rows each component is expected to have, given joints (S, N, K)."""
    return np.exp(joint - logsumexp(joint, axis=2, keepdims=True)).sum(axis=1)


def test_superfluous_components_are_drawn_from_their_prior():
    """Rows near the prior's mean sit in one component; the other one follows its prior.

    That is, its prior where it has less than a thousandth of a row: there rows do not count.
    """
    rng = np.random.default_rng(0)
    X = 10 + 0.01 * rng.normal(size=(40, 1))
    prior = MixturePrior("full", 2, [10.0], [[1e-4]], 0.1, 0.01, 3.0)
    fitted = fit(prior, X, n_models=600)
    joint = model_joints(fitted, X)
    counts = expected_counts(joint)
    sure = np.flatnonzero(counts.min(axis=1) < 1e-3)
    assert len(sure) > 100
    empty = counts[sure].argmin(axis=1)
    models = fitted.models_
    means, variances = models.means[sure, empty, 0], models.covariances[sure, empty, 0, 0]
    # models with components from the prior in place of the empty ones
    many = np.repeat(np.arange(len(sure)), 20)
    precision = rng.gamma(1.5, 2 / 1e-4, size=len(many))
    drawn = 10 + rng.standard_normal(len(many)) / np.sqrt(0.01 * precision)
    replaced, weights = joint[sure][many], models.weights[sure, empty][many]
    gaps = X[:, 0] - drawn[:, None]
    density = 0.5 * np.log(precision / (2 * np.pi))[:, None] - 0.5 * precision[:, None] * gaps**2
    replaced[np.arange(len(many)), :, empty[many]] = np.log(weights)[:, None] + density
    kept = expected_counts(replaced)[np.arange(len(many)), empty[many]] < 1e-3
    for values, expected in (
        ((means - 10) / np.sqrt(variances), (drawn - 10) * np.sqrt(precision)),
        (1 / variances, precision),
    ):
        assert stats.ks_2samp(values, expected[kept]).pvalue > 1e-4


def check_galaxies(fitted, n_components):
    reference, its_error = GALAXIES_EVIDENCE[n_components]
    difference = abs(fitted.log_evidence_ - reference)
    assert fitted.sampling_.status == "ok", fitted.sampling_.reasons
    assert difference < (0.05 if n_components <= 4 else 0.1)
    error = np.hypot(fitted.sampling_.log_evidence_error, its_error)
    assert difference < 5 * error + 1e-4  # the exact value is given to four decimals


@pytest.mark.parametrize("n_components", [1, 2, 4, 8])
def test_galaxies(n_components):
    check_galaxies(galaxies(n_components), n_components)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_components", GALAXIES_EVIDENCE)
def test_galaxies_with_other_seeds(n_components, seed):
    check_galaxies(galaxies(n_components, seed), n_components)


@pytest.mark.slow
@pytest.mark.parametrize("n_components", [2, 3, 5])
@pytest.mark.parametrize(
    "changes",
    [
        {"mean_precision_prior": 0.01},
        {"mean_precision_prior": 1.0},
        {"degrees_of_freedom_prior": 10.0},
        {"covariance_prior": [[0.05 * GALAXIES.var()]]},
        {"weight_concentration_prior": 0.1},
        {"weight_concentration_prior": 5.0},
        {"equal_weights": True},
        {"covariance_type": "tied"},
    ],
    ids=lambda changes: "-".join(f"{k}" for k in changes),
)
def test_error_bars_of_galaxies_under_other_priors(changes, n_components):
    """Against a run ten times longer."""

    def longer(n_rows, n_models):
        n_chains, plan = gibbs_schedule(n_rows, n_models)
        return n_chains, replace(plan, n_sweeps=10 * plan.n_sweeps, n_burn=10 * plan.n_burn)

    short = [galaxies(n_components, seed, **changes).sampling_ for seed in range(3)]
    long = galaxies(n_components, 100, SamplerPlans(gibbs=longer), **changes).sampling_
    assert long.status == "ok", long.reasons
    for each in short:
        error = np.hypot(each.log_evidence_error, long.log_evidence_error)
        assert abs(each.log_evidence - long.log_evidence) < 5 * error
        assert each.status == "ok", each.reasons
