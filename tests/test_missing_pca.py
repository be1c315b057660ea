"""PCA and mixtures of PCA on rows with missing entries."""

from __future__ import annotations

import numpy as np
import pytest
from _missing_oracles import conditional_mixture, with_gaps
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits, load_iris

from skbae import BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder
from skbae.energies.mixture_pca._components import PCAFamily, PCAMixture
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows

IRIS = load_iris().data
GAPPY = with_gaps(IRIS, 0.3)


def pca(n_components=2, X=GAPPY, **changes):
    settings = {"model_temperature": 0.0, "tol": 1e-5, "max_iter": 2000, **changes}
    return BayesianPCAAutoEncoder(n_components, **settings).fit(X)


def mixture(n_components=2, X=GAPPY, **changes):
    settings = {"model_temperature": 0.0, "random_state": 0, **changes}
    return BayesianMixturePCAAutoEncoder(n_components, **settings).fit(X)


def components_of(model):
    """Return weights, means, directions, precisions and noises of all components."""
    if isinstance(model, BayesianPCAAutoEncoder):
        own = model.mean_, model.components_, model.component_precisions_
        return np.ones(1), *(each[None] for each in own), np.array([model.noise_variance_])
    noise = np.broadcast_to(model.noise_variance_, model.weights_.shape)
    own = model.weights_, model.means_, model.components_, model.component_precisions_
    return *own, noise


def covariances_of(model):
    """Return the covariances of the components' densities, for T > 0."""
    _, _, directions, precisions, noise = components_of(model)
    found = []
    for axes, p, s2 in zip(directions, precisions, noise, strict=True):
        found.append((axes.T * (1 / p - s2)) @ axes + s2 * np.eye(axes.shape[1]))
    return np.array(found)


def joint_of(model, X):
    """Return ``log w_k + Hmax_T`` of the known entries, from its definition, (N, K)."""
    temperature = model.temperature
    weights, means, directions, _, noise = components_of(model)
    out = np.empty((len(X), len(weights)))
    for i, row in enumerate(X):
        known = np.flatnonzero(~np.isnan(row))
        size = len(known)
        for k, weight in enumerate(weights):
            deviation, s2 = row[known] - means[k][known], noise[k]
            value = np.log(weight) - 0.5 * size * np.log(2 * np.pi * s2)
            if size and temperature:
                own = covariances_of(model)[k][np.ix_(known, known)]
                normal = multivariate_normal(np.zeros(size), temperature * own)
                value += 0.5 * temperature * size * np.log(2 * np.pi * s2 * temperature)
                value += temperature * normal.logpdf(deviation)
            elif size:
                # at T = 0 codes have no prior: what is left is outside the known subspace
                axes = directions[k][:, known].T
                fit = np.linalg.lstsq(axes, deviation, rcond=None)[0]
                value -= 0.5 * ((deviation - axes @ fit) ** 2).sum() / s2
            out[i, k] = value
    return out


@pytest.fixture(scope="module")
def rows():
    X = with_gaps(IRIS[::5], 0.4, seed=1)
    X[1] = np.nan
    return X


MODELS = {
    "pca": lambda **settings: pca(2, **settings),
    "pca-1": lambda **settings: pca(1, **settings),
    "mixture": lambda **settings: mixture(2, n_latent=1, **settings),
    "tied": lambda **settings: mixture(2, n_latent=2, tied_noise=True, **settings),
    "spheres": lambda **settings: mixture(3, n_latent=0, **settings),
}
MADE = {}


@pytest.fixture(params=MODELS)
def make(request):
    """Return a function that fits a model, and remembers it."""

    def made(**settings):
        key = request.param, *sorted(settings.items())
        if key not in MADE:
            MADE[key] = MODELS[request.param](**settings)
        return MADE[key]

    return made


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_scores_and_codes_are_those_of_the_known_entries(make, rows, temperature):
    model = make(temperature=temperature)
    joint, hard = joint_of(model, rows), temperature == 0
    scores = joint.max(axis=1) if hard else temperature * logsumexp(joint / temperature, axis=1)
    np.testing.assert_allclose(model.score_samples(rows), scores, rtol=1e-6, atol=1e-6)
    if isinstance(model, BayesianMixturePCAAutoEncoder):
        codes = np.eye(joint.shape[1])[joint.argmax(axis=1)]
        codes = codes if hard else softmax(joint / temperature, axis=1)
        np.testing.assert_allclose(model.predict_proba(rows), codes, atol=1e-6)


