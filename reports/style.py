"""The style of the figures: one colour and marker for each method across the page, the same files every time."""

import colorsys
import hashlib
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cryosip.records.schema import OPTIONS, Record

SIZE = (5.0, 3.8)  # inches: one panel, still readable on a telephone
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


class SeriesStyle(NamedTuple):
    """Label, colour (Okabe-Ito and Tol, distinct with any colour vision) and marker of one series."""

    label: str
    colour: str
    marker: str


STYLES = {
    "flow": SeriesStyle("flow", "#2a84c6", "o"),  # whatever its discrepancy
    "energy": SeriesStyle("energy flow", "#2a84c6", "o"),
    "kl": SeriesStyle("KL flow", "#e07b00", "s"),
    "mmd": SeriesStyle("MMD flow", "#56b4e9", "v"),
    "composite": SeriesStyle("composite flow", "#b8860b", "P"),
    "data-kl": SeriesStyle("data-KL flow", "#5f6b1f", "p"),
    "invariant-energy": SeriesStyle("invariant-energy flow", "#7b3fa0", "h"),
    "posterior-npmle": SeriesStyle("posterior-npmle", "#d1495b", "d"),
    "mixture": SeriesStyle("mixture", "#009e73", "^"),
    "reweighting": SeriesStyle("reweighting", "#c2649a", "D"),
    "weighted-flow": SeriesStyle("weighted-flow", "#0b3c6f", "X"),
    "pushforward": SeriesStyle("pushforward", "#b5542d", "<"),
    "sliced-energy": SeriesStyle("sliced-energy flow", "#3d9bb8", ">"),
    "maximum-likelihood": SeriesStyle("maximum-likelihood", "#8c564b", "*"),
    "class3d": SeriesStyle("class3d", "#117733", "^"),
    "variability": SeriesStyle("variability", "#882255", "o"),
    "covariance": SeriesStyle("covariance", "#6699cc", "s"),
    "spectral-volumes": SeriesStyle("spectral-volumes", "#aa7733", "D"),
    "autoencoder": SeriesStyle("autoencoder", "#cc3311", "v"),
    "objective-likelihood": SeriesStyle("likelihood (3.4)", "#aa4499", "s"),
    "objective-energy": SeriesStyle("energy distance (2.9)", "#4477aa", "o"),
    "case-1": SeriesStyle("first case", "#332288", "o"),
    "case-2": SeriesStyle("second case", "#997700", "s"),
    "case-3": SeriesStyle("third case", "#228833", "^"),
    "method-1": SeriesStyle("Method 1", "#44aa99", "o"),
    "method-2": SeriesStyle("Method 2", "#cc6677", "s"),
    "method-3": SeriesStyle("Method 3", "#8f7fd1", "^"),
    "closed-form": SeriesStyle("noise integrated out", "#999933", "D"),
}
MANY = 2_000  # from here on only powers of ten have room


def newcomer(label: str) -> SeriesStyle:
    """The style of a method that this report does not know: a colour of middle lightness that its name decides."""
    hue, lightness = (byte / 255 for byte in hashlib.sha256(label.encode()).digest()[:2])
    return SeriesStyle(label, to_hex(colorsys.hls_to_rgb(hue, 0.42 + 0.12 * lightness, 0.5)), "X")


def method_style(record: Record) -> SeriesStyle:
    """The fixed style of a method, whatever it minimises, under the name that users type."""
    return named_style(method_name(record))


def method_name(record: Record) -> str:
    """The method under the name that users type, with the options that they set: then it is a method of its own."""
    options = record.labels.value if record.labels.axis == OPTIONS else ""
    return f"{record.method} ({options})" if options else record.method


def without_options(name: str) -> str:
    """The method of a `method_name`; no method has a space in its own."""
    return name.partition(" ")[0]


def named_style(name: str) -> SeriesStyle:
    """The fixed style of a method by its `method_name`."""
    method = without_options(name)
    return (STYLES.get(method) or newcomer(method))._replace(label=name)


def series_style(record: Record) -> SeriesStyle:
    """The fixed style of a record's method; that of a flow is of the discrepancy that it minimises."""
    name = (record.method == "flow" and record.discrepancy) or record.method
    return STYLES.get(name) or newcomer(name)._replace(label=f"{record.method} {record.discrepancy}".strip())


