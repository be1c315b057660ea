"""What displays draw: the data of the artists, against the fitted models; and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from _data import GALAXIES
from scipy.integrate import trapezoid
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixtureAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae._types import SamplingResult
from skbae.model_selection import hmaxemax_scorer
from skbae.plotting import (
    CodesDisplay,
    ComponentsDisplay,
    FreeEnergyDisplay,
    ModelSelectionDisplay,
    ReconstructionDisplay,
    SamplingDisplay,
)
from skbae.plotting._canvas import columns_of, mosaic
from skbae.thermodynamics import FreeEnergyCurve, free_energy_curve

mpl.use("Agg")
import matplotlib.pyplot as plt

X, SPECIES = load_iris(return_X_y=True)
KINDS = ("full", "tied", "diag", "spherical", "tied_diag", "tied_spherical")
CENTRE = X.mean(axis=0)
NAN = float("nan")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def mixture(n_components=3, rows=X, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings).fit(rows)


@pytest.fixture(scope="module")
def gmm():
    return mixture()


@pytest.fixture(scope="module")
def pca():
    return BayesianPCAAutoEncoder(2, model_temperature=0).fit(X)


@pytest.fixture(scope="module")
def rbm():
    bits = (X > CENTRE).astype(float)
    with pytest.warns(ConvergenceWarning):
        return BayesianRBMAutoEncoder(3, max_iter=2, random_state=0).fit(bits)


# -- what all displays share -----------------------------------------------------------------------


def test_a_display_draws_on_the_axes_given_or_on_a_new_figure(gmm):
    figure, ax = plt.subplots()
    display = CodesDisplay.from_estimator(gmm, X, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    again = display.plot()
    assert again is display
    assert display.figure_ is not figure


def test_images_side_by_side_are_parted_by_lines_that_are_left_empty():
    images = np.arange(3 * 2 * 4, dtype=float).reshape(3, 2, 4)
    picture, across, down = mosaic(images, 2, room=0.5)
    assert picture.shape == (2 + 1 + 2, 4 + 1 + 4)
    np.testing.assert_array_equal(picture[:2, :4], images[0])
    np.testing.assert_array_equal(picture[:2, 5:], images[1])
    np.testing.assert_array_equal(picture[3:, :4], images[2])
    assert np.isnan(picture).sum() == picture.size - images.size
    assert (across.tolist(), down.tolist()) == ([1.5, 6.5], [0.5, 3.5])


@pytest.mark.parametrize("n_images", [1, 7, 10, 11, 64, 500])
def test_all_images_find_a_place_in_lines_of_at_most_ten(n_images):
    columns = columns_of(n_images)
    assert 1 <= columns <= 10
    assert mosaic(np.zeros((n_images, 1, 1)), columns)[0].shape[1] == 2 * columns - 1


def test_matplotlib_is_imported_to_draw_only_and_without_it_the_extra_is_named():
    program = """
import sys
import skbae.plotting
print("matplotlib" in sys.modules)
sys.modules["matplotlib"] = sys.modules["matplotlib.pyplot"] = None
import numpy as np
from skbae import BayesianPCAAutoEncoder
from skbae.plotting import CodesDisplay
X = np.random.default_rng(0).normal(size=(20, 3))
try:
    CodesDisplay.from_estimator(BayesianPCAAutoEncoder(2, model_temperature=0).fit(X), X)
except ImportError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    imported, message = ran.stdout.splitlines()
    assert imported == "False"
    assert message.startswith("CodesDisplay needs matplotlib, which is not installed")
    assert 'pip install "skbae[plot]"' in message


DRAWINGS = {
    "codes": lambda model: CodesDisplay.from_estimator(model, X),
    "components": lambda model: ComponentsDisplay.from_estimator(model),
    "reconstruction": lambda model: ReconstructionDisplay.from_estimator(model, X),
    "sampling": lambda model: SamplingDisplay.from_estimator(model),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=list(DRAWINGS))
