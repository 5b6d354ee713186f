"""The same study by every kind of worker: the same records, each made once, whatever becomes of the workers."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed
import pytest
from killing import STUDY, clouds, ended, environment, hidden, kill, made, same_records, started, wait_for

from cryosip.bench import stopping
from cryosip.records.read import written_here

pytestmark = pytest.mark.slow  # processes, and processes of these
RUNS = ["flow", "mixture", "reweighting"]
TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core there is one job")
DASK = "import dask.__main__ as m; m.main()"
LOCAL_CLUSTER = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The study as one process runs it."""
    results = tmp_path_factory.mktemp("undisturbed")
    code, text = ended(started(results, fast=False))
    assert (code, sorted(clouds(results))) == (0, RUNS), text
    return results


def dask(*words, **options):
    return subprocess.Popen(
        [sys.executable, "-c", DASK, *words], env=environment(fast=False), start_new_session=True, **options
    )


@contextlib.contextmanager
def scheduler(folder, n_workers=2, preload="", threads=1):
    """The file of a scheduler with workers that were started by themselves, and the processes of these."""
    file, options = folder / "scheduler.json", ["--no-dashboard"]
    options += ["--scheduler-file", str(file)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    processes = [dask("scheduler", "--host", "127.0.0.1", "--port", "0", *options, **quiet)]
    (folder / "before.py").write_text(preload)
    options += ["--nthreads", str(threads), "--local-directory", str(folder), "--preload", str(folder / "before.py")]
    try:
        processes += [dask("worker", *options, **quiet) for _ in range(n_workers)]
        with distributed.Client(scheduler_file=str(file), timeout=60, set_as_default=False) as client:
            client.wait_for_workers(n_workers, timeout=60)
        yield file, processes[1:]
    finally:
        for process in processes:  # with their children
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


@contextlib.contextmanager
def workers_of(kind, folder):
    """The words that have the study made by this kind of worker."""
    if kind == "jobs":
        yield ["--jobs", "2"]
    elif kind == "slurm":
        yield ["--slurm", "cluster=local,time=10"]
    elif kind == "dask workers":
        with scheduler(folder) as (file, _):
            yield ["--scheduler", str(file)]
    else:
        script = folder / "cluster.py"
        script.write_text(LOCAL_CLUSTER)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": folder}
        with subprocess.Popen([sys.executable, str(script)], env=environment(fast=False), **pipes) as cluster:
            yield ["--scheduler", cluster.stdout.readline().strip()]
            cluster.communicate()


@TWO_CORES
@pytest.mark.parametrize("kind", ["jobs", "local cluster", "dask workers", "slurm"])
def test_every_kind_of_worker_makes_the_same_records_once(undisturbed, tmp_path, kind):
    """With --fresh too: what was made since the command began is not made again."""
    results, folder = tmp_path / "results", tmp_path / "folder"
    folder.mkdir()
    shutil.copytree(undisturbed, results)
    with workers_of(kind, folder) as words:
        code, text = ended(started(results, *words, "--fresh", study=STUDY, fast=False))
    assert (code, made(text)) == (0, RUNS), text
    assert "3 executed, 0 already recorded, 0 failed" in text
    same_records(results, undisturbed)
    assert hidden(results) == []
    assert not list(results.glob(".*.probe"))


def test_two_commands_on_one_folder_make_each_run_once(undisturbed, tmp_path):
    processes = [started(tmp_path, study=STUDY, fast=False) for _ in range(2)]
    (one, first), (other, second) = (ended(process) for process in processes)
    assert (one, other) == (0, 0), first + second
    assert sorted(made(first) + made(second)) == RUNS, first + second
    same_records(tmp_path, undisturbed)
    assert hidden(tmp_path) == []


def below(pid):
    """The processes that a process has started, and those that these have."""
    found = []
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                found += [int(child), *below(int(child))]
    return found


def spawned(pid):
    """The processes below that run Python functions of others: workers, but not what watches over them."""
    found = []
    for child in below(pid):
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


@TWO_CORES
@pytest.mark.parametrize("kind", ["jobs", "dask workers"])
def test_twenty_kills_of_workers_at_random_lose_nothing(tmp_path, kind):
    """Nothing is made twice, the command ends well, and no bit is another."""
    whole, results, folder = tmp_path / "whole", tmp_path / "killed", tmp_path / "folder"
    folder.mkdir()
    assert ended(started(whole, study=STUDY, fast=False, length=200))[0] == 0
    rng, killed = random.Random(0), 0
    with contextlib.ExitStack() as stack:
        if kind == "jobs":
            words, parents = ["--jobs", "2"], []
        else:
            file, parents = stack.enter_context(scheduler(folder))
            words = ["--scheduler", str(file)]
        while killed < 20:
            shutil.rmtree(results, ignore_errors=True)
            process = started(results, *words, study=STUDY, fast=False, length=200)
            while process.poll() is None and killed < 20:
                time.sleep(rng.uniform(1, 6))
                victims = [pid for parent in (parents or [process]) for pid in spawned(parent.pid)]
                if victims:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(rng.choice(victims), signal.SIGKILL)
                        killed += 1
            code, text = ended(process)
            assert (code, "0 failed" in text) == (0, True), text
            assert len(made(text)) == len(set(made(text))), text
            executed, recorded = (int(n) for n in re.search(r"(\d) executed, (\d) already", text).groups())
            assert (executed + recorded, recorded == 0 or kind != "jobs") == (3, True), (
                text
            )  # a worker may die after it
            same_records(results, whole)
            assert hidden(results) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=TWO_CORES)])
