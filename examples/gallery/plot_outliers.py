"""
Typing errors: heavy tails, and a component of noise
====================================================

A few gross errors spoil a Gaussian mixture: it spends a component on them. You learn two
remedies, components with heavy tails and a component of noise, and how to see from a fit that one
is needed.
"""

# %%
# Six decimal points out of place
# -------------------------------
# Petals of irises. In three flowers the length is ten times too large, and in three others the
# width.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score

from skbae import BayesianMixtureAutoEncoder
from skbae.components import StudentT

data = load_iris()
X, species, names = data.data, data.target, data.target_names
X = X[:, 2:]
spoilt = X.copy()
wrong = np.random.default_rng(0).choice(len(X), 6, replace=False)
spoilt[wrong[:3], 0] *= 10
spoilt[wrong[3:], 1] *= 10
right = np.setdiff1d(np.arange(len(X)), wrong)

# %%
# Three mixtures of three components
# ----------------------------------
# The Gaussian one; one of Student's t distributions with three degrees of freedom, whose tails are
# so heavy that far rows count little; and a Gaussian one with one component more, of uniform noise
# on the box of all rows. Warnings of the fits are printed.

kinds = {
    "Gaussian": {"components": "gaussian"},
    "Student's t": {"components": StudentT(3.0)},
    "Gaussian and noise": {"components": "gaussian", "noise": "uniform"},
}
models = {}
for name, settings in kinds.items():
    model = BayesianMixtureAutoEncoder(
        3, model_temperature=0, n_init=10, random_state=0, **settings
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        models[name] = model.fit(spoilt)
    agreement = adjusted_rand_score(species[right], model.predict(spoilt[right]))
    print(f"{name}: BIC {model.bic(spoilt):.0f}, agreement with the species {agreement:.2f}")
    print(f"  weights {model.weights_.round(2)}")
    for warning in caught:
        print(f"  warning: {str(warning.message).split(':')[1].strip()}")

# %%
# The Gaussian mixture spends a component on a hundredth of the rows, and joins two kinds of irises
# to a single wide one. Its BIC is hundreds above that of the others (lower is better), and the fit
# warns that a component has collapsed. Which rows are errors is told by the noise component:

noise = models["Gaussian and noise"]
shares = noise.predict_proba(spoilt)[:, -1]
print("rows that are noise with more than half:", np.flatnonzero(shares > 0.5))
print("rows that were spoilt:                  ", np.sort(wrong))

# %%
# Densities of petals, where they should be: the contours hold 50% and 90% of the flowers.

figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained", sharey=True)
across, up = np.meshgrid(np.linspace(0.2, 7.8, 200), np.linspace(-0.3, 3, 160))
grid = np.column_stack([across.ravel(), up.ravel()])
markers = ["o", "^", "s"]
colours = ["#0072B2", "#E69F00", "#009E73"]
for ax, (name, model) in zip(axes, models.items(), strict=True):
    density = model.score_samples(grid).reshape(across.shape)
    levels = np.quantile(model.score_samples(spoilt[right]), [0.1, 0.5])
    ax.contour(across, up, density, levels=levels, colors=["0.6", "0.2"], linestyles="solid")
    for kind in range(3):
        own = right[species[right] == kind]
        ax.plot(*spoilt[own].T, markers[kind], color=colours[kind], ms=4, label=names[kind])
    ax.set(title=f"{name}: BIC {model.bic(spoilt):.0f}", xlabel="petal length (cm)")
axes[0].set_ylabel("petal width (cm)")
axes[0].legend(loc="upper left", title="species")
plt.show()
