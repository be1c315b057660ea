"""Information criteria of single models whose parameters can be counted."""

from __future__ import annotations

from typing import Any

import numpy as np

from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._checks import check_sample_weight
from skbae.estimators._fitted import DetailsT
from skbae.estimators._pieces import sparse_or_as_given
from skbae.estimators._transaction import SettingsT
from skbae.operators._floating import own_errors


class InformationCriteria(BayesianAutoEncoder[SettingsT, DetailsT]):
    """Base of the estimators with ``aic`` and ``bic``, in which all parameters of a model count.

    Of networks and machines with superfluous units, fewer parameters matter than there are: both
    criteria are then too large.
    """

    @own_errors()
    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Return the Bayesian information criterion of the density at T = 1 (lower is better).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_weight : array-like of shape (n_samples,) or None, default=None
            How many rows each row counts as, in the number of rows too.

        Returns
        -------
        float
        """
        log_likelihood, n_rows = self._log_likelihood(X, sample_weight, "bic")
        return -2.0 * log_likelihood + self._energy().n_parameters() * float(np.log(n_rows))

    @own_errors()
    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Return Akaike's information criterion of the density at T = 1 (lower is better).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_weight : array-like of shape (n_samples,) or None, default=None
            How many rows each row counts as.

        Returns
        -------
        float
        """
        log_likelihood, _ = self._log_likelihood(X, sample_weight, "aic")
        return -2.0 * log_likelihood + 2.0 * self._energy().n_parameters()

    def _log_likelihood(self, X: Any, sample_weight: Any, method: str) -> tuple[float, float]:
        """Return the log density of all rows at T = 1, and how many rows they count as."""
        X = self._read_rows(sparse_or_as_given(X, self))
        self._require_density(method)
        values = self._score_rows(X, 1.0)
        weights = check_sample_weight(sample_weight, len(values))
        if weights is None:
            return float(values.sum()), float(len(values))
        used = weights > 0
        return float(values[used] @ weights[used]), float(weights.sum())