def test_a_command_that_is_told_to_stop_writes_checkpoints_and_asks_to_be_started_again(
    undisturbed, tmp_path, number, jobs
):
    """Its workers with it; the same command then ends as if nothing had been."""
    process = started(tmp_path, "--jobs", jobs, study=STUDY, fast=False)
    kept = tmp_path / "killable"
    wait_for(lambda: len(list(kept.glob(".*.checkpoint.npz"))) == int(jobs), process)
    children = spawned(process.pid)
    began = time.monotonic()
    process.send_signal(number)
    code, text = ended(process)
    assert (code, f"told to stop by {number.name}" in text) == (stopping.STATUS, True), text
    assert time.monotonic() - began < 10
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert {name.split(".", 2)[2] for name in hidden(tmp_path)} == {"checkpoint.npz"}
    code, text = ended(started(tmp_path, study=STUDY, fast=False))
    assert code == 0, text
    same_records(tmp_path, undisturbed)
    assert sum(bool(written_here(path).resumed_at) for path in kept.glob("*.json")) == int(jobs)


@TWO_CORES
def test_workers_whose_command_was_killed_leave_their_checkpoints(undisturbed, tmp_path):
    """They begin no other run."""
    process = started(tmp_path, "--jobs", "2", study=STUDY, fast=False)
    wait_for(lambda: len(list((tmp_path / "killable").glob(".*.checkpoint.npz"))) == 2, process)
    pids = spawned(process.pid)
    assert len(pids) == 2
    kill(process)
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert len(list((tmp_path / "killable").glob("*[0-9a-f].json"))) < 3
    code, text = ended(started(tmp_path, study=STUDY, fast=False))
    assert code == 0, text
    same_records(tmp_path, undisturbed)
    assert hidden(tmp_path) == []


def test_jobs_of_slurm_go_on_without_the_command(undisturbed, tmp_path):
    """Also those that begin after it; the same command then finds their records."""
    process = started(tmp_path, "--slurm", "cluster=local,time=10", study=STUDY, fast=False)
    wait_for(lambda: list((tmp_path / ".jobs").glob("*_submitted.pkl")), process)
    process.send_signal(signal.SIGTERM)
    code, text = ended(process)
    assert code == stopping.STATUS, text
    submitted, end = len(list((tmp_path / ".jobs").glob("*_submitted.pkl"))), time.monotonic() + 120
    while len(list((tmp_path / "killable").glob("*[0-9a-f].json"))) < submitted:
        assert time.monotonic() < end
        time.sleep(0.2)
    code, text = ended(started(tmp_path, study=STUDY, fast=False))
    assert (code, f"{submitted} already recorded, 0 failed" in text) == (0, True), text
    same_records(tmp_path, undisturbed)


