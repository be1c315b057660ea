"""What is checked: an energy, rows, and models that the other checks are made with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies._base import Energy
from skbae.energies._capabilities import ConjugateEnergy, GradientEnergy
from skbae.inference.passes._rows import make_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skbae._types import Array, Rows
    from skbae.energies._base import BoundEnergy, RowKernel
    from skbae.inference.passes._rows import RowRunner

TEMPERATURES = (0.0, 0.5, 1.0, 2.0)
# Models that checks are made with.
_N_MODELS = 4
# Standard errors from which on a mean over draws is wrong; the chance of a right one is 6e-7.
_STANDARD_ERRORS = 5.0


@dataclass(frozen=True, eq=False)
class Subject:
    """An energy on some rows, with S models.

    Attributes
    ----------
    energy : Energy
    rows : Rows
    models : ArrayRecord
    rng : Generator
    runner : RowRunner
    """

    energy: Any
    rows: Rows
    models: Any
    rng: np.random.Generator
    runner: RowRunner

    @property
    def X(self) -> Array:
        """The rows, (N, D)."""
        return np.asarray(self.rows.X)

    @property
    def n_models(self) -> int:
        """S."""
        return int(self.models.n_models)

    def bind(self, models: Any) -> BoundEnergy:
        """Return the energy with models, in the frame of the rows."""
        bound: BoundEnergy = self.energy.bind(models, self.rows.frame, np.float64)
        return bound

    def hmax(self, models: Any, X: Array, temperature: float = 1.0) -> Array:
        """Return ``Hmax_T`` of models on rows, (S, n), chunk by chunk."""
        bound = self.bind(models)
        size = bound.chunk_rows
        parts = [
            bound.hmax(X[start : start + size], temperature) for start in range(0, len(X), size)
        ]
        return np.concatenate(parts, axis=1)

    def one(self, index: int) -> Any:
        """Return one of the models."""
        return self.models.take(slice(index, index + 1))

    def reduce(self, kernel: RowKernel, rows: Rows, seed: int | None = None) -> Any:
        """Return the statistics of a pass over rows."""
        entropy = None if seed is None else np.random.SeedSequence(seed)
        return self.runner.reduce(kernel, rows, entropy)


def some_models(energy: Energy, rows: Rows, rng: np.random.Generator, runner: RowRunner) -> Any:
    """Return models to check an energy with, drawn given the rows or from the prior."""
    if isinstance(energy, ConjugateEnergy):
        prior = energy.draw_prior(_N_MODELS, rng)
        kernel = energy.sweep(prior, rows.frame, np.float64, 1.0)
        statistics = runner.reduce(kernel, rows, np.random.SeedSequence(int(rng.integers(2**32))))
        return energy.draw_conditional(energy.conditional(statistics, 1.0), rng)
    if isinstance(energy, GradientEnergy):
        return energy.constrain(energy.draw_prior_coordinates(_N_MODELS, rng))
    raise ValueError(
        f"params must be given for {type(energy).__name__}, which has no prior to draw models from "
        "(it is no ConjugateEnergy or GradientEnergy): an ArrayRecord of two or more models"
    )


def subject(
    energy: Any, X: Any, params: Any, rng: np.random.Generator, runner: RowRunner
) -> Subject:
    """Return what is checked."""
    if not isinstance(energy, Energy):
        raise TypeError(
            f"energy must be an Energy, got {type(energy).__name__}; MixtureEnergy and "
            "ConjugateMixture make one of a family of components"
        )
    X = np.array(X, dtype=np.float64, ndmin=2)
    if X.ndim != 2 or len(X) < 8:
        raise ValueError(f"X must have two axes and 8 rows or more, got the shape {X.shape}")
    if X.shape[1] != energy.n_features:
        raise ValueError(
            f"X has {X.shape[1]} columns, but energy.n_features is {energy.n_features}"
        )
    rows = make_rows(X, None)
    models = some_models(energy, rows, rng, runner) if params is None else params
    if not isinstance(models, ArrayRecord):
        raise TypeError(f"params must be an ArrayRecord of models, got {type(models).__name__}")
    return Subject(energy, rows, models, rng, runner)


def leaves(record: Any, path: str = "") -> Iterator[tuple[str, Array]]:
    """Yield the names and arrays of a record of arrays, records and sequences of these."""
    for field in fields(record):
        yield from _within(getattr(record, field.name), f"{path}{field.name}")


def _within(value: Any, path: str) -> Iterator[tuple[str, Array]]:
    if isinstance(value, ArrayRecord):
        yield from leaves(value, f"{path}.")
    elif isinstance(value, (list, tuple)):
        for number, each in enumerate(value):
            yield from _within(each, f"{path}[{number}]")
    else:
        yield path, np.asarray(value, dtype=np.float64)


def close(found: Any, expected: Any, what: str, *, rtol: float = 1e-8) -> None:
    """Raise AssertionError with a sentence unless two arrays agree.

    Differences count relative to the largest finite number expected, or to 1.
    """
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    if found.shape != expected.shape:
        raise AssertionError(f"{what}: the shape is {found.shape}, expected {expected.shape}")
    if not found.size:
        return
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(float(finite.max(initial=0.0)), 1.0)
    same = found == expected
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(found - expected))
    worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
    if not difference.flat[worst] <= rtol * scale:
        raise AssertionError(
            f"{what}: got {found.flat[worst]:.10g}, expected {expected.flat[worst]:.10g}"
        )


def mean_is(values: Array, expected: float, what: str) -> None:
    """Raise AssertionError with a sentence unless draws (n,) have this mean, within their error."""
    if not np.all(np.isfinite(values)):
        raise AssertionError(f"{what}: a value is not finite")
    mean, error = float(values.mean()), float(values.std() / np.sqrt(len(values)))
    if abs(mean - expected) > _STANDARD_ERRORS * error + 1e-9 * max(1.0, abs(expected)):
        raise AssertionError(
            f"{what}: the mean over {len(values)} draws is {mean:.5g}, expected {expected:.5g}, "
            f"with a standard error of {error:.2g}"
        )


def bounded(values: Array) -> Array:
    """Return bounded functions of numbers (n, P), of which the first is 1: (n, P + 1)."""
    centre = np.median(values, axis=0)
    scale = np.median(np.abs(values - centre), axis=0)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        found = np.where(scale > 0, np.tanh((values - centre) / scale), 0.0)
    return np.concatenate([np.ones((len(values), 1)), found], axis=1)


def same_expectation(first: Array, second: Array, what: str) -> None:
    """Raise AssertionError with a sentence unless draws (n, P) of two kinds have equal means."""
    for a, b in zip(first.T, second.T, strict=True):
        mean_is(a - b, 0.0, what)
