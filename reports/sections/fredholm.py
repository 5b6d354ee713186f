"""The study fredholm: the table of [crucinio2022] beside ours, a verdict for each cell, and the marginals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from cryosip.records.schema import Floor, Record
from cryosip.records.select import largest, observations
from cryosip.reports.drawing import of_first_replicate
from cryosip.reports.section import Context, Section, Source, Table
from cryosip.reports.sections.verdicts import Verdict
from cryosip.reports.spreads import MIN_REPLICATES, Estimate, counted, grouped, mean_interval, typical_floor
from cryosip.reports.style import INK, Plot, draw, series_style

ERROR = "integrated_squared_error"
DIMENSIONS = (1, 2, 3, 4)
OBSERVATIONS, POINTS, REPLICATES = 1_000_000, 10_000, 100  # of the published table; points: bins, particles
EM, FLOW = "one-step-late-em", "noisy-flow"
PRINTED = {EM: (".104", ".126", "3.67", "4.23"), FLOW: (".075", ".056", ".100", ".169")}
NAMES = {EM: "one-step-late EM", FLOW: "their flow"}
SIZES = {EM: "n_bins", FLOW: "n_particles"}
DRAWN = (EM, FLOW, "data-kl", "mixture", "reweighting")  # of all marginals
RULES = (
    "Each number is the mean over replicates of the integrated squared error of the first marginal, Σ (f − f*)² Δ over "
    "100 nodes on [0, 1], beside the 90 % interval of Student for the mean. f is a Gaussian kernel density with the "
    "bandwidth of least-squares cross-validation within Silverman’s limits, the same for all points.",
    f"A published mean is one of {REPLICATES} replicates. It is “reproduced” where it lies within mean ± √(t²s²(1/R + "
    f"1/{REPLICATES}) + (u/2)²) of our R replicates, u one unit of its last digit; otherwise “better” means that ours "
    "is lower, “worse” that ours is higher. What is no run of theirs is compared with the number beside it: their own "
    "methods with themselves, ours with their flow; where it is neither better nor worse, it is “ambiguous”.",
    "“Other size”: not their numbers of observations, particles or bins, so no verdict. One-step-late EM as published "
    "takes no observations, its size is that of its grid.",
)


class Cell(NamedTuple):
    """A row in one dimension: ours, the published number beside it, the verdict and its reason."""

    dimension: int
    ours: Estimate
    printed: str
    verdict: Verdict
    why: str
    floor: Floor | None


class Row(NamedTuple):
    """A method, and whether it is one of the two published."""

    label: str
    published: bool
    cells: list[Cell]


def table(records: Sequence[Record]) -> list[Row]:
    """The published methods first, each with a cell for each dimension."""
    kept = [r for r in records if r.study == "fredholm"]
    groups = grouped(kept, row_label)
    places = list(PRINTED)
    ordered = sorted(groups.items(), key=lambda item: [*places, item[1][0].method].index(item[1][0].method))
    return [
        Row(label, own[0].method in PRINTED, [_cell(d, [r for r in own if _dimension(r) == d]) for d in DIMENSIONS])
        for label, own in ordered
    ]


def row_label(record: Record) -> str:
    """A published method with its variant; of ours the name that all figures have."""
    if record.method in PRINTED:
        return f"{NAMES[record.method]}, {record.labels.variant}"
    return series_style(record).label


def _dimension(record: Record) -> float:
    return record.config_number("problem.options.dimension")


def _cell(d: int, records: Sequence[Record]) -> Cell:
    shown = largest(records)
    method = shown[0].method if shown else ""
    printed = PRINTED[method if method in PRINTED else FLOW][d - 1]
    values = [r.metrics[ERROR] for r in shown if r.status == "ok" and ERROR in r.metrics]
    floors = typical_floor([r.data_floors[ERROR] for r in shown if ERROR in r.data_floors])
    verdict, why = _judge(shown, values, printed)
    return Cell(d, mean_interval(values), printed, verdict, why, floors)


def _judge(records: Sequence[Record], values: Sequence[float], printed: str) -> tuple[Verdict, str]:
    if not values:
        failed = f": {records[0].message}" if records else ""
        return "not run", f"No number{failed}."
    verdict = mean_verdict(float(printed), values, unit(printed), _is_theirs(records[0]))
    if other := other_size(records[0]):
        side = {"better": "; lower all the same", "worse": "; higher"}.get(verdict, "")
        return "other size", f"{other}{side}."
    if len(values) < MIN_REPLICATES:
        return "ambiguous", f"{counted(len(values))}, fewer than {MIN_REPLICATES}."
    if lost := len(records) - len(values):
        return "ambiguous", f"{lost} of {len(records)} replicates failed."
    return verdict, ""


def _is_theirs(record: Record) -> bool:
    return record.method in PRINTED and record.labels.variant in ("published", "as in the paper")


def other_size(record: Record) -> str:
    """How the size of a run differs from the published one, "" where it does not."""
    points = record.config_number(f"method.options.{SIZES[record.method]}") if record.method in SIZES else POINTS
    exact = record.method == EM and record.labels.variant != "observations"
    n = OBSERVATIONS if exact else observations(record)
    parts = [
        f"{value:,.0f} {what} against {wanted:,.0f}"
        for what, value, wanted in (("observations", n, OBSERVATIONS), ("points", points, POINTS))
        if value != wanted
    ]
    return ", ".join(parts)


def unit(printed: str) -> float:
    """One unit of the last digit."""
    return float(10 ** -len(printed.partition(".")[2]))


def mean_verdict(published: float, values: Sequence[float], unit: float, same: bool) -> Verdict:
    """Whether a published mean could be that of our runs; `same` where ours are runs of the published method."""
    if len(values) < MIN_REPLICATES:
        return "ambiguous"
    count = len(values)
    student = float(stats.t.ppf(0.95, count - 1))
    half = math.hypot(student * float(np.std(values, ddof=1)) * math.sqrt(1 / count + 1 / REPLICATES), unit / 2)
    mean = float(np.mean(values))
    if abs(published - mean) <= half:
        return "reproduced" if same else "ambiguous"
    return "better" if published > mean else "worse"


def marginals(records: Sequence[Record]) -> list[Plot]:
    """The first marginal in one and in four dimensions, of the first replicate."""
    plots = []
    for d in (DIMENSIONS[0], DIMENSIONS[-1]):
        own = [r for r in records if _dimension(r) == d and "marginal" in r.arrays]
        own = [r for r in own if (r.discrepancy or r.method) in DRAWN and r.labels.variant in ("", "published")]
        kept = of_first_replicate(own, {"marginal"})
        if kept:
            plots.append(_marginals(d, kept))
    return plots


def _marginals(d: int, records: Sequence[Record]) -> Plot:
    nodes, truth = records[0].arrays["marginal"][:, :2].T
    lines = {row_label(r): (series_style(r).colour, r.arrays["marginal"][:, 2]) for r in records}

    def paint(ax: Axes) -> None:
        for label, (colour, density) in lines.items():
            ax.plot(nodes, density, color=colour, linewidth=1.3, label=label)
        ax.plot(nodes, truth, color=INK, linewidth=1.6, linestyle="--", label="truth")
        ax.set(xlabel="first coordinate of θ", ylabel="density", ylim=(0, 1.6 * truth.max()))

    title = f"First marginal, d = {d}"
    caption = (
        f"Replicate {records[0].replicate}; what the error integrates. The axis ends at 1.6 times the truth's peak."
    )
    rows = [[x, t, *values] for x, t, *values in zip(nodes, truth, *(y for _, y in lines.values()), strict=True)]
    name = f"fredholm-{d}d"
    return Plot(name, title, caption, draw(name, paint), ["theta", "truth", *lines], rows)


def verdict_table(rows: Sequence[Row]) -> Table:
    """One line for each cell, for a file."""
    columns = ["method", "dimension", "published", "mean", "low", "high", "replicates", "floor", "verdict", "why"]
    return [columns] + [
        [row.label, c.dimension, c.printed, *c.ours, c.floor.median if c.floor else math.nan, c.verdict, c.why]
        for row in rows
        for c in row.cells
    ]


def _context(source: Source) -> Context:
    rows = table(source.records)
    return {"rows": rows, "rules": RULES, "dimensions": DIMENSIONS} if rows else {}


SECTION = Section(
    "fredholm", "Fredholm equations", ("fredholm",), lambda records: {"fredholm": marginals(records)}, _context,
    lambda context: {"fredholm.csv": verdict_table(context["rows"])} if context else {},
    template="fredholm.html",
    missing="No run of the study fredholm in the records: run the study fredholm.",
)  # fmt: skip
