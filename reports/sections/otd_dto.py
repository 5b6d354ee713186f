"""The study otd-vs-dto: who wins within each budget, error over the floor against what it cost, Pareto fronts."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.machines import across, timed
from cryosip.records.schema import Array, Record
from cryosip.reports.controls import BEST_WEIGHTS, START_LABEL, TRUTH_SAMPLE, floor_label
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.sections import budgets
from cryosip.reports.sections.board import by_problem
from cryosip.reports.sections.budgets import BUDGET_UNITS, METRICS
from cryosip.reports.spreads import Spread, grouped, over_floor, spread
from cryosip.reports.style import INK, Plot, SeriesStyle, draw, log_axes, method_style

NAMES = {"w2": "W2", "w1": "W1", "energy_distance_squared": "D²"}
COLUMNS = ["method", "replicate", "status"]


def plots(records: Sequence[Record]) -> dict[str, list[Plot]]:
    """For each problem the figures that lead, and under "... more" the other metrics."""
    groups: dict[str, list[Plot]] = {}
    for problem, own in by_problem(records).items():
        curves = {m: [_curves(problem, own, m, unit) for unit in BUDGET_UNITS] for m in METRICS}
        groups[problem] = [*curves.pop("w2"), _front_of_seconds(problem, own), _front_of_memory(problem, own)]
        groups[f"{problem} more"] = [plot for group in curves.values() for plot in group]
    return groups


def median_curve(records: Sequence[Record], metric: str, unit: str) -> tuple[Array, Array]:
    """Medians over replicates at evaluations after the same number of steps that at least half of the runs came to."""
    curves = [
        zip(r.curve["step"], budgets.spent(r, unit), values, strict=True)
        for r in records
        if r.status == "ok" and (values := budgets.over_floor(r, metric)).size
    ]
    at = grouped(
        sorted((point for curve in curves for point in curve), key=lambda p: p[0]), lambda point: float(point[0])
    )
    kept = [np.median(own, axis=0)[1:] for own in at.values() if 2 * len(own) >= len(records)]
    points = np.array(kept).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _curves(problem: str, records: Sequence[Record], metric: str, unit: str) -> Plot:
    name = f"{problem}-{metric}-{unit}".replace("_", "-")
    on = budgets.on_machine(records, unit)
    methods = {method: kept for method, own in budgets.longest(records, unit).items() if (kept := on.runs(own))}
    limits = budgets.budgets(records, unit)

    def paint(ax: Axes) -> None:
        _bounds(ax, records, metric)
        for limit in limits:
            ax.axvline(limit, color=INK, linewidth=0.8, alpha=0.35, linestyle=(0, (1, 3)))
        for own in methods.values():
            series = method_style(own[0])
            for record in own:
                x, y = budgets.spent(record, unit), budgets.over_floor(record, metric)
                if record.status == "ok" and y.size:
                    ax.plot(x[x > 0], y[x > 0], color=series.colour, linewidth=0.7, alpha=0.3)
            x, y = median_curve(own, metric, unit)
            label = series.label + _failures(own)
            ax.plot(x[x > 0], y[x > 0], color=series.colour, linewidth=1.8, marker=series.marker, markersize=4,
                    markevery=[-1] if np.count_nonzero(x > 0) else None, label=label)  # fmt: skip
            oracle = spread([over_floor(r, metric, r.oracle_metrics) for r in own if r.status == "ok"]).median
            if math.isfinite(oracle) and x.size:
                ax.plot([x[-1] * 1.25], [oracle], marker=series.marker, color=series.colour, markerfacecolor="none",
                        linestyle="", markersize=6)  # fmt: skip
        log_axes(ax, "xy")
        ax.set(xlabel=BUDGET_UNITS[unit], ylabel=f"{NAMES[metric]} ÷ floor")

    caption = (
        "Bold: medians over replicates, of the setting chosen for the longest budget; thin: replicates. Upright "
        f"lines: the budgets. Band: 5–95 % of {TRUTH_SAMPLE}, an i.i.d. sample of the truth as large as the data, the "
        f"floor; dashed: {START_LABEL}"
        + ("." if metric == "energy_distance_squared" else
           f"; hollow, at the right end: {BEST_WEIGHTS} on the method's own points, an oracle.")
        + (on.sentence and f" {on.sentence}")
    )  # fmt: skip
    rows = [
        [r.method, r.replicate, r.status, x, y]
        for own in methods.values()
        for r in own
        for x, y in zip(budgets.spent(r, unit), budgets.over_floor(r, metric), strict=False)
    ]
    title = f"{problem}: {NAMES[metric]} against {BUDGET_UNITS[unit]}"
    return Plot(name, title, caption, draw(name, paint), [*COLUMNS, unit, f"{metric}_over_floor"], rows)


def _failures(records: Sequence[Record]) -> str:
    failed = sum(record.status != "ok" for record in records)
    return f" ({failed} of {len(records)} failed)" if failed else ""


def _bounds(ax: Axes, records: Sequence[Record], metric: str) -> None:
    floors = [f for r in records if (f := r.data_floors.get(metric)) and f.median > 0]
    if not floors:
        return
    low, high = (np.median([getattr(f, q) / f.median for f in floors]) for q in ("q05", "q95"))
    ax.axhspan(low, high, color=INK, alpha=0.10, linewidth=0)
    ax.axhline(1.0, color=INK, alpha=0.5, linewidth=0.9, linestyle=":", label=floor_label(floors[0].n))
    initial = spread([over_floor(r, metric, r.initial_metrics) for r in records])
    if initial.n:
        how: Any = {"linewidth": 0.9, "linestyle": "--", "label": START_LABEL}
        ax.axhline(initial.median, color=INK, alpha=0.5, **how)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both, by rising cost."""
    best, kept = math.inf, []
    for cost, error in sorted(points):
        if error < best:
            best = error
            kept.append((cost, error))
    return kept


