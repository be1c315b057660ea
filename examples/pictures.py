"""Pictures of fitted models, with ``skbae.plotting``.

On scikit-learn's irises and digits, all in one figure. Run it with ``python examples/pictures.py
[picture.png]``; it takes some seconds, needs no display, and needs matplotlib.
"""

import sys

import matplotlib as mpl
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV

from skbae import BayesianGMMAutoEncoder, BayesianPCAAutoEncoder
from skbae.model_selection import InSample, evidence_scorer
from skbae.plotting import (
    CodesDisplay,
    ComponentsDisplay,
    FreeEnergyDisplay,
    ModelSelectionDisplay,
    ReconstructionDisplay,
    SamplingDisplay,
)

mpl.use("Agg")  # to a file, without a display
import matplotlib.pyplot as plt

PICTURE = sys.argv[1] if len(sys.argv) > 1 else "pictures.png"
X = load_iris(as_frame=True).data
images = load_digits().data
figure, axes = plt.subplots(4, 2, figsize=(13, 17), layout="constrained")

# -- 1. codes and components of a mixture ----------------------------------------------------------

mixture = BayesianGMMAutoEncoder(3, model_temperature=0, n_init=5, random_state=0).fit(X)
petals = ("petal length (cm)", "petal width (cm)")
ComponentsDisplay.from_estimator(mixture, X, features=petals, ax=axes[0, 0])
CodesDisplay.from_estimator(mixture, X, ax=axes[0, 1])

# -- 2. images: loadings and reconstructions -------------------------------------------------------

pca = BayesianPCAAutoEncoder(12, model_temperature=0).fit(images)
ComponentsDisplay.from_estimator(pca, image_shape=(8, 8), ax=axes[1, 0])
ReconstructionDisplay.from_estimator(pca, images, image_shape=(8, 8), ax=axes[1, 1])

# -- 3. how many components, by the evidence, and whether the sampling can be trusted --------------


def error_bar(model, X, y=None):
    """Return the standard error of what evidence_scorer returns."""
    return model.hmaxemax_error_


search = GridSearchCV(
    BayesianGMMAutoEncoder(random_state=0),
    {"n_components": [1, 2, 3], "covariance_type": ["full", "tied"]},
    scoring={"evidence": evidence_scorer, "error": error_bar},
    refit="evidence",
    cv=InSample(),
    error_score="raise",
).fit(X)
ModelSelectionDisplay.from_cv_results(search, score="evidence", error="error", ax=axes[2, 0])
SamplingDisplay.from_estimator(search, ax=axes[2, 1])

# -- 4. free energy, as models cool ----------------------------------------------------------------

taus = [150, 60, 25, 10, 4, 2, 1]
one = BayesianGMMAutoEncoder(1, random_state=0)
display = FreeEnergyDisplay.from_estimator(one, X, model_temperatures=taus, ax=axes[3, 0])
FreeEnergyDisplay.from_curve(display.curve, quantities="heat_capacity", ax=axes[3, 1])

for ax, title in zip(
    axes.flat,
    [
        "components of a mixture",
        "codes: soft components",
        "directions of PCA",
        "reconstructions by 12 directions",
        "how many components",
        None,  # SamplingDisplay has the verdict there
        "free energy of one component",
        "heat capacity: half the parameters",
    ],
    strict=True,
):
    if title:
        ax.set_title(title)
figure.savefig(PICTURE, dpi=110)
print(f"saved {PICTURE}; chosen by the evidence: {search.best_params_}")
