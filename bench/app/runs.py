"""What the commands share that run studies: the runs that are asked for, and running them."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import typer
from rich.console import Console

from cryosip.bench import cache
from cryosip.bench.app import campaign, jobs, planning, progress
from cryosip.bench.app.messages import plain_errors
from cryosip.bench.app.planning import Selection
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


def plan(studies: Sequence[str], asked: Selection) -> list[RunConfig]:
    """The runs that are asked for, or wrong usage."""
    try:
        return planning.plan(studies, asked)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def execute_all(configs: list[RunConfig], profile: str, options: RunOptions) -> int:
    """Run what has no record yet, print what became of it, and return the exit status: 1 where a run failed."""
    jax.config.update("jax_enable_x64", options.x64)
    if options.cache:
        cache.switch_on()
    processes = min(options.jobs, len(jobs.cores()), len(configs))
    if processes > 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else the first takes most of a GPU
    limits = Limits(options.timeout or math.inf, options.max_memory or math.inf)
    console, notes, results = Console(), list[str](), options.results
    with plain_errors():
        campaign.check_memory(configs, limits.memory_mb)
        now = files.check_writable(results)
        settings = campaign.RunSettings(
            profile, now if options.fresh else 0, limits, processes, now if options.retry_failed else 0
        )
        if processes > 1:
            notes = jobs.run_all(configs, results, settings)
            outcome = campaign.tally(configs, results, settings, now)
        else:
            with progress.watching(console) as callbacks:
                outcome = campaign.run_all(configs, results, settings, callbacks)
    summary = f"{outcome.done} executed, {outcome.skipped} already recorded, {len(outcome.failed)} failed"
    console.print("; ".join([summary, *notes]), markup=False, highlight=False)
    for failure in outcome.failed:
        console.print(failure, markup=False, highlight=False, soft_wrap=True)
    return 1 if outcome.failed else 0