def test_an_unfitted_estimator_is_refused(draw):
    with pytest.raises(NotFittedError):
        draw(BayesianGMMAutoEncoder())


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=list(DRAWINGS))
def test_another_estimator_is_refused_by_name(draw):
    with pytest.raises(TypeError, match=r"Display needs an estimator of skbae.*StandardScaler"):
        draw(StandardScaler().fit(X))


# -- codes -----------------------------------------------------------------------------------------


def test_vectors_are_points_one_collection_for_each_class(pca):
    display = CodesDisplay.from_estimator(pca, X, y=SPECIES)
    codes = pca.transform(X)
    assert len(display.artists_) == 3
    for label, points in enumerate(display.artists_):
        np.testing.assert_allclose(points.get_offsets(), codes[label == SPECIES])
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["0", "1", "2"]


def test_other_coordinates_and_colours_by_numbers_can_be_asked_for():
    model = BayesianPCAAutoEncoder(3, model_temperature=0).fit(X)
    display = CodesDisplay.from_estimator(model, X, y=X[:, 0], axes=(2, 0))
    (points,) = display.artists_
    np.testing.assert_allclose(points.get_offsets(), model.transform(X)[:, [2, 0]])
    np.testing.assert_allclose(points.get_array(), X[:, 0])
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("code 2", "code 0")


@pytest.mark.parametrize(("y", "n_artists"), [(None, 1), (SPECIES, 3), (X[:, 0], 1)])
def test_one_coordinate_is_a_histogram_that_counts_every_row(y, n_artists):
    model = BayesianPCAAutoEncoder(1, model_temperature=0).fit(X)
    display = CodesDisplay.from_estimator(model, X, y=y)
    assert len(display.artists_) == n_artists
    counts = [
        (patch.get_data().values - patch.get_data().baseline).sum() for patch in display.artists_
    ]
    assert counts == ([50, 50, 50] if n_artists == 3 else [150])


def test_soft_components_are_stacked_in_the_order_of_the_rows_components(gmm):
    display = CodesDisplay.from_estimator(gmm, X)
    shares = gmm.predict_proba(X)
    assert sorted(display.order_) == list(range(len(X)))
    assert np.all(np.diff(shares.argmax(axis=1)[display.order_]) >= 0)
    base = np.zeros(len(X))
    for k, patch in enumerate(display.artists_):
        data = patch.get_data()
        np.testing.assert_allclose(data.baseline, base, atol=1e-12)
        own = shares[display.order_, k]
        np.testing.assert_allclose(data.values - data.baseline, own, atol=1e-12)
        base = data.values
    np.testing.assert_allclose(base, 1.0)


def test_rows_are_drawn_in_colours_mixed_by_their_soft_components():
    model = mixture(2, temperature=20.0)  # soft codes
    display = CodesDisplay.from_estimator(model, X, features=(2, 3))
    (points,) = display.artists_
    np.testing.assert_allclose(points.get_offsets(), X[:, 2:])
    shares = model.predict_proba(X)
    assert shares.max(axis=1).min() < 0.9
    first, second = (np.array(mpl.colors.to_rgb(colour)) for colour in ("#0072B2", "#E69F00"))
    expected = shares[:, :1] * first + shares[:, 1:] * second
    np.testing.assert_allclose(points.get_facecolors()[:, :3], expected)


def test_bits_are_a_table_of_their_probabilities(rbm):
    bits = (X > CENTRE).astype(float)
    (image,) = CodesDisplay.from_estimator(rbm, bits).artists_
    np.testing.assert_allclose(image.get_array(), rbm.transform(bits))
    assert image.get_clim() == (0.0, 1.0)


def test_codes_of_a_pipeline_are_those_of_its_input_rows():
    model = make_pipeline(StandardScaler(), BayesianPCAAutoEncoder(2, model_temperature=0)).fit(X)
    (points,) = CodesDisplay.from_estimator(model, X).artists_
    np.testing.assert_allclose(points.get_offsets(), model.transform(X))


