"""The study bound: how near the data let anyone come, and how far the best methods of either kind are from that."""

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.machines import across
from cryosip.records.schema import Record
from cryosip.reports.controls import TRUTH_SAMPLE
from cryosip.reports.section import Context, Section, Source, Table, of_study
from cryosip.reports.sections import budgets
from cryosip.reports.sections.board import by_problem, given_options
from cryosip.reports.spreads import grouped
from cryosip.reports.style import INK, Plot, draw, log_axes
from cryosip.reports.tables import number

NEAR = 1.5  # times the bound
SAME_AS = "otd-vs-dto"  # the variant of runs on the problems of that study
KINDS = {"OTD": budgets.OTD, "DTO": budgets.DTO}
ESTIMATES = {
    "stopped": "NPMLE, stopped by the truth",
    "npmle": "NPMLE, converged",
    "parametric": "the true family",
}
COLOURS = {"stopped": "#0969da", "npmle": "#8250df", "parametric": "#1a7f37"}
COLUMNS = ("problem", "variant", "observations", "replicate", "floor", *ESTIMATES)
HEADER = (
    "problem",
    "observations",
    "floor",
    *ESTIMATES,
    *(f"{kind} {name}" for kind in KINDS for name in ("best", "ratio")),
)


class Best(NamedTuple):
    """The best method of a kind: W2 over the bound, and the same with the best weights that its own points allow."""

    method: str
    ratio: float
    of_points: float


class Row(NamedTuple):
    """One problem of the comparison: W2, medians over replicates, and the best method of either kind."""

    problem: str
    observations: int
    floor: float
    estimates: dict[str, float]
    best: dict[str, Best]
    machines: str = ""

    @property
    def sentence(self) -> str:
        """Who is within 1.5 times the bound; of who is not, whether its points or their weights are far."""
        found = [_verdict(kind, best) for kind, best in self.best.items()]
        return " ".join([*found, self.machines] if self.machines else found)


def rows(source: Source) -> list[Row]:
    """A row for each problem that both studies have."""
    bounds = by_problem([r for r in source.records if r.labels.variant == SAME_AS and r.status == "ok"])
    compared = grouped(
        of_study(source.everything.shown, SAME_AS), lambda record: (record.problem, given_options(record))
    )
    return [
        _row(problem, own, compared.get((own[0].problem, given_options(own[0])), [])) for problem, own in bounds.items()
    ]


def _row(problem: str, bounds: Sequence[Record], compared: Sequence[Record]) -> Row:
    estimates = {name: _median([_w2(record, name) for record in bounds]) for name in ESTIMATES}
    observations = bounds[0].config.problem.resolved["n_observations"]
    bound = {record.replicate: _w2(record, "stopped") for record in bounds}
    longest = max(budgets.budgets(compared, "seconds"), default=math.nan)
    found: dict[str, list[Best]] = {kind: [] for kind in KINDS}
    runs = budgets.runs_for(compared, "seconds", longest)
    for method, own in runs.items():
        paired = [record for record in own if record.replicate in bound]
        if paired:
            errors = [
                _median([error(record) / bound[record.replicate] for record in paired])
                for error in (_error_within(longest), _of_points)
            ]
            for kind in (kind for kind, names in KINDS.items() if own[0].method in names):
                found[kind].append(Best(method, *errors))
    best = {kind: min(methods, key=lambda one: one.ratio) for kind, methods in found.items() if methods}
    return Row(problem, observations, _median([_floor(record) for record in bounds]), estimates, best,
               across(record for own in runs.values() for record in own))  # fmt: skip


def _w2(record: Record, name: str) -> float:
    return record.metrics.get(f"{name}_w2", math.nan)


def _floor(record: Record) -> float:
    return record.data_floors["w2"].median if "w2" in record.data_floors else math.nan


def _error_within(seconds: float) -> Callable[[Record], float]:
    return lambda record: budgets.last_within(record, record.curve.get("w2", np.empty(0)), "seconds", seconds)


def _of_points(record: Record) -> float:
    return record.oracle_metrics.get("w2", math.inf) if record.status == "ok" else math.inf


def _median(values: list[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return float(np.median(kept)) if kept else math.nan


def _verdict(kind: str, best: Best) -> str:
    if not math.isfinite(best.ratio):
        return f"No {kind} method had an estimate."
    if best.ratio <= NEAR:
        return f"{best.method}, the best {kind} method, is within {NEAR:g} × the bound ({number(best.ratio)})."
    why = (
        f"with the best weights on its own points it would be ({number(best.of_points)}): its weights are wrong"
        if best.of_points <= NEAR
        else f"no weights on its own points would bring it there ({number(best.of_points)}): its points are wrong"
    )
    return f"{best.method}, the best {kind} method, is not within {NEAR:g} × the bound ({number(best.ratio)}); {why}."


def plots(records: Sequence[Record]) -> dict[str, list[Plot]]:
    """The bound against the number of observations, at each noise."""
    along = [record for record in records if record.labels.axis == "observations" and record.status == "ok"]
    groups = grouped(along, lambda record: (record.problem, record.labels.variant))
    return {"bound": [_against_observations(*key, own) for key, own in groups.items()]}


def _against_observations(problem: str, noise: str, records: Sequence[Record]) -> Plot:
    name = re.sub(r"[^a-z0-9-]+", "-", f"bound-{problem}-{noise}".lower())
    at = grouped(records, lambda record: float(record.labels.value or 0))
    places = sorted(at)

    def paint(ax: Axes) -> None:
        floors = [_median([_floor(record) for record in at[n]]) for n in places]
        ax.plot(places, floors, color=INK, alpha=0.6, linewidth=1, linestyle=":", label=f"{TRUTH_SAMPLE} (floor)")
        for estimate, label in ESTIMATES.items():
            values = [_median([_w2(record, estimate) for record in at[n]]) for n in places]
            ax.plot(places, values, color=COLOURS[estimate], marker="o", markersize=4, label=label)
        log_axes(ax, "xy")
        ax.set(xlabel="observations", ylabel="W2")

    caption = (
        "Medians over replicates. The likelihood of each image is exact, its pose integrated around the true one; "
        "“stopped by the truth” is the step of EM that is nearest to it."
    )
    rows = [
        [problem, noise, record.labels.value, record.replicate, _floor(record), *(_w2(record, e) for e in ESTIMATES)]
        for record in records
    ]
    return Plot(name, f"{problem}, {noise}: what the data tell", caption, draw(name, paint), COLUMNS, rows)


def _context(source: Source) -> Context:
    found = rows(source)
    return {"bounds": found, "kinds": list(KINDS), "estimates": ESTIMATES, "near": NEAR} if found else {}


def _table(context: Context) -> dict[str, Table]:
    if not context:
        return {}
    lines = [
        [row.problem, row.observations, row.floor, *row.estimates.values(),
         *(x for kind in KINDS for x in (row.best[kind][:2] if kind in row.best else ("", math.nan)))]
        for row in context["bounds"]
    ]  # fmt: skip
    return {"bound.csv": [list(HEADER), *lines]}


SECTION = Section(
    "bound", "What the data let anyone find", ("bound",), plots, _context, _table, template="bound.html",
    missing="No run of the study bound in the records: run it.",
)  # fmt: skip
