"""A campaign submits its runs to whatever is an executor, and takes the records as they end."""

import contextlib
import os
import threading
import time
from concurrent.futures import BrokenExecutor, Future

import jax
import jax.numpy as jnp
import pytest

from cryosip.bench.app import campaign, executors, locks, work
from cryosip.bench.app.callbacks import SILENT
from cryosip.bench.app.executors import Here, Processes
from cryosip.bench.app.work import Order, RunSettings, Workers
from cryosip.bench.stopping import Stopped
from cryosip.bench.studies.registry import STUDIES
from cryosip.bench.studies.study import Size, Study
from cryosip.records.schema import Labels, Result, RunConfig


@pytest.mark.parametrize(("most", "kept"), [("65530", 1), ("10", 0)])
def test_programs_are_dropped_where_they_take_half_of_the_memory_areas(monkeypatch, tmp_path, most, kept):
    program = jax.jit(lambda x: x + 1)
    program(jnp.zeros(()))
    maps, limit = tmp_path / "maps", tmp_path / "max_map_count"
    maps.write_text("an area\n" * 6)
    limit.write_text(f"{most}\n")
    monkeypatch.setattr(work, "MAPS", maps)
    monkeypatch.setattr(work, "MOST_MAPS", limit)
    work.forget_programs()
    assert program._cache_size() == kept
    assert program(jnp.ones(())) == 2


def test_a_system_without_that_limit_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(work, "MAPS", tmp_path / "nothing")
    work.forget_programs()


@pytest.fixture
def configs(monkeypatch):
    """Three runs that measure nothing."""
    few = {"n_observations": 5}
    runs = [RunConfig("nothing", Labels(name), "oned", few, name, {}, 1, 1, 0) for name in ("a", "b", "c")]
    study = Study("", {"smoke": Size(1, 5, 1.0)}, lambda _: runs, lambda *_: (Result(), {}))
    monkeypatch.setitem(STUDIES, "nothing", study)
    return runs


class Dying(Workers):
    """This process, of which it seems that it dies: before or after what was submitted begins."""

    def __init__(self, deaths, capacity=1, after=False, error=None):
        self.deaths, self.capacity, self.after, self.submitted = deaths, capacity, after, []
        self.error = error or BrokenExecutor("killed")

    def submit(self, f, /, *args):
        order, place, _waiting = args
        self.submitted.append(place.position)
        future = Future()
        if self.deaths == 0:
            future.set_result(f(*args))
            return future
        self.deaths -= 1
        if self.after:  # it has begun, and says so again and again
            path = locks.attempts_path(work.path_of(order.results, place.config))
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.write(f"{order.probe} 0 host\n")
        future.set_exception(self.error)
        return future


def made(configs, results, workers, callbacks=SILENT):
    with campaign.shared(Order(results, RunSettings("smoke")), False) as order:
        return campaign.run_all(configs, order, workers, callbacks)


def test_a_run_whose_worker_dies_is_given_to_another_and_told(configs, tmp_path):
    told, workers = [], Dying(2)
    for error in (BrokenExecutor("killed"), Stopped("told to stop")):
        workers.error = error
        died = SILENT._replace(died=lambda place, why: told.append((place.position, why)))
        results = tmp_path / str(error)
        results.mkdir()
        outcome = made(configs, results, workers, died)
        assert outcome == (3, 0, [])
        workers.deaths = 2
    assert workers.submitted[:5] == [0, 1, 2, 0, 1]
    assert told == [(0, "killed"), (1, "killed"), (0, "told to stop"), (1, "told to stop")]


def test_no_more_runs_are_with_the_workers_than_they_take(configs, tmp_path):
    """What is not submitted yet is not lost with them."""
    flying = []

    class Slow(Dying):
        def submit(self, f, /, *args):
            flying.append(sum(not future.done() for _, future in self.given))
            future = Future()
            self.given.append((args, future))
            if len(self.given) % self.capacity == 0 or len(self.given) == 3:
                for given, one in self.given:
                    if not one.done():
                        one.set_result(f(*given))
            return future

    workers = Slow(0, capacity=2)
    workers.given = []
    assert made(configs, tmp_path, workers) == (3, 0, [])
    assert max(flying) <= 1


