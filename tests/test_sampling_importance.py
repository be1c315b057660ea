"""Two components sampled on tens of rows, against importance sampling written for the tests."""

from __future__ import annotations

import numpy as np
import pytest
from _data import GALAXIES, GALAXIES_EVIDENCE, GALAXIES_PRIOR
from _mixture_oracles import importance_sample
from _samplers import make_problem, small_rows

from skbae import BayesianGMMAutoEncoder
from skbae.inference._objective import Objective
from skbae.inference.evidence._verdict import combine_evidence
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.inference.sample._tempering import SMCPlan, sample_tempered


def overlapping(n_rows):
    """Return rows in two groups of which many could be of either."""
    X = small_rows(n_rows, 1)
    X[n_rows // 2 :] -= 1
    return X


@pytest.mark.parametrize(
    ("n_rows", "temperature", "model_temperature", "weighted"),
    [(60, 0.5, 1.0, False), (60, 1.0, 2.0, False), (40, 0.0, 1.0, False), (40, 2.0, 0.5, True)],
)
def test_tempering_at_any_temperatures(n_rows, temperature, model_temperature, weighted):
    """Evidence and internal energy, far from where enumeration reaches."""
    problem, X = make_problem("full", 2, 1), overlapping(n_rows)
    weights = np.random.default_rng(0).uniform(0.5, 2, n_rows) if weighted else None
    temperatures = {"temperature": temperature, "model_temperature": model_temperature}
    prior = {**problem.prior, "location": problem.location[0], "scale": problem.scale[0, 0]}
    theirs = importance_sample(
        X[:, 0], 80_000, n_starts=30, weights=weights, **temperatures, **prior
    )
    assert theirs.size > 1000
    with RowRunner(1) as runner:
        run = sample_tempered(
            Objective(problem.energy(), make_rows(X, weights), runner, temperature),
            model_temperature,
            np.random.default_rng(1),
            plan=SMCPlan(n_islands=8, n_particles=2048),
        )
    value, error = combine_evidence(run.log_evidence, run.log_evidence_error)
    expected, of_expected = theirs.log_evidence
    assert error < 0.1
    assert of_expected < 0.05
    assert abs(value - expected) < 5 * np.hypot(error, of_expected)
    # islands are independent, and count by their evidence
    shares = np.exp(run.log_evidence - run.log_evidence.max())
    shares /= shares.sum()
    means = run.hmaxe.mean(axis=1)
    mean = shares @ means
    error = np.sqrt(shares**2 @ (means - mean) ** 2 * len(means) / (len(means) - 1))
    expected, of_expected = theirs.mean(theirs.hmaxe)
    assert max(error, of_expected) < 0.01
    assert abs(mean - expected) < 5 * np.hypot(error, of_expected)


def test_the_oracle_tells_temperatures_apart():
    """The errors above are small beside what a temperature taken for another would change."""
    problem, x = make_problem("full", 2, 1), overlapping(60)[:, 0]
    prior = {**problem.prior, "location": problem.location[0], "scale": problem.scale[0, 0]}
    one, other = (
        importance_sample(x, 20_000, n_starts=15, temperature=T, **prior) for T in (0.5, 1.0)
    )
    assert abs(one.log_evidence[0] - other.log_evidence[0]) > 1


def test_modes_of_two_galaxies_components_get_their_share():
    """Chains cross rarely between a core in a broad cloud (94 %) and groups set apart."""
    sample = importance_sample(
        GALAXIES[:, 0],
        40_000,
        concentration=GALAXIES_PRIOR["weight_concentration_prior"],
        strength=GALAXIES_PRIOR["mean_precision_prior"],
        location=GALAXIES_PRIOR["mean_prior"][0],
        dof=GALAXIES_PRIOR["degrees_of_freedom_prior"],
        scale=GALAXIES_PRIOR["covariance_prior"][0][0],
    )
    assert sample.size > 1000
    # the evidence by this method is the tabulated one
    value, error = sample.log_evidence
    reference, its_error = GALAXIES_EVIDENCE[2]
    assert abs(value - reference) < 5 * np.hypot(error, its_error)
    settings = {"n_models": 1000, "random_state": 0, **GALAXIES_PRIOR}
    models = BayesianGMMAutoEncoder(2, **settings).fit(GALAXIES).models_
    theta = sample.theta
    sd = np.sqrt(models.covariances[..., 0, 0])
    ours, theirs = (
        {
            "slow group apart": means.min(axis=1) < 14,
            "means apart": np.ptp(means, axis=1) > 5,
            "both narrow": sds.max(axis=1) < 6,
            "core is wide": sds.min(axis=1) > 2,
        }
        for means, sds in (
            (models.means[..., 0], sd),
            (theta[:, 1:3], np.exp(-0.5 * theta[:, 3:5])),
        )
    )
    for region, inside in theirs.items():
        share, error = sample.mean(inside)
        # models kept from one chain are correlated through its stay in a mode: count a third
        drawn_error = np.sqrt(share * (1 - share) / 300)
        assert abs(ours[region].mean() - share) < 5 * np.hypot(error, drawn_error), region
