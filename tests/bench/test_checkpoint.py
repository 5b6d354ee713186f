"""Checkpoints: a run that is interrupted goes on to the same bits, at a small and bounded cost."""

import dataclasses
import os
import time
from types import SimpleNamespace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from cryosip.bench import checkpoint, execute, runner
from cryosip.bench.app import campaign, locks, work
from cryosip.bench.app.callbacks import SILENT
from cryosip.bench.app.executors import Here
from cryosip.bench.app.work import Order, RunSettings
from cryosip.bench.checkpoint import Checkpoint, CheckpointWriter
from cryosip.bench.execute import Session, run_method
from cryosip.bench.frames import frame
from cryosip.bench.limits import NO_LIMITS, Limits
from cryosip.bench.runner import Progress
from cryosip.bench.studies.registry import STUDIES
from cryosip.bench.studies.study import Size, Study
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.registry import METHODS
from cryosip.records.schema import Labels, Result, RunConfig, as_json

CONFIG = RunConfig("paper-1d", Labels("-"), "oned", {"n_observations": 50}, "walk", {}, 40, 20, 0)


@pytest.fixture(autouse=True)
def walk(monkeypatch, few_draws):
    """A method that compiles quickly: a random walk, with moments like those of Adam, that turns NaN at a step."""

    def build(_problem, fails_at=1_000):
        def step(key, state):
            theta, mean, count = state
            mean = 0.9 * mean + 0.1 * jr.normal(key, theta.shape)
            theta = jnp.where(count + 1 >= fails_at, jnp.nan, theta + jnp.sin(mean))
            return (theta, mean, count + 1), Info(mean.sum(), count + 1)

        def init(key):
            return jr.normal(key, (4, 1)), jnp.zeros((4, 1)), jnp.asarray(0)

        return Method(init, step, lambda state: WeightedPoints(state[0], jnp.full(4, 0.25)))

    monkeypatch.setitem(METHODS, "walk", build)


def executed(path=None, limits=NO_LIMITS, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    record, arrays = execute.execute(config, "smoke", run_method, Session(limits=limits, checkpoint=path))
    as_json(record)
    return record, arrays


@pytest.fixture
def often(monkeypatch):
    """Parts of one step, a checkpoint after each."""
    monkeypatch.setattr(runner, "PART_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)


class Killed(BaseException):
    """Nothing that a run could tell."""


@pytest.fixture
def interrupted(often, tmp_path, monkeypatch):
    """The checkpoint that a run leaves which ends right after it."""

    def after(step, path=tmp_path / ".01.checkpoint.npz", **changes):
        save = checkpoint.save

        def some(path, now):
            save(path, now)
            if now.progress.step == step:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", some)
            with pytest.raises(Killed):
                executed(path, **changes)
        return path

    return after


def test_a_run_goes_on_to_the_same_bits(interrupted):
    """Between looks and at one."""
    whole, expected = executed()
    assert whole.resumed_at == []
    for step in (7, 20, 33):
        path = interrupted(step)
        record, arrays = executed(path)
        path.unlink()
        assert record.resumed_at == [step]
        assert arrays.keys() == expected.keys()
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], expected[name])
        for name in ("status", "steps", "forward_evaluations", "metrics"):
            assert getattr(record, name) == getattr(whole, name)
        assert record.curve["step"].tolist() == [0, 20, 40]
        assert all(
            np.array_equal(record.curve[name], whole.curve[name], equal_nan=True)
            for name in ("w1", "w2", "objective", "forward_evaluations")
        )


def test_a_run_that_is_interrupted_twice_tells_both(interrupted):
    interrupted(7)
    record, _ = executed(interrupted(33))
    assert record.resumed_at == [7, 33]


def test_the_seconds_before_count_and_those_of_checkpoints_do_not(interrupted, monkeypatch):
    path, save = interrupted(20), checkpoint.save

    def load(*arguments):
        found = loaded(*arguments)
        assert found.progress.seconds > 0
        return found._replace(progress=found.progress._replace(seconds=1000.0))

    def slow(*arguments):
        time.sleep(0.2)
        save(*arguments)

    loaded = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", load)
    monkeypatch.setattr(checkpoint, "save", slow)
    record, _ = executed(path)
    assert 1000 < record.run_seconds < 1002


