"""The estimators and settings that every contract test runs over.

A new family adds its rows here, and nothing else, to be held to the whole contract: scikit-learn's
checks, the oracle of its scores and codes, gradients, persistence, weights, precision.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from _normals import NormalComponents
from _oracles import (
    columns_joint,
    gaussian_mixture_joint,
    pca_moments,
    subspace_joint,
    subspaces,
)

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixtureAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
    EnergyAutoEncoder,
)
from skbae.components import Gaussian
from skbae.energies import MixtureOf

if TYPE_CHECKING:
    from collections.abc import Callable

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical", "tied_diag", "tied_spherical")
SHARED_WITH_SKLEARN = ("full", "tied", "diag", "spherical")


@dataclass(frozen=True)
class Instance:
    """One row of the table.

    Attributes
    ----------
    name : str
        The identifier of the test.
    estimator : type
    settings : dict
        Constructor arguments that make the row what it is.
    joint : callable or None
        For categorical codes: ``joint(fitted, X)`` gives the energies H, (N, K), by brute force.
    attributes : tuple of str
        Fitted arrays of the reference model.
    plain : tuple of str
        Those of them that have no arbitrary sign.
    spread : callable
        ``spread(fitted)`` gives the second moments of the fit in a form without any arbitrary sign.
    density : bool
        Whether the fit is a density (continuous codes at T = 0 are not).
    misfit : dict
        Settings that ask for another shape of model, which a warm start must refuse; empty for
        families without warm starts.
    """

    name: str
    estimator: type
    settings: dict[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    joint: Callable[..., Any] | None = None
    attributes: tuple[str, ...] = ("means_", "weights_", "covariances_", "precisions_cholesky_")
    plain: tuple[str, ...] = ("means_", "weights_")
    spread: Callable[..., Any] = attrgetter("covariances_")
    density: bool = True
    misfit: dict[str, Any] = field(default_factory=lambda: {"covariance_type": "tied_diag"})

    def make(self, n_components: int | None = None, **changes: Any) -> Any:
        """Return an unfitted estimator."""
        sizes = {} if n_components is None else {"n_components": n_components}
        return self.estimator(**{**self.settings, **sizes, **changes})

    @property
    def temperature(self) -> float:
        """T."""
        return float(self.settings.get("temperature", 1.0))


def _mixture(name: str, **settings: Any) -> Instance:
    settings = {"n_components": 2, "model_temperature": 0.0, "random_state": 0, **settings}
    return Instance(f"gmm-{name}", BayesianGMMAutoEncoder, settings, joint=gaussian_mixture_joint)


def _subspaces(name: str, **settings: Any) -> Instance:
    settings = {"n_components": 2, "model_temperature": 0.0, "random_state": 0, **settings}
    return Instance(
        f"mixture-pca-{name}",
        BayesianMixturePCAAutoEncoder,
        settings,
        joint=subspace_joint,
        attributes=("means_", "weights_", "components_", "noise_variance_", "explained_variance_"),
        plain=("means_", "weights_"),
        spread=subspaces,
        density=settings.get("temperature", 1.0) > 0 or settings.get("n_latent") == 0,
        misfit={"n_latent": 3},
    )


def _columns(name: str, **settings: Any) -> Instance:
    """Return components of normal columns: the contract's rows are of any numbers."""
    own = {"n_components": 2, "components": Gaussian("diag"), "model_temperature": 0.0}
    return Instance(
        f"mixture-{name}",
        BayesianMixtureAutoEncoder,
        {**own, "random_state": 0, **settings},
        joint=columns_joint,
        attributes=("means_", "weights_"),
        spread=lambda fitted: fitted.parameters_["gaussian"]["covariances"],
        misfit={"components": "gaussian"},
    )


def _pca(name: str, **settings: Any) -> Instance:
    settings = {"n_components": 1, "model_temperature": 0.0, "random_state": 0, **settings}
    return Instance(
        f"pca-{name}",
        BayesianPCAAutoEncoder,
        settings,
        attributes=("mean_", "components_", "component_precisions_", "explained_variance_"),
        plain=("mean_", "noise_variance_", "explained_variance_", "component_precisions_"),
        spread=pca_moments,
        density=settings.get("temperature", 1.0) > 0,
        misfit={},
    )


