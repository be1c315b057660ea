"""BayesianGMMAutoEncoder: Gaussian mixtures as autoencoders with a temperature."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from skbae._types import ArrayRecord, EMResult
from skbae.energies._covariance import COVARIANCE_TYPES
from skbae.energies._distributions import CategoricalCodes, GaussianMixtureRows
from skbae.energies._gaussian import GaussianParameters
from skbae.energies._gmm import (
    GaussianMixtureEnergy,
    gaussian_mixture,
    models_from_assignment,
    nearest_mean_models,
)
from skbae.energies._mixture import MixtureParameters
from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._checks import (
    check_choice,
    check_codes,
    check_flag,
    check_integer,
    check_real,
    check_shape,
)
from skbae.estimators._progress import progress
from skbae.inference._em import expectation_maximisation
from skbae.inference._init import distinct_rows, kmeans_plus_plus, random_rows
from skbae.operators._tempered import log_mean_exp, tempered_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Rows
    from skbae.inference._rows import RowRunner

_INITS = ("k-means++", "kmeans", "random_from_data")


@dataclass(frozen=True)
class GaussianMixtureModels(ArrayRecord):
    """Kept models: the fitted attributes with a leading axis S, labels matched.

    Attributes
    ----------
    weights : ndarray of shape (S, K)
    means : ndarray of shape (S, K, D)
    covariances, precisions_cholesky : ndarrays of shape (S,) + scikit-learn's shape
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]
    precisions_cholesky: NDArray[np.float64]


