"""The ranking over all problems: which table is ranked, what is said of it, and its figures."""

import math

import numpy as np
import pytest

from cryosip.reports.sections import overall


def ratios(medians: dict[str, list[float]], replicates: int = 5) -> dict[str, dict[str, dict[int, float]]]:
    """By problem and method, replicates close to each median; nan where the method did not run."""
    rng = np.random.default_rng(0)
    problems = range(len(next(iter(medians.values()))))
    return {
        f"p{at}": {
            method: {r: own[at] * math.exp(0.01 * rng.normal()) for r in range(replicates)}
            for method, own in medians.items()
            if not math.isnan(own[at])
        }
        for at in problems
    }


@pytest.mark.parametrize(
    ("ran", "problems", "methods"),
    [
        ({"a": "wxyz", "b": "wxyz", "c": "xy"}, ["a", "b"], ["w", "x", "y", "z"]),
        ({"a": "xy", "b": "xyz", "c": "xy"}, ["a", "b", "c"], ["x", "y"]),  # a newcomer on one problem
        ({"a": "xy", "b": "xy", "c": "z"}, ["a", "b"], ["x", "y"]),  # a problem that only a newcomer ran
        ({"a": "xy", "b": "xy", "c": "x", "d": "y"}, ["a", "b"], ["x", "y"]),  # no method ran on just these
        ({"a": "x", "b": "xy"}, ["a", "b"], ["x"]),  # as many entries: the table with more problems
        ({}, [], []),
    ],
)
def test_ranked_is_the_largest_complete_table(ran, problems, methods):
    assert overall.complete(ran) == (problems, methods)


def test_what_is_left_out_is_named():
    found = overall.overall(
        ratios({"x": [1, 1, 1, math.nan], "y": [2, 2, 2, math.nan], "new": [3, math.nan, math.nan, 1]})
    )
    assert found is not None
    assert found.left_out == (
        "Not ranked: new, which did not run on p1 and p2; the problem p3, on which x and y did not run."
    )
    assert found.problems == ["p0", "p1", "p2"]
    whole = overall.overall(ratios({"x": [1, 1], "y": [2, 2]}))
    assert whole is not None
    assert whole.left_out == ""


def test_methods_are_compared_on_the_replicates_that_they_share():
    given = ratios({"x": [1.0, 1.0], "y": [2.0, 2.0]})
    given["p0"]["x"] = {4: 3.0, 5: 0.1, 6: 0.1}  # of these y has the first alone
    found = overall.overall(given)
    assert found is not None
    assert found.errors[0].shape == (1, 2)
    assert {row.style.label: row.ranks["p0"] for row in found.methods} == {"x": 2, "y": 1}
    given["p1"]["y"][3] = math.nan  # a metric that is not known is no failure
    found = overall.overall(given)
    assert found is not None
    assert found.errors[1].shape == (4, 2)
    given["p0"]["x"] = {7: 1.0}
    assert overall.overall(given) is None


def test_failures_are_last():
    given = ratios({"x": [1, 1, 1], "y": [2, 2, 2], "z": [3, 3, 3]})
    given["p0"]["x"] = dict.fromkeys(range(5), math.inf)
    given["p0"]["y"] = dict.fromkeys(range(5), math.inf)
    found = overall.overall(given)
    assert found is not None
    assert {row.style.label: row.ranks["p0"] for row in found.methods} == {"x": 2.5, "y": 2.5, "z": 1}
    assert {row.style.label: row.area.value for row in found.methods}["x"] == pytest.approx(2 / 3, abs=0.02)


def test_the_sentence_says_what_is_decided_and_what_is_not():
    found = overall.overall(ratios({"a": [1.0] * 10 + [2.0] * 6, "b": [2.0] * 10 + [1.0] * 6, "c": [9.0] * 16}))
    assert found is not None
    assert found.groups == [(0, 1)]
    assert found.sentence.startswith("Over 16 problems a ranks first, significantly before c but not before b (mean")
    needed = math.ceil((2.052 / 0.25) ** 2 * 3 * 4 / 6)  # q of three methods at 10 %, over the difference of mean ranks
    assert found.sentence.endswith(f"about {needed} problems would separate a from the second, b")


def test_three_problems_that_agree_do_not_separate_two_methods():
    """Their mean ranks differ by more than the critical difference, which is not made for so few."""
    found = overall.overall(ratios({"a": [1.0] * 3, "b": [2.0] * 3}))
    assert found is not None
    assert found.critical_difference < 1
    assert found.groups == [(0, 1)]
    assert "no overall ranking is decided: the mean ranks, from 1 (a) to 2 (b), do not differ" in found.sentence


def test_methods_that_tie_are_said_to():
    found = overall.overall(ratios({"a": [1.0, 2.0], "b": [2.0, 1.0]}))
    assert found is not None
    assert [row.mean_rank.value for row in found.methods] == [1.5, 1.5]
    assert found.friedman.p == 1
    assert found.sentence.endswith("; a and b have the same mean rank, so no number of problems can be given")


def test_the_figures_hold_the_numbers():
    found = overall.overall(ratios({"flow": [1, 1, 1], "mixture": [2, 2, 20]}))
    assert found is not None
    diagram, profile = overall.plots(found)
    assert diagram.rows[0][:2] == ["flow", 1]
    assert f"critical difference {found.critical_difference:.3g}" in diagram.svg
    assert "flow 1.00" in diagram.svg
    at = {row[1]: row[2] for row in profile.rows if row[0] == "mixture"}
    assert (at[1.0], at[10.0]) == (0, pytest.approx(2 / 3))
    assert "flow, area 1.00" in profile.svg
