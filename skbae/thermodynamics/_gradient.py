"""The gradient of ``Hmaxe`` in a fitted model's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skbae.energies._base import require
from skbae.energies._capabilities import ParameterGradientEnergy
from skbae.estimators._base import BayesianAutoEncoder
from skbae.estimators._checks import check_sample_weight
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.operators._floating import own_errors

if TYPE_CHECKING:
    from skbae._types import Array


def checked_kind(estimator: Any, function: str) -> BayesianAutoEncoder[Any, Any]:
    """Return the estimator, or raise TypeError unless it is one of skbae's."""
    if not isinstance(estimator, BayesianAutoEncoder):
        raise TypeError(
            f"{function} needs an estimator of skbae, got {type(estimator).__name__}; of a "
            "Pipeline, pass the last step and the rows that enter it"
        )
    return estimator


@own_errors()
def hmaxe_gradient(
    estimator: Any, X: Any, sample_weight: Any = None
) -> dict[str, Array | list[Array]]:
    """Return the gradient of ``Hmaxe_T(m, X)`` in the fitted attributes.

    By Fisher's identity it is the mean over rows of ``E[dH(x, m, z)/dm]``, with codes from
    ``p_T(z | x, m)``, at the temperature of the fit.

    Parameters
    ----------
    estimator : fitted estimator
        Of any family. The gradient is that at the reference model, which the fitted attributes
        belong to, also where models are sampled.
    X : array-like of shape (n_samples, n_features)
        Any rows; those of the fit, where it is about zero. Mixtures and PCA take NaN for missing
        entries: ``Hmaxe_T`` is that of the known ones.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        How many rows each row counts as.

    Returns
    -------
    dict
        From the name of a fitted attribute to an array of its shape (or a list of such), in nats a
        row per unit of the attribute:

        * Gaussian mixtures: `weights_`, `means_`, `covariances_`;
        * PCA: `mean_`, `components_`, `component_precisions_`, `noise_variance_`;
        * mixtures of PCA: the same with `means_`, and `weights_`;
        * restricted Boltzmann machines: `components_`, `intercept_visible_`, `intercept_hidden_`,
          and `noise_variance_` of real units;
        * networks: `decoder_coefs_`, `decoder_intercepts_`, and `noise_variance_` of real rows.

        `weights_` is absent if all are fixed to be equal.

    Notes
    -----
    Gradients stay within constraints: that in `weights_` sums to zero (a weight of zero has none),
    that in `components_` of PCA is a rotation of orthonormal directions, and that in a covariance
    matrix is symmetric: its product with a symmetric change, summed over all entries, is the change
    of ``Hmaxe``.

    At the best model (``model_temperature=0``, no tilt) the gradient is zero to the tolerance of
    the fit, but for what holds the model at a bound: the floor of covariances (`reg_covar`);
    `component_precisions_`, which are at their least, 0, at T = 0, with gradients below zero; and
    directions that have melted, whose precisions are the largest possible, those of the noise: with
    these their gradient adds up to zero. The penalty of networks (`alpha`), fits to batches, and
    rows that a fit has held out (`early_stopping`) leave gradients, too. Where models are sampled,
    the reference is the mode of ``p(m)``, at which the gradient of the prior balances this one.

    Machines with too many units to sum over all states expect what `chains_` have on average over
    some Gibbs steps, with the error of so many draws; networks integrate over codes by the draws
    with which they score.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.thermodynamics import hmaxe_gradient
    >>> X = load_iris().data
    >>> model = BayesianGMMAutoEncoder(
    ...     2, model_temperature=0, reg_covar=0, tol=1e-10, random_state=0).fit(X)
    >>> gradient = hmaxe_gradient(model, X)
    >>> {name: value.shape for name, value in gradient.items()}
    {'weights_': (2,), 'means_': (2, 4), 'covariances_': (2, 4, 4)}
    >>> max(float(np.abs(value).max()) for value in gradient.values()) < 1e-3
    True
    """
    estimator = checked_kind(estimator, "hmaxe_gradient")
    X = estimator._read_rows(X)
    weights = check_sample_weight(sample_weight, len(X))
    energy = require(estimator._energy_for(X), ParameterGradientEnergy, "hmaxe_gradient")
    state = estimator._fitted
    kernel = energy.gradient_kernel(estimator._reference(), state.frame, state.temperature)
    with RowRunner() as runner:
        found = runner.reduce(kernel, make_rows(X, weights))
    return {
        f"{name}_": [each[0] for each in value] if isinstance(value, list) else value[0]
        for name, value in found.items()
    }
