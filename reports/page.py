"""Build the report: one self-contained page, the paper-vs-reproduced table, and every figure with its numbers."""

import gc
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from cryosip.records.read import Record, Skipped, largest, observations, of_other_engines, read_records
from cryosip.reports import contents, gallery, output, tables
from cryosip.reports.csv_text import csv_text
from cryosip.reports.sections import budgets, nanocluster, otd_dto, protein, rates, sampling, scaling, verdicts
from cryosip.reports.sections.baselines import Baselines, baseline_table, read_baselines
from cryosip.reports.sections.board import OTHER_ENGINE, Board, boards, methods, shades
from cryosip.reports.sections.consistency import statements
from cryosip.reports.sections.paper import Row, paper_rows
from cryosip.reports.sections.published_numbers import CONVENTIONS, NANOCLUSTER_IMAGES
from cryosip.reports.style import Plot

FILTERS: dict[str, Any] = {
    "number": tables.number,
    "interval": tables.interval,
    "svg": Markup,
    "cell": lambda value: tables.number(value) if isinstance(value, float) else str(value),
    "range": tables.interval_of,
}
TRANSPORT = ("w1", "w2")
OF_PROTEINS = ("energy_distance_squared", "w1", "w2")
IN_THE_PLANE = ("w1", "w2", "energy_distance_squared", "w2_to_data")


class ProteinSection(NamedTuple):
    """The tables of a protein's section."""

    study: str
    name: str
    shared_data: str
    methods: list[tables.MethodRow]
    columns: list[str]
    modes: list[protein.ModeRow]
    collapsed: list[str]


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for cyclic garbage: among all that records and figures consist of, it takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Report(NamedTuple):
    """Where the page is, the files that it names as not read, and the board that it opens with."""

    page: Path
    unread: list[Skipped]
    boards: list[Board]


def build(results: Path, out: Path, command: str = "") -> Path:
    """Make the report as `make` does and return the path of its index.html."""
    return make(results, out, command).page


@_uncollected()
def make(results: Path, out: Path, command: str = "", one_engine: bool = False) -> Report:
    """Make the report of a results folder in the folder `out`.

    `command` is shown as the line that made the records; `one_engine` keeps of each study what one engine made. The
    report is written beside `out` first and moved in file by file, index.html last. Raises ValueError where the results
    hold no readable record, OSError where `out` cannot be written.
    """
    records, skipped = read_records(results, one_engine)
    rows = paper_rows(records)
    drawn = gallery.study_figures(records)
    plots = {name: group for groups in drawn.values() for name, group in groups.items()}
    files = gallery.figure_files([plot for group in plots.values() for plot in group])
    files["paper_vs_reproduced.csv"] = csv_text(paper_table(rows))
    files |= gallery.study_tables(records)
    baselines, unread = read_baselines(results)
    files |= {"baselines.csv": csv_text(baseline_table(baselines))} if baselines else {}
    commands = gallery.figure_commands(records, drawn)
    files["index.html"] = render(records, [*skipped, *unread], rows, plots, commands, command, baselines)
    output.write(out, files)
    return Report(out / "index.html", [*skipped, *unread], boards(records))


def paper_table(rows: Iterable[Row]) -> list[list[Any]]:
    """The paper-vs-reproduced table, a header and one line for each published number or statement."""
    columns = ["part", "quantity", "paper", "median", "q05", "q95", "replicates", "floor_median", "floor_q05",
               "floor_q95", "accepted_low", "accepted_high", "finding", "verdict", "convention", "why"]  # fmt: skip
    empty = (math.nan,) * 3
    return [columns] + [
        [r.part, r.quantity, r.published, *r.ours, *(r.floor[:3] if r.floor else empty),
         *(r.accepted or empty[:2]), r.finding, r.verdict, r.convention, r.why]
        for r in rows
    ]  # fmt: skip


def render(
    records: Sequence[Record],
    skipped: Sequence[Skipped],
    rows: Sequence[Row],
    plots: dict[str, list[Plot]],
    commands: dict[str, str],
    command: str,
    baselines: Baselines | None,
) -> str:
    """The page as one HTML text, everything that comes from a record escaped."""
    shown = largest(records)
    values = {
        "plots": plots,
        "commands": commands,
        "baselines": baselines,
        **_summary(records, shown, rows),
        **_of_studies(shown, plots),
        **_comparison(shown),
        **_provenance(records, skipped, command),
    }
    present = contents.present(values)
    listed, absent = contents.split(present)
    return output.html("template.html", FILTERS, present=present, contents=listed, absent=absent, **values)


