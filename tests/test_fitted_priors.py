"""Fitted priors, criteria of PCA, and totals of what `verbose` prints."""

from __future__ import annotations

import numpy as np
import pytest
from _altered import quick
from sklearn.datasets import load_iris
from sklearn.mixture import BayesianGaussianMixture

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = load_iris().data
VARIANCE = float(X.var(axis=0).mean())


def sampled(kind, *arguments, **settings):
    return quick(kind(*arguments, random_state=0, model_temperature=1.0, **settings))


def test_mixtures_have_the_attributes_of_scikit_learns():
    fitted = sampled(BayesianGMMAutoEncoder, 2).fit(X)
    theirs = BayesianGaussianMixture(n_components=2, random_state=0).fit(X)
    np.testing.assert_allclose(fitted.mean_prior_, theirs.mean_prior_)
    names = [name for name in vars(theirs) if name.endswith("_prior_")]
    assert len(names) == 5
    for name in names:
        assert np.shape(getattr(fitted, name)) == np.shape(getattr(theirs, name))
    assert fitted.degrees_of_freedom_prior_ == X.shape[1] + 2


SAMPLED = {
    "gmm": (BayesianGMMAutoEncoder, {"n_components": 2}),
    "pca": (BayesianPCAAutoEncoder, {"n_components": 2}),
    "mixture of pca": (BayesianMixturePCAAutoEncoder, {"n_components": 2, "n_latent": 1}),
    "rbm": (BayesianRBMAutoEncoder, {"n_components": 1, "visible": "gaussian"}),
    "vae": (BayesianVAEAutoEncoder, {"n_components": 1, "hidden_layer_sizes": 3, "max_iter": 3}),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_fits_with_the_fitted_priors_given_are_the_same(name):
    kind, settings = SAMPLED[name]
    fitted = sampled(kind, **settings).fit(X)
    found = {
        key: value
        for key, value in vars(fitted).items()
        if key.endswith("_prior_") and key[:-1] in kind().get_params()
    }
    assert found
    if not np.shape(found.get("noise_scale_prior_", 0.0)):
        given = {key[:-1]: value for key, value in found.items()}
    else:  # one number is taken for all features
        given = {}
        np.testing.assert_allclose(found["noise_scale_prior_"], 0.1 * X.var(axis=0))
    again = sampled(kind, **{**settings, **given}).fit(X)
    np.testing.assert_allclose(again.internal_energy_, fitted.internal_energy_, rtol=1e-6)
    best = sampled(kind, **settings).set_params(model_temperature=0.0).fit(X)
    assert not any(key.endswith("_prior_") for key in vars(best))


def test_values_of_default_priors():
    fitted = sampled(BayesianPCAAutoEncoder, 2).fit(X)
    np.testing.assert_allclose(fitted.component_variance_prior_, VARIANCE / 2)
    np.testing.assert_allclose(fitted.noise_scale_prior_, 0.1 * VARIANCE)
    np.testing.assert_allclose(fitted.mean_prior_, X.mean(axis=0))
    shared = sampled(BayesianRBMAutoEncoder, 1, visible="gaussian", noise="shared").fit(X)
    np.testing.assert_allclose(shared.noise_scale_prior_, 0.1 * VARIANCE)
    bits = sampled(BayesianRBMAutoEncoder, 1).fit(np.round(X / X.max(axis=0)))
    assert not hasattr(bits, "noise_scale_prior_")


@pytest.mark.parametrize("d", [0, 1, 3])
def test_criteria_of_pca_count_loadings_up_to_rotations(d):
    fitted = BayesianPCAAutoEncoder(d, model_temperature=0).fit(X)
    n = 4 * d - d * (d - 1) // 2 + 4 + 1
    np.testing.assert_allclose(fitted.aic(X), -2 * fitted.score(X) * 150 + 2 * n)
    np.testing.assert_allclose(fitted.bic(X), -2 * fitted.score(X) * 150 + n * np.log(150))
    weights = np.arange(150) % 3
    weighted = fitted.bic(X, sample_weight=weights)
    np.testing.assert_allclose(weighted, fitted.bic(np.repeat(X, weights, axis=0)))


def test_criteria_of_pca_equal_those_of_the_same_mixture():
    """One component of a mixture of PCA is the same model, with as many parameters."""
    pca = BayesianPCAAutoEncoder(2, model_temperature=0).fit(X)
    mixture = BayesianMixturePCAAutoEncoder(1, n_latent=2, model_temperature=0, tol=1e-9).fit(X)
    np.testing.assert_allclose(pca.bic(X), mixture.bic(X), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (BayesianVAEAutoEncoder, {"n_components": 1, "hidden_layer_sizes": 3, "max_iter": 4}),
        (BayesianRBMAutoEncoder, {"n_components": 1, "visible": "gaussian"}),
        (
            BayesianRBMAutoEncoder,
            {"n_components": 1, "visible": "gaussian", "partition": "ais", "max_iter": 4},
        ),
        (BayesianGMMAutoEncoder, {"n_components": 2, "temperature": 2.0}),
        (BayesianMixturePCAAutoEncoder, {"n_components": 2, "temperature": 2.0}),
        (BayesianPCAAutoEncoder, {"n_components": 1}),
    ],
    ids=[
        "vae",
        "tempered machines",
        "machines around the best",
        "mixtures from modes",
        "mixtures of PCA from modes",
        "PCA",
    ],
)
def test_sampled_models_print_steps_of_a_total(kind, settings, capsys):
    sampled(kind, verbose=1, verbose_interval=3, **settings).fit(X)
    lines = capsys.readouterr().out.splitlines()
    steps = [line.split("step ")[1].split(":")[0] for line in lines if "] step " in line]
    assert steps
    numbers, totals = zip(*(step.split(" of at most ") for step in steps), strict=True)
    assert len(set(totals)) == 1
    assert int(numbers[-1]) <= int(totals[0])
    assert [int(number) % 3 for number in numbers[:-1]] == [0] * (len(numbers) - 1)
