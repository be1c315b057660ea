"""Fitted estimators saved by skops, a format that runs no code of the file."""

from __future__ import annotations

import io
import json
import zipfile
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import skops.io as sio
from _altered import quick
from _normals import NormalComponents
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skbae
from skbae import (
    TRUSTED_TYPES,
    BayesianGMMAutoEncoder,
    BayesianMixtureAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
    ConditionalRegressor,
    EnergyAutoEncoder,
)
from skbae.components import (
    Bernoulli,
    Binomial,
    Categorical,
    Exponential,
    Gaussian,
    Poisson,
    StudentT,
    Uniform,
)
from skbae.energies import Energy, EnergyRecipe, MixtureOf
from skbae.estimators import _transaction
from skbae.estimators._transaction import FitsInTransactions

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = load_iris().data[::3]
BITS = (X.mean(axis=0) < X).astype(float)
GAPS = np.where(np.arange(X.size).reshape(X.shape) % 7, X, np.nan)
MIXED = np.c_[BITS[:, 0], BITS[:, 1] + BITS[:, 2], np.round(X), X, X[:, :1] > 5]
KINDS = [
    ("bits", Bernoulli(), [0]),
    ("twos", Binomial(2), [1]),
    ("counts", Poisson(), [2, 3]),
    ("categories", Categorical(), [4, 5]),
    ("times", Exponential(), [6]),
    ("lengths", Gaussian("diag"), [7, 8]),
    ("widths", StudentT(), [9]),
    ("last", Categorical(), [10]),
]
NAMED = pd.DataFrame({"size": X[:, 0], "kind": pd.Categorical(np.where(BITS[:, 1], "a", "b"))})
NAMED_KINDS = [("size", Gaussian("diag"), ["size"]), ("kind", Categorical(), ["kind"])]

one = {"model_temperature": 0, "random_state": 0}
many = {"n_models": 5, "random_state": 0}
short = {"max_iter": 3, **one}
FITS = {
    "gmm": (BayesianGMMAutoEncoder(2, **one), X),
    "gmm sampled": (BayesianGMMAutoEncoder(2, **many), X),
    "gmm hot": (BayesianGMMAutoEncoder(1, model_temperature=2.0, **many), X),
    "gmm gaps": (BayesianGMMAutoEncoder(2, **one), GAPS),
    "gmm random state": (
        BayesianGMMAutoEncoder(2, model_temperature=0, random_state=np.random.RandomState(0)),
        X,
    ),
    "pca": (BayesianPCAAutoEncoder(2, **one), X),
    "pca sampled": (BayesianPCAAutoEncoder(1, **many), X),
    "pca gaps": (BayesianPCAAutoEncoder(1, **one), GAPS),
    "mixture of pca": (BayesianMixturePCAAutoEncoder(2, **one), X),
    "mixture of pca sampled": (BayesianMixturePCAAutoEncoder(1, **many), X),
    "rbm": (BayesianRBMAutoEncoder(2, visible="gaussian", **short), X),
    "rbm bits": (BayesianRBMAutoEncoder(2, **short), BITS),
    "rbm sampled": (BayesianRBMAutoEncoder(1, model_temperature=1, **many), BITS),
    "vae": (BayesianVAEAutoEncoder(1, hidden_layer_sizes=(3,), **short), X),
    "vae bits": (BayesianVAEAutoEncoder(1, hidden_layer_sizes=(3,), **short), BITS),
    "vae sampled": (
        BayesianVAEAutoEncoder(
            1, hidden_layer_sizes=(3,), model_temperature=1, max_iter=3, n_models=5, random_state=0
        ),
        X,
    ),
    "components": (BayesianMixtureAutoEncoder(2, components="poisson", **one), np.round(X)),
    "table": (BayesianMixtureAutoEncoder(2, components=KINDS, noise=Uniform(), **one), MIXED),
    "named columns": (BayesianMixtureAutoEncoder(2, components=NAMED_KINDS, **one), NAMED),
    "table sampled": (
        BayesianMixtureAutoEncoder(1, components=[KINDS[0], ("rest", Poisson(), [1, 2])], **many),
        MIXED[:, :3],
    ),
    "regressor": (ConditionalRegressor(BayesianGMMAutoEncoder(2, **one)), X),
    "energy": (EnergyAutoEncoder(MixtureOf(NormalComponents, n_components=2), **one), X),
    "energy sampled": (
        EnergyAutoEncoder(MixtureOf(NormalComponents), model_temperature=2.0, **many),
        X,
    ),
    "pipeline": (make_pipeline(StandardScaler(), BayesianGMMAutoEncoder(2, **one)), X),
}


QUICK = [
    f"_altered.Quick{name}"
    for name in ("GMM", "PCA", "MixturePCA", "RBM", "VAE", "Mixture", "Energy")
]
OTHERS = ["_normals.NormalComponents", "_normals.Means"]
READ = [*TRUSTED_TYPES, *QUICK, *OTHERS]


