"""Mixtures sampled at T = tau: evidence, draws and predictions against exact answers."""

from __future__ import annotations

import copy
import threading
import warnings
from dataclasses import replace
from itertools import permutations

import joblib
import numpy as np
import pytest
import sklearn
from _data import GALAXIES, GALAXIES_EVIDENCE, GALAXIES_PRIOR
from _instances import COVARIANCE_TYPES
from _mixture_oracles import MixturePrior, enumerated_log_evidence, model_joints
from _oracles import (
    codes,
    finite_differences,
    fitted_covariances,
    gaussian_mixture_joint,
    hmax,
    joint_energies,
)
from _oracles import enumerated_log_evidence as second_enumeration
from scipy import stats
from scipy.linalg import expm
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianGMMAutoEncoder
from skbae.estimators import _gmm, _sampled
from skbae.inference import _gibbs
from skbae.inference._gibbs import GibbsPlan

TEMPERATURES = (0.5, 1.0, 2.0)


def make_prior(kind, n_components, n_features, **settings):
    """Return a prior that is no default, centred off the data."""
    shape = kind.removeprefix("tied_").replace("tied", "full")
    full = np.array([[1.5, 0.4], [0.4, 0.7]])[:n_features, :n_features]
    covariance = {"full": full, "diag": np.diag(full), "spherical": 0.9}[shape]
    settings = {
        "concentration": 1.7,
        "mean_precision": 0.15,
        "degrees_of_freedom": 3.3,
        **settings,
    }
    mean = np.array([0.4, -0.3])[:n_features]
    return MixturePrior(kind, n_components, mean, covariance, **settings)


