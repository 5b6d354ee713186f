"""The board: every method on every problem within each budget, and all methods over all problems, at one glance."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table as Printed
from rich.text import Text

from cryosip.records.machines import across, timed
from cryosip.records.schema import UNTUNED, Record
from cryosip.records.select import largest, of_other_engines
from cryosip.reports import controls
from cryosip.reports.card import visible
from cryosip.reports.controls import Control
from cryosip.reports.ranking import POWER
from cryosip.reports.section import Context, Figures, Section, Source, Table
from cryosip.reports.sections import budgets, overall
from cryosip.reports.sections.budgets import BUDGET_UNITS, Standing, listed
from cryosip.reports.sections.overall import Overall
from cryosip.reports.spreads import Spread, grouped, spread
from cryosip.reports.style import method_name
from cryosip.reports.tables import DAGGER, interval, number

STUDY = "otd-vs-dto"
ORDER = ("oned", "nanocluster", "adk", "hsp90")
NO_DIFFERENCE = "no significant difference"
SHADES = (1.25, 1.75, 2.5, 4.0, 8.0, 16.0)  # W2 over floor up to which a cell has shade 0, 1, ...; beyond it the last
OTHER_ENGINE = f"{DAGGER.strip()} made by another engine of cryosip than the youngest record of the study"
DOUBLE_DAGGER = " ‡"  # behind what ran on another machine than most runs within a budget of seconds
WORDS = {"seconds": "s", "forward_evaluations": "forward evaluations"}


class Entry(NamedTuple):
    """One method on one problem; `mark` is "winner", "tied" (no significant difference from the first) or "", `engine`
    a dagger where another engine made it than the youngest record of the study, `machine` a double one where it ran on
    another machine than most, `ratios` its W2 over floor by replicate."""

    rank: int
    method: str
    ratio: Spread
    seconds: Spread
    failed: int
    runs: int
    mark: str
    engine: str = ""
    machine: str = ""
    ratios: Mapping[int, float] = {}
    untuned: str = ""

    @property
    def marks(self) -> str:
        """Its daggers."""
        return self.engine + self.machine

    @property
    def solved(self) -> bool:
        """Whether half of its replicates had an estimate."""
        return math.isfinite(self.ratio.median)

    @property
    def shade(self) -> int:
        """The colour of its cell: 0 is at the floor."""
        return sum(self.ratio.median > bound for bound in SHADES)

    @property
    def notes(self) -> str:
        """Such as "1 of 10 failed, untuned"."""
        failures = f"{self.failed} of {self.runs} failed" if self.failed else ""
        return ", ".join(filter(None, [failures, self.untuned]))


class Board(NamedTuple):
    """One problem within one budget: its methods, the nearest to the truth first, and who wins, in a sentence and in a
    few words; the controls, whether its seconds compare, and by method how many replicates would separate it from the
    first."""

    problem: str
    budget: float
    entries: list[Entry]
    sentence: str
    winner: str
    unit: str = "seconds"
    controls: Sequence[Control] = ()
    machines: str = ""
    needed: Mapping[str, float] = {}

    def entry(self, method: str) -> Entry | None:
        """That of a method, None where it did not run."""
        return next((entry for entry in self.entries if entry.method == method), None)

    def control(self, name: str) -> Control | None:
        """One of the controls, None where the records do not hold it."""
        return next((control for control in self.controls if control.name == name), None)

    @property
    def within(self) -> str:
        """Such as "3 s"."""
        return f"{number(self.budget)} {WORDS[self.unit]}"

    @property
    def more(self) -> str:
        """How many replicates would decide what is not, in a sentence, "" where all is or nothing can be said."""
        parts = [f"{method} {budgets.about(count)}" for method, count in self.needed.items()]
        if not parts:
            return ""
        first = self.entries[0]
        return (
            f"At the differences and the scatter seen, replicates needed to separate {first.method} ({first.runs} now) "
            f"with a probability of {100 * POWER:.0f} %: from {listed(parts)}."
        )


class View(NamedTuple):
    """The boards of all problems within one budget, or within the longest of each problem."""

    label: str
    boards: list[Board]


def by_problem(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each problem, the paper's in its order; with other options it is another problem."""
    names = sorted({r.problem for r in records}, key=lambda p: (ORDER.index(p) if p in ORDER else len(ORDER), p))
    return {label: own for name in names for label, own in _by_options(name, records).items()}


