"""One model at three temperatures: digits, coded and decoded at T = 0, 0.5 and 1.

At T = 0 a digit is projected onto the nearest of eight small subspaces: the reconstruction is the
best there is. As codes warm up, coordinates shrink by the noise and the choice of the subspace
softens; at T = 1 the model is a density, which can be sampled. Run it with ``python
examples/digits_reconstructions.py [picture.png]``; it takes a few seconds, and needs matplotlib.
"""

import sys

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skbae import BayesianMixturePCAAutoEncoder
from skbae.model_selection import hmaxemax_scorer

PICTURE = sys.argv[1] if len(sys.argv) > 1 else "digits_reconstructions.png"
N_COMPONENTS, N_LATENT = 8, 5

X, digits = load_digits(return_X_y=True)
train, test, labels = X[:1400], X[1400:], digits[1400:]

pca = PCA(N_LATENT).fit(train)
pictures = {
    "original": test,
    f"PCA({N_LATENT})": pca.inverse_transform(pca.transform(test)),
}
print("mean squared error of a held-out image, and log density of one, in nats")
baseline = ((test - pictures[f"PCA({N_LATENT})"]) ** 2).sum(axis=1).mean()
print(f"PCA({N_LATENT}):  {baseline:6.1f}   {pca.score(test):8.2f}")

for temperature in (0.0, 0.5, 1.0):
    model = BayesianMixturePCAAutoEncoder(
        N_COMPONENTS,
        n_latent=N_LATENT,
        temperature=temperature,
        model_temperature=0,
        n_init=5,
        max_iter=500,
        random_state=0,
    ).fit(train)
    again = model.inverse_transform(model.transform(test))
    pictures[f"T = {temperature:g}"] = again
    error = ((test - again) ** 2).sum(axis=1).mean()
    density = hmaxemax_scorer(model, test)  # at T = 1, whatever the temperature of the fit
    shrink = 1 - model.noise_variance_[:, None] * model.component_precisions_
    # at T = 0 the model has no density, and the score is minus infinity
    print(
        f"T = {temperature:3.1f}: {error:6.1f}   {density:8.2f}   coordinates shrink by up to "
        f"{1 - shrink.min():.0%}, certain of the component: "
        f"{(model.predict_proba(test).max(axis=1) > 0.99).mean():.0%} of images"
    )

# the last model, at T = 1, has a density: draw rows from it
drawn, codes = model.sample(10, random_state=0)
pictures["drawn at T = 1"] = drawn

chosen = [np.flatnonzero(labels == digit)[3] for digit in range(10)]
figure, axes = plt.subplots(len(pictures), 10, figsize=(7.2, 0.78 * len(pictures)))
for row, (name, images) in enumerate(pictures.items()):
    shown = images if name.startswith("drawn") else images[chosen]
    for column, image in enumerate(shown):
        axes[row, column].imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axes[row, column].set_axis_off()
    axes[row, 0].text(-1.0, 3.5, name, ha="right", va="center", fontsize=9)
figure.subplots_adjust(left=0.2, right=0.99, top=0.99, bottom=0.01, wspace=0.05, hspace=0.08)
figure.savefig(PICTURE, dpi=130)
print(f"saved {PICTURE}")