def small_data(n_rows, n_features, seed=0):
    """Return two loose groups."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_rows, n_features)) + 2.5 * (np.arange(n_rows) % 2)[:, None]


def fit(prior, X, temperature=1.0, sample_weight=None, **settings):
    settings = {"random_state": 0, "temperature": temperature, **settings}
    model = BayesianGMMAutoEncoder(**prior.parameters, **settings)
    return model.fit(X, sample_weight=sample_weight)


# -- the oracle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_enumeration_agrees_with_quadrature(kind, temperature):
    """One component, one feature: the likelihood to the power 1/T on a grid of (mu, log Lambda)."""
    prior, X = make_prior(kind, 1, 1, degrees_of_freedom=4.1), small_data(4, 1)
    mean, log_precision = np.meshgrid(np.linspace(-30, 30, 6001), np.linspace(-9, 5, 701))
    precision, sd = np.exp(log_precision), np.exp(-0.5 * log_precision)
    rate = np.ravel(prior.covariance)[0] / 2
    total = stats.gamma(prior.degrees_of_freedom / 2, scale=1 / rate).logpdf(precision)
    total += log_precision  # the Jacobian of log Lambda
    total += stats.norm(prior.mean[0], sd / np.sqrt(prior.mean_precision)).logpdf(mean)
    for x in X[:, 0]:
        total += stats.norm(mean, sd).logpdf(x) / temperature
    value = logsumexp(total) + np.log(0.01 * 0.02)
    np.testing.assert_allclose(enumerated_log_evidence(X, prior, temperature), value, atol=1e-3)


@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_the_enumeration_agrees_with_predicting_row_after_row(n_features):
    """Full covariances at T = 1: each row is a multivariate t given those before it."""
    X = np.random.default_rng(1).normal(size=(6, n_features))
    mean, dof, strength = np.full(n_features, 0.3), n_features + 1.4, 0.4
    scale = 0.5 * np.eye(n_features) + 0.2
    prior = MixturePrior("full", 1, mean, scale, mean_precision=strength, degrees_of_freedom=dof)
    total = 0.0
    for row, n in zip(X, range(len(X)), strict=True):
        free = dof + n - n_features + 1
        weight = strength + n
        spread = scale * (weight + 1) / (weight * free)
        total += stats.multivariate_t(mean, spread, df=free).logpdf(row)
        scale = scale + weight / (weight + 1) * np.outer(row - mean, row - mean)
        mean = (weight * mean + row) / (weight + 1)
    np.testing.assert_allclose(enumerated_log_evidence(X, prior), total, rtol=1e-12)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("equal", [False, True])
def test_two_enumerations_agree(kind, equal):
    prior = make_prior(kind, 3, 2, equal_weights=equal)
    X = small_data(7, 2)
    other = second_enumeration(
        X,
        3,
        kind,
        concentration=prior.concentration,
        strength=prior.mean_precision,
        location=prior.mean,
        dof=prior.degrees_of_freedom,
        scale=prior.covariance,
        temperature=2.0,
        equal_weights=equal,
    )
    np.testing.assert_allclose(enumerated_log_evidence(X, prior, 2.0), other, rtol=1e-12)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_enumeration_agrees_with_an_average_over_the_prior(kind):
    """Two components, tied or not, and their weights: the mean likelihood of prior draws."""
    prior, X = make_prior(kind, 2, 2, mean_precision=0.8), small_data(3, 2) / 2
    rng = np.random.default_rng(0)
    values = []
    for _ in range(4000):
        weights, means, covariances = prior.draw(rng)
        joint = np.stack(
            [
                np.log(w) + stats.multivariate_normal(m, c).logpdf(X)
                for w, m, c in zip(weights, means, covariances, strict=True)
            ]
        )
        values.append(logsumexp(joint, axis=0).sum())
    likelihood = np.exp(values)
    error = likelihood.std() / np.sqrt(len(values))
    assert error < 0.1 * likelihood.mean()
    assert abs(likelihood.mean() - np.exp(enumerated_log_evidence(X, prior))) < 5 * error


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


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
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


def test_superfluous_components_are_drawn_from_their_prior():
    """Rows far from the prior's mean sit in one component; the other follows its prior."""
    rng = np.random.default_rng(0)
    X = 10 + 0.01 * rng.normal(size=(40, 1))
    prior = MixturePrior("full", 2, [10.0], [[1e-4]], 0.1, 0.01, 3.0)
    fitted = fit(prior, X, n_models=600)
    models = fitted.models_
    joint = model_joints(fitted, X)
    counts = np.exp(joint - logsumexp(joint, axis=2, keepdims=True)).sum(axis=1)
    empty = counts.argmin(axis=1)
    sure = counts.min(axis=1) < 1e-3
    assert sure.sum() > 100
    index = np.flatnonzero(sure), empty[sure]
    precision = 1 / models.covariances[index].ravel()
    z = (models.means[index].ravel() - 10) * np.sqrt(0.01 * precision)
    # given that no row is near: a broad, far component hardly notices the condition
    assert stats.kstest(z, "norm").pvalue > 1e-4


# -- galaxies ------------------------------------------------------------------------------------


def galaxies(n_components, seed=0, **settings):
    settings = {**GALAXIES_PRIOR, **settings}
    return BayesianGMMAutoEncoder(n_components, random_state=seed, **settings).fit(GALAXIES)


def check_galaxies(fitted, n_components):
    reference, its_error = GALAXIES_EVIDENCE[n_components]
    difference = abs(fitted.log_evidence_ - reference)
    assert fitted.sampling_.status == "ok", fitted.sampling_.reasons
    assert difference < (0.05 if n_components <= 4 else 0.1)
    error = np.hypot(fitted.sampling_.log_evidence_error, its_error)
    assert difference < 5 * error + 1e-4  # the exact value is given to four decimals


