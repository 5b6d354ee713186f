"""The figures of the 1D study: Fig. 1, Fig. 2, convergence, OTD against DTO."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.read import Array, Floor, Record
from cryosip.reports.sections.paper import typical_floor
from cryosip.reports.spreads import cost_below, spread
from cryosip.reports.style import INK, Look, Plot, draw, log_axes, look

BINS = 60
UNITS = {"step": "step", "seconds": "seconds (without compilation)"}
THRESHOLDS = (("w2", 0.2, ""), ("w1", 0.2, "-w1"))


def flows(records: Iterable[Record], setting: str) -> list[Record]:
    """The flows of one setting that ended well, energy first, then KL, then the others."""
    kept = [r for r in records if r.method == "flow" and r.setting == setting and r.status == "ok"]
    return sorted(kept, key=lambda r: (r.discrepancy not in ("energy", "kl"), r.discrepancy, r.replicate))


def distributions(records: Sequence[Record]) -> list[Plot]:
    """Fig. 1: parameters (a) and data (b), the initial, estimated and true law, of the first replicate."""
    kept = [r for r in flows(records, "published") if "theta" in r.arrays and r.arrays["theta"].shape[1] == 1]
    if not kept:
        return []
    first = min(record.replicate for record in kept)
    kept = [record for record in kept if record.replicate == first]
    return [
        plot
        for plot in (
            _histograms(kept, "fig1a", "Fig. 1a: parameters θ", "theta", "theta_init", "theta_true", "truth"),
            _histograms(kept, "fig1b", "Fig. 1b: data y", "y_estimated", "y_init", "y_observed", "observed"),
        )
        if plot
    ]


def _histograms(
    records: Sequence[Record], name: str, title: str, estimated: str, initial: str, true: str, true_label: str
) -> Plot | None:
    arrays = records[0].arrays
    clouds: list[tuple[Look, str, Array, Array | None]] = []
    if true in arrays:
        clouds.append((Look(true_label, INK, ""), "-", arrays[true][:, 0], None))
    if initial in arrays:
        clouds.append((Look("initial", "#888888", ""), ":", arrays[initial][:, 0], None))
    for record in records:
        if estimated in record.arrays:
            weights = record.arrays.get("weights") if estimated == "theta" else None
            clouds.append((look(record), "-", record.arrays[estimated][:, 0], weights))
    clouds = [cloud for cloud in clouds if np.isfinite(cloud[2]).all() and cloud[2].size]
    if not clouds:
        return None
    low = min(np.quantile(points, 0.0005) for _, _, points, _ in clouds)
    high = max(np.quantile(points, 0.9995) for _, _, points, _ in clouds)
    edges = np.linspace(low, high, BINS + 1) if high > low else np.linspace(low - 0.5, low + 0.5, BINS + 1)
    densities = [density(points, weights, edges) for _, _, points, weights in clouds]

    def paint(ax: Axes) -> None:
        for (series, line, _, _), heights in zip(clouds, densities, strict=True):
            outline(ax, series, line, heights, edges)
        ax.set_xlabel("θ" if estimated == "theta" else "y")
        ax.set_ylabel("density")

    centres = (edges[1:] + edges[:-1]) / 2
    caption = (
        f"Weighted histograms with {BINS} equal bins over the central 99.9 % of the points, each of total mass 1 "
        f"(points outside count in the mass); replicate {records[0].replicate}, setting “published”."
    )
    columns = ["centre", *(series.label for series, _, _, _ in clouds)]
    return Plot(name, title, caption, draw(name, paint), columns, np.column_stack([centres, *densities]).tolist())


def outline(ax: Axes, series: Look, line: str, heights: Array, edges: Array) -> None:
    """One histogram; what is drawn in ink, the truth, is filled."""
    if series.colour == INK:
        ax.stairs(heights, edges, fill=True, color=INK, alpha=0.16)
    ax.stairs(heights, edges, color=series.colour, linestyle=line, linewidth=1.6, label=series.label)


def density(points: Array, weights: Array | None, edges: Array) -> Array:
    """The weighted histogram of total mass 1; what lies outside of the edges counts in the mass."""
    mass = np.full(points.size, 1 / points.size) if weights is None else weights / weights.sum()
    return np.histogram(points, edges, weights=mass)[0] / np.diff(edges)


def costs(records: Sequence[Record]) -> list[Plot]:
    """Fig. 2: steps (a) and seconds (b) to W < 0.2 against sigma, read as W2 and, since no order is given, as W1."""
    kept = [r for r in records if r.method == "flow" and r.setting != "tuned"]
    kept = [r for r in kept if math.isfinite(r.number("problem.options.noise_std"))]
    kept.sort(key=lambda r: r.discrepancy)
    if not kept:
        return []
    return [
        _cost(kept, f"fig2{letter}{suffix}", metric, threshold, unit)
        for metric, threshold, suffix in THRESHOLDS
        for letter, unit in (("a", "step"), ("b", "seconds"))
    ]


class Cost(NamedTuple):
    """The cost of one replicate to reach a threshold, inf where it never did."""

    method: str
    sigma: float
    replicate: int
    status: str
    cost: float


def _cost(records: Sequence[Record], name: str, metric: str, threshold: float, unit: str) -> Plot:
    costs = [
        Cost(look(r).label, r.number("problem.options.noise_std"), r.replicate, r.status,
             cost_below(r, metric, threshold, unit))
        for r in records
    ]  # fmt: skip
    costs = sorted(c for c in costs if not math.isnan(c.cost))
    finite = [c.cost for c in costs if 0 < c.cost < math.inf]
    low, high = (min(finite), max(finite)) if finite else (1.0, 10.0)
    budget = max((r.number("steps") for r in records if unit == "step"), default=math.nan)
    top = 1.7 * (max(high, budget) if math.isfinite(budget) else high)
    gap = min(np.diff(sorted({c.sigma for c in costs})), default=1.0)

    def paint(ax: Axes) -> None:
        looks = {look(record).label: look(record) for record in records}
        for index, series in enumerate(looks.values()):
            shift = (index - (len(looks) - 1) / 2) * 0.28 * gap
            _replicates(ax, series, [(c.sigma + shift, c.cost) for c in costs if c.method == series.label], gap, top)
        ax.axhline(top, color=INK, linestyle=(0, (4, 3)), linewidth=0.9, alpha=0.6)
        note = f"not reached in {budget:,.0f} steps" if math.isfinite(budget) else "not reached"
        ax.text(0.01, top * 1.08, note, transform=ax.get_yaxis_transform(), va="bottom", fontsize=9)
        log_axes(ax, "y")
        ax.set(ylim=(low / 1.5, top * (top / low) ** 0.12), xlabel="noise σ")
        ax.set_yticks([tick for tick in ax.get_yticks() if low / 1.5 <= tick < top])
        ax.set_ylabel(f"{'steps' if unit == 'step' else 'seconds'} to {metric.upper()} < {threshold:g}")

    words = "First evaluated step below the threshold."
    if unit == "seconds":
        words = "Compilation and the evaluation of metrics are not counted; the paper gives minutes."
    caption = (
        "Each marker is one replicate, hollow where the threshold was never reached; the line joins the medians. "
        + words
        + (
            ""
            if metric == "w2"
            else " The paper says W and gives no order: the same runs read as W1, the better conditioned."
        )
    )
    panel = f"Fig. 2{name[4]}" if metric == "w2" else f"Companion of Fig. 2{name[4]}"
    title = f"{panel}: {'steps' if unit == 'step' else 'seconds'} to {metric.upper()} < {threshold:g}"
    return Plot(name, title, caption, draw(name, paint), [*Cost._fields[:-1], unit], costs)


def _replicates(ax: Axes, series: Look, points: Sequence[tuple[float, float]], gap: float, top: float) -> None:
    """Replicates as markers side by side, hollow at the top edge where infinite, and a line through the medians."""
    by_x: dict[float, list[float]] = {}
    for x, y in points:
        by_x.setdefault(x, []).append(y)
    for x, values in by_x.items():
        for index, y in enumerate(values):
            at = x + (index - (len(values) - 1) / 2) * 0.06 * gap
            face = series.colour if math.isfinite(y) else "none"
            ax.plot([at], [min(y, top)], linestyle="", marker=series.marker, color=series.colour, markerfacecolor=face,
                    markersize=5)  # fmt: skip
    medians = [min(spread(values).median, top) for values in by_x.values()]
    ax.plot(list(by_x), medians, color=series.colour, linewidth=1.6)
    ax.plot([], [], color=series.colour, marker=series.marker, markersize=5, linewidth=1.6, label=series.label)


def convergence(records: Sequence[Record], prefix: str = "") -> list[Plot]:
    """W2 and W1 against step and seconds for the flows, published and tuned, and for reweighting."""
    kept = flows(records, "published") + flows(records, "tuned")
    kept += [r for r in records if r.method == "reweighting" and r.status == "ok"]
    return [
        plot
        for metric in ("w2", "w1")
        for unit in UNITS
        if (plot := _curves([r for r in kept if metric in r.curve and unit in r.curve], metric, unit, prefix))
    ]


def _curves(records: Sequence[Record], metric: str, unit: str, prefix: str) -> Plot | None:
    if not records:
        return None
    name = f"{prefix}curve-{metric}-{unit}"
    rows = [
        [look(r).label, r.setting, r.replicate, x, y]
        for r in records
        for x, y in zip(r.curve[unit], r.curve[metric], strict=True)
    ]

    def paint(ax: Axes) -> None:
        floor_band(ax, [r.floors[metric] for r in records if metric in r.floors and r.method == "flow"])
        seen: set[str] = set()
        for record in records:
            label = look(record).label + (", tuned" if record.setting == "tuned" else "")
            x, y = record.curve[unit], record.curve[metric]
            line = "--" if record.setting == "tuned" else "-"
            ax.plot(x[x > 0], y[x > 0], color=look(record).colour, linestyle=line, linewidth=1.1, alpha=0.8,
                    marker=look(record).marker if np.count_nonzero(x > 0) < 3 else None, markersize=4,
                    label=None if label in seen else label)  # fmt: skip
            seen.add(label)
        log_axes(ax, "xy")
        ax.set(xlabel=UNITS[unit], ylabel=metric.upper())

    caption = (
        "Flows and reweighting, one line for each replicate, from the first look after the start. Band: 5–95 % of an "
        "i.i.d. sample of the truth as large as the flow's."
    )
    title = f"{metric.upper()} against {'steps' if unit == 'step' else 'seconds'}"
    return Plot(name, title, caption, draw(name, paint), ["method", "setting", "replicate", unit, metric], rows)


def floor_band(ax: Axes, floors: Sequence[Floor]) -> None:
    """The floor of the metric: its median as a line and its 5-95 % as a band."""
    floor = typical_floor(floors)
    if floor:
        ax.axhspan(floor.q05, floor.q95, color=INK, alpha=0.10, linewidth=0)
        ax.axhline(floor.median, color=INK, alpha=0.5, linewidth=0.9, linestyle=":", label=f"floor, n = {floor.n:,}")


def initial_line(ax: Axes, records: Iterable[Record], metric: str) -> None:
    """The initial law's metric: the median over data sets."""
    initial = spread([record.initial_metrics.get(metric, math.nan) for record in records])
    if initial.n:
        ax.axhline(initial.median, color="#888888", linewidth=1.1, linestyle="-.", label="initial law")


