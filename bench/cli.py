"""The command line. What a command needs is imported inside it, so that --help answers at once."""

import math
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cryosip.bench.store import RunConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Recover distributions of molecular conformations from cryo-EM images, and compare the methods that do.",
)

Profile = Annotated[str, typer.Option(help="smoke (seconds), small (minutes) or paper (the paper's sizes).")]
Results = Annotated[Path, typer.Option(help="Folder of the records.")]
Out = Annotated[Path, typer.Option(help="Folder of the report.")]
Replicates = Annotated[int | None, typer.Option(help="Replicates of every run, instead of the profile's own number.")]
Only = Annotated[str | None, typer.Option(metavar="PROBLEM", help="Only the studies on this problem.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run again what has a record already.")]
X64 = Annotated[bool, typer.Option("--x64", help="Compute in float64.")]
Jobs = Annotated[int, typer.Option(min=1, metavar="N", help="Runs at a time, each on its share of the cores.")]


def _positive(value: float | None) -> float | None:
    if value is None or 0 < value < math.inf:
        return value
    raise typer.BadParameter(f"{value!r} is not a positive finite number")


Timeout = Annotated[
    float | None,
    typer.Option(
        callback=_positive, metavar="SECONDS", help="End a run that builds and steps for longer; its record says so."
    ),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(callback=_positive, metavar="MB", help="Take smaller tiles, or refuse, where a process needs more."),
]

Structure = Annotated[
    Path | None, typer.Option(help="PDB or mmCIF file of the protein, instead of 2IOP or 4AKE.", metavar="FILE")
]

DASH = Path("-")  # stands for the standard output
HSP90_STUDIES = ["paper-hsp90", "hsp90-open"]
PAPER_STUDIES = ["paper-1d", "noise", "sampling", "paper-nanocluster", "tau", *HSP90_STUDIES]


@app.command()
def reproduce(
    profile: Profile = "small",
    results: Results = Path("results"),
    out: Out = Path("report"),
    replicates: Replicates = None,
    only: Only = None,
    fresh: Fresh = False,
    x64: X64 = False,
    structure: Structure = None,
    jobs: Jobs = 1,
    timeout: Timeout = None,
    max_memory: MaxMemory = None,
) -> None:
    """Run the paper's studies, then write the report and print its path; adk stands in where 2IOP cannot be had."""
    from cryosip.bench import store

    _plan([*PAPER_STUDIES, "paper-adk"], profile, replicates, only, structure)  # wrong usage is told first
    with _plain_errors():
        store.check_writable(out)
    studies = _with_protein(structure, only) if only in (None, "hsp90", "adk") else PAPER_STUDIES
    failed = _run(studies, profile, results, replicates, only, fresh, x64, structure, jobs, timeout, max_memory)
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
    x64: X64 = False,
    structure: Structure = None,
    jobs: Jobs = 1,
    timeout: Timeout = None,
    max_memory: MaxMemory = None,
) -> None:
    """Run studies into records."""
    raise typer.Exit(
        _run(studies, profile, results, replicates, only, fresh, x64, structure, jobs, timeout, max_memory)
    )


@app.command()
def report(results: Results = Path("results"), out: Out = Path("report")) -> None:
    """Write the report of the records at hand and print its path."""
    _report(results, out)


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(help="A run id, or as much of its beginning as no other has.")],
    results: Results = Path("results"),
) -> None:
    """Print one record: what ran, its metrics beside their floors, what it cost, where its files are."""
    from rich.console import Console

    from cryosip.reports import card

    with _plain_errors():
        card.show(results, run_id, Console())


