"""PCA in the eigenbasis of its rows: densities, evidence, and what is as wide as it is."""

from __future__ import annotations

import numpy as np
import pytest
from _altered import with_plans
from _pca_problems import DEFAULT_PRIOR, evidence_of_one_direction, flat_rows, quadrature
from scipy.special import logsumexp
from sklearn.datasets import load_digits, load_iris

from skbae import BayesianPCAAutoEncoder
from skbae.energies.pca._eigenbasis import PCAInEigenbasis, PCAProposal
from skbae.energies.pca._energy import expected_hmax
from skbae.energies.pca._frames import FarBlock, FrameProposal, n_settled, outside_vectors
from skbae.energies.pca._loadings import RowMoments
from skbae.energies.pca._prior import default_prior
from skbae.estimators._plans import SamplerPlans
from skbae.inference.evidence._verdict import assess
from skbae.inference.sample._nested import sample_nested

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def moments_of(X):
    """Return the moments in the axes of the rows' span."""
    mean = X.mean(axis=0)
    _, singular, axes = np.linalg.svd(X - mean, full_matrices=False)
    kept = singular > 1e-9 * singular[0]
    return RowMoments(mean, axes[kept].T.copy(), singular[kept] ** 2 / len(X), float(len(X)))


def posterior_of(X, n_components, temperature=1.0, tau=1.0, kind=PCAInEigenbasis, **given):
    moments = moments_of(X)
    prior = default_prior(
        moments.mean_variance, n_components, moments.mean, {**DEFAULT_PRIOR, **given}
    )
    return kind(n_components, prior, moments, temperature, len(X) / tau)


def evidence(posterior, seed=0):
    return assess(sample_nested(posterior, np.random.default_rng(seed), 50))


# -- densities of frames ---------------------------------------------------------------------------

# variances, axes outside, fields: strong ones, alike, weak ones, nothing at all, a ring
FRAMES = [
    ([6.0, 3.0, 1.0, 0.5], 0, [300.0, 200.0]),
    ([6.0, 5.9, 1.0, 0.5], 0, [300.0, 299.0]),
    ([6.0, 3.0, 1.0, 0.5], 0, [9.0, 4.0]),
    ([6.0, 3.0, 2.9, 0.5], 0, [60.0, 30.0]),
    ([1.0, 1.0, 1.0], 0, [0.0, 0.0]),
    ([6.0, 3.0, 1.0], 4, [300.0, 200.0]),
    ([6.0, 3.0, 1.0], 4, [12.0, 0.5]),
    ([6.0, 3.0, 1.0], 40, [12.0, 9.0]),
    ([2.0, 1.0], 0, [3.0, 0.3]),
]


def draw_frames(variances, n_outside, fields, n=200_000, seed=0):
    rng = np.random.default_rng(seed)
    variances, fields = np.array(variances), np.array(fields)
    proposal, size = FrameProposal(variances, n_outside, 1.0, fields), len(fields)
    inner = rng.standard_normal((n, size, len(variances)))
    n_outer = size * (size + 1) // 2 if n_outside else 0
    outer = outside_vectors(rng.standard_normal((n, n_outer)), size, n_outside)
    lengths = rng.standard_normal((n, size))
    return proposal.draw(np.tile(fields, (n, 1)), inner, lengths, outer)


@pytest.mark.parametrize(("variances", "n_outside", "fields"), FRAMES)
def test_frames_are_orthonormal_and_their_density_is_normalised(variances, n_outside, fields):
    """Weights that undo the density make frames uniform: their mean is 1, moments are known."""
    frames, log_density = draw_frames(variances, n_outside, fields)
    sound = np.isfinite(log_density)
    assert sound.mean() > 0.9
    gram = np.matmul(frames, np.swapaxes(frames, 1, 2))[sound]
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(len(fields)), gram.shape), atol=1e-9)
    # under a density close to the target, so that weights are moderate
    energy = 0.5 * ((frames[:, :, : len(variances)] ** 2 @ variances) * fields).sum(axis=1)
    logs = energy - log_density
    parts = logs.reshape(20, -1)
    values = logsumexp(parts, axis=1) - np.log(parts.shape[1])
    error = values.std(ddof=1) / np.sqrt(20)
    expected = log_bingham_by_uniform_frames(variances, n_outside, fields)
    if expected is None:
        return
    value, other = expected
    found = logsumexp(logs) - np.log(len(logs))
    assert abs(found - value) < 5 * np.hypot(error, other) + 1e-12


