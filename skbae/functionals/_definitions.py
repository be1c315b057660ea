"""The functionals, each as it is defined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.estimators._checks import check_real, check_sample_weight
from skbae.functionals._energies import functional
from skbae.functionals._soft_maximum import log_measure, soft_maximum

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.functionals._energies import Energies


@functional
def hmax(H: Any, temperature: float = 1.0, *, log_code_measure: Any = None) -> Array:
    """Return ``Hmax_T(x, m) = T log sum_z exp(H / T)``; the best code's energy at T = 0.

    Parameters
    ----------
    H : array-like of shape (n_rows, n_models, n_codes), or a fitted estimator and rows X
        Energies, larger is better: see the notes of the module.
    temperature : float, default=1.0
        T, not negative.
    log_code_measure : array-like of shape (n_codes,) or (n_models, n_codes), default=None
        Log of what each code counts as; None stands for zeros.

    Returns
    -------
    ndarray of shape (n_rows, n_models)

    Examples
    --------
    >>> import numpy as np
    >>> from skbae.functionals import hmax
    >>> H = np.log([[[1.0, 3.0]], [[2.0, 2.0]]])  # two rows, one model, two codes
    >>> np.exp(hmax(H)).round(12).tolist()
    [[4.0], [4.0]]
    >>> np.exp(hmax(H, temperature=0)).round(12).tolist()
    [[3.0], [2.0]]
    """
    return _hmax(H, temperature, log_code_measure)


@functional
def hmaxe(
    H: Any, temperature: float = 1.0, sample_weight: Any = None, *, log_code_measure: Any = None
) -> Array:
    """Return ``Hmaxe_T(m)``, the mean of ``Hmax_T(x, m)`` over rows.

    Parameters
    ----------
    H : array-like of shape (n_rows, n_models, n_codes), or a fitted estimator and rows X
    temperature : float, default=1.0
        T, not negative.
    sample_weight : array-like of shape (n_rows,) or None, default=None
        How many rows each row counts as.
    log_code_measure : array-like of shape (n_codes,) or (n_models, n_codes), default=None
        Log of what each code counts as; None stands for zeros.

    Returns
    -------
    ndarray of shape (n_models,)

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.functionals import hmaxe
    >>> X = np.array([[0.0], [1.0], [9.0], [10.0]])
    >>> model = BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0).fit(X)
    >>> bool(np.isclose(hmaxe(model, X)[0], model.hmaxe_))
    True
    """
    return _hmaxe(H, temperature, sample_weight, log_code_measure)[0]


@functional
def hmaxemax(
    H: Any,
    temperature: float = 1.0,
    model_temperature: float | None = None,
    log_prior: Any = None,
    *,
    sample_weight: Any = None,
    log_code_measure: Any = None,
) -> float:
    """Return ``Hmaxemax = (tau / N) log sum_m prior(m) exp((N / tau) Hmaxe_T(m))``.

    Its gradient in H is the joint probability of a row, a model and a code,
    ``p(m) p(z | x, m) / N``.

    Parameters
    ----------
    H : array-like of shape (n_rows, n_models, n_codes), or a fitted estimator and rows X
    temperature : float, default=1.0
        T, of codes, not negative.
    model_temperature : float or None, default=None
        tau, not negative. None stands for N, the number of rows: then ``Hmaxemax`` is
        ``logsumexp_m Hmaxe``. At 0 it is the best model's ``Hmaxe``.
    log_prior : array-like of shape (n_models,) or None, default=None
        Log of what each model counts as; None stands for zeros.
    sample_weight : array-like of shape (n_rows,) or None, default=None
        How many rows each row counts as; N is their sum.
    log_code_measure : array-like of shape (n_codes,) or (n_models, n_codes), default=None
        Log of what each code counts as; None stands for zeros.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from skbae.functionals import hmaxemax
    >>> H = np.log([[[1.0, 3.0], [2.0, 2.0]]])  # one row, two models of two codes
    >>> float(np.exp(hmaxemax(H)).round(12))
    8.0
    >>> float(np.exp(hmaxemax(H, temperature=0, model_temperature=0)).round(12))
    3.0
    """
    return _Models(
        H, temperature, model_temperature, log_prior, sample_weight, log_code_measure
    ).log_partition


@functional
def internal_energy(
    H: Any,
    temperature: float = 1.0,
    model_temperature: float | None = None,
    log_prior: Any = None,
    *,
    sample_weight: Any = None,
    log_code_measure: Any = None,
) -> float:
    """Return ``G``, the mean of ``Hmaxe_T(m)`` over ``p(m)``.

    ``p(m)`` is proportional to ``prior(m) exp((N / tau) Hmaxe_T(m))``.

    Parameters
    ----------
    H : array-like of shape (n_rows, n_models, n_codes), or a fitted estimator and rows X
    temperature, model_temperature, log_prior, sample_weight, log_code_measure
        As for :func:`hmaxemax`.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from skbae.functionals import entropy, hmaxemax, internal_energy
    >>> H = np.log([[[1.0, 2.0], [0.5, 0.5]]])  # Hmaxe is log 3 and 0: p(m) is 3/4 and 1/4
    >>> bool(np.isclose(internal_energy(H), 0.75 * np.log(3)))
    True
    >>> bool(np.isclose(hmaxemax(H), internal_energy(H) + entropy(H)))
    True
    """
    models = _Models(H, temperature, model_temperature, log_prior, sample_weight, log_code_measure)
    return models.mean(models.hmaxe)


@functional
def entropy(
    H: Any,
    temperature: float = 1.0,
    model_temperature: float | None = None,
    log_prior: Any = None,
    *,
    sample_weight: Any = None,
    log_code_measure: Any = None,
) -> float:
    """Return the entropy of ``p(m)``, in nats: ``hmaxemax = internal_energy + (tau / N) entropy``.

    Parameters
    ----------
    H : array-like of shape (n_rows, n_models, n_codes), or a fitted estimator and rows X
    temperature, model_temperature, log_prior, sample_weight, log_code_measure
        As for :func:`hmaxemax`.

    Returns
    -------
    float
        ``-sum_m p(m) log(p(m) / prior(m))``: with a prior whose sum is 1, minus the information
        gained on the model.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae.functionals import entropy
    >>> H = np.zeros((5, 4, 1))  # four models, all as good
    >>> bool(np.isclose(entropy(H), np.log(4)))
    True
    """
    models = _Models(H, temperature, model_temperature, log_prior, sample_weight, log_code_measure)
    return 0.0 - models.mean(models.log_density)


@functional
def hmem(
    H: Any, sample_weight: Any = None, *, log_prior: Any = None, log_code_measure: Any = None
) -> float:
    """Return ``Hmem = max_m mean_x max_z H``: the best deterministic autoencoder's energy.

    The limit of :func:`hmaxemax` as both temperatures fall to 0.

    Parameters
    ----------
    H : array-like of shape (n_rows, n_models, n_codes), or a fitted estimator and rows X
    sample_weight : array-like of shape (n_rows,) or None, default=None
        How many rows each row counts as.
    log_prior, log_code_measure
        As for :func:`hmaxemax`: only where they are ``-inf`` matters.

    Returns
    -------
    float

    Examples
    --------
    >>> from skbae.functionals import hmem
    >>> hmem([[[1.0, 5.0], [3.0, 4.0]], [[1.0, 0.0], [3.0, 2.0]]])
    3.5
    """
    return _Models(H, 0.0, 0.0, log_prior, sample_weight, log_code_measure).log_partition


@functional
def hmaxminmax(
    H: Any,
    temperature: float = 1.0,
    *,
    log_prior: Any = None,
    sample_weight: Any = None,
    log_code_measure: Any = None,
) -> float:
    """Return ``Hmaxminmax``, which weighs models by their worst rows.

    ``T logsumexp_m(-logsumexp_x(-Hmax_T / T))``: at T = 1 the logarithm of the sum over models of
    ``1 / sum_x (1 / sum_z exp H)``, a harmonic mean over rows (without the factor N).

    Parameters
    ----------
    H : array-like of shape (n_rows, n_models, n_codes), or a fitted estimator and rows X
    temperature : float, default=1.0
        T of all three sums, not negative; at 0 this is :func:`hmmm`.
    log_prior, sample_weight, log_code_measure
        As for :func:`hmaxemax`.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from skbae.functionals import hmaxminmax
    >>> H = np.log([[[1.0, 2.0]], [[2.0, 4.0]]])  # of two rows, 1 / (1/3 + 1/6)
    >>> float(np.exp(hmaxminmax(H)).round(12))
    2.0
    """
    return _hmaxminmax(H, temperature, log_prior, sample_weight, log_code_measure)


@functional
def hmmm(
    H: Any, *, log_prior: Any = None, sample_weight: Any = None, log_code_measure: Any = None
) -> float:
    """Return ``Hmmm = max_m min_x max_z H``: the best model for its worst row.

    The limit of :func:`hmaxminmax` as the temperature falls to 0.

    Parameters
    ----------
    H : array-like of shape (n_rows, n_models, n_codes), or a fitted estimator and rows X
    log_prior, sample_weight, log_code_measure
        As for :func:`hmaxemax`: only models, rows and codes that count as nothing matter.

    Returns
    -------
    float

    Examples
    --------
    >>> from skbae.functionals import hmmm
    >>> hmmm([[[1.0, 5.0], [3.0, 4.0]], [[1.0, 0.0], [3.0, 2.0]]])
    3.0
    """
    return _hmaxminmax(H, 0.0, log_prior, sample_weight, log_code_measure)


@functional
def hmax_x(H: Any, temperature: float = 1.0, sample_weight: Any = None) -> Array:
    """Return ``T log sum_x exp(H / T)`` of each model and code: the decoder's half.

    As :func:`hmax` is the best energy that a row finds among codes, this is the best that a code
    finds among rows.

    Parameters
    ----------
    H : array-like of shape (n_rows, n_models, n_codes), or a fitted estimator and rows X
        The estimator's codes must be of finitely many values: the components of a mixture, or the
        hidden units of a small machine, whose states are ordered with the first unit changing
        slowest.
    temperature : float, default=1.0
        T, not negative.
    sample_weight : array-like of shape (n_rows,) or None, default=None
        How many rows each row counts as.

    Returns
    -------
    ndarray of shape (n_models, n_codes)

    Examples
    --------
    >>> import numpy as np
    >>> from skbae.functionals import hmax_x
    >>> H = np.log([[[1.0, 3.0]], [[2.0, 2.0]]])  # two rows, one model, two codes
    >>> np.exp(hmax_x(H)).round(12).tolist()
    [[3.0, 5.0]]
    """
    T, measure = _temperature(temperature), _row_measure(H, sample_weight)
    measure = None if measure is None else measure[:, None, None]
    return soft_maximum(H.of_codes(), T, measure, axis=0)


# -- parts of the definitions ----------------------------------------------------------------------


def _temperature(temperature: Any) -> float:
    return check_real("temperature", temperature, at_least=0)


def _weights(H: Energies, sample_weight: Any) -> Array | None:
    return check_sample_weight(sample_weight, H.n_rows)


def _row_measure(H: Energies, sample_weight: Any) -> Array | None:
    """Return the log weight of each row, (N,), None where these are 1."""
    weights = _weights(H, sample_weight)
    if weights is None:
        return None
    with np.errstate(divide="ignore"):
        return np.log(weights)


def _log_prior(H: Energies, log_prior: Any) -> Array | None:
    return log_measure("log_prior", log_prior, ((H.n_models,),), "(n_models,)")


def _hmax(H: Energies, temperature: Any, log_code_measure: Any) -> Array:
    return H.hmax(_temperature(temperature), log_code_measure)


def _hmaxe(
    H: Energies, temperature: Any, sample_weight: Any, log_code_measure: Any
) -> tuple[Array, float]:
    """Return ``Hmaxe_T`` of each model, (M,), and N."""
    weights = _weights(H, sample_weight)
    values = _hmax(H, temperature, log_code_measure)
    if weights is None:
        return values.mean(axis=0), float(H.n_rows)
    used = weights > 0
    total = float(weights.sum())
    return (weights[used] / total) @ values[used], total


def _hmaxminmax(
    H: Energies, temperature: Any, log_prior: Any, sample_weight: Any, log_code_measure: Any
) -> float:
    T, prior, measure = _temperature(temperature), _log_prior(H, log_prior), None
    rows = _row_measure(H, sample_weight)
    if rows is not None:
        measure = rows[:, None]
    values = -soft_maximum(-_hmax(H, T, log_code_measure), T, measure, axis=0)
    return float(soft_maximum(values, T, prior, axis=0))


class _Models:
    """``p(m)``, and the logarithm of its partition function.

    Attributes
    ----------
    hmaxe : ndarray of shape (M,)
    log_partition : float
        Hmaxemax.
    log_density : ndarray of shape (M,)
        ``log(p(m) / prior(m))``.
    """

    def __init__(
        self,
        H: Energies,
        temperature: Any,
        model_temperature: Any,
        log_prior: Any,
        sample_weight: Any,
        log_code_measure: Any,
    ) -> None:
        tau = check_real("model_temperature", model_temperature, at_least=0, optional=True)
        prior = _log_prior(H, log_prior)
        self.prior = np.zeros(H.n_models) if prior is None else prior
        self.hmaxe, total = _hmaxe(H, temperature, sample_weight, log_code_measure)
        self.relative = 1.0 if tau is None else tau / total
        self.log_partition = float(soft_maximum(self.hmaxe, self.relative, self.prior, axis=0))

    @property
    def log_density(self) -> Array:
        if np.isneginf(self.log_partition):
            raise ValueError(
                "p(m) is not defined, since no model has a finite Hmaxe: every model has a row (or "
                "no prior) without any possible code"
            )
        allowed = np.where(np.isneginf(self.prior), -np.inf, self.hmaxe)
        if self.relative == 0:
            best = allowed == allowed.max()
            mass = soft_maximum(np.zeros(int(best.sum())), 1.0, self.prior[best], axis=0)
            return np.where(best, -mass, -np.inf)
        # relative to the best model, so that differences keep their digits
        with np.errstate(over="ignore"):
            logs = (allowed - allowed.max()) / self.relative
        return logs - soft_maximum(logs, 1.0, self.prior, axis=0)

    def mean(self, values: Array) -> float:
        """Return the mean of values (M,) over ``p(m)``."""
        density = self.log_density
        with np.errstate(invalid="ignore"):
            probabilities = np.exp(density + self.prior)
        used = np.isfinite(density) & (probabilities > 0)
        return float(probabilities[used] @ values[used])