@app.command()
def export(
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option(metavar="FILE", help="CSV, Parquet where it ends in .parquet, - prints.")] = DASH,
) -> None:
    """Write all records as one table, a row for each record and metric."""
    from cryosip.bench import store
    from cryosip.reports import export
    from cryosip.reports.records import read_records

    with _plain_errors():
        records, skipped = read_records(results)
        form = export.as_parquet if out.suffix.lower() == ".parquet" else export.as_csv
        table = form(export.rows(records))
        if out != DASH:
            store.check_writable(out.parent)
            store.write_bytes(out, table)
    _tell_unread(skipped)
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
    """Set two results folders side by side: which numbers moved beyond their intervals."""
    from rich.console import Console

    from cryosip.reports import compare_page
    from cryosip.reports.compare import regressions

    with _plain_errors():
        comparison = compare_page.read(a, b)
        compare_page.tell(comparison, Console())
        if out is not None:
            typer.echo(compare_page.build(comparison, out, _command()))
    raise typer.Exit(1 if fail_on_regression and regressions(comparison.groups) else 0)


@app.command()
def tune(
    profile: Profile = "small",
    results: Results = Path("results"),
    out: Annotated[Path | None, typer.Option(help="File to write, instead of the one that otd-vs-dto reads.")] = None,
    replicates: Replicates = None,
    only: Only = None,
) -> None:
    """Sweep the settings of every method, and keep those that otd-vs-dto compares."""
    from cryosip.bench import comparison, store, tuning
    from cryosip.bench.studies import STUDIES

    runs = _plan(["tuning"], profile, replicates, only, None)
    file = out or comparison.tuned_file()
    with _plain_errors():
        store.check_writable(file.parent)
    failed = _run(["tuning"], profile, results, replicates, only, False, False, None)
    tuning.keep(profile, STUDIES["tuning"].sizes[profile], runs, results, file)
    typer.echo(file)
    raise typer.Exit(failed)


@app.command("list")
def list_() -> None:
    """Name the studies, problems, methods and discrepancies."""
    from cryosip.bench.studies import STUDIES
    from cryosip.datasets.registry import DATASETS
    from cryosip.methods.registry import DISCREPANCIES, METHODS

    for name, study in STUDIES.items():
        typer.echo(f"study        {name:18} {study.summary}")
    registries: dict[str, dict[str, Any]] = {"problem": DATASETS, "method": METHODS, "discrepancy": DISCREPANCIES}
    for kind, registry in registries.items():
        for name, factory in registry.items():
            sentence = (factory.__doc__ or "").strip().splitlines()[0]
            typer.echo(f"{kind:12} {name:18} {sentence}")


@app.command()
def speed(
    everything: Annotated[bool, typer.Option("--all", help="All benchmarks, not only those of every day.")] = False,
    bench: Annotated[list[str] | None, typer.Option(metavar="REGEX", help="Only benchmarks of such names.")] = None,
    against: Annotated[str | None, typer.Option(metavar="REV", help="Compare with another commit.")] = None,
    fail: Annotated[bool, typer.Option("--fail", help="With --against: exit 1 where something got slower.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Write the pages of all results at hand, too.")] = False,
    peers: Annotated[bool, typer.Option("--peers", help="Instead: our kernels beside other libraries.")] = False,
    results: Results = Path("results"),
) -> None:
    """Measure speed, memory and errors, and keep them by commit and device: three minutes, without --all or --peers."""
    if peers and (everything or bench or against or fail or publish):
        raise typer.BadParameter("--peers is given with another option; wanted it alone, or with --results")
    if fail and against is None:
        raise typer.BadParameter("--fail is given without --against; wanted the revision to compare with")
    with _plain_errors():
        if peers:
            _against_peers(results)
            return
        from cryosip.bench import tracking

        outcome = tracking.track(everything, bench or [], against, publish)
    raise typer.Exit(outcome.failed or (fail and outcome.slower))


@app.command()
def check() -> None:
    """Check this machine in two minutes: laws, gradients, algorithms, EM and floors; exit 1 where one fails."""
    from rich.console import Console

    from cryosip.bench import selfcheck

    raise typer.Exit(0 if selfcheck.report(Console()) else 1)


def main() -> None:
    """Entry point of the command `cryosip`."""
    warnings.formatwarning = lambda message, *_: f"cryosip: {message}\n"  # for who did not write the code
    app()


