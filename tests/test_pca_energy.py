"""PCA's energy and its prior, against scipy, scikit-learn and finite differences."""

import numpy as np
import pytest
from _pca_problems import quadrature
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA

from skbae.energies.pca._energy import PCAEnergy, PCAParameters
from skbae.energies.pca._prior import BayesianPCAEnergy, Loadings, RowMoments, default_prior
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._tempering import SMCPlan, sample_tempered

X = load_iris().data
TEMPERATURES = [0.0, 0.5, 1.0, 2.0]


def start(n_components=2):
    """Return some model that is not the optimum."""
    return PCAParameters(
        X.mean(axis=0)[None] + 0.1,
        np.eye(4)[None, :n_components],
        np.full((1, n_components), 0.5),
        np.array([0.8]),
    )


def optimum(temperature, n_components=2):
    """Return the closed form and its mean energy."""
    rows, energy = make_rows(X, None), PCAEnergy(n_components, 4)
    with RowRunner(1) as runner:

        def expect(params):
            kernel = energy.expectation(params, rows.frame, np.float64, temperature, 0.0)
            return runner.reduce(kernel, rows)

        best = energy.maximise(expect(start(n_components)), start(n_components), temperature)
        return best, float(expect(best).objective[0])


def bayesian(n_components=2, rows=X):
    """Return PCA with its default prior on rows."""
    values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
    moments = RowMoments(
        rows.mean(axis=0), vectors[:, ::-1].copy(), np.maximum(values[::-1], 0), float(len(rows))
    )
    given = {
        "component_variance": None,
        "mean": None,
        "mean_precision": 0.01,
        "noise_shape": 1.0,
        "noise_scale": None,
    }
    prior = default_prior(float(values.mean()), n_components, moments.mean, given)
    return BayesianPCAEnergy(n_components, prior, moments)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_hmax_by_its_definition(temperature):
    """``Hmax_T`` from the density of the heated model, or the reconstruction at T = 0."""
    model = start()
    got = PCAEnergy(2, 4).bind(model, None, np.float64).hmax(X, temperature)[0]
    noise, size = 0.8, 4
    if temperature == 0:
        precision = np.diag([0.5, 0.5, 1 / noise, 1 / noise])
        deviations = X - model.means[0]
        square = np.einsum("nd,de,ne->n", deviations, precision, deviations)
        expected = -0.5 * size * np.log(2 * np.pi * noise) - 0.5 * square
    else:
        covariance = np.diag([2.0, 2.0, noise, noise])
        density = multivariate_normal(model.means[0], temperature * covariance).logpdf(X)
        expected = -0.5 * size * np.log(2 * np.pi * noise) + temperature * (
            0.5 * size * np.log(2 * np.pi * noise * temperature) + density
        )
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_optimum_at_one_is_probabilistic_pca():
    best, value = optimum(1.0)
    rescaled = PCA(2).fit(X * np.sqrt(149 / 150))
    assert best.noise[0] == pytest.approx(rescaled.noise_variance_, rel=1e-10)
    covariance = PCAEnergy(2, 4).covariances(best)[0]
    np.testing.assert_allclose(covariance, rescaled.get_covariance(), atol=1e-10)
    expected = multivariate_normal(X.mean(axis=0), covariance).logpdf(X).mean()
    assert value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_random_changes_of_the_optimum_lower_the_objective(temperature):
    best, value = optimum(temperature)
    energy = PCAEnergy(2, 4)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(20):
            turned = best.components[0] + size * rng.standard_normal((2, 4))
            components = np.linalg.qr(turned.T)[0].T
            precisions = best.precisions * np.exp(size * rng.standard_normal((1, 2)))
            noise = best.noise * np.exp(size * rng.standard_normal(1))
            near = PCAParameters(
                best.means + size * rng.standard_normal((1, 4)),
                components[None],
                np.minimum(precisions, 1 / noise[:, None]),
                noise,
            )
            hmax = energy.bind(near, None, np.float64).hmax(X, temperature)
            assert hmax.mean() <= value + 1e-12


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradient_in_x_equals_finite_differences(temperature):
    bound = PCAEnergy(2, 4).bind(start(), None, np.float64)
    gradient = bound.hmax_gradient(X[:5], temperature)[1][0]
    step = 1e-5
    for feature in range(4):
        shift = step * np.eye(4)[feature]
        up, down = (bound.hmax(X[:5] + sign * shift, temperature)[0] for sign in (1, -1))
        np.testing.assert_allclose(gradient[:, feature], (up - down) / (2 * step), rtol=1e-7)


def test_one_energy_serves_every_temperature():
    """The temperature is the objective's alone, and each is maximised at its own."""
    rows, energy = make_rows(X, None), PCAEnergy(2, 4)
    with RowRunner(1) as runner:
        for temperature in (0.2, 1.0, 2.0):
            objective = Objective(energy, rows, runner, temperature)
            found = expectation_maximisation(objective, start(), tol=0, max_iter=2)
            np.testing.assert_allclose(found.hmaxe[0], optimum(temperature)[1], rtol=1e-12)
            # negative control: the optimum at another temperature is lower
            statistics = objective.expect(start())
            other = energy.maximise(statistics, start(), temperature + 0.5)
            assert objective.expect(other).hmaxe[0] < found.hmaxe[0] - 1e-3


