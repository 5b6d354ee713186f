"""Curves and references that the sections of several studies share: convergence, and mixtures against K."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.machines import timed
from cryosip.records.schema import Record
from cryosip.reports.drawing import floor_band, flows, initial_line
from cryosip.reports.spreads import Spread, grouped, spread
from cryosip.reports.style import Plot, draw, log_axes, series_style

UNITS = {"step": "step", "seconds": "seconds (without compilation)"}


def convergence(records: Sequence[Record], prefix: str = "") -> list[Plot]:
    """W2 and W1 against step and seconds for the flows, published and tuned, and for reweighting."""
    kept = flows(records, "published") + flows(records, "tuned")
    kept += [r for r in records if r.method == "reweighting" and r.status == "ok"]
    return [
        plot
        for metric in ("w2", "w1")
        for unit in UNITS
        if (plot := _curves([r for r in kept if metric in r.curve and unit in r.curve], metric, unit, prefix))
    ]


def _curves(records: Sequence[Record], metric: str, unit: str, prefix: str) -> Plot | None:
    if not records:
        return None
    on = timed(records, unit)
    records = on.runs(records)
    name = f"{prefix}curve-{metric}-{unit}"
    rows = [
        [series_style(r).label, r.labels.text, r.replicate, x, y]
        for r in records
        for x, y in zip(r.curve[unit], r.curve[metric], strict=True)
    ]

    def paint(ax: Axes) -> None:
        floor_band(ax, [r.floors[metric] for r in records if metric in r.floors and r.method == "flow"])
        initial_line(ax, records, metric)
        seen: set[str] = set()
        for record in records:
            label = series_style(record).label + (", tuned" if record.labels.variant == "tuned" else "")
            x, y = record.curve[unit], record.curve[metric]
            line = "--" if record.labels.variant == "tuned" else "-"
            ax.plot(x[x > 0], y[x > 0], color=series_style(record).colour, linestyle=line, linewidth=1.1, alpha=0.8,
                    marker=series_style(record).marker if np.count_nonzero(x > 0) < 3 else None, markersize=4,
                    label=None if label in seen else label)  # fmt: skip
            seen.add(label)
        log_axes(ax, "xy")
        ax.set(xlabel=UNITS[unit], ylabel=metric.upper())

    caption = (
        "Flows and reweighting, one line for each replicate, from the first evaluation after the start. Band: 5–95 % "
        "of an i.i.d. sample of the truth as large as the flow's." + (on.sentence and f" {on.sentence}")
    )
    title = f"{metric.upper()} against {'steps' if unit == 'step' else 'seconds'}"
    return Plot(name, title, caption, draw(name, paint), ["method", "setting", "replicate", unit, metric], rows)


def against_components(records: Sequence[Record], prefix: str = "") -> list[Plot]:
    """W2 and W1 of the mixture against its number of components, with the other methods as reference lines."""
    kept = [r for r in records if r.status == "ok"]
    mixtures = [r for r in kept if r.method == "mixture" and r.config_number("method.options.n_components") > 0]
    others = [r for r in kept if r.method != "mixture"]
    others.sort(key=lambda r: (r.method != "flow", r.discrepancy, r.labels.text))
    return [_components(mixtures, others, metric, prefix) for metric in ("w2", "w1") if mixtures]


def variant(record: Record) -> str:
    """What a mixture is besides its K, such as "annealed"."""
    return record.labels.variant


def _components(mixtures: Sequence[Record], others: Sequence[Record], metric: str, prefix: str) -> Plot:
    name = f"{prefix}dto-{metric}"

    def of(records: Sequence[Record]) -> Spread:
        return spread([r.metrics.get(metric, math.nan) for r in records])

    groups = grouped(mixtures, lambda r: (variant(r), r.config_number("method.options.n_components")))
    points = [(label, k, of(own)) for (label, k), own in sorted(groups.items())]
    lines = grouped(others, lambda r: (series_style(r).label, r.labels.text))
    references = [(series_style(own[0]), setting, of(own)) for (_, setting), own in lines.items()]

    def paint(ax: Axes) -> None:
        floor_band(ax, [r.data_floors[metric] for r in mixtures if metric in r.data_floors])
        initial_line(ax, mixtures, metric)
        for series, setting, value in references:
            line = "--" if setting == "tuned" else "-"
            label = f"{series.label}, {setting}"
            ax.axhline(value.median, color=series.colour, linestyle=line, linewidth=1.3, label=label)
        mixture = series_style(mixtures[0])
        for index, label in enumerate(dict.fromkeys(label for label, _, _ in points)):
            own = [(k, s) for at, k, s in points if at == label and s.n]
            errors = np.array([[s.median - s.q05, s.q95 - s.median] for _, s in own]).T
            ax.errorbar([k for k, _ in own], [s.median for _, s in own], np.nan_to_num(errors) if own else None,
                        color=mixture.colour, marker=mixture.marker, markersize=5, linewidth=1.3, capsize=2.5,
                        linestyle=("-", "--", ":", "-.")[index % 4],
                        label=f"{mixture.label} {label}".strip())  # fmt: skip
        log_axes(ax, "xy")
        ax.set(xlabel="number of components K", ylabel=metric.upper())

    caption = (
        "Medians over replicates, bars 5–95 % (none below 3 replicates). Band: floor of an i.i.d. sample of the truth "
        "with one point for each observation, since a mixture has fewer points than the data."
    )
    rows = [[f"mixture {label}".strip(), k, *s] for label, k, s in points]
    rows += [[f"{series.label}, {setting}", "", *s] for series, setting, s in references]
    return Plot(name, f"{metric.upper()} against K: mixture, with the flows and reweighting", caption,
                draw(name, paint), ["method", "K", "median", "q05", "q95", "replicates"], rows)  # fmt: skip
