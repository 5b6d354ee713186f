"""The sweep behind the comparison: as many settings for every method, on replicates that no study reports.

Settings are chosen by how well estimates explain held-out images, never by the truth.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cryosip.bench.execute import record_of
from cryosip.bench.studies.held_out import SCORE, run_held_out
from cryosip.bench.studies.otd_dto import DEFAULTS, SAME_SETTINGS, BudgetedProblem, BudgetedProblems, run_in
from cryosip.bench.studies.sweeps import sweep
from cryosip.methods.registry import on_any_problem
from cryosip.records.files import write_text
from cryosip.records.read import written_here
from cryosip.records.schema import Labels, Record, RunConfig, merged
from cryosip.records.write import record_path

FIRST_REPLICATE = 100  # studies report 0, 1, 2, ...
ERRORS = (SCORE, "w2")  # the first chooses; the other says what the truth would have chosen
TRIALS = 4  # settings of every method


def tuning(size: BudgetedProblems) -> list[RunConfig]:
    """Every setting of the sweep on every problem that is tuned, to its last budget.

    Of a method that no sweep has, its defaults.
    """
    return [
        run_in(budgeted, "tuning", method, Labels(axis="number", value=i), tried, budgets)
        for budgeted in _tuned_problems(size)
        for budgets in [{"seconds": list(budgeted.seconds), "forward_evaluations": []}]
        for swept in [sweep(budgeted.name, budgeted.options["n_observations"])]
        for method in on_any_problem()
        for i, tried in enumerate(swept.get(method, [DEFAULTS]))
    ]


def numbered(run: RunConfig, count: int, i: int) -> RunConfig:
    """The run as the i-th of so many in the place of one."""
    number = run.labels.value
    assert isinstance(number, int | float)  # as `tuning` has it
    return replace(run, labels=msgspec.structs.replace(run.labels, value=int(number) * count + i))


def _tuned_problems(size: BudgetedProblems) -> list[BudgetedProblem]:
    return [budgeted for budgeted in size.all_problems if budgeted.name not in SAME_SETTINGS]


def check_trials(runs: list[RunConfig]) -> None:
    """Raises ValueError where a method would be tried with more settings than the others."""
    by_problem: dict[str, list[RunConfig]] = {}
    for run in runs:
        by_problem.setdefault(json.dumps([run.problem, run.problem_options]), []).append(run)
    for on_problem in by_problem.values():
        for method, own in _by_method(on_problem).items():
            if len(own) > TRIALS:
                problem = on_problem[0].problem
                raise ValueError(
                    f"{method} would be tried with {len(own)} settings on {problem}; wanted at most {TRIALS}"
                )


def _by_method(runs: list[RunConfig]) -> dict[str, dict[int, RunConfig]]:
    """The runs on one problem, those of its first replicate by their number, for each method."""
    found: dict[str, dict[int, RunConfig]] = {}
    for run in runs:
        assert isinstance(run.labels.value, int | float)
        found.setdefault(run.method, {}).setdefault(int(run.labels.value), run)
    return found


def found(budgeted: BudgetedProblem, runs: list[RunConfig], records: list[Record]) -> dict[str, Any]:
    """For each method the settings, their errors at each budget of seconds, and the number of the best there.

    The errors are medians over replicates of the held-out score and of W2 at the last evaluation within the budget; the
    best setting has the lowest score. A failed replicate, and one that had nothing yet, count as infinite; of equal
    settings the first is the best.
    """
    return {
        "replicates": sorted({record.replicate for record in records}),
        "engine": sorted({record.identity.engine for record in records}),
        "methods": {
            method: _best(budgeted, own, [record for record in records if record.method == method])
            for method, own in _by_method(runs).items()
        },
    }


def _best(budgeted: BudgetedProblem, tried: dict[int, RunConfig], records: list[Record]) -> dict[str, Any]:
    errors = {
        name: [
            [_median([error_at(r, name, b) for r in records if r.labels.value == i]) for b in budgeted.seconds]
            for i in tried
        ]
        for name in ERRORS
    }
    plain = {
        name: [[value if math.isfinite(value) else None for value in row] for row in rows]
        for name, rows in errors.items()
    }
    settings = [{"options": run.method_options, "steps": run.steps} for run in tried.values()]
    return {"settings": settings, **plain, "best": np.argmin(errors[SCORE], axis=0).tolist()}


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else math.inf


def error_at(record: Record, name: str, seconds: float) -> float:
    """The error at the last evaluation within a budget; building the method is part of it."""
    if record.status != "ok":
        return math.inf
    spent = record.setup_seconds + record.curve["seconds"]
    within = np.flatnonzero(spent <= seconds)
    return float(record.curve[name][within[-1]]) if within.size else math.inf


def keep(profile: str, size: BudgetedProblems, runs: list[RunConfig], results: Path, out: Path) -> list[str]:
    """Writes what the records of the runs say of their problems; the file keeps what it says of others and of others'
    methods. Returns a line for each method that names its best setting.
    """
    ids = [record_of(run, profile, run_held_out).run_id for run in runs]
    records = [written_here(record_path(results, run.study, own)) for run, own in zip(runs, ids, strict=True)]
    known, lines = json.loads(out.read_text()) if out.exists() else {}, list[str]()
    for budgeted in size.all_problems:
        mine = [(run, record) for run, record in zip(runs, records, strict=True) if budgeted.is_of(run)]
        if mine:
            own_runs, own_records = map(list, zip(*mine, strict=True))
            new = {"profile": profile, "metric": SCORE} | found(budgeted, own_runs, own_records)
            known[budgeted.name] = merged(known.get(budgeted.name, {}), new)
            lines += [_best_setting(budgeted, method, swept) for method, swept in new["methods"].items()]
    write_text(out, json.dumps(known, indent=1, sort_keys=True) + "\n")
    return lines


def _best_setting(budgeted: BudgetedProblem, method: str, swept: dict[str, Any]) -> str:
    """The best setting of a method at the longest budget, and its error."""
    best = swept["best"][-1]
    options, error = json.dumps(swept["settings"][best]["options"]), swept[SCORE][best][-1]
    found = "no estimate" if error is None else f"median held-out score {error:.4g}"
    count = len(swept["settings"])
    return f"{budgeted.name}, {method}: best of {count} within {budgeted.seconds[-1]:g} s: {options}, {found}"
