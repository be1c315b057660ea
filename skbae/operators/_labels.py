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


def label_certainty(codes: Array, reference: Array) -> Array:
    """Return how sure it is which label of S matched models is which label of a reference, (K,).

    For each pair of labels k and l it is the correlation, over rows, of the difference of their
    codes in a model with that in the reference, negative where the labels are exchanged. Rows count
    as much as the reference gives them to either. It is cut off at 0, and averaged over models; of
    label k it is that of the l for which it is least.

    Parameters
    ----------
    codes : ndarray of shape (S, K, N)
        Soft labels of rows under each model, in matching order.
    reference : ndarray of shape (K, N)

    Returns
    -------
    ndarray of shape (K,)
        1 where labels are sure, 0 where they are arbitrary.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.array([[0.9, 0.8, 0.1], [0.1, 0.2, 0.9]])
    >>> label_certainty(codes[None], codes).round(12).tolist()
    [1.0, 1.0]
    >>> label_certainty(codes[None, ::-1], codes).round(12).tolist()
    [0.0, 0.0]
    """
    n_labels = len(reference)
    certainty = np.ones((n_labels, n_labels))
    for k in range(n_labels):
        for other in range(k):
            ours, theirs = reference[k] - reference[other], codes[:, k] - codes[:, other]
            found = _correlation(theirs, ours, reference[k] + reference[other])
            certainty[k, other] = certainty[other, k] = np.maximum(found, 0.0).mean()
    return certainty.min(axis=1)


def _correlation(values: Array, others: Array, weights: Array) -> Array:
    """Return the weighted correlations of (S, N) values with (N,) others; 0 for constant ones."""
    total = weights.sum()
    if total <= 0:
        return np.zeros(len(values))
    weights = weights / total
    values = values - (values @ weights)[:, None]
    others = others - others @ weights
    scale = np.sqrt((values**2 @ weights) * (others**2 @ weights))
    products = values @ (weights * others)
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 1e-9)
