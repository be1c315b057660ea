"""What a fitted restricted Boltzmann machine says of rows and codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skbae.energies.rbm._distributions import BernoulliCodes, IsotropicRows, ReconstructedRows
from skbae.energies.rbm._kernel import tempered_bits
from skbae.energies.rbm._visible import LAYERS, BaseRates, RBMParameters
from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._checks import check_codes
from skbae.estimators.rbm._fit import as_parameters, make_energy
from skbae.estimators.rbm._settings import check_range
from skbae.operators._random import as_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


class MachinePredictions(BayesianAutoEncoder):
    """Codes, rows and chains of fitted machines."""

    visible: str
    components_: Array
    intercept_visible_: Array
    intercept_hidden_: Array
    log_partition_: float
    _config: dict[str, Any]

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def _energy(self):
        return make_energy(
            self._config, BaseRates(*self._rates), chains=getattr(self, "chains_", None)
        )

    def _parameters(self):
        return as_parameters(self.models_)

    def _read(self, X):
        X = super()._read(X)
        check_range(self, X)
        return X

    def _noise(self) -> float:
        return getattr(self, "noise_variance_", 1.0)

    def _probabilities(self, X: NDArray[Any], temperature: float) -> Array:
        """Return ``P_T(h = 1 | x)`` under the reference model."""

        def function(chunk: NDArray[Any]) -> Array:
            activations = chunk @ (self.components_.T / self._noise()) + self.intercept_hidden_
            return tempered_bits(activations, temperature)

        return self._map(function, X, 4096)

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the mean code of each row, ``P(h = 1 | x)`` at the estimator's temperature.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Of the reference model; bits at T = 0, float32 for float32 rows.
        """
        X = self._read(X)
        return self._probabilities(X, self._fit_temperature).astype(X.dtype, copy=False)

    def inverse_transform(self, Z: Any) -> NDArray[Any]:
        """Return the expected row for each code; soft codes stand in for bits.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        Z = check_codes(Z, self._n_features_out, self)
        mean = LAYERS[self._config["visible"]]().mean(self._mode(), Z.astype(np.float64))
        return mean.astype(Z.dtype, copy=False)

    def _mode(self) -> RBMParameters:
        """Return the reference model."""
        return RBMParameters(
            self.components_[None],
            self.intercept_visible_[None],
            self.intercept_hidden_[None],
            np.array([self._noise()]),
            np.array([self.log_partition_]),
        )

    def encode(self, X: Any) -> BernoulliCodes:
        """Return the distribution of each row's code under the reference model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        BernoulliCodes
        """
        X = self._read(X)
        return BernoulliCodes(self._probabilities(X, self._fit_temperature))

    def decode(self, Z: Any) -> BernoulliCodes | IsotropicRows | ReconstructedRows:
        """Return the distribution of rows given codes, under the reference model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components) or BernoulliCodes
            Codes, or what :meth:`encode` returned; then the result is the distribution of the
            reconstruction, a mixture over codes.

        Returns
        -------
        BernoulliCodes, IsotropicRows or ReconstructedRows
        """
        check_is_fitted(self)
        noise = getattr(self, "noise_variance_", None)
        if isinstance(Z, BernoulliCodes):
            return ReconstructedRows(
                Z.probabilities, self.components_, self.intercept_visible_, noise
            )
        mean = self.inverse_transform(np.asarray(Z, np.float64))
        return BernoulliCodes(mean) if noise is None else IsotropicRows(mean, noise)

    def gibbs(self, v: Any, random_state: Any = None) -> Array:
        """Make one step of Gibbs sampling at T = 1 from rows: codes, then rows again.

        Parameters
        ----------
        v : array-like of shape (n_samples, n_features)
        random_state : None, int, RandomState or Generator, default=None
            None draws differently at each call.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        v = self._read(v)
        return self._energy().advance(self._mode(), v, as_generator(random_state))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.visible == "bernoulli"
        return tags
