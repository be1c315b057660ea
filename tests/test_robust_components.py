"""Student's t components, and noise on a box: rows far out do not move the others."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln, logsumexp

from skbae import BayesianMixtureAutoEncoder
from skbae.components import Categorical, Exponential, Gaussian, Poisson, StudentT, Uniform
from skbae.energies.components._student import StudentComponents
from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture
from skbae.energies.mixture._coordinates import SmoothMixture
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.passes._rows import RowRunner, make_rows

K, D = 2, 2


def best(n_components, components="gaussian", **settings):
    settings = {"model_temperature": 0, "random_state": 0, "tol": 0, "max_iter": 500, **settings}
    return BayesianMixtureAutoEncoder(n_components, components, **settings)


def two_groups(n=400, seed=0, share=0.05):
    """Return clean rows, and the same with some of them gross outliers."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    clean = rng.standard_normal((n, 2)) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    clean += np.array([[0.0, 0.0], [6.0, 4.0]])[labels]
    X, bad = clean.copy(), rng.choice(n, int(share * n), replace=False)
    X[bad] = rng.uniform(-40, 40, (len(bad), 2))
    return clean, X, labels


def student_mixture(kind="full", degrees=3.5):
    gaussian = conjugate_gaussian_mixture(
        K,
        D,
        kind,
        False,
        1e-3,
        concentration=1.0,
        mean_precision=0.1,
        mean=np.zeros(D),
        degrees_of_freedom=4.0,
        covariance=np.eye(D) if kind in ("full", "tied") else np.ones(D),
        centre=np.zeros(D),
    )
    return SmoothMixture(StudentComponents(gaussian.family, degrees), np.full(K, 1.3))


def some_rows(n=40, seed=1):
    return np.random.default_rng(seed).standard_t(2.0, (n, D)) + 3.0


# -- Student's t ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "diag", "tied"])
def test_energies_are_those_of_scipy(kind):
    energy, X, rng = student_mixture(kind), some_rows(), np.random.default_rng(0)
    models = energy.constrain(energy.draw_prior_coordinates(2, rng))
    joint = energy.bind(models, make_rows(X, None).frame, np.float64).joint(X)
    shape = energy.family.gaussian.shape
    scales = shape.expand(shape.covariances(models.components.factors))
    for s, k in product(range(2), range(K)):
        own = scales[s, 0 if kind == "tied" else k]
        density = stats.multivariate_t(models.components.means[s, k], own, df=3.5)
        expected = np.log(models.weights[s, k]) + density.logpdf(X)
        np.testing.assert_allclose(joint[s, k], expected, rtol=1e-7)


@pytest.mark.parametrize("kind", ["full", "diag", "tied"])
def test_gradients_are_finite_differences(kind):
    energy, X, rng = student_mixture(kind), some_rows(), np.random.default_rng(2)
    X = np.vstack([X, np.full((3, D), np.nan)])  # rows without these columns say nothing of them
    energy = energy.of_incomplete_rows()
    theta, step = 0.5 * energy.draw_prior_coordinates(1, rng), 1e-5
    with RowRunner(1) as runner:
        objective = Objective(energy, make_rows(X, None), runner, 0.7)
        params = energy.constrain(theta)
        found = energy.objective_gradient(
            theta, params, objective.expect(params), float(len(X)), 0.7
        )
        for number, direction in enumerate(np.eye(theta.shape[1])):
            ends = [
                objective.expect(energy.constrain(theta + sign * step * direction)).objective[0]
                for sign in (1, -1)
            ]
            slope = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(found[0, number], slope, atol=1e-6)


