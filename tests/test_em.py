"""Expectation maximisation: against scikit-learn, and against its own promises."""

from __future__ import annotations

import numpy as np
import pytest
from _data import overlapping_blobs, start_for
from _instances import COVARIANCE_TYPES, SHARED_WITH_SKLEARN
from _oracles import em_step, fitted_covariances, gaussian_mixture_joint, hmax, tilted
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris
from sklearn.mixture import GaussianMixture

from skbae import BayesianGMMAutoEncoder

# Fits are stopped early on purpose in most of these tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def model(n_components=3, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


@pytest.fixture(scope="module")
def iris():
    return load_iris().data


@pytest.fixture(scope="module")
def digits():
    return load_digits().data


@pytest.fixture(scope="module")
def blobs():
    return overlapping_blobs()


# -- equality with scikit-learn ------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHARED_WITH_SKLEARN)
@pytest.mark.parametrize("n_iter", [1, 2, 3, 7, 20, 100])
@pytest.mark.parametrize("name", ["iris", "blobs"])
def test_equals_scikit_learn_after_any_number_of_iterations(kind, n_iter, name, request):
    X = request.getfixturevalue(name)
    settings = {"covariance_type": kind, "tol": 0.0, "max_iter": n_iter, "reg_covar": 1e-6}
    start = start_for(X, 3, kind)
    ours = model(3, **settings, **start).fit(X)
    theirs = GaussianMixture(3, **settings, **start).fit(X)
    # scikit-learn may see a change of exactly zero a step before us: at a fixed point, all agree
    assert ours.n_iter_ == n_iter or ours.converged_
    close = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(ours.weights_, theirs.weights_, **close)
    np.testing.assert_allclose(ours.means_, theirs.means_, **close)
    np.testing.assert_allclose(ours.covariances_, theirs.covariances_, **close)
    np.testing.assert_allclose(ours.precisions_, theirs.precisions_, **close)
    np.testing.assert_allclose(ours.precisions_cholesky_, theirs.precisions_cholesky_, **close)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), **close)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), **close)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.hmaxe_, theirs.score(X), **close)


@pytest.mark.parametrize("kind", SHARED_WITH_SKLEARN)
def test_iterations_are_those_of_scikit_learn_and_stop_no_earlier(kind, blobs):
    """Theirs stop at a small gain, ours where little is left to gain."""
    settings = {"covariance_type": kind, "reg_covar": 1e-6}
    start = start_for(blobs, 4, kind)
    theirs = GaussianMixture(4, tol=1e-4, max_iter=500, **settings, **start).fit(blobs)
    same = model(4, tol=0, max_iter=theirs.n_iter_, **settings, **start).fit(blobs)
    np.testing.assert_allclose(same.means_, theirs.means_, atol=1e-6)
    ours = model(4, tol=1e-4, max_iter=500, **settings, **start).fit(blobs)
    assert theirs.converged_
    assert ours.converged_
    assert ours.score(blobs) >= theirs.score(blobs) - 1e-6


# -- against the textbook step, whatever the setting ---------------------------------------------


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("equal_weights", [False, True])
def test_equals_textbook_steps(kind, temperature, equal_weights, blobs):
    start = start_for(blobs, 3, kind)
    ours = model(
        3,
        covariance_type=kind,
        temperature=temperature,
        equal_weights=equal_weights,
        tol=0.0,
        max_iter=4,
        reg_covar=0.01,
        **start,
    )
    # weights that are given stand for the first pass, also where they are equal afterwards
    first = ours.set_params(max_iter=0).fit(blobs)
    state = first.weights_, first.means_, fitted_covariances(first)
    np.testing.assert_allclose(state[1], start["means_init"], atol=1e-12)
    for _ in range(4):
        state = em_step(
            blobs,
            *state,
            kind,
            temperature=temperature,
            equal_weights=equal_weights,
            reg_covar=0.01,
        )
    ours.set_params(max_iter=4).fit(blobs)
    np.testing.assert_allclose(ours.weights_, state[0], rtol=1e-9)
    np.testing.assert_allclose(ours.means_, state[1], atol=1e-9)
    np.testing.assert_allclose(fitted_covariances(ours), state[2], atol=1e-9)


