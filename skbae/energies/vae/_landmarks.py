"""Codes from which searches for those of other rows start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.distance import cdist

from skbae.energies.vae._network import Scratch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.vae._decoder import Decoder

# For each row so many searches start from codes of high energy, and so many from codes from which
# a step promises a high one.
_N_HIGH, _N_PROMISING = 3, 3
# One code in so many is among the nearest of another, from which no second search starts; fewer are
# too near to the codes of high energy.
_NEAREST_SHARE, _VERY_NEAR_SHARE = 8, 64
# Rows are compared with codes in chunks of so many numbers.
_ENTRIES = 1 << 20
# Precisions have at least this share of their mean on the diagonal.
_LEAST_PRECISION = 1e-12


def starts_among(decoder: Decoder, theta: Array, X: Array, codes: Array) -> list[Array]:
    """Return some of K codes for each row, from which to search for the best code of the row.

    Half of them have the highest energies. From the others a Gauss-Newton step would lead to the
    highest energies if the network were linear; in three and more dimensions, where no code is near
    that of another row, these lead to better modes. In either half, the next code is the best that
    is not among the nearest of those before.

    Parameters
    ----------
    decoder : Decoder
    theta : ndarray of shape (1, P)
    X : ndarray of shape (n, D)
    codes : ndarray of shape (K, d)

    Returns
    -------
    list of ndarrays of shape (n, d)
    """
    near = cdist(codes, codes).argsort(axis=1, kind="stable")
    values = _Values(decoder, theta, codes)
    size = max(_ENTRIES // (len(codes) * X.shape[1]), 1)
    chunks = [_chosen(near, *values(X[at : at + size])) for at in range(0, len(X), size)]
    chosen = np.concatenate(chunks, axis=1) if chunks else np.empty((0, 0), np.intp)
    return [codes[each] for each in chosen]


def _chosen(near: NDArray[np.intp], energies: Array, promised: Array) -> NDArray[np.intp]:
    """Return the indices of codes, (number of starts, n), given what is known of (n, K)."""
    size = near.shape[1]
    shares = (_NEAREST_SHARE, _VERY_NEAR_SHARE)
    nearest, very_near = (near[:, : size // share + 1] for share in shares)
    found = []
    for _ in range(_N_HIGH):
        best = energies.argmax(axis=1)
        found.append(best)
        np.put_along_axis(energies, nearest[best], -np.inf, axis=1)
        np.put_along_axis(promised, very_near[best], -np.inf, axis=1)
    for _ in range(_N_PROMISING):
        best = promised.argmax(axis=1)
        found.append(best)
        np.put_along_axis(promised, nearest[best], -np.inf, axis=1)
    return np.stack(found)


class _Values:
    """Energies of codes for rows, and what a Gauss-Newton step promises."""

    def __init__(self, decoder: Decoder, theta: Array, codes: Array) -> None:
        self.decoder, (layers, self.extra) = decoder, decoder.split(theta)
        outputs = decoder.network.forward(layers, codes[None], Scratch())
        self.outputs = outputs[-1].copy()
        jacobian = decoder.network.jacobian(layers, outputs)[0]
        weights = decoder.rows.curvature(self.outputs[:, None], self.extra)[0, 0]
        own = float(decoder.code_precision)
        weighted = jacobian * np.broadcast_to(weights, self.outputs[0].shape)[:, None]
        precision = np.matmul(weighted, np.swapaxes(jacobian, 1, 2))
        size = np.einsum("kii->k", precision) / codes.shape[1]
        precision += (own + _LEAST_PRECISION * size)[:, None, None] * np.eye(codes.shape[1])
        whitened = np.linalg.inv(np.linalg.cholesky(precision))
        self.reading = np.swapaxes(np.matmul(whitened, jacobian), 1, 2)
        self.pull = own * np.matmul(whitened, codes[:, :, None])[..., 0]
        self.log_prior = decoder.log_code_prior(codes)

    def __call__(self, X: NDArray[Any]) -> tuple[Array, Array]:
        """Return energies and promised ones of rows (n, D), both (n, K)."""
        shape = (1, self.outputs.shape[1], *X.shape)
        each_row = np.broadcast_to(self.outputs[:, :, None], shape).copy()
        value, slope = self.decoder.rows.log_density(X, each_row, self.extra, Scratch())
        energies = (value[0] + self.log_prior[:, None]).T
        steps = np.matmul(slope[0], self.reading) - self.pull[:, None]
        return energies, energies + 0.5 * np.einsum("knd,knd->nk", steps, steps)
