"""Predictions of mixtures sampled at T = tau: averages over models, whatever their labels."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import permutations

import joblib
import numpy as np
import pytest
from _mixture_oracles import model_joints
from _oracles import (
    codes,
    finite_differences,
    fitted_covariances,
    gaussian_mixture_joint,
    hmax,
    joint_energies,
)
from _samplers import fit, make_prior, small_data
from scipy import stats
from scipy.linalg import expm
from scipy.special import logsumexp

from skbae import BayesianGMMAutoEncoder

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
    base = np.cov(X.T, bias=True) / 5 ** (2 / D)
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


def test_a_sampled_model_survives_a_file(sampled, tmp_path):
    fitted, X = sampled
    joblib.dump(fitted, tmp_path / "model")
    loaded = joblib.load(tmp_path / "model")
    assert loaded.sampling_ == fitted.sampling_
    assert loaded.log_evidence_ == fitted.log_evidence_
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))
