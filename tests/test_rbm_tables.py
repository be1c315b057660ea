"""Machines of real rows on small ordinary tables: none ends below its special cases."""

from __future__ import annotations

import numpy as np
import pytest
from _tables import TABLES, two_blobs
from sklearn.datasets import load_iris

from skbae import BayesianGMMAutoEncoder, BayesianRBMAutoEncoder
from skbae.energies.rbm._starts import splitting_start, two_normals
from skbae.inference.passes._rows import make_rows

KINDS = {"per_feature": "tied_diag", "shared": "tied_spherical"}


def alone(X, noise):
    """Return the mean log density of independent normal features."""
    variance = X.var(axis=0)
    if noise == "shared":
        variance = np.full_like(variance, variance.mean())
    return -0.5 * (np.log(2 * np.pi * variance) + 1).sum()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_components", [1, 2, 5, 16])
def test_two_groups_are_told_apart_by_any_number_of_units(n_components, seed):
    """Without weights the gradient vanishes: a fit must not stay there."""
    X = two_blobs()
    fitted = BayesianRBMAutoEncoder(n_components, visible="gaussian", random_state=seed).fit(X)
    mixture = BayesianGMMAutoEncoder(
        2, covariance_type="tied_diag", model_temperature=0, random_state=0
    ).fit(X)
    assert mixture.hmaxe_ > alone(X, "shared") + 0.4
    assert fitted.hmaxe_ > mixture.hmaxe_ - 1e-3
    if n_components == 1:
        assert fitted.hmaxe_ == pytest.approx(mixture.hmaxe_, abs=1e-3)


@pytest.mark.parametrize("noise", KINDS)
@pytest.mark.parametrize("n_components", [1, 3, 14])
@pytest.mark.parametrize("name", TABLES)
def test_no_fit_is_below_a_mixture_of_two(name, n_components, noise):
    X = TABLES[name]()
    fitted = BayesianRBMAutoEncoder(
        n_components, visible="gaussian", noise=noise, n_init=2, random_state=0
    ).fit(X)
    mixture = BayesianGMMAutoEncoder(
        2, covariance_type=KINDS[noise], model_temperature=0, random_state=0
    ).fit(X)
    assert fitted.hmaxe_ > alone(X, noise)
    assert fitted.hmaxe_ > mixture.hmaxe_ - 2e-3
    np.testing.assert_allclose(fitted.score(X), fitted.hmaxe_, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:.*gradient is still above")
@pytest.mark.parametrize("n_components", [3, 14])
def test_units_of_single_columns_do_not_matter(n_components):
    X = load_iris().data
    units = np.array([1e-3, 1.0, 7.0, 1e4])
    settings = {"visible": "gaussian", "n_init": 1, "max_iter": 15, "random_state": 0}
    here = BayesianRBMAutoEncoder(n_components, **settings).fit(X)
    there = BayesianRBMAutoEncoder(n_components, **settings).fit(units * X)
    assert there.hmaxe_ + np.log(units).sum() == pytest.approx(here.hmaxe_, abs=1e-4)
    np.testing.assert_allclose(there.noise_variance_ / units**2, here.noise_variance_, rtol=1e-3)
    back = there.inverse_transform(there.transform(units * X)) / units
    np.testing.assert_allclose(back, here.inverse_transform(here.transform(X)), atol=1e-2)


def test_unscaled_columns_are_all_reconstructed():
    X = TABLES["wine"]()
    fitted = BayesianRBMAutoEncoder(8, visible="gaussian", random_state=0).fit(X)
    left = ((X - fitted.inverse_transform(fitted.transform(X))) ** 2).mean(axis=0)
    assert np.all(left < X.var(axis=0))


@pytest.mark.filterwarnings("ignore:.*gradient is still above")
def test_noise_of_features_has_a_floor():
    """As many codes as distinct rows: only the floor keeps the likelihood finite."""
    X = np.repeat(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), 10, axis=0)
    fitted = BayesianRBMAutoEncoder(
        3, visible="gaussian", early_stopping=False, random_state=0
    ).fit(X)
    assert np.all(fitted.noise_variance_ >= 0.999e-3 * X.var(axis=0))
    assert np.isfinite(fitted.score_samples(X)).all()


@pytest.mark.parametrize("per_feature", [False, True])
def test_the_mixture_of_two_is_a_stationary_point(per_feature):
    """Of expectation maximisation, written out."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(-1, 1, (70, 3)), rng.normal(1.5, 1, (30, 3))])
    weights = rng.uniform(0.5, 2, 100)
    low, step, noise, share = two_normals(make_rows(X, weights), per_feature)
    means = np.stack([low, low + step])
    logs = np.log([1 - share, share]) - 0.5 * ((X[:, None] - means) ** 2 / noise).sum(axis=2)
    r = np.exp(logs - logs.max(axis=1, keepdims=True))
    r = weights[:, None] * r / r.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(r.T @ X / r.sum(axis=0)[:, None], means, atol=1e-4)
    assert r[:, 1].sum() / weights.sum() == pytest.approx(share, abs=1e-4)
    square = np.einsum("nk,nkd->d", r, (X[:, None] - means) ** 2) / weights.sum()
    np.testing.assert_allclose(noise, square if per_feature else square.mean(), rtol=1e-3)


def test_units_that_split_the_rows_in_turn_have_the_rows_mean():
    """A product of two groups in each of two columns: a unit for each column."""
    rng = np.random.default_rng(0)
    X = rng.choice([-2.0, 2.0], (400, 2)) * [1.0, 1.5] + 0.3 * rng.normal(size=(400, 2))
    rows = make_rows(X - X.mean(axis=0), None)
    found = splitting_start(rows, 2, True, np.zeros((2, 2)))
    steps = np.abs(found.weights[0])
    np.testing.assert_allclose(np.sort(steps.max(axis=1)), [4.0, 6.0], atol=0.2)
    np.testing.assert_allclose(found.noise[0], 0.09, rtol=0.2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("temperature", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("n_components", [2, 14])
def test_tables_leave_no_floating_point_error_to_the_caller(n_components, temperature):
    for name in ("two blobs", "wine"):
        X = TABLES[name]()
        model = BayesianRBMAutoEncoder(
            n_components, visible="gaussian", temperature=temperature, max_iter=5, random_state=0
        )
        with np.errstate(all="raise"):
            fitted = model.fit(X)
            for rows in (X[:20], X[:20] + 1e3 * X.std(axis=0)):
                fitted.inverse_transform(fitted.transform(rows))
                fitted.score_gradient(rows)
                assert np.isfinite(fitted.score_samples(rows)).all()
