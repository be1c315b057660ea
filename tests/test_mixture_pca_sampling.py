"""Sampled mixtures of PCA against PCA, enumeration and themselves."""

from __future__ import annotations

import numpy as np
import pytest
from _oracles import finite_differences, subspace_joint
from _subspaces import (
    PRIOR,
    enumerated,
    joints_by_model,
    mixture,
    small_rows,
    tempered,
)
from scipy.special import logsumexp, softmax
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianMixturePCAAutoEncoder
from skbae.energies.pca._prior import BayesianPCAEnergy, PCAPrior, RowMoments
from skbae.estimators._sampling import summarise
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._tempering import SMCPlan, sample_tempered


@pytest.mark.parametrize(
    ("temperature", "tilt", "n_latent", "tied", "equal"),
    [
        (1, 0, 1, False, False),
        (0.5, 0, 2, True, False),
        (2, 0.5, 2, False, True),
        (0, 0, 1, False, False),
        (1, -0.3, 0, True, False),
    ],
)
def test_gradients_equal_finite_differences(temperature, tilt, n_latent, tied, equal):
    energy = mixture(2, n_latent, tied, equal)
    rows = make_rows(small_rows(30), np.random.default_rng(8).uniform(0.5, 2, 30))
    theta = 0.5 * energy.draw_prior_coordinates(5, np.random.default_rng(9))
    assert theta.shape[1] == len(energy.coordinate_kinds())
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, temperature, tilt)
        for function in (objective.value_and_gradient, objective.prior):
            gradient, step = function(theta)[1], 1e-5
            for index, shift in enumerate(step * np.eye(theta.shape[1])):
                difference = function(theta + shift)[0] - function(theta - shift)[0]
                np.testing.assert_allclose(
                    gradient[:, index],
                    difference / (2 * step),
                    rtol=1e-6,
                    atol=1e-7 * np.abs(gradient).max(),
                )


@pytest.mark.parametrize("tied", [False, True])
def test_coordinates_and_models_are_one_to_one(tied):
    energy = mixture(3, 2, tied)
    theta = energy.draw_prior_coordinates(20, np.random.default_rng(10))
    params = energy.canonical(energy.constrain(theta))
    again = energy.canonical(energy.constrain(energy.unconstrain(params)))
    np.testing.assert_allclose(again.weights, params.weights, rtol=1e-10)
    for name in ("means", "noise", "precisions"):
        one, other = getattr(again.components, name), getattr(params.components, name)
        np.testing.assert_allclose(one, other, rtol=1e-6)
    loadings = theta[:, 3 : 3 + 12].reshape(20, 3, 2, 2) * np.sqrt(PRIOR.component_variance)
    components = params.components
    noise = np.broadcast_to(components.noise, (20, 3))[..., None]
    lengths = 1 / components.precisions - noise
    ours = np.einsum("skid,ski,skie->skde", components.components, lengths, components.components)
    scale = np.abs(ours).max(axis=(2, 3), keepdims=True)
    expected = np.matmul(loadings, np.swapaxes(loadings, 2, 3))
    np.testing.assert_allclose(ours / scale, expected / scale, atol=1e-7)


@pytest.mark.parametrize(
    ("temperature", "n_latent"),
    [
        (0.5, 1),
        (1.0, 2),
        (2.0, 1),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in [(0.5, 2), (1.0, 1), (2.0, 2)]),
    ],
)
def test_evidence_of_one_component_is_that_of_pca(temperature, n_latent):
    """Other coordinates, other statistics, the same integral."""
    prior = PCAPrior(0.9, np.array([0.3, -0.2, 0.1]), 4.0, 1.5, 0.5)
    X = small_rows(20, 3)
    rows = make_rows(X, None)
    ours, error, _ = tempered(mixture(1, n_latent, prior=prior), rows, temperature)
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    moments = RowMoments(X.mean(axis=0), vectors[:, ::-1].copy(), values[::-1].copy(), 20.0)
    pca = BayesianPCAEnergy(n_latent, prior, moments)
    theirs, other, _ = tempered(pca, moments.as_one_row(), temperature, seed=1)
    assert max(error, other) < 0.1
    assert abs(ours - theirs) < 5 * np.hypot(error, other)


@pytest.mark.parametrize(
    ("n_components", "temperature", "equal"),
    [(1, 1.0, False), (2, 1.0, False), (2, 2.0, False), (2, 0.5, True), (3, 1.0, True)],
)
def test_evidence_by_enumeration(n_components, temperature, equal):
    X = small_rows(7)
    energy = mixture(n_components, 0, equal=equal)
    value, error, _ = tempered(energy, make_rows(X, None), temperature)
    exact = enumerated(X, n_components, PRIOR, temperature, None if equal else 1.6)
    assert error < 0.05
    assert abs(value - exact) < 5 * error + 1e-3


