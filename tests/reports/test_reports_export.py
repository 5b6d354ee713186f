"""All records as one table: nothing is lost, numbers come back as they were, text is never a formula."""

import csv
import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from cryosip.records.select import read_records
from cryosip.reports.csv_text import csv_text
from cryosip.reports.export import COLUMNS, Row, as_csv, as_parquet, rows

FLOOR = {"w2": {"median": 0.7, "q05": 0.6, "q95": 0.8, "n": 2}}


def exported(results: Path) -> list[Row]:
    records, _ = read_records(results)
    return list(rows(records))


def parsed(table: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.decode(), newline="")))


def test_a_row_has_what_the_record_says_of_a_metric(write, results):
    own = {"oracle_metrics": {"w2": 0.1}, "setup_seconds": 0.5, "environment": {"dtype": "float32"}}
    own |= {"identity": {"engine": "e", "method": "m", "problem": "p", "measure": ""}}
    path = write(discrepancy="kl", replicate=3, floors=FLOOR, message="slow", **own)
    by_metric = {row["metric"]: row for row in exported(results)}
    assert list(by_metric) == ["w1", "w2", "energy_distance"]
    expected: Row = dict(  # noqa: C408
        study="paper-1d", profile="paper", problem="oned", method="flow", discrepancy="kl", setting="published",
        n_observations=10_000.0, replicate=3, seed=7, status="ok", message="slow", metric="w2", value=0.2,
        floor_median=0.7, floor_q05=0.6, floor_q95=0.8, floor_n=2,
        data_floor_median=0.076, data_floor_q05=0.034, data_floor_q95=0.155, data_floor_n=10_000,
        initial_value=1.6, oracle_value=0.1, steps=25_000, forward_calls=250_000_000, setup_seconds=0.5,
        compile_seconds=1.2, run_seconds=7.5, program_memory_mb=None, peak_memory_mb=310.0, dataset_hash="feed",
        engine="e", method_code="m", problem_code="p", measure_code="",
        dtype="float32", run_id=path.stem, created="2025-11-20T12:00:00Z",
    )  # fmt: skip
    assert by_metric["w2"] == expected
    last = by_metric["energy_distance"]
    assert (last["value"], last["floor_median"], last["floor_n"], last["initial_value"]) == (0.05, None, None, None)


def test_failed_runs_have_rows_too(write, results):
    write(status="error", message="out of memory", metrics={}, initial_metrics={}, replicate=1)
    write(status="diverged", metrics={"w2": None}, initial_metrics={"w2": 1.6}, replicate=2)
    error, diverged = sorted(exported(results), key=lambda row: row["replicate"])
    assert (error["status"], error["message"], error["metric"], error["value"]) == ("error", "out of memory", "", None)
    assert (diverged["status"], diverged["metric"], diverged["value"], diverged["initial_value"]) == (
        "diverged",
        "w2",
        None,
        1.6,
    )


def test_every_record_that_was_read_is_exported(everything):
    records, _ = read_records(everything)
    table = list(rows(records))
    assert {row["run_id"] for row in table} == {record.run_id for record in records}
    assert len({(row["run_id"], row["metric"]) for row in table}) == len(table)


def test_csv_brings_every_number_and_text_back(write, results):
    awkward = 'a "quoted", cell\nof two lines; ω'
    write(replicate=1, message="a bar\rthat\r\nreturns")
    write(setting=awkward, metrics={"w1": 0.1 + 0.2, "w2": 1e-300}, environment={})
    table = exported(results)
    back = parsed(as_csv(table))
    assert list(back[0]) == list(COLUMNS)
    assert [float(row["value"]) for row in back] == [row["value"] for row in table]
    assert {row["setting"] for row in back} == {awkward, "published"}
    assert {row["message"] for row in back} == {"a bar\nthat\nreturns", ""}
    assert {row["engine"] for row in back} == {row["program_memory_mb"] for row in back} == {""}


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x")', "+1+1", "-1-1", "@SUM(A1)", "\t=1", "\r=1", " =1"])
def test_text_is_never_a_formula(write, results, text):
    write(setting=text, message=f"see {text}", metrics={text: -0.5})
    told = text.replace("\r", "\n")
    back = parsed(as_csv(exported(results)))
    assert {(row["setting"], row["message"]) for row in back} == {(f"'{told}", f"see {told}")}
    assert {row["metric"]: row["value"] for row in back}[f"'{told}"] == "-0.5"


def test_numbers_that_are_none_are_empty_and_never_reached_is_inf():
    assert csv_text([["a", "b"], [math.nan, None], [-math.inf, -2]]) == "a,b\n,\n-inf,-2\n"


def test_text_that_utf8_cannot_hold_is_written_out(write, results):
    write(message="half of a pair: \ud83d")
    assert parsed(as_csv(exported(results)))[0]["message"] == r"half of a pair: \ud83d"


def test_parquet_without_pyarrow_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="Parquet needs pyarrow, which is not installed"):
        as_parquet([])


def test_parquet_keeps_types_and_missing_numbers(write, results):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is no dependency")
    write(metrics={"w2": np.float64(0.2).item(), "score": 3}, setting="=1")
    write(status="error", metrics={}, initial_metrics={}, replicate=1)
    table = exported(results)
    back = parquet.read_table(io.BytesIO(as_parquet(table))).to_pylist()
    assert back == table
    assert all(isinstance(row["value"], float | None) for row in back)
