"""Precision and awkward data: the same answer, or a clear error; never silent nonsense."""

from __future__ import annotations

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES, each_instance
from _oracles import fitted_covariances, gaussian_mixture_joint, hmax
from sklearn.datasets import load_digits, load_iris

from skbae import BayesianGMMAutoEncoder

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

each_kind = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
each_temperature = pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 3.0])


def model(n_components=3, **settings):
    return BayesianGMMAutoEncoder(
        n_components, **{"model_temperature": 0, "random_state": 0, **settings}
    )


@pytest.fixture(scope="module")
def iris():
    return load_iris().data


@pytest.fixture(scope="module")
def digits():
    return load_digits().data


# -- single precision ----------------------------------------------------------------------------


@each_instance
def test_float32_in_float32_out(instance, iris):
    X = iris.astype(np.float32)
    fitted = instance.make(3).fit(X)
    assert fitted.transform(X).dtype == np.float32
    if instance.joint is not None:
        assert fitted.predict_proba(X).dtype == np.float32
    assert fitted.inverse_transform(fitted.transform(X)).dtype == np.float32
    if instance.density:
        assert fitted.denoise(X, 0.1).dtype == np.float32
    assert fitted.encode(X).sample(2, random_state=0).dtype == np.float32
    assert fitted.transform(iris).dtype == np.float64
    # models and scores are kept in double precision
    for name in instance.attributes:
        assert getattr(fitted, name).dtype == np.float64
    assert fitted.score_samples(X).dtype == np.float64


@each_kind
@each_temperature
def test_float32_scores_on_raw_digits(kind, temperature, digits):
    """Grey levels as they come: constant and nearly constant columns, scikit-learn's reg_covar."""
    settings = {"covariance_type": kind, "temperature": temperature, "max_iter": 10, "tol": 0}
    settings["reg_covar"] = 1e-6
    double = model(10, **settings).fit(digits)
    single = model(10, **settings).fit(digits.astype(np.float32))
    np.testing.assert_allclose(single.score(digits), double.score(digits), rtol=1e-3)
    np.testing.assert_allclose(single.hmaxe_, double.hmaxe_, rtol=1e-3)
    # one model, rows in either precision (grey levels are exact in both)
    values = double.score_samples(digits)
    np.testing.assert_allclose(
        double.score_samples(digits.astype(np.float32)), values, rtol=1e-3, atol=0.05
    )
    expected = hmax(gaussian_mixture_joint(double, digits), temperature)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-6)


@each_kind
@pytest.mark.parametrize("distance", [1e2, 1e3, 1e4])
@pytest.mark.parametrize("init", ["k-means++", "kmeans"])
def test_float32_scores_of_far_apart_groups(kind, distance, init):
    """Groups much narrower than the spread of all rows: sums over the whole would cancel."""
    rng = np.random.default_rng(0)
    centres = distance * np.array([[-1.0, 1.0], [1.0, 0.3], [0.2, -1.0]])
    X = (centres[rng.integers(3, size=1000)] + rng.normal(size=(1000, 2))).astype(np.float32)
    settings = {"covariance_type": kind, "init_params": init}
    single = model(**settings).fit(X)
    double = model(**settings).fit(X.astype(np.float64))
    np.testing.assert_allclose(single.score(X), double.score(X.astype(np.float64)), rtol=1e-3)
    assert len(np.unique(single.predict(X))) == 3


@each_kind
def test_float32_gradient(kind, iris):
    fitted = model(covariance_type=kind).fit(iris)
    X = iris.astype(np.float32)
    exact = fitted.score_gradient(X.astype(np.float64))
    np.testing.assert_allclose(
        fitted.score_gradient(X), exact, rtol=1e-3, atol=1e-3 * np.abs(exact).max()
    )


# -- where the data are and how large ------------------------------------------------------------


