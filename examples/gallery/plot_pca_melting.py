"""
PCA, probabilistic PCA, and how directions melt
===============================================

PCA projects rows onto a few directions; probabilistic PCA says how probable rows are, and shrinks
their coordinates by the noise. Again these are one model at two temperatures of its code. You learn
what lies between and above: as the code is heated, one direction after the other melts into the
noise, the weakest first, at temperatures that are known beforehand.
"""

# %%
# Handwritten digits
# ------------------
# 1797 images of 8 x 8 pixels with grey levels from 0 to 16, and 20 directions.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skbae import BayesianPCAAutoEncoder
from skbae.thermodynamics import critical_temperatures

X = load_digits().data


def fit(temperature):
    """Return the best model of 20 directions at a temperature of the code."""
    return BayesianPCAAutoEncoder(20, temperature=temperature, model_temperature=0).fit(X)


# %%
# The two ends that everybody knows
# ---------------------------------
# At T = 0 coordinates are those of scikit-learn's ``PCA``; at T = 1 the log density is that of
# probabilistic PCA, which ``PCA.score`` computes, but for variances, which scikit-learn divides by
# N - 1 and skbae by N.

pca = PCA(20).fit(X)
cold, warm = fit(0.0), fit(1.0)
coordinates = np.abs(cold.transform(X)) - np.abs(pca.transform(X))
print(f"T = 0: coordinates differ from those of PCA by {np.abs(coordinates).max():.1e} at most")
print(f"T = 1: log density {warm.score(X):.3f} nats an image, by scikit-learn {pca.score(X):.3f}")

# %%
# Directions melt
# ---------------
# A coordinate along a direction of variance :math:`\lambda` is multiplied by
# :math:`1 - T \sigma^2 / \lambda`, where :math:`\sigma^2` is the variance of the noise at this
# temperature. At the critical temperature nothing is left of it.

melting = critical_temperatures(warm, X).temperatures
temperatures = np.arange(101) / 10
models = [fit(temperature) for temperature in temperatures]
remains = np.array([1 - model.noise_variance_ * model.component_precisions_ for model in models])
errors = [np.mean((X - model.inverse_transform(model.transform(X))) ** 2) for model in models]

print("melting temperatures:", " ".join(f"{value:.1f}" for value in melting))
for temperature in (1, 2, 4, 8):
    left = np.sum(remains[temperatures == temperature] > 1e-9)
    print(f"T = {temperature}: {left:2d} directions left, {np.sum(melting > temperature)} foreseen")

# %%
# The upper picture has a line for each direction: what remains of its coordinate. Triangles mark
# the critical temperatures. Below it is the error of reconstructions, which is least at T = 0 and
# ends at the variance of the pixels, when nothing is left but the mean image.

figure, (upper, lower) = plt.subplots(
    2, 1, figsize=(8, 6), sharex=True, layout="constrained", height_ratios=[2, 1]
)
shades = plt.colormaps["viridis"](np.linspace(0, 0.9, remains.shape[1]))
for j, colour in enumerate(shades):
    upper.plot(temperatures, remains[:, j], color=colour)
    upper.plot(melting[j], 0, "^", color=colour, clip_on=False, ms=8, zorder=3)
upper.set(xlim=(0, 10), ylim=(0, 1.02), ylabel="what remains of the coordinate")
upper.set_title("Directions melt: from PCA (T = 0) to nothing")
upper.text(7.2, 0.42, "direction 0")
upper.text(0.3, 0.42, "direction 19")
lower.plot(temperatures, errors, color="#D55E00", label="reconstructions")
lower.axhline(X.var(axis=0).mean(), color="0.5", ls="--", label="mean image alone")
lower.set(xlabel="temperature of the code", ylabel="squared error\n(grey levels²)")
lower.legend(loc="lower right")
plt.show()

# %%
# What is seen of a digit
# -----------------------
# The same eight digits, decoded from their codes at four temperatures.

shown = {"original": X[:8]}
for temperature in (0, 1, 3, 6):
    model = models[np.flatnonzero(temperatures == temperature)[0]]
    shown[f"T = {temperature}"] = model.inverse_transform(model.transform(X[:8]))
figure, axes = plt.subplots(len(shown), 8, figsize=(7, 4.4), layout="constrained")
for line, (name, images) in zip(axes, shown.items(), strict=True):
    for ax, image in zip(line, images, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.suptitle("Digits decoded from codes of rising temperature")
plt.show()
