"""The study sampling of §2.5.3: variances of the estimators (2.13)-(2.15), and what each scheme buys the flow."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.machines import Timed, timed
from cryosip.records.schema import Record
from cryosip.reports.drawing import floor_band, initial_line
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.spreads import MIN_REPLICATES, Spread, cost_below, counted, data_floor, grouped, spread
from cryosip.reports.style import INK, STYLES, Plot, SeriesStyle, draw, log_axes, newcomer, series_style

MULTIPLES = (1.5, 2.0, 3.0, 5.0, 10.0)  # of the floor of the data
METRICS = ("w1", "w2")
UNITS = {"seconds": "seconds (without compilation)", "forward_evaluations": "forward evaluations"}


class Accuracy(NamedTuple):
    """A line of the table: what a scheme needs to come below a multiple of the floor, inf where it never does."""

    scheme: str
    colour: str
    metric: str
    multiple: float
    threshold: float
    seconds: Spread
    forward_evaluations: Spread
    reached: int
    runs: int
    failed: int
    why: str  # there is no interval

    @property
    def order(self) -> tuple[str, float]:
        """What lines of the same threshold share."""
        return self.metric, self.multiple

    @property
    def below(self) -> str:
        """The threshold in words."""
        return f"{self.metric.upper()} < {self.multiple:g} × floor"


def schemes(records: Sequence[Record]) -> list[Plot]:
    """W1 and W2 of the flow over seconds and forward evaluations, for each way to draw omega."""
    by_scheme = _by_scheme(records)
    return [
        _curves(by_scheme, metric, unit)
        for metric in METRICS
        for unit in UNITS
        if any(metric in r.curve and unit in r.curve for own in by_scheme.values() for r in own)
    ]


def time_to_accuracy(records: Sequence[Record]) -> list[Accuracy]:
    """Seconds and forward evaluations until W1 and W2 are below multiples of the floor of the data."""
    by_scheme = _by_scheme(records)
    on = _on(by_scheme, "seconds")
    return [
        _accuracy(name, own, on, metric, multiple)
        for metric in METRICS
        for multiple in MULTIPLES
        for name, own in by_scheme.items()
    ]


def accuracy_table(rows: Sequence[Accuracy]) -> list[list[Any]]:
    """A header and one line for each scheme and threshold, for a file."""
    columns = ["metric", "multiple of floor", "threshold", "scheme", "seconds", "seconds_q05", "seconds_q95",
               "forward_evaluations", "forward_evaluations_q05", "forward_evaluations_q95", "reached", "runs", "failed",
               "why"]  # fmt: skip
    return [columns] + [
        [r.metric, r.multiple, r.threshold, r.scheme, *r.seconds[:3], *r.forward_evaluations[:3], r.reached, r.runs,
         r.failed, r.why]
        for r in rows
    ]  # fmt: skip


def _by_scheme(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The flows of the study, whatever became of them; a scheme also has the number of its samples."""
    kept = [r for r in records if r.method == "flow" and r.config_value("method.options.sampling")]
    kept.sort(key=lambda r: (str(r.config_value("method.options.sampling")), r.replicate))
    return grouped(kept, lambda r: _style(r).label)


def _style(record: Record) -> SeriesStyle:
    name = str(record.config_value("method.options.sampling"))
    series = STYLES.get(name) or newcomer(name)
    samples = record.config_number("method.options.n_draws")
    return series._replace(label=f"{series.label}, K = {samples:g}") if samples > 1 else series


def _on(by_scheme: dict[str, list[Record]], unit: str) -> Timed:
    return timed((record for own in by_scheme.values() for record in own), unit)


def _accuracy(scheme: str, records: Sequence[Record], on: Timed, metric: str, multiple: float) -> Accuracy:
    threshold = multiple * data_floor(records, metric)
    seconds, calls = ([_cost(r, metric, threshold, unit) for r in records] for unit in UNITS)
    clocked = [_cost(r, metric, threshold, "seconds") for r in on.runs(records)]
    few = len(records) < MIN_REPLICATES
    return Accuracy(
        scheme, _style(records[0]).colour, metric, multiple, threshold, spread(clocked), spread(calls),
        sum(math.isfinite(cost) for cost in seconds), len(records), sum(r.status != "ok" for r in records),
        f"{counted(len(records))}, fewer than {MIN_REPLICATES}: no interval" if few else "",
    )  # fmt: skip