@pytest.mark.parametrize("n_components", GALAXIES_EVIDENCE)
def test_galaxies(n_components):
    check_galaxies(galaxies(n_components), n_components)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
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
def test_error_bars_of_galaxies_under_other_priors(changes, n_components, monkeypatch):
    """Against a run ten times longer."""
    short = [galaxies(n_components, seed, **changes).sampling_ for seed in range(3)]
    usual = _sampled.gibbs_schedule

    def longer(n_rows, n_models):
        n_chains, plan = usual(n_rows, n_models)
        return n_chains, replace(plan, n_sweeps=10 * plan.n_sweeps, n_burn=10 * plan.n_burn)

    monkeypatch.setattr(_sampled, "gibbs_schedule", longer)
    long = galaxies(n_components, 100, **changes).sampling_
    assert long.status == "ok", long.reasons
    for each in short:
        error = np.hypot(each.log_evidence_error, long.log_evidence_error)
        assert abs(each.log_evidence - long.log_evidence) < 5 * error
        assert each.status == "ok", each.reasons


# -- predictions ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[(1.0, "full"), (2.0, "tied"), (0.5, "diag")], ids=str)
def sampled(request):
    temperature, kind = request.param
    X = small_data(40, 2)
    settings = {"covariance_type": kind, "random_state": 0, "n_models": 20}
    return BayesianGMMAutoEncoder(3, temperature=temperature, **settings).fit(X), X


def test_predictions_are_averages_over_models(sampled):
    fitted, X = sampled
    T, rows = fitted.temperature, X + 0.3
    joint = model_joints(fitted, rows)  # (S, N, K)
    assert len(joint) == 20
    mean = logsumexp(joint, axis=0) - np.log(len(joint))
    expected = np.exp(mean / T - logsumexp(mean / T, axis=1, keepdims=True))
    np.testing.assert_allclose(fitted.predict_proba(rows), expected, atol=1e-9)
    np.testing.assert_allclose(fitted.transform(rows), expected, atol=1e-9)
    np.testing.assert_allclose(fitted.encode(rows).mean, expected, atol=1e-9)
    np.testing.assert_array_equal(fitted.predict(rows), mean.argmax(axis=1))
    scores = logsumexp(hmax(joint, T), axis=0) - np.log(len(joint))
    np.testing.assert_allclose(fitted.score_samples(rows), scores, atol=1e-9)
    np.testing.assert_allclose(fitted.score(rows), scores.mean(), atol=1e-9)
    average_of_logits = np.exp(joint.mean(axis=0) / T)
    average_of_logits /= average_of_logits.sum(axis=1, keepdims=True)
    assert np.abs(average_of_logits - expected).max() > 1e-3, "else nothing was tested"
    gradient = finite_differences(fitted.score_samples, rows)
    np.testing.assert_allclose(fitted.score_gradient(rows), gradient, atol=1e-5)


def test_scores_at_temperature_one_are_a_density():
    """The posterior predictive integrates to one."""
    fitted = fit(make_prior("full", 2, 1), small_data(12, 1), n_models=20)
    grid = np.linspace(-400, 400, 400_001)[:, None]
    total = np.exp(fitted.score_samples(grid)).sum() * (grid[1, 0] - grid[0, 0])
    assert abs(total - 1) < 1e-3