def _front_of_seconds(problem: str, records: Sequence[Record]) -> Plot:
    points, on = [], timed(records)
    for budget in budgets.budgets(records, "seconds"):
        runs = budgets.runs_for(records, "seconds", budget)
        for s in budgets.standings(records, "w2", "seconds", budget):
            if own := on.runs(runs[s.method]):
                took = spread([budgets.spent_within(r, "seconds", budget) for r in own]).median
                points.append((s.style, budget if math.isnan(took) else took, s.spread))
    caption = (
        "W2 over its floor within each budget of seconds, with the setting chosen for that budget, at the seconds that "
        "were spent of it: medians, bars 5–95 % over replicates (none below 3). The line joins what no other method "
        "beats in both. Methods that had nothing yet, or failed in most replicates, stand at the top edge."
        + (on.sentence and f" {on.sentence}")
    )
    return _front(f"{problem}-pareto-seconds", f"{problem}: error against seconds", caption, "seconds", points)


def _front_of_memory(problem: str, records: Sequence[Record]) -> Plot:
    last = max(budgets.budgets(records, "seconds"), default=math.nan)
    memory = {
        method: spread([r.program_memory_mb for r in own]).median
        for method, own in budgets.runs_for(records, "seconds", last).items()
    }
    points = [(s.style, memory[s.method], s.spread) for s in budgets.standings(records, "w2", "seconds", last)]
    caption = (
        "W2 over its floor at the longest budget against the memory that the compiler plans for a block of steps: "
        "arguments, results and temporaries; constants such as the data, and what building the method took, come on "
        "top."
    )
    return _front(f"{problem}-pareto-memory", f"{problem}: error against memory", caption, "MB planned", points)


def _front(
    name: str, title: str, caption: str, xlabel: str, points: Sequence[tuple[SeriesStyle, float, Spread]]
) -> Plot:
    shown = [(series, x, s) for series, x, s in points if math.isfinite(x)]
    finite = [s.median for _, _, s in shown if math.isfinite(s.median)]
    top = 2 * max(finite, default=1.0)

    def paint(ax: Axes) -> None:
        corners = front([(x, s.median) for _, x, s in shown if math.isfinite(s.median)])
        if corners:
            ax.step(*zip(*corners, strict=True), where="post", color=INK, linewidth=1.0, alpha=0.6)
        seen: set[str] = set()
        for series, x, s in shown:
            inside = math.isfinite(s.median)
            if inside and math.isfinite(s.q05) and math.isfinite(s.q95):
                bars = [[s.median - s.q05], [s.q95 - s.median]]
                ax.errorbar([x], [s.median], bars, color=series.colour, capsize=2.5)
            ax.plot([x], [s.median if inside else top], marker=series.marker, color=series.colour, linestyle="",
                    markerfacecolor=series.colour if inside else "none", markersize=6,
                    label=None if series.label in seen else series.label)  # fmt: skip
            seen.add(series.label)
        log_axes(ax, "xy")
        ax.set(xlabel=xlabel, ylabel="W2 ÷ floor")

    rows = [[series.label, x, *s] for series, x, s in shown]
    columns = ["method", xlabel, "median", "q05", "q95", "replicates"]
    return Plot(name, title, caption, draw(name, paint), columns, rows)


def _tables(source: Source) -> Context:
    problems = by_problem(source.records)
    return problems and {
        "verdicts": {problem: budgets.verdicts(own) for problem, own in problems.items()},
        "across": {problem: across(own) for problem, own in problems.items()},
        "machines": {problem: budgets.on_machine(own, "seconds").sentence for problem, own in problems.items()},
        "reaches": {problem: {u: budgets.reaches(own, u) for u in BUDGET_UNITS} for problem, own in problems.items()},
        "budget_units": BUDGET_UNITS,
        "thresholds": budgets.THRESHOLDS,
        "budget_rule": budgets.RULE,
        "families": budgets.families(sorted({record.method for record in source.records})),
        "infinity": math.inf,
    }


SECTION = Section(
    "otd-vs-dto", "OTD against DTO", ("otd-vs-dto",), plots, _tables, template="otd_dto.html",
    missing="No run of the study otd-vs-dto in the records: run it.",
)  # fmt: skip
