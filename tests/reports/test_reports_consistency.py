"""The section on consistency: exponents and intervals from the records, and a verdict that turns with the numbers."""

import math
from pathlib import Path

import numpy as np
import pytest

from cryosip.records.select import read_records
from cryosip.reports.page import build
from cryosip.reports.sections.consistency import consistency_plots
from cryosip.reports.sections.statements import exponent, gaps, judged, sign, statements
from cryosip.reports.spreads import Estimate, mean_interval

N, K = np.array([30.0, 300.0, 3_000.0, 30_000.0]), np.array([1.0, 2.0, 4.0, 8.0, 16.0])


def put(write, method, setting, replicate, curve, **fields):
    lists = {name: np.asarray(x, float).tolist() for name, x in curve.items()}
    write(study="consistency", method=method, setting=setting, discrepancy=None, replicate=replicate, seed=replicate,
          n=1_000, metrics=fields, curve=lists)  # fmt: skip


def put_all(write, replicates=5, rate=-0.5, decay=-2.0, alpha=0.2, off=1.0, drift=5.0, certificate=0.0):
    """Records of all statements, with exponents that differ by a few hundredths between replicates."""
    for i in range(replicates):
        jitter = 0.02 * (i - 2)
        size = 0.3 * N ** (rate + jitter) * (-1) ** i
        put(write, "large-data", "likelihood, §4.1", i, {"n": N, "draw": 0 * N, "gap": size, "certificate": 0 * N})
        gap = 0.4 * K ** (decay + jitter)
        d = 2 * gap ** (alpha + jitter / 10)
        put(write, "particle-number", "energy, §4.1", i,
            {"k": K, "gap": gap, "certificate": 0 * K + certificate, "w2": d, "energy_distance": d / 2})  # fmt: skip
        distance = {"factor": [0.5, 1, 2], "distance": [0.1, 1e-9, 0.1]}
        put(write, "prior-weight", "§4.1", i, distance | {"objective_difference": [1e13, off, 1e13]})
        steps = np.arange(1.0, 4)
        names = [f"{other}_{precision}" for other in ("mixture", "written") for precision in ("float32", "float64")]
        put(write, "gradient-descent", "§4.1", i, {"step": steps, **dict.fromkeys(names, drift * steps / 3)},
            fall_float32=0.2, fall_float64=0.2)  # fmt: skip


def found(results):
    return {s.name: s for s in statements(read_records(results)[0])}


def test_every_statement_held_with_its_number_and_interval(write, results):
    put_all(write)
    parts = found(results)
    assert {name: s.outcome for name, s in parts.items()} == dict.fromkeys(
        ("large-data", "particle-number", "distance", "equivalence"), "holds"
    )
    (rate,) = parts["large-data"].findings
    assert rate.number.value == pytest.approx(-0.5, abs=1e-9)
    # t_{0.95, 4} s / sqrt(5), s the standard deviation of 0.02 (-2 ... 2)
    half = 2.1318 * 0.02 * math.sqrt(2.5) / math.sqrt(5)
    assert (rate.number.low, rate.number.high) == pytest.approx((-0.5 - half, -0.5 + half), abs=1e-4)
    assert rate.expected == "−1/2"
    assert "The statement held" in parts["large-data"].sentence
    assert "-0.5" in parts["large-data"].sentence
    assert {f.quantity for f in parts["distance"].findings} == {"α for d = W2", "α for d = energy distance"}
    assert [f.number.value for f in parts["distance"].findings] == pytest.approx([0.2, 0.2], abs=0.01)


@pytest.mark.parametrize(
    ("changes", "name", "outcome"),
    [
        ({"rate": 0.3}, "large-data", "fails"),
        ({"rate": 0.005}, "large-data", "undecided"),
        ({"decay": 0.5, "alpha": -0.2}, "particle-number", "fails"),
        ({"alpha": -0.2}, "distance", "fails"),
        ({"alpha": 0.0}, "distance", "undecided"),
        ({"off": 1e5}, "equivalence", "fails"),
        ({"drift": 1e5}, "equivalence", "fails"),
        ({"certificate": 1.0}, "particle-number", "undecided"),
    ],
)
def test_the_sentence_turns_with_the_numbers(write, results, changes, name, outcome):
    put_all(write, **changes)
    part = found(results)[name]
    assert part.outcome == outcome
    assert {"fails": "did not hold", "undecided": "is undecided"}[outcome] in part.sentence


