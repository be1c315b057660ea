"""A mixture of Gaussians as an autoencoder, on scikit-learn's handwritten digits.

And how to choose between models: by their evidence, or by rows held out. Run it with
``python examples/quickstart.py``; it takes less than a minute.
"""

import tempfile
import warnings
from pathlib import Path

import joblib
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skbae import BayesianGMMAutoEncoder
from skbae.model_selection import (
    InSample,
    evidence_scorer,
    hmaxemax_scorer,
    reconstruction_scorer,
)

N_COMPONENTS = 20

X, digits = load_digits(return_X_y=True)
print(f"{X.shape[0]} images of {X.shape[1]} pixels, {N_COMPONENTS} components\n")

# -- 1. fit at temperature 1: a probabilistic autoencoder -----------------------------------------

autoencoder = make_pipeline(
    MinMaxScaler(),
    BayesianGMMAutoEncoder(
        N_COMPONENTS,
        temperature=1.0,  # of the codes: soft, as in an ordinary mixture
        model_temperature=0,  # of the models: one, the best
        covariance_type="spherical",
        n_init=5,
        max_iter=500,
        random_state=0,
    ),
)
autoencoder.fit(X)
mixture = autoencoder[-1]
print("1. Fit at temperature 1")
print(f"   converged: {mixture.converged_}, in {mixture.n_iter_} iterations")
print(f"   mean log density: {autoencoder.score(X):.2f} nats an image")

# -- 2. encode and decode -------------------------------------------------------------------------

probabilities = autoencoder.predict_proba(X)
unsure = np.argmin(probabilities.max(axis=1))
entropy = mixture.encode(autoencoder[:-1].transform(X)).entropy()
print("\n2. Codes are probabilities of components")
print(f"   mean entropy of a code: {entropy.mean():.4f} nats")
print(f"   the least certain image, number {unsure} (a {digits[unsure]}):")
for k in np.argsort(probabilities[unsure])[::-1][:3]:
    print(f"      component {k:2d} with probability {probabilities[unsure, k]:.3f}")

# -- 3. reconstruct -------------------------------------------------------------------------------


def reconstruction_error(model):
    """Return the mean squared error of a pixel; grey levels go from 0 to 16."""
    return np.mean((X - model.inverse_transform(model.transform(X))) ** 2)


error, blank = reconstruction_error(autoencoder), X.var(axis=0).mean()
print("\n3. Reconstruction, inverse_transform(transform(X))")
print(f"   mean squared error of a pixel: {error:.2f}; of the mean image: {blank:.2f}")
print(f"   explained: {1 - error / blank:.1%} of the variance")

# -- 4. cool the codes: from a mixture at temperature 1 to k-means at 0 ---------------------------

start = X[np.random.default_rng(0).choice(len(X), N_COMPONENTS, replace=False)]


def k_means_like(temperature):
    """Return a mixture with one shared, spherical covariance: at temperature 0 it is k-means."""
    return BayesianGMMAutoEncoder(
        N_COMPONENTS,
        temperature=temperature,
        model_temperature=0,
        covariance_type="tied_spherical",
        equal_weights=True,
        means_init=start,
        tol=0,
        max_iter=200,
    )


print("\n4. Cooling the codes, from the same start each time")
print("   temperature      Hmaxe   entropy of a code   error   agreement with the digits")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0 asks for every iteration
    for temperature in [1.0, 0.75, 0.5, 0.25, 0.1, 0.0]:
        cooled = k_means_like(temperature).fit(X)
        print(
            f"   {temperature:11.2f}"
            f"   {cooled.hmaxe_:8.3f}"
            f"   {cooled.encode(X).entropy().mean():17.5f}"
            f"   {reconstruction_error(cooled):5.3f}"
            f"   {adjusted_rand_score(digits, cooled.predict(X)):25.3f}"
        )

k_means = KMeans(N_COMPONENTS, init=start, n_init=1, algorithm="lloyd", tol=0).fit(X)
inertia = np.sum((X - cooled.inverse_transform(cooled.transform(X))) ** 2)
print(f"   inertia at temperature 0: {inertia:.4f}")
print(f"   inertia of KMeans:        {k_means.inertia_:.4f}")
print(f"   same labels: {np.array_equal(cooled.predict(X), k_means.labels_)}")

