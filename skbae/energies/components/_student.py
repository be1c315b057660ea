r"""Student's t components: Gaussian ones whose rows have scales of their own.

``x = mu + u^(-1/2) L e`` with ``u ~ Gamma(nu / 2, nu / 2)`` for each row: far rows have small u,
and count little. The scale u is integrated out of the energy, so that the code is the component
alone, at any temperature; given a row and a component its expectation is ``(nu + D) / (nu +
delta)``, with delta the squared distance from the mean. The best components given codes are those
of Gaussian components with rows weighted by it (Liu and Rubin 1995), and so is the gradient.

Rows may miss all columns or none: a row that has some has a u of other degrees of freedom, which
the sums do not tell apart.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import digamma, gammaln

from skbae._types import Array, ArrayRecord
from skbae.energies.gaussian._parameters import GaussianMoments, GaussianParameters
from skbae.energies.mixture._components import (
    CompletingKernel,
    ComponentKernel,
    GradientComponentFamily,
    IncompleteFamily,
    Workspace,
    WorkspaceKey,
    interpolated,
)
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Frame
    from skbae.energies.gaussian._mixture import ConjugateGaussians

# Degrees of freedom that are learned lie between these.
LEAST_DEGREES, MOST_DEGREES = 0.5, 200.0
_STEPS = 60


@dataclass(frozen=True)
class StudentParameters(ArrayRecord):
    """Means and factors as of Gaussian components, and degrees of freedom (S, K)."""

    means: Array
    factors: Array
    degrees: Array


@dataclass(frozen=True)
class StudentMoments(ArrayRecord):
    """Sums over rows.

    Attributes
    ----------
    gaussian : GaussianMoments
        Of rows times their expected u.
    scales : ndarray of shape (S, K)
        Of the expected u.
    logs : ndarray of shape (S, K)
        Of the expected ``log u - u``.
    rows : ndarray of shape (S, K)
        Of the rows that do not miss the columns.
    """

    gaussian: GaussianMoments
    scales: Array
    logs: Array
    rows: Array


class StudentKernel(ComponentKernel):
    """The kernel of :class:`StudentComponents`, about that of the Gaussian components."""

    dtype = np.dtype(np.float64)

    def __init__(
        self,
        inner: ComponentKernel,
        log_weights: Array,
        half_log_det: Array,
        degrees: Array,
        n_features: int,
    ) -> None:
        self.inner, self.degrees, self.n_features = inner, degrees, n_features
        self.log_weights = log_weights
        half = 0.5 * (degrees + n_features)
        self.log_gaussian = half_log_det - 0.5 * n_features * LOG_2PI
        self.constant = (
            log_weights
            + half_log_det
            + gammaln(half)
            - gammaln(0.5 * degrees)
            - 0.5 * n_features * np.log(np.pi * degrees)
        )
        self.expected_log = digamma(half)
        self.numbers_per_row = inner.numbers_per_row + 3 * degrees.size
        # the slope by delta is at most (nu + D) / nu halves
        self.rounding = inner.rounding * (1.0 + n_features / degrees.min(axis=1))

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        key = WorkspaceKey("student", n_rows, self.n_features, self.dtype.str)
        same = previous is not None and previous.key == key
        workspace = previous if same and previous is not None else Workspace(key)
        workspace.arrays["inner"] = self.inner.workspace(n_rows, workspace.arrays.get("inner"))
        return workspace

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is not X:
            gone = np.isnan(X).all(axis=1)
            workspace.arrays["gone"] = gone if gone.any() else None
            # which numbers stand for what is missing does not matter
            workspace.arrays["rows"] = np.where(gone[:, None], 0.0, X) if gone.any() else X
        self.inner.load(workspace.arrays["rows"], workspace.arrays["inner"])
        workspace.source, workspace.n = X, len(X)

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        own, shared = self.inner.energies(workspace.arrays["inner"])
        logs = own.astype(np.float64, copy=False)
        if shared is not None:
            logs = logs + shared[:, None]
        degrees = self.degrees[..., None]
        squares = np.maximum(2.0 * (self.log_gaussian[..., None] - logs), 0.0)
        workspace.arrays["spread"] = degrees + squares
        half = 0.5 * (degrees + self.n_features)
        found = self.constant[..., None] - half * np.log1p(squares / degrees)
        gone = workspace.arrays["gone"]
        if gone is not None:
            found[..., gone] = self.log_weights[..., None]
        return found, None

    def zero(self) -> list[Array]:
        return [*(np.zeros(self.degrees.shape) for _ in range(4)), *self.inner.zero()]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        spread, gone = workspace.arrays["spread"], workspace.arrays["gone"]
        sums[0] += codes.sum(axis=-1)
        known = codes if gone is None else codes * ~gone
        scales = (self.degrees[..., None] + self.n_features) / spread
        weighted = known * scales
        expected_log = self.expected_log[..., None] - np.log(0.5 * spread)
        sums[1] += weighted.sum(axis=-1)
        sums[2] += (known * (expected_log - scales)).sum(axis=-1)
        sums[3] += known.sum(axis=-1)
        self.inner.accumulate(sums[4:], weighted, weighted.sum(axis=1), workspace.arrays["inner"])

    def moments(self, sums: list[Array]) -> tuple[Array, StudentMoments]:
        _, moments = self.inner.moments(sums[4:])
        return sums[0], StudentMoments(moments, sums[1], sums[2], sums[3])


class CompletingStudentKernel(StudentKernel, CompletingKernel):
    """The kernel of rows that may miss all columns."""

    family: StudentComponents
    params: StudentParameters

    def _missing(self, workspace: Workspace) -> NDArray[np.bool_]:
        gone = workspace.arrays["gone"]
        return np.zeros(workspace.n, dtype=bool) if gone is None else gone

    def completed(self, workspace: Workspace) -> Array:
        rows = np.asarray(workspace.source, np.float64).T
        return np.where(self._missing(workspace), self.params.means[..., None], rows)

    def covariances(self, workspace: Workspace, temperature: float) -> Array:
        own = self.family.covariances(self.params)
        return np.where(self._missing(workspace), own[..., None], 0.0)

    def variances(self, workspace: Workspace, temperature: float) -> Array:
        own = np.diagonal(self.family.covariances(self.params), axis1=2, axis2=3)
        return np.where(self._missing(workspace), own[..., None], 0.0)

    def draw(
        self,
        cells: NDArray[np.intp],
        workspace: Workspace,
        temperature: float,
        rng: np.random.Generator,
    ) -> Array:
        models, labels = np.divmod(cells, self.degrees.shape[1])
        flat = self.family.draw(self.params, models.ravel(), labels.ravel(), rng)
        drawn = np.moveaxis(flat.reshape(*cells.shape, -1), -1, 1)
        rows = np.asarray(workspace.source, np.float64).T
        return np.where(self._missing(workspace), drawn, rows)

    def accumulate_drawn(
        self, sums: list[Array], codes: NDArray[Any], rows: Array, workspace: Workspace
    ) -> None:
        self.accumulate(sums, codes, None, workspace)

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        raise ValueError("Student's t components have no gradients in x")


class StudentComponents(GradientComponentFamily, IncompleteFamily):
    """Student's t components of one covariance shape, tied or not.

    Parameters
    ----------
    gaussian : GaussianComponents
        The components whose rows are scaled; with a prior, those of `ConjugateGaussians`.
    degrees : float or None
        Degrees of freedom of all components; None learns those of each.
    """

    def __init__(self, gaussian: Any, degrees: float | None) -> None:
        self.gaussian: ConjugateGaussians = gaussian
        self.degrees = degrees
        self.n_components, self.n_features = gaussian.n_components, gaussian.n_features
        self._kernel_class: type[StudentKernel] = StudentKernel

    def of_incomplete_rows(self) -> Self:
        family = copy(self)
        family._kernel_class = CompletingStudentKernel
        return family

    def covariances(self, params: StudentParameters) -> Array:
        """Return the covariances (S, K, D, D); infinite for at most two degrees of freedom."""
        shape = self.gaussian.shape
        scales = shape.expand(shape.covariances(params.factors))
        degrees = params.degrees
        with np.errstate(divide="ignore"):
            larger = np.where(degrees > 2, degrees / np.maximum(degrees - 2, 0), np.inf)
        scales = np.broadcast_to(scales, (*degrees.shape, *scales.shape[-2:]))
        with np.errstate(invalid="ignore"):
            found = larger[..., None, None] * scales
        return np.where(scales == 0, 0.0, found)

    @property
    def reg_covar(self) -> Any:
        """What is added to the variances."""
        return self.gaussian.reg_covar

    def plain(self, params: StudentParameters) -> GaussianParameters:
        """Return the Gaussian components of the same means and scales."""
        return GaussianParameters(params.means, params.factors)

    def of(self, params: GaussianParameters, degrees: Array | None = None) -> StudentParameters:
        """Return components of such means and scales; 10 degrees of freedom where not fixed."""
        if degrees is None:
            value = 10.0 if self.degrees is None else self.degrees
            degrees = np.full(params.means.shape[:2], value)
        return StudentParameters(params.means, params.factors, degrees)

    def kernel(
        self, log_weights: Array, params: StudentParameters, frame: Frame, dtype: Any
    ) -> StudentKernel:
        plain = self.plain(params)
        inner = self.gaussian.kernel(np.zeros_like(log_weights), plain, frame, np.float64)
        half_log_det = self.gaussian.shape.half_log_det(params.factors)
        half_log_det = np.broadcast_to(half_log_det, log_weights.shape)
        kernel = self._kernel_class(
            inner, log_weights, half_log_det, params.degrees, self.n_features
        )
        if isinstance(kernel, CompletingStudentKernel):
            kernel.family, kernel.params = self, params
        return kernel

    def maximise(
        self, counts: Array, moments: StudentMoments, params: StudentParameters, temperature: float
    ) -> StudentParameters:
        found = self.gaussian.maximise(
            moments.scales, moments.gaussian, self.plain(params), temperature
        )
        # the scatter belongs to all rows, and not to the sum of their scales
        rows, scales = moments.rows, moments.scales
        if self.gaussian.tied:
            rows, scales = rows.sum(axis=1, keepdims=True), scales.sum(axis=1, keepdims=True)
        alive = (rows > 0) & (scales > 0)
        ratio = np.where(alive, rows, 1.0) / np.where(alive, scales, 1.0)
        tail = (1,) * (found.factors.ndim - 2)
        factors = found.factors * np.sqrt(ratio).reshape(*ratio.shape, *tail)
        degrees = params.degrees
        if self.degrees is None:
            own = moments.rows > 0
            mean = moments.logs / np.where(own, moments.rows, 1.0)
            degrees = np.where(own, _best_degrees(mean), degrees)
        return StudentParameters(found.means, factors, degrees)

    def expected_moments(
        self, counts: Array, params: StudentParameters, like: StudentMoments, temperature: float
    ) -> StudentMoments:
        plain = self.plain(params)
        moments = self.gaussian.expected_moments(counts, plain, like.gaussian, temperature)
        half = 0.5 * params.degrees
        logs = counts * (digamma(half) - np.log(half) - 1.0)
        return StudentMoments(moments, counts, logs, counts)

    def mix_moments(
        self, first: StudentMoments, second: StudentMoments, step: Array
    ) -> StudentMoments:
        return StudentMoments(
            self.gaussian.mix_moments(first.gaussian, second.gaussian, step),
            interpolated(first.scales, second.scales, step),
            interpolated(first.logs, second.logs, step),
            interpolated(first.rows, second.rows, step),
        )

    def draw(
        self,
        params: StudentParameters,
        models: NDArray[np.intp],
        labels: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        rows = self.gaussian.draw(self.plain(params), models, labels, rng)
        means, half = params.means[models, labels], 0.5 * params.degrees[models, labels]
        scales = rng.standard_gamma(half) / half
        return means + (rows - means) / np.sqrt(scales)[:, None]

    def n_parameters(self) -> int:
        return self.gaussian.n_parameters() + (self.n_components if self.degrees is None else 0)

    # -- the prior, in coordinates, for fixed degrees of freedom ----------------------------------

    def coordinate_kinds(self) -> NDArray[np.intp]:
        return self.gaussian.coordinate_kinds()

    def unconstrain(self, params: StudentParameters) -> Array:
        return self.gaussian.unconstrain(self.plain(params))

    def constrain(self, theta: Array) -> StudentParameters:
        return self.of(self.gaussian.constrain(theta))

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        return self.gaussian.log_prior_at(theta)

    def energy_gradient(
        self, theta: Array, counts: Array, moments: StudentMoments, temperature: float
    ) -> Array:
        scales = moments.scales
        gradient = self.gaussian.energy_gradient(theta, scales, moments.gaussian, temperature)
        # determinants belong to all rows: the gradient of theirs is that of a component at which
        # rows have no scatter
        zeros = GaussianMoments(
            np.zeros_like(moments.gaussian.first),
            np.zeros_like(moments.gaussian.second),
            self.gaussian.constrain(theta).means,
        )
        more = moments.rows - scales
        return gradient + self.gaussian.energy_gradient(theta, more, zeros, temperature)

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        return self.gaussian.draw_prior_coordinates(n_models, rng)


def _best_degrees(mean: Array) -> Array:
    """Return degrees of freedom nu with ``digamma(nu/2) - log(nu/2) - 1 = mean``, by bisection.

    The left side increases with nu, up to -1.
    """
    low, high = np.full(mean.shape, LEAST_DEGREES), np.full(mean.shape, MOST_DEGREES)
    for _ in range(_STEPS):
        middle = np.sqrt(low * high)
        below = digamma(0.5 * middle) - np.log(0.5 * middle) - 1.0 < mean
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.sqrt(low * high)
