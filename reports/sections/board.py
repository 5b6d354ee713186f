"""The board: every method on every problem at the longest budget of seconds, at one glance."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cryosip.records.schema import Record
from cryosip.records.select import largest, of_other_engines
from cryosip.reports.card import visible
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.sections import budgets
from cryosip.reports.sections.budgets import Standing
from cryosip.reports.spreads import Spread, grouped, spread
from cryosip.reports.tables import DAGGER, interval, number

STUDY = "otd-vs-dto"
ORDER = ("oned", "nanocluster", "adk", "hsp90")
NO_DIFFERENCE = "no significant difference"
SHADES = (1.25, 1.75, 2.5, 4.0, 8.0, 16.0)  # W2 over floor up to which a cell has shade 0, 1, ...; beyond it the last
OTHER_ENGINE = f"{DAGGER.strip()} made by another engine of cryosip than the youngest record of the study"


class Entry(NamedTuple):
    """One method on one problem; `mark` is "winner", "tied" (no significant difference from the first) or "", `engine`
    a dagger where another engine made it than the youngest record of the study."""

    rank: int
    method: str
    ratio: Spread
    seconds: Spread
    failed: int
    runs: int
    mark: str
    engine: str = ""

    @property
    def solved(self) -> bool:
        """Whether half of its replicates had an estimate."""
        return math.isfinite(self.ratio.median)

    @property
    def shade(self) -> int:
        """The colour of its cell: 0 is at the floor."""
        return sum(self.ratio.median > bound for bound in SHADES)

    @property
    def failures(self) -> str:
        """Such as "1 of 10 failed"."""
        return f"{self.failed} of {self.runs} failed" if self.failed else ""


class Board(NamedTuple):
    """One problem: its methods, the nearest to the truth first, and who wins, in a sentence and in a few words."""

    problem: str
    budget: float
    entries: list[Entry]
    sentence: str
    winner: str

    def entry(self, method: str) -> Entry | None:
        """That of a method, None where it did not run."""
        return next((entry for entry in self.entries if entry.method == method), None)


def by_problem(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each problem, the paper's in its order."""
    names = sorted({r.problem for r in records}, key=lambda p: (ORDER.index(p) if p in ORDER else len(ORDER), p))
    return {name: [r for r in records if r.problem == name] for name in names}


def boards(records: Sequence[Record]) -> list[Board]:
    """One for each problem of the comparison, from its largest profile."""
    compared = [record for record in largest(records) if record.study == STUDY]
    others = of_other_engines(compared)
    return [board for name, own in by_problem(compared).items() if (board := _of_problem(name, own, others))]


def _of_problem(problem: str, records: Sequence[Record], others: set[Path]) -> Board | None:
    limits = budgets.budgets(records, "seconds")
    if not limits:
        return None
    order = budgets.standings(records, "w2", "seconds", limits[-1])
    runs = budgets.runs_for(records, "seconds", limits[-1])
    best, winner = [standing.method for standing in budgets.best(order)], _winner(order)
    mark = "tied" if winner == NO_DIFFERENCE else "winner" if winner in best else ""
    entries = [
        Entry(
            rank,
            standing.method,
            standing.spread,
            spread([budgets.spent_within(r, "seconds", limits[-1]) for r in runs[standing.method] if r.status == "ok"]),
            standing.failed,
            len(standing.ratios),
            mark if standing.method in best else "",
            DAGGER * any(record.path in others for record in runs[standing.method]),
        )
        for rank, standing in enumerate(order, start=1)
    ]
    return Board(problem, limits[-1], entries, budgets.sentence(order), winner)


def _winner(order: Sequence[Standing]) -> str:
    best = budgets.best(order)
    if not best:
        return "no estimate"
    if len(best) == 1:
        return best[0].method
    undecided = any(budgets.ratio(best[0], standing).why for standing in best[1:])
    return "undecided" if undecided else NO_DIFFERENCE


def methods(found: Sequence[Board]) -> list[str]:
    """All that ran on some problem, the best on average of their ranks first."""
    entries = grouped((entry for board in found for entry in board.entries), lambda entry: entry.method)
    mean = {method: sum(entry.rank for entry in own) / len(own) for method, own in entries.items()}
    return sorted(mean, key=lambda method: (mean[method], method))


def shades() -> list[str]:
    """What each shade stands for."""
    bounds = [number(bound) for bound in SHADES]
    return [f"≤ {bounds[0]}", *(f"≤ {bound}" for bound in bounds[1:]), f"> {bounds[-1]}"]


def show(found: Sequence[Board], console: Console) -> None:
    """Print a table and a sentence for each problem."""
    for board in found:
        console.print(Text(f"\n{visible(board.problem)}, budget of {number(board.budget)} s", style="bold"))
        console.print(_table(board))
        console.print(Text(visible(board.sentence)))
    if any(entry.engine for board in found for entry in board.entries):
        console.print(Text(f"\n{OTHER_ENGINE}"))


def _table(board: Board) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("  rank", "method", "W2 ÷ floor", "5–95 %", "seconds", ""):
        table.add_column(heading, justify="right" if heading == "  rank" else "left")
    for entry in board.entries:
        cells = [
            str(entry.rank),
            visible(entry.method) + entry.engine,
            number(entry.ratio.median) if entry.solved else "no estimate",
            interval(entry.ratio),
            number(entry.seconds.median),
            entry.failures,
        ]
        table.add_row(*(Text(cell, style="bold" if entry.mark else "") for cell in cells))
    return table


def _board(source: Source) -> Context:
    found = boards(source.everything.records)
    return {"boards": found, "board_methods": methods(found), "shades": shades()}


SECTION = Section("board", "Board", context=_board, template="board.html")
