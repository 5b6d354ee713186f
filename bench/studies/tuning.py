"""The sweep behind the comparison: as many settings for every method, on replicates that no study reports."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from cryosip.bench.execute import record_of, run_method
from cryosip.bench.studies.otd_dto import SAME_SETTINGS, BudgetedProblem, BudgetedProblems, run_in, sweep
from cryosip.records.files import write_text
from cryosip.records.read import written_here
from cryosip.records.schema import Labels, Record, RunConfig
from cryosip.records.write import record_path

FIRST_REPLICATE = 100  # studies report 0, 1, 2, ...
METRIC = "w2"


def tuning(size: BudgetedProblems) -> list[RunConfig]:
    """Every setting of the sweep on every problem that is tuned, to its last budget."""
    return [
        run_in(budgeted, "tuning", method, Labels(axis="number", value=i), tried, budgets)
        for budgeted in _tuned_problems(size)
        for budgets in [{"seconds": list(budgeted.seconds), "forward_evaluations": []}]
        for method, settings in sweep(budgeted).items()
        for i, tried in enumerate(settings)
    ]


def _tuned_problems(size: BudgetedProblems) -> list[BudgetedProblem]:
    return [budgeted for budgeted in size.problems if budgeted.problem not in SAME_SETTINGS]


def found(budgeted: BudgetedProblem, records: list[Record]) -> dict[str, Any]:
    """For each method the settings, their errors at each budget of seconds, and the number of the best there.

    The error is the median of W2 over replicates at the last evaluation within the budget. A failed replicate, and one
    that had nothing yet, count as infinite; of equal settings the first is the best.
    """
    return {
        "replicates": sorted({record.replicate for record in records}),
        "engine": sorted({record.identity.engine for record in records}),
        "methods": {
            method: _best(budgeted, settings, [record for record in records if record.method == method])
            for method, settings in sweep(budgeted).items()
        },
    }


def _best(budgeted: BudgetedProblem, settings: list[dict[str, Any]], records: list[Record]) -> dict[str, Any]:
    errors = [
        [_median([error_at(r, b) for r in records if r.labels.value == i]) for b in budgeted.seconds]
        for i in range(len(settings))
    ]
    plain = [[value if math.isfinite(value) else None for value in row] for row in errors]
    return {"settings": settings, METRIC: plain, "best": np.argmin(errors, axis=0).tolist()}


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else math.inf


def error_at(record: Record, seconds: float) -> float:
    """The error at the last evaluation within a budget; building the method is part of it."""
    if record.status != "ok":
        return math.inf
    spent = record.setup_seconds + record.curve["seconds"]
    within = np.flatnonzero(spent <= seconds)
    return float(record.curve[METRIC][within[-1]]) if within.size else math.inf


def keep(profile: str, size: BudgetedProblems, runs: list[RunConfig], results: Path, out: Path) -> None:
    """Writes what the records of the runs say of their problems; the file keeps what it says of others."""
    ids = [record_of(run, profile, run_method).run_id for run in runs]
    records = [written_here(record_path(results, run.study, own)) for run, own in zip(runs, ids, strict=True)]
    told = json.loads(out.read_text()) if out.exists() else {}
    for budgeted in size.problems:
        if own := [record for record in records if record.problem == budgeted.problem]:
            told[budgeted.problem] = {"profile": profile, "metric": METRIC} | found(budgeted, own)
    write_text(out, json.dumps(told, indent=1, sort_keys=True) + "\n")
