"""How long the runs that are still to come are likely to take, judged by those that are over."""

import math
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from statistics import fmean

from cryosip.records.schema import RunConfig

Kind = tuple[Hashable, ...]


class Stopwatch:
    """Seconds of the runs so far, and from them of those that are left."""

    def __init__(self, processes: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.processes, self.clock = processes, clock
        self.waiting: dict[int, RunConfig] = {}
        self.seconds: dict[Kind, float] = {}
        self.current: RunConfig | None = None
        self.began = clock()

    def plan(self, pending: Iterable[tuple[int, RunConfig]]) -> None:
        """The runs to come with their places in the list."""
        self.waiting = dict(pending)

    def start(self, index: int, config: RunConfig) -> None:
        """Runs before this one are over, or other processes are at them."""
        self.waiting = {place: run for place, run in self.waiting.items() if place > index}
        self.current, self.began = config, self.clock()

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.began

    def finish(self) -> None:
        """The run is over; the last replicate of a variant is the one to go by, for the first one was compiled."""
        if self.current is not None:
            self.seconds[variant(self.current)] = self.elapsed()
            self.current = None

    def seconds_left(self) -> float:
        """Of the current run and of all to come; nan while nothing is known."""
        left = sum(seconds_of(self.waiting.values(), self.seconds))
        if self.current is not None:
            (whole,) = seconds_of([self.current], self.seconds)
            left += max(whole - self.elapsed(), 0.0)
        return left / self.processes


def variant(config: RunConfig) -> Kind:
    """What replicates have in common."""
    discrepancy = config.method_options.get("discrepancy", {}).get("name")
    return config.study, config.problem, config.method, discrepancy, config.labels.text


def seconds_of(runs: Iterable[RunConfig], known: Mapping[Kind, float]) -> list[float]:
    """Seconds of each run: those of its variant, else the mean of its method, its problem, its study, or all.

    A run of an unknown variant that ends by a budget of seconds is taken to spend it.
    """
    means: dict[Kind, list[float]] = {}
    for kind, seconds in known.items():
        for common in range(len(kind)):
            means.setdefault(kind[:common], []).append(seconds)
    averages = {kind: fmean(seconds) for kind, seconds in means.items()} | dict(known)
    return [_of_one(run, averages) for run in runs]


def _of_one(run: RunConfig, averages: Mapping[Kind, float]) -> float:
    kind = variant(run)
    if kind in averages:
        return averages[kind]
    nearest = next((averages[kind[:n]] for n in range(len(kind), -1, -1) if kind[:n] in averages), math.nan)
    return max(nearest, run.stop_after_seconds or 0.0)


def in_words(seconds: float) -> str:
    """Such as "about 2 min left"; "" for nan."""
    if math.isnan(seconds):
        return ""
    if seconds < 60:
        return f"about {max(round(seconds), 1)} s left"
    hours, minutes = divmod(round(seconds / 60), 60)
    parts: Sequence[str] = [*([f"{hours} h"] if hours else []), *([f"{minutes} min"] if minutes else [])]
    return f"about {' '.join(parts)} left"
