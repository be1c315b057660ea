"""Base classes of distributions of codes and rows, from ``encode`` and ``decode``."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae.operators._floating import own_errors
from skbae.operators._random import as_generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array

_PROPERTIES = ("mean", "variance", "covariance")
_METHODS = ("entropy", "log_density", "_draw")


class Distribution(ABC):
    """A distribution of a vector of length E for each of N rows: a code, or a row of features.

    Rows are independent of each other. A family implements :attr:`mean`, :attr:`covariance`,
    :meth:`entropy` and ``_draw``, and :attr:`variance` if it is cheaper to compute than the
    covariance.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let all computations have this package's floating-point errors, not the caller's."""
        super().__init_subclass__(**kwargs)
        for name, member in list(vars(cls).items()):
            if name in _PROPERTIES and isinstance(member, property) and member.fget is not None:
                setattr(cls, name, property(own_errors()(member.fget)))
            elif name in _METHODS:
                setattr(cls, name, own_errors()(member))

    @property
    @abstractmethod
    def mean(self) -> Array:
        """Expected vector of each row, (N, E)."""

    @property
    def variance(self) -> Array:
        """Variance of each entry, (N, E)."""
        return np.diagonal(self.covariance, axis1=1, axis2=2).copy()

    @property
    @abstractmethod
    def covariance(self) -> Array:
        """Covariance of the entries, (N, E, E)."""

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Array:
        """Draw vectors.

        Parameters
        ----------
        n_samples : int, default=1
            Number of draws for each row.
        random_state : None, int, RandomState or Generator, default=None
            With None, each call gives different draws.

        Returns
        -------
        ndarray of shape (n_samples, N, E)
        """
        whole = isinstance(n_samples, numbers.Integral) and not isinstance(n_samples, bool)
        if not whole or n_samples < 1:
            error = ValueError if whole else TypeError
            raise error(f"n_samples must be an integer >= 1, got {n_samples!r}")
        return self._draw(n_samples, as_generator(random_state))

    @abstractmethod
    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        """Return draws of shape (n_samples, N, E)."""

    @abstractmethod
    def entropy(self) -> Array:
        """Return the entropy in nats, (N,), of probabilities (if discrete) or densities (if not).

        Entries of zero variance are constants and contribute nothing.
        """


class DistributionWithDensity(Distribution):
    """A distribution whose log density (or log probability) can be computed at any vector.

    Implementations of :meth:`log_density` are given vectors that have been checked.
    """

    _takes_missing: ClassVar[bool] = False  # whether NaN is an entry that does not count

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let vectors be checked before their densities are computed."""
        super().__init_subclass__(**kwargs)
        if "log_density" in vars(cls):
            cls.log_density = _of_checked_vectors(cls.log_density)  # type: ignore[method-assign]

    @property
    def _shape(self) -> tuple[int, int]:
        """The number of rows N, and the length E of their vectors."""
        n_rows, size = self.mean.shape
        return n_rows, size

    @abstractmethod
    def log_density(self, X: Array) -> Array:
        """Return the log density of vectors, each under the distribution of its own row.

        Parameters
        ----------
        X : array-like of shape (..., N, E)
            Finite numbers.

        Returns
        -------
        ndarray of shape (..., N)
            In nats.

        Raises
        ------
        ValueError
            If X has another shape, or holds something else.
        """

    def _entropy_by_draws(self, n_samples: int, random_state: Any) -> Array:
        """Estimate the entropy (N,) by the mean of minus the log density over draws."""
        return -self.log_density(self.sample(n_samples, random_state)).mean(axis=0)


def _of_checked_vectors(log_density: Callable[..., Array]) -> Callable[..., Array]:
    """Return a method that computes densities of finite vectors of the right shape only."""

    @wraps(log_density)
    def checked(self: DistributionWithDensity, X: Any) -> Array:
        try:
            vectors = np.asarray(X, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"X must hold numbers, got {type(X).__name__}: {error}") from error
        n_rows, size = self._shape
        # one row may be meant for all distributions
        if vectors.ndim < 2 or vectors.shape[-1] != size or vectors.shape[-2] not in (1, n_rows):
            raise ValueError(
                f"X must have shape (..., {n_rows}, {size}), a vector of length {size} for each of "
                f"{n_rows} rows, got {vectors.shape}"
            )
        bad = np.isinf(vectors) if self._takes_missing else ~np.isfinite(vectors)
        if bad.any():
            what = "NaN" if np.isnan(vectors[bad][0]) else "infinity"
            raise ValueError(f"X must be finite, got {what}")
        return log_density(self, np.broadcast_to(vectors, (*vectors.shape[:-2], n_rows, size)))

    return checked
