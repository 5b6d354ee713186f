"""The time left: by runs like those to come, on a clock that the tests turn."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console
from rich.progress import Progress

from cryosip.bench.app import progress
from cryosip.bench.app.time_left import Stopwatch, in_words, seconds_of, variant
from cryosip.records.schema import Labels, Result, RunConfig

FAST = RunConfig("study", Labels("tuned"), "oned", {}, "flow", {"discrepancy": {"name": "energy"}}, 10, 1, 0)
SLOW = replace(FAST, labels=Labels("published"))
OTHER = replace(FAST, method="mixture", method_options={})
RUNS = [replace(run, replicate=r) for r in range(3) for run in (FAST, SLOW)]
OK = Result(metrics={"w2": 0.25})


class Clock:
    """Stands still until it is set."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_run_takes_what_its_variant_took_else_what_is_most_like_it():
    known = {variant(FAST): 2.0, variant(SLOW): 10.0, variant(OTHER): 30.0}
    elsewhere = replace(FAST, study="elsewhere")
    new = replace(FAST, labels=Labels("new"))
    assert seconds_of([FAST, SLOW, new], known) == [2.0, 10.0, 6.0]  # the flow of the energy, whatever its variant
    assert seconds_of([replace(OTHER, method="reweighting"), elsewhere], known) == [14.0, 14.0]
    assert seconds_of([replace(new, stop_after_seconds=60.0), replace(FAST, stop_after_seconds=60.0)], known) == [60, 2]
    assert math.isnan(*seconds_of([FAST], {}))


def made(watch, clock, seconds, start, finish):
    """Runs each of RUNS in its time and notes what is left after it."""
    left = []
    watch.plan(enumerate(RUNS))
    for i, (run, took) in enumerate(zip(RUNS, seconds, strict=True)):
        start(i, run)
        clock.now += took
        finish()
        left.append(watch.seconds_left())
    return left


def test_what_is_left_follows_the_last_replicate_of_each_variant(clock):
    watch = Stopwatch(clock=clock)
    left = made(watch, clock, [9.0, 25.0, 2.0, 10.0, 2.0, 10.0], watch.start, watch.finish)
    assert left == [5 * 9.0, 2 * (9 + 25), 25 + 2 + 25, 2 + 10, 10, 0]  # the first were compiled


def test_a_run_that_goes_on_counts_down_and_processes_share(clock):
    watch = Stopwatch(2, clock)
    watch.plan(enumerate(RUNS))
    watch.start(0, RUNS[0])
    assert math.isnan(watch.seconds_left())
    clock.now += 4
    watch.finish()
    watch.start(2, RUNS[2])  # another process is at the second
    clock.now += 3
    assert watch.seconds_left() == (1 + 4 * 3) / 2
    clock.now += 30  # longer than thought
    assert watch.seconds_left() == 4 * 3 / 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (math.nan, ""), (0.0, "about 1 s left"), (42.4, "about 42 s left"), (60.0, "about 1 min left"),
        (150.1, "about 3 min left"), (3_600.0, "about 1 h left"), (4_810.0, "about 1 h 20 min left"),
    ],
)  # fmt: skip
def test_words(seconds, words):
    assert in_words(seconds) == words


def test_lines_end_with_the_time_left_for_all_runs(clock):
    out = io.StringIO()
    watcher = progress.lines(Console(file=out, width=200), Stopwatch(clock=clock))
    watcher.plan(list(enumerate(RUNS[:3])))
    for i, run in enumerate(RUNS[:3]):
        watcher.start(i, 3, run)
        clock.now += 80.0
        watcher.finish(OK)
    lines = out.getvalue().splitlines()
    assert lines[0] == "[1/3] study: oned, flow energy, tuned, replicate 0: ok, w2 0.250 (80.0 s; about 3 min left)"
    assert [line.partition("w2 0.250 ")[2] for line in lines[1:]] == ["(80.0 s; about 1 min left)", "(80.0 s)"]


def test_a_run_that_failed_says_why(clock):
    out = io.StringIO()
    watcher = progress.lines(Console(file=out, width=200), Stopwatch(clock=clock))
    watcher.start(0, 1, RUNS[0])
    watcher.finish(Result(status="error", message="ValueError: k is 0"))
    assert out.getvalue().rstrip().endswith("replicate 0: error (0.0 s): ValueError: k is 0")


def test_runs_that_are_on_record_are_not_waited_for(clock):
    out = io.StringIO()
    watcher = progress.whole_lines(Console(file=out, width=200), lambda: None, 1)
    watcher.plan([(0, RUNS[0])])
    watcher.start(0, 6, RUNS[0])
    watcher.finish(OK)
    assert "[1/6]" in out.getvalue()
    assert "left" not in out.getvalue()


def test_the_terminal_has_a_bar_for_all_runs(clock):
    bars = Progress(console=Console(file=io.StringIO()))
    watcher = progress.bars(bars, Stopwatch(clock=clock))
    watcher.plan(list(enumerate(RUNS)))
    watcher.start(0, 6, RUNS[0])
    run, everything = bars.tasks
    assert (everything.completed, everything.total, everything.fields["state"]) == (0, 6, "")
    clock.now += 24.0
    watcher.finish(OK)
    assert (everything.completed, everything.fields["state"]) == (1, "about 2 min left")
    watcher.start(1, 6, RUNS[1])
    assert (run.completed, run.total) == (0, 10)
    assert run.description == r"\[2/6] study: oned, flow energy, published, replicate 0"
