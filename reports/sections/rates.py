"""How fast quantities grow or fall along an axis: exponents fitted to the records, beside what theory expects."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cryosip.records.machines import Timed, timed
from cryosip.records.schema import Record
from cryosip.reports.spreads import MIN_REPLICATES, Spread, counted, grouped, mean_interval
from cryosip.reports.style import series_style

TOLERANCE = 0.1  # of an exponent: rates are asymptotic, sizes are not
TELLING = 0.25  # half the distance of the rates to be distinguished, N^-1/2 and N^-1


class Axis(NamedTuple):
    """What varies: `name` is that of the labels, the value is the first number asked at one of the paths."""

    name: str
    label: str
    paths: tuple[str, ...]
    scale: Callable[[float], float] = float


AXES = (
    Axis("N", "particles N", ("method.options.n_particles",)),
    Axis("K", "components, or points of the support, K",
         ("method.options.n_components", "method.options.n_support")),
    Axis("draws", "samples of ω for each particle", ("method.options.n_draws",)),
    Axis("order", "rotations in the quadrature, 72 · 8^order", ("method.options.quadrature_order",),
         lambda order: 72 * 8.0**order),
    Axis("M", "observations M", ("problem.options.n_observations",)),
    Axis("sigma", "noise σ", ("problem.options.noise_std",)),
)  # fmt: skip


class Quantity(NamedTuple):
    """A number of a record that is fitted; `shown` where it is in the tables of the page and not in files alone.

    `timed` where it is in seconds, which are compared on one machine.
    """

    name: str
    label: str
    of: Callable[[Record], float]
    shown: bool = True
    timed: bool = False

    def runs(self, records: Sequence[Record], on: Timed) -> list[Record]:
        """Of these the runs whose numbers count."""
        return on.runs(records) if self.timed else list(records)


def step_seconds(record: Record) -> float:
    """Seconds for each step, compilation left out, nan without steps."""
    return record.run_seconds / record.steps if record.steps else math.nan


QUANTITIES = (
    Quantity("w2", "W2", lambda record: record.metrics.get("w2", math.nan)),
    Quantity("w1", "W1", lambda record: record.metrics.get("w1", math.nan), shown=False),
    Quantity("seconds", "seconds for each step", step_seconds, timed=True),
    Quantity("total", "seconds, setup and run", lambda r: r.setup_seconds + r.run_seconds, shown=False, timed=True),
    Quantity("memory", "planned memory, MB", lambda record: record.program_memory_mb),
    Quantity("peak", "peak memory of the process, MB", lambda record: record.peak_memory_mb, shown=False),
)


class Rate(NamedTuple):
    """An exponent that theory expects, or a range of them, in words, and where it is from."""

    low: float
    high: float
    words: str
    source: str


NONE_KNOWN = Rate(math.nan, math.nan, "none known", "")
WORK = "operations counted"
SAMPLE = Rate(
    -1 / 2, -1 / 4, "i.i.d. samples: N^(−1/2), N^(−1/4) where the distribution has gaps", "fournier2015, bobkov2019"
)
QUANTISER = Rate(-1.0, -1.0, "best K points of a line: K^(−1)", "graf2000")
LOGARITHMIC = Rate(0.0, 0.0, "powers of log M: exponent 0 in the end", "fan1991")
LINEAR, FLAT = Rate(1.0, 1.0, "linear", WORK), Rate(0.0, 0.0, "none", WORK)
UP_TO_LINEAR = Rate(0.0, 1.0, "at most linear: tiles and constants are bounded or not counted", WORK)

# (quantity, axis, method) for problems on the line, which is where the theory speaks; "*" is any other method
ON_THE_LINE = {
    ("w2", "N", "flow"): SAMPLE,
    ("w1", "N", "flow"): Rate(-1 / 2, -1 / 2, "i.i.d. samples: N^(−1/2)", "fournier2015"),
    ("w2", "K", "mixture"): QUANTISER,
    ("w2", "K", "reweighting"): QUANTISER,
    ("w2", "M", "maximum-likelihood"): Rate(0.0, 0.0, "none: each image keeps its own error", "sanchez2025"),
    ("w2", "M", "*"): LOGARITHMIC,
}
ANYWHERE = {
    ("seconds", "N", "flow"): Rate(1.0, 1.0, "N log N", WORK),
    ("seconds", "draws", "flow"): Rate(1.0, 1.0, "N K log (N K)", WORK),
    ("seconds", "M", "flow"): Rate(0.0, 1.0, "log M of a look-up on the line, M with pairs", WORK),
    ("seconds", "M", "posterior-npmle"): Rate(1.0, 2.0, "M in the search, M² in the weights", WORK),
    **{("seconds", "M", name): LINEAR for name in ("mixture", "reweighting", "maximum-likelihood")},
    **{("seconds", "K", name): LINEAR for name in ("mixture", "reweighting")},
    ("seconds", "order", "mixture"): LINEAR,
    ("seconds", "sigma", "*"): FLAT,
    ("memory", "N", "flow"): LINEAR,
    ("memory", "draws", "flow"): LINEAR,
    ("memory", "sigma", "*"): FLAT,
    **{("memory", axis, name): UP_TO_LINEAR for axis in ("K", "M", "order")
       for name in ("flow", "mixture", "reweighting", "maximum-likelihood")},
    ("memory", "M", "posterior-npmle"): Rate(1.0, 2.0, "M in the search, M² in the weights", WORK),
}  # fmt: skip


def expected(problem: str, quantity: str, axis: str, method: str) -> Rate:
    """What theory expects; of W1 what it does of W2, of all seconds what of those of a step, if it says no more.

    Parameters
    ----------
    problem, quantity, axis, method
        Names: theory speaks of the errors on the problem "oned" alone, and of the cost of each method.
    """
    known = ON_THE_LINE | ANYWHERE if problem == "oned" else ANYWHERE
    names = (quantity, {"w1": "w2", "total": "seconds"}.get(quantity, quantity))
    keys = [(name, axis, whose) for name in names for whose in (method, "*")]
    return next((known[key] for key in keys if key in known), NONE_KNOWN)


def axis_of(record: Record) -> Axis | None:
    """The axis that a record's labels name."""
    name = record.labels.axis
    return next((axis for axis in AXES if axis.name == name), None)