INSTANCES = [
    *[_mixture(kind, covariance_type=kind) for kind in COVARIANCE_TYPES],
    _mixture("full-T0", temperature=0.0),
    _mixture("full-T0.3", temperature=0.3),
    _mixture("full-T3", temperature=3.0),
    _mixture("tied-T0", temperature=0.0, covariance_type="tied"),
    _mixture("tied_diag-T0.3", temperature=0.3, covariance_type="tied_diag"),
    _mixture("diag-T3", temperature=3.0, covariance_type="diag"),
    _mixture("kmeans", temperature=0.0, covariance_type="tied_spherical", equal_weights=True),
    _mixture("full-tilt0.5", tilt=0.5),
    _mixture("diag-tilt-0.1", tilt=-0.1, covariance_type="diag"),
    _mixture("full-kmeans-init", init_params="kmeans", n_init=2),
    _mixture("full-random-init", init_params="random_from_data", n_init=3),
    _mixture("full-annealed", annealing="auto"),
    _subspaces("T1"),
    _subspaces("LLGAE", temperature=0.0, equal_weights=True, tied_noise=True),
    _subspaces("spheres", temperature=0.0, n_latent=0),
    _subspaces("T0.5", temperature=0.5, n_latent=2, n_init=2),
    _subspaces("T2", temperature=2.0, tied_noise=True),
    _subspaces("tilt0.5", tilt=0.5),
    _subspaces("annealed", annealing="auto"),
    _columns("diag"),
    _pca("T0", temperature=0.0),
    _pca("T0.5", temperature=0.5),
    _pca("T1", n_components=None),
    _pca("T2-share", temperature=2.0, n_components=0.8),
    _pca("whiten", temperature=0.0, whiten=True, svd_solver="full"),
    _pca("randomized", temperature=0.0, svd_solver="randomized"),
    _pca("tilt0.5", tilt=0.5),
]


def _machine(name: str, **settings: Any) -> Instance:
    settings = {"n_components": 3, "max_iter": 10, "n_init": 1, "random_state": 0, **settings}
    return Instance(f"rbm-{name}", BayesianRBMAutoEncoder, settings)


# Bits for codes, which have no labels to predict, and a held-out part in the fit: these rows keep
# scikit-learn's contract here, and the rest of it in test_rbm*.py.
MACHINE_INSTANCES = [
    _machine("gaussian", visible="gaussian"),
    _machine("gaussian-T0", visible="gaussian", temperature=0.0),
    _machine("gaussian-T0.5-chains", visible="gaussian", temperature=0.5, partition="ais"),
    _machine("bernoulli"),
    _machine("bernoulli-chains", partition="ais"),
]


def _network(name: str, **settings: Any) -> Instance:
    small = {
        "hidden_layer_sizes": (4,),
        "max_iter": 4,
        "n_importance_samples": 3,
        "n_score_samples": 16,
        "random_state": 0,
    }
    return Instance(
        f"vae-{name}",
        BayesianVAEAutoEncoder,
        {**small, **settings},
        attributes=(
            "decoder_coefs_",
            "decoder_intercepts_",
            "encoder_coefs_",
            "encoder_intercepts_",
        ),
        spread=attrgetter("noise_variance_"),
        density=settings.get("temperature", 1.0) > 0,
        misfit={"activation": "logistic"},
    )


# Networks: codes without components, and rows that may have to be bits, so of the table's tests
# scikit-learn's contract holds for them as it stands, and the rest in files of their own.
NETWORK_INSTANCES = [
    _network("T1"),
    _network("T0", temperature=0.0),
    _network("T0.5", temperature=0.5, activation="relu"),
    _network("linear", hidden_layer_sizes=(), n_components=1),
    _network("held-out", early_stopping=True, batch_size=7, activation="logistic"),
]

# An energy of one's own. Scores and codes of energies are compared in test_energy_estimator.py.
ENERGY_INSTANCES = [
    Instance(
        "energy-normals",
        EnergyAutoEncoder,
        {
            "energy": MixtureOf(NormalComponents, n_components=2),
            "model_temperature": 0.0,
            "random_state": 0,
        },
    ),
]

