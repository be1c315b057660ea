"""Labels of components: as memberships, and matched to another model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


def match_labels(overlaps: Array) -> NDArray[np.intp]:
    """Return, for each label of a reference, the label that overlaps it most (one to one).

    Parameters
    ----------
    overlaps : ndarray of shape (S, K, K)
        ``[s, k, j]`` is the overlap of label j of model s with label k of the reference.

    Returns
    -------
    ndarray of int of shape (S, K)
        The matching with the largest total overlap (Kuhn 1955).

    Examples
    --------
    >>> import numpy as np
    >>> match_labels(np.array([[[0.1, 0.9], [0.8, 0.2]]])).tolist()
    [[1, 0]]
    """
    return np.stack([linear_sum_assignment(-overlap)[1] for overlap in overlaps])


def one_hot(labels: NDArray[np.intp], n_components: int) -> Array:
    """Return memberships (S, K, N) of labels (S, N).

    Examples
    --------
    >>> import numpy as np
    >>> one_hot(np.array([[1, 0, 1]]), 2).tolist()
    [[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]]
    """
    memberships = np.empty((len(labels), n_components, labels.shape[1]))
    for k in range(n_components):
        np.equal(labels, k, out=memberships[:, k])
    return memberships
