"""
How many groups of galaxies?
============================

How many components does a mixture need? The evidence answers that without rows held out: it is the
probability of the data under a number of components, with all their parameters integrated out.
Here you learn to compute it in a grid search, to draw it with its error bars, to turn it into a
probability for each number of components, and to see what the sampled models say about the density.

The data are a classic: the velocities, relative to our own galaxy, of 82 galaxies in six sections
of the sky around Corona Borealis (Postman, Huchra and Geller 1986). Velocity grows with distance,
so groups of velocities are clusters of galaxies in space, with voids between them.
"""

# %%
# The data
# --------
# Velocities in km/s, which we divide by 1000.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from skbae import BayesianGMMAutoEncoder
from skbae.model_selection import InSample, evidence_scorer
from skbae.plotting import ModelSelectionDisplay

# fmt: off
velocities = np.array(
    [
        9172, 9350, 9483, 9558, 9775, 10227, 10406, 16084, 16170, 18419, 18552, 18600, 18927, 19052,
        19070, 19330, 19343, 19349, 19440, 19473, 19529, 19541, 19547, 19663, 19846, 19856, 19863,
        19914, 19918, 19973, 19989, 20166, 20175, 20179, 20196, 20215, 20221, 20415, 20629, 20795,
        20821, 20846, 20875, 20986, 21137, 21492, 21701, 21814, 21921, 21960, 22185, 22209, 22242,
        22249, 22314, 22374, 22495, 22746, 22747, 22888, 22914, 23206, 23241, 23263, 23484, 23538,
        23542, 23666, 23706, 23711, 24129, 24285, 24289, 24366, 24717, 24990, 25633, 26690, 26995,
        32065, 32789, 34279,
    ]
)
# fmt: on
X = velocities[:, None] / 1000

# %%
# Sample the models of each size
# ------------------------------
# By default, a fit does not look for the best model but draws models from their posterior, and
# estimates the evidence with a standard error. The evidence depends on the prior, so that all
# candidates must have the same: this is the one of Hairault, Robert and Rousseau (2022) for
# these data. ``InSample`` makes one fit of all rows for each candidate. A second score records the
# error of the first, and a third whether the fit trusts its own sampling.

prior = {
    "mean_precision_prior": 2.6 / np.ptp(X),
    "degrees_of_freedom_prior": 2.56,
    "covariance_prior": [[0.72 * X.var()]],
}


def error_bar(model, X, y=None):
    """Return the standard error of what evidence_scorer returns."""
    return model.hmaxemax_error_


def trusted(model, X, y=None):
    """Return whether the status of the sampling is "ok"."""
    return model.sampling_.status == "ok"


search = GridSearchCV(
    BayesianGMMAutoEncoder(n_models=100, random_state=0, **prior),
    {"n_components": [1, 2, 3, 4, 5, 6, 7]},
    scoring={"evidence": evidence_scorer, "error": error_bar, "trusted": trusted},
    refit="evidence",
    cv=InSample(),
    error_score="raise",
).fit(X)

# %%
# Scores are in nats for each galaxy; times 82 they are log evidences. If all numbers of components
# are equally probable beforehand, the probability of each is proportional to its evidence.

results = search.cv_results_
numbers = np.array([candidate["n_components"] for candidate in results["params"]])
log_evidences = len(X) * results["mean_test_evidence"]
errors = len(X) * results["mean_test_error"]
shares = np.exp(log_evidences - np.logaddexp.reduce(log_evidences))

print("components  log evidence           probability  trusted")
for row in zip(numbers, log_evidences, errors, shares, results["mean_test_trusted"], strict=True):
    print("{:10d}  {:9.2f} +- {:.2f} {:17.2f}  {}".format(*row[:4], "yes" if row[4] else "no"))

# %%
# One or two components are out of the question, and three are half as probable as five. Between
# four and seven the data do not decide: differences of a tenth of a nat are nothing, although the
# sampling is exact enough to see them. An honest answer is "at least three, and four to seven are
# about equally good"; for predictions it hardly matters which.
#
# The picture
# -----------
# On the left, the score as the grid search has it; its error bars are smaller than the markers.
# In the middle, the probability of each number of components; bars show what one standard error of
# its log evidence makes of it. On the right, the density of velocities: each thin line is a model
# that was drawn from the posterior, and the thick line, their mean, is the predictive density that
# ``score_samples`` returns the logarithm of.

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
ModelSelectionDisplay.from_cv_results(search, score="evidence", error="error", ax=axes[0])
axes[0].set(title="Evidence", xlabel="components", ylabel="log evidence (nats a galaxy)")

axes[1].bar(numbers, shares, color="#56B4E9")
axes[1].errorbar(numbers, shares, shares * errors, fmt="none", ecolor="0.3", capsize=4)
axes[1].set(title="Probability of each number", xlabel="components", ylabel="probability")
axes[1].set_xticks(numbers)

best = search.best_estimator_
grid = np.linspace(7, 37, 400)
axes[2].hist(X[:, 0], bins=np.arange(8, 36, 0.75), density=True, color="0.85", label="galaxies")
models = best.models_
for weights, means, covariances in zip(
    models.weights[::4], models.means[::4], models.covariances[::4], strict=True
):
    deviations = np.sqrt(covariances[:, 0, 0])
    distance = (grid[:, None] - means[:, 0]) / deviations
    density = np.exp(-(distance**2) / 2) @ (weights / deviations) / np.sqrt(2 * np.pi)
    axes[2].plot(grid, density, color="#0072B2", lw=0.6, alpha=0.4)
axes[2].plot(grid, np.exp(best.score_samples(grid[:, None])), color="#D55E00", lw=2, label="mean")
axes[2].set(
    title=f"Models of {best.n_components} components",
    xlabel="velocity (1000 km/s)",
    ylabel="density (per 1000 km/s)",
)
axes[2].legend()
plt.show()
