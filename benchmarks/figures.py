"""Pictures of "How we test", from the results that ``benchmarks/report.py`` has stored.

``python benchmarks/figures.py`` writes ``docs/_static/coverage.svg`` (differences of evidences in
units of their standard errors) and ``docs/_static/calibration.svg`` (ranks of the truth, by the
sampler and by one that lacks a term). Backgrounds are white, so that pictures are readable on dark
pages. Needs matplotlib.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from report import stored
from scipy import stats

mpl.use("agg")
import matplotlib.pyplot as plt

STATIC = Path(__file__).parents[1] / "docs" / "_static"
STYLE = {
    "svg.hashsalt": "skbae",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
RIGHT, WRONG = "#33658a", "#c8553d"
# Nats below which an error says nothing of sampling: references are stored to some thousandths.
SMALL = 5e-3


def save(figure, name):
    STATIC.mkdir(exist_ok=True)
    figure.savefig(STATIC / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def standardised(rows):
    """Return differences over joint errors of the problems with an error that sampling causes."""
    good = [row for row in rows if row["status"] == row["reference_status"] == "ok"]
    return np.array(
        [row["difference"] / row["joint_error"] for row in good if row["error"] > SMALL]
    )


def draw_coverage():
    """Draw the histogram of standardised errors, and their quantiles against the normal's."""
    z = np.sort(standardised(stored("coverage")["rows"]))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    grid = np.linspace(-4, 4, 201)
    left.hist(z, np.arange(-4, 4.5, 0.5), density=True, color=RIGHT, alpha=0.7)
    left.plot(grid, stats.norm.pdf(grid), color="black", lw=1.2, label="normal distribution")
    left.set(xlabel="(fit - long run) / standard error", ylabel="density")
    left.legend(frameon=False, loc="upper right")
    levels = (np.arange(1, len(z) + 1) - 0.5) / len(z)
    expected = stats.norm.ppf(levels)
    # pointwise limits of 95% of the order statistics of as many normal numbers
    orders = np.arange(1, len(z) + 1)
    low, high = (
        stats.norm.ppf(stats.beta.ppf(p, orders, len(z) + 1 - orders)) for p in (0.025, 0.975)
    )
    right.fill_between(expected, low, high, color="0.85", label="95% by chance")
    right.plot(expected, expected, color="black", lw=1)
    right.plot(expected, z, ".", color=RIGHT, label=f"{len(z)} problems")
    right.set(xlabel="quantiles of the normal distribution", ylabel="standardised errors")
    right.legend(frameon=False, loc="upper left")
    save(figure, "coverage")


def draw_calibration():
    """Draw histograms of ranks, of the sampler and of the one without a term."""
    rows = stored("calibration")["rows"]
    chosen = ("mean energy", "mean", "log variance")
    titles = ("mean energy of a row", "mean of the mixture", "sum of log variances")
    figure, axes = plt.subplots(2, 3, figsize=(8, 4), layout="constrained", sharex=True)
    for line, (sampler, colour) in zip(
        axes, (("right", RIGHT), ("without shrinkage", WRONG)), strict=True
    ):
        for axis, statistic, title in zip(line, chosen, titles, strict=True):
            (ranks,) = (
                row["ranks"]
                for row in rows
                if row["sampler"] == sampler and row["statistic"] == statistic
            )
            n, bins = len(ranks), 20
            low, high = stats.binom.ppf([0.025, 0.975], n, 1 / bins)
            axis.axhspan(low, high, color="0.87")
            axis.hist(ranks, bins, range=(0, 1), color=colour, alpha=0.75)
            axis.axhline(n / bins, color="black", lw=0.8)
            axis.set_title(title, fontsize=9)
        line[0].set_ylabel(
            {"right": "the sampler", "without shrinkage": "one term left out"}[sampler]
        )
    for axis in axes[1]:
        axis.set_xlabel("rank of the truth")
    for axis in axes.ravel():
        axis.set_ylim(0, max(each.get_ylim()[1] for each in axes.ravel()))
    save(figure, "calibration")


def main():
    with mpl.rc_context(STYLE):
        draw_coverage()
        draw_calibration()


if __name__ == "__main__":
    main()
