"""Gaussian components, with the starts, floors and priors of BayesianGMMAutoEncoder."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.gaussian._covariance import COVARIANCE_TYPES
from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture
from skbae.energies.gaussian._parameters import GaussianParameters
from skbae.energies.gaussian._span import column_span
from skbae.energies.mixture._energy import MixtureParameters
from skbae.estimators._checks import check_choice, check_known_together, check_real
from skbae.estimators.gmm._fit import (
    doubts_about_ties,
    models_of_codes,
    resolved_prior,
    warn_of_floor,
)
from skbae.estimators.gmm._settings import GaussianMixtureForm, GaussianMixtureSettings
from skbae.estimators.mixture._specs import Component, Place
from skbae.inference.passes._filled import filled_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.energies.gaussian._components import GaussianComponents
    from skbae.energies.gaussian._mixture import ConjugateGaussians
    from skbae.estimators._mixture import MixtureSettings
    from skbae.inference.passes._rows import RowRunner


class Gaussian(Component):
    """Normally distributed columns, with a covariance within each component.

    A mixture of these alone is that of :class:`~skbae.BayesianGMMAutoEncoder`, whose parameters
    these are.

    Parameters
    ----------
    covariance_type : str, default="full"
        ``"full"``, ``"tied"``, ``"diag"``, ``"spherical"``, ``"tied_diag"`` or
        ``"tied_spherical"``.
    mean_precision_prior : float, default=0.01
        Number of rows that the means' prior counts as.
    mean_prior : array-like of shape (n_columns,) or None, default=None
        None stands for the mean of the columns.
    degrees_of_freedom_prior : float or None, default=None
        Of the precisions' prior. None stands for ``n_columns + 2``.
    covariance_prior : array-like or None, default=None
        In the shape of one covariance. None stands for ``cov / 5^(2/D)`` of the D columns.
    reg_covar : float or None, default=None
        Added to the variances in each maximisation of a single best model. None stands for a
        millionth of the variance of each column within groups of rows.
    """

    def __init__(
        self,
        covariance_type: str = "full",
        *,
        mean_precision_prior: float = 0.01,
        mean_prior: Any = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: Any = None,
        reg_covar: float | None = None,
    ) -> None:
        self.covariance_type = covariance_type
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.reg_covar = reg_covar

    def _check(self, name: str) -> None:
        what = f"covariance_type of component {name!r}"
        check_choice(what, self.covariance_type, COVARIANCE_TYPES)
        self._positive(name, "mean_precision_prior")
        self._positive(name, "degrees_of_freedom_prior", optional=True)
        check_real(f"reg_covar of component {name!r}", self.reg_covar, at_least=0, optional=True)

    def _refused(self, X: Array) -> tuple[NDArray[np.bool_], str]:
        return np.zeros(X.shape, dtype=bool), "numbers"

    def _softened(self, params: Any, weights: Array, share: float) -> Any:
        return params

    def _form_key(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.covariance_type)

    def _means(self, family: Any, params: Any) -> Array:
        return np.array(params.means[0])

    def as_mixture(self, settings: MixtureSettings) -> GaussianMixtureSettings:
        """Return the settings of the Gaussian mixture that these components alone would be."""
        shared = {
            field.name: getattr(settings, field.name)
            for field in fields(GaussianMixtureSettings)
            if field.init and hasattr(settings, field.name)
        }
        own = {
            "reg_covar": None if self.reg_covar is None else float(self.reg_covar),
            "mean_precision_prior": float(self.mean_precision_prior),
            "covariance_type": self.covariance_type,
            "mean_prior": self.mean_prior,
            "degrees_of_freedom_prior": self.degrees_of_freedom_prior,
            "covariance_prior": self.covariance_prior,
            **dict.fromkeys(("weights_init", "means_init", "precisions_init")),
        }
        return GaussianMixtureSettings(**{**shared, **own})

    def _form(self, n_components: int, place: Place) -> GaussianMixtureForm:
        return GaussianMixtureForm(n_components, len(place.names), self.covariance_type, False)

    def _family(self, n_components: int, place: Place) -> GaussianComponents:
        return self._form(n_components, place).energy().family

    def _fitting(
        self, n_components: int, place: Place, rows: Rows, settings: Any
    ) -> GaussianComponents:
        floor = self.as_mixture(settings).floor(rows)
        return self._form(n_components, place).energy(floor).family

    def _check_rows(self, rows: Rows, place: Place, settings: Any) -> None:
        own = self.as_mixture(settings)
        try:
            own.given_prior(len(place.names))
        except (TypeError, ValueError) as error:
            raise type(error)(f"component {place.name!r}: {error}") from error
        if not settings.samples:
            if rows.incomplete and COVARIANCE_TYPES[self.covariance_type][0].name == "full":
                check_known_together(rows, place.names)
            return
        span = column_span(rows, dependent=not own.spherical)
        if span is None:
            return
        for columns, what in (
            (span.constant, "is constant"),
            (span.dependent, "is an affine function of others"),
        ):
            if len(columns):
                raise ValueError(
                    f"{place.column(int(columns[0]))} {what}, so that it has no density; drop it, "
                    "or set model_temperature=0 to fit the single best model"
                )

    def _named(self, settings: MixtureSettings, place: Place) -> GaussianMixtureSettings:
        """Return :meth:`as_mixture`, whose warnings name the component."""
        own = self.as_mixture(settings)
        return replace(own, estimator=f"{own.estimator}, component {place.name!r}")

    def _warn(
        self, family: Any, params: Any, weights: Array, rows: Rows, place: Place, settings: Any
    ) -> None:
        plain = MixtureParameters(weights, GaussianParameters(params.means, params.factors))
        floor = np.broadcast_to(family.reg_covar, len(place.names))
        warn_of_floor(self._named(settings, place), plain, floor, rows)

    def _doubts(
        self, params: Any, weights: Array, rows: Rows, place: Place, settings: Any
    ) -> list[str]:
        plain = MixtureParameters(weights, GaussianParameters(params.means, params.factors))
        return doubts_about_ties(self._named(settings, place), rows, plain, place.names)

    def _prior(self, rows: Rows, settings: Any, runner: RowRunner) -> dict[str, Any]:
        prior = resolved_prior(self.as_mixture(settings), rows, runner)
        found = {name[:-1]: value for name, value in prior.attributes().items()}
        del found["weight_concentration_prior"]
        return {**found, "centre": rows.centre}

    def _with_prior(
        self, n_components: int, place: Place, prior: dict[str, Any]
    ) -> ConjugateGaussians:
        energy = conjugate_gaussian_mixture(
            n_components,
            len(place.names),
            self.covariance_type,
            False,
            0.0,  # the prior takes the place of a floor
            concentration=1.0,
            mean_precision=prior["mean_precision_prior"],
            mean=prior["mean_prior"],
            degrees_of_freedom=prior["degrees_of_freedom_prior"],
            covariance=prior["covariance_prior"],
            centre=prior["centre"],
        )
        return energy.family  # type: ignore[no-any-return]

    def _start(
        self, family: Any, X: Array, weights: Array, codes: Array, rows: Rows, settings: Any
    ) -> Any:
        known = filled_rows(X, weights) if np.isnan(X).any() else X
        energy = self._form(codes.shape[1], Place("", ("",) * X.shape[1])).energy(family.reg_covar)
        return models_of_codes(energy, known, codes * weights, rows).components

    def _attributes(self, params: Any, place: Place) -> dict[str, Any]:
        form = self._form(params.means.shape[1], place)
        covariances = form.shape.covariances(params.factors)
        return {
            "means": params.means[0],
            "covariances": (covariances[:, 0] if form.tied else covariances)[0],
        }
