"""A study that is killed, or run by several processes at a time, ends as if it had been left alone."""

import contextlib
import os
import random
import shutil
import subprocess
import threading
import time

import pytest
from killing import RUNS, clouds, ended, hidden, kill, made, same, same_records, started, wait_for

from cryosip.bench.app import locks
from cryosip.records.read import written_here


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The study as one process runs it, and what that prints."""
    results = tmp_path_factory.mktemp("undisturbed")
    code, text = ended(started(results))
    assert (code, len(clouds(results)), hidden(results)) == (0, RUNS, []), text
    return results


def test_a_study_that_is_killed_ends_as_if_it_had_not_been(undisturbed, tmp_path):
    """Killed with a checkpoint of the first run and again in the next one; the locks of the dead do not block."""
    folder = tmp_path / "killable"
    process = started(tmp_path)
    wait_for(lambda: list(folder.glob(".*.checkpoint.npz")), process)
    kill(process)
    assert [name.split(".", 2)[2] for name in hidden(tmp_path) if "npz." not in name] == ["checkpoint.npz", "lock"]
    process = started(tmp_path)
    wait_for(lambda: list(folder.glob("*[0-9a-f].json")) and list(folder.glob(".*.checkpoint.npz")), process)
    kill(process)
    code, text = ended(started(tmp_path))
    assert code == 0, text
    assert "1 executed, 1 already recorded, 0 failed" in text
    same_records(tmp_path, undisturbed)
    assert hidden(tmp_path) == []
    assert sum(bool(written_here(path).resumed_at) for path in folder.glob("*.json")) == 2


@pytest.mark.slow
def test_fifty_kills_at_random_moments_change_no_bit(tmp_path):
    """While a process starts, compiles, steps, writes a checkpoint, a record or one over an old one."""
    whole, results = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    assert ended(started(whole, fast=False))[0] == 0
    undisturbed_seconds = time.monotonic() - began
    rng, killed, resumed = random.Random(0), 0, 0
    while killed < 50:
        complete = results.exists() and len(clouds(results)) == RUNS + 1
        if complete and rng.random() < 0.5:
            shutil.rmtree(results)
        process = started(results, *(["--fresh"] if complete and results.exists() else []), fast=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(0, undisturbed_seconds))
        killed += process.poll() is None
        kill(process)
        resumed += any(name.endswith(".checkpoint.npz") for name in hidden(results))
    assert ended(started(results, fast=False))[0] == 0
    same(clouds(results), clouds(whole))
    assert hidden(results) == []
    assert resumed > 5


@pytest.mark.slow
def test_two_processes_at_one_study_make_each_run_once(undisturbed, tmp_path):
    processes = [started(tmp_path) for _ in range(2)]
    (one, first), (other, second) = (ended(process) for process in processes)
    assert (one, other) == (0, 0), first + second
    assert sorted(made(first) + made(second)) == ["flow", "reweighting"], first + second
    assert "1 failed" not in first + second
    same(clouds(tmp_path), clouds(undisturbed))
    assert hidden(tmp_path) == []


def test_a_lock_has_one_owner_and_ends_with_it(tmp_path):
    record = tmp_path / "study" / "0123.json"
    with locks.lock(record) as mine, locks.lock(record) as other:
        assert mine()
        assert other is None
    with locks.lock(record) as mine:
        assert mine()
    assert list(record.parent.iterdir()) == []


def test_who_waits_for_a_lock_gets_it_alone(tmp_path):
    """The owner removes the file that the other waits for: the lock of a file that is gone is worth nothing."""
    record = tmp_path / "0123.json"
    order, got, done = [], threading.Event(), threading.Event()

    def waiting():
        with locks.lock(record, wait=True) as mine:
            order.append(("second", mine()))
            got.set()
            done.wait(10)

    with locks.lock(record):
        thread = threading.Thread(target=waiting)
        thread.start()
        time.sleep(0.2)
        order.append(("first", True))
    assert got.wait(10)
    with locks.lock(record) as mine:
        assert mine is None
    done.set()
    thread.join()
    assert order == [("first", True), ("second", True)]


def test_what_other_code_left_is_kept_for_a_week_and_that_of_runs_that_are_over_is_not(tmp_path):
    old, young, held, over = (tmp_path / f".{stem}.checkpoint.npz" for stem in ("01", "02", "03", "04"))
    for path in (old, tmp_path / ".01.lock", tmp_path / ".01.json.k3x", young, held, over, tmp_path / "04.json"):
        path.touch()
        if path not in (young, over):
            os.utime(path, (0, time.time() - locks.STALE_SECONDS - 60))
    with locks.lock(tmp_path / "03.json"):
        os.utime(tmp_path / ".03.lock", (0, 0))
        locks.sweep(tmp_path, {"03", "04", "05"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, held.name, "04.json"]
