"""ConditionalRegressor: the distribution of y given x, from a fitted density of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from skbae.estimators._documented import Documented
from skbae.estimators._missing import CompletingAutoEncoder
from skbae.estimators.gmm._estimator import BayesianGMMAutoEncoder
from skbae.operators._random import as_generator

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.mixture._completion import ConditionalDistribution


class ConditionalRegressor(Documented, RegressorMixin, BaseEstimator):
    """Regression by the density of rows (x, y): targets are missing entries.

    An autoencoder is fitted to rows of features and targets together. What it says of y given x is
    a distribution: its mean is the prediction, and it gives intervals, draws and standard
    deviations, which may differ from one x to another. Missing features (NaN) are integrated out.

    Parameters
    ----------
    autoencoder : estimator or None, default=None
        An estimator of this package that takes missing entries: a Gaussian mixture, PCA or a
        mixture of PCA. None stands for ``BayesianGMMAutoEncoder(model_temperature=0)``, of which a
        single normal distribution makes linear regression; with more components the regression is
        piecewise linear.

    Attributes
    ----------
    autoencoder_ : estimator
        Fitted to rows (x, y).
    n_outputs_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Defined when X has string column names.

    See Also
    --------
    BayesianGMMAutoEncoder.condition : The same for any missing entries.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianGMMAutoEncoder, ConditionalRegressor
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-2, 2, (400, 1))
    >>> y = np.abs(x[:, 0]) + 0.1 * rng.normal(size=400)
    >>> bent = BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0)
    >>> model = ConditionalRegressor(bent).fit(x, y)
    >>> model.predict([[-1.5], [1.0]]).round(1).tolist()
    [1.5, 1.0]
    >>> lower, upper = model.predict_interval([[1.0]], level=0.9)
    >>> bool(lower[0] < 1.0 < upper[0])
    True
    """

    def __init__(self, autoencoder: Any = None) -> None:
        self.autoencoder = autoencoder

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the autoencoder to rows (x, y).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN where a feature is missing.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,) or None, default=None
            How many observations each row counts as.

        Returns
        -------
        self : object
        """
        joint = self.autoencoder
        if joint is None:
            joint = BayesianGMMAutoEncoder(model_temperature=0.0)
        if not isinstance(joint, CompletingAutoEncoder):
            raise TypeError(
                "autoencoder must be an estimator of skbae that takes missing entries "
                "(BayesianGMMAutoEncoder, BayesianPCAAutoEncoder or BayesianMixturePCAAutoEncoder) "
                f"or None, got {self.autoencoder!r}"
            )
        X, y = validate_data(
            self,
            X,
            y,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_samples=2,
            multi_output=True,
            y_numeric=True,
        )
        targets = np.asarray(y, X.dtype)
        self._flat = targets.ndim == 1
        targets = targets.reshape(len(X), -1)
        self.n_outputs_ = targets.shape[1]
        self.autoencoder_ = clone(joint).fit(np.hstack([X, targets]), sample_weight=sample_weight)
        return self

    def _given(self, X: Any) -> ConditionalDistribution:
        """Return the distribution of rows (x, y) given x."""
        check_is_fitted(self)
        X = validate_data(
            self,
            X,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            reset=False,
        )
        return self.autoencoder_.condition(self._with_unknown_targets(X))

    def _with_unknown_targets(self, X: NDArray[Any]) -> NDArray[Any]:
        unknown = np.full((len(X), self.n_outputs_), np.nan, X.dtype)
        return np.hstack([X, unknown])

    def _of_targets(self, values: Array) -> Array:
        """Return the targets of rows (..., N, D), without their axis if y had none."""
        targets = values[..., self.n_features_in_ :]
        return targets[..., 0] if self._flat else targets

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return the expected targets given features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            NaN where a feature is missing.
        return_std : bool, default=False
            Whether to return the standard deviations of the targets, too.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        std : ndarray of the same shape
            Only with ``return_std=True``.
        """
        given = self._given(X)
        mean = self._of_targets(given.mean)
        return (mean, np.sqrt(self._of_targets(given.variance))) if return_std else mean

    def predict_interval(self, X: Any, level: float = 0.9) -> tuple[Array, Array]:
        """Return the central interval of each target given features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        level : float, default=0.9
            Probability that a target is within, between 0 and 1.

        Returns
        -------
        lower, upper : ndarrays of shape (n_samples,) or (n_samples, n_outputs)
        """
        lower, upper = self._given(X).interval(level)
        return self._of_targets(lower), self._of_targets(upper)

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = None) -> Array:
        """Draw targets given features.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, n_features)
        n_samples : int, default=1
            Number of draws for each row.
        random_state : None, int, RandomState or Generator, default=None
            With None, each call gives different draws.

        Returns
        -------
        ndarray of shape (n_samples_X, n_samples) or (n_samples_X, n_outputs, n_samples)
            As of scikit-learn's Gaussian processes.
        """
        drawn = self._of_targets(self._given(X).sample(n_samples, as_generator(random_state)))
        return np.moveaxis(drawn, 0, -1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.multi_output = True
        return tags
