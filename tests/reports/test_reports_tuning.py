"""What tuning without the truth costs: both choices from the same records, and failures are far."""

import math

import numpy as np
import pytest
from compared_runs import FLOOR

from cryosip.records.select import read_records
from cryosip.reports import page
from cryosip.reports.sections.tuning import chosen


def tried(write, number, replicates, method="mixture", status="ok", **changes):
    """A setting: its held-out scores and W2 over the floor after 1 and 4 seconds, by replicate."""
    for replicate, (scores, errors) in enumerate(replicates):
        curve = {"step": [1, 2], "seconds": [1.0, 4.0], "held_out": scores, "w2": [FLOOR * e for e in errors]}
        path = write(
            study="tuning", method=method, setting=f"number={number}", replicate=100 + replicate, curve=curve,
            discrepancy="energy" if method == "flow" else None, planned=5 + number, status=status, setup_seconds=0.0,
            **changes,
        )  # fmt: skip
        budgets = '"budgets": {"seconds": [2.0, 8.0], "forward_evaluations": []}'
        path.write_text(path.read_text().replace('"stop_below": null', f'"stop_below": null, {budgets}'))


@pytest.fixture
def sweep(write):
    """Held-out images choose setting 1 early, as the truth does, and setting 0 late, where the truth takes 1."""
    tried(write, 0, [([5.0, 1.0], [9.0, 4.0]), ([5.0, 1.0], [9.0, 4.0]), ([5.0, 9.0], [9.0, 5.0])])
    tried(write, 1, [([3.0, 2.0], [6.0, 2.0])] * 3)
    tried(write, 2, [([0.0, 0.0], [1.0, 1.0])] * 3, status="diverged")


def test_both_choices_are_medians_over_replicates_and_failures_are_far(sweep, results):
    early, late = chosen(read_records(results)[0])
    assert (early.seconds, late.seconds, early.n_settings) == (2.0, 8.0, 3)
    assert (early.by_held_out, early.by_truth, early.ratio) == pytest.approx((6.0, 6.0, 1.0))
    assert (late.by_held_out, late.by_truth, late.ratio) == pytest.approx((4.0, 2.0, 2.0))


def test_without_an_estimate_there_is_no_ratio(write, results):
    tried(write, 0, [([1.0, 1.0], [2.0, 2.0])] * 3, status="error")
    for row in chosen(read_records(results)[0]):
        assert (row.by_held_out, row.by_truth) == (math.inf, math.inf)
        assert np.isnan(row.ratio)


def test_the_page_says_what_the_truth_would_have_given(sweep, results, tmp_path):
    text = " ".join(page.build(results, tmp_path / "out").read_text().split())
    assert "For 1 of 2 choices both are the same setting" in text
    assert "the worst 2 (mixture on oned within 8 s)" in text
    rows = (tmp_path / "out" / "tuning.csv").read_text().splitlines()
    assert rows[0] == "problem,seconds,method,settings,by_held_out,by_truth,ratio"
    assert len(rows) == 3


def test_choices_by_runs_of_several_machines_are_named(sweep, write, results, tmp_path):
    tried(write, 0, [([2.0, 1.0], [3.0, 2.0])] * 3, method="reweighting", environment={"device": "cuda A100"})
    tried(write, 1, [([2.0, 1.0], [3.0, 2.0])] * 3, method="reweighting", environment={"device": "cuda V100"})
    assert {row.style.label: row.several_machines for row in chosen(read_records(results)[0])} == {
        "mixture": False, "reweighting": True}  # fmt: skip
    text = " ".join(page.build(results, tmp_path / "out").read_text().split())
    assert "The runs are of several machines for reweighting on oned: what is reached within so many seconds" in text
