"""The tables of the page: methods on the same data, provenance, numbers as people read them."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from cryosip.records.machines import Timed, processor, timed, without_host
from cryosip.records.schema import Floor, Record
from cryosip.records.select import observations, of_other_engines
from cryosip.reports.controls import Control, controls
from cryosip.reports.spreads import (
    MIN_REPLICATES,
    NOTHING,
    Estimate,
    Spread,
    counted,
    grouped,
    over_floor,
    spread,
    typical_floor,
)
from cryosip.reports.style import series_style

KNOWN_METRICS = ("w1", "w2", "energy_distance", "energy_distance_squared")
DAGGER = " †"  # behind what another engine made than the youngest record of its study


class MethodRow(NamedTuple):
    """One method in one variant over its replicates; `ratios` are metric / floor, the headline."""

    label: str
    colour: str
    variant: str
    profile: str
    metrics: dict[str, Spread]
    ratios: dict[str, Spread]
    floors: dict[str, Floor | None]
    seconds: Spread
    compile_seconds: Spread
    forward_evaluations: Spread
    statuses: str
    control: bool = False
    setup_seconds: Spread = NOTHING


def with_newcomers(headline: Sequence[str], records: Iterable[Record]) -> list[str]:
    """The metrics of a section, then those that have a floor and that this report does not know: a user's own."""
    floors = dict.fromkeys(name for record in records for name in record.data_floors)
    return [*headline, *(name for name in floors if name not in (*headline, *KNOWN_METRICS))]


def method_rows(records: Sequence[Record], metrics: Sequence[str], on: Timed | None = None) -> list[MethodRow]:
    """Group runs by method, variant and profile; each metric is set against the floor of the size of the data.

    The controls of each problem, profile and data size follow its methods. Seconds are `on` one machine: that of most
    of these runs, or of a table that they are a part of.
    """
    on = on or timed(records)
    others = of_other_engines(records)
    places = grouped(sorted(records, key=_order), lambda r: (r.problem, r.profile, observations(r)))
    rows = []
    for (problem, profile, size), here in sorted(places.items(), key=lambda item: item[0]):
        groups = grouped(here, lambda r: (r.method, r.discrepancy, r.labels.text))
        rows += [_method_row(own, metrics, on, DAGGER * (own[0].path in others)) for own in groups.values()]
        where = f"{problem}, n = {size:,.0f}" if len(places) > 1 else ""
        rows += [_control_row(c, metrics, where, profile) for c in controls(here, metrics, _label)]
    return rows


def _label(record: Record) -> str:
    return series_style(record).label


def _control_row(control: Control, metrics: Sequence[str], where: str, profile: str) -> MethodRow:
    known = {name: control.metrics.get(name, NOTHING) for name in metrics}
    ratios = {name: control.ratios.get(name, NOTHING) for name in metrics}
    variant = "; ".join(part for part in (where, control.note) if part)
    no_floor: dict[str, Floor | None] = dict.fromkeys(metrics)
    return MethodRow(
        control.name, "", variant, profile, known, ratios, no_floor, NOTHING, NOTHING, NOTHING, "", control=True
    )


def _order(record: Record) -> tuple[Any, ...]:
    components = record.config_number("method.options.n_components")
    rank = {"flow": 0, "mixture": 1, "reweighting": 2}.get(record.method, 3)
    return rank, record.method, record.discrepancy, 0 if math.isnan(components) else components, record.labels.text


def _method_row(records: list[Record], metrics: Sequence[str], on: Timed, mark: str) -> MethodRow:
    ok = [record for record in records if record.status == "ok"]
    clocked = on.runs(ok)
    return MethodRow(
        series_style(records[0]).label + mark,
        series_style(records[0]).colour,
        records[0].labels.text,
        records[0].profile,
        {name: spread([r.metrics.get(name, math.nan) for r in ok]) for name in metrics},
        {name: spread([over_floor(r, name) for r in ok]) for name in metrics},
        {name: typical_floor([r.data_floors[name] for r in ok if name in r.data_floors]) for name in metrics},
        spread([r.run_seconds for r in clocked]),
        spread([r.compile_seconds for r in clocked]),
        spread([float(r.forward_evaluations) for r in ok]),
        statuses(records),
        setup_seconds=spread([r.setup_seconds for r in clocked]),
    )


