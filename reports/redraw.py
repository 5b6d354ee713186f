"""Draws the numbers of a figure: python redraw.py NAME.csv X Y OUT.svg (or OUT.pdf, OUT.png).

X and Y are names of columns. Rows that agree in all their texts, and in their replicate, are one line. An axis is
logarithmic where all its numbers are positive and the largest is more than fifty times the least.
"""

import csv
import math
import sys

from matplotlib.figure import Figure

LOGARITHMIC = 50


def number(cell: str) -> float:
    """The number in a cell, nan where it is empty or text."""
    try:
        return float(cell)
    except ValueError:
        return math.nan


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(f"usage: python {sys.argv[0]} NAME.csv X Y OUT.svg")
    with open(sys.argv[1], encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    figure = Figure(layout="constrained")
    ax = figure.add_subplot(xlabel=sys.argv[2], ylabel=sys.argv[3])
    lines: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        words = [v for name, v in row.items() if name == "replicate" or (v and math.isnan(number(v)))]
        lines.setdefault(", ".join(words), []).append(tuple(number(row[name]) for name in sys.argv[2:4]))
    for label, points in lines.items():
        ax.plot(*zip(*sorted(points), strict=True), ".-", label=label)
    for i, scale in enumerate((ax.set_xscale, ax.set_yscale)):
        finite = [p[i] for points in lines.values() for p in points if math.isfinite(p[i])]
        scale("log" if min(finite, default=0) > 0 and max(finite) > LOGARITHMIC * min(finite) else "linear")
    ax.legend(fontsize="small")
    figure.savefig(sys.argv[4])
