"""
Denoising digits
================

If the density of clean images is known, the best guess of a clean image given a noisy one is
an expectation, and ``denoise`` computes it. You learn to use it, for noise of any strength
and without training for it, and how three families compare with the usual projection on principal
axes.
"""

# %%
# Clean digits for training, noisy ones for testing
# -------------------------------------------------
# Grey levels from 0 to 1. The models see 1200 clean digits; 597 other digits get normal noise. Grey
# levels come in steps of 1/16, and many pixels at the border never change: a density of rows that
# lie on a lattice has no limit, so that we spread training pixels evenly over their steps.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder

images, digits = load_digits(return_X_y=True)
train, test, _, y_test = train_test_split(
    images / 16, digits, train_size=1200, stratify=digits, random_state=0
)
models = {
    "probabilistic PCA": BayesianPCAAutoEncoder(30, model_temperature=0),
    "mixture of PCA": BayesianMixturePCAAutoEncoder(
        10, n_latent=12, tied_noise=True, model_temperature=0, random_state=0
    ),
    "Gaussian mixture": BayesianGMMAutoEncoder(5, model_temperature=0, random_state=0),
}
spread = train + np.random.default_rng(1).uniform(-1 / 32, 1 / 32, train.shape)
for model in models.values():
    model.fit(spread)

# %%
# The projection on principal axes is given an advantage: the number of axes that is best for the
# test digits is chosen with their clean versions at hand.

pcas = [PCA(n_axes).fit(train) for n_axes in (5, 10, 15, 20, 30, 40)]


def decibels(found):
    """Return the ratio of the largest signal to the error."""
    return -10 * np.log10(np.mean((found - test) ** 2))


def projected(noisy):
    """Return the best of the projections."""
    return max((pca.inverse_transform(pca.transform(noisy)) for pca in pcas), key=decibels)


strengths = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
rng = np.random.default_rng(0)
ratios = {"noisy": [], "projection": []} | {name: [] for name in models}
for strength in strengths:
    noisy = test + strength * rng.standard_normal(test.shape)
    cleaned = {"noisy": noisy, "projection": projected(noisy)}
    for name, model in models.items():
        cleaned[name] = model.denoise(noisy, noise_variance=strength**2)
    for name, rows in cleaned.items():
        ratios[name].append(decibels(rows))
    if strength == 0.4:
        shown = cleaned

print("signal to noise in decibels; standard deviation of the noise", strengths)
for name, values in ratios.items():
    print(f"{name:>18s}", " ".join(f"{value:5.1f}" for value in values))

# %%
# A digit of each kind, with noise of standard deviation 0.4
# ----------------------------------------------------------

chosen = [np.flatnonzero(y_test == digit)[1] for digit in range(10)]
lines = {"clean": test} | shown
figure, axes = plt.subplots(len(lines), 10, figsize=(8.4, 4.9), layout="constrained")
for row, (name, rows) in zip(axes, lines.items(), strict=True):
    for ax, image in zip(row, rows[chosen], strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
plt.show()

# %%
# For noise of any strength
# -------------------------
# One fit serves all strengths: the noise is told to ``denoise``, not to ``fit``. Probabilistic PCA
# gains a decibel or more on the projection from 0.2 on, since it shrinks coordinates by what the
# noise makes unsure, and mixtures gain two or more, since they know of kinds of digits.

figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
colours = ["0.5", "#E69F00", "#56B4E9", "#009E73", "#D55E00"]
for (name, values), colour, marker in zip(ratios.items(), colours, "xso^D", strict=True):
    ax.plot(strengths, values, f"{marker}-", color=colour, label=name)
ax.set(xlabel="standard deviation of the noise (white is 0, black is 1)")
ax.set(ylabel="signal to noise (dB)", title="597 digits that no model has seen")
ax.legend()
plt.show()
