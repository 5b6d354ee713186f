import json
from pathlib import Path

import numpy as np
import pytest

from cryosip.records.select import largest, of_names, of_other_engines, read_records
from cryosip.reports import page
from cryosip.reports.tables import method_rows


def test_a_record_keeps_its_numbers(write, results: Path) -> None:
    path = write(discrepancy="kl", metrics={"w1": 0.08, "w2": None}, arrays={"theta": np.ones((3, 1))})
    (record,), skipped = read_records(results)
    assert skipped == []
    assert record.path == path.relative_to(results)
    assert (record.discrepancy, record.metrics, record.floors["w2"].median) == ("kl", {"w1": 0.08}, 0.076)
    assert record.arrays["theta"].shape == (3, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "fine"}, "$.status"),
        ({"metrics": [1.0]}, "Expected `object`, got `array` - at `$.metrics`"),
        ({"replicate": "first"}, "Expected `int`, got `str` - at `$.replicate`"),
        ({"curve": {"step": [1, 2], "w2": [0.5]}}, "differ in length"),
        ({"metrics": {"w2": 10**400}}, "too large"),
        ({"metrics": {"w2": "0.1"}}, "Expected `float`, got `str` - at `$.metrics[...]`"),
        ({"floors": {"w2": {"median": [0.1], "q05": 0, "q95": 1, "n": 5}}}, "$.floors[...].median"),
        ({"arrays_hash": None}, "arrays_hash is missing"),
    ],
)
def test_records_that_break_the_schema_are_named(write, results: Path, changes: dict, reason: str) -> None:
    write()
    bad = write(**changes)
    records, skipped = read_records(results)
    assert len(records) == 1
    ((path, why),) = skipped
    assert path == bad.relative_to(results)
    assert reason in why


