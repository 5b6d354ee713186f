"""What a finished figure shows, read back from its axes as the table from which redraw.py draws it again."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import pts_to_poststep
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch, StepPatch
from matplotlib.text import Text

from cryosip.records.read import Array

COLUMNS = (
    "artist", "kind", "label", "x", "y", "low", "high", "text", "color", "alpha", "linestyle", "linewidth", "marker",
    "area", "markersize", "markerfacecolor", "markeredgewidth", "capsize", "ha", "va", "fontsize", "rotation", "x_in",
    "y_in", "clip_on", "zorder",
)  # fmt: skip
EDGE = 1e-9  # of the length of an axis: a tick that rounding puts outside is drawn
NAMES = {"-": "solid", "--": "dashed", "-.": "dashdot", ":": "dotted"}  # no text begins like a formula

Artist = Any  # of matplotlib, whose own annotations are too wide for what its artists return
Cells = dict[str, Any]


def drawn(figure: Figure, ax: Axes) -> list[list[Any]]:
    """A header and one row for each point of a figure that was rendered; raises ValueError for what cannot be told."""
    rows = list(_axes(figure, ax))
    for number, artist in enumerate(_artists(ax), start=1):
        told = _told(artist, ax)
        rows += [{"artist": number, "kind": told[0]["kind"], **cells} for cells in told]
    return [list(COLUMNS), *([_cell(cells.get(name, "")) for name in COLUMNS] for cells in rows)]


def _cell(value: Any) -> Any:
    """A plain number, or text."""
    return float(value) if isinstance(value, float) else value if isinstance(value, int) else str(value)


def _axes(figure: Figure, ax: Axes) -> Iterator[Cells]:
    width, height = map(float, figure.get_size_inches())
    yield {"kind": "size", "x": width, "y": height}
    yield from ({"kind": "limits", "x": x, "y": y} for x, y in zip(ax.get_xlim(), ax.get_ylim(), strict=True))
    for kind in ("xlabel", "ylabel", "xscale", "yscale", "aspect"):
        yield {"kind": kind, "text": getattr(ax, f"get_{kind}")()}
    for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
        yield {"kind": f"{name} offset", "text": axis.get_offset_text().get_text()}
    yield from _ticks(ax) if ax.axison else [{"kind": "hidden axes"}]


def _ticks(ax: Axes) -> Iterator[Cells]:
    for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        low, high = low - EDGE * (high - low), high + EDGE * (high - low)
        labels: list[Artist] = axis.get_majorticklabels()
        for at, label in zip(axis.get_majorticklocs(), labels, strict=True):
            if low <= at <= high:
                turned = {"rotation": label.get_rotation(), "ha": label.get_ha()} if label.get_rotation() else {}
                yield {"kind": f"{name} tick", name: at, "text": label.get_text(), **turned}
        yield from ({"kind": f"{name} minor tick", name: at} for at in axis.get_minorticklocs() if low <= at <= high)


def _artists(ax: Axes) -> Iterator[Artist]:
    """What was drawn, in order; error bars as one."""
    bars = {bar[0]: bar for bar in ax.containers if isinstance(bar, ErrorbarContainer)}
    parts = {part for bar in bars.values() for part in bar.get_children()} - set(bars)
    own = {*ax.lines, *ax.collections, *ax.patches, *ax.images, *ax.texts, *ax.artists, *ax.tables} - parts
    return (bars.get(child, child) for child in ax.get_children() if child in own)


def _told(artist: Artist, ax: Axes) -> list[Cells]:
    """The points of an artist, with its style in the first row."""
    told = next((tell for kind, tell in KINDS if isinstance(artist, kind)), None)
    if told is None:
        raise ValueError(f"the figure has a {type(artist).__name__}; wanted lines, areas, points, images or text")
    rows = told(artist)
    shown = artist[0] if isinstance(artist, ErrorbarContainer) else artist
    label = str(artist.get_label() or "")
    alpha, frame = shown.get_alpha(), _frame(shown, ax)
    style = {"label": "" if label.startswith("_") else label, "zorder": float(shown.get_zorder())}
    style |= {} if alpha is None else {"alpha": alpha}
    style |= {} if shown.get_clip_on() else {"clip_on": "no"}
    return [style | frame | rows[0], *rows[1:]]


def _frame(artist: Artist, ax: Axes) -> Cells:
    """Which of x and y is a share of the axes."""
    transform = (
        artist.get_data_transform() if isinstance(artist, Patch)
        else artist.get_offset_transform() if isinstance(artist, PathCollection)
        else artist.get_transform()
    )  # fmt: skip
    in_data = transform.contains_branch_seperately(ax.transData)
    return {name: "axes" for name, inside in zip(("x_in", "y_in"), in_data, strict=True) if not inside}


def _rows(columns: dict[str, Iterable[Any]], **style: Any) -> list[Cells]:
    """One row for each point; an artist without points has a row too, for its place in the legend."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)] or [{}]
    return [style | rows[0], *rows[1:]]


def _line(line: Artist) -> list[Cells]:
    x, y = (np.asarray(values, float) for values in line.get_data(orig=False))
    every, face = line.get_markevery(), line.get_markerfacecolor()
    sign = "" if line.get_marker() in (None, "None") else str(line.get_marker())
    markers = np.full(len(x), "", object)
    markers[slice(None) if every is None else every] = sign
    if line.get_drawstyle() == "steps-post":
        corners = np.full(2 * len(x) - 1, "", object)
        corners[::2] = markers
        markers, (x, y) = corners, pts_to_poststep(x, y)
    return _rows(
        {"x": x, "y": y, "marker": markers},
        kind="line", marker=sign, color=to_hex(line.get_color()), linestyle=_dashes(line),
        linewidth=float(line.get_linewidth()), markersize=float(line.get_markersize()),
        markeredgewidth=float(line.get_markeredgewidth()),
        markerfacecolor="none" if str(face) == "none" else to_hex(face),
    )  # fmt: skip


