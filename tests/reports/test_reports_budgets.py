"""OTD against DTO on the page: the sentence follows the numbers, failures and what was not reached stay in sight."""

import math
import re

import numpy as np
import pytest
from compared_runs import FLOOR, scattered

from cryosip.records.select import read_records
from cryosip.reports import page
from cryosip.reports.sections import budgets, otd_dto


def verdicts(results):
    records, _ = read_records(results)
    return {(v.unit, v.budget): v for v in budgets.verdicts(records)}


def test_the_floor_of_the_tests_is_known(compared, results):
    compared("flow", [[2.0]])
    (record,), _ = read_records(results)
    assert record.data_floors["w2"].median == pytest.approx(FLOOR)


def test_the_winner_is_told_with_its_interval_and_so_is_the_papers_own_loss(compared, results):
    compared("flow", scattered([9, 6, 5, 4]))
    compared("mixture", scattered([8, 3, 2, 2]), options={"n_components": 7, "anneal": [10.0, 50]})
    found = verdicts(results)
    assert sorted(found) == [("forward_evaluations", 100.0), ("seconds", 2.0), ("seconds", 8.0)]
    late = found["seconds", 8.0]
    assert [s.method for s in late.standings] == ["mixture", "flow"]
    assert late.standings[0].options == "n_components 7, anneal 10 in 50, at most 25,000 steps"
    assert late.standings[1].options == "energy, at most 25,000 steps"
    assert late.sentence.startswith("mixture wins with W2 ")
    ratio = budgets.ratio(*late.standings)
    assert ratio.low < ratio.mean < ratio.high < 1
    assert ratio.mean == pytest.approx(0.5, rel=0.05)
    assert re.match(r"2 of 2, (2|1\.9\d|2\.0\d) \[", late.own)
    assert "times as far" in late.own
    assert found["forward_evaluations", 100.0].standings[0].spread.median == pytest.approx(3, rel=0.05)


def test_the_sentence_turns_with_the_numbers(compared, results):
    compared("mixture", scattered([9, 6, 5, 4]))
    compared("flow", scattered([8, 3, 2, 2]))
    late = verdicts(results)["seconds", 8.0]
    assert late.sentence.startswith("flow wins")
    assert late.own == "1 of 2"


def test_methods_that_take_turns_show_no_significant_difference(compared, results):
    compared("flow", [[9, 5], [9, 3], [9, 4.1], [9, 4.1]])
    compared("mixture", [[9, 3], [9, 5], [9, 4], [9, 3]])
    late = verdicts(results)["seconds", 8.0]
    assert late.sentence.startswith("No significant difference between ")
    place = 1 + [s.method for s in late.standings].index("flow")
    assert late.own.startswith("1 of 2" if place == 1 else "2 of 2, no significant difference from the first: ")


def test_the_interval_is_that_of_student(compared, results):
    compared("flow", [[2.0], [3.0], [4.0]])
    compared("mixture", [[1.0], [2.0], [2.0]])
    order = verdicts(results)["seconds", 8.0].standings
    ratio = budgets.ratio(order[0], order[1])
    logs = np.log([1 / 2, 2 / 3, 2 / 4])
    half = 2.919986 * logs.std(ddof=1) / math.sqrt(3)  # t of 2 degrees of freedom, 95 %
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx(
        (np.exp(logs.mean()), np.exp(logs.mean() - half), np.exp(logs.mean() + half)), rel=1e-4
    )


def test_a_difference_counts_for_the_number_of_comparisons(compared, results):
    """By itself flow beats each of the others at 10 %; of the six pairs of four methods none is that sure."""
    scatter = np.array([0.0, 0.05, 0.1, 0.2, 0.3])
    compared("flow", [[2.0]] * 5)
    for shift, method in enumerate(("mixture", "reweighting", "posterior-npmle")):
        compared(method, [[2.0 * math.exp(x)] for x in np.roll(scatter, shift)])
    order = verdicts(results)["seconds", 8.0].standings
    alone = [budgets.ratio(order[0], other) for other in order[1:]]
    assert order[0].method == "flow"
    assert all(found.high < 1 and found.p < 0.1 for found in alone)
    pairs = budgets.comparisons(order)
    assert len(pairs) == 6
    assert pairs["flow", order[1].method].p == pytest.approx(6 * alone[0].p)
    assert [standing.method for standing in budgets.best(order)] == [standing.method for standing in order]
    assert budgets.best(order[:2]) == order[:1]


def test_too_few_replicates_have_no_interval_and_it_says_why(compared, results):
    compared("flow", [[9.0], [9.0]])
    compared("mixture", [[2.0], [2.0]])
    found = verdicts(results)["seconds", 8.0]
    assert found.sentence.endswith("undecided: 2 replicates, fewer than 3: no interval.")
    assert "wins" not in found.sentence


def test_a_failed_replicate_stays_and_is_far(compared, results):
    compared("flow", [[9.0], [9.0], [9.0]])
    compared("mixture", [[2.0], [2.0], [2.0]], status=("ok", "error", "ok"))
    found = verdicts(results)["seconds", 8.0]
    first = found.standings[0]
    assert (first.method, first.failed, sorted(first.ratios.values())[-1]) == ("mixture", 1, math.inf)
    assert "a replicate of one of them gave no number" in found.sentence
    text = page.build(results, results / "out").read_text()
    assert "mixture (1 of 3 failed)" in text
    assert "1 of 3</td>" in text


