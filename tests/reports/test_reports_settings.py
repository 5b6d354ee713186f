"""Options that users set make another method and another problem: the report never compares them as the same."""

from typing import Any

import msgspec
import pytest
from compared_runs import scattered

from cryosip.records.schema import OPTIONS, Labels
from cryosip.records.select import read_records
from cryosip.reports import page
from cryosip.reports.sections import board, budgets


@pytest.fixture
def records(compared, results):
    compared("flow", scattered([9, 2]))
    compared("mixture", scattered([9, 3]))
    return read_records(results)[0]


def changed(records, **changes: Any):
    return [msgspec.structs.replace(r, path=r.path / "again", **changes) for r in records]


def test_options_of_the_method_are_a_method_of_their_own(records):
    mixtures = [r for r in records if r.method == "mixture"]
    more = changed(mixtures, labels=Labels("untuned", OPTIONS, "n_components=20"))
    (found,) = board.boards([*records, *more])
    assert [e.method for e in found.entries] == ["flow", "mixture", "mixture (n_components=20)"]
    assert [e.notes for e in found.entries] == ["", "", "untuned"]
    styles = {s.method: s.style for s in budgets.standings([*records, *more], "w2", "seconds", 8.0)}
    assert styles["mixture (n_components=20)"].label == "mixture (n_components=20)"
    assert styles["mixture (n_components=20)"].colour == styles["mixture"].colour
    assert budgets.families(styles) == "flow is OTD; mixture is DTO"


def test_options_of_the_problem_are_a_problem_of_their_own(records):
    flows = [r for r in records if r.method == "flow"]
    problem = flows[0].config.problem
    louder = msgspec.structs.replace(problem, options=problem.options | {"noise_std": 9.0})
    more = changed(flows, config=msgspec.structs.replace(flows[0].config, problem=louder))
    found = {b.problem: [e.method for e in b.entries] for b in board.boards([*records, *more])}
    assert found == {"oned, noise_std=1.5": ["flow", "mixture"], "oned, noise_std=9.0": ["flow"]}
    assert [b.problem for b in board.boards(records)] == ["oned"]


@pytest.mark.parametrize(
    ("home", "words"),
    [("nearest.py 0123456789abcdef", "--method ./nearest.py:nearest"), ("my-package 0.1", "--method nearest")],
)
def test_a_command_names_the_method_that_is_from_outside(records, home, words):
    outside = [
        msgspec.structs.replace(
            r,
            config=msgspec.structs.replace(r.config, method=msgspec.structs.replace(r.config.method, name="nearest")),
            environment=r.environment | {"method_from": home},
        )
        for r in records
        if r.method == "mixture"
    ]
    ours = "cryosip run otd-vs-dto --profile paper --replicates 5"
    assert page.study_command(records) == ours
    assert page.study_command(outside) == f"{ours} --problem oned {words}"
    assert page.study_command([*records, *outside]) == f"{ours} && {ours} --problem oned {words}"
