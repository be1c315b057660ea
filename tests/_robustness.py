"""Estimators and rows of all kinds, and what holds for each: a finite result, or a clear error."""

from __future__ import annotations

import io
import traceback
import warnings

import joblib
import numpy as np
import pandas as pd
from _normals import NormalComponents
from sklearn.exceptions import NotFittedError

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixtureAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
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
from skbae.energies import MixtureOf
from skbae.inference.sample._tempering import TemperingError

# -- cases -----------------------------------------------------------------------------------------

TABLES = (
    "normal", "groups", "integers", "constant", "duplicates", "collinear", "bits", "wide", "ties",
    "outlier", "onehot", "line", "cauchy",
)  # fmt: skip
SCALES = (1e-300, 1e-160, 1e-140, 1e-30, 1e-8, 1e8, 1e30, 1e140, 1e160, 1e300)
SHIFTS = (1e3, 1e6, 1e12, 1e15, -1e8)
LAYOUTS = (
    "plain", "float32", "float16", "fortran", "strided", "readonly", "int", "list", "frame",
    "nullable", "object", "bool", "reversed", "bigendian",
)  # fmt: skip
WEIGHTS = ("ones", "counts", "zeros", "huge", "tiny", "mixed", "fractions", "one row", "scalar")


def table(choose):
    """Return rows of some kind."""
    kind, n = choose(TABLES), choose((20, 2, 3, 5, 8, 40, 1))
    d, rng = choose((2, 1, 3, 5)), np.random.default_rng(choose(range(20)))
    X = rng.normal(size=(n, d))
    if kind == "groups":
        X += 6 * rng.integers(0, 2, size=(n, 1))
    elif kind == "integers":
        X = rng.integers(-3, 4, size=(n, d)).astype(float)
    elif kind == "constant":
        X[:, rng.integers(d)] = choose((0.0, 1e6, -3.7))
    elif kind == "duplicates":
        X = X[rng.integers(0, max(n // 4, 1), size=n)]
    elif kind == "collinear":
        X = np.column_stack([X, X.sum(axis=1), 2 * X[:, 0] + 1])
    elif kind == "bits":
        X = rng.integers(0, 2, size=(n, d)).astype(float)
    elif kind == "wide":
        X = rng.normal(size=(n, n + choose((1, 5))))
    elif kind == "ties":
        X[: n // 2, 0] = 0.0
    elif kind == "outlier":
        X[0] = choose((1e3, 1e6, 1e12))
    elif kind == "onehot":
        X = np.eye(3)[rng.integers(0, 3, size=n)]
    elif kind == "line":
        X = rng.normal(size=(n, 1)) * rng.normal(size=(1, d)) + rng.normal(size=d)
    elif kind == "cauchy":
        X = rng.standard_cauchy(size=(n, d))
    return X


def in_units(choose, X):
    """Return rows in other units, perhaps."""
    how = choose(("none", "none", "none", "scale", "shift", "columns", "one column"))
    with np.errstate(over="ignore"):
        if how == "scale":
            return X * choose(SCALES)
        if how == "shift":
            return X + choose(SHIFTS)
        if how == "columns":
            return X * np.logspace(-6, 6, X.shape[1])
        if how == "one column":
            return X * np.r_[choose((1e-100, 1e-12, 1e12, 1e100)), np.ones(X.shape[1] - 1)]
    return X


def spoilt(choose, X):
    """Return rows with missing or infinite entries, perhaps."""
    how = choose(("no",) * 6 + ("nan", "inf", "column", "row", "some"))
    rng = np.random.default_rng(choose(range(5)))
    X = np.array(X)
    if how == "nan":
        X[rng.integers(len(X)), rng.integers(X.shape[1])] = np.nan
    elif how == "inf":
        X[rng.integers(len(X)), rng.integers(X.shape[1])] = choose((np.inf, -np.inf))
    elif how == "column":
        X[:, rng.integers(X.shape[1])] = np.nan
    elif how == "row":
        X[rng.integers(len(X))] = np.nan
    elif how == "some":
        X[rng.random(X.shape) < 0.2] = np.nan
    return X


def laid_out(choose, X):
    """Return rows in some container."""
    how = choose(("plain",) * 6 + LAYOUTS)
    with np.errstate(all="ignore"):
        if how in ("float32", "float16"):
            return X.astype(how)
        if how == "fortran":
            return np.asfortranarray(X)
        if how == "strided":
            return np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2]
        if how == "int":
            whole = np.nan_to_num(np.clip(np.round(X), -(2.0**60), 2.0**60))
            return whole.astype(choose((np.int64, np.int8, np.uint8)))
        if how == "list":
            return X.tolist()
        if how in ("frame", "nullable"):
            frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])])
            return frame.astype("Float64") if how == "nullable" else frame
        if how == "object":
            return X.astype(object)
        if how == "bool":
            return np.nan_to_num(X) > 0
        if how == "reversed":
            return X[::-1, ::-1]
        if how == "bigendian":
            return X.astype(">f8")
    if how == "readonly":
        X = X.copy()
        X.setflags(write=False)
    return X


