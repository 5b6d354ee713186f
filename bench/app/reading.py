"""The commands that read records: the report, one record, tables, comparisons, and the names that there are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cryosip.bench.app.messages import command_line, name_unread, plain_errors
from cryosip.bench.app.options import Methods, Out, Problems, Source

DASH = Path("-")  # stands for the standard output


def report(
    results: Source = "results",
    out: Out = Path("report"),
    others: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PATH", help="Another folder or pack beside; 'published' is the installed one."),
    ] = None,
    method: Methods = None,
    problem: Problems = None,
    one_engine: Annotated[
        bool, typer.Option("--one-engine", help="Of each study only what the engine of its newest record made.")
    ] = False,
) -> None:
    """Write the report of the records at hand. Prints the board, where otd-vs-dto ran, and the path of the page."""
    write_report([results, *(others or [])], out, one_engine, method or [], problem or [])


def show(
    run_id: Annotated[str, typer.Argument(help="A run id or a unique prefix.")],
    results: Source = "results",
) -> None:
    """Print one record. What ran, its metrics beside their floors, what it cost and where its files are."""
    from rich.console import Console

    from cryosip.reports import card

    with plain_errors():
        card.show(results, run_id, Console())


def export(
    results: Source = "results",
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


def pack(
    results: Annotated[str, typer.Argument(metavar="RESULTS", help="Folder of the records.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Pack to write, such as mine.tar.zst.")],
    who: Annotated[str, typer.Option(metavar="TEXT", help="The authors.")],
    what: Annotated[str, typer.Option(metavar="TEXT", help="What the records are, in one sentence.")],
    licence: Annotated[str, typer.Option(metavar="SPDX", help="Licence of the records.")] = "CC-BY-4.0",
    command: Annotated[
        str, typer.Option(metavar="TEXT", help="What made the records, where the studies alone do not say it.")
    ] = "",
) -> None:
    """Write all records as one file for others. It has a card, and the arrays that figures need."""
    from cryosip.records import files
    from cryosip.records.pack import SUFFIX
    from cryosip.records.sources import PUBLISHED
    from cryosip.reports import packing

    with plain_errors():
        if results == PUBLISHED or Path(results).is_file():
            raise ValueError(f"{results} is a pack already; wanted a results folder")
        if not out.name.endswith(SUFFIX):
            raise ValueError(f"the pack to write is {out}; wanted a name that ends by {SUFFIX}")
        files.check_writable(out.parent)
        title = out.name.removesuffix(SUFFIX)
        kept = packing.pack(results, out, packing.Words(title, who, what, licence, command))
    name_unread(kept.left_out)
    if kept.without_arrays:
        typer.echo(
            f"cryosip: records packed without arrays, since no figure draws them: {kept.without_arrays}", err=True
        )
    typer.echo(out)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Folder or pack of the records before, or of the one machine.")],
    others: Annotated[
        list[str], typer.Argument(metavar="B...", help="Those after, or of other machines, each compared with A.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for a page, compare.html, with all numbers.")] = None,
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit with 1 when something got worse from A to B.")
    ] = False,
) -> None:
    """Compare results folders or packs. Says which numbers moved beyond their intervals."""
    from rich.console import Console

    from cryosip.reports import compare_page
    from cryosip.reports.compare import regressions

    with plain_errors():
        comparisons = compare_page.read(a, *others)
        for number, comparison in enumerate(comparisons, 1):
            compare_page.tell(comparison, Console())
            if out is not None:
                name = "compare.html" if number == 1 else f"compare-{number}.html"
                typer.echo(compare_page.build(comparison, out, command_line(), name))
    worse = any(regressions(comparison.rows) for comparison in comparisons)
    raise typer.Exit(1 if fail_on_regression and worse else 0)


def list_(
    method: Methods = None,
    problem: Problems = None,
) -> None:
    """Name the studies, problems, methods, discrepancies, metrics and optimizers.

    With --method or --problem, the options of those, as --set takes them, with their defaults.
    """
    from cryosip.bench.app import outside, settings
    from cryosip.methods.registry import OPTIMIZERS

    for kind, names in (("method", method or []), ("problem", problem or [])):
        with plain_errors():
            for name in (outside.find(kind, text) for text in names):
                factory = outside.REGISTRIES[kind][name]
                typer.echo(f"{kind:12} {name:18} {outside.summary(factory)}")
                for option, default in settings.defaults(factory).items():
                    typer.echo(f"{'':12} --set {kind}.{option}={default}")
    if method or problem:
        return
    for kind in ("study", "problem", "method", "discrepancy", "metric"):
        for name, sentence in outside.rows(kind):
            typer.echo(f"{kind:12} {name:18} {sentence}")
    for name, factory in OPTIMIZERS.items():
        typer.echo(f"{'optimizer':12} {name:18} {outside.summary(factory)}")


def write_report(
    sources: Path | list[str],
    out: Path,
    one_engine: bool = False,
    methods: Sequence[str] = (),
    problems: Sequence[str] = (),
) -> None:
    """Print the board, where there is one, and the path of the page."""
    from rich.console import Console

    from cryosip.reports import page
    from cryosip.reports.sections import board

    with plain_errors():
        report = page.make(sources, out, command_line(), one_engine, methods, problems)
    name_unread(report.unread)
    board.show(report.boards, Console())
    typer.echo(report.page)
