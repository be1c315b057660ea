"""Tilted objectives: local maxima below 0, energies without the tilt, weights."""

from __future__ import annotations

import numpy as np
import pytest
from _altered import quick
from _data import overlapping_blobs
from _instances import COVARIANCE_TYPES
from scipy.optimize import minimize
from sklearn.datasets import load_iris

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder
from skbae.estimators.mixture_pca._fit import as_parameters, energy_with_prior
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.operators._tempered import tilted_mean

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def model(n_components, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


@pytest.fixture(scope="module")
def blobs():
    return overlapping_blobs()


@pytest.fixture(scope="module")
def iris():
    return load_iris().data


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_collapsed_component_is_never_the_result_of_a_negative_tilt(kind, iris):
    """Its objective beats that of any other fit, without bound; at -0.8 a single one collapses."""
    outcomes = []
    for tilt in (-0.1, -0.2, -0.5, -0.8):
        for n_components in (1, 3):
            settings = {"covariance_type": kind, "tilt": tilt, "max_iter": 1000}
            try:
                fitted = model(n_components, **settings).fit(iris)
            except ValueError as error:
                assert f"tilt={tilt} all fits end" in str(error)  # noqa: PT017
                outcomes.append(False)
                continue
            outcomes.append(True)
            full = fitted._fitted.details.shape.expand(fitted.covariances_)
            assert np.linalg.eigvalsh(full).min() > 1e-3
    assert outcomes[:2] == [True, True]
    assert outcomes[-2:] == [False, False]


def test_without_a_floor_the_collapse_is_refused_too(iris):
    with pytest.raises(ValueError, match=r"tilt=-0\.8 all fits end"):
        model(1, tilt=-0.8, reg_covar=0, max_iter=1000).fit(iris)


def test_negative_tilts_discount_outliers():
    """What they are for: one row in ten far away moves the mean less."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(90, 2)), 8 + rng.normal(size=(10, 2))])
    away = [np.abs(model(1, tilt=tilt).fit(X).means_).max() for tilt in (0.0, -0.1, -0.3)]
    assert away[0] > away[1] > away[2]


@pytest.mark.parametrize("tilt", [0.5, -0.1])
@pytest.mark.parametrize("kind", [BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder])
def test_internal_energy_is_the_mean_without_the_tilt(kind, tilt, blobs):
    """It was that of the tilted objective, which is lower for a positive tilt."""
    X = blobs[:60]
    fitted = quick(kind(2, tilt=tilt, n_models=8, random_state=0)).fit(X)
    scores = fitted._density_scores_by_model(X)
    values = scores.mean(axis=1)
    np.testing.assert_allclose(fitted.internal_energy_, values.mean(), rtol=1e-8)
    assert abs(values.mean() - tilted_mean(scores, None, tilt).mean()) > 0.01


@pytest.mark.parametrize("tilt", [-0.1, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_equal_weights_are_no_weights(tilt, temperature, blobs):
    settings = {"tilt": tilt, "temperature": temperature}
    plain = model(2, **settings).fit(blobs)
    for weight in (2.0, 0.01):
        weighted = model(2, **settings).fit(blobs, sample_weight=np.full(len(blobs), weight))
        np.testing.assert_allclose(
            weighted.score_samples(blobs), plain.score_samples(blobs), rtol=1e-6
        )
        np.testing.assert_allclose(weighted.lower_bound_, plain.lower_bound_, rtol=1e-9)


# -- mixtures of PCA -------------------------------------------------------------------------------


def mixture_of_pca(n_components, n_latent, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianMixturePCAAutoEncoder(n_components, n_latent=n_latent, **settings)


def long_groups():
    """Return fifty rows in two long groups that overlap."""
    X = np.random.default_rng(0).standard_normal((50, 3)) * [2.0, 1.0, 0.5]
    X[25:, 0] += 4
    return X


@pytest.mark.parametrize("tilt", [0.5, -0.1, 0.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_a_common_factor_of_weights_changes_no_mixture_of_pca(temperature, tilt, iris):
    for X, n_components, n_latent in ((long_groups(), 2, 1), (iris, 3, 1), (iris, 2, 2)):
        settings = {"temperature": temperature, "tilt": tilt}
        plain = mixture_of_pca(n_components, n_latent, **settings).fit(X)
        for weight in (2.0, 0.3):
            weighted = mixture_of_pca(n_components, n_latent, **settings)
            weighted.fit(X, sample_weight=np.full(len(X), weight))
            assert abs(weighted.lower_bound_ - plain.lower_bound_) < 1e-6
            np.testing.assert_allclose(
                weighted.score_samples(X), plain.score_samples(X), rtol=0, atol=1e-5
            )


def test_steps_that_do_not_overshoot_become_long_again():
    """They stayed short after a plateau, and a hundred iterations did not leave it."""
    settings = {"temperature": 0.5, "tilt": 0.5}
    fitted = mixture_of_pca(2, 1, **settings).fit(long_groups())
    best = mixture_of_pca(2, 1, tol=1e-10, max_iter=1000, **settings).fit(long_groups())
    assert best.converged_
    assert fitted.converged_
    assert fitted.lower_bound_ > best.lower_bound_ - 1e-3


@pytest.mark.parametrize("tilt", [0.5, -0.1])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_converged_tilted_mixtures_of_pca_are_optimal(temperature, tilt, iris):
    """L-BFGS from the fitted model finds nothing better."""
    for X, n_components, n_latent in ((long_groups(), 2, 1), (iris, 3, 1), (iris, 2, 2)):
        fitted = mixture_of_pca(
            n_components, n_latent, temperature=temperature, tilt=tilt, tol=1e-9, max_iter=2000
        ).fit(X)
        assert fitted.converged_
        rows = make_rows(X, None)
        asked = BayesianMixturePCAAutoEncoder(n_components, n_latent=n_latent)._check_parameters()
        energy = energy_with_prior(asked, rows)
        with RowRunner(1) as runner:
            objective = Objective(energy, rows, runner, temperature, tilt)

            def negative(theta, objective=objective):
                value, gradient = objective.value_and_gradient(theta[None])
                return -value[0], -gradient[0]

            start = energy.unconstrain(as_parameters(fitted.models_))[0]
            assert abs(-negative(start)[0] - fitted.lower_bound_) < 1e-9
            found = minimize(negative, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-9})
        assert -found.fun < fitted.lower_bound_ + 1e-6