def weights(choose, n):
    """Return weights of n rows, or None."""
    how = choose(("none",) * 9 + WEIGHTS)
    rng = np.random.default_rng(choose(range(5)))
    return {
        "none": None,
        "ones": np.ones(n),
        "counts": rng.integers(0, 4, n),
        "zeros": (rng.random(n) < 0.7).astype(float),
        "huge": np.full(n, choose((1e6, 1e10, 1e100, 1e300))),
        "tiny": np.full(n, choose((1e-6, 1e-100, 1e-300))),
        "mixed": 10.0 ** rng.integers(-12, 13, n),
        "fractions": rng.random(n),
        "one row": np.eye(n)[0],
        "scalar": 2.0,
    }[how]


def common(choose, sampled):
    """Return settings of all families."""
    usual = choose((True, True, False))
    hot = (0.0, 0.5, 2.0, 1e-3, 1e-8, 1e3, 1e8, np.float32(1), 1)
    tilts = (0.5, -0.5, 5.0, -0.99)
    settings = {
        "random_state": choose((0, 1)),
        "temperature": choose((1.0,) if usual else hot),
        "tilt": choose((0.0,) * 8 + tilts),
        "model_temperature": 0,
    }
    if sampled:
        settings["model_temperature"] = choose((None, None, 1.0, 0.5, 2.0, 100.0))
        settings["n_models"] = choose((1, 3))
    return settings


def mixture_settings(choose, sampled):
    """Return settings of all mixtures."""
    return {
        **common(choose, sampled),
        "n_components": choose((2, 1, 3, np.int64(2), 5)),
        "equal_weights": choose((False, False, True)),
        "max_iter": choose((100, 0, 1, 10)),
        "tol": choose((1e-3, 0, 1e-12, 1.0)),
        "init_params": choose(("kmeans", "k-means++", "random", "random_from_data")),
        "n_init": choose((1, 2)),
    }


def gmm(choose, sampled):
    kinds = ("full", "tied", "diag", "spherical", "tied_diag", "tied_spherical")
    return BayesianGMMAutoEncoder(
        covariance_type=choose(kinds),
        reg_covar=choose((None,) * 6 + (0, 1e-6, 1e-300, 1e6)),
        **mixture_settings(choose, sampled),
    )


def pca(choose, sampled):
    return BayesianPCAAutoEncoder(
        choose((1, None, 2, 0, 0.8, "mle", 0.999999, 100)),
        whiten=choose((False, True)),
        svd_solver=choose(("auto", "full", "randomized", "covariance_eigh", "arpack")),
        **common(choose, sampled),
    )


def mixture_pca(choose, sampled):
    return BayesianMixturePCAAutoEncoder(
        n_latent=choose((1, 0, 2, 10)),
        tied_noise=choose((False, True)),
        **mixture_settings(choose, sampled),
    )


def mixture(choose, sampled):
    kinds = (
        "gaussian", Gaussian("diag"), Gaussian("full"), Gaussian("diag", reg_covar=0), StudentT(),
        Bernoulli(), Binomial(5), Poisson(), Exponential(), Categorical(),
    )  # fmt: skip
    noise = choose((None, None, None, Uniform()))
    return BayesianMixtureAutoEncoder(
        components=choose(kinds), noise=noise, **mixture_settings(choose, sampled)
    )


def rbm(choose, sampled):
    return BayesianRBMAutoEncoder(
        choose((2, 1, 3)),
        visible=choose(("bernoulli", "gaussian")),
        noise=choose(("per_feature", "shared")),
        partition=choose(("auto", "exact", "ais")),
        max_iter=choose((3, 0, 1)),
        n_init=choose((1, 2)),
        learning_rate_init=choose((1.0, 1.0, 1e-10, 1e3, 1e10)),
        batch_size=choose((100, 2, 1000)),
        n_chains=choose((20, 2)),
        **common(choose, sampled),
    )


