"""
One grid search across families
===============================

Every family here has a density of the same rows, so that quite different models can be compared by
one number. You learn to put families, and their sizes, into one ``GridSearchCV``, to score them by
the density of rows held out, and to see what the error bars allow to be said.
"""

# %%
# One pipeline, four families
# ---------------------------
# 178 wines with 13 measurements. The last step of the pipeline is a parameter like any other. For
# each family there is a dictionary with the values of its own parameters.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
)
from skbae.model_selection import hmaxemax_scorer

X = load_wine().data
common = {"model_temperature": 0, "random_state": 0}  # one best model of each
grid = [
    {
        "model": [BayesianPCAAutoEncoder(**common)],
        "model__n_components": [1, 2, 3, 4, 5, 6],
    },
    {
        "model": [BayesianGMMAutoEncoder(n_init=3, **common)],
        "model__covariance_type": ["diag", "tied"],
        "model__n_components": [1, 2, 3, 4, 5],
    },
    {
        "model": [BayesianMixturePCAAutoEncoder(n_init=3, **common)],
        "model__n_components": [2, 3],
        "model__n_latent": [1, 2],
    },
    {
        "model": [BayesianRBMAutoEncoder(visible="gaussian", **common)],
        "model__n_components": [1, 2, 4],
    },
]

# %%
# The score is the mean log density of wines held out, in nats a wine. It is that of the rows that
# enter the pipeline, so that scaling does not matter.

search = GridSearchCV(
    Pipeline([("scale", StandardScaler()), ("model", BayesianPCAAutoEncoder())]),
    grid,
    scoring=hmaxemax_scorer,
    cv=KFold(5, shuffle=True, random_state=0),
    error_score="raise",
).fit(X)

names = {
    BayesianPCAAutoEncoder: "PCA",
    BayesianGMMAutoEncoder: "mixture",
    BayesianMixturePCAAutoEncoder: "mixture of PCA",
    BayesianRBMAutoEncoder: "Boltzmann machine",
}


def described(candidate):
    """Return the family and the settings of a candidate."""
    settings = [
        f"{value}" if name.endswith("type") else f"{name.removeprefix('model__')}={value}"
        for name, value in sorted(candidate.items())
        if name != "model"
    ]
    return names[type(candidate["model"])], ", ".join(settings)


table = search.cv_results_
splits = np.array([table[f"split{fold}_test_score"] for fold in range(5)])
candidates = [described(candidate) for candidate in table["params"]]
order = np.argsort(table["mean_test_score"])
for place in order[::-1][:6]:
    print(f"{table['mean_test_score'][place]:8.3f}  {', '.join(candidates[place])}")

# %%
# How sure is that?
# -----------------
# Scores of folds differ much, mostly since some folds have stranger wines than others. That is the
# same for all candidates, so that the error of a *difference* is what counts: bars are standard
# errors of the difference from the best, over five folds. They are rough, since folds are few and
# share training rows.

differences = splits - splits[:, [order[-1]]]
means = differences.mean(axis=0)
errors = differences.std(axis=0, ddof=1) / np.sqrt(len(splits))
close = [place for place in order[:-1] if means[place] + 2 * errors[place] > 0]
print(f"within two errors of the best: {len(close)} of {len(order) - 1} other candidates")
for place in close[::-1]:
    print(f"  {means[place]:6.2f} +- {errors[place]:.2f}  {', '.join(candidates[place])}")

# %%
# Mixtures of three to five components are the best here, and it hardly matters which. One subspace
# for all wines is not enough: PCA is a nat or more behind, while a machine of four units, whose 16
# components share a covariance, comes close to the mixtures.

figure, ax = plt.subplots(figsize=(8.4, 6), layout="constrained")
styles = dict(
    zip(
        names.values(),
        [("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D")],
        strict=True,
    )
)
for family, (colour, marker) in styles.items():
    heights = [height for height, place in enumerate(order) if candidates[place][0] == family]
    own = order[heights]
    ax.errorbar(
        means[own], heights, xerr=errors[own], fmt=marker, color=colour, capsize=3, label=family
    )
ax.axvline(0, color="0.5", ls="--", zorder=0)
ax.set_yticks(range(len(order)), labels=[candidates[place][1] for place in order], fontsize="small")
ax.set(xlabel="log density of wines held out, minus that of the best (nats a wine)")
ax.set_title("Four families, described by their settings")
ax.legend(loc="upper left")
plt.show()
