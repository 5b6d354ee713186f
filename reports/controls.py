"""Control rows: what the worst and the best possible scores are, from what the records of all methods hold.

`start` is the initial distribution, `truth-sample` an i.i.d. sample of the truth as large as the data (the floor as a
method), `best-weights` the best weights on a method's own points. Nothing is run for them and they have no rank.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cryosip.records.schema import Record
from cryosip.reports.spreads import Spread, grouped, over_floor, spread, typical_floor

START, TRUTH_SAMPLE, BEST_WEIGHTS = "start", "truth-sample", "best-weights"
START_LABEL = f"{START} (initial distribution)"
EXPLAINED = (
    f"In italics, without a rank, stand controls from the same records: {START} is the initial distribution, "
    f"{TRUTH_SAMPLE} an i.i.d. sample of the truth as large as the data, which is the floor, and {BEST_WEIGHTS} the "
    "best weights on the points of the method for which they come nearest."
)


class Control(NamedTuple):
    """One control over replicates: each metric, over its floor too; `note` says whose points have the best weights."""

    name: str
    metrics: dict[str, Spread]
    ratios: dict[str, Spread]
    note: str = ""


def floor_label(n: int) -> str:
    """The floor in the legend of a figure."""
    return f"{TRUTH_SAMPLE} (floor), n = {n:,}"


def controls(records: Sequence[Record], metrics: Sequence[str], label: Callable[[Record], str]) -> list[Control]:
    """The controls of records on one problem at one size; what the records do not hold is left out.

    Parameters
    ----------
    records
        The runs of all methods.
    metrics
        Such as "w2".
    label
        The name of the method of a record, as the table has it.
    """
    found = [_start(records, metrics), _truth_sample(records, metrics), _best_weights(records, metrics, label)]
    return [control for control in found if control.metrics]


def _start(records: Sequence[Record], metrics: Sequence[str]) -> Control:
    """Of each data set once, for all methods begin at the same distribution."""
    data = {(r.replicate, r.dataset_hash): r for r in records if r.initial_metrics and r.data_floors}
    return _spreads(START, list(data.values()), metrics, lambda r: r.initial_metrics)


def _truth_sample(records: Sequence[Record], metrics: Sequence[str]) -> Control:
    values, ratios = {}, {}
    for metric in metrics:
        floors = [r.data_floors[metric] for r in records if metric in r.data_floors]
        floor = typical_floor(floors)
        if floor and floor.median > 0:
            values[metric] = Spread(floor.median, floor.q05, floor.q95, len(floors))
            ratios[metric] = Spread(1.0, floor.q05 / floor.median, floor.q95 / floor.median, len(floors))
    return Control(TRUTH_SAMPLE, values, ratios)


def _best_weights(records: Sequence[Record], metrics: Sequence[str], label: Callable[[Record], str]) -> Control:
    """Of each metric the method whose median is the smallest."""
    solved = [r for r in records if r.status == "ok" and r.oracle_metrics and r.data_floors]
    of_methods = {
        name: _spreads(BEST_WEIGHTS, own, metrics, lambda r: r.oracle_metrics)
        for name, own in grouped(solved, label).items()
    }
    values: dict[str, Spread] = {}
    ratios: dict[str, Spread] = {}
    whose: dict[str, list[str]] = {}
    for metric in metrics:
        known = {name: c for name, c in of_methods.items() if metric in c.metrics}
        if known:
            name = min(known, key=lambda name: known[name].ratios[metric].median)
            values[metric], ratios[metric] = known[name].metrics[metric], known[name].ratios[metric]
            whose.setdefault(name, []).append(metric)
    words = [name if len(whose) == 1 else f"{name} ({', '.join(own)})" for name, own in whose.items()]
    return Control(BEST_WEIGHTS, values, ratios, f"points of {', '.join(words)}" if words else "")


def _spreads(
    name: str, records: Sequence[Record], metrics: Sequence[str], held: Callable[[Record], dict[str, float]]
) -> Control:
    values = {metric: spread([held(r).get(metric, math.nan) for r in records]) for metric in metrics}
    ratios = {metric: spread([over_floor(r, metric, held(r)) for r in records]) for metric in metrics}
    known = [metric for metric in metrics if ratios[metric].n]
    return Control(name, {m: values[m] for m in known}, {m: ratios[m] for m in known})
