"""The command line, and the commands that compute. What a command needs is imported in it: --help answers at once."""

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from cryosip.bench.app import exchange, reading, recovering
from cryosip.bench.app.messages import plain_errors
from cryosip.bench.app.options import (
    OUTSIDE,
    X64,
    Cache,
    Fresh,
    Jobs,
    MaxMemory,
    Methods,
    Metrics,
    Only,
    Out,
    Problems,
    Profile,
    Replicates,
    Results,
    RetryFailed,
    Scheduler,
    Settings,
    Slurm,
    Structure,
    Timeout,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich takes longer to import than all else
    help="Recover distributions of molecular conformations from cryo-EM images, and compare the methods that do.",
)


def reproduce(
    profile: Profile = "small",
    results: Results = Path("results"),
    out: Out = Path("report"),
    replicates: Replicates = None,
    only: Only = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All studies of the paper, with all replicates of its figures.")
    ] = False,
    fresh: Fresh = False,
    retry_failed: RetryFailed = False,
    x64: X64 = False,
    structure: Structure = None,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
    timeout: Timeout = None,
    max_memory: MaxMemory = None,
    cache: Cache = True,
) -> None:
    """Compare all methods, then make the paper's figures.

    Ends with the board, which says who wins, and the path of the report. Of the figures one replicate runs, without
    --all. adk stands in for hsp90 where 2IOP cannot be had.
    """
    from cryosip.bench.app import reproduction
    from cryosip.bench.app.planning import Selection
    from cryosip.bench.app.runs import RunOptions, execute_all, plan
    from cryosip.records import files

    asked = Selection(profile, replicates, [only] if only else [], structure=structure)
    plan([*reproduction.studies("hsp90", everything), "paper-adk"], asked)  # wrong usage is reported first
    with plain_errors():
        files.check_writable(out)
        protein = reproduction.available_protein(structure, only, lambda text: typer.echo(text, err=True))
    planned = plan(reproduction.studies(protein, everything), asked)
    configs = reproduction.selected(planned, protein, everything or replicates is not None)
    options = RunOptions(results, fresh, retry_failed, x64, jobs, timeout, max_memory, cache, scheduler, slurm)
    failed = execute_all(configs, profile, options)
    reading.write_report(results, out)
    raise typer.Exit(failed)


def run(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Names as `cryosip list` shows them.")],
    profile: Profile = "small",
    results: Results = Path("results"),
    replicates: Replicates = None,
    method: Methods = None,
    problem: Problems = None,
    metric: Metrics = None,
    set_: Settings = None,
    tuned: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings that `cryosip tune --out FILE` found, for otd-vs-dto.")
    ] = None,
    fresh: Fresh = False,
    retry_failed: RetryFailed = False,
    x64: X64 = False,
    structure: Structure = None,
    jobs: Jobs = 1,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
    timeout: Timeout = None,
    max_memory: MaxMemory = None,
    cache: Cache = True,
) -> None:
    """Run studies into records."""
    from cryosip.bench.app.planning import Selection
    from cryosip.bench.app.runs import RunOptions, execute_all, plan

    asked = Selection(profile, replicates, problem or [], method or [], metric or [], set_ or [], structure, tuned)
    configs = plan(studies, asked)
    options = RunOptions(results, fresh, retry_failed, x64, jobs, timeout, max_memory, cache, scheduler, slurm)
    raise typer.Exit(execute_all(configs, profile, options))


def tune(
    profile: Profile = "small",
    results: Results = Path("results"),
    out: Annotated[Path | None, typer.Option(help="File to write, instead of the one that otd-vs-dto reads.")] = None,
    replicates: Replicates = None,
    method: Methods = None,
    problem: Problems = None,
    set_: Settings = None,
) -> None:
    """Find the settings of every method. Sweeps them on other replicates, and keeps those that otd-vs-dto compares.

    A method of your own is tried with each value that --set gives an option, at most four together, as all are.
    """
    from cryosip.bench.app import outside
    from cryosip.bench.app.planning import Selection
    from cryosip.bench.app.runs import RunOptions, execute_all, plan
    from cryosip.bench.studies import otd_dto, tuning
    from cryosip.bench.studies.registry import STUDIES
    from cryosip.records import files

    asked = Selection(profile, replicates, problem or [], method or [], settings=set_ or [])
    runs = plan(["tuning"], asked)
    if out is None and outside.loaded():
        raise typer.BadParameter("--out is not given; wanted a file for what is not the suite's own")
    file = out or otd_dto.tuned_file()
    try:
        tuning.check_trials(runs)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with plain_errors():
        files.check_writable(file.parent)
    failed = execute_all(runs, profile, RunOptions(results))
    for line in tuning.keep(profile, STUDIES["tuning"].sizes[profile], runs, results, file):
        typer.echo(line)
    typer.echo(file)
    raise typer.Exit(failed)


