"""Paper against reproduction: one row for each published number or statement, with a verdict and its reason."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from cryosip.records.machines import timed
from cryosip.records.schema import Floor, Record
from cryosip.records.select import largest, observations
from cryosip.reports.section import Context, Section, Source, Table
from cryosip.reports.sections import published_numbers, verdicts
from cryosip.reports.sections.published_numbers import PUBLISHED, Published
from cryosip.reports.sections.verdicts import (
    Outcome,
    Verdict,
    compare,
    distance_verdict,
    formula_verdict,
    grows,
    reached,
    statement_verdict,
)
from cryosip.reports.spreads import (
    MIN_REPLICATES,
    NOTHING,
    Spread,
    cost_below,
    counted,
    grouped,
    prediction_range,
    spread,
    typical_floor,
)

LABELS = {"energy": "energy", "kl": "KL"}


class Row(NamedTuple):
    """One line of the table; `finding` is what we saw where `ours` is no number."""

    part: str
    quantity: str
    published: str
    verdict: Verdict
    convention: str
    why: str
    ours: Spread = NOTHING
    floor: Floor | None = None
    accepted: tuple[float, float] | None = None
    finding: str = ""


def paper_rows(records: Sequence[Record]) -> list[Row]:
    """The paper against the records: §2.5.3, Fig. 1 and Fig. 2 of §4.1, then §4.2 and §4.3."""
    numbers = [number_row(published, records) for published in PUBLISHED]
    oned = [row for row, published in zip(numbers, PUBLISHED, strict=True) if published.problem == "oned"]
    return oned + cost_rows(records) + variance_rows(records) + [row for row in numbers if row not in oned]


def _size(record: Record) -> tuple[float, float]:
    return observations(record), record.config_number("steps")


def _largest(records: Sequence[Record]) -> list[Record]:
    """Only the runs of the largest size: sizes are never pooled."""
    size = max((_size(record) for record in records), default=None)
    return [record for record in records if _size(record) == size]


def _undecided(records: Sequence[Record]) -> tuple[Verdict, str]:
    """Without runs at the size of the paper."""
    if not records:
        return "not run", "No run of this setting in the records."
    n, steps = _size(records[0])
    profiles = ", ".join(sorted({record.profile for record in records}))
    why = f"The {profiles} profile ran n = {n:,.0f} and {steps:,.0f} steps, not the size of the paper: no verdict."
    return "other size", why


def number_row(published: Published, records: Sequence[Record]) -> Row:
    """Compare one published distance with the runs of its setting."""
    fits = [record for record in records if _is_published_run(published, record)]
    at_size = largest(record for record in fits if _size(record) == published.size)
    shown = at_size or _largest(fits)
    ok = [record for record in shown if record.status == "ok"]
    metrics = [r.initial_metrics if published.initial else r.metrics for r in ok]
    values = [m[published.metric] for m in metrics if published.metric in m]
    floor = typical_floor([r.floors[published.metric] for r in ok if published.metric in r.floors])
    against_samples = [r.initial_sampled_metrics if published.initial else r.sampled_metrics for r in ok]
    sampled = typical_floor([s[published.metric] for s in against_samples if published.metric in s])
    width = sampled.q95 - sampled.q05 if sampled else 0.0
    decided = at_size and not published.open_interpretation
    accepted = prediction_range(values, width) if decided and len(values) >= MIN_REPLICATES else None
    failed = len(shown) - len(values)
    verdict, why = _judge(published, values, width, failed) if at_size else _undecided(shown)
    return Row(
        published.part, published.quantity, published.printed, verdict, published.convention, why,
        spread(values), floor, accepted and (max(accepted[0], 0.0), accepted[1]),
    )  # fmt: skip


def _is_published_run(published: Published, record: Record) -> bool:
    """Runs of the paper's setting; the noise study is left out, for it stops when a threshold is reached."""
    options = {name: record.config_number(f"problem.options.{name}") for name in published.options}
    return (
        (record.problem, record.method) == (published.problem, "flow")
        and record.labels.variant in published.variants
        and record.discrepancy == published.discrepancy
        and record.study != "noise"
        and all(math.isnan(value) or value == published.options[name] for name, value in options.items())
    )


def _judge(published: Published, values: Sequence[float], width: float, failed: int) -> tuple[Verdict, str]:
    if failed:
        return "ambiguous", f"{failed} of {failed + len(values)} replicates failed and gave no number."
    if published.open_interpretation:
        return "ambiguous", published.open_interpretation
    if len(values) < MIN_REPLICATES:
        return "ambiguous", f"{counted(len(values))}, fewer than {MIN_REPLICATES}: no interval is drawn."
    verdict = distance_verdict(published.value, values, width)
    place = {"reproduced": "inside", "better": "above", "worse": "below"}[verdict]
    return verdict, f"The published value lies {place} the range of one further run."


Costs = dict[str, dict[float, list[float]]]  # by discrepancy, then by sigma, one number for each replicate


def _costs(records: Sequence[Record], unit: str) -> Costs:
    """What the runs of the noise study took to W2 < 0.2."""
    costs = [(r, cost_below(r, "w2", published_numbers.FIG2_THRESHOLD, unit)) for r in records]
    kept = [
        (r.discrepancy, r.config_number("problem.options.noise_std"), cost) for r, cost in costs if not math.isnan(cost)
    ]
    return {
        name: {sigma: [cost for *_, cost in own] for sigma, own in by_sigma.items()}
        for name in LABELS
        for by_sigma in [grouped(sorted(c for c in kept if c[0] == name), lambda c: c[1])]
    }