def test_predictions_do_not_depend_on_label_order(sampled):
    """Exchange labels in all models alike: columns of codes move along, densities stay."""
    fitted, X = sampled
    order = np.array([2, 0, 1])
    moved = copy.copy(fitted)
    models = fitted.models_
    changes = {"weights": models.weights[:, order], "means": models.means[:, order]}
    if not fitted.covariance_type.startswith("tied"):
        changes["covariances"] = models.covariances[:, order]
        changes["precisions_cholesky"] = models.precisions_cholesky[:, order]
    moved.models_ = replace(models, **changes)
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(moved.predict_proba(X), proba[:, order], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(moved.score_samples(X), fitted.score_samples(X), rtol=1e-9)


def test_scores_do_not_depend_on_each_models_labels(sampled):
    fitted, X = sampled
    moved, models, rng = copy.copy(fitted), fitted.models_, np.random.default_rng(0)
    order = np.argsort(rng.random(models.weights.shape), axis=1)
    at = np.arange(len(order))[:, None], order
    changes = {"weights": models.weights[at], "means": models.means[at]}
    if not fitted.covariance_type.startswith("tied"):
        changes["covariances"] = models.covariances[at]
        changes["precisions_cholesky"] = models.precisions_cholesky[at]
    moved.models_ = replace(models, **changes)
    np.testing.assert_allclose(moved.score_samples(X), fitted.score_samples(X), rtol=1e-9)


def test_labels_are_matched_to_the_reference(sampled):
    """No other order of a model's labels agrees better with the reference's codes."""
    fitted, X = sampled
    T = fitted.temperature
    reference = codes(gaussian_mixture_joint(fitted, X), T)
    for joint in model_joints(fitted, X):
        theirs = codes(joint, T)
        agreement = [(reference * theirs[:, list(order)]).sum() for order in permutations(range(3))]
        assert agreement[0] >= max(agreement) - 1e-9


def test_the_reference_is_a_mode(sampled):
    """``log prior + (N / T) Hmaxe`` has no gradient there in (log w, mu, log Lambda)."""
    fitted, X = sampled
    D, K, T = 2, 3, fitted.temperature
    kind = fitted.covariance_type
    tied = kind.startswith("tied")
    base = np.cov(X.T, bias=True) / K ** (2 / D)
    dof, strength, mean = D + 2.0, 0.01, X.mean(axis=0)
    if kind == "diag":
        base = np.diag(np.diag(base))
    dense = fitted_covariances(fitted)
    roots = [np.linalg.cholesky(np.linalg.inv(c)) for c in dense]

    def log_target(theta):
        logits, means = theta[:K], theta[K : K + K * D].reshape(K, D)
        symmetric = theta[K + K * D :].reshape(-1, D, D)
        log_w = logits - logsumexp(logits)
        total, precisions = log_w.sum(), []  # Dirichlet(1) in the coordinates log w
        for k in range(K):
            # Lambda = L exp(s) L', whose invariant measure is d s at s = 0
            s = symmetric[0 if tied else k]
            precisions.append(roots[k] @ expm(s) @ roots[k].T)
        for k in range(K):
            total += stats.multivariate_normal.logpdf(
                means[k], mean, np.linalg.inv(precisions[k]) / strength
            )
        for precision in precisions[:1] if tied else precisions:
            # Wishart, or gammas of the diagonal, with respect to the invariant measure
            total += 0.5 * dof * np.linalg.slogdet(precision)[1] - 0.5 * np.sum(base * precision)
        joint = joint_energies(X, np.exp(log_w), means, [np.linalg.inv(p) for p in precisions])
        return total + hmax(joint, T).sum() / T

    n_covariances = 1 if tied else K
    at = np.r_[np.log(fitted.weights_), fitted.means_.ravel(), np.zeros(n_covariances * D * D)]
    rng = np.random.default_rng(0)
    best = log_target(at)
    np.testing.assert_allclose(fitted.hmaxe_, hmax(gaussian_mixture_joint(fitted, X), T).mean())
    for _ in range(60):
        direction = rng.normal(size=len(at))
        shapes = direction[K + K * D :].reshape(-1, D, D)
        shapes[...] = shapes + np.swapaxes(shapes, 1, 2)
        if kind == "diag":
            shapes *= np.eye(D)
        direction /= np.linalg.norm(direction)
        up, down = (log_target(at + h * direction) for h in (1e-3, -1e-3))
        slope, curvature = (up - down) / 2e-3, (up + down - 2 * best) / 1e-6
        assert curvature < 0
        # a Newton step along the direction would gain next to nothing
        assert slope**2 / (2 * abs(curvature)) < 1e-3


def test_sampling_draws_from_all_models():
    """Rows sampled have the mean and the spread of the mixture over models and components."""
    fitted = fit(make_prior("full", 2, 1), small_data(12, 1), n_models=20)
    drawn = fitted.sample(20_000, random_state=0)[0][:, 0]
    models = fitted.models_
    sd = np.sqrt(models.covariances[..., 0, 0])

    def cdf(x):
        parts = models.weights[..., None] * stats.norm.cdf(x, models.means, sd[..., None])
        return parts.sum(axis=1).mean(axis=0)

    assert stats.kstest(drawn, cdf).pvalue > 1e-6


# -- the course of a fit -------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_result_whatever_the_threads():
    X = small_data(60, 2)
    fits = [
        BayesianGMMAutoEncoder(2, random_state=3, n_jobs=n, n_models=10).fit(X)
        for n in (None, 1, 2)
    ]
    for other in fits[1:]:
        assert other.log_evidence_ == fits[0].log_evidence_
        assert other.sampling_ == fits[0].sampling_
        np.testing.assert_array_equal(other.models_.means, fits[0].models_.means)
        np.testing.assert_array_equal(other.means_, fits[0].means_)
    other = BayesianGMMAutoEncoder(2, random_state=4, n_models=10).fit(X)
    assert other.log_evidence_ != fits[0].log_evidence_


@pytest.fixture
def few_sweeps(monkeypatch):
    """Sixteen chains that hardly move."""

    def schedule(n_rows, n_models):
        return 16, GibbsPlan(5, 8, 1, 2, 12, n_keep=n_models)

    for module in (_sampled, _gmm):
        monkeypatch.setattr(module, "gibbs_schedule", schedule)


def test_threads_agree_over_several_chunks(few_sweeps):
    X = np.random.default_rng(0).normal(size=(30_000, 2))
    fits = []
    for n_jobs in (1, 2):
        model = BayesianGMMAutoEncoder(2, random_state=0, n_jobs=n_jobs, n_models=5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits.append(model.fit(X))
    assert fits[0].log_evidence_ == fits[1].log_evidence_
    np.testing.assert_array_equal(fits[0].models_.means, fits[1].models_.means)


def test_an_interrupted_run_leaves_no_trace(monkeypatch):
    """Control-C in the middle of the sweeps."""
    calls, sweep = [], _gibbs._Chains.sweep

    def interrupt(self):
        calls.append(1)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return sweep(self)

    monkeypatch.setattr(_gibbs._Chains, "sweep", interrupt)
    before, model = threading.active_count(), BayesianGMMAutoEncoder(2, random_state=0, n_jobs=2)
    state = dict(vars(model))
    with pytest.raises(KeyboardInterrupt):
        model.fit(np.random.default_rng(0).normal(size=(5000, 2)))
    assert vars(model) == state
    assert threading.active_count() == before


def test_a_run_too_short_to_trust_says_so(few_sweeps):
    model = BayesianGMMAutoEncoder(4, random_state=0, **GALAXIES_PRIOR)
    with pytest.warns(ConvergenceWarning, match="BayesianGMMAutoEncoder.*raise n_models.*n_init"):
        model.fit(GALAXIES)
    assert model.sampling_.status in ("suspect", "failed")
    assert model.sampling_.reasons
    assert not model.converged_


def test_a_run_that_can_be_trusted_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = galaxies(3)
    assert fitted.sampling_.status == "ok"
    assert fitted.converged_
    with pytest.raises(AttributeError):
        fitted.sampling_.status = "better"


def callbacks():
    return pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")


class Stopper:
    """Asks to stop after so many steps."""

    def __init__(self, after):
        self.after, self.steps = after, 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, **kwargs):
        pass

    def on_fit_task_end(self, estimator, context, **kwargs):
        self.steps += context.task_name == "step"
        return self.steps >= self.after


@pytest.mark.parametrize("after", [1, 50, 120, 300])
def test_a_stopped_run_is_usable_and_says_so(after):
    callbacks()
    X, stopper = small_data(40, 2), Stopper(after)
    model = BayesianGMMAutoEncoder(2, random_state=0, n_models=10)
    model.set_callbacks(stopper)
    with pytest.warns(ConvergenceWarning, match="a callback stopped the run early"):
        model.fit(X)
    assert model.sampling_.status in ("suspect", "failed")
    assert any("callback stopped" in reason for reason in model.sampling_.reasons)
    assert stopper.steps < after + 30
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.models_.means).all()
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