@each_kind
@each_temperature
def test_shift_does_not_change_the_score(kind, temperature, iris):
    settings = {"covariance_type": kind, "temperature": temperature}
    here = model(**settings).fit(iris)
    # the rows as they are after rounding to the grid of numbers around 1e6
    there = model(**settings).fit(iris + 1e6)
    np.testing.assert_allclose(there.hmaxe_, here.hmaxe_, atol=1e-6)
    np.testing.assert_allclose(there.score_samples(iris + 1e6), here.score_samples(iris), atol=1e-5)
    np.testing.assert_allclose(there.means_ - 1e6, here.means_, atol=1e-6)
    np.testing.assert_allclose(there.predict_proba(iris + 1e6), here.predict_proba(iris), atol=1e-5)


@each_kind
def test_shifted_float32(kind, iris):
    """At 1e4 a float32 keeps steps of 1e-3: equal to double precision on the very same rows."""
    X = (10 * iris + 1e4).astype(np.float32)
    single = model(covariance_type=kind).fit(X)
    double = model(covariance_type=kind).fit(X.astype(np.float64))
    np.testing.assert_allclose(single.score(X), double.score(X.astype(np.float64)), rtol=1e-3)


@each_kind
@each_temperature
@pytest.mark.parametrize("scale", [1e8, 1e-9])
def test_scale_only_adds_its_logarithm(kind, temperature, scale, iris):
    """With the floor in the same units, fits are similar and scores differ by ``D log scale``."""
    settings = {"covariance_type": kind, "temperature": temperature, "tol": 1e-6, "max_iter": 300}
    one = model(reg_covar=1e-6, **settings).fit(iris)
    other = model(reg_covar=1e-6 * scale**2, **settings).fit(iris * scale)
    log_scale = iris.shape[1] * np.log(scale)
    np.testing.assert_allclose(other.hmaxe_ + log_scale, one.hmaxe_, atol=1e-5)
    np.testing.assert_allclose(other.means_ / scale, one.means_, atol=1e-5)
    np.testing.assert_allclose(
        other.predict_proba(iris * scale), one.predict_proba(iris), atol=1e-4
    )


@each_kind
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1e8, 1e-9, 1e15])
def test_any_scale_is_finite_with_default_settings(kind, dtype, scale, iris):
    X = (iris * scale).astype(dtype)
    fitted = model(covariance_type=kind).fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()
    assert np.isfinite(fitted.means_).all()
    assert np.isfinite(fitted.covariances_).all()
    np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


def test_overflowing_data_raise(iris):
    for scale in (1e155, 1e200, 1e300):
        with pytest.raises(ValueError, match="X is too large"):
            model().fit(iris * scale)


# -- degenerate rows and columns -----------------------------------------------------------------


@each_kind
@each_temperature
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_duplicated_rows_give_finite_fits(kind, temperature, dtype, iris):
    """Fewer distinct rows than components, and many of each."""
    X = np.repeat(iris[[0, 60, 120]], 20, axis=0).astype(dtype)
    fitted = model(5, covariance_type=kind, temperature=temperature).fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()
    assert np.isfinite(fitted.means_).all()
    reconstruction = fitted.inverse_transform(fitted.transform(X))
    if kind != "tied_spherical" or temperature <= 1:
        np.testing.assert_allclose(reconstruction, X, atol=1e-2)


def test_equal_rows_give_finite_fits():
    X = np.full((20, 3), 7.0)
    for kind in COVARIANCE_TYPES:
        fitted = model(2, covariance_type=kind).fit(X)
        np.testing.assert_allclose(fitted.means_, 7)
        assert np.isfinite(fitted.score(X))
        with pytest.raises(ValueError, match="reg_covar"):
            model(2, covariance_type=kind, reg_covar=0).fit(X)


@each_kind
@each_temperature
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_constant_columns(kind, temperature, dtype, iris):
    X = np.column_stack([iris, np.full(len(iris), 3.0), np.zeros(len(iris))]).astype(dtype)
    fitted = model(covariance_type=kind, temperature=temperature).fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()
    np.testing.assert_allclose(fitted.means_[:, 4:], np.tile([3.0, 0.0], (3, 1)), atol=1e-6)
    values = hmax(gaussian_mixture_joint(fitted, X), temperature)
    np.testing.assert_allclose(fitted.score_samples(X), values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "tied_diag"])
