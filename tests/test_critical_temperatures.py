"""Critical temperatures: closed forms, growth of small differences, and where fits do split."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES
from sklearn.base import clone

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.estimators.mixture_pca._fit import continued
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.thermodynamics import critical_temperatures

RNG = np.random.default_rng(0)
D = 3
SKEWED = RNG.standard_t(5, (300, D)) * [3.0, 1.0, 0.5]
SKEWED[:, 0] = RNG.exponential(3.0, 300)
CONVERGED = {"model_temperature": 0, "tol": 1e-14, "max_iter": 20000, "random_state": 0}


# -- PCA -------------------------------------------------------------------------------------------

SPECTRUM = RNG.standard_normal((50, 6)) * [4.0, 3.0, 2.0, 1.5, 1.0, 0.5]
WEIGHTS = RNG.integers(0, 4, 50) * 0.5


def melted(T, d, weights):
    model = BayesianPCAAutoEncoder(d, temperature=T, model_temperature=0)
    model.fit(SPECTRUM, sample_weight=weights)
    return np.isclose(model.component_precisions_ * model.noise_variance_, 1.0, rtol=1e-9), model


@pytest.mark.parametrize("d", [1, 3, 5, 6])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_directions_of_pca_melt_at_their_critical_temperatures(d, weights):
    fit = melted(1.0, d, weights)[1]
    found = critical_temperatures(fit, SPECTRUM, weights)
    assert found.tree is None
    assert found.temperatures.shape == (d,)
    assert np.all(np.diff(found.temperatures) < 0)
    for i, T in enumerate(found.temperatures):
        below, above = melted(T * (1 - 1e-6), d, weights), melted(T * (1 + 1e-6), d, weights)
        assert below[0].tolist() == [False] * (i + 1) + [True] * (d - i - 1)
        assert above[0].tolist() == [False] * i + [True] * (d - i)
        # the temperature is the ratio of the variance to the noise there
        model = above[1]
        assert model.explained_variance_[i] / model.noise_variance_ == pytest.approx(T, rel=1e-5)
    if d == 6:
        assert found.temperatures[-1] == pytest.approx(1.0)  # no noise is left below
    # the model's own temperature does not matter
    hot = melted(3.0, d, weights)[1]
    again = critical_temperatures(hot, SPECTRUM, weights)
    np.testing.assert_allclose(again.temperatures, found.temperatures, rtol=1e-12)
    assert (again.temperature, found.temperature) == (3.0, 1.0)


def test_directions_without_variance_melt_at_zero():
    flat = SPECTRUM.copy()
    flat[:, 3:] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = BayesianPCAAutoEncoder(5, temperature=0, model_temperature=0).fit(flat)
    found = critical_temperatures(model, flat).temperatures
    assert np.all(found[:3] > 1)
    assert np.all(found[3:] < 1e-20)


# -- one step of expectation maximisation ----------------------------------------------------------


def growth_of_halves(energy, params, rows, temperature, component):
    """Return by how much one step multiplies the distance of a component's two halves."""
    splits = energy.critical_splits(params, rows.X, rows.weights, rows.frame, temperature)
    grown = energy.resized(params.weights.shape[1] + 1)
    apart = splits.halves[component](params, 1e-6)
    with RowRunner(1) as runner:
        objective = Objective(grown, rows, runner, temperature)
        after = expectation_maximisation(objective, apart, tol=0, max_iter=1).params
    kept = apart.weights.shape[1] - 1
    lengths = [np.linalg.norm(difference_of(model, component, kept)) for model in (apart, after)]
    return splits.temperatures[component], lengths[1] / lengths[0]


