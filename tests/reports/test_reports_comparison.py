from pathlib import Path

import pytest

from cryosip.records.schema import Floor
from cryosip.records.select import read_records
from cryosip.reports.sections.paper import Row, paper_rows


def rows_of(results: Path) -> dict[str, Row]:
    return {row.quantity + row.part: row for row in paper_rows(read_records(results)[0])}


def row(results: Path, *words: str) -> Row:
    (found,) = [r for key, r in rows_of(results).items() if all(word in key for word in words)]
    return found


def test_every_published_number_has_a_row(everything: Path) -> None:
    rows = paper_rows(read_records(everything)[0])
    published = [r.published for r in rows]
    for number in ("0.1911", "0.1870", "0.429", "0.0163", "0.0947", "0.0277", "89.21", "19.44", "1.13", "0.21"):
        assert number in published
    assert [r.verdict for r in rows if r.part.startswith(("§4.2", "§4.3"))] == ["not run"] * 12
    assert [r.verdict for r in rows if r.part == "§2.5.3"] == ["reproduced"] * 3


def test_each_reading_of_hsp90_has_its_own_runs(write, results: Path) -> None:
    """As conjectured with a verdict, images with the diagonal; as printed nothing can be decided."""
    for variant, d2 in (("as conjectured", 19.0), ("as printed", 5.0)):
        for i in range(3):
            off = 0.5 * i
            values = {"energy_distance_squared_unwhitened": d2 + off, "images_noisy_v": 0.2 + off / 50}
            write(study="paper-hsp90", setting=variant, replicate=i, problem="hsp90", metrics=values,
                  config={"problem": {"name": "hsp90", "options": {"n_observations": 3_000}},
                          "method": {"name": "flow", "options": {"discrepancy": {"name": "energy"}}},
                          "steps": 40, "every": 10, "stop_below": None})  # fmt: skip
    rows = {
        (r.part.rpartition(", ")[2], r.published): r
        for r in paper_rows(read_records(results)[0])
        if r.part.startswith("§4.3")
    }
    assert rows["as conjectured", "19.44"].verdict == "reproduced"
    assert rows["as conjectured", "0.21"].verdict == "reproduced"
    assert rows["as conjectured", "0.21"].ours.median == pytest.approx(0.21)
    assert rows["as printed", "19.44"].verdict == "other size"
    assert rows["as printed", "19.44"].ours.median == pytest.approx(5.5)


def test_published_size_gives_a_verdict_beside_its_floor(write, results: Path) -> None:
    for i, w2 in enumerate((0.19, 0.21, 0.23)):
        write(replicate=i, metrics={"w1": 0.08, "w2": w2})
        write(replicate=i, setting="tuned", metrics={"w2": 0.01})
        write(replicate=i, study="noise", metrics={"w2": 9.0})
        write(replicate=i, sigma=0.5, metrics={"w2": 9.0})
    w2 = row(results, "energy distance", "W2")
    assert (w2.verdict, w2.ours.median, w2.ours.n) == ("reproduced", pytest.approx(0.21), 3)
    assert w2.floor == Floor(0.076, 0.034, 0.155, 10_000)
    assert w2.accepted == pytest.approx((0.1195, 0.3005), abs=2e-3)
    w1 = row(results, "energy distance", "W1")
    assert (w1.verdict, w1.ours.median, w1.accepted) == ("ambiguous", pytest.approx(0.08), None)
    assert row(results, "KL divergence", "W2").verdict == "not run"


def test_smaller_runs_are_shown_without_verdict_and_sizes_not_pooled(write, results: Path) -> None:
    for i in range(3):
        write(profile="small", n=2_000, planned=5_000, replicate=i, metrics={"w2": 0.3})
        write(profile="smoke", n=200, planned=50, replicate=i, metrics={"w2": 0.9})
    w2 = row(results, "energy distance", "W2")
    assert (w2.verdict, w2.ours.median, w2.ours.n, w2.accepted) == ("other size", pytest.approx(0.3), 3, None)
    assert "n = 2,000 and 5,000 steps" in w2.why


def test_few_or_failed_replicates_decide_nothing(write, results: Path) -> None:
    write(replicate=0, metrics={"w2": 0.2})
    write(replicate=1, metrics={"w2": 0.2})
    assert row(results, "energy distance", "W2").verdict == "ambiguous"
    assert "2 replicates" in row(results, "energy distance", "W2").why
    write(replicate=2, metrics={"w2": 0.2})
    assert row(results, "energy distance", "W2").verdict == "reproduced"
    write(replicate=3, status="diverged", metrics={})
    failed = row(results, "energy distance", "W2")
    assert (failed.verdict, failed.ours.n) == ("ambiguous", 3)
    assert "1 of 4" in failed.why


def cost_curve(steps: float, seconds: float) -> dict[str, list[float]]:
    return {"step": [0, steps], "seconds": [0, seconds], "w2": [1.0, 0.1]}


def test_statements_of_fig_2(write, results: Path) -> None:
    for i in range(3):
        for sigma in (0.5, 1.5):
            write(study="noise", replicate=i, sigma=sigma, curve=cost_curve(1000 * sigma + i, 5 * sigma + i / 10))
            write(study="noise", replicate=i, sigma=sigma, discrepancy="kl",
                  curve=cost_curve(3000 * sigma + i, 4 * sigma + i / 10))  # fmt: skip
    assert row(results, "is reached").verdict == "reproduced"
    assert row(results, "more iterations").verdict == "reproduced"
    assert row(results, "more time").verdict == "better"
    assert row(results, "grow with").verdict == "reproduced"
    for i in range(3):
        write(study="noise", replicate=i, sigma=2.5, curve={"step": [0], "seconds": [0], "w2": [1.0]})
    reached = row(results, "is reached")
    assert reached.verdict == "ambiguous"
    assert "fails: energy σ 2.5" in reached.finding


def test_statements_need_the_published_size(write, results: Path) -> None:
    for i in range(3):
        for name in ("energy", "kl"):
            write(study="noise", profile="small", n=2_000, replicate=i, discrepancy=name, curve=cost_curve(10, 10))
    reached = row(results, "is reached")
    assert (reached.verdict, reached.finding) == ("other size", "holds: energy σ 1.5, KL σ 1.5")
    assert "n = 2,000" in reached.why


def test_wrong_variance_formula_is_not_reproduced(write, results: Path) -> None:
    for k in range(1, 6):
        write(study="sampling", method="method-2", options={"n": 10, "k": k}, setting=f"K={k}",
              metrics={"variance": 2.0, "variance_q05": 1.9, "variance_q95": 2.1, "variance_formula": 1.0})  # fmt: skip
    second = row(results, "2.14")
    assert (second.verdict, second.ours.median) == ("worse", 2.0)
    assert row(results, "2.13").verdict == "not run"


def test_variances_of_several_profiles_are_not_pooled(write, results: Path) -> None:
    numbers = {"variance": 2.0, "variance_q05": 1.9, "variance_q95": 2.1, "variance_formula": 2.0}
    for profile in ("small", "paper"):
        write(study="sampling", method="method-1", profile=profile, options={"n": 10, "k": 1}, metrics=numbers)
    assert row(results, "2.13").ours.n == 1
