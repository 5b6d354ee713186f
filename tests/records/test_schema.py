"""The record of a run: an id for all that decides it, a schema that is published, and a file that is there whole."""

import hashlib
import json
import math
import os
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest

from cryosip.records import schema
from cryosip.records.read import OtherSchema, parsed, written_here
from cryosip.records.schema import Choice, Config, Floor, Identity, Labels, Record, as_json, from_table, id_of
from cryosip.records.upgrade import upgraded_arrays
from cryosip.records.write import record_path, write

FILE = Path(schema.__file__).with_name("record.schema.json")

CONFIG = Config(
    Choice("oned", {"n_observations": 10, "noise_std": 1.5}, {"init_std": 1.0}),
    Choice("flow", {"n_particles": 5, "optimizer": {"name": "adam", "learning_rate": 1e-3}}),
    steps=100,
    every=10,
    stop_below={"w2": 0.2},
)


def record(**changes) -> Record:
    plain = {
        "run_id": "-",
        "study": "paper-1d",
        "profile": "small",
        "labels": Labels("annealed", "K", 10),
        "config": CONFIG,
        "replicate": 0,
        "seed": 0,
        "created": "2026-01-01T00:00:00+00:00",
        "identity": Identity("engine", "method", "problem"),
        "environment": {"dtype": "float32", "commit": None, "dirty": True, "threads": 2},
        "metrics": {"w1": 0.1},
        "floors": {"w1": Floor(0.1, 0.05, 0.2, 10)},
        "curve": {"step": np.array([0.0, 1.0]), "objective": np.array([np.nan, 2.0])},
        "setup_seconds": math.nan,
    }
    made = Record(**plain | changes)
    return msgspec.structs.replace(made, run_id=id_of(made))


def changed(**options) -> Config:
    return msgspec.structs.replace(CONFIG, **options)


@pytest.mark.parametrize(
    "changes",
    [
        {"study": "noise"},
        {"labels": Labels("annealed", "K", 11)},
        {"labels": Labels("plain", "K", 10)},
        {"replicate": 1},
        {"identity": Identity("engine", "method", "another")},
        {"environment": {"dtype": "float64"}},
        {"config": changed(steps=101)},
        {"config": changed(growth=2.0)},
        {"config": changed(stop_below=None)},
        {"config": changed(stop_after_seconds=1.0)},
        {"config": changed(budgets={"seconds": [1.0]})},
        {"config": changed(problem=Choice("oned", {"n_observations": 10, "noise_std": 1.6}, {"init_std": 1.0}))},
        {"config": changed(problem=Choice("oned", {"n_observations": 10, "noise_std": 1.5}, {"init_std": 2.0}))},
        {"config": changed(method=Choice("mixture", CONFIG.method.options))},
    ],
)
def test_the_id_changes_with_what_decides_a_run(changes):
    assert record(**changes).run_id != record().run_id


def test_the_id_changes_with_nothing_else():
    """Nor with the order of options, with what was given of them, nor between 10 and 10.0."""
    for changes in (
        {"profile": "paper", "created": "later", "metrics": {}, "status": "error", "message": "no"},
        {"config": changed(problem=Choice("oned", {"init_std": 1, "noise_std": 1.5, "n_observations": 10}))},
        {"labels": Labels("annealed", "K", 10.0)},
    ):
        assert record(**changes).run_id == record().run_id
    assert len(record().run_id) == 16
    int(record().run_id, 16)


def test_a_record_is_read_back():
    text = as_json(record())
    again = from_table(json.loads(text))
    assert as_json(again) == text
    assert list(json.loads(text))[:4] == ["schema", "run_id", "study", "profile"]
    assert "setup_seconds" not in json.loads(text)
    assert math.isnan(again.setup_seconds)
    assert again.curve["objective"].tolist()[1:] == [2.0]
    assert (again.labels.text, again.problem, again.discrepancy) == ("annealed K=10", "oned", "")
    assert again.config_number("problem.options.init_std") == 1.0


def test_the_published_schema_is_that_of_the_code_and_holds_for_a_record():
    assert json.loads(FILE.read_text()) == schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema.json_schema())
    jsonschema.validate(json.loads(as_json(record())), schema.json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(as_json(record())) | {"labels": {"variant": 3}}, schema.json_schema())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"colour": "red"}, "unknown field `colour`"),
        ({"labels": {"variant": 3}}, r"Expected `str`, got `int` - at `\$.labels.variant`"),
        ({"labels": {"variant": "a", "axes": "K"}}, "unknown field `axes`"),
        ({"config": {"problem": "oned"}}, r"\$.config.problem"),
        ({"metrics": {"w1": None}}, "Expected `float`, got `null`"),
        ({"curve": {"w1": [1.0], "w2": []}}, "its columns differ in length"),
        ({"curve": {"w1": ["1"]}}, "wanted a list of numbers or nulls"),
        ({"status": "fine"}, "Invalid enum value 'fine'"),
        ({"study": "../x"}, "matching regex"),
        ({"message": "a\x1b[0m"}, "matching regex"),
        ({"steps": 10**30}, "steps"),
        ({"replicate": True}, "Expected `int`, got `bool`"),
        ({"schema": 4}, "schema 4: this version of cryosip reads schemas 1 to 3"),
        ({"run_id": "0123456789abcdef"}, "run_id is '0123456789abcdef'; wanted '[0-9a-f]{16}', the id of its content"),
        ({"replicate": 7}, "the id of its content"),
    ],
)
def test_what_is_no_record_is_named(changes, says):
    with pytest.raises(ValueError, match=says):
        parsed(json.loads(as_json(record())) | changes)


