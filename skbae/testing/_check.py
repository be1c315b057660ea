"""The public check, and which of its parts apply to an energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skbae.energies._base import ExpectationEnergy, StatisticsEnergy
from skbae.energies._capabilities import CollapsibleEnergy, ConjugateEnergy, GradientEnergy
from skbae.inference.passes._rows import RowRunner
from skbae.operators._floating import own_errors
from skbae.operators._random import as_generator
from skbae.testing._codes import (
    check_codes_of_draws,
    check_hmax,
    check_interpolate,
    check_maximise,
    check_statistics,
)
from skbae.testing._conjugate import (
    check_densities,
    check_evidence,
    check_joint_draws,
    check_preferences,
    check_prior_by_coordinates,
    check_scores,
    check_sweep,
)
from skbae.testing._density import check_draws, check_normalised
from skbae.testing._gradients import (
    check_coordinates,
    check_gradient_in_x,
    check_objective_gradient,
    check_prior_draws,
    check_prior_gradient,
)
from skbae.testing._subject import subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skbae.testing._subject import Subject

# By the capability that an energy must have for the checks to apply; None: always.
_CHECKS: tuple[tuple[type | None, tuple[Callable[[Subject], None], ...]], ...] = (
    (None, (check_hmax, check_gradient_in_x, check_normalised, check_draws, check_codes_of_draws)),
    (ExpectationEnergy, (check_statistics,)),
    (StatisticsEnergy, (check_maximise, check_interpolate)),
    (
        GradientEnergy,
        (check_coordinates, check_objective_gradient, check_prior_gradient, check_prior_draws),
    ),
    (
        ConjugateEnergy,
        (check_sweep, check_densities, check_joint_draws, check_scores, check_prior_by_coordinates),
    ),
    (CollapsibleEnergy, (check_evidence, check_preferences)),
)


@own_errors()
def check_energy(
    energy: Any,
    X: Any,
    *,
    params: Any = None,
    checks: Iterable[str] | None = None,
    random_state: Any = 0,
) -> tuple[str, ...]:
    """Check that the methods of an energy agree with each other, by brute force and by draws.

    Which checks apply depends on the energy's capabilities:

    * all energies: ``hmax`` at T in {0, 0.5, 1, 2} against all codes, where they are finitely many;
      the density at T = 1 is normalised and is that of the rows that ``draw`` returns;
    * ExpectationEnergy: the objectives; chunks and weights of rows make no difference;
    * StatisticsEnergy: steps of expectation maximisation never lower the objective;
    * GradientEnergy: finite differences; draws of the prior have its density, which is normalised;
    * ConjugateEnergy: draws of codes, prior and conditionals against their densities; models given
      rows of models of the prior follow the prior; scores are zero on average;
    * CollapsibleEnergy: the evidence of a few rows by enumeration of all allocations, and Bayes'
      rule; leave-one-out odds.

    What is estimated from draws is wrong if it is off by five standard errors. Errors that hardly
    change anything are not found, nor those in what no method here computes.

    Parameters
    ----------
    energy : Energy
    X : array-like of shape (n_samples, n_features)
        Rows such as the energy is for, at least 8; some tens do.
    params : ArrayRecord or None, default=None
        S >= 2 models to check with. None draws them from the prior or given the rows.
    checks : iterable of str or None, default=None
        Names of the checks to make, of those that this function returns; None makes all that apply.
    random_state : None, int, RandomState or Generator, default=0

    Returns
    -------
    tuple of str
        Names of the checks that were made.

    Raises
    ------
    AssertionError
        If a check fails. The message has a sentence for each one that does, with the method, the
        numbers found and those expected.
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae.energies import ConjugateExponentialComponents, ConjugateMixture
    >>> from skbae.testing import check_energy
    >>> from dataclasses import dataclass
    >>> from skbae.energies import ArrayRecord
    >>> @dataclass(frozen=True)
    ... class Rates(ArrayRecord):
    ...     rates: np.ndarray
    >>> class Waiting(ConjugateExponentialComponents):  # exponential times, with a gamma prior
    ...     def __init__(self, n_components):
    ...         self.n_components, self.n_features = n_components, 1
    ...         self.prior = np.array([1.0, 2.0])
    ...     def features(self, X):
    ...         return X
    ...     def natural(self, params):
    ...         return np.stack([-params.rates, np.log(params.rates)], axis=-1)
    ...     def expected_features(self, params):
    ...         return 1 / params.rates[..., None]
    ...     def match_features(self, means):
    ...         return Rates(1 / means[..., 0])
    ...     def draw(self, params, models, labels, rng):
    ...         return rng.exponential(1 / params.rates[models, labels])[:, None]
    ...     def n_parameters(self):
    ...         return self.n_components
    ...     def log_normaliser(self, statistics):
    ...         from scipy.special import gammaln
    ...         times, n = statistics[..., 0], statistics[..., 1] + 1
    ...         return gammaln(n) - n * np.log(times)
    ...     def draw_statistics(self, statistics, rng):
    ...         return Rates(rng.gamma(statistics[..., 1] + 1) / statistics[..., 0])
    >>> X = np.random.default_rng(0).exponential(size=(30, 1))
    >>> made = check_energy(ConjugateMixture(Waiting(2), np.ones(2)), X)
    >>> "check_evidence" in made
    True
    """
    made, failures = [], []
    applicable = {
        check.__name__: check
        for capability, checks_of_it in _CHECKS
        if capability is None or isinstance(energy, capability)
        for check in checks_of_it
    }
    chosen = list(applicable) if checks is None else list(checks)
    unknown = [name for name in chosen if name not in applicable]
    if unknown:
        raise ValueError(
            f"checks must be among those that apply to {type(energy).__name__} "
            f"({', '.join(applicable)}), got {', '.join(map(repr, unknown))}"
        )
    with RowRunner(1) as runner:
        checked = subject(energy, X, params, as_generator(random_state), runner)
        for name in chosen:
            made.append(name)
            try:
                applicable[name](checked)
            except AssertionError as error:
                failures.append(f"{name}: {error}")
    if failures:
        listed = "\n".join(failures)
        raise AssertionError(f"{type(energy).__name__} fails {len(failures)} check(s):\n{listed}")
    return tuple(made)