def fitted_to(estimator, rows):
    """Return a fitted estimator; samplers make few steps."""
    if isinstance(estimator, ConditionalRegressor):
        return estimator.fit(rows[:, :-1], rows[:, -1])
    if "random_state" in estimator.get_params() and "n_models" in estimator.get_params():
        estimator = quick(estimator)
    return estimator.fit(rows)


def own_types(data):
    """Return what skops has to be told to trust of this package; quick estimators are tests'."""
    found = set()
    for name in set(sio.get_untrusted_types(data=data)) - set(OTHERS):
        kind = _class_of(name)
        base = kind.__mro__[1] if name.startswith("_altered.Quick") else kind
        found.add(f"{base.__module__}.{base.__name__}")
    return found


def _class_of(name):
    module, _, last = name.rpartition(".")
    return getattr(import_module(module), last)


def predictions(fitted, rows):
    if isinstance(fitted, ConditionalRegressor):
        return [fitted.predict(rows[:, :-1])]
    return [fitted.score_samples(rows), np.asarray(fitted.transform(rows))]


@pytest.fixture(scope="module")
def saved():
    """Every fit, and what skops makes of it."""
    found = {}
    for name, (estimator, rows) in FITS.items():
        fitted = fitted_to(estimator, rows)
        found[name] = fitted, sio.dumps(fitted)
    return found


@pytest.mark.parametrize("name", FITS)
def test_a_loaded_estimator_gives_the_same_numbers(name, saved):
    fitted, data = saved[name]
    loaded = sio.loads(data, trusted=READ)
    rows = FITS[name][1]
    for ours, theirs in zip(predictions(loaded, rows), predictions(fitted, rows), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (str(each.get_params()).split(" at 0x")[0] for each in (loaded, fitted))
    assert ours == theirs
    if hasattr(fitted, "sampling_"):
        assert repr(loaded.sampling_) == repr(fitted.sampling_)
        np.testing.assert_array_equal(loaded.sampling_.trace, fitted.sampling_.trace)


def test_nothing_but_the_listed_classes_has_to_be_trusted(saved):
    found = set().union(*(own_types(data) for _, data in saved.values()))
    assert found <= set(TRUSTED_TYPES)
    # and the list has no more than is needed, but for energies of components with fewer abilities
    assert set(TRUSTED_TYPES) - found == {
        "skbae.energies.mixture._conjugate.ConjugateMixture",
        "skbae.energies.mixture._coordinates.SmoothMixture",
        "skbae.energies.mixture._energy.MixtureEnergy",
    }


def test_what_is_listed_runs_nothing_when_it_is_loaded():
    """Records of arrays and builtins, estimators, which check a number, and energies."""
    for name in TRUSTED_TYPES:
        kind = _class_of(name)
        assert name.startswith("skbae."), name
        assert isinstance(kind, type), name
        own = set().union(*(vars(base) for base in kind.__mro__ if "skbae" in base.__module__))
        assert "__new__" not in own, name
        if not issubclass(kind, FitsInTransactions):
            assert "__setstate__" not in own, name
        if not issubclass(kind, (BaseEstimator, Energy, EnergyRecipe)):
            assert kind.__dataclass_params__.frozen, name


def test_of_other_packages_files_have_arrays_generators_and_builtins_alone(saved):
    """Whatever skops trusts by itself: this also sees what it would accept without asking."""
    allowed = {"numpy", "builtins", "scipy", "collections", "_altered", "_normals", "sklearn"}
    for name, (_, data) in saved.items():
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            schema = json.loads(file.read("schema.json"))
        modules = {module.partition(".")[0] for module in _modules(schema)}
        assert modules - {"skbae"} <= allowed, name
        loaders = set(_values(schema, "__loader__"))
        assert not loaders & {"FunctionNode", "MethodNode", "PartialNode", "OperatorFuncNode"}, name


def _modules(node):
    return set(_values(node, "__module__"))


def _values(node, key):
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from _values(each, key)


def test_a_class_that_is_not_listed_is_refused(saved):
    """An energy of one's own is the reader's to trust, by name."""
    _, data = saved["energy"]
    with pytest.raises(sio.exceptions.UntrustedTypesFoundException, match="NormalComponents"):
        sio.loads(data, trusted=[*TRUSTED_TYPES, *QUICK])


def test_a_file_of_a_newer_format_is_refused(saved, monkeypatch):
    _, data = saved["gmm"]
    monkeypatch.setattr(_transaction, "_STATE_FORMAT", 1)
    with pytest.raises(ValueError, match=r"state format \d+\); skbae .* reads format 1. Update"):
        sio.loads(data, trusted=READ)


def test_the_list_is_public_and_given_as_it_is():
    assert "TRUSTED_TYPES" in skbae.__all__
    fitted = BayesianGMMAutoEncoder(2, **one).fit(X)
    loaded = sio.loads(sio.dumps(fitted), trusted=TRUSTED_TYPES)
    assert type(loaded) is BayesianGMMAutoEncoder
