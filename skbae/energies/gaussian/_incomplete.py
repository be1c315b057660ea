r"""Gaussian components of rows with missing entries.

The energy of a row is the log density of its known entries. With precision P, and deviations d from
the mean in which zeros stand for the missing entries m, it follows from that of complete rows:

``d' P d - b' P_mm^-1 b`` with ``b = (P d)_m``, and ``log det S_oo = log det S + log det P_mm``,

so that only matrices of the size of a row's gaps are inverted. Given the others, the missing
entries have the deviations ``-P_mm^-1 b`` and the covariance ``P_mm^-1``: sums over rows add these
to the known ones, which makes them the expected sums of complete rows.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.gaussian._covariance import Diagonal, Full, Spherical
from skbae.energies.gaussian._parameters import GaussianMoments
from skbae.energies.mixture._components import CompletingKernel, Workspace, WorkspaceKey
from skbae.operators._constants import LOG_2PI
from skbae.operators._gaps import Gaps
from skbae.operators._small_matrices import inverses, lower_factors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame
    from skbae.energies.gaussian._covariance import CovarianceShape
    from skbae.energies.gaussian._parameters import GaussianParameters


class IncompleteKernel(CompletingKernel):
    """Base of the kernels of rows with gaps: deviations from the means, in double precision."""

    dtype = np.dtype(np.float64)

    def __init__(
        self,
        shape: CovarianceShape,
        tied: bool,
        log_weights: Array,
        params: GaussianParameters,
        frame: Frame,
        dtype: Any,
    ) -> None:
        self.shape, self.tied, self.params = shape, tied, params
        self.log_weights = log_weights
        self.n_models, self.n_components = log_weights.shape
        self.rounding = np.zeros(self.n_models)
        self.numbers_per_row = 2 * log_weights.size * shape.n_features

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        name = f"gaussian gaps {self.shape.name}"
        key = WorkspaceKey(name, n_rows, self.shape.n_features, self.dtype.str)
        if previous is None or previous.key != key:
            previous = Workspace(key)
        return previous

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is not X:
            workspace.gaps = Gaps(X)
            workspace.source, workspace.n = X, len(X)

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        gaps = workspace.gaps
        deviations = gaps.filled - self.params.means[..., None]
        deviations *= gaps.observed
        workspace.arrays["deviations"] = deviations
        own = self._energies(deviations, gaps, workspace)
        own += self.log_weights[..., None]
        return own, None

    @abstractmethod
    def _energies(self, deviations: Array, gaps: Gaps, workspace: Workspace) -> Array:
        """Return log densities (S, K, n), and complete the deviations (S, K, D, n) in place."""

    def zero(self) -> list[Array]:
        means = self.params.means
        return [
            np.zeros(means.shape[:2]),
            np.zeros(means.shape),
            np.zeros(self.params.factors.shape),
        ]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        self._add(sums, codes, workspace.arrays["deviations"])
        self._add_spread(sums[2], codes, workspace)

    def accumulate_drawn(
        self, sums: list[Array], codes: NDArray[Any], rows: Array, workspace: Workspace
    ) -> None:
        self._add(sums, codes, rows[:, None] - self.params.means[..., None])

    def _add(self, sums: list[Array], codes: Array, deviations: Array) -> None:
        """Add counts, sums and moments of deviations (S, K, D, n)."""
        sums[0] += codes.sum(axis=-1)
        weighted = deviations * codes[:, :, None]
        sums[1] += weighted.sum(axis=-1)
        moments = self._moment(weighted, deviations)
        sums[2] += moments.sum(axis=1, keepdims=True) if self.tied else moments

    @abstractmethod
    def _moment(self, weighted: Array, deviations: Array) -> Array:
        """Return the moments of weighted deviations, (S, K) + tail."""

    @abstractmethod
    def _add_spread(self, second: Array, codes: Array, workspace: Workspace) -> None:
        """Add the moments of what missing entries vary by, given the known ones."""

    def moments(self, sums: list[Array]) -> tuple[Array, GaussianMoments]:
        return sums[0], GaussianMoments(sums[1], sums[2], self.params.means)

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        workspace = self.workspace(len(X))
        self.load(X, workspace)
        self.energies(workspace)
        pull = self._pull(workspace.arrays["deviations"])
        gradient = -np.einsum("skn,skdn->snd", codes, pull)
        return gradient * workspace.gaps.observed.T

    @abstractmethod
    def _pull(self, deviations: Array) -> Array:
        """Return ``P d`` of deviations (S, K, D, n)."""

    def completed(self, workspace: Workspace) -> Array:
        return workspace.arrays["deviations"] + self.params.means[..., None]

    def draw(
        self,
        cells: NDArray[np.intp],
        workspace: Workspace,
        temperature: float,
        rng: np.random.Generator,
    ) -> Array:
        gaps = workspace.gaps
        means = self.params.means.reshape(-1, self.shape.n_features)
        flat = workspace.arrays["deviations"].reshape(*means.shape, workspace.n)
        found = flat[cells, :, np.arange(workspace.n)] + means[cells]
        rows = np.ascontiguousarray(found.transpose(0, 2, 1))
        self._add_noise(rows, cells, gaps, workspace, rng)
        return rows

    @abstractmethod
    def _add_noise(
        self,
        rows: Array,
        cells: NDArray[np.intp],
        gaps: Gaps,
        workspace: Workspace,
        rng: np.random.Generator,
    ) -> None:
        """Add to rows (R, D, n) what their missing entries vary by, given the known ones."""

    def _of_cells(self, cells: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the numbers of the covariances of cells, which are counted over (S, K)."""
        return cells // self.n_components if self.tied else cells


