"""The study tuning: what settings chosen by held-out images cost, beside those that the truth would have chosen."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cryosip.records.machines import across
from cryosip.records.schema import Array, Record
from cryosip.reports.section import Context, Section, Source, Table
from cryosip.reports.sections import budgets
from cryosip.reports.sections.board import by_problem
from cryosip.reports.spreads import grouped
from cryosip.reports.style import SeriesStyle, method_style

SCORE = "held_out"
HEADER = ("problem", "seconds", "method", "settings", "by_held_out", "by_truth", "ratio")


class Chosen(NamedTuple):
    """One method on one problem at one budget: the median W2 over its floor of the setting that each rule chooses.

    inf where no setting had an estimate in most replicates.
    """

    problem: str
    seconds: float
    style: SeriesStyle
    n_settings: int
    by_held_out: float
    by_truth: float
    several_machines: bool = False

    @property
    def ratio(self) -> float:
        """What it costs not to know the truth, as a factor of W2; nan where there is no estimate."""
        known = math.isfinite(self.by_held_out) and math.isfinite(self.by_truth)
        return self.by_held_out / self.by_truth if known else math.nan


def chosen(records: Sequence[Record]) -> list[Chosen]:
    """Each method on each problem at each of its budgets of seconds."""
    return [
        _chosen(problem, seconds, own)
        for problem, on_problem in by_problem(records).items()
        for own in grouped(on_problem, lambda record: record.method).values()
        for seconds in budgets.budgets(own, "seconds")
    ]


def _chosen(problem: str, seconds: float, records: Sequence[Record]) -> Chosen:
    settings = grouped(records, lambda record: float(record.labels.value or 0))
    scores, errors = (
        [
            float(np.median([budgets.last_within(r, curve(r), "seconds", seconds) for r in own]))
            for own in settings.values()
        ]
        for curve in (_score, _error)
    )
    by_score, by_error = int(np.argmin(scores)), int(np.argmin(errors))
    return Chosen(problem, seconds, method_style(records[0]), len(settings), errors[by_score], errors[by_error],
                  bool(across(records)))  # fmt: skip


def _score(record: Record) -> Array:
    return record.curve.get(SCORE, np.empty(0))


def _error(record: Record) -> Array:
    return budgets.over_floor(record, "w2")


def _context(source: Source) -> Context:
    rows = chosen(source.records)
    ratios = [row.ratio for row in rows if math.isfinite(row.ratio)]
    if not ratios:
        return {}
    same = sum(ratio == 1 for ratio in ratios)
    return {
        "rows": rows,
        "n": len(ratios),
        "same": same,
        "median": float(np.median(ratios)),
        "q95": float(np.quantile(ratios, 0.95)),
        "worst": max((row for row in rows if math.isfinite(row.ratio)), key=lambda row: row.ratio),
        "machines": [f"{row.style.label} on {row.problem}" for row in rows if row.several_machines],
        "infinity": math.inf,
    }


def _table(context: Context) -> dict[str, Table]:
    if not context:
        return {}
    rows = [[r.problem, r.seconds, r.style.label, r.n_settings, r.by_held_out, r.by_truth, r.ratio]
            for r in context["rows"]]  # fmt: skip
    return {"tuning.csv": [list(HEADER), *rows]}


SECTION = Section(
    "tuning", "Tuning", ("tuning",), context=_context, tables=_table, template="tuning.html",
    missing="No run of the study tuning in the records: run cryosip tune.",
)  # fmt: skip
