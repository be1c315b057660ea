"""EnergyAutoEncoder: the same numbers as the families' own estimators, and closed results."""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
from _normals import Means, NormalComponents
from _poisson import PoissonComponents, Rates
from scipy import stats
from scipy.special import gammaln, logsumexp
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_check_energy import Machines

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianPCAAutoEncoder,
    EnergyAutoEncoder,
    functionals,
)
from skbae.energies import (
    ArrayRecord,
    ConjugateEnergy,
    ConjugateMixture,
    Energy,
    EnergyRecipe,
    ExponentialComponents,
    MixtureEnergy,
    MixtureOf,
    MixtureParameters,
    RowGradientEnergy,
    SmoothConjugateMixture,
    SmoothMixture,
    StartableEnergy,
    mixture_energy,
)
from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture, gaussian_mixture
from skbae.energies.pca._energy import PCAEnergy
from skbae.energies.rbm._energy import RBMPrior
from skbae.energies.rbm._visible import BaseRates, BinaryLayer
from skbae.model_selection import (
    InSample,
    evidence_scorer,
    hmaxemax_scorer,
    reconstruction_scorer,
)
from skbae.testing import check_energy
from skbae.thermodynamics import hmaxe_gradient

TEMPERATURES = [0.0, 0.5, 1.0, 2.0]


def points(n_rows=40, seed=0):
    rng = np.random.default_rng(seed)
    half = n_rows // 2
    return np.concatenate([rng.normal(-2, 1, (half, 2)), rng.normal(1.5, 1, (half, 2))])


def counts(n_rows=30, seed=0):
    rng = np.random.default_rng(seed)
    rates = np.array([[1.0, 7.0], [6.0, 1.0]])
    return rng.poisson(rates[rng.integers(2, size=n_rows)]).astype(float)


def normals(n_components=2, **settings):
    return MixtureOf(NormalComponents, n_components=n_components, **settings)


def model(energy, **settings):
    return EnergyAutoEncoder(energy, **{"random_state": 0, **settings})


# -- the same numbers as the Gaussian mixture's estimator ------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("kind", ["full", "tied_diag"])
@pytest.mark.parametrize("tilt", [0.0, 0.5])
def test_a_gaussian_mixture_is_fitted_as_by_its_own_estimator(kind, temperature, tilt):
    X, K = points(), 2
    weights = np.random.default_rng(1).uniform(0.5, 2, len(X))
    shared = {"temperature": temperature, "model_temperature": 0, "tilt": tilt, "tol": 1e-6}
    energy = gaussian_mixture(K, 2, kind, False, 1e-6)
    start = BayesianGMMAutoEncoder(
        K, covariance_type=kind, model_temperature=0, max_iter=0, random_state=0
    ).fit(X)
    own = BayesianGMMAutoEncoder(
        K,
        covariance_type=kind,
        reg_covar=1e-6,
        weights_init=start.weights_,
        means_init=start.means_,
        precisions_init=start.precisions_,
        **shared,
    ).fit(X, sample_weight=weights)
    found = model(energy, params_init=start._parameters(), **shared).fit(X, sample_weight=weights)
    assert found.hmaxe_ == pytest.approx(own.hmaxe_, abs=1e-10)
    assert found.lower_bound_ == pytest.approx(own.lower_bound_, abs=1e-10)
    assert found.n_iter_ == own.n_iter_
    np.testing.assert_allclose(found.lower_bounds_, own.lower_bounds_, atol=1e-10)
    np.testing.assert_allclose(found.reference_.weights[0], own.weights_, atol=1e-10)
    np.testing.assert_allclose(found.reference_.components.means[0], own.means_, atol=1e-10)
    np.testing.assert_allclose(found.score_samples(X), own.score_samples(X), atol=1e-10)
    np.testing.assert_allclose(found.transform(X), own.transform(X), atol=1e-10)
    np.testing.assert_array_equal(found.predict(X), own.predict(X))
    np.testing.assert_allclose(found.score_gradient(X), own.score_gradient(X), atol=1e-10)
    assert found.bic(X) == pytest.approx(own.bic(X), abs=1e-8)
    assert found.score(X, sample_weight=weights) == pytest.approx(
        own.score(X, sample_weight=weights), abs=1e-10
    )


