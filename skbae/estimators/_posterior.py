"""What was sampled, as a table of parameters and as named arrays for ArviZ."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._report import html_table, text_table
from skbae._version import __version__
from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._fitted import DetailsT
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators._transaction import SettingsT
from skbae.operators._floating import own_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skbae._types import Array

# Certainty of a label below which means over models may mix up parameters of different components.
LEAST_CERTAINTY = 0.9


@dataclass(frozen=True)
class Posterior:
    """Draws of the parameters of a model, with names.

    Attributes
    ----------
    arrays : dict
        From the name of a parameter to its draws, with the leading axis S.
    dims : dict
        From the name of a parameter to the names of its other axes.
    coords : dict
        From the name of an axis to the labels along it.
    certainty : dict
        From the name of a parameter to how sure the labels of its entries are: an array of the
        shape of one draw. Parameters without labels that could be exchanged are left out.
    """

    arrays: dict[str, Array]
    dims: dict[str, tuple[str, ...]]
    coords: dict[str, list[Any]]
    certainty: dict[str, Array] = field(default_factory=dict)

    def least_certainty(self) -> float:
        """Return how sure the least sure of all labels is; 1 where nothing has labels."""
        return min((float(each.min(initial=1.0)) for each in self.certainty.values()), default=1.0)

    def table(self) -> dict[str, list[Any]]:
        """Return the columns of a table with a row for each entry of each parameter."""
        columns: dict[str, list[Any]] = {name: [] for name in ("parameter", *_COLUMNS)}
        for name, draws in self.arrays.items():
            labels = product(*(self.coords[dim] for dim in self.dims[name]))
            inside = [", ".join(map(str, each)) for each in labels]
            columns["parameter"] += [f"{name}[{each}]" if each else name for each in inside]
            flat = draws.reshape(len(draws), -1)
            low, high = np.quantile(flat, [0.05, 0.95], axis=0)
            sure = self.certainty.get(name)
            found = (
                flat.mean(axis=0),
                flat.std(axis=0, ddof=1) if len(flat) > 1 else np.full(flat.shape[1], np.nan),
                low,
                high,
                np.full(flat.shape[1], np.nan) if sure is None else np.ravel(sure),
            )
            for column, values in zip(_COLUMNS, found, strict=True):
                columns[column] += values.tolist()
        return columns


_COLUMNS = ("mean", "std", "5%", "95%", "label certainty")


@dataclass(frozen=True)
class PosteriorTable:
    """The table of ``summary()`` where pandas is not installed.

    Attributes
    ----------
    columns : dict
        From the name of a column to its entries; ``"parameter"`` has the names of the rows.
    """

    columns: Mapping[str, list[Any]]

    def __str__(self) -> str:
        return text_table(self._texts())

    def _repr_html_(self) -> str:
        """Return the table as HTML, which notebooks show."""
        return html_table(self._texts())

    def _texts(self) -> dict[str, list[str]]:
        return {name: list(map(_text, column)) for name, column in self.columns.items()}


def _text(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    return "" if np.isnan(entry) else f"{entry:.4g}"


def as_table(columns: Mapping[str, list[Any]]) -> Any:
    """Return a pandas DataFrame indexed by parameter, or a table of text without pandas."""
    try:
        import pandas as pd
    except ImportError:
        return PosteriorTable(columns)
    return pd.DataFrame(columns).set_index("parameter")


class DescribesPosterior(BayesianAutoEncoder[SettingsT, DetailsT]):
    """Base of the estimators whose sampled models have parameters that can be told apart."""

    @abstractmethod
    def _posterior_dims(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the axes of the parameters to describe, by name."""

    def _posterior_arrays(self) -> dict[str, Array]:
        """Return the draws of the parameters to describe, by name."""
        return {name: getattr(self.models_, name) for name in self._posterior_dims()}

    @abstractmethod
    def _certainties(self) -> dict[str, Array]:
        """Return how sure labels are by the name of their axis, or names with a space between."""

    def summary(self) -> Any:
        """Return a table of the parameters of the sampled models, with means and quantiles.

        Labels that could be exchanged are those of ``models_``, matched to the reference model.
        How sure they are is said in the column ``"label certainty"``: 1 if no model agrees as well
        with the reference when two labels are exchanged, 0 if labels are arbitrary. A warning is
        issued where it is below 0.9, since means would then mix parameters of different
        components, and where the sampling itself is not "ok".

        Returns
        -------
        pandas.DataFrame or PosteriorTable
            A row for each parameter, with its mean, standard deviation, 5% and 95% quantiles over
            ``models_`` (of which there are `n_models`: quantiles of few models are rough), and
            label certainty (NaN for parameters without labels). Without pandas, a table of text.

        Raises
        ------
        ValueError
            If the models were not sampled, or are mixtures of PCA fitted at ``temperature=0``,
            which have no density from which rows to compare labels could be drawn.

        Examples
        --------
        >>> import numpy as np
        >>> from skbae import BayesianPCAAutoEncoder
        >>> X = np.random.default_rng(0).normal(size=(30, 2)) * [5.0, 1.0]
        >>> table = BayesianPCAAutoEncoder(1, random_state=0).fit(X).summary()
        >>> [str(name) for name in table.index[:2]]
        ['components[0, x0]', 'components[0, x1]']
        """
        posterior = self._posterior("summary")
        return as_table(posterior.table())

    def to_arviz(self) -> Any:
        """Return the sampled models as a posterior for ArviZ, with named axes.

        The kept models are one chain, in no order: `arviz`'s diagnostics of chains do not apply to
        them, those of the sampler are in ``sampling_``. Labels are those of :meth:`summary`, and
        the same warnings are issued.

        Returns
        -------
        xarray.DataTree
            With the group ``posterior``.

        Raises
        ------
        ImportError
            If ``arviz-base`` is not installed (extra ``arviz``).
        ValueError
            If the models were not sampled.
        """
        posterior = self._posterior("to_arviz")
        try:
            from arviz_base import from_dict
        except ImportError as error:
            raise ImportError(
                "to_arviz needs the package arviz-base, which is not installed: "
                "pip install skbae[arviz]"
            ) from error
        return from_dict(**arviz_arguments(posterior, self))

    @own_errors()
    def _posterior(self, method: str) -> Posterior:
        """Return the draws by name; refuse a single model, and warn of what is not identified."""
        self._check_usable()
        if self._fitted.model_temperature == 0 or not hasattr(self, "sampling_"):
            raise ValueError(
                f"{method} is about models that were sampled, and this {type(self).__name__} has "
                "a single best one, without any spread (model_temperature=0, or made from "
                "parameters); fit it with model_temperature=1"
            )
        dims, arrays = self._posterior_dims(), self._posterior_arrays()
        lengths = {
            dim: size
            for name, axes in dims.items()
            for dim, size in zip(axes, arrays[name].shape[1:], strict=True)
        }
        names = self._feature_labels()
        coords: dict[str, list[Any]] = {
            dim: names if dim.startswith("feature") else list(range(size))
            for dim, size in lengths.items()
        }
        posterior = Posterior(arrays, dims, coords, self._certainty_by_parameter(arrays, dims))
        _warn_of_doubts(posterior, self.sampling_)
        return posterior

    def _feature_labels(self) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            return [f"x{number}" for number in range(self.n_features_in_)]
        return [str(name) for name in names]

    def _certainty_by_parameter(
        self, arrays: Mapping[str, Array], dims: Mapping[str, tuple[str, ...]]
    ) -> dict[str, Array]:
        """Return, for each entry of a parameter, how sure the least sure of its labels is."""
        found, certainties = {}, self._certainties()
        for name, axes in dims.items():
            sure, labelled = np.ones(arrays[name].shape[1:]), False
            for dim, values in certainties.items():
                own = tuple(dim.split())
                if axes[: len(own)] == own:
                    shape = values.shape + (1,) * (sure.ndim - values.ndim)
                    sure, labelled = np.minimum(sure, values.reshape(shape)), True
            if labelled:
                found[name] = sure
        return found