# -- 5. save and load -----------------------------------------------------------------------------

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "autoencoder.joblib"
    joblib.dump(autoencoder, path)
    loaded = joblib.load(path)
    size = path.stat().st_size
print("\n5. Saved and loaded with joblib")
print(f"   {size / 1024:.0f} kB; same codes: ", end="")
print(np.array_equal(loaded.predict_proba(X), probabilities))

# -- 6. sample the models, and choose their number of components by the evidence ------------------

flowers, species = load_iris(return_X_y=True)
pipeline = make_pipeline(
    StandardScaler(),
    # model_temperature=None, the default: models are drawn from their posterior.
    # All candidates have the same prior, since the evidence depends on it.
    BayesianGMMAutoEncoder(covariance_prior=0.2 * np.eye(4), random_state=0),
)


def error_bar(model, X, y=None):
    """Return the standard error of what evidence_scorer returns."""
    return model[-1].hmaxemax_error_


def trusted(model, X, y=None):
    """Return whether the status of the sampling is "ok"."""
    return model[-1].sampling_.status == "ok"


evidence = GridSearchCV(
    pipeline,
    {"bayesiangmmautoencoder__n_components": [1, 2, 3, 4]},
    scoring={"evidence": evidence_scorer, "error": error_bar, "ok": trusted},
    refit="evidence",
    cv=InSample(),  # the evidence holds nothing out: one fit a candidate
    error_score="raise",
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # the table says which are not trusted
    evidence.fit(flowers)
table, n_rows = evidence.cv_results_, len(flowers)
print(f"\n6. Evidence of mixtures for {n_rows} irises, models sampled from their posterior")
print("   components   log evidence   error   trusted")
for params, value, error, ok in zip(
    table["params"],
    table["mean_test_evidence"],
    table["mean_test_error"],
    table["mean_test_ok"],
    strict=True,
):
    print(
        f"   {params['bayesiangmmautoencoder__n_components']:10d}"
        f"   {n_rows * value:12.2f}"
        f"   {n_rows * error:5.2f}"
        f"   {'yes' if ok else 'no':>7s}"
    )
best = evidence.best_estimator_
print(f"   chosen: {best[-1].n_components}", end="; ")
print(f"its agreement with the species: {adjusted_rand_score(species, best.predict(flowers)):.2f}")
print(
    f"   mean log predictive density over {best[-1].n_models} sampled models, in scaled units: ",
    end="",
)
print(f"{best.score(flowers):.3f}")

# -- 7. or by rows held out, over components and temperatures -------------------------------------

held_out = GridSearchCV(
    make_pipeline(
        StandardScaler(), BayesianGMMAutoEncoder(model_temperature=0, n_init=5, random_state=0)
    ),
    {
        "bayesiangmmautoencoder__n_components": [1, 2, 3],
        "bayesiangmmautoencoder__temperature": [0.0, 0.5, 1.0],
    },
    scoring={"density": hmaxemax_scorer, "reconstruction": reconstruction_scorer},
    refit="density",
    cv=KFold(5, shuffle=True, random_state=0),
    error_score="raise",
).fit(flowers)
table = held_out.cv_results_
print("\n7. Rows held out: density at temperature 1, in nats an iris, and error of reconstruction")
print("   components   temperature   density (spread over folds)   error")
for params, value, spread, loss in zip(
    table["params"],
    table["mean_test_density"],
    table["std_test_density"],
    table["mean_test_reconstruction"],
    strict=True,
):
    print(
        f"   {params['bayesiangmmautoencoder__n_components']:10d}"
        f"   {params['bayesiangmmautoencoder__temperature']:11.1f}"
        f"   {value:7.3f} ({spread:.3f})"
        f"   {-loss:17.3f}"
    )
chosen = held_out.best_estimator_[-1]
print(f"   chosen: {chosen.n_components} components at temperature {chosen.temperature:g}")