def test_a_sampled_gaussian_mixture_has_the_evidence_of_its_own_estimator():
    X = points(10)
    prior = {"mean_prior": X.mean(axis=0), "degrees_of_freedom_prior": 5.0}
    covariance = 3.0 * np.eye(2)
    shared = {"n_models": 5, "evidence_tol": 0.3, "random_state": 0}
    own = BayesianGMMAutoEncoder(2, covariance_prior=covariance, **prior, **shared).fit(X)
    energy = conjugate_gaussian_mixture(
        2,
        2,
        "full",
        False,
        0.0,
        concentration=1.0,
        mean_precision=0.01,
        mean=X.mean(axis=0),
        degrees_of_freedom=5.0,
        covariance=covariance,
        centre=X.mean(axis=0),
    )
    found = model(energy, **shared).fit(X)
    error = np.hypot(found.hmaxemax_error_, own.hmaxemax_error_) * len(X)
    assert abs(found.log_evidence_ - own.log_evidence_) < 4 * error + 1e-9
    assert found.sampling_.status == own.sampling_.status
    assert found.hmaxe_ == pytest.approx(own.hmaxe_, abs=1e-6)


# -- components of one's own ---------------------------------------------------------------------


def log_evidence_of_one(X, tau, strength=0.5):
    """Return log of the integral of prior(m) exp(sum of H / tau) of one normal component."""
    total = 0.0
    for x in X.T:
        n = len(x) / tau + strength
        constant = -0.5 * (len(x) * np.log(2 * np.pi) + (x**2).sum()) / tau
        total += constant + 0.5 * np.log(strength / n) + 0.5 * (x.sum() / tau) ** 2 / n
    return total


def enumerated(X, n_components, temperature):
    """Return the log evidence of normals as a sum over allocations, weights Dirichlet(1)."""
    terms, n, heat = [], len(X), 1 / temperature
    for allocation in product(range(n_components), repeat=n):
        labels = np.array(allocation)
        sizes = np.bincount(labels, minlength=n_components) * heat
        term = gammaln(n_components) - gammaln(n_components + n * heat) + gammaln(1 + sizes).sum()
        for k in range(n_components):
            term += log_evidence_of_one(X[labels == k], temperature)
        terms.append(term)
    return logsumexp(terms)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_evidence_of_ones_own_components_is_that_of_enumeration(temperature):
    X = points(8)
    found = model(normals(), temperature=temperature, n_models=10).fit(X)
    exact = enumerated(X, 2, temperature)
    error = found.hmaxemax_error_ * len(X) / temperature
    assert abs(found.log_evidence_ - exact) < 4 * error + 1e-6
    assert found.sampling_.status == "ok"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_natural_parameters_are_sampled_at_other_temperatures(temperature):
    X = points(10)[:5]
    found = model(normals(1), temperature=temperature, model_temperature=3.0, n_models=10).fit(X)
    assert found.sampling_.method == "smc"
    exact = log_evidence_of_one(X, 3.0)
    assert abs(found.log_evidence_ - exact) < 4 * found.hmaxemax_error_ * len(X) / 3 + 1e-6


def test_the_components_of_these_tests_are_sound():
    made = check_energy(normals().for_rows(points()), points())
    assert {"check_evidence", "check_objective_gradient", "check_prior_draws"} <= set(made)


