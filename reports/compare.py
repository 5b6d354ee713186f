"""Two results folders, A and B, side by side: which numbers moved beyond their intervals, and what fails in B alone."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cryosip.records.read import Record, Skipped
from cryosip.reports.spreads import MIN_REPLICATES, Ratio, Spread, counted, paired_ratio, spread
from cryosip.reports.tables import over_floor, plain, statuses

Verdict = Literal[
    "failed in B", "worse", "better", "not told apart", "too few replicates", "the same", "only in A", "only in B"
]
VERDICTS: tuple[Verdict, ...] = (
    "failed in B", "worse", "better", "not told apart", "too few replicates", "the same", "only in A", "only in B"
)  # fmt: skip
METRICS = ("w1", "w2", "energy_distance_squared")
SECONDS = "seconds"
MACHINE = ("device", "cpu", "threads")
MARGIN = 1.001  # what is nearer than this is rounding, however often it repeats
CHANCE = 0.05  # of either side of a 90 % interval
RULES = (
    f"Compared are {', '.join(METRICS)} of the estimate and the seconds of the run without compilation, over the "
    "replicates that ended well; lower is better for each. Other metrics of the records are not compared.",
    "A run of A is set against the run of B with the same study, profile, problem and its options, method, discrepancy "
    "and name of its setting; other options of the method may differ, and are told where they do. Of several "
    "configurations under one name in a folder the youngest counts.",
    "Paired: where both folders have a replicate on the same data set, B / A is taken replicate by replicate, with its "
    "geometric mean and the 90 % interval of Student’s law on the logarithm. “Worse” when all of the interval lies "
    f"above 1, “better” when all of it lies below, by more than {MARGIN - 1:.1%}, which is left to rounding; “not told "
    "apart” otherwise.",
    f"Not paired, for fewer than {MIN_REPLICATES} such replicates or a number that is 0: the ratio is that of the "
    "medians, and “worse” or “better” means that the 5–95 % intervals over the replicates of A and of B do not meet. "
    "Chance does that to 6 % on either side for 3 replicates against 3 (normal law), to 0.6 % for 5 against 5.",
    f"“Too few replicates” for fewer than {MIN_REPLICATES} on a side; “the same” when all numbers are equal to the "
    "last digit.",
    "Some numbers move by chance alone; how many is told and not corrected for. Numbers from the same data move "
    "together, so that their count scatters widely.",
    "“Failed in B” when a replicate failed, diverged or ran out of time in B and not in A; a status is “better” when "
    "one failed in A and ends well in B, and none the other way.",
    "While the floor of the data is the same on both sides, a number divided by it has the same ratio and is not "
    "judged twice; where the floors differ it has a line of its own.",
    "A regression is an error that is worse, or a status that is “failed in B”. Seconds that are worse are one where "
    f"both sides name the same machine ({', '.join(MACHINE)}), and so are errors of runs that stop after so many "
    "seconds, which come further on a faster machine. Such runs have no seconds to compare.",
)


class Run(NamedTuple):
    """What two folders must agree on to be compared; `options` are those of the problem, as JSON."""

    study: str
    profile: str
    problem: str
    options: str
    method: str
    discrepancy: str
    setting: str


class Number(NamedTuple):
    """One quantity on both sides over the replicates that ended well; `ratio` is B / A, lower is better."""

    quantity: str
    a: Spread
    b: Spread
    a_over_floor: Spread
    b_over_floor: Spread
    ratio: Ratio
    pairs: int
    verdict: Verdict


class Group(NamedTuple):
    """A run on both sides: how its replicates ended, its numbers, and the options that changed."""

    run: Run
    a: str
    b: str
    status: Verdict
    numbers: list[Number]
    changed: list[str]
    same_machine: bool
    timed: bool


Groups = dict[Run, list[Record]]


def chosen(records: Iterable[Record]) -> tuple[Groups, list[Skipped]]:
    """The replicates of each run in the configuration of its youngest record, and the records that this leaves out."""
    groups: Groups = {}
    for record in records:
        groups.setdefault(_run(record), []).append(record)
    kept, left_out = {}, []
    for run, own in groups.items():
        config = max(own, key=lambda r: (r.created, str(r.path))).config
        kept[run] = [record for record in own if record.config == config]
        left_out += [(r.path, "a younger configuration of this setting exists") for r in own if r.config != config]
    return kept, left_out


def _run(record: Record) -> Run:
    options = dict(record.asked("problem.options") or {})
    if isinstance(options.get("structure"), str):
        options["structure"] = Path(options["structure"]).name  # where a machine keeps the file does not matter
    return Run(
        record.study,
        record.profile,
        record.problem,
        json.dumps(options, sort_keys=True),
        record.method,
        record.discrepancy,
        record.setting,
    )


def compare(a: Groups, b: Groups) -> list[Group]:
    """Every run of either side in the order of their names. Raises ValueError where no run is on both sides."""
    if not a.keys() & b.keys():
        raise ValueError(
            f"nothing to compare: none of the {len(a)} runs of A is among the {len(b)} of B "
            "(wanted the same study, profile, problem and its options, method, discrepancy and setting)"
        )
    return [_group(run, a.get(run, []), b.get(run, [])) for run in sorted(a.keys() | b.keys(), key=_by_number)]


def _by_number(run: Run) -> list[list[str | int]]:
    """K=2 before K=10."""
    return [[int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] for name in run]


def counts(group: Group, number: Number) -> bool:
    """Whether a number that is worse is a regression: what hangs on the machine only where that is the same."""
    return group.same_machine or not (group.timed or number.quantity == SECONDS)


def regressions(groups: Iterable[Group]) -> list[tuple[Run, str]]:
    """The quantities that got worse beyond their interval, "status" where a replicate fails that did not."""
    groups = list(groups)
    failed = [(g.run, "status") for g in groups if g.status == "failed in B"]
    return failed + [(g.run, n.quantity) for g in groups for n in g.numbers if n.verdict == "worse" and counts(g, n)]


def tally(groups: Iterable[Group], seconds: bool) -> dict[Verdict, int]:
    """How many statuses and errors, or how many seconds, have each verdict."""
    groups = list(groups)
    found = Counter(n.verdict for g in groups for n in g.numbers if (n.quantity == SECONDS) == seconds)
    if not seconds:
        found.update(group.status for group in groups)
    return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}


def with_interval(groups: Iterable[Group], seconds: bool) -> int:
    """How many numbers had an interval to move beyond."""
    verdicts = [n.verdict for g in groups for n in g.numbers if (n.quantity == SECONDS) == seconds]
    return sum(verdict in ("worse", "better", "not told apart") for verdict in verdicts)


def _group(run: Run, a: Sequence[Record], b: Sequence[Record]) -> Group:
    limit = [r.asked("stop_after_seconds") is not None for r in (*a, *b)]
    return Group(
        run,
        statuses(a),
        statuses(b),
        _status(a, b),
        _numbers(a, b, any(limit)),
        _changed(a[0].config, b[0].config) if a and b else [],
        same_machine([*a, *b]),
        any(limit),
    )


def same_machine(records: Iterable[Record]) -> bool:
    """Whether all records name one machine; what names none may be any."""
    machines = {tuple(record.environment.get(name) for name in MACHINE) for record in records}
    return len(machines) == 1 and None not in next(iter(machines))


def _status(a: Sequence[Record], b: Sequence[Record]) -> Verdict:
    if not b:
        return "only in A"
    if not a:
        return "only in B"
    failed_a, failed_b = ({r.replicate for r in side if r.status != "ok"} for side in (a, b))
    if failed_b - failed_a:
        return "failed in B"
    return "better" if failed_a & {r.replicate for r in b if r.status == "ok"} else "the same"


def _numbers(a: Sequence[Record], b: Sequence[Record], timed: bool) -> list[Number]:
    """The errors, over their floor too where the floor has moved, and the seconds unless a limit sets them."""
    a, b = ([record for record in side if record.status == "ok"] for side in (a, b))
    if not a or not b:
        return []
    found = []
    for metric in METRICS:
        found.append(_number(metric, a, b, _metric, metric))
        floors = [_floor(side, metric) for side in (a, b)]
        if max(floors) > MARGIN * min(floors):
            found.append(_number(f"{metric} ÷ floor", a, b, over_floor, metric))
    if not timed:
        found.append(_number(SECONDS, a, b, lambda record, _: record.run_seconds))
    return [number for number in found if number.a.n or number.b.n]


def _floor(records: Sequence[Record], metric: str) -> float:
    """The floor of the data, nan where none is known."""
    return spread([r.data_floors[metric].median for r in records if metric in r.data_floors]).median


def _metric(record: Record, name: str) -> float:
    return record.metrics.get(name, math.nan)


Of = Callable[[Record, str], float]


def _number(quantity: str, a: Sequence[Record], b: Sequence[Record], of: Of, metric: str = "") -> Number:
    of_a, of_b = _values(a, of, metric), _values(b, of, metric)
    pairs = [(of_b[key], of_a[key]) for key in sorted(of_a.keys() & of_b.keys()) if key[1]]
    before, after = spread(list(of_a.values())), spread(list(of_b.values()))
    equal = of_a == of_b or (len(pairs) == min(before.n, after.n) and all(x == y for x, y in pairs))
    ratio, verdict = _judged(before, after, pairs, equal)
    a_over_floor, b_over_floor = (spread([over_floor(record, metric) for record in side]) for side in (a, b))
    return Number(quantity, before, after, a_over_floor, b_over_floor, ratio, len(pairs), verdict)


def _values(records: Sequence[Record], of: Of, metric: str) -> dict[tuple[int, str], float]:
    """By replicate and data set."""
    values = {(record.replicate, record.dataset_hash): of(record, metric) for record in records}
    return {key: value for key, value in values.items() if not math.isnan(value)}


def _judged(a: Spread, b: Spread, pairs: Sequence[tuple[float, float]], equal: bool) -> tuple[Ratio, Verdict]:
    if not b.n or not a.n:
        return Ratio(math.nan, math.nan, math.nan, ""), "only in A" if a.n else "only in B"
    if equal:
        return Ratio(1.0, math.nan, math.nan, "equal"), "the same"
    positive = all(min(pair) > 0 for pair in pairs)
    if len(pairs) >= MIN_REPLICATES and positive:
        ratio = paired_ratio(pairs)
        return ratio, _told((1.0, 1.0), (ratio.low, ratio.high))
    quotient = b.median / a.median if a.median > 0 else math.nan
    few = min(a.n, b.n)
    if few < MIN_REPLICATES:
        return Ratio(quotient, math.nan, math.nan, counted(few)), "too few replicates"
    return Ratio(quotient, math.nan, math.nan, "not paired"), _told((a.q05, a.q95), (b.q05, b.q95))


def _told(a: tuple[float, float], b: tuple[float, float]) -> Verdict:
    """Whether the interval of B lies above that of A, below it, or meets it."""
    if b[0] > a[1] * MARGIN:
        return "worse"
    return "better" if b[1] * MARGIN < a[0] else "not told apart"


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Each configured value that differs, as "name: value in A → value in B"; those of the problem are equal."""
    flat_a, flat_b = _flat(a), _flat(b)
    names = [name for name in sorted({*flat_a, *flat_b}) if not name.startswith("problem.")]
    told = {name: (plain(flat_a.get(name)), plain(flat_b.get(name))) for name in names}
    return [f"{name}: {before} → {after}" for name, (before, after) in told.items() if before != after]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
