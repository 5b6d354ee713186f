"""Redraws a figure from its numbers alone: python redraw.py NAME.drawn.csv OUT.svg (or OUT.pdf, OUT.png).

Rows with one number in `artist` are drawn together, in the style of the first; rows without say how the axes look.
"""

import csv
import sys
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

INK = "#1f2328"
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
SETTINGS: Any = {
    "font.size": 10,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "legend.fontsize": 9,
    "axes.grid": True,
    "grid.alpha": 0.12,
    **dict.fromkeys(("text.parse_math", "legend.frameon", "axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(INKED, INK),
}
WORDS = ("label", "color", "markerfacecolor", "marker", "ha", "va")  # columns that matplotlib takes as they are
NUMBERS = ("alpha", "linewidth", "markersize", "markeredgewidth", "capsize", "fontsize", "rotation", "zorder")


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    """The numbers of a column, nan where it is empty."""
    return np.array([float(row[name] or "nan") for row in rows])


def style(ax: Any, row: dict[str, str]) -> dict[str, Any]:
    """The keyword arguments of an artist."""
    given: dict[str, Any] = {name: row[name] for name in WORDS if row[name]}
    given |= {name: float(row[name]) for name in NUMBERS if row[name]}
    if row["linestyle"]:  # a name, or the lengths of dashes and gaps
        lengths = row["linestyle"].split()
        given["linestyle"] = (0, [float(length) for length in lengths]) if lengths[1:] else lengths[0]
    if "axes" in (row["x_in"], row["y_in"]):  # a share of the width or of the height of the axes
        given["transform"] = ax.get_yaxis_transform() if row["x_in"] == "axes" else ax.get_xaxis_transform()
    return given | ({"clip_on": False} if row["clip_on"] == "no" else {})


def add(ax: Any, rows: list[dict[str, str]]) -> None:
    """Draw one artist."""
    kind, x, y, how = rows[0]["kind"], column(rows, "x"), column(rows, "y"), style(ax, rows[0])
    if kind == "line":
        marked = [at for at, row in enumerate(rows) if row["marker"]]
        ax.plot(x, y, **how | {"marker": rows[marked[0]]["marker"] if marked else None, "markevery": marked})
    elif kind == "error bars":
        ax.errorbar(x, y, [y - column(rows, "low"), column(rows, "high") - y], **how)
    elif kind == "points":
        colors, areas = [row["color"] for row in rows], column(rows, "area")  # of each point, or of all
        ax.scatter(x, y, areas if rows[-1]["area"] else areas[0], **how | ({"color": colors} if colors[-1] else {}))
    elif kind in ("steps", "filled steps"):
        ax.stairs(y[:-1], x, fill=kind == "filled steps", **how)
    elif kind == "band":
        ax.fill_between(x, column(rows, "low"), column(rows, "high"), **how)
    elif kind == "area":
        ax.fill(x, y, **how)
    elif kind == "image":  # each row is one of pixels, in the colours of a map
        ax.imshow([[float(shade) for shade in row["text"].split()] for row in rows], how["color"], origin="lower")
    else:
        ax.text(x[0], y[0], rows[0]["text"], **how)


def redraw(rows: list[dict[str, str]]) -> Figure:
    """The figure of a table, to be made and saved with SETTINGS."""
    rows = [{name: cell.removeprefix("'") for name, cell in row.items()} for row in rows]  # '-a in the file is -a
    parts: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        parts.setdefault((row["artist"], row["kind"]), []).append(row)
    axes = {kind: parts.pop((artist, kind)) for artist, kind in list(parts) if not artist}
    figure = Figure(figsize=(float(axes["size"][0]["x"]), float(axes["size"][0]["y"])), layout="constrained")
    ax: Any = figure.add_subplot()
    for own in parts.values():
        add(ax, own)
    ax.set(**{name: axes[name][0]["text"] for name in ("xlabel", "ylabel", "xscale", "yscale")})
    for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
        major, minor = axes.get(f"{name} tick", []), axes.get(f"{name} minor tick", [])
        axis.set_ticks(column(minor, name), minor=True)
        axis.set_ticks(column(major, name), [row["text"] for row in major], **(style(ax, major[0]) if major else {}))
        if major:  # such as 1e-6, by which all labels are to be multiplied
            axis.get_major_formatter().set_offset_string(axes[f"{name} offset"][0]["text"])
    ax.set(xlim=column(axes["limits"], "x"), ylim=column(axes["limits"], "y"), aspect=axes["aspect"][0]["text"])
    ax.axison = "hidden axes" not in axes
    if any(row["label"] for row in rows):
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {sys.argv[0]} NAME.drawn.csv OUT.svg")
    with open(sys.argv[1], encoding="utf-8", newline="") as stream, matplotlib.rc_context(SETTINGS):
        redraw(list(csv.DictReader(stream))).savefig(sys.argv[2], dpi=200)
