"""The study volumes: distributions of whole volumes by methods of this suite, and by other programs."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.schema import Array, Floor, Record
from cryosip.records.select import of_other_engines
from cryosip.reports.drawing import GREY, of_first_replicate, strip
from cryosip.reports.section import Context, Figures, Section, Source, of_study
from cryosip.reports.spreads import Spread, grouped, spread, typical_floor
from cryosip.reports.style import INK, Plot, draw, series_style
from cryosip.reports.tables import DAGGER, statuses

DISTANCE = "volume_w2"
METRICS = {
    "volume_w2": "W2",
    "volume_w2_inside": "inside",
    "volume_outside": "outside",
    "volume_w2_support": "best weights",
    "volume_w2_best_points": "best points",
    "volume_captured": "captured",
    "volume_energy_distance": "energy distance",
    "own_area": "FSC area, own",
    "bayes_area": "FSC area, Bayes",
    "own_rms": "rms, own",
    "bayes_rms": "rms, Bayes",
}
# where the truth has discrete states
POPULATIONS = {"population_total_variation": "populations, TV", "population_error_in_kT": "populations, kT"}
CONSENSUS = {"volume_w2": "volume_spread", "own_area": "consensus_area", "own_rms": "consensus_rms"}
FEW = 4_000  # points of a figure


class Row(NamedTuple):
    """A method, or another program, over its replicates; `share` is W2 over that of the consensus."""

    label: str
    colour: str
    metrics: dict[str, Spread]
    ratio: Spread
    share: Spread
    seconds: Spread
    statuses: str


class Group(NamedTuple):
    """The rows on the same images, and which metrics they have, with their titles."""

    title: str
    metrics: dict[str, str]
    rows: list[Row]
    consensus: dict[str, Spread]
    floors: dict[str, Floor]
    halves: str


def groups(records: Sequence[Record]) -> list[Group]:
    """The rows on each problem's images, the nearest to the truth first."""
    ordered = sorted(records, key=lambda r: (r.study != "volumes", name_of(r), r.replicate))
    return [_group(own) for own in grouped(ordered, _place).values()]


def _place(record: Record) -> tuple[str, str]:
    """Which images: a problem and its volumes have the same, and other programs may have had them, too."""
    options = dict(record.config.problem.resolved) if record.config else {}
    return record.problem.removesuffix("-volumes"), json.dumps(options, sort_keys=True)


def _group(records: Sequence[Record]) -> Group:
    others = of_other_engines(records)
    ok = [r for r in records if r.status == "ok"]
    rows = [_row(own, DAGGER * (own[0].path in others)) for own in grouped(records, name_of).values()]
    rows.sort(key=lambda row: (math.isnan(row.metrics[DISTANCE].median), row.metrics[DISTANCE].median))
    consensus = {name: spread([r.metrics.get(other, math.nan) for r in ok]) for name, other in CONSENSUS.items()}
    names = ("n_observations", "image_size", "snr", "volume_size")
    n, pixels, snr, size = (records[0].config_number(f"problem.options.{name}") for name in names)
    title = f"{_place(records[0])[0]}, {n:,.0f} images of {pixels:.0f}² at an SNR of {snr:g}, {size:.0f}³ voxels"
    metrics = METRICS | {name: title for name, title in POPULATIONS.items() if any(name in r.metrics for r in ok)}
    known = {name: typical_floor([r.floors[name] for r in ok if name in r.floors]) for name in metrics}
    floors = {name: floor for name, floor in known.items() if floor is not None}
    return Group(title, metrics, rows, consensus, floors, _halves(ok, size))


def _halves(records: Sequence[Record], size: float) -> str:
    """What two halves of the images agree on, without the truth."""
    told = [r.metrics["halves_shells"] for r in records if "halves_shells" in r.metrics]
    if not told:
        return ""
    shells, n_shells = float(np.median(told)), (size - 1) // 2
    area = np.median([r.metrics["halves_area"] for r in records if "halves_area" in r.metrics])
    if shells == 0:
        return (
            f"Undetermined: consensus volumes of two halves of these images agree in no shell (mean correlation "
            f"{area:.2f}). What the methods below have found, the images do not tell."
        )
    return (
        f"Consensus volumes of two halves of the images agree in the first {shells:.0f} of {n_shells:.0f} shells (mean "
        f"correlation {area:.2f})."
    )


def name_of(record: Record) -> str:
    """What a row is called: the variant says what the method finds."""
    variant = record.labels.variant
    if record.study == "external":
        return f"{variant} (the program)"
    return f"{variant}: {record.method}" if variant.startswith("modes") else variant or record.method


