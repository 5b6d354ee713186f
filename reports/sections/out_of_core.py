"""Methods on more images than memory holds, as `cryosip speed --out-of-core` measured them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from cryosip.records.machines import without_host
from cryosip.records.read import SPEED
from cryosip.records.select import Skipped
from cryosip.reports import measurements
from cryosip.reports.section import Figures
from cryosip.reports.spreads import grouped
from cryosip.reports.style import Plot, SeriesStyle, draw, log_axes, named_style
from cryosip.reports.tables import number, plain

SCHEMA = 1
FILE = Path(SPEED) / "out_of_core.json"
GIGA = 1e9
COLUMNS = ("method", "images in", "images", "counted", "seconds", "CPU seconds", "images per second", "limit",
           "limit seconds", "seconds / limit", "check seconds", "peak memory MB", "load")  # fmt: skip
LINES = {"span": "-", "pixels": (0, (5, 2))}
STYLED = {"sliced flow": "sliced-energy", "flow": "energy"}  # the names of their colours


class Row(NamedTuple):
    """A method on so many images; `seconds` are those of what `per` says goes over the images: "build" or "step"."""

    name: str
    space: str
    images: int
    per: str
    seconds: float
    cpu_seconds: float
    check_seconds: float
    images_per_second: float
    peak_mb: float
    limit: str
    limit_seconds: float
    load: float

    @property
    def ratio(self) -> float:
        """How many times as long as the limit it takes."""
        return self.seconds / self.limit_seconds


class OutOfCore(NamedTuple):
    """All rows of one measurement, and where it was made; rates are per second."""

    created: str
    environment: list[tuple[str, str]]
    image_size: int
    simulated: int
    simulation_seconds: float
    disk: float
    cache: float
    flops: float
    rows: list[Row]


def read_out_of_core(results: Path) -> tuple[OutOfCore | None, list[Skipped]]:
    """The measurement, None where there is none; and the file if it cannot be read, with the reason."""
    return measurements.read(results, FILE, _parse, "out of core")


def _parse(data: Any) -> OutOfCore:
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']!r}: this version of cryosip reads schema {SCHEMA}")
    simulation, rates = data["simulation"], data["rates"]
    return OutOfCore(
        str(data["created"]),
        [(str(key), plain(value)) for key, value in without_host(data["environment"]).items()],
        int(data["image_size"]),
        int(simulation["images"]),
        float(simulation["seconds"]),
        float(rates["disk_bytes_per_second"]),
        float(rates["cache_bytes_per_second"]),
        float(rates["flops_per_second"]),
        [_row(row) for row in data["rows"]],
    )


def _row(row: dict[str, Any]) -> Row:
    per = str(row["per"])
    return Row(
        name=str(row["name"]),
        space=str(row["space"]),
        images=int(row["images"]),
        per=per,
        seconds=float(row[f"{per}_seconds"]),
        cpu_seconds=float(row["cpu_seconds"]),
        check_seconds=float(row["check_seconds"]),
        images_per_second=float(row["images_per_second"]),
        peak_mb=float(row["peak_mb"]),
        limit=str(row["limit"]),
        limit_seconds=float(row["limit_seconds"]),
        load=float(row["load"]),
    )


def exponent(rows: Sequence[Row]) -> float:
    """The slope of log seconds against log images by least squares, nan for fewer than two sizes."""
    if len({row.images for row in rows}) < 2:
        return math.nan
    x, y = np.log([row.images for row in rows]), np.log([row.seconds for row in rows])
    return float(np.polyfit(x, y, 1)[0])


def last_exponent(rows: Sequence[Row]) -> float:
    """The slope between the two largest sizes, where what does not grow with the images counts least."""
    return exponent(sorted(rows, key=lambda row: row.images)[-2:])


def context_of(measured: OutOfCore | None) -> dict[str, Any]:
    """The values of the template."""
    if measured is None:
        return {}
    series = grouped(measured.rows, lambda row: (row.name, row.space))
    slopes = [(name, space, own[0].per, exponent(own), last_exponent(own)) for (name, space), own in series.items()]
    largest = max(row.images for row in measured.rows)
    return {
        "measured": measured,
        "slopes": slopes,
        "largest": f"{largest:,}",
        "gigabytes": 4 * measured.image_size**2 * largest / GIGA,
        "peak_gb": max(row.peak_mb for row in measured.rows) * 2**20 / GIGA,
        "rates": [number(rate / GIGA) for rate in (measured.disk, measured.cache, measured.flops)],
    }


def figures_of(context: dict[str, Any]) -> Figures:
    """Seconds against the number of images."""
    if not context:
        return {}
    rows = context["measured"].rows

    def paint(ax: Axes) -> None:
        for (name, space), own in grouped(rows, lambda row: (row.name, row.space)).items():
            style = _style(name)
            x, y = [row.images for row in own], [row.seconds for row in own]
            ax.plot(x, y, color=style.colour, marker=style.marker, linestyle=LINES[space], label=f"{name}, {space}")
        log_axes(ax, "xy")
        ax.set(xlabel="Images", ylabel="Seconds")

    caption = "Seconds of what goes over the images, as the table counts them; dashed: on pixels."
    return {"out of core": [Plot("out-of-core", "Seconds against images", caption, draw("out-of-core", paint), COLUMNS,
                                 [_line(row) for row in rows])]}  # fmt: skip


def _style(name: str) -> SeriesStyle:
    return named_style(STYLED.get(name, name))


def _line(row: Row) -> list[Any]:
    return [row.name, row.space, row.images, row.per, row.seconds, row.cpu_seconds, row.images_per_second, row.limit,
            row.limit_seconds, row.ratio, row.check_seconds, row.peak_mb, row.load]  # fmt: skip


def measured_table(context: dict[str, Any]) -> list[Sequence[Any]]:
    """A header, and one line for each method and number of images."""
    return [COLUMNS, *(_line(row) for row in context["measured"].rows)]