class RegressionKernel(IncompleteKernel):
    """Full covariances: missing entries follow from the known ones by regression."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        factors = self.params.factors
        self.precisions = self.shape.precisions(factors)
        half = self.shape.half_log_det(factors) - 0.5 * self.shape.n_features * LOG_2PI
        self.constant = np.broadcast_to(half, self.log_weights.shape)

    def _energies(self, deviations: Array, gaps: Gaps, workspace: Workspace) -> Array:
        size, n = deviations.shape[2:]
        cells = (self.n_models, self.n_components)
        pull = self._pull(deviations)
        energies = -0.5 * np.einsum("skdn,skdn->skn", deviations, pull)
        energies += self.constant[..., None]
        spreads = []
        flat, pulls = deviations.reshape(*cells, size * n), pull.reshape(*cells, size * n)
        table = self.precisions.reshape(*self.precisions.shape[:2], size * size)
        for group in gaps.groups:
            index = group.columns[:, None] * size + group.columns
            spread, log_det = inverses(table.take(index, axis=2))
            spreads.append(spread)
            own = pulls.take(group.cells, axis=2)
            steps = -_applied(group.to_rows(spread), own)
            gain = np.einsum("skmr,skmr->skr", steps, own)
            log_det = group.to_rows(log_det) - len(group.columns) * LOG_2PI
            energies[..., group.rows] -= 0.5 * (gain + log_det)
            flat[..., group.cells] = steps
        workspace.arrays["spreads"] = spreads
        return energies

    def _pull(self, deviations: Array) -> Array:
        return np.matmul(self.precisions, deviations)

    def _moment(self, weighted: Array, deviations: Array) -> Array:
        return np.matmul(weighted, np.swapaxes(deviations, 2, 3))

    def _add_spread(self, second: Array, codes: Array, workspace: Workspace) -> None:
        size = self.shape.n_features
        groups = workspace.gaps.groups
        if not groups:
            return
        parts, index = [], []
        for group, spread in zip(groups, workspace.arrays["spreads"], strict=True):
            shares = group.to_patterns(codes[..., group.rows])
            if self.tied:
                shares = shares.sum(axis=1, keepdims=True)
            whole = shares[:, :, None, None] * spread
            parts.append(whole.reshape(*whole.shape[:2], -1))
            index.append((group.columns[:, None] * size + group.columns).ravel())
        values, where = np.concatenate(parts, axis=2), np.concatenate(index)
        for cell in np.ndindex(values.shape[:2]):
            found = np.bincount(where, values[cell], minlength=size * size)
            second[cell] += found.reshape(size, size)

    def _add_noise(
        self,
        rows: Array,
        cells: NDArray[np.intp],
        gaps: Gaps,
        workspace: Workspace,
        rng: np.random.Generator,
    ) -> None:
        flat = rows.reshape(len(rows), -1)
        for group, spread in zip(gaps.groups, workspace.arrays["spreads"], strict=True):
            lower = lower_factors(spread)
            lower = lower.reshape(-1, *lower.shape[2:])
            which = self._of_cells(cells[:, group.rows])
            pattern = np.arange(len(group.rows)) if group.pattern is None else group.pattern
            noise = rng.standard_normal((len(group.columns), *which.shape))
            chosen = lower[which, :, :, pattern]  # (R, rows, m, m)
            flat[:, group.cells] += np.einsum("rnij,jrn->rin", chosen, noise)

    def variances(self, workspace: Workspace, temperature: float) -> Array:
        size, n = self.shape.n_features, workspace.n
        found = np.zeros((self.n_models, self.n_components, size * n))
        for group, spread in zip(workspace.gaps.groups, workspace.arrays["spreads"], strict=True):
            own = np.einsum("skmmu->skmu", spread)
            found[..., group.cells] = group.to_rows(own)
        return found.reshape(self.n_models, self.n_components, size, n)

    def covariances(self, workspace: Workspace, temperature: float) -> Array:
        size, n = self.shape.n_features, workspace.n
        found = np.zeros((self.n_models, self.n_components, size, size, n))
        for group, spread in zip(workspace.gaps.groups, workspace.arrays["spreads"], strict=True):
            columns = group.to_rows(group.columns)
            found[:, :, columns[:, None], columns, group.rows] = group.to_rows(spread)
        return found


def _applied(matrices: Array, vectors: Array) -> Array:
    """Return products of matrices (S, C, m, m, r) and vectors (S, K, m, r), where C is K or 1."""
    if matrices.shape[2] == 1:
        return matrices[:, :, 0] * vectors
    return np.einsum(
        "skijr,skjr->skir",
        np.broadcast_to(matrices, (*vectors.shape[:2], *matrices.shape[2:])),
        vectors,
    )


class IndependentKernel(IncompleteKernel):
    """Diagonal and spherical covariances: missing entries have the mean and variance of all."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        factors = self.params.factors
        if factors.ndim == 2:
            factors = np.broadcast_to(factors[..., None], (*factors.shape, self.shape.n_features))
        self.factors = factors

    def _energies(self, deviations: Array, gaps: Gaps, workspace: Workspace) -> Array:
        logs = np.log(self.factors) - 0.5 * LOG_2PI
        squares = np.square(deviations)
        precisions = np.broadcast_to(self.factors**2, self.params.means.shape)
        own = -0.5 * np.matmul(precisions[:, :, None], squares)[:, :, 0]
        own += np.matmul(logs, gaps.observed)
        return own

    def _pull(self, deviations: Array) -> Array:
        return self.factors[..., None] ** 2 * deviations

    def _moment(self, weighted: Array, deviations: Array) -> Array:
        squares = np.einsum("skdn,skdn->skd", weighted, deviations)
        return squares if self.shape.tail else squares.sum(axis=2)

    def _add_spread(self, second: Array, codes: Array, workspace: Workspace) -> None:
        shares = np.matmul(codes, workspace.gaps.missing.T.astype(np.float64))
        if self.tied:
            shares = shares.sum(axis=1, keepdims=True)
        spread = shares / self.factors**2
        second += spread if self.shape.tail else spread.sum(axis=2)

    def _add_noise(
        self,
        rows: Array,
        cells: NDArray[np.intp],
        gaps: Gaps,
        workspace: Workspace,
        rng: np.random.Generator,
    ) -> None:
        deviation = 1.0 / self.factors.reshape(-1, self.shape.n_features)
        columns, numbers = np.nonzero(gaps.missing)
        noise = rng.standard_normal((len(rows), len(columns)))
        scale = deviation[self._of_cells(cells[:, numbers]), columns]
        rows[:, columns, numbers] += scale * noise

    def variances(self, workspace: Workspace, temperature: float) -> Array:
        shape = (self.n_models, self.n_components, self.shape.n_features)
        spread = np.broadcast_to(1.0 / self.factors**2, shape)
        return spread[..., None] * workspace.gaps.missing

    def covariances(self, workspace: Workspace, temperature: float) -> Array:
        variances = self.variances(workspace, temperature)
        return variances[:, :, :, None] * np.eye(self.shape.n_features)[..., None]


KERNELS: dict[type[CovarianceShape], type[IncompleteKernel]] = {
    Full: RegressionKernel,
    Diagonal: IndependentKernel,
    Spherical: IndependentKernel,
}


def bind_incomplete(
    shape: CovarianceShape,
    log_weights: Array,
    params: GaussianParameters,
    frame: Frame,
    dtype: Any,
) -> IncompleteKernel:
    """Return the kernel of rows with gaps, for the arguments of ``bind_gaussians``."""
    tied = params.factors.shape[1] == 1
    return KERNELS[type(shape)](shape, tied, log_weights, params, frame, dtype)