@pytest.mark.parametrize("tilt", [-0.7, -0.3])
def test_negative_tilt_takes_the_textbook_step(tilt, blobs):
    start = start_for(blobs, 3, "full")
    ours = model(3, tilt=tilt, tol=0.0, max_iter=1, reg_covar=0, **start).fit(blobs)
    begin = model(3, tilt=tilt, max_iter=0, reg_covar=0, **start).fit(blobs)
    expected = em_step(
        blobs, begin.weights_, begin.means_, fitted_covariances(begin), "full", tilt=tilt
    )
    np.testing.assert_allclose(ours.weights_, expected[0], rtol=1e-9)
    np.testing.assert_allclose(ours.means_, expected[1], atol=1e-9)
    np.testing.assert_allclose(ours.covariances_, expected[2], atol=1e-9)


# -- the objective never decreases ---------------------------------------------------------------


def assert_never_falls(fitted, X):
    """Every difference counts; only the rounding of the sum over rows is forgiven.

    A sum of N terms, in whatever order a processor adds them, is off by at most ``N eps`` times the
    sum of their sizes (Higham 2002, section 4.2): a mean over rows by ``N eps`` times their mean
    size, for which that of the mean stands, and a difference of two means by the sum of that.
    """
    history = np.asarray(fitted.lower_bounds_)
    assert len(history) > 3, "too short to say anything"
    size = np.abs(history[1:]) + np.abs(history[:-1])
    rounding = len(X) * np.finfo(np.float64).eps * size
    differences = np.diff(history)
    assert np.all(differences >= -rounding), differences.min()
    assert history[-1] > history[0] + 1e-3, "the objective hardly increased"


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("name", ["iris", "blobs"])
def test_hmaxe_never_decreases(kind, temperature, name, request):
    X = request.getfixturevalue(name)
    fitted = model(
        3,
        covariance_type=kind,
        temperature=temperature,
        reg_covar=0,
        tol=0,
        max_iter=60,
        **start_for(X, 3, kind),
    ).fit(X)
    assert_never_falls(fitted, X)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("tilt", [-0.3, -0.1, 0.5, 1.0, 10.0])
def test_tilted_objective_never_decreases(kind, temperature, tilt, blobs):
    """Upwards by backtracking, downwards (tilt in (-1, 0)) by the full step."""
    fitted = model(
        3,
        covariance_type=kind,
        temperature=temperature,
        tilt=tilt,
        reg_covar=0,
        tol=0,
        max_iter=30,
        **start_for(blobs, 3, kind),
    ).fit(blobs)
    assert_never_falls(fitted, blobs)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("tilt", [-0.5, 0.0, 2.0])
def test_reported_objectives_are_those_of_the_reported_model(temperature, tilt, blobs):
    """So that a history cannot be monotone by bookkeeping alone."""
    settings = {"temperature": temperature, "tilt": tilt, "tol": 0, **start_for(blobs, 3, "full")}
    history = []
    for n_iter in range(5):
        fitted = model(3, max_iter=n_iter, **settings).fit(blobs)
        values = hmax(gaussian_mixture_joint(fitted, blobs), temperature)
        np.testing.assert_allclose(fitted.hmaxe_, values.mean(), rtol=1e-10)
        np.testing.assert_allclose(fitted.lower_bound_, tilted(values, None, tilt), rtol=1e-10)
        history.append(fitted.lower_bound_)
        assert fitted.n_iter_ == n_iter
        np.testing.assert_allclose(fitted.lower_bounds_, history, rtol=1e-12)


