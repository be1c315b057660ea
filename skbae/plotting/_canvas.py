"""What all displays share: axes, colours that everybody can tell apart, images side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skbae._types import Array

# Okabe and Ito's colours, which colour-blind people can tell apart, without black and yellow, which
# vanish on dark and on light backgrounds.
_PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
NEUTRAL = "#808080"  # seen on light and on dark backgrounds
STATUS_MARKERS = {"ok": "o", "suspect": "s", "failed": "X"}
# Colour maps: of loadings, which have a sign; of pixels; of probabilities.
SIGNED, PIXELS, SHARES = "RdBu_r", "gray", "viridis"
_MAX_COLUMNS = 10


def axes_for(ax: Any, caller: str) -> Any:
    """Return `ax`, or the axes of a new figure; raise ImportError if there is no matplotlib."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib, which is not installed: install skbae with the extra "
            '"plot" (pip install "skbae[plot]")'
        ) from error
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    return ax


def below(ax: Any) -> Any:
    """Return new axes in the lower half of the place of `ax`, which keeps the upper half."""
    place = ax.get_subplotspec()
    if place is None:  # axes that were put somewhere by hand
        box = ax.get_position()
        ax.set_position((box.x0, box.y0 + 0.6 * box.height, box.width, 0.4 * box.height))
        return ax.figure.add_axes((box.x0, box.y0, box.width, 0.35 * box.height))
    halves = place.subgridspec(2, 1)
    ax.set_subplotspec(halves[0])
    return ax.figure.add_subplot(halves[1])


def colours(n_colours: int) -> list[Any]:
    """Return colours for components: the palette's, or shades of a map if these are too few."""
    if n_colours <= len(_PALETTE):
        return list(_PALETTE[:n_colours])
    from matplotlib import colormaps

    return list(colormaps[SHARES](np.linspace(0.15, 0.95, n_colours)))


def marks(n_classes: int) -> list[tuple[Any, str]]:
    """Return a colour and a marker for each of some classes of points."""
    size = len(_PALETTE)
    markers = "o^sDvP"
    return [(_PALETTE[k % size], markers[k // size % len(markers)]) for k in range(n_classes)]


def check_image_shape(image_shape: Any, n_features: int) -> tuple[int, int]:
    """Return the numbers of pixels, or raise ValueError unless they make up a row."""
    try:
        height, width = (int(size) for size in image_shape)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1 or height * width != n_features:
        raise ValueError(
            "image_shape must be two numbers of pixels whose product is the number of columns, "
            f"{n_features}, got {image_shape!r}"
        )
    return height, width


def mosaic(images: Array, n_columns: int, room: float = 0.1) -> tuple[Array, Array, Array]:
    """Put images (M, height, width) side by side, with empty (NaN) lines of pixels between them.

    Between one line of images and the next there are `room` times their height.

    Returns
    -------
    picture : ndarray
    across, down : ndarrays
        The centres of the columns and of the lines of images, in pixels.
    """
    n_images, height, width = images.shape
    gap, between = max(1, round(0.1 * width)), max(1, round(room * height))
    n_lines = -(-n_images // n_columns)
    picture = np.full(
        (n_lines * (height + between) - between, n_columns * (width + gap) - gap), np.nan
    )
    for number, image in enumerate(images):
        line, column = divmod(number, n_columns)
        top, left = line * (height + between), column * (width + gap)
        picture[top : top + height, left : left + width] = image
    across = np.arange(n_columns) * (width + gap) + (width - 1) / 2
    down = np.arange(n_lines) * (height + between) + (height - 1) / 2
    return picture, across, down


def columns_of(n_images: int) -> int:
    """Return how many images are drawn side by side."""
    if n_images <= _MAX_COLUMNS:
        return n_images
    return min(_MAX_COLUMNS, int(np.ceil(np.sqrt(1.6 * n_images))))


def draw_mosaic(ax: Any, picture: Array, cmap: Any, limits: tuple[float, float]) -> Any:
    """Draw images side by side without a frame, and return the one that matplotlib makes of them.

    Entries that are NaN are left transparent.
    """
    image = ax.imshow(picture, cmap=cmap, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    ax.set_frame_on(False)
    ax.tick_params(length=0)
    ax.set(xticks=[], yticks=[])
    return image


def draw_table(
    ax: Any, table: Array, cmap: Any, limits: tuple[float, float], names: Sequence[str]
) -> Any:
    """Draw a matrix as colours, with the names of its columns below it if they can be read."""
    image = ax.imshow(table, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    if len(names) <= 30:
        long = sum(map(len, names)) > 50
        ax.set_xticks(
            range(len(names)),
            labels=names,
            rotation=40 if long else 0,
            ha="right" if long else "center",
            rotation_mode="anchor" if long else "default",
        )
    return image


def draw_colour_bar(ax: Any, image: Any, label: str | None = None) -> Any:
    """Draw what colours mean beside the axes, as high as these, and return the colour bar."""
    beside = ax.inset_axes([1.03, 0.0, 0.04, 1.0])
    bar = ax.figure.colorbar(image, cax=beside, label=label)
    bar.outline.set_edgecolor(NEUTRAL)
    return bar


def symmetric_limits(values: Array) -> tuple[float, float]:
    """Return limits of a colour map whose middle is zero."""
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    return -largest, largest


def limits_of(values: Array) -> tuple[float, float]:
    """Return the smallest and the largest value that is known."""
    return float(np.nanmin(values)), float(np.nanmax(values))