LONG = """
from cryosip.bench.studies.study import Size, Study
from cryosip.records.schema import Labels, RunConfig

METHOD = "reweighting", {"n_support": 30}

def configs(_size):
    return [RunConfig("killable", Labels("long"), "oned", {"n_observations": 40}, *METHOD, 10**9, 10**8, 0)]

killable = Study("a run that takes an hour", {"smoke": Size(1, 40, 1.0)}, configs)
"""


def test_a_worker_of_dask_that_is_closed_writes_a_checkpoint(tmp_path):
    """Long before it would be time for one."""
    folder, made = tmp_path / "folder", tmp_path / "killable"
    folder.mkdir()
    (folder / "long.py").write_text(LONG)
    with scheduler(folder, 1) as (file, (worker,)):
        process = started(tmp_path, "--scheduler", str(file), study=f"{folder / 'long.py'}:killable", fast=False)
        wait_for(lambda: list(made.glob(".*.attempts")), process)
        time.sleep(8)
        assert not list(made.glob(".*.checkpoint.npz"))
        worker.terminate()
        wait_for(lambda: list(made.glob(".*.checkpoint.npz")), process, 20)
        process.terminate()
        assert ended(process)[0] == stopping.STATUS


DEADLY = """
import os, signal
from cryosip.bench.studies.study import Size, Study
from cryosip.methods.registry import METHODS
from cryosip.records.schema import Labels, RunConfig

def deadly(problem):
    os.kill(os.getpid(), signal.SIGKILL)

METHODS["deadly"] = deadly
PROBLEM = "oned", {"n_observations": 20}
RUNS = [("deadly", {}), ("mixture", {"n_components": 2}), ("reweighting", {})]

def configs(_size):
    return [RunConfig("killable", Labels(name), *PROBLEM, name, options, 2, 2, 0) for name, options in RUNS]

killable = Study("one of three runs ends its process", {"smoke": Size(1, 20, 1.0)}, configs)
"""


@TWO_CORES
@pytest.mark.parametrize("kind", ["jobs", "dask workers"])
def test_a_run_that_ends_its_worker_three_times_is_an_error_and_the_others_are_made(tmp_path, kind):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "deadly.py").write_text(DEADLY)
    with workers_of(kind, folder) as words:
        code, text = ended(started(tmp_path, *words, study=f"{folder / 'deadly.py'}:killable", fast=False))
    assert (code, "2 failed" not in text) == (1, True), text
    records = [json.loads(path.read_text()) for path in (tmp_path / "killable").glob("*.json")]
    told = {record["config"]["method"]["name"]: (record["status"], record["message"]) for record in records}
    status, message = told.pop("deadly")
    assert status == "error"
    assert message.startswith("it has ended its process 3 times, the last time on ")
    assert told == {"mixture": ("ok", ""), "reweighting": ("ok", "")}
    assert hidden(tmp_path) == []


UNFIT = {
    "other": "from cryosip.bench.app import work\nwork.version = lambda: '0.0.9 (other)'",
    "none": """
import importlib.metadata as m
def version(name):
    raise m.PackageNotFoundError(name)
m.version = version
""",
    "unshared": """
from cryosip.bench.app import work
work.LATE_SECONDS, work.probe_path = 0.5, lambda results, probe: results / "elsewhere"
""",
    "threads": "",
}
WANTED = {
    "other": r"tcp://\S+ has cryosip \S+: worker on \S+ has cryosip 0\.0\.9 \(other\); wanted \S+ \(\w+\)",
    "none": r"tcp://\S+ has no cryosip; wanted",
    "unshared": r"tcp://\S+ has cryosip .*does not find what the command has written to .*wanted a folder that all",
    "threads": r"tcp://\S+ has several threads; wanted workers of one: dask worker --nthreads 1",
}


@pytest.mark.parametrize("what", UNFIT)
def test_workers_that_cannot_make_the_runs_are_refused_by_name_before_anything_runs(tmp_path, what):
    folder, results = tmp_path / "folder", tmp_path / "results"
    folder.mkdir()
    with scheduler(folder, 1, UNFIT[what], 2 if what == "threads" else 1) as (file, _):
        code, text = ended(started(results, "--scheduler", str(file), study=STUDY, fast=False))
    assert code == 1, text
    assert re.search(f"^cryosip: .*{WANTED[what]}", text, re.MULTILINE | re.DOTALL), text
    assert not (results / "killable").exists()
    assert not list(results.glob(".*.probe"))
