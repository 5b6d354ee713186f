"""How long the runs that are still to come are likely to take, judged by those that are over."""

import math
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from statistics import fmean

from cryosip.bench.app.callbacks import Finished, Place
from cryosip.records.schema import RunConfig

Kind = tuple[Hashable, ...]


class Stopwatch:
    """Seconds of the runs so far, and from them of those that are left, for so many workers."""

    def __init__(self, workers: Callable[[], int] = lambda: 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.workers, self.clock = workers, clock
        self.waiting: dict[int, RunConfig] = {}
        self.seconds: dict[Kind, float] = {}
        self.current: RunConfig | None = None
        self.began = clock()

    def plan(self, pending: Iterable[Place]) -> None:
        """The runs to come."""
        self.waiting = {place.position: place.config for place in pending}

    def start(self, place: Place) -> None:
        """A run of this process begins."""
        self.current, self.began = place.config, self.clock()

    def skip(self, place: Place) -> None:
        """Another command has made the run, or is at it."""
        self.waiting.pop(place.position, None)

    def finish(self, run: Finished) -> None:
        """The run is over; the last replicate of a variant is the one to go by, for the first one was compiled."""
        self.waiting.pop(run.place.position, None)
        self.seconds[variant(run.place.config)] = run.seconds
        self.current = None

    def seconds_left(self) -> float:
        """Of all runs that are not over; nan while nothing is known."""
        left = sum(seconds_of(self.waiting.values(), self.seconds))
        if self.current is not None:
            (whole,) = seconds_of([self.current], self.seconds)
            left -= min(whole, self.clock() - self.began)
        return left / self.workers()


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
