"""EnergyAutoEncoder: any energy as an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skbae.energies._base import EnumerableBoundEnergy, require
from skbae.energies._capabilities import DecodableEnergy
from skbae.energies.mixture._distributions import CategoricalCodes, MixtureRows
from skbae.energies.mixture._energy import BoundMixture, MixtureEnergy
from skbae.estimators._checks import check_codes, check_probabilities
from skbae.estimators._criteria import InformationCriteria
from skbae.estimators._fitted import Fit
from skbae.estimators._mixture import best_of
from skbae.estimators._pieces import by_pieces
from skbae.estimators._progress import progress
from skbae.estimators._sampling import internal_energy, summarise
from skbae.estimators.energy._fit import check_scores, matched, maximise, number_of_codes, sample
from skbae.estimators.energy._settings import EnergySettings
from skbae.estimators.energy._starts import starting_models
from skbae.inference._objective import Objective
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.operators._floating import own_errors
from skbae.operators._tempered import first_maximum, log_mean_exp, tempered_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.energies._base import BoundEnergy, Energy
    from skbae.energies._distribution import DistributionWithDensity
    from skbae.inference.passes._rows import RowRunner


@dataclass(frozen=True)
class FittedEnergy:
    """An energy made for the rows of a fit, and the number of its codes (None: not enumerable)."""

    energy: Any
    n_codes: int | None


class EnergyAutoEncoder(InformationCriteria[EnergySettings, FittedEnergy]):
    """Any energy ``H(x, m, z)`` as a Bayesian autoencoder, your own among them.

    What a fit does depends on the capabilities of the energy, which are abstract classes of
    :mod:`skbae.energies`:

    ======================================  ======================================================
    best model (``model_temperature=0``)    StatisticsEnergy: expectation maximisation;
                                            GradientEnergy: gradients
    sampled models at T = tau               ConjugateEnergy: Gibbs sweeps; CollapsibleEnergy:
                                            searches and chains of allocations
    at any T, tau, tilt and weights         GradientEnergy: tempered sampling from the prior
    codes (``transform``, ``predict``)      EnumerableBoundEnergy
    rows given codes (``decode``)           DecodableEnergy, or a mixture of a DecodableFamily
    ======================================  ======================================================

    Where one is missing, TypeError names it, with its methods.

    Parameters
    ----------
    energy : Energy or EnergyRecipe
        A recipe, such as :class:`skbae.energies.MixtureOf`, makes the energy for the rows of a fit;
        its parameters are parameters ``energy__...`` of the estimator.
    temperature : float, default=1.0
        Temperature T of the codes, not negative.
    model_temperature : float or None, default=None
        Temperature tau of the models m, drawn from ``prior(m) exp((N / tau) Hmaxe_T)``: 1 (at
        ``temperature=1``) is the Bayesian posterior, 0 finds the single best model; None means the
        same as `temperature`.
    tilt : float, default=0.0
        Tilt t, above -1, of the mean over rows that is maximised,
        ``-(1/t) log mean exp(-t Hmax)``.
    n_models : int, default=50
        Number of draws of the models that are kept for prediction, if models are sampled.
    evidence_tol : float or None, default=0.1
        Standard error of the log evidence, in nats, below which chains of allocations stop to
        refine it; None if the evidence is not wanted.
    n_init : int, default=1
        Number of starts, of which the best is kept.
    init_params : {"kmeans", "random"}, default="kmeans"
        How rows are grouped for starts, where codes are finitely many. (A StartableEnergy makes
        starts of its own; energies without either start from the prior.)
    params_init : ArrayRecord or None, default=None
        S models to start from, in place of those.
    tol : float, default=1e-3
        A start has converged when an iteration gains less than a hundredth of this, in nats a row.
    max_iter : int, default=100
        Largest number of iterations. With 0 the start itself is kept and scored.
    verbose : int, default=0
        If positive, print the objective of each iteration.
    verbose_interval : int, default=1
        Number of steps from one that is printed to the next.
    random_state : None, int, RandomState or Generator, default=None
    n_jobs : int or None, default=None
        Number of threads for passes over the rows; None: as many as BLAS would use. Results do
        not depend on it, and methods of the energy must not depend on what other threads do.

    Attributes
    ----------
    energy_ : Energy
        The energy that was fitted.
    reference_ : ArrayRecord
        The reference model, with a leading axis of length 1: the best fit, or, when models are
        sampled, the mode of ``p(m)`` in the coordinates of the energy.
    models_ : ArrayRecord
        The kept models. Labels of mixtures agree with those of the reference model.
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows under the reference model, in nats a row.
    hmaxemax_, hmaxemax_error_ : float
        ``(tau / N) log of the integral of prior(m) exp((N / tau) Hmaxe_T)``, by which families are
        compared, and its standard error; `hmaxe_` and 0 when a single model is fitted.
    log_evidence_ : float
        ``(N / tau) hmaxemax_``; at ``temperature=1`` the log marginal likelihood. Only when models
        are sampled.
    internal_energy_ : float
        Expected ``Hmaxe_T`` over the models: `hmaxe_` when there is one.
    sampling_ : SamplingResult
        Diagnostics of the sampling. Only when models are sampled.
    lower_bound_ : float
        The objective: `hmaxe_`, or its tilted counterpart.
    lower_bounds_ : list of float
        The objective at the start and after each iteration. Only for a single best model.
    converged_ : bool
        Whether the fit converged; when models are sampled, whether the status is ``"ok"``.
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    skbae.testing.check_energy : Do the methods of an energy agree with each other?
    skbae.energies : The abstract classes.

    Notes
    -----
    Codes, of shape (n_samples, n_codes), are probabilities of the energy's codes: `transform` gives
    the soft ones, averaged over the kept models, and `encode` a categorical distribution.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.special import gammaln
    >>> from dataclasses import dataclass
    >>> from skbae import EnergyAutoEncoder
    >>> from skbae.energies import ArrayRecord, ExponentialComponents, MixtureOf
    >>> @dataclass(frozen=True)
    ... class Rates(ArrayRecord):
    ...     rates: np.ndarray
    >>> class Counts(ExponentialComponents):  # Poisson: x log rate - rate - log x!
    ...     def __init__(self, n_components, n_features):
    ...         self.n_components, self.n_features = n_components, n_features
    ...     def features(self, X):
    ...         return X
    ...     def base(self, X):
    ...         return -gammaln(X + 1).sum(axis=1)
    ...     def natural(self, params):
    ...         total = -params.rates.sum(axis=-1, keepdims=True)
    ...         return np.concatenate([np.log(params.rates), total], axis=-1)
    ...     def expected_features(self, params):
    ...         return params.rates
    ...     def match_features(self, means):
    ...         return Rates(np.maximum(means, 1e-9))
    ...     def draw(self, params, models, labels, rng):
    ...         return rng.poisson(params.rates[models, labels]).astype(float)
    ...     def n_parameters(self):
    ...         return self.n_components * self.n_features
    >>> X = np.array([[1.0], [0], [2], [1], [20], [19], [22]])
    >>> model = EnergyAutoEncoder(MixtureOf(Counts, n_components=2), model_temperature=0)
    >>> model.fit(X).predict(X).tolist() in ([0, 0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0])
    True
    """

    _settings_class: ClassVar = EnergySettings
    _code_class: ClassVar = CategoricalCodes
    _reference_names: ClassVar = ()

    energy_: Energy
    reference_: Any

    def __init__(
        self,
        energy: Any = None,
        *,
        temperature: float = 1.0,
        model_temperature: float | None = None,
        tilt: float = 0.0,
        n_models: int = 50,
        evidence_tol: float | None = 0.1,
        n_init: int = 1,
        init_params: str = "kmeans",
        params_init: Any = None,
        tol: float = 1e-3,
        max_iter: int = 100,
        verbose: int = 0,
        verbose_interval: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.energy = energy
        self.temperature = temperature
        self.model_temperature = model_temperature
        self.tilt = tilt
        self.n_models = n_models
        self.evidence_tol = evidence_tol
        self.n_init = n_init
        self.init_params = init_params
        self.params_init = params_init
        self.tol = tol
        self.max_iter = max_iter
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.random_state = random_state
        self.n_jobs = n_jobs

    # -- fit -----------------------------------------------------------------------------------

    def _check_data(self, settings: EnergySettings, n_rows: int, n_features: int) -> None:
        """Sizes are checked by the energy, which is made when the rows are known."""

    def _fit_rows(
        self, settings: EnergySettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> Fit[FittedEnergy]:
        energy = settings.energy_for(rows.X)
        objective = Objective(energy, rows, runner, settings.temperature, settings.tilt)
        fit = self._fit_sampled if settings.samples else self._fit_best
        attributes = {"energy_": energy, **fit(settings, objective, rng)}
        check_scores(objective, attributes["reference_"], attributes["hmaxe_"])
        n_codes = number_of_codes(energy, attributes["reference_"], rows)
        return Fit(attributes, FittedEnergy(energy, n_codes))

    def _fit_best(
        self, settings: EnergySettings, objective: Objective, rng: np.random.Generator
    ) -> dict[str, Any]:
        """Fit the single best model."""
        starts = starting_models(settings, objective.energy, objective.rows, rng)
        with progress(self, objective.rows.X, None, settings.max_iter) as step:
            found = maximise(settings, objective, starts, step)
        best, attributes = best_of(found, settings.max_iter, step.stopped)
        return {"reference_": best, "models_": best, **attributes}

    def _fit_sampled(
        self, settings: EnergySettings, objective: Objective, rng: np.random.Generator
    ) -> dict[str, Any]:
        """Sample the models; the reference is the mode found from the best of them."""
        energy, rows, tau = objective.energy, objective.rows, settings.model_temperature
        many = replace(settings, n_init=max(settings.n_init, 8))
        make_starts = partial(starting_models, many, energy, rows, rng)
        with progress(self, rows.X, None, None) as step:
            run = sample(settings, objective, make_starts, rng, step)
        best = find_mode(objective, best_start(objective, run.params, tau), tau)
        return {
            **summarise(settings, run, rows.total),
            "internal_energy_": internal_energy(objective, run),
            "reference_": best.params,
            "models_": matched(energy, run.params, best.params, rows, settings.temperature),
            "hmaxe_": float(best.hmaxe[0]),
            "lower_bound_": float(best.objective[0]),
        }

    def _energy(self) -> Energy:
        energy: Energy = self._fitted.details.energy
        return energy

    def _parameters(self) -> Any:
        return self.models_

    def _reference(self) -> Any:
        return self.reference_

    # -- codes ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self._n_codes("the number of codes")

    def _n_codes(self, method: str) -> int:
        """Return the number of codes; raise TypeError or ValueError if they can't be enumerated."""
        n_codes = self._fitted.details.n_codes
        if n_codes is None:
            bound = self._energy().bind(self.reference_, self._fitted.frame, np.float64)
            require(bound, EnumerableBoundEnergy, method)
            raise ValueError(
                f"{method} needs codes of finitely many values, and code_energies of "
                f"{type(bound).__name__} has refused to enumerate those of this energy"
            )
        return n_codes

    def _joint(self, X: NDArray[Any], finish: Any, method: str) -> NDArray[Any]:
        """Map ``finish(log mean_m exp H, rounding)`` over chunks of rows: an array (K, n)."""
        self._n_codes(method)
        bound: BoundEnergy = self._bound(X)
        enumerable = require(bound, EnumerableBoundEnergy, method)
        rounding = 0.0
        if self._fitted.temperature == 0 and isinstance(bound, BoundMixture):
            rounding = float(bound.rounding.max())  # energies this close are tied, as in fits
        return np.asarray(
            self._map(
                lambda chunk: finish(log_mean_exp(enumerable.code_energies(chunk)), rounding),
                X,
                bound.chunk_rows,
            )
        )

    def _probabilities(self, X: NDArray[Any], method: str) -> NDArray[Any]:
        """Return probabilities of codes (N, K) of validated rows."""
        temperature = self._fitted.temperature

        def finish(joint: Array, rounding: float) -> NDArray[Any]:
            codes = tempered_softmax(joint, temperature, axis=0, rounding=rounding)
            return np.asarray(codes.T.astype(X.dtype))

        return self._joint(X, finish, method)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[np.intp]:
        """Fit and return the most probable code of each training row.

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

    @by_pieces
    @own_errors()
    def predict(self, X: Any) -> NDArray[np.intp]:
        """Return the most probable code of each row, averaged over the kept models.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of int of shape (n_samples,)
        """
        return self._joint(self._read_rows(X), partial(first_maximum, axis=0), "predict")

    @by_pieces
    @own_errors()
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probabilities of codes, averaged over the kept models; one-hot at T = 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_codes)
            ``(mean_m exp H)^(1/T)``, normalised; float32 for float32 rows.
        """
        return self._probabilities(self._read_rows(X), "predict_proba")

    def _transform_rows(self, X: NDArray[Any]) -> NDArray[Any]:
        return self._probabilities(X, "transform")

    def _encode_rows(self, X: NDArray[Any]) -> CategoricalCodes:
        return CategoricalCodes(self._probabilities(X, "encode"))

    def _expected_rows(self, Z: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self._decoded(np.asarray(Z, np.float64), "inverse_transform").mean)

    def _decode_distribution(self, codes: CategoricalCodes) -> DistributionWithDensity:
        Z = check_codes(codes.probabilities, self._n_features_out, self)
        return self._decode_codes(Z.astype(np.float64))

    def _decode_codes(self, Z: Array) -> DistributionWithDensity:
        return self._decoded(check_probabilities(Z), "decode")

    def _decoded(self, probabilities: Array, method: str) -> DistributionWithDensity:
        energy, frame = self._energy(), self._fitted.frame
        if isinstance(energy, MixtureEnergy) and not isinstance(energy, DecodableEnergy):
            return MixtureRows(energy.family, self.reference_.components, probabilities, frame)
        decodable = require(energy, DecodableEnergy, method)
        return decodable.decode(self.reference_, probabilities, frame)
