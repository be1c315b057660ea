"""Codes, reconstructions and Gibbs steps of a fitted restricted Boltzmann machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae.energies.rbm._distributions import BernoulliCodes, IndependentRows, ReconstructedRows
from skbae.energies.rbm._flips import expected_clean_bits
from skbae.energies.rbm._kernel import tempered_bits
from skbae.energies.rbm._visible import RBMParameters
from skbae.estimators._batches import BatchAutoEncoder
from skbae.estimators._checks import check_real
from skbae.estimators._criteria import InformationCriteria
from skbae.estimators._unit_interval import predicted_rows
from skbae.estimators.rbm._fit import MachineDetails, as_parameters, make_energy
from skbae.estimators.rbm._settings import RBMSettings
from skbae.operators._floating import own_errors
from skbae.operators._random import as_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.rbm._energy import RBMEnergy


class MachinePredictions(
    BatchAutoEncoder[RBMSettings, MachineDetails], InformationCriteria[RBMSettings, MachineDetails]
):
    """Methods of a fitted restricted Boltzmann machine."""

    _settings_class: ClassVar = RBMSettings
    _code_class: ClassVar = BernoulliCodes
    _reference_names: ClassVar = (
        "components_",
        "intercept_visible_",
        "intercept_hidden_",
        "noise_variance_",
        "log_partition_",
    )

    visible: str
    outside: str
    components_: Array
    intercept_visible_: Array
    intercept_hidden_: Array
    log_partition_: float
    n_iter_: int

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def _energy(self) -> RBMEnergy:
        details = self._fitted.details
        return make_energy(details.form, details.rates, chains=getattr(self, "chains_", None))

    def _parameters(self) -> RBMParameters:
        return as_parameters(self.models_)

    def _read(self, X: Any) -> NDArray[Any]:
        X = super()._read(X)
        if self._fitted.details.form.visible == "bernoulli":
            return predicted_rows(X, type(self).__name__, "visible", self.outside)
        return X

    def _noise(self) -> Array:
        return np.atleast_1d(getattr(self, "noise_variance_", 1.0))

    def _reference(self) -> RBMParameters:
        """Return the reference model."""
        return RBMParameters(
            self.components_[None],
            self.intercept_visible_[None],
            self.intercept_hidden_[None],
            self._noise()[None],
            np.array([self.log_partition_]),
        )

    def _transform_rows(self, X: NDArray[Any]) -> Array:
        temperature = self._fitted.temperature

        def function(chunk: NDArray[Any]) -> Array:
            activations = chunk @ (self.components_ / self._noise()).T + self.intercept_hidden_
            return tempered_bits(activations, temperature)

        return self._map(function, X, 4096)

    def _expected_rows(self, Z: NDArray[Any]) -> Array:
        return self._fitted.details.form.layer.mean(self._reference(), Z.astype(np.float64))

    def _encode_rows(self, X: NDArray[Any]) -> BernoulliCodes:
        return BernoulliCodes(self._transform_rows(X))

    def _decode_distribution(self, codes: BernoulliCodes) -> ReconstructedRows:
        noise = getattr(self, "noise_variance_", None)
        return ReconstructedRows(
            codes.probabilities, self.components_, self.intercept_visible_, noise
        )

    def _decode_codes(self, Z: Array) -> BernoulliCodes | IndependentRows:
        mean, noise = self._expected_rows(Z), getattr(self, "noise_variance_", None)
        return BernoulliCodes(mean) if noise is None else IndependentRows(mean, noise)

    @own_errors()
    def gibbs(self, v: Any, random_state: Any = None) -> Array:
        """Make one step of Gibbs sampling at T = 1: draw codes given rows, then rows given codes.

        Parameters
        ----------
        v : array-like of shape (n_samples, n_features)
        random_state : None, int, RandomState or Generator, default=None
            With None, each call gives different draws.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        v = self._read(v)
        return self._energy().advance(self._reference(), v, as_generator(random_state))

    @own_errors()
    def denoise(self, X: Any, noise_variance: float) -> NDArray[Any]:
        """Return the expected clean row given each noisy one, ``E[clean | noisy]``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Noisy rows.
        noise_variance : float
            For real units the variance of normal noise, >= 0, as in other families. For binary
            units the mean square by which noise changes a bit, which is the probability of a flip,
            at most 1/2.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            For binary units the probability that each clean bit is 1; with more than 14 hidden
            units an average over chains.
        """
        if self._is_fitted_to_bits():
            flips = check_real("noise_variance", noise_variance, at_least=0)
            if flips > 0.5:
                raise ValueError(
                    "noise_variance of binary units is the probability of a flip, at most 0.5, got "
                    f"{noise_variance!r}"
                )
            X = self._read(X)
            if not np.all((X == 0) | (X == 1)):
                raise ValueError("denoise of binary units needs X of zeros and ones")
            if flips == 0:
                return X.copy()
            clean = expected_clean_bits(self._parameters(), X.astype(np.float64), flips)
            return clean.astype(X.dtype, copy=False)
        return super().denoise(X, noise_variance)

    def _is_fitted_to_bits(self) -> bool:
        self._check_usable()
        return self._fitted.details.form.visible == "bernoulli"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = self.visible == "bernoulli"
        return tags
