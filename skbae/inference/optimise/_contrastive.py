"""Persistent contrastive divergence (Tieleman 2008), which needs no partition function.

The gradient of a log partition function is an expectation under the model. It is estimated from the
states of Markov chains, which continue from step to step while the model changes slowly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.energies._base import require
from skbae.energies._capabilities import BatchStep, ContrastiveEnergy, MinibatchObjective
from skbae.inference.optimise._minibatch import (
    MinibatchPlan,
    MinibatchResult,
    PlainSteps,
    constant_rate,
    falling_rate,
    fit_minibatches,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array, FloatArray, Rows

# Least number of steps of a pass.
_LEAST_STEPS = 10


class ContrastiveObjective(MinibatchObjective):
    """``Hmaxe_T`` of rows, with the gradient estimated by persistent chains and the value unknown.

    Parameters
    ----------
    energy : ContrastiveEnergy
    rows : Rows
        Distinct ones.
    temperature : float
    batch_size : int
    n_gibbs : int, default=1
        Gibbs steps of the chains before each step of the model.
    """

    def __init__(
        self,
        energy: ContrastiveEnergy,
        rows: Rows,
        temperature: float,
        batch_size: int,
        n_gibbs: int = 1,
    ) -> None:
        self.energy, self.rows, self.temperature = energy, rows, temperature
        self.n_rows, self.n_gibbs = len(rows.X), n_gibbs
        self.weights = np.ones(self.n_rows) if rows.weights is None else rows.weights
        self.weight_of_a_batch = self.weights.sum() / -(-self.n_rows // batch_size)

    def step(
        self, theta: FloatArray, index: NDArray[np.intp], memory: Array, rng: np.random.Generator
    ) -> BatchStep:
        """Move the chains, which are the `memory`; return the contrast of the batch with them."""
        params, chains = self.energy.at(theta), memory
        for _ in range(self.n_gibbs):
            chains = self.energy.advance(params, chains, rng)
        weights = self.weights[index]
        direction = self.energy.contrast(
            params, self.rows.X[index], weights, chains, self.temperature
        )
        return BatchStep(weights.sum() / self.weight_of_a_batch * direction, None, chains)

    def score(self, theta: FloatArray) -> float:
        """Return the mean of a proper score that needs no partition function."""
        scores = self.energy.proper_score(self.energy.at(theta), self.rows.X)
        return float(np.average(scores, weights=self.rows.weights))

    def constrain(self, theta: FloatArray) -> None:
        """Do nothing: the coordinates have no bounds."""


def contrastive_divergence(
    energy: ContrastiveEnergy,
    theta: Array,
    chains: Array,
    rows: Rows,
    held: Rows | None,
    rng: np.random.Generator,
    *,
    temperature: float,
    rate: float,
    decay: bool,
    batch_size: int,
    max_iter: int,
    n_gibbs: int = 1,
    on_step: Callable[[int, float], bool] | None = None,
) -> MinibatchResult:
    """Fit by persistent contrastive divergence.

    Parameters
    ----------
    energy : ContrastiveEnergy
    theta : ndarray of shape (P,)
        Initial coordinates.
    chains : ndarray of shape (C, D)
    rows : Rows
        Distinct rows; batches are drawn from these, with their weights.
    held : Rows or None
        Rows held out, on which models are scored after each pass; the model with the best score is
        returned. With None, the last model is returned.
    rng : Generator
    temperature : float
    rate : float
        Initial learning rate.
    decay : bool
        Whether the rate falls linearly to a hundredth. All passes are made, whatever the scores,
        since these say little while the rate is high.
    batch_size : int
    max_iter : int
        Number of passes. A pass has at least ten steps: it goes over few distinct rows repeatedly.
    n_gibbs : int, default=1
        Gibbs steps of the chains before each step of the model.
    on_step : callable or None
        Called with the number of the pass and its score; true stops.

    Returns
    -------
    MinibatchResult
        The chains are its `memory`.

    Raises
    ------
    TypeError
        If `energy` lacks the capability.
    DivergedError
        If the parameters become infinite.
    """
    require(energy, ContrastiveEnergy, "persistent contrastive divergence")

    def objective(some: Rows) -> ContrastiveObjective:
        return ContrastiveObjective(energy, some, temperature, batch_size, n_gibbs)

    plan = MinibatchPlan(
        batch_size,
        max_iter,
        rate,
        schedule=falling_rate if decay else constant_rate,
        least_steps=_LEAST_STEPS,
    )
    return fit_minibatches(
        objective(rows),
        PlainSteps(theta),
        plan,
        rng,
        held=None if held is None else objective(held),
        memory=chains,
        on_pass=on_step,
    )
