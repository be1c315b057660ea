"""PCA with its prior in the eigenbasis of the rows: a few coordinates, and a frame.

In loadings ``W = U diag(w) V'`` the rotation V has no effect, and the model's mean can be
integrated out at any temperatures, since it is normal given the loadings. This leaves d singular
values and the noise, *coordinates* whose posterior is nearly normal, and the frame U, whose
posterior given these is matrix Bingham; ``_frames.py`` has a density close to it. Rows that span r
of D dimensions have r variances; outside their span the frame is isotropic, and d x d numbers
describe it. No array is as large as D x D, and a model costs O(r d^2).

Coordinates are the normal scores of the lengths ``sqrt(w_i^2 - w_{i+1}^2)`` in units of the prior's
deviation, as half-normal variables (``operators/_half_normal.py``): singular values keep their
order, and whatever the density at a gap that closes, its tail in the score is no heavier than a
normal one. The last coordinate is the log of the noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln, multigammaln

from skbae.energies._capabilities import NestedPosterior, Proposal
from skbae.energies.pca._energy import PCAParameters, fix_signs
from skbae.energies.pca._frames import (
    FarBlock,
    FrameProposal,
    length_multiplier,
    n_settled,
    outside_vectors,
)
from skbae.energies.pca._loadings import RowMoments, complete_axes
from skbae.operators._constants import LOG_2PI
from skbae.operators._half_normal import log_length, log_length_slope, normal_score

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies.pca._loadings import PCAPrior

_LOG_PI = float(np.log(np.pi))
# Variances below this share of the largest count as rounding errors.
_RANK = 1e-12
# Largest number of entries of the arrays of a batch of models.
_NUMBERS = 1 << 21
# Starts are optima at T, or at this temperature if T is lower.
_COLDEST_START = 0.1
# Number of pairs of axes whose rotation enters the balance.
_N_ROTATIONS = 4


class PCAInEigenbasis(NestedPosterior):
    """PCA with its prior, on rows given by their moments.

    Parameters
    ----------
    n_components : int
        d.
    prior : PCAPrior
    moments : RowMoments
        With or without the axes along which the rows do not vary.
    temperature : float
        T.
    power : float
        ``N / tau``.
    """

    def __init__(
        self,
        n_components: int,
        prior: PCAPrior,
        moments: RowMoments,
        temperature: float,
        power: float,
    ) -> None:
        self.n_components, self.prior, self.moments = n_components, prior, moments
        self.temperature, self.power = temperature, power
        self.n_features = len(moments.mean)
        self.n_coordinates = n_components + 1
        self.axes, self.variances = _explicit_axes(moments, prior.mean, n_components)
        self.n_outside = self.n_features - len(self.variances)
        self.offset = (moments.mean - prior.mean) @ self.axes
        self.total_variance = float(self.variances.sum())

    # -- models --------------------------------------------------------------------------------

    @property
    def seen(self) -> RowMoments:
        """The rows' moments along explicit axes, which include that of the prior's mean."""
        return RowMoments(self.moments.mean, self.axes, self.variances, self.moments.total)

    def unpack(self, theta: Array) -> tuple[Array, Array]:
        """Return squared singular values (S, d), decreasing, and noise (S,)."""
        gaps = np.exp(2 * log_length(theta[:, :-1])) * self.prior.component_variance
        return np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1], np.exp(theta[:, -1])

    def pack(self, squares: Array, noise: float) -> Array:
        """Return coordinates (d + 1,) of one model, the inverse of :meth:`unpack`."""
        gaps = squares - np.append(squares[1:], 0.0)
        gaps = np.maximum(gaps, 1e-2 * squares) / self.prior.component_variance
        return np.append(normal_score(0.5 * np.log(gaps)), np.log(noise))

    def log_prior(self, theta: Array) -> Array:
        """Return the prior's log density of coordinates, (S,)."""
        value = self.log_prior_of_squares(self.unpack(theta)[0])
        return value + self.log_slopes(theta[:, :-1]) + self.log_prior_of_noise(theta[:, -1])

    def log_prior_of_squares(self, squares: Array) -> Array:
        """Return the log density of squared singular values in the prior's units, (S,).

        Those of a Wishart matrix's eigenvalues (Muirhead 1982, theorem 3.2.18).
        """
        size, n_features = self.n_components, self.n_features
        ratios = squares / self.prior.component_variance
        value = 0.5 * (n_features - size - 1) * np.log(ratios).sum(axis=1)
        value -= 0.5 * ratios.sum(axis=1)
        for i in range(size - 1):
            value += np.log(ratios[:, [i]] - ratios[:, i + 1 :]).sum(axis=1)
        value += 0.5 * size**2 * _LOG_PI - 0.5 * size * n_features * np.log(2.0)
        if size:
            value -= multigammaln(0.5 * n_features, size) + multigammaln(0.5 * size, size)
        return value

    def log_prior_of_noise(self, log_noise: Array) -> Array:
        """Return the log density of the log of the noise, (S,)."""
        shape, scale = self.prior.noise_shape, self.prior.noise_scale
        value = shape * (np.log(scale) - log_noise) - gammaln(shape)
        return value - scale * np.exp(-log_noise)

    def log_slopes(self, scores: Array) -> Array:
        """Return the log derivative of squared lengths by their scores, (S,)."""
        lengths = log_length(scores)
        slopes = log_length_slope(scores, lengths)[0]
        return (np.log(2.0) + 2 * lengths + np.log(slopes)).sum(axis=1)

    def fields(self, squares: Array, noise: Array) -> Array:
        """Return ``1 / s2 - 1 / (s2 + w_i^2)``, (S, d)."""
        return squares / (noise[:, None] + squares) / noise[:, None]

    def mean_energy(self, squares: Array, noise: Array, along: Array) -> Array:
        """Return ``Hmaxe_T`` at the rows' mean, (S,), given variances along directions (S, d)."""
        value = -0.5 * self.n_features * (LOG_2PI + np.log(noise))
        value -= 0.5 * self.temperature * np.log1p(squares / noise[:, None]).sum(axis=1)
        explained = (self.fields(squares, noise) * along).sum(axis=1)
        return value - 0.5 * (self.total_variance / noise - explained)

    def log_offset(self, squares: Array, noise: Array, inner: Array) -> Array:
        """Return the log integral over the model's mean, relative to the energy at the rows'.

        Parameters
        ----------
        squares : ndarray of shape (S, d)
        noise : ndarray of shape (S,)
        inner : ndarray of shape (S, d)
            Of the directions with the rows' mean less the prior's.
        """
        scaled = self.power * self.prior.mean_variance
        variances = squares + noise[:, None]
        value = -0.5 * np.log1p(scaled / variances).sum(axis=1)
        value -= 0.5 * (self.n_features - self.n_components) * np.log1p(scaled / noise)
        across, more = self._offset_precisions(variances, noise)
        return value - 0.5 * (across * (self.offset @ self.offset) + (more * inner**2).sum(axis=1))

    def _offset_precisions(self, variances: Array, noise: Array) -> tuple[Array, Array]:
        """Return precisions of the offset across the directions, and how much more along them."""
        across = 1.0 / (noise / self.power + self.prior.mean_variance)
        along = 1.0 / (variances / self.power + self.prior.mean_variance)
        return across, along - across[:, None]

    def log_likelihood(self, squares: Array, noise: Array, frames: Array) -> Array:
        """Return ``(N / tau) Hmaxe_T``, with the model's mean integrated out by its prior, (S,)."""
        along, inner = self._seen(frames)
        value = self.log_offset(squares, noise, inner)
        return value + self.power * self.mean_energy(squares, noise, along)

    def _seen(self, frames: Array) -> tuple[Array, Array]:
        """Return variances along directions and their inner products with the offset, (S, d)."""
        explicit = frames[:, :, : len(self.variances)]
        return explicit**2 @ self.variances, explicit @ self.offset

    # -- NestedPosterior ------------------------------------------------------------------------

    def starts(self) -> Array:
        """Return one start for each number of directions that have not melted."""
        size, lam, n_features = self.n_components, self.variances, self.n_features
        temperature = max(self.temperature, _COLDEST_START)
        starts = []
        for n_solid in range(size + 1):
            degrees = n_features - temperature * n_solid
            if degrees <= 0:
                break
            rest = max(lam[n_solid:].sum(), 1e-3 * lam[0])
            # a component of a row or two has no variance, or hardly any: its noise is the prior's
            least = 2 * self.prior.noise_scale
            least /= 2 * self.prior.noise_shape + self.power * degrees
            noise = max(float(rest / degrees), least)
            melted = 0.3 * noise * (1 - 0.05 * np.arange(size) / max(size, 1))
            squares = np.maximum(lam[:size] / temperature - noise, melted)
            squares[n_solid:] = melted[n_solid:]
            starts.append(self.pack(np.maximum.accumulate(squares[::-1])[::-1], noise))
        return np.array(starts)

    def approximate(self, theta: Array) -> Array:
        """Return the log density with the frame integrated out by saddle points, column by column.

        Each direction has a sphere to itself (Kume and Wood 2005), one dimension less than that of
        the one before it.
        """
        lam, size = self.variances, self.n_components
        home = np.zeros((len(theta), size))
        # models far from the data may overflow; their density is then not finite
        with np.errstate(all="ignore"):
            squares, noise = self.unpack(theta)
            fields = self.power * self.fields(squares, noise)
            value = self.log_prior(theta)
            value += self.power * self.mean_energy(squares, noise, home + lam[:size])
            value += self.log_offset(squares, noise, home + self.offset[:size])
            for i in range(size):
                value += self._log_sphere(fields, i)
        return value

    def _log_sphere(self, fields: Array, i: int) -> Array:
        """Return ``log E exp(- sum_j f (lam_i - lam_j) u_j^2 / 2)`` for u uniform, (S,)."""
        lam, n, size = self.variances, self.n_features - i, self.n_components
        own = fields[:, [i]]
        # a direction that turns onto another one's axis exchanges places with it
        rest = np.broadcast_to(own * (lam[i] - lam[size:]), (len(own), len(lam) - size))
        off = np.concatenate([(own - fields[:, i:]) * (lam[i] - lam[i:size]), rest], axis=1)
        outside = own[:, 0] * lam[i]
        b = length_multiplier(off, self.n_outside, outside)
        log_det = np.log(b[:, None] + off).sum(axis=1)
        spread = (1.0 / (b[:, None] + off) ** 2).sum(axis=1)
        if self.n_outside:
            log_det += self.n_outside * np.log(b + outside)
            spread += self.n_outside / (b + outside) ** 2
        return 0.5 * (b - n - log_det + n * np.log(n) - np.log(n * spread))

    def proposal(self, theta: Array) -> Proposal:
        return PCAProposal(self, theta)