def _kl_above_energy(costs: Costs, sigmas: Sequence[float]) -> dict[str, Outcome]:
    return {f"σ {s:g}": compare(lower=costs["energy"][s], higher=costs["kl"][s]) for s in sigmas}


def cost_rows(records: Sequence[Record]) -> list[Row]:
    """The statements of Fig. 2 against the noise study."""
    fits = [r for r in records if (r.study, r.method) == ("noise", "flow") and r.labels.variant != "tuned"]
    at_size = largest(r for r in fits if _size(r) == published_numbers.FIG2_SIZE)
    shown = at_size or _largest(fits)
    on = timed(shown)
    units = {"steps": _costs(shown, "step"), "seconds": _costs(on.runs(shown), "seconds")}
    steps, seconds = units.values()
    shared, in_time = ([s for s in costs["energy"] if s in costs["kl"]] for costs in (steps, seconds))
    ends = sorted({*shared[:1], *shared[-1:]})
    reaching = {f"{LABELS[d]} σ {s:g}": reached(own) for d, by_sigma in steps.items() for s, own in by_sigma.items()}
    growing = {f"{LABELS[d]} {unit}": grows(list(by_sigma.values())) for unit, costs in units.items()
               for d, by_sigma in costs.items() if len(by_sigma) > 1}  # fmt: skip
    slower, longer = _kl_above_energy(seconds, in_time), _kl_above_energy(steps, ends)
    statements: list[tuple[str, dict[str, Outcome], Literal["better", "worse"], str]] = [
        ("W2 < 0.2 is reached at every σ", reaching, "worse", ""),
        ("KL needs more time than energy at every σ", slower, "better", on.sentence),
        ("KL needs more iterations than energy at low and at very high σ", longer, "better", ""),
        ("Iterations and time grow with σ", growing, "better", on.sentence),
    ]
    rows = []
    for quantity, outcomes, contradicted, of_machines in statements:
        verdict, why = _undecided(shown)
        if at_size:
            verdict = statement_verdict(outcomes, contradicted)
            why = _reason(verdict, shown)
        why = f"{why} {of_machines}".rstrip()
        rows.append(Row("§4.1, Fig. 2", quantity, "stated", verdict, published_numbers.FIG2_CONVENTION, why,
                        finding=_finding(outcomes)))  # fmt: skip
    return rows


def _finding(outcomes: dict[str, Outcome]) -> str:
    parts = []
    for outcome in ("holds", "fails", "undecided"):
        places = [place for place, seen in outcomes.items() if seen == outcome]
        if places:
            parts.append(f"{outcome}: {', '.join(places)}")
    return "; ".join(parts)


def _reason(verdict: Verdict, records: Sequence[Record]) -> str:
    replicates = len({record.replicate for record in records})
    if replicates < MIN_REPLICATES:
        return f"{counted(replicates)}, fewer than {MIN_REPLICATES}: nothing is decided."
    return {
        "reproduced": "Holds wherever the statement speaks.",
        "better": "Fails wherever the statement speaks: the cost is lower than stated.",
        "worse": "Fails wherever the statement speaks.",
    }.get(verdict, "The places disagree, the replicates of the two sides overlap, or neither side got there.")


def variance_rows(records: Sequence[Record]) -> list[Row]:
    """The variance formulas of §2.5.3 for the estimators (2.13)-(2.15) against the measured variances."""
    rows = []
    for index, equation in enumerate(("2.13", "2.14", "2.15"), start=1):
        metrics = [r.metrics for r in largest(records) if r.study == "sampling" and r.method == f"method-{index}"]
        whole = [m for m in metrics if {"variance", "variance_formula", "variance_q05", "variance_q95"} <= set(m)]
        whole = [m for m in whole if m["variance_formula"] > 0]
        ratios = [m["variance"] / m["variance_formula"] for m in whole]
        misses = sum(not m["variance_q05"] <= m["variance_formula"] <= m["variance_q95"] for m in whole)
        why = f"{misses} of {len(whole)} intervals miss the formula." if whole else "No run of this scheme."
        convention = published_numbers.VARIANCE_CONVENTION
        rows.append(Row("§2.5.3", f"Var[Î{'₁₂₃'[index - 1]}], Eq. ({equation}): measured / formula", "1",
                        formula_verdict(ratios, misses), convention, why, spread(ratios)))  # fmt: skip
    return rows


def paper_table(rows: Sequence[Row]) -> Table:
    """The paper-vs-reproduced table, a header and one line for each published number or statement."""
    columns = ["part", "quantity", "paper", "median", "q05", "q95", "replicates", "floor_median", "floor_q05",
               "floor_q95", "accepted_low", "accepted_high", "finding", "verdict", "convention", "why"]  # fmt: skip
    empty = (math.nan,) * 3
    return [columns] + [
        [r.part, r.quantity, r.published, *r.ours, *((r.floor.median, r.floor.q05, r.floor.q95) if r.floor else empty),
         *(r.accepted or empty[:2]), r.finding, r.verdict, r.convention, r.why]
        for r in rows
    ]  # fmt: skip


def _rows(source: Source) -> Context:
    rows = paper_rows(source.everything.records)
    ran, not_run = ([r for r in rows if (r.verdict == "not run") is missing] for missing in (False, True))
    return {"rows": rows, "ran": ran, "not_run": not_run, "rules": verdicts.RULES}


PAPER = Section(
    "paper", "Paper against reproduction", context=_rows, template="paper.html",
    tables=lambda context: {"paper_vs_reproduced.csv": paper_table(context["rows"])},
)  # fmt: skip
CONVENTIONS = Section(
    "conventions", "Assumptions", context=lambda _: {"conventions": published_numbers.CONVENTIONS},
    template="conventions.html",
)  # fmt: skip
