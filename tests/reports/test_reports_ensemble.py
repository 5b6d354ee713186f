"""Populations on the page: one table for each ensemble, by what is known of the poses, with controls once."""

import csv

import pytest

from cryosip.records.select import read_records
from cryosip.reports import page
from cryosip.reports.sections.ensemble import case_rows


def put(write, poses, replicate, variation, **changes):
    """Reweighting of two structures."""
    known = {"population_total_variation": variation, "population_kl": variation**2, "w2": 1.0 + variation}
    floors = {name: {"median": 0.02, "q05": 0.01, "q95": 0.03, "n": 100} for name in known}
    problem = {"name": "ensemble", "options": {"poses": poses, "n_observations": 100}}
    write(study="ensemble", method="reweighting", setting=f"two structures; poses {poses}", replicate=replicate,
          config={"problem": problem, "method": {"name": "reweighting", "options": {}}, "steps": 10, "every": 10,
                  "stop_below": None},
          metrics=known, data_floors=floors, floors=floors, initial_metrics=dict.fromkeys(known, 0.5),
          oracle_metrics={"w2": 1.0}, setup_seconds=3.5, **changes)  # fmt: skip


@pytest.fixture
def populations(write, results):
    for replicate, variation in enumerate((0.02, 0.04, 0.1)):
        put(write, "unknown", replicate, 2 * variation)
        put(write, "known", replicate, variation)
    put(write, "near", 0, 0.9, status="error", message="ValueError: too many")
    return results


def test_a_row_for_each_case_and_controls_once(populations):
    rows = case_rows(read_records(populations)[0])
    assert [poses for poses, _ in rows] == ["known", "near", "unknown", "", ""]
    assert [row.label for _, row in rows] == [*["reweighting"] * 3, "start", "truth-sample"]
    known, near, unknown, start, _ = (row for _, row in rows)
    assert known.metrics["population_total_variation"].median == pytest.approx(0.04)
    assert unknown.ratios["population_total_variation"].median == pytest.approx(4.0)
    assert known.setup_seconds.median == pytest.approx(3.5)
    assert (near.statuses, near.metrics["w2"].n) == ("1 error", 0)
    assert start.metrics["population_kl"].median == pytest.approx(0.5)


def test_the_page_and_the_file_have_the_same_numbers(populations, tmp_path):
    text = " ".join(page.build(populations, tmp_path / "out").read_text().split())
    assert "<h3>two structures (paper)</h3>" in text
    assert "population_total_variation" not in text.partition('<section id="ensemble">')[2].partition("</section>")[0]
    lines = list(csv.DictReader((tmp_path / "out" / "ensemble.csv").open()))
    (line,) = (x for x in lines if x["poses"] == "known" and x["metric"] == "population_total_variation")
    assert (float(line["median"]), float(line["over_floor"])) == pytest.approx((0.04, 2.0))
    assert float(line["setup_seconds"]) == pytest.approx(3.5)
