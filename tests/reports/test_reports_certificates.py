"""Certificates on the page: who came below the limit and stayed there counts, and who did not is said."""

import pytest

from cryosip.records.select import read_records
from cryosip.reports import page
from cryosip.reports.sections.certificates import rows


def certified(write, gaps, replicate, **changes):
    curve = {"step": [1, 4, 16], "seconds": [0.5, 2.0, 8.0], "likelihood_gap": gaps, "w2": [1.0, 0.3, 0.152]}
    write(study="certificates", method="mixture", setting="line", replicate=replicate, curve=curve,
          metrics={"w2": 0.152, "likelihood_gap": gaps[-1]}, setup_seconds=0.25, **changes)  # fmt: skip


def test_from_when_the_gap_stays_below_the_limit_counts(write, results):
    certified(write, [1.0, 5e-5, 3e-5], 0)
    certified(write, [1.0, 2e-4, 3e-5], 1)
    certified(write, [1.0, 2e-4, 2e-4], 2)
    certified(write, [1e-6, 1e-6, 1e-6], 3, status="diverged")
    certified(write, [1e-6, 3e-4, 3e-5], 4)
    certified(write, [1e-6, 3e-5, 3e-4], 5)
    (row,) = rows(read_records(results)[0])
    assert (row.n, row.certified) == (6, 3)
    assert row.gap.median == pytest.approx(3e-5)
    assert row.steps.median == pytest.approx(16)
    assert row.seconds.median == pytest.approx(8.25)  # building it is part
    assert row.w2.median == pytest.approx(2.0)


def test_the_page_says_how_many_came_there(write, results, tmp_path):
    certified(write, [1.0, 2e-4, 2e-4], 0)
    text = " ".join(page.build(results, tmp_path / "out").read_text().split())
    assert "<td>0 of 1</td><td>—</td><td>—</td>" in text
    assert (tmp_path / "out" / "certificates.csv").read_text().startswith("problem,method")