def test_codes_refuse_what_they_cannot_draw(pca, gmm):
    with pytest.raises(TypeError, match=r"features are for codes that are components.*PCA"):
        CodesDisplay.from_estimator(pca, X, features=(0, 1))
    with pytest.raises(ValueError, match="axes must be two coordinates of codes, from 0 to 1"):
        CodesDisplay.from_estimator(pca, X, axes=(0, 2))
    with pytest.raises(ValueError, match="y must have one entry for each of the 150 rows"):
        CodesDisplay.from_estimator(pca, X, y=SPECIES[:10])
    for features in [(0,), (0, 4), (0, 0), ("petal", 1)]:
        with pytest.raises(ValueError, match="features must be 2 different numbers or names"):
            CodesDisplay.from_estimator(gmm, X, features=features)


# -- components ------------------------------------------------------------------------------------


def covariances_of(model):
    """Return the covariances (K, D, D) of a Gaussian mixture, by its kind."""
    n_components, n_features = model.means_.shape
    identity, given = np.eye(n_features), model.covariances_
    return {
        "full": lambda: given,
        "tied": lambda: np.stack([given] * n_components),
        "diag": lambda: np.stack([np.diag(each) for each in given]),
        "spherical": lambda: np.stack([each * identity for each in given]),
        "tied_diag": lambda: np.stack([np.diag(given)] * n_components),
        "tied_spherical": lambda: np.stack([given * identity] * n_components),
    }[model.covariance_type]()


def check_ellipse(ellipse, mean, covariance, n_std=2.0):
    """Check that the points of an ellipse are `n_std` standard deviations away from the mean."""
    path = ellipse.get_patch_transform().transform(np.array([[1, 0], [0, 1], [-0.6, 0.8]]))
    away = path - mean
    distances = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
    np.testing.assert_allclose(distances, n_std**2)
    variances = np.linalg.eigvalsh(covariance)
    halves = sorted([ellipse.width / 2, ellipse.height / 2])
    np.testing.assert_allclose(halves, n_std * np.sqrt(variances))


@pytest.mark.parametrize("temperature", [1.0, 0.0])
@pytest.mark.parametrize("kind", KINDS)
def test_ellipses_are_those_of_the_covariances(kind, temperature):
    rows = X[:, [0, 2]] * [1.0, 3.0]
    # as many components as columns: shapes of covariances do not tell their kind
    model = mixture(2, rows, covariance_type=kind, temperature=temperature)
    display = ComponentsDisplay.from_estimator(model, rows)
    assert len(display.ellipses_) == 2
    for ellipse, mean, covariance in zip(
        display.ellipses_, model.means_, covariances_of(model), strict=True
    ):
        np.testing.assert_allclose(ellipse.center, mean)
        check_ellipse(ellipse, mean, covariance)


def test_ellipses_of_two_of_many_columns_are_those_of_the_marginal_density(gmm):
    display = ComponentsDisplay.from_estimator(gmm, features=(3, 1), n_std=1.5)
    for ellipse, mean, covariance in zip(
        display.ellipses_, gmm.means_, gmm.covariances_, strict=True
    ):
        check_ellipse(ellipse, mean[[3, 1]], covariance[np.ix_([3, 1], [3, 1])], n_std=1.5)
    assert display.ax_.get_xlabel() == "column 3"


def test_columns_are_named_as_in_the_data_frame():
    frame = load_iris(as_frame=True).data
    model = mixture(2, frame)
    display = ComponentsDisplay.from_estimator(
        model, frame, features=("petal width (cm)", "sepal width (cm)")
    )
    check_ellipse(
        display.ellipses_[0],
        model.means_[0][[3, 1]],
        model.covariances_[0][np.ix_([3, 1], [3, 1])],
    )
    assert display.ax_.get_xlabel() == "petal width (cm)"
    assert display.ax_.get_ylabel() == "sepal width (cm)"


def test_curves_of_one_column_are_weighted_densities_and_their_sum():
    model = mixture(3, GALAXIES, n_init=3)
    display = ComponentsDisplay.from_estimator(model, GALAXIES)
    *each, total = display.lines_
    assert len(each) == 3
    grid, density = total.get_data()
    np.testing.assert_allclose(density, np.exp(model.score_samples(grid[:, None])), atol=1e-12)
    for line, weight in zip(each, model.weights_, strict=True):
        np.testing.assert_allclose(trapezoid(line.get_ydata(), grid), weight, rtol=1e-3)
    labels = [line.get_label() for line in each]
    assert labels == [f"{k}: {100 * weight:.0f}%" for k, weight in enumerate(model.weights_)]


