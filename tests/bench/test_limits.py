"""What a run may take: a timeout ends it with its last finite state, memory is met by smaller tiles or refused."""

import dataclasses
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from typer.testing import CliRunner

from cryosip.bench import runner
from cryosip.bench.app import campaign, cli
from cryosip.bench.environment import memory_in_use_mb
from cryosip.bench.execute import Session, execute, run_method
from cryosip.bench.limits import MEASURING_MB, Limits, TimeUp, ending_after
from cryosip.bench.runner import run
from cryosip.bench.studies import consistency, estimators
from cryosip.bench.studies.registry import STUDIES
from cryosip.bench.studies.study import Size, Study
from cryosip.methods import pairwise, tiles
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.registry import METHODS
from cryosip.records.schema import Labels, RunConfig, as_json

CONFIG = RunConfig("slow", Labels("-"), "oned", {"n_observations": 50}, "walk", {}, 10**6, 10**6, 0)


def build_walk(_problem, work=300):
    """A random walk whose step takes milliseconds of work."""

    def step(key, theta):
        idle = jax.lax.fori_loop(0, work, lambda _, x: jnp.sin(x @ x), jnp.ones((30, 30)))
        return theta + jr.normal(key, theta.shape) + 0 * idle.sum(), Info(theta.sum(), jnp.asarray(4))

    return Method(lambda key: jr.normal(key, (4, 1)), step, lambda theta: WeightedPoints(theta, jnp.full(4, 0.25)))


@pytest.fixture(autouse=True)
def walk(monkeypatch, few_draws):
    monkeypatch.setitem(METHODS, "walk", build_walk)


def test_a_timeout_keeps_the_last_finite_state(monkeypatch):
    """In the middle of a block that would take minutes."""
    monkeypatch.setattr(runner, "PART_SECONDS", 0.1)
    seen = []
    record, arrays = execute(CONFIG, "smoke", run_method, Session(seen.append, Limits(seconds=0.5)))
    as_json(record)
    assert (record.status, record.message) == ("timeout", "the 0.5 s that were allowed are over")
    assert record.limits == {"seconds": 0.5, "memory_mb": None}
    assert 0.3 < record.run_seconds < 5
    assert 0 < record.steps < 10**6
    assert record.forward_evaluations == 4 * record.steps
    assert record.curve["step"].tolist() == [0, record.steps]
    assert np.isnan(record.curve["objective"][-1])
    np.testing.assert_array_equal(arrays["theta"], seen[-1].estimate.theta)
    assert set(record.metrics) >= {"w1", "w2"}


def test_a_run_that_ends_in_time_is_as_without_a_limit():
    short = dataclasses.replace(CONFIG, steps=20, every=10, method_options={"work": 1})
    (limited, arrays), (free, expected) = (
        execute(short, "smoke", run_method, Session(limits=limits)) for limits in (Limits(seconds=100.0), Limits())
    )
    assert (limited.status, limited.steps) == ("ok", 20)
    np.testing.assert_array_equal(arrays["theta"], expected["theta"])
    assert free.limits == {"seconds": None, "memory_mb": None}


def test_building_a_method_counts(monkeypatch):
    def slow(problem):
        time.sleep(0.2)
        return build_walk(problem, 1)

    monkeypatch.setitem(METHODS, "walk", slow)
    record, arrays = execute(CONFIG, "smoke", run_method, Session(limits=Limits(seconds=0.1)))
    assert (record.status, record.steps, record.curve["step"].tolist()) == ("timeout", 0, [0])
    assert np.isfinite(arrays["theta"]).all()


def test_what_is_no_run_of_steps_ends_too(monkeypatch):
    """The repeats of a variance, the optimisations behind a statement."""
    monkeypatch.setattr(estimators, "REPEATS", 10**9)
    monkeypatch.setitem(consistency.STATEMENTS, "large-data", lambda _config: time.sleep(5))
    variance = next(run for run in STUDIES["sampling"].configs(Size(1, 300, 1.0)) if run.method == "method-1")
    statement = dataclasses.replace(variance, study="consistency", method="large-data")
    for config in (variance, statement):
        record, arrays = execute(config, "smoke", STUDIES[config.study].measure, Session(limits=Limits(seconds=0.3)))
        assert (record.status, arrays) == ("timeout", {}), record.message
        assert "the 0.3 s that were allowed are over" in record.message


