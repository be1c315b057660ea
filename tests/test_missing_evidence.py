"""The evidence of known entries, against sums over allocations and integrals over the others."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from _missing_oracles import with_gaps
from _mixture_oracles import MixturePrior, enumerated_log_evidence
from scipy.special import gammaln, logsumexp
from sklearn.datasets import load_iris
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer

from skbae import BayesianGMMAutoEncoder
from skbae.energies.mixture._conjugate import CompletedDraws

RNG = np.random.default_rng(5)
X = np.vstack([RNG.normal(-1.5, 0.7, (4, 2)), RNG.normal([1.0, 2.0], 1.0, (4, 2))])
GAPPY = with_gaps(X, 0.3, seed=3)
COVARIANCE = {
    "full": [[0.8, 0.1], [0.1, 0.6]],
    "tied": [[0.8, 0.1], [0.1, 0.6]],
    "diag": [0.8, 0.6],
    "tied_diag": [0.8, 0.6],
    "spherical": 1.2,
    "tied_spherical": 1.2,
}


def prior_of(kind, n_components, **changes):
    settings = {"mean_precision": 0.1, "degrees_of_freedom": 4.0, **changes}
    return MixturePrior(kind, n_components, [0.0, 0.5], COVARIANCE[kind], **settings)


def fitted(prior, rows, **settings):
    settings = {"random_state": 0, **prior.parameters, **settings}
    return BayesianGMMAutoEncoder(**settings).fit(rows)


def closed_log_evidence(rows, prior, temperature=1.0):
    """Return the log evidence of diagonal and spherical kinds, by sums over all allocations.

    Given the precisions, columns are independent, and a missing entry is just not counted. Squares
    of known entries are summed for each precision: one for each column or for all, and for each
    component or for all.
    """
    heat, strength, dof = 1 / temperature, prior.mean_precision, prior.degrees_of_freedom
    n_rows, size = rows.shape
    by_column, tied = prior.kind.endswith("diag"), prior.kind.startswith("tied")
    base = np.broadcast_to(np.asarray(prior.covariance), (size,) if by_column else (1,))
    terms = []
    for labels in product(range(prior.n_components), repeat=n_rows):
        labels = np.array(labels)
        scatter = np.zeros((prior.n_components, size))
        known_counts = np.zeros((prior.n_components, size))
        counts = np.array([heat * (labels == k).sum() for k in range(prior.n_components)])
        value = 0.0
        for k, j in np.ndindex(scatter.shape):
            known = rows[labels == k, j]
            known = known[~np.isnan(known)]
            n = heat * len(known)
            value += 0.5 * np.log(strength / (strength + n)) - 0.5 * n * np.log(2 * np.pi)
            known_counts[k, j] = n
            if len(known):
                shift = known.mean() - prior.mean[j]
                scatter[k, j] = heat * ((known - known.mean()) ** 2).sum()
                scatter[k, j] += strength * n / (strength + n) * shift**2
        if tied:
            scatter, known_counts = scatter.sum(axis=0), known_counts.sum(axis=0)
        if not by_column:
            scatter = scatter.sum(axis=-1, keepdims=True)
            known_counts = known_counts.sum(axis=-1, keepdims=True)
        after = dof / 2 + known_counts / 2
        own = gammaln(after) - after * np.log((base + scatter) / 2)
        before = gammaln(dof / 2) - dof / 2 * np.log(base / 2)
        value += (own - before).sum()
        alpha = prior.concentration
        total = prior.n_components * alpha
        value += gammaln(total) - gammaln(total + counts.sum())
        value += (gammaln(alpha + counts) - gammaln(alpha)).sum()
        terms.append(value)
    return logsumexp(terms)


def integrated_log_evidence(rows, prior, n_points=48):
    """Return the log evidence of any kind: complete rows integrated over the missing entries."""
    where = np.argwhere(np.isnan(rows))
    angles, weights = np.polynomial.legendre.leggauss(n_points)
    angles, weights = angles * np.pi / 2, weights * np.pi / 2
    scale = 1.5
    values, jacobian = scale * np.tan(angles), scale / np.cos(angles) ** 2
    terms = []
    for index in product(range(n_points), repeat=len(where)):
        index = np.array(index)
        complete = rows.copy()
        complete[where[:, 0], where[:, 1]] = values[index]
        terms.append(
            enumerated_log_evidence(complete, prior) + np.log((weights * jacobian)[index]).sum()
        )
    return logsumexp(terms)


def test_the_oracles_agree():
    rows = X[[0, 1, 4, 5, 6]].copy()
    rows[1, 0], rows[3, 1] = np.nan, np.nan
    for kind in ("diag", "tied_spherical"):
        prior = prior_of(kind, 2)
        assert abs(closed_log_evidence(rows, prior) - integrated_log_evidence(rows, prior)) < 2e-3
    complete = closed_log_evidence(X[:6], prior_of("diag", 2))
    assert abs(complete - enumerated_log_evidence(X[:6], prior_of("diag", 2))) < 1e-9


def agrees(model, exact):
    error = np.hypot(model.sampling_.log_evidence_error, 0.01)
    return abs(model.log_evidence_ - exact) < 4 * error


@pytest.mark.parametrize("n_components", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["diag", "spherical", "tied_diag", "tied_spherical"])
def test_evidences_of_independent_columns_are_exact(kind, n_components):
    prior = prior_of(kind, n_components)
    rows = GAPPY if n_components < 3 else GAPPY[1:7]
    model = fitted(prior, rows)
    assert model.sampling_.status == "ok", model.sampling_.reasons
    assert model.sampling_.log_evidence_error < 0.1
    assert agrees(model, closed_log_evidence(rows, prior))


@pytest.mark.parametrize(
    ("kind", "n_components"),
    [
        ("full", 2),
        ("tied", 2),
        pytest.param("full", 1, marks=pytest.mark.slow),
        pytest.param("tied", 1, marks=pytest.mark.slow),
    ],
)
def test_evidences_of_full_covariances_are_those_of_integrals(kind, n_components):
    rows = X[[0, 1, 4, 5, 6]].copy()
    rows[1, 0], rows[3, 1] = np.nan, np.nan
    prior = prior_of(kind, n_components)
    model = fitted(prior, rows)
    assert model.sampling_.status == "ok", model.sampling_.reasons
    exact = integrated_log_evidence(rows, prior)
    assert abs(model.log_evidence_ - exact) < 0.05 + 3 * model.sampling_.log_evidence_error


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_sampler_that_fills_gaps_with_means_is_found_out(monkeypatch):
    """Missing entries that do not vary make evidences wrong: the tests above can fail."""
    draw = CompletedDraws._add

    def without_noise(self, sums, codes, weights, workspace, rng):
        class Still:
            def standard_normal(self, shape):
                return np.zeros(shape)

        draw(self, sums, codes, weights, workspace, Still())

    monkeypatch.setattr(CompletedDraws, "_add", without_noise)
    prior = prior_of("diag", 1)
    model = fitted(prior, with_gaps(np.repeat(X, 8, axis=0) + 0.01 * np.arange(64)[:, None], 0.4))
    assert model.sampling_.status != "ok"
    assert model.sampling_.balance > 4


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_other_temperatures_are_sampled_by_gradients(temperature):
    prior = prior_of("diag", 2)
    model = fitted(prior, GAPPY, temperature=temperature)
    assert model.sampling_.method == "smc"
    assert model.sampling_.status == "ok", model.sampling_.reasons
    exact = closed_log_evidence(GAPPY, prior, temperature)
    assert abs(model.log_evidence_ - exact) < 4 * np.hypot(model.sampling_.log_evidence_error, 0.03)


def test_integer_weights_are_repeated_rows():
    prior, weights = prior_of("diag", 2), np.array([2, 1, 1, 1, 0, 1, 1, 1])
    model = BayesianGMMAutoEncoder(random_state=0, **prior.parameters)
    model.fit(GAPPY, sample_weight=weights)
    assert agrees(model, closed_log_evidence(np.repeat(GAPPY, weights, axis=0), prior))


def test_missing_rows_have_no_evidence():
    prior = prior_of("diag", 2)
    rows = np.vstack([GAPPY, np.full(2, np.nan)])
    assert agrees(fitted(prior, rows), closed_log_evidence(GAPPY, prior))


def test_too_many_components_are_refused():
    rows = np.tile(GAPPY, (3, 1))
    with pytest.raises(ValueError, match="at most 12"):
        BayesianGMMAutoEncoder(13, covariance_type="diag", random_state=0).fit(rows)


@pytest.mark.slow
def test_ranks_of_parameters_are_uniform_with_gaps():
    """Parameters drawn from the prior have uniform ranks among draws of their posterior."""
    prior, rng, ranks = prior_of("full", 1, mean_precision=1.0, degrees_of_freedom=6.0), RNG, []
    for seed in range(60):
        _, means, covariances = prior.draw(rng)
        rows = rng.multivariate_normal(means[0], covariances[0], 20)
        model = fitted(prior, with_gaps(rows, 0.3, seed), random_state=seed, n_models=50)
        own = model.models_.means[:, 0], model.models_.covariances[:, 0]
        truth = means[0, 0], covariances[0, 0, 1]
        values = own[0][:, 0], own[1][:, 0, 1]
        ranks.append([(v < t).mean() for v, t in zip(values, truth, strict=True)])
    for column in np.array(ranks).T:
        # 60 uniform numbers: the mean and the mean square within 4 standard errors
        assert abs(column.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 60)
        assert abs((column**2).mean() - 1 / 3) < 4 * np.sqrt(4 / 45 / 60) + 0.01


@pytest.mark.slow
def test_sampled_fits_to_known_entries_are_better_than_to_imputed_ones():
    order = np.random.default_rng(0).permutation(150)
    train, test = load_iris().data[order[:120]], load_iris().data[order[120:]]
    gappy = with_gaps(train, 0.3)
    score = BayesianGMMAutoEncoder(2, random_state=0).fit(gappy).score(test)
    for imputer in (SimpleImputer(), IterativeImputer(max_iter=50, random_state=0)):
        model = BayesianGMMAutoEncoder(2, random_state=0).fit(imputer.fit_transform(gappy))
        assert score > model.score(test) + 0.5
