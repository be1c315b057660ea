"""Time per pass of BayesianVAEAutoEncoder against the same model in torch, on the CPU.

``python benchmarks/vae.py [--threads 1] [--repetitions 9] [--quality [--seeds 8]]``. Binarised
digits, a net 64-128-8 with tanh, Adam, batches of 100 rows, single precision; importance samples 1
and 10. The difference of a long and a short fit is timed, so that starts and final scores do not
count; fits alternate, and medians are compared. torch is the CPU build (the ``bench`` extra).

``--quality`` fits for the figures of the documentation: test log likelihood over several seeds, of
single models and of sampled ones, and reconstructions at temperature zero; then what `alpha` does
within the training rows. These are cut into four blocks of successive rows, each in turn held out:
digits come writer by writer, so that blocks ask for other writers, as the test rows do.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from skbae import BayesianVAEAutoEncoder

N_TRAIN = 1400
N_DRAWS = 1024
SHORT, LONG = 2, 32
SAMPLED = {
    "model_temperature": 0.3,
    "weight_variance_prior": 10.0,
    "n_models": 100,
    "n_importance_samples": 5,
    "max_iter": 200,
}
# Name, parameters, and the fraction of the seeds that is run.
SETTINGS = [
    ("defaults", {}, 1),
    ("no penalty", {"alpha": 0.0}, 1),
    ("50 importance samples", {"n_importance_samples": 50, "max_iter": 300}, 4),
    ("small batches", {"alpha": 3.0, "batch_size": 25, "n_importance_samples": 20}, 2),
    ("early stopping", {"early_stopping": True, "max_iter": 300}, 2),
    ("models sampled", SAMPLED, 3),
]


def binary_digits():
    X = (load_digits().data > 7).astype(np.float64)
    return X[:N_TRAIN], X[N_TRAIN:]


def ours(X, n_samples, n_passes):
    BayesianVAEAutoEncoder(
        8,
        likelihood="bernoulli",
        n_importance_samples=n_samples,
        n_score_samples=1,
        max_iter=n_passes,
        tol=0,
        n_iter_no_change=n_passes,
        random_state=0,
    ).fit(X)


def torch_model():
    """Return encoder and decoder, written in the usual way."""
    from torch import nn

    encoder = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 16))
    decoder = nn.Sequential(nn.Linear(8, 128), nn.Tanh(), nn.Linear(128, 64))
    return encoder, decoder


def theirs(X, n_samples, n_passes):
    import torch
    from torch.nn import functional

    torch.manual_seed(0)
    encoder, decoder = torch_model()
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    rows = torch.as_tensor(X, dtype=torch.float32)
    for _ in range(n_passes):
        for index in torch.randperm(len(rows)).split(100):
            x = rows[index]
            mean, log_deviation = encoder(x).chunk(2, dim=1)
            noise = torch.randn(n_samples, *mean.shape)
            z = mean + log_deviation.exp() * noise
            logits = decoder(z)
            log_likelihood = -functional.binary_cross_entropy_with_logits(
                logits, x.expand_as(logits), reduction="none"
            ).sum(2)
            log_weights = log_likelihood - 0.5 * (z**2).sum(2)
            log_weights = log_weights + 0.5 * (noise**2).sum(2) + log_deviation.sum(1)
            loss = -torch.logsumexp(log_weights, 0).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()


def per_pass(fit, X, n_samples):
    taken = []
    for n_passes in (SHORT, LONG):
        begin = time.perf_counter()
        fit(X, n_samples, n_passes)
        taken.append(time.perf_counter() - begin)
    return (taken[1] - taken[0]) / (LONG - SHORT)


def compare(threads, repetitions):
    import torch

    torch.set_num_threads(threads)
    X, _ = binary_digits()
    print(f"torch {torch.__version__}, numpy {np.__version__}, {threads} thread(s)")
    print(f"{'samples':>8s} {'torch':>9s} {'skbae':>9s} {'ratio':>6s}  (range)")
    for n_samples in (1, 10):
        for fit in (theirs, ours):
            fit(X, n_samples, 1)  # warm up
        times = []
        for repetition in range(repetitions):
            order = [theirs, ours] if repetition % 2 else [ours, theirs]
            taken = {fit: per_pass(fit, X, n_samples) for fit in order}
            times.append((taken[theirs], taken[ours]))
        torch_times, our_times = np.array(times).T
        ratios = torch_times / our_times
        print(
            f"{n_samples:8d} {np.median(torch_times) * 1e3:7.1f}ms "
            f"{np.median(our_times) * 1e3:7.1f}ms "
            f"{np.median(torch_times) / np.median(our_times):6.2f}  "
            f"({ratios.min():.2f}-{ratios.max():.2f})",
            flush=True,
        )


def fit_digits(train, test, seed, **changes):
    """Return the test log likelihood, the fitted model and the seconds that it took.

    A single model is scored with so many draws that their number does not matter much: the default
    number is some hundredths of a nat low, or a tenth. Sampled models share theirs.
    """
    begin = time.perf_counter()
    fitted = BayesianVAEAutoEncoder(8, likelihood="bernoulli", random_state=seed, **changes)
    fitted.fit(train)
    taken = time.perf_counter() - begin
    n_samples = None if hasattr(fitted, "sampling_") else N_DRAWS
    return fitted.score_samples(test, n_samples=n_samples).mean(), fitted, taken


def summary(scores):
    return f"worst {min(scores):8.3f}  mean {np.mean(scores):8.3f}  best {max(scores):8.3f}"


def likelihoods(n_seeds):
    train, test = binary_digits()
    print("\nbinarised digits: test log likelihood, Hmaxe of the training rows, passes, seconds")
    for name, changes, share in SETTINGS:
        scores = []
        for seed in range(max(1, n_seeds // share)):
            score, fitted, taken = fit_digits(train, test, seed, **changes)
            scores.append(score)
            verdict = ""
            if hasattr(fitted, "sampling_"):
                sampling = fitted.sampling_
                verdict = f"{sampling.status}, R-hat {sampling.rhat:.2f}, ESS {sampling.ess:.0f}"
            print(
                f"{name:24s} {seed} {score:8.3f} {fitted.hmaxe_:8.3f} "
                f"{len(fitted.loss_curve_):5d} {taken:6.1f} {verdict}",
                flush=True,
            )
        print(f"{name:24s}   {summary(scores)}", flush=True)


def reconstructions(n_seeds):
    X = load_digits().data / 16
    held = X[N_TRAIN:]

    def error(model):
        return np.mean((held - model.inverse_transform(model.transform(held))) ** 2)

    linear = error(PCA(8).fit(X[:N_TRAIN]))
    print("\ndigits / 16 at temperature 0: squared error of rows held out, over that of PCA")
    for seed in range(n_seeds):
        fitted = BayesianVAEAutoEncoder(8, temperature=0, random_state=seed).fit(X[:N_TRAIN])
        print(f"{seed} {error(fitted) / linear:6.3f}", flush=True)


def choice_of_alpha():
    train, _ = binary_digits()
    print("\nalpha: log likelihood of each of four blocks of the training rows, held out; mean")
    for alpha in (0.0, 0.5, 1.0, 2.0, 4.0):
        scores = [
            fit_digits(train[kept], train[out], seed, alpha=alpha)[0]
            for seed, (kept, out) in enumerate(KFold(4).split(train))
        ]
        shown = " ".join(f"{score:8.3f}" for score in scores)
        print(f"{alpha:4.1f} {shown}  {np.mean(scores):8.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--seeds", type=int, default=8, help="of the fits for --quality")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0 asks for every pass
    with threadpool_limits(options.threads):
        compare(options.threads, options.repetitions)
        if options.quality:
            likelihoods(options.seeds)
            reconstructions(max(1, options.seeds // 2))
            choice_of_alpha()


if __name__ == "__main__":
    main()
