"""Gaussian components: parameters, moments, and kernels for energies and sums.

A Gaussian's log density is linear in the features ``s(x) = (quadratic, x, 1)``. A chunk's
features are computed once, ``(P, n)``; one product with the natural parameters of all components of
all models gives all energies, and one product of the codes with the same features gives all sums.
With tied covariances the quadratic part is the same for all components and left out of the softmax.

These products lose digits if a component is narrow and far from the centre of the data. Each kernel
has a bound on its rounding error, and :func:`bind_gaussians` chooses the cheapest whose bound is
small enough: single precision, double precision, or differences from each component's mean.
"""

from __future__ import annotations

from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.gaussian._incomplete import bind_incomplete
from skbae.energies.gaussian._parameters import GaussianMoments, GaussianParameters
from skbae.energies.gaussian._sparse import SparseKernel, frame_about_zero
from skbae.energies.gaussian._splits import SCORES, CovarianceScores, MeanScores
from skbae.energies.gaussian._whitened import WhitenedKernel, whitening_bound
from skbae.energies.mixture._components import (
    DifferentiableFamily,
    FeatureKernel,
    IncompleteFamily,
    NoisyComponentFamily,
    SmoothComponentKernel,
    SparseFamily,
    SplittableFamily,
    Workspace,
    WorkspaceKey,
    appended,
    interpolated,
)
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array, Frame
    from skbae.energies.gaussian._covariance import CovarianceShape
    from skbae.energies.mixture._components import ComponentKernel
    from skbae.energies.mixture._splits import SplitScores


# Largest bound on the rounding error of one energy, in nats. The bound adds absolute values: the
# errors of most rows are much smaller, and those of means even more so.
_SINGLE_TOLERANCE = 4e-2
_DOUBLE_TOLERANCE = 1e-6
# The same of sparse rows, which are not centred: columns without entries in a component have the
# least variances, but in sums of zeros nothing is rounded.
_SPARSE_TOLERANCE = 1e-3
# The same of whitened rows in double precision, relative to the square of the number of columns. It
# is far above that of ordinary components; those that have collapsed onto few rows exceed it.
_WHITE_TOLERANCE = 1e-13
# Rows are whitened where they have so many columns, at least, and for each component of all models.
_MANY_COLUMNS, _COLUMNS_PER_COMPONENT = 16.0, 3.0
# The same where this allows single precision.
_COLUMNS_IN_SINGLE = 2.0


class ExpandedKernel(FeatureKernel, SmoothComponentKernel):
    """Energies and sums as products with expanded features ``(quadratic, x, 1)``.

    Components with a tied covariance share the coefficients of the quadratic ones.
    """

    def __init__(
        self,
        shape: CovarianceShape,
        tied: bool,
        log_weights: Array,
        params: GaussianParameters,
        centre: Array,
        dtype: Any,
        rounding: Array | None = None,
    ) -> None:
        self.shape, self.tied, self.params = shape, tied, params
        # of the same precision as rows, so that differences are exact to rounding
        self.centre = centre = centre.astype(dtype).astype(np.float64, copy=False)
        offsets = params.means - centre
        linear = shape.apply_precision(params.factors, offsets)
        half_log_det = shape.half_log_det(params.factors)
        constant = (
            log_weights
            - 0.5 * np.einsum("skd,skd->sk", linear, offsets)
            + half_log_det
            - 0.5 * shape.n_features * LOG_2PI
        )
        quadratic = shape.quadratic_coefficients(params.factors)
        parts = [linear, constant[..., None]] if tied else [quadratic, linear, constant[..., None]]
        super().__init__(
            np.concatenate(parts, axis=-1),
            dtype,
            np.zeros(len(log_weights)) if rounding is None else rounding,
            quadratic[:, 0] if tied else None,
        )

    def key(self, n_rows: int) -> WorkspaceKey:
        kernel, centre = f"gaussian {self.shape.name}", self.centre.tobytes()
        return WorkspaceKey(kernel, n_rows, self.n_features, self.dtype.str, centre)

    def write(self, X: NDArray[Any], features: NDArray[Any]) -> None:
        x = features[self.shape.n_quadratic :]
        precision = np.result_type(X.dtype, self.dtype)
        centre = self.centre.astype(precision)[:, None]
        np.subtract(X.T, centre, out=x, casting="unsafe", dtype=precision)
        self.shape.write_quadratic(x, features[: self.shape.n_quadratic])

    def moments(self, sums: list[Array]) -> tuple[Array, GaussianMoments]:
        counts, features, shared = self.split(sums)
        first = features[..., -self.shape.n_features :]
        own = features[..., : self.shape.n_quadratic]
        quadratic = own if shared is None else shared[:, None]
        reference = np.empty(first.shape)
        reference[...] = self.centre
        return counts, GaussianMoments(first, self.shape.unpack(quadratic), reference)

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        return _code_gradient(self.shape, self.params, X, codes)