@pytest.mark.parametrize("degrees", [3.0, None])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("tilt", [0.0, 0.7])
def test_the_objective_never_decreases(degrees, temperature, tilt):
    energy, X = student_mixture(degrees=degrees), some_rows()
    energy.family.gaussian.reg_covar = 0.0
    rng = np.random.default_rng(3)
    with RowRunner(1) as runner:
        rows = make_rows(X, None)
        drawn = energy.constrain(energy.draw_prior_coordinates(2, rng))
        # hard codes of draws of the prior may leave a component with one row, and no maximum
        soft = Objective(energy, rows, runner, 1.0)
        starts = expectation_maximisation(soft, drawn, tol=0.0, max_iter=2).params
        objective = Objective(energy, rows, runner, temperature, tilt)
        found = expectation_maximisation(objective, starts, tol=0.0, max_iter=25)
    history = np.stack(found.history)
    # of energies, which are differences from a Gaussian's constant, and of their sum
    rounding = energy.bind(found.params, rows.frame, np.float64).rounding
    rounding = rounding + len(X) * np.finfo(float).eps * 2 * np.abs(history).max()
    assert rounding.max() < 1e-8  # so that a step in a wrong direction would show
    assert np.all(np.diff(history, axis=0) >= -rounding)
    assert np.all(history[-1] > history[0])


def test_one_component_is_the_best_t_of_scipy():
    x = np.random.default_rng(0).standard_t(3.0, 300) * 2.0 + 1.0
    degrees, location, scale = stats.t.fit(x)
    fitted = best(1, StudentT(None, reg_covar=0.0), max_iter=2000).fit(x[:, None])
    own = fitted.parameters_["student_t"]
    value = stats.t(degrees, location, scale).logpdf(x).mean()
    assert fitted.hmaxe_ > value - 1e-8
    np.testing.assert_allclose(own["degrees_of_freedom"][0], degrees, rtol=0.01)
    np.testing.assert_allclose(own["means"][0, 0], location, atol=0.01)
    np.testing.assert_allclose(own["scales"][0, 0, 0], scale**2, rtol=0.01)
    given = best(1, StudentT(2.0, reg_covar=0.0)).fit(x[:, None])
    fixed = stats.t.fit(x, f0=2.0)
    np.testing.assert_allclose(given.hmaxe_, stats.t(*fixed).logpdf(x).mean(), atol=1e-7)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_evidence_of_a_t_is_the_integral_over_its_prior():
    x = np.random.default_rng(4).standard_t(3.0, 12)
    component = StudentT(
        3.0,
        mean_prior=[0.0],
        covariance_prior=[[1.0]],
        mean_precision_prior=0.5,
        degrees_of_freedom_prior=3.0,
    )
    fitted = BayesianMixtureAutoEncoder(1, component, random_state=0).fit(x[:, None])

    mean, log_precision = np.linspace(-8, 6, 1401)[:, None], np.linspace(-7, 7, 701)
    precision = np.exp(log_precision)
    value = stats.gamma(1.5, scale=2.0).logpdf(precision) + log_precision
    value = value + stats.norm(0.0, 1 / np.sqrt(0.5 * precision)).logpdf(mean)
    for each in x:
        value = value + stats.t(3.0, mean, precision**-0.5).logpdf(each)
    expected = logsumexp(value) + np.log(0.01 * 0.02)
    assert fitted.sampling_.status == "ok"
    assert abs(fitted.log_evidence_ - expected) < max(0.05, 3 * fitted.sampling_.log_evidence_error)


def test_draws_of_a_t_have_its_quantiles():
    X = two_groups()[1]
    fitted = best(2, StudentT(3.0)).fit(X)
    rows, labels = fitted.sample(20_000, random_state=0)
    own = fitted.parameters_["student_t"]
    scale = np.sqrt(own["scales"][0, 1, 1])
    density = stats.t(3.0, own["means"][0, 1], scale)
    assert stats.kstest(rows[labels == 0, 1], density.cdf).pvalue > 1e-3
    unknown = fitted.condition(np.full((1, 2), np.nan))
    for probability in (0.02, 0.5, 0.97):
        assert abs((rows[:, 1] < unknown.quantile(probability)[0, 1]).mean() - probability) < 0.01
    np.testing.assert_allclose(
        fitted.decode(np.eye(2)).variance[0], 3.0 * np.diagonal(own["scales"][0]), rtol=1e-9
    )


# -- noise ---------------------------------------------------------------------------------------


