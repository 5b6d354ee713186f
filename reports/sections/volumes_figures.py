"""Figures of distributions of volumes: shells, planes, densities, volumes of images, maps, and a movie of two."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.schema import Array, Record
from cryosip.reports.drawing import GREY, density, of_first_replicate
from cryosip.reports.section import Figures, of_study
from cryosip.reports.spreads import grouped
from cryosip.reports.style import INK, Plot, draw, series_style
from cryosip.reports.svg_animation import back_and_forth, flicker

DISTANCE = "volume_w2"
FEW = 4_000  # points of a figure
BINS = 30
FRAMES = 13  # of the movie
STILLS = 5
END = 2.0  # stds of both ends of the maps that a record has
MAPS = "2 std to one side along the first principal component, the mean, 2 std to the other"


def figures(records: list[Record]) -> Figures:
    """Of the images with the most rows, the first replicate, the method that is nearest to the truth first."""
    drawn = of_first_replicate(of_study(records, "volumes"), {"volumes_true", "along_true"})
    if not drawn:
        return {}
    kept = max(grouped(drawn, place).values(), key=len)
    kept.sort(key=lambda r: r.metrics[DISTANCE])
    curves = [_correlations(kept)] if any("fsc_own" in r.arrays for r in kept) else []
    found = [r for r in kept if r.problem.endswith("-volumes")]  # others know how the molecule moves
    return {
        "volumes": [
            *curves,
            _densities(kept),
            *(_plane(r) for r in kept),
            *(_of_images(r) for r in kept if "along_own" in r.arrays),
            _maps("true", kept[0]),
            *(_maps("", r) for r in kept),
            *(_movie(r) for r in found[:1]),
        ]
    }


def place(record: Record) -> tuple[str, str]:
    """Which images: a problem and its volumes have the same, and other programs may have had them, too."""
    options = dict(record.config.problem.resolved) if record.config else {}
    return record.problem.removesuffix("-volumes"), json.dumps(options, sort_keys=True)


def name_of(record: Record) -> str:
    """What a row is called: the variant says what the method finds."""
    variant = record.labels.variant
    if record.study == "external":
        return f"{variant} (the program)"
    return f"{variant}: {record.method}" if variant.startswith("modes") else variant or record.method


def _slug(record: Record) -> str:
    kept = "".join(c if c.isalnum() else " " for c in name_of(record).lower())
    return "-".join(kept.split())


def _correlations(records: Sequence[Record]) -> Plot:
    """The volume that each method gives to an image, against the true one of that image."""
    kept = [r for r in records if "fsc_own" in r.arrays]
    table: list[list[Any]] = []

    def paint(ax: Axes) -> None:
        consensus = kept[0].arrays["fsc_consensus"]
        shells = np.arange(1, len(consensus) + 1)
        ax.fill_between(shells, consensus[:, 1], consensus[:, 2], color=GREY, alpha=0.25, linewidth=0)
        ax.plot(shells, consensus[:, 0], color=GREY, linestyle="--", label="consensus for every image")
        for i, record in enumerate(kept):
            style = series_style(record)
            line = ("-", "--", ":", "-.")[[r.method for r in kept[:i]].count(record.method) % 4]
            ax.plot(shells, record.arrays["fsc_own"][:, 0], line, color=style.colour, label=name_of(record))
        ax.set(xlabel="shell (cycles over the width of the cube)", ylabel="FSC with the true volume", ylim=(-0.1, 1.02))

    for record in kept:
        table += [[name_of(record), s + 1, *map(float, row)] for s, row in enumerate(record.arrays["fsc_own"])]
    caption = (
        "Lines are medians over images. Grey: the mean of the true volumes for every image, with 5–95 % of images; a "
        "method that is not above has told no image from another."
    )
    header = ["method", "shell", "median", "q05", "q95"]
    return Plot("volumes-fsc", "Volumes of images", caption, draw("volumes-fsc", paint), header, table)


def _densities(records: Sequence[Record]) -> Plot:
    """Histograms along the direction in which the true volumes vary most, one method above the other."""
    true = records[0].arrays["along_true"][:, 0]
    reach = 1.3 * np.abs(true - true.mean()).max()
    edges = np.linspace(true.mean() - reach, true.mean() + reach, BINS + 1)
    truth = density(true, None, edges)
    found = [density(r.arrays["along_estimated"][:, 0], r.arrays["along_estimated"][:, 2], edges) for r in records]
    step = 2.2 * truth.max()

    def paint(ax: Axes) -> None:
        for row, (record, heights) in enumerate(zip(records, found, strict=True)):
            base = -step * row
            ax.stairs(truth + base, edges, baseline=base, fill=True, color=INK, alpha=0.18,
                      label=None if row else "truth")  # fmt: skip
            shown = np.minimum(heights, 0.95 * step) + base
            ax.stairs(shown, edges, baseline=base, color=series_style(record).colour, linewidth=1.4)
            ax.text(edges[0], base + 0.55 * step, name_of(record), va="bottom", fontsize=9)
        ax.set_yticks([])
        ax.set(xlabel="first principal component of the true volumes", xlim=(edges[0], edges[-1]),
               ylim=(-step * (len(records) - 0.95), step))  # fmt: skip

    rows = np.column_stack([(edges[1:] + edges[:-1]) / 2, truth, *found]).tolist()
    caption = (
        f"Weighted histograms with the same {BINS} bins, over the truth’s in grey. What is higher than the row, as "
        "classes are, is cut; volumes beyond the ends are left out."
    )
    name, columns = "volumes-densities", ["centre", "truth", *map(name_of, records)]
    return Plot(name, "Densities", caption, draw(name, paint, (5.0, 0.8 + 0.5 * len(records))), columns, rows)


def _plane(record: Record) -> Plot:
    """Where the volumes of an estimate are, along the two directions in which the true ones vary most."""
    true, found = record.arrays["along_true"], record.arrays["along_estimated"]
    shown = _few(found)
    few = len(found) < 50
    area = 300 * found[:, 2] / found[:, 2].max() if few else np.minimum(5 * found[:, 2] / found[:, 2].mean(), 60)

    def paint(ax: Axes) -> None:
        ax.scatter(
            true[:, 0], true[:, 1], s=5, color=INK, alpha=0.18, linewidths=0, rasterized=True, label="true volumes"
        )
        colour = series_style(record).colour
        x, y = found[shown, :2].T
        ax.scatter(x, y, s=area[shown], color=colour, alpha=0.6, linewidths=0, rasterized=True, label="estimate")
        both = np.concatenate([true, found[shown, :2]])
        middle, reach = true.mean(0), 1.15 * np.abs(true - true.mean(0)).max(0)
        low, high = (np.quantile(both, q, axis=0) for q in (0.005, 0.995))
        ax.set(xlabel="first principal component", ylabel="second principal component",
               xlim=(min(low[0], middle[0] - reach[0]), max(high[0], middle[0] + reach[0])),
               ylim=(min(low[1], middle[1] - reach[1]), max(high[1], middle[1] + reach[1])))  # fmt: skip

    name = f"volumes-plane-{_slug(record)}"
    caption = "Volumes along the two directions in which the true ones vary most. Areas of points are their weights."
    rows = found[shown].tolist()
    return Plot(name, name_of(record), caption, draw(name, paint), ["first", "second", "weight"], rows)


def _few(points: Array) -> Array:
    return np.unique(np.linspace(0, len(points) - 1, min(FEW, len(points))).astype(int))


def _of_images(record: Record) -> Plot:
    """The volumes that a method gives to images, in its own components, coloured by the true ones."""
    x, y, true = points = record.arrays["along_own"].T

    def paint(ax: Axes) -> None:
        low, high = np.quantile(true, [0.02, 0.98])
        area = 7 if len(x) > 200 else 25
        dots = ax.scatter(x, y, s=area, c=true, cmap="viridis", vmin=low, vmax=high, linewidths=0, rasterized=True)
        ax.set(xlabel="first component of the estimate", ylabel="second component of the estimate")
        ax.figure.colorbar(dots, ax=ax, label="truth's first component")

    name = f"volumes-images-{_slug(record)}"
    caption = (
        f"The volumes that the method gives to {len(x):,} images, along its own first two principal components. The "
        "colour is where the true volume of the image is along the truth’s first: a method that tells images apart "
        "has colours in order."
    )
    columns = ["first", "second", "true_first"]
    return Plot(name, f"Images: {name_of(record)}", caption, draw(name, paint), columns, points.T.tolist())


def _panels(cubes: Array) -> tuple[Array, Array]:
    """The middle slices (k, l, l) of volumes (k, l^3), and their sums along z."""
    size = round(cubes.shape[1] ** (1 / 3))
    whole = cubes.reshape(-1, size, size, size)
    return whole[:, size // 2], whole.sum(1)


def _grey(panels: Array, true: Array) -> Array:
    """From 0 to 1 where the truth's lie; what is beyond is black or white."""
    return np.clip((panels - true.min()) / (true.max() - true.min()), 0, 1)