@pytest.mark.parametrize("tied", [False, True])
def test_ellipses_of_mixtures_of_pca_are_those_of_their_density(tied):
    rows = X[:, :2]
    model = BayesianMixturePCAAutoEncoder(
        2, n_latent=1, model_temperature=0, tied_noise=tied, random_state=0
    ).fit(rows)
    display = ComponentsDisplay.from_estimator(model)
    noise = np.broadcast_to(model.noise_variance_, 2)
    for k, ellipse in enumerate(display.ellipses_):
        direction = model.components_[k, 0]
        across = np.eye(2) - np.outer(direction, direction)
        covariance = np.outer(direction, direction) / model.component_precisions_[k, 0]
        check_ellipse(ellipse, model.means_[k], covariance + noise[k] * across)


def test_pca_of_two_columns_is_one_ellipse_and_without_a_density_a_table():
    model = BayesianPCAAutoEncoder(1, model_temperature=0).fit(X[:, :2])
    (ellipse,) = ComponentsDisplay.from_estimator(model).ellipses_
    check_ellipse(ellipse, model.mean_, model.get_covariance())
    hard = clone(model).set_params(temperature=0).fit(X[:, :2])
    display = ComponentsDisplay.from_estimator(hard)
    assert display.ellipses_ == []
    np.testing.assert_allclose(display.image_.get_array(), hard.components_)
    with pytest.raises(TypeError, match=r"features are for normal components.*PCA.*T = 0"):
        ComponentsDisplay.from_estimator(hard, features=(0, 1))


def test_loadings_of_many_columns_are_a_table_with_zero_in_the_middle(pca, rbm):
    for model in (pca, rbm):
        image = ComponentsDisplay.from_estimator(model).image_
        np.testing.assert_allclose(image.get_array(), model.components_)
        low, high = image.get_clim()
        assert -low == high == np.abs(model.components_).max()


def test_means_of_many_columns_are_told_in_standard_deviations_of_the_mixture(gmm):
    image = ComponentsDisplay.from_estimator(gmm).image_
    # at a maximum of the likelihood the mixture has the mean and the covariance of the rows
    expected = (gmm.means_ - X.mean(axis=0)) / X.std(axis=0)
    np.testing.assert_allclose(image.get_array(), expected, atol=2e-3)


