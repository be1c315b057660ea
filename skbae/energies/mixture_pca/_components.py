"""Mixtures of PCA: the component family, its maximisation, and models to start from.

At temperature T a component's energy is ``Hmax_T`` of PCA, with the code z integrated out; the
mixture then sums over components with the same T, which gives the sum over the joint code (k, z).

The maximisation forms no covariance S. Given the product of S with a basis that contains the old
directions, it takes the best subspace *within* the span of the basis (the Rayleigh-Ritz method),
where the optimum is PCA's closed form. The old model lies in the span, so that the objective does
not decrease, at any T. The next basis consists of the new directions, their products with S, and a
few further Ritz vectors: over the iterations it converges to the leading eigenvectors like a Krylov
space. If the basis has as many directions as there are features, each step is exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.mixture._components import (
    DifferentiableFamily,
    IncompleteFamily,
    NoisyComponentFamily,
    SplittableFamily,
    appended,
    interpolated,
)
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters, MixtureStatistics
from skbae.energies.mixture_pca._binding import bind_components
from skbae.energies.mixture_pca._distributions import linear_code
from skbae.energies.mixture_pca._kernel import PCAComponents, PCAMoments
from skbae.energies.mixture_pca._splits import SubspaceScores
from skbae.energies.pca._energy import NOISE_FLOOR, fix_signs
from skbae.energies.pca._gradients import ProjectedMoments, subspace_gradient
from skbae.energies.pca._incomplete import RegressedSubspaces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame
    from skbae.energies.mixture._components import ComponentKernel
    from skbae.energies.mixture._splits import SplitScores


# Further Ritz vectors that stay in the basis; they speed up convergence if eigenvalues d and d + 1
# are close.
_FURTHER_VECTORS = 2
# Relative size of the fixed variances by which directions of zero variance are ordered.
_TIE_BREAK = 1e-8


def n_directions(n_latent: int, n_features: int) -> int:
    """Return the number of directions of the basis in addition to the d components."""
    if n_latent == 0:
        return 0
    return min(n_features - n_latent, n_latent + _FURTHER_VECTORS)


def orthonormal_rows(vectors: Array) -> Array:
    """Return rows (..., q, D) orthonormalised in order, by Householder reflections.

    A row that depends linearly on those before it is replaced by a direction orthogonal to them.
    """
    if vectors.shape[-2] == 0:
        return vectors
    orthogonal, upper = np.linalg.qr(np.swapaxes(vectors, -1, -2))
    signs = np.where(np.diagonal(upper, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    return np.swapaxes(orthogonal, -1, -2) * signs[..., None]


def pooled_noise(
    eigenvalues: Array,
    shares: Array,
    total: Array,
    mass: Array,
    temperature: float,
    floor: Array,
) -> Array:
    """Return the optimal noise of groups of components that share it.

    Parameters
    ----------
    eigenvalues : ndarray of shape (G, M)
        Variances along the directions of all components of a group.
    shares : ndarray of shape (G, M)
        Number of rows of the component that each direction belongs to.
    total : ndarray of shape (G,)
        Sum over components of rows times the trace of their covariance.
    mass : ndarray of shape (G,)
        Rows times features.
    temperature : float
    floor : ndarray of shape (G,)

    Returns
    -------
    ndarray of shape (G,)
        The root of ``s2 (mass - T sum of shares) = total - sum of shares times eigenvalues``, sums
        over the directions whose eigenvalue is above ``T s2``; for one component this is PCA's
        closed form. If the root is below the floor, the floor is the constrained optimum, since the
        objective has a single peak.

    Examples
    --------
    >>> one = np.ones((1, 2))
    >>> pooled_noise(np.array([[4.0, 0.5]]), one, np.array([6.0]), np.array([4.0]), 1.0,
    ...              np.zeros(1)).tolist()
    [0.6666666666666666]
    """
    order = np.argsort(-eigenvalues, axis=1, kind="stable")
    values = np.take_along_axis(eigenvalues, order, axis=1)
    shares = np.take_along_axis(shares, order, axis=1)
    degrees = mass[:, None] - temperature * np.cumsum(shares, axis=1)
    rest = np.maximum(total[:, None] - np.cumsum(shares * values, axis=1), 0.0)
    positive = degrees > 1e-12 * mass[:, None]
    candidates = np.maximum(rest / np.where(positive, degrees, 1.0), floor[:, None])
    solid = positive & (values > temperature * candidates)
    noise = np.concatenate([np.maximum(total / mass, floor)[:, None], candidates], axis=1)
    # the largest number of solid directions that is consistent
    last = np.where(solid, np.arange(1, solid.shape[1] + 1), 0).max(axis=1, initial=0)
    return noise[np.arange(len(noise)), last]


def _leading(matrices: Array) -> tuple[Array, Array]:
    """Return eigenvalues (..., q), decreasing, and eigenvectors in rows (..., q, q)."""
    values, vectors = np.linalg.eigh(0.5 * (matrices + np.swapaxes(matrices, -1, -2)))
    return values[..., ::-1], np.swapaxes(vectors[..., ::-1], -1, -2)


class PCAFamily(NoisyComponentFamily, DifferentiableFamily, SplittableFamily, IncompleteFamily):
    """PCA components with d code dimensions.

    Parameters
    ----------
    n_components : int
        K, of the mixture.
    n_latent : int
        d, at most D.
    n_features : int
        D.
    tied_noise : bool, default=False
        Give all components the same noise.
    noise_floor : float, default=0.0
        Smallest noise variance, in squared units of the data. (The noise of a component is also at
        least a tiny fraction of its largest variance.)
    """

    def __init__(
        self,
        n_components: int,
        n_latent: int,
        n_features: int,
        tied_noise: bool = False,
        noise_floor: float = 0.0,
    ) -> None:
        self.n_components, self.n_latent, self.n_features = n_components, n_latent, n_features
        self.tied_noise, self.noise_floor = tied_noise, noise_floor
        self._tie_break = np.random.default_rng(1015).uniform(0.5, 1.5, n_features)

    def kernel(
        self, log_weights: Array, params: PCAComponents, frame: Frame, dtype: Any
    ) -> ComponentKernel:
        return bind_components(log_weights, params, frame, dtype)

    def code_entropy(self, params: PCAComponents, temperature: float) -> Array | None:
        if temperature == 0 or self.n_latent == 0:
            return None
        with np.errstate(divide="ignore"):
            ratios = np.log(params.precisions * params.noise[..., None])
        return 0.5 * temperature * ratios.sum(axis=2)

    def of_incomplete_rows(self) -> PCAFamily:
        return IncompletePCAFamily(
            self.n_components, self.n_latent, self.n_features, self.tied_noise, self.noise_floor
        )

    # -- maximisation --------------------------------------------------------------------------

    def maximise(
        self, counts: Array, moments: PCAMoments, params: PCAComponents, temperature: float
    ) -> PCAComponents:
        return self._maximise(counts, moments, params, temperature, 0.0)

    def maximise_few(
        self,
        counts: Array,
        moments: PCAMoments,
        params: PCAComponents,
        temperature: float,
        unit: float = 1.0,
    ) -> PCAComponents:
        """Return maximising components for a start, with regularised covariances.

        Each covariance is shrunk towards the pooled isotropic covariance within groups, which
        counts as ``d + 2`` rows of weight `unit`. A component without rows gets the pooled
        covariance.
        """
        return self._maximise(counts, moments, params, temperature, unit * (self.n_latent + 2.0))

    def _maximise(
        self,
        counts: Array,
        moments: PCAMoments,
        params: PCAComponents,
        temperature: float,
        strength: float,
    ) -> PCAComponents:
        alive = counts > 0
        safe = np.where(alive, counts, 1.0)
        shift = moments.first / safe[..., None]
        means = np.where(alive[..., None], moments.reference + shift, params.means)
        within = np.matmul(moments.basis, shift[..., None])  # (S, K, q, 1)
        products = moments.products / safe[..., None, None] - within * shift[:, :, None]
        total = moments.total / safe - np.einsum("skd,skd->sk", shift, shift)
        total = np.where(alive, np.maximum(total, 0.0), 0.0)
        if strength:
            pooled = (counts * total).sum(axis=1) / counts.sum(axis=1)
            pooled = pooled[:, None]
            keep = counts / (counts + strength)
            total = keep * total + (1 - keep) * pooled
            isotropic = (1 - keep) * pooled / self.n_features
            products = (
                keep[..., None, None] * np.where(alive[..., None, None], products, 0.0)
                + isotropic[..., None, None] * moments.basis
            )
            safe = counts + strength
        eigenvalues, components, directions = self._best_subspace(moments.basis, products)
        mass = safe * (alive | bool(strength))
        noise, precisions = self._closed_form(eigenvalues, total, mass, temperature)
        if not strength:
            dead = ~alive
            components[dead], directions[dead] = params.components[dead], params.directions[dead]
            if not self.tied_noise:
                noise[dead] = params.noise[dead]
            ceiling = np.broadcast_to(1.0 / noise, dead.shape)[dead][:, None]
            precisions[dead] = np.minimum(params.precisions[dead], ceiling)
        return PCAComponents(means, components, precisions, noise, directions)

    def _best_subspace(self, basis: Array, products: Array) -> tuple[Array, Array, Array]:
        """Return the d largest variances in the span, their directions, and the next directions."""
        d = self.n_latent
        if d == 0:
            empty = basis[:, :, :0]
            return basis[..., 0].copy(), empty.copy(), empty.copy()
        values, vectors = _leading(np.matmul(products, np.swapaxes(basis, 2, 3)))
        own = np.matmul(vectors[:, :, :d], basis)
        # the next directions must not be rounding noise, so that a row of weight two gives the same
        # result as two rows: directions of zero variance are ordered by tiny, fixed variances
        size = values[..., :1, None]
        products = products + _TIE_BREAK * size * (basis * self._tie_break)
        nearly, ritz = _leading(np.matmul(products, np.swapaxes(basis, 2, 3)))
        ritz = ritz[:, :, : d + _FURTHER_VECTORS]
        pushed = np.matmul(ritz[:, :, :d], products)
        pushed = pushed - nearly[..., :d, None] * np.matmul(ritz[:, :, :d], basis)
        # squares of variances may overflow
        peaks = np.abs(pushed).max(axis=3, keepdims=True)
        pushed /= np.maximum(peaks, np.finfo(np.float64).tiny)
        norms = np.linalg.norm(pushed, axis=3, keepdims=True)
        pushed /= np.maximum(norms, np.finfo(np.float64).tiny)
        further = np.matmul(ritz[:, :, d:], basis)
        candidates = np.concatenate([own, further, pushed], axis=2)
        candidates = candidates[:, :, : d + n_directions(d, self.n_features)]
        frame = orthonormal_rows(candidates)
        components = fix_signs(frame[:, :, :d])
        return np.maximum(values[..., :d], 0.0), components, frame[:, :, d:]

    def _closed_form(
        self, eigenvalues: Array, total: Array, counts: Array, temperature: float
    ) -> tuple[Array, Array]:
        """Return noise (S, K) or (S, 1) and precisions (S, K, d)."""
        n_models = len(counts)
        n_groups = n_models if self.tied_noise else counts.size
        members = counts.size // n_groups
        shares = np.broadcast_to(counts[..., None], eigenvalues.shape)
        largest = eigenvalues[..., 0] if self.n_latent else total
        floor = np.maximum(self.noise_floor, NOISE_FLOOR * largest).reshape(n_groups, members)
        floor = np.maximum(floor.max(axis=1), np.finfo(np.float64).tiny)
        mass = counts.reshape(n_groups, members).sum(axis=1)
        mass = np.where(mass > 0, mass, 1.0)
        noise = pooled_noise(
            eigenvalues.reshape(n_groups, members * self.n_latent),
            shares.reshape(n_groups, members * self.n_latent),
            (counts * total).reshape(n_groups, members).sum(axis=1),
            mass * self.n_features,
            temperature,
            floor,
        ).reshape(n_models, n_groups // n_models)
        solid = (eigenvalues > temperature * noise[..., None]) & (eigenvalues > 0)
        safe = np.where(solid, eigenvalues, 1.0)
        ceiling = 1.0 / np.broadcast_to(noise[..., None], solid.shape)
        # precisions are at most that of the noise, in spite of rounding
        return noise, np.where(solid, np.minimum(temperature / safe, ceiling), ceiling)

    def expected_moments(
        self, counts: Array, params: PCAComponents, like: PCAMoments, temperature: float
    ) -> PCAMoments:
        size = self.n_features
        offset = params.means - like.reference
        noise = np.broadcast_to(params.noise, counts.shape)
        solid = params.shrink > 1e-12
        if temperature == 0:
            # at T = 0 the optimum does not depend on the variances along components if these are
            # the largest
            spread = like.total.sum(axis=1) / counts.sum(axis=1) + size * noise.max(axis=1)
            variance = np.broadcast_to(2 * spread[:, None, None], solid.shape)
        else:
            variance = np.where(solid, temperature / np.where(solid, params.precisions, 1.0), 0.0)
        n_solid = solid.sum(axis=2)
        rest = noise * (size - temperature * n_solid) / np.maximum(size - n_solid, 1)
        excess = np.where(solid, variance - rest[..., None], 0.0)
        along = np.matmul(like.basis, np.swapaxes(params.components, 2, 3)) * excess[:, :, None]
        products = np.matmul(along, params.components) + rest[..., None, None] * like.basis
        products += np.matmul(like.basis, offset[..., None]) * offset[:, :, None]
        total = excess.sum(axis=2) + rest * size + np.einsum("skd,skd->sk", offset, offset)
        return PCAMoments(
            counts[..., None] * offset,
            counts * total,
            counts[..., None, None] * products,
            like.basis,
            like.reference,
        )

    def mix_moments(self, first: PCAMoments, second: PCAMoments, step: Array) -> PCAMoments:
        return PCAMoments(
            interpolated(first.first, second.first, step),
            interpolated(first.total, second.total, step),
            interpolated(first.products, second.products, step),
            second.basis,
            second.reference,
        )

    def parameter_gradient(
        self, params: PCAComponents, counts: Array, moments: PCAMoments, temperature: float
    ) -> dict[str, Array]:
        # moments are about the components' means, and the basis begins with the components
        products = moments.products[:, :, : self.n_latent]
        projected = ProjectedMoments(counts, moments.first, moments.total, products)
        noise = np.broadcast_to(params.noise, counts.shape)
        found = subspace_gradient(
            params.components, params.precisions, noise, projected, temperature
        )
        if self.tied_noise:
            found["noise_variance"] = found["noise_variance"].sum(axis=1)
        return {"means": found.pop("mean"), **found}

    # -- splits --------------------------------------------------------------------------------

    def single(self, params: PCAComponents) -> PCAComponents:
        # without further directions the subspace could not turn, and codes without a prior, from a
        # fit at T = 0, have no energy at other temperatures
        one = super().single(params)
        melted = np.broadcast_to(1.0 / one.noise[..., None], one.precisions.shape).copy()
        n_more = n_directions(self.n_latent, self.n_features)
        more = np.random.default_rng(1015).standard_normal((n_more, self.n_features))
        frame = orthonormal_rows(np.concatenate([one.components[0, 0], more]))
        return replace(one, precisions=melted, directions=frame[None, None, self.n_latent :])

    def split_scores(
        self,
        params: PCAComponents,
        component: int,
        X: Array,
        shares: Array,
        temperature: float,
    ) -> SubspaceScores:
        return SubspaceScores(
            X - params.means[0, component],
            shares,
            params.components[0, component],
            params.precisions[0, component],
            float(params.noise[0, 0 if self.tied_noise else component]),
            temperature,
            not self.tied_noise,
        )

    def halved(
        self, params: PCAComponents, component: int, scores: SplitScores, direction: Array
    ) -> PCAComponents:
        first = self._moved(params, component, scores, direction)
        second = self._moved(params, component, scores, -direction)
        parts = {
            name: appended(getattr(first, name), getattr(second, name), component)
            for name in ("means", "components", "precisions", "directions")
        }
        noise = first.noise
        if not self.tied_noise:
            noise = appended(noise, second.noise, component)
        return PCAComponents(noise=noise, **parts)

    def _moved(
        self, params: PCAComponents, component: int, scores: SplitScores, direction: Array
    ) -> PCAComponents:
        assert isinstance(scores, SubspaceScores)
        shift, axes, own, s2 = scores.move(direction)
        at, solid = (0, component), scores.solid
        means, noise = params.means.copy(), params.noise.copy()
        components, precisions = params.components.copy(), params.precisions.copy()
        directions = params.directions.copy()
        means[at] += shift
        noise[0, 0 if self.tied_noise else component] = s2
        # the solid axes first, so that the others give way
        frame = np.concatenate([axes, components[at][~solid], directions[at]])
        frame = orthonormal_rows(frame)
        n_solid, n_codes = len(axes), len(solid)
        components[(*at, solid)] = frame[:n_solid]
        components[(*at, ~solid)] = frame[n_solid:n_codes]
        directions[at] = frame[n_codes:]
        precisions[(*at, solid)], precisions[(*at, ~solid)] = np.minimum(own, 1 / s2), 1 / s2
        return PCAComponents(means, components, precisions, noise, directions)

    # -- draws and noise -----------------------------------------------------------------------

    def draw(
        self,
        params: PCAComponents,
        models: NDArray[np.intp],
        labels: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        return self.draw_with_codes(params, models, labels, rng)[0]

    def draw_with_codes(
        self,
        params: PCAComponents,
        models: NDArray[np.intp],
        labels: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> tuple[Array, Array]:
        """Draw rows (n, D), and the coordinates (n, d) of their codes in data units."""
        variances = 1.0 / params.precisions - params.noise[..., None]
        loadings = np.sqrt(np.maximum(variances, 0.0))
        noise = np.sqrt(np.broadcast_to(params.noise, params.means.shape[:2]))
        codes = rng.standard_normal((len(labels), self.n_latent))
        codes *= loadings[models, labels]
        out = rng.standard_normal((len(labels), self.n_features))
        out *= noise[models, labels][:, None]
        cells = models * self.n_components + labels
        for cell in np.unique(cells):
            s, k = divmod(int(cell), self.n_components)
            rows = cells == cell
            out[rows] += params.means[s, k] + codes[rows] @ params.components[s, k]
        return out, codes

    def convolve(self, params: PCAComponents, variance: float) -> PCAComponents:
        return PCAComponents(
            params.means,
            params.components,
            params.precisions / (1.0 + variance * params.precisions),
            params.noise + variance,
            params.directions,
        )

    def n_parameters(self) -> int:
        d = self.n_latent
        subspace = d * self.n_features - d * (d - 1) // 2
        n_noise = 1 if self.tied_noise else self.n_components
        return self.n_components * (subspace + self.n_features) + n_noise

    def explained_variance(
        self, counts: Array, moments: PCAMoments, params: PCAComponents
    ) -> Array:
        """Return the variances of the rows along the components, (S, K, d); zero without rows."""
        d = self.n_latent
        safe = np.where(counts > 0, counts, 1.0)[..., None]
        basis = moments.basis[:, :, :d]
        along = np.einsum("skqd,skqd->skq", moments.products[:, :, :d], basis) / safe
        shift = np.einsum("skqd,skd->skq", basis, moments.first) / safe
        return np.maximum(along - shift**2, 0.0)


class IncompletePCAFamily(RegressedSubspaces, PCAFamily):
    """PCA components of rows with missing entries; they need no further directions."""


class PCAMixture(MixtureEnergy[PCAFamily]):
    """``H(x, m, (k, z)) = log w_k + log N(z; 0, I) + log N(x; W_k z + mu_k, s2_k I)``."""

    def draw(
        self, params: MixtureParameters, n_rows: int, rng: np.random.Generator
    ) -> tuple[Array, NDArray[Any]]:
        models, labels = self._draw_labels(params, n_rows, rng)
        X, coordinates = self.family.draw_with_codes(params.components, models, labels, rng)
        picked = np.eye(self.n_components)[labels]
        return X, linear_code(picked, picked[..., None] * coordinates[:, None])


def nearest_mean_components(
    family: PCAFamily, means: Array, variance: float, basis: Array
) -> PCAComponents:
    """Return components whose hard codes assign rows to the nearest mean, with an initial basis.

    Parameters
    ----------
    family : PCAFamily
    means : ndarray of shape (S, K, D)
    variance : float
        Noise variance; all directions have melted into the noise.
    basis : ndarray of shape (S, K, q, D)
        Orthonormal.

    Returns
    -------
    PCAComponents
    """
    d, shape = family.n_latent, means.shape[:2]
    n_noise = 1 if family.tied_noise else shape[1]
    return PCAComponents(
        means,
        basis[:, :, :d],
        np.full((*shape, d), 1.0 / variance),
        np.full((shape[0], n_noise), variance),
        basis[:, :, d:],
    )


def models_from_assignment(
    energy: PCAMixture,
    statistics: MixtureStatistics,
    assigned: MixtureParameters,
    temperature: float,
    unit: float = 1.0,
) -> MixtureParameters:
    """Turn the statistics of a hard assignment into models that are safe to start from.

    Parameters
    ----------
    energy : MixtureEnergy
    statistics : MixtureStatistics
        From a pass with `assigned` at T = 0.
    assigned : MixtureParameters
    temperature : float
        T of the fit that starts from the models.
    unit : float, default=1.0
        Weight of a row, so that a common factor of all weights changes nothing.

    Returns
    -------
    MixtureParameters
    """
    counts = statistics.counts
    weights = assigned.weights
    if not energy.equal_weights:
        weights = np.where(counts > 0, counts, unit)
        weights = weights / weights.sum(axis=1, keepdims=True)
    components = energy.family.maximise_few(
        counts, statistics.moments, assigned.components, temperature, unit
    )
    return MixtureParameters(weights, components)
