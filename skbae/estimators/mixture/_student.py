"""Student's t components: Gaussian ones with heavy tails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae.energies.components._student import StudentComponents
from skbae.estimators._checks import check_real
from skbae.estimators.mixture._gaussian import Gaussian
from skbae.estimators.mixture._specs import Place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows


class StudentT(Gaussian):
    """Columns with a multivariate Student's t distribution: Gaussian with rows far out.

    Each row has a scale of its own, gamma distributed, that is integrated out: rows far from a mean
    count little. Rows must have all of these columns, or none.

    Parameters
    ----------
    degrees_of_freedom : float or None, default=4.0
        Of all components. None learns those of each, between 0.5 and 200, in fits of a single best
        model; models are sampled for given ones only.
    covariance_type : str, default="full"
        Of the scales, as in :class:`Gaussian`.
    mean_precision_prior, mean_prior, degrees_of_freedom_prior, covariance_prior, reg_covar
        Of the locations and scales, as in :class:`Gaussian`.
    """

    _conjugate: ClassVar[bool] = False
    _robust: ClassVar[bool] = True

    def __init__(
        self,
        degrees_of_freedom: float | None = 4.0,
        *,
        covariance_type: str = "full",
        mean_precision_prior: float = 0.01,
        mean_prior: Any = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: Any = None,
        reg_covar: float | None = None,
    ) -> None:
        self.degrees_of_freedom = degrees_of_freedom
        super().__init__(
            covariance_type,
            mean_precision_prior=mean_precision_prior,
            mean_prior=mean_prior,
            degrees_of_freedom_prior=degrees_of_freedom_prior,
            covariance_prior=covariance_prior,
            reg_covar=reg_covar,
        )

    def _check(self, name: str) -> None:
        what = f"degrees_of_freedom of component {name!r}"
        check_real(what, self.degrees_of_freedom, above=0, optional=True)
        super()._check(name)

    def _refused(self, X: Array) -> tuple[NDArray[np.bool_], str]:
        gaps = np.isnan(X)
        partly = gaps & ~np.all(gaps, axis=1, keepdims=True)
        return partly, (
            "numbers in rows that have some of the component's columns (such a row may not miss "
            "others)"
        )

    def _check_rows(self, rows: Rows, place: Place, settings: Any) -> None:
        if settings.samples and self.degrees_of_freedom is None:
            raise ValueError(
                f"degrees_of_freedom=None of component {place.name!r} is for the single best model "
                "(model_temperature=0): models are sampled with given degrees of freedom; give a "
                "number"
            )
        super()._check_rows(rows, place, settings)

    def _student(self, gaussian: Any) -> StudentComponents:
        degrees = self.degrees_of_freedom
        return StudentComponents(gaussian, None if degrees is None else float(degrees))

    def _form_key(self) -> tuple[Any, ...]:
        return (*super()._form_key(), self.degrees_of_freedom)

    def _family(self, n_components: int, place: Place) -> Any:
        return self._student(super()._family(n_components, place))

    def _fitting(self, n_components: int, place: Place, rows: Rows, settings: Any) -> Any:
        return self._student(super()._fitting(n_components, place, rows, settings))

    def _with_prior(self, n_components: int, place: Place, prior: dict[str, Any]) -> Any:
        return self._student(super()._with_prior(n_components, place, prior))

    def _start(
        self, family: Any, X: Array, weights: Array, codes: Array, rows: Rows, settings: Any
    ) -> Any:
        return family.of(super()._start(family, X, weights, codes, rows, settings))

    def _attributes(self, params: Any, place: Place) -> dict[str, Any]:
        found = super()._attributes(params, place)
        return {
            "means": found["means"],
            "scales": found["covariances"],
            "degrees_of_freedom": params.degrees[0],
        }
