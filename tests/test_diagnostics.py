"""Diagnostics, bridge sampling and sums over relabellings, where the answers are known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from skbae._types import SamplingRun
from skbae.inference.evidence._bridge import bridge_estimate
from skbae.inference.evidence._convergence import (
    effective_sample_size,
    persistent_rhat,
    rhat,
    split_rhat,
    standard_error,
)
from skbae.inference.evidence._verdict import assess, combine_evidence
from skbae.operators._labels import match_labels
from skbae.operators._permanent import log_permanent

# -- sums over permutations ----------------------------------------------------------------------


def brute_permanent(logs):
    size = len(logs)
    terms = [sum(logs[k, p[k]] for k in range(size)) for p in permutations(range(size))]
    return logsumexp(terms) if np.max(terms) > -np.inf else -np.inf


@pytest.mark.parametrize("size", range(1, 7))
def test_permanent_equals_the_sum_over_permutations(size):
    logs = np.random.default_rng(size).normal(scale=3, size=(size, size, 2, 3))
    expected = [[brute_permanent(logs[..., i, j]) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(log_permanent(logs), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spread", [50.0, 500.0, 1e4])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_permanent_of_entries_of_very_different_size_is_accurate(size, spread):
    """Where exponentials underflow, row by row or all at once."""
    logs = np.random.default_rng(0).normal(scale=spread, size=(size, size, 40)) - 1e5
    expected = [brute_permanent(logs[..., i]) for i in range(40)]
    np.testing.assert_allclose(log_permanent(logs), expected, rtol=1e-12)


@pytest.mark.parametrize("size", [3, 4])
def test_permanent_with_zeros(size):
    logs = np.random.default_rng(0).normal(size=(size, size, 30))
    logs[np.random.default_rng(1).random(logs.shape) < 0.4] = -np.inf
    expected = np.array([brute_permanent(logs[..., i]) for i in range(30)])
    assert 5 < np.isfinite(expected).sum() < 30, "both kinds are wanted"
    np.testing.assert_allclose(log_permanent(logs), expected, rtol=1e-12)
    logs[0] = -np.inf
    assert np.all(log_permanent(logs) == -np.inf)


def test_permanent_of_equal_entries_and_of_many_components():
    for size in (1, 4, 12):
        expected = np.log(np.arange(1, size + 1)).sum() + 2.0 * size
        np.testing.assert_allclose(log_permanent(np.full((size, size, 1), 2.0)), expected)


def test_permanent_does_not_depend_on_the_order_of_rows_or_columns():
    rng = np.random.default_rng(0)
    logs = rng.normal(scale=5, size=(8, 8, 5))
    mixed = logs[rng.permutation(8)][:, rng.permutation(8)]
    np.testing.assert_allclose(log_permanent(mixed), log_permanent(logs), rtol=1e-12)


@pytest.mark.parametrize("size", [3, 4])
def test_permanent_in_pieces_is_the_same(size):
    logs = np.random.default_rng(0).normal(size=(size, size, 100))
    whole = log_permanent(logs)
    pieces = log_permanent(logs, table_size=7 << size)
    np.testing.assert_allclose(pieces, whole, rtol=1e-14)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_labels_are_matched_as_well_as_any_permutation(size):
    overlaps = np.random.default_rng(size).random((20, size, size))
    found = match_labels(overlaps)
    for overlap, order in zip(overlaps, found, strict=True):
        assert sorted(order) == list(range(size))
        best = max(sum(overlap[k, p[k]] for k in range(size)) for p in permutations(range(size)))
        np.testing.assert_allclose(overlap[np.arange(size), order].sum(), best)


# -- chains --------------------------------------------------------------------------------------


def autoregressive(n_chains, length, coefficient, seed=0):
    """Return stationary AR(1) chains of variance one: time ``(1 + c) / (1 - c)``."""
    rng = np.random.default_rng(seed)
    draws = np.empty((n_chains, length))
    draws[:, 0] = rng.normal(size=n_chains)
    noise = np.sqrt(1 - coefficient**2) * rng.normal(size=(n_chains, length))
    for t in range(1, length):
        draws[:, t] = coefficient * draws[:, t - 1] + noise[:, t]
    return draws


@pytest.mark.parametrize("coefficient", [-0.5, 0.0, 0.5, 0.9, 0.98])
def test_effective_sample_size_of_chains_with_known_time(coefficient):
    draws = autoregressive(8, 5000, coefficient)
    time = (1 + coefficient) / (1 - coefficient)
    expected = draws.size / time
    # windows of about 4 times tell the time to sqrt(2 * 4 time / total) or so
    assert (
        abs(effective_sample_size(draws) / expected - 1) < 5 * np.sqrt(8 * time / draws.size) + 0.05
    )


def test_standard_error_covers():
    z = [
        draws.mean() / standard_error(draws)
        for draws in (autoregressive(4, 1000, 0.8, seed) for seed in range(200))
    ]
    low, high = stats.chi2(200).ppf([1e-6, 1 - 1e-6]) / 200
    assert low < np.mean(np.square(z)) < high


def test_effective_sample_size_of_constant_short_and_separate_chains():
    assert effective_sample_size(np.ones((3, 100))) == 300
    assert effective_sample_size(np.random.default_rng(0).normal(size=(5, 3))) == 5
    # chains that sit apart are worth about one draw each
    apart = autoregressive(4, 1000, 0.0) + 100 * np.arange(4)[:, None]
    assert effective_sample_size(apart) < 8


def test_rhat_against_the_definition():
    draws = autoregressive(6, 400, 0.7)
    halves = draws.reshape(12, 200)
    within = halves.var(axis=1, ddof=1).mean()
    pooled = 199 / 200 * within + halves.mean(axis=1).var(ddof=1)
    np.testing.assert_allclose(split_rhat(draws), np.sqrt(pooled / within))


def test_rhat_notices_shifts_and_drifts():
    good = autoregressive(8, 2000, 0.3)
    assert split_rhat(good) < 1.01
    assert split_rhat(good + np.arange(8)[:, None]) > 1.5
    assert split_rhat(good + np.linspace(0, 3, 2000)) > 1.2  # all chains alike
    assert np.isnan(split_rhat(good[:, :3]))
    assert split_rhat(np.ones((3, 10))) == 1
    assert split_rhat(np.ones((3, 10)) * np.arange(3)[:, None]) == np.inf


def test_rhat_of_many_chains_leaves_out_their_monte_carlo_errors():
    """The chains have forgotten their starts six times over, but are not ten times as long."""
    for seed in range(20):
        draws = autoregressive(256, 120, 0.9, seed)
        assert persistent_rhat(draws) < 1.05 < split_rhat(draws)
        assert rhat(draws) == persistent_rhat(draws)
        assert rhat(draws[:63]) == split_rhat(draws[:63])


@pytest.mark.parametrize("n_chains", [64, 256])
def test_rhat_of_many_chains_notices_memory_groups_and_drifts(n_chains):
    n_apart = n_chains // 16
    for seed in range(20):
        slow = autoregressive(n_chains, 60, 0.98, seed)
        assert persistent_rhat(slow) > 1.2
        good = autoregressive(n_chains, 300, 0.8, seed)
        assert persistent_rhat(good) < 1.03
        apart = good.copy()
        apart[:n_apart] += 3
        assert persistent_rhat(apart) > 1.1
        # all chains start at one end, and all drift there
        assert persistent_rhat(good + 2 * 0.99 ** np.arange(300)) > 1.1
        # some leave a place apart in the middle: what they have left is not the end
        moved = good.copy()
        moved[: 4 * n_apart, :150] += 3
        assert persistent_rhat(moved) > 1.05


def test_rhat_of_many_chains_that_are_short_or_constant():
    assert np.isnan(persistent_rhat(autoregressive(64, 5, 0.3)))
    assert persistent_rhat(np.ones((70, 10))) == 1
    assert persistent_rhat(np.ones((70, 10)) * np.arange(70)[:, None]) == np.inf


# -- bridges -------------------------------------------------------------------------------------


def normal_problem(rng, coefficient=0.0, n=1000, shift=0.5):
    """Draws of N(0, 1), unnormalised with a known constant, and of a wider proposal."""
    log_z = 3.0

    def ratio(x):
        target = stats.norm.logpdf(x) + log_z
        return target - stats.norm(shift, 1.6).logpdf(x)

    chains = autoregressive(4, n // 4, coefficient, rng.integers(2**31))
    return ratio(shift + 1.6 * rng.normal(size=n)), ratio(chains), log_z


@pytest.mark.parametrize("coefficient", [0.0, 0.8])
def test_the_bridge_and_its_error_over_many_repetitions(coefficient):
    rng = np.random.default_rng(0)
    z, values = [], []
    for _ in range(200):
        proposed, target, log_z = normal_problem(rng, coefficient)
        value, error = bridge_estimate(proposed, target)
        z.append((value - log_z) / error)
        values.append(value - log_z)
    z, values = np.array(z), np.array(values)
    assert np.abs(z).max() < 5
    assert abs(values.mean()) < 5 * values.std() / np.sqrt(200)
    low, high = stats.chi2(200).ppf([1e-6, 1 - 1e-6]) / 200
    assert low < np.mean(z**2) < high


@pytest.mark.parametrize("few", ["target", "proposal"])
def test_either_half_of_the_bridge_s_error_is_needed(few):
    """Where one density has few draws, and the other many, the former's are most of the error."""
    rng = np.random.default_rng(0)
    z = []
    for _ in range(200):
        many, _, log_z = normal_problem(rng, n=8000)
        proposed, target, _ = normal_problem(rng, 0.8, n=400)
        if few == "target":
            proposed = many
        else:
            proposed, target = proposed[:40], normal_problem(rng, 0.5, n=8000)[1]
        value, error = bridge_estimate(proposed, target)
        z.append((value - log_z) / error)
    # slow chains tell of their slowness only about
    assert 0.6 < np.mean(np.square(z)) < 1.8