def _framed(panels: Sequence[Array]) -> Array:
    """Side by side, with a gap between them."""
    gap = np.full((len(panels[0]), 1), np.nan)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)


def _stacked(rows: Sequence[Array]) -> Array:
    """One below the other, each with its first row at its bottom as `imshow` draws the whole from the lowest on."""
    gap = np.full((1, rows[0].shape[1]), np.nan)
    return np.concatenate([part for row in reversed(rows) for part in (row, gap)][:-1])


def _maps(which: str, record: Record) -> Plot:
    """Both ends along the first component, and the mean: middle slices above, sums along z below."""
    true = _panels(record.arrays["volumes_true"])
    shown = true if which else _panels(record.arrays["volumes_estimated"])
    rows = [_framed(list(_grey(panels, of_truth))) for panels, of_truth in zip(shown, true, strict=True)]

    def paint(ax: Axes) -> None:
        ax.imshow(_stacked(rows), cmap="gray", origin="lower", interpolation="nearest", vmin=0, vmax=1)
        ax.set_axis_off()

    name = f"volumes-slices-{which or _slug(record)}"
    caption = f"Above middle slices, below sums along z: {MAPS}. Grey scales are the truth’s."
    table = [
        [kind, i, *map(float, (panel.min(), panel.max(), panel.mean(), panel.std()))]
        for kind, panels in zip(("slice", "projection"), shown, strict=True)
        for i, panel in enumerate(panels)
    ]
    title = "truth" if which else name_of(record)
    columns = ["kind", "image", "least", "largest", "mean", "std"]
    return Plot(name, title, caption, draw(name, paint, (4.2, 2.9)), columns, table)


