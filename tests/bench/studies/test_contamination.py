"""The study contamination plans the same methods with and without outliers, and runs are long and fixed."""

import pytest

from cryosip.bench.studies.contamination import ROWS, contamination
from cryosip.bench.studies.registry import STUDIES

SIZES = STUDIES["contamination"].sizes


@pytest.mark.parametrize("profile", SIZES)
def test_every_method_is_run_clean_and_with_each_kind(profile):
    cases = {}
    for run in contamination(SIZES[profile]):
        assert run.stop_below is None
        assert run.stop_after_seconds is None
        assert (run.labels.value, run.labels.axis) == (
            run.problem_options["outliers"],
            run.problem_options["outlier_kind"] if run.problem_options["outliers"] else "clean",
        )
        cases.setdefault((run.problem, run.labels.axis, run.labels.value), []).append(run.labels.variant)
    for (problem, *_), names in cases.items():
        assert names == list(ROWS[problem])
    kinds = {"clean", "wide", "noise", "neighbour"}
    assert {kind for problem, kind, _ in cases if problem == "nanocluster"} == kinds
    assert {kind for problem, kind, _ in cases if problem == "oned"} == {"clean", "wide"}
    assert ("adk" in {problem for problem, *_ in cases}) == (profile == "paper")


def test_a_tenth_of_the_steps_lies_between_the_last_evaluations():
    for run in contamination(SIZES["small"]):
        assert run.steps - run.every * 9 == pytest.approx(run.steps / 10, abs=9)
