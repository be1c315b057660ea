"""Missing entries of rows: what fitted models say of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._fitted import DetailsT
from skbae.estimators._transaction import SettingsT
from skbae.operators._floating import own_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae.energies.mixture._completion import ConditionalDistribution


class CompletingAutoEncoder(BayesianAutoEncoder[SettingsT, DetailsT]):
    """Base of the estimators that take rows with missing entries, NaN.

    Entries are assumed to be missing at random: that they are missing says nothing but what the
    known entries of the row say.
    """

    @property
    def _takes_missing(self) -> bool:
        return True

    @abstractmethod
    def _condition_rows(
        self, params: Any, X: NDArray[Any], temperature: float
    ) -> ConditionalDistribution:
        """Return the distribution of rows given their known entries, at T = 1 or 0, by models."""

    @own_errors()
    def condition(self, X: Any) -> ConditionalDistribution:
        """Return the distribution of the missing entries of each row, given the known ones.

        It is the answer to questions of the kind "y given x": put NaN where the answer goes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN where an entry is missing.

        Returns
        -------
        ConditionalDistribution
            With ``mean``, ``variance``, ``covariance``, ``sample``, ``interval``, ``quantile``,
            ``log_density`` and ``entropy``; known entries are constants. It is averaged over the
            kept models, and over codes at T = 1; of a fit at ``temperature=0``, it is that given
            the best code.
        """
        return self._conditional(self._read_rows(X))

    def _conditional(self, X: NDArray[Any]) -> ConditionalDistribution:
        temperature = 0.0 if self._fitted.temperature == 0 else 1.0
        return self._condition_rows(
            self._parameters(), X.astype(np.float64, copy=False), temperature
        )

    def _expected_clean(self, noisy: Any, X: NDArray[Any], variance: float) -> NDArray[Any]:
        clean, gaps = super()._expected_clean(noisy, X, variance), np.isnan(X)
        some = gaps.any(axis=1)
        if some.any():
            rows = X[some].astype(np.float64, copy=False)
            clean[some] = np.where(
                gaps[some], self._condition_rows(noisy, rows, 1.0).mean, clean[some]
            )
        return clean

    @own_errors()
    def impute(self, X: Any) -> NDArray[Any]:
        """Return rows with missing entries replaced by their expectation given the known ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN where an entry is missing.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Known entries are those of X; float32 for float32 rows. See :meth:`condition` for what
            else there is to know of the missing ones.
        """
        X = self._read_rows(X)
        filled, gaps = X.copy(), np.isnan(X)
        some = gaps.any(axis=1)
        if some.any():
            filled[some] = np.where(gaps[some], self._conditional(X[some]).mean, X[some])
        return filled
