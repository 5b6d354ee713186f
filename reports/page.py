"""Build the report: one self-contained page, the paper-vs-reproduced table, and every figure with its numbers."""

import gc
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from cryosip.reports import (
    budgets,
    figures,
    images,
    movies,
    otd_dto,
    output,
    protein,
    rates,
    scaling,
    schemes,
    tables,
    verdicts,
)
from cryosip.reports.comparison import Row, paper_rows
from cryosip.reports.consistency import statements
from cryosip.reports.consistency_figures import consistency_plots
from cryosip.reports.csv_text import csv_text
from cryosip.reports.paper import CONVENTIONS, NANOCLUSTER_IMAGES
from cryosip.reports.peers import Peers, peer_table, read_peers
from cryosip.reports.records import Record, Skipped, largest, observations, read_records
from cryosip.reports.style import Plot, standalone
from cryosip.reports.variances import variances

PROTEINS = {"paper-hsp90": "HSP90", "paper-adk": "adenylate kinase"}
PAPER_STUDIES = ("paper-1d", "noise", "sampling", "paper-nanocluster", "tau", *PROTEINS, "hsp90-open")
CONTENTS = (
    ("summary", "Summary"), ("paper", "Paper against reproduction"), ("fig1", "§4.1: distributions"),
    ("convergence", "convergence"), ("fig2", "noise"), ("methods", "methods"), ("variances", "estimators"),
    ("schemes", "schemes"), ("scaling", "Scaling"), ("nanocluster", "§4.2: nanocluster"),
    ("protein", "§4.3: protein"), ("consistency", "§3: theory"), ("otd-vs-dto", "OTD against DTO"),
    ("peers", "Speed"), ("conventions", "Assumptions"), ("failures", "Failures"),
    ("provenance", "Environment, data, command"),
)  # fmt: skip
KNOWN_STUDIES = (*PAPER_STUDIES, "otd-vs-dto", "scaling", "consistency")
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


@_uncollected()
def build(
    results: Path, out: Path, command: str = "", tell_unread: Callable[[list[Skipped]], None] = lambda _: None
) -> Path:
    """Make the report of a results folder in the folder `out` and return the path of its index.html.

    `command` is shown as the line that made the records; `tell_unread` is told the files that the page names as not
    read. The report is written beside `out` first and moved in file
    by file, index.html last. Raises ValueError where the results hold no readable record, OSError where `out` cannot
    be written.
    """
    records, skipped = read_records(results)
    rows = paper_rows(records)
    drawn = study_figures(records)
    plots = {name: group for groups in drawn.values() for name, group in groups.items()}
    files = figure_files([plot for group in plots.values() for plot in group])
    files["paper_vs_reproduced.csv"] = csv_text(paper_table(rows))
    files |= study_tables(records)
    peers, unread = read_peers(results)
    files |= {"peers.csv": csv_text(peer_table(peers))} if peers else {}
    commands = figure_commands(records, drawn)
    files["index.html"] = render(records, [*skipped, *unread], rows, plots, commands, command, peers)
    output.write(out, files)
    tell_unread([*skipped, *unread])
    return out / "index.html"


def figure_files(plots: Sequence[Plot]) -> dict[str, str | bytes]:
    """Each figure as SVG and PDF, its numbers, the table of what it shows, and the script that redraws it from that."""
    files: dict[str, str | bytes] = {}
    for plot in plots:
        files[f"figures/{plot.name}.svg"] = standalone(plot.svg)
        files[f"figures/{plot.name}.pdf"] = plot.drawing.pdf
        files[f"figures/{plot.name}.csv"] = csv_text([plot.columns, *plot.rows])
        files[f"figures/{plot.name}.drawn.csv"] = csv_text(plot.drawing.table)
    return files | {"figures/redraw.py": (output.HERE / "redraw.py").read_text(encoding="utf-8")}


Figures = dict[str, dict[str, list[Plot]]]  # by study and section


def study_figures(records: Sequence[Record]) -> Figures:
    """Every figure, from the largest profile of each study."""
    shown = largest(records)
    by_study = {name: [record for record in shown if record.study == name] for name in KNOWN_STUDIES}
    oned, nanocluster = by_study["paper-1d"], by_study["paper-nanocluster"]
    return {
        "paper-1d": {
            "fig1": figures.distributions(oned) + movies.particles(oned, "fig1-"),
            "convergence": figures.convergence(oned),
            "dto": figures.against_components(oned),
        },
        "noise": {"fig2": figures.costs(by_study["noise"])},
        "sampling": {"variances": variances(by_study["sampling"]), "schemes": schemes.schemes(by_study["sampling"])},
        "scaling": {"scaling": scaling.scaling(by_study["scaling"])},
        "paper-nanocluster": {
            "fig3": images.examples(nanocluster),
            "fig4": images.clouds(nanocluster) + movies.particles(nanocluster, "fig4-"),
            "nanocluster_convergence": figures.convergence(nanocluster, "nanocluster-"),
            "nanocluster_dto": figures.against_components(nanocluster, "nanocluster-"),
        },
        "tau": {"tau": images.against_tau(_of_one_size(by_study["tau"] + nanocluster))},
        **{study: {study: _protein_plots(by_study[study], f"{study}-")} for study in PROTEINS},
        "hsp90-open": {"hsp90_open": protein.open_fields(by_study["hsp90-open"])},
        "otd-vs-dto": otd_dto.plots(by_study["otd-vs-dto"]),
        "consistency": consistency_plots(by_study["consistency"]),
    }


