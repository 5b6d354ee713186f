"""Two results folders side by side, as a table on the terminal and as one self-contained page."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cryosip.records.read import Skipped, read_records
from cryosip.reports import compare
from cryosip.reports.compare import Group, Number, Run, Verdict
from cryosip.reports.output import html, write
from cryosip.reports.spreads import Ratio, Spread
from cryosip.reports.tables import distinct, interval, number

KINDS = {"Errors and statuses": False, "Seconds": True}
MOVED: tuple[Verdict, ...] = ("failed in B", "worse", "better")
STYLES = {"failed in B": "bold red", "worse": "red", "better": "blue"}


class Side(NamedTuple):
    """One results folder: how much of it was read, and what its records say of code and machine."""

    folder: str
    total: int
    newest: str
    skipped: list[Skipped]
    environment: dict[str, str]


class Comparison(NamedTuple):
    """Two folders and the runs of either."""

    a: Side
    b: Side
    groups: list[Group]


class Line(NamedTuple):
    """One number, or the statuses, of a run as people read them; what is smaller stands below."""

    verdict: Verdict
    run: Run
    quantity: str
    a: str
    a_below: str
    b: str
    b_below: str
    ratio: str
    ratio_below: str
    note: str


class Section(NamedTuple):
    """The runs on one problem in one study."""

    run: Run
    groups: list[tuple[Group, list[Line]]]
    counts: dict[Verdict, int]


def read(a: Path, b: Path) -> Comparison:
    """Compare two results folders. Raises ValueError where one of them has no record, or none is in both."""
    (of_a, side_a), (of_b, side_b) = _side(a), _side(b)
    return Comparison(side_a, side_b, compare.compare(of_a, of_b))


def _side(folder: Path) -> tuple[compare.Groups, Side]:
    records, skipped = read_records(folder)
    groups, left_out = compare.chosen(records)
    environment = dict(distinct(records, "environment"))
    newest = max(record.created for record in records)
    return groups, Side(str(folder), len(records), newest, sorted(skipped + left_out), environment)


def build(comparison: Comparison, out: Path, command: str = "") -> Path:
    """Write the page into the folder `out` and return its path. Raises OSError where `out` cannot be written."""
    groups = comparison.groups
    a, b = comparison.a.environment, comparison.b.environment
    text = html(
        "compare.html",
        {"method": method, "options": options},
        comparison=comparison,
        sides={"A": comparison.a, "B": comparison.b},
        totals=totals(groups),
        caveats=caveats(groups),
        regressions=len(compare.regressions(groups)),
        moved=moved(groups),
        sections=sections(groups),
        rules=compare.RULES,
        environment=[(name, a.get(name, "—"), b.get(name, "—")) for name in dict.fromkeys([*a, *b])],
        command=command,
    )
    write(out, {"compare.html": text})
    return out / "compare.html"


def tell(comparison: Comparison, console: Console) -> None:
    """Print what moved, and how much of that chance would."""
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        _say(console, f"{name}: {side.folder}: {side.total} records, {len(side.skipped)} left out")
    lines = moved(comparison.groups)
    if lines:
        console.print(table(lines))
    else:
        _say(console, "Nothing moved beyond its interval.")
    for name, counts in totals(comparison.groups).items():
        _say(console, f"{name}: {', '.join(f'{count} {verdict}' for verdict, count in counts.items()) or 'none'}.")
    for caveat in caveats(comparison.groups):
        _say(console, caveat)
    _say(console, f"Regressions from A to B: {len(compare.regressions(comparison.groups))}.")


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def table(lines: Sequence[Line]) -> Table:
    """Lines as a table of the terminal; nothing in them is taken for markup."""
    shown = Table(show_edge=False, pad_edge=False)
    for name, whole in (("", True), ("number", False), ("A → B", False), ("B / A", True)):
        shown.add_column(name, no_wrap=whole, overflow="fold")
    for line in lines:
        words = (f"{place(line.run)}: {line.quantity}", f"{line.a} → {line.b}", f"{line.ratio} {line.ratio_below}")
        shown.add_row(Text(line.verdict, STYLES[line.verdict]), *map(Text, words))
    return shown


def totals(groups: Sequence[Group]) -> dict[str, dict[Verdict, int]]:
    """How many verdicts of each kind, errors apart from seconds."""
    return {name: compare.tally(groups, seconds) for name, seconds in KINDS.items()}


def caveats(groups: Sequence[Group]) -> list[str]:
    """How many numbers would move by chance alone, and what the machines are."""
    told = []
    for name, seconds in (("errors", False), ("seconds", True)):
        if count := compare.with_interval(groups, seconds):
            chance = number(compare.CHANCE * count)
            told.append(
                f"Of the {name}, {count} have an interval and are not the same. If chance alone had moved them, "
                f"at most about {chance} would be “worse” and as many “better” (5 % each, not corrected for)."
            )
    if all(group.same_machine for group in groups if group.a and group.b):
        told.append("Both sides name the same machine: seconds that are worse count as regressions.")
    else:
        told.append("The sides do not name one and the same machine: seconds that are worse are no regressions there.")
    return told


def moved(groups: Sequence[Group]) -> list[Line]:
    """The lines that say more than chance would, what fails first."""
    lines = [line for group in groups for line in lines_of(group) if line.verdict in MOVED]
    return sorted(lines, key=lambda line: (line.quantity == compare.SECONDS, MOVED.index(line.verdict)))


def sections(groups: Sequence[Group]) -> list[Section]:
    """All lines by study, profile and problem."""
    found = []
    for _, together in itertools.groupby(groups, key=lambda g: g.run[:3]):
        own = list(together)
        counts = {v: n for v in compare.VERDICTS if (n := sum(kind.get(v, 0) for kind in totals(own).values()))}
        found.append(Section(own[0].run, [(group, lines_of(group)) for group in own], counts))
    return found


def lines_of(group: Group) -> list[Line]:
    """How the replicates of a run ended, and its numbers."""
    ended = Line(group.status, group.run, "status", group.a or "—", "", group.b or "—", "", "—", "", "")
    return [ended, *(_line(group, n) for n in group.numbers)]


def _line(group: Group, n: Number) -> Line:
    ratio, below = _ratio(n.ratio)
    uncounted = n.verdict == "worse" and not compare.counts(group, n)
    notes = [
        f"{n.pairs} pairs" if math.isfinite(n.ratio.low) else "",
        "no regression: other machine" if uncounted else "",
    ]
    return Line(
        n.verdict,
        group.run,
        n.quantity,
        number(n.a.median),
        _below(n.a, n.a_over_floor),
        number(n.b.median),
        _below(n.b, n.b_over_floor),
        ratio,
        below,
        ", ".join(filter(None, notes)),
    )


def _below(value: Spread, over_floor: Spread) -> str:
    floors = f"{number(over_floor.median)} × floor" if over_floor.n else ""
    return ", ".join(filter(None, [interval(value), floors]))


def _ratio(ratio: Ratio) -> tuple[str, str]:
    """Three decimals, since what matters is how far it is from 1."""
    if math.isnan(ratio.mean):
        return "—", ratio.why
    told = [f"{value:.3f}" if 0.1 < value < 10 else number(value) for value in ratio[:3]]
    return told[0], ratio.why or f"[{told[1]}, {told[2]}]"


def method(run: Run) -> str:
    """The method and what it minimises, with the name of its setting."""
    return ", ".join(filter(None, [f"{run.method} {run.discrepancy}".strip(), run.setting]))


def options(run: Run) -> str:
    """The options of the problem as a person would tell them."""
    return ", ".join(f"{name} {value}" for name, value in json.loads(run.options).items())


def place(run: Run) -> str:
    """Where a run is found: study, problem, method and setting."""
    return f"{run.study} ({run.profile}), {run.problem}: {method(run)}"
