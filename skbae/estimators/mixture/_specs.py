"""What components a mixture has, as users say it: one small class for each kind of column."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from skbae.energies.components._categories import CategoricalColumns
from skbae.energies.components._counts import (
    BinomialColumns,
    ExponentialColumns,
    PoissonColumns,
)
from skbae.estimators._checks import check_choice, check_integer, check_real
from skbae.estimators._stacklevel import users_stacklevel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.inference.passes._rows import RowRunner

# Share of each row's code at the start that all components have part in.
_SOFTNESS = 0.1
# Floor of the means of waiting times, relative to the mean of a column.
_SMALLEST_MEAN = 1e-6


@dataclass(frozen=True)
class Place:
    """The columns that a component describes, for messages and families.

    Attributes
    ----------
    name : str
        Of the component, as the user named it.
    names : tuple of str
        Of the columns.
    n_categories : tuple of int
        Numbers of categories of the columns; empty for columns of numbers.
    """

    name: str
    names: tuple[str, ...]
    n_categories: tuple[int, ...] = ()

    def column(self, number: int) -> str:
        """Return a column and its component in words."""
        return f"column {self.names[number]!r} of component {self.name!r}"


class Component(BaseEstimator, ABC):
    """Base of the kinds of components; their parameters are those of the prior.

    Priors are used only if models are sampled.
    """

    _categories: ClassVar[bool] = False
    _conjugate: ClassVar[bool] = True  # whether codes alone can be sampled, without the models
    _robust: ClassVar[bool] = False  # whether starts leave out rows far from all others

    @abstractmethod
    def _check(self, name: str) -> None:
        """Raise TypeError or ValueError, naming the component, unless the parameters are valid."""

    @abstractmethod
    def _refused(self, X: Array) -> tuple[NDArray[np.bool_], str]:
        """Return which entries (n, D) cannot be, and what is allowed; NaN is missing."""

    @abstractmethod
    def _family(self, n_components: int, place: Place) -> Any:
        """Return the components, without a prior."""

    @abstractmethod
    def _with_prior(self, n_components: int, place: Place, prior: dict[str, Any]) -> Any:
        """Return the components with a prior, as :meth:`_prior` gives it."""

    @abstractmethod
    def _prior(self, rows: Rows, settings: Any, runner: RowRunner) -> dict[str, Any]:
        """Return the parameters of the prior, with what None stood for, given its columns."""

    @abstractmethod
    def _attributes(self, params: Any, place: Place) -> dict[str, Any]:
        """Return the parameters of one model's components (1, K, ...), by public names."""

    def _fitting(self, n_components: int, place: Place, rows: Rows, settings: Any) -> Any:
        """Return the components as they are fitted to rows, with floors, and without a prior."""
        return self._family(n_components, place)

    def _check_rows(self, rows: Rows, place: Place, settings: Any) -> None:
        """Raise ValueError, naming column and component, if rows determine no components."""

    def _warn(
        self, family: Any, params: Any, weights: Array, rows: Rows, place: Place, settings: Any
    ) -> None:
        """Warn of components of a single best model that have collapsed onto few rows."""

    def _doubts(
        self, params: Any, weights: Array, rows: Rows, place: Place, settings: Any
    ) -> list[str]:
        """Return reasons for doubt in sampled models (S, K, ...) of these columns."""
        return []

    def _start(
        self, family: Any, X: Array, weights: Array, codes: Array, rows: Rows, settings: Any
    ) -> Any:
        """Return components (S, K, ...) that fit rows (n, D) with codes (S, K, n), for a start.

        `rows` are those X was taken from. Codes are softened, so that what a few rows lack is not
        taken to be impossible.
        """
        soft = ((1 - _SOFTNESS) * codes + _SOFTNESS / codes.shape[1]) * weights
        family = family.of_incomplete_rows()
        params = family.typical(rows.frame, len(codes))
        kernel = family.kernel(np.zeros(codes.shape[:2]), params, rows.frame, np.float64)
        workspace = kernel.workspace(len(X))
        kernel.load(X, workspace)
        sums = kernel.zero()
        kernel.accumulate(sums, soft, weights[None], workspace)
        return family.maximise(*kernel.moments(sums), params, 1.0)

    def _softened(self, params: Any, weights: Array, share: float) -> Any:
        """Return components moved by a share towards their mean, so that nothing is impossible.

        Expectations are such that they can be averaged.
        """
        (field,) = fields(params)
        values = getattr(params, field.name)
        shares = weights / weights.sum(axis=1, keepdims=True)
        mean = np.einsum("sk,skp->sp", shares, values)[:, None]
        return replace(params, **{field.name: values + share * (mean - values)})

    def _box(self, X: Array, place: Place) -> tuple[Array, Array, bool]:
        """Return the least and largest entries of columns, and whether these are whole numbers."""
        return np.nanmin(X, axis=0), np.nanmax(X, axis=0), False

    def _form_key(self) -> tuple[Any, ...]:
        """Return what models of the same form have in common."""
        return (type(self).__name__,)

    def _means(self, family: Any, params: Any) -> Array:
        """Return the expected columns of each component, (K, D); NaN for categories."""
        return np.asarray(family.column_means(params)[0])

    def _expected(self, family: Any, params: Any, Z: NDArray[Any]) -> Array:
        """Return the expected columns (n, D) given codes (n, K)."""
        return np.asarray(Z @ self._means(family, params))

    def _check_values(self, X: NDArray[Any], place: Place) -> None:
        """Raise ValueError, naming column and component, for entries that cannot be."""
        with np.errstate(invalid="ignore"):
            refused, allowed = self._refused(X)
        if refused.any():
            row, column = np.argwhere(refused)[0]
            raise ValueError(
                f"{place.column(int(column))}, which is {self!r}, must hold {allowed}, got "
                f"{X[row, column].item()!r}"
            )

    def _coordinates(self, X: Array, rows: Rows) -> Array:
        """Return rows (n, D) in coordinates in which groups are looked for at the start."""
        scale = np.where(rows.scale > 0, rows.scale, 1.0)
        return (np.where(np.isnan(X), rows.centre, X) - rows.centre) / scale

    def _positive(self, name: str, *parameters: str, optional: bool = False) -> None:
        for parameter in parameters:
            what = f"{parameter} of component {name!r}"
            check_real(what, getattr(self, parameter), above=0, optional=optional)


