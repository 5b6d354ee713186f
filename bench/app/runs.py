"""What the commands share that run studies: the runs that are asked for, and running them."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import typer
from rich.console import Console

from cryosip.bench import cache, stopping
from cryosip.bench.app import campaign, clusters, executors, outside, planning, progress
from cryosip.bench.app.callbacks import Callbacks
from cryosip.bench.app.messages import plain_errors
from cryosip.bench.app.planning import Selection
from cryosip.bench.app.work import Order, RunSettings, Workers
from cryosip.bench.limits import Limits
from cryosip.records import files
from cryosip.records.schema import RunConfig


class RunOptions(NamedTuple):
    """The options of a command that say how runs are made; see its help."""

    results: Path
    fresh: bool = False
    retry_failed: bool = False
    x64: bool = False
    jobs: int = 1
    timeout: float | None = None
    max_memory: float | None = None
    cache: bool = True
    scheduler: str | None = None
    slurm: str | None = None


def plan(studies: Sequence[str], asked: Selection) -> list[RunConfig]:
    """The runs that are asked for, or wrong usage."""
    try:
        return planning.plan(studies, asked)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def execute_all(configs: list[RunConfig], profile: str, options: RunOptions) -> int:
    """Run what has no record yet, print what became of it, and return the exit status.

    1 where a run failed; 75 where the command was told to stop, and the same command goes on.
    """
    if sum(given not in (None, 1) for given in (options.jobs, options.scheduler, options.slurm)) > 1:
        raise typer.BadParameter("wanted one of --jobs, --scheduler and --slurm")
    processes = min(options.jobs, len(executors.cores()), len(configs))
    elsewhere = processes > 1 or options.scheduler is not None or options.slurm is not None
    if elsewhere:
        jax.config.update("jax_platforms", "cpu")  # this process, which only looks on, takes no memory of a GPU
    jax.config.update("jax_enable_x64", options.x64)
    if options.cache:
        cache.switch_on()
    limits = Limits(options.timeout or math.inf, options.max_memory or math.inf)
    console = Console()
    try:
        with plain_errors(), stopping.stoppable():
            campaign.check_memory(configs, limits.memory_mb)
            now = files.check_writable(options.results)
            fresh, retried = (now if since else 0 for since in (options.fresh, options.retry_failed))
            settings = RunSettings(profile, fresh, limits, retry_since=retried)
            order = Order(options.results, settings, options.x64)
            told = Workers.after_stop
            with _workers(order, options, processes if elsewhere else 0, console) as (workers, order, callbacks):
                told = workers.after_stop
                outcome = campaign.run_all(configs, order, workers, callbacks)
    except stopping.Stopped as stopped:
        typer.echo(f"cryosip: {stopped}; {told}", err=True)
        return stopping.STATUS
    summary = f"{outcome.done} executed, {outcome.skipped} already recorded, {len(outcome.failed)} failed"
    console.print(summary, markup=False, highlight=False)
    for failure in outcome.failed:
        console.print(failure, markup=False, highlight=False, soft_wrap=True)
    return 1 if outcome.failed else 0


@contextlib.contextmanager
def _workers(
    order: Order, options: RunOptions, processes: int, console: Console
) -> Iterator[tuple[Workers, Order, Callbacks]]:
    """Who makes the runs, this process where there are no others; what they are ordered, and who watches them."""
    if processes == 0:
        with progress.watching(console) as callbacks:
            yield executors.Here(callbacks), order, callbacks
        return
    order = order._replace(results=order.results.resolve(), cached=options.cache, from_outside=tuple(outside.loaded()))
    workers: Workers
    if options.scheduler is not None:
        workers = clusters.Dask(options.scheduler)
    elif options.slurm is not None:
        workers = clusters.Slurm(options.slurm, order.results / ".jobs")
    else:
        workers = executors.Processes(processes, executors.gpus())
    shared = campaign.shared(order, workers.outlasting)
    with shared as order, workers, progress.of_workers(console, workers.count) as callbacks:
        yield workers, workers.prepare(order), callbacks