# Models are sampled: the same contract, less what only one best model can promise.
SAMPLED_INSTANCES = [
    Instance("gmm-default", BayesianGMMAutoEncoder),
    Instance(
        "gmm-sampled-diag",
        BayesianGMMAutoEncoder,
        {"n_components": 2, "covariance_type": "diag", "n_models": 5, "random_state": 0},
    ),
    Instance(
        "mixture-pca-sampled",
        BayesianMixturePCAAutoEncoder,
        {"n_components": 2, "n_models": 5, "random_state": 0},
    ),
    Instance(
        "mixture-sampled",
        BayesianMixtureAutoEncoder,
        {"n_components": 1, "components": Gaussian("diag"), "n_models": 5, "random_state": 0},
    ),
    Instance("pca-default", BayesianPCAAutoEncoder),
    Instance(
        "pca-sampled",
        BayesianPCAAutoEncoder,
        {"n_components": 1, "n_models": 5, "random_state": 0},
    ),
    Instance(
        "rbm-sampled",
        BayesianRBMAutoEncoder,
        {
            "n_components": 1,
            "visible": "gaussian",
            "model_temperature": 1.0,
            "n_models": 5,
            "random_state": 0,
        },
    ),
    _network("sampled", model_temperature=1.0, n_models=5),
    Instance(
        "energy-tempered",
        EnergyAutoEncoder,
        {
            "energy": MixtureOf(NormalComponents),
            "model_temperature": 2.0,
            "n_models": 5,
            "random_state": 0,
        },
    ),
]

each_instance = pytest.mark.parametrize("instance", INSTANCES, ids=lambda row: row.name)
each_categorical = pytest.mark.parametrize(
    "instance", [row for row in INSTANCES if row.joint is not None], ids=lambda row: row.name
)


@dataclass(frozen=True)
class Special:
    """A family on ordinary tables, and the simplest models among its own.

    Attributes
    ----------
    name : str
    make : callable
        ``make(X)`` gives an unfitted estimator for rows X.
    simplest : tuple of callables
        ``simplest(X)`` gives the mean log density under the best model of a special case.
    tolerance : float
        Nats a row by which a fit may be below it.
    """

    name: str
    make: Callable[..., Any]
    simplest: tuple[Callable[..., float], ...]
    tolerance: float = 1e-4


def _n_codes(X: Any) -> int:
    return max(1, min(2, X.shape[1] - 1))


def _independent(X: Any) -> float:
    return float(-0.5 * (np.log(2 * np.pi * X.var(axis=0)) + 1).sum())


def _spherical(X: Any) -> float:
    return float(-0.5 * X.shape[1] * (np.log(2 * np.pi * X.var(axis=0).mean()) + 1))


def _normal(X: Any) -> float:
    covariance = np.atleast_2d(np.cov(X.T, bias=True))
    return float(-0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + X.shape[1]))


def _plane(X: Any) -> float:
    found = BayesianPCAAutoEncoder(_n_codes(X), model_temperature=0, random_state=0).fit(X)
    return float(found.hmaxe_)


def _two_groups(X: Any) -> float:
    mixture = BayesianGMMAutoEncoder(
        2, covariance_type="tied_diag", model_temperature=0, random_state=0
    )
    return float(mixture.fit(X).hmaxe_)


def _groups(kind: str) -> Callable[..., Any]:
    return lambda X: BayesianGMMAutoEncoder(
        2, covariance_type=kind, model_temperature=0, random_state=0
    )


_ONE_NORMAL = {"full": _normal, "tied": _normal, "diag": _independent, "spherical": _spherical}
# "At least as good as its simplest special case", on every table of _tables.py.
SPECIAL = [
    *(Special(f"gmm-{kind}", _groups(kind), (one,)) for kind, one in _ONE_NORMAL.items()),
    Special(
        "pca",
        lambda X: BayesianPCAAutoEncoder(_n_codes(X), model_temperature=0, random_state=0),
        (_spherical,),
        1e-9,
    ),
    Special(
        "mixture-pca",
        lambda X: BayesianMixturePCAAutoEncoder(
            2, n_latent=_n_codes(X), model_temperature=0, random_state=0
        ),
        (_plane,),
    ),
    Special(
        "rbm",
        lambda X: BayesianRBMAutoEncoder(2, visible="gaussian", n_init=1, random_state=0),
        (_independent, _two_groups),
        2e-3,
    ),
    Special(
        "vae",
        lambda X: BayesianVAEAutoEncoder(
            _n_codes(X), hidden_layer_sizes=(8,), max_iter=3, n_score_samples=1000, random_state=0
        ),
        (_independent, _plane),
        1e-2,
    ),
]
each_special = pytest.mark.parametrize("special", SPECIAL, ids=lambda row: row.name)