def test_constant_column_without_a_floor_is_a_clear_error(kind, iris):
    X = np.column_stack([iris, np.full(len(iris), 3.0)])
    with pytest.raises(ValueError, match=r"(?s)constant.*reg_covar"):
        model(covariance_type=kind, reg_covar=0).fit(X)


@each_kind
@each_temperature
def test_more_features_than_rows(kind, temperature):
    X = np.random.default_rng(0).normal(size=(20, 50))
    fitted = model(2, covariance_type=kind, temperature=temperature, reg_covar=1e-3).fit(X)
    values = hmax(gaussian_mixture_joint(fitted, X), temperature)
    np.testing.assert_allclose(fitted.score_samples(X), values, rtol=1e-8)
    assert fitted.transform(X).shape == (20, 2)


def test_more_features_than_rows_without_a_floor():
    X = np.random.default_rng(0).normal(size=(20, 50))
    for kind in ("full", "tied"):
        with pytest.raises(ValueError, match="reg_covar"):
            model(2, covariance_type=kind, reg_covar=0).fit(X)
    for kind in ("spherical", "tied_spherical", "tied_diag"):
        assert np.isfinite(model(2, covariance_type=kind, reg_covar=0).fit(X).score(X))


@each_kind
def test_one_feature(kind):
    X = np.random.default_rng(0).normal(size=(100, 1))
    fitted = model(2, covariance_type=kind).fit(X)
    np.testing.assert_allclose(
        fitted.score_samples(X), hmax(gaussian_mixture_joint(fitted, X), 1.0), rtol=1e-9
    )


def test_as_many_components_as_rows(iris):
    fitted = model(20, covariance_type="spherical", temperature=0).fit(iris[:20])
    assert np.isfinite(fitted.score(iris[:20]))


@pytest.mark.parametrize(
    "change",
    [np.asfortranarray, lambda X: X[::-1][::-1], lambda X: X.tolist(), np.ascontiguousarray],
    ids=["fortran", "strided", "list", "c"],
)
def test_memory_layout_does_not_matter(change, iris):
    expected = model().fit(iris)
    fitted = model().fit(change(iris))
    np.testing.assert_allclose(fitted.means_, expected.means_, rtol=1e-10)
    np.testing.assert_allclose(fitted.predict_proba(change(iris)), expected.predict_proba(iris))


def test_integer_rows_equal_float_rows(digits):
    settings = {"covariance_type": "diag", "max_iter": 5}
    floats = model(4, **settings).fit(digits)
    integers = model(4, **settings).fit(digits.astype(np.int64))
    np.testing.assert_array_equal(floats.means_, integers.means_)
    assert integers.transform(digits.astype(np.int64)).dtype == np.float64


@each_kind
@pytest.mark.parametrize("distance", [1e4, 1e6, 1e7])
def test_far_apart_groups_in_double_precision(kind, distance):
    """Expanded products would lose these digits; differences to the means keep them."""
    rng = np.random.default_rng(0)
    centres = distance * np.array([[-1.0, 1.0], [1.0, 0.3], [0.2, -1.0]])
    X = centres[rng.integers(3, size=1000)] + rng.normal(size=(1000, 2))
    fitted = model(covariance_type=kind).fit(X)
    expected = hmax(gaussian_mixture_joint(fitted, X), 1.0)
    np.testing.assert_allclose(fitted.score_samples(X), expected, atol=1e-5)
    # and the covariances are those within the groups
    labels = fitted.predict(X)
    assert len(np.unique(labels)) == 3
    within = np.mean([X[labels == k].var(axis=0).mean() for k in range(3)])
    average = np.mean(np.diagonal(fitted_covariances(fitted), axis1=1, axis2=2))
    np.testing.assert_allclose(average, within, rtol=0.02)