def test_noise_is_a_component_with_the_density_of_the_box():
    X = two_groups()[1]
    fitted = best(2, noise="uniform").fit(X)
    box = fitted.parameters_["noise"]
    np.testing.assert_array_equal(box["lower"], X.min(axis=0))
    joint = np.zeros((len(X), 3))
    own = fitted.parameters_["gaussian"]
    for k in range(2):
        density = stats.multivariate_normal(own["means"][k], own["covariances"][k])
        joint[:, k] = density.logpdf(X)
    joint[:, 2] = -np.log(np.ptp(X, axis=0)).sum()
    joint += np.log(fitted.weights_)
    np.testing.assert_allclose(fitted.score_samples(X), logsumexp(joint, axis=1), rtol=1e-9)
    np.testing.assert_array_equal(fitted.predict(X), joint.argmax(axis=1))
    far = fitted.predict_proba([[1e3, 1e3]])
    assert far[0, 2] == 0
    np.testing.assert_allclose(fitted.means_[2], 0.5 * (X.min(axis=0) + X.max(axis=0)))
    reordered = fitted.reorder_components([1, 0, 2])
    np.testing.assert_array_equal(reordered.predict(X), np.array([1, 0, 2])[joint.argmax(axis=1)])
    with pytest.raises(ValueError, match="order must end with 2, which is noise"):
        fitted.reorder_components([0, 2, 1])


@pytest.mark.parametrize("temperature", [0.0, 0.5, 2.0])
def test_fits_with_noise_never_decrease(temperature):
    X = two_groups(200)[1]
    fitted = best(2, "gaussian", noise="uniform", temperature=temperature, max_iter=40, tol=1e-4)
    assert np.all(np.diff(fitted.fit(X).lower_bounds_) > -1e-5)  # (reg_covar perturbs steps)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_evidence_with_noise_is_that_of_enumeration():
    """Counts of one Poisson component or noise: all ways to call rows one or the other."""
    x = np.array([3.0, 4.0, 2.0, 3.0, 19.0, 5.0, 0.0])
    fitted = BayesianMixtureAutoEncoder(
        1, Poisson(2.0, 0.5), noise=Uniform(), random_state=0, n_models=200
    ).fit(x[:, None])
    terms, of_last = [], []
    for labels in product([0, 1], repeat=len(x)):
        noise = np.array(labels) == 1
        own, n = x[~noise], noise.sum()
        s, rows = 2.0 + own.sum(), 0.5 + len(own)
        value = gammaln(2) - gammaln(2 + len(x)) + gammaln(1 + n) + gammaln(1 + len(own))
        value += gammaln(s) - s * np.log(rows) - gammaln(2.0) + 2.0 * np.log(0.5)
        value -= gammaln(own + 1).sum() + n * np.log(20.0)
        terms.append(value)
        of_last.append(noise[4])
    expected = logsumexp(terms)
    assert abs(fitted.log_evidence_ - expected) < max(0.05, 3 * fitted.sampling_.log_evidence_error)
    share = np.exp(logsumexp(np.array(terms)[np.array(of_last)]) - expected)
    assert abs(fitted.predict_proba([[19.0]])[0, 1] - share) < 0.05


def test_noise_fills_gaps_of_tables():
    rng = np.random.default_rng(0)
    n = 300
    X = np.column_stack(
        [
            rng.standard_normal(n),
            rng.poisson(4, n),
            rng.integers(3, size=n),
            rng.exponential(size=n),
        ]
    )
    X[:15] = np.column_stack(
        [
            rng.uniform(-50, 50, 15),
            rng.integers(0, 60, 15),
            rng.integers(3, size=15),
            rng.uniform(0, 90, 15),
        ]
    )
    X[rng.random(X.shape) < 0.1] = np.nan
    components = [
        ("x", Gaussian(), [0]),
        ("n", Poisson(), [1]),
        ("c", Categorical(), [2]),
        ("t", Exponential(), [3]),
    ]
    fitted = best(1, components, noise="uniform").fit(X)
    assert 0.02 < fitted.weights_[1] < 0.08
    assert np.isfinite(fitted.impute(X)).all()
    own = fitted.condition(np.full((1, 4), np.nan))
    draws = own.sample(20_000, random_state=0)[:, 0]
    np.testing.assert_allclose(draws.mean(axis=0), own.mean[0], rtol=0.15, atol=0.15)
    np.testing.assert_allclose(draws.var(axis=0), own.variance[0], rtol=0.15)
    rows, _ = fitted.sample(20_000, random_state=1)
    np.testing.assert_allclose(rows.var(axis=0), own.variance[0], rtol=0.15)
    for probability in (0.05, 0.5, 0.96):
        found = own.quantile(probability)[0]
        for j in (0, 3):
            assert abs((draws[:, j] < found[j]).mean() - probability) < 0.01
        for j in (1, 2):
            assert (draws[:, j] < found[j]).mean() < probability + 0.01
            assert (draws[:, j] <= found[j]).mean() > probability - 0.01
    np.testing.assert_allclose(own.probabilities(1, np.arange(80)).sum(), 1.0, atol=1e-9)