def switches(records: Iterable[Record]) -> list[tuple[str, str]]:
    """What a page can switch on and off: the colour of a method, which no other series has, and its labels."""
    known = [style for name, style in STYLES.items() if not name.startswith(("case-", "objective-"))]
    labels: dict[str, dict[str, None]] = {}
    for style in [*known, *map(series_style, records)]:
        labels.setdefault(style.colour, {})[style.label] = None
    return [(colour, ", ".join(own)) for colour, own in labels.items()]


class Drawing(NamedTuple):
    """A figure for the page and on paper."""

    svg: str
    pdf: bytes


class Plot(NamedTuple):
    """A drawn figure, the table behind it, where it moves an animated SVG, and where it is a molecule a PDB file."""

    name: str
    title: str
    caption: str
    drawing: Drawing
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    movie: str = ""
    pdb: str = ""

    @property
    def svg(self) -> str:
        """The figure for the page."""
        return self.drawing.svg


def draw(name: str, paint: Callable[[Axes], None], size: tuple[float, float] = SIZE) -> Drawing:
    """One panel in all its forms, the same bytes for the same records: no dates, no random ids."""
    with styled():
        figure, _ = painted(paint, size)
        svg = inline(name, figure)
        figure.set_layout_engine("none")  # it is laid out
        figure.patch.set_facecolor("white")
        pdf = io.BytesIO()
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
    return Drawing(svg, pdf.getvalue())


def styled() -> AbstractContextManager[None]:
    """The settings with which figures are painted and saved."""
    return matplotlib.rc_context(SETTINGS | {"svg.hashsalt": "cryosip", "svg.fonttype": "none"})


def painted(paint: Callable[[Axes], None], size: tuple[float, float]) -> tuple[Figure, Axes]:
    """One panel with its legend above it."""
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.add_subplot()
    paint(ax)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
    return figure, ax


def inline(name: str, figure: Figure) -> str:
    """SVG for a page: no metadata, ids that begin with the name, and ink in the colour of the surrounding text, so that
    axes read on light and on dark."""
    buffer = io.StringIO()
    figure.set_dpi(200)  # of images in it
    for patch in (figure.patch, *(ax.patch for ax in figure.axes)):
        patch.set_facecolor("none")
    FigureCanvasSVG(figure).print_svg(buffer)  # savefig would draw everything twice, once only to lay it out
    svg = buffer.getvalue()
    clouds = [cloud for ax in figure.axes for cloud in ax.collections if cloud.get_rasterized()]
    # a picture does not say whose points it shows
    rasters = {to_hex(color) for cloud in clouds for color in np.asarray(cloud.get_facecolor())}
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("<image ", f'<image style="color: {rasters.pop()}" ') if len(rasters) == 1 else svg
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"|(<svg [^>]*?)height="[^"]*"', r"\1\2", svg, count=1)
    return svg.replace(INK, "currentColor")


def log_axes(ax: Axes, names: str) -> None:
    """Make the axes named in "x", "y" or "xy" logarithmic with plain numbers at 1, 2 and 5, or at powers of ten where
    there are many; to be called when all is drawn."""
    for name in names:
        axis = ax.xaxis if name == "x" else ax.yaxis
        if not math.isfinite(axis.get_minpos()):  # nothing is drawn
            ax.set(**{f"{name}lim": (0.1, 1.0)})
        ax.set(**{f"{name}scale": "log"})
        low, high = ax.get_xlim() if name == "x" else ax.get_ylim()
        few = high < low * MANY
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=8))
        axis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
        axis.set_minor_locator(NullLocator())


def _short(x: float) -> str:
    """k and M for thousands and millions."""
    unit, letter = next(((u, s) for u, s in ((1e6, "M"), (1e3, "k")) if x >= u), (1.0, ""))
    return f"{x / unit:g}{letter}"


def standalone(svg: str) -> str:
    """The same figure as a file of its own: dark ink on a light card."""
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return head + svg.replace("<svg ", f'<svg style="color:{INK};background:#ffffff" ', 1)
