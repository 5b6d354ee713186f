"""A disk that is full or cannot be written, and records that are damaged or foreign: told, and nothing else is lost."""

import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading

import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench.app import campaign, cli, locks, work
from cryosip.bench.app.callbacks import SILENT
from cryosip.bench.app.executors import Here
from cryosip.bench.app.work import Order, RunSettings
from cryosip.bench.limits import Limits
from cryosip.bench.studies.registry import STUDIES
from cryosip.bench.studies.study import Size, Study
from cryosip.records.read import written_here
from cryosip.records.schema import SCHEMA, Labels, Result, RunConfig
from cryosip.records.write import record_path


def cryosip(*words):
    result = CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def failing(monkeypatch):
    """A study of two runs with half a megabyte each, the first of which ends in an error."""

    def configs(*_):
        few = {"n_observations": 5}
        return [RunConfig("failing", Labels(name), "oned", few, name, {}, 1, 1, 0) for name in ("bad", "ok")]

    def measure(config, _session):
        if config.method == "bad":
            raise RuntimeError("it is bad")
        return Result(), {"theta": np.random.default_rng(0).random((2**16, 1))}

    monkeypatch.setitem(STUDIES, "failing", Study("fails", {"small": Size(1, 5, 1.0)}, configs, measure))


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A folder of one megabyte that can be filled and made read-only; where none can be mounted, as if it were so."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        return not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True
        ).returncode

    def fail(code):
        def raising(*_args, **_more):
            raise OSError(code, os.strerror(code))

        return raising

    mounted = shutil.which("mount") is not None and mount("size=1m")

    class Disk:
        path = folder

        def fill(self):
            if mounted:
                with contextlib.suppress(OSError), open(folder / "filler", "wb") as file:
                    file.write(bytes(2**18 * 3))
            else:
                monkeypatch.setattr(os, "fsync", fail(errno.ENOSPC))

        def protect(self):
            if mounted:
                assert mount("remount,ro")
            else:
                monkeypatch.setattr(tempfile, "TemporaryFile", fail(errno.EROFS))

    yield Disk()
    if mounted:
        subprocess.run(["umount", folder], check=True)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_full_disk_is_told_and_leaves_what_was_there(failing, disk):
    """The record of the error fits, the arrays of the other run do not."""
    assert cryosip("run", "failing", "--results", disk.path)[0] == 1
    before = content(disk.path / "failing")
    assert len(before) == 3
    disk.fill()
    code, text = cryosip("run", "failing", "--results", disk.path, "--fresh")
    assert code == 1
    says = r"^cryosip: .*cannot write .*failing/[0-9a-f]{16}\.(npz|json): No space left on device"
    assert re.search(says, text, re.MULTILINE), text
    after = content(disk.path / "failing")
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in before if b"it is bad" not in before[name])
    assert all(json.loads(data) for name, data in after.items() if name.endswith(".json"))


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(failing, disk):
    assert cryosip("run", "failing", "--results", disk.path)[0] == 1
    before = content(disk.path / "failing")
    disk.protect()
    code, text = cryosip("run", "failing", "--results", disk.path, "--fresh")
    assert code == 1
    assert re.search(f"cryosip: .*cannot write into {disk.path}: Read-only file system", text), text
    assert "failing: ok" not in text
    assert content(disk.path / "failing") == before


def ran(results, **settings):
    configs = STUDIES["failing"].configs(None)
    return watched(configs, results, RunSettings("small", **settings), SILENT)


def watched(configs, results, settings, callbacks):
    return campaign.run_all(configs, Order(results, settings), Here(callbacks), callbacks)


def test_a_damaged_record_is_told_and_run_again(failing, tmp_path):
    ran(tmp_path)
    paths = sorted((tmp_path / "failing").glob("*.json"))
    for path in paths:
        other = json.dumps(json.loads(path.read_text()) | {"run_id": "other"})
        for damaged in (path.read_text()[:50], "[1]", "{}", json.dumps({"schema": SCHEMA, "run_id": path.stem}), other):
            path.write_text(damaged)
            with pytest.warns(UserWarning, match=rf"{path.name}.*is run again"):
                assert ran(tmp_path)[:2] == (1, 1)
            assert written_here(path).run_id == path.stem


