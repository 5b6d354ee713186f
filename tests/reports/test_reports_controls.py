"""Control rows: what they are is in the records, they bound every table and have no rank."""

import re

import pytest
from conftest import floors

from cryosip.records.select import read_records
from cryosip.reports import page
from cryosip.reports.controls import EXPLAINED, controls
from cryosip.reports.tables import method_rows


def found(results, metrics=("w2", "w1")):
    records, _ = read_records(results)
    return {control.name: control for control in controls(records, metrics, lambda record: record.method)}


def test_the_start_is_counted_once_for_each_data_set(write, results):
    for replicate, w2 in enumerate((1.0, 2.0, 3.0)):
        for method in ("flow", "mixture") if replicate else ("flow", "mixture", "reweighting"):
            write(method=method, replicate=replicate, dataset_hash=f"d{replicate}", initial_metrics={"w2": w2})
    start = found(results)["start"]
    assert (start.metrics["w2"].median, start.metrics["w2"].n) == (2.0, 3)
    assert start.ratios["w2"].median == pytest.approx(2 / 0.076)
    assert "w1" not in start.metrics


def test_a_sample_of_the_truth_is_the_floor_of_the_data(write, results):
    write(n=100, floors=floors(10))
    truth = found(results)["truth-sample"]
    assert truth.ratios["w2"][:3] == pytest.approx((1, 0.034 / 0.076, 0.155 / 0.076))
    assert truth.metrics["w2"].median == pytest.approx(0.76)


def test_the_best_weights_are_of_the_method_where_they_come_nearest_for_each_metric(write, results):
    for replicate in range(3):
        write(method="mixture", replicate=replicate, oracle_metrics={"w2": 0.02 + 0.01 * replicate, "w1": 0.5})
        write(method="flow", replicate=replicate, oracle_metrics={"w2": 0.04, "w1": 0.1})
        write(method="reweighting", replicate=replicate, oracle_metrics={"w2": 0.001}, status="diverged")
    best = found(results)["best-weights"]
    assert (best.metrics["w2"].median, best.metrics["w1"].median) == (0.03, 0.1)
    assert best.note == "points of mixture (w2), flow (w1)"
    assert found(results, ("w2",))["best-weights"].note == "points of mixture"


def test_what_no_record_holds_has_no_row(write, results):
    write(initial_metrics={}, data_floors={}, oracle_metrics={})
    assert found(results) == {}


def test_a_table_of_methods_ends_with_the_controls_of_each_size(write, results):
    write(n=100)
    write(n=100, method="mixture", oracle_metrics={"w2": 0.02})
    rows = method_rows(read_records(results)[0], ["w2"])
    assert [(row.label, row.control) for row in rows] == [
        ("energy flow", False), ("mixture", False), ("start", True), ("truth-sample", True), ("best-weights", True),
    ]  # fmt: skip
    assert rows[-1].variant == "points of mixture"
    write(n=400, profile="large")
    rows = method_rows(read_records(results)[0], ["w2"])
    labels = [(row.label, row.variant) for row in rows if row.label == "start"]
    assert labels == [("start", "oned, n = 400"), ("start", "oned, n = 100")]


def test_the_page_sets_controls_apart(write, results):
    write(n=100)
    text = page.build(results, results.parent / "out").read_text(encoding="utf-8")
    rows = re.findall(r'<tr class="control"><th scope="row">([\w-]+)</th>', text)
    assert rows == ["start", "truth-sample"]
    assert text.count(EXPLAINED) == 1