def test_models_with_a_prior_draw_rows_of_their_density():
    """Each row from a model chosen at random; codes are along the components."""
    energy = bayesian()
    params = energy.constrain(energy.draw_prior_coordinates(2, np.random.default_rng(1)))
    n_rows = 40_000
    drawn, codes = energy.draw(params, n_rows, np.random.default_rng(0))
    models = energy.as_pca(params)
    covariances = PCAEnergy(2, 4).covariances(models)
    mean = models.means.mean(axis=0)
    offsets = models.means - mean
    expected = covariances.mean(axis=0) + np.einsum("sd,se->de", offsets, offsets) / 2
    scale = np.sqrt(np.diag(expected))
    errors = (np.cov(drawn.T) - expected) / np.outer(scale, scale)
    assert codes.shape == (n_rows, 2)
    assert np.abs((drawn.mean(axis=0) - mean) / scale).max() < 5 / np.sqrt(n_rows)
    # fourth moments of a mixture of two normals are below four times those of one
    assert np.abs(errors).max() < 5 * np.sqrt(8 / n_rows)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("tilt", [0.7, 2.0])
def test_tilted_objective_never_decreases(temperature, tilt):
    rows = make_rows(X, None)
    best, _ = optimum(temperature)
    with RowRunner(1) as runner:
        found = expectation_maximisation(
            Objective(PCAEnergy(2, 4), rows, runner, temperature, tilt),
            best,
            tol=1e-8,
            max_iter=60,
        )
    objective = np.array(found.history)[:, 0]
    assert objective[-1] > objective[0] + 0.1
    assert np.all(np.diff(objective) >= 0)


# -- with its prior --------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradients_of_objective_and_prior(temperature):
    energy = bayesian()
    theta = energy.draw_prior_coordinates(5, np.random.default_rng(0))
    rows = energy.moments.as_one_row()
    with RowRunner(1) as runner:

        def statistics(at):
            models = energy.constrain(at)
            return runner.reduce(energy.expectation(models, None, None, temperature, 0.0), rows)

        params = energy.constrain(theta)
        gradient = energy.objective_gradient(
            theta, params, statistics(theta), rows.total, temperature
        )
        prior_gradient = energy.log_prior_at(theta)[1]
        for index in range(theta.shape[1]):
            shift = 1e-6 * np.eye(theta.shape[1])[index]
            up, down = statistics(theta + shift), statistics(theta - shift)
            slope = (up.objective - down.objective) / 2e-6
            scale = np.abs(gradient).max(axis=1) + 1
            assert np.all(np.abs(gradient[:, index] - slope) < 1e-6 * scale)
            up, down = (energy.log_prior_at(theta + sign * shift)[0] for sign in (1, -1))
            scale = np.abs(prior_gradient).max(axis=1) + 1
            assert np.all(np.abs(prior_gradient[:, index] - (up - down) / 2e-6) < 1e-6 * scale)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_moments_give_the_energy_of_the_rows(temperature):
    energy = bayesian()
    params = energy.constrain(energy.draw_prior_coordinates(4, np.random.default_rng(1)))
    with RowRunner(1) as runner:
        kernel = energy.expectation(params, None, None, temperature, 0.0)
        got = runner.reduce(kernel, energy.moments.as_one_row()).objective
    rows = energy.bind(params, None, np.float64).hmax(X, temperature)
    np.testing.assert_allclose(got, rows.mean(axis=1), rtol=1e-10)


def test_coordinates_there_and_back():
    energy = bayesian()
    theta = energy.draw_prior_coordinates(6, np.random.default_rng(2))
    models = energy.as_pca(energy.constrain(theta))
    np.testing.assert_allclose(energy.unconstrain(energy.from_pca(models)), theta, atol=1e-9)


def test_prior_of_the_turned_loadings_is_that_of_independent_ones():
    """Singular values do not know about rotations: compare them with those of normal matrices."""
    energy, n = bayesian(), 20_000
    drawn = energy.constrain(energy.draw_prior_coordinates(n, np.random.default_rng(3)))
    assert isinstance(drawn, Loadings)
    spread = np.sqrt(energy.prior.component_variance)
    free = spread * np.random.default_rng(4).standard_normal((n, 4, 2))
    for power in (1, 2):
        ours = np.linalg.svd(drawn.loadings, compute_uv=False) ** power
        theirs = np.linalg.svd(free, compute_uv=False) ** power
        error = np.sqrt((ours.var(axis=0) + theirs.var(axis=0)) / n)
        assert np.all(np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 5 * error)


def test_evidence_by_quadrature():
    """One code in two dimensions: the mean integrates out, a grid does the rest."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((12, 2)) @ np.array([[1.5, 0.4], [0.0, 0.5]]) + 1
    energy = bayesian(n_components=1, rows=rows)
    exact = quadrature(rows, energy.prior, 1.0, 1.0)
    with RowRunner(1) as runner:
        run = sample_tempered(
            Objective(energy, energy.moments.as_one_row(), runner, 1.0),
            1.0,
            np.random.default_rng(6),
            plan=SMCPlan(n_islands=8, n_particles=4096),
        )
    shares = np.exp(run.log_evidence - run.log_evidence.max())
    value = np.log(shares.mean()) + run.log_evidence.max()
    error = shares.std(ddof=1) / shares.mean() / np.sqrt(8)
    assert error < 0.03
    assert abs(value - exact) < min(0.05, 5 * error + 0.005)
