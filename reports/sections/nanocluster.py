"""The studies paper-nanocluster and tau of §4.2: Figs. 3 and 4, the interpretations of the distances, and tau."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.machines import timed
from cryosip.records.schema import Array, Record
from cryosip.records.select import observations
from cryosip.reports.controls import START_LABEL, TRUTH_SAMPLE
from cryosip.reports.curves import against_components, convergence
from cryosip.reports.drawing import GREY, Cloud, of_first_replicate, strip
from cryosip.reports.section import Context, Figures, Section, Source, of_study
from cryosip.reports.sections.published_numbers import NANOCLUSTER_D2, NANOCLUSTER_IMAGES
from cryosip.reports.spreads import Spread, data_floor, grouped, spread
from cryosip.reports.style import INK, Plot, SeriesStyle, draw, log_axes, series_style
from cryosip.reports.tables import method_rows, shared_data, with_newcomers

COLOURS = ("#2a84c6", "#e07b00", "#009e73", "#c2649a")
POINTS = 1_000  # of a cloud, evenly taken where there are more
FITS = 0.1  # of the published number
METRICS = ("w1", "w2", "energy_distance_squared", "w2_to_data")
KINDS = {
    "noisy": "noisy images against the observations",
    "clean": "images without noise against those behind the observations",
    "mixed": "images without noise against the observations",
}
STATISTICS = {"v": "with the diagonal", "u": "without the diagonal"}
SCALES: dict[str, Callable[[float], float]] = {
    "D²": lambda x: x,
    "D, the root": lambda x: math.sqrt(x) if x >= 0 else math.nan,
    "D² / 2": lambda x: x / 2,
}


def examples(records: Sequence[Record]) -> list[Plot]:
    """Fig. 3: the same few images without (a) and with noise (b)."""
    kept = [r for r in records if {"image_clean", "image_noisy"} <= set(r.arrays)]
    if not kept:
        return []
    arrays = min(kept, key=lambda r: (r.study != "paper-nanocluster", r.replicate)).arrays
    size = math.isqrt(arrays["image_clean"].shape[1])
    if size**2 != arrays["image_clean"].shape[1]:
        return []
    caption = f"Images of {size} × {size} pixels, each strip in one grey scale; width θ₁, height θ₂."
    return [
        strip(name, title, caption, arrays[array].reshape(-1, size, size))
        for name, title, array in (
            ("fig3a", "Fig. 3a: images of the parameters", "image_clean"),
            ("fig3b", "Fig. 3b: the observations made of them", "image_noisy"),
        )
    ]


def clouds(records: Sequence[Record]) -> list[Plot]:
    """Fig. 4: the initial distribution, the estimates of the first replicate, and the truth, in the plane."""
    kept = of_first_replicate(records, {"theta", "weights", "theta_init", "theta_true"})
    kept = [r for r in kept if r.arrays["theta"].shape[1] == 2]
    if not kept:
        return []
    kept.sort(
        key=lambda r: (r.method != "flow", r.labels.variant != "published", r.method, _components(r), r.labels.text)
    )
    clouds = [Cloud(_reference("initial distribution (a sample of its own)"), kept[0].arrays["theta_init"])]
    for r in kept:
        style = series_style(r)
        style = style._replace(label=f"{style.label}, {r.labels.text}")
        clouds.append(Cloud(style, r.arrays["theta"], r.arrays.get("weights")))
    clouds.append(Cloud(_reference("truth"), kept[0].arrays["theta_true"]))
    low, high = (np.quantile(kept[0].arrays["theta_true"], q, axis=0) for q in (0.001, 0.999))
    return [_plane(f"fig4-{index}", cloud, (low - 0.7, high + 0.7)) for index, cloud in enumerate(clouds)]


def _order(record: Record) -> tuple[Any, ...]:
    published = record.labels.variant == "published"
    return record.method != "flow", not published, record.method, _components(record), record.labels.text


def _components(record: Record) -> float:
    asked = record.config_number("method.options.n_components")
    return asked if math.isfinite(asked) else 0.0


def _reference(label: str) -> SeriesStyle:
    return SeriesStyle(label, GREY, "")


def _plane(name: str, cloud: Cloud, box: tuple[Array, Array]) -> Plot:
    """A raster picture: a thousand marks as vectors would weigh half a megabyte."""
    points, n = cloud.points, len(cloud.points)
    mass = np.full(n, 1 / n) if cloud.weights is None else cloud.weights / cloud.weights.sum()
    even = np.unique(np.linspace(0, n - 1, min(n, POINTS)).astype(int))
    chosen = even if np.ptp(mass) == 0 else np.argsort(-mass)[:POINTS]
    shown, share = points[chosen], mass[chosen]
    outside = float(mass[((points < box[0]) | (points > box[1])).any(1)].sum())

    def paint(ax: Axes) -> None:
        areas = np.clip(6_000 * share / share.sum(), 0.5, 150)
        ax.scatter(shown[:, 0], shown[:, 1], areas, color=cloud.style.colour, alpha=0.5, linewidths=0, rasterized=True)
        (left, bottom), (right, top) = box
        ax.set(xlim=(left, right), ylim=(bottom, top), xlabel="width θ₁", ylabel="height θ₂", aspect=1)

    if np.ptp(mass) == 0:
        which = f"{len(shown):,} of {n:,} equally weighted points"
    else:
        which = f"The {len(shown):,} heaviest of {n:,} points, {share.sum():.1%} of the mass, area in proportion to it"
    caption = f"{which}; {outside:.1%} of the mass lies outside the frame."
    rows = np.column_stack([shown, share]).tolist()
    svg = draw(name, paint, (3.4, 3.4))
    return Plot(name, f"Fig. 4: {cloud.style.label}", caption, svg, ["theta_1", "theta_2", "weight"], rows)


class Interpretation(NamedTuple):
    """One way to read the published pair of distances between images, and what it gives."""

    images: str
    statistic: str
    scale: str
    initial: Spread
    estimated: Spread
    fits: str


def interpretations(records: Sequence[Record]) -> list[Interpretation]:
    """Every interpretation of the image distances of the published setting, and which of the two numbers it fits."""
    kept = [r for r in records if (r.method, r.labels.variant, r.status) == ("flow", "published", "ok")]
    rows = []
    for kind, statistic, scale in itertools.product(KINDS, STATISTICS, SCALES):
        metric, of = f"images_{kind}_{statistic}", SCALES[scale]
        if any(metric in r.metrics for r in kept):
            ends = ([r.initial_metrics for r in kept], [r.metrics for r in kept])
            initial, estimated = (spread([of(m.get(metric, math.nan)) for m in end]) for end in ends)
            fits = _fits(initial, estimated)
            rows.append(Interpretation(KINDS[kind], STATISTICS[statistic], scale, initial, estimated, fits))
    return rows


def _fits(initial: Spread, estimated: Spread) -> str:
    near = [
        word
        for word, ours, printed in zip(("initial", "final"), (initial, estimated), NANOCLUSTER_IMAGES, strict=True)
        if abs(ours.median / float(printed) - 1) <= FITS
    ]
    return " and ".join(near) or "neither"


def against_tau(records: Sequence[Record]) -> list[Plot]:
    """The published flow for every tau: its distances of parameters, and of images in the interpretations of §4.2."""
    kept = [r for r in records if (r.method, r.status) == ("flow", "ok") and math.isfinite(_tau(r))]
    kept = [r for r in kept if r.study == "tau" or r.labels.variant == "published"]
    if len({_tau(r) for r in kept}) < 2:
        return []
    kept.sort(key=lambda r: (_tau(r), r.replicate))
    return [_tau_parameters(kept), _tau_images(kept)]


def _tau(record: Record) -> float:
    return record.config_number("problem.options.tau")


def _tau_parameters(records: Sequence[Record]) -> Plot:
    named = {"energy_distance_squared": ("D²", "o"), "w1": ("W1", "s"), "w2": ("W2", "^")}
    rows = [[_tau(r), r.replicate, *(r.metrics.get(metric, math.nan) for metric in named)] for r in records]

    def paint(ax: Axes) -> None:
        for column, (metric, (label, marker)) in enumerate(named.items(), start=2):
            at, values = zip(*((row[0], row[column]) for row in rows), strict=True)
            (drawn,) = ax.plot(at, values, marker, markersize=5, alpha=0.8, label=label)
            start = spread([r.initial_metrics.get(metric, math.nan) for r in records]).median
            for bound, line in ((data_floor(records, metric), ":"), (start, "-.")):
                ax.axhline(bound, color=drawn.get_color(), linestyle=line, linewidth=1, alpha=0.7)
        printed = NANOCLUSTER_D2[1]
        ax.axhline(float(printed), color=INK, linestyle="--", linewidth=1, label=f"paper's D², {printed}")
        log_axes(ax, "xy")
        ax.set(xlabel="width of an atom τ", ylabel="distance of parameters")

    caption = (
        "Each marker: one replicate of the published flow after its last step, against the distribution of the truth. "
        f"Lines in the colour of each distance: dotted {TRUTH_SAMPLE} (floor), dash-dotted {START_LABEL}."
    )
    return Plot("tau-parameters", "Distance of parameters against τ", caption, draw("tau-parameters", paint),
                ["tau", "replicate", *named], rows)  # fmt: skip


def _tau_images(records: Sequence[Record]) -> Plot:
    medians: dict[str, list[list[float]]] = {}
    for kind, statistic in itertools.product(("noisy", "clean"), "uv"):
        metric, rows = f"images_{kind}_{statistic}", medians.setdefault(f"{kind}, {STATISTICS[statistic]}", [])
        for tau, own in grouped(records, _tau).items():
            ends = ([r.initial_metrics for r in own], [r.metrics for r in own])
            rows.append([tau, *(spread([m.get(metric, math.nan) for m in end]).median for end in ends)])

    def paint(ax: Axes) -> None:
        for (label, rows), colour in zip(medians.items(), COLOURS, strict=True):
            at, *ends = np.array(rows).T
            for y, line in zip(ends, ("-", ":"), strict=True):
                ax.plot(at, np.where(y > 0, y, math.nan), line, color=colour, marker="o", markersize=4,
                        label=label if line == "-" else None)  # fmt: skip
        for printed, line in zip(NANOCLUSTER_IMAGES, ("-", ":"), strict=True):
            ax.axhline(float(printed), color=INK, linestyle=line, linewidth=1)
            how: Any = {"transform": ax.get_yaxis_transform(), "ha": "right", "fontsize": 9}
            ax.text(0.99, float(printed) * 1.05, f"paper {printed}", **how)
        log_axes(ax, "xy")
        ax.set(xlabel="width of an atom τ", ylabel="D² of images")

    caption = (
        "Medians over replicates. Solid: the initial distribution, to be compared with the solid line of the paper; "
        "dotted: the estimate, with the dotted one. Values that are not positive are not drawn."
    )
    return Plot("tau-images", "Distance of images against τ, as D²", caption, draw("tau-images", paint),
                ["interpretation", "tau", "initial", "estimated"],
                [[label, *row] for label, own in medians.items() for row in own])  # fmt: skip


def _of_one_size(records: Sequence[Record]) -> list[Record]:
    """Those of the study tau, and what ran on as many observations."""
    sizes = {observations(record) for record in records if record.study == "tau"}
    return [record for record in records if observations(record) in sizes]


def _figures(records: list[Record]) -> Figures:
    in_plane = of_study(records, "paper-nanocluster")
    return {
        "fig3": examples(in_plane),
        "fig4": clouds(in_plane),
        "convergence": convergence(in_plane, "nanocluster-"),
        "dto": against_components(in_plane, "nanocluster-"),
        "tau": against_tau(_of_one_size(of_study(records, "tau") + in_plane)),
    }


def _tables(source: Source) -> Context:
    in_plane = of_study(source.records, "paper-nanocluster")
    if not in_plane and not source.figures["tau"]:
        return {}
    metrics = with_newcomers(METRICS, in_plane)
    return {
        "methods": method_rows(in_plane, metrics),
        "machines": timed(in_plane).sentence,
        "metrics": metrics,
        "shared_data": shared_data(in_plane),
        "interpretations": interpretations(in_plane),
        "printed_images": NANOCLUSTER_IMAGES,
    }


SECTION = Section(
    "nanocluster", "Figs. 3, 4: nanocluster", ("paper-nanocluster", "tau"), _figures, _tables,
    template="nanocluster.html", missing="No images in the records: run the study paper-nanocluster.",
)  # fmt: skip