def vae(choose, sampled):
    return BayesianVAEAutoEncoder(
        choose((1, 2, 5)),
        hidden_layer_sizes=choose(((4,), (), (3, 3), 3)),
        activation=choose(("tanh", "relu", "logistic", "identity")),
        likelihood=choose(("gaussian", "gaussian", "bernoulli")),
        noise=choose(("per_feature", "shared")),
        alpha=choose(("auto", 0.0, 1e-6, 1e6)),
        learning_rate_init=choose((0.005, 0.005, 1e-10, 1e3)),
        batch_size=choose(("auto", 1, 7, 1000)),
        max_iter=choose((2, 1)),
        n_importance_samples=choose((3, 1)),
        n_score_samples=16,
        early_stopping=choose((False, True)),
        **common(choose, sampled),
    )


def energy(choose, sampled):
    own = common(choose, sampled)
    return EnergyAutoEncoder(
        MixtureOf(NormalComponents, n_components=choose((2, 1, 3))),
        max_iter=choose((100, 0, 1)),
        tol=choose((1e-3, 0)),
        **own,
    )


FAMILIES = {
    "gmm": gmm,
    "pca": pca,
    "mixture-pca": mixture_pca,
    "mixture": mixture,
    "rbm": rbm,
    "vae": vae,
    "energy": energy,
}


def suited(choose, estimator, X):
    """Return rows that suit what the estimator describes, as a rule."""
    if not choose((True,) * 9 + (False,)):
        return X
    kind, size = getattr(estimator, "components", None), np.abs(X)
    if isinstance(kind, Binomial):
        return np.minimum(np.floor(size), 5)
    if isinstance(kind, Bernoulli):
        return (X > 0).astype(float)
    if isinstance(kind, Poisson):
        return np.floor(np.minimum(size, 1e15))
    if isinstance(kind, Categorical):
        return np.minimum(np.floor(size), 4)
    if isinstance(kind, Exponential):
        return size
    if "bernoulli" in (getattr(estimator, "visible", ""), getattr(estimator, "likelihood", "")):
        return choose(((X > 0).astype(float), np.clip(size, 0, 1)))
    return X


def case(choose, family, sampled=False):
    """Return an estimator, rows and weights; `choose` takes one of a sequence."""
    estimator = FAMILIES[family](choose, sampled)
    X = spoilt(choose, suited(choose, estimator, in_units(choose, table(choose))))
    return estimator, laid_out(choose, X), weights(choose, len(X))


# -- what holds ------------------------------------------------------------------------------------

OWN = ("X ", "Input", "sample_weight", "column", "rows", "array", "sample", "density", "lacks")


def numbers(X):
    """Return rows as float64, NaN where an entry is missing."""
    if hasattr(X, "to_numpy"):
        return X.to_numpy(dtype=float, na_value=np.nan)
    return np.asarray(X, dtype=float)


def assert_clear(error, names):
    """Assert that an error was meant: of a plain kind, raised by a statement, naming a culprit."""
    assert type(error) in (ValueError, TypeError, NotFittedError, TemperingError) or (
        isinstance(error, ValueError) and type(error).__module__.startswith("skbae")
    ), f"raw {type(error).__name__}: {error}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    here = (
        "skbae" in last.filename.replace("\\", "/").split("/")[-4:-1] or "skbae/" in last.filename
    )
    assert not here or (last.line or "").startswith("raise"), f"{last.line}: {error}"
    assert any(word in str(error) for word in (*names, *OWN)), f"names nothing: {error}"


def allowed(function, names):
    """Return what a method returns, None where it refuses in clear words."""
    try:
        return function()
    except (AssertionError, Warning):
        raise
    except Exception as error:
        assert_clear(error, names)
        return None


def check(estimator, X, weights):
    """Fit, call all methods, and assert what holds whatever the rows are."""
    names, before = list(estimator.get_params(deep=False)), dict(vars(estimator))
    given = numbers(X).copy() if not isinstance(X, list) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for category in (RuntimeWarning, FutureWarning, DeprecationWarning):
            warnings.simplefilter("error", category)
        try:
            estimator.fit(X, sample_weight=weights)
        except Warning:
            raise
        except Exception as error:
            assert_clear(error, names)
            assert list(vars(estimator)) == list(before)
            assert all(vars(estimator)[name] is value for name, value in before.items())
            return
        if given is not None:
            np.testing.assert_array_equal(numbers(X), given)
        check_fitted(estimator, X, weights, names)