def _whole(X: Array, most: Any = np.inf) -> NDArray[np.bool_]:
    """Return which entries are not whole numbers from 0 to `most`; NaN is."""
    return (X < 0) | (most < X) | (np.floor(X) != X) & ~np.isnan(X)


class Bernoulli(Component):
    """Bits: independent columns of 0 and 1.

    Parameters
    ----------
    alpha, beta : float, default=1.0
        Of the beta prior of each probability of a 1; the default is uniform.

    Examples
    --------
    >>> from skbae import BayesianMixtureAutoEncoder
    >>> from skbae.components import Bernoulli
    >>> X = [[0, 0, 1], [0, 0, 1], [1, 1, 0], [1, 1, 0]]
    >>> model = BayesianMixtureAutoEncoder(
    ...     2, Bernoulli(), model_temperature=0, random_state=0).fit(X)
    >>> model.parameters_["bernoulli"]["probabilities"][model.predict([[1, 1, 0]])].round(3)
    array([[1., 1., 0.]])
    """

    def __init__(self, alpha: float = 1.0, beta: float = 1.0) -> None:
        self.alpha = alpha
        self.beta = beta

    def _check(self, name: str) -> None:
        self._positive(name, "alpha", "beta")

    def _refused(self, X: Array) -> tuple[NDArray[np.bool_], str]:
        return (X != 0) & (X != 1) & ~np.isnan(X), "0, 1 or NaN"

    def _prior(self, rows: Rows, settings: Any, runner: RowRunner) -> dict[str, Any]:
        return {"alpha": float(self.alpha), "beta": float(self.beta)}

    def _trials(self) -> int:
        return 1

    def _box(self, X: Array, place: Place) -> tuple[Array, Array, bool]:
        size = X.shape[1]
        return np.zeros(size), np.full(size, float(self._trials())), True

    def _family(self, n_components: int, place: Place) -> BinomialColumns:
        return BinomialColumns(n_components, len(place.names), self._trials(), by_column=False)

    def _with_prior(
        self, n_components: int, place: Place, prior: dict[str, Any]
    ) -> BinomialColumns:
        size = len(place.names)
        return BinomialColumns(n_components, size, self._trials(), prior["alpha"], prior["beta"])

    def _attributes(self, params: Any, place: Place) -> dict[str, Any]:
        return {"probabilities": params.means[0] / self._trials()}


class Binomial(Bernoulli):
    """Numbers of successes in a known number of trials, the same for all rows.

    Parameters
    ----------
    n : int
        Number of trials.
    alpha, beta : float, default=1.0
        Of the beta prior of each probability of success; the default is uniform.
    """

    def __init__(self, n: int, alpha: float = 1.0, beta: float = 1.0) -> None:
        self.n = n
        super().__init__(alpha, beta)

    def _check(self, name: str) -> None:
        check_integer(f"n of component {name!r}", self.n, minimum=1)
        super()._check(name)

    def _trials(self) -> int:
        return int(self.n)

    def _form_key(self) -> tuple[Any, ...]:
        return (type(self).__name__, int(self.n))

    def _refused(self, X: Array) -> tuple[NDArray[np.bool_], str]:
        return _whole(X, self.n), f"whole numbers from 0 to n={self.n}, or NaN"