def _by_options(name: str, records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of a problem by the options it was given, of which the label says those that differ."""
    given = grouped((r for r in records if r.problem == name), given_options)
    common = set.intersection(*map(set, given))
    return {", ".join([name, *(option for option in own if option not in common)]): given[own] for own in sorted(given)}


def given_options(record: Record) -> tuple[str, ...]:
    """The options that a problem was given, as text, in the order of their names."""
    options = {key: value for key, value in record.config.problem.options.items() if key != "structure"}
    return tuple(f"{key}={json.dumps(value, sort_keys=True)}" for key, value in sorted(options.items()))


def boards(records: Sequence[Record]) -> list[Board]:
    """One for each problem of the comparison, from its largest profile, at its longest budget of seconds."""
    return views(records)[0].boards


def views(records: Sequence[Record]) -> list[View]:
    """The boards at the longest budgets of seconds, at those of forward evaluations, and at each budget of either."""
    compared = [record for record in largest(records) if record.study == STUDY]
    others = of_other_engines(compared)
    found = [
        board
        for name, own in by_problem(compared).items()
        for unit in BUDGET_UNITS
        for budget in budgets.budgets(own, unit)
        for board in [_of_problem(name, own, others, unit, budget)]
    ]
    shown = []
    for unit, words in BUDGET_UNITS.items():
        last = {board.problem: board for board in found if board.unit == unit}
        shown.append(View(f"the longest, in {words}", list(last.values())))
    each = grouped(sorted(found, key=lambda b: (b.unit != "seconds", b.budget)), lambda b: b.within)
    return shown + [View(label, own) for label, own in each.items()]


def _of_problem(problem: str, records: Sequence[Record], others: set[Path], unit: str, budget: float) -> Board:
    order = budgets.standings(records, "w2", unit, budget)
    runs = budgets.runs_for(records, unit, budget)
    best, winner = [standing.method for standing in budgets.best(order)], _winner(order)
    mark = "tied" if winner == NO_DIFFERENCE else "winner" if winner in best else ""
    every = [record for own in runs.values() for record in own]
    on = timed(every, unit)
    entries = [
        Entry(
            rank,
            standing.method,
            standing.spread,
            spread([budgets.spent_within(r, unit, budget) for r in on.runs(runs[standing.method]) if r.status == "ok"]),
            standing.failed,
            len(standing.ratios),
            mark if standing.method in best else "",
            DAGGER * any(record.path in others for record in runs[standing.method]),
            DOUBLE_DAGGER * (len(on.runs(runs[standing.method])) < len(runs[standing.method])),
            standing.ratios,
            UNTUNED * all(r.labels.variant.startswith(UNTUNED) for r in runs[standing.method]),
        )
        for rank, standing in enumerate(order, start=1)
    ]
    elsewhere = f"{DOUBLE_DAGGER.strip()} ran, in part at least, on another. {across(every)}"
    machines = f"{on.sentence} {elsewhere}" if on.sentence else ""
    bounds = controls.controls(every, ("w2",), method_name)
    return Board(problem, budget, entries, budgets.sentence(order), winner, unit, bounds, machines,
                 budgets.replicates_to_separate(order))  # fmt: skip


def _winner(order: Sequence[Standing]) -> str:
    best = budgets.best(order)
    if not best:
        return "no estimate"
    if len(best) == 1:
        return best[0].method
    undecided = any(budgets.ratio(best[0], standing).why for standing in best[1:])
    return "undecided" if undecided else NO_DIFFERENCE


def over_all(found: Sequence[Board]) -> Overall | None:
    """The ranking over all problems of the boards, None where there is none."""
    return overall.overall({b.problem: {entry.method: entry.ratios for entry in b.entries} for b in found})


def conclusion(found: Sequence[Board], ranking: Overall | None) -> str:
    """What may be concluded of all problems and of each, in one sentence."""
    won = {board.problem: board.winner for board in found if board.winner in _names(board)}
    parts = [f"{winner} wins on {listed(on)}" for winner, on in grouped(won, lambda p: won[p]).items()]
    for board in found:
        if board.needed:
            now, needed = board.entries[0].runs, budgets.about(max(board.needed.values()))
            parts.append(f"{board.problem} would take {needed} replicates ({now} now)")
        elif board.problem not in won:
            parts.append(f"{board.problem} is {board.winner}")
    each = f"on single problems, {', '.join(parts)}"
    return f"{ranking.sentence}; {each}." if ranking else f"{each[0].upper()}{each[1:]}."


def _names(board: Board) -> list[str]:
    return [entry.method for entry in board.entries]


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
    """Print a table and a sentence for each problem, and one for all."""
    for board in found:
        console.print(Text(f"\n{visible(board.problem)}, budget of {board.within}", style="bold"))
        console.print(_table(board))
        for line in filter(None, (board.sentence, board.more, board.machines)):
            console.print(Text(visible(line)))
    ranking = over_all(found)
    if ranking:
        console.print(Text("\nall problems", style="bold"))
        for line in filter(None, (conclusion(found, ranking), ranking.left_out)):
            console.print(Text(visible(line)))
    if any(board.controls for board in found):
        console.print(Text(f"\n{controls.EXPLAINED}"))
    if any(entry.engine for board in found for entry in board.entries):
        console.print(Text(f"\n{OTHER_ENGINE}"))


def _table(board: Board) -> Printed:
    table = Printed(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("  rank", justify="right", no_wrap=True)
    for heading in ("method", "W2 ÷ floor", "5–95 %", BUDGET_UNITS[board.unit]):
        table.add_column(heading, no_wrap=True)
    table.add_column("notes", overflow="fold")
    for entry in board.entries:
        cells = [
            str(entry.rank),
            visible(entry.method) + entry.marks,
            number(entry.ratio.median) if entry.solved else "no estimate",
            interval(entry.ratio),
            number(entry.seconds.median),
            entry.notes,
        ]
        table.add_row(*(Text(cell, style="bold" if entry.mark else "") for cell in cells))
    for control in board.controls:
        ratio = control.ratios["w2"]
        cells = ["", control.name, number(ratio.median), interval(ratio), "", visible(control.note)]
        table.add_row(*(Text(cell, style="italic") for cell in cells))
    return table


def _board(source: Source) -> Context:
    shown = views(source.everything.records)
    found = shown[0].boards
    ranking, every = over_all(found), [board for view in shown for board in view.boards]
    names = list(dict.fromkeys([*methods(found), *methods(every)]))
    return {
        "views": [view for view in shown if view.boards],
        "board_methods": names,
        "families": budgets.families(names),
        "shades": shades(),
        "controls": (controls.START, controls.TRUTH_SAMPLE, controls.BEST_WEIGHTS),
        "overall": ranking,
        "overall_rule": overall.RULE,
        "conclusion": conclusion(found, ranking) if found else "",
    }


def _figures(records: list[Record]) -> Figures:
    ranking = over_all(boards(records))
    return {"overall": overall.plots(ranking)} if ranking else {}


def _tables(context: Context) -> dict[str, Table]:
    every = {(b.problem, b.unit, b.budget): b for view in context["views"] for b in view.boards}
    files = {"board.csv": board_table(list(every.values()))} if every else {}
    return files | ({"ranking.csv": overall.ranking_table(context["overall"])} if context["overall"] else {})


def board_table(found: Sequence[Board]) -> Table:
    """All that the boards show, a row for each method and control."""
    rows: list[list[object]] = [["problem", "unit", "budget", "rank", "method", "w2_over_floor", "q05", "q95",
                                 "replicates", "failed", "verdict"]]  # fmt: skip
    for b in found:
        place = [b.problem, b.unit, b.budget]
        rows += [[*place, e.rank, e.method, *e.ratio[:3], e.runs, e.failed, e.mark] for e in b.entries]
        rows += [[*place, "", c.name, *c.ratios["w2"], "", "control"] for c in b.controls]
    return rows


SECTION = Section("board", "Board", (STUDY,), _figures, _board, _tables, template="board.html")