def against_components(records: Sequence[Record], prefix: str = "") -> list[Plot]:
    """W2 and W1 of the mixture against its number of components, with the other methods as reference lines."""
    kept = [r for r in records if r.status == "ok"]
    mixtures = [r for r in kept if r.method == "mixture" and r.number("method.options.n_components") > 0]
    others = [r for r in kept if r.method != "mixture"]
    others.sort(key=lambda r: (r.method != "flow", r.discrepancy, r.setting))
    return [_components(mixtures, others, metric, prefix) for metric in ("w2", "w1") if mixtures]


def variant(record: Record) -> str:
    """What a mixture's setting says besides K: "annealed" of "annealed K=10"."""
    return re.sub(r"\bK\s*=\s*\d+", "", record.setting).strip(" ,;-")


def _components(mixtures: Sequence[Record], others: Sequence[Record], metric: str, prefix: str) -> Plot:
    name = f"{prefix}dto-{metric}"
    groups: dict[tuple[str, float], list[float]] = {}
    for record in mixtures:
        key = (variant(record), record.number("method.options.n_components"))
        groups.setdefault(key, []).append(record.metrics.get(metric, math.nan))
    points = [(label, k, spread(values)) for (label, k), values in sorted(groups.items())]
    lines: dict[tuple[str, str], list[Record]] = {}
    for record in others:
        lines.setdefault((look(record).label, record.setting), []).append(record)
    references = [(look(rs[0]), s, spread([r.metrics.get(metric, math.nan) for r in rs]))
                  for (_, s), rs in lines.items()]  # fmt: skip

    def paint(ax: Axes) -> None:
        floor_band(ax, [r.data_floors[metric] for r in mixtures if metric in r.data_floors])
        for series, setting, value in references:
            line = "--" if setting == "tuned" else "-"
            label = f"{series.label}, {setting}"
            ax.axhline(value.median, color=series.colour, linestyle=line, linewidth=1.3, label=label)
        mixture = look(mixtures[0])
        for index, label in enumerate(dict.fromkeys(label for label, _, _ in points)):
            own = [(k, s) for at, k, s in points if at == label and s.n]
            errors = np.array([[s.median - s.q05, s.q95 - s.median] for _, s in own]).T
            ax.errorbar([k for k, _ in own], [s.median for _, s in own], np.nan_to_num(errors) if own else None,
                        color=mixture.colour, marker=mixture.marker, markersize=5, linewidth=1.3, capsize=2.5,
                        linestyle=("-", "--", ":", "-.")[index % 4],
                        label=f"{mixture.label} {label}".strip())  # fmt: skip
        log_axes(ax, "xy")
        ax.set(xlabel="number of components K", ylabel=metric.upper())

    caption = (
        "Medians over replicates, bars 5–95 % (none below 3 replicates). Band: floor of an i.i.d. sample of the truth "
        "with one draw for each observation, since a mixture has fewer points than the data."
    )
    rows = [[f"mixture {label}".strip(), k, *s] for label, k, s in points]
    rows += [[f"{series.label}, {setting}", "", *s] for series, setting, s in references]
    return Plot(name, f"{metric.upper()} against K: mixture, with the flows and reweighting", caption,
                draw(name, paint), ["method", "K", "median", "q05", "q95", "replicates"], rows)  # fmt: skip
