"""Mixtures of PCA sampled by codes, and their evidence by unpinning allocations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _altered import with_plans
from _subspaces import DIGITS, IRIS, PRIOR, enumerated, mixture, tempered
from scipy.special import gammaln
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder
from skbae.energies.mixture._collapsed import CollapsedMixture
from skbae.energies.mixture_pca import _draws_given_labels
from skbae.energies.pca._prior import PCAPrior
from skbae.estimators._plans import SamplerPlans
from skbae.estimators.mixture_pca._fit import energy_with_prior
from skbae.estimators.mixture_pca._mode_starts import collapsed_components
from skbae.estimators.mixture_pca._sampling import search_modes
from skbae.inference._objective import Objective
from skbae.inference.evidence._verdict import assess
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample import _pinned_chains
from skbae.inference.sample._allocation_search import SearchPlan, search
from skbae.inference.sample._nested import sample_nested
from skbae.inference.sample._pinned_chains import PinnedPlan, sample_pinned

PRIOR_3 = PCAPrior(0.9, np.array([0.3, -0.2, 0.1]), 4.0, 1.5, 0.5)


def separated(n, n_features=2, seed=0):
    """Return two groups of rows, each about a line."""
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((2, n_features))
    groups = [
        rng.standard_normal((n // 2, 1)) * axis
        + 0.2 * rng.standard_normal((n // 2, n_features))
        + 3 * sign
        for axis, sign in zip(axes, (-1, 1), strict=True)
    ]
    return np.concatenate(groups)


def run_pinned(energy, X, temperature, seed=0, sample_weight=None, doubts=()):
    rng = np.random.default_rng(seed)
    rows = make_rows(X, sample_weight)
    if sample_weight is not None:
        X = np.repeat(X, sample_weight, axis=0)
    components = collapsed_components(energy, X, temperature, temperature, 100)
    collapsed = CollapsedMixture(components, energy.concentration, energy.equal_weights)
    pool = search(collapsed, SearchPlan(16, 16, 3, 10, 12), rng)
    with RowRunner(1) as runner:
        return sample_pinned(
            Objective(energy, rows, runner, temperature),
            pool.labels,
            pool.log_mass,
            energy.n_components,
            rng,
            plan=PinnedPlan(),
            doubts=doubts,
        )


def statistics_of(loaded):
    """Return numbers of models that do not depend on rotations of codes, (S, P)."""
    outer = np.matmul(loaded.loadings, np.swapaxes(loaded.loadings, 2, 3))
    numbers = [np.log(loaded.noise), loaded.means[:, :, 0], loaded.means[:, :, 2]]
    numbers += [np.log(outer[:, :, 0, 0]), outer[:, :, 0, 1], np.log(outer.trace(0, 2, 3))]
    return np.concatenate(numbers, axis=1)


def worst_deviation(temperature, n_sweeps=300):
    """Compare chains of scans with the independent sampler of one component, in errors."""
    X = np.random.default_rng(3).standard_normal((9, 3)) * [2.0, 1.0, 0.3] + 0.5
    energy, rng = mixture(1, 2, prior=PRIOR_3), np.random.default_rng(0)
    exact = sample_nested(energy.pinned(X, temperature), rng, 4000).params
    family = energy.family
    drawn = family.loaded(family.join_draws([exact], 4000, rng))
    expected = statistics_of(drawn)
    n = 64
    state = family.loaded(family.join_draws([exact.take(np.arange(n) * 50)], n, rng))
    labels, traces = np.zeros((n, len(X)), dtype=int), []
    for _ in range(n_sweeps):
        state, _ = _draws_given_labels.scan(
            X - PRIOR_3.mean, labels, state, PRIOR_3, temperature, False, rng
        )
        traces.append(statistics_of(state))
    chains = np.mean(traces, axis=0)
    error = np.sqrt(chains.var(axis=0) / n + expected.var(axis=0) / 1000)
    return np.abs((chains.mean(axis=0) - expected.mean(axis=0)) / error).max()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_scans_given_labels_keep_the_posterior(temperature):
    assert worst_deviation(temperature) < 4.5


def test_a_scan_without_the_jacobian_of_its_scales_is_caught(monkeypatch):
    stretch = _draws_given_labels._stretch

    def without(sums, loadings, prior, temperature, rng):
        counts = sums.counts
        sums.counts = counts * 0 + loadings.shape[2]
        loadings = stretch(sums, loadings, prior, temperature, rng)
        sums.counts = counts
        return loadings

    monkeypatch.setattr(_draws_given_labels, "_stretch", without)
    assert worst_deviation(1.0) > 6


@pytest.mark.parametrize(("temperature", "equal"), [(1.0, False), (0.5, True), (2.0, False)])
def test_evidence_by_enumeration(temperature, equal):
    X = separated(8)
    run = run_pinned(mixture(2, 0, equal=equal), X, temperature)
    exact = enumerated(X, 2, PRIOR, temperature, None if equal else 1.6)
    result = assess(run)
    assert result.log_evidence_error < 0.1
    assert abs(result.log_evidence - exact) < 4 * result.log_evidence_error + 0.02


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_evidence_agrees_with_that_by_tempering(temperature):
    X, energy = separated(16), mixture(2, 1)
    value, error, _ = tempered(energy, make_rows(X, None), temperature, n_particles=1024)
    result = assess(run_pinned(energy, X, temperature))
    joint = np.hypot(error, result.log_evidence_error)
    assert joint < 0.15
    assert abs(result.log_evidence - value) < 4 * joint


def test_weights_equal_repeated_rows():
    X, energy = separated(16), mixture(2, 1)
    weights = np.tile([1, 2], 8)
    weighted = assess(run_pinned(energy, X, 1.0, sample_weight=weights))
    repeated = assess(run_pinned(energy, np.repeat(X, weights, axis=0), 1.0, seed=1))
    error = np.hypot(weighted.log_evidence_error, repeated.log_evidence_error)
    assert abs(weighted.log_evidence - repeated.log_evidence) < 4 * error


def test_a_forgotten_multiplicity_shows(monkeypatch):
    """A negative control of the comparison with enumeration."""
    monkeypatch.setattr(_pinned_chains, "gammaln", lambda x: 0.0)
    X = separated(8)
    result = assess(run_pinned(mixture(2, 0), X, 1.0))
    exact = enumerated(X, 2, PRIOR, 1.0, 1.6)
    assert abs(result.log_evidence - exact) > 4 * result.log_evidence_error + 0.02


def subspaces(n_groups=3, n_rows=30, n_features=90, seed=0):
    rng = np.random.default_rng(seed)
    groups = []
    for _ in range(n_groups):
        axes = 2 * rng.standard_normal((3, n_features))
        mean = rng.standard_normal(n_features)
        codes = rng.standard_normal((n_rows, 3))
        groups.append(mean + codes @ axes + 0.5 * rng.standard_normal((n_rows, n_features)))
    return np.concatenate(groups)


@pytest.mark.parametrize("n_seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_more_than_a_thousand_parameters_are_sampled(n_seeds):
    X = subspaces()
    fits = [
        BayesianMixturePCAAutoEncoder(3, n_latent=3, random_state=seed).fit(X)
        for seed in range(n_seeds)
    ]
    assert 3 * (1 + 90 * 4 + 1) > 1000
    for fitted in fits:
        sampling = fitted.sampling_
        assert sampling.status == "ok", sampling.reasons
        assert sampling.balance < 4
        assert fitted.models_.components.shape == (50, 3, 3, 90)
        groups = fitted.predict(X).reshape(3, 30)
        assert (groups == groups[:, :1]).all()
    # groups are so far apart that the posterior is a product over them
    separate = [
        BayesianPCAAutoEncoder(
            3,
            mean_prior=X.mean(axis=0),
            component_variance_prior=X.var(axis=0).mean() / 3,
            mean_precision_prior=0.01 * part.var(axis=0).mean() / X.var(axis=0).mean(),
            noise_scale_prior=0.1 * X.var(axis=0).mean(),
            random_state=0,
        ).fit(part)
        for part in np.split(X, 3)
    ]
    of_labels = gammaln(3) + 3 * gammaln(31) - gammaln(93) + gammaln(4)
    expected = sum(part.log_evidence_ for part in separate) + of_labels
    errors = [part.sampling_.log_evidence_error for part in separate]
    for fitted in fits:
        error = np.linalg.norm([fitted.sampling_.log_evidence_error, *errors])
        assert error < 0.35
        assert abs(fitted.log_evidence_ - expected) < 3 * error + 0.03


def test_searches_that_disagree_make_the_result_suspect():
    """Crippled searches."""
    X = DIGITS[::12]
    plans = SamplerPlans(mode_search=lambda n_rows: SearchPlan(2, 2, 1, 1, 2))
    estimator = BayesianMixturePCAAutoEncoder(6, n_latent=2, random_state=0)
    settings = with_plans(estimator, plans)._check_parameters()
    energy = energy_with_prior(settings, make_rows(X, None))
    _, _, doubts = search_modes(settings, energy, X, np.random.default_rng(0))
    assert any("different best modes" in doubt for doubt in doubts)


def test_doubts_of_the_search_reach_the_verdict():
    X, energy = separated(16), mixture(2, 1)
    result = assess(run_pinned(energy, X, 1.0, doubts=["searches differ"]))
    assert result.status == "suspect"
    assert result.reasons == ("searches differ",)


def test_doubts_about_components_reach_the_verdict(monkeypatch):
    def doubtful(*args, **kwargs):
        run = sample_nested(*args, **kwargs)
        return replace(run, first_shape=0.9, doubts=("a second mode",))

    X = separated(40)
    energy = mixture(2, 2)
    assert not run_pinned(energy, X, 1.0).doubts
    monkeypatch.setattr(_pinned_chains, "sample_nested", doubtful)
    run = run_pinned(energy, X, 1.0)
    assert np.isfinite(run.log_evidence).all()
    for text in ("a second mode", "Pareto shape 0.90"):
        assert any("its component of 20 rows" in doubt and text in doubt for doubt in run.doubts)


def test_tied_noise_of_many_parameters_has_no_evidence():
    X = subspaces()
    with pytest.warns(ConvergenceWarning, match="tied noise"):
        fitted = BayesianMixturePCAAutoEncoder(3, n_latent=3, tied_noise=True, random_state=0).fit(
            X
        )
    assert np.isnan(fitted.log_evidence_)
    assert fitted.sampling_.status == "suspect"
    assert fitted.sampling_.rhat < 1.05
    assert np.isfinite(fitted.score(X))


@pytest.mark.parametrize("settings", [{"model_temperature": 2.0}, {"tilt": 0.5}])
def test_many_parameters_away_from_equilibrium_are_refused(settings):
    with pytest.raises(ValueError, match="parameters, and at most 1000"):
        BayesianMixturePCAAutoEncoder(3, n_latent=3, **settings).fit(subspaces())


def test_fractional_weights_of_many_parameters_are_refused():
    X = subspaces()
    with pytest.raises(ValueError, match="sample_weight must be whole numbers"):
        BayesianMixturePCAAutoEncoder(3, n_latent=3).fit(X, sample_weight=np.full(len(X), 0.5))


def test_iris_agrees_with_charts():
    X = IRIS[::2]
    estimator = BayesianMixturePCAAutoEncoder(2, n_latent=1, random_state=0).fit(X)
    energy = energy_with_prior(estimator._check_parameters(), make_rows(X, None))
    result = assess(run_pinned(energy, X, 1.0))
    error = np.hypot(estimator.sampling_.log_evidence_error, result.log_evidence_error)
    assert abs(result.log_evidence - estimator.log_evidence_) < 4 * error


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_components_of_few_rows_have_their_evidence(n_rows):
    X = np.random.default_rng(5).standard_normal((n_rows, 3)) * [2.0, 1.0, 0.3] + 0.5
    energy, rng = mixture(1, 2, prior=PRIOR_3), np.random.default_rng(0)
    run = sample_nested(energy.pinned(X, 1.0), rng, 50)
    drawn = energy.draw_prior_coordinates(1_000_000, rng)
    log_f = energy.log_joint(energy.constrain(drawn), X, make_rows(X, None).frame, 1.0)
    values = log_f[:, 0].sum(axis=1)
    shares = np.exp(values - values.max())
    exact = np.log(shares.mean()) + values.max()
    error = shares.std() / shares.mean() / np.sqrt(len(shares))
    found = np.log(np.exp(run.log_evidence - exact).mean())
    own = np.sqrt((run.log_evidence_error**2).sum()) / len(run.log_evidence)
    assert error < 0.05
    assert abs(found) < 4 * np.hypot(error, own) + 0.01
