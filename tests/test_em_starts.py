"""Expectation maximisation: where it starts, when it stops, and what it reports."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from _data import overlapping_blobs, start_for
from _instances import COVARIANCE_TYPES
from _oracles import gaussian_mixture_joint, hmax
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skbae import BayesianGMMAutoEncoder
from skbae.energies.mixture._energy import MixtureEnergy
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.passes._rows import RowRunner, make_rows

# Fits are stopped early on purpose in most of these tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def model(n_components=3, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


@pytest.fixture(scope="module")
def digits():
    return load_digits().data


@pytest.fixture(scope="module")
def blobs():
    return overlapping_blobs()


# -- starts --------------------------------------------------------------------------------------


def test_several_starts_keep_the_best(digits):
    X = digits[:, 16:24]
    settings = {"covariance_type": "diag", "init_params": "random_from_data", "reg_covar": 1e-2}
    rng = np.random.default_rng(3)
    several = model(8, n_init=6, random_state=np.random.default_rng(3), **settings).fit(X)
    # the same starts, one after the other from the same source of randomness
    alone = [model(8, random_state=rng, **settings).fit(X).lower_bound_ for _ in range(6)]
    assert np.ptp(alone) > 0.01, "starts that all agree do not test anything"
    np.testing.assert_allclose(several.lower_bound_, max(alone), rtol=1e-9)
    np.testing.assert_allclose(several.hmaxe_, several.score(X), rtol=1e-10)


def test_a_collapsed_start_has_objective_minus_infinity_and_others_converge():
    """One row repeated: a start that gives it a component of its own has no maximum at all."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(60, 2)), np.full((5, 2), 3.0)])
    settings = {"reg_covar": 0, "init_params": "random_from_data", "max_iter": 200}
    outcomes = []
    for seed in range(12):
        try:
            model(2, random_state=seed, **settings).fit(X)
        except ValueError as error:
            assert "reg_covar" in str(error)  # noqa: PT017  (which starts collapse is not known)
            outcomes.append("collapsed")
        else:
            outcomes.append("found")
    assert {"collapsed", "found"} == set(outcomes), "both kinds of start are needed here"
    fitted = model(2, random_state=0, n_init=12, **settings).fit(X)
    assert np.isfinite(fitted.hmaxe_)
    assert np.isfinite(fitted.lower_bounds_).all()
    np.testing.assert_allclose(fitted.score(X), fitted.hmaxe_, rtol=1e-10)
    assert np.linalg.eigvalsh(fitted.covariances_).min() > 1e-6


def test_all_starts_collapsed_raises_and_names_reg_covar():
    X = np.repeat(np.eye(2), 5, axis=0)
    with pytest.raises(ValueError, match=r"(?s)covariance.*reg_covar"):
        model(2, reg_covar=0, n_init=3).fit(X)


def two_clusters(seed, n_features, n_rows=2000, distance=3.0):
    """Return rows of two normal clusters and their means."""
    rng = np.random.default_rng(seed)
    means = np.zeros((2, n_features))
    means[1, 0] = distance
    labels = rng.integers(2, size=n_rows)
    return rng.normal(size=(n_rows, n_features)) + means[labels], means


def error_of_means(fitted, means):
    return min(np.abs(fitted.means_[order] - means).max() for order in ([0, 1], [1, 0]))


@pytest.mark.parametrize("n_features", [1, 2])
def test_default_fits_are_as_good_as_those_of_scikit_learn(n_features):
    """Rows far from each other were starts up to 1.3 standard deviations off at the end.

    Likelihoods are compared with those of scikit-learn's default fits, and means with those of fits
    that go on to the maximum, whose distance from the true means is that of a sample.
    """
    ours, theirs, gained = [], [], []
    for seed in range(20):
        X, means = two_clusters(seed, n_features)
        fitted = model(2, random_state=seed).fit(X)
        ours.append(error_of_means(fitted, means))
        reference = GaussianMixture(2, random_state=seed).fit(X)
        gained.append(fitted.score(X) - reference.score(X))
        reference.set_params(tol=1e-9, max_iter=5000).fit(X)
        theirs.append(error_of_means(reference, means))
    assert max(ours) < 1.02 * max(theirs) < 0.25
    assert np.median(ours) < 1.02 * np.median(theirs) < 0.1
    assert min(gained) > -1e-5


