"""Evidences of mixtures of neighbouring sizes against empty components (Nobile's identity)."""

from __future__ import annotations

import pickle
from functools import cache
from itertools import product

import numpy as np
import pytest
from _altered import QuickGMM
from _instances import COVARIANCE_TYPES
from _missing_oracles import with_gaps
from _mixture_oracles import MixturePrior, enumerated_log_evidence
from _samplers import make_prior, small_data
from scipy.special import gammaln, logsumexp
from scipy.stats import binom, chi2
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skbae import BayesianGMMAutoEncoder, BayesianPCAAutoEncoder
from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture
from skbae.inference.evidence._empty_components import (
    chernoff_limits,
    empty_chance,
    log_chance_of_no_rows,
    log_empty_ratio,
)
from skbae.model_selection import check_evidences

# -- the identity ----------------------------------------------------------------------------------


def enumerated_log_chance(X, prior, temperature):
    """Return log P(no row in the last component | X), over all allocations."""
    n_rows, size = X.shape
    mixture = conjugate_gaussian_mixture(
        prior.n_components,
        size,
        prior.kind,
        prior.equal_weights,
        0.0,
        concentration=prior.concentration,
        mean_precision=prior.mean_precision,
        mean=np.asarray(prior.mean),
        degrees_of_freedom=prior.degrees_of_freedom,
        covariance=np.asarray(prior.covariance),
        centre=np.zeros(size),
    ).collapse(X, temperature)
    labels = np.array(list(product(range(prior.n_components), repeat=n_rows)))
    log_joint = mixture.log_joint(labels)
    without = (labels != prior.n_components - 1).all(axis=1)
    return float(logsumexp(log_joint[without]) - logsumexp(log_joint))


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_chance_of_an_empty_component_is_a_ratio_of_enumerated_evidences(kind, equal, temperature):
    X = small_data(6, 2)
    larger = make_prior(kind, 3, 2, equal_weights=equal)
    smaller = make_prior(kind, 2, 2, equal_weights=equal)
    expected = enumerated_log_evidence(X, smaller, temperature)
    expected -= enumerated_log_evidence(X, larger, temperature)
    concentration = None if equal else larger.concentration
    ratio = log_empty_ratio(3, len(X) / temperature, concentration)
    found = enumerated_log_chance(X, larger, temperature) - ratio
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_empty_ratio_is_that_of_counts_drawn_from_the_prior(alpha):
    """The chance that none of n draws is of the last of K categories, a product over draws."""
    n, k = 7, 4
    remaining = (k - 1) * alpha + np.arange(n)
    expected = np.log(remaining / (k * alpha + np.arange(n))).sum()
    np.testing.assert_allclose(log_empty_ratio(k, n, alpha), expected, rtol=1e-12)


def test_chance_of_no_rows_given_models_sums_over_their_codes():
    rng = np.random.default_rng(0)
    log_f, weights = rng.normal(size=(2, 3, 4)), np.array([1.0, 2.0, 1.0, 3.0])
    shares = np.exp(log_f - logsumexp(log_f, axis=1, keepdims=True))
    for w in (None, weights):
        repeated = np.repeat(shares, np.ones(4, int) if w is None else w.astype(int), axis=2)
        expected = np.zeros((2, 3))
        for labels in product(range(3), repeat=repeated.shape[2]):
            chance = np.prod([repeated[:, k, i] for i, k in enumerate(labels)], axis=0)
            for k in set(range(3)) - set(labels):
                expected[:, k] += chance
        found = log_chance_of_no_rows(log_f.copy(), w)
        np.testing.assert_allclose(found, np.log(expected), rtol=1e-10)


def test_chance_of_no_rows_is_exact_where_a_component_has_nearly_all():
    log_f = np.array([[[0.0, 0.0], [-60.0, -700.0]]])  # shares beyond 1 - 1e-16
    np.testing.assert_allclose(log_chance_of_no_rows(log_f)[0, 0], -760.0, rtol=1e-12)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.002, 0.05, 0.3, 0.7])
@pytest.mark.parametrize("n", [20, 50, 400])
def test_limits_hold_for_draws_of_zeros_and_ones(q, n):
    """Of all distributions in [0, 1], that of zeros and ones spreads most."""
    missed = 0.01
    counts = np.arange(n + 1)
    with np.errstate(divide="ignore"):
        limits = np.array([chernoff_limits(np.log(each / n), n, missed) for each in counts])
    low, high = np.exp(limits).T
    chance = binom.pmf(counts, n, q)
    assert chance[high < q].sum() <= missed
    assert chance[low > q].sum() <= missed
    assert np.all(low <= counts / n)
    assert np.all(high >= counts / n)


