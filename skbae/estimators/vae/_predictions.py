"""What a fitted BayesianVAEAutoEncoder says about rows and codes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from skbae.energies.vae._decoder import LIKELIHOODS
from skbae.energies.vae._distributions import NetworkRows, WeightedPoints
from skbae.energies.vae._energy import (
    VAEEnergy,
    architecture,
    make_energy,
    row_frame,
)
from skbae.energies.vae._parameters import VAEModels, VAEParameters
from skbae.energies.vae._posterior import fixed_noise
from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._checks import check_codes, check_integer
from skbae.estimators._stacklevel import users_stacklevel
from skbae.operators._random import as_generator
from skbae.operators._tempered import log_mean_exp, tempered_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


# Draws of a code under each of several models, at least, unless fewer are asked for.
_FEWEST_DRAWS = 16
# A row's estimate is poor when its standard error is more than so many nats (times T), and a
# warning is due when more than so many rows are poor.
_POOR_ERROR = 0.3
_POOR_SHARE = 0.01


class NetworkPredictions(BayesianAutoEncoder):
    """The methods that follow a fit; the shell below it knows how to fit.

    They need ``models_``, the reference model's attributes, ``_config`` and ``_noise_seed``.
    """

    models_: Any
    _config: dict[str, Any]
    _noise_seed: int
    _fit_temperature: float

    def _read(self, X):
        X = super()._read(X)
        LIKELIHOODS[self._config["likelihood"]].check(X)
        return X

    # -- densities -----------------------------------------------------------------------------

    def _energy(self):
        return self._energy_with(None, None)

    def _energy_with(
        self, n_samples: int | None, seed: int | None, n_models: int | None = None
    ) -> VAEEnergy:
        """Return the energy with so many draws for each of so many models."""
        config = self._config
        n_models = self.models_.n_models if n_models is None else n_models
        if n_samples is None:
            n_samples = config["n_score_samples"]
            if n_models > 1:
                # averages over models need fewer draws of each, if they are not the same
                n_samples = max(n_samples // 4, min(n_samples, _FEWEST_DRAWS))
        seed = self._noise_seed if seed is None else seed
        return make_energy(config, fixed_noise(n_samples, config["n_components"], seed, n_models))

    def _parameters(self):
        return row_frame(self._config).from_layers(*architecture(self._config), self.models_)

    def _reference(self) -> VAEParameters:
        models = self._reference_models()
        return row_frame(self._config).from_layers(*architecture(self._config), models)

    def _reference_models(self) -> VAEModels:
        """Return the fitted attributes as one model."""

        def layers(name: str) -> list[Array]:
            return [np.asarray(each)[None] for each in getattr(self, name)]

        return VAEModels(
            layers("decoder_coefs_"),
            layers("decoder_intercepts_"),
            layers("encoder_coefs_"),
            layers("encoder_intercepts_"),
            np.array([getattr(self, "noise_variance_", np.nan)]),
        )

    def _has_density(self):
        return self._fit_temperature > 0

    def score_samples(
        self, X: Any, n_samples: int | None = None, random_state: Any = None
    ) -> Array:
        """Return ``Hmax_T`` of each row, averaged over the kept models in probability.

        At ``temperature=1`` this is the log density, estimated by importance sampling: the mean of
        ``exp`` of the estimate is exact, so the estimate itself is low on average. At T = 0 the
        best code is searched for, and nothing is drawn.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        n_samples : int or None, default=None
            How many codes to draw for a row and model; None stands for the `n_score_samples` of
            the fit.
        random_state : None, int, RandomState or Generator, default=None
            None stands for the fit's own fixed draws: every call gives a row the same answer. (A
            generator is advanced, and gives other draws.)

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats.

        Warns
        -----
        ConvergenceWarning
            If more than one row in a hundred has a standard error above 0.3 T nats by the spread of
            its weights (an effective sample size below some ten).
        """
        X = self._read(X)
        if n_samples is not None:
            n_samples = check_integer("n_samples", n_samples, minimum=1)
        seed = None
        if random_state is not None:
            seed = int(as_generator(random_state).integers(2**32))
        bound = self._energy_with(n_samples, seed).bind(self._parameters(), self._frame, X.dtype)
        return self._judged_scores(bound, X, self._fit_temperature)

    def _score_rows(self, X, temperature):
        return self._judged_scores(self._bound(X), X, temperature)

    def _judged_scores(self, bound: Any, X: NDArray[Any], temperature: float) -> Array:
        """Return scores; warn when they are not precise."""

        def function(chunk: NDArray[Any]) -> tuple[Array, Array]:
            values, errors = bound.hmax_and_error(chunk, temperature)
            shares = tempered_softmax(values, 1.0, axis=0)  # of the models in the average
            return log_mean_exp(values), np.sqrt(np.einsum("sn,sn->n", shares**2, errors))

        scores, errors = self._map(function, X, bound.chunk_rows)
        poor = float(np.mean(errors > _POOR_ERROR))
        if poor > _POOR_SHARE:
            warnings.warn(
                f"scores of {poor:.0%} of the rows have a standard error above {_POOR_ERROR} "
                "temperature nats, since few of their draws count; the encoder is poor there, or "
                "the posterior of the code has several modes. Raise n_samples (or n_score_samples, "
                "before fitting).",
                ConvergenceWarning,
                stacklevel=users_stacklevel(),
            )
        return scores

    # -- codes ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self._config["n_components"]

    def _points(self, X: NDArray[Any], keep: Any) -> Any:
        """Map ``keep(weighted codes)`` over chunks, under the reference model."""
        temperature = self._fit_temperature
        bound = self._energy_with(None, None, 1).bind(self._reference(), self._frame, X.dtype)
        return self._map(
            lambda chunk: keep(bound.codes(chunk, temperature, 0)), X, bound.chunk_rows
        )

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the mean code of each row under the reference model; the best code at T = 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            By weighted draws around the mode, the same for every row; float32 for float32 rows.
        """
        X = self._read(X)
        codes = self._points(X, lambda found: np.matmul(found.weights[:, None], found.codes)[:, 0])
        return codes.astype(X.dtype, copy=False)

    def encode(self, X: Any) -> WeightedPoints:
        """Return the distribution of each row's code under the reference model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        WeightedPoints
            `n_score_samples` weighted codes a row; a single one at T = 0.
        """
        X = self._read(X)
        temperature, d = self._fit_temperature, self._config["n_components"]

        def keep(found: Any) -> tuple[Array, Array, Array]:
            if temperature == 0:
                return found.codes, found.weights, np.zeros_like(found.weights)
            log_density = (found.energies - found.hmax[:, None]) / temperature
            log_density -= 0.5 * d * np.log(2 * np.pi * temperature)
            return found.codes, found.weights, log_density

        return WeightedPoints(*self._points(X, keep))

    def inverse_transform(self, Z: Any) -> NDArray[Any]:
        """Return the expected row for each code, under the reference model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            For ``likelihood="bernoulli"``: probabilities.
        """
        check_is_fitted(self)
        Z = check_codes(Z, self._n_features_out, self)
        return self.decode(Z).mean.astype(Z.dtype, copy=False)

    def decode(self, Z: Any) -> NetworkRows:
        """Return the distribution of rows given codes, under the reference model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components) or WeightedPoints
            Codes, or what :meth:`encode` returned; then the result is the distribution of the
            reconstruction.

        Returns
        -------
        NetworkRows
        """
        check_is_fitted(self)
        if isinstance(Z, WeightedPoints):
            points, weights = Z.points, Z.weights
        else:
            points = check_codes(Z, self._n_features_out, self).astype(np.float64)[:, None]
            weights = np.ones(points.shape[:2])
        decoder, _ = architecture(self._config)
        frame = row_frame(self._config)
        centre = frame.centre if frame.scaled else np.zeros_like(frame.centre)
        return NetworkRows(decoder, self._reference().decoder, centre, frame.unit, points, weights)
