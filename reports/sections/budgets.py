"""OTD against DTO within the same budgets: who leads, by how much, and whether the replicates decide it."""

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cryosip.records.machines import Timed, timed
from cryosip.records.schema import Array, Record
from cryosip.reports.ranking import LEVEL, MOST, holm, replicates_needed
from cryosip.reports.spreads import MIN_REPLICATES, Ratio, Spread, grouped, paired_ratio, spread
from cryosip.reports.style import SeriesStyle, method_name, method_style, without_options
from cryosip.reports.tables import number

METRICS = ("w2", "w1", "energy_distance_squared")
BUDGET_UNITS = {"seconds": "seconds", "forward_evaluations": "forward evaluations"}
THRESHOLDS = (1.5, 2.0, 3.0, 5.0)  # times the floor
PAPERS_OWN = "flow"
OTD, DTO = ("flow", "pushforward", "weighted-flow"), ("mixture", "reweighting", "maximum-likelihood", "posterior-npmle")
RULE = (
    "A method leads where its median of W2 over replicates is the smallest. It wins where it beats the runner-up and "
    "every other method without failures: its ratio to each, replicate by replicate, is below 1 with a p-value of at "
    f"most {LEVEL:g} (Student's t on the logarithm) after Holm's correction for the number of all pairs of methods on "
    "the problem within the budget. Otherwise there is no significant difference. So the probability of a false "
    f"difference on one problem within one budget is at most {100 * LEVEL:.0f} %. The interval of a ratio is the 90 % "
    "interval of that comparison alone, not widened. A run that failed or had nothing within the budget counts as "
    "infinitely far; with one of them no ratio is tested and no interval drawn, nor for fewer than "
    f"{MIN_REPLICATES} replicates. Nothing is corrected for the number of problems and budgets, nor for the luck of a "
    "sweep of few settings on few replicates."
)


def families(methods: Iterable[str]) -> str:
    """Which of the methods are OTD, which DTO and which from outside, as part of a sentence."""
    shown = list(dict.fromkeys(map(without_options, methods)))
    outside = [name for name in shown if name not in OTD + DTO]
    groups = {"OTD": [n for n in OTD if n in shown], "DTO": [n for n in DTO if n in shown], "from outside": outside}
    return "; ".join(f"{listed(own)} {'is' if len(own) == 1 else 'are'} {what}" for what, own in groups.items() if own)


