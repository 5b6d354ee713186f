"""The study volumes: distributions of whole volumes by methods of this suite, and by other programs."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from cryosip.records.schema import Floor, Record
from cryosip.records.select import of_other_engines
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.sections.volumes_figures import DISTANCE, figures, name_of
from cryosip.reports.spreads import Spread, grouped, spread, typical_floor
from cryosip.reports.style import series_style
from cryosip.reports.tables import DAGGER, statuses

METRICS = {
    "volume_w2": "W2",
    "volume_w2_inside": "inside",
    "volume_outside": "outside",
    "volume_w2_support": "best weights",
    "volume_w2_best_points": "best points",
    "volume_energy_distance": "energy distance",
    "own_area": "FSC area, own",
    "bayes_area": "FSC area, Bayes",
    "own_rms": "rms, own",
    "bayes_rms": "rms, Bayes",
}
CONSENSUS = {"volume_w2": "volume_spread", "own_area": "consensus_area", "own_rms": "consensus_rms"}


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
    """The rows on the same images."""

    title: str
    rows: list[Row]
    consensus: dict[str, Spread]
    floor: Floor | None


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
    floor = typical_floor([r.floors[DISTANCE] for r in ok if DISTANCE in r.floors])
    return Group(title, rows, consensus, floor)


def _row(records: Sequence[Record], mark: str) -> Row:
    ok = [r for r in records if r.status == "ok"]

    def of(name: str) -> list[float]:
        return [r.metrics.get(name, math.nan) for r in ok]

    floors = [r.floors[DISTANCE].median if DISTANCE in r.floors else math.nan for r in ok]
    return Row(
        name_of(records[0]) + mark,
        series_style(records[0]).colour,
        {name: spread(of(name)) for name in METRICS},
        spread([a / b for a, b in zip(of(DISTANCE), floors, strict=True)]),
        spread([a / b for a, b in zip(of(DISTANCE), of("volume_spread"), strict=True)]),
        spread([r.setup_seconds + r.run_seconds for r in ok]),
        statuses(records),
    )


def _context(source: Source) -> Context:
    found = groups(source.records)
    return {"groups": found, "metrics": METRICS} if found else {}


def table(found: Sequence[Group]) -> list[list[Any]]:
    """A header and one line for each row and metric, for a file."""
    header = ["images", "method", "metric", "median", "q05", "q95", "seconds", "runs"]
    return [header] + [
        [group.title, row.label, name, *row.metrics[name][:3], row.seconds.median, row.statuses]
        for group in found
        for row in group.rows
        for name in METRICS
    ]


SECTION = Section(
    "volumes", "Volumes", ("volumes", "external"), figures=figures, context=_context, template="volumes.html",
    tables=lambda context: {"volumes.csv": table(context["groups"])} if context else {},
    missing="No volumes in the records: run the study volumes.",
)  # fmt: skip
