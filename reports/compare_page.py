"""The comparison of two results folders, as a table on the terminal and as one self-contained page."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cryosip.records.select import Skipped, read_records
from cryosip.reports import compare
from cryosip.reports.compare import Row, Run, Runs, Verdict, regressions
from cryosip.reports.output import environment, write
from cryosip.reports.spreads import Spread, grouped
from cryosip.reports.tables import distinct, interval, number

STYLES: dict[Verdict, str] = {"failed in B": "bold red", "worse": "red", "better": "blue"}  # what moved, in order


class Side(NamedTuple):
    """One results folder or pack: how much of it was read, and what its records say of code and machine."""

    folder: str
    total: int
    newest: str
    skipped: list[Skipped]
    environment: dict[str, str]


class Comparison(NamedTuple):
    """Two sources, the rows of their runs, and whether all that both ran is of one machine."""

    a: Side
    b: Side
    rows: list[Row]
    same_machine: bool


def read(a: Path | str, *others: Path | str) -> list[Comparison]:
    """Compare a results folder or pack with each of the others.

    Raises ValueError where one of them has no record or is a damaged pack, or none is in both.
    """
    first = _side(a)
    return [_compared(first, _side(other)) for other in others]


def _compared(a: tuple[Runs, Side], b: tuple[Runs, Side]) -> Comparison:
    (of_a, side_a), (of_b, side_b) = a, b
    rows = compare.compare(of_a, of_b)
    same = all(compare.same_machine([*of_a[run], *of_b[run]]) for run in of_a.keys() & of_b.keys())
    return Comparison(side_a, side_b, rows, same)


def _side(source: Path | str) -> tuple[Runs, Side]:
    records, skipped = read_records(source)
    runs, left_out = compare.chosen(records)
    newest = max(record.created for record in records)
    return runs, Side(str(source), len(records), newest, sorted(skipped + left_out),
                      dict(distinct(records, "environment")))  # fmt: skip


def build(comparison: Comparison, out: Path, command: str = "", name: str = "compare.html") -> Path:
    """Write the page into the folder `out` and return its path. Raises OSError where `out` cannot be written."""
    a, b, rows = comparison.a.environment, comparison.b.environment, comparison.rows
    template = environment(place=place, options=options, texts=texts, verdicts=verdicts)
    text = template.get_template("compare.html").render(
        sides={"A": comparison.a, "B": comparison.b},
        totals=totals(rows),
        caveats=caveats(comparison),
        regressions=len(regressions(rows)),
        moved=moved(rows),
        sections=[list(own) for _, own in itertools.groupby(rows, key=lambda row: row.run[:3])],
        rules=compare.RULES,
        environment=[(name, a.get(name, "—"), b.get(name, "—")) for name in dict.fromkeys([*a, *b])],
        command=command,
    )
    write(out, {name: text})
    return out / name


def tell(comparison: Comparison, console: Console) -> None:
    """Print what moved, and how much of that chance would; nothing in it is taken for markup."""

    def say(sentence: str) -> None:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    for name, side in (("A", comparison.a), ("B", comparison.b)):
        say(f"{name}: {side.folder}: {side.total} records, {len(side.skipped)} left out")
    table = Table(show_edge=False, pad_edge=False)
    for heading, whole in (("", True), ("number", False), ("A → B", False), ("B / A", True)):
        table.add_column(heading, no_wrap=whole, overflow="fold")
    for row in moved(comparison.rows):
        (a, _), (b, _), ratio = texts(row)
        words = (f"{place(row.run)}: {row.quantity}", f"{a} → {b}", " ".join(ratio))
        table.add_row(Text(row.verdict, STYLES[row.verdict]), *map(Text, words))
    if table.rows:
        console.print(table)
    else:
        say("Nothing moved beyond its interval.")
    for name, counts in totals(comparison.rows).items():
        say(f"{name}: {', '.join(f'{count} {verdict}' for verdict, count in counts.items()) or 'none'}.")
    for caveat in caveats(comparison):
        say(caveat)
    say(f"Regressions from A to B: {len(regressions(comparison.rows))}.")


def verdicts(rows: Iterable[Row]) -> dict[Verdict, int]:
    """How many rows have each verdict."""
    found = Counter(row.verdict for row in rows)
    return {verdict: found[verdict] for verdict in compare.VERDICTS if found[verdict]}


def totals(rows: Iterable[Row]) -> dict[str, dict[Verdict, int]]:
    """How many verdicts of each kind, errors apart from seconds."""
    seconds = grouped(rows, lambda row: row.quantity == compare.SECONDS)
    return {"Errors and statuses": verdicts(seconds.get(False, [])), "Seconds": verdicts(seconds.get(True, []))}


def caveats(comparison: Comparison) -> list[str]:
    """How many numbers would move by chance alone, and what the machines are."""
    found = []
    numbers = [row for row in comparison.rows if row.quantity != compare.STATUS]
    for name, counts in zip(("errors", "seconds"), totals(numbers).values(), strict=True):
        if count := sum(counts.get(verdict, 0) for verdict in ("worse", "better", "no significant difference")):
            found.append(
                f"Of the {name}, {count} have an interval and are not the same. If chance alone had moved them, at "
                f"most about {number(compare.CHANCE * count)} would be “worse” and as many “better” (5 % each, not "
                "corrected for)."
            )
    if comparison.same_machine:
        return [*found, "Both sides name the same machine: seconds that are worse count as regressions."]
    return [*found, "The sides do not name one and the same machine: seconds that are worse are no regressions there."]


def moved(rows: Iterable[Row]) -> list[Row]:
    """The rows that say more than chance would, what fails first."""
    kept = [row for row in rows if row.verdict in STYLES]
    return sorted(kept, key=lambda row: (row.quantity == compare.SECONDS, list(STYLES).index(row.verdict)))


def texts(row: Row) -> list[tuple[str, str]]:
    """A, B and B / A, each with what stands smaller below it: an interval and floors, or why there is none."""
    pairs = zip((row.a, row.b), row.over_floor, strict=True)
    sides = [(value, "") if isinstance(value, str) else _number(value, over) for value, over in pairs]
    if math.isnan(row.ratio.mean):
        return [*sides, ("—", row.ratio.why)]
    mean, low, high = (f"{x:.3f}" if 0.1 < x < 10 else number(x) for x in row.ratio[:3])
    return [*sides, (mean, row.ratio.why or f"[{low}, {high}]")]


def _number(value: Spread, over_floor: Spread) -> tuple[str, str]:
    floors = f"{number(over_floor.median)} × floor" if over_floor.n else ""
    return number(value.median), ", ".join(filter(None, [interval(value), floors]))


def place(run: Run) -> str:
    """Where a run is found: study, problem, method and what it minimises, setting."""
    method = ", ".join(filter(None, [f"{run.method} {run.discrepancy}".strip(), run.setting]))
    return f"{run.study} ({run.profile}), {run.problem}: {method}"


def options(run: Run) -> str:
    """The options of the problem in words."""
    return ", ".join(f"{name} {value}" for name, value in json.loads(run.options).items())
