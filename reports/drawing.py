"""What figures of several sections are made of: histograms, floors, strips of images, views of a molecule."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.schema import Array, Floor, Record
from cryosip.reports.controls import START_LABEL, floor_label
from cryosip.reports.spreads import spread, typical_floor
from cryosip.reports.style import INK, Plot, SeriesStyle, draw

START = "#888888"  # the initial distribution
GREY = "#80868f"  # reads on light and on dark
STANDS = (-9.0, -4.5, 0.0, 4.5, 9.0)  # whitened coordinates at which Fig. 7 shows the molecule
VIEWS = ((0, 2), (1, 2))  # which axes of the molecule go right and up


def flows(records: Iterable[Record], variant: str) -> list[Record]:
    """The flows of one variant that ended well, energy first, then KL, then the others."""
    kept = [r for r in records if r.method == "flow" and r.labels.variant == variant and r.status == "ok"]
    return sorted(kept, key=lambda r: (r.discrepancy not in ("energy", "kl"), r.discrepancy, r.replicate))


def first_with(records: Sequence[Record], arrays: set[str]) -> Record | None:
    """The record of the first replicate that has these arrays."""
    return min((r for r in records if arrays <= set(r.arrays)), key=lambda r: r.replicate, default=None)


def of_first_replicate(records: Sequence[Record], arrays: set[str]) -> list[Record]:
    """The runs that ended well and have these arrays, of the first replicate that has any."""
    kept = [r for r in records if r.status == "ok" and arrays <= set(r.arrays)]
    first = min((r.replicate for r in kept), default=0)
    return [r for r in kept if r.replicate == first]


def density(points: Array, weights: Array | None, edges: Array) -> Array:
    """The weighted histogram of total mass 1; what lies outside of the edges counts in the mass."""
    mass = np.full(points.size, 1 / points.size) if weights is None else weights / weights.sum()
    return np.histogram(points, edges, weights=mass)[0] / np.diff(edges)


def outline(ax: Axes, series: SeriesStyle, line: str, heights: Array, edges: Array) -> None:
    """Draw one histogram in a style and line such as "-"; what is drawn in ink, the truth, is filled."""
    if series.colour == INK:
        ax.stairs(heights, edges, fill=True, color=INK, alpha=0.16)
    ax.stairs(heights, edges, color=series.colour, linestyle=line, linewidth=1.6, label=series.label)


class Cloud(NamedTuple):
    """Points of one series with their weights (None where all are alike), and the line of its histogram."""

    style: SeriesStyle
    points: Array
    weights: Array | None = None
    line: str = "-"


def histograms(
    name: str, title: str, caption: str, clouds: Sequence[Cloud], edges: Array, xlabel: str,
    also: Callable[[Axes, float], None] = lambda ax, top: None,
) -> Plot:  # fmt: skip
    """Weighted histograms of total mass 1, one for each cloud.

    Parameters
    ----------
    name, title, caption
        Those of the figure.
    clouds
        The series, points (n,) each.
    edges
        (bins + 1,) edges of the bins.
    xlabel
        What the points are.
    also
        Draws more on the panel, given the largest density.

    Returns
    -------
    Plot
        The figure, with the centre of each bin and the densities there as its table.
    """
    densities = [density(cloud.points, cloud.weights, edges) for cloud in clouds]

    def paint(ax: Axes) -> None:
        for cloud, heights in zip(clouds, densities, strict=True):
            outline(ax, cloud.style, cloud.line, heights, edges)
        ax.set(xlabel=xlabel, ylabel="density")
        also(ax, max(heights.max() for heights in densities))

    rows = np.column_stack([(edges[1:] + edges[:-1]) / 2, *densities]).tolist()
    return Plot(name, title, caption, draw(name, paint), ["centre", *(cloud.style.label for cloud in clouds)], rows)


def floor_band(ax: Axes, floors: Sequence[Floor]) -> None:
    """The floor of the metric: its median as a line and its 5-95 % as a band."""
    floor = typical_floor(floors)
    if floor:
        ax.axhspan(floor.q05, floor.q95, color=INK, alpha=0.10, linewidth=0)
        ax.axhline(floor.median, color=INK, alpha=0.5, linewidth=0.9, linestyle=":", label=floor_label(floor.n))


def initial_line(ax: Axes, records: Iterable[Record], metric: str) -> None:
    """The metric of the initial distribution: the median over data sets."""
    initial = spread([record.initial_metrics.get(metric, math.nan) for record in records])
    if initial.n:
        ax.axhline(initial.median, color=START, linewidth=1.1, linestyle="-.", label=START_LABEL)


def strip(name: str, title: str, caption: str, images: Array) -> Plot:
    """Square images side by side, the first row at the bottom.

    Parameters
    ----------
    name, title, caption
        Those of the figure.
    images
        (k, rows, columns), rows = columns, in one grey scale.

    Returns
    -------
    Plot
        The figure, with least, largest, mean and std of each image as its table.
    """
    size = images.shape[1]
    gap = np.full((size, max(1, size // 32)), np.nan)
    panels = [panel for image in images for panel in (image, gap)][:-1]

    def paint(ax: Axes) -> None:
        ax.imshow(np.concatenate(panels, axis=1), cmap="gray", origin="lower", interpolation="nearest")
        ax.set_axis_off()

    rows = [[index, *map(float, (i.min(), i.max(), i.mean(), i.std()))] for index, i in enumerate(images)]
    return Plot(name, title, caption, draw(name, paint, (5.0, 1.5)), ["image", "least", "largest", "mean", "std"], rows)


def views(points: Array, reference: Array | None = None) -> list[tuple[Array, float]]:
    """The points in two views, and how far to the right each is drawn."""
    reference = points if reference is None else reference
    width = 1.35 * max(float(np.ptp(reference[:, axes[0]])) for axes in VIEWS)
    return [(points[:, list(axes)], width * number) for number, axes in enumerate(VIEWS)]