def _cost(record: Record, metric: str, threshold: float, unit: str) -> float:
    """A run that failed without a curve never came below."""
    cost = cost_below(record, metric, threshold, unit)
    return math.inf if math.isnan(cost) and record.status != "ok" else cost


def _curves(by_scheme: dict[str, list[Record]], metric: str, unit: str) -> Plot:
    """Medians over replicates of both the cost and the distance at each evaluation."""
    on = _on(by_scheme, unit)
    by_scheme = {name: kept for name, own in by_scheme.items() if (kept := on.runs(own))}
    lines = {name: _line([r for r in own if metric in r.curve], metric, unit) for name, own in by_scheme.items()}
    records = [record for own in by_scheme.values() for record in own]

    def paint(ax: Axes) -> None:
        floor_band(ax, [r.data_floors[metric] for r in records if metric in r.data_floors])
        initial_line(ax, records, metric)
        for name, (cost, values) in lines.items():
            series = _style(by_scheme[name][0])
            ax.plot(cost, [value.median for value in values], color=series.colour, linewidth=1.4, marker=series.marker,
                    markersize=3, label=name)  # fmt: skip
            low, high = ([value[i] for value in values] for i in (1, 2))
            ax.fill_between(cost, low, high, color=series.colour, alpha=0.18, linewidth=0)
        log_axes(ax, "xy")
        ax.set(xlabel=UNITS[unit], ylabel=metric.upper())

    words = ["Flow of the energy distance, the same optimizer for all; medians and 5–95 % over replicates."]
    if max(len(own) for own in by_scheme.values()) < MIN_REPLICATES:
        words[0] = words[0].replace(" and 5–95 % over replicates", " over replicates")
        words.append(f"Fewer than {MIN_REPLICATES} replicates: no interval is drawn.")
    words.append("Grey: the floor, an i.i.d. sample of the truth with one point for each observation.")
    failed = [f"{name}: {count}" for name, own in by_scheme.items() if (count := sum(r.status != "ok" for r in own))]
    words += [f"Runs that failed: {', '.join(failed)}."] if failed else []
    words += [on.sentence] if on.sentence else []
    rows = [
        [_style(r).label, r.replicate, r.status, x, y]
        for r in records
        if metric in r.curve
        for x, y in zip(r.curve[unit], r.curve[metric], strict=True)
    ]
    name = f"schemes-{metric}-{unit}".replace("_", "-")
    title = f"{metric.upper()} over {unit.replace('_calls', ' evaluations')}: what each scheme buys the flow"
    return Plot(name, title, " ".join(words), draw(name, paint), ["scheme", "replicate", "status", unit, metric], rows)


def _line(records: Sequence[Record], metric: str, unit: str) -> tuple[list[float], list[Spread]]:
    """Evaluations are at the same steps in all replicates; the start costs nothing, so that no log axis has it."""
    curves = [zip(r.curve["step"], r.curve[unit], r.curve[metric], strict=True) for r in records]
    points = sorted((float(step), float(x), float(y)) for curve in curves for step, x, y in curve if x > 0)
    at = grouped(points, lambda point: point[0]).values()
    return [float(np.median([x for _, x, _ in own])) for own in at], [spread([y for *_, y in own]) for own in at]


VARIANCE_COLUMNS = ("scheme", "N", "K", "replicate", "variance", "q05", "q95", "formula", "measured / formula")


def variances(records: Sequence[Record]) -> list[Plot]:
    """Variance against K at the largest N, and measured / formula of every record."""
    kept = [r for r in records if {"variance", "variance_formula"} <= set(r.metrics) and _positive(r)]
    if not kept:
        return []
    kept = sorted(kept, key=lambda r: (r.method, _n(r), _k(r), r.replicate))
    largest = max(_n(record) for record in kept)
    return [_against_k([r for r in kept if _n(r) == largest], largest), _ratios(kept)]


def _n(record: Record) -> float:
    return record.config_number("method.options.n")


def _k(record: Record) -> float:
    return record.config_number("method.options.k")