OLD = {
    "schema": 2, "run_id": "ab", "study": "paper-1d", "profile": "small", "setting": "annealed, weights K=10",
    "problem": "nanocluster", "method": "flow", "replicate": 1, "seed": 1, "status": "ok", "message": "",
    "created": "2025-01-01", "arrays_hash": "", "environment": {"code": "abc", "device": "cpu"}, "algorithm": None,
    "config": {"problem": {"name": "nanocluster", "options": {}}, "method": {"name": "flow", "options": {}},
               "steps": 3, "every": 1, "stop_below": None, "budgets": {"forward_calls": [3.0]}},
    "forward_calls": 5, "curve": {"step": [0, 1], "forward_calls": [0, 5]}, "metrics": {"w1": 1.0, "w2": None},
}  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "labels"),
    [
        ("annealed, weights K=10", Labels("annealed, weights", "K", 10.0)),
        ("K=2", Labels("", "K", 2.0)),
        ("N=20, K=8", Labels("N=20", "K", 8.0)),
        ("grid of 200", Labels("grid of 200")),
        ("published", Labels("published")),
    ],
)
def test_a_record_of_schema_2_is_read(setting, labels):
    old = parsed(OLD | {"setting": setting})
    assert (old.schema, old.labels, old.identity.engine) == (2, labels, "abc")
    assert (old.metrics, old.algorithm, old.arrays_hash) == ({"w1": 1.0}, None, "")
    assert old.forward_evaluations == 5
    assert old.curve["forward_evaluations"].tolist() == [0, 5]
    assert old.config.budgets == {"forward_evaluations": [3.0]}
    assert old.config_number("problem.options.tau") == 0.25
    assert old.config_value("method.options.sampling") == "method-1"


def test_images_of_the_nanocluster_are_turned_to_rows_along_y():
    """As records before schema 3 have them; those of proteins were so already."""
    images = {"image_clean": np.arange(4.0)[None], "theta": np.arange(4.0)[None]}
    turned = upgraded_arrays(2, "nanocluster", images)
    assert turned["image_clean"].tolist() == [[0.0, 2.0, 1.0, 3.0]]
    assert turned["theta"] is images["theta"]
    for schema_, problem in ((3, "nanocluster"), (2, "adk")):
        assert upgraded_arrays(schema_, problem, images) is images


def test_a_record_of_schema_1_is_read_and_its_arrays_are_unknown():
    assert parsed(OLD | {"schema": 1}).arrays_hash is None
    without = {name: value for name, value in OLD.items() if name != "arrays_hash"}
    with pytest.raises(ValueError, match="arrays_hash is missing"):
        parsed(without)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path):
    """A record with its arrays, as an earlier run left it."""
    old = record(message="old")
    path = record_path(tmp_path, old.study, old.run_id)
    write(path, old, {"theta": np.zeros((3, 1))})
    assert path == tmp_path / "paper-1d" / f"{old.run_id}.json"
    assert names(path.parent) == [f"{old.run_id}.json", f"{old.run_id}.npz"]
    return path


def test_a_record_knows_its_arrays(path):
    write(path, record(), {"theta": np.ones((2, 1))})
    digest = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()[:16]
    assert written_here(path).arrays_hash == digest
    write(path, record(), {})
    assert names(path.parent) == [path.name]  # none of an earlier run
    assert written_here(path).arrays_hash == ""


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failure_in_the_middle_leaves_the_old_record(path, broken, monkeypatch):
    before = {name: (path.parent / name).read_bytes() for name in names(path.parent)}

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="no space left"):
        write(path, record(), {"theta": np.ones((2, 1))})
    assert {name: (path.parent / name).read_bytes() for name in names(path.parent)} == before


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_does_not_know_are_refused_before_anything_is_written(path, value):
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write(path, record(metrics={"w1": value}), {"theta": np.ones((2, 1))})
    assert path.read_bytes() == before
    assert len(names(path.parent)) == 2


def test_a_record_of_another_run_or_schema_is_not_taken(path):
    other = path.with_name("ab.json")
    other.write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"ab.json: it is the record of run"):
        written_here(other)
    path.write_text(json.dumps(OLD))
    with pytest.raises(OtherSchema, match="schema 2: this version of cryosip writes 3"):
        written_here(path)