def speed(
    everything: Annotated[bool, typer.Option("--all", help="All benchmarks, not only the daily subset.")] = False,
    bench: Annotated[list[str] | None, typer.Option(metavar="REGEX", help="Only benchmarks of such names.")] = None,
    against: Annotated[str | None, typer.Option(metavar="REV", help="Compare with another commit.")] = None,
    fail: Annotated[bool, typer.Option("--fail", help="With --against: exit 1 where something got slower.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Write the pages of all results at hand, too.")] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Instead: our kernels beside other libraries.")
    ] = False,
    out_of_core: Annotated[
        bool, typer.Option("--out-of-core", help="Instead: methods on more images than memory holds.")
    ] = False,
    images: Annotated[
        list[int] | None, typer.Option(min=1, help="With --out-of-core: how many; 10^4, 10^5, 10^6. Repeatable.")
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Measure speed, memory and errors, by commit and device. Three minutes, where no option asks for more."""
    if baselines + out_of_core + bool(everything or bench or against or fail or publish) > 1:
        name = "--baselines" if baselines else "--out-of-core"
        raise typer.BadParameter(f"{name} is given with another option; wanted it alone, or with --results")
    if images and not out_of_core:
        raise typer.BadParameter("--images is given without --out-of-core")
    if fail and against is None:
        raise typer.BadParameter("--fail is given without --against; wanted the revision to compare with")
    with plain_errors():
        if baselines:
            _against_baselines(results)
            return
        if out_of_core:
            _out_of_core(images, results)
            return
        from cryosip.bench.speed import tracking

        outcome = tracking.track(everything, bench or [], against, publish)
    raise typer.Exit(outcome.failed or (fail and outcome.slower))


def check(
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help=f"Instead, the contract of this method: {OUTSIDE}. Repeatable."),
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(metavar="PROBLEM", help="Instead, the contract of this problem: the same. Repeatable."),
    ] = None,
) -> None:
    """Check this machine, in two minutes, or whether a method or a problem keeps the contract.

    Distributions, gradients, algorithms, EM and floors; exit 1 where one fails.
    """
    from rich.console import Console

    from cryosip.bench.app import outside
    from cryosip.bench.check import contract, contract_problems
    from cryosip.bench.check import run as checks

    with plain_errors():
        problems = [outside.find("problem", name) for name in problem or []]
        methods = [outside.find("method", name) for name in method or []]
        areas: dict[str, checks.Area] = {} if method or problem else checks.AREAS
        for name in problems:
            areas |= contract_problems.of_problem(name)
        for name in methods:
            areas |= contract.of_method(name)
    raise typer.Exit(0 if checks.report(Console(), areas) else 1)


def new(
    kind: Annotated[str, typer.Argument(metavar="method", help="What to begin: method.")],
    name: Annotated[str, typer.Argument(help="Its name, as users will type it: small letters, digits and -.")],
    out: Annotated[Path, typer.Option(help="Folder in which its folder is made.")] = Path("."),
) -> None:
    """Begin a method of your own: a small package that works as it is. Prints its folder."""
    if kind != "method":
        raise typer.BadParameter(f"{kind!r} cannot be begun; wanted 'method'")
    from cryosip.bench.app import beginning

    with plain_errors():
        folder = beginning.write_method(name, out)
    typer.echo(folder)


def _against_baselines(results: Path) -> None:
    from rich.console import Console

    from cryosip.bench.speed import baselines, cases

    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)  # a file is as wide as tables want
    typer.echo(baselines.record(cases.COMPARISONS.values(), results, lambda m: console.print(baselines.table(m))))


def _out_of_core(images: list[int] | None, results: Path) -> None:
    from rich.console import Console

    from cryosip.bench.speed import out_of_core

    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
    sizes = images or out_of_core.SIZES
    typer.echo(out_of_core.record(sizes, results, lambda row: console.print(out_of_core.table(row))))


for command in (
    reproduce,
    run,
    reading.report,
    reading.show,
    reading.export,
    reading.pack,
    reading.compare,
    tune,
    reading.list_,
    speed,
    check,
    new,
    exchange.stack,
    exchange.score,
    exchange.external,
    exchange.maps,
    recovering.recover,
):
    app.command(command.__name__.strip("_"))(command)


def main() -> None:
    """Entry point of the command `cryosip`."""
    warnings.formatwarning = lambda message, *_: f"cryosip: {message}\n"  # for who did not write the code
    app()
