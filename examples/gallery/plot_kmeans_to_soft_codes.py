"""
From k-means to soft codes by temperature
=========================================

K-means gives each row to one cluster, and a Gaussian mixture gives it shares of all. Both are the
same model at two temperatures. You learn what the parameter ``temperature`` does to codes: at 0
they are hard, at 1 they are the posterior probabilities of the ordinary mixture, and above they
soften further, until clusters merge.
"""

# %%
# Petals of irises
# ----------------
# Two columns, so that all can be seen. Components are spherical with one shared variance and have
# equal weights: at temperature 0 that is k-means.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score

from skbae import BayesianGMMAutoEncoder
from skbae.plotting import CodesDisplay
from skbae.thermodynamics import code_temperature_curve

data, species = load_iris(as_frame=True, return_X_y=True)
X = data[["petal length (cm)", "petal width (cm)"]]


model = BayesianGMMAutoEncoder(
    3,
    covariance_type="tied_spherical",
    equal_weights=True,
    n_init=10,
    tol=1e-6,
    max_iter=500,
    random_state=0,
)

# %%
# Heat the codes
# --------------
# ``code_temperature_curve`` fits the best model at each temperature, from where the one before
# ended, so that components keep their numbers.

temperatures = np.arange(0, 6.1, 0.25)
curve = code_temperature_curve(model, X, temperatures)

# %%
# The first of its models, at temperature 0, is k-means: the same clusters, and all of a flower
# belongs to one of them.

hard = curve.models[0]
k_means = KMeans(3, n_init=10, random_state=0).fit(X)
print(f"agreement with KMeans: {adjusted_rand_score(hard.predict(X), k_means.labels_):.3f}")
print(f"smallest of the flowers' largest shares: {hard.predict_proba(X).max(axis=1).min():.1f}")

# %%
# Warmer codes are softer
# -----------------------
# Each flower is drawn in the mixed colours of its components. At T = 1, the ordinary mixture, only
# a few flowers between two groups are undecided. At T = 2.5 more are, and at T = 3 the two groups
# on the right have become one: their components are equal, and share each flower half and half.

figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained", sharex=True, sharey=True)
for ax, temperature in zip(axes.flat, [0.0, 1.0, 2.5, 3.0], strict=True):
    at = np.flatnonzero(temperatures == temperature)[0]
    fitted = curve.models[at]
    agreement = adjusted_rand_score(species, fitted.predict(X))
    print(
        f"T = {temperature:g}: entropy of a code {curve.code_entropy[at]:.3f} nats, "
        f"agreement with the species {agreement:.2f}"
    )
    CodesDisplay.from_estimator(fitted, X, features=(0, 1), ax=ax)
    ax.plot(*fitted.means_.T, "kX", ms=11, mec="white", label="centre")
    ax.set_title(f"T = {temperature:g}: {curve.code_entropy[at]:.2f} nats a code")
    ax.legend(loc="upper left", title="component")
    ax.label_outer()
plt.show()

# %%
# Where clusters merge
# --------------------
# The centres move together, two of them at first and then all, each time within a small range of
# temperatures: these are phase transitions. The entropy of codes rises to about that of two equal
# choices for two thirds of the flowers, and at last to log 3 for all: the code tells nothing.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
centres = np.array([fitted.means_[:, 0] for fitted in curve.models])
for k, (colour, style) in enumerate(zip(["#0072B2", "#E69F00", "#009E73"], "o^s", strict=True)):
    left.plot(temperatures, centres[:, k], f"{style}-", color=colour, ms=4, label=f"{k}")
left.set(xlabel="temperature of the codes", ylabel="centre: petal length (cm)")
left.set_title("Three centres become one")
left.legend(title="component")
right.plot(temperatures, curve.code_entropy, "o-", color="#0072B2", ms=4)
right.axhline(np.log(3), color="0.5", ls="--", label="log 3")
right.set(xlabel="temperature of the codes", ylabel="entropy of a code (nats)")
right.set_title("Codes tell less and less")
right.legend(loc="lower right")
plt.show()

together = np.ptp(centres, axis=1) < 1e-3
print(f"all centres are one from T = {temperatures[together.argmax()]:g} on")