def _dashes(line: Artist) -> str:
    """A name, or the lengths of dashes and gaps: `get_linestyle` calls every pattern "--"."""
    known = matplotlib.rcParams
    named = {
        tuple(known["lines.dashed_pattern"]): "dashed",
        tuple(known["lines.dotted_pattern"]): "dotted",
        tuple(known["lines.dashdot_pattern"]): "dashdot",
    }
    lengths = line._unscaled_dash_pattern[1]
    if lengths is None:
        return NAMES.get(line.get_linestyle(), "none")
    return named.get(tuple(lengths), " ".join(f"{length:g}" for length in lengths))


def _error_bars(bars: Artist) -> list[Cells]:
    """Upright ones."""
    line, caps, sticks = bars
    ends = [path.vertices for stick in sticks for path in stick.get_paths()]
    rows = _line(line)
    for row, ((_, low), (_, high)) in zip(rows, ends, strict=False):
        row |= {"kind": "error bars", "low": low, "high": high}
    capsize = {"capsize": caps[0].get_markersize() / 2} if caps else {}
    return [rows[0] | capsize | {"zorder": float(sticks[0].get_zorder()) if sticks else 2.0}, *rows[1:]]


def _points(points: Artist) -> list[Cells]:
    """Only points that differ in colour or area have one each."""
    areas, colors = points.get_sizes().astype(float), [to_hex(color) for color in points.get_facecolor()]
    x, y = np.ma.getdata(points.get_offsets()).T
    each = {"color": colors} if len(colors) > 1 else {}
    each |= {"area": areas} if len(areas) > 1 else {}
    return _rows(
        {"x": x, "y": y} | each, kind="points", area=areas[0], color=colors[0], marker=_marker(points.get_paths()[0]),
        linewidth=float(points.get_linewidth()[0]),
    )  # fmt: skip


def _marker(path: Artist) -> str:
    """The sign whose outline a path is."""
    for sign in MarkerStyle.filled_markers:
        style = MarkerStyle(sign)
        outline: Artist = style.get_path().transformed(style.get_transform()).vertices
        if outline.shape == path.vertices.shape and np.allclose(outline, path.vertices):
            return str(sign)
    raise ValueError("the figure has points of an unknown shape; wanted a filled marker")


def _steps(steps: Artist) -> list[Cells]:
    """`x` is the left edge of each step, and the last row the end of the last one."""
    values, edges, _ = steps.get_data()
    color = steps.get_facecolor() if steps.get_fill() else steps.get_edgecolor()
    return _rows(
        {"x": map(float, edges), "y": [*map(float, values), math.nan]},
        kind="filled steps" if steps.get_fill() else "steps", color=to_hex(color),
        linestyle=NAMES.get(steps.get_linestyle(), steps.get_linestyle()), linewidth=float(steps.get_linewidth()),
    )  # fmt: skip


def _band(band: Artist) -> list[Cells]:
    """What `fill_between` draws, `low` and `high` over `x`, with an empty row between its parts."""
    gap = np.full((1, 3), math.nan)
    parts = [part for path in band.get_paths() for part in (_sides(path.vertices), gap)][:-1] or [gap]
    columns = dict(zip(("x", "low", "high"), np.concatenate(parts).T, strict=True))
    color, linewidth = to_hex(band.get_facecolor()[0]), float(band.get_linewidth()[0])
    return _rows(columns, kind="band", color=color, linewidth=linewidth)


def _sides(corners: Array) -> Array:
    """(n, 3): x, low, high; the corners run from one end along the lower side to the other, and back."""
    n = (len(corners) - 3) // 2
    lower, upper = corners[1 : n + 1], corners[n + 2 : 2 * n + 2][::-1]
    if not np.array_equal(lower[:, 0], upper[:, 0]):
        raise ValueError("the figure has a polygon with other x below than above; wanted one of fill_between")
    return np.column_stack([lower, upper[:, 1]])


def _patch(patch: Artist) -> list[Cells]:
    """Corners."""
    x, y = patch.get_patch_transform().transform(patch.get_path().vertices).T
    color, linewidth = to_hex(patch.get_facecolor()), float(patch.get_linewidth())
    return _rows({"x": x, "y": y}, kind="area", color=color, linewidth=linewidth)


def _image(image: Artist) -> list[Cells]:
    """Each row is one of pixels; `color` is the name of the map of their shades."""
    shades = np.ma.filled(image.get_array(), math.nan)
    lines = [" ".join(f"{shade:.4g}" for shade in line) for line in shades]
    return _rows({"y": range(len(lines)), "text": lines}, kind="image", color=image.get_cmap().name)


def _words(text: Artist) -> list[Cells]:
    x, y = map(float, text.get_position())
    return _rows(
        {"x": [x], "y": [y]}, kind="text", text=text.get_text(), color=to_hex(text.get_color()), ha=text.get_ha(),
        va=text.get_va(), fontsize=float(text.get_fontsize()), rotation=float(text.get_rotation()),
    )  # fmt: skip


KINDS: tuple[tuple[type, Any], ...] = (
    (ErrorbarContainer, _error_bars), (Line2D, _line), (PathCollection, _points), (PolyCollection, _band),
    (StepPatch, _steps), (Patch, _patch), (AxesImage, _image), (Text, _words),
)  # fmt: skip
