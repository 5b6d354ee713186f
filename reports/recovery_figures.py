"""The figures of a recovered distribution: along each mode, its free energy, and the structures it stands for."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from cryosip.records.recovery import Recovery
from cryosip.records.schema import Array
from cryosip.reports.drawing import density
from cryosip.reports.movies import side_by_side, swinging
from cryosip.reports.recovery_sentences import informative, percent
from cryosip.reports.sections.protein import models
from cryosip.reports.style import INK, SIZE, Plot, SeriesStyle, draw, named_style

CAUTION = "Nothing can be told of the distribution from these images"
FEW = 40  # points, up to which a method is drawn as marks
LEVELS = 8  # contour lines, at most
STOPS = 5  # shapes along a mode
ENDS = 0.01, 0.99  # quantiles between which a movie goes
STEP, RANGE = 0.7, 1 / 40  # std by which histograms are smoothed: of a step, or of the range where that is more
# yellow to blue, its lightness falling all the way: read with any colour vision, and black lines stand out on it
COLOURS = LinearSegmentedColormap.from_list(
    "lighter viridis", matplotlib.colormaps["viridis_r"](np.linspace(0, 0.7, 256))
)

Arrays = Mapping[str, Array]


class Axis(NamedTuple):
    """The n points of a mode at which densities are given, and the n + 1 ends of the steps around them."""

    points: Array
    edges: Array


def axis_of(recovery: Recovery, mode: int, n: int) -> Axis:
    """From lower to upper, both included."""
    points = np.linspace(recovery.lower[mode], recovery.upper[mode], n)
    half = (points[-1] - points[0]) / (2 * max(n - 1, 1))
    return Axis(points, np.append(points - half, points[-1] + half))


def coordinate(mode: int) -> str:
    """Such as θ₁."""
    return f"θ{chr(0x2081 + mode)}"


def caution(recovery: Recovery) -> str:
    """What stands in each figure of the distribution where nothing can be told of it, else ""."""
    return "" if informative(recovery) else CAUTION


def drawn(
    recovery: Recovery, name: str, title: str, caption: str, paint: Callable[[Axes], None],
    columns: Sequence[str], rows: Sequence[Sequence[object]], size: tuple[float, float] = SIZE, pdb: str = "",
) -> Plot:  # fmt: skip
    """A figure of the distribution, with the caution in it and in its caption."""
    warning = caution(recovery)

    def cautious(ax: Axes) -> None:
        paint(ax)
        if warning:
            ax.set_title(warning, fontsize=9, fontweight="bold", color=INK)

    caption = f"{warning}. {caption}" if warning else caption
    return Plot(name, title, caption, draw(name, cautious, size), columns, rows, pdb=pdb)


def others(recovery: Recovery, arrays: Arrays) -> list[tuple[SeriesStyle, Array, Array]]:
    """Style, points (k, d) and weights (k,) of each method but the shown one, of those that the arrays hold."""
    found = []
    for method in recovery.methods:
        points, weights = arrays.get(f"theta_{method.name}"), arrays.get(f"weights_{method.name}")
        if method.name != recovery.shown and points is not None and weights is not None and len(points):
            found.append((named_style(method.name), points, weights))
    return found


def distributions(recovery: Recovery, arrays: Arrays) -> list[Plot]:
    """Density and cumulative along each mode."""
    plots = []
    for mode in range(len(recovery.lower)):
        for part, paint in (("density", _density), ("cumulative", _cumulative)):
            if {part, f"{part}_low", f"{part}_high"} <= arrays.keys():
                plots.append(paint(recovery, arrays, mode))
    return plots


def _band(arrays: Arrays, part: str, mode: int) -> tuple[Array, Array, Array]:
    value, low, high = (arrays[f"{part}{end}"][mode] for end in ("", "_low", "_high"))
    return value, low, high


def _density(recovery: Recovery, arrays: Arrays, mode: int) -> Plot:
    value, low, high = _band(arrays, "density", mode)
    axis, style = axis_of(recovery, mode, len(value)), named_style(recovery.shown)
    known = others(recovery, arrays)
    lines = [
        (series, smoothed(density(points[:, mode], weights, axis.edges)))
        for series, points, weights in known
        if len(points) > FEW
    ]
    marks = [(series, points[:, mode], weights / weights.sum()) for series, points, weights in known
             if len(points) <= FEW]  # fmt: skip

    def paint(ax: Axes) -> None:
        ax.fill_between(axis.points, low, high, color=style.colour, alpha=0.25, linewidth=0)
        ax.plot(axis.points, value, color=style.colour, linewidth=2.0, label=f"{style.label}, 5–95 %")
        for series, heights in lines:
            ax.plot(axis.points, heights, color=series.colour, linewidth=1.2, label=series.label)
        top = max(high.max(), *(heights.max() for _, heights in lines), 0.0)
        for row, (series, places, shares) in enumerate(marks, start=1):
            ax.scatter(places, np.full(len(places), -0.06 * top * row), 160 * shares + 4, color=series.colour,
                       marker=series.marker, alpha=0.75, linewidths=0, label=series.label)  # fmt: skip
        ax.set(xlim=(axis.edges[0], axis.edges[-1]), xlabel=f"{coordinate(mode)}, mode {mode + 1}", ylabel="density")
        ax.set_yticks([tick for tick in ax.get_yticks() if tick >= 0])

    caption = (
        f"Line and band: {recovery.shown}, and the 5–95 % of what resampled images give. Thin lines: weighted "
        "histograms of the other methods, a little smoothed."
    )
    if marks:
        caption += (
            f" Marks below the axis: methods of at most {FEW} points, each with an area that grows with its weight."
        )
    columns = [coordinate(mode), recovery.shown, "5 %", "95 %", *(series.label for series, _ in lines)]
    rows = np.column_stack([axis.points, value, low, high, *(heights for _, heights in lines)]).tolist()
    return drawn(recovery, f"density-{mode + 1}", f"Mode {mode + 1}: density", caption, paint, columns, rows)


def smoothed(heights: Array) -> Array:
    """A histogram (n,) after a Gaussian, so that its peaks are not those of single points."""
    std = max(STEP, RANGE * len(heights))
    reach = min(int(np.ceil(3 * std)), (len(heights) - 1) // 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / std) ** 2)
    return np.convolve(heights, kernel / kernel.sum(), "same")


def _cumulative(recovery: Recovery, arrays: Arrays, mode: int) -> Plot:
    value, low, high = _band(arrays, "cumulative", mode)
    axis, style = axis_of(recovery, mode, len(value)), named_style(recovery.shown)
    lines = [
        (series, np.array([weights[points[:, mode] <= edge].sum() for edge in axis.edges[1:]]) / weights.sum())
        for series, points, weights in others(recovery, arrays)
    ]

    def paint(ax: Axes) -> None:
        ax.fill_between(axis.edges[1:], low, high, color=style.colour, alpha=0.25, linewidth=0)
        ax.plot(axis.edges[1:], value, color=style.colour, linewidth=2.0, label=f"{style.label}, 5–95 %")
        for series, heights in lines:
            ax.plot(axis.edges[1:], heights, color=series.colour, linewidth=1.2, label=series.label)
        ax.set(xlim=(axis.edges[0], axis.edges[-1]), ylim=(0, 1.01))
        ax.set(xlabel=f"{coordinate(mode)}, mode {mode + 1}", ylabel="share below")

    caption = (
        f"The share of the distribution below each place, of {recovery.shown} with the 5–95 % of resampled images, and "
        "of the other methods. It depends on no smoothing."
    )
    columns = [coordinate(mode), recovery.shown, "5 %", "95 %", *(series.label for series, _ in lines)]
    rows = np.column_stack([axis.edges[1:], value, low, high, *(heights for _, heights in lines)]).tolist()
    return drawn(recovery, f"cumulative-{mode + 1}", f"Mode {mode + 1}: cumulative", caption, paint, columns, rows)


def landscape(recovery: Recovery, arrays: Arrays) -> list[Plot]:
    """The free energy of the first two modes and its uncertainty; of a single mode a line with its band."""
    if len(recovery.lower) == 1:
        return [_energy_line(recovery, arrays)] if {"density", "density_low", "density_high"} <= arrays.keys() else []
    texts = {
        "free_energy": ("Free energy", "Free energy in k_B T above its lowest, with contour lines."),
        "free_energy_std": ("Uncertainty of the free energy", "Its std over resampled images, in k_B T."),
    }
    return [
        _map(recovery, arrays, part, *words)
        for part, words in texts.items()
        if part in arrays and np.isfinite(arrays[part]).any()
    ]


def _map(recovery: Recovery, arrays: Arrays, part: str, title: str, caption: str) -> Plot:
    values, energy = arrays[part], part == "free_energy"
    first, second = (axis_of(recovery, mode, n) for mode, n in enumerate(values.shape))
    extent = (first.edges[0], first.edges[-1], second.edges[0], second.edges[-1])
    places = arrays.get("representatives", np.zeros((0, 2)))
    step = max(1, math.ceil(float(np.nanmax(values)) / LEVELS))

    def paint(ax: Axes) -> None:
        image = ax.imshow(values.T, origin="lower", extent=extent, aspect="auto", cmap=COLOURS, interpolation="nearest")
        bar = ax.figure.colorbar(image, ax=ax, label="k_B T")
        if energy:
            levels = np.arange(step, np.nanmax(values), step)
            if len(levels):
                lines = ax.contour(first.points, second.points, values.T, levels, colors="#000000", linewidths=0.7)
                bar.add_lines(lines)
            for number, (x, y, *_) in enumerate(places, start=1):
                ax.plot(x, y, "o", color="#ffffff", markeredgecolor="#000000", markersize=11)
                ax.text(x, y, str(number), color="#000000", fontsize=8, ha="center", va="center_baseline")
        ax.grid(False)
        ax.set(xlabel=f"{coordinate(0)}, mode 1", ylabel=f"{coordinate(1)}, mode 2")

    caption += " Blank: less than one image is expected there."
    caption += " Numbers: the representative structures." if energy and len(places) else ""
    rows = [[x, y, float(values[i, j])] for i, x in enumerate(first.points.tolist())
            for j, y in enumerate(second.points.tolist())]  # fmt: skip
    return drawn(recovery, part.replace("_", "-"), title, caption, paint, [coordinate(0), coordinate(1), "k_B T"], rows)


def _energy_line(recovery: Recovery, arrays: Arrays) -> Plot:
    value, low, high = _band(arrays, "density", 0)
    axis, style = axis_of(recovery, 0, len(value)), named_style(recovery.shown)
    with np.errstate(divide="ignore"):
        energies = [-np.log(part / value.max()) for part in (value, high, low)]
    empty = value * (axis.edges[1] - axis.edges[0]) * recovery.n_images < 1
    energy, lower, upper = (np.where(empty, np.nan, part) for part in energies)
    top = 1.1 * float(np.nanmax(energy)) + 1.0

    def paint(ax: Axes) -> None:
        ax.fill_between(axis.points, lower, np.minimum(upper, top), color=style.colour, alpha=0.25, linewidth=0)
        ax.plot(axis.points, energy, color=style.colour, linewidth=2.0, label=f"{style.label}, 5–95 %")
        ax.set(xlim=(axis.edges[0], axis.edges[-1]), ylim=(min(0.0, float(np.nanmin(lower))), top))
        ax.set(xlabel=f"{coordinate(0)}, mode 1", ylabel="free energy, k_B T")

    rows = np.column_stack([axis.points, energy, lower, upper]).tolist()
    caption = "-log of the density above its lowest, with the 5–95 % of resampled images. Blank: less than one image."
    columns = [coordinate(0), "k_B T", "5 %", "95 %"]
    return drawn(recovery, "free-energy", "Free energy", caption, paint, columns, rows)


def structures(recovery: Recovery, arrays: Arrays) -> list[Plot]:
    """The molecule at each representative, and moving along each mode."""
    if not {"beads", "motions"} <= arrays.keys():
        return []
    beads, motions = arrays["beads"], arrays["motions"].reshape(-1, *arrays["beads"].shape)
    plots = [_representatives(recovery, arrays, beads, motions)] if len(arrays.get("representatives", ())) else []
    return plots + [_movie(recovery, arrays, beads, motions, mode) for mode in range(len(motions))]


def _representatives(recovery: Recovery, arrays: Arrays, beads: Array, motions: Array) -> Plot:
    places = arrays["representatives"]
    shapes = [beads + np.tensordot(place, motions, 1) for place in places]
    shares = arrays.get("shares", np.full(len(places), math.nan))
    labels = [f"{number}\n{percent(share)}" for number, share in enumerate(shares, start=1)]
    caption = (
        "The trace of the molecule in each representative structure, in two views a quarter turn apart, coloured from "
        "the first residue to the last; below, its number and its share."
    )
    columns = ["structure", "bead", "x", "y", "z"]
    rows = [[number, bead, *place] for number, shape in enumerate(shapes, start=1)
            for bead, place in enumerate(shape.tolist(), start=1)]  # fmt: skip
    paint = partial(side_by_side, shapes=shapes, reference=beads, labels=labels)
    size = (max(5.0, 1.1 * len(shapes)), 3.4)
    return drawn(recovery, "representatives", "Representative structures", caption, paint, columns, rows, size,
                 models(shapes))  # fmt: skip


def _movie(recovery: Recovery, arrays: Arrays, beads: Array, motions: Array, mode: int) -> Plot:
    low, high, where = recovery.lower[mode], recovery.upper[mode], "over the whole range"
    if "cumulative" in arrays:
        value = arrays["cumulative"][mode]
        ends = np.interp(ENDS, value, axis_of(recovery, mode, len(value)).edges[1:])
        if ends[1] > ends[0]:
            low, high, where = *ends, "between its 1 % and 99 % quantiles"
    size = np.sqrt((motions[mode] ** 2).sum(1).mean())
    caption = (
        f"The trace of {len(beads)} beads {where}, in two views a quarter turn apart, coloured from the first residue "
        f"to the last; thin, where it moves: at 0. z is {coordinate(mode)}; a step of 1 moves the beads by {size:.2g} "
        "Å (root mean square)."
    )
    stops = [float(z) for z in np.linspace(low, high, STOPS)]
    name, title = f"motion-{mode + 1}", f"Motion along mode {mode + 1}"
    plot = swinging(name, title, caption, beads, motions[mode], stops)
    return plot._replace(pdb=models([beads + z * motions[mode] for z in stops]))
