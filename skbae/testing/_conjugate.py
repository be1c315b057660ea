"""Conjugate priors: draws against densities, conditionals against the joint density, evidence."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logsumexp
from scipy.stats import rankdata

from skbae.energies._capabilities import GradientEnergy
from skbae.inference.passes._rows import make_rows
from skbae.testing._subject import bounded, close, leaves, mean_is, same_expectation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.testing._subject import Subject

_TEMPERATURES = (0.5, 1.0, 2.0)
# Draws of each density, and temperatures of conditionals between the prior and the posterior of
# few rows, so that there are pairs that overlap in part.
_N_DRAWS, _BETWEEN = 4000, (16.0, 4.0, 2.0, 1.0, 0.5)
# Data sets drawn from the prior, with so many rows each, which leave the prior some influence; and
# parameters of models that are compared, at most.
_N_SETS, _N_ROWS, _MOST = 400, 3, 12
# Chains whose scores are averaged, and Gibbs sweeps that each makes before.
_N_CHAINS, _N_STEPS = 400, 20
# Sweeps over the rows whose mean is compared with the expectation; at the second temperature hardly
# any code is certain.
_N_SWEEPS, _SWEEP_ROWS, _SWEEP_TEMPERATURES = 300, 8, (1.0, 10.0)
# Draws that must differ from the others for their mean to say anything; without them, the largest
# difference of the expectation, relative to the largest of its kind.
_FEWEST, _RARE = 20, 0.1
# Allocations that are enumerated, at most.
_N_ALLOCATIONS = 300


def _few_rows(subject: Subject, n: int) -> Rows:
    return make_rows(subject.X[np.linspace(0, len(subject.X) - 1, n).astype(int)], None)


def check_sweep(subject: Subject) -> None:
    """``sweep`` draws codes from ``exp(H / T)``: its statistics are those of ``expectation``."""
    energy, rows = subject.energy, _few_rows(subject, _SWEEP_ROWS)
    for temperature in _SWEEP_TEMPERATURES:
        kernel = energy.expectation(subject.models, rows.frame, np.float64, temperature, 0.0)
        expected = dict(leaves(subject.reduce(kernel, rows)))
        drawn: dict[str, list[Array]] = {name: [] for name in expected}
        for seed in range(_N_SWEEPS):
            kernel = energy.sweep(subject.models, rows.frame, np.float64, temperature)
            found = subject.reduce(kernel, rows, seed)
            close(found.hmaxe, expected["hmaxe"], f"hmaxe of sweep at T = {temperature:g}")
            for name, value in leaves(found):
                drawn[name].append(value)
        for name in set(expected) - {"objective", "hmaxe"}:
            values = np.reshape(drawn[name], (_N_SWEEPS, -1))
            largest = max(1.0, float(np.abs(values).max(initial=0.0)))
            for column, mean in zip(values.T, expected[name].ravel(), strict=True):
                what = f"{name} of sweep at T = {temperature:g} against those of expectation"
                if np.sum(~np.isclose(column, np.median(column))) >= _FEWEST:
                    mean_is(column, float(mean), what)
                elif abs(mean - np.median(column)) > _RARE * largest:
                    raise AssertionError(
                        f"{what}: nearly all draws are {np.median(column):.5g}, expected "
                        f"{mean:.5g} on average"
                    )


def check_densities(subject: Subject) -> None:
    """Draws of prior and of a conditional: the expected odds are those of their log densities.

    That the constants of both densities agree with their draws is what the evidence rests on.
    """
    energy, rng = subject.energy, subject.rng
    rows, model = _few_rows(subject, 5), energy.draw_prior(1, rng)
    kernel = energy.sweep(model, rows.frame, np.float64, 1.0)
    statistics = subject.reduce(kernel, rows, 0)
    conditionals = [energy.conditional(statistics, temperature) for temperature in _BETWEEN]
    together = type(conditionals[0]).concatenate(conditionals)
    index = np.repeat(np.arange(len(conditionals)), _N_DRAWS)
    # conditional densities are means over relabellings, so their draws are relabelled at random
    of_conditionals = energy.relabel(energy.draw_conditional(together.take(index), rng), rng)
    drawn = [energy.draw_prior(_N_DRAWS, rng), of_conditionals]
    values = []  # of each set of draws, its log densities: the prior's first
    for models in drawn:
        density = np.asarray(energy.log_conditional(together, models))
        if density.shape != (models.n_models, len(_BETWEEN)):
            raise AssertionError(
                f"log_conditional returns the shape {density.shape}, expected (S, M) = "
                f"{(models.n_models, len(_BETWEEN))}"
            )
        values.append(np.column_stack([energy.log_prior(models), density]))
    sets = np.concatenate(values).reshape(len(_BETWEEN) + 1, _N_DRAWS, -1)
    names = ["draw_prior", *(f"draw_conditional (T = {each:g})" for each in _BETWEEN)]
    parameters = np.concatenate([_parameters(models) for models in drawn])
    factors = bounded(parameters).reshape(len(sets), _N_DRAWS, -1)
    for p in range(len(sets)):
        for q in range(p):
            same_expectation(
                expit(sets[p, :, q] - sets[p, :, p])[:, None] * factors[p],
                expit(sets[q, :, p] - sets[q, :, q])[:, None] * factors[q],
                f"{names[q]} and {names[p]} do not draw from the densities log_prior and "
                "log_conditional (the mean of f q / (p + q) over draws of p, minus that of "
                "f p / (p + q) over draws of q, where f is 1 or a function of a parameter)",
            )


def _parameters(models: Any) -> Array:
    """Return some of the parameters of S models, (S, P)."""
    flat = [value.reshape(models.n_models, -1) for _, value in leaves(models)]
    return np.concatenate([each[:, :_MOST] for each in flat], axis=1)


def check_joint_draws(subject: Subject) -> None:
    """Draw models given rows that were drawn from a model of the prior: they follow the prior.

    After Geweke (2004), and Cook, Gelman and Rubin (2006).
    """
    energy, rng = subject.energy, subject.rng
    probe = subject.X[np.linspace(0, len(subject.X) - 1, 3).astype(int)]
    first: list[Array] = []
    second: list[Array] = []
    for seed in range(_N_SETS):
        model = energy.draw_prior(1, rng)
        X = np.asarray(energy.draw(model, _N_ROWS, rng)[0], dtype=np.float64)
        rows = make_rows(X, None)
        kernel = energy.sweep(model, rows.frame, np.float64, 1.0)
        statistics = subject.reduce(kernel, rows, seed)
        again = energy.draw_conditional(energy.conditional(statistics, 1.0), rng)
        for models, values in ((model, first), (again, second)):
            of_rows = subject.hmax(models, X).mean(axis=1)
            of_probe = subject.hmax(models, probe)[0]
            values.append(np.concatenate([of_rows, of_probe, _parameters(models)[0]]))
    before, after = np.array(first), np.array(second)
    for column in range(before.shape[1]):
        both = rankdata(np.concatenate([before[:, column], after[:, column]])) / (2 * _N_SETS)
        name = "hmax of a row" if column <= len(probe) else "a parameter"
        name = name if column else "hmax of the rows"
        for kind, ranks in (("ranks", both), ("distances of ranks from 1/2", np.abs(both - 0.5))):
            mean_is(
                ranks[:_N_SETS] - ranks[_N_SETS:],
                0.0,
                "draw_prior, draw, sweep, conditional and draw_conditional are not those of one "
                "joint density: models drawn given rows, which were drawn from models of the "
                f"prior, do not follow the prior ({kind} of {name}, difference)",
            )


def check_scores(subject: Subject) -> None:
    """Compare the mean of ``scores`` with zero, over models and codes given a few rows.

    Each of many chains starts at a model of the prior and makes some Gibbs sweeps.
    """
    energy, rows = subject.energy, _few_rows(subject, 5)
    for temperature in (1.0, 2.0):
        models = energy.draw_prior(_N_CHAINS, subject.rng)
        for seed in range(_N_STEPS):
            kernel = energy.sweep(models, rows.frame, np.float64, temperature)
            statistics = subject.reduce(kernel, rows, seed)
            if seed < _N_STEPS - 1:
                conditional = energy.conditional(statistics, temperature)
                models = energy.draw_conditional(conditional, subject.rng)
        scores = energy.scores(models, statistics, temperature, float(len(rows.X)))
        for column, values in enumerate(scores.T):
            what = f"scores, number {column}, of models drawn given {len(rows.X)} rows"
            scale = max(float(np.abs(values).max()), 1e-300)
            mean_is(values / scale, 0.0, f"{what} at T = {temperature:g}, relative to the largest")


def check_prior_by_coordinates(subject: Subject) -> None:
    """``draw_prior`` and ``draw_prior_coordinates`` draw from the same prior."""
    energy, rng, n = subject.energy, subject.rng, 1000
    if not isinstance(subject.energy, GradientEnergy):
        return
    first = energy.draw_prior(n, rng)
    second = energy.constrain(energy.draw_prior_coordinates(n, rng))
    values = np.stack([subject.hmax(models, subject.X[:1])[:, 0] for models in (first, second)])
    ranks = rankdata(values.ravel()).reshape(2, n) / (2 * n)
    what = "draw_prior and draw_prior_coordinates draw from different priors (ranks of hmax)"
    mean_is(ranks[0] - ranks[1], 0.0, what)


def _allocations(subject: Subject) -> tuple[Rows, NDArray[np.intp]]:
    """Return a few rows, and all their allocations (S, N)."""
    n_components = subject.energy.collapse(subject.X[:2], 1.0).n_components
    n = max(2, int(np.log(_N_ALLOCATIONS) / np.log(max(n_components, 2))))
    labels = np.array(list(product(range(n_components), repeat=n)), dtype=np.intp)
    return _few_rows(subject, n), labels


def check_evidence(subject: Subject) -> None:
    """Compare the evidence as a sum over all allocations with Bayes' rule at single models.

    ``log p(X) = log prior(m) + sum of hmax / T - log p(m | X)`` for any model m, and ``p(m | X)``
    is the mean of the conditionals of all allocations.
    """
    energy = subject.energy
    rows, labels = _allocations(subject)
    X = np.asarray(rows.X)
    if len(labels) > 4 * _N_ALLOCATIONS:
        return  # of two rows, with many components
    for temperature in _TEMPERATURES:
        mixture = energy.collapse(X, temperature)
        log_joint = mixture.log_joint(labels)
        evidence = logsumexp(log_joint)
        counts, sums = mixture.sums(labels)
        conditional = energy.conditional_of(
            counts * temperature, mixture.moments(sums), temperature
        )
        density = energy.log_conditional(conditional, subject.models)
        posterior = logsumexp(density + (log_joint - evidence), axis=1)
        hmax = subject.hmax(subject.models, X, temperature).sum(axis=1) / temperature
        by_bayes = energy.log_prior(subject.models) + hmax - posterior
        close(
            by_bayes,
            np.full(subject.n_models, evidence),
            f"the evidence of {len(X)} rows at T = {temperature:g}: log_prior + hmax - "
            f"log_conditional against the log_joint of all {len(labels)} allocations",
            rtol=1e-6,
        )


def check_preferences(subject: Subject) -> None:
    """Leave-one-out odds of a row's component are differences of ``log_joint``."""
    rows, labels = _allocations(subject)
    X = np.asarray(rows.X)
    n_components = int(labels.max()) + 1
    labels = labels[subject.rng.permutation(len(labels))[:5]]
    for temperature in _TEMPERATURES:
        mixture = subject.energy.collapse(X, temperature)
        visited = mixture.visit(labels)
        close(visited.log_joint, mixture.log_joint(labels), "log_joint of visit")
        for row in range(len(X)):
            moved = np.repeat(labels[:, None], n_components, axis=1)
            moved[:, :, row] = np.arange(n_components)
            flat = mixture.log_joint(moved.reshape(-1, len(X))).reshape(len(labels), -1)
            found = visited.preferences[:, :, row]
            close(
                found - found[:, :1],
                flat - flat[:, :1],
                f"preferences of visit at T = {temperature:g}, against differences of log_joint",
                rtol=1e-6,
            )
