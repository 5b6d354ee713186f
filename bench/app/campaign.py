"""Runs studies: which runs there are, which are done already, and what became of them."""

import json
import math
import warnings
from pathlib import Path
from typing import NamedTuple

import jax

from cryosip.bench import sharing
from cryosip.bench.app import locks
from cryosip.bench.app.callbacks import Callbacks
from cryosip.bench.environment import memory_in_use_mb
from cryosip.bench.execute import Session, execute, record_of
from cryosip.bench.limits import MEASURING_MB, NO_LIMITS, Limits, as_json
from cryosip.bench.studies.registry import STUDIES
from cryosip.datasets.registry import DATASETS
from cryosip.records.read import OtherSchema, written_here
from cryosip.records.schema import Record, RunConfig
from cryosip.records.write import record_path, write

# Linux: areas of memory of this process, and how many it may have; each compiled program takes a dozen
MAPS, MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


class RunSettings(NamedTuple):
    """How runs are made: records that are not younger than `fresh_since`, in nanoseconds, are made again.

    So are those not younger than `retry_since` whose run ended by an error or a limit of time.
    """

    profile: str
    fresh_since: int = 0
    limits: Limits = NO_LIMITS
    jobs: int = 1
    retry_since: int = 0


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


def run_all(configs: list[RunConfig], results: Path, settings: RunSettings, callbacks: Callbacks) -> Outcome:
    """Runs what has no record yet, each into its record; what other processes are at is left to them and waited for."""
    pending, outcome = _pending(configs, results, settings)
    callbacks.plan(pending)
    done, skipped, failed = outcome
    for wait in (False, True):
        busy = []
        for index, config in pending:
            path = path_of(results, config)
            record, made = _get_or_run(path, config, (index, len(configs)), settings, callbacks, wait)
            if record is None:
                busy.append((index, config))
                continue
            done, skipped = done + made, skipped + (not made)
            failed += _failure(path, record)
        pending = busy
        if pending:
            callbacks.wait(len(pending))
    for study in {config.study for config in configs}:
        locks.sweep(results / study, {path_of(results, config).stem for config in configs})
    return Outcome(done, skipped, failed)


def _pending(
    configs: list[RunConfig], results: Path, settings: RunSettings
) -> tuple[list[tuple[int, RunConfig]], Outcome]:
    """The runs that have no record yet with their places in the list, and what became of the others."""
    pending, skipped, failed = [], 0, list[str]()
    for index, config in enumerate(configs):
        path = path_of(results, config)
        try:
            record = _existing_record(path, settings)
        except OtherSchema as error:
            skipped, failed = skipped + 1, [*failed, str(error)]
            continue
        if record is None:
            pending.append((index, config))
            continue
        skipped, failed = skipped + 1, failed + _failure(path, record)
    return pending, Outcome(0, skipped, failed)


def tally(configs: list[RunConfig], results: Path, settings: RunSettings, since: int) -> Outcome:
    """What became of runs that other processes were ordered to make since then."""
    pending, found = _pending(configs, results, settings)
    missing = [path_of(results, config) for _, config in pending]
    there = {path_of(results, config) for config in configs}.difference(missing)
    done = sum(path.stat().st_mtime_ns > since for path in there)
    failed = [*found.failed, *(f"{path}: no record was written" for path in missing)]
    return Outcome(done, found.skipped - done, failed)


def path_of(results: Path, config: RunConfig) -> Path:
    """Where the record of a run is, or will be."""
    record = record_of(config, "", STUDIES[config.study].measure)
    return record_path(results, config.study, record.run_id)


def _get_or_run(
    path: Path, config: RunConfig, place: tuple[int, int], settings: RunSettings, callbacks: Callbacks, wait: bool
) -> tuple[Record | None, bool]:
    """The record and whether it was made here; None where another process is at it and is not waited for."""
    if record := _existing_record(path, settings):
        return record, False
    with locks.lock(path, wait) as mine:
        if not mine:
            return None, False
        if record := _existing_record(path, settings):  # made since then
            return record, False
        callbacks.start(*place, config)
        record = _make(path, config, settings, callbacks)
        callbacks.finish(record)
        return record, True


def _existing_record(path: Path, settings: RunSettings) -> Record | None:
    """The record that is there already.

    A run that ended by an error or a limit of time is tried again under other limits, and where that is ordered.
    """
    try:
        written = path.stat().st_mtime_ns
        if written <= settings.fresh_since:
            return None
        record = written_here(path)
    except FileNotFoundError:
        return None
    except OtherSchema:
        raise
    except ValueError as error:
        warnings.warn(f"{error}; it is run again", stacklevel=1)  # once, whoever asks
        return None
    stale = record.limits != as_json(settings.limits) or written <= settings.retry_since
    return None if stale and record.status in ("timeout", "error") else record


def _make(path: Path, config: RunConfig, settings: RunSettings, callbacks: Callbacks) -> Record:
    """Runs into the record. What seconds decide cannot be taken up to the same bits, and is short: no checkpoint."""
    kept = None if config.stop_after_seconds is not None else locks.checkpoint_path(path)
    if kept and kept.exists() and kept.stat().st_mtime_ns <= settings.fresh_since:
        kept.unlink()
    forget_programs()
    session = Session(callbacks.snapshot, settings.limits, kept, settings.jobs, sharing.of(path.parent.parent))
    record, arrays = execute(config, settings.profile, STUDIES[config.study].measure, session)
    write(path, record, arrays)
    locks.remove_stale_files(path)
    return record


def forget_programs() -> None:
    """Drops what was compiled where it takes half of the areas of memory that a process may have.

    LLVM ends the process when there are no more, after some hundred runs of different programs; what is dropped is in
    the cache on disk.
    """
    try:
        taken, most = MAPS.read_bytes().count(b"\n"), int(MOST_MAPS.read_text())
    except OSError:  # another system, without such a limit
        return
    if taken > most / 2:
        jax.clear_caches()


def _failure(path: Path, record: Record) -> list[str]:
    return [] if record.status == "ok" else [f"{path}: {record.status}: {record.message}"]
