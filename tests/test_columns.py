"""Columns that say nothing (constant, determined by others) and columns of few distinct values."""

import copy
import warnings

import numpy as np
import pytest
from _altered import QuickGMM
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skbae import BayesianGMMAutoEncoder
from skbae.energies.gaussian._span import column_span
from skbae.energies.gaussian._ties import gains_from_ties, value_gaps
from skbae.inference.passes._rows import make_rows
from skbae.model_selection import check_evidences

KINDS = ["full", "tied", "diag", "tied_diag", "spherical", "tied_spherical"]


def two_groups(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(-3, 1, (n, 2)), rng.normal(3, 1, (n, 2))])


def quiet_fit(model, X, **more):
    """Fit without the warning that names the columns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "columns of X are left out", UserWarning)
        return model.fit(X, **more)


# -- evidence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1e8])
def test_constant_column_leaves_evidence_and_scores_as_they_are(kind, value):
    X = two_groups(20)
    more = np.insert(X, 1, value, axis=1)
    options = {"covariance_type": kind, "evidence_tol": 0.5, "random_state": 0}
    plain = QuickGMM(2, **options).fit(X)
    model = quiet_fit(QuickGMM(2, **options), more)
    assert model.log_evidence_ == pytest.approx(plain.log_evidence_, abs=1e-8)
    np.testing.assert_allclose(model.score_samples(more), plain.score_samples(X), atol=1e-8)
    np.testing.assert_allclose(model.predict_proba(more), plain.predict_proba(X), atol=1e-8)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "tied_diag"])
def test_column_determined_by_others_leaves_evidence_as_it_is(kind):
    X = two_groups(20)
    more = np.c_[X, 3 - 20 * X[:, 0], X[:, 0] + X[:, 1]]
    options = {"covariance_type": kind, "evidence_tol": 0.5, "random_state": 0}
    plain = QuickGMM(2, **options).fit(X)
    model = quiet_fit(QuickGMM(2, **options), more)
    assert model.log_evidence_ == pytest.approx(plain.log_evidence_, abs=1e-8)


def test_two_components_are_chosen_beside_a_column_of_zeros():
    more = np.c_[two_groups(), np.zeros(120)]
    found = [
        quiet_fit(
            BayesianGMMAutoEncoder(k, covariance_type="diag", evidence_tol=0.5, random_state=0),
            more,
        ).log_evidence_
        for k in (1, 2, 3)
    ]
    assert np.argmax(found) == 1


def test_given_prior_is_that_of_the_columns_with_a_density():
    X = two_groups(20)
    rng = np.random.default_rng(1)
    root = rng.normal(size=(3, 3))
    covariance, mean = root @ root.T + np.eye(3), rng.normal(size=3)
    kept = [0, 2]
    plain = QuickGMM(
        2,
        mean_prior=mean[kept],
        covariance_prior=covariance[np.ix_(kept, kept)],
        degrees_of_freedom_prior=5.0,
        random_state=0,
    ).fit(X)
    model = QuickGMM(
        2,
        mean_prior=mean,
        covariance_prior=covariance,
        degrees_of_freedom_prior=6.0,  # the marginal of a Wishart prior has one less
        random_state=0,
    )
    quiet_fit(model, np.insert(X, 1, 4.0, axis=1))
    assert model.log_evidence_ == pytest.approx(plain.log_evidence_, abs=1e-8)


def test_given_start_is_that_of_the_columns_with_a_density():
    covariance = np.array([[2, 0.3, 0.1], [0.3, 1, 0.2], [0.1, 0.2, 1.5]])
    model = BayesianGMMAutoEncoder(
        2,
        means_init=[[-2.0, 9.0, -1.0], [2.0, 9.0, 3.0]],
        precisions_init=np.tile(np.linalg.inv(covariance), (2, 1, 1)),
    )
    span = column_span(make_rows(np.insert(two_groups(), 1, 4.0, axis=1), None), dependent=True)
    start = model._check_parameters().on_span(span).given_start(2)
    np.testing.assert_array_equal(start.means[0], [[-2, -1], [2, 3]])
    found = np.linalg.inv(start.factors[0] @ np.swapaxes(start.factors[0], -1, -2))
    np.testing.assert_allclose(found, np.tile([[2, 0.1], [0.1, 1.5]], (2, 1, 1)), atol=1e-12)


def test_evidences_beside_a_constant_column_are_checked_as_without_it():
    X = two_groups(30)
    more, checked = np.c_[X, np.zeros(60)], []
    for rows in (X, more):
        prior = np.eye(rows.shape[1])
        fits = [
            quiet_fit(QuickGMM(k, covariance_prior=prior, random_state=0), rows) for k in (1, 2)
        ]
        (pair,) = check_evidences(fits, rows).pairs
        checked.append((pair.reported, pair.expected, pair.expected_error, *pair.limits))
    np.testing.assert_allclose(checked[1], checked[0], rtol=1e-6)


# -- attributes and methods ------------------------------------------------------------------------


def completed_problem():
    """Return rows with two columns of their own, a constant one, and one determined by these."""
    X = two_groups()
    return np.c_[X[:, 0], np.full(120, 5.0), X[:, 1], 1 + X[:, 0] - 2 * X[:, 1]]


@pytest.fixture(scope="module")
def completed():
    """Fits on the rows of `completed_problem` by covariance type."""
    options = {"evidence_tol": None, "n_models": 5, "random_state": 0}
    return {
        kind: quiet_fit(QuickGMM(2, covariance_type=kind, **options), completed_problem())
        for kind in ("full", "tied", "diag")
    }


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_attributes_contain_all_columns(kind, completed):
    model = completed[kind]
    np.testing.assert_array_equal(model.means_[:, 1], [5.0, 5.0])
    relation = np.array([1.0, 0, -2.0, -1.0])  # of the columns: x0 - 2 x2 - x3 = -1
    np.testing.assert_allclose(model.means_ @ relation, -1, atol=1e-8)
    np.testing.assert_allclose(model.covariances_ @ relation, 0, atol=1e-8)
    np.testing.assert_array_equal(model.covariances_[..., 1, :], 0)
    kept = np.ix_([0, 2], [0, 2])
    covariance = model.covariances_ if kind == "tied" else model.covariances_[0]
    precision = model.precisions_ if kind == "tied" else model.precisions_[0]
    np.testing.assert_allclose(np.linalg.inv(covariance[kept]), precision[kept], rtol=1e-8)
    rows, _ = model.sample(50, random_state=0)
    np.testing.assert_array_equal(rows[:, 1], 5.0)
    np.testing.assert_allclose(rows @ relation, -1, atol=1e-8)


def test_a_row_is_scored_by_its_columns_with_a_density(completed):
    X, model = completed_problem(), completed["full"]
    other = X.copy()
    other[:, [1, 3]] = 99.0
    np.testing.assert_array_equal(model.score_samples(other), model.score_samples(X))
    gradient = model.score_gradient(X)
    assert gradient.shape == X.shape
    np.testing.assert_array_equal(gradient[:, [1, 3]], 0.0)
    assert np.all(gradient[:, [0, 2]] != 0)


@pytest.mark.parametrize("kind", ["full", "diag", "tied"])
def test_denoise_is_the_conditional_mean_where_noise_is_in_all_columns(kind, completed):
    """Rows are mixtures of all components of all kept models, with singular covariances."""
    X, model, variance = completed_problem(), completed[kind], 0.4
    noisy = X + np.sqrt(variance) * np.random.default_rng(0).standard_normal(X.shape)
    relation = np.array([[1.0, 0], [0, 0], [0, 1], [1, -2]])
    log_weight, expectation = [], []
    for m in range(model.models_.weights.shape[0]):
        for k in range(2):
            own = model.models_.covariances[m]
            own = own if kind == "tied" else own[k]
            inner = np.diag(own[[0, 2]]) if kind == "diag" else own[np.ix_([0, 2], [0, 2])]
            mean, covariance = model.models_.means[m, k], relation @ inner @ relation.T
            total = covariance + variance * np.eye(4)
            deviation = np.linalg.solve(total, (noisy - mean).T)
            log_weight.append(
                np.log(model.models_.weights[m, k])
                - 0.5 * np.einsum("nd,dn->n", noisy - mean, deviation)
                - 0.5 * np.linalg.slogdet(total)[1]
            )
            expectation.append(mean + (covariance @ deviation).T)
    weight = np.exp(np.array(log_weight) - np.logaddexp.reduce(log_weight, axis=0))
    expected = np.einsum("kn,knd->nd", weight, expectation)
    np.testing.assert_allclose(model.denoise(noisy, variance), expected, atol=1e-7)


def test_decoded_rows_obey_the_relations_between_columns(completed):
    X, model = completed_problem(), completed["full"]
    decoded = model.decode(model.encode(X[:5]))
    draws = decoded.sample(20, random_state=0)
    np.testing.assert_array_equal(draws[..., 1], 5.0)
    np.testing.assert_allclose(draws[..., 3], 1 + draws[..., 0] - 2 * draws[..., 2], atol=1e-8)
    np.testing.assert_array_equal(decoded.variance[:, 1], 0.0)
    plain = QuickGMM(2, evidence_tol=None, n_models=5, random_state=0)
    plain.fit(X[:, [0, 2]])
    codes = plain.decode(plain.encode(X[:5, [0, 2]]))
    np.testing.assert_allclose(
        decoded.log_density(draws), codes.log_density(draws[..., [0, 2]]), atol=1e-8
    )
    np.testing.assert_allclose(decoded.entropy(), codes.entropy(), atol=1e-8)


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_reordered_components_keep_the_columns_without_a_density(kind, completed):
    X, model = completed_problem(), completed[kind]
    scores, probabilities = model.score_samples(X), model.predict_proba(X)
    other = copy.deepcopy(model)
    other.reorder_components([1, 0])
    np.testing.assert_allclose(other.score_samples(X), scores, rtol=1e-12)
    np.testing.assert_allclose(other.predict_proba(X), probabilities[:, ::-1], atol=1e-12)
    np.testing.assert_array_equal(other.means_[:, 1], [5.0, 5.0])


def test_parameters_are_counted_for_columns_with_a_density():
    X = two_groups()
    options = {"evidence_tol": None, "n_models": 5, "random_state": 0}
    plain = QuickGMM(2, **options).fit(X)
    more = np.c_[X, np.zeros(120)]
    model = quiet_fit(QuickGMM(2, **options), more)
    assert model.bic(more) == pytest.approx(plain.bic(X), rel=1e-10)


# -- which columns, and what is said of them -------------------------------------------------------


def test_warning_names_the_columns():
    pandas = pytest.importorskip("pandas")
    X = two_groups()
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "one": 1.0, "twice": 2 * X[:, 0]})
    with pytest.warns(UserWarning, match=r"constant: one; determined by others: twice"):
        QuickGMM(2, evidence_tol=None, n_models=5, random_state=0).fit(frame)


@pytest.mark.parametrize("factor", [1e-100, 1.0, 1e100])
def test_which_columns_are_left_out_does_not_depend_on_units_or_weights(factor):
    X = completed_problem() * [1, 1e3, 1e-3, 1] * factor + factor
    weights = np.random.default_rng(0).integers(1, 4, 120).astype(float)
    for given in (None, weights):
        span = column_span(make_rows(X, given), dependent=True)
        assert span.kept.tolist() == [0, 2]
        assert span.constant.tolist() == [1]
        assert span.dependent.tolist() == [3]
        np.testing.assert_allclose(span.complete(X[:, span.kept]), X, rtol=1e-9)


def test_nearly_dependent_columns_are_kept():
    X = two_groups()
    noise = 1e-4 * np.random.default_rng(0).standard_normal(120)
    assert column_span(make_rows(np.c_[X, X[:, 0] + noise], None), dependent=True) is None


def test_repeated_column_is_kept_with_spherical_components():
    # one variance for all columns: as in k-means, the column weighs twice
    X = two_groups(20)
    model = BayesianGMMAutoEncoder(
        2, covariance_type="spherical", evidence_tol=None, n_models=5, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(np.c_[X, X[:, 0]])
    assert model._fitted.details.span is None


def test_a_single_best_model_keeps_all_columns():
    # as scikit-learn's, with reg_covar as the variance of a constant column
    X = np.c_[two_groups(), np.zeros(120)]
    ours = BayesianGMMAutoEncoder(2, model_temperature=0, reg_covar=1e-6, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.fit(X)
    theirs = GaussianMixture(2, tol=1e-8, max_iter=500, random_state=0).fit(X)
    np.testing.assert_allclose(ours.covariances_[:, 2, 2], 1e-6)
    assert ours.score(X) == pytest.approx(theirs.score(X), abs=1e-3)


@pytest.mark.parametrize("repeats", [1, 4])
def test_fewer_rows_than_columns_are_not_taken_for_dependence(repeats):
    X = np.random.default_rng(0).standard_normal((5, 8))
    for columns in (X, np.c_[X, X[:, 0] + X[:, 1]]):
        assert column_span(make_rows(np.repeat(columns, repeats, axis=0), None), True) is None
        assert column_span(make_rows(columns, np.full(5, 2.0)), dependent=True) is None
    # any two rows make every column a multiple of every other
    assert column_span(make_rows(X[:2], None), dependent=True) is None


@pytest.mark.parametrize("factor", [1e-100, 1.0, 1e100])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_repeated_columns_are_found_with_fewer_rows_than_columns(factor, dtype):
    X = np.random.default_rng(0).standard_normal((5, 7))
    X = np.c_[X[:, :2], 3 - 20 * X[:, 0], np.full(5, 2.0), X[:, 2:], X[:, 1], X[:, 0] + X[:, 2]]
    X = X.astype(dtype) * dtype(factor if dtype is np.float64 else 1.0)
    for given in (None, np.array([1.0, 2, 1, 3, 1])):
        span = column_span(make_rows(X, given), dependent=True)
        assert span.constant.tolist() == [3]
        assert span.dependent.tolist() == [2, 9]  # not the last, for rows would span it anyway
        np.testing.assert_allclose(span.complete(X[:, span.kept]), X, rtol=1e-5)


def test_dependence_is_found_where_rows_span_less_than_they_could():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 2)) @ rng.standard_normal((2, 8)) + 1
    span = column_span(make_rows(X, None), dependent=True)
    assert span.kept.tolist() == [0, 1]
    np.testing.assert_allclose(span.complete(X[:, span.kept]), X, rtol=1e-9)


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_repeated_columns_leave_the_evidence_of_few_rows_as_it_is(kind):
    X = np.random.default_rng(0).standard_normal((6, 5)) + 4 * (np.arange(6) % 2)[:, None]
    more = np.c_[X, 3 - 20 * X[:, 0], X[:, 1]]
    options = {"covariance_type": kind, "evidence_tol": 0.5, "random_state": 0}
    plain = QuickGMM(2, **options).fit(X)
    model = quiet_fit(QuickGMM(2, **options), more)
    assert model.log_evidence_ == pytest.approx(plain.log_evidence_, abs=1e-8)


def test_warm_start_refuses_a_model_of_fewer_columns():
    X = np.c_[two_groups(20), np.zeros(40)]
    model = QuickGMM(2, warm_start=True, evidence_tol=None, n_models=5, random_state=0)
    quiet_fit(model, X)
    model.set_params(model_temperature=0)
    with pytest.raises(ValueError, match="the same columns have a density"):
        model.fit(X)


# -- ties ------------------------------------------------------------------------------------------


def binary_beside_groups():
    return np.c_[two_groups(), np.random.default_rng(1).random(120) < 0.3]


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_evidence_that_rests_on_ties_is_suspect_and_names_the_column(kind):
    X = binary_beside_groups()
    with pytest.warns(ConvergenceWarning, match=r"few distinct values \(2\)"):
        model = BayesianGMMAutoEncoder(
            3, covariance_type=kind, evidence_tol=0.5, random_state=0
        ).fit(X)
    assert model.sampling_.status == "suspect"


def test_with_a_prior_of_the_users_own_ties_are_only_mentioned():
    X = binary_beside_groups()
    model = BayesianGMMAutoEncoder(
        3, covariance_prior=np.cov(X.T), evidence_tol=0.5, random_state=0
    )
    with pytest.warns(UserWarning, match=r"\(2\); what that adds .* covariance_prior"):
        model.fit(X)
    assert not any("distinct values" in reason for reason in model.sampling_.reasons)


def test_rounded_measurements_are_not_taken_for_ties():
    # iris is rounded to a millimetre, and petal widths have 22 values in 150 rows
    model = BayesianGMMAutoEncoder(3, evidence_tol=0.5, random_state=0).fit(load_iris().data)
    assert model.sampling_.status == "ok"


def test_gains_from_ties_by_hand():
    rows = make_rows(np.c_[np.arange(100) % 2, np.arange(100) % 4 * 10, np.arange(100.0)], None)
    np.testing.assert_array_equal(value_gaps(rows), [1, 10, 0])
    counts = np.array([[50.0, 50.0]])
    precisions = np.array([[[1 / 0.3**2, 1 / 1.9**2, 1e9], [1 / 0.1**2, 1.0, 1.0]]])
    second = 50 * np.log(10 / 1.9 / 12**0.5) + 50 * np.log(10 / 12**0.5)
    expected = [50 * np.log(1 / 0.1 / 12**0.5), second, 0]
    np.testing.assert_allclose(gains_from_ties(rows, counts, precisions), expected)
    both = np.concatenate([precisions, 0 * precisions + 1e-9])
    halved = gains_from_ties(rows, np.repeat(counts, 2, axis=0), both)
    np.testing.assert_allclose(halved, 0.5 * np.array(expected))


def evidences_of_a_second_component(X):
    """Return by how much the log evidence of two components exceeds that of one, and reasons."""
    settings = {"covariance_type": "diag", "evidence_tol": 0.5, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one, two = (BayesianGMMAutoEncoder(k, **settings).fit(X) for k in (1, 2))
    return two.log_evidence_ - one.log_evidence_, two.sampling_.reasons


def test_what_ties_add_is_what_noise_within_half_a_gap_takes_away():
    rng = np.random.default_rng(3)
    X = np.c_[rng.standard_normal((60, 1)), rng.random(60) < 0.4]
    gain, reasons = evidences_of_a_second_component(X)
    jittered = X + np.c_[np.zeros(60), rng.uniform(-0.5, 0.5, 60)]
    without, no_reasons = evidences_of_a_second_component(jittered)
    nats = float(reasons[0].split("some ")[1].split(" nats")[0])
    assert gain - without > 20
    assert 0.5 < nats / (gain - without) < 2
    assert not no_reasons


def test_ties_of_a_quantity_that_is_spread_out_add_nothing():
    rng = np.random.default_rng(3)
    X = np.c_[rng.standard_normal((60, 1)), np.round(1.5 * rng.standard_normal(60))]
    assert len(np.unique(X[:, 1])) < 10
    assert not evidences_of_a_second_component(X)[1]


def test_digits_with_diagonal_covariances_say_which_columns_decide():
    with pytest.warns((ConvergenceWarning, UserWarning)) as record:
        model = BayesianGMMAutoEncoder(
            2, covariance_type="diag", evidence_tol=None, n_models=5, random_state=0
        ).fit(load_digits().data[:50])
    assert model.sampling_.status == "suspect"
    assert any("constant: 0" in str(each.message) for each in record)
