"""Several processes at the same runs, each on its share of the cores; locks see to it that each run is made once."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import typer
from rich.console import Console

from cryosip.bench import cache
from cryosip.bench.app import campaign, outside, progress
from cryosip.records.schema import RunConfig

PINS = hasattr(os, "sched_setaffinity")


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if PINS else list(range(os.cpu_count() or 1))


def run_all(configs: list[RunConfig], results: Path, settings: campaign.RunSettings) -> list[str]:
    """Makes the runs in `settings.jobs` processes, which end when this one does; says which of them failed."""
    context = multiprocessing.get_context("spawn")
    arguments = configs, results, settings, bool(jax.config.read("jax_enable_x64")), cache.in_use(), outside.loaded()
    workers = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(settings.jobs)]
    for i, worker in enumerate(workers):
        with _on(cores()[i :: settings.jobs]):  # inherited; libraries take as many threads
            worker.start()
    for worker in workers:
        worker.join()
    codes = [worker.exitcode or 0 for worker in workers]
    return [f"signal {-code} ended a process" if code < 0 else "a process gave up" for code in codes if code]


@contextmanager
def _on(some: list[int]) -> Iterator[None]:
    if not PINS:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, some)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _work(
    configs: list[RunConfig],
    results: Path,
    settings: campaign.RunSettings,
    x64: bool,
    programs: Path | None,
    from_outside: list[outside.Origin],
) -> None:
    jax.config.update("jax_enable_x64", x64)
    if programs is not None:
        cache.switch_on(programs)
    try:
        outside.load(from_outside)
        campaign.run_all(configs, results, settings, progress.whole_lines(Console(), _check_parent, settings.jobs))
    except (OSError, ValueError) as error:
        typer.echo(f"cryosip: {error}", err=True)
        raise SystemExit(1) from error
    except KeyboardInterrupt:  # which the first process tells
        raise SystemExit(1) from None


def _check_parent() -> None:
    """Nobody would tell a process whose parent was killed to stop: it stops before its next run."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit(1)
