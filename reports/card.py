"""One record for a person at a terminal: what ran, what came of it, and where it lies."""

import difflib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cryosip.records.read import read_record, record_files
from cryosip.records.schema import Floor, Record
from cryosip.records.sources import opened
from cryosip.reports.tables import as_table, flat, interval, number, plain

CANDIDATES = 5  # that an error names


def show(results: Path | str, beginning: str, console: Console) -> None:
    """Print the record whose run id begins so. Raises ValueError that names the candidates where it is not one."""
    with opened(results) as (source,):
        path = find(source.folder, beginning, source.name)
        place = Path(source.name) / path
        try:
            record, reason = read_record(source.folder, path)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    for title, part in _parts(record):
        console.print(Text(title, style="bold"))
        console.print(part)
    console.print(Text("files", style="bold"))
    for line in _files(record, place, reason):
        console.print(Text(line), soft_wrap=True)  # a path is one word, to be copied


def find(results: Path, beginning: str, name: str = "") -> Path:
    """The path, relative to the results folder, of the one record whose run id is this or alone begins so.

    Raises ValueError that names the candidates otherwise; it calls the folder `name`, where it has another.
    """
    paths = {path.relative_to(results): path.stem for path in record_files(results)}
    exact = [path for path, run_id in paths.items() if run_id == beginning]
    found = exact or [path for path, run_id in paths.items() if run_id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{len(found)} run ids begin with {beginning!r}: {_named(found)}")
    near = difflib.get_close_matches(beginning, paths.values(), n=CANDIDATES, cutoff=0)
    nearest = [path for run_id in near for path in paths if path.stem == run_id]
    hint = f"the nearest of {len(paths)}: {_named(nearest)}" if nearest else "there are no records"
    raise ValueError(f"no run id in {name or results} begins with {beginning!r}; {hint}")


def visible(text: str) -> str:
    """Text with what a terminal would obey, or cannot print, written out."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _named(paths: list[Path]) -> str:
    more = ["..."] if len(paths) > CANDIDATES else []
    return ", ".join([*(visible(str(path.with_suffix(""))) for path in paths[:CANDIDATES]), *more])


def _parts(record: Record) -> Iterator[tuple[str, Table]]:
    method = f"{record.method} {record.discrepancy}".strip()
    yield (
        f"{visible(record.study)}: {visible(record.labels.text)}",
        _pairs(
            {
                "run id": record.run_id,
                "method": f"{method} on {record.problem}",
                "profile": record.profile,
                "replicate": f"{record.replicate}, seed {record.seed}",
                "status": f"{record.status}: {record.message}" if record.message else record.status,
                "data set": record.dataset_hash,
                "created": record.created,
            }
            | {f"algorithm {name}": value for name, value in as_table(record.algorithm).items()}
        ),
    )
    yield "configuration", _pairs(dict(flat(record.config.resolved)))
    yield "metrics beside the floor, that of an i.i.d. sample of the truth", _metrics(record)
    yield (
        "cost",
        _pairs(
            {
                "steps": f"{record.steps:,}",
                "forward evaluations": f"{record.forward_evaluations:,}",
                "seconds": f"{number(record.run_seconds)}, building the method {number(record.setup_seconds)}, "
                f"compilation {number(record.compile_seconds)}",
                "memory in MB": f"{number(record.peak_memory_mb)} peak of the process, "
                f"{number(record.program_memory_mb)} planned by the compiler",
            }
        ),
    )
    yield "code that can change the result, by parts", _pairs(as_table(record.identity))
    yield "environment", _pairs(record.environment)


def _pairs(table: dict[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for key, value in table.items():
        grid.add_row(Text(f"  {visible(key)}"), Text(visible(plain(value)), overflow="fold"))
    return grid


def _metrics(record: Record) -> Table:
    """Each metric at the end and at the start, beside the floors that the record has."""
    floors = [record.data_floors] + ([record.floors] if record.floors != record.data_floors else [])
    floors = [of for of in floors if of]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  metric", no_wrap=True)
    for heading in ("value", "÷ floor", *map(_heading, floors), "initial", "best weights"):
        table.add_column(heading)
    for name in dict.fromkeys([*record.metrics, *record.initial_metrics, *record.oracle_metrics]):
        value = record.metrics.get(name, math.nan)
        floor = record.data_floors.get(name) or record.floors.get(name)
        cells = [number(value), number(value / floor.median) if floor and floor.median > 0 else ""]
        cells += [f"{number(f.median)} {interval(f)}" if (f := of.get(name)) else "" for of in floors]
        cells += [number(of.get(name, math.nan)) for of in (record.initial_metrics, record.oracle_metrics)]
        table.add_row(Text(f"  {visible(name)}"), *map(Text, cells))
    return table


def _heading(floors: dict[str, Floor]) -> str:
    return f"floor, n = {', '.join(dict.fromkeys(f'{floor.n:,}' for floor in floors.values())) or 'unknown'}"


def _files(record: Record, path: Path, reason: str) -> Iterable[str]:
    yield visible(f"  {path}")
    arrays = path.with_suffix(".npz")
    if reason:
        yield visible(f"  {arrays}: {reason}")
    elif record.arrays:
        shapes = ", ".join(f"{name} {'×'.join(map(str, array.shape))}" for name, array in record.arrays.items())
        yield visible(f"  {arrays}: {shapes}")
    else:
        yield "  no arrays"
