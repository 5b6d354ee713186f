"""The study volumes: distributions of whole volumes by methods of this suite, and by other programs."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cryosip.records.machines import Timed, timed
from cryosip.records.schema import Floor, Record
from cryosip.records.select import of_other_engines
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.sections.volumes_figures import DISTANCE, figures, name_of, place
from cryosip.reports.spreads import Spread, grouped, spread, typical_floor
from cryosip.reports.style import series_style
from cryosip.reports.tables import DAGGER, statuses

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
    machines: str


def groups(records: Sequence[Record]) -> list[Group]:
    """The rows on each problem's images, the nearest to the truth first; most rows before fewer."""
    ordered = sorted(records, key=lambda r: (r.study != "volumes", name_of(r), r.replicate))
    return sorted((_group(own) for own in grouped(ordered, place).values()), key=lambda group: -len(group.rows))


def _group(records: Sequence[Record]) -> Group:
    others = of_other_engines(records)
    ok = [r for r in records if r.status == "ok"]
    on = timed(records)
    rows = [_row(own, on, DAGGER * (own[0].path in others)) for own in grouped(records, name_of).values()]
    rows.sort(key=lambda row: (math.isnan(row.metrics[DISTANCE].median), row.metrics[DISTANCE].median))
    consensus = {name: spread([r.metrics.get(other, math.nan) for r in ok]) for name, other in CONSENSUS.items()}
    names = ("n_observations", "image_size", "snr", "volume_size")
    n, pixels, snr, size = (records[0].config_number(f"problem.options.{name}") for name in names)
    title = f"{place(records[0])[0]}, {n:,.0f} images of {pixels:.0f}² at an SNR of {snr:g}, {size:.0f}³ voxels"
    metrics = METRICS | {name: title for name, title in POPULATIONS.items() if any(name in r.metrics for r in ok)}
    known = {name: typical_floor([r.floors[name] for r in ok if name in r.floors]) for name in metrics}
    floors = {name: floor for name, floor in known.items() if floor is not None}
    return Group(title, metrics, rows, consensus, floors, _halves(ok, size), on.sentence)


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


def _row(records: Sequence[Record], on: Timed, mark: str) -> Row:
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
        spread([_seconds(r) for r in on.runs(ok)]),
        statuses(records),
    )


def _seconds(record: Record) -> float:
    """Of other programs the time to build a method is not known: it is a part of their own."""
    return record.run_seconds if math.isnan(record.setup_seconds) else record.setup_seconds + record.run_seconds


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
    "volumes", "Volumes", ("volumes", "external"), figures=figures, context=_context, template="volumes.html",
    tables=lambda context: {"volumes.csv": table(context["groups"])} if context else {},
    missing="No volumes in the records: run the study volumes.",
)  # fmt: skip