def test_limits_are_not_needlessly_wide():
    """They tend to the normal distribution's when there are many draws."""
    n, mean, missed = 100_000, 0.3, 1e-4
    low, high = np.exp(chernoff_limits(np.log(mean), n, missed))
    width = np.sqrt(2 * -np.log(missed) * mean * (1 - mean) / n)
    np.testing.assert_allclose([mean - low, high - mean], width, rtol=0.02)


def test_a_rare_component_has_limits_that_cover_it_and_a_large_error():
    """One of fifty draws has all of the average, as when clusters are far apart."""
    log_chances = np.full((50, 3), -800.0)
    log_chances[7, 1] = -5.0
    chance = empty_chance(log_chances, 1000.0)
    np.testing.assert_allclose(chance.log_mean, -5.0 - np.log(150), rtol=1e-12)
    np.testing.assert_allclose(chance.n_empty, 50 * np.exp(chance.log_mean), rtol=1e-12)
    np.testing.assert_allclose(chance.error, 1.0, rtol=1e-6)
    assert chance.log_limits[0] < -600
    assert np.log(0.16) < chance.log_limits[1] < np.log(0.18)


def test_correlated_draws_count_for_fewer():
    log_chances = np.log(np.random.default_rng(0).random((200, 2)) / 2)
    full, half = (empty_chance(log_chances, n) for n in (1e6, 50.0))
    np.testing.assert_allclose(half.error, 2 * full.error)
    np.testing.assert_allclose(half.n_empty, full.n_empty / 4)
    assert half.log_limits[0] < full.log_limits[0] < full.log_limits[1] < half.log_limits[1]


# -- fitted estimators -----------------------------------------------------------------------------


@cache
def tiny_fits(kind="full", equal=False, temperature=1.0, spread=0.3, first_seed=0, sizes=(1, 2, 3)):
    """Return eight rows, fits of each size, and their exact log evidences."""
    X = spread * small_data(8, 1 if kind == "diag" else 2)
    priors = [make_prior(kind, k, X.shape[1], equal_weights=equal) for k in sizes]
    fits = [
        BayesianGMMAutoEncoder(
            **prior.parameters, temperature=temperature, n_models=400, random_state=seed
        ).fit(X)
        for seed, prior in enumerate(priors, first_seed)
    ]
    return X, fits, [enumerated_log_evidence(X, prior, temperature) for prior in priors]


def altered(fitted, nats):
    """Return a copy whose log evidence is off by so many nats."""
    copy = pickle.loads(pickle.dumps(fitted))
    copy.log_evidence_ += nats
    return copy


@pytest.mark.parametrize(
    "problem",
    [
        ("full", False, 1.0),
        ("tied", True, 2.0),
        ("diag", False, 0.5),
        ("spherical", False, 1.0, 0.1),
    ],
    ids=lambda problem: problem[0],
)
def test_expected_differences_are_those_of_enumeration(problem):
    X, fits, exact = tiny_fits(*problem)
    checked = check_evidences(fits[::-1], X)  # in any order
    assert [pair.n_components for pair in checked.pairs] == [(1, 2), (2, 3)]
    for pair, difference in zip(checked.pairs, -np.diff(exact), strict=True):
        assert pair.limits[0] < difference < pair.limits[1]
        assert pair.informative, pair
        assert pair.expected_error < 0.2
        assert abs(pair.expected - difference) < 5 * pair.expected_error
    assert checked.consistent
    assert checked.contradictions == ()


def test_small_standard_errors_are_not_believed_where_empty_components_are_too_rare():
    """No draw has an empty component: the average is of those that nearly have one.

    In fifteen problems, since in five the errors seem right for one stream of numbers in six.
    """
    ratios = []
    for spread, seed in product((0.4, 0.45, 0.5, 0.55, 0.6), (0, 100, 200)):
        X, fits, exact = tiny_fits("spherical", True, 1.0, spread, seed, sizes=(1, 2))
        pair, difference = check_evidences(fits, X).pairs[0], exact[0] - exact[1]
        assert pair.expected_error < 1.0
        ratios.append((pair.expected - difference) / pair.expected_error)
        assert pair.verdict == "not informative"
        assert pair.limits[0] < difference < pair.limits[1]
    # of errors that can be believed, the sum of squares is above this in one of 10^5 cases
    assert np.sum(np.square(ratios)) > chi2(len(ratios)).isf(1e-5)