def test_a_run_that_diverges_after_it_went_on_keeps_the_last_finite_look(interrupted):
    """Which was before the interruption."""
    changes = {"method_options": {"fails_at": 25}}
    whole, expected = executed(**changes)
    for step in (22, 30):
        path = interrupted(step, **changes)
        record, arrays = executed(path, **changes)
        path.unlink()
        assert (record.status, record.steps, record.message) == ("diverged", 20, whole.message)
        assert np.isfinite(arrays["theta"]).all()
        np.testing.assert_array_equal(arrays["theta"], expected["theta"])
        assert record.metrics == whole.metrics


def test_a_run_whose_time_is_up_before_it_goes_on_has_no_look_twice(interrupted):
    record, arrays = executed(interrupted(20), limits=Limits(seconds=1e-9))
    assert (record.status, record.curve["step"].tolist(), record.resumed_at) == ("timeout", [0, 20], [20])
    assert arrays["frame_steps"].tolist() == [[0], [20]]


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def paper_sized(n=3_000):
    """The largest state of the paper's own runs, 3000 structures in four modes with Adam, and what 100 looks left."""
    theta = jr.normal(jr.key(0), (n, 4))
    curve = {name: np.random.default_rng(0).random(100).tolist() for name in "abcdef"}
    estimate = WeightedPoints(theta, np.full(n, 1 / n))
    frames = [frame(step, estimate) for step in range(100)]
    return Checkpoint(Progress(1, 2.5, 7, (theta, optax.adam(0.1).init(theta))), curve, estimate, frames, [], 0.25)


def test_a_file_that_is_no_checkpoint_of_the_run_is_told_and_not_used(tmp_path):
    path, sprung, now = tmp_path / ".01.checkpoint.npz", tmp_path / "sprung", paper_sized(5)
    checkpoint.save(path, now)
    whole, arrays = path.read_bytes(), dict(np.load(path))
    found = checkpoint.load(path, lambda: now.progress.state)
    assert (found.progress[:3], found.curve) == (now.progress[:3], now.curve)
    checkpoint.save(tmp_path / ".02.checkpoint.npz", now)
    renamed = (tmp_path / ".02.checkpoint.npz").read_bytes()

    def saved(**changes):
        np.savez(path, **arrays | changes)
        return path.read_bytes()

    damaged = {
        "empty": b"",
        "garbage": b"garbage",
        "cut": whole[: len(whole) // 2],
        "renamed": renamed,
        "pickle": saved(leaf_0=np.array([Trap(sprung)], dtype=object)),
        "shape": saved(leaf_0=arrays["leaf_0"][:1]),
        "precision": saved(leaf_0=arrays["leaf_0"].astype(np.float64)),
        "not JSON": saved(told=np.frombuffer(b"{", np.uint8)),
        "JSON of something else": saved(told=np.frombuffer(b"[]", np.uint8)),
        "bits turned": whole.replace(arrays["leaf_0"].tobytes(), bytes(arrays["leaf_0"].nbytes)),
    }
    for name, content in damaged.items():
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="is no checkpoint of this run, which starts anew"):
            assert checkpoint.load(path, lambda: now.progress.state) is None, name
    assert not sprung.exists()
    assert checkpoint.load(tmp_path / "none", lambda: now.progress.state) is None


