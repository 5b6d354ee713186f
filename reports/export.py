"""All records as one tidy table: a row for each record and metric."""

import io
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from cryosip.records.read import Floor, Record, observations
from cryosip.reports.csv_text import csv_text

CODES = ("engine", "method_code", "problem_code", "measure_code")


class Row(NamedTuple):
    """One metric of one run; None where the record has no number, a metric of "" where it has no metric at all.

    `floor` is that of the estimate's size, `data_floor` that of the data, by which the report divides.
    """

    study: str
    profile: str
    problem: str
    method: str
    discrepancy: str
    setting: str
    n_observations: float | None
    replicate: int
    seed: int
    status: str
    message: str
    metric: str
    value: float | None
    floor_median: float | None
    floor_q05: float | None
    floor_q95: float | None
    floor_n: int | None
    data_floor_median: float | None
    data_floor_q05: float | None
    data_floor_q95: float | None
    data_floor_n: int | None
    initial_value: float | None
    oracle_value: float | None
    steps: int
    forward_calls: int
    setup_seconds: float | None
    compile_seconds: float | None
    run_seconds: float | None
    program_memory_mb: float | None
    peak_memory_mb: float | None
    dataset_hash: str
    engine: str
    method_code: str
    problem_code: str
    measure_code: str
    dtype: str
    run_id: str
    created: str


def rows(records: Iterable[Record]) -> Iterator[Row]:
    """The rows of the records in their order: one for each metric that is known at the start or at the end."""
    for record in records:
        known = dict.fromkeys([*record.metrics, *record.initial_metrics, *record.oracle_metrics])
        yield from (_row(record, metric) for metric in known or [""])


def as_csv(table: Iterable[Row]) -> bytes:
    """The table as CSV in UTF-8, a header first."""
    return csv_text([Row._fields, *table]).encode(errors="backslashreplace")


def as_parquet(table: Iterable[Row]) -> bytes:
    """The table as Parquet, missing numbers null. Raises ValueError where pyarrow is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow, which is not installed: pip install pyarrow, or export CSV") from error
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), int | None: pyarrow.int64(), float | None: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in Row.__annotations__.items()])
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([row._asdict() for row in table], schema), buffer)
    return buffer.getvalue()


def _row(record: Record, metric: str) -> Row:
    """Columns that a record has under the same name are taken as they are."""
    cells = {name: _known(getattr(record, name)) for name in Row._fields if hasattr(record, name)}
    for name, floors in (("floor", record.floors), ("data_floor", record.data_floors)):
        floor = floors.get(metric)
        cells |= {f"{name}_{part}": getattr(floor, part, None) for part in Floor._fields}
    codes = {name: str(record.identity.get(name.removesuffix("_code")) or "") for name in CODES}
    return Row(
        metric=metric, value=record.metrics.get(metric), initial_value=record.initial_metrics.get(metric),
        oracle_value=record.oracle_metrics.get(metric), n_observations=_known(observations(record)),
        dtype=str(record.environment.get("dtype") or ""), **cells | codes,
    )  # fmt: skip


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
