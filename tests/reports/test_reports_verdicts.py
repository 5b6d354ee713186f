import math
from pathlib import Path

import pytest

from cryosip.records.select import read_records
from cryosip.reports.sections.verdicts import (
    compare,
    distance_verdict,
    formula_verdict,
    grows,
    reached,
    statement_verdict,
)
from cryosip.reports.spreads import cost_below, prediction_range, spread

THREE = [0.19, 0.21, 0.23]  # mean 0.21, s = 0.02; t(2, 95 %) = 2.91999, so t s sqrt(4/3) = 0.067434


def test_spread_is_median_and_quantiles_and_needs_three() -> None:
    assert spread(THREE) == pytest.approx((0.21, 0.192, 0.228, 3))
    median, q05, q95, n = spread([0.1, 0.3, math.nan])
    assert (median, n) == (pytest.approx(0.2), 2)
    assert math.isnan(q05)
    assert math.isnan(q95)
    assert spread([1.0, 2.0, math.inf]) == pytest.approx((2.0, 1.1, math.inf, 3))
    assert spread([1.0, math.inf, math.inf]).median == math.inf


def test_prediction_range_by_hand() -> None:
    assert prediction_range(THREE, 0.0) == pytest.approx((0.21 - 0.067434, 0.21 + 0.067434), abs=1e-5)
    assert prediction_range(THREE, 0.12) == pytest.approx((0.21 - 0.090261, 0.21 + 0.090261), abs=1e-5)
    with pytest.raises(ValueError, match="got 2 values"):
        prediction_range(THREE[:2], 0.0)


@pytest.mark.parametrize(
    ("published", "floor_spread", "verdict"),
    [
        (0.1911, 0.12, "reproduced"), (0.2990, 0.12, "reproduced"), (0.3010, 0.12, "better"),
        (0.1190, 0.12, "worse"), (0.2990, 0.0, "better"), (0.1300, 0.0, "worse"),
    ],
)  # fmt: skip
def test_distance_verdict_by_hand(published: float, floor_spread: float, verdict: str) -> None:
    assert distance_verdict(published, THREE, floor_spread) == verdict


def test_distance_verdict_needs_runs_and_replicates() -> None:
    assert distance_verdict(0.2, [], 0.1) == "not run"
    assert distance_verdict(0.2, [0.2, 0.2], 0.1) == "ambiguous"


def test_compare_wants_full_separation() -> None:
    low, high = [1.0, 2.0, 3.0], [4.0, 5.0, math.inf]
    assert compare(lower=low, higher=high) == "holds"
    assert compare(lower=high, higher=low) == "fails"
    assert compare(lower=low, higher=[3.0, 5.0, 6.0]) == "undecided"
    assert compare(lower=[math.inf] * 3, higher=[math.inf] * 3) == "undecided"
    assert compare(lower=low[:2], higher=high) == "undecided"
    assert compare(lower=low, higher=high[:2]) == "undecided"


def test_reached_and_grows() -> None:
    assert [reached([1.0, 1.0, x]) for x in (2.0, math.inf)] == ["holds", "undecided"]
    assert reached([math.inf] * 3) == "fails"
    assert reached([1.0, 1.0]) == "undecided"
    a, b, c = [1.0, 1.1, 1.2], [2.0, 2.1, 2.2], [3.0, 3.1, 3.2]
    assert [grows(x) for x in ([a, b, c], [b, a, c], [c, b, a], [a])] == ["holds", "undecided", "fails", "undecided"]


def test_statement_verdict_folds_places() -> None:
    assert statement_verdict({}, "better") == "not run"
    assert statement_verdict({"a": "holds", "b": "holds"}, "better") == "reproduced"
    assert statement_verdict({"a": "fails", "b": "fails"}, "worse") == "worse"
    assert statement_verdict({"a": "holds", "b": "undecided"}, "better") == "ambiguous"


def test_formula_verdict_allows_the_misses_of_chance() -> None:
    ratios = [1.1] * 10  # the 99 % quantile of Binomial(10, 0.1) is 4
    assert [formula_verdict(ratios, misses) for misses in (4, 5)] == ["reproduced", "worse"]
    assert formula_verdict([0.5] * 10, 10) == "better"
    assert formula_verdict([], 0) == "not run"


def test_cost_below_tells_never_from_not_known(write, results: Path) -> None:
    curve = {"step": [0, 100, 200], "seconds": [0.0, 1.0, 2.0], "w2": [1.0, 0.19, 0.1], "w1": [0.5, 0.3, 0.2]}
    write(study="noise", curve=curve, replicate=0)
    write(study="noise", curve=curve, replicate=1, steps=200)
    full, stopped = sorted(read_records(results)[0], key=lambda r: r.replicate)
    assert [cost_below(full, "w2", 0.2, unit) for unit in ("step", "seconds")] == [100.0, 1.0]
    assert cost_below(full, "w1", 0.1, "step") == math.inf
    assert math.isnan(cost_below(stopped, "w1", 0.1, "step"))
    assert math.isnan(cost_below(full, "w3", 0.1, "step"))
