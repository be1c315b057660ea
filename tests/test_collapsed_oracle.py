"""The slow sampler of allocations that reference evidences come from, against enumeration.

That the enumeration is right at T != 1 is shown by quadrature in ``test_mixture_oracles.py``.
"""

from __future__ import annotations

import numpy as np
import pytest
from _collapsed_oracle import (
    IndependentRows,
    Origin,
    OriginPath,
    Pin,
    Problem,
    Visited,
    add_rows,
    follow,
    pooled,
    sweep,
)
from _mixture_oracles import MixturePrior, enumerated_log_joints, preferences_by_definition
from scipy.special import gammaln, logsumexp

KINDS = ("full", "diag", "tied")
TEMPERATURES = (0.5, 1.0, 2.0)
K, N_GROUPS, SIZE = 3, 20, 40


def make_problem(kind, temperature):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(7, 2)) * [1, 2] + 3 * rng.integers(0, 2, size=(7, 1))
    scale = np.array([0.5, 0.8]) if kind == "diag" else np.array([[0.5, 0.1], [0.1, 0.8]])
    mean = X.mean(axis=0)
    prior = MixturePrior(kind, K, mean, scale, 1.3, 0.1, 4.5)
    problem = Problem(X, K, kind, scale, mean, 1.3, 0.1, 4.5, temperature)
    return problem, *enumerated_log_joints(X, prior, temperature)


@pytest.fixture(params=[(kind, t) for kind in KINDS for t in TEMPERATURES], ids=str)
def enumerated(request):
    return make_problem(*request.param)


def test_the_joint_and_the_conditionals_are_those_of_the_enumeration(enumerated):
    problem, labels, log_joint = enumerated
    population = problem.population(labels)
    np.testing.assert_allclose(population.log_joint, log_joint, atol=1e-9)
    rows = np.tile(np.arange(len(problem.X)), (len(labels), 1))
    found, own = population.table(rows)
    found = found - logsumexp(found, axis=1, keepdims=True)
    np.testing.assert_allclose(found, preferences_by_definition(labels, log_joint, K), atol=1e-9)
    # with a pin
    pin = Pin(Origin(labels[log_joint.argmax()], K), -0.7, labels)
    found = population.table(rows)[0] + pin.log_factors(rows, own)
    found -= logsumexp(found, axis=1, keepdims=True)
    expected = preferences_by_definition(labels, log_joint + pin.log_density(-0.7), K)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_rows_that_move_leave_the_same_state_as_one_computed_anew(enumerated):
    problem, labels, _ = enumerated
    rng, chains = np.random.default_rng(0), np.arange(len(labels))
    population, pin = problem.population(labels), Pin(Origin(labels[100], K), -0.7, labels)
    for _ in range(20):
        rows, new = (
            rng.integers(len(problem.X), size=len(labels)),
            rng.integers(K, size=len(labels)),
        )
        some = np.flatnonzero(population.labels[chains, rows] != new)
        old = population.labels[some, rows[some]]
        pin.move(some, rows[some], old, new[some])
        population.move(some, rows[some], new[some])
    anew = problem.population(population.labels)
    np.testing.assert_allclose(population.log_joint, anew.log_joint, atol=1e-8)
    np.testing.assert_allclose(population.mean, anew.mean, atol=1e-8)
    np.testing.assert_allclose(pin.distances, pin.origin.distances(population.labels))


def test_sweeps_leave_the_posterior_over_allocations_as_it_is(enumerated):
    """However many rows are offered at once."""
    problem, labels, log_joint = enumerated
    rng, probabilities = np.random.default_rng(1), np.exp(log_joint - logsumexp(log_joint))
    for rate in (None, 0.2):
        start = labels[rng.choice(len(labels), size=20_000, p=probabilities)]
        population = problem.population(start)
        sweep(population, rng, rate=rate)
        # sizes of the largest component, and whether the first two rows are together
        for statistic in (
            lambda z: np.max([(z == k).sum(axis=1) for k in range(K)], axis=0),
            lambda z: z[:, 0] == z[:, 1],
        ):
            expected, values = probabilities @ statistic(labels), statistic(population.labels)
            assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values))


def test_all_paths_meet_the_enumeration_in_both_directions(enumerated):
    problem, labels, log_joint = enumerated
    rng, exact, n = np.random.default_rng(5), logsumexp(log_joint), N_GROUPS * SIZE
    draws = labels[rng.choice(len(labels), size=n, p=np.exp(log_joint - exact))]
    more = {"n_groups": N_GROUPS, "n_sweeps": 2}
    found = {}

    orders = np.stack([rng.permutation(len(problem.X)) for _ in range(N_GROUPS)])
    orders = np.repeat(orders, SIZE, axis=0)
    ratios, _ = add_rows(problem, orders, rng, growth=0.1, **more)
    if problem.temperature >= 1:  # below, few draws have all the weight
        found["rows come"] = ratios, 1, 0.0
    population = problem.population(draws)

    path = OriginPath(Origin(labels[log_joint.argmax()], K))
    near = log_joint + logsumexp(-1.5 * path.origin.distances(labels), axis=1)
    base = logsumexp(near) - gammaln(K + 1)
    start = labels[rng.choice(len(labels), size=n, p=np.exp(near - logsumexp(near)))]
    ratios, _, schedule = follow(
        path, problem.population(start), [-1.5, -0.7, -0.3, 0], rng, **more
    )
    found["from the origin"] = ratios, 1, base
    ratios, _, _ = follow(path, population, schedule[::-1], rng, **more)
    found["to the origin"] = ratios, -1, base

    q = np.stack([(draws == k).mean(axis=0) for k in range(K)], axis=1) + np.array([0.2, 0.1, 0.04])
    path = IndependentRows(np.log(q / q.sum(axis=1, keepdims=True)))
    schedule = [0, 0.1, 0.2, 0.35, 0.5, 0.7, 1]
    ratios, _, _ = follow(path, problem.population(path.draw(n, rng)), schedule, rng, **more)
    found["from independent rows"] = ratios, 1, gammaln(K + 1)
    start = problem.population(path.relabel(draws, rng))
    ratios, _, _ = follow(path, start, schedule[::-1], rng, **more)
    found["to independent rows"] = ratios, -1, gammaln(K + 1)

    for name, (ratios, sign, base) in found.items():
        value, error = pooled(ratios)
        assert error < 0.3, name
        assert abs(base + sign * value - exact) < 0.02 + 4 * error, (name, value, error, exact)


def test_the_bound_is_the_evidence_once_all_is_visited_and_below_before(enumerated):
    _, labels, log_joint = enumerated
    visited = Visited(K)
    visited.add(labels[::40], log_joint[::40])
    assert visited.bound < logsumexp(log_joint)
    visited.add(labels, log_joint)  # all labellings, each class once
    np.testing.assert_allclose(visited.bound, logsumexp(log_joint), rtol=1e-12)
