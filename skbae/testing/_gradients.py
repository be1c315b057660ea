"""Gradients against finite differences, and priors in coordinates against their draws."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from skbae.energies._base import SmoothBoundEnergy
from skbae.inference._objective import Objective
from skbae.operators._linalg import half_log_det
from skbae.testing._subject import close, mean_is

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array
    from skbae.testing._subject import Subject

_STEP = 1e-5
# Coordinates that are checked, at most, and draws of the prior.
_MOST, _N_DRAWS = 24, 8000
# A normal density that is narrower than the prior's draws by this factor.
_NARROWER = 0.7


def _slopes(function: Callable[[Array], Array], theta: Array, index: Array) -> Array:
    """Return derivatives of ``function(theta)``, (S,), in I of the coordinates, (S, I)."""
    out = np.empty((len(theta), len(index)))
    for column, j in enumerate(index):
        step = _STEP * np.maximum(1.0, np.abs(theta[:, j]))
        up, down = theta.copy(), theta.copy()
        up[:, j] += step
        down[:, j] -= step
        out[:, column] = (function(up) - function(down)) / (up[:, j] - down[:, j])
    return out


def _coordinates(subject: Subject, n: int) -> Array:
    return np.sort(subject.rng.permutation(n)[:_MOST])


def check_coordinates(subject: Subject) -> None:
    """``constrain`` undoes ``unconstrain``, and coordinates have one label each."""
    energy = subject.energy
    theta = energy.unconstrain(subject.models)
    kinds = energy.coordinate_kinds()
    if np.shape(kinds) != theta.shape[1:]:
        raise AssertionError(
            f"coordinate_kinds returns the shape {np.shape(kinds)} for {theta.shape[1]} coordinates"
        )
    close(
        subject.hmax(energy.constrain(theta), subject.X),
        subject.hmax(subject.models, subject.X),
        "constrain(unconstrain(models)): hmax",
    )
    shape = np.shape(energy.draw_prior_coordinates(3, subject.rng))
    if shape != (3, theta.shape[1]):
        raise AssertionError(f"draw_prior_coordinates(3) returns the shape {shape}")


def _value(objective: Objective, theta: Array) -> Array:
    return objective.value_and_gradient(theta)[0]


def check_objective_gradient(subject: Subject) -> None:
    """``objective_gradient`` is the derivative of the objective."""
    theta = subject.energy.unconstrain(subject.models)
    index = _coordinates(subject, theta.shape[1])
    for temperature, tilt in ((1.0, 0.0), (0.5, 0.0), (2.0, 0.0), (1.0, 0.7)):
        objective = Objective(subject.energy, subject.rows, subject.runner, temperature, tilt)
        try:
            found = objective.value_and_gradient(theta)[1][:, index]
        except ValueError:
            if tilt:  # not every energy can be tilted
                continue
            raise
        expected = _slopes(partial(_value, objective), theta, index)
        what = f"objective_gradient at T = {temperature:g} and tilt {tilt:g}"
        close(found, expected, f"{what} against finite differences", rtol=1e-4)


def check_prior_gradient(subject: Subject) -> None:
    """Compare the gradient of ``log_prior_at`` with finite differences."""
    energy = subject.energy
    theta = energy.draw_prior_coordinates(subject.n_models, subject.rng)
    index = _coordinates(subject, theta.shape[1])
    found = energy.log_prior_at(theta)[1][:, index]
    expected = _slopes(lambda at: energy.log_prior_at(at)[0], theta, index)
    close(found, expected, "the gradient of log_prior_at against finite differences", rtol=1e-4)


def check_prior_draws(subject: Subject) -> None:
    """Compare draws of ``draw_prior_coordinates`` with the normalised density ``log_prior_at``."""
    energy = subject.energy
    theta = energy.draw_prior_coordinates(_N_DRAWS, subject.rng)
    value, gradient = energy.log_prior_at(theta)
    centre, scale = np.median(theta, axis=0), theta.std(axis=0)
    for j in np.flatnonzero(scale > 0)[:_MOST]:
        # the mean of f' + f d log p / d theta is zero, for any bounded f
        f = np.tanh((theta[:, j] - centre[j]) / scale[j])
        stein = (1 - f**2) / scale[j] + f * gradient[:, j]
        what = f"draw_prior_coordinates and the gradient of log_prior_at disagree in coordinate {j}"
        mean_is(stein * scale[j], 0.0, f"{what} (Stein's identity)")
    # a normal density with the mean and covariance of other draws, less wide
    half = _N_DRAWS // 2
    mean = theta[:half].mean(axis=0)
    covariance = np.atleast_2d(np.cov(theta[:half].T)) * _NARROWER**2
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:  # some coordinate is constant
        return
    log_det = 2 * half_log_det(factor) + len(mean) * np.log(2 * np.pi)

    def log_normal(at: Array) -> Array:
        white = np.linalg.solve(factor, (at - mean).T)
        return np.asarray(-0.5 * ((white**2).sum(axis=0) + log_det))

    drawn = mean + subject.rng.standard_normal((half, len(mean))) @ factor.T
    odds = expit(log_normal(theta[half:]) - value[half:])
    what = "log_prior_at is not the normalised log density of draw_prior_coordinates"
    mean_is(
        odds - expit(energy.log_prior_at(drawn)[0] - log_normal(drawn)),
        0.0,
        f"{what} (the mean of q / (p + q) over these, minus that of p / (p + q) over draws of a "
        "normal density q)",
    )


def check_gradient_in_x(subject: Subject) -> None:
    """``hmax_gradient`` is the derivative in x."""
    bound, X = subject.bind(subject.models), subject.X[:10]
    if not isinstance(bound, SmoothBoundEnergy):
        return
    try:
        bound.hmax_gradient(X, 1.0)
    except (TypeError, ValueError):  # a mixture whose components have none
        return
    for temperature in (0.5, 1.0, 2.0):
        value, gradient = bound.hmax_gradient(X, temperature)
        close(value, bound.hmax(X, temperature), f"hmax_gradient at T = {temperature:g}: hmax")
        for j in range(X.shape[1]):
            step = _STEP * max(float(subject.rows.scale[j]), 1e-12)
            up, down = X.copy(), X.copy()
            up[:, j] += step
            down[:, j] -= step
            slope = bound.hmax(up, temperature) - bound.hmax(down, temperature)
            what = f"hmax_gradient in column {j} at T = {temperature:g} against finite differences"
            close(gradient[:, :, j], slope / (up[:, j] - down[:, j]), what, rtol=1e-4)
