"""Faults that random estimators and rows have found: wrong numbers in silence, raw errors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixtureAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.components import (
    Bernoulli,
    Binomial,
    Categorical,
    Exponential,
    Gaussian,
    Poisson,
    Uniform,
)

ONE = {"model_temperature": 0, "random_state": 0}
IRIS = load_iris().data
NORMAL = np.random.default_rng(0).normal(size=(40, 3))
BITS = (NORMAL > 0).astype(float)


# -- hmaxe_ is the mean score ----------------------------------------------------------------------


def test_hmaxe_of_a_noise_at_its_floor_counts_what_is_left():
    """A residual below the floor of the noise was taken for rounding: 0.3 nats a row too much."""
    labels = np.random.default_rng(1).integers(0, 3, size=40)
    X = np.eye(3)[labels] * [1e-6, 1.0, 1e6]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the floor is named
        fitted = BayesianPCAAutoEncoder(1, **ONE).fit(X)
        # a difference of variances of 1e12 and 1 has four digits
        np.testing.assert_allclose(fitted.hmaxe_, fitted.score(X), atol=1e-3)


# -- negative tilts --------------------------------------------------------------------------------

COLLAPSING = {
    "pca": BayesianPCAAutoEncoder(1, tilt=-0.99, **ONE),
    "pca-T0": BayesianPCAAutoEncoder(2, tilt=-0.9, temperature=0, **ONE),
    "pca-mean": BayesianPCAAutoEncoder(0, tilt=-0.99, **ONE),
    "mixture-pca-1": BayesianMixturePCAAutoEncoder(1, tilt=-0.99, **ONE),
    "mixture-pca-2": BayesianMixturePCAAutoEncoder(2, tilt=-0.9, **ONE),
    "mixture-pca-3": BayesianMixturePCAAutoEncoder(3, n_latent=0, tilt=-0.9, **ONE),
}


@pytest.mark.parametrize("name", COLLAPSING)
@pytest.mark.parametrize("gaps", [False, True])
def test_a_tilt_that_shrinks_the_noise_onto_few_rows_is_refused(name, gaps):
    """They "converged", with hmaxe_ from -1e6 to -8e306."""
    X = NORMAL.copy()
    if gaps:
        X[::7, 1] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"tilt=-0.9.*no maximum"):
            COLLAPSING[name].fit(X)


@pytest.mark.parametrize("tilt", [-0.1, 0.5])
def test_other_tilts_are_fitted_as_before(tilt):
    for n_components in (1, 2):
        fitted = BayesianMixturePCAAutoEncoder(n_components, tilt=tilt, **ONE).fit(NORMAL)
        np.testing.assert_allclose(fitted.hmaxe_, fitted.score(NORMAL), rtol=1e-8)
        assert np.all(fitted.noise_variance_ > 0.01)


# -- densities of decoded rows ---------------------------------------------------------------------

DECODERS = {
    "gmm": (BayesianGMMAutoEncoder(2, **ONE), NORMAL),
    "pca": (BayesianPCAAutoEncoder(1, **ONE), NORMAL),
    "mixture-pca": (BayesianMixturePCAAutoEncoder(2, **ONE), NORMAL),
    "mixture": (BayesianMixtureAutoEncoder(2, Gaussian("diag"), **ONE), NORMAL),
    "rbm": (BayesianRBMAutoEncoder(2, max_iter=2, n_init=1, random_state=0), BITS),
    "vae": (BayesianVAEAutoEncoder(1, max_iter=2, hidden_layer_sizes=3, random_state=0), NORMAL),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", DECODERS)
def test_log_density_takes_finite_vectors_of_the_right_length(name):
    """A single column was taken for all of them, and lists and frames raised AttributeError."""
    estimator, X = DECODERS[name]
    rows = estimator.fit(X).decode(estimator.encode(X))
    expected = rows.log_density(X)
    np.testing.assert_array_equal(rows.log_density(X.tolist()), expected)
    np.testing.assert_array_equal(rows.log_density(X.astype(object)), expected)
    np.testing.assert_allclose(rows.log_density(np.stack([X, X])), [expected] * 2, rtol=1e-12)
    np.testing.assert_allclose(rows.log_density(X[:1])[0], expected[0], rtol=1e-12)
    for shape in [(40, 1), (7, 3), (3,), (40, 4), ()]:
        with pytest.raises(ValueError, match=r"X must have shape \(\.\.\., 40, 3\)"):
            rows.log_density(np.zeros(shape))
    with pytest.raises(ValueError, match="X must be finite, got infinity"):
        rows.log_density(np.where(np.arange(3) == 1, np.inf, X))
    with pytest.raises(ValueError, match="X must hold numbers"):
        rows.log_density([["a", "b", "c"]] * 40)
    for wrong in (0, -1, 1.5, "3", True):
        with pytest.raises((TypeError, ValueError), match="n_samples must be an integer >= 1"):
            rows.sample(wrong)


def test_bits_have_no_probability_of_fractions():
    estimator, X = DECODERS["rbm"]
    rows = estimator.fit(X).decode(estimator.transform(X))
    with pytest.raises(ValueError, match="zeros and ones"):
        rows.log_density(X + 0.3)


IMPOSSIBLE = [
    (Bernoulli(), 0.5),
    (Bernoulli(), 2.0),
    (Binomial(3), 4.0),
    (Binomial(3), 1.5),
    (Poisson(), 0.5),
    (Poisson(), -1.0),
    (Categorical(), 7.0),
    (Categorical(), 0.5),
    (Exponential(), -1.0),
]


@pytest.mark.parametrize(("kind", "value"), IMPOSSIBLE)
def test_what_cannot_be_has_no_density(kind, value):
    """An unknown category had probability one, and a negative time a density."""
    fitted = BayesianMixtureAutoEncoder(2, kind, **ONE).fit(BITS)
    rows = fitted.decode(fitted.transform(BITS))
    changed = BITS.copy()
    changed[3, 1] = value
    found = rows.log_density(changed)
    assert found[3] == -np.inf
    np.testing.assert_array_equal(np.delete(found, 3), np.delete(rows.log_density(BITS), 3))
    gap = BITS.copy()
    gap[:, 1] = np.nan
    assert fitted.condition(gap).log_density(changed)[3] == -np.inf
    if not isinstance(kind, Exponential):
        chances = fitted.condition(gap).probabilities(1, [0.0, 1.0, value])
        assert np.all(chances[:, 2] == 0)
        assert np.all(chances[:, :2].sum(axis=1) < 1 + 1e-12)


def test_rows_beyond_a_component_have_the_density_of_noise():
    """The difference of two infinities was NaN."""
    X = np.concatenate([np.zeros((20, 2)), np.ones((20, 2)), [[5.0, 5.0]]])
    fitted = BayesianMixtureAutoEncoder(2, Binomial(5), noise=Uniform(), **ONE).fit(X)
    found = fitted.decode(fitted.encode(X)).log_density(X)
    assert not np.isnan(found).any()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("noise", [None, Uniform()])
@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_quantiles_do_not_depend_on_units(noise, scale):
    """They were searched for within an absolute distance, and lost all digits below 1e-24."""
    times = np.random.default_rng(0).exponential(size=(60, 2))

    def median(scale):
        model = BayesianMixtureAutoEncoder(2, Exponential(), noise=noise, **ONE).fit(scale * times)
        gaps = np.column_stack([np.full(5, np.nan), scale * times[:5, 1]])
        return model.condition(gaps).quantile(0.5)[:, 0]

    np.testing.assert_allclose(median(scale) / scale, median(1.0), rtol=1e-6)
