"""Base classes of distributions of codes and rows, from ``encode`` and ``decode``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.operators._floating import own_errors
from skbae.operators._random import as_generator

if TYPE_CHECKING:
    from skbae._types import Array

_PROPERTIES = ("mean", "variance", "covariance")
_METHODS = ("entropy", "log_density", "_draw")


class Distribution(ABC):
    """A distribution of a vector of length E for each of N rows: a code, or a row of features.

    Rows are independent of each other. A family implements :attr:`mean`, :attr:`covariance`,
    :meth:`entropy` and :meth:`_draw`, and :attr:`variance` if it is cheaper to compute than the
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
    """A distribution whose log density (or log probability) can be computed at any vector."""

    @abstractmethod
    def log_density(self, X: Array) -> Array:
        """Return the log density of vectors, each under the distribution of its own row.

        Parameters
        ----------
        X : ndarray of shape (..., N, E)

        Returns
        -------
        ndarray of shape (..., N)
            In nats.
        """

    def _entropy_by_draws(self, n_samples: int, random_state: Any) -> Array:
        """Estimate the entropy (N,) by the mean of minus the log density over draws."""
        return -self.log_density(self.sample(n_samples, random_state)).mean(axis=0)
