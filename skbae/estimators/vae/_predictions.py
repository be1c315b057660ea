"""Scores, codes and reconstructions of a fitted BayesianVAEAutoEncoder."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae.energies.vae._distributions import NetworkRows, WeightedPoints
from skbae.energies.vae._parameters import VAEModels, VAEParameters
from skbae.energies.vae._posterior import fixed_noise
from skbae.estimators._batches import BatchAutoEncoder
from skbae.estimators._checks import check_integer
from skbae.estimators._criteria import InformationCriteria
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators._unit_interval import predicted_rows
from skbae.estimators.vae._fit import NetworkDetails
from skbae.estimators.vae._settings import VAESettings
from skbae.operators._floating import own_errors
from skbae.operators._random import as_generator
from skbae.operators._tempered import log_mean_exp, tempered_softmax

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.vae._energy import BoundVAE, VAEEnergy
    from skbae.energies.vae._posterior import WeightedCodes

# Least number of draws of a code under each of several models, unless n_score_samples is smaller.
_FEWEST_DRAWS = 16
# The score of a row is imprecise if its standard error is above _POOR_ERROR * T nats; a warning is
# issued if this holds for more than the share _POOR_SHARE of the rows.
_POOR_ERROR = 0.3
_POOR_SHARE = 0.01


class NetworkPredictions(
    BatchAutoEncoder[VAESettings, NetworkDetails], InformationCriteria[VAESettings, NetworkDetails]
):
    """Methods of a fitted network autoencoder."""

    _settings_class: ClassVar = VAESettings
    _code_class: ClassVar = WeightedPoints
    _reference_names: ClassVar = (
        "decoder_coefs_",
        "decoder_intercepts_",
        "encoder_coefs_",
        "encoder_intercepts_",
        "decoder_skip_",
        "encoder_skip_",
        "noise_variance_",
    )

    outside: str
    decoder_coefs_: list[Array]
    decoder_intercepts_: list[Array]
    encoder_coefs_: list[Array]
    encoder_intercepts_: list[Array]
    loss_curve_: list[float]
    models_: VAEModels

    def _read(self, X: Any) -> NDArray[Any]:
        X = super()._read(X)
        if self._fitted.details.architecture.likelihood == "bernoulli":
            return predicted_rows(X, type(self).__name__, "likelihood", self.outside)
        return X

    # -- densities -----------------------------------------------------------------------------

    def _energy(self) -> VAEEnergy:
        return self._energy_with(None, None)

    def _energy_with(
        self, n_samples: int | None, seed: int | None, n_models: int | None = None
    ) -> VAEEnergy:
        """Return the energy that draws `n_samples` codes under each of `n_models` models."""
        details = self._fitted.details
        n_models = self.models_.n_models if n_models is None else n_models
        if n_samples is None:
            n_samples = details.n_score_samples
            if n_models > 1:
                # averages over models need fewer draws of each, as long as the draws differ between
                # models
                n_samples = max(n_samples // 4, min(n_samples, _FEWEST_DRAWS))
        seed = details.noise_seed if seed is None else seed
        noise = fixed_noise(n_samples, self._n_features_out, seed, n_models)
        return details.architecture.energy(details.frame, noise, landmarks=details.landmarks)

    def _parameters(self) -> VAEParameters:
        details = self._fitted.details
        return details.frame.from_layers(*details.architecture.networks(), self.models_)

    def _reference(self) -> VAEParameters:
        """Return the reference model."""
        details, models = self._fitted.details, self._reference_models()
        return details.frame.from_layers(*details.architecture.networks(), models)

    def _reference_models(self) -> VAEModels:
        """Return the fitted attributes as one model."""

        def layers(name: str) -> list[Array]:
            return [np.asarray(each)[None] for each in getattr(self, name)]

        return VAEModels(
            layers("decoder_coefs_"),
            layers("decoder_intercepts_"),
            layers("encoder_coefs_"),
            layers("encoder_intercepts_"),
            np.asarray(getattr(self, "noise_variance_", np.nan))[None],
            *(
                np.asarray(getattr(self, name))[None] if hasattr(self, name) else None
                for name in ("decoder_skip_", "encoder_skip_")
            ),
        )

    def _bound(self, X: NDArray[Any]) -> BoundVAE:
        return self._energy().bind(self._parameters(), self._fitted.frame, X.dtype)

    def _has_density(self) -> bool:
        return self._fitted.temperature > 0

    @own_errors()
    def score_samples(
        self, X: Any, n_samples: int | None = None, random_state: Any = None
    ) -> Array:
        """Return ``Hmax_T`` of each row, averaged over the kept models in probability.

        At ``temperature=1`` this is the log density, estimated by importance sampling: the mean of
        ``exp`` of the estimate is unbiased, so the estimate itself is low on average. At T = 0 the
        best code is found by optimisation, and nothing is drawn.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        n_samples : int or None, default=None
            Number of codes to draw for each row and model; None stands for `n_score_samples` of
            the fit.
        random_state : None, int, RandomState or Generator, default=None
            With None, draws are those fixed at the fit, and each call gives a row the same score.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats.

        Warns
        -----
        ConvergenceWarning
            If the scores of more than 1 % of the rows have a standard error above 0.3 T nats, by
            the spread of the importance weights (an effective sample size below about ten).
        """
        X = self._read(X)
        if n_samples is not None:
            n_samples = check_integer("n_samples", n_samples, minimum=1)
        seed = None
        if random_state is not None:
            seed = int(as_generator(random_state).integers(2**32))
        bound = self._energy_with(n_samples, seed).bind(
            self._parameters(), self._fitted.frame, X.dtype
        )
        return self._judged_scores(bound, X, self._fitted.temperature)

    def _score_rows(self, X: NDArray[Any], temperature: float) -> Array:
        return self._judged_scores(self._bound(X), X, temperature)

    def _judged_scores(self, bound: BoundVAE, X: NDArray[Any], temperature: float) -> Array:
        """Return scores; warn if too many of them are imprecise."""

        def function(chunk: NDArray[Any]) -> tuple[Array, Array]:
            values, errors = bound.hmax_and_error(chunk, temperature)
            shares = tempered_softmax(values, 1.0, axis=0)  # of each model in the average
            return log_mean_exp(values), np.sqrt(np.einsum("sn,sn->n", shares**2, errors))

        scores, errors = self._map(function, X, bound.chunk_rows)
        poor = float(np.mean(errors > _POOR_ERROR))
        if poor > _POOR_SHARE:
            warnings.warn(
                f"{type(self).__name__}: scores of {poor:.0%} of the rows have a standard error "
                f"above {_POOR_ERROR * temperature:.2g} nats, since few of the codes drawn for "
                "them have weight: the encoder fits these rows poorly, or their codes have several "
                "modes. "
                "Increase n_samples (or n_score_samples, before fitting).",
                ConvergenceWarning,
                stacklevel=users_stacklevel(),
            )
        return scores

    # -- codes ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self._fitted.details.architecture.n_components

    def _points(self, X: NDArray[Any], keep: Callable[[WeightedCodes], Any]) -> Any:
        """Map ``keep(weighted codes)`` over chunks, under the reference model."""
        state = self._fitted
        bound = self._energy_with(None, None, 1).bind(self._reference(), state.frame, X.dtype)
        return self._map(
            lambda chunk: keep(bound.codes(chunk, state.temperature, 0)), X, bound.chunk_rows
        )

    def _transform_rows(self, X: NDArray[Any]) -> Array:
        return self._points(X, lambda found: np.matmul(found.weights[:, None], found.codes)[:, 0])

    def _encode_rows(self, X: NDArray[Any]) -> WeightedPoints:
        temperature, d = self._fitted.temperature, self._n_features_out

        def keep(found: WeightedCodes) -> tuple[Array, Array, Array]:
            if temperature == 0:
                return found.codes, found.weights, np.zeros_like(found.weights)
            log_density = (found.energies - found.hmax[:, None]) / temperature
            log_density -= 0.5 * d * np.log(2 * np.pi * temperature)
            return found.codes, found.weights, log_density

        return WeightedPoints(*self._points(X, keep))

    def _expected_rows(self, Z: NDArray[Any]) -> Array:
        return self._decode_codes(Z.astype(np.float64)).mean

    def _decode_distribution(self, codes: WeightedPoints) -> NetworkRows:
        frame = self._fitted.details.frame
        decoder, _ = self._fitted.details.architecture.networks()
        centre = frame.centre if frame.scaled else np.zeros_like(frame.centre)
        theta = self._reference().decoder
        return NetworkRows(decoder, theta, centre, frame.unit, codes.points, codes.weights)

    def _decode_codes(self, Z: Array) -> NetworkRows:
        certain = np.ones((len(Z), 1))
        return self._decode_distribution(
            WeightedPoints(Z[:, None], certain, np.zeros_like(certain))
        )
