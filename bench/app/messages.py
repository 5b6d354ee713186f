"""What the command line says beside its answers."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer


def command_line() -> str:
    """The command that was given."""
    return shlex.join(["cryosip", *sys.argv[1:]])


def name_unread(files: Sequence[tuple[Path, str]]) -> None:
    """What was not read, on the standard error, each file with its reason."""
    from cryosip.records.select import SUPERSEDED
    from cryosip.reports.card import visible

    unread = [(path, reason) for path, reason in files if not reason.startswith(SUPERSEDED)]
    if superseded := len(files) - len(unread):
        typer.echo(f"cryosip: records superseded by younger ones, not shown: {superseded}", err=True)
    if unread:
        typer.echo(f"cryosip: files that were not read: {len(unread)}", err=True)
    for path, reason in unread:
        typer.echo(visible(f"  {path}: {reason}"), err=True)


@contextmanager
def plain_errors() -> Iterator[None]:
    """What the user can mend, such as a folder that cannot be written, is told in a line, without a traceback."""
    try:
        yield
    except (OSError, ValueError) as error:
        typer.echo(f"cryosip: {error}", err=True)
        raise typer.Exit(1) from error