class _Rates(Component):
    """Columns with a gamma prior."""

    shape: float
    rate: float | None
    _columns: ClassVar[Any]

    def _check(self, name: str) -> None:
        self._positive(name, "shape")
        self._positive(name, "rate", optional=True)

    def _typical(self, rows: Rows) -> Array:
        return np.where(rows.centre > 0, rows.centre, 1.0)


class Poisson(_Rates):
    """Counts: independent columns of whole numbers.

    Parameters
    ----------
    shape : float, default=1.0
        Of the gamma prior of each rate.
    rate : float or None, default=None
        Of that prior; the prior is worth `rate` rows, in which `shape` were counted. None stands
        for ``shape`` over the mean of the column, so that the prior has the mean of the column.
    """

    def __init__(self, shape: float = 1.0, rate: float | None = None) -> None:
        self.shape = shape
        self.rate = rate

    def _refused(self, X: Array) -> tuple[NDArray[np.bool_], str]:
        return _whole(X), "whole numbers from 0, or NaN"

    def _prior(self, rows: Rows, settings: Any, runner: RowRunner) -> dict[str, Any]:
        rate = self.shape / self._typical(rows) if self.rate is None else self.rate
        return {
            "shape": float(self.shape),
            "rate": np.broadcast_to(np.asarray(rate, np.float64), rows.centre.shape).copy(),
        }

    def _family(self, n_components: int, place: Place) -> PoissonColumns:
        return PoissonColumns(n_components, len(place.names), by_column=False)

    def _with_prior(self, n_components: int, place: Place, prior: dict[str, Any]) -> PoissonColumns:
        return PoissonColumns(n_components, len(place.names), prior["shape"], prior["rate"])

    def _coordinates(self, X: Array, rows: Rows) -> Array:
        # the variance of the square root of a count is about the same for all rates
        known = np.where(np.isnan(X), rows.centre, X)
        return (np.sqrt(known) - np.sqrt(rows.centre)) * 2.0

    def _box(self, X: Array, place: Place) -> tuple[Array, Array, bool]:
        return *super()._box(X, place)[:2], True

    def _attributes(self, params: Any, place: Place) -> dict[str, Any]:
        return {"rates": params.means[0]}


class Exponential(_Rates):
    """Waiting times: independent columns of numbers that are not negative.

    Parameters
    ----------
    shape : float, default=1.0
        Of the gamma prior of each rate, the inverse of a mean.
    rate : float or None, default=None
        Of that prior. None stands for ``shape`` times the mean of the column.
    """

    def __init__(self, shape: float = 1.0, rate: float | None = None) -> None:
        self.shape = shape
        self.rate = rate

    def _refused(self, X: Array) -> tuple[NDArray[np.bool_], str]:
        return X < 0, "numbers from 0, or NaN"

    def _prior(self, rows: Rows, settings: Any, runner: RowRunner) -> dict[str, Any]:
        rate = self.shape * self._typical(rows) if self.rate is None else self.rate
        return {
            "shape": float(self.shape),
            "rate": np.broadcast_to(np.asarray(rate, np.float64), rows.centre.shape).copy(),
        }

    def _family(self, n_components: int, place: Place) -> ExponentialColumns:
        return ExponentialColumns(n_components, len(place.names), by_column=False)

    def _fitting(self, n_components: int, place: Place, rows: Rows, settings: Any) -> Any:
        family = self._family(n_components, place)
        family.smallest = _SMALLEST_MEAN * self._typical(rows)
        return family

    def _warn(
        self, family: Any, params: Any, weights: Array, rows: Rows, place: Place, settings: Any
    ) -> None:
        small = params.means[0] <= 2.0 * family.smallest
        for column in np.flatnonzero(small.any(axis=0)):
            warnings.warn(
                f"{settings.estimator}: components {np.flatnonzero(small[:, column]).tolist()} "
                f"have collapsed onto zeros of {place.column(int(column))}, where an exponential "
                "density has no bound, so that hmaxe_ is set by a floor of their means; give zeros "
                "a column of their own (0 or 1, Bernoulli), with NaN in this one, or decrease "
                "n_components",
                ConvergenceWarning,
                stacklevel=users_stacklevel(),
            )

    def _with_prior(
        self, n_components: int, place: Place, prior: dict[str, Any]
    ) -> ExponentialColumns:
        # a gamma density of rates is worth one row less than its shape
        worth = prior["shape"] - 1.0
        return ExponentialColumns(n_components, len(place.names), prior["rate"], worth)

    def _coordinates(self, X: Array, rows: Rows) -> Array:
        means = self._typical(rows)
        known = np.where(np.isnan(X), means, X)
        return np.log(known + 1e-3 * means) - np.log(means)

    def _attributes(self, params: Any, place: Place) -> dict[str, Any]:
        return {"rates": 1.0 / params.means[0]}


