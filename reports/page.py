"""Build the report: one self-contained page, and every figure and table of it as files."""

import gc
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from cryosip.records.schema import Record
from cryosip.records.select import Skipped, largest, of_names, read_opened
from cryosip.records.sources import Sources, opened
from cryosip.reports import controls, measurements, output
from cryosip.reports.csv_text import csv_text
from cryosip.reports.section import Context, Everything, Figures, Section, Source, of_study
from cryosip.reports.sections.baselines import read_baselines
from cryosip.reports.sections.board import Board, boards
from cryosip.reports.sections.out_of_core import read_out_of_core
from cryosip.reports.sections.registry import SECTIONS
from cryosip.reports.style import Plot, standalone, switches


class Part(NamedTuple):
    """A section, the records of its studies, its figures, and the values of its template."""

    section: Section
    records: list[Record]
    figures: Figures
    context: Context

    @property
    def shown(self) -> bool:
        """Whether it has something to show, or is always there."""
        always = self.section.title and not self.section.missing
        return bool(always or self.context or any(self.figures.values()))


class Report(NamedTuple):
    """Where the page is, the files that it names as not read, and the board that it opens with."""

    page: Path
    unread: list[Skipped]
    boards: list[Board]


def build(sources: Sources, out: Path, command: str = "") -> Path:
    """Make the report as `make` does and return the path of its index.html."""
    return make(sources, out, command).page


def make(
    sources: Sources,
    out: Path,
    command: str = "",
    one_engine: bool = False,
    methods: Sequence[str] = (),
    problems: Sequence[str] = (),
) -> Report:
    """Make the report of the records of one or several sources.

    Parameters
    ----------
    sources
        Folders of records, packs, or "published" for the pack that is installed.
    out
        The folder of the report, which is written beside it first and moved in file by file, index.html last.
    command
        Shown as the line that made the records.
    one_engine
        Whether to keep of each study only what the engine of its youngest record made.
    methods, problems
        The only ones that are shown, if any are named.

    Returns
    -------
    Report
        The page, what was not read, and the board.

    Raises
    ------
    ValueError
        Where a source holds no readable record, or is a damaged pack, or no record is of a method or a problem.
    OSError
        Where `out` cannot be written.
    """
    with _uncollected(), opened(sources) as folders:
        records, skipped = read_opened(folders, one_engine)
        records = of_names(records, methods, problems)
        baselines, unread = measurements.first(folders, read_baselines)
        out_of_core, unread_too = measurements.first(folders, read_out_of_core)
        skipped = [*skipped, *unread, *unread_too]
        parts = made(Everything(records, largest(records), skipped, command, baselines, folders, out_of_core))
        files = figure_files([plot for part in parts for group in part.figures.values() for plot in group])
        for part in parts:
            files |= {name: csv_text(table) for name, table in part.section.tables(part.context).items()}
        output.write(out, files | {"index.html": render(parts)})
        return Report(out / "index.html", skipped, boards(records))


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


def made(everything: Everything) -> list[Part]:
    """All sections with their figures and values, in the order of the page."""
    parts = []
    for section in SECTIONS:
        own = [record for record in everything.shown if record.study in section.studies]
        figures = section.figures(own)
        context = section.context(Source(own, figures, everything))
        parts.append(Part(section, own, figures | section.drawn(context), context))
    return parts


def render(parts: Sequence[Part]) -> str:
    """The page as one HTML text, everything that comes from a record escaped."""
    shown = [part for part in parts if part.shown]
    env = output.environment()
    env.globals |= {
        "controls_explained": controls.EXPLAINED,
        "contents": [part.section for part in shown if part.section.title],
        "absent": [part.section for part in parts if part.section.missing and not part.shown],
        "commands": {name: command for part in shown for name, command in figure_commands(part).items()},
        "series": switches([record for part in parts for record in part.records]),
    }
    macros = vars(env.get_template("macros.html").module)
    env.globals |= {name: macro for name, macro in macros.items() if not name.startswith("_")}
    texts = [
        env.get_template(part.section.template).render(section=part.section, figures=part.figures, **part.context)
        for part in shown
    ]
    return env.get_template("page.html").render(parts=[Markup(text) for text in texts])


def figure_files(plots: Sequence[Plot]) -> dict[str, str | bytes]:
    """Each figure as SVG and PDF, its numbers, its molecule, and a script that draws numbers again."""
    files: dict[str, str | bytes] = {}
    for plot in plots:
        files[f"figures/{plot.name}.svg"] = standalone(plot.svg)
        files[f"figures/{plot.name}.pdf"] = plot.drawing.pdf
        files[f"figures/{plot.name}.csv"] = csv_text([plot.columns, *plot.rows])
        if plot.pdb:
            files[f"figures/{plot.name}.pdb"] = plot.pdb
    return files | {"figures/redraw.py": (output.HERE / "redraw.py").read_text(encoding="utf-8")}


def figure_commands(part: Part) -> dict[str, str]:
    """By the name of a figure, the command that makes the records behind it; none for figures of no records."""
    studies = part.section.studies
    if not studies:
        return {}
    of_group = {group: of_study(part.records, group if group in studies else studies[0]) for group in part.figures}
    return {plot.name: study_command(of_group[group]) for group, plots in part.figures.items() for plot in plots}


def study_command(records: Sequence[Record]) -> str:
    """The command that makes the records of one study and profile."""
    outside = {_home(r): None for r in records}
    if len(outside) > 1 and OURS in outside:
        ours, theirs = ([r for r in records if (_home(r) == OURS) == own] for own in (True, False))
        return f"{study_command(ours)} && {study_command(theirs)}"
    structure = next((str(s) for r in records if (s := r.config_value("problem.options.structure"))), "")
    double = any(record.environment.get("dtype") == "float64" for record in records)
    words = ["cryosip", "run", records[0].study, "--profile", records[0].profile,
             "--replicates", str(len({record.replicate for record in records})),
             *(["--structure", Path(structure).name] if structure else []), *(["--x64"] if double else [])]  # fmt: skip
    for option, names in (("--problem", {p: None for p, _ in outside}), ("--method", {m: None for _, m in outside})):
        words += [word for name in names if name for word in (option, name)]
    return shlex.join(words)


OURS = "", ""


def _home(record: Record) -> tuple[str, str]:
    """The problem and the method of a record as a command names them, where one of them is from outside; else OURS."""
    homes = {kind: str(record.environment.get(f"{kind}_from") or "") for kind in ("problem", "method")}
    if not any(homes.values()):
        return OURS
    return _place(homes["problem"], record.problem), _place(homes["method"], record.method)


def _place(home: str, name: str) -> str:
    """Such as ./nearest.py:nearest of a file; of a package the name."""
    file = home.rpartition(" ")[0]
    return f"./{file}:{name}" if file.endswith(".py") else name
