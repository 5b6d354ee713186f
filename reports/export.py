"""All records as one tidy table: a row for each record and metric."""

import io
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cryosip.records.read import Floor, Record, observations
from cryosip.reports.csv_text import csv_text

FloorCells = tuple[float | None, float | None, float | None, int | None]


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
    return Row(
        record.study,
        record.profile,
        record.problem,
        record.method,
        record.discrepancy,
        record.setting,
        _known(observations(record)),
        record.replicate,
        record.seed,
        record.status,
        record.message,
        metric,
        record.metrics.get(metric),
        *_floor(record.floors.get(metric)),
        *_floor(record.data_floors.get(metric)),
        record.initial_metrics.get(metric),
        record.oracle_metrics.get(metric),
        record.steps,
        record.forward_calls,
        _known(record.setup_seconds),
        _known(record.compile_seconds),
        _known(record.run_seconds),
        _known(record.program_memory_mb),
        _known(record.peak_memory_mb),
        record.dataset_hash,
        _code(record, "engine"),
        _code(record, "method"),
        _code(record, "problem"),
        _code(record, "measure"),
        str(record.environment.get("dtype") or ""),
        record.run_id,
        record.created,
    )


def _code(record: Record, part: str) -> str:
    return str(record.identity.get(part) or "")


def _floor(floor: Floor | None) -> FloorCells:
    return floor or (None, None, None, None)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