# -- tilt ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "spherical"])
def test_worst_row_rises_with_the_tilt(kind, blobs):
    """From discounting outliers to caring for the worst row; one component has one optimum.

    At tilt 100 two rows take turns at being the worst: steps that overshoot gain very little long
    before the optimum, which a test of convergence must not be taken in by.
    """
    tilts = [-0.5, 0.0, 0.5, 2.0, 10.0, 100.0]
    worst, mean = [], []
    for tilt in tilts:
        fitted = model(1, covariance_type=kind, tilt=tilt, tol=1e-9, max_iter=4000).fit(blobs)
        assert fitted.converged_
        values = fitted.score_samples(blobs)
        worst.append(values.min())
        mean.append(values.mean())
    assert np.all(np.diff(worst) > 0), worst
    assert np.argmax(mean) == tilts.index(0.0), mean


def test_worst_row_rises_with_the_tilt_in_mixtures(iris):
    """The same with several components, each fit continuing from the one before."""
    fitted = model(3, warm_start=True, tol=1e-8, max_iter=2000)
    worst = []
    for tilt in [0.0, 0.5, 2.0, 10.0]:
        fitted.set_params(tilt=tilt).fit(iris)
        worst.append(fitted.score_samples(iris).min())
    assert np.all(np.diff(worst) > 0), worst


def test_small_tilt_inflates_the_covariance_of_one_gaussian():
    """The fixed point known in closed form: normal rows, reweighted, inflate by ``1 + t``.

    On rows placed at the quantiles of a normal, so that sums are integrals.
    """
    from scipy.stats import norm

    n = 20_000
    X = norm.ppf((np.arange(n) + 0.5) / n)[:, None]
    for tilt in (-0.4, 0.3):
        fitted = model(1, tilt=tilt, tol=1e-13, max_iter=2000, reg_covar=0).fit(X)
        # the tails beyond the last quantile are missing: a few parts in a thousand
        np.testing.assert_allclose(fitted.covariances_.item(), 1 + tilt, rtol=5e-3)


# -- zero temperature is k-means -----------------------------------------------------------------


@pytest.mark.parametrize("n_components", [2, 10])
def test_equals_k_means_on_digits(n_components, digits):
    centres = digits[np.random.default_rng(0).choice(len(digits), n_components, replace=False)]
    theirs = KMeans(
        n_components, init=centres, n_init=1, algorithm="lloyd", tol=0, max_iter=500
    ).fit(digits)
    ours = model(
        n_components,
        temperature=0,
        covariance_type="tied_spherical",
        equal_weights=True,
        means_init=centres,
        weights_init=np.full(n_components, 1 / n_components),
        precisions_init=1.0,
        reg_covar=0,
        tol=0,
        max_iter=500,
    ).fit(digits)
    np.testing.assert_array_equal(ours.predict(digits), theirs.labels_)
    np.testing.assert_allclose(ours.means_, theirs.cluster_centers_, atol=1e-9)
    codes = ours.transform(digits)
    inertia = ((digits - ours.inverse_transform(codes)) ** 2).sum()
    np.testing.assert_allclose(inertia, theirs.inertia_, rtol=1e-10)
    np.testing.assert_allclose(ours.covariances_, theirs.inertia_ / digits.size, rtol=1e-10)
    assert np.isin(codes, (0.0, 1.0)).all()
    np.testing.assert_array_equal(codes.sum(axis=1), 1)
    np.testing.assert_array_equal(codes.argmax(axis=1), theirs.labels_)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_cold_codes_approach_one_hot(kind, blobs):
    """The sweep from T = 1 to 0 has no jump at its end: T = 1e-6 gives the codes of T = 0."""
    start = start_for(blobs, 3, kind)
    settings = {"covariance_type": kind, "max_iter": 15, "tol": 0, **start}
    cold = model(3, temperature=1e-6, **settings).fit(blobs)
    zero = model(3, temperature=0, **settings).fit(blobs)
    codes = zero.predict_proba(blobs)
    assert np.isin(codes, (0.0, 1.0)).all()
    np.testing.assert_array_equal(codes.sum(axis=1), 1)
    np.testing.assert_allclose(cold.predict_proba(blobs), codes, atol=1e-12)
    np.testing.assert_allclose(cold.means_, zero.means_, atol=1e-9)
    np.testing.assert_allclose(cold.hmaxe_, zero.hmaxe_, atol=1e-5)