def log_bingham_by_uniform_frames(variances, n_outside, fields, n=400_000):
    """Return the log mean of ``exp(sum_i h_i u_i' Lam u_i / 2)`` over uniform frames, or None."""
    rng = np.random.default_rng(1)
    drawn = rng.standard_normal((n, len(variances) + n_outside, len(fields)))
    frames = np.linalg.qr(drawn)[0][:, : len(variances)]
    logs = 0.5 * (np.einsum("srd,r->sd", frames**2, variances) * fields).sum(axis=1)
    parts = logs.reshape(20, -1)
    values = logsumexp(parts, axis=1) - np.log(parts.shape[1])
    weights = np.exp(logs - logs.max())
    if weights.sum() ** 2 / (weights**2).sum() < 2000:
        return None
    return logsumexp(logs) - np.log(n), values.std(ddof=1) / np.sqrt(20)


def test_the_far_block_and_a_frame_make_frames():
    """With a leading part that is turned uniformly, against frames that are drawn otherwise."""
    rng = np.random.default_rng(0)
    n, fields, variances = 200_000, np.array([3.0, 2.5]), np.array([9.0, 8.0, 0.5, 0.2])
    block = FarBlock(variances, 2, 2, 3, 1.0, fields)
    outer = outside_vectors(rng.standard_normal((n, 3)), 2, 3)
    leading = np.linalg.qr(rng.standard_normal((n, 2, 2)))[0]
    inner = rng.standard_normal((n, 2, 2))
    each = np.tile(fields, (n, 1))
    rows, root, log_density = block.draw(each, leading, inner, outer, each[:, :0])
    frames = np.concatenate([np.matmul(root, leading), rows], axis=2)
    sound = np.isfinite(log_density)
    gram = np.matmul(frames, np.swapaxes(frames, 1, 2))[sound]
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(2), gram.shape), atol=1e-9)

    def log_mean(frames, log_density):
        energy = 0.5 * ((frames[:, :, :4] ** 2 @ variances) * fields).sum(axis=1)
        logs = np.where(np.isfinite(log_density), energy - log_density, -np.inf)
        weights = np.exp(logs - logs.max())
        size = weights.sum() ** 2 / (weights**2).sum()
        assert size > 2000
        return logsumexp(logs) - np.log(n), 1 / np.sqrt(size)

    value, error = log_mean(frames, log_density)
    other, other_error = log_mean(*draw_frames(variances, 3, fields))
    assert abs(value - other) < 5 * np.hypot(error, other_error)


def test_which_directions_are_settled():
    lam = np.array([10.0, 5.0, 1.0, 0.9])
    assert n_settled(np.array([40.0, 30.0]), lam, 0, 0.9) == 2
    assert n_settled(np.array([40.0, 3.0]), lam, 0, 0.9) == 1  # the second could melt
    assert n_settled(np.array([1.0, 0.5]), lam, 0, 0.9) == 0
    # the third axis is no better than the fourth
    assert n_settled(np.array([90.0, 80.0, 29.0]), np.array([9.0, 5.0, 3.0, 3.0]), 0, 0.9) == 2
    # too much outside
    assert n_settled(np.array([40.0, 30.0]), lam, 1000, 0.9) == 0


# -- evidence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_the_prior_integrates_to_one(n_components):
    """Without rows to speak of the evidence is 1."""
    X = np.random.default_rng(0).standard_normal((12, 5)) * [3, 2, 1, 1, 1]
    found = evidence(posterior_of(X, n_components, tau=1e9))
    assert abs(found.log_evidence) < 5 * found.log_evidence_error < 0.5


