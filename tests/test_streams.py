"""Mixtures and PCA that learn from batches of rows: partial_fit."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES
from sklearn.base import clone

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder
from skbae._types import Frame
from skbae.estimators._stream import Stream
from skbae.inference.passes._rows import make_rows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def clusters(n_rows, n_features, n_clusters, distance, seed=0):
    rng = np.random.default_rng(seed)
    means = distance * rng.standard_normal((n_clusters, n_features))
    labels = rng.integers(n_clusters, size=n_rows)
    return rng.standard_normal((n_rows, n_features)) + means[labels]


def gaussian(n_components, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


def subspaces(n_components, **settings):
    settings = {"model_temperature": 0, "random_state": 0, "n_latent": 1, **settings}
    return BayesianMixturePCAAutoEncoder(n_components, **settings)


def fed(model, X, size, n_passes=1, weights=None):
    for _ in range(n_passes):
        for start in range(0, len(X), size):
            part = slice(start, start + size)
            model.partial_fit(X[part], sample_weight=None if weights is None else weights[part])
    return model


# -- how much a batch counts -----------------------------------------------------------------------


def test_frames_of_batches_are_those_of_all_rows():
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(90, 3)) * [1, 10, 0.1] + [0, 5, 100], rng.uniform(1, 3, 90)
    stream = Stream.begin(make_rows(X[:20], weights[:20]))
    for start, stop in ((20, 21), (21, 60), (60, 90)):
        stream = stream.after(make_rows(X[start:stop], weights[start:stop]))
    rows = make_rows(X, weights)
    np.testing.assert_allclose(stream.frame.centre, rows.centre, rtol=1e-12)
    np.testing.assert_allclose(stream.frame.scale, rows.scale, rtol=1e-10)
    assert (stream.n_rows, stream.first) == (90, weights[:20].sum())
    np.testing.assert_allclose(stream.seen, weights.sum())


def test_pieces_are_all_rows_of_a_batch_in_order():
    X, weights = np.arange(4600.0)[:, None], np.tile([1.0, 3.0], 2300)
    stream = Stream(500.0, 500.0, 500, Frame(np.zeros(1), np.ones(1)))
    pieces = list(stream.pieces(make_rows(X, weights)))
    assert len(pieces) == 9  # of a total of about a thousand
    np.testing.assert_array_equal(np.concatenate([piece.X for piece in pieces]), X)
    assert sum(piece.total for piece in pieces) == weights.sum()
    assert len(list(stream.pieces(make_rows(X[:3], None)))) == 1


# -- one component: sums are exact -----------------------------------------------------------------


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_one_component_is_that_of_all_rows(kind):
    """At decay 1 all rows count alike: the mean and covariance are those of one fit."""
    X = clusters(300, 3, 3, 2.0)
    settings = {"covariance_type": kind, "learning_decay": 1.0, "reg_covar": 0, "max_iter": 5}
    weights = np.random.default_rng(0).integers(1, 4, 300).astype(float)
    for own in (None, weights):
        whole = gaussian(1, **settings).fit(X, sample_weight=own)
        parts = fed(gaussian(1, **settings), X, 37, weights=own)
        np.testing.assert_allclose(parts.means_, whole.means_, rtol=1e-12)
        np.testing.assert_allclose(parts.covariances_, whole.covariances_, rtol=1e-10, atol=1e-13)
        assert parts.n_samples_seen_ == whole.n_samples_seen_ == 300
        np.testing.assert_allclose(parts.score(X), whole.score(X), rtol=1e-12)


def test_a_step_is_that_of_stepwise_expectation_maximisation():
    """By hand: expected sums of the rows so far, and of the batch under the model."""
    X = clusters(400, 2, 2, 2.0, seed=3)
    model = gaussian(2, learning_decay=0.6, reg_covar=0).fit(X[:100])
    first = [model.weights_, model.means_, model.covariances_]
    codes = model.predict_proba(X[100:160])
    share = 60 / (60 + 100)
    model.partial_fit(X[100:160])
    weights = (1 - share) * first[0] + share * codes.mean(axis=0)
    sums = (1 - share) * first[0][:, None] * first[1] + share * codes.T @ X[100:160] / 60
    outer = np.einsum("nk,nd,ne->kde", codes, X[100:160], X[100:160]) / 60
    moments = first[2] + first[1][:, :, None] * first[1][:, None]
    moments = (1 - share) * first[0][:, None, None] * moments + share * outer
    means = sums / weights[:, None]
    covariances = moments / weights[:, None, None] - means[:, :, None] * means[:, None]
    np.testing.assert_allclose(model.weights_, weights, rtol=1e-10)
    np.testing.assert_allclose(model.means_, means, rtol=1e-10)
    np.testing.assert_allclose(model.covariances_, covariances, rtol=1e-9, atol=1e-12)
    known = 100 * (160 / 100) ** 0.6
    assert model._fitted.stream.share(40.0, 0.6, 0.0) == pytest.approx(40 / (40 + known))


# -- several components ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_pass_over_batches_ends_near_the_fit_to_all_rows(kind):
    X = clusters(50_000, 4, 4, 1.5, seed=1)
    parts = fed(gaussian(4, covariance_type=kind), X, 1000)
    start = {
        "weights_init": parts.weights_,
        "means_init": parts.means_,
        "precisions_init": parts.precisions_,
    }
    whole = gaussian(4, covariance_type=kind, **start).fit(X)
    left = whole.score(X) - parts.score(X)
    assert 0 <= left < 0.02
    early = gaussian(4, covariance_type=kind).fit(X[:1000])
    assert left < 0.5 * (whole.score(X) - early.score(X)), "batches have taught nothing"
    again = fed(parts, X, 1000, n_passes=4)
    assert whole.score(X) - again.score(X) < 0.005
    assert again.n_samples_seen_ == 250_000


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_subspaces_learn_from_batches(temperature):
    rng = np.random.default_rng(2)
    axes = rng.normal(size=(2, 1, 6)) * 3
    labels = rng.integers(2, size=8000)
    X = rng.normal(size=(8000, 1, 1)) * axes[labels] + 0.5 * rng.normal(size=(8000, 1, 6))
    X = X[:, 0] + 6 * labels[:, None] * np.eye(6)[0]
    parts = fed(subspaces(2, temperature=temperature), X, 400)
    whole = subspaces(2, temperature=temperature).fit(X)
    assert whole.score(X) - parts.score(X) < 0.02
    assert parts.n_samples_seen_ == 8000


def test_rows_with_gaps_arrive_in_batches():
    X = clusters(6000, 3, 2, 2.0, seed=5)
    gaps = np.random.default_rng(0).random(X.shape) < 0.2
    holes = np.where(gaps, np.nan, X)
    parts, whole = fed(gaussian(2), holes, 500), gaussian(2).fit(holes)
    assert whole.score(holes) - parts.score(holes) < 0.01


def test_a_large_batch_is_worth_its_pieces():
    """A single step, however long, is one step of expectation maximisation."""
    X = clusters(21_000, 2, 3, 1.0, seed=4)
    large = gaussian(3).partial_fit(X[:1000]).partial_fit(X[1000:])
    small = fed(gaussian(3), X, 1000)
    np.testing.assert_allclose(large.means_, small.means_, rtol=1e-6)  # floors differ
    assert large.n_iter_ == 20


def test_what_is_forgotten_follows_rows_that_move():
    rng = np.random.default_rng(0)
    steps = np.repeat(np.linspace(0, 8, 80), 100)
    X = rng.normal(size=(8000, 1)) + steps[:, None]
    stuck, follows = (fed(gaussian(1, forgetting=f), X, 100) for f in (0.0, 0.3))
    assert follows.means_[0, 0] > 7.5
    assert stuck.means_[0, 0] < 6.5
    tilted = fed(gaussian(1, forgetting=0.3, tilt=0.5), X, 100)
    assert tilted.means_[0, 0] > 7.5


# -- use -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [gaussian, subspaces])
def test_a_pickled_model_goes_on_as_if_nothing_had_happened(make):
    X = clusters(900, 3, 2, 2.0)
    model = make(2).partial_fit(X[:300])
    copy = pickle.loads(pickle.dumps(model))
    for each in (model, copy):
        fed(each, X[300:], 100)
    np.testing.assert_array_equal(model.means_, copy.means_)
    assert not hasattr(clone(model), "n_samples_seen_")


def test_models_go_on_from_a_fit_and_from_parameters():
    X = clusters(600, 2, 2, 3.0)
    model = gaussian(2).fit(X[:300]).partial_fit(X[300:])
    assert model.n_samples_seen_ == 600
    given = BayesianGMMAutoEncoder.from_parameters(
        [0.5, 0.5], model.means_, model.covariances_, model_temperature=0
    )
    with pytest.raises(AttributeError, match="has not been fitted to rows"):
        _ = given.n_samples_seen_
    given.partial_fit(X)
    assert given.n_samples_seen_ == 600
    assert given.score(X) > model.score(X) - 0.01


def test_batches_may_be_single_rows():
    X = clusters(200, 2, 2, 3.0)
    model = gaussian(2).fit(X[:100])
    for row in X[100:]:
        model.partial_fit(row[None])
    assert np.isfinite(model.score(X))
    assert abs(model.score(X) - gaussian(2).fit(X).score(X)) < 0.05


def test_mistakes_are_named_and_change_nothing():
    X = clusters(200, 2, 2, 3.0)
    with pytest.raises(AttributeError, match="partial_fit") as raised:
        _ = BayesianGMMAutoEncoder(2).partial_fit
    assert "needs model_temperature=0" in str(raised.value.__cause__)
    for name, value in (("learning_decay", 0.0), ("learning_decay", 1.5), ("forgetting", 1.0)):
        with pytest.raises(ValueError, match=name):
            gaussian(2, **{name: value}).fit(X)
    model = gaussian(2).partial_fit(X)
    means = model.means_.copy()
    with pytest.raises(ValueError, match="partial_fit needs the n_components"):
        model.set_params(n_components=3).partial_fit(X)
    with pytest.raises(ValueError, match="2 features"):
        model.set_params(n_components=2).partial_fit(X[:, :1])
    np.testing.assert_array_equal(model.means_, means)
    assert model.n_samples_seen_ == 200


# -- PCA: exact in any split -----------------------------------------------------------------------


def pca(n_components=None, **settings):
    return BayesianPCAAutoEncoder(n_components, model_temperature=0, **settings)


def spiked(n_rows, n_features, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_rows, n_features)) * np.geomspace(10, 0.1, n_features) + offset


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [1, 13, 90])
def test_pca_of_batches_is_that_of_all_rows(size, temperature):
    X = spiked(180, 6, offset=3.0)
    weights = np.random.default_rng(1).integers(1, 4, 180).astype(float)
    settings = {"temperature": temperature, "whiten": True}
    for own in (None, weights):
        own_of_first = None if own is None else own[:10]
        parts = pca(3, **settings).partial_fit(X[:10], sample_weight=own_of_first)
        for start in range(10, 180, size):
            part = slice(start, start + size)
            parts.partial_fit(X[part], sample_weight=None if own is None else own[part])
        whole = pca(3, **settings).fit(X, sample_weight=own)
        for name in ("mean_", "components_", "noise_variance_", "explained_variance_",
                     "explained_variance_ratio_", "singular_values_", "hmaxe_"):  # fmt: skip
            np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-9)
        np.testing.assert_allclose(parts.transform(X), whole.transform(X), rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(parts.score_samples(X), whole.score_samples(X), rtol=1e-9)
        assert parts.n_samples_seen_ == whole.n_samples_seen_ == 180


def test_batches_of_a_column_far_from_zero_keep_their_digits():
    X = spiked(300, 4, offset=1e6)
    parts, whole = fed(pca(2), X, 20), pca(2).fit(X)
    np.testing.assert_allclose(parts.explained_variance_, whole.explained_variance_, rtol=1e-7)


@pytest.mark.parametrize("n_components", [None, 0.9, "mle", 3])
def test_the_number_of_components_follows_from_all_rows(n_components):
    X = spiked(200, 5)
    parts, whole = fed(pca(n_components), X, 50), pca(n_components).fit(X)
    assert parts.n_components_ == whole.n_components_
    np.testing.assert_allclose(parts.noise_variance_, whole.noise_variance_, rtol=1e-9, atol=1e-12)


def test_fewer_rows_than_columns_and_then_more():
    X = spiked(40, 12)
    model = pca(4).partial_fit(X[:6])
    np.testing.assert_allclose(model.explained_variance_, pca(4).fit(X[:6]).explained_variance_)
    model.partial_fit(X[6:])
    np.testing.assert_allclose(model.explained_variance_, pca(4).fit(X).explained_variance_)


def test_pca_goes_on_from_a_fit_to_all_rows():
    """Exactly, if no direction is left out; else these count as equal to each other."""
    X = spiked(120, 4)
    whole = pca().fit(X)
    np.testing.assert_allclose(
        pca().fit(X[:70]).partial_fit(X[70:]).explained_variance_, whole.explained_variance_
    )
    some = pca(2).fit(X[:70]).partial_fit(X[70:])
    assert some.n_samples_seen_ == 120
    np.testing.assert_allclose(some.mean_, whole.mean_, rtol=1e-10)
    np.testing.assert_allclose(
        some.explained_variance_.sum() / some.explained_variance_ratio_.sum(),
        whole.explained_variance_.sum(),
    )
    np.testing.assert_allclose(some.explained_variance_, whole.explained_variance_[:2], rtol=0.02)


def test_pca_refuses_batches_that_would_not_be_exact():
    X = spiked(60, 3)
    with pytest.raises(AttributeError, match="partial_fit") as raised:
        _ = pca(2, tilt=0.5).partial_fit
    assert "needs tilt=0, got 0.5" in str(raised.value.__cause__)
    holes = X.copy()
    holes[3, 1] = np.nan
    with pytest.raises(ValueError, match="without missing entries"):
        pca(2).partial_fit(holes)
    with pytest.raises(ValueError, match="all rows of X are equal"):
        pca(1).partial_fit(np.ones((5, 3)))
