"""Runs studies: which runs there are, which are done already, and what became of them."""

import contextlib
import json
import math
import time
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from pathlib import Path
from typing import NamedTuple

from cryosip.bench.app import locks, work
from cryosip.bench.app.callbacks import Callbacks, Finished, Place
from cryosip.bench.app.work import Done, Order, Workers, existing_record, path_of
from cryosip.bench.environment import memory_in_use_mb
from cryosip.bench.limits import MEASURING_MB
from cryosip.bench.stopping import Stopped
from cryosip.datasets.registry import DATASETS
from cryosip.records import files
from cryosip.records.read import OtherSchema
from cryosip.records.schema import Record, RunConfig

MOST_IN_VAIN = 10  # workers that end before they begin a run


class Outcome(NamedTuple):
    done: int
    skipped: int
    failed: list[str]


def check_memory(configs: list[RunConfig], memory_mb: float) -> None:
    """Raises ValueError with the sizes for runs whose images alone, beside what any run needs, do not fit."""
    if math.isinf(memory_mb):
        return
    held, sizes, large = memory_in_use_mb() + MEASURING_MB, {}, []
    for config in configs:
        options = json.dumps(config.problem_options)
        if (config.problem, options) not in sizes:
            sizes[config.problem, options] = _images_mb(config)
        if held + sizes[config.problem, options] > memory_mb:
            large.append(f"{config.study}: {config.problem} {sizes[config.problem, options]:.0f} MB of images")
    if large:
        raise ValueError(
            f"memory is {memory_mb:g} MB; wanted more than {held + max(sizes.values()):.0f} MB, "
            f"of which {held:.0f} for any run: {'; '.join(dict.fromkeys(large))}"
        )


def _images_mb(config: RunConfig) -> float:
    """Of the observations and of the noise that they are made with; 0 for a problem that cannot be built."""
    try:
        few = DATASETS[config.problem](**config.problem_options | {"n_observations": 2}).problem.observations
    except (OSError, ValueError):  # which the run will tell
        return 0.0
    n = config.problem_options.get("n_observations", len(few))
    return 2 * n * few.shape[1] * few.dtype.itemsize / 2**20


@contextlib.contextmanager
def shared(order: Order, outlasting: bool) -> Iterator[Order]:
    """The order for processes anywhere: while the block lasts, a file tells them whether they have the same folder.

    Where they may be `outlasting` a block that an exception ends, the file stays, for a week.
    """
    for old in order.results.glob(work.probe_path(order.results, "*").name):
        if time.time() - old.stat().st_mtime > locks.STALE_SECONDS:
            old.unlink(missing_ok=True)
    probe = uuid.uuid4().hex[:16]
    file = work.probe_path(order.results, probe)
    files.write_text(file, probe)
    try:
        yield order._replace(version=work.version(), probe=probe)
    except BaseException:
        if not outlasting:
            file.unlink(missing_ok=True)
        raise
    file.unlink(missing_ok=True)


def run_all(configs: list[RunConfig], order: Order, workers: Workers, callbacks: Callbacks) -> Outcome:
    """Has the workers make what has no record yet; what other commands are at is left to them and waited for.

    A run whose worker dies is given to another. Raises what a worker raises that cannot go on, such as OSError for a
    full disk: what is running then stops.
    """
    pending, outcome = _pending(configs, order)
    callbacks.plan(pending)
    done, skipped, failed = outcome
    for waiting in (False, True):
        busy = []
        for place, found in _made(pending, order, workers, waiting, callbacks):
            if found.record is None:
                callbacks.skip(place)
                busy.append(place)
                continue
            done, skipped = done + found.made, skipped + (not found.made)
            failed += _failure(path_of(order.results, place.config), found.record)
            if found.made:
                callbacks.finish(Finished(place, found.record, found.seconds))
            else:
                callbacks.skip(place)
        pending = busy
        if pending:
            callbacks.wait(len(pending))
    for study in {config.study for config in configs}:
        locks.sweep(order.results / study, {path_of(order.results, config).stem for config in configs})
    return Outcome(done, skipped, failed)


def _made(
    pending: list[Place], order: Order, workers: Workers, waiting: bool, callbacks: Callbacks
) -> Iterator[tuple[Place, Done]]:
    """What became of each run, as they end; never more runs are with the workers than these take at a time."""
    queue, flying = deque(pending), dict[Future[Done], Place]()
    traces, in_vain = dict[int, tuple[bytes, int]](), 0
    while queue or flying:
        while queue and len(flying) < workers.capacity:
            place = queue.popleft()
            flying[workers.submit(work.make, order, place, waiting)] = place
        for future in wait(flying, return_when=FIRST_COMPLETED).done:
            place = flying.pop(future)
            try:
                yield place, future.result()
                in_vain = 0
            except (BrokenExecutor, Stopped) as error:
                trace = work.trace_of(order.results, place.config)
                in_vain = in_vain + 1 if trace == traces.get(place.position, (b"", 0)) else 0
                if in_vain >= MOST_IN_VAIN:
                    raise OSError(f"{in_vain} workers in a row have ended before they began a run: {error}") from error
                traces[place.position] = trace
                callbacks.died(place, str(error))
                queue.append(place)


def _pending(configs: list[RunConfig], order: Order) -> tuple[list[Place], Outcome]:
    """The runs that have no record yet, and what became of the others."""
    pending, skipped, failed = [], 0, list[str]()
    for index, config in enumerate(configs):
        path = path_of(order.results, config)
        try:
            record = existing_record(path, order.settings)
        except OtherSchema as error:
            skipped, failed = skipped + 1, [*failed, str(error)]
            continue
        if record is None:
            pending.append(Place(index, len(configs), config))
            continue
        skipped, failed = skipped + 1, failed + _failure(path, record)
    return pending, Outcome(0, skipped, failed)


def _failure(path: Path, record: Record) -> list[str]:
    return [] if record.status == "ok" else [f"{path}: {record.status}: {record.message}"]
