r"""The network autoencoder's energy, ``H(x, m, z) = log p(x | net_m(z)) - |z|^2 / 2``.

It is computed for centred and scaled rows, see
:class:`~skbae.energies.vae._parameters.RowFrame`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._base import SmoothBoundEnergy, chunk_rows
from skbae.energies._capabilities import (
    MinibatchEnergy,
    NoisyEnergy,
    ParameterGradientEnergy,
)
from skbae.energies.vae._decoder import LIKELIHOODS, Decoder
from skbae.energies.vae._gradients import DecoderGradient
from skbae.energies.vae._landmarks import starts_among
from skbae.energies.vae._minibatch import RowBatches, TrainingOptions, VAEObjective
from skbae.energies.vae._network import Network, Scratch
from skbae.energies.vae._parameters import RowFrame, VAEParameters, in_units_of
from skbae.energies.vae._posterior import (
    ModeSearch,
    WeightedCodes,
    around_others,
    better_modes,
    draw_codes,
    find_code_modes,
)
from skbae.energies.vae._training_step import encoder_output

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, FloatArray, Frame, Rows

# The centre of draws may be approximate (the tolerance is times T); at T = 0 the maximum is exact.
_CENTRE_SEARCH = ModeSearch(30, 1e-3)
_MAXIMUM_SEARCH = ModeSearch(400, 1e-13)
# Standard deviations of columns that are constant up to rounding, relative to their size.
_CONSTANT = 1e-14


class BoundVAE(SmoothBoundEnergy):
    """The energy with the parameters of S models."""

    def __init__(self, energy: VAEEnergy, params: VAEParameters) -> None:
        self.energy, self.params = energy, params
        sizes = energy.decoder.network.sizes
        a_draw = 3 * sizes[0] + sum(sizes[1:]) + sizes[-1]
        self.chunk_rows = chunk_rows(energy.noise.shape[1] * a_draw)

    def codes(self, X: NDArray[Any], temperature: float, model: int) -> WeightedCodes:
        """Return weighted codes of rows under one model; at T = 0 the best code alone.

        Energies are those of scaled rows, without the term ``log_volume``.
        """
        energy = self.energy
        inputs, targets = energy.frame.inputs(X), energy.frame.targets(X)
        theta = self.params.decoder[model : model + 1]
        phi = self.params.encoder[model : model + 1]
        _, mean, log_deviation = encoder_output(energy.encoder, phi, inputs, Scratch())
        starts, search = energy.starts(theta, mean[0], targets, temperature), _MAXIMUM_SEARCH
        if temperature:
            tol = _CENTRE_SEARCH.tol * min(temperature, 1.0)
            search = ModeSearch(_CENTRE_SEARCH.max_steps, tol)
        modes = [find_code_modes(energy.decoder, theta, targets, each, search) for each in starts]
        found = better_modes(modes)
        if temperature:
            guess = mean[0], log_deviation[0]
            if len(modes) > 1:
                guess = around_others(modes, found, temperature)
            noise = energy.noise[model % len(energy.noise)]
            return draw_codes(energy.decoder, theta, targets, found, guess, noise, temperature)
        layers, _ = energy.decoder.split(theta)
        outputs = energy.decoder.network.forward(layers, found.codes[None], Scratch())[-1][0]
        ones = np.ones((len(X), 1))
        value = found.energy
        return WeightedCodes(found.codes[:, None], ones, value[:, None], value, outputs[:, None])

    def hmax(self, X: NDArray[Any], temperature: float) -> Array:
        return self.hmax_and_error(X, temperature)[0]

    def hmax_and_error(self, X: NDArray[Any], temperature: float) -> tuple[Array, Array]:
        """Return ``Hmax_T`` and the relative variance of ``exp(Hmax_T / T)``, both (S, n).

        The variance is ``1 / ESS - 1 / L``, with ESS the effective number of the L draws.
        """
        values = np.empty((self.params.n_models, len(X)))
        errors = np.empty_like(values)
        for model in range(len(values)):
            codes = self.codes(X, temperature, model)
            values[model] = codes.hmax + self.energy.frame.log_volume
            errors[model] = 1 / codes.effective - 1 / codes.weights.shape[1]
        return values, np.maximum(errors, 0.0)

    def hmax_gradient(self, X: NDArray[Any], temperature: float) -> tuple[Array, Array]:
        energy = self.energy
        targets, likelihood = energy.frame.targets(X), energy.decoder.rows
        values = np.empty((self.params.n_models, len(X)))
        gradients = np.empty((len(values), *X.shape))
        for model in range(len(values)):
            codes = self.codes(X, temperature, model)
            values[model] = codes.hmax + energy.frame.log_volume
            _, extra = energy.decoder.split(self.params.decoder[model : model + 1])
            expected = np.matmul(codes.weights[:, None], codes.outputs)[None, None, :, 0]
            slope = likelihood.row_gradient(targets, expected, extra)
            gradients[model] = slope[0, 0] / energy.frame.unit
        return values, gradients


class VAEEnergy(MinibatchEnergy, NoisyEnergy, ParameterGradientEnergy):
    """Autoencoders with networks for decoder and encoder.

    Parameters
    ----------
    decoder : Decoder
    encoder : Network
        From rows to the means and log standard deviations of a normal distribution of codes.
    frame : RowFrame
    noise : ndarray of shape (B, L, d)
        Blocks of standard normal draws, the same for all rows, by which integrals over codes are
        estimated; model s uses block s modulo B.
    training : TrainingOptions or None, default=None
        Needed for fits.
    landmarks : ndarray of shape (K, d) or None, default=None
        Codes of some rows of the training set: at T < 1 searches for a row's code start from some
        of these instead of the code that the encoder gives.
    """

    def __init__(
        self,
        decoder: Decoder,
        encoder: Network,
        frame: RowFrame,
        noise: Array,
        training: TrainingOptions | None = None,
        landmarks: Array | None = None,
    ) -> None:
        self.decoder, self.encoder, self.frame, self.noise = decoder, encoder, frame, noise
        self.training, self.n_features = training, len(frame.centre)
        self.landmarks = landmarks

    def starts(
        self, theta: Array, encoded: Array, targets: Array, temperature: float
    ) -> list[Array]:
        """Return codes (n, d) from which searches for modes start.

        An encoder may lead to a mode that is not the best, which then counts the more, the smaller
        T and the noise are.

        Parameters
        ----------
        theta : ndarray of shape (1, P)
        encoded : ndarray of shape (n, d)
            The encoder's codes of the rows.
        targets : ndarray of shape (n, D)
        temperature : float
        """
        # far from the origin networks are flat, and the search would not move
        first = np.clip(encoded, -10, 10)
        if temperature < 1 and self.landmarks is not None:
            return [*starts_among(self.decoder, theta, targets, self.landmarks), 0 * first]
        return [first, -first, 0 * first] if temperature == 0 else [first]

    def check_penalty(self, total: float) -> None:
        """Raise ValueError if the penalty overflows beside rows of this sum of weights."""
        assert self.training is not None, "a fit needs training options"
        self.training.share(total)

    def with_landmarks(self, landmarks: Array | None) -> VAEEnergy:
        """Return the same energy with other landmarks."""
        return VAEEnergy(
            self.decoder, self.encoder, self.frame, self.noise, self.training, landmarks
        )

    def with_weaker_penalty(self, factor: float) -> VAEEnergy:
        """Return the same energy with its penalty times a factor."""
        options = self.training
        assert options is not None, "a fit needs training options"
        options = replace(options, penalty_weight=factor * options.penalty_weight)
        return VAEEnergy(
            self.decoder, self.encoder, self.frame, self.noise, options, self.landmarks
        )

    # -- Energy --------------------------------------------------------------------------------

    def bind(self, params: VAEParameters, frame: Frame, dtype: Any) -> BoundVAE:
        # in double precision even for float32 rows, since energies may be hundreds of nats
        return BoundVAE(self, params)

    def gradient_kernel(
        self, params: VAEParameters, frame: Frame, temperature: float
    ) -> DecoderGradient:
        bound = BoundVAE(self, params)
        return DecoderGradient(
            self.decoder,
            self.frame,
            params.decoder,
            lambda X, model: bound.codes(X, temperature, model),
            bound.chunk_rows,
        )

    def draw(
        self, params: VAEParameters, n_rows: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        models = rng.integers(params.n_models, size=n_rows)
        codes = rng.standard_normal((n_rows, self.decoder.network.sizes[0]))
        X = np.empty((n_rows, self.n_features))
        for model in np.unique(models):
            mine = models == model
            layers, extra = self.decoder.split(params.decoder[model : model + 1])
            outputs = self.decoder.network.forward(layers, codes[None, mine], Scratch())[-1]
            mean = self.decoder.rows.mean(outputs[:, None])
            X[mine] = self.decoder.rows.draw(mean, extra, rng)[0, 0]
        return self.frame.restore(X), codes

    def convolve(self, params: VAEParameters, variance: float) -> VAEParameters:
        if not self.decoder.n_extra:
            raise ValueError(
                "denoise removes normal noise from rows of real numbers; it needs "
                "likelihood='gaussian', got likelihood='bernoulli'. For bits, use "
                "inverse_transform(transform(X))"
            )
        theta = params.decoder.copy()
        _, log_noise = self.decoder.split(theta)
        added = variance / self.frame.unit[: log_noise.shape[1]] ** 2
        log_noise[...] = np.log(np.exp(log_noise) + added)
        return VAEParameters(theta, params.encoder)

    def n_parameters(self) -> int:
        return self.decoder.n_parameters

    # -- MinibatchEnergy -----------------------------------------------------------------------

    def row_batches(self, rows: Rows, temperature: float) -> RowBatches:
        """Return rows in single precision, for training steps."""
        decoder = replace(self.decoder, code_precision=self._code_unit**2)
        return RowBatches(decoder, self.encoder, self.frame, rows, temperature)

    @property
    def _code_unit(self) -> float:
        return 1.0 if self.training is None else self.training.code_unit

    def minibatch_objective(self, rows: Rows, temperature: float, batch_size: int) -> VAEObjective:
        assert self.training is not None, "a fit needs training options"
        batches = self.row_batches(rows, temperature)
        return VAEObjective(batches, self.training, rows.total, batch_size)

    def join(self, params: VAEParameters) -> FloatArray:
        """Return the coordinates of a single model, one vector in single precision."""
        params = in_units_of(self.decoder, self.encoder, params, self._code_unit)
        return np.concatenate([params.decoder[0], params.encoder[0]]).astype(np.float32)

    def penalty(self, params: VAEParameters) -> float:
        """Return the penalty of a single model, in nats."""
        assert self.training is not None, "a fit needs training options"
        decoder = self.join(params)[None, : self.decoder.n_parameters]
        options = self.training
        return options.penalty_weight * float(options.penalty.value(decoder)[0])

    def part(self, vector: FloatArray) -> VAEParameters:
        """Return the model at coordinates, the inverse of :meth:`join`."""
        size, vector = self.decoder.n_parameters, vector.astype(np.float64)
        params = VAEParameters(vector[None, :size], vector[None, size:])
        return in_units_of(self.decoder, self.encoder, params, 1 / self._code_unit)


# -- from an architecture --------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """The shape of both networks.

    Attributes
    ----------
    n_components, n_features : int
        d and D.
    hidden_layer_sizes : tuple of int
        Hidden layers of the encoder; the decoder has them in reverse order.
    activation, likelihood, noise : str
    """

    n_components: int
    n_features: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    likelihood: str
    noise: str

    def networks(self) -> tuple[Decoder, Network]:
        """Return the decoder and the encoder."""
        d, hidden, n_features = self.n_components, self.hidden_layer_sizes, self.n_features
        # rows of real numbers start from PCA, which the linear maps of skip connections contain
        skip = LIKELIHOODS[self.likelihood].scaled
        decoder = Network((d, *hidden[::-1], n_features), self.activation, skip)
        encoder = Network((n_features, *hidden, 2 * d), self.activation, skip)
        return Decoder(decoder, self.likelihood, self.noise), encoder

    @property
    def n_parameters(self) -> int:
        """Number of parameters of both networks."""
        decoder, encoder = self.networks()
        return decoder.n_parameters + encoder.n_parameters

    def frame(self, centre: Array, scale: Array) -> RowFrame:
        """Return the frame of rows with this mean and these standard deviations, (D,)."""
        scaled = LIKELIHOODS[self.likelihood].scaled
        common = float(np.sqrt(np.mean(scale**2))) or 1.0
        if scaled and self.noise == "per_feature":
            # columns that are constant, up to rounding, have the scale of the others
            scale = np.where(scale > _CONSTANT * np.maximum(np.abs(centre), common), scale, common)
        else:
            scale = np.full_like(scale, common)
        return RowFrame(centre, scale, scaled)

    def energy(
        self,
        frame: RowFrame,
        noise: Array,
        training: TrainingOptions | None = None,
        landmarks: Array | None = None,
    ) -> VAEEnergy:
        """Return the energy, with the draws by which its integrals are estimated."""
        return VAEEnergy(*self.networks(), frame, noise, training, landmarks)
