"""The source's functionals of an energy ``H(x, m, z)``, as functions to compute with.

============================  ====================================================================
``hmax(H)``                   ``T logsumexp_z(H / T)``, of each row and model
``hmaxe(H)``                  its mean over rows, of each model
``hmaxemax(H)``               ``(tau / N) logsumexp_m(N hmaxe / tau)``: with tau = N, the default,
                              ``logsumexp_m hmaxe``
``internal_energy(H)``        G, the mean of ``hmaxe`` over ``p(m)``, of which ``hmaxemax`` is the
                              logarithm of the partition function
``entropy(H)``                the entropy of ``p(m)``: ``hmaxemax = G + (tau / N) entropy``
``hmem(H)``                   ``max_m mean_x max_z H``: ``hmaxemax`` at zero temperature
``hmaxminmax(H)``             ``logsumexp_m(-logsumexp_x(-hmax))``: the worst row, softly
``hmmm(H)``                   ``max_m min_x max_z H``: ``hmaxminmax`` at zero temperature
``hmax_x(H)``                 ``T logsumexp_x(H / T)``, of each model and code: the decoder's half
============================  ====================================================================

**Energies or estimators.** H is an array of energies of shape (N, M, K), for N rows, M models and
K codes; larger is better. In its place each function takes a fitted estimator and rows,
``hmaxe(estimator, X)``: the models are the kept ones, ``estimator.models_``, and the codes are
summed or integrated out as in ``estimator.score_samples``, at the temperature that is given here
(not that of the fit). Only ``hmax_x`` needs codes of finitely many values.

**Measures.** Sums over models and codes count each equally, unless ``log_prior``, of shape (M,), or
``log_code_measure``, of shape (K,) or (M, K), gives the logarithm of what each counts as; ``-inf``
leaves one out. A sum becomes a quadrature in this way. Rows count as ``sample_weight``, whose sum
is N.

**Models that were drawn.** ``models_`` of a sampled fit are draws from ``p(m)``, not a grid over
all models: sums over them are means over ``p(m)`` of what they sum. ``estimator.hmaxemax_`` is the
integral over all models.

**Temperatures.** All sums are tempered: they become maxima at ``temperature=0``, and are finite at
any temperature.
"""

from __future__ import annotations

from skbae.functionals._definitions import (
    entropy,
    hmax,
    hmax_x,
    hmaxe,
    hmaxemax,
    hmaxminmax,
    hmem,
    hmmm,
    internal_energy,
)

__all__ = [
    "entropy",
    "hmax",
    "hmax_x",
    "hmaxe",
    "hmaxemax",
    "hmaxminmax",
    "hmem",
    "hmmm",
    "internal_energy",
]
