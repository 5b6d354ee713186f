"""A study that is killed, or run by several processes at a time, ends as if it had been left alone."""

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cryosip.bench.app import locks
from cryosip.records.read import written_here

KILLABLE = Path(__file__).with_name("killable.py")
RUNS = 2


def started(results, *words, fast=True):
    """A process at the study of killable.py; the fast tests compile as quickly there as here."""
    env = os.environ | ({"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} if fast else {"KILLABLE_LENGTH": "20"})
    command = [
        sys.executable,
        str(KILLABLE),
        "run",
        "killable",
        "--profile",
        "smoke",
        "--results",
        str(results),
        *words,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def ended(process):
    try:
        text, _ = process.communicate(timeout=900)
    finally:
        process.kill()
    return process.returncode, text


def clouds(results):
    """The arrays of every run; every record is whole."""
    told = {}
    for path in (results / "killable").glob("*.json"):
        record = written_here(path)
        assert record.status == "ok", record.message
        assert hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest().startswith(record.arrays_hash)
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            told[record.method] = {name: arrays[name] for name in arrays.files}
    return told


def same(a, b):
    assert a.keys() == b.keys()
    for method in a:
        assert a[method].keys() == b[method].keys()
        for name in a[method]:
            np.testing.assert_array_equal(a[method][name], b[method][name], err_msg=f"{method} {name}")


def hidden(results):
    return sorted(path.name for path in (results / "killable").glob(".*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The study as one process runs it, and what that prints."""
    results = tmp_path_factory.mktemp("undisturbed")
    code, text = ended(started(results))
    assert (code, len(clouds(results)), hidden(results)) == (0, RUNS, []), text
    return results


def wait_for(condition, process, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            kill(process)
            raise AssertionError("it did not come so far")
        time.sleep(0.01)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


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
    same(clouds(tmp_path), clouds(undisturbed))
    assert hidden(tmp_path) == []
    records = [written_here(path) for path in folder.glob("*.json")]
    assert sum(bool(record.resumed_at) for record in records) == 2
    for record in records:
        before = written_here(undisturbed / "killable" / f"{record.run_id}.json")
        for name in ("steps", "forward_evaluations", "metrics", "status", "config"):
            assert getattr(record, name) == getattr(before, name), name
        for name in set(record.curve) - {"seconds"}:
            np.testing.assert_array_equal(record.curve[name], before.curve[name], name)
        seconds = record.curve["seconds"]
        assert (np.diff(seconds) >= 0).all()


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


def made(text):
    return sorted(re.findall(r"killable: oned, (\w+)[^:]*: ok", text))


@pytest.mark.slow
def test_two_processes_at_one_study_make_each_run_once(undisturbed, tmp_path):
    processes = [started(tmp_path) for _ in range(2)]
    (one, first), (other, second) = (ended(process) for process in processes)
    assert (one, other) == (0, 0), first + second
    assert sorted(made(first) + made(second)) == ["flow", "reweighting"], first + second
    assert "1 failed" not in first + second
    same(clouds(tmp_path), clouds(undisturbed))
    assert hidden(tmp_path) == []


@pytest.mark.slow
def test_jobs_share_the_runs_and_the_cores(undisturbed, tmp_path):
    """With --fresh too each run is made once: what one has made since the command began no other makes again."""
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    code, text = ended(started(tmp_path, "--jobs", "2", "--fresh"))
    assert code == 0, text
    assert made(text) == ["flow", "reweighting"], text
    assert "2 executed, 0 already recorded, 0 failed" in text
    same(clouds(tmp_path), clouds(undisturbed))
    told = [written_here(path).environment for path in (tmp_path / "killable").glob("*.json")]
    cores = len(os.sched_getaffinity(0))
    jobs = min(2, cores)
    assert {e["jobs"] for e in told} == {jobs}
    assert all(e["threads"] <= -(-cores // jobs) for e in told)


def workers(process):
    """The processes of --jobs, the one that cleans up after them aside."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core there is one job")
@pytest.mark.parametrize("victim", ["worker", "parent"])
def test_a_process_of_several_that_is_killed_leaves_its_run_to_others(tmp_path, victim):
    """Without their parent they end the runs that they are at, and begin no other."""
    process = started(tmp_path, "--jobs", "2", fast=False)
    wait_for(lambda: len(list((tmp_path / "killable").glob(".*.checkpoint.npz"))) == 2, process)
    pids = workers(process)
    assert len(pids) == 2
    if victim == "worker":
        os.kill(pids[0], signal.SIGKILL)
        code, text = ended(process)
        assert (code, "signal 9 ended a process" in text) == (0, True), text
        assert len(clouds(tmp_path)) == RUNS + 1
    else:
        process.send_signal(signal.SIGKILL)  # what they print to is open still
        process.wait()
        end = time.monotonic() + 600
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < end
            time.sleep(0.1)
        process.stdout.close()
        assert len(clouds(tmp_path)) == 2
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
