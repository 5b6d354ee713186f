"""The study certificates: how far estimates are from the largest likelihood of all, and from the truth."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cryosip.records.machines import Timed, timed
from cryosip.records.schema import Record
from cryosip.reports.section import Context, Section, Source, Table
from cryosip.reports.spreads import Spread, grouped, over_floor, spread
from cryosip.reports.style import SeriesStyle, method_style

GAP = "likelihood_gap"
CERTIFIED = 1e-4  # of the mean log-likelihood of an observation
HEADER = ("problem", "method", "replicates", "gap", "certified", "steps", "seconds", "w2_over_floor")


class Row(NamedTuple):
    """A method on a problem: its last gap, what it took until the gap was certified, and W2 over its floor at the end.

    `certified` of `n` replicates came below 1e-4 and stayed there to the end; seconds and steps are of these,
    compilation apart, seconds on one machine.
    """

    problem: str
    style: SeriesStyle
    n: int
    gap: Spread
    certified: int
    steps: Spread
    seconds: Spread
    w2: Spread


def rows(records: Sequence[Record]) -> list[Row]:
    """One for each problem and method of the study."""
    groups = grouped(records, lambda record: (record.labels.variant, record.method))
    ordered = sorted(groups.items(), key=lambda item: (item[1][0].problem, _observations(item[1][0]), item[0]))
    on = timed(records)
    return [_row(problem, own, on) for (problem, _), own in ordered]


def _observations(record: Record) -> float:
    return record.config_number("problem.options.n_observations")


def _row(problem: str, records: Sequence[Record], on: Timed) -> Row:
    ok = [record for record in records if record.status == "ok" and GAP in record.curve]
    above = [(record, np.flatnonzero(record.curve[GAP] >= CERTIFIED)) for record in ok]
    first = [(record, int(places[-1]) + 1 if places.size else 0) for record, places in above]
    reached = [(record, place) for record, place in first if place < len(record.curve[GAP])]
    clocked = [(record, place) for record, place in reached if on.runs([record])]
    return Row(
        problem,
        method_style(records[0]),
        len(records),
        spread([float(record.curve[GAP][-1]) for record in ok]),
        len(reached),
        spread([float(record.curve["step"][place]) for record, place in reached]),
        spread([record.setup_seconds + float(record.curve["seconds"][place]) for record, place in clocked]),
        spread([over_floor(record, "w2", record.metrics) for record in ok]),
    )


def _context(source: Source) -> Context:
    found = rows(source.records)
    return {"certificates": found, "certified": CERTIFIED, "machines": timed(source.records).sentence} if found else {}


def _table(context: Context) -> dict[str, Table]:
    lines = [
        [row.problem, row.style.label, row.n, row.gap.median, row.certified, row.steps.median, row.seconds.median,
         row.w2.median]
        for row in context.get("certificates", ())
    ]  # fmt: skip
    return {"certificates.csv": [list(HEADER), *lines]} if lines else {}


SECTION = Section(
    "certificates", "Certificates", ("certificates",), context=_context, tables=_table, template="certificates.html",
    missing="No duality gaps in the records: run the study certificates.",
)  # fmt: skip
