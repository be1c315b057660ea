"""Sampling the models: effective draws per second, evidence, and cost for many rows.

Three parts, chosen with ``--parts``:

``draws``     effective draws of ``Hmaxe`` a second against NumPyro's NUTS on the same posterior
              (codes summed out, compiled); their number by the same estimator for both. Our time is
              that of a whole default fit: starts, burn-in, evidence, reference model.
``evidence``  time and error of the log evidence of the galaxies against nautilus and dynesty, which
              are given one of the K! equivalent orderings of the components (the integral is the
              same, and there is one mode where there were K!). Errors fall like one over the square
              root of time, so the figure of merit is time times squared error.
``long``      default fits of 100,000 and 10,000 rows against scikit-learn's GaussianMixture, the
              evidence against its Laplace approximation, and prediction with 50 models against one.

``pip install ".[bench]"`` brings the peers. Runs alternate, and what is printed are medians. Other
work on the machine disturbs both sides; ratios less than times.
"""

from __future__ import annotations

import argparse
import time
import warnings
from math import lgamma, log, pi, sqrt

import numpy as np
from _data import GALAXIES
from scipy import stats
from scipy.special import logsumexp
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_info, threadpool_limits

from skbae import BayesianGMMAutoEncoder
from skbae.estimators.gmm._fit import conjugate_energy
from skbae.inference.evidence._convergence import effective_sample_size
from skbae.inference.passes._rows import RowRunner, make_rows


def galaxies():
    """Return the galaxies' velocities and the prior of Hairault, Robert and Rousseau."""
    X = GALAXIES[:, None]
    prior = {
        "weight_concentration_prior": 1.0,
        "mean_precision_prior": 2.6 / np.ptp(X),
        "mean_prior": X.mean(axis=0),
        "degrees_of_freedom_prior": 2.56,
        "covariance_prior": 0.72 * X.var(axis=0)[None],
    }
    return X, prior


def overlapping():
    """Return 500 rows of four overlapping components in two dimensions, and the default prior."""
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.5, 3.5]])
    labels = rng.integers(4, size=500)
    X = means[labels] + rng.standard_normal((500, 2)) @ np.array([[1.0, 0.4], [0.0, 0.8]])
    prior = {
        "weight_concentration_prior": 1.0,
        "mean_precision_prior": 0.01,
        "mean_prior": X.mean(axis=0),
        "degrees_of_freedom_prior": 4.0,
        "covariance_prior": np.cov(X.T, bias=True) / 4,
    }
    return X, prior


def seconds(function, *args):
    begin = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - begin, result


# -- effective draws -------------------------------------------------------------------------------