def test_predictions_samples_and_reconstructions():
    X = points()
    found = model(normals(), model_temperature=0).fit(X)
    labels = np.repeat([0, 1], 20)
    assert max(np.mean(found.predict(X) == labels), np.mean(found.predict(X) != labels)) > 0.9
    probabilities = found.predict_proba(X)
    params = found.reference_
    densities = [stats.norm(m).logpdf(X).sum(axis=1) for m in params.components.means[0]]
    joint = np.log(params.weights[0]) + np.transpose(densities)
    np.testing.assert_allclose(
        probabilities, np.exp(joint - logsumexp(joint, axis=1)[:, None]), atol=1e-12
    )
    np.testing.assert_allclose(found.score_samples(X), logsumexp(joint, axis=1), atol=1e-12)
    np.testing.assert_array_equal(found.transform(X), probabilities)
    codes = found.encode(X)
    np.testing.assert_array_equal(codes.mean, probabilities)
    expected = probabilities @ params.components.means[0]
    np.testing.assert_allclose(found.inverse_transform(probabilities), expected)
    rows = found.decode(codes)
    np.testing.assert_allclose(rows.mean, expected)
    away = params.components.means[0] - expected[:, None]
    variance = 1 + np.einsum("nk,nkd->nd", probabilities, away**2)
    np.testing.assert_allclose(rows.variance, variance)
    np.testing.assert_allclose(np.diagonal(rows.covariance, axis1=1, axis2=2), variance)
    with np.errstate(divide="ignore"):
        density = logsumexp(np.log(probabilities) + np.transpose(densities), axis=1)
    np.testing.assert_allclose(rows.log_density(X), density, atol=1e-12)
    drawn = rows.sample(4000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=5 * np.sqrt(6 / 4000))
    np.testing.assert_allclose(rows.entropy(500).shape, (40,))
    Y, labels = found.sample(2000, random_state=0)
    assert Y.shape == (2000, 2)
    share = (labels == 0).mean()
    assert abs(share - params.weights[0, 0]) < 5 * np.sqrt(0.25 / 2000)
    np.testing.assert_array_equal(
        model(normals(), model_temperature=0).fit_predict(X), found.predict(X)
    )


def test_float32_rows_give_float32_codes():
    X = points().astype(np.float32)
    found = model(normals(), model_temperature=0).fit(X)
    assert found.transform(X).dtype == np.float32
    assert found.inverse_transform(found.transform(X)).dtype == np.float32


def test_it_is_cloned_pickled_and_put_in_pipelines():
    X = points()
    estimator = model(normals(strength=0.7), model_temperature=0)
    copy = clone(estimator)
    assert copy.energy is not estimator.energy
    assert copy.get_params()["energy__strength"] == 0.7
    found = copy.fit(X)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.score_samples(X), found.score_samples(X))
    assert "NormalComponents, n_components=2" in repr(estimator)
    piped = make_pipeline(StandardScaler(), model(normals(), model_temperature=0)).fit(X)
    Z = StandardScaler().fit_transform(X)
    alone = model(normals(), model_temperature=0).fit(Z)
    np.testing.assert_allclose(piped.predict_proba(X), alone.predict_proba(Z), atol=1e-12)
    shift = -np.log(X.std(axis=0)).sum()
    assert hmaxemax_scorer(piped, X) == pytest.approx(hmaxemax_scorer(alone, Z) + shift)
    fitted = model(normals().for_rows(X), model_temperature=0).fit(X)  # an energy, not a recipe
    assert clone(fitted).fit(X).hmaxe_ == fitted.hmaxe_ == found.hmaxe_


def test_grid_searches_set_the_parameters_of_recipes():
    X = points(40)
    estimator = model(normals(strength=0.1), n_models=5)
    grid = {"energy__n_components": [1, 2]}
    search = GridSearchCV(
        estimator, grid, scoring=evidence_scorer, cv=InSample(), error_score="raise"
    ).fit(X)
    assert search.best_params_ == {"energy__n_components": 2}
    best = search.best_estimator_
    assert evidence_scorer(best, X) == pytest.approx(best.hmaxemax_)
    assert best.log_evidence_ == pytest.approx(best.hmaxemax_ * len(X))
    held_out = GridSearchCV(
        model(normals(), model_temperature=0), grid, scoring=hmaxemax_scorer, error_score="raise"
    ).fit(np.random.default_rng(0).permutation(X))
    assert held_out.best_params_ == {"energy__n_components": 2}
    assert reconstruction_scorer(best, X) > -2.5


def test_given_models_are_starts():
    X = points()
    given = MixtureParameters(np.array([[0.5, 0.5]]), Means(np.array([[[0.0, 0], [1.0, 1]]])))
    found = model(normals(), model_temperature=0, params_init=given, max_iter=0).fit(X)
    np.testing.assert_array_equal(found.reference_.components.means, given.components.means)
    assert found.n_iter_ == 0


def test_all_starts_count():
    X = points(60)
    one = model(normals(6), model_temperature=0, init_params="random", max_iter=500).fit(X)
    many = model(normals(6), model_temperature=0, init_params="random", max_iter=500, n_init=10)
    assert many.fit(X).lower_bound_ >= one.lower_bound_ - 1e-9


