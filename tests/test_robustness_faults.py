"""Faults that random estimators and rows have found: wrong numbers in silence, raw errors."""

from __future__ import annotations

import io
import warnings
from dataclasses import fields, is_dataclass

import joblib
import numpy as np
import pytest
from _altered import failing_at_the_end, quick
from _poisson import PoissonComponents, Rates
from sklearn import config_context
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

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
from skbae.energies.mixture._conjugate import ConjugateMixture
from skbae.energies.mixture._energy import MixtureParameters
from skbae.energies.vae._posterior import _damped_steps
from skbae.estimators import _mixture_sampling
from skbae.inference.evidence._partition import acceptance_ratio
from skbae.inference.sample._tempering import TemperingError

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


# -- extremes of weights and parameters ------------------------------------------------------------


@pytest.mark.parametrize("estimator", [BayesianGMMAutoEncoder(2, **ONE), DECODERS["vae"][0]])
def test_weights_whose_sums_overflow_are_refused(estimator):
    with pytest.raises(ValueError, match=r"sample_weight must sum to at most 1e\+250, got 4e\+301"):
        estimator.fit(NORMAL, sample_weight=np.full(40, 1e300))


def test_networks_refuse_weights_next_to_which_the_penalty_overflows():
    """Single precision overflowed in silence."""
    model = BayesianVAEAutoEncoder(1, max_iter=2, hidden_layer_sizes=3, alpha=1.0, random_state=0)
    with pytest.raises(ValueError, match=r"sample_weight sums to 4e-99.*decrease alpha"):
        model.fit(NORMAL, sample_weight=np.full(40, 1e-100))