def _between(record: Record, array: str, n: int) -> Array:
    """Volumes (n, l^3) from one end along the first component to the other, which are straight."""
    low, mean, high = record.arrays[array]
    share = np.linspace(-1, 1, n)[:, None]
    return mean + share * 0.5 * (high - low)


def _movie(record: Record) -> Plot:
    """The truth and an estimate from one end along their first components to the other."""
    arrays = ("volumes_true", "volumes_estimated")
    scale = _panels(record.arrays["volumes_true"])

    def rows_of(n: int) -> list[list[Array]]:
        """For slices and for sums, for the truth and the estimate: (n, l, l)."""
        both = [_panels(_between(record, array, n)) for array in arrays]
        return [[_grey(panels[kind], scale[kind]) for panels in both] for kind in (0, 1)]

    moving = rows_of(FRAMES)
    frames = np.stack([_stacked([_framed([own[at] for own in kind]) for kind in moving]) for at in range(FRAMES)])
    height, width = frames.shape[1:]
    titles = ("truth", name_of(record))

    def paint(ax: Axes) -> None:
        ax.set(xlim=(-0.5, width - 0.5), ylim=(-0.5 - 0.08 * height, height - 0.5), aspect=1)  # what moves is labelled
        for side, title in enumerate(titles):
            ax.text((0.25 + 0.5 * side) * width - 0.5, height + 0.02 * height, title, ha="center", va="bottom")
        ax.set_axis_off()

    few = rows_of(STILLS)

    def stills(ax: Axes) -> None:
        lines = [_framed(list(own)) for kind in zip(*few, strict=True) for own in kind]
        ax.imshow(_stacked(lines), cmap="gray", origin="lower", interpolation="nearest", vmin=0, vmax=1)
        ax.set_axis_off()

    name = "volumes-movie"
    places = np.linspace(-END, END, FRAMES).tolist()
    labels = [f"{at:+.1f} std".replace("-", "−") for at in places]
    movie = flicker(f"{name}-moving", paint, (4.2, 4.8), frames, back_and_forth(FRAMES), labels)
    caption = (
        "The mean and so many standard deviations of the first principal component of each, its middle slice above and "
        "its sum along z below. Still: the truth in the two rows above, the estimate in the two below."
    )
    table = [
        [title, at, *map(float, (panel.min(), panel.max(), panel.mean(), panel.std()))]
        for title, array in zip(titles, arrays, strict=True)
        for at, panel in zip(places, _panels(_between(record, array, FRAMES))[0], strict=True)
    ]
    columns = ["volumes", "std from the mean", "least", "largest", "mean", "std"]
    title = f"Along the first component: {name_of(record)}"
    return Plot(name, title, caption, draw(name, stills, (4.6, 4.0)), columns, table, movie)
