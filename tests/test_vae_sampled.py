"""Decoders sampled around the best one."""

from __future__ import annotations

import numpy as np
import pytest
from _altered import with_plans
from _networks import make
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV

from skbae import BayesianMixturePCAAutoEncoder
from skbae.estimators._plans import SamplerPlans
from skbae.inference.sample._langevin import LangevinPlan
from skbae.inference.sample._tempering import SMCPlan
from skbae.model_selection import InSample, evidence_scorer, hmaxemax_scorer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*still improved"),
    pytest.mark.filterwarnings("ignore:scores of"),
]


@pytest.fixture(scope="module")
def X():
    return load_iris().data


def short_chains(**settings):
    """Return an estimator that samples for a short while."""

    def plan(batch_size, scale, n_models):
        return LangevinPlan(batch_size, n_burn=40, n_steps=200, n_traced=40, n_keep=n_models)

    return with_plans(make(**settings), SamplerPlans(langevin=plan, tempered=never))


def never(n_rows, n_models, fewest=1):
    """Return a plan of so much work that models are sampled around the best one instead."""
    return SMCPlan(n_particles=1 << 22)


def around_the_best(**settings):
    """Return an estimator that samples small decoders, too, around the best one."""
    return with_plans(make(**settings), SamplerPlans(tempered=never))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_attributes_of_a_sampled_fit(X):
    fitted = short_chains(model_temperature=1.0, n_models=7, max_iter=30, n_score_samples=64).fit(X)
    assert fitted.models_.n_models == 7
    assert fitted.models_.noise_variance.shape == (7, X.shape[1])
    assert fitted.sampling_.method == "langevin"
    assert np.isnan(fitted.hmaxemax_)
    assert not hasattr(fitted, "log_evidence_")
    by_model = fitted._bound(X).hmax(X, 1.0)
    assert np.ptp(by_model.mean(axis=1)) > 1e-3
    average = np.log(np.mean(np.exp(by_model), axis=0))
    np.testing.assert_allclose(fitted.score_samples(X), average)
    assert fitted.sample(10)[0].shape == (10, 4)
    assert np.isfinite(hmaxemax_scorer(fitted, X))
    with pytest.raises(ValueError, match="evidence of this BayesianVAEAutoEncoder is not"):
        evidence_scorer(fitted, X)
    with pytest.raises(ValueError, match="evidence"):
        GridSearchCV(
            clone(fitted),
            {"n_components": [1]},
            scoring=evidence_scorer,
            cv=InSample(),
            error_score="raise",
        ).fit(X)
    again = fitted.set_params(model_temperature=0.0).fit(X)
    assert not hasattr(again, "sampling_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"early_stopping": True}])
def test_sampling_works_with_other_likelihoods_and_options(settings, X):
    fitted = short_chains(model_temperature=0.5, n_models=3, **settings).fit(X)
    assert fitted.models_.n_models == 3
    assert np.isfinite(fitted.score_samples(X)).all()
    assert np.isfinite(fitted.internal_energy_)


def test_too_many_models_raise(X):
    with pytest.raises(ValueError, match="n_models=1000000"):
        make(model_temperature=1.0, n_models=1_000_000, hidden_layer_sizes=(100,)).fit(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_sampled_linear_decoders_have_the_posterior_of_pca():
    """Noise variances against BayesianPCA's own kind of answer: concentration at N large."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 1)) @ rng.normal(size=(1, 5)) + 0.5 * rng.normal(size=(400, 5))
    fitted = around_the_best(
        n_components=1,
        hidden_layer_sizes=(),
        noise="shared",  # as in PCA
        model_temperature=1.0,
        n_models=60,
        max_iter=200,
        learning_rate_init=0.02,
        n_importance_samples=10,
    ).fit(rows)
    draws = np.log(fitted.models_.noise_variance)
    # log s2 given the rest is nearly normal with variance 2 / (N (D - d)) at large N
    expected = np.sqrt(2 / (400 * 4))
    assert 0.6 * expected < draws.std() < 1.5 * expected
    assert abs(draws.mean() - np.log(fitted.noise_variance_)) < 4 * expected / np.sqrt(15)


@pytest.fixture(scope="module")
def energies(X):
    """Return a sampled linear decoder, and N times the internal energy less that of exact draws.

    A linear decoder is a mixture of PCA with one component, whose sampler starts at the prior. Both
    have one noise variance and the same prior at these settings.
    """
    exact = BayesianMixturePCAAutoEncoder(
        1, n_latent=1, mean_precision_prior=1.0, random_state=0
    ).fit(X)
    fitted = around_the_best(
        n_components=1,
        hidden_layer_sizes=(),
        noise="shared",  # as in PCA
        model_temperature=1.0,
        learning_rate_init=0.01,
        n_importance_samples=10,
        n_score_samples=128,
        max_iter=500,
    ).fit(X)
    assert fitted.sampling_.status == "ok"
    return fitted, len(X) * (fitted.internal_energy_ - exact.internal_energy_)


def test_internal_energy_is_near_that_of_the_same_model_sampled_exactly(X, energies):
    fitted, difference = energies
    # half the nine parameters: 4.5 nats below the optimum. Half the temperature would be off by 2.2
    assert abs(difference) < 1.2
    # far from the optimum's energy, which a chain that is too cold would report
    assert len(X) * (fitted.hmaxe_ - fitted.internal_energy_) > 1.0


@pytest.mark.slow
def test_internal_energy_is_that_of_the_same_model_sampled_exactly(energies):
    """To the error of the chains: its deviation is about the root of half the parameters."""
    fitted, difference = energies
    error = np.sqrt(fitted._energy().n_parameters() / 2 / fitted.sampling_.ess)
    assert abs(difference) < 4.5 * error