def test_the_oracle_meets_quadrature():
    X = flat_rows(20)
    posterior = posterior_of(X, 1, 0.5, 2.0)
    exact = evidence_of_one_direction(X, posterior.prior, 0.5, 2.0)
    assert abs(exact - quadrature(X, posterior.prior, 0.5, 2.0)) < 2e-3


CASES = [(1, 1), (0.5, 0.5), (2, 2), (0, 0.5), (1, 2.5), (0, 1), (1, 0.4)]


def errors_in_units(n_problems, seed):
    """Return how many errors off the evidences of random tables are; no status other than ok."""
    found = []
    for number in range(n_problems):
        rng = np.random.default_rng((seed, number))
        temperature, tau = CASES[number % len(CASES)]
        mixing = rng.standard_normal((2, 2)) * np.exp(rng.uniform(-1, 1, 2))[:, None]
        X = rng.standard_normal((rng.integers(4, 80), 2)) @ mixing + rng.standard_normal(2)
        if number % 5 == 0:
            X = rng.standard_normal((300, 2))  # the direction could be any
        posterior = posterior_of(X, 1, temperature, tau)
        exact = evidence_of_one_direction(X, posterior.prior, temperature, tau)
        sampled = evidence(posterior, seed=number)
        assert sampled.status == "ok", (number, sampled.reasons)
        found.append((sampled.log_evidence - exact) / sampled.log_evidence_error)
    return np.abs(found)


def test_errors_of_the_evidence_are_honest():
    errors = errors_in_units(30, seed=2)
    assert (errors > 2).mean() < 0.15
    assert errors.max() < 5


@pytest.mark.slow
def test_errors_of_the_evidence_are_honest_over_many_tables():
    """5% beyond 2 errors, up to chance, and none beyond 4."""
    errors = errors_in_units(400, seed=3)
    assert (errors > 2).mean() < 0.08
    assert errors.max() < 4


def test_evidence_where_fields_may_vanish():
    """With few rows, a part of the posterior is about models whose direction could be any."""
    for seed in range(4):
        X = np.random.default_rng(seed).standard_normal((8, 2)) @ [[1.5, 0.4], [0.0, 0.15]]
        posterior = posterior_of(X, 1, 1.0, 2.5)
        exact = evidence_of_one_direction(X, posterior.prior, 1.0, 2.5)
        found = evidence(posterior, seed)
        assert abs(found.log_evidence - exact) < min(4 * found.log_evidence_error, 0.06)


def is_nested(fitted):
    return fitted.sampling_.method == "nested"


@pytest.mark.parametrize(
    ("shape", "n_components", "temperature", "tau"),
    [
        ((9, 20), 1, 1, 1),
        ((9, 20), 2, 0, 0.5),
        ((30, 60), 2, 1, 1),
        ((60, 8), 3, 2, 2),
        ((40, 6), 6, 1, 1),
        ((50, 10), 2, 1, 2),
    ],
)
def test_evidence_is_that_of_the_dense_route(shape, n_components, temperature, tau):
    """Of Hamiltonian moves through all loadings, in coordinates of their own."""
    rng = np.random.default_rng(shape[0])
    X = rng.standard_normal((shape[0], 3)) @ rng.standard_normal((3, shape[1]))
    X += 0.7 * rng.standard_normal(shape)
    settings = {"temperature": temperature, "model_temperature": tau, "random_state": 0}
    # one fit in four of six directions, of nearly equal strength, is doubted and made otherwise
    own = BayesianPCAAutoEncoder(n_components, **settings)
    tries = (own.set_params(random_state=seed).fit(X) for seed in range(6))
    assert any(is_nested(fitted) for fitted in tries)  # (the first that is: it stops there)
    together = with_plans(
        BayesianPCAAutoEncoder(n_components, **settings), SamplerPlans(nested=None)
    )
    dense = together.fit(X)
    assert not is_nested(dense)
    assert own.sampling_.status == dense.sampling_.status == "ok"
    errors = own.sampling_.log_evidence_error, dense.sampling_.log_evidence_error
    assert abs(own.log_evidence_ - dense.log_evidence_) < 5 * np.hypot(*errors)
    # nothing that is kept differs either
    for draws in ("noise_variance", "component_precisions"):
        one, other = (np.log(getattr(fitted.models_, draws) + 1e-300) for fitted in (own, dense))
        spread = np.hypot(one.std(axis=0), other.std(axis=0)) / np.sqrt(len(one))
        assert np.all(np.abs(one.mean(axis=0) - other.mean(axis=0)) < 7 * spread)
    np.testing.assert_allclose(own.mean_, dense.mean_, atol=1e-3)
    np.testing.assert_allclose(own.noise_variance_, dense.noise_variance_, rtol=1e-3)


