"""The run store: an id for all that decides a run, and records that are there whole or not at all."""

import copy
import dataclasses
import hashlib
import json
import os
import stat

import numpy as np
import pytest

from cryosip.bench.sources import Identity, run_id
from cryosip.records import store
from cryosip.records.store import RunConfig

CONFIG = RunConfig(
    study="paper-1d",
    setting="published",
    problem="oned",
    problem_options={"n_observations": 10, "noise_std": 1.5},
    method="flow",
    method_options={"n_particles": 5, "optimizer": {"name": "adam", "learning_rate": 1e-3}},
    steps=100,
    every=10,
    replicate=0,
    stop_below={"w2": 0.2},
)
CHANGED = {
    "study": "noise",
    "setting": "tuned",
    "problem": "nanocluster",
    "problem_options": {"n_observations": 10, "noise_std": 1.6},
    "method": "mixture",
    "method_options": {"n_particles": 5, "optimizer": {"name": "adam", "learning_rate": 2e-3}},
    "steps": 101,
    "every": 11,
    "replicate": 1,
    "stop_below": None,
    "growth": 2.0,
    "stop_after_seconds": 1.0,
    "budgets": {"seconds": [1.0], "forward_calls": []},
}


A, B = Identity("engine", "method", "problem", ""), Identity("engine", "method", "another", "")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RunConfig)])
def test_the_id_changes_with_every_field(field):
    assert run_id(dataclasses.replace(CONFIG, **{field: CHANGED[field]}), A) != run_id(CONFIG, A)


def test_the_id_changes_with_the_code_and_with_nothing_else():
    assert run_id(CONFIG, A) != run_id(CONFIG, B)
    assert run_id(copy.deepcopy(CONFIG), A) == run_id(CONFIG, A)
    turned = dict(reversed(CONFIG.method_options.items()))
    assert run_id(dataclasses.replace(CONFIG, method_options=turned), A) == run_id(CONFIG, A)
    assert len(run_id(CONFIG, A)) == 16
    int(run_id(CONFIG, A), 16)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path):
    """A record with its arrays, as an earlier run left it."""
    path = store.record_path(tmp_path, CONFIG, "0123456789abcdef")
    store.write(path, {"run": "old"}, {"theta": np.zeros((3, 1))})
    assert path == tmp_path / "paper-1d" / "0123456789abcdef.json"
    assert files(path.parent) == ["0123456789abcdef.json", "0123456789abcdef.npz"]
    return path


def theta(path):
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        return arrays["theta"]


def test_a_record_is_read_back(path):
    store.write(path, {"run": "new", "value": None}, {"theta": np.ones((2, 1))})
    digest = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()[:16]
    assert json.loads(path.read_text()) == {"run": "new", "value": None, "arrays_hash": digest}
    np.testing.assert_array_equal(theta(path), np.ones((2, 1)))
    assert len(files(path.parent)) == 2


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failure_in_the_middle_leaves_the_old_record(path, broken, monkeypatch):
    before = {name: (path.parent / name).read_bytes() for name in files(path.parent)}

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="no space left"):
        store.write(path, {"run": "new"}, {"theta": np.ones((2, 1))})
    assert {name: (path.parent / name).read_bytes() for name in files(path.parent)} == before


def test_a_failing_writer_leaves_no_temporary_file(path):
    def writer(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._write_atomically(path, writer)
    assert json.loads(path.read_text())["run"] == "old"
    assert len(files(path.parent)) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_are_refused_before_anything_is_written(path, value):
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write(path, {"run": "new", "value": value}, {"theta": np.ones((2, 1))})
    assert json.loads(path.read_text())["run"] == "old"
    np.testing.assert_array_equal(theta(path), np.zeros((3, 1)))
    assert len(files(path.parent)) == 2


def test_a_record_without_arrays_leaves_none_of_an_earlier_run(path):
    """`--fresh` may turn a run into an error: the arrays beside its record would be those of another run."""
    store.write(path, {"run": "new"}, {})
    assert files(path.parent) == ["0123456789abcdef.json"]


def test_a_file_is_written_through_a_link_and_never_over_a_device(tmp_path):
    real, link, pipe = (tmp_path / name for name in ("real", "link", "pipe"))
    real.write_text("old")
    link.symlink_to(real)
    store.write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="pipe exists and is not a file"):
        store.write_text(pipe, "new")
    assert pipe.is_fifo()


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_are_as_readable_as_the_user_makes_all_files(tmp_path, mask):
    before = os.umask(mask)
    try:
        store.write(tmp_path / "a.json", {}, {"theta": np.zeros((3, 1))})
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~mask}