@pytest.mark.parametrize("key", ["study", "run_id"])
@pytest.mark.parametrize("name", ["../paper-1d", "/etc", "..", "", "a\\b", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(write, results: Path, key: str, name: str) -> None:
    write()
    bad = write(replicate=1)
    bad.write_text(json.dumps(json.loads(bad.read_text()) | {key: name}))
    records, ((path, why),) = read_records(results)
    assert (len(records), path) == (1, bad.relative_to(results))
    assert "matching regex" in why


def test_a_record_of_schema_1_is_upgraded(write, results: Path) -> None:
    """It vouches for no arrays: those beside it are its own, or there are none."""
    cloud = {"theta": np.ones((4, 1)), "weights": np.full(4, 0.25)}
    for replicate, arrays in enumerate((cloud, None)):
        path = write(arrays, replicate=replicate)
        data = json.loads(path.read_text()) | {"schema": 1}
        del data["arrays_hash"]
        path.write_text(json.dumps(data))
    records, skipped = read_records(results)
    assert skipped == []
    assert sorted(len(record.arrays) for record in records) == [0, 2]


def test_pickles_and_damaged_arrays_are_never_loaded(write, results: Path) -> None:
    whole = {"theta": np.ones((4, 1)), "weights": np.full(4, 0.25)}
    pickled = write(replicate=1, arrays=whole | {"truth": np.array([{"a": 1}], dtype=object)})
    cut = write(replicate=2, arrays=whole)
    cut.with_suffix(".npz").write_bytes(cut.with_suffix(".npz").read_bytes()[:200])
    uneven = write(replicate=3, arrays=whole | {"weights": np.ones(3)})
    records, skipped = read_records(results)
    assert len(records) == 3
    assert all(record.arrays == {} for record in records)
    assert {path for path, _ in skipped} == {p.with_suffix(".npz").relative_to(results) for p in (pickled, cut, uneven)}


def test_arrays_of_another_run_are_told_and_not_read(write, results: Path) -> None:
    """As a process leaves them that is killed between the arrays and the record of a run that it makes again."""
    cloud = {"theta": np.ones((4, 1)), "weights": np.full(4, 0.25)}
    _, other, gone = (write(cloud, replicate=i) for i in range(3))
    np.savez(other.with_suffix(".npz"), theta=np.zeros((4, 1)))
    gone.with_suffix(".npz").unlink()
    records, skipped = read_records(results)
    assert [record.replicate for record in records if record.arrays] == [0]
    assert dict(skipped) == {
        other.with_suffix(".npz").relative_to(results): "arrays not read: they are not those of the record",
        gone.with_suffix(".npz").relative_to(results): "arrays not read: the file is missing",
    }


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_pickle_is_not_even_opened(write, results: Path, tmp_path: Path) -> None:
    write(arrays={"theta": np.array([Trap(tmp_path / "sprung")], dtype=object)})
    _, ((_, why),) = read_records(results)
    assert "pickle" in why
    assert not (tmp_path / "sprung").exists()


def test_of_two_records_of_one_run_the_younger_is_kept(write, results: Path) -> None:
    days = ("2025-02-19", "2024-11-30", "2025-10-02", "2025-09-28")
    paths = [write(metrics={"w2": 0.1 * i}, created=f"{day}T00:00:00Z") for i, day in enumerate(days)]
    write(metrics={"w2": 0.9}, created="2020-01-01T00:00:00Z", replicate=1)
    records, skipped = read_records(results)
    assert sorted(record.metrics["w2"] for record in records) == [0.2, 0.9]
    assert {path for path, _ in skipped} == {path.relative_to(results) for path in paths} - {
        paths[2].relative_to(results)
    }


def test_the_largest_size_is_chosen_in_each_study_whatever_profile_ran_it(write, results: Path) -> None:
    """A profile of which the sizes are an axis, or differ between problems, is kept whole."""
    for study, profile, n in (("paper-1d", "smoke", 500), ("paper-1d", "paper", 900), ("noise", "smoke", 300)):
        write(study=study, profile=profile, n=n)
    sizes = (100, 200, 300, 400, 900)
    for n in sizes:
        write(study="paper-1d", profile="small", n=n, setting=f"M={n}")
    # one problem of a comparison at another size than the rest
    for profile, problem, n in (("small", "oned", 1_000), ("small", "adk", 100), ("paper", "adk", 500)):
        write(study="otd-vs-dto", profile=profile, problem=problem, n=n)
    records, _ = read_records(results)
    chosen = sorted((r.study, r.profile, r.config_number("problem.options.n_observations")) for r in largest(records))
    small = [("paper-1d", "small", n) for n in sizes]
    compared = [("otd-vs-dto", "paper", 500), ("otd-vs-dto", "small", 1_000)]
    assert chosen == [("noise", "smoke", 300), *compared, ("paper-1d", "paper", 900), *small]


PARTS = {"engine": "e1", "method": "m1", "problem": "p1", "measure": ""}


def made(write, day, method="flow", replicate=0, dtype="float32", parts=PARTS):
    return write(
        method=method, replicate=replicate, identity=parts, environment={"dtype": dtype}, created=f"2025-01-0{day}"
    )


def kept(results, **how):
    records, skipped = read_records(results, **how)
    return {(r.method, r.replicate, r.identity.engine) for r in records}, {path.stem for path, _ in skipped}


@pytest.mark.parametrize("part", ["engine", "method", "problem", "measure"])
def test_versions_of_the_code_are_never_pooled(write, results: Path, part: str) -> None:
    """Replicates of one configuration are of one version, its youngest."""
    old = made(write, 1, replicate=0)
    made(write, 2, replicate=1, parts=PARTS | {part: "other"})
    records, skipped = read_records(results)
    assert [r.replicate for r in records] == [1]
    assert [path for path, _ in skipped] == [old.relative_to(results)]


def test_a_method_that_was_changed_leaves_the_records_of_others(write, results: Path) -> None:
    made(write, 1)
    gone = made(write, 1, method="mixture")
    made(write, 2, "mixture", 1, parts=PARTS | {"method": "m2"})
    assert kept(results) == ({("flow", 0, "e1"), ("mixture", 1, "e1")}, {gone.stem})


def test_a_study_is_in_one_precision(write, results: Path) -> None:
    gone = made(write, 1, "mixture", dtype="float64")
    made(write, 2)
    assert kept(results) == ({("flow", 0, "e1")}, {gone.stem})


def test_records_of_different_engines_stand_side_by_side_unless_one_is_asked_for(write, results: Path) -> None:
    old = made(write, 1)
    made(write, 2, "mixture", parts=PARTS | {"engine": "e2"})
    assert kept(results) == ({("flow", 0, "e1"), ("mixture", 0, "e2")}, set())
    records, _ = read_records(results)
    assert of_other_engines(records) == {old.relative_to(results)}
    assert [row.label for row in method_rows(records, ["w2"]) if not row.control] == ["energy flow †", "mixture"]
    assert kept(results, one_engine=True) == ({("mixture", 0, "e2")}, {old.stem})


def test_older_records_know_one_hash_of_all_code(write, results: Path) -> None:
    old = write(replicate=0, environment={"code": "a", "dtype": "float32"}, created="2025-01-01T00:00:00Z")
    write(replicate=1, environment={"code": "b", "dtype": "float32"}, created="2025-01-02T00:00:00Z")
    records, skipped = read_records(results)
    assert [r.identity.engine for r in records] == ["b"]
    assert [path for path, _ in skipped] == [old.relative_to(results)]


def test_empty_missing_and_unreadable_folders_say_what_is_wanted(results: Path) -> None:
    with pytest.raises(ValueError, match=r"no results folder at .*results.*<study>/<run_id>\.json"):
        read_records(results)
    (results / "paper-1d").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no readable record in .*results"):
        read_records(results)
    (results / "paper-1d" / "a.json").write_text(json.dumps({"schema": 9, "run_id": "a"}))
    with pytest.raises(ValueError, match="schema 9"):
        read_records(results)


def test_two_records_of_one_id_are_named_and_the_younger_counts(write, results: Path) -> None:
    old = write(created="2025-01-01T00:00:00Z", metrics={"w2": 0.1})
    new = old.with_name("copy.json")
    new.write_text(
        json.dumps(json.loads(old.read_text()) | {"created": "2025-02-01T00:00:00Z", "metrics": {"w2": 0.3}})
    )
    (record,), ((path, why),) = read_records(results)
    assert (record.metrics, path) == ({"w2": 0.3}, old.relative_to(results))
    assert why == "paper-1d/copy.json has the same run_id and is younger: wanted one record of a run"


def test_the_report_of_named_methods_and_problems_alone(write, results):
    for method in ("flow", "mixture", "reweighting"):
        write(method=method)
    records, _ = read_records(results)
    named = of_names(records, ["./mine.py:mixture", "flow"], ["oned"])
    assert {r.method for r in named} == {"mixture", "flow"}
    assert of_names(records, [], []) == records
    with pytest.raises(ValueError, match="no record is of method 'mine'; wanted flow, mixture, reweighting"):
        of_names(records, ["mine"], [])
    page.make(results, results.parent / "out", methods=["flow"])
    text = (results.parent / "out" / "index.html").read_text(encoding="utf-8")
    assert "energy flow" in text
    assert ">mixture" not in text