def figure_commands(records: Sequence[Record], drawn: Figures) -> dict[str, str]:
    """By the name of a figure, the command that makes the records behind it."""
    shown = largest(records)
    return {
        plot.name: _command([record for record in shown if record.study == study])
        for study, groups in drawn.items()
        for group in groups.values()
        for plot in group
    }


def _command(records: Sequence[Record]) -> str:
    """Of one study in the profiles that are shown."""
    structure = next((str(s) for r in records if (s := r.asked("problem.options.structure"))), "")
    double = any(record.environment.get("dtype") == "float64" for record in records)
    words = ["cryosip", "run", records[0].study, "--profile", records[0].profile,
             "--replicates", str(len({record.replicate for record in records})),
             *(["--structure", Path(structure).name] if structure else []), *(["--x64"] if double else [])]  # fmt: skip
    return shlex.join(words)


def study_tables(records: Sequence[Record]) -> dict[str, str]:
    """The tables of sections that are files too."""
    shown = largest(records)
    accuracies = schemes.time_to_accuracy([r for r in shown if r.study == "sampling"])
    exponents = rates.exponents([r for r in shown if r.study == "scaling"])
    files = {"time_to_accuracy.csv": csv_text(schemes.accuracy_table(accuracies))} if accuracies else {}
    return files | ({"scaling_exponents.csv": csv_text(rates.exponent_table(exponents))} if exponents else {})


def _protein_plots(records: Sequence[Record], prefix: str) -> list[Plot]:
    """Figs. 5 to 8, and Fig. 7 moving."""
    parts = (protein.molecule, protein.marginals, protein.motions, movies.modes, protein.principal)
    return [plot for part in parts for plot in part(records, prefix)]


def _of_one_size(records: Sequence[Record]) -> list[Record]:
    """Those of the study tau, and what ran on as many observations."""
    sizes = {observations(record) for record in records if record.study == "tau"}
    return [record for record in records if observations(record) in sizes]


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
    peers: Peers | None,
) -> str:
    """The page as one HTML text, everything that comes from a record escaped."""
    filters = {
        "number": tables.number,
        "interval": tables.interval,
        "svg": Markup,
        "cell": _cell,
        "range": tables.interval_of,
    }
    shown = largest(records)
    shown_paths = {record.path for record in shown}
    oned = [record for record in shown if record.study == "paper-1d"]
    nanocluster = [record for record in shown if record.study == "paper-nanocluster"]
    swept = [record for record in shown if record.study == "scaling"]
    unknown = sorted({record.study for record in shown} - set(KNOWN_STUDIES))
    return output.html(
        "template.html",
        filters,
        rows=rows,
        counts=[(verdict, count) for verdict, count in _verdict_counts(rows) if count],
        rules=verdicts.RULES,
        conventions=CONVENTIONS,
        plots=plots,
        commands=commands,
        contents=[(name, title) for name, title in CONTENTS if peers or name != "peers"],
        sizes=_sizes(shown),
        hidden=Counter((r.study, r.profile) for r in records if r.path not in shown_paths),
        methods=tables.method_rows([r for r in oned if r.setting != "tuned"], TRANSPORT),
        tuned=tables.method_rows([r for r in oned if r.setting == "tuned"], TRANSPORT),
        shared_data=tables.shared_data(oned) if oned else "",
        unknown=[_generic(study, [r for r in shown if r.study == study]) for study in unknown],
        transport=TRANSPORT,
        in_the_plane=IN_THE_PLANE,
        nanocluster=tables.method_rows(nanocluster, IN_THE_PLANE),
        nanocluster_shared_data=tables.shared_data(nanocluster) if nanocluster else "",
        readings=images.readings(nanocluster),
        printed_images=NANOCLUSTER_IMAGES,
        proteins=[
            ProteinSection(
                study,
                name,
                tables.shared_data(own),
                tables.method_rows(own, OF_PROTEINS),
                *protein.mode_table(own),
                protein.collapsed(own),
            )
            for study, name in PROTEINS.items()
            if (own := [r for r in shown if r.study == study])
        ],
        of_proteins=OF_PROTEINS,
        compared=otd_dto.sections([r for r in shown if r.study == "otd-vs-dto"]),
        currencies=budgets.CURRENCIES,
        thresholds=budgets.THRESHOLDS,
        budget_rule=budgets.RULE,
        infinity=math.inf,
        statements=statements([record for record in shown if record.study == "consistency"]),
        accuracies=schemes.time_to_accuracy([r for r in shown if r.study == "sampling"]),
        axes=scaling.sections(swept, plots["scaling"], rates.exponents(swept)),
        tolerance=rates.TOLERANCE,
        peers=peers,
        failed=[record for record in records if record.status != "ok"],
        total=len(records),
        skipped=skipped,
        environment=tables.distinct(records, "environment"),
        algorithms=tables.algorithms(records),
        datasets=tables.datasets(records),
        newest=max(record.created for record in records),
        command=command,
    )


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


def _cell(value: Any) -> str:
    return tables.number(value) if isinstance(value, float) else str(value)