def test_integer_weights_repeat_rows():
    X, weights = points(12), np.arange(12) % 3 + 1
    repeated = np.repeat(X, weights, axis=0)
    for settings in ({"model_temperature": 0}, {"n_models": 5, "evidence_tol": 0.3}):
        first = model(normals(), **settings).fit(X, sample_weight=weights)
        second = model(normals(), **settings).fit(repeated)
        n = weights.sum()
        error = n * np.hypot(first.hmaxemax_error_, second.hmaxemax_error_)
        assert abs(n * (first.hmaxemax_ - second.hmaxemax_)) < 4 * error + 1e-6


# -- gradients alone -----------------------------------------------------------------------------


class Laplace(RowGradientEnergy):
    """Rows ``t + s e`` with e Laplace, theta = (t, log s), both standard normal a priori."""

    n_features, n_coordinates = 1, 2

    def hmax_and_gradient(self, theta, X, temperature):
        away = X[:, 0] - theta[:, :1]
        scale = np.exp(theta[:, 1:])
        size = np.abs(away) / scale
        gradient = np.stack([np.sign(away) / scale, size - 1], axis=-1)
        return -size - theta[:, 1:] - np.log(2), gradient

    def log_prior_at(self, theta):
        return -0.5 * (theta**2).sum(axis=1) - np.log(2 * np.pi), -theta

    def draw_prior_coordinates(self, n_models, rng):
        return rng.standard_normal((n_models, 2))

    def draw(self, params, n_rows, rng):
        models = rng.integers(params.n_models, size=n_rows)
        theta = params.theta[models]
        return (theta[:, 0] + np.exp(theta[:, 1]) * rng.laplace(size=n_rows))[:, None], models

    def n_parameters(self):
        return 2


LAPLACE_ROWS = np.random.default_rng(4).laplace(0.3, 0.7, size=(12, 1))


def laplace_evidence(X, tau, tilt, weights):
    """Return the log evidence by the rule of rectangles on a fine grid."""
    grid = np.linspace(-6, 6, 1201)
    t, log_s = np.meshgrid(grid, grid, indexing="ij")
    hmax = np.array([-np.abs(x - t) / np.exp(log_s) - log_s - np.log(2) for x in X[:, 0]])
    total = weights.sum()
    if tilt:
        mean = -(logsumexp(-tilt * hmax, axis=0, b=weights[:, None, None]) - np.log(total)) / tilt
    else:
        mean = np.tensordot(weights, hmax, 1) / total
    log_prior = stats.norm.logpdf(t) + stats.norm.logpdf(log_s)
    return logsumexp(total / tau * mean + log_prior) + 2 * np.log(grid[1] - grid[0])


@pytest.mark.parametrize(("tau", "tilt", "weighted"), [(2.5, 0.4, True)])
def test_the_evidence_from_gradients_alone_is_that_of_quadrature(tau, tilt, weighted):
    X = LAPLACE_ROWS
    weights = np.linspace(0.5, 2, len(X)) if weighted else np.ones(len(X))
    found = model(Laplace(), model_temperature=tau, tilt=tilt, n_models=10).fit(
        X, sample_weight=weights if weighted else None
    )
    exact = laplace_evidence(X, tau, tilt, weights)
    error = found.hmaxemax_error_ * weights.sum() / tau
    assert error < 0.1
    assert abs(found.log_evidence_ - exact) < 4 * error
    assert found.sampling_.method == "smc"
    assert found.models_.theta.shape == (10, 2)


def test_an_energy_of_gradients_alone_is_sound():
    made = check_energy(Laplace(), LAPLACE_ROWS)
    assert {"check_objective_gradient", "check_prior_draws", "check_normalised"} <= set(made)


def test_the_best_model_is_found_by_gradients():
    """The median, and the mean distance from it."""
    X = np.random.default_rng(5).laplace(2.0, 3.0, size=(101, 1))
    found = model(Laplace(), model_temperature=0, n_init=3, tol=1e-8, max_iter=1000).fit(X)
    t, log_s = found.reference_.theta[0]
    middle = np.median(X)
    assert t == pytest.approx(middle, abs=0.05)
    best = -1 - np.log(2 * np.abs(X - middle).mean())
    assert best - 1e-4 < found.hmaxe_ <= best + 1e-12
    assert np.exp(log_s) == pytest.approx(np.abs(X - middle).mean(), rel=0.01)
    assert found.lower_bounds_[-1] == pytest.approx(found.lower_bound_)
    assert np.all(np.diff(found.lower_bounds_) >= 0)
    assert len(found.lower_bounds_) == found.n_iter_ + 1
    stay = model(Laplace(), model_temperature=0, max_iter=0).fit(X)
    assert stay.n_iter_ == 0