def test_bridge_without_overlap_has_a_large_error():
    """What underflows when it is squared is no reason for an error of nothing."""
    rng = np.random.default_rng(0)
    proposed, target = rng.normal(-900, 20, size=64), rng.normal(900, 20, size=(4, 50))
    value, error = bridge_estimate(proposed, target)
    assert np.isfinite(value)
    assert error > 0.5


def test_bridge_from_chains_that_miss_a_mode_is_off_by_5_errors():
    """Negative control: chains that miss a mode must not pass the test above."""
    rng = np.random.default_rng(0)

    def ratio(x):
        target = np.logaddexp(stats.norm.logpdf(x), stats.norm(8).logpdf(x))  # normaliser 2
        return target - stats.norm(4, 6).logpdf(x)

    proposed = ratio(4 + 6 * rng.normal(size=4000))
    one_mode, both = rng.normal(size=(4, 500)), rng.normal(size=(4, 500))
    both += 8 * rng.integers(0, 2, size=both.shape)
    value, error = bridge_estimate(proposed, ratio(both))
    assert abs(value - np.log(2)) < 5 * error < 0.3
    value, error = bridge_estimate(proposed, ratio(one_mode))
    weights = np.exp(proposed)  # by importance the proposal itself is good enough
    assert abs(weights.mean() - 2) < 5 * weights.std() / np.sqrt(len(weights))
    skewed = one_mode + 0.8 * rng.random(one_mode.shape)
    value, error = bridge_estimate(proposed, ratio(skewed) + 0.3)
    assert abs(value - np.log(2)) > 5 * error