class LocalKernel(SmoothComponentKernel):
    """Energies and sums from differences to each component's mean: slower, but always accurate."""

    dtype = np.dtype(np.float64)

    def __init__(
        self,
        shape: CovarianceShape,
        tied: bool,
        log_weights: Array,
        params: GaussianParameters,
        rounding: Array | None = None,
    ) -> None:
        self.shape, self.tied, self.params = shape, tied, params
        self.rounding = np.zeros(len(log_weights)) if rounding is None else rounding
        self.n_models, self.n_components = log_weights.shape
        self.constant = (
            log_weights + shape.half_log_det(params.factors) - 0.5 * shape.n_features * LOG_2PI
        )
        self.numbers_per_row = 4 * shape.n_features + self.n_models * self.n_components

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        key = WorkspaceKey("gaussian deviations", n_rows, self.shape.n_features, self.dtype.str)
        return Workspace(key, energies=np.empty((self.n_models, self.n_components, n_rows)))

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is not X:
            workspace.arrays["rows"] = np.asarray(X, dtype=np.float64)
            workspace.source, workspace.n = X, len(X)

    def _each(self) -> Iterator[tuple[int, int, tuple[int, int]]]:
        for s in range(self.n_models):
            for k in range(self.n_components):
                yield s, k, (s, 0 if self.tied else k)

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        rows, out = workspace.arrays["rows"], workspace.arrays["energies"][..., : workspace.n]
        for s, k, c in self._each():
            white = self.shape.whiten(rows - self.params.means[s, k], self.params.factors[c])
            out[s, k] = self.constant[s, k] - 0.5 * np.einsum("nd,nd->n", white, white)
        return out, None

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
        rows = workspace.arrays["rows"]
        sums[0] += codes.sum(axis=-1)
        for s, k, c in self._each():
            deviations = rows - self.params.means[s, k]
            sums[1][s, k] += codes[s, k] @ deviations
            sums[2][c] += self.shape.sum_moment(deviations, codes[s, k])

    def moments(self, sums: list[Array]) -> tuple[Array, GaussianMoments]:
        return sums[0], GaussianMoments(sums[1], sums[2], self.params.means)

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        return _code_gradient(self.shape, self.params, X, codes)


def _code_gradient(
    shape: CovarianceShape, params: GaussianParameters, X: NDArray[Any], codes: NDArray[Any]
) -> Array:
    """Return ``sum_k codes_k P_k (mu_k - x)``, of shape (S, n, D)."""
    gradient = np.zeros((codes.shape[0], len(X), shape.n_features))
    tied = params.factors.shape[1] == 1
    for s in range(codes.shape[0]):
        for k in range(codes.shape[1]):
            factor = params.factors[s, 0 if tied else k]
            pull = shape.apply_precision(factor[None], params.means[s, k] - X)
            gradient[s] += codes[s, k][:, None] * pull
    return gradient


@cache
def _range_of(dtype: Any) -> tuple[float, float, float]:
    """Return the largest number of a precision, the smallest normal one, and the roundoff."""
    info = np.finfo(dtype)
    return float(info.max), float(info.tiny), float(info.eps)


def rounding_bound(
    shape: CovarianceShape, params: GaussianParameters, frame: Frame, dtype: Any
) -> Array:
    """Bound the rounding error of energies computed from expanded features, in nats, (S,).

    A row of component k reaches about ``|mu_k - centre| + scale`` from the centre; the product adds
    terms ``P_ij x_i x_j`` of alternating sign, in the quadratic, the linear and the constant part,
    each the product of rounded factors: four times the roundoff of their size in all.
    """
    reach = np.abs(params.means - frame.centre) + frame.scale
    return _roundoff(shape, params, reach, dtype)


