"""Small problems for samplers, with the prior in one place for the package and for the oracles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from _altered import with_plans
from _data import GALAXIES, GALAXIES_PRIOR
from _mixture_oracles import MixturePrior

from skbae import BayesianGMMAutoEncoder
from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical", "tied_diag", "tied_spherical")


@dataclass(frozen=True)
class Problem:
    """A Gaussian mixture with a prior that is nobody's default.

    Attributes
    ----------
    n_components, n_features : int
    kind : str
        The covariance type.
    concentration, strength, dof : float
    location : ndarray of shape (D,)
    scale : ndarray of the shape of one covariance
    equal_weights : bool
    """

    n_components: int
    n_features: int
    kind: str
    concentration: float
    strength: float
    dof: float
    location: Array
    scale: Any
    equal_weights: bool = False

    def energy(self, centre: Array | None = None) -> Any:
        """Return the package's energy."""
        return conjugate_gaussian_mixture(
            self.n_components,
            self.n_features,
            self.kind,
            self.equal_weights,
            0.0,
            concentration=self.concentration,
            mean_precision=self.strength,
            mean=self.location,
            degrees_of_freedom=self.dof,
            covariance=np.asarray(self.scale),
            centre=np.zeros(self.n_features) if centre is None else centre,
        )

    @property
    def prior(self) -> dict[str, Any]:
        """The prior, as the oracles call its numbers."""
        return {
            "concentration": self.concentration,
            "strength": self.strength,
            "location": self.location,
            "dof": self.dof,
            "scale": self.scale,
        }


def make_problem(
    kind: str, n_components: int = 3, n_features: int = 2, equal_weights: bool = False
) -> Problem:
    """Return a problem with correlated, unequal scales where the kind has them."""
    variances = np.array([0.8, 1.7, 0.5])[:n_features]
    correlated = np.diag(variances) + 0.3 * (1 - np.eye(n_features))
    scale = {
        "full": correlated,
        "tied": correlated,
        "diag": variances,
        "tied_diag": variances,
        "spherical": np.asarray(0.9),
        "tied_spherical": np.asarray(0.9),
    }[kind]
    location = np.array([0.4, -0.7, 0.2])[:n_features]
    return Problem(
        n_components, n_features, kind, 1.6, 0.3, n_features + 1.5, location, scale, equal_weights
    )


def small_rows(n_rows: int, n_features: int, seed: int = 7) -> Array:
    """Return rows in two groups that overlap a little."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_features)) * 0.7
    X[n_rows // 2 :] += 2.5
    return X.round(3)


def clusters(n_clusters=3, n_rows=30, seed=0):
    """Return rows of unit spread around means far apart, in two dimensions, shuffled."""
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * np.arange(n_clusters) / n_clusters
    means = 10 * np.column_stack([np.cos(angles), np.sin(angles)])
    return rng.permutation(np.repeat(means, n_rows, axis=0)) + rng.standard_normal(
        (n_clusters * n_rows, 2)
    )


def one_model(n_components=2, **settings):
    settings = {"model_temperature": 0, "n_init": 5, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


def make_prior(kind, n_components, n_features, **settings):
    """Return a prior that is no default, centred off the data."""
    shape = kind.removeprefix("tied_").replace("tied", "full")
    full = np.array([[1.5, 0.4], [0.4, 0.7]])[:n_features, :n_features]
    covariance = {"full": full, "diag": np.diag(full), "spherical": 0.9}[shape]
    settings = {
        "concentration": 1.7,
        "mean_precision": 0.15,
        "degrees_of_freedom": 3.3,
        **settings,
    }
    mean = np.array([0.4, -0.3])[:n_features]
    return MixturePrior(kind, n_components, mean, covariance, **settings)


def small_data(n_rows, n_features, seed=0):
    """Return two loose groups."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_rows, n_features)) + 2.5 * (np.arange(n_rows) % 2)[:, None]


def fit(prior, X, temperature=1.0, sample_weight=None, **settings):
    settings = {"random_state": 0, "temperature": temperature, **settings}
    model = BayesianGMMAutoEncoder(**prior.parameters, **settings)
    return model.fit(X, sample_weight=sample_weight)


# -- galaxies ------------------------------------------------------------------------------------


def galaxies(n_components, seed=0, plans=None, **settings):
    settings = {**GALAXIES_PRIOR, **settings}
    estimator = BayesianGMMAutoEncoder(n_components, random_state=seed, **settings)
    if plans is not None:
        estimator = with_plans(estimator, plans)
    return estimator.fit(GALAXIES)


@cache
def sampled_clusters():
    """Return rows and a fit of them that kept several models."""
    X = clusters(2)
    return X, BayesianGMMAutoEncoder(2, n_models=20, random_state=0).fit(X)


def starts_as_given(
    models: Any,
    given: tuple[NDArray[np.intp], NDArray[np.intp]],
    n: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """In place of ``starts_by_mass``: n of the given allocations of each island, whatever mass."""
    first, second = (part[np.arange(n) % len(part)] for part in given)
    return first, second