def _warn_of_doubts(posterior: Posterior, sampling: Any) -> None:
    least = posterior.least_certainty()
    if least < LEAST_CERTAINTY:
        warnings.warn(
            f"labels are not identified (certainty {least:.2f}, below {LEAST_CERTAINTY}): means "
            "and quantiles mix parameters of components or directions that could be exchanged. "
            "Predictions and the evidence do not depend on labels.",
            UserWarning,
            stacklevel=users_stacklevel(),
        )
    if sampling.status != "ok":
        warnings.warn(
            f"sampling of the models is {sampling.status}: {'; '.join(sampling.reasons)}",
            UserWarning,
            stacklevel=users_stacklevel(),
        )


def arviz_arguments(posterior: Posterior, estimator: Any) -> dict[str, Any]:
    """Return what ``arviz_base.from_dict`` is given: the draws as one chain, axes and labels."""
    sampling = estimator.sampling_
    return {
        "data": {"posterior": {name: draws[None] for name, draws in posterior.arrays.items()}},
        "coords": posterior.coords,
        "dims": {name: list(axes) for name, axes in posterior.dims.items()},
        "attrs": {
            "posterior": {
                "inference_library": "skbae",
                "inference_library_version": __version__,
                "model": type(estimator).__name__,
                "sampling_status": sampling.status,
                "sampling_reasons": "; ".join(sampling.reasons),
                "label_certainty": posterior.least_certainty(),
            }
        },
    }
