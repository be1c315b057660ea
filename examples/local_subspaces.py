"""A curved surface by flat pieces: local subspaces of a data set in three dimensions.

Rows lie near a curved sheet in the shape of an S. A mixture of PCA approximates it by small planes;
the code of a row is a plane and a position on it. The number of planes is selected by the density
of rows held out. Run it with ``python examples/local_subspaces.py [picture.png]``; it takes a few
seconds, and needs matplotlib.
"""

import sys

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_s_curve

from skbae import BayesianMixturePCAAutoEncoder

PICTURE = sys.argv[1] if len(sys.argv) > 1 else "local_subspaces.png"
NOISE = 0.05

X, position = make_s_curve(2000, noise=NOISE, random_state=0)
X_new, _ = make_s_curve(2000, noise=NOISE, random_state=1)


def error(model):
    """Return the root mean square distance of new rows to their reconstructions."""
    again = model.inverse_transform(model.transform(X_new))
    return np.sqrt(((X_new - again) ** 2).sum(axis=1).mean())


print(f"rows are scattered by {NOISE} off the surface; of new rows, in nats and in units of X:")
fits = {}
for n_components in (1, 2, 4, 8, 16, 32):
    # T = 1: the model has a density, and planes are as large as the spread of their rows
    fits[n_components] = model = BayesianMixturePCAAutoEncoder(
        n_components,
        n_latent=2,
        temperature=1,
        model_temperature=0,
        n_init=10,
        max_iter=500,
        random_state=0,
    ).fit(X)
    print(
        f"{n_components:2d} planes: log density {model.score(X_new):7.3f}, "
        f"distance to the reconstruction {error(model):.3f}"
    )

# T = 0: each row is assigned to the nearest plane. Planes are infinite, so that a row may be
# assigned to one whose other rows are far away.
hard = BayesianMixturePCAAutoEncoder(
    8,
    n_latent=2,
    temperature=0,
    equal_weights=True,
    tied_noise=True,
    n_init=10,
    max_iter=500,
    random_state=0,
).fit(X)
print(f" 8 planes at T = 0: distance to the reconstruction {error(hard):.3f}")

figure = plt.figure(figsize=(12, 4.4))
for place, n_components in enumerate((1, 4, 16), start=1):
    model = fits[n_components]
    axes = figure.add_subplot(1, 3, place, projection="3d", computed_zorder=False)
    labels, colours = model.predict(X), plt.get_cmap("turbo")(np.linspace(0.05, 0.95, n_components))
    order = np.argsort([position[labels == k].mean() for k in range(n_components)])
    for colour, k in zip(colours, order, strict=True):
        axes.scatter(*X[labels == k].T, s=4, color=colour, alpha=0.5, linewidths=0, zorder=1)
        # where a component's rows are on its plane: 1.7 deviations each way, as if spread evenly
        half = 1.7 * np.sqrt(model.explained_variance_[k])[:, None] * model.components_[k]
        corners = [a * half[0] + b * half[1] for a, b in ((-1, -1), (-1, 1), (1, -1), (1, 1))]
        patch = (model.means_[k] + np.array(corners)).reshape(2, 2, 3)
        axes.plot_surface(*np.moveaxis(patch, 2, 0), color=colour, alpha=0.55, shade=False)
    axes.set_title(f"{n_components} plane{'s' * (n_components > 1)}", y=1.03)
    axes.view_init(elev=14, azim=-68)
    axes.set_axis_off()
    axes.set_box_aspect(np.ptp(X, axis=0), zoom=1.2)
figure.subplots_adjust(left=0, right=1, bottom=0, top=0.92, wspace=0)
figure.savefig(PICTURE, dpi=100)
print(f"saved {PICTURE}")
