"""How the figures look: one colour and marker for each method across the page, the same files every time."""

import io
import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cryosip.records.read import Record
from cryosip.reports.drawn import drawn
from cryosip.reports.redraw import INK, SETTINGS

SIZE = (5.0, 3.8)  # inches: one panel, still readable on a telephone


class Look(NamedTuple):
    """Label, colour (Okabe-Ito and Tol, told apart with any colour vision) and marker of one series."""

    label: str
    colour: str
    marker: str


LOOKS = {
    "flow": Look("flow", "#2a84c6", "o"),  # whatever its discrepancy
    "energy": Look("energy flow", "#2a84c6", "o"),
    "kl": Look("KL flow", "#e07b00", "s"),
    "mmd": Look("MMD flow", "#56b4e9", "v"),
    "composite": Look("composite flow", "#b8860b", "P"),
    "data-kl": Look("data-KL flow", "#5f6b1f", "p"),
    "invariant-energy": Look("invariant-energy flow", "#7b3fa0", "h"),
    "posterior-npmle": Look("posterior-npmle", "#d1495b", "d"),
    "mixture": Look("mixture", "#009e73", "^"),
    "reweighting": Look("reweighting", "#c2649a", "D"),
    "maximum-likelihood": Look("maximum-likelihood", "#8c564b", "*"),
    "objective-likelihood": Look("likelihood (3.4)", "#e07b00", "s"),
    "objective-energy": Look("energy distance (2.9)", "#2a84c6", "o"),
    "case-1": Look("first case", "#332288", "o"),
    "case-2": Look("second case", "#cc6677", "s"),
    "case-3": Look("third case", "#44aa99", "^"),
    "method-1": Look("Method 1", "#44aa99", "o"),
    "method-2": Look("Method 2", "#cc6677", "s"),
    "method-3": Look("Method 3", "#8f7fd1", "^"),
    "closed-form": Look("noise integrated out", "#999933", "D"),
}
MANY = 2_000  # from here on only powers of ten have room
UNKNOWN = Look("", "#888888", "X")


def method_look(record: Record) -> Look:
    """The fixed look of a method, whatever it minimises, under the name that users type."""
    return LOOKS.get(record.method, UNKNOWN)._replace(label=record.method)


def look(record: Record) -> Look:
    """The fixed look of a record's method: of its discrepancy where it minimises one."""
    name = record.discrepancy or record.method
    return LOOKS.get(name, UNKNOWN._replace(label=f"{record.method} {record.discrepancy}".strip()))


class Drawing(NamedTuple):
    """A figure for the page, on paper, and as the table from which redraw.py draws it again."""

    svg: str
    pdf: bytes
    table: list[list[Any]]


class Plot(NamedTuple):
    """A drawn figure, the table behind it, and where it moves an animated SVG."""

    name: str
    title: str
    caption: str
    drawing: Drawing
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    movie: str = ""

    @property
    def svg(self) -> str:
        """The figure for the page."""
        return self.drawing.svg


def draw(name: str, paint: Callable[[Axes], None], size: tuple[float, float] = SIZE) -> Drawing:
    """One panel in all its forms, the same bytes for the same records: no dates, no random ids."""
    with styled():
        figure, ax = painted(paint, size)
        svg = inline(name, figure)
        table = drawn(figure, ax)
        figure.set_layout_engine("none")  # it is laid out
        figure.patch.set_facecolor("white")
        pdf = io.BytesIO()
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
    return Drawing(svg, pdf.getvalue(), table)


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
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
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
