"""The command line. What a command needs is imported inside it, so that --help answers at once."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from cryosip.bench.app.messages import command_line, name_unread, plain_errors
from cryosip.bench.app.options import (
    X64,
    Cache,
    Fresh,
    Jobs,
    MaxMemory,
    Only,
    Out,
    Profile,
    Replicates,
    Results,
    RetryFailed,
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

DASH = Path("-")  # stands for the standard output


@app.command()
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
    timeout: Timeout = None,
    max_memory: MaxMemory = None,
    cache: Cache = True,
) -> None:
    """Compare all methods, then make the paper's figures.

    Ends with the board, which says who wins, and the path of the report. Of the figures one replicate runs, without
    --all. adk stands in for hsp90 where 2IOP cannot be had.
    """
    from cryosip.bench.app import reproduction
    from cryosip.bench.app.runs import RunOptions, execute_all, plan
    from cryosip.records import files

    asked = profile, replicates, only, structure
    plan([*reproduction.studies("hsp90", everything), "paper-adk"], *asked)  # wrong usage is reported first
    with plain_errors():
        files.check_writable(out)
        protein = reproduction.available_protein(structure, only, lambda text: typer.echo(text, err=True))
    planned = plan(reproduction.studies(protein, everything), *asked)
    configs = reproduction.selected(planned, protein, everything or replicates is not None)
    options = RunOptions(results, fresh, retry_failed, x64, jobs, timeout, max_memory, cache)
    failed = execute_all(configs, profile, options)
    _report(results, out)
    raise typer.Exit(failed)


@app.command()
def run(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Names as `cryosip list` shows them.")],
    profile: Profile = "small",
    results: Results = Path("results"),
    replicates: Replicates = None,
    only: Only = None,
    fresh: Fresh = False,
    retry_failed: RetryFailed = False,
    x64: X64 = False,
    structure: Structure = None,
    jobs: Jobs = 1,
    timeout: Timeout = None,
    max_memory: MaxMemory = None,
    cache: Cache = True,
) -> None:
    """Run studies into records."""
    from cryosip.bench.app.runs import RunOptions, execute_all, plan

    configs = plan(studies, profile, replicates, only, structure)
    options = RunOptions(results, fresh, retry_failed, x64, jobs, timeout, max_memory, cache)
    raise typer.Exit(execute_all(configs, profile, options))


@app.command()
def report(
    results: Results = Path("results"),
    out: Out = Path("report"),
    one_engine: Annotated[
        bool, typer.Option("--one-engine", help="Of each study only what the engine of its newest record made.")
    ] = False,
) -> None:
    """Write the report of the records at hand. Prints the board, where otd-vs-dto ran, and the path of the page."""
    _report(results, out, one_engine)


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(help="A run id or a unique prefix.")],
    results: Results = Path("results"),
) -> None:
    """Print one record. What ran, its metrics beside their floors, what it cost and where its files are."""
    from rich.console import Console

    from cryosip.reports import card

    with plain_errors():
        card.show(results, run_id, Console())


@app.command()
def export(
    results: Results = Path("results"),
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Output file: .csv or .parquet; '-' writes CSV to stdout.")
    ] = DASH,
) -> None:
    """Write all records as one table. It has a row for each record and metric."""
    from cryosip.records import files
    from cryosip.records.select import read_records
    from cryosip.reports import export

    with plain_errors():
        records, skipped = read_records(results)
        form = export.as_parquet if out.suffix.lower() == ".parquet" else export.as_csv
        table = form(records)
        if out != DASH:
            files.check_writable(out.parent)
            files.write_bytes(out, table)
    name_unread(skipped)
    typer.echo(table if out == DASH else out, nl=out != DASH)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Folder of the records before, or of the one machine.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Folder of the records after, or of the other machine.")],
    out: Annotated[Path | None, typer.Option(help="Folder for a page, compare.html, with all numbers.")] = None,
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit with 1 when something got worse from A to B.")
    ] = False,
) -> None:
    """Compare two results folders. Says which numbers moved beyond their intervals."""
    from rich.console import Console

    from cryosip.reports import compare_page
    from cryosip.reports.compare import regressions

    with plain_errors():
        comparison = compare_page.read(a, b)
        compare_page.tell(comparison, Console())
        if out is not None:
            typer.echo(compare_page.build(comparison, out, command_line()))
    raise typer.Exit(1 if fail_on_regression and regressions(comparison.rows) else 0)


@app.command()
def tune(
    profile: Profile = "small",
    results: Results = Path("results"),
    out: Annotated[Path | None, typer.Option(help="File to write, instead of the one that otd-vs-dto reads.")] = None,
    replicates: Replicates = None,
    only: Only = None,
) -> None:
    """Find the settings of every method. Sweeps them on other replicates, and keeps those that otd-vs-dto compares."""
    from cryosip.bench.app.runs import RunOptions, execute_all, plan
    from cryosip.bench.studies import otd_dto, tuning
    from cryosip.bench.studies.registry import STUDIES
    from cryosip.records import files

    runs = plan(["tuning"], profile, replicates, only, None)
    file = out or otd_dto.tuned_file()
    with plain_errors():
        files.check_writable(file.parent)
    failed = execute_all(runs, profile, RunOptions(results))
    tuning.keep(profile, STUDIES["tuning"].sizes[profile], runs, results, file)
    typer.echo(file)
    raise typer.Exit(failed)


@app.command("list")
def list_() -> None:
    """Name the studies, problems, methods, discrepancies and optimizers."""
    from cryosip.bench.studies.registry import STUDIES
    from cryosip.datasets.registry import DATASETS
    from cryosip.methods.registry import DISCREPANCIES, METHODS, OPTIMIZERS

    for name, study in STUDIES.items():
        typer.echo(f"study        {name:18} {study.summary}")
    registries: dict[str, dict[str, Any]] = {
        "problem": DATASETS,
        "method": METHODS,
        "discrepancy": DISCREPANCIES,
        "optimizer": OPTIMIZERS,
    }
    for kind, registry in registries.items():
        for name, factory in registry.items():
            sentence = (factory.__doc__ or "").strip().splitlines()[0]
            typer.echo(f"{kind:12} {name:18} {sentence}")


@app.command()
def speed(
    everything: Annotated[bool, typer.Option("--all", help="All benchmarks, not only the daily subset.")] = False,
    bench: Annotated[list[str] | None, typer.Option(metavar="REGEX", help="Only benchmarks of such names.")] = None,
    against: Annotated[str | None, typer.Option(metavar="REV", help="Compare with another commit.")] = None,
    fail: Annotated[bool, typer.Option("--fail", help="With --against: exit 1 where something got slower.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Write the pages of all results at hand, too.")] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Instead: our kernels beside other libraries.")
    ] = False,
    results: Results = Path("results"),
) -> None:
    """Measure speed, memory and errors, by commit and device. Three minutes, without --all or --baselines."""
    if baselines and (everything or bench or against or fail or publish):
        raise typer.BadParameter("--baselines is given with another option; wanted it alone, or with --results")
    if fail and against is None:
        raise typer.BadParameter("--fail is given without --against; wanted the revision to compare with")
    with plain_errors():
        if baselines:
            _against_baselines(results)
            return
        from cryosip.bench.speed import tracking

        outcome = tracking.track(everything, bench or [], against, publish)
    raise typer.Exit(outcome.failed or (fail and outcome.slower))


@app.command()
def check() -> None:
    """Check this machine, in two minutes.

    Distributions, gradients, algorithms, EM and floors; exit 1 where one fails.
    """
    from rich.console import Console

    from cryosip.bench.check import run as checks

    raise typer.Exit(0 if checks.report(Console()) else 1)


def main() -> None:
    """Entry point of the command `cryosip`."""
    warnings.formatwarning = lambda message, *_: f"cryosip: {message}\n"  # for who did not write the code
    app()


def _against_baselines(results: Path) -> None:
    from rich.console import Console

    from cryosip.bench.speed import baselines, cases

    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)  # a file is as wide as tables want
    typer.echo(baselines.record(cases.COMPARISONS.values(), results, lambda m: console.print(baselines.table(m))))


def _report(results: Path, out: Path, one_engine: bool = False) -> None:
    from rich.console import Console

    from cryosip.reports import page
    from cryosip.reports.sections import board

    with plain_errors():
        report = page.make(results, out, command_line(), one_engine)
    name_unread(report.unread)
    board.show(report.boards, Console())
    typer.echo(report.page)