def nuts(X, prior, n_components, n_draws, method):
    """Return NumPyro's sampler of the mixture with codes summed out."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from jax.scipy.special import logsumexp as log_sum

    size = X.shape[1]
    data = jnp.asarray(X)
    scale = jnp.asarray(prior["covariance_prior"])
    strength, dof = prior["mean_precision_prior"], prior["degrees_of_freedom_prior"]
    concentration = jnp.full(n_components, prior["weight_concentration_prior"])

    def model():
        weights = numpyro.sample("weights", dist.Dirichlet(concentration))
        with numpyro.plate("components", n_components):
            if size == 1:
                precision = numpyro.sample("precision", dist.Gamma(dof / 2, scale[0, 0] / 2))
                factor = jnp.sqrt(precision)[:, None, None]
            else:
                wishart = dist.WishartCholesky(dof, rate_matrix=scale)
                factor = numpyro.sample("factor", wishart)
            noise = numpyro.sample("noise", dist.Normal(jnp.zeros(size), 1).to_event(1))
        # mean = prior's mean + L^-T noise / sqrt(strength): the same prior, and quicker than
        # drawing the mean itself
        shift = jnp.linalg.solve(jnp.swapaxes(factor, -1, -2), noise[..., None])[..., 0]
        means = jnp.asarray(prior["mean_prior"]) + shift / sqrt(strength)
        white = jnp.einsum("nkd,kde->nke", data[:, None] - means, factor)
        log_det = jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
        joint = jnp.log(weights) + log_det - 0.5 * (white**2).sum(axis=-1)
        energy = log_sum(joint, axis=1) - 0.5 * size * log(2 * pi)
        numpyro.deterministic("hmaxe", energy.mean())
        numpyro.factor("likelihood", energy.sum())

    return numpyro.infer.MCMC(
        numpyro.infer.NUTS(model),
        num_warmup=500,
        num_samples=n_draws,
        num_chains=4,
        chain_method=method,
        progress_bar=False,
    )


def run_nuts(sampler, seed):
    import jax

    sampler.run(jax.random.PRNGKey(seed))
    return np.asarray(sampler.get_samples(group_by_chain=True)["hmaxe"], dtype=np.float64)


def fit_ours(X, prior, n_components, seed):
    model = BayesianGMMAutoEncoder(n_components, random_state=seed, **prior)
    return model.fit(X)


def compare_draws(repetitions):
    print("\nEffective draws of Hmaxe a second, whole runs with warm-up (NUTS) and evidence (ours)")
    print(f"{'problem':28s} {'NUTS':>22s} {'with compiling':>15s} {'ours':>8s}", end="")
    print(f" {'ratio':>6s} {'with compiling':>15s}   mean Hmaxe of both")
    settings = [
        ("galaxies, K=3", *galaxies(), 3),
        ("galaxies, K=5", *galaxies(), 5),
        ("500 rows in 2-d, K=4", *overlapping(), 4),
    ]
    for name, X, prior, n_components in settings:
        choices = {}
        for method in ("vectorized", "sequential"):
            sampler = nuts(X, prior, n_components, 1000, method)
            compiling, draws = seconds(run_nuts, sampler, 0)
            rate = effective_sample_size(draws) / compiling
            taken, draws = seconds(run_nuts, sampler, 1)
            choices[method] = (effective_sample_size(draws) / taken, rate, sampler)
        method = max(choices, key=lambda each: choices[each][0])
        _, cold, sampler = choices[method]
        cold = max(each[1] for each in choices.values())
        fit_ours(X, prior, n_components, 0)
        theirs, ours, means = [], [], []
        for repetition in range(repetitions):
            taken, draws = seconds(run_nuts, sampler, 2 + repetition)
            theirs.append(effective_sample_size(draws) / taken)
            taken, model = seconds(fit_ours, X, prior, n_components, 1 + repetition)
            ours.append(model.sampling_.ess / taken)
            means.append((draws.mean(), model.internal_energy_))
        ratio = np.median(np.array(ours) / np.array(theirs))
        them, us = np.median(theirs), np.median(ours)
        agree = np.mean(means, axis=0)
        print(f"{name:28s} {them:8.0f} ({method:>10s}) {cold:15.0f} {us:8.0f}", end="")
        print(f" {ratio:6.0f} {us / cold:15.0f}   {agree[0]:.4f} {agree[1]:.4f}", flush=True)


# -- evidence --------------------------------------------------------------------------------------


class Cube:
    """The galaxies' mixture for nested samplers: a prior transform and a likelihood."""

    def __init__(self, X, prior, n_components):
        self.x, self.prior, self.n_components = X[:, 0], prior, n_components
        self.size = 3 * n_components - 1

    def transform(self, u):
        """Map the cube (..., size) to weights, means and precisions."""
        K, prior = self.n_components, self.prior
        u = np.asarray(u)
        # order statistics of K uniforms, so that the noises of means increase: one of K! orderings
        order = np.empty((*u.shape[:-1], K))
        largest = np.ones(u.shape[:-1])
        for k in range(K - 1, -1, -1):
            largest = largest * u[..., k] ** (1 / (k + 1))
            order[..., k] = largest
        noise = stats.norm.ppf(np.clip(order, 1e-15, 1 - 1e-15))
        dof, scale = prior["degrees_of_freedom_prior"], prior["covariance_prior"][0, 0]
        precision = stats.gamma.ppf(u[..., K : 2 * K], dof / 2, scale=2 / scale)
        precision = np.maximum(precision, 1e-300)
        mean = prior["mean_prior"][0] + noise / np.sqrt(prior["mean_precision_prior"] * precision)
        left = np.ones(u.shape[:-1])
        weights = np.empty_like(mean)
        for k in range(K - 1):  # breaking a stick: a flat Dirichlet
            share = 1 - (1 - u[..., 2 * K + k]) ** (1 / (K - 1 - k))
            weights[..., k] = left * share
            left = left * (1 - share)
        weights[..., K - 1] = left
        return np.concatenate([weights, mean, precision], axis=-1)

    def log_likelihood(self, theta):
        """Return the log likelihood of models (..., 3 K)."""
        theta = np.asarray(theta)
        weights, mean, precision = np.split(theta[..., None, :], 3, axis=-1)
        with np.errstate(divide="ignore"):
            joint = np.log(weights) + 0.5 * np.log(precision / (2 * pi))
        joint = joint - 0.5 * precision * (self.x[:, None] - mean) ** 2
        return logsumexp(joint, axis=-1).sum(axis=-1)