def difference_of(model, first, second):
    """Return the difference of two components in means and covariances."""
    parts = model.components
    means = parts.means[0, first] - parts.means[0, second]
    if hasattr(parts, "factors"):
        factors = [parts.factors[0, k % parts.factors.shape[1]] for k in (first, second)]
        if parts.factors.ndim < 4:
            own, other = factors
            return np.append(means, np.ravel(own**-2.0 - other**-2.0))
        inverses = [np.linalg.inv(factor) for factor in factors]
        covariances = [inverse.T @ inverse for inverse in inverses]
        return np.append(means, covariances[0] - covariances[1])

    def covariance(k):
        axes, s2 = parts.components[0, k], parts.noise[0, k % parts.noise.shape[1]]
        return s2 * np.eye(len(means)) + (axes.T * (1 / parts.precisions[0, k] - s2)) @ axes

    return np.append(means, covariance(first) - covariance(second))


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("T", [0.5, 1.0, 3.0])
def test_a_step_moves_halves_of_one_gaussian_apart_by_the_critical_temperature(kind, T):
    model = BayesianGMMAutoEncoder(
        1, covariance_type=kind, temperature=T, reg_covar=0, **CONVERGED
    ).fit(SKEWED)
    rows = make_rows(SKEWED, None)
    critical, growth = growth_of_halves(model._energy(), model._reference(), rows, T, 0)
    assert growth == pytest.approx(critical / T, rel=1e-4)
    assert critical_temperatures(model, SKEWED).temperatures[0] == pytest.approx(critical)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_components_of_a_fit_split_in_the_same_way(kind):
    # at T = 1, where two halves have the codes of the whole
    weights = np.random.default_rng(1).integers(1, 4, len(SKEWED)) * 0.5
    model = BayesianGMMAutoEncoder(2, covariance_type=kind, reg_covar=0, **CONVERGED)
    model.fit(SKEWED, sample_weight=weights)
    rows = make_rows(SKEWED, weights)
    for component in range(2):
        critical, growth = growth_of_halves(
            model._energy(), model._reference(), rows, 1.0, component
        )
        assert growth == pytest.approx(critical, rel=1e-2)


@pytest.mark.parametrize("settings", [{"n_latent": 1}, {"n_latent": 2}, {"n_latent": 0}])
@pytest.mark.parametrize("tied_noise", [False, True])
@pytest.mark.parametrize("T", [0.5, 1.0, 2.0, 6.0])
def test_components_of_mixtures_of_pca_split_in_the_same_way(settings, tied_noise, T):
    model = BayesianMixturePCAAutoEncoder(
        1, temperature=T, tied_noise=tied_noise, model_temperature=0, **settings
    ).fit(SKEWED)
    start = continued(model._reference(), np.random.default_rng(0))  # whose steps are exact
    rows = make_rows(SKEWED, None)
    critical, growth = growth_of_halves(model._energy(), start, rows, T, 0)
    assert growth == pytest.approx(critical / T, rel=1e-3)
    if T == 0.5 and settings["n_latent"]:
        assert np.all(model.component_precisions_ * model.noise_variance_.min() < 1)
        assert critical >= T


def test_many_coordinates_have_the_temperature_that_few_have():
    rng = np.random.default_rng(2)
    X = rng.standard_t(6, (200, 8)) @ rng.standard_normal((8, 8))
    model = BayesianGMMAutoEncoder(1, reg_covar=0, **CONVERGED).fit(X)
    found = critical_temperatures(model, X).temperatures[0]
    white = (X - X.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(X.T, ddof=0))).T
    squares = np.einsum("ni,nj->nij", white, white) - np.eye(8)
    scores = np.concatenate([white, squares.reshape(200, -1) / np.sqrt(2)], axis=1)
    expected = np.linalg.eigvalsh(scores.T @ scores / 200)[-1]
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["full", "tied", "spherical"])
def test_components_of_few_or_equal_rows_have_critical_temperatures(kind):
    # more features than are written out, components of one row, of equal rows, and of some
    rng = np.random.default_rng(7)
    X = np.concatenate(
        [np.zeros((60, 45)), rng.standard_normal((10, 45)) + 9, np.full((1, 45), 40)]
    )
    model = BayesianGMMAutoEncoder(
        3,
        covariance_type=kind,
        reg_covar=1e-2,
        means_init=X[[0, 60, 70]],
        model_temperature=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X)
    found = critical_temperatures(model, X).temperatures
    codes = model.predict_proba(X)
    assert np.all(np.isfinite(found))
    assert found[2] < 1e6
    if kind == "tied":
        for k in range(3):
            offset = X - model.means_[k]
            scatter = (offset.T * codes[:, k]) @ offset / codes[:, k].sum()
            expected = np.linalg.eigvals(np.linalg.solve(model.covariances_, scatter)).real.max()
            assert found[k] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_for_a_shared_covariance_it_is_the_scatter_relative_to_it():
    model = BayesianGMMAutoEncoder(
        3, covariance_type="tied", temperature=0.7, reg_covar=0, **CONVERGED
    ).fit(SKEWED)
    codes = model.predict_proba(SKEWED)
    for k, found in enumerate(critical_temperatures(model, SKEWED).temperatures):
        offset = SKEWED - model.means_[k]
        scatter = (offset.T * codes[:, k]) @ offset / codes[:, k].sum()
        expected = np.linalg.eigvals(np.linalg.solve(model.covariances_, scatter)).real.max()
        assert found == pytest.approx(expected, rel=1e-6)


