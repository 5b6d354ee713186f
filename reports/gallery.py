"""All figures of the records, and the files that go with them."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from cryosip.records.read import Record, largest, observations
from cryosip.reports import output
from cryosip.reports.csv_text import csv_text
from cryosip.reports.sections import movies, nanocluster, oned, otd_dto, protein, rates, sampling, scaling
from cryosip.reports.sections.consistency_figures import consistency_plots
from cryosip.reports.sections.variances import variances
from cryosip.reports.style import Plot, standalone

PROTEINS = {"paper-hsp90": "HSP90", "paper-adk": "adenylate kinase"}
PAPER_STUDIES = ("paper-1d", "noise", "sampling", "paper-nanocluster", "tau", *PROTEINS, "hsp90-open")
KNOWN_STUDIES = (*PAPER_STUDIES, "otd-vs-dto", "scaling", "consistency")


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
    on_line, in_plane = by_study["paper-1d"], by_study["paper-nanocluster"]
    return {
        "paper-1d": {
            "fig1": oned.distributions(on_line) + movies.particles(on_line, "fig1-"),
            "convergence": oned.convergence(on_line),
            "dto": oned.against_components(on_line),
        },
        "noise": {"fig2": oned.costs(by_study["noise"])},
        "sampling": {"variances": variances(by_study["sampling"]), "schemes": sampling.schemes(by_study["sampling"])},
        "scaling": {"scaling": scaling.scaling(by_study["scaling"])},
        "paper-nanocluster": {
            "fig3": nanocluster.examples(in_plane),
            "fig4": nanocluster.clouds(in_plane) + movies.particles(in_plane, "fig4-"),
            "nanocluster_convergence": oned.convergence(in_plane, "nanocluster-"),
            "nanocluster_dto": oned.against_components(in_plane, "nanocluster-"),
        },
        "tau": {"tau": nanocluster.against_tau(_of_one_size(by_study["tau"] + in_plane))},
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
    accuracies = sampling.time_to_accuracy([r for r in shown if r.study == "sampling"])
    exponents = rates.exponents([r for r in shown if r.study == "scaling"])
    files = {"time_to_accuracy.csv": csv_text(sampling.accuracy_table(accuracies))} if accuracies else {}
    return files | ({"scaling_exponents.csv": csv_text(rates.exponent_table(exponents))} if exponents else {})


def _protein_plots(records: Sequence[Record], prefix: str) -> list[Plot]:
    """Figs. 5 to 8, and Fig. 7 moving."""
    parts = (protein.molecule, protein.marginals, protein.motions, movies.modes, protein.principal)
    return [plot for part in parts for plot in part(records, prefix)]


def _of_one_size(records: Sequence[Record]) -> list[Record]:
    """Those of the study tau, and what ran on as many observations."""
    sizes = {observations(record) for record in records if record.study == "tau"}
    return [record for record in records if observations(record) in sizes]
