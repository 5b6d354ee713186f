"""The study bound: how near the data let anyone come, and how far the best methods of either kind are from that."""

import math
from typing import NamedTuple

import numpy as np

from cryosip.records.schema import Record
from cryosip.reports.section import Context, Section, Source, of_study
from cryosip.reports.sections import budgets
from cryosip.reports.spreads import grouped
from cryosip.reports.style import method_name
from cryosip.reports.tables import number

NEAR = 1.5  # times the bound
SAME_AS = "otd-vs-dto"


class Row(NamedTuple):
    """One problem: W2, medians over replicates; the best method of either kind with its median ratio to the bound."""

    problem: str
    setting: str
    floor: float
    npmle: float
    stopped: float
    parametric: float
    best: dict[str, tuple[str, float]]
    sentence: str


def rows(source: Source) -> list[Row]:
    """A row for each problem and setting of the study."""
    compared = of_study(source.everything.shown, SAME_AS)
    runs = [r for r in source.records if r.status == "ok" and r.metrics]
    return [
        _row(problem, setting, own, [r for r in compared if r.problem == problem] if setting == SAME_AS else [])
        for (problem, setting), own in grouped(runs, lambda r: (r.problem, r.labels.text)).items()
    ]


def _row(problem: str, setting: str, bounds: list[Record], compared: list[Record]) -> Row:
    floor = _median([r.data_floors["w2"].median for r in bounds if "w2" in r.data_floors])
    npmle, stopped, parametric = (_median([r.metrics.get(f"{n}_w2", math.nan) for r in bounds]) for n in ESTIMATES)
    by_replicate = {r.replicate: r.metrics.get("npmle_w2", math.nan) for r in bounds}
    best = {}
    for kind in ("OTD", "DTO"):
        own = grouped((r for r in compared if _kind(r) == kind and r.replicate in by_replicate), method_name)
        ratios = {
            name: _median([_error(r) / by_replicate[r.replicate] for r in records]) for name, records in own.items()
        }
        if ratios:
            name = min(ratios, key=lambda name: ratios[name])
            best[kind] = name, ratios[name]
    return Row(problem, setting, floor, npmle, stopped, parametric, best, _sentence(best))


ESTIMATES = ("npmle", "stopped", "parametric")


def _kind(record: Record) -> str:
    return "DTO" if record.method in budgets.DTO else "OTD"


def _error(record: Record) -> float:
    """A run that failed counts as infinitely far."""
    return record.metrics.get("w2", math.inf) if record.status == "ok" else math.inf


def _median(values: list[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return float(np.median(kept)) if kept else math.nan


def _sentence(best: dict[str, tuple[str, float]]) -> str:
    """Who is within 1.5 times the bound, and who is not."""
    parts = [
        f"{name}, the best of {kind}, is {'' if ratio <= NEAR else 'not '}within {NEAR:g} × the bound: {number(ratio)}"
        for kind, (name, ratio) in best.items()
    ]
    return "; ".join(parts) + "." if parts else ""


def _context(source: Source) -> Context:
    found = rows(source)
    return {"bounds": found, "kinds": ("OTD", "DTO")} if found else {}


SECTION = Section(
    "bound", "The bound", ("bound",), context=_context, template="bound.html",
    missing="No run of the study bound in the records: run it.",
)  # fmt: skip
