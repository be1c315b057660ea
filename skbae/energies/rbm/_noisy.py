"""Restricted Boltzmann machines of real features with normal noise added to their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies._base import SmoothBoundEnergy, chunk_rows
from skbae.energies.rbm._visible import LOG_2PI
from skbae.operators._enumeration import binary_states
from skbae.operators._tempered import tempered_logsumexp, tempered_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


@dataclass(frozen=True)
class NoisyMachine(ArrayRecord):
    """Machines of real features with noise added: mixtures over all codes with given weights."""

    weights: Array
    visible: Array
    noise: Array
    log_weights: Array


class BoundNoisyMachine(SmoothBoundEnergy):
    """Machines with noise added, evaluated as mixtures over all codes; at T = 1 only."""

    def __init__(self, params: NoisyMachine) -> None:
        self.params = params
        states = binary_states(params.weights.shape[1])
        self.means = params.visible[:, None] + np.matmul(states, params.weights)
        self.chunk_rows = chunk_rows(params.n_models * len(states))

    def _joint(self, X: NDArray[Any]) -> Array:
        X = X.astype(np.float64, copy=False)
        centre, root = self.params.visible[:, None], np.sqrt(self.params.noise)[:, None]
        means = (self.means - centre) / root
        deviations = (X - centre) / root
        square = (deviations**2).sum(axis=2)[:, :, None] + (means**2).sum(axis=2)[:, None]
        square = square - 2 * np.matmul(deviations, np.swapaxes(means, 1, 2))
        log_noise = np.log(self.params.noise).mean(axis=1)[:, None, None]
        constant = 0.5 * X.shape[1] * (LOG_2PI + log_noise)
        return self.params.log_weights[:, None] - 0.5 * square - constant

    def hmax(self, X: NDArray[Any], temperature: float) -> Array:
        return tempered_logsumexp(self._joint(X), temperature)

    def hmax_gradient(self, X: NDArray[Any], temperature: float) -> tuple[Array, Array]:
        joint = self._joint(X)
        expected = np.matmul(tempered_softmax(joint, temperature), self.means)
        noise = self.params.noise[:, None]
        return tempered_logsumexp(joint, temperature), (expected - X) / noise