@pytest.mark.parametrize(("temperature", "tau"), [(1, 1.5), (0, 2), (2, 3)])
@pytest.mark.parametrize("far", [False, True])
def test_evidence_of_three_rows_by_brute_force(temperature, tau, far):
    """Over draws of the prior, in six dimensions of which the rows span two."""
    rng = np.random.default_rng(4)
    size, n_components, power = 6, 2, 3 / tau
    X = rng.standard_normal((3, size)) * np.r_[2, 1, 1, 1, 1, 1]
    given = {"mean": X.mean(axis=0) + rng.standard_normal(size), "mean_precision": 0.5}
    posterior = posterior_of(X, n_components, temperature, tau, **(given if far else {}))
    assert posterior.n_outside > n_components
    prior, mean = posterior.prior, X.mean(axis=0)
    values = []
    for _ in range(20):
        n = 20_000
        loadings = np.sqrt(prior.component_variance) * rng.standard_normal((n, size, n_components))
        noise = prior.noise_scale / rng.gamma(prior.noise_shape, size=n)
        covariance = np.matmul(loadings, np.swapaxes(loadings, 1, 2))
        eigenvalues, vectors = np.linalg.eigh(covariance + noise[:, None, None] * np.eye(size))
        turned = np.matmul(X - mean, vectors)
        square = ((turned**2).mean(axis=1) / eigenvalues).sum(axis=1)
        log_det = np.log(eigenvalues / noise[:, None]).sum(axis=1)
        value = power * (-0.5 * size * np.log(2 * np.pi * noise) - 0.5 * temperature * log_det)
        value -= 0.5 * power * square
        # the model's mean: a normal likelihood with covariance C / power, up to its constant
        offset = np.matmul(mean - prior.mean, vectors)
        scaled = eigenvalues / power + prior.mean_variance
        logs = np.log(eigenvalues / power) - np.log(scaled) - offset**2 / scaled
        value += 0.5 * logs.sum(axis=1)
        values.append(logsumexp(value) - np.log(n))
    exact = logsumexp(values) - np.log(20)
    error = np.std(values, ddof=1) / np.sqrt(20)
    found = evidence(posterior)
    assert found.status == "ok"
    assert abs(found.log_evidence - exact) < 5 * np.hypot(error, found.log_evidence_error) < 0.5


class NothingSettled(PCAInEigenbasis):
    def proposal(self, theta):
        return PCAProposal(self, theta, most_settled=0)


def test_the_evidence_does_not_depend_on_which_directions_count_as_settled():
    X = load_iris().data
    usual, other = (posterior_of(X, 2, kind=kind) for kind in (PCAInEigenbasis, NothingSettled))
    own, other = evidence(usual), evidence(other)
    errors = np.hypot(own.log_evidence_error, other.log_evidence_error)
    assert abs(own.log_evidence - other.log_evidence) < 5 * errors


def test_axes_without_variance_may_be_left_out():
    X = np.random.default_rng(0).standard_normal((6, 12))
    short = posterior_of(X, 2)
    whole = PCAInEigenbasis(2, short.prior, short.moments.whole(), 1.0, short.power)
    assert short.n_outside == whole.n_outside == 7
    one, other = evidence(short), evidence(whole)
    assert abs(one.log_evidence - other.log_evidence) < 1e-6


@pytest.mark.parametrize(
    ("n_components", "expected"),
    [(5, -304322.0), pytest.param(10, -289871.0, marks=pytest.mark.slow)],
)
def test_digits(n_components, expected):
    fitted = BayesianPCAAutoEncoder(n_components, random_state=0).fit(load_digits().data)
    assert fitted.sampling_.status == "ok"
    assert abs(fitted.log_evidence_ - expected) < 0.2
    assert fitted.sampling_.log_evidence_error < 0.05


