"""The study contamination: the distances of each method with outliers beside those on the same data without."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from cryosip.records.schema import Record
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.spreads import Ratio, Spread, grouped, paired_ratio, spread
from cryosip.reports.style import series_style

METRICS = ("w1", "w2")
FACTOR = 2.0  # a method breaks where W2 grows by more, and holds where it grows by less


class Contaminated(NamedTuple):
    """A method with outliers: each metric without and with them, their ratio over replicates, and what still changed.

    `objective_change` and `w1_change` are relative changes over the last tenth of the steps, the largest of all
    replicates, with outliers and without.
    """

    problem: str
    kind: str
    share: float
    method: str
    colour: str
    clean: dict[str, Spread]
    dirty: dict[str, Spread]
    ratios: dict[str, Ratio]
    objective_change: float
    w1_change: float
    verdict: str
    why: str

    @property
    def place(self) -> str:
        """The outliers in words."""
        return f"{self.problem}: {self.share:.0%} {self.kind}"


def contaminated_rows(records: Sequence[Record]) -> list[Contaminated]:
    """One for each problem, kind and share of outliers and method, by pairs of replicates of the same seed."""
    groups = grouped(
        sorted(records, key=lambda r: (_name(r), r.replicate)), lambda r: (r.problem, *_outliers(r), _name(r))
    )
    return [
        _row(own, groups.get((problem, "clean", 0.0, name), []))
        for (problem, _, share, name), own in sorted(groups.items(), key=lambda item: item[0][:3])
        if share > 0
    ]


def _outliers(record: Record) -> tuple[str, float]:
    """Their kind and share."""
    share = record.config_number("problem.options.outliers")
    return (str(record.config_value("problem.options.outlier_kind")), share) if share > 0 else ("clean", 0.0)


def _name(record: Record) -> str:
    """A flow has the name of its discrepancy already."""
    label = series_style(record).label
    return label if record.method == "flow" else f"{label} ({record.labels.variant})"


def _row(dirty: Sequence[Record], clean: Sequence[Record]) -> Contaminated:
    before = {r.replicate: r for r in clean if r.status == "ok"}
    failed = [r for r in dirty if r.status != "ok"]
    pairs = {
        name: [
            (r.metrics.get(name, math.nan), before[r.replicate].metrics.get(name, math.nan))
            for r in dirty
            if r.status == "ok" and r.replicate in before
        ]
        for name in METRICS
    }
    ratios = {name: paired_ratio(pairs[name]) for name in METRICS}
    kind, share = _outliers(dirty[0])
    finished = [r for r in (*dirty, *clean) if r.status == "ok"]
    return Contaminated(
        problem=dirty[0].problem,
        kind=kind,
        share=share,
        method=_name(dirty[0]),
        colour=series_style(dirty[0]).colour,
        clean={name: spread([r.metrics.get(name, math.nan) for r in before.values()]) for name in METRICS},
        dirty={name: spread([r.metrics.get(name, math.nan) for r in dirty if r.status == "ok"]) for name in METRICS},
        ratios=ratios,
        objective_change=max((_last_change(r, "objective") for r in finished), default=math.nan),
        w1_change=max((_last_change(r, "w1") for r in finished), default=math.nan),
        verdict="fails" if failed else _verdict(ratios["w2"]),
        why=f"{len(failed)} of {len(dirty)} runs failed: {failed[0].message}" if failed else ratios["w2"].why,
    )


def _last_change(record: Record, name: str) -> float:
    """|x_T - x_0.9T| / |x_T|, from the last two evaluations; -inf where there are none."""
    values = record.curve.get(name)
    if values is None or len(values) < 2 or values[-1] == 0:
        return -math.inf
    return float(abs(values[-1] - values[-2]) / abs(values[-1]))


def _verdict(ratio: Ratio) -> str:
    """By the interval of W2 with outliers over W2 without."""
    if ratio.low > FACTOR:
        return "breaks"
    return "holds" if ratio.high < FACTOR else "undecided"


def sentence(rows: Sequence[Contaminated]) -> str:
    """Which methods break and which hold, for one problem, kind and share."""
    found = grouped(rows, lambda row: row.verdict)
    words = {"breaks": "outliers break", "holds": "unharmed", "undecided": "undecided", "fails": "no answer from"}
    parts = [f"{word}: {', '.join(r.method for r in found[v])}" for v, word in words.items() if v in found]
    return f"{rows[0].place}: {'; '.join(parts)}."


def table(rows: Sequence[Contaminated]) -> list[list[Any]]:
    """A header and one line for each row and metric, for a file."""
    columns = ["problem", "kind", "share", "method", "metric", "clean", "clean_q05", "clean_q95", "contaminated",
               "contaminated_q05", "contaminated_q95", "ratio", "ratio_low", "ratio_high", "objective_change",
               "w1_change", "verdict", "why"]  # fmt: skip
    return [columns] + [
        [r.problem, r.kind, r.share, r.method, name, *r.clean[name][:3], *r.dirty[name][:3], *r.ratios[name][:3],
         r.objective_change, r.w1_change, r.verdict, r.why]
        for r in rows
        for name in METRICS
    ]  # fmt: skip


def _context(source: Source) -> Context:
    rows = contaminated_rows(source.records)
    groups = grouped(rows, lambda row: row.place)
    shown = [(sentence(own), own) for own in groups.values()]
    return {"contaminated": shown, "all_rows": rows, "metrics": METRICS, "factor": FACTOR} if rows else {}


SECTION = Section(
    "contamination", "Outliers", ("contamination",), context=_context, template="contamination.html",
    tables=lambda context: {"contamination.csv": table(context["all_rows"])} if context else {},
    missing="No run of the study contamination in the records: run the study contamination.",
)  # fmt: skip