# -- other energies ------------------------------------------------------------------------------


class ConjugateOnly(ConjugateEnergy):
    """A mixture that shows none of its capabilities beyond those of a ConjugateEnergy."""

    n_features = 2

    def __init__(self, n_components=2):
        self.mixture = normals(n_components).for_rows(np.zeros((1, 2)))


def delegate(name):
    return lambda self, *args: getattr(self.mixture, name)(*args)


for method in ConjugateEnergy.__abstractmethods__:
    setattr(ConjugateOnly, method, delegate(method))
ConjugateOnly.__abstractmethods__ = frozenset()


def test_a_conjugate_prior_without_closed_allocations_is_sampled_by_sweeps():
    X = points(8)
    found = model(ConjugateOnly(), n_models=10).fit(X)
    assert found.sampling_.method == "gibbs"
    error = found.hmaxemax_error_ * len(X)
    assert abs(found.log_evidence_ - enumerated(X, 2, 1.0)) < 4 * error + 0.01
    best = model(ConjugateOnly(), model_temperature=0, n_init=5).fit(X)  # starts from the prior
    assert best.hmaxe_ >= found.hmaxe_ - 1e-3


def test_pca_is_fitted_as_by_its_own_estimator():
    X = points() @ np.array([[1.0, 0.5], [0.0, 0.3]])
    own = BayesianPCAAutoEncoder(1, model_temperature=0).fit(X)
    found = model(PCAEnergy(1, 2), model_temperature=0, params_init=own._parameters()).fit(X)
    assert found.hmaxe_ == pytest.approx(own.hmaxe_, abs=1e-10)
    np.testing.assert_allclose(found.score_samples(X), own.score_samples(X), atol=1e-10)
    np.testing.assert_allclose(found.score_gradient(X), own.score_gradient(X), atol=1e-9)
    np.testing.assert_allclose(found.denoise(X, 0.1), own.denoise(X, 0.1), atol=1e-9)
    assert found.sample(3)[0].shape == (3, 2)
    with pytest.raises(TypeError, match="transform needs an EnumerableBoundEnergy, but BoundPCA"):
        found.transform(X)


class DoubledScores(MixtureEnergy):
    """Passes over rows know nothing of the factor."""

    def bind(self, params, frame, dtype):
        bound = super().bind(params, frame, dtype)
        plain = bound.hmax
        bound.hmax = lambda X, temperature: 2 * plain(X, temperature)
        return bound


def test_scores_that_the_fit_does_not_agree_with_are_refused():
    with pytest.raises(ValueError, match="hmax of a bound DoubledScores disagrees with the statis"):
        model(DoubledScores(PlainNormals(2, 2)), model_temperature=0).fit(points())


def test_states_of_a_machine_are_its_codes():
    X = (np.random.default_rng(0).random((30, 3)) < 0.4).astype(float)
    energy = Machines(
        2,
        3,
        BinaryLayer(),
        BaseRates(np.full(3, 0.5), np.full(3, 0.25)),
        RBMPrior(1.0, 1.0, 2.0, 0.5),
    )
    found = model(energy, model_temperature=0, tol=0.1).fit(X)
    probabilities = found.predict_proba(X)
    assert probabilities.shape == (30, 4)  # of two units
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)


def test_functionals_and_thermodynamics_take_it():
    X = points()
    found = model(normals(), model_temperature=0).fit(X)
    np.testing.assert_allclose(functionals.hmaxe(found, X), [found.hmaxe_])
    np.testing.assert_allclose(functionals.hmax(found, X)[:, 0], found.score_samples(X))
    with pytest.raises(TypeError, match="needs a DifferentiableFamily, but NormalComponents lacks"):
        hmaxe_gradient(found, X)


# -- what is missing is named ----------------------------------------------------------------------


