"""Warnings point at the line of the user's that called, through whatever lies between."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import replace

import numpy as np
import pytest
from _altered import short_allocations, with_plans
from _callbacks import Stopper, callbacks
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.estimators._plans import SamplerPlans
from skbae.inference.sample._gibbs import GibbsPlan
from skbae.inference.sample._mode_annealing import AnnealPlan
from skbae.inference.sample._nested import NestedPlan
from skbae.inference.sample._tempering import SMCPlan
from skbae.model_selection import InSample

X = load_iris().data[::3]
BITS = (X.mean(axis=0) < X).astype(float)

ONE_MODEL = {
    "gmm": (BayesianGMMAutoEncoder(3, model_temperature=0, max_iter=1, random_state=0), X),
    "pca": (BayesianPCAAutoEncoder(2, model_temperature=0, tilt=0.5, max_iter=1), X),
    "mixture of pca": (
        BayesianMixturePCAAutoEncoder(2, model_temperature=0, max_iter=1, random_state=0),
        X,
    ),
    "rbm": (BayesianRBMAutoEncoder(2, max_iter=1, random_state=0), BITS),
    "vae": (
        BayesianVAEAutoEncoder(1, hidden_layer_sizes=(2,), max_iter=1, random_state=0),
        BITS,
    ),
}
SAMPLED = {
    "gmm": BayesianGMMAutoEncoder(3, n_models=5, random_state=0),
    "gmm, tempered": BayesianGMMAutoEncoder(2, model_temperature=2.0, n_models=5, random_state=0),
    "pca": BayesianPCAAutoEncoder(2, n_models=5, random_state=0),
    "mixture of pca": BayesianMixturePCAAutoEncoder(2, n_models=5, random_state=0),
}


def lines_of(caught):
    return [
        (warning.filename, warning.lineno)
        for warning in caught
        if issubclass(warning.category, ConvergenceWarning)
    ]


def two_lines_below():
    """Return the file of the calling function, and the number of a line below the call's."""
    frame = inspect.currentframe().f_back
    return frame.f_code.co_filename, frame.f_lineno + 2


def too_short(estimator):
    """Return an estimator whose samplers' runs are too short to be trusted."""
    gibbs, smc = GibbsPlan(2, 2, 1, 1, 2, n_keep=5), SMCPlan(2, 32, 3, n_keep=5)
    anneal = AnnealPlan(n_islands=2, n_particles=16, n_moves=1, n_pilot=8, n_keep=5)
    nested = NestedPlan(n_islands=2, n_particles=16, n_moves=1, n_rounds=1, n_keep=5)
    plans = SamplerPlans(
        allocations=lambda *_: replace(
            short_allocations(5, n_steps=2), n_chains=1, n_jumping=4, jumps=gibbs
        ),
        gibbs=lambda *_: (4, gibbs),
        tempered=lambda *_, **__: smc,
        anneal=lambda *_: anneal,
        nested=lambda *_: nested,
    )
    return with_plans(estimator, plans)


@pytest.mark.parametrize("name", ONE_MODEL)
def test_a_single_model_that_has_not_converged(name):
    estimator, rows = ONE_MODEL[name]
    here = two_lines_below()
    with pytest.warns(ConvergenceWarning) as caught:
        estimator.fit(rows)
    assert set(lines_of(caught)) == {here}


@pytest.mark.parametrize("name", SAMPLED)
def test_sampling_that_can_not_be_trusted(name):
    estimator = too_short(SAMPLED[name])
    here = two_lines_below()
    with pytest.warns(ConvergenceWarning, match="sampling of the models is") as caught:
        estimator.fit(X)
    assert set(lines_of(caught)) == {here}


@pytest.mark.parametrize("name", SAMPLED)
def test_warnings_point_at_the_users_line_with_callbacks(name):
    """A callback that stops the run is what there is to warn of."""
    callbacks()
    # a path of several steps, of which the callback stops the first
    small_steps = replace(NestedPlan(), ess_fraction=0.99)
    estimator = with_plans(SAMPLED[name], SamplerPlans(nested=lambda *_: small_steps))
    estimator.set_callbacks(Stopper(1))
    try:
        here = two_lines_below()
        with pytest.warns(ConvergenceWarning, match="stopped the run early") as caught:
            estimator.fit(X)
    finally:
        estimator.set_callbacks()
    assert set(lines_of(caught)) == {here}


def test_warnings_point_at_the_users_line_from_every_fitting_method():
    estimator = too_short(SAMPLED["gmm"])
    here = two_lines_below()
    with pytest.warns(ConvergenceWarning) as caught:
        estimator.fit_transform(X)
    assert set(lines_of(caught)) == {here}
    here = two_lines_below()
    with pytest.warns(ConvergenceWarning) as caught:
        make_pipeline(StandardScaler(), estimator).fit(X)
    assert set(lines_of(caught)) == {here}
    search = GridSearchCV(estimator, {"n_components": [2, 3]}, cv=InSample(), refit=False)
    here = two_lines_below()
    with pytest.warns(ConvergenceWarning) as caught:
        search.fit(X)
    assert set(lines_of(caught)) == {here}
    assert len(lines_of(caught)) == 2


def test_imprecise_scores_warn_at_the_users_line():
    """Its hidden units are steps, after which nothing is normal."""
    fitted = BayesianVAEAutoEncoder(
        3, hidden_layer_sizes=(5,), max_iter=1, n_score_samples=4, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(50 * BITS)
    for layer in fitted.models_.decoder_coefs:
        layer[:] = 300 * np.random.default_rng(0).normal(size=layer.shape)
    here = two_lines_below()
    with pytest.warns(ConvergenceWarning, match="have a standard error above") as caught:
        fitted.score_samples(500 * BITS)
    assert set(lines_of(caught)) == {here}
