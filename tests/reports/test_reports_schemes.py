"""Time to an accuracy: what is not reached is said, what failed is counted, and the variances know nothing of flows."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from cryosip.records.select import read_records
from cryosip.reports.page import build
from cryosip.reports.sections.paper import variance_rows
from cryosip.reports.sections.sampling import MULTIPLES, schemes, time_to_accuracy, variances

FLOOR = 0.02


def write_flow(write, scheme: str, replicate: int, w1: list[float], draws: int = 1, **changes: Any) -> None:
    """A flow whose W1 is looked at after 1, 10, 100, ... steps of 0.1 seconds and 50 forward evaluations."""
    at = [0, *(10**i for i in range(len(w1) - 1))]
    curve = {
        "step": at,
        "seconds": [0.1 * s for s in at],
        "forward_evaluations": [50 * s for s in at],
        "w1": w1,
        "w2": w1,
    }
    floor = {"median": FLOOR, "q05": 0.01, "q95": 0.03, "n": 10_000}
    base: dict[str, Any] = {"curve": curve, "steps": at[-1], "planned": at[-1]}
    write(study="sampling", setting=f"{scheme}, K={draws}", replicate=replicate,
          options={"sampling": scheme, "n_draws": draws}, data_floors={"w1": floor, "w2": floor},
          **(base | changes))  # fmt: skip


def of(results: Path, scheme: str, multiple: float):
    (row,) = [
        row
        for row in time_to_accuracy(read_records(results)[0])
        if (row.scheme, row.metric, row.multiple) == (scheme, "w1", multiple)
    ]
    return row


def test_costs_are_those_of_the_first_look_below_a_multiple_of_the_floor(write, results: Path) -> None:
    for i in range(3):
        write_flow(write, "method-3", i, [1.0, 0.09, 0.039, 0.021], draws=4)
    for multiple, steps in ((5.0, 1), (3.0, 10), (2.0, 10), (1.5, 100)):
        row = of(results, "Method 3, K = 4", multiple)
        assert row.threshold == pytest.approx(multiple * FLOOR)
        assert (row.seconds.median, row.forward_evaluations.median) == pytest.approx((0.1 * steps, 50 * steps))
        assert (row.reached, row.runs, row.why) == (3, 3, "")


def test_a_threshold_that_is_not_reached_is_shown_as_such(write, results: Path) -> None:
    for i in range(3):
        write_flow(write, "method-2", i, [1.0, 0.09, 0.02 if i == 0 else 0.07], draws=16)
    row = of(results, "Method 2, K = 16", 1.5)
    assert (row.reached, row.runs) == (1, 3)
    assert math.isinf(row.seconds.median)
    assert math.isinf(row.forward_evaluations.median)
    page = build(results, results.parent / "out").read_text(encoding="utf-8")
    start = page.index('id="schemes"')
    section = page[start : page.index("</section>", start)]
    assert "not reached" in section
    assert "1 of 3" in section
    assert "[not reached" not in section
    rows = [section.index(f"W1 &lt; {multiple:g} × floor") for multiple in MULTIPLES]
    assert rows == sorted(rows)
    with open(results.parent / "out/time_to_accuracy.csv", encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 2 * len(MULTIPLES)
    assert {row["seconds"] for row in table if row["reached"] == "1"} == {"inf"}


def test_a_run_that_failed_counts_as_not_reached(write, results: Path) -> None:
    for i in range(3):
        write_flow(write, "method-1", i, [1.0, 0.01])
    write_flow(write, "method-1", 3, [1.0], curve={}, steps=0, status="error", message="no")
    row = of(results, "Method 1", 2.0)
    assert (row.reached, row.runs, row.failed, row.seconds.n) == (3, 4, 1, 4)
    assert math.isinf(row.seconds.q95)
    assert "Runs that failed: Method 1: 1." in schemes(read_records(results)[0])[0].caption


def test_few_replicates_say_why_there_is_no_interval(write, results: Path) -> None:
    for i in range(2):
        write_flow(write, "closed-form", i, [1.0, 0.05, 0.01])
    assert of(results, "noise integrated out", 2.0).why == "2 replicates, fewer than 3: no interval"
    assert all("no interval is drawn" in plot.caption for plot in schemes(read_records(results)[0]))
    write_flow(write, "closed-form", 2, [1.0, 0.05, 0.01])
    assert of(results, "noise integrated out", 2.0).why == ""
    assert not any("no interval is drawn" in plot.caption for plot in schemes(read_records(results)[0]))


def test_a_curve_is_the_median_over_replicates(write, results: Path) -> None:
    for i, last in enumerate((0.1, 0.2, 0.4)):
        write_flow(write, "method-1", i, [1.0, 0.5, last])
    plots = schemes(read_records(results)[0])
    assert [plot.name for plot in plots] == [
        "schemes-w1-seconds", "schemes-w1-forward-evaluations", "schemes-w2-seconds", "schemes-w2-forward-evaluations"
    ]  # fmt: skip
    assert [row[3:] for row in plots[1].rows if row[1] == 2] == [[0, 1.0], [50, 0.5], [500, 0.4]]


def test_variances_know_nothing_of_flows(write, results: Path) -> None:
    numbers = {"variance": 2.0, "variance_q05": 1.9, "variance_q95": 2.1, "variance_formula": 2.0}
    write(study="sampling", method="method-1", options={"n": 10, "k": 1}, metrics=numbers)
    for i in range(3):
        write_flow(write, "method-1", i, [1.0, 0.01])
    records = read_records(results)[0]
    assert [row.ours.n for row in variance_rows(records)] == [1, 0, 0]
    assert {row[0] for plot in variances(records) for row in plot.rows} == {"Method 1"}
    assert {row.scheme for row in time_to_accuracy(records)} == {"Method 1"}
    assert {row.runs for row in time_to_accuracy(records)} == {3}
