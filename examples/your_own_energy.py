"""A family of components of one's own: directions on a circle, as a mixture of von Mises.

Written in fifty lines, checked by `check_energy`, and then fitted, sampled and searched like any
estimator of this package. docs/your-own-energy.md explains it.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import i0e, i1e, logsumexp
from sklearn.model_selection import GridSearchCV

from skbae import EnergyAutoEncoder
from skbae.energies import ArrayRecord, MixtureOf, NaturalExponentialComponents
from skbae.model_selection import InSample, evidence_scorer
from skbae.testing import check_energy


@dataclass(frozen=True)
class Arrows(ArrayRecord):
    """Arrows `kappa (cos mu, sin mu)` of S models' components, (S, K, 2)."""

    arrows: np.ndarray


class VonMises(NaturalExponentialComponents):
    """Angles x with log density `kappa cos(x - mu) - log(2 pi I0(kappa))`.

    The prior is worth `strength` angles, whose mean is an arrow of length zero.
    """

    def __init__(self, n_components, n_features, strength=1.0):
        self.n_components, self.n_features = n_components, n_features
        self.prior = np.array([0.0, 0.0, strength])

    def features(self, X):
        return np.hstack([np.cos(X), np.sin(X)])

    def natural(self, params):
        kappa = np.linalg.norm(params.arrows, axis=-1, keepdims=True)
        return np.concatenate([params.arrows, -kappa - np.log(2 * np.pi * i0e(kappa))], axis=-1)

    def from_natural(self, natural):
        return Arrows(natural)

    def expected_features(self, params):
        kappa = np.maximum(np.linalg.norm(params.arrows, axis=-1, keepdims=True), 1e-12)
        return params.arrows / kappa * i1e(kappa) / i0e(kappa)

    def match_features(self, means):
        length = np.clip(np.linalg.norm(means, axis=-1, keepdims=True), 1e-12, 0.9999)
        kappa = length * (2 - length**2) / (1 - length**2)
        for _ in range(6):  # Newton's steps to i1(kappa) / i0(kappa) = length
            ratio = i1e(kappa) / i0e(kappa)
            kappa = np.maximum(kappa - (ratio - length) / (1 - ratio**2 - ratio / kappa), kappa / 2)
        return Arrows(means / length * kappa)

    def draw(self, params, models, labels, rng):
        east, north = params.arrows[models, labels].T
        return rng.vonmises(np.arctan2(north, east), np.hypot(east, north))[:, None]

    def n_parameters(self):
        return 2 * self.n_components

    def log_normaliser(self, statistics):
        n, length = statistics[..., 2], np.hypot(statistics[..., 0], statistics[..., 1])
        out = np.empty(n.shape)
        for each in np.unique(n):  # few, for numbers of angles
            mine = n == each
            out[mine] = normaliser_curve(float(each))(-np.log1p(-length[mine] / each))
        return out

    def draw_statistics(self, statistics, rng):
        n, length = statistics[..., 2], np.hypot(statistics[..., 0], statistics[..., 1])
        log_kappa, height = heights(length, n, 120)
        chances = np.cumsum(np.exp(height - height.max(axis=-1, keepdims=True)), axis=-1)
        chosen = (chances < rng.random((*n.shape, 1)) * chances[..., -1:]).sum(axis=-1)
        node = np.take_along_axis(log_kappa, chosen[..., None], axis=-1)[..., 0]
        step = log_kappa[..., 1] - log_kappa[..., 0]
        kappa = np.exp(node + step * (rng.random(n.shape) - 0.5))
        mean = np.arctan2(statistics[..., 1], statistics[..., 0])
        angle = rng.vonmises(mean, kappa * length)
        return Arrows(kappa[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1))


def heights(length, n, n_nodes):
    """Return log kappa at nodes, (..., n_nodes), and the log density of it there.

    Of n angles, whose arrows of length 1 add up to an arrow of this length.
    """
    length, n = np.asarray(length)[..., None], np.asarray(n)[..., None]
    share = np.minimum(length / n, 1 - 1e-9)
    kappa = np.hypot(share * (2 - share**2) / (1 - share**2), 2 / np.sqrt(n))
    ratio = i1e(kappa) / i0e(kappa)
    width = 1 / np.sqrt(2 + n * kappa**2 * (1 - ratio**2 - ratio / kappa))
    log_kappa = np.log(kappa) + width * np.linspace(-20, 8, n_nodes)
    kappa = np.exp(log_kappa)
    seen = np.log(2 * np.pi * i0e(kappa * length)) + kappa * length
    return log_kappa, 2 * log_kappa + seen - n * (np.log(2 * np.pi * i0e(kappa)) + kappa)


@cache
def normaliser_curve(n):
    """Return the log normaliser as a function of ``-log(1 - length / n)``."""
    at = np.linspace(0, 4, 400) ** 2
    log_kappa, height = heights(-n * np.expm1(-at), np.full(400, n), 64)
    return CubicSpline(at, logsumexp(height, axis=-1) + np.log(log_kappa[:, 1] - log_kappa[:, 0]))


if __name__ == "__main__":
    # directions of two groups of birds, and of some that fly anywhere
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.vonmises(-2.0, 8.0, 30), rng.vonmises(0.5, 4.0, 20)])[:, None]

    made = check_energy(MixtureOf(VonMises, n_components=2).for_rows(X), X)
    print(f"{len(made)} checks passed")

    mixture = EnergyAutoEncoder(MixtureOf(VonMises, n_components=2), random_state=0)
    mixture.fit(X)
    arrows = mixture.reference_.components.arrows[0]
    for east, north in arrows:
        print(f"mean {np.arctan2(north, east):5.2f}, concentration {np.hypot(east, north):.1f}")
    print(f"log evidence {mixture.log_evidence_:.2f}, {mixture.sampling_.status}")

    search = GridSearchCV(
        mixture, {"energy__n_components": [1, 2, 3]}, scoring=evidence_scorer, cv=InSample()
    ).fit(X)
    print(search.best_params_)