def test_no_library_takes_the_alarm_for_an_error_of_its_own():
    def library():
        try:
            time.sleep(5)
        except Exception:
            time.sleep(5)

    with pytest.raises(TimeUp), ending_after(0.05):
        library()


def test_an_alarm_rings_once_and_only_in_its_block():
    with pytest.raises(TimeUp), ending_after(0.05):
        time.sleep(5)
    with ending_after(0.05):
        pass
    time.sleep(0.1)


@pytest.fixture
def study(monkeypatch):
    """One run that takes long and one that does not."""

    def configs(_size):
        return [CONFIG, dataclasses.replace(CONFIG, steps=3, labels=Labels("short"))]

    monkeypatch.setitem(STUDIES, "slow", Study("", {"small": Size(1, 5, 1.0)}, configs))
    monkeypatch.setattr(runner, "PART_SECONDS", 0.1)


def cryosip(*words):
    result = CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, re.sub(r"[\s│╭╮╰╯─]+", " ", result.output)


def test_after_a_timeout_the_study_goes_on_and_the_exit_code_says_so(study, tmp_path):
    """More time is a reason to try again, the same is none."""
    words = ["run", "slow", "--results", tmp_path, "--timeout"]
    code, text = cryosip(*words, 0.3)
    assert (code, "2 executed, 0 already recorded, 1 failed" in text) == (1, True), text
    assert "timeout: the 0.3 s that were allowed are over" in text
    assert "slow: oned, walk, short, replicate 0: ok" in text
    code, text = cryosip(*words, 0.3)
    assert (code, "0 executed, 2 already recorded, 1 failed" in text) == (1, True), text
    code, text = cryosip(*words, 0.6)
    assert (code, "1 executed, 1 already recorded, 1 failed" in text) == (1, True), text


@pytest.mark.parametrize("option", ["--timeout", "--max-memory"])
@pytest.mark.parametrize("value", [0, -1, "nan", "inf", "x"])
def test_a_limit_that_is_none_is_wrong_usage(option, value, tmp_path):
    code, text = cryosip("run", "sampling", "--results", tmp_path, option, value)
    assert code == 2
    assert re.search(rf"{option}.*(is not a positive finite number|should be a valid number)", text), text
    assert cryosip("run", "sampling", "--results", tmp_path, "--jobs", 0)[0] == 2
    assert list(tmp_path.iterdir()) == []


def pairs_of(n, tile=None):
    """A method whose step takes all pairs of n points."""
    kernel = pairwise.Radial(lambda r: jnp.exp(-(r**2)), lambda r: -2 * r * jnp.exp(-(r**2)))

    def step(key, theta):
        slope = pairwise.mean_slope(kernel, theta, theta, tile)
        return theta - slope + 0.1 * jr.normal(key, theta.shape), Info(slope.sum(), jnp.asarray(n))

    return Method(lambda key: jr.normal(key, (n, 1)), step, lambda theta: WeightedPoints(theta, jnp.full(n, 1 / n)))


def last(method, **more):
    return list(run(jr.key(0), method, steps=2, every=2, **more))[-1]


def test_tiles_bound_the_memory_and_a_limit_makes_them_smaller(monkeypatch):
    """All pairs at once take 61 MB for each array of them."""
    monkeypatch.setattr(runner, "MEASURING_MB", 0.0)
    monkeypatch.setattr(runner, "memory_in_use_mb", lambda: 100.0)
    n = 4_000
    whole, tiled = last(pairs_of(n, n * n)), last(pairs_of(n))
    assert whole.program.memory_mb > n**2 * 4 / 2**20 > tiled.program.memory_mb
    allowed = 100.0 + tiled.program.memory_mb / 3
    limited = last(pairs_of(n), limits=Limits(memory_mb=allowed))
    assert (tiled.program.tile_share, limited.program.tile_share < 1) == (1.0, True)
    assert limited.program.memory_mb < tiled.program.memory_mb / 3
    np.testing.assert_allclose(limited.estimate.theta, whole.estimate.theta, atol=1e-5)


