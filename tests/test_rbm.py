"""BayesianRBMAutoEncoder: scores and codes against brute force, members, contracts, errors."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pytest
from _callbacks import Stopper, callbacks
from _rbm_oracles import hmax, log_z_of, machine_of, mixture_of, states
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from skbae import BayesianRBMAutoEncoder

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def bits(n=60, size=5, seed=0):
    rng = np.random.default_rng(seed)
    groups = rng.random((3, size))
    return (rng.random((n, size)) < groups[rng.integers(3, size=n)]).astype(float)


def reals(n=80, size=3, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, size))[rng.integers(4, size=n)] * 2 + rng.normal(size=(n, size)) + 5


DATA = {"bernoulli": bits, "gaussian": reals}
SHORT = {"max_iter": 15, "n_init": 1, "random_state": 0}


def fit(visible="bernoulli", n_components=3, **settings):
    settings = {**SHORT, **settings}
    model = BayesianRBMAutoEncoder(n_components, visible=visible, **settings)
    return model.fit(DATA[visible]())


each_visible = pytest.mark.parametrize("visible", DATA)


@each_visible
@pytest.mark.parametrize("temperature", [0.0, 0.4, 1.0, 2.5])
@pytest.mark.parametrize("n_components", [1, 3, 7])
def test_scores_equal_enumeration(visible, temperature, n_components):
    """Seven hidden units on five visible ones: either layer may be the smaller."""
    X = DATA[visible]()
    fitted = fit(visible, n_components, temperature=temperature)
    machine, log_z = machine_of(fitted), log_z_of(fitted)
    np.testing.assert_allclose(fitted.log_partition_, log_z, rtol=1e-10)
    expected = hmax(X, temperature, log_z, *machine)
    np.testing.assert_allclose(fitted.score_samples(X), expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(fitted.hmaxe_, expected.mean(), rtol=1e-8)


def test_rows_between_the_bits_are_scored_too():
    X = np.random.default_rng(3).random((20, 5))
    fitted = fit()
    expected = hmax(X, 1.0, log_z_of(fitted), *machine_of(fitted))
    np.testing.assert_allclose(fitted.score_samples(X), expected, rtol=1e-8)


def test_binary_probabilities_sum_to_one():
    fitted = fit(n_components=4)
    np.testing.assert_allclose(np.exp(fitted.score_samples(states(5))).sum(), 1, rtol=1e-10)


@pytest.mark.parametrize("size", [1, 2])
def test_gaussian_density_integrates_to_one(size):
    X = reals(size=size)
    fitted = BayesianRBMAutoEncoder(4, visible="gaussian", **SHORT).fit(X)
    _, means, _ = mixture_of(*machine_of(fitted))
    spread = 9 * np.sqrt(fitted.noise_variance_.max())
    axes = [np.linspace(m.min() - spread, m.max() + spread, 601) for m in means.T]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, size)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    total = np.exp(fitted.score_samples(grid)).sum() * cell
    np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_gaussian_density_is_the_mixture_over_codes():
    X, fitted = reals(), fit("gaussian", 4)
    log_weights, means, _ = mixture_of(*machine_of(fitted))
    noise = fitted.noise_variance_
    square = ((X[:, None] - means) ** 2 / noise).sum(axis=2)
    each = log_weights - 0.5 * (square + np.log(2 * np.pi * noise).sum())
    np.testing.assert_allclose(fitted.score_samples(X), np.log(np.exp(each).sum(axis=1)), rtol=1e-8)


@each_visible
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_codes_equal_enumeration(visible, temperature):
    from _rbm_oracles import joint

    X = DATA[visible]()
    fitted = fit(visible, temperature=temperature)
    energies = joint(X, *machine_of(fitted))
    H = states(3)
    if temperature == 0:
        expected = H[energies.argmax(axis=1)]
    else:
        weights = np.exp((energies - energies.max(axis=1, keepdims=True)) / temperature)
        expected = weights @ H / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.transform(X), expected, atol=1e-9)
    codes = fitted.encode(X)
    np.testing.assert_allclose(codes.mean, expected, atol=1e-9)
    if temperature == 0:
        assert set(np.unique(codes.mean)) <= {0.0, 1.0}
        np.testing.assert_array_equal(codes.entropy(), 0)


@each_visible
def test_score_gradient_by_finite_differences(visible):
    X, fitted = DATA[visible]()[:6], fit(visible)
    X = np.clip(X, 0.1, 0.9) if visible == "bernoulli" else X
    step = 1e-5
    expected = np.empty_like(X)
    for i in range(X.shape[1]):
        move = np.eye(X.shape[1])[i] * step
        expected[:, i] = (fitted.score_samples(X + move) - fitted.score_samples(X - move)) / (
            2 * step
        )
    np.testing.assert_allclose(fitted.score_gradient(X), expected, rtol=1e-5, atol=1e-7)


class TestDistributions:
    @each_visible
    def test_decoding_a_code(self, visible):
        fitted = fit(visible)
        H = states(3)
        rows = fitted.decode(H)
        field = fitted.intercept_visible_ + H @ fitted.components_
        expected = 1 / (1 + np.exp(-field)) if visible == "bernoulli" else field
        np.testing.assert_allclose(rows.mean, expected, rtol=1e-10)
        np.testing.assert_allclose(fitted.inverse_transform(H), expected, rtol=1e-10)
        draws = rows.sample(4000, random_state=0)
        error = np.sqrt(rows.variance / 4000)
        assert np.all(np.abs(draws.mean(axis=0) - rows.mean) < 5 * error + 1e-12)
        if visible == "gaussian":
            noise = np.broadcast_to(fitted.noise_variance_, rows.variance.shape)
            np.testing.assert_allclose(rows.variance, noise)

    @each_visible
    def test_decoding_a_distribution_of_codes(self, visible):
        """Against the sum over all codes."""
        X, fitted = DATA[visible]()[:5], fit(visible)
        codes, H = fitted.encode(X), states(3)
        shares = np.prod(
            np.where(H[None] > 0, codes.mean[:, None], 1 - codes.mean[:, None]), axis=2
        )
        given = fitted.decode(H)
        mean = shares @ given.mean
        second = shares @ (given.variance + given.mean**2)
        rows = fitted.decode(codes)
        np.testing.assert_allclose(rows.mean, mean, rtol=1e-9)
        np.testing.assert_allclose(rows.variance, second - mean**2, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(
            np.diagonal(rows.covariance, axis1=1, axis2=2), rows.variance, rtol=1e-8, atol=1e-12
        )
        each = given.log_density(X[:, None])  # (N, codes)
        expected = np.log((np.exp(each) * shares).sum(axis=1))
        np.testing.assert_allclose(rows.log_density(X), expected, rtol=1e-8)
        draws = rows.sample(4000, random_state=1)
        assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * np.sqrt(rows.variance / 4000) + 1e-12)
        assert rows.entropy().shape == (5,)

    def test_entropy_of_codes(self):
        codes = fit().encode(bits())
        p = codes.mean
        expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(axis=1)
        np.testing.assert_allclose(codes.entropy(), expected, rtol=1e-9)
        draws = codes.sample(5000, random_state=0)
        assert draws.shape == (5000, *p.shape)
        error = np.sqrt(codes.variance / 5000)
        assert np.all(np.abs(draws.mean(axis=0) - p) < 5 * error + 1e-12)


@each_visible
@pytest.mark.parametrize("partition", ["exact", "ais"])
def test_samples_follow_the_density(visible, partition):
    """Means and second moments, within 5 standard errors of the exact ones."""
    fitted = fit(visible, partition=partition)
    n = 4000
    X, codes = fitted.sample(n, random_state=0)
    if visible == "bernoulli":
        V = states(5)
        weights = np.exp(hmax(V, 1.0, log_z_of(fitted), *machine_of(fitted)))
        mean, second = weights @ V, (V * weights[:, None]).T @ V
    else:
        log_weights, means, _ = mixture_of(*machine_of(fitted))
        weights = np.exp(log_weights)
        mean = weights @ means
        second = (means * weights[:, None]).T @ means + fitted.noise_variance_ * np.eye(3)
    # from persistent chains, of which there are 200, rows share their start
    independent = n if partition == "exact" else n / 2
    error = X.std(axis=0) / np.sqrt(independent)
    assert np.all(np.abs(X.mean(axis=0) - mean) < 5 * error)
    products = X[:, :, None] * X[:, None]
    error = products.std(axis=0) / np.sqrt(independent)
    assert np.all(np.abs(products.mean(axis=0) - second) < 5 * error + 1e-12)
    assert set(np.unique(codes)) == {0.0, 1.0}
    assert codes.shape == (n, 3)
    other, _ = fitted.sample(n)
    assert not np.array_equal(X, other)
    again, _ = fitted.sample(n, random_state=0)
    np.testing.assert_array_equal(X, again)


def test_a_gibbs_step_leaves_the_density_invariant():
    fitted = fit()
    X, _ = fitted.sample(5000, random_state=1)
    moved = fitted.gibbs(X, random_state=2)
    assert set(np.unique(moved)) == {0.0, 1.0}
    error = np.sqrt(2 * X.var(axis=0) / 5000)
    assert np.all(np.abs(moved.mean(axis=0) - X.mean(axis=0)) < 5 * error)
    assert np.mean(moved != X) > 0.05


class TestDenoise:
    def test_equals_the_posterior_mean_of_the_mixture(self):
        X, fitted = reals(), fit("gaussian")
        v = 0.7
        log_weights, means, _ = mixture_of(*machine_of(fitted))
        s2 = fitted.noise_variance_
        log_r = log_weights - ((X[:, None] - means) ** 2 / (2 * (s2 + v))).sum(axis=2)
        r = np.exp(log_r - log_r.max(axis=1, keepdims=True))
        r /= r.sum(axis=1, keepdims=True)
        expected = (s2 * X + v * r @ means) / (s2 + v)
        np.testing.assert_allclose(fitted.denoise(X, v), expected, rtol=1e-8)
        np.testing.assert_allclose(fitted.denoise(X, 0.0), X)

    @pytest.mark.parametrize("flips", [0.05, 0.3, 0.5])
    def test_clean_bits_are_expected_as_by_summing_over_all_of_them(self, flips):
        Y, fitted = bits()[:12], fit()
        clean = states(Y.shape[1])
        log_prior = hmax(clean, 1.0, log_z_of(fitted), *machine_of(fitted))
        changed = (Y[:, None] != clean).sum(axis=2)
        kept = Y.shape[1] - changed
        p = np.exp(log_prior + changed * np.log(flips) + kept * np.log(1 - flips))
        expected = p @ clean / p.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(fitted.denoise(Y, flips), expected, rtol=1e-9)
        # Tweedie's identity of flips: by the probability of the row with one bit changed
        if flips < 0.5:
            whole = p.sum(axis=1)
            for i in range(Y.shape[1]):
                other = Y.copy()
                other[:, i] = 1 - other[:, i]
                changed = (other[:, None] != clean).sum(axis=2)
                logs = log_prior + changed * np.log(flips)
                q = np.exp(logs + (Y.shape[1] - changed) * np.log(1 - flips)).sum(axis=1)
                same = ((1 - flips) - flips * q / whole) * (1 - flips) / (1 - 2 * flips)
                found = np.where(Y[:, i] == 1, expected[:, i], 1 - expected[:, i])
                np.testing.assert_allclose(found, same, rtol=1e-7)

    def test_chains_expect_what_sums_do(self, monkeypatch):
        Y, fitted = bits()[:40], fit()
        exact = fitted.denoise(Y, 0.2)
        np.testing.assert_array_equal(fitted.denoise(Y, 0.0), Y)
        monkeypatch.setattr("skbae.energies.rbm._flips.MAX_SUMMED_UNITS", 0)
        gap = fitted.denoise(Y, 0.2) - exact
        assert np.abs(gap).max() < 0.15
        assert np.abs(gap.mean(axis=0)).max() < 0.02

    def test_is_refused_where_it_means_nothing(self):
        with pytest.raises(ValueError, match=r"probability of a flip, at most 0\.5, got 0\.7"):
            fit().denoise(bits(), 0.7)
        with pytest.raises(ValueError, match="needs X of zeros and ones"):
            fit().denoise(0.5 * bits(), 0.1)
        with pytest.raises(ValueError, match=r"denoise.*n_components <= 14, got 15"):
            fit("gaussian", 15, max_iter=1).denoise(reals(), 0.1)


@each_visible
@pytest.mark.parametrize("partition", ["exact", "ais"])
def test_persistence_and_precision(visible, partition, tmp_path):
    X, fitted = DATA[visible](), fit(visible, partition=partition)
    joblib.dump(fitted, tmp_path / "model")
    for other in (joblib.load(tmp_path / "model"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(other.score_samples(X), fitted.score_samples(X))
        np.testing.assert_array_equal(other.sample(5, 0)[0], fitted.sample(5, 0)[0])
    single = X.astype(np.float32)
    assert fitted.transform(single).dtype == np.float32
    assert fitted.inverse_transform(fitted.transform(single)).dtype == np.float32
    assert fitted.score_samples(single).dtype == np.float64
    np.testing.assert_allclose(fitted.transform(single), fitted.transform(X), atol=1e-4)


@each_visible
@pytest.mark.parametrize("partition", ["exact", "ais"])
def test_weighted_rows_equal_repeated_shuffled_rows(visible, partition):
    X = DATA[visible]()
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 4, len(X))
    repeated = rng.permutation(np.repeat(X, counts, axis=0))
    settings = {"partition": partition, "max_iter": 8, "batch_size": 16}
    model = BayesianRBMAutoEncoder(3, visible=visible, **{**SHORT, **settings})
    first = model.fit(X, sample_weight=counts).components_.copy()
    score = model.score_samples(X)
    second = model.fit(repeated)
    assert np.abs(first).max() > 0.02
    np.testing.assert_allclose(second.components_, first, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(second.score_samples(X), score, rtol=1e-6)


@each_visible
def test_partial_fit_improves_and_continues(visible):
    X = DATA[visible](400)
    model = BayesianRBMAutoEncoder(
        3, visible=visible, learning_rate_init=1.0, random_state=np.random.default_rng(0)
    )
    first = model.partial_fit(X).score(X)
    for _ in range(60):
        model.partial_fit(X, sample_weight=np.ones(len(X)))
    assert model.n_iter_ == 61
    best = BayesianRBMAutoEncoder(3, visible=visible, early_stopping=False, random_state=0).fit(X)
    assert model.score(X) > first + 0.05
    if visible == "gaussian":
        alone = -0.5 * (np.log(2 * np.pi * X.var(axis=0)) + 1).sum()
    else:
        p = X.mean(axis=0)
        alone = (p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
    assert model.score(X) > alone + 0.7 * (best.score(X) - alone) > alone + 0.05
    np.testing.assert_allclose(model.log_partition_, log_z_of(model), rtol=1e-10)
    with pytest.raises(ValueError, match="got 4"):
        model.set_params(n_components=4).partial_fit(X)


BAD = [
    ("n_components", 0, ValueError, ">= 1"),
    ("n_components", 2.5, TypeError, "integer"),
    ("visible", "poisson", ValueError, "'gaussian'"),
    ("visible", None, ValueError, "'bernoulli'"),
    ("outside", "ignore", ValueError, "'clip', 'error'"),
    ("noise", "full", ValueError, "'per_feature', 'shared'"),
    ("partition", "guess", ValueError, "'ais'"),
    ("temperature", -1.0, ValueError, ">= 0"),
    ("model_temperature", -1.0, ValueError, ">= 0"),
    ("tilt", 0.5, ValueError, "set tilt=0"),
    ("weight_variance_prior", 0.0, ValueError, "> 0"),
    ("intercept_variance_prior", -1.0, ValueError, "> 0"),
    ("noise_shape_prior", 0, ValueError, "> 0"),
    ("noise_scale_prior", "wide", TypeError, "None or"),
    ("n_models", 0, ValueError, ">= 1"),
    ("n_init", 0, ValueError, ">= 1"),
    ("n_init", "some", ValueError, "'auto'"),
    ("n_init", 1.5, TypeError, "integer"),
    ("learning_rate_init", 0.0, ValueError, "> 0"),
    ("batch_size", 0, ValueError, ">= 1"),
    ("n_chains", 1, ValueError, ">= 2"),
    ("max_iter", -1, ValueError, ">= 0"),
    ("tol", -1e-3, ValueError, ">= 0"),
    ("early_stopping", 1, TypeError, "True or False"),
    ("validation_fraction", 1.0, ValueError, "between 0 and 1"),
    ("validation_fraction", 0.0, ValueError, "> 0"),
    ("n_iter_no_change", 0, ValueError, ">= 1"),
    ("verbose", "loud", TypeError, "integer"),
    ("verbose_interval", 0, ValueError, ">= 1"),
    ("random_state", -1, TypeError, "Generator"),
    ("n_jobs", 0, ValueError, "non-zero"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), BAD)
def test_invalid_parameters_raise_before_the_data_are_checked(name, value, error, message):
    model = BayesianRBMAutoEncoder(**{"n_components": 2, name: value})
    for data in (bits(), None):
        with pytest.raises(error, match=name) as caught:
            model.fit(data)
        assert message in str(caught.value)
        assert repr(value) in str(caught.value)
    with pytest.raises(NotFittedError):
        check_is_fitted(model)


def test_the_table_covers_every_parameter():
    assert set(BayesianRBMAutoEncoder().get_params()) == {row[0] for row in BAD}


def test_values_outside_the_unit_interval_raise():
    X = load_iris().data
    model = BayesianRBMAutoEncoder(2, random_state=0)
    for method in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=r"bernoulli.*between 0 and 1.*0\.1 to 7\.9.*gaussian"):
            method(X)
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    fitted = fit(outside="error")
    for method in (fitted.transform, fitted.score_samples, fitted.gibbs, fitted.encode):
        with pytest.raises(ValueError, match="between 0 and 1"):
            method(bits() - 0.5)


def test_machines_too_large_to_enumerate_raise():
    X = np.random.default_rng(0).integers(0, 2, (40, 30)).astype(float)
    with pytest.raises(ValueError, match=r"partition='exact'.*got 30"):
        BayesianRBMAutoEncoder(50, partition="exact").fit(X)
    sampled = BayesianRBMAutoEncoder(2, model_temperature=1)
    assert not hasattr(sampled, "partial_fit")
    assert hasattr(BayesianRBMAutoEncoder(2), "partial_fit")


def test_invalid_codes_and_methods_before_fit_raise():
    fitted = fit()
    for method in (fitted.inverse_transform, fitted.decode):
        with pytest.raises(ValueError, match="3 columns"):
            method(np.ones((2, 4)))
    assert not hasattr(fitted, "predict")
    model = BayesianRBMAutoEncoder(2)
    for call in (
        lambda: model.transform(bits()),
        lambda: model.sample(),
        lambda: model.gibbs(bits()),
        lambda: model.decode(np.ones((1, 2))),
    ):
        with pytest.raises(NotFittedError):
            call()


@pytest.mark.parametrize("partition", ["exact", "ais"])
def test_a_callback_may_stop_the_fit(partition):
    callbacks()
    model = BayesianRBMAutoEncoder(3, partition=partition, random_state=0)
    model.set_callbacks(Stopper(3)).fit(bits())
    assert model.n_iter_ == 3
    assert np.isfinite(model.score(bits()))


@each_visible
@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.01}, {"temperature": 0.0}, {"partition": "ais"}]
)
def test_no_floating_point_error_is_left_to_the_caller(visible, settings):
    """Not even underflow, where units are all but certain."""
    X = DATA[visible](100)
    with np.errstate(all="raise"):
        fitted = BayesianRBMAutoEncoder(
            3, visible=visible, max_iter=30, random_state=0, **settings
        ).fit(X)
        fitted.inverse_transform(fitted.transform(X))
        fitted.score_gradient(X)
        scores = fitted.score_samples(1e3 * X if visible == "gaussian" else X)
    assert np.isfinite(scores).all()


def test_a_fit_that_ends_at_max_iter_warns():
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2"):
        BayesianRBMAutoEncoder(3, max_iter=2, random_state=0).fit(bits())