def test_evidences_of_known_entries_are_checked():
    """Rows with gaps: the chance of an empty component is that given the known entries."""
    X = with_gaps(0.3 * small_data(12, 2), 0.2)
    prior = {"covariance_prior": np.eye(2), "mean_prior": np.zeros(2), "mean_precision_prior": 0.5}
    fits = [BayesianGMMAutoEncoder(k, **prior, n_models=400, random_state=0).fit(X) for k in (1, 2)]
    (pair,) = check_evidences(fits, X).pairs
    assert pair.informative
    assert pair.verdict == "consistent"
    assert pair.expected_error < 0.2
    assert check_evidences([fits[0], altered(fits[1], 1.5)], X).contradictions == ((1, 2),)


@pytest.mark.parametrize("nats", [-0.6, 0.6])
def test_an_altered_evidence_contradicts_its_neighbours(nats):
    X, fits, _ = tiny_fits()
    one, two, three = fits
    assert check_evidences([one, altered(two, nats), three], X).contradictions == ((1, 2), (2, 3))
    assert check_evidences([one, two, altered(three, nats)], X).contradictions == ((2, 3),)
    shown = str(check_evidences([one, altered(two, nats), three], X))
    assert shown.count("contradiction") == 2


@cache
def far_fits():
    """Return rows in two clusters far apart, of which no draw has an empty component."""
    X = np.concatenate([small_data(15, 1), 40 + small_data(15, 1)])
    fits = [
        BayesianGMMAutoEncoder(k, covariance_prior=[[1.0]], random_state=k).fit(X) for k in (1, 2)
    ]
    return X, fits


def test_a_component_that_is_never_empty_is_not_informative_but_limits_the_evidence():
    X, (one, two) = far_fits()
    pair = check_evidences([one, two], X).pairs[0]
    assert pair.verdict == "not informative"
    assert pair.consistent
    assert pair.reported < -50
    assert pair.expected < -50
    # the smaller mixture's evidence cannot be much above the larger one's, draws or not
    assert 0 < pair.limits[1] < np.log(0.5) + gammaln(2) - gammaln(31) - gammaln(1) + gammaln(32)
    too_low = check_evidences([one, altered(two, pair.reported - pair.limits[1] - 0.5)], X)
    assert too_low.contradictions == ((1, 2),)
    assert not check_evidences([altered(one, 500.0), two], X).consistent


def test_an_evidence_far_too_high_contradicts_draws_that_have_empty_components():
    X, (one, two, _), _ = tiny_fits()
    pair = check_evidences([one, altered(two, 50.0)], X).pairs[0]
    assert pair.reported < pair.limits[0]


def test_iris_is_consistent():
    X = load_iris().data
    prior = {"covariance_prior": np.cov(X.T) / 2, "n_models": 200}
    fits = [BayesianGMMAutoEncoder(k, **prior, random_state=k).fit(X) for k in (2, 3, 4)]
    checked = check_evidences(fits, X)
    assert checked.consistent, str(checked)
    assert checked.pairs[1].informative
    three = altered(fits[1], 2.0)
    assert (3, 4) in check_evidences([fits[0], three, fits[2]], X).contradictions


def test_weights_are_repeated_rows():
    rows, weights = small_data(5, 1) / 2, np.array([2.0, 1.0, 0.0, 3.0, 1.0])
    prior = {"covariance_prior": [[1.0]], "mean_prior": [0.0], "n_models": 300}
    repeated = np.repeat(rows, weights.astype(int), axis=0)
    weighted_fits, plain_fits = (
        [BayesianGMMAutoEncoder(k, **prior, random_state=k).fit(X, sample_weight=w) for k in (1, 2)]
        for X, w in ((rows, weights), (repeated, None))
    )
    weighted = check_evidences(weighted_fits, rows, sample_weight=weights).pairs[0]
    plain = check_evidences(plain_fits, repeated).pairs[0]
    assert weighted.verdict == plain.verdict == "consistent"
    error = np.hypot(weighted.expected_error, plain.expected_error)
    assert abs(weighted.expected - plain.expected) < 5 * error
    for wrong in (None, 2 * weights, weights[::-1]):
        with pytest.raises(ValueError, match="needs the training rows of all fits"):
            check_evidences(weighted_fits, rows, sample_weight=wrong)