def _run(
    studies: list[str],
    profile: str,
    results: Path,
    replicates: int | None,
    only: str | None,
    fresh: bool,
    x64: bool,
    structure: Path | None,
    jobs: int = 1,
    timeout: float | None = None,
    max_memory: float | None = None,
) -> int:
    import jax
    from rich.console import Console

    jax.config.update("jax_enable_x64", x64)
    from cryosip.bench import campaign, progress, store
    from cryosip.bench import jobs as processes
    from cryosip.bench.limits import Limits

    configs = _plan(studies, profile, replicates, only, structure)
    jobs = min(jobs, len(processes.cores()), len(configs))
    if jobs > 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else the first takes most of a GPU
    limits = Limits(timeout or math.inf, max_memory or math.inf)
    console, notes = Console(), []
    with _plain_errors():
        campaign.check_memory(configs, limits.memory_mb)
        now = store.check_writable(results)
        orders = campaign.Orders(profile, now if fresh else 0, limits, jobs)
        if jobs > 1:
            notes = processes.run_all(configs, results, orders)
            outcome = campaign.tally(configs, results, orders, now)
        else:
            with progress.watching(console) as watcher:
                outcome = campaign.run_all(configs, results, orders, watcher)
    told = f"{outcome.done} run, {outcome.skipped} had their record; of all {len(outcome.failed)} failed"
    console.print("; ".join([told, *notes]), markup=False, highlight=False)
    for failure in outcome.failed:
        console.print(failure, markup=False, highlight=False, soft_wrap=True)
    return 1 if outcome.failed else 0


def _plan(
    studies: list[str], profile: str, replicates: int | None, only: str | None, structure: Path | None
) -> list["RunConfig"]:
    """The runs that are asked for, or wrong usage."""
    from cryosip.bench import campaign
    from cryosip.datasets.registry import DATASETS
    from cryosip.methods import checks

    try:
        if only is not None:
            checks.one_of("--only", only, DATASETS)
        configs = campaign.plan(studies, profile, replicates, only, structure)
        if not configs:
            raise ValueError(f"no study of {', '.join(studies)} is on problem {only!r} in profile {profile}")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return configs


def _with_protein(structure: Path | None, only: str | None) -> list[str]:
    """The paper's studies, on the bundled adenylate kinase where HSP90 cannot be had or is not wanted."""
    from cryosip.datasets.structures import load

    without = [study for study in PAPER_STUDIES if study not in HSP90_STUDIES]
    if only == "adk":
        return [*without, "paper-adk"]
    with _plain_errors():
        try:
            load("2iop", structure)
        except FileNotFoundError as error:
            if structure is not None or only == "hsp90":
                raise
            typer.echo(f"Adenylate kinase stands in for HSP90: {error}", err=True)
            return [*without, "paper-adk"]
    return PAPER_STUDIES


def _against_peers(results: Path) -> None:
    from rich.console import Console

    from cryosip.bench import peer_cases, peers

    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)  # a file is as wide as tables want
    typer.echo(peers.record(peer_cases.COMPARISONS.values(), results, lambda m: console.print(peers.table(m))))


def _report(results: Path, out: Path) -> None:
    from cryosip.reports.page import build

    with _plain_errors():
        typer.echo(build(results, out, _command(), _tell_unread))


def _tell_unread(files: Sequence[tuple[Path, str]]) -> None:
    from cryosip.reports.card import visible

    if files:
        typer.echo(f"cryosip: files that were not read: {len(files)}", err=True)
    for path, reason in files:
        typer.echo(visible(f"  {path}: {reason}"), err=True)


def _command() -> str:
    return shlex.join(["cryosip", *sys.argv[1:]])


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What the user can mend, such as a folder that cannot be written, is told in a line, without a traceback."""
    try:
        yield
    except (OSError, ValueError) as error:
        typer.echo(f"cryosip: {error}", err=True)
        raise typer.Exit(1) from error