# -- where fits split ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tied_spherical", "spherical", "diag", "full"])
def test_two_components_are_one_above_the_critical_temperature_only(kind):
    one = BayesianGMMAutoEncoder(1, covariance_type=kind, reg_covar=0, **CONVERGED).fit(SKEWED)
    critical = critical_temperatures(one, SKEWED).temperatures[0]
    assert critical > 1.5
    rng = np.random.default_rng(3)
    distances = []
    for T in (0.9 * critical, 1.1 * critical):
        model = BayesianGMMAutoEncoder(
            2,
            covariance_type=kind,
            temperature=T,
            reg_covar=0,
            means_init=SKEWED.mean(axis=0) + 1e-2 * rng.standard_normal((2, D)),
            weights_init=[0.5, 0.5],
            **{**CONVERGED, "tol": 0, "max_iter": 400},
        )
        tied = kind.startswith("tied")
        precisions = one.precisions_ if tied else np.concatenate([one.precisions_] * 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.set_params(precisions_init=precisions).fit(SKEWED)
        codes = model.predict_proba(SKEWED)
        distances.append(np.abs(codes - 0.5).max())
    assert distances[0] > 0.05
    assert distances[1] < 1e-4  # where the objective changes no more


# -- the hierarchy ---------------------------------------------------------------------------------

CENTRES = np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 1.0], [9.0, 4.0]])
GROUPS = np.repeat(CENTRES, 50, axis=0) + 0.3 * np.random.default_rng(4).standard_normal((200, 2))


@pytest.mark.parametrize(
    "settings",
    [
        {"covariance_type": "tied_spherical"},
        {"covariance_type": "spherical"},
        {"covariance_type": "tied_spherical", "equal_weights": True, "temperature": 0.0},
        {"covariance_type": "tied_spherical", "temperature": 1.3},
    ],
)
def test_groups_split_before_their_parts(settings):
    model = BayesianGMMAutoEncoder(4, model_temperature=0, random_state=0, **settings).fit(GROUPS)
    tree = critical_temperatures(model, GROUPS).tree
    assert sorted(tree.parents) == [-1, 0, 0, 1, 1, 2, 2]
    # two groups of two
    pairs = sorted(tree.centres[1:3, 0])
    np.testing.assert_allclose(pairs, [1.0, 9.0], atol=0.2)
    leaves = tree.centres[tree.leaves]
    order = np.lexsort(leaves.round().T[::-1])
    np.testing.assert_allclose(leaves[order], CENTRES, atol=0.2)
    np.testing.assert_allclose(tree.shares[tree.leaves], 0.25, atol=0.02)
    assert tree.hmaxe == pytest.approx(model.hmaxe_, abs=1e-3)
    # a node begins where its parent ends, below the parent's critical temperature
    later = tree.parents >= 0
    np.testing.assert_array_equal(tree.begins[later], tree.ends[tree.parents[later]])
    ended = ~np.isnan(tree.ends)
    assert np.all(tree.ends[ended] < tree.critical_temperatures[ended])
    assert np.all(tree.ends[ended] <= tree.begins[ended])


def test_above_the_highest_critical_temperature_there_is_one_component():
    settings = {"covariance_type": "tied_spherical", "model_temperature": 0, "random_state": 0}
    model = BayesianGMMAutoEncoder(4, temperature=2.5, **settings).fit(GROUPS)
    tree = critical_temperatures(model, GROUPS).tree
    assert tree.parents.tolist() == [-1]
    assert tree.critical_temperatures[0] < 2.5
    variances = np.linalg.eigvalsh(np.cov(GROUPS.T, ddof=0))
    assert tree.critical_temperatures[0] == pytest.approx(variances[-1] / variances.mean())
    np.testing.assert_allclose(tree.centres[0], GROUPS.mean(axis=0))