def test_a_record_whose_arrays_are_of_another_run_is_told_and_run_again(failing, tmp_path):
    """As a process leaves it that is killed between the arrays and the record of a run that it makes again."""
    ran(tmp_path)
    (arrays,) = (tmp_path / "failing").glob("*.npz")
    for spoil in (lambda: np.savez(arrays, theta=np.zeros(3)), arrays.unlink):
        spoil()
        with pytest.warns(
            UserWarning, match="the arrays beside it are not those that it was written with; it is run again"
        ):
            assert ran(tmp_path)[:2] == (1, 1)
        written_here(arrays.with_suffix(".json"))


def test_a_run_that_is_made_again_under_other_limits_goes_on_too(failing, tmp_path):
    """A checkpoint beside a record is of use until its run is over."""
    ran(tmp_path)
    paths = [work.path_of(tmp_path, config) for config in STUDIES["failing"].configs(None)]
    checkpoints = [locks.checkpoint_path(path) for path in paths]
    for path in checkpoints:
        path.touch()
    found = []

    def look(*_):
        found.append([path.exists() for path in checkpoints])

    settings = RunSettings("small", limits=Limits(seconds=9.0))
    callbacks = SILENT._replace(start=look, finish=look)
    assert watched(STUDIES["failing"].configs(None), tmp_path, settings, callbacks)[:2] == (1, 1)
    look()
    assert found == [[True, True], [False, True], [False, False]]


def test_a_record_of_another_schema_is_refused_by_name_and_left_alone(failing, tmp_path):
    ran(tmp_path)
    path = next(path for path in (tmp_path / "failing").glob("*.json") if "it is bad" not in path.read_text())
    later = json.dumps(json.loads(path.read_text()) | {"schema": SCHEMA + 1})
    path.write_text(later)
    outcome = ran(tmp_path)
    assert (outcome.done, outcome.skipped) == (0, 2)
    assert f"{path}: schema {SCHEMA + 1}: this version of cryosip writes {SCHEMA}" in outcome.failed
    assert path.read_text() == later
    assert cryosip("run", "failing", "--results", tmp_path)[0] == 1


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc", "..", "", "a\0b", ".hidden", "a\nb"])
def test_no_name_leads_out_of_the_results(name, tmp_path):
    with pytest.raises(ValueError, match="study is"):
        record_path(tmp_path, name, "0123")
    with pytest.raises(ValueError, match="run id is"):
        record_path(tmp_path, "sampling", name)


def test_a_run_that_another_process_made_meanwhile_is_not_made_again(failing, tmp_path, monkeypatch):
    """Between the look for a record and the lock."""
    assert cryosip("run", "failing", "--results", tmp_path)[0] == 1
    (path, _) = sorted((tmp_path / "failing").glob("*.json"))
    text = path.read_text()
    path.unlink()
    original = locks.lock

    def late(record, wait=False):
        path.write_text(text)
        return original(record, wait)

    monkeypatch.setattr(locks, "lock", late)
    assert "0 executed, 2 already recorded" in cryosip("run", "failing", "--results", tmp_path)[1]


def test_what_another_process_is_at_comes_last_and_is_waited_for(failing, tmp_path):
    """It leaves without a record, as one that is killed, and the run is made here."""
    configs, told, held, over = STUDIES["failing"].configs(None), [], threading.Event(), threading.Event()

    def other():
        with locks.lock(work.path_of(tmp_path, configs[0])):
            held.set()
            over.wait(20)

    def wait(runs):
        told.append(f"wait {runs}")
        over.set()

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(20)
    callbacks = SILENT._replace(start=lambda place: told.append(place.position), wait=wait)
    outcome = watched(configs, tmp_path, RunSettings("small"), callbacks)
    thread.join()
    assert told == [1, "wait 1", 0]
    assert (outcome.done, outcome.skipped, len(outcome.failed)) == (2, 0, 1)
