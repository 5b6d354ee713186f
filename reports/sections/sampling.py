"""What each scheme of §2.5.3 buys the flow: distances over seconds and forward calls, and the time to an accuracy."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.read import Record
from cryosip.reports.sections.oned import floor_band, initial_line
from cryosip.reports.spreads import MIN_REPLICATES, Spread, cost_below, counted, spread
from cryosip.reports.style import LOOKS, UNKNOWN, Look, Plot, draw, log_axes

MULTIPLES = (1.5, 2.0, 3.0, 5.0, 10.0)  # of the floor of the data
METRICS = ("w1", "w2")
UNITS = {"seconds": "seconds (without compilation)", "forward_calls": "forward calls"}


class Accuracy(NamedTuple):
    """A line of the table: what a scheme needs to come below a multiple of the floor, inf where it never does."""

    scheme: str
    colour: str
    metric: str
    multiple: float
    threshold: float
    seconds: Spread
    forward_calls: Spread
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
    """W1 and W2 of the flow over seconds and forward calls, for each way to draw omega."""
    by_scheme = _by_scheme(records)
    return [
        _curves(by_scheme, metric, unit)
        for metric in METRICS
        for unit in UNITS
        if any(metric in r.curve and unit in r.curve for own in by_scheme.values() for r in own)
    ]


def time_to_accuracy(records: Sequence[Record]) -> list[Accuracy]:
    """Seconds and forward calls until W1 and W2 are below multiples of the floor of the data."""
    by_scheme = _by_scheme(records)
    return [
        _accuracy(name, own, metric, multiple)
        for metric in METRICS
        for multiple in MULTIPLES
        for name, own in by_scheme.items()
    ]


def accuracy_table(rows: Sequence[Accuracy]) -> list[list[Any]]:
    """A header and one line for each scheme and threshold, for a file."""
    columns = ["metric", "multiple of floor", "threshold", "scheme", "seconds", "seconds_q05", "seconds_q95",
               "forward_calls", "forward_calls_q05", "forward_calls_q95", "reached", "runs", "failed",
               "why"]  # fmt: skip
    return [columns] + [
        [r.metric, r.multiple, r.threshold, r.scheme, *r.seconds[:3], *r.forward_calls[:3], r.reached, r.runs,
         r.failed, r.why]
        for r in rows
    ]  # fmt: skip


def _by_scheme(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The flows of the study, whatever became of them; a scheme also has the number of its draws."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (str(r.asked("method.options.sampling")), r.replicate)):
        if record.method == "flow" and record.asked("method.options.sampling"):
            found.setdefault(_look(record).label, []).append(record)
    return found


def _look(record: Record) -> Look:
    name = str(record.asked("method.options.sampling"))
    series = LOOKS.get(name, UNKNOWN._replace(label=name))
    draws = record.number("method.options.n_draws")
    return series._replace(label=f"{series.label}, K = {draws:g}") if draws > 1 else series


def _floor(record: Record, metric: str) -> float:
    floor = record.data_floors.get(metric)
    return floor.median if floor else math.nan


def _accuracy(scheme: str, records: Sequence[Record], metric: str, multiple: float) -> Accuracy:
    floor = spread([_floor(record, metric) for record in records]).median
    threshold = multiple * floor
    seconds, calls = ([_cost(r, metric, threshold, unit) for r in records] for unit in UNITS)
    few = len(records) < MIN_REPLICATES
    return Accuracy(
        scheme, _look(records[0]).colour, metric, multiple, threshold, spread(seconds), spread(calls),
        sum(math.isfinite(cost) for cost in seconds), len(records), sum(r.status != "ok" for r in records),
        f"{counted(len(records))}, fewer than {MIN_REPLICATES}: no interval" if few else "",
    )  # fmt: skip


def _cost(record: Record, metric: str, threshold: float, unit: str) -> float:
    """A run that failed without a curve never came below."""
    cost = cost_below(record, metric, threshold, unit)
    return math.inf if math.isnan(cost) and record.status != "ok" else cost


def _curves(by_scheme: dict[str, list[Record]], metric: str, unit: str) -> Plot:
    """Medians over replicates of both the cost and the distance at each look."""
    lines = {name: _line([r for r in own if metric in r.curve], metric, unit) for name, own in by_scheme.items()}
    records = [record for own in by_scheme.values() for record in own]

    def paint(ax: Axes) -> None:
        floor_band(ax, [r.data_floors[metric] for r in records if metric in r.data_floors])
        initial_line(ax, records, metric)
        for name, (cost, values) in lines.items():
            series = _look(by_scheme[name][0])
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
    words.append("Grey: the floor, an i.i.d. sample of the truth with one draw for each observation.")
    failed = [f"{name}: {count}" for name, own in by_scheme.items() if (count := sum(r.status != "ok" for r in own))]
    words += [f"Runs that failed: {', '.join(failed)}."] if failed else []
    rows = [
        [_look(r).label, r.replicate, r.status, x, y]
        for r in records
        if metric in r.curve
        for x, y in zip(r.curve[unit], r.curve[metric], strict=True)
    ]
    name = f"schemes-{metric}-{unit}".replace("_", "-")
    title = f"{metric.upper()} over {unit.replace('_', ' ')}: what each scheme buys the flow"
    return Plot(name, title, " ".join(words), draw(name, paint), ["scheme", "replicate", "status", unit, metric], rows)


def _line(records: Sequence[Record], metric: str, unit: str) -> tuple[list[float], list[Spread]]:
    """Looks are at the same steps in all replicates; the start, which costs nothing, is no point of a log axis."""
    at: dict[float, list[tuple[float, float]]] = {}
    for record in records:
        for step, x, y in zip(record.curve["step"], record.curve[unit], record.curve[metric], strict=True):
            if x > 0:
                at.setdefault(float(step), []).append((float(x), float(y)))
    cost = [float(np.median([x for x, _ in points])) for _, points in sorted(at.items())]
    return cost, [spread([y for _, y in points]) for _, points in sorted(at.items())]
