"""The section on outliers: pairs of the same seed, verdicts by the interval of the ratio, failures that are shown."""

import numpy as np
import pytest

from cryosip.records.select import read_records
from cryosip.reports.page import build
from cryosip.reports.sections.contamination import contaminated_rows, sentence


def put(write, variant, share, replicate, w2, **changes):
    """A mixture on the line with a share of wide outliers."""
    write(study="contamination", method="mixture", setting=variant, replicate=replicate, metrics={"w1": w2, "w2": w2},
          config={"problem": {"name": "oned", "options": {"outliers": share, "outlier_kind": "wide"}},
                  "method": {"name": "mixture", "options": {"variant": variant}}, "steps": 100, "every": 10,
                  "stop_below": None},
          curve={"step": [90, 100], "objective": [2.0, 1.0], "w1": [1.0, 0.8]}, **changes)  # fmt: skip


def test_verdicts_follow_the_ratio_of_pairs(write, results, tmp_path):
    for variant, factor in (("weak", 5.0), ("strong", 1.1)):
        for replicate, w2 in enumerate((0.1, 0.2, 0.4)):
            put(write, variant, 0.0, replicate, w2)
            put(write, variant, 0.1, replicate, factor * w2 * (1 + 0.01 * replicate))
    put(write, "lost", 0.0, 0, 0.1)
    put(write, "lost", 0.1, 0, 0.1, status="error", message="ValueError: not covered")
    rows = {row.method: row for row in contaminated_rows(read_records(results)[0])}
    assert {name: row.verdict for name, row in rows.items()} == {
        "mixture (weak)": "breaks", "mixture (strong)": "holds", "mixture (lost)": "fails"
    }  # fmt: skip
    assert np.isnan(rows["mixture (lost)"].ratios["w2"].mean)  # what a failed run left behind is no result
    weak = rows["mixture (weak)"]
    # the geometric mean of 1, 1.01 and 1.02
    assert weak.ratios["w2"].mean == pytest.approx(5 * np.cbrt(1.01 * 1.02), rel=1e-9)
    assert (weak.clean["w2"].median, weak.objective_change) == pytest.approx((0.2, 1.0))
    assert weak.w1_change == pytest.approx(0.25)
    said = sentence(list(rows.values()))
    assert "outliers break: mixture (weak);" in said
    assert "unharmed: mixture (strong);" in said
    page = build(results, tmp_path / "out").read_text(encoding="utf-8")
    assert "oned: 10% wide" in page
    assert "1 of 1 runs failed: ValueError: not covered" in page
