"""Mixtures of PCA against PCA, dense matrices, k-means and enumeration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _subspaces import (
    DIGITS,
    IRIS,
    TEMPERATURES,
    TEST,
    TRAIN,
    model,
    some_components,
)
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder
from skbae.energies.mixture._energy import MixtureParameters
from skbae.energies.mixture_pca._components import (
    PCAComponents,
    PCAFamily,
    PCAMixture,
    nearest_mean_components,
    orthonormal_rows,
    pooled_noise,
)
from skbae.energies.pca._energy import PCAEnergy, PCAParameters, melt
from skbae.estimators.mixture_pca._mode_starts import sampling_starts
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.passes._rows import RowRunner, make_rows


def rounding(fitted, rows):
    """Return a few units in the last place of what energies are differences of."""
    terms = rows.var(axis=0).sum() / np.min(fitted.noise_variance_)
    return 2 * np.finfo(float).eps * (terms + abs(fitted.hmaxe_))


# -- expectation maximisation --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    ("rows", "n_components", "n_latent"), [(IRIS, 3, 1), (IRIS, 3, 2), (DIGITS, 8, 5)]
)
def test_the_objective_never_decreases(rows, n_components, n_latent, temperature, tied):
    """Each difference, to a few units in the last place of the terms that an energy adds."""
    fitted = model(
        n_components,
        n_latent=n_latent,
        temperature=temperature,
        tied_noise=tied,
        init_params="k-means++",  # farther from a mode than the default
        tol=0,
        max_iter=60,
    ).fit(rows)
    values = np.array(fitted.lower_bounds_)
    assert len(values) > 5
    assert np.all(np.diff(values) >= -rounding(fitted, rows))
    assert values[-1] > values[0]


@pytest.mark.parametrize("tilt", [-0.2, 0.7])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_tilted_objective_never_decreases(temperature, tilt):
    fitted = model(n_latent=1, temperature=temperature, tilt=tilt, tol=1e-6).fit(IRIS)
    assert np.all(np.diff(fitted.lower_bounds_) >= -rounding(fitted, IRIS))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_reconstruction_error_never_increases():
    """Equal weights and tied noise at T = 0: alternating assignment and PCA."""
    errors = []
    for max_iter in range(20):
        fitted = model(
            6,
            n_latent=3,
            temperature=0,
            equal_weights=True,
            tied_noise=True,
            tol=0,
            max_iter=max_iter,
        ).fit(DIGITS)
        again = fitted.inverse_transform(fitted.transform(DIGITS))
        errors.append(((DIGITS - again) ** 2).sum())
    assert np.all(np.diff(errors) <= 1e-12 * np.array(errors[1:]))
    assert errors[-1] < 0.9 * errors[0]


def pca_optimum(rows, n_latent, temperature):
    """Return PCA's closed form and its objective."""
    energy, rows = PCAEnergy(n_latent, rows.shape[1]), make_rows(rows, None)
    start = PCAParameters(
        rows.centre[None],
        np.eye(energy.n_features)[None, :n_latent],
        np.ones((1, n_latent)),
        np.ones(1),
    )
    with RowRunner() as runner:
        for _ in range(2):
            kernel = energy.expectation(start, rows.frame, np.float64, temperature, 0.0)
            statistics = runner.reduce(kernel, rows)
            start = energy.maximise(statistics, start, temperature)
        kernel = energy.expectation(start, rows.frame, np.float64, temperature, 0.0)
        return start, runner.reduce(kernel, rows).objective[0]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    ("rows", "n_latent"), [(IRIS, 1), (IRIS, 2), (IRIS, 3), (DIGITS, 5), (DIGITS[:200], 40)]
)
def test_one_component_is_pca(rows, n_latent, temperature):
    fitted = model(1, n_latent=n_latent, temperature=temperature, tol=0, max_iter=80).fit(rows)
    expected, objective = pca_optimum(rows, n_latent, temperature)
    np.testing.assert_allclose(fitted.hmaxe_, objective, rtol=1e-12)
    np.testing.assert_allclose(fitted.means_, expected.means, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(fitted.noise_variance_, expected.noise, rtol=1e-9)
    np.testing.assert_allclose(
        fitted.component_precisions_, expected.precisions, rtol=1e-7, atol=1e-12
    )
    weighted = expected.components[0] * expected.shrink[0][:, None]
    projection = expected.components[0].T @ weighted
    shrink = 1 - fitted.noise_variance_[0] * fitted.component_precisions_[0]
    ours = fitted.components_[0].T @ (fitted.components_[0] * shrink[:, None])
    np.testing.assert_allclose(ours, projection, atol=1e-6)
    solid = expected.shrink[0] > 1e-9
    variances = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1][:n_latent]
    np.testing.assert_allclose(fitted.explained_variance_[0][solid], variances[solid], rtol=1e-7)