def _positive(record: Record) -> bool:
    return min(record.metrics["variance"], record.metrics["variance_formula"]) > 0 and math.isfinite(_n(record))


def _row(record: Record) -> list[object]:
    m = record.metrics
    scheme, q05, q95 = series_style(record).label, m.get("variance_q05", math.nan), m.get("variance_q95", math.nan)
    return [scheme, _n(record), _k(record), record.replicate, m["variance"], q05, q95,
            m["variance_formula"], m["variance"] / m["variance_formula"]]  # fmt: skip


def _measured(ax: Axes, records: Sequence[Record], places: Sequence[float], scales: Sequence[float]) -> None:
    """The measured variances of a scheme over `scales`, with bars from q05 to q95."""
    series = series_style(records[0])
    for at, (r, x, scale) in enumerate(zip(records, places, scales, strict=True)):
        value = r.metrics["variance"]
        ends = value - r.metrics.get("variance_q05", value), r.metrics.get("variance_q95", value) - value
        ax.errorbar([x], [value / scale], np.maximum([[end] for end in ends], 0.0) / scale, color=series.colour,
                    marker=series.marker, markersize=5, linestyle="", capsize=2.5,
                    label=None if at else series.label)  # fmt: skip


def _against_k(records: Sequence[Record], n: float) -> Plot:
    def paint(ax: Axes) -> None:
        for index, own in enumerate(grouped(records, lambda r: r.method).values()):
            series, shift = series_style(own[0]), 1.06 ** (index - 1)
            formula = {_k(r): r.metrics["variance_formula"] for r in own}
            ax.plot(list(formula), list(formula.values()), color=series.colour, linewidth=1.3)
            _measured(ax, own, [_k(r) * shift for r in own], [1.0] * len(own))
        log_axes(ax, "xy")
        ax.set(xlabel="samples of ω, K", ylabel="variance of the estimator")

    caption = (
        f"N = {n:g}. Lines: formulas of §2.5.3. Markers: measured, with 5–95 %; shifted sideways so that none hides "
        "another."
    )
    drawing, rows = draw("variance-k", paint), [_row(record) for record in records]
    return Plot("variance-k", "Variance of the estimators against K", caption, drawing, VARIANCE_COLUMNS, rows)


def _ratios(records: Sequence[Record]) -> Plot:
    cases = sorted({(_n(r), _k(r)) for r in records})
    replicates = sorted({r.replicate for r in records})
    apart = 0.13 / max(1, len(replicates) - 1)

    def paint(ax: Axes) -> None:
        for index, own in enumerate(grouped(records, lambda r: r.method).values()):
            middle = (index - 1) * 0.25 - apart * (len(replicates) - 1) / 2
            places = [cases.index((_n(r), _k(r))) + middle + apart * replicates.index(r.replicate) for r in own]
            _measured(ax, own, places, [r.metrics["variance_formula"] for r in own])
        ax.axhline(1.0, color=INK, linewidth=0.9, alpha=0.6)
        ax.set_xticks(range(len(cases)), [f"{n:g}, {k:g}" for n, k in cases], rotation=60, ha="right")
        ax.set(xlabel="N, K", ylabel="measured / formula")

    caption = "1 where the formula of §2.5.3 holds; a marker for each replicate, bars are the 5–95 % of its variance."
    drawing, rows = draw("variance-ratio", paint), [_row(record) for record in records]
    return Plot("variance-ratio", "Measured variance over its formula", caption, drawing, VARIANCE_COLUMNS, rows)


def _accuracies(source: Source) -> Context:
    rows = time_to_accuracy(source.records)
    return {"accuracies": rows, "machines": _on(_by_scheme(source.records), "seconds").sentence} if rows else {}


SECTIONS = (
    Section(
        "variances", "Variances", ("sampling",), lambda records: {"variances": variances(records)},
        heading="Variance of the estimators (§2.5.3)",
        missing="No run of the sampling study in the records: run the study sampling.",
    ),
    Section(
        "schemes", "Sampling schemes", ("sampling",), lambda records: {"schemes": schemes(records)}, _accuracies,
        lambda context: {"time_to_accuracy.csv": accuracy_table(context["accuracies"])} if context else {},
        template="sampling.html",
        missing="No flow of the sampling study in the records: run the study sampling.",
    ),
)  # fmt: skip
