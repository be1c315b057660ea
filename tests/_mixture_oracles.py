"""Brute-force answers for Bayesian mixtures: priors by scipy, evidence by enumeration."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from _oracles import dense_covariances, joint_energies
from scipy.optimize import minimize
from scipy.special import gammaln, logsumexp, multigammaln
from scipy.stats import dirichlet, gamma, multivariate_normal, multivariate_t, norm, wishart

from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class MixturePrior:
    """A conjugate prior, as the user gives it; `covariance` in the shape of one covariance."""

    kind: str
    n_components: int
    mean: Any
    covariance: Any
    concentration: float = 1.0
    mean_precision: float = 0.01
    degrees_of_freedom: float = 4.0
    equal_weights: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """Constructor arguments of the estimator."""
        return {
            "n_components": self.n_components,
            "covariance_type": self.kind,
            "equal_weights": self.equal_weights,
            "weight_concentration_prior": self.concentration,
            "mean_precision_prior": self.mean_precision,
            "mean_prior": self.mean,
            "degrees_of_freedom_prior": self.degrees_of_freedom,
            "covariance_prior": self.covariance,
        }

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Draw weights (K,), means (K, D) and dense covariances (K, D, D)."""
        size, n = len(self.mean), self.n_components
        weights = np.full(n, 1 / n)
        if not self.equal_weights:
            weights = rng.dirichlet(np.full(n, self.concentration))
        shape = self.kind.removeprefix("tied_").replace("tied", "full")
        dof, covariances = self.degrees_of_freedom, []
        for _ in range(1 if self.kind.startswith("tied") else n):
            if shape == "full":
                scale = np.linalg.inv(np.atleast_2d(self.covariance))
                precision = np.atleast_2d(wishart.rvs(dof, scale, random_state=rng))
                covariances.append(np.linalg.inv(precision))
            else:  # one gamma a feature, or a single one
                rates = np.asarray(self.covariance, dtype=np.float64) / 2
                precisions = rng.gamma(dof / 2, 1 / rates)
                covariances.append(np.diag(np.broadcast_to(1 / precisions, (size,))))
        covariances = np.stack(covariances * (n // len(covariances)))
        means = [rng.multivariate_normal(self.mean, c / self.mean_precision) for c in covariances]
        return weights, np.stack(means), covariances


def _log_precision_integral(kind: str, dof: Array, scale: Array) -> Array:
    """Return ``log of the integral of |Lambda|^power exp(-tr(scale Lambda) / 2)``.

    The power is that of the prior with `dof`; scales are full matrices (..., D, D), of which
    diagonal kinds use the diagonal and spherical kinds the trace.
    """
    size = scale.shape[-1]
    if kind in ("full", "tied"):
        log_det = np.linalg.slogdet(scale)[1]
        return dof * size / 2 * np.log(2) - dof / 2 * log_det + multigammaln_each(dof / 2, size)
    if kind.endswith("diag"):
        rates = np.diagonal(scale, axis1=-2, axis2=-1) / 2
        return size * gammaln(dof / 2) - (dof[..., None] / 2 * np.log(rates)).sum(axis=-1)
    rate = np.trace(scale, axis1=-2, axis2=-1) / 2
    return gammaln(dof / 2) - dof / 2 * np.log(rate)


def multigammaln_each(a: Array, size: int) -> Array:
    """Return scipy's multivariate log gamma function for every entry of an array."""
    values, where = np.unique(a, return_inverse=True)
    return np.array([multigammaln(value, size) for value in values])[where].reshape(np.shape(a))


@dataclass(frozen=True)
class _Oracle:
    """What the marginal likelihood of an allocation is made of, given data and prior."""

    X: Array
    prior: MixturePrior
    heat: float

    @property
    def base(self) -> Array:
        """The prior's scale as a full matrix."""
        base, size = np.asarray(self.prior.covariance, dtype=np.float64), self.X.shape[1]
        if self.prior.kind.endswith("diag"):
            return np.diag(base)
        if self.prior.kind.endswith("spherical"):
            return np.eye(size) * base / size  # of which the trace counts
        return np.atleast_2d(base)

    def scatter(self, rows: Array) -> tuple[float, Array]:
        """Return the count of some of the rows, and what they add to the scale of the prior."""
        size, strength = self.X.shape[1], self.prior.mean_precision
        if not len(rows):
            return 0.0, np.zeros((size, size))
        n, centre = self.heat * len(rows), rows.mean(axis=0)
        deviations, shift = rows - centre, centre - np.asarray(self.prior.mean)
        within = self.heat * deviations.T @ deviations
        return n, within + strength * n / (strength + n) * np.outer(shift, shift)

    def of_precisions(self, n: Array, scatter: Array) -> Array:
        """Return the log ratio of a precision's integrals with and without rows."""
        kind, dof = self.prior.kind, self.prior.degrees_of_freedom
        degrees_per_row = self.X.shape[1] if kind.endswith("spherical") else 1
        after = _log_precision_integral(kind, dof + degrees_per_row * n, self.base + scatter)
        return after - _log_precision_integral(kind, np.asarray(dof), self.base)

    def log_joint(self, counts: Array, of_precisions: Array) -> Array:
        """Return the log joint of allocations, given counts (K, S) and precisions' part (S,)."""
        prior, (n_rows, size) = self.prior, self.X.shape
        n_components, heat, strength = prior.n_components, self.heat, prior.mean_precision
        total = of_precisions + size / 2 * np.log(strength / (strength + counts)).sum(axis=0)
        total = total - size * n_rows * heat / 2 * np.log(2 * np.pi)
        if prior.equal_weights:
            return total - n_rows * heat * np.log(n_components)
        alpha = prior.concentration
        total += gammaln(n_components * alpha) - gammaln(n_components * alpha + n_rows * heat)
        return total + (gammaln(alpha + counts) - gammaln(alpha)).sum(axis=0)


def enumerated_log_joints(
    X: Any, prior: MixturePrior, temperature: float = 1.0
) -> tuple[NDArray[np.intp], Array]:
    """Return all ``K^N`` allocations (K^N, N), in the order of their digits, and ``log p(X, z)``.

    The integral over models of ``prior(m) exp(sum of H(x, m, z) / T)`` is the conjugate marginal
    with every row counted ``1 / T`` times. Only for a dozen rows.
    """
    X = np.asarray(X, dtype=np.float64)
    (n_rows, size), n_components = X.shape, prior.n_components
    oracle = _Oracle(X, prior, 1 / temperature)
    # for every subset of the rows: how many, and what it adds to the scale
    n_subsets = 1 << n_rows
    counts, scatters = np.zeros(n_subsets), np.zeros((n_subsets, size, size))
    for subset in range(1, n_subsets):
        rows = X[[i for i in range(n_rows) if subset >> i & 1]]
        counts[subset], scatters[subset] = oracle.scatter(rows)
    allocations = np.indices((n_components,) * n_rows).reshape(n_rows, -1)
    powers = 1 << np.arange(n_rows)
    subsets = np.stack([powers @ (allocations == k) for k in range(n_components)])  # (K, K^N)
    if prior.kind.startswith("tied"):
        all_rows = np.full(subsets.shape[1], n_rows / temperature)
        of_precisions = oracle.of_precisions(all_rows, scatters[subsets].sum(axis=0))
    else:
        of_precisions = oracle.of_precisions(counts, scatters)[subsets].sum(axis=0)
    return allocations.T, oracle.log_joint(counts[subsets], of_precisions)


def allocation_log_joint(
    X: Any, labels: Any, prior: MixturePrior, temperature: float = 1.0
) -> float:
    """Return ``log p(X, z)`` of one allocation of any number of rows."""
    oracle = _Oracle(np.asarray(X, dtype=np.float64), prior, 1 / temperature)
    parts = [oracle.scatter(oracle.X[labels == k]) for k in range(prior.n_components)]
    counts = np.array([n for n, _ in parts])
    scatters = np.stack([scatter for _, scatter in parts])
    if prior.kind.startswith("tied"):
        of_precisions = oracle.of_precisions(counts.sum(), scatters.sum(axis=0))
    else:
        of_precisions = oracle.of_precisions(counts, scatters).sum()
    return float(oracle.log_joint(counts[:, None], np.array([of_precisions]))[0])


def enumerated_log_evidence(X: Any, prior: MixturePrior, temperature: float = 1.0) -> float:
    """Return ``log of the integral of prior(m) prod_x sum_k exp(H(x, m, k) / T)`` exactly.

    The product of sums is a sum over all ``K^N`` allocations.
    """
    return float(logsumexp(enumerated_log_joints(X, prior, temperature)[1]))


def model_joints(fitted: Any, X: Any) -> Array:
    """Return H under every kept model from the public ``models_``, (S, N, K)."""
    X = np.asarray(X, dtype=np.float64)
    n_components, n_features = fitted.models_.means.shape[1:]
    return np.stack(
        [
            joint_energies(
                X,
                fitted.models_.weights[s],
                fitted.models_.means[s],
                dense_covariances(
                    fitted.models_.covariances[s], n_components, n_features, fitted.covariance_type
                ),
            )
            for s in range(len(fitted.models_.weights))
        ]
    )


@dataclass(frozen=True)
class ImportanceSample:
    """Models of two components in one dimension, with importance weights.

    Attributes
    ----------
    theta : ndarray of shape (S, 5)
        Coordinates (logit w_1, mu_1, mu_2, log Lambda_1, log Lambda_2).
    log_weights : ndarray of shape (S,)
        ``log of prior(m) exp((N / tau) Hmaxe_T)`` over the density drawn from.
    hmaxe : ndarray of shape (S,)
    """

    theta: Array
    log_weights: Array
    hmaxe: Array

    @property
    def shares(self) -> Array:
        """Weights that sum to one."""
        weights = np.exp(self.log_weights - self.log_weights.max())
        return weights / weights.sum()

    @property
    def size(self) -> float:
        """Effective number of draws."""
        return float(1 / (self.shares**2).sum())

    @property
    def log_evidence(self) -> tuple[float, float]:
        """The log evidence and its standard error."""
        value = logsumexp(self.log_weights) - np.log(len(self.log_weights))
        return float(value), float(np.sqrt(1 / self.size - 1 / len(self.log_weights)))

    def mean(self, values: Array) -> tuple[float, float]:
        """Return the expectation of a function of models, and its standard error."""
        mean = self.shares @ values
        return float(mean), float(np.sqrt(self.shares**2 @ (values - mean) ** 2))


def importance_sample(
    x: Array,
    n_draws: int,
    *,
    concentration: float,
    strength: float,
    location: float,
    dof: float,
    scale: float,
    temperature: float = 1.0,
    model_temperature: float = 1.0,
    weights: Array | None = None,
    n_starts: int = 60,
    seed: int = 0,
) -> ImportanceSample:
    """Sample two components in one dimension by a method that shares nothing with the package.

    The density drawn from is a mixture of Student distributions around the modes that scipy's
    optimiser finds from many starts, one component a mode, labels exchanged too.
    """
    rng = np.random.default_rng(seed)
    heat = (np.ones(len(x)) if weights is None else weights) / model_temperature

    def log_prior_and_objective(theta: Array) -> tuple[Array, Array]:
        logit, mean, log_precision = theta[..., 0], theta[..., 1:3], theta[..., 3:5]
        precision = np.exp(log_precision)
        log_w = np.stack([-np.logaddexp(0, -logit), -np.logaddexp(0, logit)], axis=-1)
        joint = -0.5 * precision[..., None, :] * (x[:, None] - mean[..., None, :]) ** 2
        joint += (log_w + 0.5 * log_precision - 0.5 * np.log(2 * np.pi))[..., None, :]
        prior = gamma.logpdf(precision, dof / 2, scale=2 / scale) + log_precision
        prior = prior + norm.logpdf(mean, location, 1 / np.sqrt(strength * precision))
        of_weights = gammaln(2 * concentration) - 2 * gammaln(concentration)
        of_weights = of_weights + concentration * log_w.sum(axis=-1)  # in the logit
        if temperature == 0:
            of_rows = joint.max(axis=-1)
        else:
            pair = joint / temperature
            of_rows = temperature * np.logaddexp(pair[..., 0], pair[..., 1])
        return prior.sum(axis=-1) + of_weights, of_rows @ heat

    def descent(theta: Array) -> float:
        return -float(np.sum(log_prior_and_objective(theta)))

    modes: list[Any] = []
    for _ in range(n_starts):
        start = np.r_[rng.normal(), rng.choice(x, 2), rng.normal(-1, 1, size=2)]
        found = minimize(descent, start, method="BFGS")
        if not any(np.abs(found.x - mode.x).max() < 0.05 for mode in modes):
            modes.append(found)
    best = min(mode.fun for mode in modes)
    modes = [mode for mode in modes if mode.fun < best + 12]
    proposals = [multivariate_t(m.x, 1.5 * m.hess_inv, df=5) for m in modes]
    theta = np.concatenate([p.rvs(n_draws // len(modes), random_state=rng) for p in proposals])
    log_q = logsumexp([p.logpdf(theta) for p in proposals], axis=0) - np.log(len(modes))
    parts = [log_prior_and_objective(part) for part in np.array_split(theta, 50)]
    prior, objective = (np.concatenate(values) for values in zip(*parts, strict=True))
    return ImportanceSample(theta, prior + objective - log_q, objective / heat.sum())


# -- allocations -----------------------------------------------------------------------------------


def collapsed(X: Any, prior: MixturePrior, temperature: float = 1.0) -> Any:
    """Return the package's mixture with its models integrated out."""
    return conjugate_energy(X, prior).collapse(np.asarray(X, dtype=np.float64), temperature)


def conjugate_energy(X: Any, prior: MixturePrior) -> Any:
    """Return the package's energy with such a prior, centred on the rows' known entries."""
    return conjugate_gaussian_mixture(
        prior.n_components,
        X.shape[1],
        prior.kind,
        prior.equal_weights,
        0.0,
        concentration=prior.concentration,
        mean_precision=prior.mean_precision,
        mean=np.asarray(prior.mean, dtype=np.float64),
        degrees_of_freedom=prior.degrees_of_freedom,
        covariance=np.asarray(prior.covariance, dtype=np.float64),
        centre=np.nanmean(np.asarray(X, dtype=np.float64), axis=0),
    )


def preferences_by_definition(labels: Any, log_joint: Array, n_components: int) -> Array:
    """Return the log probabilities of each row's component given the others', (S, K, N).

    From the joint of all allocations, which are in the order of their digits.
    """
    n_rows = labels.shape[1]
    powers = n_components ** np.arange(n_rows)[::-1]
    own = labels @ powers
    found = np.empty((len(labels), n_components, n_rows))
    for row, power in enumerate(powers):
        for k in range(n_components):
            found[:, k, row] = log_joint[own + (k - labels[:, row]) * power]
    return found - logsumexp(found, axis=1, keepdims=True)


def candidate_log_evidence(
    X: Any, prior: MixturePrior, labels: Any, temperature: float, n_sweeps: int, seed: int = 0
) -> tuple[float, float]:
    """Return the log evidence and its standard error, by the slowest of samplers.

    Rows are redrawn one at a time given all others (Neal 2000, algorithm 3), and the evidence is
    that of a candidate model: likelihood times prior over the mean of its conditional densities,
    labels exchanged in all ways (Chib 1995; Neal 1999). For full and tied covariances.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    prior : MixturePrior
    labels : ndarray of int of shape (N,)
        Where the chain starts.
    temperature : float
    n_sweeps : int
        Of which the first fifth are left out.
    seed : int, default=0
    """
    rng, oracle = np.random.default_rng(seed), _Oracle(X, prior, 1 / temperature)
    n_components, tied = prior.n_components, prior.kind == "tied"
    labels = np.array(labels)

    def conditional(z: Any) -> tuple[Array, Array, Array]:
        """Return counts, means and scales of the components' posteriors."""
        parts = [oracle.scatter(X[z == k]) for k in range(n_components)]
        counts = np.array([n for n, _ in parts])
        sums = np.stack([X[z == k].sum(axis=0) / temperature for k in range(n_components)])
        total = prior.mean_precision * np.asarray(prior.mean) + sums
        scales = np.stack([scatter for _, scatter in parts])
        scales = scales.sum(axis=0)[None] if tied else scales
        return counts, total / (prior.mean_precision + counts)[:, None], oracle.base + scales

    def log_density(model: Any, counts: Array, means: Array, scales: Array, order: Any) -> float:
        """Return the log density of a model, its components in such an order."""
        weights, locations, precisions = model
        value = dirichlet(prior.concentration + counts).logpdf(weights[order])
        dof = prior.degrees_of_freedom + (counts.sum(keepdims=True) if tied else counts)
        for k, scale in enumerate(scales):
            precision = precisions[0 if tied else order[k]]
            value += wishart(dof[k], np.linalg.inv(scale)).logpdf(precision)
        for k, mean in enumerate(means):
            precision = precisions[0 if tied else order[k]]
            spread = np.linalg.inv((prior.mean_precision + counts[k]) * precision)
            value += multivariate_normal(mean, spread).logpdf(locations[order[k]])
        return float(value)

    model, orders, logs = None, [list(each) for each in permutations(range(n_components))], []
    log_joint = allocation_log_joint(X, labels, prior, temperature)
    for sweep in range(n_sweeps):
        for row in rng.permutation(len(X)):
            values, own = np.empty(n_components), labels[row]
            for k in range(n_components):
                labels[row] = k
                moved = k != own
                values[k] = (
                    allocation_log_joint(X, labels, prior, temperature) if moved else log_joint
                )
            labels[row] = rng.choice(n_components, p=np.exp(values - logsumexp(values)))
            log_joint = values[labels[row]]
        if sweep < n_sweeps // 5:
            continue
        if model is None:  # the mean of a conditional
            counts, means, scales = conditional(labels)
            dof = prior.degrees_of_freedom + (counts.sum(keepdims=True) if tied else counts)
            weights = prior.concentration + counts
            precisions = np.stack([d * np.linalg.inv(s) for d, s in zip(dof, scales, strict=True)])
            model = weights / weights.sum(), means, precisions
        found = conditional(labels)
        logs.append(logsumexp([log_density(model, *found, order) for order in orders]))
    weights, means, precisions = model
    covariances = np.linalg.inv(precisions)
    joint = joint_energies(
        X, weights, means, [covariances[0 if tied else k] for k in range(n_components)]
    )
    none = np.zeros(n_components)
    location = np.broadcast_to(np.asarray(prior.mean, dtype=np.float64), means.shape)
    bases = np.stack([oracle.base] * len(precisions))
    value = logsumexp(joint / temperature, axis=1).sum()
    value += log_density(model, none, location, bases, orders[0])
    shares = np.exp(np.array(logs) - max(logs))
    batches = np.array([part.mean() for part in np.array_split(shares, 10)])
    error = batches.std(ddof=1) / np.sqrt(10) / shares.mean()
    mean = max(logs) + np.log(shares.mean()) - np.log(len(orders))
    return float(value - mean), float(error)