def test_a_training_that_diverges_says_so_and_nothing_else():
    model = BayesianVAEAutoEncoder(
        1, hidden_layer_sizes=(4,), activation="relu", batch_size=1, learning_rate_init=1e3
    )
    model.set_params(max_iter=3, random_state=0)
    X = np.random.default_rng(0).normal(size=(20, 23))
    with pytest.raises(ValueError, match="decrease learning_rate_init"):
        model.fit(X)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_codes_that_rows_do_not_determine_stay_where_they_are(kind):
    """Without a prior their equations are singular: LinAlgError."""
    precision = np.array([[[4.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]], kind)
    steps = _damped_steps(precision, np.array([[2.0, 0.0], [0.0, 0.0]], kind), np.zeros(2, kind))
    np.testing.assert_allclose(steps, [[0.5, 0.0], [0.0, 0.0]], rtol=2e-3)


def test_a_reg_covar_that_overflows_is_refused():
    with pytest.raises(ValueError, match="reg_covar=1e-300 is so small next to"):
        BayesianGMMAutoEncoder(2, reg_covar=1e-300, **ONE).fit(1e20 * NORMAL)
    assert np.isfinite(BayesianGMMAutoEncoder(2, reg_covar=1e-200, **ONE).fit(NORMAL).hmaxe_)


def test_weights_of_components_that_underflow_have_a_finite_density():
    energy = ConjugateMixture(PoissonComponents(2, 1), np.full(2, 1e-3))
    params = MixtureParameters(np.array([[1.0, 0.0]]), Rates(np.ones((1, 2, 1))))
    assert np.isfinite(energy.log_prior(params)).all()


def test_estimates_of_log_z_without_overlap_have_no_error_bar():
    _, error = acceptance_ratio(np.full(10, -1e4), np.full(10, 1e4))
    assert error == np.inf


def test_an_uncertain_partition_function_is_told():
    """Nothing was said of an hmaxe_ of 1e16."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(40, 1)) * rng.normal(size=(1, 2)) * [1e-6, 1e6]
    settings = {"visible": "gaussian", "partition": "ais", "n_init": 1, "max_iter": 3}
    settings |= {"temperature": 1e-8, "n_chains": 5, "batch_size": 1000, "random_state": 0}
    model = BayesianRBMAutoEncoder(2, learning_rate_init=1e-10, **settings)
    with pytest.warns(ConvergenceWarning, match="scores may be wrong"):
        model.fit(X)


def test_a_singular_matrix_is_a_matter_of_the_rows():
    """LinAlgError said nothing of X; units of 1e-6 and 1e6 and weights of 1e9 lead to it."""
    model = failing_at_the_end(BayesianPCAAutoEncoder(1, **ONE), np.linalg.LinAlgError("Singular"))
    with pytest.raises(ValueError, match=r"cannot be fitted to X.*scale columns") as caught:
        model.fit(NORMAL)
    assert type(caught.value) is ValueError
    assert not hasattr(model, "models_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_sampling_without_a_mode_says_so():
    """It failed in its plan: "n_islands must be at least 2, got 0"."""
    X = np.random.default_rng(0).integers(0, 2, size=(20, 5)).astype(float)
    model = BayesianGMMAutoEncoder(3, temperature=1e8, model_temperature=100, n_models=2)
    model.set_params(covariance_type="spherical", equal_weights=True, random_state=0)
    try:
        fitted = quick(model).fit(X, sample_weight=np.full(20, 1e10))
    except TemperingError as error:
        assert "temperature" in str(error)  # noqa: PT017
    else:
        assert fitted.sampling_.status != "ok"


# -- weights of sampled mixtures -------------------------------------------------------------------

COUNTS = np.concatenate(
    [
        np.random.default_rng(i).poisson(rates, size=(15, 2))
        for i, rates in enumerate([(2, 9), (9, 2)])
    ]
).astype(float)


@pytest.mark.parametrize("gaps", [False, True])
def test_sweeps_over_weighted_counts_are_those_over_repeated_ones(gaps, monkeypatch):
    """Counts without gaps were refused: "a sweep over rows with missing entries"."""
    monkeypatch.setattr(_mixture_sampling, "MOST_ALLOCATION_WORK", 0)
    X = COUNTS.copy()
    if gaps:
        X[::4, 0] = np.nan
    model = BayesianMixtureAutoEncoder(2, Poisson(), n_models=20, random_state=0)
    by_weight = quick(model).fit(X, sample_weight=np.full(30, 3)).log_evidence_
    by_rows = quick(model).fit(np.repeat(X, 3, axis=0)).log_evidence_
    np.testing.assert_allclose(by_weight, by_rows, atol=0.05)


SAMPLED = {
    "gmm": BayesianGMMAutoEncoder(2, n_models=2, random_state=0),
    "mixture": BayesianMixtureAutoEncoder(2, Poisson(), n_models=2, random_state=0),
    "mixture-pca": BayesianMixturePCAAutoEncoder(2, n_models=2, random_state=0),
}


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("gaps", [False, True])
def test_weights_of_more_rows_than_can_be_drawn_are_refused(name, gaps):
    """MemoryError, "n < 0", or "repeats may not contain negative values"."""
    X = COUNTS.copy()
    if gaps:
        X[::4, 0] = np.nan
    if gaps and name == "mixture-pca":
        pytest.skip("sampled without codes")
    with pytest.raises(ValueError, match="sample_weight"):
        quick(SAMPLED[name]).fit(X, sample_weight=np.full(30, 1e100))
    if gaps or name == "mixture-pca":
        with (
            config_context(working_memory=1),
            pytest.raises(ValueError, match=r"sample_weight sums to 3e\+06 rows.*working_memory"),
        ):
            quick(SAMPLED[name]).fit(X, sample_weight=np.full(30, 1e5))


# -- files -----------------------------------------------------------------------------------------


def arrays(value):
    if isinstance(value, np.ndarray):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays(getattr(value, field.name))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scores_are_the_same_bits_after_loading():
    """Arrays in an order of their own were loaded in another, and products rounded otherwise."""
    X = np.random.default_rng(1).normal(size=(20, 23))
    model = BayesianMixturePCAAutoEncoder(2, n_latent=2, tied_noise=True, n_models=2)
    fitted = quick(model.set_params(random_state=0)).fit(X)
    for value in vars(fitted).values():
        for array in arrays(value):
            assert array.flags.c_contiguous or array.flags.f_contiguous
    file = io.BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).score_samples(X), fitted.score_samples(X))