def test_too_few_replicates_have_no_interval_and_the_page_says_why(write, results, tmp_path):
    put_all(write, replicates=2)
    for part in found(results).values():
        assert part.outcome == "undecided"
        assert "No interval is drawn from 2 replicates, fewer than 3." in part.sentence
        assert all(math.isnan(f.number.low) and math.isnan(f.number.high) for f in part.findings)
    text = build(results, tmp_path / "out").read_text(encoding="utf-8")
    assert "no interval: 2 replicates, fewer than 3" in text


def test_a_gap_that_no_law_can_have_decides_nothing(write, results):
    put_all(write)
    curve = {"k": K, "gap": [0.4, 0.1, -0.01, 0.01, 0.001], "certificate": 0 * K, "w2": K, "energy_distance": K}
    put(write, "particle-number", "energy, §4.1", 5, curve)
    assert found(results)["particle-number"].outcome == "undecided"


def test_a_limit_other_than_the_minimum_shows_in_the_upper_half(write, results):
    """A gap that falls at first and then stays."""
    for i in range(5):
        size = np.array([0.3, 0.1, 0.05, 0.05]) * (1 + 0.01 * i * np.array([1, -1, -1, 1]))
        put(write, "large-data", "likelihood, §4.1", i, {"n": N, "draw": 0 * N, "gap": size, "certificate": 0 * N})
    (part,) = statements(read_records(results)[0])
    assert part.findings[0].number.high < 0
    assert part.outcome != "holds"


def test_gaps_are_pooled_over_draws_and_lost_ones_left_out(write, results):
    curve = {"n": [10, 10, 100], "draw": [0, 1, 0], "gap": [3.0, -4.0, 1e-9], "certificate": [0, 0, 1e-9]}
    put(write, "large-data", "energy, §4.1", 0, curve)
    n, gap = gaps(read_records(results)[0][0])
    assert n.tolist() == [10]
    assert gap == pytest.approx([math.sqrt(12.5)])
    assert math.isnan(exponent(n, gap))


def test_signs_and_what_they_decide():
    assert sign(Estimate(1.0, 0.5, 1.5, 3)) == 1
    assert sign(Estimate(-1.0, -1.5, -0.5, 3)) == -1
    assert sign(Estimate(0.1, -0.5, 0.7, 3)) == sign(mean_interval([1.0, 1.0])) == 0
    assert judged([1, -1], [1, -1]) == "holds"
    assert judged([1, 0], [1, -1]) == "undecided"
    assert judged([0, 1], [1, -1]) == "fails"


def test_figures_tables_and_section(write, results, tmp_path):
    put_all(write)
    plots = consistency_plots(read_records(results)[0])
    assert {name: len(group) for name, group in plots.items()} == {
        "large-data": 1, "particle-number": 1, "distance": 2, "equivalence": 2,
    }  # fmt: skip
    assert len(plots["large-data"][0].rows) == 5 * len(N)
    assert plots["particle-number"][0].rows[0] == ["energy", "§4.1", 0, 1.0, 0.4]
    out = build(results, tmp_path / "out")
    text = out.read_text(encoding="utf-8")
    assert text.count('class="verdict holds"') == 4 + 4 + 1 + 1 + 2 + 6
    for group in plots.values():
        for plot in group:
            assert (Path(out.parent) / "figures" / f"{plot.name}.svg").is_file()
            assert plot.name in text


def test_runs_that_failed_take_no_part(write, results):
    put_all(write, replicates=3)
    write(study="consistency", method="large-data", setting="likelihood, §4.1", discrepancy=None, replicate=9,
          n=1_000, status="error", message="ValueError: no", metrics={}, curve={})  # fmt: skip
    assert found(results)["large-data"].findings[0].number.n == 3
