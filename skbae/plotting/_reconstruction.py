"""Rows beside what their codes are decoded to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.model_selection import reconstruction_scorer
from skbae.plotting._canvas import (
    NEUTRAL,
    PIXELS,
    axes_for,
    check_image_shape,
    colours,
    draw_mosaic,
    limits_of,
    mosaic,
)
from skbae.plotting._subject import feature_names, fitted_autoencoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from skbae._types import Array

_N_ROWS = 6  # drawn unless others are asked for


class ReconstructionDisplay:
    """Rows and their reconstructions, ``inverse_transform(transform(X))``.

    As images, one above the other, where a shape is given; else as lines over the columns.

    Parameters
    ----------
    rows, reconstructions : ndarrays of shape (n_rows, n_features)
        NaN for missing entries, which are not drawn.
    numbers : sequence of int
        The numbers of these rows.
    feature_names : sequence of str
    image_shape : tuple of int or None, default=None
        Height and width in pixels.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage or None
        All images: rows above, reconstructions below.
    lines_ : list of matplotlib Line2D
        For each row its own line, then the dashed one of its reconstruction; empty for images.
    errors_ : ndarray of shape (n_rows,)
        Mean squared error of each row, over its known entries.

    See Also
    --------
    skbae.model_selection.reconstruction_scorer : The mean squared error as a score.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skbae import BayesianPCAAutoEncoder
    >>> from skbae.plotting import ReconstructionDisplay
    >>> X = load_digits().data
    >>> model = BayesianPCAAutoEncoder(10, temperature=0, model_temperature=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(model, X, image_shape=(8, 8))
    >>> display.errors_.shape
    (6,)
    """

    ax_: Any
    figure_: Any
    image_: Any
    lines_: list[Any]
    errors_: Array

    def __init__(
        self,
        rows: Array,
        reconstructions: Array,
        *,
        numbers: Sequence[int],
        feature_names: Sequence[str],
        image_shape: tuple[int, int] | None = None,
    ) -> None:
        self.rows = rows
        self.reconstructions = reconstructions
        self.numbers = numbers
        self.feature_names = feature_names
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        rows: Any = None,
        image_shape: tuple[int, int] | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw some rows and their reconstructions.

        Parameters
        ----------
        estimator : object
            A fitted estimator of skbae, or a Pipeline or search that ends with one, all of whose
            steps have ``inverse_transform``.
        X : array-like of shape (n_samples, n_features)
        rows : sequence of int or None, default=None
            The numbers of the rows to draw; None stands for the first six.
        image_shape : tuple of int or None, default=None
            Height and width in pixels, if rows are images.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        ReconstructionDisplay

        Raises
        ------
        TypeError
            If it is no estimator of skbae.
        ValueError
            If there are no such rows, `image_shape` does not fit, or columns are categories.
        """
        fitted_autoencoder(estimator, "ReconstructionDisplay")
        ax = axes_for(ax, "ReconstructionDisplay")
        n_rows, n_features = np.shape(X)
        numbers = _check_rows(range(min(_N_ROWS, n_rows)) if rows is None else rows, n_rows)
        if image_shape is not None:
            image_shape = check_image_shape(image_shape, n_features)
        chosen = X.iloc[numbers] if hasattr(X, "iloc") else np.asarray(X)[numbers]
        reconstruction_scorer(estimator, chosen)  # refuses what has no reconstruction
        found = estimator.inverse_transform(estimator.transform(chosen))
        return cls(
            np.asarray(chosen, dtype=np.float64),
            np.asarray(found, dtype=np.float64),
            numbers=numbers,
            feature_names=feature_names(estimator, n_features),
            image_shape=image_shape,
        ).plot(ax)

    def plot(self, ax: Any = None, *, cmap: Any = PIXELS) -> Self:
        """Draw rows and reconstructions.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        cmap : str or matplotlib Colormap, default="gray"
            Of images.

        Returns
        -------
        ReconstructionDisplay
            Itself.
        """
        self.ax_ = axes_for(ax, "ReconstructionDisplay")
        self.figure_ = self.ax_.figure
        self.errors_ = np.nanmean((self.rows - self.reconstructions) ** 2, axis=1)
        self.image_, self.lines_ = None, []
        if self.image_shape is not None:
            self._draw_images(self.image_shape, cmap)
        else:
            self._draw_lines()
        return self

    def _draw_images(self, shape: tuple[int, int], cmap: Any) -> None:
        both = np.concatenate([self.rows, self.reconstructions])
        picture, across, down = mosaic(both.reshape(-1, *shape), len(self.rows))
        self.image_ = draw_mosaic(self.ax_, picture, cmap, limits_of(both))
        self.ax_.set_xticks(across, labels=[f"{error:.3g}" for error in self.errors_])
        self.ax_.set_yticks(down, labels=["row", "reconstruction"])
        self.ax_.set_xlabel("mean squared error")

    def _draw_lines(self) -> None:
        at = np.arange(self.rows.shape[1])
        for row, found, number, colour in zip(
            self.rows, self.reconstructions, self.numbers, colours(len(self.rows)), strict=True
        ):
            (own,) = self.ax_.plot(at, row, "o-", color=colour, ms=4, label=f"row {number}")
            (back,) = self.ax_.plot(at, found, "s--", color=colour, ms=4, mfc="none")
            self.lines_ += [own, back]
        self.ax_.plot([], [], "s--", color=NEUTRAL, mfc="none", label="reconstruction")
        if len(self.rows) <= 2 * _N_ROWS:
            self.ax_.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        if len(at) <= 30:
            named = not all(name.isdigit() for name in self.feature_names)
            self.ax_.set_xticks(at, labels=self.feature_names)
            self.ax_.tick_params(axis="x", rotation=20 if named else 0)
        self.ax_.set(xlabel="column", ylabel="value")


def _check_rows(rows: Any, n_rows: int) -> list[int]:
    numbers = np.asarray(rows)
    valid = numbers.ndim == 1 and len(numbers) and numbers.dtype.kind in "iu"
    if not valid or not np.all((numbers >= 0) & (numbers < n_rows)):
        raise ValueError(
            f"rows must be numbers of rows of X, from 0 to {n_rows - 1}, at least one, got {rows!r}"
        )
    return [int(number) for number in numbers]
