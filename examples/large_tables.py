"""Tables that are not arrays in memory: read from disk piece by piece, sparse, or blocks of dask.

Run ``python examples/large_tables.py``; it takes some seconds. The last part needs dask.
"""

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
from scipy import sparse

from skbae import BayesianGMMAutoEncoder, BayesianPCAAutoEncoder

rng = np.random.default_rng(0)
centres = 3 * rng.normal(size=(4, 10))

# Rows on disk: a memory map of 80 MB is fitted in a tenth of that.
with tempfile.TemporaryDirectory() as folder:
    table = np.lib.format.open_memmap(Path(folder) / "X.npy", "w+", np.float64, (1_000_000, 10))
    for start in range(0, len(table), 50_000):
        piece = slice(start, start + 50_000)
        table[piece] = rng.normal(size=(50_000, 10)) + centres[rng.integers(4, size=50_000)]
    tracemalloc.start()
    model = BayesianGMMAutoEncoder(4, model_temperature=0, covariance_type="diag", random_state=0)
    model.fit(table)
    labels = np.lib.format.open_memmap(Path(folder) / "labels.npy", "w+", np.intp, (1_000_000,))
    model.predict(table, out=labels)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(f"rows on disk: {table.nbytes / 1e6:.0f} MB fitted and labelled in {peak:.0f} MB")
    print(f"  rows of each component: {np.bincount(labels).tolist()}")

# Sparse rows: words of documents about two subjects, most of them absent.
rates = rng.gamma(0.1, size=(2, 2000)) * 0.1
subjects = rng.integers(2, size=3000)
words = sparse.csr_array(rng.poisson(rates[subjects]).astype(float))
pca = BayesianPCAAutoEncoder(2, temperature=0, random_state=0).fit(words)
mixture = BayesianGMMAutoEncoder(
    2, model_temperature=0, covariance_type="spherical", random_state=0, n_init=3
)
agreement = np.mean(mixture.fit_predict(words) == subjects)
print(f"sparse rows: {words.nnz} of {words.shape[0] * words.shape[1]} entries")
print(f"  PCA explains {pca.explained_variance_ratio_.sum():.2f} of the variance")
print(f"  components agree with subjects in {max(agreement, 1 - agreement):.3f} of the documents")

# Rows on many machines: here, blocks of rows and threads of this one.
try:
    import dask.array as da
except ImportError:
    print("dask is not installed")
else:
    X = rng.normal(size=(200_000, 10)) + centres[rng.integers(4, size=200_000)]
    blocks = da.from_array(X, chunks=(25_000, 10))
    model = BayesianGMMAutoEncoder(4, model_temperature=0, random_state=0)
    apart = abs(model.fit(blocks).means_ - model.fit(X).means_).max()
    print(f"dask: {blocks.numblocks[0]} blocks; means are those of a fit in memory to {apart:.0e}")
    print(f"  {model.score_samples(blocks)}")