class PlainNormals(ExponentialComponents):
    """Without a prior."""

    def __init__(self, n_components, n_features):
        self.n_components, self.n_features = n_components, n_features

    features, base = NormalComponents.features, NormalComponents.base
    natural, draw = NormalComponents.natural, NormalComponents.draw
    expected_features = NormalComponents.expected_features
    match_features, n_parameters = NormalComponents.match_features, NormalComponents.n_parameters


class Silent(Energy):
    """A density and nothing else."""

    n_features = 2

    def bind(self, params, frame, dtype):
        return MixtureEnergy(PlainNormals(2, 2)).bind(params, frame, dtype)

    def draw(self, params, n_rows, rng):
        return MixtureEnergy(PlainNormals(2, 2)).draw(params, n_rows, rng)

    def n_parameters(self):
        return 1


class Started(Silent, StartableEnergy):
    def starts(self, X, weights, n_starts, rng):
        return MixtureParameters(np.full((1, 2), 0.5), Means(rng.standard_normal((1, 2, 2))))


class BadRecipe(EnergyRecipe):
    def for_rows(self, X):
        return "an energy"


class PlainOfAnyWidth(BaseEstimator):
    """A recipe that is not an EnergyRecipe, but has its method."""

    def __init__(self, n_components=2):
        self.n_components = n_components

    def for_rows(self, X):
        return MixtureEnergy(PlainNormals(self.n_components, X.shape[1]))


REFUSALS = [
    (None, {}, TypeError, "energy must be an Energy of skbae.energies, or an EnergyRecipe"),
    (NormalComponents(2, 2), {}, TypeError, "mixture_energy makes an energy of a family of comp"),
    (NormalComponents, {}, TypeError, "MixtureOf makes a recipe of a class of components"),
    (BadRecipe(), {}, TypeError, "for_rows of BadRecipe must return an Energy, got str"),
    (normals().for_rows(np.zeros((1, 3))), {}, ValueError, "X has 2 columns, but the energy .*=3"),
    (normals(0), {}, ValueError, "n_components of MixtureOf must be an integer >= 1, got 0"),
    (normals(concentration=0), {}, ValueError, "concentration of MixtureOf must be positive"),
    (MixtureOf(lambda *sizes: 1), {}, TypeError, "family must be a ComponentFamily, got int"),
    (normals(), {"params_init": 3}, TypeError, "params_init must be None or an ArrayRecord"),
    (normals(), {"init_params": "best"}, ValueError, "init_params must be .*kmeans"),
    (
        MixtureOf(PlainNormals, n_components=2),
        {},
        TypeError,
        r"sampling models at temperature=1, model_temperature=1 and tilt=0 needs a GradientEnergy, "
        r"but MixtureEnergy lacks constrain, coordinate_kinds, draw_prior_coordinates, "
        r"log_prior_at, objective_gradient, unconstrain, and it is no ConjugateEnergy",
    ),
    (
        MixtureOf(PoissonComponents, n_components=2),
        {"temperature": 0.5, "model_temperature": 1.0},
        TypeError,
        r"needs a GradientEnergy, but ConjugateMixture lacks constrain, .* and ConjugateEnergy "
        r"needs model_temperature=temperature, tilt=0 and integer weights",
    ),
    (
        Silent(),
        {"model_temperature": 0},
        TypeError,
        "params_init must be given .* since Silent has none of the capabilities",
    ),
    (
        Started(),
        {"model_temperature": 0},
        TypeError,
        r"Started lacks the methods of StatisticsEnergy \(expectation, interpolate, maximise\) and "
        r"of GradientEnergy \(constrain, coordinate_kinds, ",
    ),
]


@pytest.mark.parametrize(("energy", "settings", "error", "message"), REFUSALS)
def test_what_is_missing_is_named(energy, settings, error, message):
    estimator = model(energy, **settings)
    with pytest.raises(error, match=message):
        estimator.fit(np.abs(np.round(points())))
    with pytest.raises(NotFittedError):
        estimator.predict(points())


