"""The time left: by runs like those to come, on a clock that the tests turn."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console
from rich.progress import Progress

from cryosip.bench.app import progress
from cryosip.bench.app.callbacks import Finished, Place
from cryosip.bench.app.time_left import Stopwatch, in_words, seconds_of, variant
from cryosip.records.schema import Labels, Result, RunConfig

FAST = RunConfig("study", Labels("tuned"), "oned", {}, "flow", {"discrepancy": {"name": "energy"}}, 10, 1, 0)
SLOW = replace(FAST, labels=Labels("published"))
OTHER = replace(FAST, method="mixture", method_options={})
RUNS = [replace(run, replicate=r) for r in range(3) for run in (FAST, SLOW)]
PLACES = [Place(i, len(RUNS), run) for i, run in enumerate(RUNS)]
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


def over(place, seconds, result=OK):
    return Finished(place, result, seconds)


def test_what_is_left_follows_the_last_replicate_of_each_variant(clock):
    watch, left = Stopwatch(clock=clock), []
    watch.plan(PLACES)
    for place, took in zip(PLACES, [9.0, 25.0, 2.0, 10.0, 2.0, 10.0], strict=True):
        watch.start(place)
        clock.now += took
        watch.finish(over(place, took))
        left.append(watch.seconds_left())
    assert left == [5 * 9.0, 2 * (9 + 25), 25 + 2 + 25, 2 + 10, 10, 0]  # the first were compiled


def test_a_run_that_goes_on_counts_down_and_what_others_make_is_not_waited_for(clock):
    watch = Stopwatch(clock=clock)
    watch.plan(PLACES)
    watch.start(PLACES[0])
    assert math.isnan(watch.seconds_left())
    clock.now += 4
    watch.finish(over(PLACES[0], 4.0))
    watch.skip(PLACES[1])
    watch.start(PLACES[2])
    clock.now += 3
    assert watch.seconds_left() == 1 + 3 * 4
    clock.now += 30  # longer than thought
    assert watch.seconds_left() == 3 * 4


def test_workers_share_what_is_left_however_many_there_are_by_then(clock):
    workers = [2]
    watch = Stopwatch(lambda: workers[0], clock)
    watch.plan(PLACES)
    watch.finish(over(PLACES[3], 4.0))  # in any order
    assert watch.seconds_left() == 5 * 4 / 2
    workers[0] = 5
    assert watch.seconds_left() == 4


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
    places = [Place(i, 3, run) for i, run in enumerate(RUNS[:3])]
    watcher.plan(places)
    for place in places:
        watcher.start(place)
        clock.now += 80.0
        watcher.finish(over(place, 80.0))
    lines = out.getvalue().splitlines()
    assert lines[0] == "[1/3] study: oned, flow energy, tuned, replicate 0: ok, w2 0.250 (80.0 s; about 3 min left)"
    assert [line.partition("w2 0.250 ")[2] for line in lines[1:]] == ["(80.0 s; about 1 min left)", "(80.0 s)"]


def test_a_run_that_failed_says_why(clock):
    out = io.StringIO()
    watcher = progress.lines(Console(file=out, width=200), Stopwatch(clock=clock))
    watcher.start(PLACES[0])
    watcher.finish(over(PLACES[0], 0.0, Result(status="error", message="ValueError: k is 0")))
    assert out.getvalue().rstrip().endswith("replicate 0: error (0.0 s): ValueError: k is 0")


def test_of_workers_each_run_that_is_over_has_a_line(clock):
    out = io.StringIO()
    with progress.of_workers(Console(file=out, width=200), lambda: 2) as watcher:
        watcher.plan(PLACES[:2])
        watcher.died(PLACES[1], "its process has died")
        watcher.finish(over(PLACES[1], 3.0))
        watcher.skip(PLACES[0])
    died, finished = out.getvalue().splitlines()
    assert died.endswith("flow energy, published, replicate 0: its process has died; it is made again")
    assert finished.endswith("replicate 0: ok, w2 0.250 (3.0 s; about 2 s left)")


def test_the_terminal_has_a_bar_for_all_runs(clock):
    bars = Progress(console=Console(file=io.StringIO()))
    watcher = progress.bars(bars, Stopwatch(clock=clock))
    watcher.plan(PLACES)
    watcher.start(PLACES[0])
    run, everything = bars.tasks
    assert (everything.completed, everything.total, everything.fields["state"]) == (0, 6, "")
    clock.now += 24.0
    watcher.finish(over(PLACES[0], 24.0))
    assert (everything.completed, everything.fields["state"]) == (1, "about 2 min left")
    watcher.start(PLACES[1])
    assert (run.completed, run.total) == (0, 10)
    assert run.description == r"\[2/6] study: oned, flow energy, published, replicate 0"