def _roundoff(
    shape: CovarianceShape, params: GaussianParameters, reach: Array, dtype: Any
) -> Array:
    """Return four times the roundoff of ``x' P x`` where ``|x|`` is at most `reach` (S, K, D)."""
    largest, smallest, eps = _range_of(dtype)
    least, most = np.minimum.reduce(reach, axis=None), np.maximum.reduce(reach, axis=None)
    if 1e3 * smallest**0.5 <= least and most <= 1e-3 * largest**0.5:
        size = np.maximum.reduce(shape.magnitude(params.factors, reach), axis=1)
        return np.where(size < largest, 4 * eps * size, np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.max(shape.magnitude(params.factors, reach), axis=1)
        squares = np.square(reach)
        sound = np.isfinite(size) & (squares.max(axis=(1, 2)) <= 1e-4 * largest)
        least = np.square(np.where(reach > 0, reach, 1.0)).min(axis=(1, 2))
    sound &= np.minimum(least, 1.0) >= 1e4 * smallest
    return np.where(sound, 4 * size * eps, np.inf)


def bind_gaussians(
    shape: CovarianceShape,
    log_weights: Array,
    params: GaussianParameters,
    frame: Frame,
    dtype: Any,
) -> ExpandedKernel | WhitenedKernel | LocalKernel:
    """Return the cheapest kernel that is accurate enough for these parameters."""
    tied = params.factors.shape[1] == 1
    single = np.dtype(dtype) == np.float32
    whitens = shape.name == "full" and not tied
    share = shape.n_features / max(log_weights.size, _MANY_COLUMNS / _COLUMNS_PER_COMPONENT)
    for precision, tolerance in ((np.float32, _SINGLE_TOLERANCE), (np.float64, _DOUBLE_TOLERANCE)):
        if precision is np.float32 and not single:
            continue
        bound = rounding_bound(shape, params, frame, precision)
        accurate = bound.max() < tolerance
        gains = share >= (_COLUMNS_PER_COMPONENT if accurate else _COLUMNS_IN_SINGLE)
        if whitens and gains:
            white = whitening_bound(params, frame, precision)
            if precision is np.float64:
                tolerance = _WHITE_TOLERANCE * shape.n_features**2
            if white.max() < tolerance:
                return WhitenedKernel(shape, log_weights, params, frame.centre, precision, white)
        if accurate:
            return ExpandedKernel(shape, tied, log_weights, params, frame.centre, precision, bound)
    return _local_kernel(shape, log_weights, params, frame)


def _local_kernel(
    shape: CovarianceShape, log_weights: Array, params: GaussianParameters, frame: Frame
) -> LocalKernel:
    reach = np.broadcast_to(frame.scale, params.means.shape)
    bound = _roundoff(shape, params, reach, np.float64)
    rounding, tied = np.where(np.isfinite(bound), bound, 0.0), params.factors.shape[1] == 1
    return LocalKernel(shape, tied, log_weights, params, rounding)


def bind_sparse(
    shape: CovarianceShape,
    log_weights: Array,
    params: GaussianParameters,
    frame: Frame,
    dtype: Any,
) -> SparseKernel | LocalKernel:
    """Return the kernel for sparse rows: of their entries, where that is accurate enough."""
    bound = rounding_bound(shape, params, frame_about_zero(frame), np.float64)
    if shape.name != "full" and bound.max() < _SPARSE_TOLERANCE:
        return SparseKernel(shape, log_weights, params, bound)
    return _local_kernel(shape, log_weights, params, frame)


class GaussianComponents(
    NoisyComponentFamily, DifferentiableFamily, SplittableFamily, IncompleteFamily, SparseFamily
):
    """Gaussian components of one covariance shape, tied or not.

    Parameters
    ----------
    shape : CovarianceShape
    n_components : int
    tied : bool
    reg_covar : float or ndarray of shape (D,)
        Added to the variances in :meth:`maximise`, in the units of the data, squared.
    """

    exact_moments = True

    def __init__(
        self, shape: CovarianceShape, n_components: int, tied: bool, reg_covar: Array | float
    ) -> None:
        self.shape, self.n_components, self.tied = shape, n_components, tied
        self.n_features, self.reg_covar = shape.n_features, reg_covar
        self._bind: Callable[..., ComponentKernel] = bind_gaussians

    def kernel(
        self, log_weights: Array, params: GaussianParameters, frame: Frame, dtype: Any
    ) -> ComponentKernel:
        return self._bind(self.shape, log_weights, params, frame, dtype)

    def of_incomplete_rows(self) -> Self:
        family = copy(self)
        family._bind = bind_incomplete
        return family

    def of_sparse_rows(self) -> Self:
        family = copy(self)
        family._bind = bind_sparse
        return family

    def maximise(
        self,
        counts: Array,
        moments: GaussianMoments,
        params: GaussianParameters,
        temperature: float,
    ) -> GaussianParameters:
        alive = counts > 0
        all_alive = bool(alive.all())
        safe = counts if all_alive else np.where(alive, counts, 1.0)
        shift = moments.first / safe[..., None]
        means = moments.reference + shift
        scatter = self._scatter(safe, moments, shift)
        # components without rows add none to those of a tied covariance
        pooled = counts.sum(axis=1, keepdims=True) if self.tied else safe
        with np.errstate(invalid="ignore"):
            covariances = self.shape.from_scatter(scatter, pooled, self.reg_covar)
        if not all_alive:
            old = ~alive
            means[old] = params.means[old]
            if not self.tied:
                covariances[old] = self.shape.covariances(params.factors[old])
        try:
            factors = self.shape.factorise(covariances)
        except np.linalg.LinAlgError as error:
            raise ValueError(
                "a component's covariance is not positive definite: it has collapsed onto too few "
                "distinct rows, or a column is constant within it. Increase reg_covar (now "
                f"{np.max(self.reg_covar):g}), decrease n_components, choose a covariance_type "
                "with fewer parameters, or scale X."
            ) from error
        return GaussianParameters(means, factors)

    def _scatter(self, counts: Array, moments: GaussianMoments, shift: Array) -> Array:
        """Return the scatter around ``reference + shift``."""
        correction = self.shape.lift(counts) * self.shape.moment(shift)
        if self.tied:
            correction = correction.sum(axis=1, keepdims=True)
        return moments.second - correction

    def parameter_gradient(
        self,
        params: GaussianParameters,
        counts: Array,
        moments: GaussianMoments,
        temperature: float,
    ) -> dict[str, Array]:
        shape, offset = self.shape, params.means - moments.reference
        about_means = moments.first - counts[..., None] * offset
        correction = shape.lift(counts) * shape.moment(offset)
        correction = correction - shape.cross_moment(moments.first, offset)
        if self.tied:
            correction = correction.sum(axis=1, keepdims=True)
            counts = counts.sum(axis=1, keepdims=True)
        scatter = moments.second + correction
        of_covariances = shape.covariance_gradient(params.factors, counts, scatter)
        return {
            "means": shape.apply_precision(params.factors, about_means),
            "covariances": of_covariances[:, 0] if self.tied else of_covariances,
        }

    def split_scores(
        self,
        params: GaussianParameters,
        component: int,
        X: Array,
        shares: Array,
        temperature: float,
    ) -> MeanScores:
        factor = params.factors[0, 0 if self.tied else component]
        white = self.shape.whiten(X - params.means[0, component], factor)
        return MeanScores(white) if self.tied else SCORES[type(self.shape)](white)

    def halved(
        self, params: GaussianParameters, component: int, scores: SplitScores, direction: Array
    ) -> GaussianParameters:
        first = self._moved(params, component, scores, direction)
        second = self._moved(params, component, scores, -direction)
        means = appended(first.means, second.means, component)
        factors = first.factors
        if not self.tied:
            factors = appended(factors, second.factors, component)
        return GaussianParameters(means, factors)

    def _moved(
        self, params: GaussianParameters, component: int, scores: SplitScores, direction: Array
    ) -> GaussianParameters:
        means, factors = params.means.copy(), params.factors.copy()
        shift = direction[None, : self.n_features]
        factor = factors[0, 0 if self.tied else component]
        means[0, component] += self.shape.colour(shift, factor)[0]
        if isinstance(scores, CovarianceScores):
            factors[0, component] = scores.moved_factor(factor, direction[self.n_features :])
        return GaussianParameters(means, factors)

    def expected_moments(
        self,
        counts: Array,
        params: GaussianParameters,
        like: GaussianMoments,
        temperature: float,
    ) -> GaussianMoments:
        shift = params.means - like.reference
        spread = self.shape.to_moment(self.shape.covariances(params.factors), self.reg_covar)
        second = self.shape.lift(counts) * self.shape.moment(shift)
        if self.tied:
            second = second.sum(axis=1, keepdims=True)
            pooled = counts.sum(axis=1, keepdims=True)
        else:
            pooled = counts
        second = second + self.shape.lift(pooled) * spread
        return GaussianMoments(counts[..., None] * shift, second, like.reference)

    def mix_moments(
        self, first: GaussianMoments, second: GaussianMoments, step: Array
    ) -> GaussianMoments:
        return GaussianMoments(
            interpolated(first.first, second.first, step),
            interpolated(first.second, second.second, step),
            second.reference,
        )

    def draw(
        self,
        params: GaussianParameters,
        models: NDArray[np.intp],
        labels: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        noise = rng.standard_normal((len(labels), self.n_features))
        out = np.empty_like(noise)
        cells = models * self.n_components + labels
        for cell in np.unique(cells):
            s, k = divmod(int(cell), self.n_components)
            rows = cells == cell
            factor = params.factors[s, 0 if self.tied else k]
            out[rows] = params.means[s, k] + self.shape.colour(noise[rows], factor)
        return out

    def convolve(self, params: GaussianParameters, variance: float) -> GaussianParameters:
        covariances = self.shape.from_scatter(
            self.shape.to_moment(self.shape.covariances(params.factors), 0.0),
            np.ones(params.factors.shape[:2]),
            variance,
        )
        return GaussianParameters(params.means, self.shape.factorise(covariances))

    def n_parameters(self) -> int:
        n_covariances = 1 if self.tied else self.n_components
        return self.n_components * self.n_features + n_covariances * self.shape.n_free