def test_codes_are_those_of_the_posterior(make, rows):
    model = make(temperature=1.0)
    weights, means, directions, precisions, noise = components_of(model)
    codes = model.encode(rows)
    n_components, d = directions.shape[:2]
    mixed = isinstance(model, BayesianMixturePCAAutoEncoder)
    for i, row in enumerate(rows):
        known = np.flatnonzero(~np.isnan(row))
        for k in range(n_components):
            axes = directions[k][:, known]
            # a direction that has melted has a prior without spread
            prior = np.diag(1.0 / np.maximum(1.0 / precisions[k] - noise[k], 1e-12))
            covariance = np.linalg.inv(prior + axes @ axes.T / noise[k])
            mean = covariance @ axes @ (row[known] - means[k][known]) / noise[k]
            coordinates = codes.coordinates[i, k] if mixed else codes.coordinates[k, i]
            spread = codes.spread[i, k] if mixed else codes.covariances[k, i]
            np.testing.assert_allclose(coordinates, mean, rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(spread, covariance, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(codes.mean, model.transform(rows), rtol=1e-9, atol=1e-12)
    draws = codes.sample(4000, random_state=0)
    common = codes.variance > 1e-2  # rare codes are not normal in 4000 draws
    errors = (draws.mean(axis=0) - codes.mean)[common] / np.sqrt(codes.variance[common] / 4000)
    assert np.abs(errors).max() < 4.5
    spread = np.einsum("rni,rnj->nij", draws - codes.mean, draws - codes.mean) / 4000
    size = np.sqrt(codes.variance[:, :, None] * codes.variance[:, None])
    both = common[:, :, None] & common[:, None]
    assert np.all(np.abs(spread - codes.covariance)[both] <= 0.25 * size[both])
    assert np.isfinite(codes.entropy()).all()
    assert len(weights) == n_components
    assert d == model.components_.shape[-2]


def test_missing_entries_are_those_of_the_density(make, rows):
    model = make(temperature=1.0)
    weights, means = components_of(model)[:2]
    expected = conditional_mixture(rows, weights, means, covariances_of(model))
    found = model.condition(rows)
    np.testing.assert_allclose(found.mean, expected[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.covariance, expected[1], rtol=1e-5, atol=1e-7)
    variances = np.diagonal(expected[1], axis1=1, axis2=2)
    np.testing.assert_allclose(found.variance, variances, rtol=1e-5, atol=1e-7)
    draws, n_draws = found.sample(4000, random_state=0), 4000
    gaps = np.isnan(rows)
    errors = (draws.mean(axis=0) - found.mean)[gaps] / np.sqrt(found.variance[gaps] / n_draws)
    assert np.abs(errors).max() < 4.5
    lower, upper = found.interval(0.8)
    inside = ((draws >= lower) & (draws <= upper)).mean(axis=0)[gaps]
    assert np.abs(inside - 0.8).max() < 4.5 * np.sqrt(0.8 * 0.2 / n_draws)
    filled = model.impute(rows)
    assert np.array_equal(filled[~gaps], rows[~gaps])
    assert np.isfinite(model.denoise(rows, 0.1)).all()


def test_the_gradient_is_that_of_differences(make, rows):
    model = make(temperature=0.5)
    gradient, step = model.score_gradient(rows), 1e-5
    for column in range(rows.shape[1]):
        move = step * np.eye(rows.shape[1])[column]
        slope = (model.score_samples(rows + move) - model.score_samples(rows - move)) / (2 * step)
        slope[np.isnan(rows[:, column])] = 0.0
        np.testing.assert_allclose(gradient[:, column], slope, rtol=1e-4, atol=1e-4)


def test_a_missing_row_says_nothing(make):
    model = make(temperature=1.0)
    empty = np.full((1, 4), np.nan)
    np.testing.assert_allclose(model.score_samples(empty), 0.0, atol=1e-9)
    weights, means = components_of(model)[:2]
    np.testing.assert_allclose(model.impute(empty)[0], weights @ means, rtol=1e-9)


# -- fits ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("tilt", [0.0, 0.5, -0.1])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_the_objective_never_decreases(make, temperature, tilt):
    model = make(temperature=temperature, tilt=tilt, tol=0.0, max_iter=12)
    assert np.diff(model.lower_bounds_).min() >= -1e-11
    joint, hard = joint_of(model, GAPPY), temperature == 0
    scores = joint.max(axis=1) if hard else temperature * logsumexp(joint / temperature, axis=1)
    np.testing.assert_allclose(model.hmaxe_, scores.mean(), rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_of_complete_rows_the_steps_lead_to_the_closed_form(temperature):
    """A row that is missing has no part in the optimum, and makes the others take this way."""
    exact = pca(2, X=IRIS, temperature=temperature)
    model = pca(2, X=np.vstack([IRIS, np.full(4, np.nan)]), temperature=temperature, tol=1e-9)
    np.testing.assert_allclose(model.hmaxe_ * 151 / 150, exact.hmaxe_, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.mean_, exact.mean_, rtol=1e-6)
    np.testing.assert_allclose(model.noise_variance_, exact.noise_variance_, rtol=1e-4)
    # at T = 0 the code of the missing row is the mean
    share = 1.0 if temperature else 150 / 151
    np.testing.assert_allclose(
        model.explained_variance_[0], share * exact.explained_variance_[0], rtol=1e-4
    )
    first, second = model.components_[0], exact.components_[0]
    np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_optimum_is_one(temperature):
    """No random change of the parameters increases the objective."""
    model, rng = pca(2, temperature=temperature, tol=1e-10), np.random.default_rng(0)
    energy = PCAMixture(PCAFamily(1, 2, 4)).of_incomplete_rows()
    rows = make_rows(GAPPY, None)
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, temperature)
        again = mixture(1, n_latent=2, temperature=temperature, tol=1e-10, max_iter=2000)
        best = again._reference()
        value = objective.expect(best).objective[0]
        np.testing.assert_allclose(value, model.hmaxe_, rtol=1e-8)
        for _ in range(30):
            own = best.components
            turned = own.components + 0.03 * rng.normal(size=own.components.shape)
            turned = np.linalg.qr(np.swapaxes(turned, 2, 3))[0]
            changed = type(own)(
                own.means + 0.03 * rng.normal(size=own.means.shape),
                np.swapaxes(turned, 2, 3),
                own.precisions * np.exp(0.1 * rng.normal(size=own.precisions.shape)),
                own.noise * np.exp(0.02 * rng.normal(size=own.noise.shape)),
                own.directions,
            )
            moved = type(best)(best.weights, changed)
            assert objective.expect(moved).objective[0] < value


def test_mixtures_of_one_component_are_pca():
    first = pca(2, tol=1e-9)
    second = mixture(1, n_latent=2, tol=1e-9, max_iter=2000)
    np.testing.assert_allclose(first.hmaxe_, second.hmaxe_, rtol=1e-8)
    np.testing.assert_allclose(first.impute(GAPPY), second.impute(GAPPY), rtol=1e-4, atol=1e-4)


def test_weighted_rows_equal_repeated_ones():
    weights = np.random.default_rng(0).integers(0, 3, len(GAPPY))
    for kind in (BayesianPCAAutoEncoder, BayesianMixturePCAAutoEncoder):
        settings = {"model_temperature": 0.0, "n_components": 2, "random_state": 0}
        one = kind(**settings).fit(GAPPY, sample_weight=weights)
        two = kind(**settings).fit(np.repeat(GAPPY, weights, axis=0))
        np.testing.assert_allclose(one.hmaxe_, two.hmaxe_, rtol=1e-7)


def test_digits_are_completed_better_than_by_their_means():
    X = load_digits().data[:600]
    gappy = with_gaps(X, 0.5)
    gaps = np.isnan(gappy)
    model = mixture(3, X=gappy, n_latent=5, max_iter=300)
    error = np.sqrt(np.mean((model.impute(gappy) - X)[gaps] ** 2))
    mean = np.sqrt(np.mean((np.nanmean(gappy, axis=0) - X)[gaps] ** 2))
    assert error < 0.8 * mean


@pytest.mark.parametrize("share", [0.8, "mle"])
def test_dimensions_are_chosen_with_gaps(share):
    assert pca(share).n_components_ == pca(share, X=IRIS).n_components_


# -- codes, decoded --------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("fit", [pca, mixture])
def test_codes_of_gaps_are_decoded(rows, fit, temperature):
    """Rows are linear in codes, so that moments of codes give those of reconstructions."""
    model = fit(2, temperature=temperature)
    codes = model.encode(rows)
    decoded = model.decode(codes)
    expected = model.inverse_transform(model.transform(rows))
    np.testing.assert_allclose(decoded.mean, expected, rtol=1e-6, atol=1e-9)
    noise = components_of(model)[4]
    shares = np.ones((len(rows), 1))
    decoder = model.components_
    if fit is mixture:
        shares = codes.probabilities
        decoder = np.vstack([model.means_, model.components_.reshape(-1, rows.shape[1])])
    covariance = decoder.T @ codes.covariance @ decoder
    covariance += (shares @ noise)[:, None, None] * np.eye(rows.shape[1])
    np.testing.assert_allclose(decoded.covariance, covariance, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        decoded.variance, np.einsum("nii->ni", covariance), rtol=1e-6, atol=1e-9
    )


def test_codes_of_complete_rows_are_decoded_alike(rows):
    """Complete rows have the same distribution beside rows with gaps, where each has its own."""
    for model in (pca(2), mixture(2)):
        beside = model.decode(model.encode(np.vstack([IRIS[:3], rows])))
        alone = model.decode(model.encode(IRIS[:3]))
        np.testing.assert_allclose(beside.covariance[:3], alone.covariance, atol=1e-10)
        n = len(rows)
        there = beside.log_density(np.vstack([IRIS[3:6], IRIS[:n]]))[:3]
        np.testing.assert_allclose(there, alone.log_density(IRIS[3:6]), rtol=1e-8)


# -- refusals --------------------------------------------------------------------------------------


def test_empty_columns_and_infinite_values_are_refused():
    X = GAPPY.copy()
    X[:, 1] = np.nan
    for kind in (BayesianPCAAutoEncoder, BayesianMixturePCAAutoEncoder):
        with pytest.raises(ValueError, match="no known entry in column 1"):
            kind(1, model_temperature=0).fit(X)
        with pytest.raises(ValueError, match="infinity"):
            kind(1, model_temperature=0).fit(np.where(np.isnan(X), np.inf, X))