@pytest.mark.xfail(
    strict=True,
    reason="fits go on to the maximum, which is further from the true means here than where "
    "scikit-learn's default stops",
)
@pytest.mark.parametrize("n_features", [1, 2])
def test_default_fits_are_as_near_to_the_true_means_as_those_of_scikit_learn(n_features):
    ours, theirs = [], []
    for seed in range(20):
        X, means = two_clusters(seed, n_features)
        ours.append(error_of_means(model(2, random_state=seed).fit(X), means))
        reference = GaussianMixture(2, random_state=seed).fit(X)
        theirs.append(error_of_means(reference, means))
    assert max(ours) < 1.02 * max(theirs) < 0.15
    assert np.median(ours) < 1.02 * np.median(theirs) < 0.1


def test_default_fits_are_nearer_to_the_true_means_than_those_of_scikit_learn():
    """Groups of unequal size or width, three standard deviations apart.

    Where both are equal the boundary of k-means is the true one, and a fit that stops there is
    nearer than one that goes on to the maximum. This is the exception: see the test above.
    """
    kinds = [(1, 0.3, 1.0), (1, 0.5, 2.0), (2, 0.3, 0.5), (2, 0.3, 1.0), (2, 0.3, 2.0), (5, 0.2, 1)]
    ratios = []
    for n_features, share, width in kinds:
        means = np.zeros((2, n_features))
        means[1, 0] = 3.0
        ours, theirs = [], []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            second = rng.random(1500) < share
            noise = rng.normal(size=(1500, n_features)) * np.where(second, width, 1.0)[:, None]
            X = noise + means[second.astype(int)]
            ours.append(error_of_means(model(2, random_state=seed).fit(X), means))
            reference = GaussianMixture(2, random_state=seed).fit(X)
            theirs.append(error_of_means(reference, means))
        ratios.append(np.sqrt(np.mean(np.square(ours)) / np.mean(np.square(theirs))))
    assert max(ratios) < 1.1
    assert np.exp(np.mean(np.log(ratios))) < 0.7


def test_fits_stop_when_little_is_left_to_gain():
    """Gains shrink slowly between overlapping clusters: a small one says little of the rest."""
    left = []
    for seed in range(12):
        X = two_clusters(seed, 2)[0]
        settings = {"init_params": "k-means++", "random_state": seed}
        stopped = model(2, tol=1e-3, **settings).fit(X)
        best = model(2, tol=0, max_iter=600, **settings).fit(X)
        assert stopped.converged_
        assert stopped.n_iter_ < best.n_iter_
        left.append(best.lower_bound_ - stopped.lower_bound_)
    assert max(left) < 2e-3  # the last gain alone left up to 6e-3


def test_a_fixed_point_has_converged_whatever_the_tolerance(blobs):
    """Hard codes reach one exactly; a single component needs no second step."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hard = model(3, temperature=0, tol=0, reg_covar=0, max_iter=500).fit(blobs)
        single = model(1, tol=0).fit(blobs)
        single32 = model(1, tol=0).fit(blobs.astype(np.float32))
    assert hard.converged_
    assert 1 < hard.n_iter_ < 500
    assert [each.converged_ for each in (single, single32)] == [True, True]
    assert max(single.n_iter_, single32.n_iter_) <= 2


@pytest.mark.parametrize("max_iter", [1, 2])
def test_a_warm_start_repeated_converges(max_iter, blobs):
    warm = model(3, warm_start=True, max_iter=max_iter, tol=1e-3).fit(blobs)
    n_fits = 1
    while not warm.converged_ and n_fits < 200:
        warm.fit(blobs)
        n_fits += 1
    assert warm.converged_
    assert n_fits > 2
    best = model(3, warm_start=True, tol=0, max_iter=2000)
    best.fit(blobs)
    assert best.lower_bound_ - warm.lower_bound_ < 5e-3
    # gains on other rows say nothing about these
    warm.set_params(max_iter=1, tol=1e-3).fit(blobs[::2] + 1.0)
    assert not warm.converged_


def test_random_starts_are_soft_components_of_all_rows(blobs):
    """scikit-learn's: all means near the mean of the rows, all covariances near theirs."""
    for kind in COVARIANCE_TYPES:
        begin = model(3, init_params="random", covariance_type=kind, max_iter=0).fit(blobs)
        scale = blobs.std(axis=0)
        np.testing.assert_allclose(begin.weights_, 1 / 3, atol=0.1)
        assert np.abs((begin.means_ - blobs.mean(axis=0)) / scale).max() < 0.5
        assert len(np.unique(begin.means_, axis=0)) == 3
        whole = model(1, covariance_type=kind, reg_covar=0).fit(blobs).covariances_
        ratio = begin.covariances_ / (whole if "tied" in kind else whole[0])
        if kind in ("full", "tied"):
            ratio = np.diagonal(ratio, axis1=-2, axis2=-1)
        assert np.abs(ratio - 1).max() < 0.25
    # one start for weights and repetitions, in any order
    weights = np.arange(len(blobs)) % 3 + 1
    order = np.random.default_rng(0).permutation(weights.sum())
    weighted = model(3, init_params="random").fit(blobs, sample_weight=weights)
    repeated = model(3, init_params="random").fit(np.repeat(blobs, weights, axis=0)[order])
    np.testing.assert_allclose(weighted.means_, repeated.means_, rtol=1e-6)


