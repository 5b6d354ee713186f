"""Figures that move by themselves: SVG with SMIL, no script, the frames in between straight lines."""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave

from cryosip.records.schema import Array
from cryosip.reports.style import INK, inline, painted, styled

POINTS_PER_INCH = 72  # the unit of SVG
START, PACE, END = 0.8, 0.6, 2.0  # seconds before the first frame, from frame to frame, and after the last
EASED = "0.36 0 0.64 1"  # the curve of a swing: slow at its ends


class Track(NamedTuple):
    """A line or dots that move: (frames, points, 2) in the coordinates of the axes."""

    frames: Array
    color: str
    width: float  # of the line or of a dot, in points
    opacity: float = 1.0
    dots: bool = False


class Script(NamedTuple):
    """Which frame is shown when, over and over; `times` are shares of `seconds`, from 0 to 1."""

    order: Sequence[int]
    times: Sequence[float]
    seconds: float
    eased: bool = False


def once(frames: int) -> Script:
    """From the first frame to the last, with a rest before and after."""
    seconds = START + PACE * (frames - 1) + END
    inner = [(START + PACE * at) / seconds for at in range(frames)]
    return Script([0, *range(frames), frames - 1], [0.0, *inner, 1.0], seconds)


def swing(seconds: float = 4.0) -> Script:
    """From the first frame to the second and back, where straight lines between them are exact."""
    return Script([0, 1, 0], [0.0, 0.5, 1.0], seconds, eased=True)


def back_and_forth(frames: int, seconds: float = 5.0) -> Script:
    """From the first frame to the last and back."""
    order = [*range(frames), *range(frames - 2, -1, -1)]
    return Script(order, np.linspace(0, 1, len(order)).tolist(), seconds)


def moving(
    name: str, paint: Callable[[Axes], None], size: tuple[float, float], tracks: Sequence[Track], script: Script,
    labels: Sequence[str] = (),
) -> str:  # fmt: skip
    """A panel with tracks above it.

    Parameters
    ----------
    name
        That of the figure, with which all ids begin.
    paint
        Draws what stands still, and sets the limits.
    size
        Width and height in inches.
    tracks
        What moves.
    script
        Which frame is shown when.
    labels
        For each frame what stands at the upper right.

    Returns
    -------
    str
        An SVG that moves without a script.
    """
    svg, figure, ax = _still(name, paint, size)
    scale, height = POINTS_PER_INCH / figure.dpi, POINTS_PER_INCH * size[1]

    def placed(points: Array) -> Array:
        across = ax.transData.transform(points.reshape(-1, 2)).reshape(points.shape) * scale
        return np.stack([across[..., 0], height - across[..., 1]], -1)

    (left, bottom), (right, top) = ax.bbox.get_points() * scale
    window = (
        f'<clipPath id="{name}-window"><rect x="{left:.1f}" y="{height - top:.1f}" width="{right - left:.1f}" '
        f'height="{top - bottom:.1f}"/></clipPath>'
    )
    paths = "\n".join(_path(track._replace(frames=placed(track.frames)), script) for track in tracks)
    texts = "\n".join(_label(label, script, at, right, height - top - 4) for at, label in enumerate(labels))
    overlay = f'{window}\n<g clip-path="url(#{name}-window)" fill="none">\n{paths}\n</g>\n{texts}\n'
    return svg[: svg.rindex("</svg>")] + overlay.replace(INK, "currentColor") + "</svg>\n"