def _row(records: Sequence[Record], mark: str) -> Row:
    ok = [r for r in records if r.status == "ok"]

    def of(name: str) -> list[float]:
        return [r.metrics.get(name, math.nan) for r in ok]

    floors = [r.floors[DISTANCE].median if DISTANCE in r.floors else math.nan for r in ok]
    return Row(
        name_of(records[0]) + mark,
        series_style(records[0]).colour,
        {name: spread(of(name)) for name in METRICS | POPULATIONS},
        spread([a / b for a, b in zip(of(DISTANCE), floors, strict=True)]),
        spread([a / b for a, b in zip(of(DISTANCE), of("volume_spread"), strict=True)]),
        spread([r.setup_seconds + r.run_seconds for r in ok]),
        statuses(records),
    )


def _figures(records: list[Record]) -> Figures:
    kept = of_first_replicate(of_study(records, "volumes"), {"volumes_true", "along_true"})
    if not kept:
        return {}
    kept.sort(key=lambda r: (_place(r), r.metrics[DISTANCE]))
    return {"volumes": [plot for own in grouped(kept, _place).values() for plot in _of_images(own)]}


def _of_images(records: Sequence[Record]) -> list[Plot]:
    """The figures of the rows on the same images."""
    curves = [_correlations(records)] if any("fsc_own" in r.arrays for r in records) else []
    maps = [_slices("true", records[0]), *(_slices("", r) for r in records)]
    return [*curves, *(_plane(r) for r in records), *maps]


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
    problem = _place(kept[0])[0]
    name = f"volumes-fsc-{problem}"
    return Plot(name, f"Volumes of images, {problem}", caption, draw(name, paint), header, table)


def _plane(record: Record) -> Plot:
    """Where the volumes of an estimate are, along the two directions in which the true ones vary most."""
    true, found = record.arrays["along_true"], record.arrays["along_estimated"]
    shown = _few(found)
    area = 300 * found[:, 2] / found[:, 2].max() if len(found) < 50 else np.full(len(found), 5.0)

    def paint(ax: Axes) -> None:
        ax.scatter(true[:, 0], true[:, 1], s=5, color=INK, alpha=0.18, linewidths=0, label="true volumes")
        colour = series_style(record).colour
        x, y = found[shown, :2].T
        ax.scatter(x, y, s=area[shown], color=colour, alpha=0.6, linewidths=0, label="estimate")
        both = np.concatenate([true, found[shown, :2]])
        middle, reach = true.mean(0), 1.15 * np.abs(true - true.mean(0)).max(0)
        low, high = (np.quantile(both, q, axis=0) for q in (0.005, 0.995))
        ax.set(xlabel="first principal component", ylabel="second principal component",
               xlim=(min(low[0], middle[0] - reach[0]), max(high[0], middle[0] + reach[0])),
               ylim=(min(low[1], middle[1] - reach[1]), max(high[1], middle[1] + reach[1])))  # fmt: skip

    name = f"volumes-plane-{_slug(record)}"
    caption = (
        "Volumes along the two directions in which the true ones vary most. Areas of few points are their weights."
    )
    rows = found[shown].tolist()
    return Plot(name, _title(record), caption, draw(name, paint), ["first", "second", "weight"], rows)


def _few(points: Array) -> Array:
    return np.unique(np.linspace(0, len(points) - 1, min(FEW, len(points))).astype(int))


def _slices(which: str, record: Record) -> Plot:
    """Both ends along the first component, and the mean: the middle slices."""
    cubes = record.arrays["volumes_true" if which else "volumes_estimated"]
    size = round(cubes.shape[1] ** (1 / 3))
    images = cubes.reshape(-1, size, size, size)[:, size // 2]
    problem = _place(record)[0]
    title = f"truth, {problem}" if which else _title(record)
    caption = "Middle slices: 2 std to one side along the first principal component, the mean, 2 std to the other."
    return strip(f"volumes-slices-{f'{problem}-true' if which else _slug(record)}", title, caption, images)


def _title(record: Record) -> str:
    return f"{name_of(record)}, {_place(record)[0]}"


def _slug(record: Record) -> str:
    kept = "".join(c if c.isalnum() else " " for c in f"{_place(record)[0]} {name_of(record)}".lower())
    return "-".join(kept.split())


def _context(source: Source) -> Context:
    found = groups(source.records)
    return {"groups": found} if found else {}


def table(found: Sequence[Group]) -> list[list[Any]]:
    """A header and one line for each row and metric, for a file."""
    header = ["images", "method", "metric", "median", "q05", "q95", "seconds", "runs"]
    return [header] + [
        [group.title, row.label, name, *row.metrics[name][:3], row.seconds.median, row.statuses]
        for group in found
        for row in group.rows
        for name in group.metrics
    ]


SECTION = Section(
    "volumes", "Volumes", ("volumes", "external"), figures=_figures, context=_context, template="volumes.html",
    tables=lambda context: {"volumes.csv": table(context["groups"])} if context else {},
    missing="No volumes in the records: run the study volumes.",
)  # fmt: skip
