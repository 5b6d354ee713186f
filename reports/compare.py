"""Two results folders, A and B, side by side: which numbers moved beyond their intervals, and what fails in B alone."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from cryosip.records.machines import machine_of, timed
from cryosip.records.schema import Record
from cryosip.records.select import Skipped
from cryosip.reports.spreads import (
    MIN_REPLICATES,
    NOTHING,
    Ratio,
    Spread,
    counted,
    data_floor,
    grouped,
    over_floor,
    paired_ratio,
    spread,
)
from cryosip.reports.tables import flat, plain, statuses

Verdict = Literal[
    "failed in B", "worse", "better", "no significant difference", "too few replicates", "the same", "only in A",
    "only in B",
]  # fmt: skip
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
METRICS = ("w1", "w2", "energy_distance_squared")
STATUS, SECONDS = "status", "seconds"
MACHINE = ("device", "cpu", "threads")  # without which a record does not say where it was made
STRUCTURE = "problem.options.structure"  # where a machine keeps the file does not matter
MARGIN = 1.001  # what is nearer than this is rounding, however often it repeats
CHANCE = 0.05  # of either side of a 90 % interval
NO_RATIO = Ratio(math.nan, math.nan, math.nan, "")
RULES = (
    f"Compared are {', '.join(METRICS)} of the estimate and the seconds of the run without compilation, over the "
    "replicates that ended well; lower is better for each. Other metrics of the records are not compared.",
    "A run of A is set against the run of B with the same study, profile, problem and the options given to it, method, "
    "discrepancy and name of its setting; defaults of the problem and options of the method may differ, and are named "
    "where they do. Of several configurations under one name in a folder the youngest counts.",
    "Paired: where both folders have a replicate on the same data set, B / A is taken replicate by replicate, with its "
    "geometric mean and the 90 % interval of Student’s t distribution on the logarithm. “Worse” when all of the "
    f"interval lies above 1, “better” when all of it lies below, by more than {MARGIN - 1:.1%}, which is left to "
    "rounding; “no significant difference” otherwise.",
    f"Not paired, for fewer than {MIN_REPLICATES} such replicates or a number that is 0: the ratio is that of the "
    "medians, and “worse” or “better” means that the 5–95 % intervals over the replicates of A and of B do not meet. "
    "Chance does that to 6 % on either side for 3 replicates against 3 (normal distribution), to 0.6 % for 5 against "
    "5.",
    f"“Too few replicates” for fewer than {MIN_REPLICATES} on a side; “the same” when all numbers are equal to the "
    "last digit.",
    "Some numbers move by chance alone; how many is said and not corrected for. Numbers from the same data move "
    "together, so that their count scatters widely.",
    "“Failed in B” when a replicate failed, diverged or ran out of time in B and not in A; a status is “better” when "
    "one failed in A and ends well in B, and none the other way.",
    "While the floor of the data is the same on both sides, a number divided by it has the same ratio and is not "
    "judged twice; where the floors differ it has a line of its own.",
    "A regression is an error that is worse, or a status that is “failed in B”. Seconds that are worse are one where "
    "both sides name the same machine (host, device, processor, threads, and how many runs shared it), and so are "
    "errors of runs that stop after so many seconds, which come further on a faster machine. Such runs have no seconds "
    "to compare.",
    "The seconds of a side are those on one machine: of those that both sides have the one with the most runs, else "
    "the one with the most of the side. How many runs are left out is said.",
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


class Row(NamedTuple):
    """A line of the table: how the replicates of a run ended, or one of its numbers, on both sides.

    Of a number `a` and `b` are over the replicates that ended well, and `ratio` is B / A, lower is better; of the
    status they are counts in words, and `notes` say which options differ. `regression` where it counts as one.
    """

    run: Run
    quantity: str
    verdict: Verdict
    a: Spread | str
    b: Spread | str
    over_floor: tuple[Spread, Spread] = (NOTHING, NOTHING)
    ratio: Ratio = NO_RATIO
    notes: tuple[str, ...] = ()
    regression: bool = False


Runs = dict[Run, list[Record]]


def chosen(records: Iterable[Record]) -> tuple[Runs, list[Skipped]]:
    """The replicates of each run in the configuration of its youngest record, and the records that this leaves out."""
    kept, left_out = {}, []
    for run, own in grouped(records, _run).items():
        config = max(own, key=lambda r: (r.created, str(r.path))).config
        kept[run] = [record for record in own if record.config == config]
        left_out += [(r.path, "a younger configuration of this setting exists") for r in own if r.config != config]
    return kept, left_out


def _run(record: Record) -> Run:
    options = dict(record.config.problem.options)  # those that were given: older records do not know their defaults
    if isinstance(options.get("structure"), str):
        options["structure"] = Path(options["structure"]).name
    described = json.dumps(options, sort_keys=True)
    return Run(record.study, record.profile, record.problem, described, record.method, record.discrepancy,
               record.labels.text)  # fmt: skip


def compare(a: Runs, b: Runs) -> list[Row]:
    """The rows of every run of either side, in the order of their names. Raises ValueError where no run is on both."""
    if not a.keys() & b.keys():
        raise ValueError(
            f"nothing to compare: none of the {len(a)} runs of A is among the {len(b)} of B "
            "(wanted the same study, profile, problem and its options, method, discrepancy and setting)"
        )
    runs = sorted(a.keys() | b.keys(), key=_by_number)
    return [row for run in runs for row in _rows(run, a.get(run, []), b.get(run, []))]


def _by_number(run: Run) -> list[list[str | int]]:
    """K=2 before K=10."""
    return [[int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] for name in run]


def regressions(rows: Iterable[Row]) -> list[Row]:
    """What got worse beyond its interval, and replicates that fail in B alone."""
    return [row for row in rows if row.regression]


def same_machine(records: Iterable[Record]) -> bool:
    """Whether all records name one machine; what names none may be any."""
    records = list(records)
    named = all(record.environment.get(name) is not None for record in records for name in MACHINE)
    return named and len({machine_of(record) for record in records}) == 1


def _rows(run: Run, a: Sequence[Record], b: Sequence[Record]) -> Iterator[Row]:
    """The status, the errors, over their floor too where the floor has moved, and seconds unless a limit sets them."""
    limited = any(r.config_value("stop_after_seconds") is not None for r in (*a, *b))
    notes = ["stops after so many seconds"] if limited else []
    notes += _changed(a[0].config.resolved, b[0].config.resolved) if a and b else []
    status, here = _status(a, b), same_machine([*a, *b])
    yield Row(run, STATUS, status, statuses(a) or "—", statuses(b) or "—", notes=tuple(notes),
              regression=status == "failed in B")  # fmt: skip
    a, b = ([record for record in side if record.status == "ok"] for side in (a, b))
    quantities: list[tuple[str, Of, str]] = []
    for metric in METRICS:
        quantities.append((metric, lambda record, name: record.metrics.get(name, math.nan), metric))
        floors = [data_floor(side, metric) for side in (a, b)]
        if max(floors) > MARGIN * min(floors):
            quantities.append((f"{metric} ÷ floor", over_floor, metric))
    if not (a and b):
        return
    for quantity, of, metric in quantities:
        yield from _number(run, quantity, a, b, of, metric, here or not limited)
    if not limited:
        yield from _seconds(run, a, b, here)


def _seconds(run: Run, a: Sequence[Record], b: Sequence[Record], counts: bool) -> Iterator[Row]:
    """The row of seconds, those of each side on one machine, the same where they share one."""
    shared = {machine_of(record) for record in a} & {machine_of(record) for record in b}
    both = [record for record in (*a, *b) if machine_of(record) in shared]
    on_a, on_b = (timed(both or side).runs(side) for side in (a, b))
    left_out = [
        f"{len(side) - len(on)} of {len(side)} runs of {name} left out: other machine"
        for name, side, on in (("A", a, on_a), ("B", b, on_b))
        if len(on) < len(side)
    ]
    for row in _number(run, SECONDS, on_a, on_b, lambda record, _: record.run_seconds, "", counts):
        yield row._replace(notes=(*row.notes, *left_out))


def _status(a: Sequence[Record], b: Sequence[Record]) -> Verdict:
    if not b:
        return "only in A"
    if not a:
        return "only in B"
    failed_a, failed_b = ({r.replicate for r in side if r.status != "ok"} for side in (a, b))
    if failed_b - failed_a:
        return "failed in B"
    return "better" if failed_a & {r.replicate for r in b if r.status == "ok"} else "the same"


Of = Callable[[Record, str], float]


def _number(
    run: Run, quantity: str, a: Sequence[Record], b: Sequence[Record], of: Of, metric: str, counts: bool
) -> Iterator[Row]:
    """The row of a quantity that any replicate has; `counts` where it is a regression if it is worse."""
    of_a, of_b = _values(a, of, metric), _values(b, of, metric)
    if not of_a and not of_b:
        return
    pairs = [(of_b[key], of_a[key]) for key in sorted(of_a.keys() & of_b.keys()) if key[1]]
    before, after = spread(list(of_a.values())), spread(list(of_b.values()))
    equal = of_a == of_b or (len(pairs) == min(before.n, after.n) and all(x == y for x, y in pairs))
    ratio, verdict = _judged(before, after, pairs, equal)
    floors = [spread([over_floor(record, metric) for record in side]) for side in (a, b)]
    notes = [f"{len(pairs)} pairs"] if math.isfinite(ratio.low) else []
    notes += ["no regression: other machine"] if verdict == "worse" and not counts else []
    yield Row(run, quantity, verdict, before, after, (floors[0], floors[1]), ratio, tuple(notes),
              verdict == "worse" and counts)  # fmt: skip


def _values(records: Sequence[Record], of: Of, metric: str) -> dict[tuple[int, str], float]:
    """By replicate and data set."""
    values = {(record.replicate, record.dataset_hash): of(record, metric) for record in records}
    return {key: value for key, value in values.items() if not math.isnan(value)}


def _judged(a: Spread, b: Spread, pairs: Sequence[tuple[float, float]], equal: bool) -> tuple[Ratio, Verdict]:
    if not b.n or not a.n:
        return NO_RATIO, "only in A" if a.n else "only in B"
    if equal:
        return Ratio(1.0, math.nan, math.nan, "equal"), "the same"
    positive = all(min(pair) > 0 for pair in pairs)
    if len(pairs) >= MIN_REPLICATES and positive:
        ratio = paired_ratio(pairs)
        return ratio, _moved((1.0, 1.0), (ratio.low, ratio.high))
    quotient = b.median / a.median if a.median > 0 else math.nan
    few = min(a.n, b.n)
    if few < MIN_REPLICATES:
        return Ratio(quotient, math.nan, math.nan, counted(few)), "too few replicates"
    return Ratio(quotient, math.nan, math.nan, "not paired"), _moved((a.q05, a.q95), (b.q05, b.q95))


def _moved(a: tuple[float, float], b: tuple[float, float]) -> Verdict:
    """Whether the interval of B lies above that of A, below it, or meets it."""
    if b[0] > a[1] * MARGIN:
        return "worse"
    return "better" if b[1] * MARGIN < a[0] else "no significant difference"


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Each configured value that differs, as "name: value in A → value in B"; of the problem, what both sides know."""
    before, after = (dict(flat(side)) for side in (a, b))
    hidden = {name for name in before.keys() ^ after.keys() if name.startswith("problem.")} | {STRUCTURE}
    names = sorted({*before, *after} - hidden)
    values = {name: (plain(before.get(name)), plain(after.get(name))) for name in names}
    return [f"{name}: {old} → {new}" for name, (old, new) in values.items() if old != new]