def run_nautilus(cube, seed):
    from nautilus import Sampler

    sampler = Sampler(
        cube.transform, cube.log_likelihood, n_dim=cube.size, vectorized=True, pass_dict=False,
        seed=seed,
    )  # fmt: skip
    sampler.run(n_eff=10_000, verbose=False)
    return sampler.log_z, 1 / sqrt(sampler.n_eff)


def run_dynesty(cube, seed):
    import dynesty

    sampler = dynesty.NestedSampler(
        lambda u: float(cube.log_likelihood(cube.transform(u))),
        lambda u: u,
        cube.size,
        nlive=500,
        sample="rslice",  # the default, uniform in ellipsoids, does not finish
        rstate=np.random.default_rng(seed),
    )
    sampler.run_nested(print_progress=False)
    return float(sampler.results.logz[-1]), float(sampler.results.logzerr[-1])


def run_ours(cube, seed):
    model = fit_ours(cube.x[:, None], cube.prior, cube.n_components, seed)
    return model.log_evidence_, model.sampling_.log_evidence_error


def compare_evidence(repetitions):
    print("\nLog evidence of the galaxies: medians of runs, cost = seconds x error^2")
    print(f"{'':12s} {'seconds':>8s} {'claimed error':>14s} {'mean':>10s} {'spread':>8s}", end="")
    print(f" {'error used':>11s} {'cost':>9s} {'over ours':>10s}")
    X, prior = galaxies()
    for n_components in (2, 3):
        cube = Cube(X, prior, n_components)
        rows = {"skbae": [], "nautilus": [], "dynesty": []}
        for repetition in range(max(repetitions, 2)):
            for name, run in (("skbae", run_ours), ("nautilus", run_nautilus),
                              ("dynesty", run_dynesty)):  # fmt: skip
                if name != "skbae" and repetition >= 1:
                    continue  # they take minutes, and their errors are what they claim
                taken, (value, error) = seconds(run, cube, repetition)
                rows[name].append((taken, error, value))
        cost = {}
        for name, found in rows.items():
            taken, error, value = np.array(found).T
            spread = value.std(ddof=1) if len(value) > 1 else np.nan
            # skbae: the larger of the spread over runs and the reported error; others: the reported
            # error
            used = max(np.median(error), spread) if name == "skbae" else np.median(error)
            cost[name] = np.median(taken) * used**2
            print(
                f"K={n_components} {name:8s} {np.median(taken):8.2f} {np.median(error):14.4f}",
                end="",
            )
            print(f" {value.mean():10.4f} {spread:8.4f} {used:11.4f} {cost[name]:9.2g}", end="")
            print(f" {cost[name] / cost['skbae']:10.0f}", flush=True)


# -- many rows -------------------------------------------------------------------------------------