def test_a_checkpoint_that_is_cut_short_leaves_the_one_before(tmp_path, monkeypatch):
    path, now = tmp_path / ".01.checkpoint.npz", paper_sized(5)
    checkpoint.save(path, now)

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=r"cannot write .*checkpoint.npz: No space left"):
            checkpoint.save(path, now._replace(progress=now.progress._replace(step=2)))
    assert checkpoint.load(path, lambda: now.progress.state).progress.step == 1
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoints_are_small_and_take_less_than_two_percent(tmp_path):
    """At an interval that loses less than a minute."""
    path, seconds = tmp_path / ".01.checkpoint.npz", []
    now = paper_sized()
    for _ in range(20):
        began = time.perf_counter()
        checkpoint.save(path, now)
        seconds.append(time.perf_counter() - began)
    assert np.median(seconds) < 0.02 * checkpoint.INTERVAL_SECONDS
    assert checkpoint.INTERVAL_SECONDS + runner.PART_SECONDS + np.median(seconds) < 60
    assert path.stat().st_size < 5 * now.progress.state[0].nbytes + 100 * now.frames[0].theta.nbytes
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert checkpoint.load(path, lambda: now.progress.state).progress.step == 1


@pytest.mark.parametrize(("cost", "apart"), [(0.01, 20.0), (3.0, 300.0)])
def test_what_takes_long_to_write_is_written_less_often(tmp_path, monkeypatch, cost, apart):
    clock, saved = [0.0], []

    def save(*_):
        saved.append(clock[0])
        clock[0] += cost

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(checkpoint, "save", save)
    writer = CheckpointWriter(tmp_path / "x")
    while clock[0] < 3000:
        clock[0] += 0.5
        writer.offer(paper_sized)
    assert saved[0] == 20.0
    assert np.diff(saved) == pytest.approx(apart + cost, abs=0.5)


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(often, tmp_path):
    with pytest.warns(UserWarning, match=r"no checkpoint at .*missing.*No such file"):
        record, _ = executed(tmp_path / "missing" / ".01.checkpoint.npz")
    assert (record.status, record.steps) == ("ok", 40)


@pytest.mark.parametrize("seconds", [None, 5.0])
def test_nothing_is_left_of_a_run_that_is_over(seconds, tmp_path, monkeypatch):
    """Also where the clock ends it."""
    given = []

    def measure(_config, session):
        given.append(session.checkpoint.name)
        session.checkpoint.write_text("left")
        return Result(), {}

    config = dataclasses.replace(CONFIG, study="clock", stop_after_seconds=seconds)
    monkeypatch.setitem(STUDIES, "clock", Study("", {"smoke": Size(1, 5, 1.0)}, lambda _: [config], measure))
    campaign.run_all([config], Order(tmp_path, RunSettings("smoke")), Here(SILENT), SILENT)
    (record,) = (tmp_path / "clock").iterdir()
    assert given == [f".{record.stem}.checkpoint.npz"]


def test_fresh_uses_no_checkpoint_from_before(tmp_path, monkeypatch):
    found = []

    def measure(_config, session):
        found.append(session.checkpoint.exists())
        return Result(), {}

    config = dataclasses.replace(CONFIG, study="clock")
    monkeypatch.setitem(STUDIES, "clock", Study("", {"smoke": Size(1, 5, 1.0)}, lambda _: [config], measure))
    for since in (0, time.time_ns() + 10**9):
        path = locks.checkpoint_path(work.path_of(tmp_path, config))
        path.parent.mkdir(exist_ok=True)
        path.touch()
        campaign.run_all([config], Order(tmp_path, RunSettings("smoke", since)), Here(SILENT), SILENT)
    assert found == [True, False]


def test_a_budget_of_seconds_goes_on_with_its_clock(interrupted, monkeypatch):
    """The seconds of building the method are those of the first time, and count once."""

    def seconds_of_setup(seconds):
        monkeypatch.setattr(execute, "_set_up", lambda problem, _config: (METHODS["walk"](problem), seconds))

    budget = {"steps": 10**6, "every": 1, "stop_after_seconds": 99.0}
    each_step_takes_a_second = SimpleNamespace(perf_counter=map(float, range(10**6)).__next__)
    monkeypatch.setattr(runner, "time", each_step_takes_a_second)
    seconds_of_setup(49.0)
    path = interrupted(30, **budget)
    seconds_of_setup(1e6)
    record, _ = executed(path, **budget)
    assert (record.resumed_at, record.steps, record.setup_seconds) == ([30], 50, 49.0)