class BayesianGMMAutoEncoder(BayesianAutoEncoder):
    """Gaussian mixture as a Bayesian autoencoder, with a temperature on its codes.

    The energy of a row x under component k is ``H = log w_k + log N(x; mu_k, S_k)``; the code is
    the component. ``temperature=1`` is the ordinary mixture, fitted by maximum likelihood;
    ``temperature=0`` gives hard codes (with ``covariance_type="tied_spherical"`` and
    ``equal_weights=True``: k-means); between and beyond, codes are ``softmax(H / T)`` and the fit
    maximises ``Hmaxe_T``, the mean over rows of ``T log sum_k exp(H / T)``.

    Parameters
    ----------
    n_components : int, default=1
        Number K of components.
    temperature : float, default=1.0
        Temperature T of the codes, not negative.
    model_temperature : float or None, default=None
        Temperature tau of the models: 0 finds the single best model; None means the same as
        `temperature`. Sampling (tau > 0) is not available yet: set ``model_temperature=0``.
    tilt : float, default=0.0
        Tilt t, above -1, of the mean over rows that is maximised,
        ``-(1/t) log mean exp(-t Hmax)``: positive values care for the worst rows, negative ones
        discount outliers.
    covariance_type : str, default="full"
        ``"full"``, ``"tied"``, ``"diag"``, ``"spherical"``, ``"tied_diag"`` or
        ``"tied_spherical"``; tied components share one covariance.
    equal_weights : bool, default=False
        Fix all weights at 1/K.
    n_models : int, default=50
        How many draws of the models to keep when they are sampled.
    n_init : int, default=1
        Number of starts, run side by side; the best is kept.
    init_params : {"k-means++", "kmeans", "random_from_data"}, default="k-means++"
        How initial means are chosen: spread-out rows, the centres of k-means, or random rows.
        Which rows come out depends on the weighted set of rows only, not on their order.
    weights_init, means_init, precisions_init : array-like or None, default=None
        Initial values, in the shapes of the fitted attributes; None chooses them.
    reg_covar : float, default=1e-6
        Added to the variances in each maximisation, in squared units of X.
    tol : float, default=1e-3
        A start has converged when an iteration changes the objective by less.
    max_iter : int, default=100
        Largest number of iterations.
    warm_start : bool, default=False
        Start from the current fitted model, if there is one.
    verbose : int, default=0
        Print each iteration's objective if positive.
    random_state : None, int, RandomState or Generator, default=None
    n_jobs : int or None, default=None
        Threads that share a pass over the rows; None: as many as BLAS would use. Results do
        not depend on it.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
    means_ : ndarray of shape (n_components, n_features)
    covariances_, precisions_, precisions_cholesky_ : ndarrays
        In scikit-learn's shapes: (K, D, D), (D, D), (K, D) and (K,) for ``"full"``, ``"tied"``,
        ``"diag"`` and ``"spherical"``; (D,) and () for ``"tied_diag"`` and ``"tied_spherical"``.
    hmaxe_ : float
        ``Hmaxe_T`` of the training rows, in nats a row.
    hmaxemax_, hmaxemax_error_ : float
        Best value over the family and its error: `hmaxe_` and 0 when a single model is fitted.
    internal_energy_ : float
        Expected ``Hmaxe_T`` over the models: `hmaxe_` when there is one.
    lower_bound_ : float
        The objective: `hmaxe_`, or its tilted counterpart.
    lower_bounds_ : list of float
        The objective at the start and after each iteration.
    converged_ : bool
    n_iter_ : int
    models_ : GaussianMixtureModels
        The kept models.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    sklearn.mixture.GaussianMixture : The case T = 1, one model.
    sklearn.cluster.KMeans : The case T = 0, tied spherical covariance, equal weights.

    Notes
    -----
    Expectation maximisation never lowers the objective when ``reg_covar=0`` (Neal and Hinton
    1998, with the entropy of the codes multiplied by T).

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianGMMAutoEncoder
    >>> X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0).fit(X)
    >>> np.sort(model.means_[:, 0]).round(6).tolist()
    [1.0, 10.0]
    >>> model.predict_proba([[1.0, 2.0]]).max().round(6).item()
    1.0
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        temperature: float = 1.0,
        model_temperature: float | None = None,
        tilt: float = 0.0,
        covariance_type: str = "full",
        equal_weights: bool = False,
        n_models: int = 50,
        n_init: int = 1,
        init_params: str = "k-means++",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        reg_covar: float = 1e-6,
        tol: float = 1e-3,
        max_iter: int = 100,
        warm_start: bool = False,
        verbose: int = 0,
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.temperature = temperature
        self.model_temperature = model_temperature
        self.tilt = tilt
        self.covariance_type = covariance_type
        self.equal_weights = equal_weights
        self.n_models = n_models
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.reg_covar = reg_covar
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state
        self.n_jobs = n_jobs

    # -- fit -----------------------------------------------------------------------------------

    def _check_family(self, n_rows, n_features):
        if n_rows is None:
            check_integer("n_components", self.n_components, minimum=1)
            check_choice("covariance_type", self.covariance_type, COVARIANCE_TYPES)
            check_choice("init_params", self.init_params, _INITS)
            for name in ("equal_weights", "warm_start"):
                check_flag(name, getattr(self, name))
            check_integer("n_init", self.n_init, minimum=1)
            check_integer("max_iter", self.max_iter, minimum=0)
            check_real("reg_covar", self.reg_covar, at_least=0)
            check_real("tol", self.tol, at_least=0)
            if self._resolved_model_temperature() > 0:
                raise NotImplementedError(
                    "sampling the models (model_temperature > 0, or None with temperature > 0) "
                    f"is not available yet, got model_temperature={self.model_temperature!r}; set "
                    "model_temperature=0 to fit the single best model"
                )
            return
        if n_rows < self.n_components:
            raise ValueError(
                "X must have at least n_components rows (of positive weight): "
                f"n_components={self.n_components}, n_samples={n_rows}"
            )
        self._given_start(n_features)
        if self._continues():
            shape = self.models_.means.shape[1:]
            if shape != (self.n_components, n_features) or (
                self._config["covariance_type"] != self.covariance_type
            ):
                raise ValueError(
                    "warm_start=True needs the same n_components, number of features and "
                    "covariance_type as the fitted model: it has "
                    f"{shape[0]}, {shape[1]} and {self._config['covariance_type']!r}; asked for "
                    f"are {self.n_components}, {n_features} and {self.covariance_type!r}"
                )

    def _continues(self) -> bool:
        return bool(self.warm_start) and hasattr(self, "models_")

    def _given_start(self, n_features: int) -> dict[str, Any]:
        """Return the user's initial weights (1, K), means (1, K, D) and factors (1, C, ...)."""
        n_components = self.n_components
        given: dict[str, Any] = {"weights": None, "means": None, "factors": None}
        if self.weights_init is not None:
            weights = check_shape(
                "weights_init", self.weights_init, (n_components,), "(n_components,)"
            )
            if np.any(weights < 0) or abs(weights.sum() - 1) > 1e-6:
                raise ValueError(
                    "weights_init must not be negative and must sum to 1, got "
                    f"a minimum of {weights.min():g} and a sum of {weights.sum():g}"
                )
            given["weights"] = weights[None] / weights.sum()
        if self.means_init is not None:
            shape = (n_components, n_features)
            means = check_shape("means_init", self.means_init, shape, "(n_components, n_features)")
            given["means"] = means[None]
        if self.precisions_init is not None:
            covariance, tied = self._covariance(n_features)
            shape = covariance.tail if tied else (n_components, *covariance.tail)
            what = f"that of covariance_type={self.covariance_type!r}"
            precisions = check_shape("precisions_init", self.precisions_init, shape, what)
            if covariance.name == "full" and not np.allclose(
                precisions, np.swapaxes(precisions, -1, -2)
            ):
                raise ValueError("precisions_init must be symmetric, got matrices that are not")
            precisions = precisions[None] if tied else precisions
            try:
                given["factors"] = covariance.factorise_precision(precisions)[None]
            except np.linalg.LinAlgError as error:
                raise ValueError(
                    "precisions_init must be positive definite, got a precision that is not"
                ) from error
        return given

    def _covariance(self, n_features: int) -> Any:
        shape_class, tied = COVARIANCE_TYPES[self.covariance_type]
        return shape_class(n_features), tied

    def _fit_family(self, rows, rng, runner):
        config = {
            "n_components": int(self.n_components),
            "n_features": rows.X.shape[1],
            "covariance_type": self.covariance_type,
            "equal_weights": bool(self.equal_weights),
            "reg_covar": float(self.reg_covar),
        }
        energy = gaussian_mixture(**config)
        starts = self._starts(energy, rows, rng, runner)
        with progress(self, rows.X, None, int(self.max_iter)) as step:
            found = expectation_maximisation(
                energy,
                starts,
                rows,
                runner,
                temperature=float(self.temperature),
                tilt=float(self.tilt),
                tol=float(self.tol),
                max_iter=int(self.max_iter),
                on_iteration=step,
            )
        fitted = self._attributes(energy, found)
        fitted["_config"] = config
        return fitted

    def _starts(
        self, energy: GaussianMixtureEnergy, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> MixtureParameters:
        """Return where to start: the fitted model, what the user gave, or choices from the rows."""
        if self._continues():
            return self._parameters().take(slice(0, 1))
        given = self._given_start(energy.n_features)
        if all(value is not None for value in given.values()):
            components = GaussianParameters(given["means"], given["factors"])
            return MixtureParameters(given["weights"], components)
        if given["means"] is None:
            means = self._initial_means(energy, rows, rng, runner)
        else:
            means = given["means"]
        assigned = nearest_mean_models(energy, means, float(np.mean(rows.scale**2)) or 1.0)
        # in double precision: groups may be much narrower than the spread of all rows
        kernel = energy.expectation(assigned, rows.frame, np.float64, 0.0, 0.0)
        models = models_from_assignment(energy, runner.reduce(kernel, rows), assigned)

        def choose(name: str, value: NDArray[np.float64]) -> NDArray[np.float64]:
            own = given[name]
            return value if own is None else np.broadcast_to(own, value.shape).copy()

        components = GaussianParameters(
            choose("means", models.components.means), choose("factors", models.components.factors)
        )
        return MixtureParameters(choose("weights", models.weights), components)

    def _initial_means(
        self, energy: GaussianMixtureEnergy, rows: Rows, rng: np.random.Generator, runner: RowRunner
    ) -> NDArray[np.float64]:
        """Return initial means (S, K, D)."""
        X, weights = distinct_rows(rows)
        choose = random_rows if self.init_params == "random_from_data" else kmeans_plus_plus
        means = np.stack([choose(X, weights, energy.n_components, rng) for _ in range(self.n_init)])
        if self.init_params != "kmeans":
            return means
        k_means = gaussian_mixture(
            energy.n_components, energy.n_features, "tied_spherical", equal_weights=True
        )
        variance = float(np.mean(rows.scale**2)) or 1.0
        found = expectation_maximisation(
            k_means,
            nearest_mean_models(k_means, means, variance),
            rows,
            runner,
            temperature=0.0,
            tol=1e-4,
            max_iter=300,
            dtype=np.float64,
        )
        return found.params.components.means

    def _attributes(self, energy: GaussianMixtureEnergy, found: EMResult) -> dict[str, Any]:
        """Return the fitted attributes of the best start."""
        best = int(np.argmax(found.objective))
        if not found.converged[best] and self.max_iter > 0:
            warnings.warn(
                f"the best of {len(found.objective)} start(s) did not converge within "
                f"max_iter={self.max_iter} iterations. Increase max_iter or tol, or try other "
                "init_params; degenerate data may be the cause too.",
                ConvergenceWarning,
                stacklevel=4,
            )
        params = found.params.take(slice(best, best + 1))
        shape, tied = energy.family.shape, energy.family.tied
        factors = params.components.factors
        covariances = shape.covariances(factors)
        precisions = shape.precisions(factors)
        if tied:
            factors, covariances, precisions = factors[:, 0], covariances[:, 0], precisions[:, 0]
        models = GaussianMixtureModels(
            params.weights, params.components.means, covariances, factors
        )
        n_iter = int(found.n_iter[best])
        hmaxe = float(found.hmaxe[best])
        return {
            "weights_": models.weights[0],
            "means_": models.means[0],
            "covariances_": covariances[0],
            "precisions_": precisions[0],
            "precisions_cholesky_": factors[0],
            "models_": models,
            "hmaxe_": hmaxe,
            "hmaxemax_": hmaxe,
            "hmaxemax_error_": 0.0,
            "internal_energy_": hmaxe,
            "lower_bound_": float(found.objective[best]),
            "lower_bounds_": [float(values[best]) for values in found.history[: n_iter + 1]],
            "converged_": bool(found.converged[best]),
            "n_iter_": n_iter,
        }

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

    # -- codes ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.models_.weights.shape[1]

    def _energy(self):
        return gaussian_mixture(**self._config)

    def _parameters(self):
        models = self.models_
        factors = models.precisions_cholesky
        if COVARIANCE_TYPES[self._config["covariance_type"]][1]:
            factors = factors[:, None]
        return MixtureParameters(models.weights, GaussianParameters(models.means, factors))

    def _joint(self, X: NDArray[Any], finish: Any) -> Any:
        """Map ``finish(log mean_m exp H)``, an array (K, n), over chunks of rows."""
        bound = self._bound(X)
        return self._map(
            lambda chunk: finish(log_mean_exp(bound.joint(chunk))), X, bound.chunk_rows
        )

    def predict(self, X: Any) -> NDArray[np.intp]:
        """Return the most probable component of each row, averaged over the kept models.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of int of shape (n_samples,)
        """
        return self._joint(self._read(X), lambda joint: joint.argmax(axis=0))

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the soft codes ``p(k | x)``, averaged over the kept models; one-hot at T = 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            ``(mean_m exp H)^(1/T)``, normalised; float32 for float32 rows.
        """
        X = self._read(X)
        temperature = self._fit_temperature
        return self._joint(
            X, lambda joint: tempered_softmax(joint, temperature, axis=0).T.astype(X.dtype)
        )

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the mean code of each row: :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        return self.predict_proba(X)

    def inverse_transform(self, Z: Any) -> NDArray[Any]:
        """Return the expected row for each code, hard or soft: ``Z @ means_``.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        Z = check_codes(Z, self._n_features_out, self)
        return Z @ self.means_.astype(Z.dtype, copy=False)

    def encode(self, X: Any) -> CategoricalCodes:
        """Return the distribution of each row's code, averaged over the kept models.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        CategoricalCodes
        """
        return CategoricalCodes(self.predict_proba(X))

    def decode(self, Z: Any) -> GaussianMixtureRows:
        """Return the distribution of rows given codes, under the reference model.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components) or CategoricalCodes
            Probabilities of components (one-hot for hard codes), or what :meth:`encode` returned;
            then the result is the distribution of the reconstruction.

        Returns
        -------
        GaussianMixtureRows
        """
        check_is_fitted(self)
        if isinstance(Z, CategoricalCodes):
            Z = Z.probabilities
        Z = check_codes(Z, self._n_features_out, self).astype(np.float64)
        totals = Z.sum(axis=1)
        if np.any(Z < 0) or np.any(np.abs(totals - 1) > 1e-4):
            raise ValueError(
                "Z must hold probabilities of components (rows not negative, summing to 1), got "
                f"entries down to {Z.min():g} and row sums from {totals.min():g} to "
                f"{totals.max():g}"
            )
        energy = self._energy()
        covariances = energy.family.shape.expand(self.covariances_)
        covariances = np.broadcast_to(covariances, (Z.shape[1], *covariances.shape[-2:]))
        return GaussianMixtureRows(Z / totals[:, None], self.means_, covariances)

    # -- criteria ------------------------------------------------------------------------------

    def bic(self, X: Any) -> float:
        """Return the Bayesian information criterion of the density at T = 1 (lower is better).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        float
        """
        X = self._read(X)
        fit = -2.0 * float(self._score_rows(X, 1.0).sum())
        return fit + self._energy().n_parameters() * float(np.log(len(X)))

    def aic(self, X: Any) -> float:
        """Return Akaike's information criterion of the density at T = 1 (lower is better).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        float
        """
        X = self._read(X)
        fit = -2.0 * float(self._score_rows(X, 1.0).sum())
        return fit + 2.0 * self._energy().n_parameters()