def place(record: Record, axis: Axis) -> float:
    """Where a record is on the axis, nan where its configuration does not say."""
    asked = (record.config_number(path) for path in axis.paths)
    return axis.scale(next((value for value in asked if not math.isnan(value)), math.nan))


class Fit(NamedTuple):
    """value = exp(intercept) * place^slope: means over replicates, and the interval of the slope."""

    slope: float
    low: float
    high: float
    intercept: float
    replicates: int
    places: tuple[float, ...]
    why: str  # there is no interval, or no fit


def fitted(records: Sequence[Record], axis: Axis, quantity: Quantity) -> Fit:
    """The exponent by least squares in logarithms, for each replicate; then the mean and Student's interval.

    Replicates are fitted at the places that more than half of them have; one that lacks some of these is left out.
    """
    points: dict[int, dict[float, float]] = {}
    for record in records:
        x, y = place(record, axis), quantity.of(record)
        if record.status == "ok" and x > 0 and 0 < y < math.inf:
            points.setdefault(record.replicate, {})[x] = y
    counts = Counter(x for own in points.values() for x in own)
    places = tuple(sorted(x for x, count in counts.items() if 2 * count > len(points)))
    if len(places) < 2:
        why = f"{len(places)} value{'' if len(places) == 1 else 's'} on the axis: no exponent"
        return Fit(math.nan, math.nan, math.nan, math.nan, 0, places, why)
    whole = [own for own in points.values() if set(places) <= set(own)]
    lines = [np.polyfit(np.log(places), np.log([own[x] for x in places]), 1) for own in whole]
    if not lines:
        return Fit(math.nan, math.nan, math.nan, math.nan, 0, places, "no replicate has all values: no exponent")
    slope, intercept = (round(float(value), 12) for value in np.mean(lines, axis=0))  # 0 of what is constant
    _, low, high, count = mean_interval([float(line[0]) for line in lines])
    few = f"{counted(count)}, fewer than {MIN_REPLICATES}: no interval" if math.isnan(low) else ""
    return Fit(slope, low, high, intercept, count, places, few)


