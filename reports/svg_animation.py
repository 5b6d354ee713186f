"""Figures that move by themselves: SVG with SMIL, no script, the frames in between straight lines."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

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
    with styled():
        figure, ax = painted(paint, size)
        svg = inline(name, figure)
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