def statuses(records: Iterable[Record]) -> str:
    """How many runs ended how."""
    counts = Counter(record.status for record in records)
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def shared_data(records: Iterable[Record]) -> str:
    """Whether every method saw the same data, replicate by replicate, in one sentence."""
    replicates = grouped(records, lambda r: (r.problem, r.replicate))
    mixed = [key for key, own in replicates.items() if len({r.dataset_hash for r in own}) > 1]
    if mixed:
        places = "; ".join(sorted(f"{problem}, replicate {replicate}" for problem, replicate in mixed))
        return f"Not the same data throughout: the data set differs between methods for {places}."
    return f"Every method saw the same data set in each of the {len(replicates)} replicates (equal hashes)."


def as_table(part: msgspec.Struct | dict[str, Any] | None) -> dict[str, Any]:
    """A part of a record as a dictionary."""
    return part if isinstance(part, dict) else {} if part is None else msgspec.structs.asdict(part)


def distinct(records: Iterable[Record], field: str) -> list[tuple[str, str]]:
    """Each key of a table such as "environment", with its distinct values and how many records have each; no host."""
    tables = (without_host(as_table(getattr(record, field))) for record in records)
    pairs = grouped(((key, plain(value)) for table in tables for key, value in table.items()), lambda pair: pair[0])
    counts = {key: sorted(Counter(value for _, value in own).items()) for key, own in pairs.items()}
    return [
        (key, own[0][0] if len(own) == 1 else "; ".join(f"{value} ({count})" for value, count in own))
        for key, own in counts.items()
    ]


def hardware(records: Iterable[Record]) -> list[str]:
    """The devices and processors that the records name, such as "cuda NVIDIA A100, AMD EPYC"."""
    return sorted({processor(record) for record in records})


def algorithms(records: Iterable[Record]) -> list[tuple[str, str, str]]:
    """Which algorithm computed each discrepancy, and the largest bound of its gradient error."""
    worst: dict[tuple[str, str], float] = {}
    for record in records:
        if record.algorithm:
            key = (series_style(record).label, record.algorithm.name)
            error = record.algorithm.gradient_error
            worst[key] = max(worst.get(key, -math.inf), float(error) if isinstance(error, int | float) else -math.inf)
    return [(label, name, number(error)) for (label, name), error in sorted(worst.items())]


def datasets(records: Iterable[Record]) -> list[tuple[str, str, str]]:
    """Problem, data set hash, and the seeds and replicates that used it."""
    used = grouped((r for r in records if r.dataset_hash), lambda r: (r.problem, r.dataset_hash))
    pairs = {key: sorted({(r.replicate, r.seed) for r in own}) for key, own in used.items()}
    ordered = sorted(pairs.items(), key=lambda item: (item[0][0], item[1]))
    return [(*key, ", ".join(f"{replicate} / {seed}" for replicate, seed in own)) for key, own in ordered]


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of nested tables under its dotted path, lists as JSON."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else key)
    elif name:
        yield name, json.dumps(value) if isinstance(value, list | dict) else value


def plain(value: Any) -> str:
    """A value of a record as text; "—" for none."""
    return "—" if value is None else str(value)


def number(value: float | int) -> str:
    """Three significant digits; "—" where there is no number, "not reached" where it is infinite."""
    if math.isnan(value) or value == -math.inf:
        return "—"
    if math.isinf(value):
        return "not reached"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:.3g}" if abs(value) >= 1e7 else f"{value:,.0f}"
    return f"{value:.1e}" if abs(value) < 1e-3 else f"{value:.3g}"


def interval(value: Spread | Floor) -> str:
    """The 5-95 % interval, "" where there is none."""
    return "" if math.isnan(value.q05) or math.isinf(value.q05) else f"[{number(value.q05)}, {number(value.q95)}]"


def interval_of(value: Estimate) -> str:
    """The interval of an estimate, or why there is none."""
    if math.isnan(value.low):
        return f"no interval: {counted(value.n)}, fewer than {MIN_REPLICATES}"
    return f"[{number(value.low)}, {number(value.high)}]"