def _summary(records: Sequence[Record], shown: Sequence[Record], rows: Sequence[Row]) -> dict[str, Any]:
    """The paper's numbers and what ran."""
    shown_paths = {record.path for record in shown}
    return {
        "rows": rows,
        "ran": [row for row in rows if row.verdict != "not run"],
        "not_run": [row for row in rows if row.verdict == "not run"],
        "counts": [(verdict, count) for verdict, count in _verdict_counts(rows) if count],
        "rules": verdicts.RULES,
        "conventions": CONVENTIONS,
        "sizes": _sizes(shown),
        "hidden": Counter((r.study, r.profile) for r in records if r.path not in shown_paths),
        "total": len(records),
        "newest": max(record.created for record in records),
    }


def _of_studies(shown: Sequence[Record], plots: dict[str, list[Plot]]) -> dict[str, Any]:
    """The tables of each study but otd-vs-dto."""
    on_line, in_plane, swept, drawn, theory = (
        [record for record in shown if record.study == study]
        for study in ("paper-1d", "paper-nanocluster", "scaling", "sampling", "consistency")
    )
    unknown = sorted({record.study for record in shown} - set(gallery.KNOWN_STUDIES))
    proteins = {name: [r for r in shown if r.study == study] for study, name in gallery.PROTEINS.items()}
    return {
        "methods": tables.method_rows([r for r in on_line if r.setting != "tuned"], TRANSPORT),
        "tuned": tables.method_rows([r for r in on_line if r.setting == "tuned"], TRANSPORT),
        "shared_data": tables.shared_data(on_line) if on_line else "",
        "unknown": [_generic(study, [r for r in shown if r.study == study]) for study in unknown],
        "transport": TRANSPORT,
        "in_the_plane": IN_THE_PLANE,
        "nanocluster": tables.method_rows(in_plane, IN_THE_PLANE),
        "nanocluster_shared_data": tables.shared_data(in_plane) if in_plane else "",
        "readings": nanocluster.readings(in_plane),
        "printed_images": NANOCLUSTER_IMAGES,
        "proteins": [_protein_section(name, own) for name, own in proteins.items() if own],
        "of_proteins": OF_PROTEINS,
        "statements": statements(theory),
        "accuracies": sampling.time_to_accuracy(drawn),
        "axes": scaling.sections(swept, plots["scaling"], rates.exponents(swept)),
        "tolerance": rates.TOLERANCE,
    }


def _protein_section(name: str, records: Sequence[Record]) -> ProteinSection:
    return ProteinSection(
        records[0].study,
        name,
        tables.shared_data(records),
        tables.method_rows(records, OF_PROTEINS),
        *protein.mode_table(records),
        protein.collapsed(records),
    )


def _comparison(shown: Sequence[Record]) -> dict[str, Any]:
    """The board, and the section behind it."""
    found = boards(shown)
    return {
        "boards": found,
        "board_methods": methods(found),
        "shades": shades(),
        "compared": otd_dto.sections([r for r in shown if r.study == "otd-vs-dto"]),
        "currencies": budgets.CURRENCIES,
        "thresholds": budgets.THRESHOLDS,
        "budget_rule": budgets.RULE,
        "infinity": math.inf,
    }


def _provenance(records: Sequence[Record], skipped: Sequence[Skipped], command: str) -> dict[str, Any]:
    """What failed, where it ran and on what data."""
    return {
        "failed": [record for record in records if record.status != "ok"],
        "skipped": skipped,
        "other_engine": OTHER_ENGINE if of_other_engines(largest(records)) else "",
        "environment": [*tables.distinct(records, "environment"), *tables.distinct(records, "identity")],
        "algorithms": tables.algorithms(records),
        "datasets": tables.datasets(records),
        "command": command,
    }


def _verdict_counts(rows: Iterable[Row]) -> list[tuple[str, int]]:
    counts = Counter(row.verdict for row in rows)
    return [(verdict, counts[verdict]) for verdict in verdicts.VERDICTS]


def _sizes(records: Iterable[Record]) -> dict[str, str]:
    """What each study ran: profile, observations, steps and replicates."""
    sizes: dict[str, str] = {}
    records = list(records)
    for study in dict.fromkeys(record.study for record in records):
        own = [record for record in records if record.study == study]
        parts = [f"profile {_joined(r.profile for r in own)}"]
        for word, values in (("n = {}", map(observations, own)), ("{} steps", (r.number("steps") for r in own))):
            known = [value for value in values if math.isfinite(value)]
            parts += [word.format(_joined(f"{value:,.0f}" for value in sorted(known)))] if known else []
        sizes[study] = "; ".join([*parts, f"replicates: {len({r.replicate for r in own})}"])
    return sizes


def _joined(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _generic(study: str, records: Sequence[Record]) -> tuple[str, list[str], list[tables.MethodRow]]:
    """A plain section for a study that this report has no figures for."""
    metrics = sorted({name for record in records for name in record.metrics})
    return study, metrics, tables.method_rows(records, metrics)
