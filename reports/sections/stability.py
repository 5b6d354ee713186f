"""The study stability: how far a distribution of volumes moves where nothing should matter, in floors."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from cryosip.records.schema import Floor, Record
from cryosip.records.select import observations, of_other_engines
from cryosip.reports.drawing import GREY
from cryosip.reports.section import Context, Figures, Section, Source
from cryosip.reports.spreads import NOTHING, Spread, grouped, spread, typical_floor
from cryosip.reports.style import INK, Plot, draw, log_axes, series_style
from cryosip.reports.tables import DAGGER, number, statuses

FLOOR = "stability_w2"
CHANGES = {
    "seed": "another seed",
    "half": "the other half of the images",
    "noise": "0.2 % of noise",
    "components": "10 components instead of 4",
}
MARKERS = {"seed": "o", "half": "s", "noise": "^", "components": "D"}


class Row(NamedTuple):
    """A method over its replicates: by how many floors each change moves its estimate, and how far that is from the
    truth; and W2 of both.
    """

    label: str
    colour: str
    changes: dict[str, Spread]
    distances: dict[str, Spread]
    error: Spread
    error_distance: Spread
    statuses: str

    @property
    def largest(self) -> tuple[float, str]:
        """The change that moves it the most, and by how many floors; nan where none is known."""
        known = {name: s.median for name, s in self.changes.items() if not math.isnan(s.median)}
        name = max(known, key=lambda name: known[name], default="")
        return known.get(name, math.nan), name


class Group(NamedTuple):
    """The rows on the same images, the least stable first."""

    title: str
    rows: list[Row]
    floors: dict[str, Floor]
    sentence: str


def groups(records: Sequence[Record]) -> list[Group]:
    """One for each problem and its images."""
    ordered = sorted(records, key=lambda r: (r.labels.variant, r.replicate))
    return [_group(own) for own in grouped(ordered, _images).values()]


def _images(record: Record) -> tuple[str, str]:
    return record.problem, json.dumps(record.config.problem.resolved, sort_keys=True)


def _group(records: Sequence[Record]) -> Group:
    others = of_other_engines(records)
    variants = grouped(records, lambda r: r.labels.variant).values()
    rows = [_row(own, DAGGER * any(r.path in others for r in own)) for own in variants]
    rows.sort(key=lambda row: -row.largest[0] if row.largest[1] else math.inf)
    pixels, snr, size = (
        records[0].config_number(f"problem.options.{name}") for name in ("image_size", "snr", "volume_size")
    )
    title = (
        f"{records[0].problem}, {observations(records[0]):,.0f} images of {pixels:.0f}² at an SNR of {snr:g}, "
        f"{size:.0f}³ voxels"
    )
    floors = {
        change: floor
        for change, own in grouped(records, _change).items()
        if (floor := typical_floor([r.floors[FLOOR] for r in own if FLOOR in r.floors]))
    }
    return Group(title, rows, floors, sentence(rows))


def _change(record: Record) -> str:
    return str(record.labels.value)


def _row(records: Sequence[Record], mark: str) -> Row:
    own = {change: [r for r in records if _change(r) == change and r.status == "ok"] for change in CHANGES}
    # one for each replicate: their first estimates are the same
    whole = list({r.replicate: r for change in ("seed", "noise", "components") for r in own[change]}.values())

    def of(records: Sequence[Record], name: str) -> Spread:
        return spread([r.metrics.get(name, math.nan) for r in records])

    errors = [r.metrics["volume_w2"] / r.floors[FLOOR].median for r in whole if "volume_w2" in r.metrics]
    return Row(
        records[0].labels.variant + mark,
        series_style(records[0]).colour,
        {change: of(found, "stability_over_floor") for change, found in own.items()},
        {change: of(found, "stability_w2") for change, found in own.items()},
        spread(errors),
        of(whole, "volume_w2"),
        statuses(records),
    )


def sentence(rows: Sequence[Row]) -> str:
    """Which method is the least stable, by what, and which the most."""
    known = [row for row in rows if row.largest[1]]
    if not known:
        return "No run ended well."
    least, most = known[0], known[-1]
    floors, change = least.largest
    text = (
        f"Least stable: {least.label}, which moves by {number(floors)} floors with {CHANGES[change]}; it is "
        f"{number(least.error.median)} floors from the truth."
    )
    if most is not least:
        floors, change = most.largest
        text += f" Most stable: {most.label}, at most {number(floors)} floors, with {CHANGES[change]}."
    return text


def _figures(records: list[Record]) -> Figures:
    return {"stability": [_dots(i, group) for i, group in enumerate(groups(records)) if group.floors]}


def _dots(index: int, group: Group) -> Plot:
    """A line for each method, a marker for each change."""

    def paint(ax: Axes) -> None:
        ax.axvline(1, color=INK, linewidth=0.9, linestyle=":", alpha=0.6, label="floor")
        ax.plot([], [], "|", color=GREY, markersize=12, markeredgewidth=2, label="from the truth")
        for change, words in CHANGES.items():
            ax.plot([], [], MARKERS[change], color=INK, markersize=6, label=words)
        for y, row in enumerate(reversed(group.rows)):
            ax.plot([row.error.median], [y], "|", color=GREY, markersize=16, markeredgewidth=2)
            for change, moved in row.changes.items():
                ax.plot([moved.median], [y], MARKERS[change], color=row.colour, markersize=7, alpha=0.8)
        ax.set_yticks(range(len(group.rows)), [row.label for row in reversed(group.rows)])
        log_axes(ax, "x")
        ax.set(xlabel="W2 in floors", ylim=(-0.6, len(group.rows) - 0.4))

    name = f"stability-{index}"
    caption = (
        "Medians over replicates: W2 between two estimates, over that of two samples of the truth, each of as many "
        "volumes as an estimate had images. Grey: W2 of the first estimate from the truth, in the same unit."
    )
    table = [
        [row.label, change, row.changes[change].median, row.distances[change].median, row.error.median]
        for row in group.rows
        for change in CHANGES
    ]
    columns = ["method", "change", "floors", "W2", "floors from the truth"]
    size = (5.4, 1.6 + 0.42 * len(group.rows))
    return Plot(name, "What moves an estimate", caption, draw(name, paint, size), columns, table)


def _context(source: Source) -> Context:
    found = groups(source.records)
    return {"groups": found, "changes": CHANGES} if found else {}


def table(found: Sequence[Group]) -> list[list[Any]]:
    """A header and one line for each row and change, for a file."""
    header = ["images", "method", "change", "over_floor", "q05", "q95", "w2", "floor", "w2_from_truth", "runs"]
    return [header] + [
        [group.title, row.label, change, *row.changes.get(change, NOTHING)[:3], row.distances[change].median,
         group.floors[change].median if change in group.floors else math.nan, row.error_distance.median, row.statuses]
        for group in found
        for row in group.rows
        for change in CHANGES
    ]  # fmt: skip


SECTION = Section(
    "stability", "Stability", ("stability",), figures=_figures, context=_context, template="stability.html",
    tables=lambda context: {"stability.csv": table(context["groups"])} if context else {},
    missing="No run of the study stability in the records: run the study stability.",
)  # fmt: skip