def test_the_progress_bar_runs(capsys):
    pytest.importorskip("rich")
    bar = callbacks().ProgressBar()
    model = BayesianGMMAutoEncoder(2, random_state=0, n_models=5)
    model.set_callbacks(bar)
    model.fit(small_data(20, 1))
    assert model.sampling_.status == "ok"
    assert "BayesianGMMAutoEncoder" in capsys.readouterr().out


def test_too_many_components_to_relabel():
    X = small_data(40, 1)
    with pytest.raises(ValueError, match=r"n_components must be at most 12.*got 13.*temperature=0"):
        BayesianGMMAutoEncoder(13).fit(X)
    BayesianGMMAutoEncoder(13, model_temperature=0, tol=0.1, random_state=0).fit(X)


def test_too_many_models_to_keep():
    with (
        sklearn.config_context(working_memory=1),
        pytest.raises(ValueError, match=r"n_models=1000000.*working_memory"),
    ):
        BayesianGMMAutoEncoder(2, n_models=10**6).fit(small_data(40, 2))


def test_a_sampled_model_survives_a_file(sampled, tmp_path):
    fitted, X = sampled
    joblib.dump(fitted, tmp_path / "model")
    loaded = joblib.load(tmp_path / "model")
    assert loaded.sampling_ == fitted.sampling_
    assert loaded.log_evidence_ == fitted.log_evidence_
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))


