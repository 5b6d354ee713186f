"""Our kernels against what one would take instead, as `cryosip speed --peers` measured them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryosip.records.read import SPEED, Skipped
from cryosip.reports.tables import plain

SCHEMA = 1
FILE = Path(SPEED) / "peers.json"


class Times(NamedTuple):
    """How many times the seconds of one of our forms another takes, and how many are wanted (nan where nothing is)."""

    value: float
    wanted: float

    @property
    def outcome(self) -> str:
        """ "" where nothing is wanted or was measured."""
        if math.isnan(self.wanted) or math.isnan(self.value):
            return ""
        return "holds" if self.value >= self.wanted else "fails"


class Row(NamedTuple):
    """One form; `times` has an entry for each of ours."""

    form: str
    ours: bool
    milliseconds: float
    times: list[Times]
    error: float
    note: str


class Comparison(NamedTuple):
    """Forms that compute the same, ours first."""

    title: str
    ours: list[str]
    rows: list[Row]


class Peers(NamedTuple):
    """All comparisons of one measurement, and where it was made."""

    created: str
    environment: list[tuple[str, str]]
    comparisons: list[Comparison]


def read_peers(results: Path) -> tuple[Peers | None, list[Skipped]]:
    """RESULTS/speed/peers.json, None where there is none; and a file that cannot be read, with the reason."""
    path = results / FILE
    if not path.exists():
        return None, []
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8"))), []
    except (ValueError, TypeError, AttributeError, KeyError, OSError, RecursionError) as error:
        return None, [(FILE, f"not a measurement of peers: {type(error).__name__}: {error}")]


def _parse(data: Any) -> Peers:
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']!r}: this version of cryosip reads schema {SCHEMA}")
    environment = [(str(key), plain(value)) for key, value in data["environment"].items()]
    return Peers(str(data["created"]), environment, [_comparison(one) for one in data["comparisons"]])


def _comparison(data: dict[str, Any]) -> Comparison:
    ours = [str(name) for name in data["ours"]]
    return Comparison(str(data["title"]), ours, [_row(row, ours) for row in data["rows"]])


def _row(row: dict[str, Any], ours: Sequence[str]) -> Row:
    times, wanted = row.get("times", {}), row.get("wanted", {})
    return Row(
        str(row["form"]),
        bool(row["ours"]),
        1e3 * _number(row.get("seconds")),
        [Times(_number(times.get(name)), _number(wanted.get(name))) for name in ours],
        _number(row.get("error")),
        str(row["note"]),
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def peer_table(peers: Peers) -> list[list[Any]]:
    """A header, and one line for each form and each of ours."""
    columns = ["comparison", "form", "milliseconds", "error", "against", "times", "wanted", "note"]
    return [columns] + [
        [c.title, row.form, row.milliseconds, row.error, name, *times, row.note]
        for c in peers.comparisons
        for row in c.rows
        for name, times in zip(c.ours, row.times, strict=True)
    ]