def test_patterns_are_images_where_a_shape_is_given(gmm, pca):
    drawn = ComponentsDisplay.from_estimator(gmm, image_shape=(2, 2)).image_.get_array()
    for k, left in enumerate([0, 3, 6]):
        np.testing.assert_allclose(drawn[:2, left : left + 2], gmm.means_[k].reshape(2, 2))
    image = ComponentsDisplay.from_estimator(pca, image_shape=(1, 4)).image_
    np.testing.assert_allclose(image.get_array()[0, 5:], pca.components_[1])
    assert image.get_clim()[0] == -image.get_clim()[1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_directions_of_a_component_are_side_by_side():
    model = BayesianMixturePCAAutoEncoder(
        3, n_latent=2, model_temperature=0, random_state=0, max_iter=5, tol=10
    ).fit(X)
    display = ComponentsDisplay.from_estimator(model, image_shape=(2, 2))
    drawn = display.image_.get_array()
    for k in range(3):
        for j in range(2):
            tile = drawn[3 * k : 3 * k + 2, 3 * j : 3 * j + 2]
            np.testing.assert_allclose(tile, model.components_[k, j].reshape(2, 2))
    assert [text.get_text() for text in display.ax_.texts][2:4] == ["1.0", "1.1"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_components_refuse_what_they_cannot_draw(gmm):
    with pytest.raises(ValueError, match=r"product is the number of columns, 4, got \(2, 3\)"):
        ComponentsDisplay.from_estimator(gmm, image_shape=(2, 3))
    with pytest.raises(ValueError, match="features must be 1 or 2 different numbers"):
        ComponentsDisplay.from_estimator(gmm, features=(0, 1, 2))
    with pytest.raises(ValueError, match="give one only"):
        ComponentsDisplay.from_estimator(gmm, features=0, image_shape=(2, 2))
    with pytest.raises(TypeError, match="Pipeline: give its last step"):
        ComponentsDisplay.from_estimator(make_pipeline(StandardScaler(), gmm))
    network = BayesianVAEAutoEncoder(1, hidden_layer_sizes=(2,), max_iter=1, random_state=0)
    network.fit(X)
    with pytest.raises(
        TypeError, match=r"ComponentsDisplay draws mixtures.*BayesianVAEAutoEncoder"
    ):
        ComponentsDisplay.from_estimator(network)
    categories = BayesianMixtureAutoEncoder(2, "categorical", model_temperature=0, random_state=0)
    categories.fit(SPECIES[:, None])
    with pytest.raises(TypeError, match="columns of categories have none"):
        ComponentsDisplay.from_estimator(categories)


def test_means_of_mixtures_of_bits_are_drawn():
    bits = (X > CENTRE).astype(float)
    model = BayesianMixtureAutoEncoder(2, "bernoulli", model_temperature=0, random_state=0)
    model.fit(bits)
    drawn = ComponentsDisplay.from_estimator(model, image_shape=(1, 4)).image_.get_array()
    np.testing.assert_allclose(drawn[0, :4], model.means_[0])
    with pytest.raises(TypeError, match="features are for normal components"):
        ComponentsDisplay.from_estimator(model, features=0)


# -- model selection -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def search():
    return GridSearchCV(
        make_pipeline(StandardScaler(), BayesianGMMAutoEncoder(model_temperature=0)),
        {
            "bayesiangmmautoencoder__n_components": [2, 1],
            "bayesiangmmautoencoder__covariance_type": ["diag", "spherical"],
        },
        scoring=hmaxemax_scorer,
        cv=KFold(3, shuffle=True, random_state=0),
        refit=False,
    ).fit(X)


def heights(bars):
    """Return the ends of error bars, (n, 2)."""
    (lines,) = bars.lines[2]
    return np.array([segment[:, 1] for segment in lines.get_segments()])


def test_scores_are_drawn_with_standard_errors_of_their_means(search):
    table = search.cv_results_
    display = ModelSelectionDisplay.from_cv_results(table, param="n_components")
    assert len(display.errorbars_) == 2
    for bars, kind in zip(display.errorbars_, ["diag", "spherical"], strict=True):
        assert bars.get_label() == f"covariance_type={kind}"
        own = [
            next(
                i
                for i, params in enumerate(table["params"])
                if params["bayesiangmmautoencoder__covariance_type"] == kind
                and params["bayesiangmmautoencoder__n_components"] == n
            )
            for n in (1, 2)
        ]
        x, y = bars.lines[0].get_data()
        assert x.tolist() == [1, 2]
        np.testing.assert_allclose(y, table["mean_test_score"][own])
        splits = np.array([[table[f"split{j}_test_score"][i] for j in range(3)] for i in own])
        errors = splits.std(axis=1, ddof=1) / np.sqrt(3)
        np.testing.assert_allclose(heights(bars), np.stack([y - errors, y + errors], axis=1))
    assert display.best_.get_ydata() == table["mean_test_score"].max()
    assert display.ax_.get_xlabel() == "n_components"


def test_a_search_does_as_well_as_its_table_and_the_numeric_parameter_is_found(search):
    display = ModelSelectionDisplay.from_cv_results(search)
    assert display.param == "n_components"
    names = ModelSelectionDisplay.from_cv_results(search, param="covariance_type")
    ticks = [text.get_text() for text in names.ax_.get_xticklabels()]
    assert ticks == ["diag", "spherical"]


def one_split(**scores):
    columns = {f"mean_test_{name}": np.array(values) for name, values in scores.items()}
    columns |= {f"std_test_{name}": np.zeros(3) for name in scores}
    columns |= {f"split0_test_{name}": np.array(values) for name, values in scores.items()}
    return {"params": [{"a": 1}, {"a": 10}, {"a": 100}], **columns}


def test_another_score_can_be_the_error_bar():
    table = one_split(evidence=[-3.0, -2.0, -2.5], error=[0.1, 0.2, 0.3])
    display = ModelSelectionDisplay.from_cv_results(table, score="evidence", error="error")
    (bars,) = display.errorbars_
    np.testing.assert_allclose(heights(bars), [[-3.1, -2.9], [-2.2, -1.8], [-2.8, -2.2]])
    assert display.best_.get_xdata() == 10
    assert display.ax_.get_xscale() == "log"


def test_one_split_has_no_error_bars():
    display = ModelSelectionDisplay.from_cv_results(one_split(score=[1.0, 2.0, 3.0]))
    assert display.errorbars_[0].lines[2] == ()


def test_candidates_without_a_finite_score_are_left_out_and_counted():
    table = one_split(score=[NAN, 2.0, -np.inf])
    display = ModelSelectionDisplay.from_cv_results(table)
    assert display.n_left_out_ == 2
    assert display.errorbars_[0].lines[0].get_xdata().tolist() == [10]
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert "2 candidates without a finite score" in legend
    assert display.best_.get_xdata() == 10


def test_tables_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="no candidate has a finite score"):
        ModelSelectionDisplay.from_cv_results(one_split(score=[NAN, NAN, NAN]))
    with pytest.raises(TypeError, match=r"cv_results must be the cv_results_ of a search.*list"):
        ModelSelectionDisplay.from_cv_results([1.0])
    two = one_split(a=[1.0, 2.0, 3.0], b=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="score must be one of 'a', 'b', got None"):
        ModelSelectionDisplay.from_cv_results(two)
    with pytest.raises(ValueError, match="error must be one of 'a', 'b', got 'c'"):
        ModelSelectionDisplay.from_cv_results(two, score="a", error="c")
    with pytest.raises(ValueError, match=r"param must name one of .* 'a', got 'b'"):
        ModelSelectionDisplay.from_cv_results(one_split(score=[1.0, 2.0, 3.0]), param="b")


# -- free energy -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curve():
    return free_energy_curve(BayesianGMMAutoEncoder(1, random_state=0), X, [100.0, 10.0, 1.0])


def test_a_free_energy_curve_is_drawn_with_its_errors_as_models_cool(curve):
    curve = replace(curve, hmaxemax_error=np.array([0.3, 0.2, 0.1]))
    display = FreeEnergyDisplay.from_curve(curve)
    internal, hmaxemax = display.errorbars_
    np.testing.assert_allclose(internal.lines[0].get_ydata(), curve.internal_energy)
    x, y = hmaxemax.lines[0].get_data()
    np.testing.assert_allclose(x, curve.model_temperatures)
    np.testing.assert_allclose(y, curve.hmaxemax)
    np.testing.assert_allclose(np.diff(heights(hmaxemax))[:, 0], [0.6, 0.4, 0.2])
    assert display.ax_.xaxis_inverted()
    assert display.ax_.get_xscale() == "log"
    assert display.plot(display.ax_).ax_.xaxis_inverted()  # and not turned round again


def test_points_that_are_doubtful_have_markers_of_their_own(curve):
    curve = replace(curve, status=("failed", "ok", "suspect"))
    display = FreeEnergyDisplay.from_curve(curve, quantities="heat_capacity")
    found = {each: points.get_xdata().tolist() for (_, each), points in display.points_.items()}
    assert found == {"ok": [10.0], "suspect": [1.0], "failed": [100.0]}
    assert len({points.get_marker() for points in display.points_.values()}) == 3
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert {"suspect", "failed"} <= set(legend)


def test_a_curve_can_be_computed_and_drawn_at_once(curve):
    display = FreeEnergyDisplay.from_estimator(
        BayesianGMMAutoEncoder(1, random_state=0), X, model_temperatures=[100.0, 10.0, 1.0]
    )
    assert isinstance(display.curve, FreeEnergyCurve)
    np.testing.assert_allclose(display.curve.hmaxemax, curve.hmaxemax)


def test_free_energies_refuse_what_they_cannot_draw(curve):
    with pytest.raises(TypeError, match=r"curve must be what .*free_energy_curve returns, got int"):
        FreeEnergyDisplay.from_curve(3)
    with pytest.raises(ValueError, match="must have the same units"):
        FreeEnergyDisplay.from_curve(curve, quantities=("hmaxemax", "heat_capacity"))
    with pytest.raises(ValueError, match=r"quantities must be among 'hmaxemax'.*got 'entropy'"):
        FreeEnergyDisplay.from_curve(curve, quantities="entropy")


# -- sampling --------------------------------------------------------------------------------------

SAMPLING = SamplingResult(
    method="gibbs",
    n_chains=4,
    n_sweeps=250,
    rhat=1.3,
    ess=17.25,
    log_evidence=-123.4,
    log_evidence_error=0.25,
    balance=1.0,
    acceptance=0.5,
    status="suspect",
    reasons=("chains disagree",),
    log_evidence_lower_bound=-130.0,
    estimates={"bridge": (-123.5, 0.125), "other": (NAN, NAN), "visited": (-124.0, NAN)},
)


def test_estimates_of_the_evidence_are_drawn_with_their_errors():
    display = SamplingDisplay(SAMPLING).plot()
    ticks = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert ticks == ["reported", "bridge", "visited"]
    values = [bars.lines[0].get_xdata()[0] for bars in display.errorbars_]
    assert values == [-123.4, -123.5, -124.0]
    ends = [bars.lines[2][0].get_segments()[0][:, 0].tolist() for bars in display.errorbars_[:2]]
    np.testing.assert_allclose(ends, [[-123.65, -123.15], [-123.625, -123.375]])
    assert display.errorbars_[2].lines[2] == ()
    assert set(display.bound_.get_xdata()) == {-130.0}
    low, high = display.ax_.get_xlim()
    assert low < -130
    assert high > -123.15


def test_the_verdict_and_its_reasons_are_read_above():
    first, second, *reasons = SamplingDisplay(SAMPLING).plot().title_.get_text().splitlines()
    assert first == "Sampling of the models: suspect"
    assert second == "R-hat 1.300, effective draws 17, chains 4, modes 1 (gibbs)"
    assert reasons == ["- chains disagree"]
    many = replace(SAMPLING, reasons=tuple(f"reason {i}" for i in range(20)))
    lines = SamplingDisplay(many).plot().title_.get_text().splitlines()
    assert len(lines) == 10
    assert lines[-1] == "- more: see sampling_.reasons"


def test_a_sampler_without_an_evidence_says_so():
    display = SamplingDisplay(
        replace(SAMPLING, log_evidence=NAN, log_evidence_error=NAN, estimates={}, rhat=NAN)
    ).plot()
    assert display.errorbars_ == []
    assert display.ax_.texts[0].get_text() == "this sampler does not estimate the evidence"
    assert "R-hat not estimated" in display.title_.get_text()


def test_traces_are_drawn_below_chain_by_chain():
    trace = np.array([[0.0, 1.0, 2.0], [1.0, 1.5, 0.5]])
    display = SamplingDisplay(replace(SAMPLING, trace=trace)).plot()
    for line, chain in zip(display.traces_, trace, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), chain)
    assert len({line.get_color() for line in display.traces_}) == 2
    assert display.trace_ax_.get_xlabel() == "draws along each chain"
    assert display.trace_ax_.get_position().y1 < display.ax_.get_position().y0
    particles = SamplingDisplay(replace(SAMPLING, trace=trace, method="nested")).plot()
    assert particles.trace_ax_.get_xlabel() == "draws of each island, in no order"


