"""Movies: the particles of a flow on their way to the truth, and a protein along its modes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from cryosip.records.schema import Array, Record
from cryosip.reports.drawing import STANDS, density, first_with, flows, outline, views
from cryosip.reports.style import INK, SIZE, Plot, SeriesStyle, draw, series_style
from cryosip.reports.svg_animation import Track, moving, once, swing

BINS, TRUE_BINS = 30, 60
RUG = 0.3  # the height of the strip of particles, of the highest density
GOLDEN = 0.6180339887  # its multiples, modulo 1, lie evenly
MODES = 2
RUNS = 8  # of beads, each in a colour


class Film(NamedTuple):
    """Some particles of a flow, (frames, particles, d), and the steps after which they were there."""

    steps: list[int]
    theta: Array


def film(record: Record) -> Film | None:
    """What a record keeps of its way, None where it is nothing."""
    steps, rows = record.arrays.get("frame_steps"), record.arrays.get("frames")
    if steps is None or rows is None or len(steps) < 2 or not len(rows) or len(rows) % len(steps):
        return None
    if not np.isfinite(rows).all():
        return None
    return Film([int(step) for step in steps[:, 0]], rows.reshape(len(steps), -1, rows.shape[1]))


def particles(records: Sequence[Record], prefix: str) -> list[Plot]:
    """The particles of published flows on a line."""
    films = [
        (r, shot) for r in flows(records, "published") if np.size(r.arrays.get("theta_true", ())) and (shot := film(r))
    ]
    films = [(r, shot) for r, shot in films if shot.theta.shape[2] == r.arrays["theta_true"].shape[1] == 1]
    return [_on_the_line(f"{prefix}movie-{at}", r, shot) for at, (r, shot) in enumerate(films)]


def _caption(record: Record, shot: Film) -> str:
    of = len(record.arrays["theta"]) if "theta" in record.arrays else shot.theta.shape[1]
    return (
        f"{shot.theta.shape[1]:,} of {of:,} particles, the same ones in all {len(shot.steps)} frames, as a histogram "
        f"of {BINS} bins and, below, one by one; grey: the truth; between frames they are drawn on straight lines. "
        f"Replicate {record.replicate}, setting “{record.labels.text}”."
    )


def _rows(shot: Film) -> list[list[Any]]:
    return [
        [step, particle, float(theta)]
        for step, frame in zip(shot.steps, shot.theta[:, :, 0], strict=True)
        for particle, theta in enumerate(frame)
    ]


def _staircase(heights: Array, edges: Array) -> Array:
    """The corners of a histogram."""
    return np.column_stack([np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(heights, 2), [0.0]])])


def _on_the_line(name: str, record: Record, shot: Film) -> Plot:
    """The histogram of the particles over the truth's, and the particles themselves below."""
    true, series, theta = record.arrays["theta_true"][:, 0], series_style(record), shot.theta[:, :, 0]
    ranges = [np.quantile(points, [0.001, 0.999]) for points in (true, *theta)]
    low, high = (float(of([ends[i] for ends in ranges])) for i, of in enumerate((min, max)))
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    edges, fine = (np.linspace(low, high, bins + 1) for bins in (BINS, TRUE_BINS))
    truth = density(true, None, fine)
    outlines = np.stack([_staircase(density(points, None, edges), edges) for points in theta])
    top = 1.05 * max(truth.max(), outlines[:, :, 1].max())
    places = -RUG * top * (0.1 + 0.8 * (np.arange(theta.shape[1]) * GOLDEN % 1))
    rug = np.stack([theta, np.broadcast_to(places, theta.shape)], -1)

    def paint(ax: Axes) -> None:
        outline(ax, SeriesStyle("truth", INK, ""), "-", truth, fine)
        ax.plot([], [], color=series.colour, linewidth=1.6, label=series.label)
        ax.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
        ax.set(xlim=(low, high), ylim=(-RUG * top, top), xlabel="θ", ylabel="density")
        ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= top])

    labels = [f"step {step:,}" for step in shot.steps]
    kept = [int(at) for at in np.linspace(0, len(theta) - 1, min(len(theta), 5)).round()]
    bases = [-top * row for row in range(len(kept))]

    def stills(ax: Axes) -> None:
        for base, at in zip(bases, kept, strict=True):
            (x, y), (x_own, y_own) = _staircase(truth, fine).T, outlines[at].T
            ax.fill(x, y + base, color=INK, alpha=0.16, linewidth=0, label=None if base else "truth")
            ax.plot(x_own, y_own + base, color=series.colour, linewidth=1.4, label=None if base else series.label)
        ax.set_yticks(bases, [labels[at] for at in kept])
        ax.set(xlim=(low, high), xlabel="θ")

    tracks = [Track(outlines, series.colour, 1.6), Track(rug, series.colour, 3.0, 0.6, dots=True)]
    movie = moving(f"{name}-moving", paint, SIZE, tracks, once(len(theta)), labels)
    title = f"Fig. 1 in motion: {series.label}"
    columns = ["step", "particle", "theta"]
    drawing = draw(name, stills, (5.0, 4.6))
    return Plot(name, title, _caption(record, shot), drawing, columns, _rows(shot), movie)


