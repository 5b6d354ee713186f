"""The studies paper-1d and noise of §4.1: Fig. 1, convergence, Fig. 2, and all methods on the same data."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.machines import timed
from cryosip.records.schema import Record
from cryosip.reports import movies
from cryosip.reports.curves import against_components, convergence
from cryosip.reports.drawing import START, Cloud, flows, histograms, of_first_replicate
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.spreads import cost_below, grouped, spread
from cryosip.reports.style import INK, Plot, SeriesStyle, draw, log_axes, series_style
from cryosip.reports.tables import method_rows, shared_data, with_newcomers

BINS = 60
METRICS = ("w1", "w2")
NOT_COUNTED = "Compilation and the evaluation of metrics are not counted; the paper gives minutes."
NO_ORDER = " The paper says W and gives no order: the same runs read as W1, the better conditioned."
THRESHOLDS = (("w2", 0.2, ""), ("w1", 0.2, "-w1"))


def distributions(records: Sequence[Record]) -> list[Plot]:
    """Fig. 1: parameters (a) and data (b), the initial, estimated and true distribution, of the first replicate."""
    kept = of_first_replicate(flows(records, "published"), {"theta"})
    kept = [r for r in kept if r.arrays["theta"].shape[1] == 1]
    theta = _clouds(kept, "theta", {"theta_true": "truth", "theta_init": "initial"})
    data = _clouds(kept, "y_estimated", {"y_observed": "observed", "y_init": "initial"})
    panels = (("fig1a", "Fig. 1a: parameters θ", "θ", theta), ("fig1b", "Fig. 1b: data y", "y", data))
    return [_histograms(*panel, kept[0].replicate) for panel in panels if panel[3]]


def _clouds(records: Sequence[Record], estimated: str, references: dict[str, str]) -> list[Cloud]:
    """The references by the name of their array, then the estimates; what is not finite is left out."""
    styles = {"initial": (SeriesStyle("initial", START, ""), ":")}
    clouds = []
    for name, label in references.items():
        if records and name in records[0].arrays:
            style, line = styles.get(label, (SeriesStyle(label, INK, ""), "-"))
            clouds.append(Cloud(style, records[0].arrays[name][:, 0], None, line))
    for record in records:
        if estimated in record.arrays:
            weights = record.arrays.get("weights") if estimated == "theta" else None
            clouds.append(Cloud(series_style(record), record.arrays[estimated][:, 0], weights))
    return [cloud for cloud in clouds if cloud.points.size and np.isfinite(cloud.points).all()]


def _histograms(name: str, title: str, xlabel: str, clouds: Sequence[Cloud], replicate: int) -> Plot:
    ends = np.array([np.quantile(cloud.points, [0.0005, 0.9995]) for cloud in clouds])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    edges = np.linspace(low, high, BINS + 1) if high > low else np.linspace(low - 0.5, low + 0.5, BINS + 1)
    caption = (
        f"Weighted histograms with {BINS} equal bins over the central 99.9 % of the points, each of total mass 1 "
        f"(points outside count in the mass); replicate {replicate}, setting “published”."
    )
    return histograms(name, title, caption, clouds, edges, xlabel)


def _sigma(record: Record) -> float:
    return record.config_number("problem.options.noise_std")


def costs(records: Sequence[Record]) -> list[Plot]:
    """Fig. 2: steps (a) and seconds (b) to W < 0.2 against sigma, read as W2 and, since no order is given, as W1."""
    kept = [r for r in records if r.method == "flow" and r.labels.variant != "tuned"]
    kept = [r for r in kept if math.isfinite(_sigma(r))]
    kept.sort(key=lambda r: r.discrepancy)
    if not kept:
        return []
    return [
        _cost(kept, f"fig2{letter}{suffix}", metric, threshold, unit)
        for metric, threshold, suffix in THRESHOLDS
        for letter, unit in (("a", "step"), ("b", "seconds"))
    ]


def _cost(records: Sequence[Record], name: str, metric: str, threshold: float, unit: str) -> Plot:
    """The cost of each replicate to reach a threshold, inf where it never did."""
    on = timed(records, unit)
    records = on.runs(records)
    rows = sorted(
        (series_style(r).label, _sigma(r), r.replicate, r.status, cost)
        for r in records
        if not math.isnan(cost := cost_below(r, metric, threshold, unit))
    )
    finite = [row[-1] for row in rows if 0 < row[-1] < math.inf]
    low, high = (min(finite), max(finite)) if finite else (1.0, 10.0)
    budget = max((r.config_number("steps") for r in records if unit == "step"), default=math.nan)
    top = 1.7 * (max(high, budget) if math.isfinite(budget) else high)
    gap = min(np.diff(sorted({row[1] for row in rows})), default=1.0)

    def paint(ax: Axes) -> None:
        styles = dict.fromkeys(series_style(record) for record in records)
        for index, series in enumerate(styles):
            shift = (index - (len(styles) - 1) / 2) * 0.28 * gap
            points = [(row[1] + shift, row[-1]) for row in rows if row[0] == series.label]
            _replicates(ax, series, points, gap, top)
        ax.axhline(top, color=INK, linestyle=(0, (4, 3)), linewidth=0.9, alpha=0.6)
        note = f"not reached in {budget:,.0f} steps" if math.isfinite(budget) else "not reached"
        ax.text(0.01, top * 1.08, note, transform=ax.get_yaxis_transform(), va="bottom", fontsize=9)
        log_axes(ax, "y")
        ax.set(ylim=(low / 1.5, top * (top / low) ** 0.12), xlabel="noise σ")
        ax.set_yticks([tick for tick in ax.get_yticks() if low / 1.5 <= tick < top])
        ax.set_ylabel(f"{'steps' if unit == 'step' else 'seconds'} to {metric.upper()} < {threshold:g}")

    caption = "Each marker is one replicate, hollow where the threshold was never reached; the line joins the medians. "
    caption += "First evaluated step below the threshold." if unit == "step" else NOT_COUNTED
    caption += "" if metric == "w2" else NO_ORDER
    caption += on.sentence and f" {on.sentence}"
    panel = f"Fig. 2{name[4]}" if metric == "w2" else f"Companion of Fig. 2{name[4]}"
    title = f"{panel}: {'steps' if unit == 'step' else 'seconds'} to {metric.upper()} < {threshold:g}"
    return Plot(name, title, caption, draw(name, paint), ["method", "sigma", "replicate", "status", unit], rows)


def _replicates(ax: Axes, series: SeriesStyle, points: Sequence[tuple[float, float]], gap: float, top: float) -> None:
    """Replicates as markers side by side, hollow at the top edge where infinite, and a line through the medians."""
    by_x = {x: [y for _, y in own] for x, own in grouped(points, lambda point: point[0]).items()}
    for x, values in by_x.items():
        for index, y in enumerate(values):
            at = x + (index - (len(values) - 1) / 2) * 0.06 * gap
            face = series.colour if math.isfinite(y) else "none"
            ax.plot([at], [min(y, top)], linestyle="", marker=series.marker, color=series.colour, markerfacecolor=face,
                    markersize=5)  # fmt: skip
    medians = [min(spread(values).median, top) for values in by_x.values()]
    ax.plot(list(by_x), medians, color=series.colour, linewidth=1.6)
    ax.plot([], [], color=series.colour, marker=series.marker, markersize=5, linewidth=1.6, label=series.label)


def _methods(source: Source) -> Context:
    """All methods on the same data, the tuned ones apart."""
    if not source.records:
        return {}
    metrics, on = with_newcomers(METRICS, source.records), timed(source.records)
    return {
        "methods": method_rows([r for r in source.records if r.labels.variant != "tuned"], metrics, on),
        "tuned": method_rows([r for r in source.records if r.labels.variant == "tuned"], metrics, on),
        "machines": on.sentence,
        "shared_data": shared_data(source.records),
        "metrics": metrics,
    }


SECTIONS = (
    Section(
        "fig1", "Fig. 1: distributions", ("paper-1d",),
        lambda records: {"fig1": distributions(records) + movies.particles(records, "fig1-")},
        missing="No finished flow at the published setting with its particles in the records: run the study paper-1d.",
    ),
    Section(
        "convergence", "Convergence", ("paper-1d",), lambda records: {"convergence": convergence(records)},
        heading="The 1D system: convergence",
        missing="No convergence curve in the records: run the study paper-1d.",
    ),
    Section(
        "fig2", "Fig. 2: noise", ("noise",), lambda records: {"fig2": costs(records)},
        heading="Fig. 2: cost against noise",
        missing="No run of the noise study in the records: run the study noise.",
    ),
    Section(
        "methods", "1D: methods", ("paper-1d",), lambda records: {"dto": against_components(records)}, _methods,
        template="oned.html", missing="No run of the study paper-1d in the records.",
    ),
)  # fmt: skip