MEASURED = """
import sys
import jax, jax.random as jr
sys.path.insert(0, sys.argv[1])
from test_limits import pairs_of
from cryosip.bench import environment, limits, runner
from cryosip.methods import pairwise
pairwise.TILE = 2**27
*_, last = runner.run(jr.key(0), pairs_of(12_000), 2, 2, limits=limits.Limits(memory_mb=float(sys.argv[2])))
print(last.program.tile_share, environment.peak_memory_mb())
"""


@pytest.mark.slow
def test_the_memory_that_a_process_takes_stays_below_the_limit():
    """All pairs of 12 000 points are 549 MB; what is resident is measured, of a process each."""

    def measured(limit):
        words = [sys.executable, "-c", MEASURED, Path(__file__).parent, f"{limit}"]
        return map(float, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())

    (whole, most), (share, less) = measured(np.inf), measured(800.0)
    assert (whole, share < 1) == (1.0, True)
    assert less <= 800.0 < most


def test_what_fits_in_no_tiles_is_refused_with_the_sizes_before_a_step():
    record, arrays = execute(CONFIG, "smoke", run_method, Session(limits=Limits(memory_mb=50.0)))
    assert (record.status, arrays) == ("error", {})
    said = r"MemoryError: the program needs \d+ MB \(and metrics 256\) beside \d+ MB in use.*wanted at most 50 MB"
    assert re.match(said, record.message)
    assert record.steps == 0


def test_smaller_tiles_are_for_what_is_compiled_inside():
    with tiles.shared(1 / 8):
        assert tiles.tile(64) == 8
        assert tiles.tile(3) == 1
    assert tiles.tile(64) == 64


@pytest.mark.slow
def test_a_request_that_cannot_fit_is_refused_before_anything_runs(tmp_path):
    """With the sizes; 3000 images of 128 x 128 pixels, and the noise that they were made with, are 375 MB."""
    many = RunConfig("x", Labels("-"), "nanocluster", {"n_observations": 3_000}, "flow", {}, 1, 1, 0)
    few = dataclasses.replace(many, problem_options={"n_observations": 3})
    held = memory_in_use_mb() + MEASURING_MB
    says = r"memory is \S+ MB; wanted more than \d+ MB, of which \d+ for any run: x: nanocluster 375 MB of images"
    with pytest.raises(ValueError, match=says):
        campaign.check_memory([few, many], held + 300)
    campaign.check_memory([few, many], held + 500)
    campaign.check_memory([few], held + 300)
    code, text = cryosip("run", "sampling", "--profile", "smoke", "--results", tmp_path / "none", "--max-memory", 1)
    assert code == 1
    assert "cryosip: memory is 1 MB; wanted more than" in text
    assert not (tmp_path / "none").exists()


def in_a_thread(f):
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(f).result()


def test_time_is_up_in_other_threads_too():
    """Workers of Dask make runs in one, and Python gives signals to the main thread alone."""

    def busy():
        with ending_after(0.1):
            end = time.monotonic() + 20
            while time.monotonic() < end:
                pass

    with pytest.raises(TimeUp, match=re.escape("the 0.1 s that were allowed are over")):
        in_a_thread(busy)


def test_a_thread_that_is_done_in_time_is_not_disturbed():
    def quick():
        for _ in range(20):
            with ending_after(0.1):
                pass
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        return "done"

    assert in_a_thread(quick) == "done"


def test_a_run_in_a_thread_has_its_timeout(monkeypatch):
    monkeypatch.setattr(runner, "PART_SECONDS", 0.1)

    def measure(config, session):
        with ending_after(session.limits.seconds):
            while True:
                pass

    record, _ = in_a_thread(lambda: execute(CONFIG, "smoke", measure, Session(limits=Limits(seconds=0.1))))
    assert (record.status, record.message) == ("timeout", "TimeUp: the 0.1 s that were allowed are over")