def laplace(model, X):
    """Return log K! plus the Laplace approximation of the log evidence at the reference model.

    The Hessian is that of prior times likelihood, codes summed out, by differences of the gradient.
    """
    rows = make_rows(X, None)
    with RowRunner() as runner:
        energy = conjugate_energy(model._check_parameters(), rows, runner)
        params = type(model._parameters())(
            model.weights_[None],
            type(model._parameters().components)(
                model.means_[None], model._factors(model.precisions_cholesky_)
            ),
        )

        def target(theta):
            models = energy.constrain(theta)
            kernel = energy.expectation(models, rows.frame, np.float64, 1.0, 0.0)
            statistics = runner.reduce(kernel, rows)
            log_prior, gradient = energy.log_prior_at(theta)
            pull = energy.objective_gradient(theta, models, statistics, rows.total, 1.0)
            return log_prior + rows.total * statistics.objective, gradient + rows.total * pull

        mode = energy.unconstrain(params)[0]
        size = len(mode)
        step = 1e-4 / sqrt(len(X) / model.n_components)

        def curvature(mode):
            hessian = np.empty((size, size))
            for start in range(0, size, 16):
                part = np.eye(size)[start : start + 16] * 100 * step
                both = target(np.concatenate([mode + part, mode - part]))[1]
                hessian[start : start + 16] = np.subtract(*np.split(both, 2)) / (200 * step)
            return 0.5 * (hessian + hessian.T)

        # the reference is the mode in other coordinates: two Newton steps lead to ours
        for _ in range(2):
            mode = mode - np.linalg.solve(curvature(mode), target(mode[None])[1][0])
        sign, log_det = np.linalg.slogdet(-curvature(mode))
        if sign < 0:
            raise ValueError("the Hessian is not negative definite")
        value = target(mode[None])[0][0]
    # The sum of the gamma variables behind the weights is a coordinate of its own, with a known
    # integral: the error of Laplace's approximation of it (Stirling's series) is corrected.
    shape = model.n_components * float(model.weight_concentration_prior)
    stirling = (shape - 0.5) * log(shape) - shape + 0.5 * log(2 * pi)
    value += lgamma(shape) - stirling
    return lgamma(model.n_components + 1) + value + 0.5 * size * log(2 * pi) - 0.5 * log_det


def compare_long(repetitions):
    print("\nDefault fits of 10-d Gaussian blobs, K=5: seconds, and their ratio")
    print(f"{'rows':>8s} {'sklearn':>8s} {'skbae':>8s} {'ratio':>6s} {'(range)':>13s}", end="")
    print(f" {'log evidence':>13s} {'error':>7s} {'minus Laplace':>14s} {'status':>8s}")
    predictions = []
    for n_rows in (10_000, 100_000):
        X, _ = make_blobs(n_rows, 10, centers=5, random_state=0)
        BayesianGMMAutoEncoder(5, model_temperature=0, max_iter=1).fit(X)
        times = []
        for repetition in range(repetitions):
            theirs, _ = seconds(GaussianMixture(5, random_state=repetition).fit, X)
            ours, model = seconds(BayesianGMMAutoEncoder(5, random_state=repetition).fit, X)
            times.append((theirs, ours))
        theirs, ours = np.median(times, axis=0)
        ratios = np.array([b / a for a, b in times])
        spread = f"({ratios.min():.1f}-{ratios.max():.1f})"
        difference = model.log_evidence_ - laplace(model, X)
        print(
            f"{n_rows:8d} {theirs:8.3f} {ours:8.2f} {np.median(ratios):6.1f} {spread:>13s}", end=""
        )
        print(f" {model.log_evidence_:13.2f} {model.sampling_.log_evidence_error:7.0e}", end="")
        print(f" {difference:14.4f} {model.sampling_.status:>8s}", flush=True)
        single = BayesianGMMAutoEncoder(5, model_temperature=0, random_state=0).fit(X)
        for name in ("predict_proba", "score_samples"):
            taken = []
            for _ in range(repetitions):
                one, _ = seconds(getattr(single, name), X)
                many, _ = seconds(getattr(model, name), X)
                taken.append((one, many, many / one))
            predictions.append((n_rows, name, *np.median(taken, axis=0)))
    print("\nPrediction with 50 kept models against one: milliseconds")
    for n_rows, name, one, many, ratio in predictions:
        print(f"{n_rows:8d} {name:14s} {one * 1e3:8.1f} {many * 1e3:8.1f} {ratio:6.1f}")


PARTS = {"draws": compare_draws, "evidence": compare_evidence, "long": compare_long}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=None, help="of BLAS, and of our passes")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # the status is printed
    with threadpool_limits(options.threads):
        pools = {(pool["internal_api"], pool["num_threads"]) for pool in threadpool_info()}
        print("threads:", ", ".join(f"{api} {number}" for api, number in sorted(pools)))
        for part in options.parts:
            PARTS[part](options.repetitions)


if __name__ == "__main__":
    main()
