"""All records as one tidy table: a row for each record and metric."""

import io
import math
from collections.abc import Iterable, Iterator
from typing import Any

from cryosip.records.read import Floor, Record, observations
from cryosip.reports.csv_text import csv_text

TEXT, WHOLE, NUMBER = "string", "int64", "float64"
FLOOR = {"median": NUMBER, "q05": NUMBER, "q95": NUMBER, "n": WHOLE}
CODES = ("engine", "method_code", "problem_code", "measure_code")
# the columns and what they hold; `floor` is that of the estimate's size, `data_floor` that of the data
COLUMNS = {
    **dict.fromkeys(("study", "profile", "problem", "method", "discrepancy", "setting"), TEXT),
    "n_observations": NUMBER, "replicate": WHOLE, "seed": WHOLE, "status": TEXT, "message": TEXT, "metric": TEXT,
    "value": NUMBER,
    **{f"floor_{part}": kind for part, kind in FLOOR.items()},
    **{f"data_floor_{part}": kind for part, kind in FLOOR.items()},
    "initial_value": NUMBER, "oracle_value": NUMBER, "steps": WHOLE, "forward_calls": WHOLE,
    **dict.fromkeys(("setup_seconds", "compile_seconds", "run_seconds", "program_memory_mb", "peak_memory_mb"), NUMBER),
    **dict.fromkeys(("dataset_hash", *CODES, "dtype", "run_id", "created"), TEXT),
}  # fmt: skip

Row = dict[str, Any]  # by column; None where the record has no number


def rows(records: Iterable[Record]) -> Iterator[Row]:
    """The rows of the records in their order: one for each metric that is known at the start or at the end.

    A record without any metric has one row, with a metric of "".
    """
    for record in records:
        known = dict.fromkeys([*record.metrics, *record.initial_metrics, *record.oracle_metrics])
        yield from (_row(record, metric) for metric in known or [""])


def as_csv(table: Iterable[Row]) -> bytes:
    """The table as CSV in UTF-8, a header first."""
    return csv_text([list(COLUMNS), *(list(row.values()) for row in table)]).encode(errors="backslashreplace")


def as_parquet(table: Iterable[Row]) -> bytes:
    """The table as Parquet, missing numbers null. Raises ValueError where pyarrow is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow, which is not installed: pip install pyarrow, or export CSV") from error
    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in COLUMNS.items()])
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(table), schema), buffer)
    return buffer.getvalue()


def _row(record: Record, metric: str) -> Row:
    """Columns that a record has under the same name are taken as they are."""
    cells: Row = {name: _known(getattr(record, name)) for name in COLUMNS if hasattr(record, name)}
    for name, floors in (("floor", record.floors), ("data_floor", record.data_floors)):
        cells |= {f"{name}_{part}": getattr(floors.get(metric), part, None) for part in Floor._fields}
    cells |= {name: str(record.identity.get(name.removesuffix("_code")) or "") for name in CODES}
    cells |= {
        "metric": metric, "value": record.metrics.get(metric), "initial_value": record.initial_metrics.get(metric),
        "oracle_value": record.oracle_metrics.get(metric), "n_observations": _known(observations(record)),
        "dtype": str(record.environment.get("dtype") or ""),
    }  # fmt: skip
    return {name: cells[name] for name in COLUMNS}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
