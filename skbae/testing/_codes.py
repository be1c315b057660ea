"""Codes and passes against brute force: all codes enumerated, all rows one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._base import EnumerableBoundEnergy
from skbae.inference.passes._rows import make_rows
from skbae.operators._tempered import tempered_logsumexp
from skbae.testing._subject import TEMPERATURES, close, leaves, mean_is

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.testing._subject import Subject

_TILTS = (0.0, 0.7)
# Steps of expectation maximisation from each model.
_N_STEPS = 12
# Decrease of the objective, relative to its size, that is due to rounding.
_ROUNDING = 1e-10


def _all_codes(subject: Subject, models: Any, X: Array) -> Array | None:
    """Return the energies of all codes, (S, K, n); None where codes are not finitely many."""
    bound = subject.bind(models)
    if not isinstance(bound, EnumerableBoundEnergy):
        return None
    try:
        return np.asarray(bound.code_energies(X))
    except ValueError:  # continuous codes, or too many
        return None


def check_hmax(subject: Subject) -> None:
    """``hmax`` is ``T log sum_z exp(H / T)`` over the codes of ``code_energies``."""
    X = subject.X
    energies = _all_codes(subject, subject.models, X)
    for temperature in TEMPERATURES:
        found = subject.hmax(subject.models, X, temperature)
        if found.shape != (subject.n_models, len(X)):
            raise AssertionError(
                f"hmax at T = {temperature:g} has the shape {found.shape}, expected (S, n) = "
                f"{(subject.n_models, len(X))}"
            )
        if energies is not None:
            expected = tempered_logsumexp(energies, temperature, axis=1)
            what = f"hmax at T = {temperature:g} against T log sum exp(code_energies / T)"
            close(found, expected, what)
        for index in range(subject.n_models):
            alone = subject.hmax(subject.one(index), X, temperature)
            close(found[index], alone[0], f"hmax of model {index} beside others and alone")


def check_statistics(subject: Subject) -> None:
    """Compare the statistics of ``expectation`` with ``hmax``, in chunks and with weights."""
    energy, X, rows = subject.energy, subject.X, subject.rows
    repeats = np.arange(len(X)) % 3 + 1
    weighted = make_rows(X, repeats.astype(float))
    for temperature in TEMPERATURES:
        hmax = subject.hmax(subject.models, X, temperature)
        for tilt in _TILTS:

            def kernel(temperature: float = temperature, tilt: float = tilt) -> Any:
                return energy.expectation(subject.models, rows.frame, np.float64, temperature, tilt)

            try:
                found = subject.reduce(kernel(), rows)
            except ValueError:
                if tilt:  # not every energy can be tilted
                    continue
                raise
            at = f"at T = {temperature:g} and tilt {tilt:g}"
            close(found.hmaxe, hmax.mean(axis=1), f"hmaxe of the statistics of expectation {at}")
            tilted = hmax.mean(axis=1)
            if tilt:
                tilted = tempered_logsumexp(-tilt * hmax, 1.0, axis=1) - np.log(len(X))
                tilted = -tilted / tilt
            close(found.objective, tilted, f"objective of the statistics of expectation {at}")
            small = kernel()
            small.chunk_rows = 7
            _same(subject.reduce(small, rows), found, f"expectation {at}, with chunks of 7 rows,")
            again = subject.reduce(kernel(), make_rows(np.repeat(X, repeats, axis=0), None))
            _same(
                subject.reduce(kernel(), weighted),
                again,
                f"expectation {at}, with rows of integer weights instead of repeated rows,",
            )


def _same(found: Any, expected: Any, what: str) -> None:
    for (name, value), (_, other) in zip(leaves(found), leaves(expected), strict=True):
        close(value, other, f"{what} changes {name}")


def check_maximise(subject: Subject) -> None:
    """Take steps of expectation maximisation, which never lower the objective."""
    energy, rows = subject.energy, subject.rows
    for temperature in TEMPERATURES:
        models, before = subject.models, None
        for _ in range(_N_STEPS):
            kernel = energy.expectation(models, rows.frame, np.float64, temperature, 0.0)
            statistics = subject.reduce(kernel, rows)
            after = np.asarray(statistics.objective)
            if before is not None:
                loss = before - after
                worst = int(np.argmax(loss))
                if loss[worst] > _ROUNDING * max(1.0, float(np.abs(before).max())):
                    raise AssertionError(
                        f"maximise lowers the objective at T = {temperature:g}: from "
                        f"{before[worst]:.10g} to {after[worst]:.10g} nats a row"
                    )
            before = after
            try:
                models = energy.maximise(statistics, models, temperature)
            except ValueError:  # no maximum exists from here
                break


def check_interpolate(subject: Subject) -> None:
    """``interpolate`` leads from the model (step 0) to the full step (step 1)."""
    energy, rows = subject.energy, subject.rows
    for temperature in (0.5, 1.0, 2.0):

        def expect(models: Any, temperature: float = temperature) -> Any:
            kernel = energy.expectation(models, rows.frame, np.float64, temperature, 0.0)
            return subject.reduce(kernel, rows)

        try:
            # the second step, since not every model need be a maximum at this temperature
            models = energy.maximise(expect(subject.models), subject.models, temperature)
            statistics = expect(models)
            full = energy.maximise(statistics, models, temperature)
        except ValueError:  # no maximum exists
            continue
        for step, target in ((0.0, models), (1.0, full)):
            steps = np.full(subject.n_models, step)
            path = energy.interpolate(models, statistics, steps, temperature)
            reached = energy.maximise(path, models, temperature)
            close(
                subject.hmax(reached, subject.X, temperature),
                subject.hmax(target, subject.X, temperature),
                f"interpolate with step {step:g} at T = {temperature:g}, then maximise: hmax",
                rtol=1e-6,
            )


def check_codes_of_draws(subject: Subject) -> None:
    """Compare the codes that ``draw`` returns with the probabilities of ``code_energies``."""
    for index in range(min(subject.n_models, 2)):
        model = subject.one(index)
        X, codes = subject.energy.draw(model, 2000, subject.rng)
        X = np.asarray(X, dtype=np.float64)
        energies = _all_codes(subject, model, X)
        if energies is None or np.ndim(codes) != 1:
            return
        peak = energies[0].max(axis=0)
        probabilities = np.exp(energies[0] - peak)
        probabilities /= probabilities.sum(axis=0)
        for k, own in enumerate(probabilities):
            what = f"the share of code {k} in draws, minus the mean of its probability"
            mean_is((np.asarray(codes) == k) - own, 0.0, what)
