"""Settings: an estimator's parameters, read and checked once at the start of a fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from sklearn import get_config

from skbae.estimators._checks import check_choice, check_flag, check_integer, check_real
from skbae.operators._random import as_generator

if TYPE_CHECKING:
    from typing import Self

    from skbae._types import Rows
    from skbae.estimators._plans import SamplerPlans


class Given:
    """A constructor's parameters by name, checked as they are read.

    Parameters
    ----------
    parameters : mapping

    Examples
    --------
    >>> Given({"max_iter": -1}).integer("max_iter", minimum=0)
    Traceback (most recent call last):
    ValueError: max_iter must be an integer >= 0, got -1
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters

    def __getitem__(self, name: str) -> Any:
        """Return a parameter as the user gave it."""
        return self._parameters[name]

    def completed(self, **values: Any) -> Given:
        """Return the parameters with those that an estimator does not have."""
        return Given({**self._parameters, **values})

    def integer(self, name: str, minimum: int) -> int:
        """Return an integer of at least `minimum`."""
        return check_integer(name, self[name], minimum)

    def real(
        self, name: str, *, above: float | None = None, at_least: float | None = None
    ) -> float:
        """Return a finite number within bounds."""
        return check_real(name, self[name], above=above, at_least=at_least)

    def optional_real(
        self, name: str, *, above: float | None = None, at_least: float | None = None
    ) -> float | None:
        """Return None or a finite number within bounds."""
        return check_real(name, self[name], above=above, at_least=at_least, optional=True)

    def share(self, name: str) -> float:
        """Return a number between 0 and 1."""
        value = self.real(name, above=0)
        if value >= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {self[name]!r}")
        return value

    def flag(self, name: str) -> bool:
        """Return a bool."""
        return check_flag(name, self[name])

    def choice(self, name: str, choices: Iterable[str]) -> str:
        """Return one of the choices."""
        return check_choice(name, self[name], choices)


@dataclass(frozen=True, kw_only=True)
class Settings(ABC):
    """Settings that all families share.

    A family adds its own parameters and implements :meth:`read`. Array parameters whose shape
    depends on the number of features are kept as given, and checked once X is known.

    Attributes
    ----------
    estimator : str
        The name of the class, for messages.
    temperature, model_temperature, tilt : float
        T, tau (T where the user gave None) and t.
    n_models : int
    n_threads : int or None
        None: as many threads as BLAS would use.
    warm_start : bool
        False for families without this parameter.
    plans : SamplerPlans
    sampling_advice : str
        Class attribute: which of the estimator's parameters may help when the status of sampling
        is not "ok", for the warning.
    """

    sampling_advice: ClassVar[str]

    estimator: str
    temperature: float
    model_temperature: float
    tilt: float
    n_models: int
    n_threads: int | None
    warm_start: bool = False
    plans: SamplerPlans

    @classmethod
    @abstractmethod
    def read(cls, estimator: str, given: Given, plans: SamplerPlans) -> Self:
        """Return the settings, with each parameter and each combination of parameters checked.

        Parameters
        ----------
        estimator : str
            The name of the class.
        given : Given
            The constructor's parameters.
        plans : SamplerPlans

        Raises
        ------
        TypeError, ValueError
            The message has the parameter's name, its value and the allowed values.
        """

    def of_rows(self, X: Any) -> Self:
        """Return the settings of a fit to rows, on whose kind they may depend."""
        return self

    def fitted_priors(self, rows: Rows, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return the priors that were used, by attribute, with what None stood for.

        Parameters
        ----------
        rows : Rows
        attributes : dict
            Fitted attributes.
        """
        return {}

    @property
    def samples(self) -> bool:
        """Whether models are sampled; otherwise the single best model is fitted."""
        return self.model_temperature > 0


def common_settings(estimator: str, given: Given, plans: SamplerPlans) -> dict[str, Any]:
    """Return the settings that all families share, by name, checked."""
    temperature = given.real("temperature", at_least=0)
    tau = given.optional_real("model_temperature", at_least=0)
    if given["tilt"] == float("inf"):
        raise ValueError(
            "tilt=inf, the energy of the worst row alone, is not smooth where two rows are equally "
            "bad, and such fits stall there; a large finite tilt, such as 10, approaches it"
        )
    tilt = given.real("tilt")
    if tilt <= -1:
        raise ValueError(
            f"tilt must be > -1, got {given['tilt']!r}: for smaller values the objective has no "
            "maximum, since it grows without bound as a component shrinks onto one row"
        )
    n_models = given.integer("n_models", minimum=1)
    n_jobs = given["n_jobs"]
    if n_jobs is not None and given.integer("n_jobs", -(2**31)) == 0:
        raise ValueError("n_jobs must be None or a non-zero integer, got 0")
    if not isinstance(given["verbose"], (int, np.integer)):
        raise TypeError(f"verbose must be an integer or a bool, got {given['verbose']!r}")
    given.integer("verbose_interval", minimum=1)
    random_state = given["random_state"]
    if not isinstance(random_state, (np.random.Generator, np.random.RandomState)):
        as_generator(random_state)
    return {
        "estimator": estimator,
        "temperature": temperature,
        "model_temperature": temperature if tau is None else tau,
        "tilt": tilt,
        "n_models": n_models,
        "n_threads": None if n_jobs is None else effective_n_jobs(n_jobs),
        "plans": plans,
    }


def check_memory(numbers_per_model: int, n_models: int, size: str) -> None:
    """Raise ValueError if the kept models would take too much memory.

    Parameters
    ----------
    numbers_per_model : int
    n_models : int
        1 for a single best model.
    size : str
        The parameters that determine the size of a model, and their values, for the message.
    """
    limit = 10 * get_config()["working_memory"]
    needed = 8 * numbers_per_model / 2**20
    if needed > limit:
        raise ValueError(
            f"a model with {size} would take {needed:.0f} MiB, more than ten times scikit-learn's "
            f"working_memory ({limit:.0f} MiB in all); decrease it, or raise working_memory with "
            "sklearn.set_config"
        )
    if needed * n_models > limit:
        raise ValueError(
            f"n_models={n_models} models would take {needed * n_models:.0f} MiB, more than ten "
            f"times scikit-learn's working_memory ({limit:.0f} MiB in all); decrease n_models, or "
            "raise working_memory with sklearn.set_config"
        )