def test_a_perfect_proposal_gives_the_answer_without_error():
    value, error = bridge_estimate(np.full(50, 7.0), np.full((2, 30), 7.0))
    np.testing.assert_allclose((value, error), (7.0, 0.0), atol=1e-12)


# -- the verdict ---------------------------------------------------------------------------------


def run_of(hmaxe=None, scores=None, evidence=(1.0, 1.01), errors=(0.02, 0.02), stopped=False):
    rng = np.random.default_rng(0)
    hmaxe = rng.normal(size=(8, 200)) if hmaxe is None else hmaxe
    scores = rng.normal(size=(8, 200, 5)) if scores is None else scores
    return SamplingRun(
        None, hmaxe, scores, np.array(evidence), np.array(errors), 0.5, stopped, "gibbs", 7
    )


def test_a_run_within_all_limits_has_status_ok():
    result = assess(run_of())
    assert (result.status, result.reasons) == ("ok", ())
    assert (result.method, result.n_chains, result.n_sweeps) == ("gibbs", 8, 7)


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"hmaxe": np.random.default_rng(0).normal(size=(8, 200)) + np.arange(8)[:, None] / 4},
         "suspect", "R-hat"),
        ({"hmaxe": np.random.default_rng(0).normal(size=(8, 200)) + np.arange(8)[:, None]},
         "failed", "R-hat"),
        ({"hmaxe": autoregressive(8, 200, 0.93)}, "suspect", "few effective draws"),
        ({"hmaxe": np.full((8, 200), np.nan)}, "failed", "R-hat"),
        ({"scores": np.random.default_rng(0).normal(0.2, size=(8, 200, 5))},
         "suspect", "gradient is not zero"),
        ({"scores": np.random.default_rng(0).normal(2.0, size=(8, 200, 5))},
         "failed", "gradient is not zero"),
        ({"evidence": (1.0, 1.5)}, "suspect", "differ by 0.5"),
        ({"errors": (1.0, 1.0)}, "suspect", "standard error"),
        ({"errors": (9.0, 9.0)}, "failed", "standard error"),
        ({"evidence": (np.nan, 1.0)}, "failed", "standard error"),
        ({"stopped": True}, "suspect", "callback"),
    ],
)  # fmt: skip
def test_status_and_reason_of_a_run(changes, status, reason):
    result = assess(run_of(**changes))
    assert result.status == status
    assert reason in " ".join(result.reasons)


def test_islands_are_combined_by_the_larger_of_two_errors():
    assert combine_evidence(np.array([1.0, 1.0]), np.array([0.3, 0.4])) == (1.0, 0.25)
    value, error = combine_evidence(np.array([0.0, 2.0]), np.array([0.3, 0.4]))
    assert (value, error) == (pytest.approx(np.log((1 + np.exp(2)) / 2)), 1.0)
    assert combine_evidence(np.array([2.0]), np.array([0.5])) == (2.0, 0.5)


def test_evidence_of_noisy_islands_is_not_too_low():
    """Of normal errors of 0.8 nats the mean of eight logarithms is 0.32 too low."""
    rng = np.random.default_rng(0)
    sigma = 0.8
    values = rng.normal(-0.5 * sigma**2, sigma, (4000, 8))  # each is right on average
    found = np.array([combine_evidence(row, np.full(8, sigma))[0] for row in values])
    assert abs(found.mean()) < 0.08  # (exp(sigma^2) - 1) / 16 to second order
    assert values.mean() < -0.3