def modes(records: Sequence[Record], prefix: str) -> list[Plot]:
    """The protein moving along its lowest modes."""
    shown = first_with(records, {"beads", "motions"})
    if shown is None:
        return []
    beads, moves = shown.arrays["beads"], shown.arrays["motions"]
    return [
        _mode(beads, move.reshape(beads.shape), i, f"{prefix}movie-{i + 1}") for i, move in enumerate(moves[:MODES])
    ]


def _mode(beads: Array, move: Array, i: int, name: str) -> Plot:
    """From one end of Fig. 7 to the other and back."""
    caption = (
        f"The trace of {len(beads)} beads between z = {STANDS[0]:g} and z = {STANDS[-1]:g}, as in Fig. 7, in two views "
        "a quarter turn apart, coloured from the first residue to the last; thin, where it moves: at rest."
    )
    return swinging(name, f"Fig. 7 in motion: mode {i + 1}", caption, beads, move, STANDS)


def swinging(name: str, title: str, caption: str, beads: Array, move: Array, stands: Sequence[float]) -> Plot:
    """Two views of a molecule from one end of a mode to the other and back, and a mark that shows z.

    Parameters
    ----------
    name, title, caption
        Those of the figure.
    beads, move
        (b, 3) at rest, and what a step of 1 in z adds.
    stands
        Values of z in ascending order: those side by side on paper, the first and the last of them the ends.

    Returns
    -------
    Plot
        The figure with its movie, beads and moves as its table.
    """
    ends = (stands[0], stands[-1])
    traces = [
        np.stack([points + np.array([left, 0.0]) for points, left in view])
        for view in zip(*(views(beads + z * move, beads) for z in ends), strict=True)
    ]
    every = np.concatenate([trace.reshape(-1, 2) for trace in traces])
    (left, bottom), (right, top) = every.min(0), every.max(0)
    margin = 0.06 * (right - left)
    level, reach = bottom - 1.5 * margin, 0.15 * (right - left)
    middle = (left + right) / 2

    def paint(ax: Axes) -> None:
        for points, across in views(beads):
            ax.plot(points[:, 0] + across, points[:, 1], color=INK, linewidth=0.6, alpha=0.3)
        ax.plot([middle - reach, middle + reach], [level, level], color=INK, linewidth=0.8, alpha=0.5)
        for side, z, ha in ((-1, ends[0], "right"), (1, ends[1], "left")):
            ax.text(middle + side * 1.1 * reach, level, f"z = {z:.3g}", ha=ha, va="center")
        ax.set(xlim=(left - margin, right + margin), ylim=(level - margin, top + margin), aspect=1)
        ax.set_axis_off()

    def stills(ax: Axes) -> None:
        side_by_side(ax, [beads + z * move for z in stands], beads, [f"z = {z:.3g}" for z in stands])

    tracks = [Track(trace[:, start:stop], color, 1.8) for trace in traces for start, stop, color in _runs(len(beads))]
    tracks.append(Track(np.array([[[middle + side * reach, level]] for side in (-1, 1)]), INK, 7.0, dots=True))
    height = 5.0 * (top - level + 2 * margin) / (right - left + 2 * margin)
    movie = moving(f"{name}-moving", paint, (5.0, min(height, 5.0)), tracks, swing())
    rows = np.column_stack([beads, move]).tolist()
    return Plot(name, title, caption, draw(name, stills, (5.0, 3.0)), ["x", "y", "z", "dx/dz", "dy/dz", "dz/dz"],
                rows, movie)  # fmt: skip


def _runs(n_beads: int) -> list[tuple[int, int, str]]:
    """Parts of a trace that leave no gap, from a bead to before another, each with its colour."""
    parts = np.array_split(np.arange(n_beads), min(RUNS, n_beads))
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(parts)))
    return [(int(part[0]), int(part[-1]) + 2, to_hex(color)) for part, color in zip(parts, colors, strict=True)]


def side_by_side(ax: Axes, shapes: Sequence[Array], reference: Array, labels: Sequence[str]) -> None:
    """Draw the traces of shapes (b, 3) in columns, two views of each below one another, and its label below these.

    `reference` (b, 3) decides where labels stand and how far apart views are laid out.
    """
    every = np.concatenate([points + np.array([left, 0.0]) for s in shapes for points, left in views(s, reference)])
    (_, bottom), (_, top) = every.min(0), every.max(0)
    across, down = 1.1 * np.ptp(every[:, 0]) / 2, 1.15 * (top - bottom)
    for column, (shape, label) in enumerate(zip(shapes, labels, strict=True)):
        for row, (points, _) in enumerate(views(shape, reference)):
            x, y = (points + np.array([column * across, -row * down])).T
            for start, stop, color in _runs(len(shape)):
                ax.plot(x[start:stop], y[start:stop], color=color, linewidth=1.0)
        ax.text(reference[:, 0].mean() + column * across, bottom - 1.05 * down, label, ha="center", va="top")
    ax.set_aspect(1)
    ax.set_axis_off()
