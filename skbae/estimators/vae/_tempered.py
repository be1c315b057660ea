"""Small decoders sampled from the prior, with their evidence: parts of a network's fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.vae._grid import GridDecoders
from skbae.energies.vae._parameters import VAEParameters
from skbae.energies.vae._penalty import Prior
from skbae.estimators._sampling import run_tempered, shifted, summarise
from skbae.estimators.vae._fit import chain_plan, single_attributes
from skbae.inference._objective import Objective
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.inference.passes._rows import make_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array, Rows
    from skbae.energies.vae._energy import VAEEnergy
    from skbae.energies.vae._network import Network
    from skbae.estimators.vae._settings import VAESettings
    from skbae.inference.passes._rows import RowRunner
    from skbae.inference.sample._tempering import SMCPlan

# Largest numbers of weights and of code dimensions of decoders that are sampled from the prior, and
# minutes that this may take.
_MOST_WEIGHTS, _MOST_CODES, MAX_MINUTES = 120, 2, 3.0
# Work of a minute of one core by short moves: rows times nodes times models times the root of the
# coordinates, halved. Outputs at the nodes take as long as so many rows.
_WORK_A_MINUTE, _ROWS_OF_NETWORK = 6e8, 50
# Lengths of moves relative to those usual, the first that does not take too long. Where a network
# begins to bend, chains cross between curves and lines by long moves only, since what the outputs
# hardly depend on is some ten of the scales wide. Linear decoders need none.
_LENGTHS = (4, 1)
# Nodes of the grid in which deviations of codes are measured, spacing of the grid in units of the
# smaller ones of them (this share of the rows), and least and largest number of nodes of an axis.
_FINE, _SMALL_SHARE, _SPACING, _NODES = {1: 2000, 2: 120}, 0.02, 1.35, (40, 800)
# Nats by which a grid of twice as many nodes may change the objective of all rows.
_GRID_ERROR = 0.1
# Particles of an island: at least, and at most if the work takes less than so many minutes.
# Plans of less work than the last number would have more.
_FEWEST_PARTICLES, _MOST_PARTICLES, _GOOD_MINUTES, _LEAST_COST = 128, 1024, 0.8, 600
_TOO_LONG = (
    "sampling from the prior, which would tell the evidence, would take about {:.0f} minutes here; "
    "it is done where it takes at most three: for fewer rows, codes or weights"
)
_TOO_COARSE = (
    "the grid on which codes are integrated is too coarse: one of twice as many nodes changes the "
    "log likelihood of a model by {:.2g} nats"
)


@dataclass(frozen=True)
class Tempering:
    """How decoders are sampled from the prior.

    Attributes
    ----------
    energy : GridDecoders
    rows : Rows
        Scaled.
    plan : SMCPlan
    minutes : float
        How long it would take, about; infinite for decoders that are too large.
    """

    energy: GridDecoders
    rows: Rows
    plan: SMCPlan
    minutes: float


def is_small(settings: VAESettings, n_features: int) -> bool:
    """Return whether decoders are small enough to be sampled from the prior, if time allows."""
    decoder, _ = settings.architecture(n_features).networks()
    few = decoder.n_parameters <= _MOST_WEIGHTS and settings.n_components <= _MOST_CODES
    return few and settings.temperature > 0


def sampling_reports(settings: VAESettings, rows: Rows) -> int:
    """Return the largest number of steps that sampling reports."""
    around = chain_plan(settings, rows).n_reports
    if not is_small(settings, len(rows.X[0])):
        return around
    return max(around, settings.plans.tempered(1, settings.n_models).n_steps)


def tempering(
    settings: VAESettings, energy: VAEEnergy, rows: Rows, theta: Array
) -> Tempering | None:
    """Return how decoders like the best one, (1, P), are sampled; None if they are too large."""
    decoder, d = energy.decoder, settings.n_components
    if not is_small(settings, len(rows.X[0])):
        return None
    assert energy.training is not None, "a fit has options"
    prior = energy.training.penalty
    assert isinstance(prior, Prior), "sampling needs a prior"
    scaled = make_rows(energy.frame.targets(rows.X), rows.weights)
    fine = GridDecoders(decoder, prior, _FINE[d], settings.temperature)
    some = scaled.X[:: max(1, len(scaled.X) // 200)]
    deviations = fine.codes(theta, some)[1] / np.sqrt(settings.temperature)
    spacing = max(float(np.quantile(deviations, _SMALL_SHARE)) * _SPACING, 1e-6)
    n_nodes = int(np.clip(np.ceil(10 / spacing), *_NODES))
    return _on_grid(settings, GridDecoders(decoder, prior, n_nodes, settings.temperature), scaled)


def _on_grid(settings: VAESettings, energy: GridDecoders, scaled: Rows) -> Tempering:
    """Return the plan for a grid, with as many particles as take less than a minute."""
    for longer in _LENGTHS if settings.hidden_layer_sizes else _LENGTHS[-1:]:
        found = _with_moves(settings, energy, scaled, longer)
        if found.minutes <= MAX_MINUTES:
            break
    return found


def _with_moves(
    settings: VAESettings, energy: GridDecoders, scaled: Rows, longer: int
) -> Tempering:
    """Return the plan with moves that are so many times longer than usual."""
    cost = max((len(scaled.X) + _ROWS_OF_NETWORK) * len(energy.nodes) // 2, _LEAST_COST)
    work = cost * float(np.sqrt(energy.n_parameters())) / _WORK_A_MINUTE * longer
    fewest = _FEWEST_PARTICLES
    while True:
        plan = settings.plans.tempered(cost, settings.n_models, fewest=fewest)
        plan = replace(
            plan,
            length=longer * plan.length,
            max_leapfrog=longer * plan.max_leapfrog,
        )
        minutes = work * plan.n_islands * plan.n_particles
        if 2 * minutes > _GOOD_MINUTES or fewest == _MOST_PARTICLES:
            return Tempering(energy, scaled, plan, minutes)
        fewest *= 2


def too_long(found: Tempering | None) -> tuple[str, ...]:
    """Return in words how long sampling from the prior would take, if it could be done."""
    return () if found is None else (_TOO_LONG.format(found.minutes),)


def tempered_attributes(
    settings: VAESettings,
    energy: VAEEnergy,
    found: Tempering,
    best: VAEParameters,
    rng: np.random.Generator,
    runner: RowRunner,
    on_step: Callable[[int, float], bool],
) -> dict[str, Any]:
    """Sample decoders from the prior; return fitted attributes.

    Parameters
    ----------
    settings : VAESettings
    energy : VAEEnergy
    found : Tempering
    best : VAEParameters
        The best model, whose encoder proposes codes for all.
    rng : Generator
    runner : RowRunner
    on_step : callable
        The count of steps continues that of the fit.
    """
    before, tau = settings.max_iter, settings.model_temperature

    def report(number: int, value: float) -> bool:
        return on_step(before + number, value)

    while True:
        objective = Objective(found.energy, found.rows, runner, settings.temperature)
        run = run_tempered(objective, rng, settings, report, found.plan)
        power = objective.power(tau)
        twice = _twice_as_fine(found.energy)
        finer = replace(objective, energy=twice)
        values, better = (each.expect(run.params).hmaxe for each in (objective, finer))
        moved = power * float(np.abs(values - better).max())
        again = _on_grid(settings, twice, found.rows)
        if moved <= _GRID_ERROR or again.minutes > MAX_MINUTES or run.stopped:
            break
        found = again
    if moved > _GRID_ERROR:
        run = replace(run, doubts=(*run.doubts, _TOO_COARSE.format(moved)))
    run = shifted(run, energy.frame.log_volume, power, tau)
    mode = find_mode(objective, best_start(objective, run.params, tau), tau)
    together = np.concatenate([mode.params.theta, run.params.theta])
    theta = in_codes_of(found.energy, together, best.decoder, found.rows.X)
    encoders = np.repeat(best.encoder, len(theta), axis=0)
    params = VAEParameters(theta, encoders)
    reference = params.take(slice(0, 1))
    hmaxe = float(mode.hmaxe[0]) + energy.frame.log_volume
    return {
        **single_attributes(energy, reference, hmaxe),
        **summarise(settings, run, found.rows.total),
        "models_": energy.frame.to_layers(
            energy.decoder, energy.encoder, params.take(slice(1, None))
        ),
    }


def _twice_as_fine(energy: GridDecoders) -> GridDecoders:
    return GridDecoders(energy.decoder, energy.prior, 2 * energy.n_nodes, energy.temperature)


def in_codes_of(energy: GridDecoders, theta: Array, reference: Array, X: Array) -> Array:
    """Return decoders with their codes turned to agree best with those of a reference (1, P).

    The prior of codes and that of the first weights do not depend on rotations and reflections.
    """
    ours, _ = energy.codes(reference, X)
    turned = np.array(theta)
    network: Network = energy.decoder.network
    for number in range(len(theta)):
        theirs, _ = energy.codes(theta[number : number + 1], X)
        left, _, right = np.linalg.svd(ours.T @ theirs)
        turn = left @ right  # of their codes into ours: z' = turn z
        layers = network.layers(turned[number : number + 1])
        for matrix in (layers[0][0], layers.skip):
            if matrix is not None:
                matrix[...] = turn @ matrix
    return turned