def test_single_precision_rows():
    X = small_data(40, 2)
    settings = {"random_state": 0, "n_models": 20}
    double = BayesianGMMAutoEncoder(2, **settings).fit(X)
    single = BayesianGMMAutoEncoder(2, **settings).fit(X.astype(np.float32))
    assert single.predict_proba(X.astype(np.float32)).dtype == np.float32
    error = np.hypot(double.sampling_.log_evidence_error, single.sampling_.log_evidence_error)
    assert abs(single.log_evidence_ - double.log_evidence_) < 5 * error


def test_shapes_of_what_was_sampled():
    shapes = {
        "full": (7, 3, 2, 2), "tied": (7, 2, 2), "diag": (7, 3, 2), "spherical": (7, 3),
        "tied_diag": (7, 2), "tied_spherical": (7,),
    }  # fmt: skip
    X = small_data(30, 2)
    for kind, shape in shapes.items():
        fitted = BayesianGMMAutoEncoder(3, covariance_type=kind, n_models=7, random_state=0).fit(X)
        models = fitted.models_
        assert models.weights.shape == (7, 3)
        assert models.means.shape == (7, 3, 2)
        assert models.covariances.shape == models.precisions_cholesky.shape == shape
        np.testing.assert_allclose(models.weights.sum(axis=1), 1)


def test_more_components_than_groups_do_not_pay():
    """Evidence falls beyond the number of groups: each step costs, none gains."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(25, 1)), 12 + rng.normal(size=(25, 1))])
    settings = {"covariance_prior": [[1.0]], "random_state": 0, "n_models": 5}
    fits = [BayesianGMMAutoEncoder(k, **settings).fit(X) for k in (1, 2, 3, 4)]
    values = np.array([each.log_evidence_ for each in fits])
    errors = np.array([each.sampling_.log_evidence_error for each in fits])
    assert values[1] - values[0] > 5
    assert values[2] < values[1] + 5 * np.hypot(errors[1], errors[2])
    assert values[3] < values[1] + 5 * np.hypot(errors[1], errors[3])
