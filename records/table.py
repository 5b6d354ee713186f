"""All records as one tidy table: a row for each record and metric."""

from collections.abc import Iterable

import msgspec
import pandas as pd

from cryosip.records.machines import machine_of
from cryosip.records.schema import Floor, Record
from cryosip.records.select import observations, read_records
from cryosip.records.sources import Sources

TEXT = ("study", "profile", "problem", "method", "discrepancy", "variant", "axis", "axis_value", "status", "message",
        "metric", "dataset_hash", "engine", "method_code", "problem_code", "measure_code", "dtype", "machine",
        "run_id", "created")  # fmt: skip
WHOLE = ("replicate", "seed", "steps", "forward_evaluations", "floor_n", "data_floor_n")
COLUMNS = ("study", "profile", "problem", "method", "discrepancy", "variant", "axis", "axis_value", "n_observations",
           "replicate", "seed", "status", "message", "metric", "value", "floor_median", "floor_q05", "floor_q95",
           "floor_n", "data_floor_median", "data_floor_q05", "data_floor_q95", "data_floor_n", "initial_value",
           "oracle_value", "steps", "forward_evaluations", "setup_seconds", "compile_seconds", "run_seconds",
           "program_memory_mb", "peak_memory_mb", "dataset_hash", "engine", "method_code", "problem_code",
           "measure_code", "dtype", "machine", "run_id", "created")  # fmt: skip


def load(sources: Sources, one_engine: bool = False) -> pd.DataFrame:
    """The records of results folders and packs as a tidy table, a row for each record and metric; see `tidy`.

    `sources` is one or a list of folders and packs; "published" is the pack that is installed with cryosip.
    Records that other code or a younger run has superseded are left out, as in the report; with `one_engine` so is what
    another engine made than the youngest record of the study. Raises ValueError where no record can be read.
    """
    return tidy(read_records(sources, one_engine)[0])


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """A row for each metric that is known at the start or at the end, missing where the record has no number.

    `metric` is "" for a record without any. `floor_*` is the metric of an i.i.d. sample of the truth of the estimate's
    size, `data_floor_*` of the size of the data, by which the report divides; `initial_value` that of the initial
    distribution, `oracle_value` that of the best weights on the estimate's own points. Seconds compare where `machine`
    is the same.
    """
    rows = [
        _run(record) | _metric(record, metric)
        for record in records
        for metric in dict.fromkeys([*record.metrics, *record.initial_metrics, *record.oracle_metrics]) or [""]
    ]
    kinds = {name: "string" if name in TEXT else "Int64" if name in WHOLE else "float64" for name in COLUMNS}
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(kinds)


def _run(record: Record) -> dict[str, object]:
    """What all rows of a record share."""
    own = {name: getattr(record, name) for name in COLUMNS if hasattr(record, name)}
    value = record.labels.value
    parts = {f"{part}_code": getattr(record.identity, part) for part in ("method", "problem", "measure")}
    return own | parts | {
        "variant": record.labels.variant,
        "axis": record.labels.axis,
        "axis_value": f"{value:g}" if isinstance(value, int | float) else value or "",
        "n_observations": observations(record),
        "engine": record.identity.engine,
        "dtype": str(record.environment.get("dtype") or ""),
        "machine": machine_of(record),
    }  # fmt: skip


def _metric(record: Record, metric: str) -> dict[str, object]:
    return {
        "metric": metric,
        "value": record.metrics.get(metric),
        "initial_value": record.initial_metrics.get(metric),
        "oracle_value": record.oracle_metrics.get(metric),
        **_floor("floor", record.floors.get(metric)),
        **_floor("data_floor", record.data_floors.get(metric)),
    }


def _floor(name: str, floor: Floor | None) -> dict[str, float]:
    return {} if floor is None else {f"{name}_{part}": value for part, value in msgspec.structs.asdict(floor).items()}
