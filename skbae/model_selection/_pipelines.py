"""The steps of a Pipeline in front of an autoencoder, and their log determinant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.pipeline import Pipeline

from skbae.estimators._base import BayesianAutoEncoder

if TYPE_CHECKING:
    from skbae._types import Array

# Largest deviation of a map from an affine one, relative to the range of its values.
_ROUNDING = {np.dtype(np.float64): 1e-7, np.dtype(np.float32): 1e-3}


def unpack(estimator: Any, caller: str = "this scorer") -> tuple[list[Any], BayesianAutoEncoder]:
    """Return the transformers in front of an autoencoder, and the autoencoder."""
    steps = []
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            if len(estimator.steps) > 1:
                steps.append(estimator[:-1])
            estimator = estimator[-1]
        else:
            break
    if not isinstance(estimator, BayesianAutoEncoder):
        raise TypeError(
            f"{caller} needs an estimator of skbae, or a Pipeline that ends with one, got "
            f"{type(estimator).__name__}"
        )
    return steps, estimator


def transform_rows(steps: list[Any], X: Any) -> Any:
    """Return the rows that enter the autoencoder."""
    for step in steps:
        X = step.transform(X)
    return X


def log_determinant(steps: list[Any], X: Any, Z: Any) -> float:
    """Return log |dz/dx| of steps that make an invertible affine map, or raise ValueError.

    The map is computed from its values at points around the rows, and checked at the rows.
    """
    if not steps:
        return 0.0
    rows, image = np.asarray(X), np.asarray(Z, dtype=np.float64)
    rounding = _ROUNDING.get(rows.dtype, _ROUNDING[np.dtype(np.float64)])
    rows = rows.astype(np.float64)
    size = rows.shape[1]
    what = "density scorers need the steps before the last to be an invertible affine map, but they"
    instead = (
        "For candidates that share their preprocessing, transform the rows beforehand or score "
        'with make_hmaxemax_scorer(units="model")'
    )
    if image.shape != rows.shape:
        shown = image.shape[1:] or "a scalar"
        raise ValueError(f"{what} turn {size} columns into {shown[0]}. {instead}.")
    known = ~np.isnan(rows)
    gaps = not known.all()
    with np.errstate(invalid="ignore"):
        mass = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, rows, 0.0).sum(axis=0) / mass
        scale = np.sqrt((np.where(known, rows - centre, 0.0) ** 2).sum(axis=0) / mass)
    scale[scale == 0] = 1.0
    points = np.vstack([centre, centre + np.diag(scale)])
    if hasattr(X, "iloc"):  # pandas: steps may ask for columns by name
        points = type(X)(points, columns=X.columns)
    mapped = np.asarray(transform_rows(steps, points), dtype=np.float64)
    slopes = (mapped[1:] - mapped[0]) / scale[:, None]
    if gaps:
        return _of_known_entries(rows, image, centre, mapped[0], slopes, rounding, what)
    deviation = np.abs(mapped[0] + (rows - centre) @ slopes - image).max(axis=0)
    spread = np.abs(image - image.mean(axis=0)).max(axis=0) + np.abs(image).max(axis=0)
    if not np.all(deviation <= rounding * np.maximum(spread, np.finfo(float).tiny)):
        raise ValueError(f"{what} are not affine. {instead}.")
    sign, log_det = np.linalg.slogdet(slopes)
    if sign == 0 or not np.isfinite(log_det):
        raise ValueError(f"{what} are singular. {instead}.")
    return float(log_det)


def _of_known_entries(
    rows: Array,
    image: Array,
    centre: Array,
    origin: Array,
    slopes: Array,
    rounding: float,
    what: str,
) -> float:
    """Return the mean log |dz/dx| of the known entries, for steps that act on columns alone."""
    own = np.diagonal(slopes)
    apart = np.abs(slopes - np.diag(own)).max() <= rounding * np.abs(own).min()
    if not (apart and own.all() and np.array_equal(np.isnan(rows), np.isnan(image))):
        raise ValueError(
            f"{what} mix columns, or fill missing entries, so that the density of the known "
            "entries does not follow. Transform the rows beforehand, or scale columns one by one."
        )
    deviation = np.nan_to_num(np.abs(origin + (rows - centre) * own - image)).max(axis=0)
    if not np.all(deviation <= rounding * np.nan_to_num(np.abs(image)).max(axis=0)):
        raise ValueError(f"{what} are not affine. Transform the rows beforehand.")
    return float((~np.isnan(rows)).mean(axis=0) @ np.log(np.abs(own)))