class Categorical(Component):
    """Categories: independent columns of labels, numbers or strings.

    Parameters
    ----------
    concentration : float, default=1.0
        Of the Dirichlet prior, for each category; the default is uniform.
    categories : "auto" or list of array-like, default="auto"
        The categories of each of the component's columns; ``"auto"`` finds them in the rows of the
        fit, in sorted order, and takes those of pandas categories as they are.
    handle_unknown : {"error", "ignore"}, default="error"
        What happens to a category, in a row after the fit, that is not among these: ValueError, or
        it counts as missing.
    """

    _categories: ClassVar[bool] = True

    def __init__(
        self,
        concentration: float = 1.0,
        categories: Any = "auto",
        handle_unknown: str = "error",
    ) -> None:
        self.concentration = concentration
        self.categories = categories
        self.handle_unknown = handle_unknown

    def _check(self, name: str) -> None:
        self._positive(name, "concentration")
        check_choice(
            f"handle_unknown of component {name!r}", self.handle_unknown, ("error", "ignore")
        )
        if isinstance(self.categories, str) and self.categories != "auto":
            raise ValueError(
                f"categories of component {name!r} must be 'auto' or a list with the categories of "
                f"each column, got {self.categories!r}"
            )

    def _refused(self, X: Array) -> tuple[NDArray[np.bool_], str]:
        return np.zeros(X.shape, dtype=bool), ""  # codes of categories, as they were encoded

    def _prior(self, rows: Rows, settings: Any, runner: RowRunner) -> dict[str, Any]:
        return {"concentration": float(self.concentration)}

    def _family(self, n_components: int, place: Place) -> CategoricalColumns:
        return CategoricalColumns(n_components, place.n_categories)

    def _with_prior(
        self, n_components: int, place: Place, prior: dict[str, Any]
    ) -> CategoricalColumns:
        return CategoricalColumns(n_components, place.n_categories, prior["concentration"])

    def _means(self, family: Any, params: Any) -> Array:
        return np.full((params.probabilities.shape[1], family.n_features), np.nan)

    def _expected(self, family: Any, params: Any, Z: NDArray[Any]) -> Array:
        chances = Z @ params.probabilities[0]
        return np.stack([chances[:, own].argmax(axis=1) for own in family.blocks], axis=1)

    def _coordinates(self, X: Array, rows: Rows) -> Array:
        found = []
        for own in X.T:
            values = np.unique(own[~np.isnan(own)])
            indicators = (own[:, None] == values).astype(np.float64)
            shares = np.nanmean(np.where(np.isnan(own)[:, None], np.nan, indicators), axis=0)
            indicators[np.isnan(own)] = shares
            found.append((indicators - shares) * np.sqrt(2.0))
        return np.concatenate(found, axis=1)

    def _box(self, X: Array, place: Place) -> tuple[Array, Array, bool]:
        sizes = np.asarray(place.n_categories, dtype=np.float64)
        return np.zeros(len(sizes)), sizes - 1.0, True

    def _attributes(self, params: Any, place: Place) -> dict[str, Any]:
        ends = np.cumsum(place.n_categories)[:-1]
        return {"probabilities": np.split(params.probabilities[0], ends, axis=1)}


class Uniform(BaseEstimator):
    """Noise, uniform on a box: a component of its own for rows far from all others.

    It is the parameter `noise` of :class:`~skbae.BayesianMixtureAutoEncoder`, and the last of the
    components there. In columns of whole numbers and of categories, all values are as probable.

    Parameters
    ----------
    lower, upper : array-like of shape (n_features,) or None, default=None
        The box; None stands for the least and largest entries of the rows of the fit (of bits and
        categories, for all there are). Rows outside are no noise.

    References
    ----------
    Banfield, J. and Raftery, A. (1993). Model-based Gaussian and non-Gaussian clustering.
    Biometrics 49, 803-821.
    """

    def __init__(self, lower: Any = None, upper: Any = None) -> None:
        self.lower = lower
        self.upper = upper