@pytest.mark.parametrize("degrees", [1.0, 2.0])
def test_infinite_variances_are_infinite_whatever_the_weights_of_components(degrees):
    """Weights that are zero, and covariances of both signs, must not make them NaN unasked."""
    _, X, _ = two_groups(100)
    fitted = best(2, StudentT(degrees)).fit(X)
    gone = fitted.condition([[np.nan, np.nan], [1.0, 2.0]])
    np.testing.assert_array_equal(gone.variance, [[np.inf, np.inf], [0.0, 0.0]])
    np.testing.assert_array_equal(np.isinf(np.diagonal(gone.covariance[0])), True)
    np.testing.assert_array_equal(gone.covariance[1], 0.0)
    decoded = fitted.decode(np.eye(2))
    np.testing.assert_array_equal(decoded.variance, np.inf)
    # of one component, the signs of its scales
    signs = np.sign(fitted.parameters_["student_t"]["scales"])
    np.testing.assert_array_equal(decoded.covariance, signs * np.inf)


# -- what they are for ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("components", "noise"),
    [("student_t", None), (StudentT(None), None), ("gaussian", "uniform")],
    ids=["t", "learned", "noise"],
)
def test_gross_outliers_do_not_move_means(components, noise, seed):
    clean, X, labels = two_groups(seed=seed)
    means = np.stack([clean[labels == k].mean(axis=0) for k in (0, 1)])
    unit = np.linalg.norm(means[1] - means[0])

    def error(model):
        found = model.means_[:2]
        found = found[np.argsort(found[:, 0])]
        return np.abs(found - means).max() / unit

    assert error(best(2, components, noise=noise).fit(X)) < 0.02
    assert error(best(2, n_init=5).fit(X)) > 0.1  # the plain mixture has a component for them


@pytest.mark.slow
def test_evidence_prefers_robust_components_where_there_are_outliers():
    clean, dirty, _ = two_groups(200)
    kinds = {"plain": {}, "t": {"components": "student_t"}, "noise": {"noise": "uniform"}}

    def evidences(X):
        fits = {
            name: BayesianMixtureAutoEncoder(2, random_state=0, **kind).fit(X)
            for name, kind in kinds.items()
        }
        assert all(fit.sampling_.status == "ok" for fit in fits.values())
        return {name: fit.log_evidence_ for name, fit in fits.items()}

    found = evidences(dirty)
    assert min(found["t"], found["noise"]) > found["plain"] + 5
    found = evidences(clean)
    assert max(found["t"], found["noise"]) < found["plain"]


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("components", "settings", "message"),
    [
        (StudentT(None), {"model_temperature": 1.0}, "degrees_of_freedom=None of component"),
        (StudentT(-1.0), {}, "degrees_of_freedom of component 'student_t'"),
        ("gaussian", {"noise": "uniform", "equal_weights": True}, "noise has a weight of its own"),
        ("gaussian", {"noise": "flat"}, "noise must be None, 'uniform'"),
        ("gaussian", {"noise": Uniform(lower=[0.0])}, "lower of noise must have shape"),
    ],
    ids=str,
)
def test_errors_say_what_is_allowed(components, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        best(2, components, **settings).fit(two_groups(50)[1])


def test_gaps_and_constant_columns_are_refused_by_name():
    X = two_groups(50)[1]
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"column '1' of component 'student_t'.*may not miss"):
        best(2, "student_t").fit(X)
    X[:, 1] = 2.0
    with pytest.raises(ValueError, match=r"noise needs a box, and column '1' of component"):
        best(2, noise="uniform").fit(X)
