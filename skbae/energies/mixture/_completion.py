"""Distributions of missing entries given the known ones, from ``condition`` of fitted models."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import ndtr, ndtri

from skbae.energies._base import require
from skbae.energies._distribution import DistributionWithDensity
from skbae.energies.mixture._components import CompletingKernel
from skbae.energies.mixture._energy import weighted_energies
from skbae.operators._draws import categorical_draws
from skbae.operators._tempered import first_maximum, log_mean_exp, tempered_logsumexp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.mixture._components import Workspace
    from skbae.energies.mixture._energy import BoundMixture

# Steps of the search for a quantile, each a Newton step or a bisection, and the relative change at
# which it ends.
_MOST_STEPS, _PRECISION = 100, 1e-12
# Largest size of the array of all components' covariances of a chunk of rows.
_MOST_NUMBERS = 1 << 22


class ConditionalDistribution(DistributionWithDensity):
    """The distribution of rows given their known entries, which are constants.

    Known entries have variance zero, and do not count in densities and entropies.
    """

    X: Array
    _takes_missing: ClassVar[bool] = True

    @property
    def _shape(self) -> tuple[int, int]:
        n_rows, size = self.X.shape
        return n_rows, size

    @abstractmethod
    def quantile(self, probability: float) -> Array:
        """Return the quantiles of the entries' marginal distributions, (N, D).

        Parameters
        ----------
        probability : float
            Between 0 and 1.
        """

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Return the central interval that holds each missing entry with a given probability.

        Parameters
        ----------
        level : float, default=0.9
            Between 0 and 1.

        Returns
        -------
        lower, upper : ndarrays of shape (N, D)
            Quantiles of the marginal distributions of the entries; known entries are both.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level!r}")
        tail = 0.5 * (1.0 - level)
        lower, upper = self.quantile(tail), self.quantile(1.0 - tail)
        return lower, upper


@dataclass(frozen=True)
class ConditionalRows(ConditionalDistribution):
    """Rows given their known entries: a mixture of normal distributions of the missing ones.

    Attributes
    ----------
    X : ndarray of shape (N, D)
        NaN where an entry is missing.
    bound : BoundMixture
        S models of incomplete rows.
    temperature : float
        1, or 0 where each row has the one component of its best code.
    """

    X: Array
    bound: BoundMixture
    temperature: float

    def _chunks(self, n_rows: int | None = None) -> Iterator[tuple[slice, Workspace, Array]]:
        """Give each chunk's rows, workspace and the log weights of its cells (S K, n)."""
        bound = self.bound
        n_rows = bound.chunk_rows if n_rows is None else n_rows
        kernel = require(bound.kernel, CompletingKernel, "missing entries")
        workspace = None
        for start in range(0, len(self.X), n_rows):
            part = slice(start, min(start + n_rows, len(self.X)))
            chunk = self.X[part]
            workspace = kernel.workspace(len(chunk), workspace)
            kernel.load(chunk, workspace)
            own, shared = weighted_energies(kernel, bound.absent, workspace, self.temperature)
            joint = bound.with_code_entropy(own, self.temperature)
            if shared is not None:
                joint = joint + shared[:, None]
            if self.temperature == 0:
                joint = _of_the_best_code(joint, float(bound.rounding.max()))
            flat = joint.reshape(-1, len(chunk))
            yield part, workspace, flat - tempered_logsumexp(flat, 1.0, axis=0)

    @property
    def _kernel(self) -> CompletingKernel:
        return require(self.bound.kernel, CompletingKernel, "missing entries")

    def _means(self, workspace: Workspace) -> Array:
        """Return the expected rows of each cell, (S K, D, n)."""
        found = self._kernel.completed(workspace)
        return found.reshape(-1, *found.shape[2:])

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which entries are missing, (N, D)."""
        return np.isnan(self.X)

    @property
    def mean(self) -> Array:
        """Expected rows, (N, D); known entries are those of X."""
        found = np.empty(self.X.shape)
        for part, workspace, log_weights in self._chunks():
            means = self._means(workspace)
            found[part] = np.einsum("jn,jdn->nd", np.exp(log_weights), means)
        return np.where(self.missing, found, self.X)

    @property
    def variance(self) -> Array:
        found = np.empty(self.X.shape)
        for part, workspace, log_weights in self._chunks():
            weights, means = np.exp(log_weights), self._means(workspace)
            centre = np.einsum("jn,jdn->dn", weights, means)
            own = self._kernel.variances(workspace, self.temperature).reshape(means.shape)
            found[part] = np.einsum("jn,jdn->nd", weights, (means - centre) ** 2)
            found[part] += _expected_moment("jn,jdn->nd", weights, own)
        return np.where(self.missing, found, 0.0)

    @property
    def covariance(self) -> Array:
        size = self.X.shape[1]
        found = np.empty((len(self.X), size, size))
        numbers = self.bound.absent.size * size**2
        n_rows = int(np.clip(_MOST_NUMBERS // numbers, 1, self.bound.chunk_rows))
        for part, workspace, log_weights in self._chunks(n_rows):
            weights, means = np.exp(log_weights), self._means(workspace)
            deviations = means - np.einsum("jn,jdn->dn", weights, means)
            own = self._kernel.covariances(workspace, self.temperature)
            own = own.reshape(-1, *own.shape[2:])
            found[part] = _expected_moment("jn,jden->nde", weights, own)
            found[part] += np.einsum(
                "jn,jdn,jen->nde", weights, deviations, deviations, optimize=True
            )
        missing = self.missing
        return found * (missing[:, :, None] & missing[:, None])

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        found = np.empty((n_samples, *self.X.shape))
        for part, workspace, log_weights in self._chunks():
            cells = categorical_draws(np.exp(log_weights).T, n_samples, rng)
            drawn = self._kernel.draw(cells, workspace, self.temperature, rng)
            found[:, part] = drawn.transpose(0, 2, 1)
        return np.where(self.missing, found, self.X)

    def quantile(self, probability: float) -> Array:
        if not 0 < probability < 1:
            raise ValueError(f"probability must be between 0 and 1, got {probability!r}")
        found = np.array(self.X, dtype=np.float64)
        for part, workspace, log_weights in self._chunks():
            missing = workspace.gaps.missing
            means = self._means(workspace)
            own = self._kernel.variances(workspace, self.temperature).reshape(means.shape)
            columns, rows = np.nonzero(missing)
            quantiles = mixture_quantiles(
                np.exp(log_weights)[:, rows],
                means[:, columns, rows],
                np.sqrt(own[:, columns, rows]),
                probability,
            )
            found[part][rows, columns] = quantiles
        return found

    def log_density(self, X: Array) -> Array:
        """Return the log density of the missing entries of each row, (..., N).

        Parameters
        ----------
        X : ndarray of shape (..., N, D)
            Values of the missing entries; of known entries only those of the distribution count.
        """
        complete = np.where(self.missing, X, self.X)
        out = np.empty(complete.shape[:-1])
        complete = complete.reshape(-1, *self.X.shape)
        flat = out.reshape(-1, len(self.X))
        for part, workspace, log_weights in self._chunks():
            known = self._own(workspace)
            for number, rows in enumerate(complete):
                joint = self.bound.joint(rows[part], self.temperature)
                # cells in which the known entries are impossible have no weight
                possible = known > -np.inf
                gain = np.zeros(known.shape)
                np.subtract(joint.reshape(known.shape), known, out=gain, where=possible)
                flat[number, part] = tempered_logsumexp(log_weights + gain, 1.0, axis=0)
        return out

    def _own(self, workspace: Workspace) -> Array:
        """Return energies of the known entries under each cell, (S K, n)."""
        joint = self.bound.joint(workspace.source, self.temperature)  # type: ignore[arg-type]
        return joint.reshape(-1, workspace.n)

    def entropy(self, n_samples: int = 1000, random_state: Any = 0) -> Array:
        """Entropy in nats of the missing entries, (N,).

        Exact where each row has a single component; otherwise minus the mean log density over
        `n_samples` draws (determined by `random_state`).
        """
        some = self.missing.any(axis=1)
        entropy = np.zeros(len(self.X))
        if not some.any():
            return entropy
        single = np.zeros(len(self.X), dtype=bool)
        for part, _, log_weights in self._chunks():
            single[part] = np.exp(log_weights.max(axis=0)) == 1
        exact = np.flatnonzero(some & single)
        if len(exact):
            own = ConditionalRows(self.X[exact], self.bound, self.temperature)
            known = ~own.missing
            # known entries count as variables of entropy zero
            unit = known / (2 * np.pi * np.e)
            whole = own.covariance + unit[:, :, None] * np.eye(self.X.shape[1])
            entropy[exact] = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * whole)[1]
        mixed = np.flatnonzero(some & ~single)
        if len(mixed):
            own = ConditionalRows(self.X[mixed], self.bound, self.temperature)
            entropy[mixed] = own._entropy_by_draws(n_samples, random_state)
        return entropy


def _expected_moment(subscripts: str, weights: Array, own: Array) -> Array:
    """Return the expectation over cells (j) of moments, which may be infinite (Student's t).

    Cells of weight zero do not count, and infinite moments of both signs have none: NaN.
    """
    infinite = np.isinf(own)
    if not infinite.any():
        return np.einsum(subscripts, weights, own, optimize=True)
    found = np.einsum(subscripts, weights, np.where(infinite, 0.0, own), optimize=True)
    weighed = (weights > 0).astype(np.float64)
    above, below = (
        np.einsum(subscripts, weighed, (own == sign * np.inf).astype(np.float64)) > 0
        for sign in (1, -1)
    )
    found[above], found[below] = np.inf, -np.inf
    found[above & below] = np.nan
    return found


def _of_the_best_code(joint: Array, rounding: float) -> Array:
    """Return energies (S, K, n) of each row's best code alone, averaged over the models."""
    best = first_maximum(log_mean_exp(joint), rounding, axis=0)
    others = np.arange(joint.shape[1])[:, None] != best
    return np.where(others, -np.inf, joint)


def mixture_quantiles(weights: Array, means: Array, scales: Array, probability: float) -> Array:
    """Return quantiles of mixtures of normal distributions.

    Parameters
    ----------
    weights, means, scales : ndarrays of shape (J, n)
        Scales are positive.
    probability : float

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> mixture_quantiles(one, 5.0 * one, 2.0 * one, 0.975).round(4).tolist()
    [8.9199]
    """
    edge = ndtri(probability)
    # the quantile lies between those of the components that have any weight
    own = means + edge * scales
    low = np.where(weights > 0, own, np.inf).min(axis=0)
    high = np.where(weights > 0, own, -np.inf).max(axis=0)
    centre = (weights * means).sum(axis=0)
    spread = np.sqrt((weights * (scales**2 + (means - centre) ** 2)).sum(axis=0))
    value = np.clip(centre + edge * spread, low, high)
    for _ in range(_MOST_STEPS):
        white = (value - means) / scales
        excess = (weights * ndtr(white)).sum(axis=0) - probability
        low, high = np.where(excess < 0, value, low), np.where(excess < 0, high, value)
        density = (weights * np.exp(-0.5 * white**2) / scales).sum(axis=0) / np.sqrt(2 * np.pi)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = value - excess / density
        inside = (step > low) & (step < high)
        new = np.where(inside, step, 0.5 * (low + high))
        done = np.abs(new - value) <= _PRECISION * (np.abs(value) + spread)
        value = new
        if done.all():
            break
    return value
