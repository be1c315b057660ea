"""One grid for whole families: mixtures, PCA and mixtures of PCA as values of a Pipeline's step.

Family and size are selected twice: by the evidence of all rows, with none held out, and by Hmaxemax
on rows held out. Both are densities of the same rows, so that different families are comparable.
Run it with ``python examples/compare_families.py``; it takes some minutes.
"""

import warnings

from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
)
from skbae.model_selection import InSample, evidence_scorer, hmaxemax_scorer

X = load_iris().data
pipeline = Pipeline([("scale", StandardScaler()), ("model", BayesianGMMAutoEncoder())])
grid = [
    {
        "model": [BayesianGMMAutoEncoder(random_state=0)],
        "model__n_components": [1, 2, 3],
        "model__covariance_type": ["full", "diag"],
    },
    {
        "model": [BayesianPCAAutoEncoder(random_state=0)],
        "model__n_components": [1, 2, 3],
    },
    {
        "model": [BayesianMixturePCAAutoEncoder(random_state=0)],
        "model__n_components": [2, 3],
        "model__n_latent": [1, 2],
    },
]


def search(scoring, cv):
    """Fit all candidates; exceptions are raised instead of giving NaN scores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the status is printed below
        return GridSearchCV(pipeline, grid, scoring=scoring, cv=cv, error_score="raise").fit(X)


def describe(candidate):
    """Return a candidate's name."""
    settings = {key[7:]: value for key, value in candidate.items() if key != "model"}
    family = type(candidate["model"]).__name__[len("Bayesian") : -len("AutoEncoder")]
    return f"{family}({', '.join(f'{key}={value}' for key, value in settings.items())})"


by_evidence = search(evidence_scorer, InSample())
by_held_out = search(hmaxemax_scorer, KFold(5, shuffle=True, random_state=0))

print("150 irises; nats an iris, in the units of the data, larger is better\n")
print(f"{'candidate':52s} {'evidence':>9s} {'held out (spread)':>20s}")
rows = zip(
    by_evidence.cv_results_["params"],
    by_evidence.cv_results_["mean_test_score"],
    by_held_out.cv_results_["mean_test_score"],
    by_held_out.cv_results_["std_test_score"],
    strict=True,
)
for candidate, evidence, held_out, spread in sorted(rows, key=lambda row: -row[1]):
    print(f"{describe(candidate):52s} {evidence:9.3f} {held_out:12.3f} ({spread:.3f})")

for title, found in (("by evidence", by_evidence), ("by rows held out", by_held_out)):
    best = found.best_estimator_[-1]
    print(f"\nchosen {title}: {describe(found.best_params_)}")
    print(
        f"   log evidence {best.log_evidence_:.2f} +- {best.sampling_.log_evidence_error:.2f} "
        f"(in scaled units), sampling {best.sampling_.status}"
    )