def test_building_a_method_counts_and_nothing_yet_is_far(compared, results):
    compared("flow", scattered([9, 6, 5, 4]), setup=3.0)
    compared("mixture", scattered([8, 7, 6, 6]))
    found = verdicts(results)
    early, late = found["seconds", 2.0], found["seconds", 8.0]
    assert early.sentence == f"mixture alone had an estimate: W2 {early.standings[0].spread.median:.3g} × floor."
    assert early.own == "2 of 2: no estimate within the budget"
    assert late.standings[0].method == "flow"
    assert late.standings[0].spread.median == pytest.approx(5, rel=0.05)  # after 4 + 3 of 8 seconds


def test_a_threshold_that_is_not_reached_is_shown_as_such(compared, results):
    compared("mixture", [[9, 2.5, 1.2], [9, 1.9, 1.8], [9, 4.0, 2.9], [9, 9, 9]], setup=0.5)
    records, _ = read_records(results)
    (reach,) = budgets.reaches(records, "seconds")
    assert reach.reached == {1.5: "1 of 4", 2.0: "2 of 4", 3.0: "3 of 4", 5.0: "3 of 4"}
    assert reach.costs[1.5].median == math.inf
    assert reach.costs[5.0].median == pytest.approx(2.5)
    text = page.build(results, results / "out").read_text()
    assert "not reached" in text


def test_runs_of_two_sweeps_are_never_pooled(compared, results):
    """The later choice counts, whatever the replicate."""
    compared("mixture", scattered([9, 2, 2, 2]), options={"n_components": 3}, created="2025-11-21T12:00:00Z")
    compared("mixture", scattered([9, 7, 7, 7]), options={"n_components": 4}, created="2025-11-22T12:00:00Z")
    (standing,) = verdicts(results)["seconds", 8.0].standings
    assert standing.options.startswith("n_components 4,")
    assert standing.spread.median == pytest.approx(7, rel=0.05)


def test_a_run_counts_only_for_the_budgets_it_was_chosen_for(compared, results):
    compared("mixture", scattered([9, 2, 2, 2]), own={"seconds": [2.0], "forward_evaluations": []})
    compared("flow", scattered([9, 6, 5, 4]))
    found = verdicts(results)
    assert [s.method for s in found["seconds", 2.0].standings] == ["mixture", "flow"]
    assert [s.method for s in found["seconds", 8.0].standings] == ["flow"]


def test_the_front_is_at_what_was_spent(compared, results):
    compared("mixture", scattered([9, 3, 2.5]), own={"seconds": [8.0], "forward_evaluations": []}, setup=0.5)
    compared("flow", scattered([9, 8, 7, 6]), own={"seconds": [2.0], "forward_evaluations": []}, setup=3.0)
    page.build(results, results / "out")
    lines = (results / "out" / "figures" / "oned-pareto-seconds.csv").read_text().splitlines()[1:]
    places = {line.split(",")[0]: float(line.split(",")[1]) for line in lines}
    assert places == {"mixture": 4.5, "flow": 2.0}  # the flow had nothing yet


def test_a_front_holds_what_nothing_beats():
    assert otd_dto.front([(3.0, 1.0), (1.0, 5.0), (2.0, 6.0), (2.0, 2.0), (4.0, 1.0)]) == [(1, 5), (2, 2), (3, 1)]


def test_medians_are_taken_at_looks_that_half_of_the_runs_came_to(compared, results):
    compared("mixture", [[9, 4], [7, 2], [8, 6, 1]])
    records, _ = read_records(results)
    x, y = otd_dto.median_curve(records, "w2", "seconds")
    np.testing.assert_allclose(x, [1, 2])
    np.testing.assert_allclose(y, [8, 4])


def test_the_section_has_every_problem_and_its_bounds(compared, write, results):
    compared("flow", scattered([9, 6, 5, 4]))
    compared("mixture", scattered([8, 3, 2, 2]))
    write(study="otd-vs-dto", method="reweighting", problem="nanocluster", status="error", message="<b>no</b>")
    text = page.build(results, results / "out").read_text()
    start = text.index('<section id="otd-vs-dto">')
    section = text[start : text.index("</section>", start)]
    assert "<h3>oned</h3>" in section
    assert "<h3>nanocluster</h3>" in section
    for bound in ("start (initial distribution)", "truth-sample (floor), n = ", "an oracle"):
        assert bound in section
    drawn = {plot.stem for plot in (results / "out" / "figures").glob("oned-*.csv")}
    assert {"oned-w2-seconds", "oned-w1-forward-evaluations", "oned-energy-distance-squared-seconds",
            "oned-pareto-seconds", "oned-pareto-memory"} <= drawn  # fmt: skip
    assert (results / "out" / "figures" / "oned-w2-seconds.csv").read_text().count("\n") == 1 + 2 * 5 * 4