def listed(words: Sequence[str]) -> str:
    """Words as in a sentence: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


class Standing(NamedTuple):
    """One method at one budget: its metric over the floor of the data, by replicate; inf where it had nothing."""

    style: SeriesStyle
    method: str
    options: str
    ratios: dict[int, float]
    failed: int

    @property
    def spread(self) -> Spread:
        return spread(list(self.ratios.values()))


class Verdict(NamedTuple):
    """One budget on one problem, in words and numbers."""

    unit: str
    budget: float
    standings: list[Standing]
    sentence: str
    own: str


def spent(record: Record, unit: str) -> Array:
    """What each evaluation of a run had cost; building the method is part of its seconds."""
    cost = record.curve.get(unit, np.full(len(record.curve.get("step", ())), np.nan))
    return cost + record.setup_seconds if unit == "seconds" else cost


def over_floor(record: Record, metric: str) -> Array:
    """The curve of a metric in units of its floor, that of an i.i.d. sample of the truth as large as the data."""
    floor = record.data_floors.get(metric)
    if floor is None or floor.median <= 0 or metric not in record.curve:
        return np.empty(0)
    return record.curve[metric] / floor.median


def last_within(record: Record, values: Array, unit: str, budget: float) -> float:
    """Of the values of a curve the last within the budget; inf for a run that failed or had nothing yet."""
    if record.status != "ok" or not values.size:
        return math.inf
    within = np.flatnonzero(spent(record, unit) <= budget)
    return float(values[within[-1]]) if within.size else math.inf


def spent_within(record: Record, unit: str, budget: float) -> float:
    """What the last evaluation within the budget had cost, nan where there is none."""
    cost = spent(record, unit)
    within = cost[cost <= budget]
    return float(within[-1]) if within.size else math.nan


def budgets(records: Iterable[Record], unit: str) -> list[float]:
    """All budgets for which some run was chosen."""
    return sorted({b for record in records for b in _budgets(record, unit)})


def _budgets(record: Record, unit: str) -> list[float]:
    asked = record.config_value(f"budgets.{unit}")
    return [float(b) for b in asked if isinstance(b, int | float)] if isinstance(asked, list) else []


def runs_for(records: Iterable[Record], unit: str, budget: float) -> dict[str, list[Record]]:
    """By method, the runs with the setting that was chosen for this budget: of two sweeps, by the later one."""
    chosen = grouped((r for r in records if budget in _budgets(r, unit)), method_name)
    return {method: _of_one_setting(own) for method, own in chosen.items()}


def _of_one_setting(records: list[Record]) -> list[Record]:
    """Those with the setting of the youngest."""
    last = max(records, key=lambda r: (r.created, str(r.path)))
    return [r for r in records if _setting(r) == _setting(last)]


def _setting(record: Record) -> str:
    return json.dumps([record.config_value("method"), record.config_value("steps")], sort_keys=True)


def standings(records: Iterable[Record], metric: str, unit: str, budget: float) -> list[Standing]:
    """All methods at a budget, the nearest to the truth first.

    Parameters
    ----------
    records
        Runs on one problem.
    metric
        Such as "w2".
    unit
        What the budget is of, one of BUDGET_UNITS.
    budget
        How much of it.
    """
    found = [
        Standing(
            method_style(own[0]),
            method,
            options(own[0]),
            {record.replicate: last_within(record, over_floor(record, metric), unit, budget) for record in own},
            sum(record.status != "ok" for record in own),
        )
        for method, own in runs_for(records, unit, budget).items()
    ]
    return sorted(found, key=lambda standing: (standing.spread.median, standing.method))


def options(record: Record) -> str:
    """The setting of a method in words; as many particles as observations go without saying."""
    words = []
    for name, value in record.config.method.options.items():
        if isinstance(value, dict):
            words.append(" ".join(_plain(part) for key, part in value.items() if key != "options"))
        elif name != "n_particles":
            words.append(f"{name} {_plain(value)}")
    return ", ".join([*words, f"at most {record.config_number('steps'):,.0f} steps"])


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " in ".join(_plain(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def ratio(near: Standing, far: Standing) -> Ratio:
    """near / far over the replicates that both have."""
    shared = sorted(set(near.ratios) & set(far.ratios))
    return paired_ratio([(near.ratios[r], far.ratios[r]) for r in shared])


class Comparison(NamedTuple):
    """Two methods on one problem: near / far, and the p-value after Holm's correction, nan where it was not tested."""

    ratio: Ratio
    p: float

    @property
    def decided(self) -> bool:
        """Whether the first is significantly nearer."""
        return self.ratio.mean < 1 and self.p <= LEVEL


def comparisons(order: Sequence[Standing]) -> dict[tuple[str, str], Comparison]:
    """Every pair of methods, the one with the smaller median first, corrected for the number of pairs by `holm`."""
    pairs = list(itertools.combinations(order, 2))
    ratios = [ratio(near, far) for near, far in pairs]
    adjusted = holm([found.p for found in ratios])
    return {
        (near.method, far.method): Comparison(found, p)
        for (near, far), found, p in zip(pairs, ratios, adjusted, strict=True)
    }


def verdicts(records: Sequence[Record]) -> list[Verdict]:
    """For each budget of either unit who wins by W2, if anyone does, and where the paper's own method stands."""
    found = []
    for unit in BUDGET_UNITS:
        for budget in budgets(records, unit):
            order = standings(records, "w2", unit, budget)
            found.append(Verdict(unit, budget, order, sentence(order), own_method(order)))
    return found


def best(order: Sequence[Standing]) -> list[Standing]:
    """The first and all that it does not beat: alone in the list it wins.

    Methods with a failure, which cannot be compared, keep the first from winning only as the runner-up.
    """
    near, against = [standing for standing in order if math.isfinite(standing.spread.median)], comparisons(order)
    found = [against[near[0].method, standing.method] for standing in near[1:]]
    return near[:1] + [
        standing
        for place, (standing, pair) in enumerate(zip(near[1:], found, strict=True))
        if not (pair.decided or (place > 0 and pair.ratio.why))
    ]