def test_methods_name_the_capabilities_that_they_need():
    found = model(Laplace(), model_temperature=0, tol=0.1).fit(LAPLACE_ROWS)
    for method in ("predict", "predict_proba", "transform", "encode"):
        with pytest.raises(
            TypeError, match=f"{method} needs an EnumerableBoundEnergy, but BoundRow"
        ):
            getattr(found, method)(LAPLACE_ROWS)
    with pytest.raises(TypeError, match="the gradient in x needs a SmoothBoundEnergy"):
        found.score_gradient(LAPLACE_ROWS)
    with pytest.raises(TypeError, match="denoise needs a NoisyEnergy, but Laplace lacks convolve"):
        found.denoise(LAPLACE_ROWS, 0.1)
    plain = model(PlainOfAnyWidth(), model_temperature=0).fit(points())
    with pytest.raises(
        TypeError, match="expectation of rows given codes needs a DecodableFamily, but PlainNorm"
    ):
        plain.inverse_transform(plain.transform(points()))
    assert np.isfinite(plain.decode(plain.encode(points())).log_density(points())).all()
    with pytest.raises(ValueError, match="X contains NaN"):
        plain.predict(np.full((2, 2), np.nan))


def test_recipes_need_no_base_class():
    search = GridSearchCV(
        model(PlainOfAnyWidth(), model_temperature=0, n_init=2),
        {"energy__n_components": [1, 2]},
        scoring=hmaxemax_scorer,
        error_score="raise",
    ).fit(np.random.default_rng(0).permutation(points()))
    assert search.best_params_ == {"energy__n_components": 2}


def test_mixtures_have_the_prior_that_their_components_allow():
    kinds = {
        PlainNormals: MixtureEnergy,
        PoissonComponents: ConjugateMixture,
        NormalComponents: SmoothConjugateMixture,
    }
    for family, kind in kinds.items():
        assert type(mixture_energy(family(2, 2), 0.7, True)) is kind
    with pytest.raises(ValueError, match="'width' is no parameter of this MixtureOf; these are f"):
        normals().set_params(width=3)


class NormalsInCoordinates(PlainNormals):
    """A prior without conjugacy: means are standard logistic."""

    def coordinate_kinds(self):
        return np.tile(np.arange(self.n_features), self.n_components)

    def unconstrain(self, params):
        return params.means.reshape(len(params.means), -1)

    def constrain(self, theta):
        return Means(theta.reshape(len(theta), self.n_components, self.n_features))

    def log_prior_at(self, theta):
        half = np.tanh(theta / 2)
        return stats.logistic.logpdf(theta).sum(axis=1), -half

    def energy_gradient(self, theta, counts, moments, temperature):
        means = self.constrain(theta).means
        return (moments.features - counts[..., None] * means).reshape(theta.shape)

    def draw_prior_coordinates(self, n_models, rng):
        return rng.logistic(size=(n_models, self.n_components * self.n_features))


def test_components_with_coordinates_and_no_conjugate_prior_are_sampled():
    from skbae.energies import GradientComponentFamily

    class Family(NormalsInCoordinates, GradientComponentFamily):
        pass

    energy = mixture_energy(Family(1, 1))
    assert type(energy) is SmoothMixture
    X = points(10)[:6, :1]
    assert "check_prior_draws" in check_energy(mixture_energy(Family(2, 1)), points(20)[:, :1])
    found = model(energy, n_models=5).fit(X)
    grid = np.linspace(-15, 15, 6001)
    rows = stats.norm.logpdf(X, grid).sum(axis=0)
    exact = logsumexp(rows + stats.logistic.logpdf(grid)) + np.log(grid[1] - grid[0])
    assert abs(found.log_evidence_ - exact) < 4 * found.hmaxemax_error_ * len(X) + 1e-6


def test_too_few_iterations_are_warned_of():
    with pytest.warns(ConvergenceWarning, match="did not converge within max_iter=1"):
        model(normals(), model_temperature=0, max_iter=1, tol=0).fit(points())


def test_poissons_of_the_page_on_the_architecture_work_too():
    X = counts()
    found = model(MixtureOf(PoissonComponents, n_components=2, shape=2.0), n_models=10).fit(X)
    assert found.sampling_.status == "ok"
    assert isinstance(found.reference_.components, Rates)
    assert isinstance(found.models_, ArrayRecord)
    assert found.models_.n_models == 10
    # labels of sampled models agree with the reference
    rates = found.models_.components.rates
    assert np.all((rates[:, 0, 0] > rates[:, 1, 0]) == (rates[0, 0, 0] > rates[0, 1, 0]))
