"""Variances of the estimators (2.13)-(2.15), measured against the formulas of §2.5.3."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.read import Record
from cryosip.reports.style import INK, Plot, draw, log_axes, look

COLUMNS = ("scheme", "N", "K", "replicate", "variance", "q05", "q95", "formula", "measured / formula")


def variances(records: Sequence[Record]) -> list[Plot]:
    """Variance against K at the largest N, and measured / formula of every record."""
    kept = [r for r in records if {"variance", "variance_formula"} <= set(r.metrics) and _positive(r)]
    if not kept:
        return []
    kept = sorted(kept, key=lambda r: (r.method, _n(r), _k(r), r.replicate))
    largest = max(_n(record) for record in kept)
    return [_against_k([r for r in kept if _n(r) == largest], largest), _ratios(kept)]


def _n(record: Record) -> float:
    return record.number("method.options.n")


def _k(record: Record) -> float:
    return record.number("method.options.k")


def _positive(record: Record) -> bool:
    return min(record.metrics["variance"], record.metrics["variance_formula"]) > 0 and math.isfinite(_n(record))


def _row(record: Record) -> list[object]:
    m = record.metrics
    scheme, q05, q95 = look(record).label, m.get("variance_q05", math.nan), m.get("variance_q95", math.nan)
    return [scheme, _n(record), _k(record), record.replicate, m["variance"], q05, q95,
            m["variance_formula"], m["variance"] / m["variance_formula"]]  # fmt: skip


def _bars(record: Record, scale: float) -> np.ndarray:
    """Distances from the measured variance down to its q05 and up to its q95, divided by `scale`."""
    m = record.metrics
    value = m["variance"]
    down, up = value - m.get("variance_q05", value), m.get("variance_q95", value) - value
    return np.maximum([[down], [up]], 0.0) / scale


def _schemes(records: Sequence[Record]) -> dict[str, list[Record]]:
    return {name: [r for r in records if r.method == name] for name in dict.fromkeys(r.method for r in records)}


def _against_k(records: Sequence[Record], n: float) -> Plot:
    def paint(ax: Axes) -> None:
        for index, own in enumerate(_schemes(records).values()):
            series, shift = look(own[0]), 1.06 ** (index - 1)
            formula = {_k(r): r.metrics["variance_formula"] for r in own}
            ax.plot(list(formula), list(formula.values()), color=series.colour, linewidth=1.3)
            for at, r in enumerate(own):
                ax.errorbar([_k(r) * shift], [r.metrics["variance"]], _bars(r, 1.0), color=series.colour,
                            marker=series.marker, markersize=5, linestyle="", capsize=2.5,
                            label=None if at else series.label)  # fmt: skip
        log_axes(ax, "xy")
        ax.set(xlabel="samples of ω, K", ylabel="variance of the estimator")

    caption = (
        f"N = {n:g}. Lines: formulas of §2.5.3. Markers: measured, with 5–95 %; shifted sideways to be told apart."
    )
    return Plot("variance-k", "Variance of the estimators against K", caption, draw("variance-k", paint), COLUMNS,
                [_row(record) for record in records])  # fmt: skip


def _ratios(records: Sequence[Record]) -> Plot:
    cases = sorted({(_n(r), _k(r)) for r in records})
    replicates = sorted({r.replicate for r in records})
    apart = 0.13 / max(1, len(replicates) - 1)

    def paint(ax: Axes) -> None:
        for index, own in enumerate(_schemes(records).values()):
            series = look(own[0])
            for at, r in enumerate(own):
                x = cases.index((_n(r), _k(r))) + (index - 1) * 0.25
                x += apart * (replicates.index(r.replicate) - (len(replicates) - 1) / 2)
                formula = r.metrics["variance_formula"]
                ax.errorbar([x], [r.metrics["variance"] / formula], _bars(r, formula), color=series.colour,
                            marker=series.marker, markersize=5, linestyle="", capsize=2.5,
                            label=None if at else series.label)  # fmt: skip
        ax.axhline(1.0, color=INK, linewidth=0.9, alpha=0.6)
        ax.set_xticks(range(len(cases)), [f"{n:g}, {k:g}" for n, k in cases], rotation=60, ha="right")
        ax.set(xlabel="N, K", ylabel="measured / formula")

    caption = "1 where the formula of §2.5.3 holds; a marker for each replicate, bars are the 5–95 % of its variance."
    return Plot("variance-ratio", "Measured variance over its formula", caption, draw("variance-ratio", paint), COLUMNS,
                [_row(record) for record in records])  # fmt: skip
