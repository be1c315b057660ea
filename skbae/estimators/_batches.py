"""Base class of the estimators that are fitted to batches of rows, with ``partial_fit``."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.metaestimators import available_if

from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._checks import supports_partial_fit
from skbae.estimators._fitted import DetailsT, Fit
from skbae.estimators._pieces import sparse_or_as_given
from skbae.estimators._transaction import SettingsT
from skbae.inference.passes._sources import SparseTable
from skbae.operators._sparse import SparseRows

if TYPE_CHECKING:
    from typing import Self

    from skbae._types import Rows
    from skbae.inference.passes._rows import RowRunner


class BatchAutoEncoder(BayesianAutoEncoder[SettingsT, DetailsT]):
    """Base of the estimators with ``partial_fit``."""

    @abstractmethod
    def _fit_batch(
        self,
        settings: SettingsT,
        rows: Rows,
        rng: np.random.Generator,
        runner: RowRunner,
    ) -> Fit[DetailsT]:
        """Make one pass over rows, starting from the fitted model if there is one."""

    @abstractmethod
    def _check_same_shape(self, settings: SettingsT, n_features: int, what: str) -> None:
        """Raise ValueError unless the fitted model has the shape that the settings describe.

        `what` is the method or parameter that requires it, for the message.
        """

    def _needs_all_rows(self) -> str:
        """Return why the constructor's parameters rule out batches, or an empty text."""
        return ""

    def _check_warm_start(self, settings: SettingsT, n_features: int) -> None:
        self._check_same_shape(settings, n_features, "warm_start=True")

    def _check_before_batch(self, settings: SettingsT, n_rows: int, n_features: int) -> None:
        stream = self._fitted.stream if hasattr(self, "models_") else None
        self._check_data(settings, n_rows + (0 if stream is None else stream.n_rows), n_features)
        if hasattr(self, "models_"):
            self._check_same_shape(settings, n_features, "partial_fit")

    def _next_batch(
        self, settings: SettingsT, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[DetailsT]:
        before = self._fitted.stream if hasattr(self, "models_") else None
        found = self._fit_batch(settings, rows, rng, runner)
        if found.stream is not None or before is None:
            return found
        return replace(found, stream=before.after(rows))

    @property
    def n_samples_seen_(self) -> int:
        """Number of rows fitted to, those of all calls of ``partial_fit`` among them."""
        stream = self._fitted.stream if hasattr(self, "models_") else None
        if stream is None:
            raise AttributeError(
                f"this {type(self).__name__} has no n_samples_seen_: it has not been fitted to rows"
            )
        return stream.n_rows

    @available_if(supports_partial_fit)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from a batch of rows, starting from the fitted model if there is one.

        Available with ``model_temperature=0`` only, since sampling needs all rows at once. The rows
        of the first call (or of an earlier ``fit``) should be representative: the model starts from
        them. Networks make one pass over the batch, at the constant learning rate
        `learning_rate_init`, and hold no rows out; mixtures make steps of expectation maximisation
        that become shorter with `learning_decay`; PCA adds to the moments of all rows so far, so
        that it is the same as one fit to all of them. Attributes computed on training rows, such as
        `hmaxe_`, refer to the rows of the latest call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        self : object

        Raises
        ------
        TypeError, ValueError
            As for :meth:`fit`. The estimator is left as it was before the call.
        """
        with self._transaction():
            settings = self._check_parameters()
            first = not hasattr(self, "models_")
            if not first:
                self._check_usable()
            finite = "allow-nan" if self._takes_missing else True
            X = sparse_or_as_given(X, self)
            X = self._validated(X, reset=first, ensure_all_finite=finite)
            X = SparseTable(X) if isinstance(X, SparseRows) else X
            self._work_on(
                settings.of_rows(X), X, sample_weight, self._next_batch, self._check_before_batch
            )
        return self