@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random_from_data"])
def test_fewer_distinct_rows_than_components_warns(init):
    X = np.repeat(np.random.default_rng(0).normal(size=(3, 2)), 5, axis=0)
    with pytest.warns(ConvergenceWarning, match="3 distinct rows, fewer than n_components=5"):
        fitted = model(5, init_params=init, covariance_type="tied_spherical").fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*distinct rows, fewer")
        model(3, init_params=init, covariance_type="tied_spherical").fit(X)


@pytest.mark.parametrize("init", ["k-means++", "kmeans", "random_from_data"])
def test_init_params_choose_the_start(init, blobs):
    """Each way starts from rows (or centres) it promises, and each finds well-parted groups."""
    begin = model(4, init_params=init, max_iter=0).fit(blobs)
    assert begin.n_iter_ == 0
    centres = begin.means_
    # means of the rows nearest to the chosen rows
    labels = ((blobs[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
    if init == "kmeans":
        again = np.stack([blobs[labels == k].mean(axis=0) for k in range(4)])
        # k-means stops when its objective moves by less than 1e-4
        np.testing.assert_allclose(centres, again, atol=0.1)
        reference = KMeans(4, n_init=10, random_state=0).fit(blobs).inertia_
        inertia = ((blobs - centres[labels]) ** 2).sum()
        assert inertia < 1.1 * reference
    assert len(np.unique(labels)) == 4
    moves = np.array([[0, 0, 0], [100, 100, 100], [-100, -100, -100], [100, -100, 0]])
    far = np.concatenate([blobs + move for move in moves])
    if init != "random_from_data":  # four random rows may well miss a group
        found = model(4, init_params=init).fit(far)
        counts = np.bincount(found.predict(far), minlength=4)
        np.testing.assert_array_equal(counts, len(blobs))


def test_random_rows_are_rows():
    """With one row a component the groups' means are the rows chosen."""
    X = np.random.default_rng(0).normal(size=(6, 2))
    begin = model(6, init_params="random_from_data", max_iter=0, covariance_type="tied").fit(
        np.repeat(X, 2, axis=0) + np.tile([[0.001], [-0.001]], (6, 1))
    )
    assert begin.means_.shape == (6, 2)
    distances = np.linalg.norm(begin.means_[:, None] - X, axis=-1)
    assert distances.min(axis=1).max() < 0.01 + np.linalg.norm(X[:, None] - X, axis=-1).max()
    assert len(np.unique(begin.means_, axis=0)) == 6


def test_given_starts_are_used(blobs):
    for kind in COVARIANCE_TYPES:
        start = start_for(blobs, 3, kind)
        begin = model(3, covariance_type=kind, max_iter=0, **start).fit(blobs)
        np.testing.assert_allclose(begin.weights_, start["weights_init"], rtol=1e-12)
        np.testing.assert_allclose(begin.means_, start["means_init"], rtol=1e-12)
        np.testing.assert_allclose(begin.precisions_, start["precisions_init"], rtol=1e-9)
        # one given, the others chosen
        for name, value in start.items():
            part = model(3, covariance_type=kind, max_iter=0, **{name: value}).fit(blobs)
            attribute = {"weights_init": "weights_", "means_init": "means_"}.get(
                name, "precisions_"
            )
            if name == "means_init":
                continue  # chosen covariances start from given means: see the next test
            np.testing.assert_allclose(getattr(part, attribute), value, rtol=1e-9)


def test_given_means_stay_when_the_rest_is_chosen(blobs):
    start = start_for(blobs, 3, "full")
    begin = model(3, max_iter=0, means_init=start["means_init"]).fit(blobs)
    np.testing.assert_allclose(begin.means_, start["means_init"], rtol=1e-12)
    labels = ((blobs[:, None] - begin.means_) ** 2).sum(axis=-1).argmin(axis=1)
    np.testing.assert_allclose(begin.weights_, np.bincount(labels) / len(blobs))


def test_warm_start_continues(blobs):
    """Ten steps are four and then six."""
    settings = {"tol": 0.0, "reg_covar": 0, **start_for(blobs, 3, "full")}
    ten = model(3, max_iter=10, **settings).fit(blobs)
    continued = model(3, max_iter=4, warm_start=True, **settings).fit(blobs)
    after_four = continued.lower_bound_
    continued.set_params(max_iter=6).fit(blobs)
    np.testing.assert_allclose(continued.means_, ten.means_, rtol=1e-9)
    np.testing.assert_allclose(continued.covariances_, ten.covariances_, rtol=1e-8)
    np.testing.assert_allclose(continued.lower_bounds_[0], after_four, rtol=1e-12)
    cold = model(3, max_iter=4, **settings).fit(blobs)
    cold.set_params(max_iter=6).fit(blobs)
    np.testing.assert_allclose(cold.lower_bounds_[0], ten.lower_bounds_[0], rtol=1e-12)


def test_warm_start_follows_a_temperature(digits):
    """Annealing: one object, falling temperature, ends in hard codes with no new start."""
    X = digits[:500]
    annealed = model(5, covariance_type="tied_spherical", equal_weights=True, warm_start=True)
    for temperature in (1.0, 0.3, 0.0):
        annealed.set_params(temperature=temperature).fit(X)
        np.testing.assert_allclose(
            annealed.hmaxe_, hmax(gaussian_mixture_joint(annealed, X), temperature).mean()
        )
    assert np.isin(annealed.transform(X), (0.0, 1.0)).all()


def test_early_stop_warns_and_convergence_does_not(blobs):
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        stopped = model(4, max_iter=2, tol=1e-12).fit(blobs)
    assert not stopped.converged_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converged = model(2, max_iter=1000, tol=1e-3).fit(blobs)
    assert converged.converged_
    assert converged.n_iter_ < 1000
    assert abs(converged.lower_bounds_[-1] - converged.lower_bounds_[-2]) < 1e-3


def test_equal_weights_stay_equal(blobs):
    fitted = model(3, equal_weights=True).fit(blobs)
    np.testing.assert_array_equal(fitted.weights_, np.full(3, 1 / 3))
    assert np.ptp(model(3).fit(blobs).weights_) > 0.01


def test_a_component_without_rows_keeps_its_parameters():
    """At T = 0 a far component gets no row; it keeps its place and the fit goes on."""
    X = np.random.default_rng(0).normal(size=(50, 2))
    fitted = model(
        2,
        temperature=0,
        means_init=[[0.0, 0.0], [1e3, 1e3]],
        weights_init=[0.5, 0.5],
        precisions_init=[np.eye(2)] * 2,
        reg_covar=0,
    ).fit(X)
    np.testing.assert_allclose(fitted.means_, [X.mean(axis=0), [1e3, 1e3]], atol=1e-12)
    np.testing.assert_allclose(fitted.weights_, [1, 0], atol=1e-15)
    assert np.isfinite(fitted.score_samples(X)).all()
    np.testing.assert_array_equal(fitted.predict(X), 0)


def test_equal_random_states_give_equal_fits(digits):
    X = digits[:400]
    settings = {"covariance_type": "diag", "init_params": "random_from_data", "reg_covar": 0.1}
    first, again, other = (
        model(6, random_state=seed, **settings).fit(X).means_ for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_verbose_prints_each_step(blobs, capsys):
    fitted = model(3, verbose=1, tol=0, max_iter=5).fit(blobs)
    *lines, total = capsys.readouterr().out.splitlines()
    assert len(lines) == fitted.n_iter_ == 5
    assert f"step 5 of at most 5: {fitted.lower_bound_:.6f}" in lines[-1]
    assert "5 steps in " in total
    model(3, verbose=1, verbose_interval=2, tol=0, max_iter=5).fit(blobs)
    sparse = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in sparse[:-1]] == ["2", "4", "5"]  # and the last
    assert sparse[:2] == [lines[1], lines[3]]
    model(3, tol=0, max_iter=5).fit(blobs)
    assert capsys.readouterr().out == ""


# -- what a step costs ---------------------------------------------------------------------------


@pytest.mark.parametrize("tilt", [0.0, -0.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_step_calls_maximise_once(dtype, tilt, blobs):
    calls = []

    class Counting(MixtureEnergy):
        def maximise(self, statistics, params, temperature):
            calls.append(statistics)
            return super().maximise(statistics, params, temperature)

    begin = model(3, max_iter=0).fit(blobs)
    rows = make_rows(blobs.astype(dtype), None)
    with RowRunner(1) as runner:
        objective = Objective(Counting(begin._energy().family), rows, runner, 1.0, tilt)
        found = expectation_maximisation(objective, begin._parameters(), tol=0, max_iter=7)
    assert found.n_iter[0] == len(calls) == 7
