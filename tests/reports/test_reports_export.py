"""All records as one table: nothing is lost, numbers come back as they were, text is never a formula."""

import csv
import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import cryosip
from cryosip.records.machines import short_name
from cryosip.records.select import read_records
from cryosip.records.table import COLUMNS, tidy
from cryosip.reports.csv_text import csv_text
from cryosip.reports.export import as_csv, as_parquet

FLOOR = {"w2": {"median": 0.7, "q05": 0.6, "q95": 0.8, "n": 2}}


def parsed(results: Path) -> list[dict[str, str]]:
    table = as_csv(read_records(results)[0])
    return list(csv.DictReader(io.StringIO(table.decode(), newline="")))


def test_a_row_has_what_the_record_says_of_a_metric(write, results):
    own = {"oracle_metrics": {"w2": 0.1}, "setup_seconds": 0.5, "environment": {"dtype": "float32", "host": "left"}}
    own |= {"identity": {"engine": "e", "method": "m", "problem": "p", "measure": ""}}
    path = write(discrepancy="kl", replicate=3, floors=FLOOR, message="slow", setting="annealed K=10", **own)
    table = cryosip.load(results)
    assert list(table) == list(COLUMNS)
    assert list(table["metric"]) == ["w1", "w2", "energy_distance"]
    expected = dict(  # noqa: C408
        study="paper-1d", profile="paper", problem="oned", method="flow", discrepancy="kl", variant="annealed",
        axis="K", axis_value="10", n_observations=10_000.0, replicate=3, seed=7, status="ok", message="slow",
        metric="w2", value=0.2, floor_median=0.7, floor_q05=0.6, floor_q95=0.8, floor_n=2,
        data_floor_median=0.076, data_floor_q05=0.034, data_floor_q95=0.155, data_floor_n=10_000,
        initial_value=1.6, oracle_value=0.1, steps=25_000, forward_evaluations=250_000_000, setup_seconds=0.5,
        compile_seconds=1.2, run_seconds=7.5, program_memory_mb=None, peak_memory_mb=310.0, dataset_hash="feed",
        engine="e", method_code="m", problem_code="p", measure_code="",
        dtype="float32", machine=f"{short_name('left')}, not known", run_id=path.stem, created="2025-11-20T12:00:00Z",
    )  # fmt: skip
    row = table[table["metric"] == "w2"].iloc[0]
    assert {name: None if value is None else row[name] for name, value in expected.items()} == expected
    assert table["program_memory_mb"].isna().all()
    last = table.iloc[2]
    assert (last["value"], *last[["floor_median", "floor_n", "initial_value"]].isna()) == (0.05, True, True, True)


def test_failed_runs_have_rows_too(write, results):
    write(status="error", message="out of memory", metrics={}, initial_metrics={}, replicate=1)
    write(status="diverged", metrics={"w2": None}, initial_metrics={"w2": 1.6}, replicate=2)
    table = cryosip.load(results).sort_values("replicate")
    assert list(table["status"]) == ["error", "diverged"]
    assert list(table["metric"]) == ["", "w2"]
    assert table["value"].isna().all()
    assert table["initial_value"].tolist()[1] == 1.6


def test_every_record_that_was_read_is_in_the_table(everything):
    records, _ = read_records(everything)
    table = tidy(records)
    assert set(table["run_id"]) == {record.run_id for record in records}
    assert not table.duplicated(["run_id", "metric"]).any()
    assert str(table["replicate"].dtype) == "Int64"


def test_medians_are_by_group_and_keep_what_is_infinite(write, results):
    for replicate, value in enumerate((1.0, 2.0, 9.0)):
        write(replicate=replicate, metrics={"w2": value})
    table = cryosip.load(results)
    w2 = table[table["metric"] == "w2"]
    assert w2.groupby("method")["value"].median().to_dict() == {"flow": 2.0}
    assert w2.assign(value=[1.0, math.inf, math.inf])["value"].median() == math.inf


def test_csv_brings_every_number_and_text_back(write, results):
    awkward = 'a "quoted", cell\nof two lines; ω'
    write(replicate=1, message="a bar\rthat\r\nreturns")
    write(setting=awkward, metrics={"w1": 0.1 + 0.2, "w2": 1e-300}, environment={})
    back = parsed(results)
    assert list(back[0]) == list(COLUMNS)
    assert [float(row["value"] or "nan") for row in back] == pytest.approx(
        cryosip.load(results)["value"].tolist(), abs=0, rel=0, nan_ok=True
    )
    assert {row["variant"] for row in back} == {awkward, "published"}
    assert {row["message"] for row in back} == {"a bar\nthat\nreturns", ""}
    assert {row["program_memory_mb"] for row in back} == {""}
    assert {row["replicate"] for row in back} == {"0", "1"}


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x")', "+1+1", "-1-1", "@SUM(A1)", "\t=1", "\r=1", " =1"])
def test_text_is_never_a_formula(write, results, text):
    write(setting=text, message=f"see {text}", metrics={text: -0.5})
    clean = text.replace("\r", "\n")
    back = parsed(results)
    assert {(row["variant"], row["message"]) for row in back} == {(f"'{clean}", f"see {clean}")}
    assert {row["metric"]: row["value"] for row in back}[f"'{clean}"] == "-0.5"


def test_numbers_that_are_none_are_empty_and_never_reached_is_inf():
    assert csv_text([["a", "b"], [math.nan, None], [-math.inf, -2]]) == "a,b\n,\n-inf,-2\n"


def test_parquet_without_pyarrow_says_what_is_missing(monkeypatch, write, results):
    write()
    for name in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match="Parquet needs pyarrow, which is not installed"):
        as_parquet(read_records(results)[0])


def test_parquet_keeps_types_and_missing_numbers(write, results):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is no dependency")
    write(metrics={"w2": np.float64(0.2).item(), "score": 3}, setting="=1")
    write(status="error", metrics={}, initial_metrics={}, replicate=1)
    back = parquet.read_table(io.BytesIO(as_parquet(read_records(results)[0]))).to_pandas()
    assert back["value"].isna().sum() == cryosip.load(results)["value"].isna().sum()
    assert list(back["variant"]) == list(cryosip.load(results)["variant"])
