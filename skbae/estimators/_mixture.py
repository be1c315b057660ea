"""Base of the estimators of mixtures: initial means, predicted components, BIC and AIC."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metadata_routing import UNUSED

from skbae._types import EMResult
from skbae.energies.mixture._completion import ConditionalRows
from skbae.estimators._annealing import Annealing, annealed_means
from skbae.estimators._batches import BatchAutoEncoder
from skbae.estimators._criteria import InformationCriteria
from skbae.estimators._fitted import DetailsT, Fit, single_model, stored
from skbae.estimators._missing import CompletingAutoEncoder
from skbae.estimators._pieces import ReadsPieces, by_pieces
from skbae.estimators._posterior import DescribesPosterior
from skbae.estimators._settings import Given, Settings, common_settings
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators._stream import Stream
from skbae.inference._objective import Objective
from skbae.inference.passes._filled import filled_rows
from skbae.inference.passes._k_means import best_k_means
from skbae.inference.passes._rows import make_rows
from skbae.inference.passes._sources import SparseTable
from skbae.inference.passes._starting_points import (
    MAX_DISTINCT,
    distinct_rows,
    kmeans_plus_plus,
    random_rows,
)
from skbae.operators._floating import own_errors
from skbae.operators._labels import label_certainty, match_labels
from skbae.operators._tempered import first_maximum, log_mean_exp, tempered_softmax

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.energies.mixture._completion import ConditionalDistribution
    from skbae.energies.mixture._energy import BoundMixture, MixtureEnergy, MixtureParameters
    from skbae.estimators._plans import SamplerPlans
    from skbae.inference.passes._rows import RowRunner


# How initial means are chosen from the rows, by `init_params`; the means of random codes otherwise.
_CHOOSE_MEANS = {
    "kmeans": best_k_means,
    "k-means++": kmeans_plus_plus,
    "random_from_data": random_rows,
}
INITS = (*_CHOOSE_MEANS, "random")

# Differences, relative and in nats a row, of objectives that are the same up to rounding and to
# what fits leave when they stop.
_SAME_MAXIMUM, _SAME_IN_NATS = 1e-10, 1e-6
# Rows by which the components of one model are matched with those of another.
_ROWS_TO_MATCH = 2000
# Rows, drawn from the reference model, on which it is judged how sure the labels are.
_ROWS_TO_COMPARE = 1000


@dataclass(frozen=True, kw_only=True)
class MixtureSettings(Settings):
    """Settings that all mixtures share."""

    n_components: int
    equal_weights: bool
    weight_concentration_prior: float
    n_init: int
    init_params: str
    annealing: Annealing | None
    tol: float
    max_iter: int
    learning_decay: float
    forgetting: float

    def check_enough_rows(self, n_rows: int) -> None:
        """Raise ValueError unless there are as many rows as components."""
        if n_rows < self.n_components:
            raise ValueError(
                "X must have at least n_components rows (of positive weight): "
                f"n_components={self.n_components}, n_samples={n_rows}"
            )


def mixture_settings(estimator: str, given: Given, plans: SamplerPlans) -> dict[str, Any]:
    """Return the settings that all mixtures share, by name, checked."""
    common = common_settings(estimator, given, plans)
    annealing = Annealing.read(given["annealing"], common["temperature"])
    if annealing is not None and common["model_temperature"] > 0:
        raise ValueError(
            "annealing is for fits of a single best model, with model_temperature=0, got "
            f"annealing={given['annealing']!r} and "
            f"model_temperature={given['model_temperature']!r}"
        )
    return {
        **common,
        "annealing": annealing,
        "n_components": given.integer("n_components", minimum=1),
        "init_params": given.choice("init_params", INITS),
        "equal_weights": given.flag("equal_weights"),
        "warm_start": given.flag("warm_start"),
        "n_init": given.integer("n_init", minimum=1),
        "max_iter": given.integer("max_iter", minimum=0),
        "tol": given.real("tol", at_least=0),
        **_read_learning(given),
        "weight_concentration_prior": given.real("weight_concentration_prior", above=0),
    }


EnergyT = TypeVar("EnergyT", bound="MixtureEnergy[Any]")


def _read_learning(given: Given) -> dict[str, float]:
    """Return the settings of ``partial_fit``."""
    decay, forgetting = given.real("learning_decay", above=0), given.real("forgetting", at_least=0)
    if decay > 1:
        raise ValueError(
            "learning_decay must be above 0 and at most 1 (above 0.5 for batches to be averaged), "
            f"got {given['learning_decay']!r}"
        )
    if forgetting >= 1:
        raise ValueError(f"forgetting must be at least 0 and below 1, got {given['forgetting']!r}")
    return {"learning_decay": decay, "forgetting": forgetting}


MixtureSettingsT = TypeVar("MixtureSettingsT", bound=MixtureSettings)


class MixtureAutoEncoder(
    ReadsPieces[MixtureSettingsT, DetailsT],
    BatchAutoEncoder[MixtureSettingsT, DetailsT],
    CompletingAutoEncoder[MixtureSettingsT, DetailsT],
    InformationCriteria[MixtureSettingsT, DetailsT],
    DescribesPosterior[MixtureSettingsT, DetailsT],
):
    """Base of the estimators of mixtures."""

    __metadata_request__predict: ClassVar = {"out": UNUSED}
    __metadata_request__predict_proba: ClassVar = {"out": UNUSED}
    _instead_of_editing: ClassVar = (
        "reorder_components sorts components, and from_parameters makes a model of your own. "
    )

    @abstractmethod
    def _names_by_component(self) -> tuple[str, ...]:
        """Return the names of the fitted attributes whose first axis is that of components."""

    def reorder_components(self, order: Any) -> Self:
        """Put the components in another order, in all fitted attributes and in predictions.

        Parameters
        ----------
        order : array-like of int of shape (n_components,)
            A permutation: component k of the result is component ``order[k]`` of the model.

        Returns
        -------
        self : object

        Examples
        --------
        >>> import numpy as np
        >>> from skbae import BayesianGMMAutoEncoder
        >>> X = np.array([[0.0], [1.0], [9.0], [10.0], [11.0]])
        >>> model = BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0).fit(X)
        >>> model.reorder_components(np.argsort(model.means_[:, 0])).predict(X).tolist()
        [0, 0, 1, 1, 1]
        """
        self._check_usable()
        index = np.asarray(order)
        n_components = self.models_.weights.shape[1]
        if index.shape != (n_components,) or not np.array_equal(
            np.sort(index), np.arange(n_components)
        ):
            raise ValueError(
                f"order must be a permutation of the components 0 to {n_components - 1}, got "
                f"{order!r}"
            )
        names = self._names_by_component()
        attributes = {name: stored(getattr(self, name)[index]) for name in names}
        changed = {name[:-1] for name in names} & {field.name for field in fields(self.models_)}
        models = stored(
            replace(
                self.models_, **{name: getattr(self.models_, name)[:, index] for name in changed}
            )
        )
        reference = {**self._fitted.reference, **self._copied_reference(attributes)}
        fitted = replace(self._fitted, reference=reference)
        self.__dict__.update(attributes, models_=models, _fitted=fitted)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[np.intp]:
        """Fit and return the hard component of each training row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,) or None, default=None

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self.fit(X, y, sample_weight).predict(X)

    # -- sampled models ------------------------------------------------------------------------

    def _certainties(self) -> dict[str, Array]:
        """Return how sure the label of each component is, judged on rows of the reference model."""
        self._require_density("a comparison of labels")
        energy, temperature, reference = self._energy(), self._fitted.temperature, self._reference()
        X, _ = energy.draw(reference, _ROWS_TO_COMPARE, np.random.default_rng(0))

        def codes(models: MixtureParameters) -> Array:
            bound = energy.bind(models, self._fitted.frame, np.float64)
            rounding = bound.rounding[:, None, None]
            return tempered_softmax(bound.joint(X, temperature), temperature, 1, rounding=rounding)

        params, n_labels = self._parameters(), self._n_labels()
        theirs = [
            codes(params.take(slice(start, start + 10)))[:, :n_labels]
            for start in range(0, params.n_models, 10)
        ]
        ours = codes(reference)[0, :n_labels]
        return {"component": label_certainty(np.concatenate(theirs), ours)}

    def _n_labels(self) -> int:
        """Return how many components, the first ones, have labels that can be exchanged."""
        return int(self.models_.weights.shape[1])

    # -- batches -------------------------------------------------------------------------------

    @abstractmethod
    def _continued(self, rng: np.random.Generator) -> MixtureParameters:
        """Return the fitted model as a start."""

    @abstractmethod
    def _energy_of_batch(self, settings: MixtureSettingsT, rows: Rows) -> MixtureEnergy[Any]:
        """Return the energy with the floors of a fit to a batch."""

    @abstractmethod
    def _public(
        self,
        settings: MixtureSettingsT,
        energy: MixtureEnergy[Any],
        params: MixtureParameters,
        rows: Rows,
        runner: RowRunner,
    ) -> dict[str, Any]:
        """Return a single best model as fitted attributes, ``models_`` among them."""

    def _fit_batch(
        self, settings: MixtureSettingsT, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[DetailsT]:
        """Fit to the first batch; of a later one, take a step with each piece (stepwise EM).

        A model is the maximum of its own expected statistics, so that these need not be kept.
        """
        if not hasattr(self, "models_"):
            return self._fit_rows(settings, rows, rng, runner)
        stream = self._fitted.stream
        if stream is None:  # parameters that were given count as much as the batch
            stream = replace(Stream.begin(rows), n_rows=0)
        params, energy = self._continued(rng), self._energy_of_batch(settings, rows)
        temperature = settings.temperature
        n_steps = 0
        for piece in stream.pieces(rows):
            objective = Objective(energy, piece, runner, temperature, settings.tilt)
            share = stream.share(piece.total, settings.learning_decay, settings.forgetting)
            found = objective.expect(params, rows.X.dtype)
            mixed = energy.interpolate(params, found, np.array([share]), temperature)
            params = energy.maximise(mixed, params, temperature)
            stream, n_steps = stream.after(piece), n_steps + 1
        seen = replace(rows, centre=stream.frame.centre, scale=stream.frame.scale)
        now = Objective(energy, seen, runner, temperature, settings.tilt).expect(params)
        hmaxe, value = float(now.hmaxe[0]), float(now.objective[0])
        attributes = {
            **self._public(settings, energy, params, seen, runner),
            **single_model(hmaxe, [value]),
            "converged_": False,
            "n_iter_": n_steps,
        }
        return Fit(attributes, self._fitted.details, stream)

    # -- components ----------------------------------------------------------------------------

    @abstractmethod
    def _energy(self) -> MixtureEnergy[Any]:
        """Return the energy as configured at fit."""

    def _needs_rows(self, settings: MixtureSettingsT, n_rows: int, n_features: int) -> str:
        if settings.samples:
            return f"model_temperature={settings.model_temperature:g}"
        return "" if settings.annealing is None else "annealing"

    def _energy_to_fit(self, rows: Rows) -> MixtureEnergy[Any]:
        """Return the energy with the floors of a fit to rows."""
        return self._energy()

    def _bound(self, X: NDArray[Any]) -> BoundMixture:
        energy: MixtureEnergy[Any] = self._energy_for(X)
        return energy.bind(self._parameters(), self._fitted.frame, self._precision_for(X))

    def _condition_rows(
        self, params: MixtureParameters, X: NDArray[Any], temperature: float
    ) -> ConditionalDistribution:
        energy = self._energy().of_incomplete_rows()
        bound = energy.bind(params, self._fitted.frame, np.float64)
        return ConditionalRows(X, bound, temperature)

    def _joint(
        self, X: NDArray[Any], finish: Callable[[Array, float], NDArray[Any]]
    ) -> NDArray[Any]:
        """Map ``finish(log mean_m exp H, rounding)`` over chunks of rows: an array (K, n)."""
        bound, temperature = self._bound(X), self._fitted.temperature
        # at T = 0, energies that differ by rounding only are tied, in predictions as in fits
        rounding = float(bound.rounding.max()) if temperature == 0 else 0.0
        return self._map(
            lambda chunk: finish(log_mean_exp(bound.joint(chunk, temperature)), rounding),
            X,
            bound.chunk_rows,
        )

    def _component_probabilities(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return soft components (N, K) of validated rows."""
        temperature = self._fitted.temperature

        def finish(joint: Array, rounding: float) -> NDArray[Any]:
            codes = tempered_softmax(joint, temperature, axis=0, rounding=rounding)
            return codes.T.astype(X.dtype)

        return self._joint(X, finish)

    @by_pieces
    @own_errors()
    def predict(self, X: Any) -> NDArray[np.intp]:
        """Return the most probable component of each row, averaged over the kept models.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A table on disk is read piece by piece.
        out : array-like of shape (n_samples,) or None, default=None
            What the numbers are written into, piece by piece, and returned.

        Returns
        -------
        ndarray of int of shape (n_samples,)
        """
        return self._joint(self._read_rows(X), partial(first_maximum, axis=0))

    @by_pieces
    @own_errors()
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the soft components ``p(k | x)``, averaged over the kept models; one-hot at T = 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A table on disk is read piece by piece.
        out : array-like of shape (n_samples, n_components) or None, default=None
            What the probabilities are written into, piece by piece, and returned.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            ``(mean_m exp H)^(1/T)``, normalised; float32 for float32 rows.
        """
        return self._component_probabilities(self._read_rows(X))


def best_means(init_params: str) -> Callable[..., Array]:
    """Return the function that chooses initial means from rows, as `init_params` says."""
    return _CHOOSE_MEANS[init_params]


def of_rows(energy: EnergyT, rows: Rows) -> EnergyT:
    """Return the energy for rows: sparse ones, or such that miss entries, which takes longer."""
    if isinstance(rows.X, SparseTable):
        return energy.of_sparse_rows()
    return energy.of_incomplete_rows() if rows.incomplete else energy


def initial_means(
    settings: MixtureSettings,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
    n_starts: int,
) -> Array:
    """Return initial means (S, K, D), as the settings say; warn of too few rows."""
    init_params, n_components = settings.init_params, settings.n_components
    X, weights = rows_to_start_from(rows, n_components)
    if settings.annealing is not None:
        return annealed_means(
            settings.annealing,
            n_components,
            settings.equal_weights,
            settings.temperature,
            make_rows(X, weights) if rows.incomplete else rows,
            runner,
        )
    if init_params == "random":
        codes = random_codes(weights, n_components, n_starts, rng)
        return codes @ X / codes.sum(axis=-1, keepdims=True)
    choose = _CHOOSE_MEANS[init_params]
    return np.stack([choose(X, weights, n_components, rng) for _ in range(n_starts)])


def rows_to_start_from(rows: Rows, n_components: int) -> tuple[Array, Array]:
    """Return distinct rows and their weights; warn if they are fewer than components."""
    X, weights = distinct_rows(rows, max(MAX_DISTINCT, 4 * n_components))
    if rows.incomplete:
        X = filled_rows(X, weights)
    if len(X) < n_components:
        warnings.warn(
            f"X has {len(X)} distinct rows, fewer than n_components={n_components}: some components"
            " start equal to others. Decrease n_components, or remove duplicate rows.",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )
    return X, weights


def random_codes(
    weights: Array, n_components: int, n_starts: int, rng: np.random.Generator
) -> Array:
    """Return random soft codes (S, K, N) of distinct rows, times the weights of these."""
    uniform = rng.random((n_starts, n_components, len(weights)))
    return uniform * (weights / uniform.sum(axis=1, keepdims=True))


def best_of(found: EMResult, max_iter: int, stopped: bool) -> tuple[Any, dict[str, Any]]:
    """Return the best model of several starts and its fitted attributes."""
    # of starts that lead to the same maximum, up to rounding, the first
    rounding = _SAME_MAXIMUM * abs(float(found.objective.max())) + _SAME_IN_NATS
    best = int(first_maximum(found.objective, rounding))
    if not found.converged[best] and max_iter > 0 and not stopped:
        warnings.warn(
            f"the best of {len(found.objective)} start(s) did not converge within "
            f"max_iter={max_iter} iterations; increase max_iter or tol, try other init_params, or "
            "remove duplicate rows and constant columns of X",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )
    n_iter = int(found.n_iter[best])
    hmaxe = float(found.hmaxe[best])
    return found.params.take(slice(best, best + 1)), {
        **single_model(hmaxe, [float(values[best]) for values in found.history[: n_iter + 1]]),
        "converged_": bool(found.converged[best]),
        "n_iter_": n_iter,
    }


def match_to_reference(
    energy: Any,
    params: MixtureParameters,
    reference: MixtureParameters,
    rows: Rows,
    temperature: float,
    n_labels: int | None = None,
) -> MixtureParameters:
    """Return the models with components relabelled to agree best with those of the reference.

    Parameters
    ----------
    energy : MixtureEnergy
        With a method ``permute(params, order)``.
    params : MixtureParameters
        S models.
    reference : MixtureParameters
        One model.
    rows : Rows
    temperature : float
    n_labels : int or None, default=None
        How many of the components, the first ones, have labels that can be exchanged; None: all.
    """
    X, weights = distinct_rows(rows, _ROWS_TO_MATCH)

    def codes(models: MixtureParameters) -> Array:
        bound = energy.bind(models, rows.frame, np.float64)
        rounding = bound.rounding[:, None, None]
        joint = bound.joint(X, temperature)
        return tempered_softmax(joint, temperature, axis=1, rounding=rounding)

    ours = codes(reference)[0] * weights
    order = []
    for start in range(0, params.n_models, 10):
        theirs = codes(params.take(slice(start, start + 10)))
        agreement = np.einsum("kn,sjn->skj", ours, theirs, optimize=True)
        own = np.tile(np.arange(len(ours)), (len(agreement), 1))
        own[:, :n_labels] = match_labels(agreement[:, :n_labels, :n_labels])
        order.append(own)
    return energy.permute(params, np.concatenate(order))
