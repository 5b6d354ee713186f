"""One run, in whichever process makes it: claimed, made into its record, and told to who ordered it."""

import socket
import threading
import time
import warnings
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import jax
import msgspec

import cryosip
from cryosip.bench import cache, sharing, stopping
from cryosip.bench.app import locks, outside
from cryosip.bench.app.callbacks import SILENT, Callbacks, Place
from cryosip.bench.environment import environment
from cryosip.bench.execute import Session, execute, record_of
from cryosip.bench.limits import NO_LIMITS, Limits, as_json
from cryosip.bench.measure import Arrays
from cryosip.bench.sources import engine, homes_of
from cryosip.bench.studies.registry import STUDIES
from cryosip.records import files
from cryosip.records.read import OtherSchema, written_here
from cryosip.records.schema import Record, Result, RunConfig
from cryosip.records.write import record_path, write

# Linux: areas of memory of this process, and how many it may have; each compiled program takes a dozen
MAPS, MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
MOST_ATTEMPTS = 3  # of a run that ends its process each time, without getting further
LATE_SECONDS = 30.0  # that a folder may take to appear on another host

_ONE_AT_A_TIME = threading.Lock()  # of a process whose threads are given runs: they share its memory and its clock
_ready: set[str] = set()  # orders that this process has prepared itself for


class RunSettings(NamedTuple):
    """How runs are made: records that are not younger than `fresh_since`, in nanoseconds, are made again.

    So are those not younger than `retry_since` whose run ended by an error or a limit of time. `jobs` is the number of
    runs at a time on one machine.
    """

    profile: str
    fresh_since: int = 0
    limits: Limits = NO_LIMITS
    jobs: int = 1
    retry_since: int = 0


class Order(NamedTuple):
    """What all runs of a command have in common, for processes anywhere that have its results folder.

    `probe` names a file in that folder, and the order; "" for the process that the command is.
    """

    results: Path
    settings: RunSettings
    x64: bool = False
    cached: bool = False
    from_outside: tuple[outside.Origin, ...] = ()
    version: str = ""
    probe: str = ""


class Workers(Executor):
    """What makes the runs: an executor of the standard library that also says how many runs it takes at a time."""

    capacity: float = 1
    outlasting = False  # whether what was submitted may begin when the command has ended
    after_stop = "the same command goes on from the checkpoints"  # what is told of a command that was told to stop

    def count(self) -> int:
        """How many runs are likely to go on at a time."""
        return int(self.capacity)

    def prepare(self, order: Order) -> Order:
        """The order for these workers. Raises ValueError for workers that cannot make it."""
        return order


class Done(NamedTuple):
    """What became of a run: a record without its numbers over time, and whether it was made by this order.

    No record where another process is at the run.
    """

    record: Record | None
    made: bool
    seconds: float = 0.0


def version() -> str:
    """Of this package, and of the sources that decide results."""
    return f"{cryosip.__version__} ({engine()})"


def probe_path(results: Path, probe: str) -> Path:
    """Of the file by which processes find out whether they have the folder of the command."""
    return results / f".{probe}.probe"


def prepare(order: Order) -> None:
    """Makes this process one that can make the runs of an order; the second time it does nothing.

    Raises ValueError where it is of another version, or does not have the results folder of the command.
    """
    if not order.probe or order.probe in _ready:
        return
    here = socket.gethostname()
    if version() != order.version:
        raise ValueError(f"worker on {here} has cryosip {version()}; wanted {order.version}, as the command has")
    late = time.monotonic() + LATE_SECONDS
    while not probe_path(order.results, order.probe).exists():
        if time.monotonic() > late:
            raise ValueError(
                f"worker on {here} does not find what the command has written to {order.results}; wanted a folder that "
                "all workers share"
            )
        time.sleep(0.2)
    if order.cached:
        cache.switch_on()
    outside.load(order.from_outside)
    _ready.add(order.probe)


def make(order: Order, place: Place, wait: bool, callbacks: Callbacks = SILENT) -> Done:
    """The record of a run, made if there is none; with `wait`, what another process is at is waited for.

    Raises ValueError for what `prepare` refuses, OSError for a record that cannot be written, Stopped where this
    process is told to stop.
    """
    with _ONE_AT_A_TIME, stopping.stoppable():
        prepare(order)
        jax.config.update("jax_enable_x64", order.x64)
        path = path_of(order.results, place.config)
        if record := existing_record(path, order.settings):
            return Done(_light(record), False)
        with locks.lock(path, wait) as held:
            if held is None:
                return Done(None, False)
            if record := existing_record(path, order.settings):  # made since then
                return Done(_light(record), False)
            began = time.monotonic()
            callbacks.start(place)
            record, arrays = _attempt(order, path, place.config, callbacks)
            if not held():  # it was silent for too long, and another process has the run
                return Done(None, False)
            write(path, record, arrays)
            locks.remove_stale_files(path)
            return Done(_light(record), True, time.monotonic() - began)


def trace_of(results: Path, config: RunConfig) -> tuple[bytes, int]:
    """What a run that is not over has left so far; nothing at first."""
    path = path_of(results, config)
    attempts, kept = locks.attempts_path(path), locks.checkpoint_path(path)
    return attempts.read_bytes() if attempts.exists() else b"", kept.stat().st_mtime_ns if kept.exists() else 0


def path_of(results: Path, config: RunConfig) -> Path:
    """Where the record of a run is, or will be."""
    record = record_of(config, "", STUDIES[config.study].measure)
    return record_path(results, config.study, record.run_id)


def existing_record(path: Path, settings: RunSettings) -> Record | None:
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


def _attempt(order: Order, path: Path, config: RunConfig, callbacks: Callbacks) -> tuple[Record, Arrays]:
    """The record of a run; one that has ended its process time after time, and got no further, is an error."""
    settings, kept = order.settings, locks.checkpoint_path(path)
    if kept.exists() and kept.stat().st_mtime_ns <= settings.fresh_since:
        kept.unlink()
    measure = STUDIES[config.study].measure
    file = locks.attempts_path(path)
    attempts = file.read_text().splitlines() if file.exists() else []
    mark = f"{order.probe} {kept.stat().st_mtime_ns if kept.exists() else 0} "  # none got further than the checkpoint
    if order.probe and sum(attempt.startswith(mark) for attempt in attempts) >= MOST_ATTEMPTS:
        return _given_up(order, config, attempts[-1].split()[-1]), {}
    if order.probe:
        files.write_text(file, "\n".join([*attempts, mark + socket.gethostname()]))
    forget_programs()
    session = Session(callbacks.snapshot, settings.limits, kept, settings.jobs, sharing.of(order.results))
    try:
        return execute(config, settings.profile, measure, session)
    finally:
        file.unlink(missing_ok=True)  # this process lives


def _given_up(order: Order, config: RunConfig, host: str) -> Record:
    """The record of a run that nobody can make."""
    settings = order.settings
    message = f"it has ended its process {MOST_ATTEMPTS} times, the last time on {host}"
    record = record_of(config, settings.profile, STUDIES[config.study].measure, Result(status="error", message=message))
    measured = {"limits": as_json(settings.limits), "environment": environment(settings.jobs) | homes_of(config)}
    return msgspec.structs.replace(record, **measured)


def _light(record: Record) -> Record:
    return msgspec.structs.replace(record, curve={}, arrays={})


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