class PCAProposal(Proposal):
    """Frames given singular values; see ``_frames.py``.

    Directions are *settled* if they mix with no axes but their own. They may still mix with each
    other where their singular values are similar. Their coordinates are the entries of the
    logarithm of the matrix ``W W'`` in their own axes, which is nearly normal whether or not its
    eigenvalues differ. The other directions have coordinates as in :class:`PCAInEigenbasis`, and
    are drawn in the complement of these.

    Parameters
    ----------
    energy : PCAInEigenbasis
    theta : ndarray of shape (d + 1,)
        Typical coordinates.
    most_settled : int or None, default=None
        Largest number of directions that are treated as settled; None for no limit.
    """

    def __init__(
        self, energy: PCAInEigenbasis, theta: Array, most_settled: int | None = None
    ) -> None:
        self.energy = energy
        squares, noise = energy.unpack(theta[None])
        fields = energy.fields(squares, noise)[0]
        lam, size, power = energy.variances, energy.n_components, energy.power
        n_outside = energy.n_outside
        melted = energy.temperature * float(noise[0])
        n = n_settled(power * fields, lam, n_outside, melted)
        self.n_settled = n = n if most_settled is None else min(n, most_settled)
        self._settled = FarBlock(lam, n, n, n_outside, power, fields[:n]) if n else None
        self._others = FrameProposal(lam[n:], n_outside, power, fields[n:])
        self._rows, self._columns = np.triu_indices(n)
        self.n_matrix = len(self._rows)
        self.n_numbers = size * (len(lam) - n) + size
        self.n_numbers += size * (size + 1) // 2 if n_outside else 0
        self._batch = max(16, _NUMBERS // max(self.n_numbers, 1))

    # -- coordinates ---------------------------------------------------------------------------

    def embed(self, centre: Array, axes: Array) -> tuple[Array, Array]:
        n, first = self.n_settled, self.n_matrix
        size = len(centre) - n + first
        diagonal = np.flatnonzero(self._rows == self._columns)
        placed = np.zeros((size, size))
        moved = self._diagonal_coordinates(np.concatenate([centre[None], centre + 1e-4 * axes]))
        slopes = (moved[1:] - moved[0]) / 1e-4
        whole = np.zeros(size)
        own = np.concatenate([diagonal, first + np.arange(size - first)])
        whole[own] = moved[0]
        placed[np.ix_(own, own)] = slopes
        mixed = np.flatnonzero(self._rows != self._columns)
        placed[mixed, mixed] = np.nan
        return whole, placed

    def _diagonal_coordinates(self, theta: Array) -> Array:
        """Return coordinates of models with settled directions along their axes, (S, d + 1)."""
        n = self.n_settled
        squares, _ = self.energy.unpack(theta)
        logs = np.log(squares[:, :n] / self.energy.prior.component_variance)
        return np.concatenate([logs, theta[:, n:]], axis=1)

    def _unpack(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        """Return squares (S, d), noise (S,), settled frames (S, n, n), and the log prior (S,)."""
        energy, n, first = self.energy, self.n_settled, self.n_matrix
        variance = energy.prior.component_variance
        gaps = np.exp(2 * log_length(theta[:, first:-1])) * variance
        squares = np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1]
        logs = np.zeros((len(theta), n, n))
        logs[:, self._rows, self._columns] = theta[:, :first]
        logs[:, self._columns, self._rows] = theta[:, :first]
        sound = np.asarray(np.isfinite(logs).all(axis=(1, 2)))
        values, vectors = np.linalg.eigh(np.where(sound[:, None, None], logs, np.eye(n)))
        values, vectors = values[:, ::-1], np.swapaxes(vectors[:, :, ::-1], 1, 2)
        squares = np.concatenate([np.exp(values) * variance, squares], axis=1)
        log_prior = energy.log_prior_of_squares(squares) + energy.log_prior_of_noise(theta[:, -1])
        log_prior += energy.log_slopes(theta[:, first:-1])
        # from eigenvalues and uniform axes to a symmetric matrix, and on to its logarithm
        # (Muirhead 1982, theorem 3.2.17)
        log_prior += values.sum(axis=1)
        for i in range(n - 1):
            log_prior -= np.log(values[:, [i]] - values[:, i + 1 :]).sum(axis=1)
        if n:
            log_prior += multigammaln(0.5 * n, n) - 0.5 * n**2 * _LOG_PI
        log_prior = np.where(sound, log_prior, -np.inf)
        return squares, np.exp(theta[:, -1]), vectors, log_prior

    def _draw(self, theta: Array, numbers: Array) -> tuple[Any, Array]:
        """Return squares, noise and frames of models, and the log prior less the log density."""
        energy, n = self.energy, self.n_settled
        squares, noise, turned, log_ratio = self._unpack(theta)
        fields = energy.fields(squares, noise)
        size, n_far = energy.n_components, len(energy.variances) - n
        end = size * n_far
        inner = numbers[:, :end].reshape(len(theta), size, n_far)
        outer = outside_vectors(numbers[:, end + size :], size, energy.n_outside)
        frames, log_density = self._others.draw(
            fields[:, n:], inner[:, n:], numbers[:, end + n : end + size], outer[:, n:]
        )
        log_ratio = log_ratio - log_density
        if self._settled is not None:
            block, root, log_density = self._settled.draw(
                fields[:, :n], turned, inner[:, :n], outer[:, :n], fields[:, n:]
            )
            frames = _joined(turned, block, root, frames)
            log_ratio = log_ratio - log_density
        return (squares, noise, frames), log_ratio

    # -- Proposal ------------------------------------------------------------------------------

    def log_ratio(self, theta: Array, numbers: Array) -> Array:
        values = []
        for begin in range(0, len(theta), self._batch):
            part = slice(begin, begin + self._batch)
            # models far from the data may overflow; their density is then not finite
            with np.errstate(all="ignore"):
                model, log_ratio = self._draw(theta[part], numbers[part])
                value = self.energy.log_likelihood(*model) + log_ratio
            values.append(np.where(np.isfinite(value), value, -np.inf))
        return np.concatenate(values)

    def objective(self, theta: Array, numbers: Array) -> tuple[Array, Array]:
        values, scores = [], []
        for begin in range(0, len(theta), self._batch):
            part = slice(begin, begin + self._batch)
            model, _ = self._draw(theta[part], numbers[part])
            value, score = _objective_and_scores(self.energy, *model)
            values.append(value)
            scores.append(score)
        return np.concatenate(values), np.concatenate(scores)

    def spread(self, theta: Array, numbers: Array) -> Array:
        parts = []
        for begin in range(0, len(theta), self._batch):
            part = slice(begin, begin + self._batch)
            parts.append(_spread_by_mean(self.energy, *self._draw(theta[part], numbers[part])[0]))
        return np.concatenate(parts)

    def models(self, theta: Array, numbers: Array, rng: np.random.Generator) -> PCAParameters:
        energy = self.energy
        (squares, noise, frames), _ = self._draw(theta, numbers)
        n_axes, prior = len(energy.variances), energy.prior
        components = np.matmul(frames[:, :, :n_axes], energy.axes.T)
        if energy.n_outside:
            components += np.matmul(frames[:, :, n_axes:], self._outside_axes(len(theta), rng))
        # the model's mean, given the rest
        variances = squares + noise[:, None]
        scaled = energy.power * prior.mean_variance
        offset = energy.moments.mean - prior.mean
        across = noise / (noise + scaled)
        more = variances / (variances + scaled) - across[:, None]
        numbers = rng.standard_normal((len(theta), energy.n_features))
        roots = np.sqrt(across * prior.mean_variance)
        steps = np.sqrt((across[:, None] + more) * prior.mean_variance) - roots[:, None]
        shift = across[:, None] * offset + roots[:, None] * numbers
        along = more * (components @ offset) + steps * np.einsum("sde,se->sd", components, numbers)
        shift += np.matmul(along[:, None], components)[:, 0]
        return PCAParameters(
            energy.moments.mean - shift, fix_signs(components), 1.0 / variances, noise
        )

    def _outside_axes(self, n_models: int, rng: np.random.Generator) -> Array:
        """Draw d orthonormal directions outside the explicit axes for each model, (S, d, D)."""
        energy = self.energy
        shape = (n_models, energy.n_features, energy.n_components)
        axes = energy.axes
        drawn = rng.standard_normal(shape)
        drawn -= np.matmul(axes, np.matmul(axes.T, drawn))
        drawn = np.linalg.qr(drawn)[0]
        drawn -= np.matmul(axes, np.matmul(axes.T, drawn))
        return np.swapaxes(drawn, 1, 2)


def _joined(turned: Array, block: Array, root: Array, others: Array) -> Array:
    """Return frames (S, d, R + c) of settled directions and of others in their complement.

    The complement is that of the settled directions' axes, turned the shortest way.
    """
    settled = np.concatenate([np.matmul(root, turned), block], axis=2)
    if not others.shape[1]:
        return settled
    own = np.matmul(np.swapaxes(turned, 1, 2), block)  # by axis rather than by direction
    shortened = np.matmul(np.swapaxes(turned, 1, 2), np.matmul(root, turned))
    overlap = np.matmul(others, np.swapaxes(own, 1, 2))
    back = np.linalg.solve(np.eye(own.shape[1]) + shortened, own)
    others = np.concatenate([-overlap, others - np.matmul(overlap, back)], axis=2)
    return np.concatenate([settled, others], axis=1)


def _explicit_axes(moments: RowMoments, prior_mean: Array, size: int) -> tuple[Array, Array]:
    """Return the explicit axes (D, R), and variances along them (R,).

    These are the axes along which rows vary, the direction of the prior's mean, and at least d
    others, if there are so many.
    """
    variances = np.maximum(moments.variances, 0.0)
    kept = variances > _RANK * variances.max(initial=0.0)
    axes, variances = moments.axes[:, kept], variances[kept]
    n_features = len(moments.mean)
    offset = moments.mean - prior_mean
    rest = offset - axes @ (axes.T @ offset)
    rest -= axes @ (axes.T @ rest)
    length = np.sqrt(rest @ rest)
    if length > 1e-9 * np.sqrt(offset @ offset) and axes.shape[1] < n_features:
        axes = np.column_stack([axes, rest / length])
    # each direction has an axis of its own, and what is outside is more than all directions
    outside = n_features - axes.shape[1]
    missing = max(size - axes.shape[1], 0)
    if outside - missing <= size:
        missing = outside
    if missing:
        axes = complete_axes(axes, missing)
    padded = np.zeros(axes.shape[1])
    padded[: len(variances)] = variances
    return axes, padded


def _spread_by_mean(energy: PCAInEigenbasis, squares: Array, noise: Array, frames: Array) -> Array:
    """Return the variance of ``Hmaxe_T`` over the model's mean, given the rest, (S,).

    Along a direction of variance c, ``Hmaxe_T`` falls by ``y^2 / (2 c)`` with the offset y of the
    mean, which is normal.
    """
    m, inner = energy.prior.mean_variance, energy._seen(frames)[1]
    scaled, variances = energy.power * m, squares + noise[:, None]
    shares, noise_share = variances / (variances + scaled), noise / (noise + scaled)
    outer_square = energy.offset @ energy.offset - (inner**2).sum(axis=1)
    n_others = energy.n_features - energy.n_components
    own = (shares * m) ** 2 * (0.5 + inner**2 * shares / m) / variances**2
    others = (noise_share * m) ** 2 * (0.5 * n_others + outer_square * noise_share / m) / noise**2
    return np.asarray(own.sum(axis=1) + others)


def _objective_and_scores(
    energy: PCAInEigenbasis, squares: Array, noise: Array, frames: Array
) -> tuple[Array, Array]:
    """Return the expected ``Hmaxe_T`` (S,) and numbers (S, P) whose expectation is zero.

    Expected over the model's mean. The numbers are derivatives of the log density of loadings and
    noise: along lengths of loadings, along the log of the noise, and, for rotations A between
    pairs of axes, Stein's identity ``E[A f + f A log p] = 0`` with ``f = sum_i h_i u_ij u_ik``.
    They are computed from the target alone, not from the proposal.
    """
    prior, power, temperature = energy.prior, energy.power, energy.temperature
    n_features, size, m = energy.n_features, energy.n_components, energy.prior.mean_variance
    along, inner = energy._seen(frames)
    fields, variances = energy.fields(squares, noise), squares + noise[:, None]
    across, more = energy._offset_precisions(variances, noise)
    base = noise[:, None]
    # the mean, integrated out, costs energy: - E[(x - mu)' C^-1 (x - mu)] / 2
    scaled = power * m
    shares = variances / (variances + scaled)
    noise_share = noise / (noise + scaled)
    outer_square = energy.offset @ energy.offset - (inner**2).sum(axis=1)
    square = ((shares * m + (shares * inner) ** 2) / variances).sum(axis=1)
    square += (noise_share * m * (n_features - size) + noise_share**2 * outer_square) / noise
    objective = energy.mean_energy(squares, noise, along) - 0.5 * square

    of_lengths = n_features - squares / prior.component_variance
    of_lengths += power * squares * (along / variances - temperature) / variances
    of_lengths += squares * scaled / (variances * (variances + scaled))
    of_lengths += squares / power * (across[:, None] + more) ** 2 * inner**2
    of_noise = prior.noise_scale / noise - prior.noise_shape
    of_noise += 0.5 * power * (energy.total_variance / noise - n_features)
    of_noise += 0.5 * power * temperature * (squares / variances).sum(axis=1)
    of_noise -= 0.5 * power * (along * (1.0 / base - base / variances**2)).sum(axis=1)
    of_noise += 0.5 * scaled * (base / (variances * (variances + scaled))).sum(axis=1)
    of_noise += 0.5 * scaled * (n_features - size) / (noise + scaled)
    of_noise += 0.5 * noise / power * across**2 * outer_square
    of_noise += 0.5 * noise / power * ((across[:, None] + more) ** 2 * inner**2).sum(axis=1)

    last = len(energy.variances) - 1
    asked = {(0, 1), (0, size), (size - 1, size), (0, last)}
    pairs = sorted((j, k) for j, k in asked if 0 <= j < k <= last) if size else []
    # the flows W -> W (W'W)^p: of single loadings, only these have no poles where lengths meet
    scores = [of_lengths.sum(axis=1, keepdims=True), of_noise[:, None]]
    if size > 1:
        ratios = squares / prior.component_variance
        scores.append((ratios * (of_lengths + size + 1)).sum(axis=1, keepdims=True))
    for j, k in pairs[:_N_ROTATIONS]:
        u, v = frames[:, :, j], frames[:, :, k]
        mixed = (fields * u * v).sum(axis=1)
        slope = power * (energy.variances[j] - energy.variances[k]) * mixed
        slope -= (more * inner * (energy.offset[j] * v - energy.offset[k] * u)).sum(axis=1)
        scores.append(((fields * (v**2 - u**2)).sum(axis=1) + mixed * slope)[:, None])
    return objective, np.concatenate(scores, axis=1)
