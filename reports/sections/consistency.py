"""The study consistency: the four statements of section 3 and their figures."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.schema import Array, Record
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.sections.statements import (
    DISTANCES,
    OTHERS,
    PRECISIONS,
    by_variant,
    distances,
    exponent,
    gaps,
    measured,
    statements,
)
from cryosip.reports.spreads import mean_interval
from cryosip.reports.style import INK, STYLES, Plot, SeriesStyle, draw, log_axes, newcomer

Pairs = Callable[[Record], tuple[Array, Array]]
REFERENCES = {"energy": -1.0, "likelihood": -0.5}
FITTED = "Thin lines: replicates; markers: their median; dashed: the power with the mean exponent of the replicates."


def consistency_plots(records: Sequence[Record]) -> dict[str, list[Plot]]:
    """Figures by the name of the statement."""
    kept = measured(records)
    distributions = dict.fromkeys(_distribution(r) for r in kept if r.method in ("large-data", "particle-number"))
    plots: dict[str, list[Plot]] = {name: [] for name in ("large-data", "particle-number", "distance", "equivalence")}
    for at, name in enumerate(distributions):
        data = [r for r in kept if r.method == "large-data" and _distribution(r) == name]
        particles = [r for r in kept if r.method == "particle-number" and _distribution(r) == name]
        if data:
            title = f"|min E_N − min E| against N, {name}"
            plots["large-data"].append(_powers(f"consistency-n-{at}", title, data, gaps, ("N", "gap"), REFERENCES))
        if particles:
            title = f"E(ρ^K) − E(ρ*) against K, {name}"
            plots["particle-number"].append(_powers(f"consistency-k-{at}", title, particles, gaps, ("K", "gap"), {}))
        for metric, label in DISTANCES.items() if particles else ():
            file, title = (
                f"consistency-{metric.replace('_', '-')}-{at}",
                f"{label} of ρ^K from ρ* against the gap, {name}",
            )
            axes = ("gap E(ρ^K) − E(ρ*)", label)
            plots["distance"].append(_powers(file, title, particles, _of_metric(metric), axes, {}))
    plots["equivalence"] += _prior_weights(kept) + _descents(kept)
    return plots


def _distribution(record: Record) -> str:
    return record.labels.variant


def _objective(record: Record) -> str:
    return str(record.labels.value)


def _of_metric(metric: str) -> Pairs:
    return lambda record: distances(record, metric)


def _powers(
    name: str, title: str, records: Sequence[Record], pairs: Pairs, axes: tuple[str, str], references: dict[str, float]
) -> Plot:
    """One quantity against another on logarithmic axes, for each objective."""
    records = sorted(records, key=lambda r: (_objective(r), r.replicate))
    groups = {_objective(own[0]): own for own in by_variant(records, records[0].method).values()}

    def paint(ax: Axes) -> None:
        for objective, own in groups.items():
            series = STYLES.get(f"objective-{objective}") or newcomer(objective)
            x, y = _replicates(ax, own, pairs, series)
            _fitted(ax, [pairs(record) for record in own], series)
            if objective in references and len(x):
                line = y[0] * (x / x[0]) ** references[objective] * 2.5
                ax.plot(x, line, color=INK, linestyle=":", linewidth=1, alpha=0.7)
        log_axes(ax, "xy")
        ax.set(xlabel=axes[0], ylabel=axes[1])

    rows = [
        [_objective(r), _distribution(r), r.replicate, float(x), float(y)]
        for r in records
        for x, y in zip(*pairs(r), strict=True)
    ]
    dotted = " Dotted: the rate of sampling, N^(−1/2) and N^(−1), moved up." if references else ""
    columns = ("objective", "distribution", "replicate", *axes)
    return Plot(name, title, FITTED + dotted, draw(name, paint), columns, rows)


def _replicates(ax: Axes, records: Sequence[Record], pairs: Pairs, series: SeriesStyle, **how: Any) -> Array:
    """Thin lines, and the median of both numbers over the replicates, place by place along the run: (2, places)."""
    found = [pairs(record) for record in records]
    for pair in found:
        ax.plot(*pair, color=series.colour, linewidth=0.7, alpha=0.35, linestyle=how.get("linestyle", "-"))
    length = min(len(x) for x, _ in found)
    median: Array = np.median([[x[:length], y[:length]] for x, y in found], axis=0)
    style: dict[str, Any] = {"marker": series.marker, "markersize": 5, "linewidth": 1.7, "label": series.label}
    ax.plot(*median, color=series.colour, **style | how)
    return median


def _fitted(ax: Axes, pairs: Sequence[tuple[Array, Array]], series: SeriesStyle) -> None:
    """The power of the mean exponent through the middle of all points."""
    power = mean_interval([exponent(x, y) for x, y in pairs]).value
    x, y = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    kept = (x > 0) & (y > 0)
    if math.isnan(power):
        return
    ends = np.array([x[kept].min(), x[kept].max()])
    level = math.exp(np.log(y[kept]).mean() - power * np.log(x[kept]).mean())
    ax.plot(ends, level * ends**power, color=series.colour, linestyle="--", linewidth=1.3)


def _of_curve(x: str, y: str) -> Pairs:
    return lambda record: (record.curve[x], record.curve[y])


def _prior_weights(records: Sequence[Record]) -> list[Plot]:
    """How far the minimiser of (3.5) is from the MAP estimate against lambda over K/N."""
    groups = by_variant(records, "prior-weight")
    if not groups:
        return []

    def paint(ax: Axes) -> None:
        for (_, name), series in zip(groups, CASES, strict=False):
            _replicates(ax, groups[_, name], _of_curve("factor", "distance"), series, label=name)
        log_axes(ax, "y")
        ax.set_xscale("log", base=2)
        ax.set_xticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
        ax.set(xlabel="λ / (K/N)", ylabel="distance from the MAP estimate")

    rows = [
        [name, r.replicate, *map(float, row)]
        for (_, name), own in groups.items()
        for r in own
        for row in zip(r.curve["factor"], r.curve["distance"], r.curve["objective_difference"], strict=True)
    ]
    caption = (
        "Root mean square distance of the minimiser of (3.5), by EM, from the MAP estimate, by BFGS on the "
        "log-posterior written out. Thin lines: replicates; markers: their median."
    )
    columns = ("distribution", "replicate", "λ / (K/N)", "distance", "objective difference in ulps")
    title = "The minimiser of (3.5) is the MAP estimate at λ = K/N"
    return [Plot("consistency-lambda", title, caption, draw("consistency-lambda", paint), columns, rows)]


def _descents(records: Sequence[Record]) -> list[Plot]:
    """How far the flow and gradient descent have come apart, in ulps, step by step."""
    groups = by_variant(records, "gradient-descent")
    if not groups:
        return []

    def paint(ax: Axes) -> None:
        for ((problem, setting), own), series in zip(groups.items(), itertools.cycle(CASES), strict=False):
            for precision, line in zip(PRECISIONS, ("-", "--"), strict=True):
                label, pairs = (
                    f"{problem}, {setting}" if line == "-" else None,
                    _of_curve("step", f"mixture_{precision}"),
                )
                _replicates(ax, own, pairs, series, linestyle=line, label=label, marker=None)
        log_axes(ax, "y")
        ax.set(xlabel="step", ylabel="largest difference in ulps")

    names = [f"{other}_{precision}" for other in OTHERS for precision in PRECISIONS]
    rows = [
        [f"{problem}, {setting}", r.replicate, int(step), *(float(r.curve[name][at]) for name in names)]
        for (problem, setting), own in groups.items()
        for r in own
        for at, step in enumerate(r.curve["step"])
    ]
    caption = (
        "The flow of the noise-integrated KL (K = N) against gradient descent on (3.5), from the same start, steps Δt "
        "and K Δt. One ulp: the spacing of the precision times the largest |θ|. Solid: float32, dashed: float64; "
        "thin lines: replicates; thick: their median. The table also has descent by automatic differentiation."
    )
    title = "One flow for both approaches"
    columns = ("case", "replicate", "step", *names)
    return [Plot("consistency-flow", title, caption, draw("consistency-flow", paint), columns, rows)]


CASES = (STYLES["case-1"], STYLES["case-2"], STYLES["case-3"])


def _statements(source: Source) -> Context:
    found = statements(source.records)
    return {"statements": found} if found else {}


SECTION = Section(
    "consistency", "§3: theory", ("consistency",), consistency_plots, _statements, template="consistency.html",
    missing="No run of the study consistency in the records: run the study consistency.",
)  # fmt: skip
