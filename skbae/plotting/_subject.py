"""What is drawn: fitted estimators, alone or at the end of a Pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skbae.model_selection._pipelines import unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skbae.estimators._base import BayesianAutoEncoder


def fitted_autoencoder(estimator: Any, caller: str) -> BayesianAutoEncoder[Any, Any]:
    """Return the fitted estimator of skbae that a Pipeline or a search ends with, or raise."""
    check_is_fitted(estimator)
    _, last = unpack(estimator, caller)
    check_is_fitted(last)
    return last


def feature_names(estimator: Any, n_features: int) -> list[str]:
    """Return the names of the columns: those of a data frame, or numbers."""
    return [str(name) for name in getattr(estimator, "feature_names_in_", range(n_features))]


def feature_numbers(features: Any, names: Sequence[str], sizes: tuple[int, ...]) -> list[int]:
    """Return the numbers of columns, given by number or by name, or raise ValueError."""
    given = [features] if isinstance(features, str) or np.ndim(features) == 0 else list(features)
    numbers = [names.index(each) if each in names else each for each in given]
    known = all(
        isinstance(each, int | np.integer) and 0 <= each < len(names) for each in numbers
    ) and len(set(numbers)) == len(numbers)
    if not known or len(numbers) not in sizes:
        many = " or ".join(str(size) for size in sizes)
        raise ValueError(
            f"features must be {many} different numbers or names of columns, of which there are "
            f"{len(names)}, got {features!r}"
        )
    return [int(each) for each in numbers]


def numbers_of(X: Any, columns: Sequence[int]) -> NDArray[Any]:
    """Return these columns of rows as numbers."""
    rows = np.asarray(X)
    return np.asarray(rows[:, list(columns)], dtype=np.float64)
