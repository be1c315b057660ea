"""scikit-learn's conventions in small things: the global random state, sizes, weights, printing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from _data import overlapping_blobs
from sklearn.mixture import GaussianMixture

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def blobs():
    return overlapping_blobs()


QUICK_FITS = {
    "gmm": BayesianGMMAutoEncoder(
        4, model_temperature=0, init_params="random_from_data", max_iter=2
    ),
    "mixture-pca": BayesianMixturePCAAutoEncoder(
        4, model_temperature=0, init_params="random_from_data", max_iter=2
    ),
    "rbm": BayesianRBMAutoEncoder(2, visible="gaussian", max_iter=2, n_init=1),
    "vae": BayesianVAEAutoEncoder(2, hidden_layer_sizes=(3,), max_iter=2, n_score_samples=8),
}


@pytest.mark.parametrize("name", QUICK_FITS)
def test_no_random_state_follows_numpys_global_seed(name, blobs):
    """As in scikit-learn: scripts that call np.random.seed are reproducible."""
    model = QUICK_FITS[name]
    scores, draws = [], []
    for seed in (0, 0, 1):
        np.random.seed(seed)  # noqa: NPY002
        scores.append(model.fit(blobs).score(blobs))
        draws.append(model.sample(3)[0])
    assert scores[0] == scores[1]
    # a fit may have one best start, whatever the seed
    assert scores[0] != scores[2] or not np.array_equal(draws[0], draws[2])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(model.sample(3)[0], model.sample(3)[0])


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (BayesianRBMAutoEncoder(10**9, visible="gaussian"), "n_components=1000000000"),
        (BayesianVAEAutoEncoder(10**9), "n_components=1000000000"),
        (BayesianVAEAutoEncoder(hidden_layer_sizes=10**9), r"hidden_layer_sizes=\(1000000000,\)"),
        (BayesianVAEAutoEncoder(hidden_layer_sizes=(10**5, 10**5)), "hidden_layer_sizes"),
        (BayesianGMMAutoEncoder(10**9, model_temperature=0), "n_components=1000000000"),
        (BayesianGMMAutoEncoder(10**9), "n_components=1000000000"),
        (BayesianMixturePCAAutoEncoder(10**9, model_temperature=0), "n_components=1000000000"),
        (BayesianPCAAutoEncoder(10**9, model_temperature=0), "n_components"),
    ],
)
def test_sizes_beyond_all_memory_are_refused_at_once(model, message, blobs):
    with pytest.raises(ValueError, match=message):
        model.fit(blobs)


def test_a_single_model_beyond_working_memory_is_refused():
    rows = np.random.default_rng(0).normal(size=(300, 4000))
    with pytest.raises(ValueError, match=r"n_components=100 and covariance_type='full' would take"):
        BayesianGMMAutoEncoder(100, model_temperature=0).fit(rows)


# -- weights ---------------------------------------------------------------------------------------


def test_criteria_with_weights_are_those_of_repeated_rows(blobs):
    counts = np.arange(len(blobs)) % 4
    repeated = np.repeat(blobs, counts, axis=0)
    model = BayesianGMMAutoEncoder(3, model_temperature=0, random_state=0).fit(
        blobs, sample_weight=counts
    )
    for criterion in ("bic", "aic"):
        value = getattr(model, criterion)(blobs, sample_weight=counts)
        np.testing.assert_allclose(value, getattr(model, criterion)(repeated), rtol=1e-12)
    theirs = GaussianMixture(3, random_state=0).fit(repeated)
    same = BayesianGMMAutoEncoder.from_parameters(
        theirs.weights_, theirs.means_, theirs.covariances_
    )
    np.testing.assert_allclose(same.bic(blobs, counts), theirs.bic(repeated), rtol=1e-10)
    np.testing.assert_allclose(same.aic(blobs, counts), theirs.aic(repeated), rtol=1e-10)
    with pytest.raises(ValueError, match="sample_weight"):
        model.bic(blobs, sample_weight=[1.0])


@pytest.mark.parametrize("weight", [1e15, 1e18, 1e19, 1e200])
@pytest.mark.parametrize("partition", ["auto", "ais"])
def test_rows_of_any_weight_are_held_out(weight, partition):
    """Weights beyond the largest integer ended in "n < 0"."""
    bits = (np.random.default_rng(0).random((30, 4)) > 0.5).astype(float)
    settings = {"max_iter": 5, "n_init": 1, "random_state": 0, "partition": partition}
    heavy = BayesianRBMAutoEncoder(2, **settings).fit(bits, sample_weight=np.full(30, weight))
    assert np.isfinite(heavy.score(bits))
    assert heavy.validation_scores_


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("weight", [None, 1e18])
def test_one_distinct_row_leaves_none_to_hold_out(likelihood, weight):
    X = np.repeat([[0.0, 1.0, 1.0]], 20, axis=0)
    weights = None if weight is None else np.full(20, weight)
    model = BayesianVAEAutoEncoder(
        2, hidden_layer_sizes=(3,), likelihood=likelihood, early_stopping=True, max_iter=3
    ).fit(X, sample_weight=weights)
    assert np.isfinite(model.score(X))
    assert model.validation_scores_ == []


# -- small things ----------------------------------------------------------------------------------


def test_no_iterations_score_the_start(blobs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start = BayesianGMMAutoEncoder(3, model_temperature=0, max_iter=0, random_state=0).fit(
            blobs
        )
    assert start.n_iter_ == 0
    assert not start.converged_
    np.testing.assert_allclose(start.lower_bound_, start.score(blobs), rtol=1e-12)


@pytest.mark.parametrize("partition", ["auto", "ais"])
def test_a_machine_without_iterations_is_its_start(partition):
    """Weights of a hundredth: next to independent bits. The exact fit made a step all the same."""
    bits = (np.random.default_rng(0).random((40, 4)) > 0.3).astype(float)
    start = BayesianRBMAutoEncoder(2, max_iter=0, partition=partition, random_state=0).fit(bits)
    assert start.n_iter_ == 0
    assert 0 < np.abs(start.components_).max() < 0.05
    p = bits.mean(axis=0)
    independent = (bits * np.log(p) + (1 - bits) * np.log(1 - p)).sum(axis=1).mean()
    np.testing.assert_allclose(start.score(bits), independent, atol=0.01)


@pytest.mark.parametrize("name", QUICK_FITS)
def test_all_families_print_at_intervals(name, blobs, capsys):
    parameters = {"verbose": 1, "verbose_interval": 2, "random_state": 0}
    QUICK_FITS[name].set_params(**parameters).fit(blobs)
    lines = capsys.readouterr().out.splitlines()
    assert "step 2 of at most 2: " in lines[0]
    assert "2 steps in " in lines[1]
    QUICK_FITS[name].set_params(verbose=0)
    with pytest.raises(ValueError, match="verbose_interval must be an integer >= 1, got 0"):
        QUICK_FITS[name].set_params(verbose_interval=0).fit(blobs)
    QUICK_FITS[name].set_params(verbose_interval=1)
