"""What was sampled, in a table and for ArviZ: parameters by name, and how sure labels are."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixtureAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
)
from skbae.components import Poisson, Uniform
from skbae.estimators._posterior import Posterior, PosteriorTable, arviz_arguments, as_table
from skbae.operators._labels import label_certainty

ONE = np.random.default_rng(0).normal(size=(60, 2))
TWO = np.random.default_rng(1).normal(size=(50, 2))
TWO[30:, 0] += 8.0


@pytest.fixture(scope="module")
def mixture():
    return BayesianGMMAutoEncoder(2, covariance_type="diag", random_state=0).fit(TWO)


def columns_of(table):
    """Return the columns by parameter, whichever kind of table there is."""
    if isinstance(table, PosteriorTable):
        names = table.columns["parameter"]
        others = {
            name: dict(zip(names, table.columns[name], strict=True)) for name in table.columns
        }
        return names, others
    return list(table.index), {name: dict(table[name]) for name in table.columns}


# -- certainty of labels -----------------------------------------------------------------------


def test_certainty_is_the_least_weighted_correlation_over_pairs_of_labels():
    rng = np.random.default_rng(1)
    reference = rng.dirichlet(np.full(3, 0.3), size=40).T
    noise = rng.dirichlet(np.full(3, 0.3), size=(5, 40)).transpose(0, 2, 1)
    codes = 0.6 * reference + 0.4 * noise
    expected = np.full((3, 3), 1.0)
    for k in range(3):
        for j in range(3):
            if k == j:
                continue
            values = []
            for own in codes:
                both = np.stack([reference[k] - reference[j], own[k] - own[j]])
                covariance = np.cov(both, aweights=reference[k] + reference[j], ddof=0)
                value = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
                values.append(max(value, 0.0))
            expected[k, j] = np.mean(values)
    np.testing.assert_allclose(label_certainty(codes, reference), expected.min(axis=1), rtol=1e-10)


def test_certainty_is_zero_for_exchanged_empty_and_equal_labels():
    codes = np.array([[0.9, 0.2, 0.0], [0.1, 0.8, 1.0]])
    assert label_certainty(codes[None], codes) == pytest.approx([1.0, 1.0])
    assert label_certainty(codes[None, ::-1], codes) == pytest.approx([0.0, 0.0])
    empty = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert label_certainty(empty[None], empty) == pytest.approx([0.0, 0.0, 0.0])
    equal = np.full((2, 3), 0.5)
    assert label_certainty(equal[None], equal) == pytest.approx([0.0, 0.0])
    # a large and a small component of the same rows: sizes differ, but not whose rows are whose
    sizes = np.array([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])
    assert label_certainty(sizes[None], sizes) == pytest.approx([0.0, 0.0])


# -- the table ---------------------------------------------------------------------------------


def test_the_table_has_means_deviations_and_quantiles_of_the_kept_models(mixture):
    names, columns = columns_of(mixture.summary())
    draws = mixture.models_.means[:, 1, 0]
    name = "means[1, x0]"
    assert columns["mean"][name] == pytest.approx(draws.mean())
    assert columns["std"][name] == pytest.approx(draws.std(ddof=1))
    assert columns["5%"][name] == pytest.approx(np.quantile(draws, 0.05))
    assert columns["95%"][name] == pytest.approx(np.quantile(draws, 0.95))
    assert len(names) == 2 + 4 + 4
    assert columns["label certainty"][name] > 0.99


def test_labels_that_are_not_identified_are_warned_of():
    model = BayesianGMMAutoEncoder(2, random_state=0).fit(ONE)
    with pytest.warns(UserWarning, match="labels are not identified"):
        _, columns = columns_of(model.summary())
    assert max(columns["label certainty"].values()) < 0.7


def test_directions_of_equal_variance_are_warned_of():
    X = np.random.default_rng(2).normal(size=(50, 4))
    model = BayesianPCAAutoEncoder(2, random_state=0).fit(X)
    with pytest.warns(UserWarning, match="labels are not identified"):
        _, columns = columns_of(model.summary())
    assert np.isnan(columns["label certainty"]["noise_variance"])
    assert columns["label certainty"]["components[0, x0]"] < 0.9


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("covariance_type", ["full", "spherical", "tied", "tied_spherical"])
def test_every_covariance_is_in_the_table(covariance_type):
    model = BayesianGMMAutoEncoder(2, covariance_type=covariance_type, random_state=0).fit(TWO)
    names, columns = columns_of(model.summary())
    assert len(names) == sum(
        np.size(getattr(model, name)) for name in ("weights_", "means_", "covariances_")
    )
    tied = covariance_type.startswith("tied")
    certain = [columns["label certainty"][name] for name in names if name.startswith("cov")]
    assert np.isnan(certain).all() if tied else min(certain) > 0.99


def test_a_table_of_counts_with_noise_is_summarised():
    rng = np.random.default_rng(3)
    X = rng.poisson(rng.choice([2, 30], (50, 1)), (50, 2))
    model = BayesianMixtureAutoEncoder(
        2, components=Poisson(), noise=Uniform(), random_state=0
    ).fit(X)
    posterior = model._posterior("summary")
    assert set(posterior.arrays) == {"weights", "noise_weight", "poisson_rates"}
    total = posterior.arrays["weights"].sum(axis=1) + posterior.arrays["noise_weight"]
    np.testing.assert_allclose(total, 1.0)
    order = np.argsort(posterior.arrays["poisson_rates"].mean(axis=(0, 2)))
    np.testing.assert_allclose(
        posterior.arrays["poisson_rates"].mean(axis=(0, 2))[order], [2, 30], rtol=0.3
    )


def test_mixtures_of_pca_have_directions_within_components():
    model = BayesianMixturePCAAutoEncoder(2, n_latent=1, random_state=0).fit(TWO * [1.0, 0.2])
    posterior = model._posterior("summary")
    assert posterior.dims["components"] == ("component", "direction", "feature")
    assert posterior.certainty["components"].shape == (2, 1, 2)
    assert posterior.certainty["weights"].min() > 0.99


def test_pca_without_directions_has_a_mean_and_noise():
    model = BayesianPCAAutoEncoder(0, random_state=0).fit(TWO)
    names, _ = columns_of(model.summary())
    assert names == ["noise_variance", "mean[x0]", "mean[x1]"]


def test_mixtures_of_pca_without_a_density_are_refused():
    model = BayesianMixturePCAAutoEncoder(
        2, n_latent=1, temperature=0, model_temperature=1, random_state=0
    ).fit(TWO)
    with pytest.raises(ValueError, match="a comparison of labels needs a density"):
        model.summary()


@pytest.mark.parametrize("method", ["summary", "to_arviz"])
def test_a_single_best_model_is_refused_with_the_reason(method):
    model = BayesianPCAAutoEncoder(1, model_temperature=0).fit(TWO)
    with pytest.raises(ValueError, match=rf"{method} is about .*model_temperature=0"):
        getattr(model, method)()


def test_a_sampling_that_is_not_ok_is_warned_of(mixture):
    before = mixture.sampling_
    try:
        mixture.sampling_ = type(before)(
            **{**vars(before), "status": "suspect", "reasons": ("too short",)}
        )
        with pytest.warns(UserWarning, match="suspect: too short"):
            mixture.summary()
    finally:
        mixture.sampling_ = before


def test_without_pandas_the_table_is_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    posterior = Posterior(
        {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([1.0, 1.0])},
        {"a": ("feature",), "b": ()},
        {"feature": ["<x>", "y"]},
        {"a": np.array([0.5, 1.0])},
    )
    table = as_table(posterior.table())
    lines = str(table).splitlines()
    assert lines[0].split() == ["parameter", "mean", "std", "5%", "95%", "label", "certainty"]
    assert lines[1].split() == ["a[<x>]", "2", "1.414", "1.1", "2.9", "0.5"]
    assert lines[3].split() == ["b", "1", "0", "1", "1"]
    assert "&lt;x&gt;" in table._repr_html_()
    assert "<x>" not in table._repr_html_()


# -- ArviZ -------------------------------------------------------------------------------------


def test_what_arviz_is_given_has_an_axis_and_labels_for_each_dimension(mixture):
    given = arviz_arguments(mixture._posterior("to_arviz"), mixture)
    draws = given["data"]["posterior"]
    assert set(draws) == {"weights", "means", "covariances"}
    for name, values in draws.items():
        assert values.shape[0] == 1
        assert values.shape[1] == mixture.models_.n_models
        lengths = [len(given["coords"][dim]) for dim in given["dims"][name]]
        assert list(values.shape[2:]) == lengths
    assert given["coords"] == {"component": [0, 1], "feature": ["x0", "x1"]}
    assert given["attrs"]["posterior"]["sampling_status"] == mixture.sampling_.status


def test_names_of_columns_are_coordinates():
    pd = pytest.importorskip("pandas")
    model = BayesianPCAAutoEncoder(1, random_state=0).fit(pd.DataFrame(TWO, columns=["a", "b"]))
    assert model._posterior("to_arviz").coords == {"direction": [0], "feature": ["a", "b"]}


def test_without_arviz_the_error_names_the_extra(mixture, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    with pytest.raises(ImportError, match=r"skbae\[arviz\]"):
        mixture.to_arviz()


def test_arviz_has_the_draws_under_their_names(mixture):
    pytest.importorskip("arviz_base")
    posterior = mixture.to_arviz()["posterior"]
    assert posterior["means"].dims == ("chain", "draw", "component", "feature")
    np.testing.assert_array_equal(
        posterior["means"].sel(feature="x1", component=0).values[0], mixture.models_.means[:, 0, 1]
    )