@pytest.mark.parametrize("by_hand", [False, True])
def test_traces_take_no_more_room_than_the_axes_had(by_hand):
    if by_hand:
        figure = plt.figure()
        ax, other = figure.add_axes((0.1, 0.2, 0.3, 0.6)), None
    else:
        figure, (ax, other) = plt.subplots(1, 2)
    before = ax.get_position()
    display = SamplingDisplay(replace(SAMPLING, trace=np.zeros((2, 5)))).plot(ax)
    assert display.ax_ is ax
    for part in (ax, display.trace_ax_):
        box = part.get_position()
        assert before.x0 - 1e-9 <= box.x0 < box.x1 <= before.x1 + 1e-9
        assert before.y0 - 1e-9 <= box.y0 < box.y1 <= before.y1 + 1e-9
    if other is not None:
        assert display.trace_ax_.get_position().x1 < other.get_position().x0


def test_without_a_trace_the_evidence_has_the_axes_to_itself():
    display = SamplingDisplay(SAMPLING).plot()
    assert display.trace_ax_ is None
    assert display.traces_ == []
    assert display.figure_.axes == [display.ax_]


def test_an_evidence_known_exactly_is_not_magnified():
    exact = replace(SAMPLING, log_evidence_error=0.0, log_evidence_lower_bound=NAN, estimates={})
    low, high = SamplingDisplay(exact).plot().ax_.get_xlim()
    assert 0.4 < high - low < 1.0