@pytest.fixture(scope="module")
def sampled():
    X = small_rows(12)
    return X, BayesianMixturePCAAutoEncoder(2, n_latent=1, n_models=20, random_state=0).fit(X)


def test_attributes_of_a_sampled_fit(sampled):
    X, fitted = sampled
    sampling = fitted.sampling_
    assert sampling.method == "smc"
    assert sampling.balance < 4
    assert sampling.rhat < 1.05
    assert sampling.ess > 100
    # islands of few particles may disagree by more than they claim, and the last digits decide
    # whether they do: then the verdict must say so, and nothing else may be wrong
    assert sampling.status == "ok" or (
        sampling.status == "suspect"
        and len(sampling.reasons) == 1
        and "independent estimates of the log evidence differ" in sampling.reasons[0]
    )
    other = clone(fitted).set_params(random_state=1).fit(X)
    error = np.hypot(sampling.log_evidence_error, other.sampling_.log_evidence_error)
    assert error < 0.2
    assert abs(fitted.log_evidence_ - other.log_evidence_) < 5 * error
    np.testing.assert_allclose(fitted.log_evidence_, len(X) * fitted.hmaxemax_)
    models = fitted.models_
    assert models.components.shape == (20, 2, 1, 2)
    np.testing.assert_allclose((models.components**2).sum(axis=3), 1, rtol=1e-12)
    assert fitted.hmaxe_ > fitted.internal_energy_
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(fitted.predict(X), proba.argmax(axis=1))
    Z = fitted.transform(X)
    assert Z.shape == (12, 4)
    np.testing.assert_array_equal(Z[:, :2], proba)
    assert fitted.inverse_transform(Z).shape == X.shape
    assert fitted.sample(5, 0)[0].shape == (5, 2)
    expected = finite_differences(fitted.score_samples, X)
    np.testing.assert_allclose(fitted.score_gradient(X), expected, atol=1e-5)


def test_scores_average_over_models(sampled):
    X, fitted = sampled
    joints = joints_by_model(fitted.models_, X)
    expected = logsumexp(joints, axis=(0, 1)) - np.log(len(joints))
    np.testing.assert_allclose(fitted.score_samples(X), expected, rtol=1e-9)


def test_labels_match_the_reference(sampled):
    """No relabelling of a kept model agrees better on which component each row is from."""
    X, fitted = sampled
    reference = softmax(subspace_joint(fitted, X), axis=1)  # (N, K)
    codes = softmax(joints_by_model(fitted.models_, X), axis=1)  # (S, K, N)
    matched = np.einsum("nk,skn->s", reference, codes)
    swapped = np.einsum("nk,skn->s", reference, codes[:, ::-1])
    assert np.all(matched >= swapped - 1e-9)
    assert np.any(matched > swapped + 0.1)  # the order matters at all


def test_tempering_with_32_particles_is_not_ok_and_warns():
    X, settings = small_rows(12), BayesianMixturePCAAutoEncoder(2)._check_parameters()
    with RowRunner(1) as runner:
        run = sample_tempered(
            Objective(mixture(2, 1), make_rows(X, None), runner, 1.0),
            1.0,
            np.random.default_rng(0),
            plan=SMCPlan(2, 32, 3, n_keep=5),
        )
    with pytest.warns(ConvergenceWarning, match="sampling of the models is"):
        attributes = summarise(settings, run, len(X))
    assert attributes["sampling_"].method == "smc"
    assert attributes["sampling_"].status in ("suspect", "failed")
    assert not attributes["converged_"]


def test_sampling_at_a_high_model_temperature_does_not_miss_the_phase_of_two_components():
    """At tau = 8 sampling from the prior found a single one, 1.5 nats too low."""
    from_modes = mixture_of_irises(8.0)
    colder = mixture_of_irises(7.0)
    assert from_modes.sampling_.method == "modes"
    assert from_modes.sampling_.status == "ok"
    assert from_modes.log_evidence_ > -89.47  # by importance sampling at the modes
    # the log evidence is convex in N / tau, with slope G
    step = 150 / 7.0 - 150 / 8.0
    difference = colder.log_evidence_ - from_modes.log_evidence_
    errors = np.hypot(colder.sampling_.log_evidence_error, from_modes.sampling_.log_evidence_error)
    assert step * from_modes.internal_energy_ < difference + 4 * errors
    assert difference - 4 * errors < step * colder.internal_energy_


def mixture_of_irises(tau):
    X = load_iris().data
    return BayesianMixturePCAAutoEncoder(2, n_latent=1, model_temperature=tau, random_state=0).fit(
        X
    )
