r"""PCA of rows with missing entries, for the components of a mixture or for one alone.

Noise is independent given the code, so that missing entries drop out of the energy of a row and a
code. With orthonormal directions U, coordinates y of the code in data units, shrinkage h_i and the
known columns o, the code has at T the mean ``A U_o d_o`` and the covariance ``T s2 A``, where

``A = h^1/2 M^-1 h^1/2``, ``M = 1 - h + h^1/2 U_o U_o' h^1/2``,

so that only d by d matrices are formed for each row, and ``Hmax_T`` has ``- (T/2) log det M`` in
addition to what complete rows have. The maximisation regresses each column, where it is known, on
the codes, and fits their prior, any normal distribution, which changes the coordinates but not
the density of rows (Liu, Rubin and Wu 1998). Both are exact at any temperature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies._base import DerivedKernel, chunk_rows
from skbae.energies.mixture._components import (
    CompletingKernel,
    DifferentiableFamily,
    Workspace,
    WorkspaceKey,
    interpolated,
)
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
from skbae.energies.pca._energy import NOISE_FLOOR, PCAEnergy, PCAParameters, fix_signs
from skbae.operators._constants import LOG_2PI
from skbae.operators._gaps import Gaps
from skbae.operators._small_matrices import inverses, lower_factors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from skbae._types import Array, Frame
    from skbae.energies._base import RowKernel
    from skbae.energies.mixture._energy import BoundMixture

# Numbers of the working arrays of a block of components.
_BLOCK = 1 << 17
# Shrinkages are at most one minus this: of a row with fewer known entries than directions, codes
# without a prior would be arbitrary.
_LEAST_PRIOR = 1e-12
# Shares of a component that are so small beside its largest in a chunk add nothing to its sums.
_NEGLIGIBLE = 1e-24
# What is added to the moments of codes in regressions, relative to these: steps are that little
# shorter, and columns that no row of a component has known keep their coefficients.
_RIDGE = 1e-10
# How far below those of the noise, relative to these, precisions are at which gradients are
# computed.
_MELTED = 1e-6


@dataclass(frozen=True)
class Subspaces(ArrayRecord):
    """Components of S mixtures: as ``PCAComponents``, without further directions."""

    means: Array
    components: Array
    precisions: Array
    noise: Array


@dataclass(frozen=True)
class RegressionMoments(ArrayRecord):
    """Sums over rows of products of codes (y, 1) with each other and with known entries.

    Attributes
    ----------
    codes : ndarray of shape (S, K, d + 1, d + 1)
        Sum of ``r E[(y, 1) (y, 1)']``.
    design : ndarray of shape (S, K, D, d + 1, d + 1)
        The same, over the rows in which each column is known.
    crossed : ndarray of shape (S, K, D, d + 1)
        Sum of ``r (x - reference) E[(y, 1)]`` over these.
    squares : ndarray of shape (S, K)
        Sum of ``r (x - reference)^2`` over known entries.
    reference : ndarray of shape (S, K, D)
    basis : ndarray of shape (S, K, d, D)
        The directions that y are coordinates along.
    """

    codes: Array
    design: Array
    crossed: Array
    squares: Array
    reference: Array
    basis: Array

    @property
    def coefficients(self) -> Array:
        """Coefficients of the models that the moments were computed with, (S, K, D, d + 1)."""
        own = np.swapaxes(self.basis, 2, 3)
        return np.concatenate([own, np.zeros((*own.shape[:3], 1))], axis=3)


class IncompletePCAKernel(CompletingKernel):
    """Energies of known entries and sums for regressions, in double precision."""

    dtype = np.dtype(np.float64)

    def __init__(self, log_weights: Array, params: Any, centre: Array) -> None:
        self.params, self.log_weights, self.centre = params, log_weights, centre
        self.n_models, self.n_components = log_weights.shape
        self.rounding = np.zeros(self.n_models)
        n_codes, size = params.components.shape[2:]
        self.n_codes, self.n_features = n_codes, size
        cells = log_weights.size
        self.means = params.means.reshape(cells, size)
        self.offsets = self.means - centre
        self.components = params.components.reshape(cells, n_codes, size)
        self.noise = np.broadcast_to(params.noise, log_weights.shape).reshape(cells)
        precisions = params.precisions.reshape(cells, n_codes)
        rest = np.maximum(self.noise[:, None] * precisions, _LEAST_PRIOR)
        self.rest = np.minimum(rest, 1.0)
        self.shrink = 1.0 - self.rest
        first, second = np.triu_indices(n_codes)
        self.pairs = first, second
        products = self.components[:, first] * self.components[:, second]
        # what is multiplied with the mask of known entries, and with these
        self.masked = np.concatenate([products, self.components * self.offsets[:, None]], axis=1)
        n_numbers = n_codes**2 + len(first) + 4 * n_codes + 4
        self.numbers_per_row = min(cells * n_numbers, 4096) + 2 * size
        self.block = max(1, _BLOCK // (size * chunk_rows(self.numbers_per_row)))

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        key = WorkspaceKey(
            "pca gaps", n_rows, self.n_features, self.dtype.str, self.centre.tobytes()
        )
        if not isinstance(previous, Workspace) or previous.key != key:
            previous = Workspace(key)
        return previous

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is not X:
            workspace.gaps = gaps = Gaps(X)
            workspace.arrays["rows"] = gaps.filled - self.centre[:, None] * gaps.observed
            workspace.source, workspace.n = X, len(X)

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, len(self.means), self.block):
            yield slice(start, start + self.block)

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        gaps, n, d = workspace.gaps, workspace.n, self.n_codes
        cells = len(self.means)
        energies, entropies = np.empty((cells, n)), np.zeros((cells, n))
        codes, spreads = np.empty((cells, d, n)), np.empty((cells, d, d, n))
        rows = workspace.arrays["rows"]
        all_masked = _products(self.masked, gaps.observed)
        all_along = _products(self.components, rows)
        for part in self._blocks():
            fitted = self.offsets[part, :, None]
            if d:
                masked = all_masked[part]
                spreads[part], entropies[part] = self._spreads(part, masked[:, :-d])
                along = all_along[part] - masked[:, -d:]
                codes[part] = np.einsum("cijn,cjn->cin", spreads[part], along)
                fitted = np.matmul(np.swapaxes(self.components[part], 1, 2), codes[part])
                fitted += self.offsets[part, :, None]
            residual = np.multiply(fitted, gaps.observed, out=fitted if d else None)
            np.subtract(rows, residual, out=residual)
            square = np.einsum("cdn,cdn->cn", residual, residual)
            if d:
                shrink = self.shrink[part]
                pull = np.where(shrink > 0, self.rest[part] / np.where(shrink > 0, shrink, 1.0), 0)
                square += np.einsum("cin,ci->cn", codes[part] ** 2, pull)
            energies[part] = -0.5 * square / self.noise[part, None]
        n_known = gaps.observed.sum(axis=0)
        energies -= 0.5 * (LOG_2PI + np.log(self.noise))[:, None] * n_known
        shape = (self.n_models, self.n_components)
        workspace.arrays.update(
            codes=codes, spreads=spreads, entropies=entropies.reshape(*shape, n)
        )
        own = energies.reshape(*shape, n)
        own += self.log_weights[..., None]
        return own, None

    def _spreads(self, part: slice, packed: Array) -> tuple[Array, Array]:
        """Return A (C, d, d, n), and minus half the log determinants of M, (C, n).

        `packed` has the products of directions over known entries, by pairs.
        """
        d = self.n_codes
        first, second = self.pairs
        roots = np.sqrt(self.shrink[part])
        packed = packed * (roots[:, first] * roots[:, second])[..., None]
        matrices = np.empty((len(packed), d, d, packed.shape[-1]))
        matrices[:, first, second] = packed
        matrices[:, second, first] = packed
        diagonal = np.arange(d)
        matrices[:, diagonal, diagonal] += self.rest[part][..., None]
        found, log_det = inverses(matrices)
        found *= roots[:, :, None, None] * roots[:, None, :, None]
        return found, -0.5 * log_det

    def code_entropies(self, workspace: Workspace) -> Array | None:
        return np.asarray(workspace.arrays["entropies"]) if self.n_codes else None

    # -- sums ----------------------------------------------------------------------------------

    def zero(self) -> list[Array]:
        cells, d, size = len(self.means), self.n_codes, self.n_features
        n_pairs = (d + 1) * (d + 2) // 2
        return [
            np.zeros((cells, n_pairs)),
            np.zeros((cells, n_pairs, size)),
            np.zeros((cells, d + 1, size)),
            np.zeros(cells),
        ]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        gaps, n, d = workspace.gaps, workspace.n, self.n_codes
        shares = codes.reshape(len(self.means), n)
        means, spreads = workspace.arrays["codes"], workspace.arrays["spreads"]
        first, second = np.triu_indices(d + 1)
        inner = second < d
        observed = np.ascontiguousarray(gaps.observed.T)
        rows = np.ascontiguousarray(workspace.arrays["rows"].T)
        row_squares = np.einsum("nd,nd->n", rows, rows)
        for part in self._blocks():
            share, codes_of, spread = shares[part], means[part], spreads[part]
            known, values, lengths = observed, rows, row_squares
            # of many columns, most rows have next to no share in most components
            least = _NEGLIGIBLE * share.max(axis=1, keepdims=True)
            some = np.flatnonzero((share > least).any(axis=0))
            if len(some) < 0.7 * n:
                share, codes_of, spread = share[:, some], codes_of[..., some], spread[..., some]
                known, values, lengths = observed[some], rows[some], row_squares[some]
            own = np.concatenate([codes_of, np.ones((len(share), 1, share.shape[1]))], axis=1)
            squares = own[:, first] * own[:, second]
            scale = workspace.temperature * self.noise[part]
            squares[:, inner] += scale[:, None, None] * spread[:, first[inner], second[inner]]
            squares *= share[:, None]
            own *= share[:, None]
            sums[0][part] += squares.sum(axis=2)
            masked = np.matmul(squares, known)
            sums[1][part] += masked
            # about the means: the products with (y, 1) are the last of each pair
            crossed = np.matmul(own, values)
            offsets = self.offsets[part]
            sums[3][part] += share @ lengths - np.einsum(
                "cd,cd->c", offsets, 2.0 * crossed[:, -1] - masked[:, -1] * offsets
            )
            sums[2][part] += crossed - masked[:, second == d] * offsets[:, None]

    def moments(self, sums: list[Array]) -> tuple[Array, RegressionMoments]:
        d, shape = self.n_codes, (self.n_models, self.n_components)
        first, second = np.triu_indices(d + 1)
        codes = np.empty((*shape, d + 1, d + 1))
        design = np.empty((*shape, self.n_features, d + 1, d + 1))
        packed = sums[0].reshape(*shape, -1)
        by_column = np.swapaxes(sums[1].reshape(*shape, -1, self.n_features), 2, 3)
        for out, values in ((codes, packed), (design, by_column)):
            out[..., first, second] = values
            out[..., second, first] = values
        crossed = np.swapaxes(sums[2].reshape(*shape, d + 1, self.n_features), 2, 3)
        return codes[..., d, d], RegressionMoments(
            codes,
            design,
            crossed,
            sums[3].reshape(shape),
            self.params.means,
            self.params.components,
        )

    def accumulate_drawn(
        self, sums: list[Array], codes: NDArray[Any], rows: Array, workspace: Workspace
    ) -> None:
        raise NotImplementedError("codes of PCA are integrated out, not drawn")

    # -- codes and missing entries -------------------------------------------------------------

    def codes(self, workspace: Workspace) -> tuple[Array, Array]:
        """Return expected codes (S, K, d, n), and A (S, K, d, d, n)."""
        shape = (self.n_models, self.n_components)
        found, spreads = workspace.arrays["codes"], workspace.arrays["spreads"]
        return found.reshape(*shape, *found.shape[1:]), spreads.reshape(*shape, *spreads.shape[1:])

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        workspace = self.workspace(len(X))
        self.load(X, workspace)
        self.energies(workspace)
        gaps, shares = workspace.gaps, codes.reshape(len(self.means), len(X))
        gradient = np.zeros((self.n_models, len(X), self.n_features))
        for cell in range(len(self.means)):
            own = self.components[cell].T @ workspace.arrays["codes"][cell]
            own += self.offsets[cell][:, None]
            residual = workspace.arrays["rows"] - own * gaps.observed
            gradient[cell // self.n_components] -= (residual * shares[cell]).T / self.noise[cell]
        return gradient

    def completed(self, workspace: Workspace) -> Array:
        shape = (self.n_models, self.n_components)
        own = np.matmul(np.swapaxes(self.components, 1, 2), workspace.arrays["codes"])
        own += self.means[..., None]
        gaps = workspace.gaps
        own = np.where(gaps.missing, own, gaps.filled)
        return own.reshape(*shape, *own.shape[1:])

    def variances(self, workspace: Workspace, temperature: float) -> Array:
        spreads = workspace.arrays["spreads"]
        along = np.einsum(
            "cijn,cid,cjd->cdn", spreads, self.components, self.components, optimize=True
        )
        own = self.noise[:, None, None] * (1.0 + temperature * along) * workspace.gaps.missing
        return own.reshape(self.n_models, self.n_components, *own.shape[1:])

    def covariances(self, workspace: Workspace, temperature: float) -> Array:
        spreads, missing = workspace.arrays["spreads"], workspace.gaps.missing
        along = np.einsum(
            "cijn,cid,cje->cden", spreads, self.components, self.components, optimize=True
        )
        own = temperature * along + np.eye(self.n_features)[..., None]
        own *= self.noise[:, None, None, None] * (missing[:, None] & missing)
        return own.reshape(self.n_models, self.n_components, *own.shape[1:])

    def draw(
        self,
        cells: NDArray[np.intp],
        workspace: Workspace,
        temperature: float,
        rng: np.random.Generator,
    ) -> Array:
        gaps, n, d = workspace.gaps, workspace.n, self.n_codes
        rows = rng.standard_normal((len(cells), self.n_features, n))
        noise = rng.standard_normal((len(cells), d, n))
        means, spreads = workspace.arrays["codes"], workspace.arrays["spreads"]
        for cell in np.unique(cells):
            which, at = np.nonzero(cells == cell)
            scale = np.sqrt(self.noise[cell])
            own = scale * rows[which, :, at]
            if d:
                # the spread may be singular where directions have melted
                jitter = 1e-14 * np.eye(d)[..., None]
                lower = lower_factors(spreads[cell] + jitter)[:, :, at]
                steps = np.einsum("ijr,rj->ri", lower, noise[which, :, at])
                codes = means[cell][:, at].T + np.sqrt(temperature) * scale * steps
                own += codes @ self.components[cell]
            rows[which, :, at] = own + self.means[cell]
        return np.where(gaps.missing, rows, gaps.filled)


def _products(matrices: Array, columns: Array) -> Array:
    """Return products of matrices (C, m, D) and columns (D, n), by one large product."""
    flat = matrices.reshape(-1, matrices.shape[-1]) @ columns
    return flat.reshape(*matrices.shape[:-1], columns.shape[-1])


def codes_of_gaps(bound: BoundMixture, X: NDArray[Any]) -> tuple[Array, Array]:
    """Return codes of a chunk of rows with gaps in coordinates of each model's components.

    Returns
    -------
    coordinates : ndarray of shape (S, K, n, d)
    spreads : ndarray of shape (S, K, n, d, d)
        Their covariances, divided by T.
    """
    kernel = bound.kernel
    assert isinstance(kernel, IncompletePCAKernel)
    workspace = kernel.workspace(len(X))
    kernel.load(X, workspace)
    kernel.energies(workspace)
    found, spreads = kernel.codes(workspace)
    noise = kernel.noise.reshape(spreads.shape[:2])
    spreads = np.moveaxis(spreads, -1, 2) * noise[..., None, None, None]
    return np.swapaxes(found, 2, 3), spreads


class RegressedSubspaces(DifferentiableFamily):
    """Base of families of PCA components of rows with gaps; params have the fields of Subspaces.

    Attributes
    ----------
    n_latent : int
        d.
    tied_noise : bool
    noise_floor : float
    """

    n_latent: int
    tied_noise: bool
    noise_floor: float
    exact_moments = False

    def kernel(
        self, log_weights: Array, params: Any, frame: Frame, dtype: Any
    ) -> IncompletePCAKernel:
        return IncompletePCAKernel(log_weights, params, frame.centre)

    def code_entropy(self, params: Any, temperature: float) -> Array | None:
        if temperature == 0 or self.n_latent == 0:
            return None
        rest = np.maximum(params.precisions * params.noise[..., None], _LEAST_PRIOR)
        return 0.5 * temperature * np.log(np.minimum(rest, 1.0)).sum(axis=2)

    def maximise(self, counts: Array, moments: Any, params: Any, temperature: float) -> Any:
        d = self.n_latent
        coefficients = _regression(moments)
        noise = self._noise(counts, moments, coefficients, params)
        alive = counts > 0
        safe = np.where(alive, counts, 1.0)
        centre = moments.codes[:, :, :d, d] / safe[..., None]
        spread = moments.codes[:, :, :d, :d] / safe[..., None, None]
        spread = spread - centre[..., :, None] * centre[..., None, :]
        loadings, shift = coefficients[..., :d], coefficients[..., d]
        means = moments.reference + shift + np.matmul(loadings, centre[..., None])[..., 0]
        components, variances = _principal_axes(loadings, spread)
        own = np.broadcast_to(noise, counts.shape)[..., None]
        if temperature == 0:
            precisions = np.zeros(variances.shape)
        else:
            precisions = 1.0 / (variances / temperature + own)
        dead = ~alive
        means[dead] = params.means[dead]
        components[dead] = params.components[dead]
        precisions[dead] = np.minimum(
            params.precisions[dead], 1.0 / np.broadcast_to(own, precisions.shape)[dead]
        )
        return replace(
            params, means=means, components=components, precisions=precisions, noise=noise
        )

    def _noise(self, counts: Array, moments: Any, coefficients: Array, params: Any) -> Array:
        """Return the noise variances (S, K), or (S, 1) where components share one."""
        crossed = np.einsum("skdi,skdi->sk", coefficients, moments.crossed)
        fitted = np.einsum(
            "skdi,skdij,skdj->sk", coefficients, moments.design, coefficients, optimize=True
        )
        rest = np.maximum(moments.squares - 2.0 * crossed + fitted, 0.0)
        n_known = moments.design[..., -1, -1].sum(axis=2)
        squares = moments.squares
        if self.tied_noise:
            rest, n_known, squares = (
                array.sum(axis=1, keepdims=True) for array in (rest, n_known, squares)
            )
        known = n_known > 0
        safe = np.where(known, n_known, 1.0)
        floor = np.maximum(self.noise_floor, NOISE_FLOOR * squares / safe)
        floor = np.maximum(floor, np.finfo(np.float64).tiny)
        return np.where(known, np.maximum(rest / safe, floor), params.noise)

    def expected_moments(self, counts: Array, params: Any, like: Any, temperature: float) -> Any:
        d = self.n_latent
        # in the coordinates of the others: the directions turned to agree best with theirs
        agreement = np.matmul(like.basis, np.swapaxes(params.components, 2, 3))
        left, _, right = np.linalg.svd(agreement)
        turn = np.matmul(left, right)  # (S, K, d, d): coordinates of like from the models' own
        loadings = np.swapaxes(np.matmul(turn, params.components), 2, 3)
        offset = params.means - like.reference
        coefficients = np.concatenate([loadings, offset[..., None]], axis=3)
        noise = np.broadcast_to(params.noise, counts.shape)
        if temperature == 0:
            spread = like.codes[:, :, :d, :d]
        else:
            with np.errstate(divide="ignore"):
                own = temperature * np.maximum(1.0 / params.precisions - noise[..., None], 0.0)
            spread = np.matmul(turn * own[:, :, None], np.swapaxes(turn, 2, 3))
            spread = spread * counts[..., None, None]
        codes = np.zeros_like(like.codes)
        codes[..., :d, :d], codes[..., d, d] = spread, counts
        crossed = np.einsum("skdij,skdj->skdi", like.design, coefficients)
        n_known = like.design[..., -1, -1].sum(axis=2)
        squares = noise * n_known + np.einsum("skdi,skdi->sk", coefficients, crossed)
        return RegressionMoments(codes, like.design, crossed, squares, like.reference, like.basis)

    def mix_moments(self, first: Any, second: Any, step: Array) -> Any:
        names = ("codes", "crossed", "squares")
        mixed = {n: interpolated(getattr(first, n), getattr(second, n), step) for n in names}
        return replace(second, **mixed)

    def regular(self, params: Any) -> Any:
        ceiling = (1 - _MELTED) / np.broadcast_to(params.noise, params.precisions.shape[:2])
        return replace(params, precisions=np.minimum(params.precisions, ceiling[..., None]))

    def parameter_gradient(
        self, params: Any, counts: Array, moments: Any, temperature: float
    ) -> dict[str, Array]:
        """Return the gradient by Fisher's identity, with codes given the known entries.

        Codes y in data units have the prior variances ``w_i^2 = 1 / p_i - s2``, and known entries
        the mean ``mu + U' y`` and the variance s2.
        """
        noise = np.broadcast_to(params.noise, counts.shape)
        own, last = moments.coefficients, params.components.shape[2]
        residual = moments.crossed - np.einsum("skdij,skdj->skdi", moments.design, own)
        n_known = moments.design[..., last, last].sum(axis=2)
        errors = moments.squares - (own * (moments.crossed + residual)).sum(axis=(2, 3))
        of_noise = 0.5 * (errors / noise - n_known) / noise
        ambient = np.swapaxes(residual[..., :last], 2, 3) / noise[..., None, None]
        overlap = np.matmul(ambient, np.swapaxes(params.components, 2, 3))
        overlap = 0.5 * (overlap + np.swapaxes(overlap, 2, 3))
        squares = np.diagonal(moments.codes, axis1=2, axis2=3)[..., :last]
        shrink = 1 - noise[..., None] * params.precisions
        of_precisions = -0.5 * squares / shrink**2
        if temperature > 0:
            codes = temperature * counts[..., None]
            of_precisions += 0.5 * codes / (params.precisions * shrink)
        of_noise += (params.precisions**2 * of_precisions).sum(axis=2)
        return {
            "means": residual[..., last] / noise[..., None],
            "components": ambient - np.matmul(overlap, params.components),
            "component_precisions": of_precisions,
            "noise_variance": of_noise.sum(axis=1) if self.tied_noise else of_noise,
        }

    def explained_variance(self, counts: Array, moments: Any, params: Any) -> Array:
        """Return the variances of rows along the components, (S, K, d), as their codes tell."""
        d = self.n_latent
        shrink = 1.0 - np.broadcast_to(params.noise, counts.shape)[..., None] * params.precisions
        safe = np.where(counts > 0, counts, 1.0)[..., None]
        centre = moments.codes[:, :, :d, d] / safe
        spread = np.einsum("skii->ski", moments.codes[:, :, :d, :d]) / safe - centre**2
        solid = shrink > 1e-12
        return np.where(solid, np.maximum(spread, 0.0) / np.where(solid, shrink, 1.0), 0.0)


def _regression(moments: RegressionMoments) -> Array:
    """Return the coefficients of columns on codes, near the old ones where rows say little."""
    old, design = moments.coefficients, moments.design
    left = moments.crossed - np.einsum("skdij,skdj->skdi", design, old)
    size = design.shape[-1]
    level = np.einsum("skdii->skd", design) / size
    ridge = np.where(level > 0, _RIDGE * level, 1.0)
    matrices = design + ridge[..., None, None] * np.eye(size)
    return np.asarray(old + np.linalg.solve(matrices, left[..., None])[..., 0])


def _principal_axes(loadings: Array, spread: Array) -> tuple[Array, Array]:
    """Return orthonormal directions (S, K, d, D) and variances (S, K, d) of ``U y``."""
    d = loadings.shape[-1]
    if d == 0:
        return np.swapaxes(loadings, 2, 3).copy(), np.zeros((*loadings.shape[:2], 0))
    orthogonal, upper = np.linalg.qr(loadings)
    inner = np.matmul(np.matmul(upper, spread), np.swapaxes(upper, 2, 3))
    values, vectors = np.linalg.eigh(0.5 * (inner + np.swapaxes(inner, 2, 3)))
    values, vectors = values[..., ::-1], vectors[..., ::-1]
    components = np.swapaxes(np.matmul(orthogonal, vectors), 2, 3)
    return fix_signs(components), np.maximum(values, 0.0)


class SubspaceFamily(RegressedSubspaces):
    """PCA as the one component of a mixture.

    Parameters
    ----------
    n_latent, n_features : int
    """

    def __init__(self, n_latent: int, n_features: int) -> None:
        self.n_components, self.n_latent, self.n_features = 1, n_latent, n_features
        self.tied_noise, self.noise_floor = False, 0.0

    def draw(
        self,
        params: Any,
        models: NDArray[np.intp],
        labels: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        raise NotImplementedError("draws are complete rows, those of PCAEnergy")

    def n_parameters(self) -> int:
        raise NotImplementedError("the number of parameters is that of PCAEnergy")


class IncompletePCAEnergy(PCAEnergy):
    """PCA of rows with missing entries: a mixture of one component."""

    def __init__(self, n_components: int, n_features: int) -> None:
        super().__init__(n_components, n_features)
        self._mixture = MixtureEnergy(SubspaceFamily(n_components, n_features))

    def bind(self, params: PCAParameters, frame: Frame, dtype: Any) -> BoundMixture:  # type: ignore[override]
        return self._mixture.bind(_as_mixture(params), frame, dtype)

    def expectation(
        self, params: PCAParameters, frame: Frame, dtype: Any, temperature: float, tilt: float
    ) -> RowKernel:
        return self._mixture.expectation(_as_mixture(params), frame, dtype, temperature, tilt)

    def maximise(self, statistics: Any, params: PCAParameters, temperature: float) -> PCAParameters:
        found = self._mixture.maximise(statistics, _as_mixture(params), temperature)
        return _of_mixture(found)

    def interpolate(
        self, params: PCAParameters, statistics: Any, step: Array, temperature: float
    ) -> Any:
        return self._mixture.interpolate(_as_mixture(params), statistics, step, temperature)

    def gradient_kernel(
        self, params: PCAParameters, frame: Frame, temperature: float
    ) -> DerivedKernel:
        inner = self._mixture.gradient_kernel(_as_mixture(params), frame, temperature)

        def of_single(found: dict[str, Array], total: float) -> dict[str, Array]:
            del found["weights"]
            return {
                "mean" if name == "means" else name: value[:, 0] for name, value in found.items()
            }

        return DerivedKernel(inner, of_single)

    def explained_variance(self, statistics: Any, params: PCAParameters) -> Array:
        """Return the variances of rows along the components, (S, d), as their codes tell."""
        components = _as_mixture(params).components
        found = self._mixture.family.explained_variance(
            statistics.counts, statistics.moments, components
        )
        return found[:, 0]

    def of_incomplete_rows(self) -> IncompletePCAEnergy:
        return self


def _as_mixture(params: PCAParameters) -> MixtureParameters:
    components = Subspaces(
        params.means[:, None],
        params.components[:, None],
        params.precisions[:, None],
        params.noise[:, None],
    )
    return MixtureParameters(np.ones((params.n_models, 1)), components)


def _of_mixture(params: MixtureParameters) -> PCAParameters:
    own = params.components
    return PCAParameters(
        own.means[:, 0], own.components[:, 0], own.precisions[:, 0], own.noise[:, 0]
    )