def check_fitted(fitted, X, weights, names):
    """Assert that results are finite, and agree with each other."""
    n, categories = len(X), isinstance(getattr(fitted, "components", None), Categorical)
    single = fitted._fitted.model_temperature == 0
    scores = allowed(lambda: fitted.score_samples(X), names)
    if scores is not None:
        assert scores.shape == (n,)
        assert np.isfinite(scores).all()
        size = np.abs(scores).max()
        np.testing.assert_allclose(fitted.score(X), scores.mean(), rtol=1e-9, atol=1e-9 * size)
        if single and not isinstance(fitted, (BayesianRBMAutoEncoder, BayesianVAEAutoEncoder)):
            check_objective(fitted, numbers(X), scores, weights)
        elif single:
            assert np.isfinite(fitted.hmaxe_)
    codes = allowed(lambda: fitted.transform(X), names)
    if codes is not None:
        assert np.isfinite(codes).all()
        check_codes(fitted, X, codes, names, categories)
    if hasattr(fitted, "predict_proba"):
        probabilities = fitted.predict_proba(X)
        assert (probabilities >= 0).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        best = probabilities[np.arange(n), fitted.predict(X)]
        np.testing.assert_allclose(best, probabilities.max(axis=1), atol=1e-6)
    for method in ("score_gradient", "impute"):
        if hasattr(fitted, method):
            found = allowed(lambda method=method: getattr(fitted, method)(X), names)
            assert found is None or categories or np.isfinite(numbers(found)).all(), method
    found = allowed(lambda: fitted.denoise(X, 1.0), names)
    assert found is None or np.isfinite(found).all()
    drawn = allowed(lambda: fitted.sample(4, random_state=0), names)
    if drawn is not None and not categories:
        assert np.isfinite(numbers(drawn[0])).all()
    for method in ("aic", "bic") if single else ():
        found = allowed(lambda method=method: getattr(fitted, method)(X), names)
        assert found is None or np.isfinite(found)
    if not single and fitted.sampling_.status == "ok" and getattr(fitted, "evidence_tol", 1):
        assert np.isfinite(fitted.log_evidence_)
    file = io.BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    if scores is not None:
        np.testing.assert_array_equal(joblib.load(file).score_samples(X), scores)


def check_objective(fitted, X, scores, weights):
    """Assert that ``hmaxe_`` is the weighted mean score, up to the rounding of the moments."""
    share = np.ones(len(X)) if weights is None else np.broadcast_to(weights, len(X)) + 0.0
    share = share / share.max()
    expected = (share @ scores) / share.sum()
    noise = float(np.min(getattr(fitted, "noise_variance_", np.inf)))
    # of differences of variances, and of means in the units of X
    rounding = 1e-14 * np.nanvar(X, axis=0).sum() + 1e-28 * np.nanmax(np.abs(X)) ** 2
    slack = 1e-5 * (1 + abs(expected)) + X.shape[1] * rounding / noise
    assert abs(fitted.hmaxe_ - expected) <= slack, (fitted.hmaxe_, expected)


def check_codes(fitted, X, codes, names, categories):
    """Assert that distributions of codes and rows agree with transform and its inverse."""
    single = fitted._fitted.model_temperature == 0
    digits = 1e-4 if codes.dtype == np.float32 else 1e-6
    rows = allowed(lambda: fitted.inverse_transform(codes), names)
    posterior = allowed(lambda: fitted.encode(X), names)
    if posterior is not None:
        if single or not isinstance(fitted, BayesianPCAAutoEncoder):
            size = np.abs(codes).max(initial=1.0)
            np.testing.assert_allclose(posterior.mean, codes, rtol=digits, atol=digits * size)
        assert (posterior.variance >= 0).all()
        assert np.isfinite(posterior.variance).all()
        decoded = allowed(lambda: fitted.decode(posterior), names)
        if decoded is not None and not categories:
            means = allowed(lambda: decoded.mean, names)
            assert means is None or np.isfinite(means).all()
            values = numbers(X)
            if np.isfinite(values).all():
                density = allowed(lambda: decoded.log_density(values), names)
                assert density is None or not np.isnan(density).any()
    decoded = allowed(lambda: fitted.decode(codes), names)
    if rows is not None and decoded is not None and not categories:
        assert np.isfinite(rows).all()
        size = np.abs(rows).max(initial=0.0)
        np.testing.assert_allclose(decoded.mean, rows, rtol=digits, atol=digits * size)
