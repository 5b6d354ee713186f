"""Readings on the page: which published numbers each can give, and why not."""

import csv

import pytest

from cryosip.records.select import read_records
from cryosip.reports import page
from cryosip.reports.sections.readings import gives, rows


def put(write, name, replicate, d2, images, floor, **changes):
    values = {"d2": d2, "d2_sampled_mean": d2, "d2_sampled_std": 1.5, "rms_motion": 18.0, "snr": 2.5,
              "images_u": images - 0.2, "images_v": images, "floor_u": floor - 0.2, "floor_v": floor}  # fmt: skip
    problem = {"name": "hsp90", "options": {"chain": name, "cutoff_in_angstroms": 15.0, "amplitude": "inverse",
                                            "intensity": "scattering", "n_observations": 1000}}  # fmt: skip
    write(study="hsp90-readings", method="reading", setting=name, replicate=replicate, metrics=values,
          config={"problem": problem, "method": {"name": "reading", "options": {}}, "steps": 1, "every": 1,
                  "stop_below": None}, **changes)  # fmt: skip


@pytest.fixture
def three(write, results):
    for replicate, off in enumerate((-0.02, 0.0, 0.03)):
        put(write, "D", replicate, 91.7, 1.1 + off, 0.2 + off)
        put(write, "A", replicate, 13.4, 0.17 + off, 0.2 + off)
        put(write, "Z", replicate, 0.0, 0.0, 0.0, status="error", message="ValueError: no chain 'Z'")
    return results


def test_the_reading_that_gives_all_comes_first(three):
    found = rows(read_records(three)[0])
    assert [(r.chain, r.given) for r in found] == [("D", 4), ("A", 1), ("Z", 0)]
    assert found[0].d2_range == pytest.approx((91.7 - 2.66, 91.7 + 2.66), abs=0.01)
    assert found[1].gives[3][1] == "yes"  # of images 0.21 as V, where it starts at 0.17 to within a further run
    assert found[2].statuses == "ValueError: no chain 'Z'"


def test_without_replicates_images_stay_open():
    words = [word for _, word, _ in gives(91.7, (89.0, 94.0), {name: [1.0] for name in ("images_u", "images_v")})]
    assert words == ["yes", "yes", "open", "open"]


def test_the_page_names_it(three, tmp_path):
    text = " ".join(page.build(three, tmp_path / "out").read_text().split())
    assert "1 of 3 readings can give all four: z/λ, chain D, 15 Å, scattering factors." in text
    lines = list(csv.DictReader((tmp_path / "out" / "hsp90-readings.csv").open()))
    assert [line["gives_89.21"] for line in lines] == ["yes", "no", ""]
