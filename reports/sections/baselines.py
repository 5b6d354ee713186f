"""Our kernels against baselines by other libraries, as `cryosip speed --baselines` measured them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryosip.records.machines import without_host
from cryosip.records.read import SPEED
from cryosip.records.select import Skipped
from cryosip.reports import measurements
from cryosip.reports.tables import plain

SCHEMA = 2
FILE = Path(SPEED) / "baselines.json"
OLD_FILE = Path(SPEED) / "peers.json"  # of schema 1


class Times(NamedTuple):
    """A time divided by that of one of our implementations, and the ratio wanted (nan where none is)."""

    value: float
    wanted: float

    @property
    def outcome(self) -> str:
        """Whether the ratio is as wanted: "holds", "fails", or "" where nothing is wanted or was measured."""
        if math.isnan(self.wanted) or math.isnan(self.value):
            return ""
        return "holds" if self.value >= self.wanted else "fails"


class Row(NamedTuple):
    """One implementation; `times` has an entry for each of ours."""

    implementation: str
    ours: bool
    milliseconds: float
    times: list[Times]
    error: float
    note: str


class Comparison(NamedTuple):
    """Implementations of the same quantity, ours first."""

    title: str
    ours: list[str]
    rows: list[Row]


class Baselines(NamedTuple):
    """All comparisons of one measurement, and where it was made."""

    created: str
    environment: list[tuple[str, str]]
    comparisons: list[Comparison]


def measured_file(results: Path) -> Path | None:
    """The file of timings relative to RESULTS, the current one ahead of that of schema 1; None where there is none."""
    return next((file for file in (FILE, OLD_FILE) if (results / file).exists()), None)


def read_baselines(results: Path) -> tuple[Baselines | None, list[Skipped]]:
    """The timings, None where there are none; and the file if it cannot be read, with the reason."""
    return measurements.read(results, measured_file(results), _parse, "of baselines")


def _upgraded(data: Any) -> Any:
    """Schema 1 as schema 2: rows have their name under "implementation", which was "form"."""
    if data["schema"] != 1:
        return data
    comparisons = [
        {**c, "rows": [{**row, "implementation": row["form"]} for row in c["rows"]]} for c in data["comparisons"]
    ]
    return {**data, "schema": 2, "comparisons": comparisons}


def _parse(data: Any) -> Baselines:
    data = _upgraded(data)
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']!r}: this version of cryosip reads schema {SCHEMA}")
    environment = [(str(key), plain(value)) for key, value in without_host(data["environment"]).items()]
    return Baselines(str(data["created"]), environment, [_comparison(c) for c in data["comparisons"]])


def _comparison(data: dict[str, Any]) -> Comparison:
    ours = [str(name) for name in data["ours"]]
    return Comparison(str(data["title"]), ours, [_row(row, ours) for row in data["rows"]])


def _row(row: dict[str, Any], ours: Sequence[str]) -> Row:
    times, wanted = row.get("times", {}), row.get("wanted", {})
    return Row(
        str(row["implementation"]),
        bool(row["ours"]),
        1e3 * _number(row.get("seconds")),
        [Times(_number(times.get(name)), _number(wanted.get(name))) for name in ours],
        _number(row.get("error")),
        str(row["note"]),
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def baseline_table(baselines: Baselines) -> list[list[Any]]:
    """A header, and one line for each implementation and each of ours."""
    columns = ["comparison", "implementation", "milliseconds", "error", "against", "times", "wanted", "note"]
    return [columns] + [
        [c.title, row.implementation, row.milliseconds, row.error, name, *times, row.note]
        for c in baselines.comparisons
        for row in c.rows
        for name, times in zip(c.ours, row.times, strict=True)
    ]