# -- verdicts --------------------------------------------------------------------------------------


def test_tables_without_a_direction_are_not_suspect():
    for seed in range(8):
        X = np.random.default_rng(seed).standard_normal((300, 2))
        assert BayesianPCAAutoEncoder(1, random_state=seed).fit(X).sampling_.status == "ok"


class WithoutRepulsion(PCAInEigenbasis):
    """Singular values repel each other: forget that."""

    def log_prior_of_squares(self, squares):
        gap = (squares[:, 0] - squares[:, 1]) / self.prior.component_variance
        return super().log_prior_of_squares(squares) - np.log(gap)


def test_balance_and_evidence_notice_forgotten_repulsion_of_singular_values():
    X = np.random.default_rng(0).standard_normal((15, 4))
    right, wrong = (
        evidence(posterior_of(X, 2, kind=kind)) for kind in (PCAInEigenbasis, WithoutRepulsion)
    )
    assert right.status == "ok"
    assert right.balance < 3
    assert wrong.balance > 4
    assert abs(wrong.log_evidence - right.log_evidence) > 10 * right.log_evidence_error


class WithoutMean(PCAInEigenbasis):
    """Forgets that the integral over the model's mean depends on loadings and noise."""

    def log_offset(self, squares, noise, inner):
        return 0.0 * noise


def test_the_balance_notices_a_forgotten_integral_over_the_mean():
    X = np.random.default_rng(0).standard_normal((15, 4))
    assert evidence(posterior_of(X, 1, kind=WithoutMean)).balance > 4


# -- models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("far", [False, True])
def test_models_have_the_energy_that_is_expected(far):
    """Means are drawn given the rest: the energy of models is on average what the run says."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8, 14)) * np.r_[3, 2, np.ones(12)]
    given = {"mean": X.mean(axis=0) + rng.standard_normal(14), "mean_precision": 2.0}
    posterior = posterior_of(X, 2, 1.0, 1.0, **(given if far else {}))
    run = sample_nested(posterior, np.random.default_rng(0), 2000)
    covariance = np.cov(X.T, bias=True)
    energies = expected_hmax(run.params, X.mean(axis=0), covariance, 1.0)
    error = energies.std() / np.sqrt(500)
    assert abs(energies.mean() - run.hmaxe.mean()) < 5 * error
    gram = np.matmul(run.params.components, np.swapaxes(run.params.components, 1, 2))
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(2), gram.shape), atol=1e-9)
    # outside of the span directions are exchangeable
    span = posterior.moments.axes
    outside = run.params.components - run.params.components @ span @ span.T
    shares = (outside**2).sum(axis=(0, 1))
    rest = 1 - (span**2).sum(axis=1)
    assert np.corrcoef(shares, rest)[0, 1] > 0.95


@pytest.mark.parametrize("shape", [(60, 2000), (2000, 300)])
def test_wide_and_tall_rows(shape):
    """No matrix of features squared: the rows' own products are enough."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((shape[0], 3)) @ (2 * rng.standard_normal((3, shape[1])))
    X += rng.standard_normal(shape)
    fits = [BayesianPCAAutoEncoder(3, random_state=seed).fit(X) for seed in range(2)]
    for fitted in fits:
        assert fitted.sampling_.status == "ok"
        assert fitted.models_.components.shape == (50, 3, shape[1])
        assert abs(fitted.noise_variance_ - 1) < 0.2
        assert np.isfinite(fitted.score_samples(X[:5])).all()
    errors = np.hypot(*(fitted.sampling_.log_evidence_error for fitted in fits))
    assert abs(fits[0].log_evidence_ - fits[1].log_evidence_) < 5 * errors


def test_the_dimension_of_wide_rows_is_found():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3)) @ (2 * rng.standard_normal((3, 200)))
    X += rng.standard_normal((40, 200))
    fitted = BayesianPCAAutoEncoder("evidence", random_state=0).fit(X)
    assert fitted.n_components_ == 3