def test_a_fit_that_sampled_shows_its_own_diagnostics(gmm):
    model = BayesianGMMAutoEncoder(1, random_state=0).fit(X)
    display = SamplingDisplay.from_estimator(model)
    assert display.sampling is model.sampling_
    drawn = [line.get_ydata() for line in display.traces_]
    np.testing.assert_array_equal(drawn, model.sampling_.trace)
    with pytest.raises(ValueError, match="fitted with model_temperature=0"):
        SamplingDisplay.from_estimator(gmm)


# -- reconstructions -------------------------------------------------------------------------------


def test_rows_are_above_their_reconstructions_with_their_errors(pca):
    display = ReconstructionDisplay.from_estimator(pca, X, rows=[3, 140], image_shape=(2, 2))
    rows = X[[3, 140]]
    back = pca.inverse_transform(pca.transform(rows))
    drawn = display.image_.get_array()
    for column in range(2):
        across = slice(3 * column, 3 * column + 2)
        np.testing.assert_allclose(drawn[:2, across], rows[column].reshape(2, 2))
        np.testing.assert_allclose(drawn[3:, across], back[column].reshape(2, 2))
    errors = ((rows - back) ** 2).mean(axis=1)
    np.testing.assert_allclose(display.errors_, errors)
    ticks = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert ticks == [f"{error:.3g}" for error in errors]


