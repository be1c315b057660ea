"""Learning coefficients: how fast ``p(m)`` gains on its best models, global and local."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae._report import html_report, number, text_report
from skbae.estimators._checks import check_flag, check_real, check_sample_weight
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators.rbm._estimator import BayesianRBMAutoEncoder
from skbae.estimators.vae._estimator import BayesianVAEAutoEncoder
from skbae.inference.evidence._convergence import effective_sample_size, split_rhat, standard_error
from skbae.operators._floating import own_errors
from skbae.operators._random import as_generator
from skbae.thermodynamics._gradient import checked_kind
from skbae.thermodynamics._local import machine_values, network_values
from skbae.thermodynamics._temperatures import only_around_best, sample_at

# Ratio of neighbouring model temperatures from which the slope of G is computed.
_RATIO = 1.5
# Joint errors by which the two estimates may differ, and the share of them that the change of the
# coefficient over the range of temperatures may add.
_DISAGREEMENT, _DRIFT = 4.0, 0.15
# Limits of R-hat and of effective draws of chains around an optimum.
_RHAT, _ESS = 1.1, 50.0
# Share of the coefficient by which chains may misjudge (N / tau) Hmaxe.
_SHORT = 0.15
# Default precisions that hold chains, of machines and of networks, relative to N / tau.
_LOCALISATION = (1e-3, 0.02)


@dataclass(frozen=True)
class LearningCoefficient:
    """The learning coefficient of a family, or of the surroundings of a model.

    Attributes
    ----------
    value, error : float
        The coefficient, and the standard error of sampling. What N is too small for is not in it.
    method : str
        ``"variance"`` (of the energy of the models; Imai 2019), or ``"local"`` (mean loss of models
        around an optimum; Lau et al. 2023).
    local : bool
        Whether it is that of the surroundings of the fitted model, and not of the family.
    slope, slope_error : float
        The same from the slope of G in ``tau / N``, as in WBIC (Watanabe 2013); NaN if local.
    model_temperature : float
        At which models were sampled, T log N.
    status : {"ok", "suspect", "failed"}
    reasons : tuple of str
        Why the status is not "ok".
    """

    value: float
    error: float
    method: str
    local: bool
    slope: float
    slope_error: float
    model_temperature: float
    status: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return text_report(self._title(), self.status, self.reasons, self._facts())

    def _repr_html_(self) -> str:
        """Return the coefficient as HTML, which notebooks show."""
        return html_report(self._title(), self.status, self.reasons, self._facts())

    def _title(self) -> str:
        return "Local learning coefficient" if self.local else "Learning coefficient"

    def _facts(self) -> dict[str, str]:
        facts = {"value": number(self.value, self.error), "method": self.method}
        if self.slope == self.slope:
            facts["by the slope of G"] = number(self.slope, self.slope_error)
        facts["model temperature"] = number(self.model_temperature)
        return facts


@own_errors()
def learning_coefficient(
    estimator: Any,
    X: Any,
    *,
    local: bool | None = None,
    localisation: float | None = None,
    sample_weight: Any = None,
) -> LearningCoefficient:
    """Return the learning coefficient lambda: the log evidence falls by ``lambda log N``.

    It is the real log canonical threshold of singular learning theory: half the number of
    parameters for regular families, and less where models of a family are not told apart by the
    rows, as in a mixture with more components than the truth. It is the plateau of the models' heat
    capacity.

    Parameters
    ----------
    estimator : estimator of skbae
        Fitted or not; a local coefficient needs a fit, of which it is a property.
    X : array-like of shape (n_samples, n_features)
        Of the fit, if local.
    local : bool or None, default=None
        Whether models are sampled only around the fitted one. With None, this is so for networks,
        and for machines too large for their models to be sampled from the prior.
    localisation : float or None, default=None
        Precision, in each of the family's coordinates, of the normal density that holds chains at
        the fitted model (local coefficients only). It should be small compared with the curvature
        of ``(N / tau) Hmaxe``, or the coefficient is too small. None stands for ``(N / tau) / 50``
        for networks and ``(N / tau) / 1000`` for machines.
    sample_weight : array-like of shape (n_samples,) or None, default=None

    Returns
    -------
    LearningCoefficient

    Raises
    ------
    TypeError, ValueError
        If the estimator's models cannot be sampled in this way; the message says why.

    Notes
    -----
    Globally, models are sampled at ``tau = T log N``, and at 1.5 times more and less: the variance
    of ``(N / tau) Hmaxe`` at the first is the value, and the slope of G between the others should
    agree with it. Locally, the value is ``(N / tau) (Hmaxe(m*) - E[Hmaxe])`` around the fitted
    model m*.

    Machines with more than 16 units in both layers are moved by Langevin steps with states that
    follow them by Gibbs steps, and their partition functions are compared by annealing states of
    the fitted one; the noise of this is measured by the virial theorem and corrected for.

    Both are estimates at this temperature: the coefficient proper is their limit at large N, and
    the prior and terms of the order of ``1 / log N`` matter at any N. Where ``N / log N`` is hardly
    more than the number of parameters, models are far from the optimum, and values are larger than
    the limit.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import BayesianGMMAutoEncoder
    >>> from skbae.thermodynamics import learning_coefficient
    >>> X = np.random.default_rng(0).standard_normal((1000, 2))
    >>> found = learning_coefficient(BayesianGMMAutoEncoder(1, random_state=0), X)
    >>> bool(abs(found.value - 2.5) < 4 * found.error + 0.1)  # two means, three covariances
    True
    """
    kind = checked_kind(estimator, "learning_coefficient")
    settings = kind._check_parameters()
    if settings.tilt:
        raise ValueError(f"learning_coefficient needs tilt=0, got tilt={settings.tilt:g}")
    weights = check_sample_weight(sample_weight, len(X))
    total = float(len(X) if weights is None else weights.sum())
    if not total > 3:
        raise ValueError(f"learning_coefficient needs more than 3 rows, got {total:g}")
    tau = (settings.temperature or 1.0) * float(np.log(total))
    if local is None:
        local = only_around_best(kind, settings, *np.shape(X))
    if check_flag("local", local):
        found = _local(kind, X, weights, total, tau, localisation)
    else:
        if isinstance(kind, BayesianVAEAutoEncoder):
            raise TypeError(
                "learning_coefficient of networks is local: chains do not leave an optimum; set "
                "local=True"
            )
        found = _global(kind, X, sample_weight, total, tau)
    if found.status != "ok":
        warnings.warn(
            f"learning_coefficient is {found.status}: {'; '.join(found.reasons)}",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )
    return found


def _global(kind: Any, X: Any, sample_weight: Any, total: float, tau: float) -> LearningCoefficient:
    taus = tau * np.array([_RATIO, 1.0, 1 / _RATIO])
    found = sample_at(kind, X, taus, sample_weight, "learning_coefficient")
    samplings = [each.sampling for each in found]
    power = total / taus
    value = power[1] ** 2 * samplings[1].hmaxe_variance
    error = power[1] ** 2 * samplings[1].hmaxe_variance_error
    rise = found[2].internal_energy - found[0].internal_energy
    apart = 1 / power[0] - 1 / power[2]
    slope = rise / apart
    slope_error = float(np.hypot(samplings[0].hmaxe_error, samplings[2].hmaxe_error) / apart)
    reasons = [
        f"at model_temperature={each:.4g}: {'; '.join(sampling.reasons)}"
        for each, sampling in zip(taus, samplings, strict=True)
        if sampling.status != "ok"
    ]
    status = "ok"
    if reasons:
        status = "failed" if any(each.status == "failed" for each in samplings) else "suspect"
    doubt = disagreement(value, error, slope, slope_error)
    if doubt:
        status = status if status == "failed" else "suspect"
        reasons.append(doubt)
    return LearningCoefficient(
        float(value),
        float(error),
        "variance",
        False,
        float(slope),
        slope_error,
        tau,
        status,
        tuple(reasons),
    )


def disagreement(value: float, error: float, slope: float, slope_error: float) -> str:
    """Return how the two estimates differ by more than they may, or nothing.

    Examples
    --------
    >>> disagreement(2.6, 0.1, 2.4, 0.1)
    ''
    >>> disagreement(5.0, 0.1, 2.5, 0.1)[:47]
    'the variance of the energy gives 5 +- 0.1 and t'
    """
    allowed = _DISAGREEMENT * np.hypot(error, slope_error) + _DRIFT * max(value, slope)
    if abs(value - slope) <= allowed:
        return ""
    return (
        f"the variance of the energy gives {value:.3g} +- {error:.2g} and the slope of G "
        f"{slope:.3g} +- {slope_error:.2g}: N is too small, or a transition is near"
    )


def _local(
    kind: Any, X: Any, weights: Any, total: float, tau: float, localisation: float | None
) -> LearningCoefficient:
    power = total / tau
    if localisation is None:
        precision = power * _LOCALISATION[isinstance(kind, BayesianVAEAutoEncoder)]
    else:
        precision = check_real("localisation", localisation, above=0)
    rng = as_generator(kind.random_state)
    X = kind._read(X)
    short, reasons = 0.0, list[str]()
    if isinstance(kind, BayesianVAEAutoEncoder):
        values, best, short = network_values(kind, X, weights, tau, precision, rng)
    elif isinstance(kind, BayesianRBMAutoEncoder):
        values, best, reasons = machine_values(kind, X, weights, tau, precision, rng)
    else:
        raise TypeError(
            "local learning coefficients are for networks and machines, got "
            f"{type(kind).__name__}; its models can be sampled everywhere: set local=False"
        )
    rhat, ess = split_rhat(values), effective_sample_size(values)
    if not rhat <= _RHAT:
        reasons.append(f"chains disagree (R-hat {rhat:.3g}, limit {_RHAT:g})")
    if not ess >= _ESS:
        reasons.append(f"few effective draws ({ess:.0f}, limit {_ESS:g})")
    value = power * (best - float(values.mean()))
    if power * short > _SHORT * abs(value):
        reasons.append(
            f"chains took (N / tau) Hmaxe to be {power * short:.3g} nats less than it is: their "
            "encoder does not follow codes that turn; increase localisation"
        )
    if not value > 0:
        reasons.append(
            f"models around the fitted one have a higher Hmaxe on average ({value:.3g}): the fit "
            "is not at an optimum on these rows"
        )
    return LearningCoefficient(
        value,
        power * standard_error(values),
        "local",
        True,
        float("nan"),
        float("nan"),
        tau,
        "suspect" if reasons else "ok",
        tuple(reasons),
    )