def test_a_run_that_ends_its_worker_three_times_is_an_error(configs, tmp_path):
    outcome = made(configs[:1], tmp_path, Dying(3, after=True))
    assert (outcome.done, len(outcome.failed)) == (1, 1)
    assert "error: it has ended its process 3 times, the last time on host" in outcome.failed[0]
    assert len(list((tmp_path / "nothing").iterdir())) == 1


def test_what_ended_its_worker_for_another_command_is_tried(configs, tmp_path):
    """Who killed that command may have killed the worker."""
    path = locks.attempts_path(work.path_of(tmp_path, configs[0]))
    path.parent.mkdir()
    path.write_text("another 0 host\n" * 5)
    assert made(configs[:1], tmp_path, Dying(2, after=True)) == (1, 0, [])


def test_workers_that_never_begin_end_the_command(configs, tmp_path):
    """It would else go on for ever."""
    workers = Dying(1_000)
    with pytest.raises(OSError, match="10 workers in a row have ended before they began a run: killed"):
        made(configs, tmp_path, workers)
    assert len(workers.submitted) == campaign.MOST_IN_VAIN


def test_a_worker_that_cannot_go_on_ends_the_command(configs, tmp_path):
    with pytest.raises(OSError, match="disk full"):
        made(configs, tmp_path, Dying(1, error=OSError("disk full")))


@pytest.mark.parametrize(("outlasting", "left"), [(False, 0), (True, 1)])
def test_the_file_that_workers_look_for_stays_where_they_may_begin_later(tmp_path, outlasting, left):
    order = Order(tmp_path, RunSettings("smoke"))

    def interrupted():
        with campaign.shared(order, outlasting) as shared:
            work.prepare(shared)
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert len(list(tmp_path.iterdir())) == left
        for file in tmp_path.iterdir():  # a week goes by
            os.utime(file, (0, time.time() - locks.STALE_SECONDS - 1))
    with campaign.shared(order, outlasting):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_worker_of_another_version_or_without_the_folder_refuses(tmp_path, monkeypatch):
    with campaign.shared(Order(tmp_path, RunSettings("smoke")), False) as order:
        with pytest.raises(ValueError, match=r"worker on .* has cryosip .*; wanted 0\.0\.1 \(x\), as the command has"):
            work.prepare(order._replace(version="0.0.1 (x)"))
        monkeypatch.setattr(work, "LATE_SECONDS", 0.1)
        elsewhere = order._replace(results=tmp_path / "elsewhere")
        with pytest.raises(ValueError, match=r"does not find what the command has written to .*; wanted a folder that"):
            work.prepare(elsewhere)
        monkeypatch.setattr(work, "LATE_SECONDS", 20)
        threading.Timer(0.3, lambda: (tmp_path / "elsewhere").symlink_to(tmp_path)).start()
        work.prepare(elsewhere)  # a folder that appears late


def test_who_has_lost_its_run_meanwhile_writes_no_record(configs, tmp_path, monkeypatch):
    """Its host was asleep, and another has taken the run."""

    @contextlib.contextmanager
    def lost(record, _wait):
        record.parent.mkdir(exist_ok=True)
        yield lambda: False

    monkeypatch.setattr(work.locks, "lock", lost)
    assert made(configs[:1], tmp_path, Dying(0)) == (0, 0, [])
    assert not list(tmp_path.glob("nothing/*.json"))


def test_an_exception_of_a_run_of_this_process_waits_to_be_asked_for():
    def fail(callbacks):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Here(SILENT).submit(fail).result()


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    with pytest.raises(ValueError, match=r"--jobs is 3, and there are 2 GPUs \(0, 5\); wanted one for each"):
        Processes(3, ["0", "5"])
    monkeypatch.setattr(executors, "find_spec", lambda name: name == "jax_cuda12_plugin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,5")
    for platforms, found in (("", ["0", "5"]), ("cuda,cpu", ["0", "5"]), ("cpu", [])):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        assert executors.gpus() == found
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    assert executors.gpus() == []