def test_pipelines_are_unwrapped():
    X = 100 * small_data(8, 1)
    prior = {"covariance_prior": [[0.5]], "mean_prior": [0.0]}
    pipelines = [
        make_pipeline(StandardScaler(), BayesianGMMAutoEncoder(k, **prior, random_state=0)).fit(X)
        for k in (1, 2)
    ]
    inner = [pipeline[-1] for pipeline in pipelines]
    Z = StandardScaler().fit_transform(X)
    assert check_evidences(pipelines, X) == check_evidences(inner, Z)
    other = make_pipeline(MinMaxScaler(), BayesianGMMAutoEncoder(2, **prior, random_state=0)).fit(X)
    with pytest.raises(ValueError, match="needs the training rows of all fits"):
        check_evidences([pipelines[0], other], X)


# -- simulation ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("source", [1, 2])
def test_the_mean_ratio_of_evidences_is_one_for_data_of_the_denominators_prior(source):
    """Good's check: the mean of p(X) / q(X) over data X drawn from q is one.

    The priors are close enough for all data of one to be possible under the other: otherwise the
    mean is one only thanks to data that is never drawn.
    """
    rng = np.random.default_rng(source)
    n_rows, size, n_sets = 20, 2, 250
    priors = {
        k: MixturePrior(
            "full", k, np.zeros(size), 6 * np.eye(size), mean_precision=1.0, degrees_of_freedom=6.0
        )
        for k in (1, 2)
    }
    ratios = []
    for seed in range(n_sets):
        weights, means, covariances = priors[source].draw(rng)
        labels = rng.choice(source, size=n_rows, p=weights)
        X = np.stack([rng.multivariate_normal(means[k], covariances[k]) for k in labels])
        log_evidence = {
            k: BayesianGMMAutoEncoder(**prior.parameters, random_state=seed).fit(X).log_evidence_
            for k, prior in priors.items()
        }
        ratios.append(np.exp(log_evidence[3 - source] - log_evidence[source]))
    error = np.std(ratios, ddof=1) / np.sqrt(n_sets)
    assert error < 0.1
    assert abs(np.mean(ratios) - 1) < 4 * error


# -- refusals --------------------------------------------------------------------------------------


def fit_some(n_components, X, **settings):
    settings = {"covariance_prior": [[1.0]], "random_state": 0, **settings}
    return QuickGMM(n_components, **settings).fit(X)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"model_temperature": 0}, r"\(n_components=2\) was fitted with model_temperature=0"),
        ({"model_temperature": 2.0}, "model_temperature equal to temperature"),
        ({"evidence_tol": None}, "a number for evidence_tol"),
        ({"temperature": 2.0}, "at one temperature, got 1 and 2"),
        ({"equal_weights": True}, "equal_weights=False and True"),
        ({"covariance_type": "diag", "covariance_prior": [1.0]}, "covariance_type='full' and"),
        ({"mean_precision_prior": 0.1}, "mean_precision_prior of .* differ$"),
        ({"covariance_prior": [[2.0]]}, "covariance_prior of .* differ$"),
        ({"covariance_prior": None}, "covariance_prior of .* differ$"),
    ],
)
def test_fits_that_differ_in_more_than_components_raise(settings, complaint):
    X = small_data(8, 1)
    with pytest.raises(ValueError, match=complaint):
        check_evidences([fit_some(1, X), fit_some(2, X, **settings)], X)


def test_wrong_lists_of_estimators_raise():
    X = small_data(8, 1)
    two = fit_some(2, X)
    with pytest.raises(ValueError, match="at least two fitted estimators, got 1"):
        check_evidences([two], X)
    with pytest.raises(ValueError, match=r"follow on each other, each once, got \[2, 2\]"):
        check_evidences([two, two], X)
    with pytest.raises(NotFittedError, match="not fitted"):
        check_evidences([BayesianGMMAutoEncoder(1), two], X)
    with pytest.raises(TypeError, match=r"mixtures of Gaussians .* got BayesianPCAAutoEncoder"):
        check_evidences([BayesianPCAAutoEncoder(1), two], X)
    with pytest.raises(TypeError, match="check_evidences needs an estimator of skbae"):
        check_evidences([StandardScaler(), two], X)


def test_wrong_rows_and_changed_parameters_raise():
    X, fits, _ = tiny_fits()
    for wrong in (X + 1.0, X[:-1], np.vstack([X, X])):
        with pytest.raises(ValueError, match="needs the training rows of all fits"):
            check_evidences(fits, wrong)
    with pytest.raises(ValueError, match="whole numbers as sample_weight"):
        check_evidences(fits, X, sample_weight=np.linspace(0.5, 1.5, len(X)))
    changed = altered(fits[1], 0.0).set_params(covariance_type="diag", covariance_prior=None)
    with pytest.raises(ValueError, match="have changed since it was fitted"):
        check_evidences([fits[0], changed], X)
