"""Mixtures of PCA with their prior, in unconstrained coordinates.

The coordinates of a component are its loadings W and its mean, in units of their prior standard
deviations, and the logarithm of a gamma variable for the noise, ``log(scale / s2)``. The energy
depends on ``W W'`` only, so that it is constant under rotations of the code, whose prior is
uniform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln

from skbae.energies._capabilities import ChartedEnergy, PinnableEnergy
from skbae.energies.mixture._components import GradientComponentFamily
from skbae.energies.mixture._coordinates import MixtureCoordinates
from skbae.energies.mixture._energy import MixtureParameters
from skbae.energies.mixture_pca._charts import PCAMixtureCharts
from skbae.energies.mixture_pca._components import PCAComponents, PCAFamily, PCAMixture
from skbae.energies.mixture_pca._draws_given_labels import LoadedComponents, scan
from skbae.energies.pca._eigenbasis import PCAInEigenbasis
from skbae.energies.pca._energy import fix_signs
from skbae.energies.pca._incomplete import RegressedSubspaces
from skbae.energies.pca._loadings import RowMoments
from skbae.operators._constants import LOG_2PI
from skbae.operators._draws import log_gamma_draws
from skbae.operators._tempered import tempered_softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skbae._types import Array, Frame
    from skbae.energies._allocations import Labels
    from skbae.energies.mixture_pca._kernel import PCAMoments
    from skbae.energies.pca._energy import PCAParameters
    from skbae.energies.pca._loadings import PCAPrior


_TINY = float(np.finfo(np.float64).tiny)


class PCAFamilyWithPrior(PCAFamily, GradientComponentFamily):
    """PCA components with independent priors, each that of PCA.

    Parameters
    ----------
    n_components, n_latent, n_features, tied_noise
        As for PCAFamily. Tied noise has the prior of a single noise variance.
    prior : PCAPrior
    """

    prior: PCAPrior

    def __init__(
        self,
        n_components: int,
        n_latent: int,
        n_features: int,
        tied_noise: bool,
        prior: PCAPrior,
    ) -> None:
        super().__init__(n_components, n_latent, n_features, tied_noise)
        self.prior = prior
        self.units = np.sqrt([prior.component_variance, prior.mean_variance])
        self._n_loadings = n_components * n_features * n_latent
        self._n_means = n_components * n_features

    def of_incomplete_rows(self) -> PCAFamilyWithPrior:
        return IncompletePCAFamilyWithPrior(
            self.n_components, self.n_latent, self.n_features, self.tied_noise, self.prior
        )

    def coordinate_kinds(self) -> NDArray[np.intp]:
        size, features = self.n_features, np.arange(self.n_features)
        loadings = np.tile(np.repeat(features, self.n_latent), self.n_components)
        means = np.tile(size + features, self.n_components)
        noise = np.full(1 if self.tied_noise else self.n_components, 2 * size)
        return np.concatenate([loadings, means, noise])

    def split(self, theta: Array) -> tuple[Array, Array, Array]:
        """Return loadings (S, K, D, d) and means (S, K, D), standardised, and log gammas (S, C)."""
        shape = (len(theta), self.n_components, self.n_features)
        end = self._n_loadings + self._n_means
        loadings = theta[:, : self._n_loadings].reshape(*shape, self.n_latent)
        return loadings, theta[:, self._n_loadings : end].reshape(shape), theta[:, end:]

    def join(self, loadings: Array, means: Array, log_gammas: Array) -> Array:
        """Return coordinates, the inverse of :meth:`split`."""
        n = len(means)
        parts = [loadings.reshape(n, self._n_loadings), means.reshape(n, self._n_means), log_gammas]
        return np.concatenate(parts, axis=1)

    def unconstrain(self, params: PCAComponents) -> Array:
        lengths = np.sqrt(np.maximum(1.0 / params.precisions - params.noise[..., None], 0.0))
        loadings = np.swapaxes(params.components * lengths[..., None], 2, 3) / self.units[0]
        means = (params.means - self.prior.mean) / self.units[1]
        return self.join(loadings, means, np.log(self.prior.noise_scale / params.noise))

    def constrain(self, theta: Array) -> PCAComponents:
        standard, means, log_gammas = self.split(theta)
        loadings = self.units[0] * np.swapaxes(standard, 2, 3)  # (S, K, d, D)
        noise = self.prior.noise_scale * np.exp(-log_gammas)
        if self.n_latent > 1:
            gram = np.matmul(loadings, np.swapaxes(loadings, 2, 3))
            finite = np.isfinite(gram).all(axis=(2, 3), keepdims=True)
            vectors = np.linalg.eigh(np.where(finite, gram, 0.0))[1][..., ::-1]
            loadings = np.matmul(np.swapaxes(vectors, 2, 3), loadings)
        squares = np.einsum("skid,skid->ski", loadings, loadings)
        lengths = np.sqrt(np.where(squares > 0, squares, 1.0))
        return PCAComponents(
            self.prior.mean + self.units[1] * means,
            loadings / lengths[..., None],
            1.0 / (squares + noise[..., None]),
            noise,
            loadings[:, :, :0],
        )

    # -- by loadings ---------------------------------------------------------------------------

    def loaded(self, params: PCAComponents) -> LoadedComponents:
        """Return components by their loadings."""
        lengths = np.sqrt(np.maximum(1.0 / params.precisions - params.noise[..., None], 0.0))
        noise = np.broadcast_to(params.noise, params.means.shape[:2])
        loadings = np.swapaxes(params.components * lengths[..., None], 2, 3)
        return LoadedComponents(loadings, params.means - self.prior.mean, noise)

    def from_loaded(self, loaded: LoadedComponents) -> PCAComponents:
        """Return the inverse of :meth:`loaded`."""
        noise = loaded.noise[:, :1] if self.tied_noise else loaded.noise
        log_gammas = np.log(self.prior.noise_scale / noise)
        scaled = loaded.loadings / self.units[0], loaded.means / self.units[1]
        return self.constrain(self.join(*scaled, log_gammas))

    def join_draws(
        self, parts: Sequence[PCAParameters | None], n_models: int, rng: np.random.Generator
    ) -> PCAComponents:
        """Return components drawn one by one; those that are None come from the prior."""
        drawn = self.loaded(self.constrain(self.draw_prior_coordinates(n_models, rng)))
        loadings, means, noise = drawn.loadings, drawn.means, drawn.noise.copy()
        for k, part in enumerate(parts):
            if part is None:
                continue
            lengths = np.sqrt(np.maximum(1.0 / part.precisions - part.noise[:, None], 0.0))
            loadings[:, k] = np.swapaxes(part.components * lengths[..., None], 1, 2)
            means[:, k], noise[:, k] = part.means - self.prior.mean, part.noise
        return self.from_loaded(LoadedComponents(loadings, means, noise))

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        loadings, means, log_gammas = self.split(theta)
        shape = self.prior.noise_shape
        gammas = np.exp(log_gammas)
        normal = theta[:, : self._n_loadings + self._n_means]
        log_prior = -0.5 * (normal**2 + LOG_2PI).sum(axis=1)
        log_prior += (shape * log_gammas - gammas - gammaln(shape)).sum(axis=1)
        return log_prior, self.join(-loadings, -means, shape - gammas)

    def energy_gradient(
        self, theta: Array, counts: Array, moments: PCAMoments, temperature: float
    ) -> Array:
        # moments are about the components' means, in the basis of their directions
        standard, _, log_gammas = self.split(theta)
        noise = np.broadcast_to(self.prior.noise_scale * np.exp(-log_gammas), counts.shape)[
            ..., None
        ]
        basis, d = moments.basis, self.n_latent
        products = moments.products
        turned = np.matmul(basis, self.units[0] * standard)  # (S, K, d, d): loadings in the basis
        precisions = 1.0 / ((turned**2).sum(axis=3) + noise)
        gain = 1.0 / noise - precisions
        within = precisions[..., None] * turned
        transposed = np.swapaxes(basis, 2, 3)
        scatter = np.matmul(np.swapaxes(products, 2, 3), within)  # S C^-1 W
        inner = gain[..., None] * np.matmul(basis, scatter)
        inner += temperature * counts[..., None, None] * within
        of_loadings = scatter / noise[..., None] - np.matmul(transposed, inner)
        first = moments.first
        along = gain * np.matmul(basis, first[..., None])[..., 0]
        of_means = first / noise - np.matmul(transposed, along[..., None])[..., 0]
        variances = np.einsum("skid,skid->ski", products, basis)
        noise = noise[..., 0]
        rest = moments.total - variances.sum(axis=2)
        of_log_noise = (
            0.5 * counts * (temperature * d - self.n_features)
            - 0.5 * temperature * counts * noise * precisions.sum(axis=2)
            + 0.5 * noise * (precisions**2 * variances).sum(axis=2)
            + 0.5 * rest / noise
        )
        if self.tied_noise:
            of_log_noise = of_log_noise.sum(axis=1, keepdims=True)
        return self.join(self.units[0] * of_loadings, self.units[1] * of_means, -of_log_noise)

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        normal = rng.standard_normal((n_models, self._n_loadings + self._n_means))
        n_noise = 1 if self.tied_noise else self.n_components
        shape = np.full((n_models, n_noise), self.prior.noise_shape)
        return np.concatenate([normal, log_gamma_draws(shape, rng)], axis=1)

    def canonical(self, params: PCAComponents) -> PCAComponents:
        """Return the components with directions orthonormal up to rounding, and fixed signs."""
        # directions from an eigendecomposition of W'W are less accurately orthonormal for short
        # loadings
        left = np.linalg.svd(np.swapaxes(params.components, 2, 3), full_matrices=False)
        nearest = np.matmul(left[0], left[2])
        components = fix_signs(np.swapaxes(nearest, 2, 3))
        return PCAComponents(
            params.means, components, params.precisions, params.noise, components[:, :, :0]
        )


class IncompletePCAFamilyWithPrior(RegressedSubspaces, PCAFamilyWithPrior):
    """PCA components with their prior, of rows with missing entries."""

    def energy_gradient(
        self, theta: Array, counts: Array, moments: Any, temperature: float
    ) -> Array:
        # by Fisher's identity: residuals of the regression on codes, at the models themselves
        standard, _, log_gammas = self.split(theta)
        noise = np.broadcast_to(self.prior.noise_scale * np.exp(-log_gammas), counts.shape)
        d, own = self.n_latent, moments.coefficients
        fitted = np.einsum("skdij,skdj->skdi", moments.design, own)
        left = (moments.crossed - fitted) / noise[..., None, None]
        # codes y along the directions are B z with B = U W, whose rows are orthogonal
        turned = np.matmul(moments.basis, self.units[0] * standard)
        squares = (turned**2).sum(axis=3, keepdims=True)
        of_loadings = np.matmul(left[..., :d], turned / np.maximum(squares, _TINY))
        rest = moments.squares - np.einsum("skdi,skdi->sk", own, 2.0 * moments.crossed - fitted)
        n_known = moments.design[..., -1, -1].sum(axis=2)
        of_log_noise = 0.5 * (np.maximum(rest, 0.0) / noise - n_known)
        if self.tied_noise:
            of_log_noise = of_log_noise.sum(axis=1, keepdims=True)
        return self.join(self.units[0] * of_loadings, self.units[1] * left[..., d], -of_log_noise)


class PCAMixtureWithPrior(PCAMixture, MixtureCoordinates, ChartedEnergy, PinnableEnergy):
    """A mixture of PCA with a Dirichlet prior on its weights.

    Parameters
    ----------
    family : PCAFamilyWithPrior
    concentration : ndarray of shape (K,)
    equal_weights : bool, default=False
    """

    family: PCAFamilyWithPrior

    def __init__(
        self, family: PCAFamilyWithPrior, concentration: Array, equal_weights: bool = False
    ) -> None:
        super().__init__(family, equal_weights)
        self.concentration = concentration

    def canonical(self, params: MixtureParameters) -> MixtureParameters:
        """Return the same models with directions orthonormal up to rounding."""
        return MixtureParameters(params.weights, self.family.canonical(params.components))

    def charts(self, params: MixtureParameters, power: float) -> PCAMixtureCharts:
        return PCAMixtureCharts(self, params, power)

    # -- PinnableEnergy ------------------------------------------------------------------------

    def log_joint(
        self, params: MixtureParameters, X: Array, frame: Frame, temperature: float
    ) -> Array:
        joint = self.bind(params, frame, np.float64).joint(X, temperature)
        return joint / temperature if temperature != 1 else joint

    def redraw(
        self,
        params: MixtureParameters,
        X: Array,
        labels: Labels,
        temperature: float,
        rng: np.random.Generator,
    ) -> MixtureParameters:
        family = self.family
        loaded, counts = scan(
            X - family.prior.mean,
            labels,
            family.loaded(params.components),
            family.prior,
            temperature,
            family.tied_noise,
            rng,
        )
        weights = self._draw_weights(counts / temperature, rng)
        return MixtureParameters(weights, family.from_loaded(loaded))

    def _draw_weights(self, counts: Array, rng: np.random.Generator) -> Array:
        """Draw weights (S, K) given the rows in each component, times 1 / T."""
        if self.equal_weights or self.n_components == 1:
            return np.full(counts.shape, 1 / self.n_components)
        logs = log_gamma_draws(self.concentration + counts, rng)
        return tempered_softmax(logs, 1.0, axis=1)

    def pinned(self, X: Array, temperature: float) -> PCAInEigenbasis | None:
        family = self.family
        if family.tied_noise and self.n_components > 1:
            return None
        mean = X.mean(axis=0)
        _, singular, axes = np.linalg.svd(X - mean, full_matrices=False)
        moments = RowMoments(mean, axes.T, singular**2 / len(X), float(len(X)))
        power = len(X) / temperature
        return PCAInEigenbasis(family.n_latent, family.prior, moments, temperature, power)

    def log_allocation(self, counts: NDArray[Any], temperature: float) -> float:
        scaled = counts / temperature
        if self.equal_weights or self.n_components == 1:
            return -float(scaled.sum() * np.log(self.n_components))
        prior = self.concentration
        value = (gammaln(prior + scaled) - gammaln(prior)).sum()
        return float(value + gammaln(prior.sum()) - gammaln(prior.sum() + scaled.sum()))

    def assemble(
        self,
        parts: Sequence[PCAParameters | None],
        counts: NDArray[Any],
        n_models: int,
        temperature: float,
        rng: np.random.Generator,
    ) -> MixtureParameters:
        components = self.family.join_draws(parts, n_models, rng)
        repeated = np.broadcast_to(counts / temperature, (n_models, self.n_components))
        return MixtureParameters(self._draw_weights(repeated, rng), components)

    def free_coordinates(self, params: MixtureParameters, rng: np.random.Generator) -> Array:
        theta = self.unconstrain(params)
        first = self._n_shares
        if first:  # the sum of the gamma variables, by its prior
            total = log_gamma_draws(np.full((len(theta), 1), self.concentration.sum()), rng)
            theta[:, :first] += total - np.log(self.concentration.sum())
        loadings, means, log_gammas = self.family.split(theta[:, first:])
        d = loadings.shape[3]
        if d:
            turn, upper = np.linalg.qr(rng.standard_normal((*loadings.shape[:2], d, d)))
            turn = turn * np.sign(np.diagonal(upper, axis1=2, axis2=3))[:, :, None]
            loadings = np.matmul(loadings, turn)
        theta[:, first:] = self.family.join(loadings, means, log_gammas)
        return theta