def test_subspaces_have_a_hierarchy_too():
    rng = np.random.default_rng(5)
    line = rng.uniform(-3, 3, (300, 1))
    X = np.concatenate([line * [1, 0, 0], line * [0, 1, 0], line * [0, 0, 1]])
    X = X + np.repeat([[0.0, 0, 0], [0, 0, 9], [9, 0, 0]], 300, axis=0)
    X = X + 0.1 * rng.standard_normal(X.shape)
    model = BayesianMixturePCAAutoEncoder(3, model_temperature=0, n_init=5, random_state=0).fit(X)
    found = critical_temperatures(model, X)
    assert np.all(found.temperatures >= 1 - 1e-6)
    assert len(found.tree.leaves) == 3
    assert found.tree.hmaxe == pytest.approx(model.hmaxe_, abs=0.01)


def test_units_order_and_repeated_rows_do_not_matter():
    settings = {"covariance_type": "spherical", "model_temperature": 0, "random_state": 0}
    weights = np.random.default_rng(6).integers(0, 3, len(GROUPS))
    model = BayesianGMMAutoEncoder(4, **settings)
    repeated = np.repeat(GROUPS, weights, axis=0)
    expected = critical_temperatures(model.fit(repeated), repeated)
    found = critical_temperatures(model, GROUPS, weights)
    np.testing.assert_allclose(found.temperatures, expected.temperatures, rtol=1e-8)
    np.testing.assert_allclose(found.tree.begins, expected.tree.begins, rtol=1e-6)
    scaled = critical_temperatures(model.fit(1e6 * repeated), 1e6 * repeated)
    np.testing.assert_allclose(scaled.temperatures, expected.temperatures, rtol=1e-5)
    assert scaled.tree.parents.tolist() == expected.tree.parents.tolist()


def test_results_become_tables():
    pytest.importorskip("pandas")
    model = BayesianGMMAutoEncoder(
        4, covariance_type="tied_spherical", model_temperature=0, random_state=0
    ).fit(GROUPS)
    found = critical_temperatures(model, GROUPS)
    assert found.to_frame().shape == (4, 2)
    assert found.tree.to_frame().shape == (7, 5)
    assert found.tree.to_frame().index.name == "node"


def test_what_has_no_critical_temperature_is_refused_by_name():
    bits = (SKEWED > 1) * 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        machine = BayesianRBMAutoEncoder(2, max_iter=2, n_init=1, random_state=0).fit(bits)
        network = BayesianVAEAutoEncoder(1, max_iter=1, random_state=0).fit(SKEWED)
    for model, rows in ((machine, bits), (network, SKEWED)):
        with pytest.raises(TypeError, match=f"mixtures of PCA, got {type(model).__name__}"):
            critical_temperatures(model, rows)
    tilted = BayesianGMMAutoEncoder(2, tilt=0.5, model_temperature=0, random_state=0).fit(SKEWED)
    with pytest.raises(ValueError, match=r"without a tilt, got tilt=0\.5"):
        critical_temperatures(tilted, SKEWED)
    constant = np.column_stack([SKEWED, np.ones(len(SKEWED))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampled = BayesianGMMAutoEncoder(1, n_models=3, random_state=0).fit(constant)
    with pytest.raises(ValueError, match=r"columns \[3\] have none"):
        critical_temperatures(sampled, constant)
    with pytest.raises(Exception, match="not fitted"):
        critical_temperatures(BayesianGMMAutoEncoder(), SKEWED)
    with pytest.raises(TypeError, match="needs an estimator of skbae, got ndarray"):
        critical_temperatures(SKEWED, SKEWED)


@pytest.mark.parametrize("model", [BayesianGMMAutoEncoder(2), BayesianPCAAutoEncoder(1)])
def test_rows_with_gaps_are_refused_with_the_reason(model):
    X = np.random.default_rng(0).standard_normal((30, 2))
    model = clone(model).set_params(model_temperature=0).fit(X)
    with pytest.raises(ValueError, match=r"needs complete rows.*pass estimator.impute"):
        critical_temperatures(model, np.where(X > 1, np.nan, X))