def flicker(
    name: str, paint: Callable[[Axes], None], size: tuple[float, float], pictures: Array, script: Script,
    labels: Sequence[str],
) -> str:  # fmt: skip
    """A panel with pictures above it, one at a time.

    Parameters
    ----------
    name, paint, size
        As in `moving`.
    pictures
        (frames, rows, columns) in grey from 0 to 1, nan where nothing is, the first row at the bottom; pixel (x, y) has
        its centre there in the coordinates of the axes.
    script
        Which picture is shown when.
    labels
        For each picture what stands below it, at the right.

    Returns
    -------
    str
        An SVG that moves without a script.
    """
    svg, figure, ax = _still(name, paint, size)
    scale, height = POINTS_PER_INCH / figure.dpi, POINTS_PER_INCH * size[1]
    rows, columns = pictures.shape[1:]
    corners = np.array([[-0.5, -0.5], [columns - 0.5, rows - 0.5]])
    (left, bottom), (right, top) = ax.transData.transform(corners) * scale
    place = f'x="{left:.1f}" y="{height - top:.1f}" width="{right - left:.1f}" height="{top - bottom:.1f}"'
    parts = []
    for frame, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        shown = _shown(script, frame)
        parts.append(
            f'<image {place} preserveAspectRatio="none" style="image-rendering: pixelated" opacity="{int(frame == 0)}" '
            f'href="data:image/png;base64,{_png(picture)}">{shown}</image>\n'
            f'<text x="{right:.1f}" y="{height - bottom + 14:.1f}" text-anchor="end" fill="currentColor" '
            f'opacity="{int(frame == 0)}" style="font: 10px \'DejaVu Sans\', sans-serif">{label}{shown}</text>'
        )
    return svg[: svg.rindex("</svg>")] + "\n".join(parts) + "\n</svg>\n"


def _still(name: str, paint: Callable[[Axes], None], size: tuple[float, float]) -> tuple[str, Figure, Axes]:
    """What does not move, laid out."""
    with styled():
        figure, ax = painted(paint, size)
        return inline(name, figure), figure, ax


def _shown(script: Script, frame: int) -> str:
    """At the times of the frame, and at no others."""
    times = ";".join(f"{time:.4g}" for time in script.times)
    values = ";".join(str(int(at == frame)) for at in script.order)
    return (
        f'<animate attributeName="opacity" dur="{script.seconds:g}s" repeatCount="indefinite" calcMode="discrete" '
        f'keyTimes="{times}" values="{values}"/>'
    )


def _png(picture: Array) -> str:
    """In grey, as text; what is nan is transparent."""
    grey = np.round(255 * np.nan_to_num(picture)).astype(np.uint8)
    pixels = np.dstack([grey, grey, grey, np.where(np.isnan(picture), 0, 255).astype(np.uint8)])
    file, unsigned = io.BytesIO(), dict[str, Any](Software=None)  # the same bytes by any version
    imsave(file, pixels, format="png", origin="lower", metadata=unsigned)
    return base64.b64encode(file.getvalue()).decode()


def _path(track: Track, script: Script) -> str:
    """The last frame stands where nothing moves."""
    outlines = [_outline(points, track.dots) for points in track.frames]
    times = ";".join(f"{time:.4g}" for time in script.times)
    eased = f' calcMode="spline" keySplines="{";".join([EASED] * (len(script.times) - 1))}"' if script.eased else ""
    return (
        f'<path stroke="{track.color}" stroke-width="{track.width:g}" stroke-opacity="{track.opacity:g}" '
        f'style="stroke-linecap: round" d="{outlines[-1]}"><animate attributeName="d" '
        f'dur="{script.seconds:g}s" repeatCount="indefinite" keyTimes="{times}"{eased} '
        f'values="{";".join(outlines[frame] for frame in script.order)}"/></path>'
    )


def _outline(points: Array, dots: bool) -> str:
    """A tenth of a point is finer than a screen; a dot is a line of no length with a round end."""
    pairs = [f"{x:.1f} {y:.1f}" for x, y in points]
    return "".join(f"M{pair}h.01" for pair in pairs) if dots else "M" + "L".join(pairs)


def _label(text: str, script: Script, frame: int, x: float, y: float) -> str:
    """Shown from the time of its frame to that of the next one."""
    shown = next(time for time, at in zip(script.times, script.order, strict=True) if at == frame)
    after = [time for time, at in zip(script.times, script.order, strict=True) if at > frame][:1]
    steps = [(0.0, 0), (shown, 1), *((time, 0) for time in after)]
    steps = steps[1:] if shown == 0 else steps
    times, values = (";".join(f"{step[i]:.4g}" for step in steps) for i in (0, 1))
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="end" fill="currentColor" opacity="{0 if after else 1}" '
        f'style="font: 10px \'DejaVu Sans\', sans-serif">{text}<animate attributeName="opacity" '
        f'dur="{script.seconds:g}s" repeatCount="indefinite" calcMode="discrete" keyTimes="{times}" '
        f'values="{values}"/></text>'
    )