def test_without_a_shape_rows_are_lines_in_the_units_of_the_input():
    model = make_pipeline(StandardScaler(), BayesianPCAAutoEncoder(1, model_temperature=0)).fit(X)
    display = ReconstructionDisplay.from_estimator(model, X)
    assert len(display.lines_) == 12
    back = model.inverse_transform(model.transform(X[:6]))
    for i in range(6):
        np.testing.assert_allclose(display.lines_[2 * i].get_ydata(), X[i])
        np.testing.assert_allclose(display.lines_[2 * i + 1].get_ydata(), back[i])


def test_missing_entries_are_not_drawn_and_do_not_count(gmm):
    rows = X[:2].copy()
    rows[0, 1] = NAN
    display = ReconstructionDisplay.from_estimator(gmm, rows)
    assert np.isnan(display.lines_[0].get_ydata()).tolist() == [False, True, False, False]
    back = gmm.inverse_transform(gmm.transform(rows))
    known = [0, 2, 3]
    expected = ((rows[0] - back[0])[known] ** 2).mean()
    np.testing.assert_allclose(display.errors_[0], expected)


def test_reconstructions_refuse_what_they_cannot_draw(pca):
    with pytest.raises(ValueError, match="image_shape must be two numbers"):
        ReconstructionDisplay.from_estimator(pca, X, image_shape=4)
    for rows in ([], [150], [-1], 3, [0.5]):
        with pytest.raises(ValueError, match="rows must be numbers of rows of X, from 0 to 149"):
            ReconstructionDisplay.from_estimator(pca, X, rows=rows)
    categories = BayesianMixtureAutoEncoder(2, "categorical", model_temperature=0, random_state=0)
    categories.fit(SPECIES[:, None])
    with pytest.raises((TypeError, ValueError), match="categor"):
        ReconstructionDisplay.from_estimator(categories, SPECIES[:, None])