def sentence(order: Sequence[Standing]) -> str:
    """Who wins, from the standings alone."""
    level = best(order)
    if not level:
        return "No method had an estimate within this budget."
    first, second = level[0], order[1] if len(order) > 1 else None
    reached = f"W2 {number(first.spread.median)} × floor"
    if second is None or math.isinf(second.spread.median):
        return f"{first.method} alone had an estimate: {reached}."
    follower = second if len(level) == 1 else level[1]
    against = comparisons(order)[first.method, follower.method]
    if len(level) == 1:
        by_replicate = f"replicate by replicate {_times(against)} times that of {follower.method}"
        return f"{first.method} wins with {reached}, {by_replicate}."
    if against.ratio.why:
        return f"{first.method} leads with {reached}, {follower.method} follows; undecided: {against.ratio.why}."
    margin = f"{first.method} leads with {reached} by the median; replicate by replicate it is {_times(against)} times "
    margin += f"that of {follower.method}"
    return f"No significant difference between {listed([standing.method for standing in level])}: {margin}."


def _times(against: Comparison) -> str:
    return f"{_range(against.ratio)} (90 %, uncorrected; p {p_value(against.p)} after Holm's correction)"


def _range(found: Ratio) -> str:
    return f"{number(found.mean)} [{number(found.low)}, {number(found.high)}]"


def p_value(p: float) -> str:
    """Such as "= 0.03" or "< 0.001"."""
    return "< 0.001" if p < 1e-3 else f"= {p:.2g}"


def replicates_to_separate(order: Sequence[Standing]) -> dict[str, float]:
    """By method that the first does not beat, how many replicates would separate the two: see `replicates_needed`."""
    level, found = best(order), comparisons(order)
    tested = sum(not math.isnan(pair.p) for pair in found.values())
    pairs = {standing.method: found[level[0].method, standing.method].ratio for standing in level[1:]}
    return {
        method: replicates_needed(math.log(pair.mean), pair.std, LEVEL / tested)
        for method, pair in pairs.items()
        if not pair.why
    }


def about(replicates: float) -> str:
    """Such as "about 40", "more than 10,000"."""
    return f"about {replicates:,.0f}" if replicates <= MOST else f"more than {MOST:,}"


def own_method(order: Sequence[Standing]) -> str:
    """Where the paper's own method stands, also where it loses."""
    place = next((i for i, standing in enumerate(order) if standing.method == PAPERS_OWN), None)
    if place is None:
        return "not run"
    own = order[place]
    if math.isinf(own.spread.median):
        return f"{place + 1} of {len(order)}: no estimate within the budget"
    if place == 0:
        return f"1 of {len(order)}"
    behind = ratio(own, order[0])
    if behind.why:
        return f"{place + 1} of {len(order)}"
    distance = f"{_range(behind)} times as far"
    if not comparisons(order)[order[0].method, own.method].decided:
        return f"{place + 1} of {len(order)}, no significant difference from the first: {distance}"
    return f"{place + 1} of {len(order)}, {distance}"


class Reach(NamedTuple):
    """What one method took to come within so many times the floor; inf in replicates that never did."""

    style: SeriesStyle
    costs: dict[float, Spread]
    reached: dict[float, str]


def reaches(records: Sequence[Record], unit: str) -> list[Reach]:
    """The cost to each threshold by the runs of the longest budget, of seconds by those on one machine."""
    found, on = [], on_machine(records, unit)
    for own in longest(records, unit).values():
        costs = {t: [cost_to(record, t, unit) for record in on.runs(own)] for t in THRESHOLDS}
        counts = {t: f"{sum(map(math.isfinite, c))} of {len(c)}" for t, c in costs.items()}
        found.append(Reach(method_style(own[0]), {t: spread(c) for t, c in costs.items()}, counts))
    return found


def longest(records: Sequence[Record], unit: str) -> dict[str, list[Record]]:
    """By method, the runs of the longest budget."""
    return runs_for(records, unit, max(budgets(records, unit), default=math.nan))


def on_machine(records: Sequence[Record], unit: str) -> Timed:
    """Which runs of the longest budget count where their costs are compared."""
    return timed((record for own in longest(records, unit).values() for record in own), unit)


def cost_to(record: Record, threshold: float, unit: str) -> float:
    """The first evaluation at which W2 is below so many floors, inf where none is."""
    values = over_floor(record, "w2")
    below = np.flatnonzero(values < threshold) if record.status == "ok" else np.empty(0, int)
    return float(spent(record, unit)[below[0]]) if below.size else math.inf