@pytest.mark.parametrize("n_latent", [2, 4])
def test_one_component_at_zero_is_scikit_learns_pca(n_latent):
    fitted = model(1, n_latent=n_latent, temperature=0, tol=1e-13).fit(IRIS)
    theirs = PCA(n_latent).fit(IRIS)
    signs = np.sign((fitted.components_[0] * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(
        fitted.transform(IRIS)[:, 1:] * signs, theirs.transform(IRIS), atol=1e-6
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_pooled_noise_of_one_component_equals_the_closed_form_of_pca(temperature):
    """The pooled root is PCA's closed form, whatever has melted."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.gamma(0.5, 1.0, (500, 6)), axis=1)[:, ::-1]
    total, ones = values.sum(axis=1), np.ones((500, 4))
    ours = pooled_noise(values[:, :4], ones, total, np.full(500, 6.0), temperature, np.zeros(500))
    theirs, _ = melt(values[:, :4], total, 6, temperature)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_pooled_noise_maximises_the_objective(temperature):
    """No other noise does better, with precisions best for it."""
    rng = np.random.default_rng(1)
    values, counts = rng.gamma(0.6, 1.0, (1, 3, 5)), np.array([[3.0, 10.0, 5.0]])
    values = -np.sort(-values, axis=2)
    top, total = values[..., :3], values.sum(axis=2)
    noise = pooled_noise(
        top.reshape(1, 9),
        np.repeat(counts, 3, axis=1),
        (counts * total).sum(axis=1),
        counts.sum(axis=1) * 5,
        temperature,
        np.zeros(1),
    )[0]

    def objective(s2):
        precisions = np.minimum(temperature / top, 1 / s2)
        own = 0.5 * temperature * np.log(precisions * s2) - 0.5 * precisions * top
        rest = (total - top.sum(axis=2)) / (2 * s2)
        return (counts * (own.sum(axis=2) - rest - 2.5 * np.log(s2))).sum()

    others = noise * np.exp(np.linspace(-2, 2, 401))
    assert objective(noise) >= max(objective(s2) for s2 in others) - 1e-12


def test_no_latent_is_a_spherical_mixture():
    fitted = model(3, n_latent=0, tol=1e-13).fit(IRIS)
    theirs = BayesianGMMAutoEncoder(
        3,
        model_temperature=0,
        covariance_type="spherical",
        reg_covar=0,
        weights_init=fitted.weights_,
        means_init=fitted.means_,
        precisions_init=1 / fitted.noise_variance_,
        tol=1e-13,
        max_iter=500,
    ).fit(IRIS)
    np.testing.assert_allclose(theirs.means_, fitted.means_, atol=1e-5)
    np.testing.assert_allclose(theirs.hmaxe_, fitted.hmaxe_, rtol=1e-12)
    np.testing.assert_allclose(theirs.predict_proba(IRIS), fitted.transform(IRIS), atol=1e-5)


def test_no_latent_at_zero_is_k_means():
    fitted = model(4, n_latent=0, temperature=0, equal_weights=True, tied_noise=True).fit(IRIS)
    theirs = KMeans(4, init=fitted.means_, n_init=1, tol=0).fit(IRIS)
    np.testing.assert_allclose(theirs.cluster_centers_, fitted.means_, atol=1e-9)
    np.testing.assert_array_equal(theirs.predict(IRIS), fitted.predict(IRIS))


@pytest.mark.parametrize("seed", range(3))
def test_digits(seed):
    """The figures that the family is for, on rows held out."""
    pca = PCA(5).fit(TRAIN)
    error = ((TEST - pca.inverse_transform(pca.transform(TEST))) ** 2).sum()
    hard = model(8, n_latent=5, temperature=0, random_state=seed).fit(TRAIN)
    own = ((TEST - hard.inverse_transform(hard.transform(TEST))) ** 2).sum()
    assert own < 0.7 * error
    soft = model(8, n_latent=5, random_state=seed).fit(TRAIN)
    assert soft.score(TEST) > pca.score(TEST) + 10


def test_few_distinct_rows_stay_finite():
    """Components with fewer rows than dimensions meet the floor, not infinity."""
    X = np.repeat(np.random.default_rng(0).standard_normal((6, 5)), 4, axis=0)
    for temperature in TEMPERATURES:
        fitted = model(5, n_latent=2, temperature=temperature).fit(X)
        assert np.isfinite(fitted.score_samples(X)).all()
        assert fitted.noise_variance_.min() >= 0.999e-6 * X.var(axis=0).mean()
        values = np.array(fitted.lower_bounds_)
        assert np.all(np.diff(values) >= -rounding(fitted, X))


def test_a_component_without_rows_stays_as_it_is():
    rng = np.random.default_rng(2)
    rows, params = make_rows(IRIS, None), some_components(rng, 1, 2, 1, 4, 3)
    params = PCAComponents(
        np.stack([[IRIS.mean(axis=0), np.full(4, 1e5)]]),
        params.components,
        params.precisions,
        params.noise,
        params.directions,
    )
    family = PCAFamily(2, 1, 4)
    energy = PCAMixture(family)
    start = MixtureParameters(np.full((1, 2), 0.5), params)
    with RowRunner(1) as runner:
        found = expectation_maximisation(
            Objective(energy, rows, runner, 1.0), start, tol=0, max_iter=5
        )
    new = found.params.components
    assert found.params.weights[0, 1] == 0
    for name in ("means", "components", "precisions", "noise"):
        np.testing.assert_array_equal(getattr(new, name)[:, 1], getattr(params, name)[:, 1])


def test_warm_start_continues_from_the_fitted_model():
    with pytest.warns(ConvergenceWarning):
        fitted = model(warm_start=True, max_iter=3, tol=0).fit(IRIS)
    first = fitted.lower_bound_
    with pytest.warns(ConvergenceWarning):
        fitted.fit(IRIS)
    np.testing.assert_allclose(fitted.lower_bounds_[0], first, rtol=1e-12)
    assert fitted.lower_bound_ > first
    with pytest.raises(ValueError, match=r"warm_start.*\(3, 1, 4, False\).*\(3, 2, 4, False\)"):
        fitted.set_params(n_latent=2).fit(IRIS)


def test_nearest_mean_components_assign_to_the_nearest():
    rng = np.random.default_rng(11)
    means = rng.standard_normal((1, 4, 3))
    basis = orthonormal_rows(rng.standard_normal((1, 4, 3, 3)))
    family = PCAFamily(4, 1, 3)
    params = MixtureParameters(
        np.full((1, 4), 0.25), nearest_mean_components(family, means, 2.0, basis)
    )
    X = rng.standard_normal((50, 3))
    bound = PCAMixture(family).bind(params, make_rows(X, None).frame, np.float64)
    distances = ((X[:, None] - means[0]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(bound.joint(X)[0].argmax(axis=0), distances.argmin(axis=1))


@pytest.mark.parametrize("seed", range(10))
def test_the_default_start_of_iris_is_as_good_as_k_means(seed):
    """Rows far from each other, without k-means, end at -1.588 with two seeds of ten."""
    fitted = BayesianMixturePCAAutoEncoder(3, n_latent=1, model_temperature=0, random_state=seed)
    assert fitted.fit(IRIS).lower_bound_ > -1.465


def test_searches_for_modes_start_at_many_groups_of_rows():
    """K-means would lead nearly all of them to the same groups."""
    settings = BayesianMixturePCAAutoEncoder(3, n_latent=1)._check_parameters()
    assert settings.init_params == "kmeans"
    settings = replace(settings, plans=replace(settings.plans, mode_starts=lambda n: 12))
    with RowRunner(1) as runner:
        found = sampling_starts(settings, make_rows(IRIS, None), np.random.default_rng(0), runner)
    first = found.params.take(slice(0, 12)).weights
    assert len(np.unique(np.sort(first, axis=1).round(2), axis=0)) > 1
