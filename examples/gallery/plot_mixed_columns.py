"""
Mixed columns: wines with few labels
====================================

A table may have numbers in some columns and names in others, and gaps in both. You learn to say
which component describes which column, and a use of it: with a name that is known for few rows and
missing for the rest, the mixture becomes a classifier that also learns from rows without a label.
"""

# %%
# 178 wines, of which 15 have a label
# -----------------------------------
# Five measurements, and the cultivar that the wine is made of (A, B or C), which we keep for five
# wines of each kind.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbae import BayesianMixtureAutoEncoder
from skbae.components import Categorical, Gaussian

data = load_wine(as_frame=True)
numbers = ["alcohol", "flavanoids", "color_intensity", "hue", "proline"]
table = data.data[numbers].copy()
cultivar = np.array(["A", "B", "C"])[data.target]
rng = np.random.default_rng(0)
known = np.concatenate(
    [rng.choice(np.flatnonzero(cultivar == name), 5, replace=False) for name in "ABC"]
)
table["cultivar"] = None
table.loc[known, "cultivar"] = cultivar[known]
print(table.iloc[[known[0], 1, known[5], 100]].to_string())

# %%
# Which component for which column
# --------------------------------
# As in scikit-learn's ``ColumnTransformer``. Given the component, measurements are independent and
# normal, and the cultivar is one of three with its own probabilities. The BIC says how many
# components are needed.

kinds = [
    ("measurements", Gaussian("diag"), numbers),
    ("label", Categorical(), ["cultivar"]),
]
fits = {}
for n_components in (1, 2, 3, 4, 5):
    fits[n_components] = BayesianMixtureAutoEncoder(
        n_components, kinds, model_temperature=0, n_init=10, random_state=0
    ).fit(table)
    print(f"{n_components} component(s): BIC {fits[n_components].bic(table):.0f}")
model = min(fits.values(), key=lambda fitted: fitted.bic(table))
print(f"chosen: {model.n_components}")

# %%
# What the components are
# -----------------------

for k, weight in enumerate(model.weights_):
    labels = model.parameters_["label"]["probabilities"][0][k]
    named = ", ".join(
        f"{name} {share:.0%}" for name, share in zip(model.categories_[-1], labels, strict=True)
    )
    means = ", ".join(
        f"{column} {mean:.1f}" for column, mean in zip(numbers, model.means_[k, :5], strict=True)
    )
    print(f"component {k}, {weight:.0%} of the wines: cultivar {named}")
    print(f"  {means}")

# %%
# The missing labels
# ------------------
# ``condition`` gives the probability of each label of each wine, and ``impute`` the most probable
# one. A logistic regression can only learn from the 15 wines with a label.

hidden = np.setdiff1d(np.arange(len(table)), known)
guesses = model.impute(table)[:, -1]
right = guesses[hidden] == cultivar[hidden]
regression = make_pipeline(StandardScaler(), LogisticRegression())
regression.fit(table[numbers].iloc[known], cultivar[known])
score = regression.score(table[numbers].iloc[hidden], cultivar[hidden])
print(
    f"of {len(hidden)} hidden labels the mixture finds {right.mean():.1%}, regression {score:.1%}"
)


# %%
# That may be luck of the 15 labels, so we repeat it with twenty other choices.

found = []
for _ in range(20):
    chosen = np.concatenate(
        [rng.choice(np.flatnonzero(cultivar == name), 5, replace=False) for name in "ABC"]
    )
    others = np.setdiff1d(np.arange(len(table)), chosen)
    again = table.assign(cultivar=None)
    again.loc[chosen, "cultivar"] = cultivar[chosen]
    mixture = BayesianMixtureAutoEncoder(
        3, kinds, model_temperature=0, n_init=3, random_state=0
    ).fit(again)
    regression.fit(table[numbers].iloc[chosen], cultivar[chosen])
    of_mixture = (mixture.impute(again)[others, -1] == cultivar[others]).mean()
    of_regression = regression.score(table[numbers].iloc[others], cultivar[others])
    found.append((of_mixture, of_regression))
for name, shares in zip(("mixture", "regression"), np.transpose(found), strict=True):
    print(f"{name}: {shares.mean():.1%} on average, {shares.min():.1%} to {shares.max():.1%}")

# %%
# The mixture hardly depends on which labels are known, since all wines say where the groups are;
# the regression does. Back to the first choice, and to the wines of which the mixture is not sure.

chances = model.condition(table).probabilities(len(numbers), np.arange(3))
print(f"wines whose label has a chance below 90%: {(chances.max(axis=1) < 0.9).sum()}")

# %%
# Wines in the mixed colours of their chances; rings are the 15 whose label is known, crosses the
# labels that are wrong.

colours = np.array([[0, 114, 178], [230, 159, 0], [0, 158, 115]]) / 255
figure, ax = plt.subplots(figsize=(7.4, 5), layout="constrained")
across, up = table["flavanoids"].to_numpy(), table["color_intensity"].to_numpy()
ax.scatter(across, up, c=(chances @ colours).clip(0, 1), s=32)
ax.scatter(across[known], up[known], s=120, fc="none", ec="#000000", lw=1.5, label="label known")
wrong = hidden[~right]
ax.scatter(across[wrong], up[wrong], s=90, marker="x", color="#D55E00", lw=2, label="wrong")
for name, colour in zip("ABC", colours, strict=True):
    ax.scatter([], [], color=colour, label=f"cultivar {name}")
ax.set(xlabel="flavanoids (units of the data)", ylabel="colour intensity (units of the data)")
ax.set_title("Cultivars, from 15 labels")
ax.legend(loc="upper right")
plt.show()
