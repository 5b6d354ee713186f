"""The study scaling: W2, seconds for each step and planned memory along each axis, and their exponents."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.machines import Timed, timed
from cryosip.records.schema import Record
from cryosip.reports.controls import TRUTH_SAMPLE
from cryosip.reports.drawing import initial_line
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.sections import rates
from cryosip.reports.sections.rates import QUANTITIES, Axis, Fit, Quantity, fitted, groups, place
from cryosip.reports.spreads import grouped, spread
from cryosip.reports.style import INK, Plot, SeriesStyle, draw, log_axes, series_style

COLUMNS = ("problem", "axis", "value", "method", "replicate", "status", "w2", "w1", "initial w2", "floor w2",
           "seconds for each step", "setup seconds", "compile seconds", "run seconds", "steps", "forward evaluations",
           "planned memory MB", "peak memory MB")  # fmt: skip
DRAWN = {"w2": "W2", "seconds": "Seconds for each step", "memory": "Planned memory"}

Panel = dict[str, list[Record]]  # by method


def scaling(records: Sequence[Record]) -> dict[str, list[Plot]]:
    """For each problem and axis W2, seconds for each step and planned memory, with the fitted lines."""
    by_axis = grouped(groups(records).items(), lambda item: item[0][:2])
    panels = {key: {method: own for (_, _, method), own in items} for key, items in by_axis.items()}
    drawn = [quantity for quantity in QUANTITIES if quantity.name in DRAWN]
    return {heading(*key): [_panel(*key, panel, quantity) for quantity in drawn] for key, panel in panels.items()}


def heading(problem: str, axis: Axis) -> str:
    """Of what the page shows of one axis of one problem."""
    return f"{problem}: {axis.label}"


def _panel(problem: str, axis: Axis, panel: Panel, quantity: Quantity) -> Plot:
    name = re.sub(r"[^a-z0-9-]+", "-", f"scaling-{problem}-{axis.name}".lower()) + f"-{quantity.name}"  # a file's too
    records = [record for own in panel.values() for record in own]
    on = timed(records)
    counted = {method: quantity.runs(own, on) for method, own in panel.items()}
    fits = {method: fitted(own, axis, quantity) for method, own in counted.items()}

    def paint(ax: Axes) -> None:
        if quantity.name == "w2":
            _references(ax, axis, records)
        for index, (method, own) in enumerate(panel.items()):
            _series(ax, axis, quantity, series_style(own[0]), counted[method], fits[method])
            _failures(ax, axis, own, 0.97 - 0.04 * index)
        log_axes(ax, "xy" if any(quantity.of(record) > 0 for record in records) else "x")
        ax.set(xlabel=axis.label, ylabel=quantity.label)

    title = f"{problem}: {DRAWN[quantity.name]} against {axis.label}"
    rows = [_row(problem, axis, record, on) for record in records]
    caption = _caption(axis, quantity, panel, fits) + (f" {on.sentence}" if on.sentence and quantity.timed else "")
    return Plot(name, title, caption, draw(name, paint), COLUMNS, rows)


def _series(ax: Axes, axis: Axis, quantity: Quantity, series: SeriesStyle, records: Sequence[Record], fit: Fit) -> None:
    """Replicates as faint markers, the line of their medians and the fitted line."""
    kept = [r for r in records if r.status == "ok" and quantity.of(r) > 0]
    values = {x: [quantity.of(r) for r in own] for x, own in grouped(kept, lambda r: place(r, axis)).items()}
    for x, own in values.items():
        ax.plot([x] * len(own), own, linestyle="", marker=series.marker, color=series.colour, markersize=4, alpha=0.35)
    if values:
        ax.plot(list(values), [spread(own).median for own in values.values()], color=series.colour, linewidth=1.2,
                marker=series.marker, markersize=5, label=series.label)  # fmt: skip
    if not math.isnan(fit.slope):
        ends = np.array([fit.places[0], fit.places[-1]])
        line = np.exp(fit.intercept) * ends**fit.slope
        ax.plot(ends, line, color=series.colour, linestyle=(0, (5, 2)), linewidth=1.0)


def _failures(ax: Axes, axis: Axis, records: Sequence[Record], height: float) -> None:
    """A cross at the top of the axes at each place where a run failed."""
    at = sorted({place(record, axis) for record in records if record.status != "ok"})
    if at:
        series = series_style(records[0])
        crosses: Any = {"linestyle": "", "marker": "x", "markersize": 8, "markeredgewidth": 2, "clip_on": False}
        ax.plot(at, [height] * len(at), transform=ax.get_xaxis_transform(), color=series.colour,
                label=f"{series.label}, failed", **crosses)  # fmt: skip


def _references(ax: Axes, axis: Axis, records: Sequence[Record]) -> None:
    """The floor of a sample of the truth as large as the data, and the initial distribution."""
    floors = {place(r, axis): r.data_floors["w2"] for r in records if "w2" in r.data_floors}
    if floors:
        at = sorted(floors)
        low, middle, high = ([getattr(floors[x], name) for x in at] for name in ("q05", "median", "q95"))
        ax.fill_between(at, low, high, color=INK, alpha=0.10, linewidth=0)
        ax.plot(at, middle, color=INK, alpha=0.5, linewidth=0.9, linestyle=":", label=f"{TRUTH_SAMPLE} (floor)")
    initial_line(ax, records, "w2")


def _caption(axis: Axis, quantity: Quantity, panel: Panel, fits: dict[str, Fit]) -> str:
    words = ["Faint markers: replicates; solid: their medians; dashed: the fitted power law."]
    if quantity.name == "w2":
        words.append("Band: 5–95 % of an i.i.d. sample of the truth with one point for each observation.")
    if quantity.name == "memory":
        words.append("Arguments, results and temporaries of compiled steps; constants, such as the data, come on top.")
    unfitted = [f"{method}: {fit.why}" for method, fit in fits.items() if fit.why]
    if unfitted and len({fit.why for fit in fits.values()}) == 1:
        unfitted = [fits[next(iter(fits))].why]
    words += [f"{'; '.join(unfitted)}."] if unfitted else []
    for method, own in panel.items():
        failed = [record for record in own if record.status != "ok"]
        if failed:
            at = ", ".join(f"{x:g}" for x in sorted({place(record, axis) for record in failed}))
            words.append(f"{method} failed in {len(failed)} of {len(own)} runs (crosses at the top, at {at}).")
    return " ".join(words)


def _row(problem: str, axis: Axis, record: Record, on: Timed) -> list[object]:
    floor, clocked = record.data_floors.get("w2"), bool(on.runs([record]))
    seconds = (rates.step_seconds(record), record.setup_seconds, record.compile_seconds, record.run_seconds)
    return [problem, axis.name, place(record, axis), series_style(record).label, record.replicate, record.status,
            record.metrics.get("w2", math.nan), record.metrics.get("w1", math.nan),
            record.initial_metrics.get("w2", math.nan), floor.median if floor else math.nan,
            *(x if clocked else math.nan for x in seconds), record.steps, record.forward_evaluations,
            record.program_memory_mb, record.peak_memory_mb]  # fmt: skip


def _exponents(source: Source) -> Context:
    rows = rates.exponents(source.records)
    shown = grouped((row for row in rows if row.shown), lambda row: heading(row.problem, row.axis))
    return {"shown": shown, "exponents": rows, "tolerance": rates.TOLERANCE} if rows else {}


SECTION = Section(
    "scaling", "Scaling", ("scaling",), scaling, _exponents, template="scaling.html",
    tables=lambda context: {"scaling_exponents.csv": rates.exponent_table(context["exponents"])} if context else {},
    missing="No run of the study scaling in the records: run the study scaling.",
)  # fmt: skip