def judged(fit: Fit, rate: Rate) -> str:
    """As expected, "faster" where an error falls faster or a cost grows less than expected, "slower", or "undecided".

    Undecided is what has no interval or no theory, and an interval so wide that it holds different rates.
    """
    if math.isnan(fit.low) or math.isnan(rate.low):
        return "undecided"
    if fit.high < rate.low - TOLERANCE:
        return "faster"
    if fit.low > rate.high + TOLERANCE:
        return "slower"
    return "as expected" if fit.high - fit.low <= 2 * TELLING else "undecided"


class Exponent(NamedTuple):
    """A line of the table."""

    problem: str
    axis: Axis
    quantity: str
    method: str
    colour: str
    fit: Fit
    rate: Rate
    verdict: str
    runs: int
    failed: int
    shown: bool

    @property
    def spread(self) -> Spread:
        """The fitted exponent and its interval."""
        return Spread(self.fit.slope, self.fit.low, self.fit.high, self.fit.replicates)


def groups(records: Sequence[Record]) -> dict[tuple[str, Axis, str], list[Record]]:
    """The records of each problem, axis and method, in that order."""
    order = {axis.name: index for index, axis in enumerate(AXES)}
    placed = [(axis, r) for r in records if (axis := axis_of(r)) and not math.isnan(place(r, axis))]
    found = grouped(placed, lambda pair: (pair[1].problem, pair[0], series_style(pair[1]).label))
    keys = sorted(found, key=lambda key: (key[0] != "oned", key[0], order[key[1].name], key[2]))
    return {key: sorted((r for _, r in found[key]), key=lambda r: (place(r, key[1]), r.replicate)) for key in keys}


def exponents(records: Sequence[Record]) -> list[Exponent]:
    """All fitted exponents beside the expected ones, of seconds on one machine for all methods along an axis."""
    found = groups(records)
    along = grouped(found, lambda key: key[:2])
    on = {place: timed(r for key in keys for r in found[key]) for place, keys in along.items()}
    return [
        _exponent(problem, axis, quantity, own, on[problem, axis])
        for (problem, axis, _), own in found.items()
        for quantity in QUANTITIES
    ]


def _exponent(problem: str, axis: Axis, quantity: Quantity, records: Sequence[Record], on: Timed) -> Exponent:
    fit, series = fitted(quantity.runs(records, on), axis, quantity), series_style(records[0])
    rate = expected(problem, quantity.name, axis.name, records[0].method)
    failed = sum(record.status != "ok" for record in records)
    return Exponent(problem, axis, quantity.label, series.label, series.colour, fit, rate, judged(fit, rate),
                    len(records), failed, quantity.shown)  # fmt: skip


def exponent_table(rows: Sequence[Exponent]) -> list[list[Any]]:
    """A header and one line for each exponent, for a file."""
    columns = ["problem", "axis", "quantity", "method", "exponent", "low", "high", "replicates", "from", "to", "runs",
               "failed", "expected_low", "expected_high", "expected", "source", "verdict", "why"]  # fmt: skip
    return [columns] + [
        [r.problem, r.axis.name, r.quantity, r.method, r.fit.slope, r.fit.low, r.fit.high, r.fit.replicates,
         *(r.fit.places[:: len(r.fit.places) - 1] if len(r.fit.places) > 1 else ("", "")), r.runs, r.failed,
         r.rate.low, r.rate.high, r.rate.words, r.rate.source, r.verdict, r.fit.why]
        for r in rows
    ]  # fmt: skip
