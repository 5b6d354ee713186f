"""The sections of the page: which there are, and what to run for those that the records say nothing of."""

from collections.abc import Container, Mapping
from typing import Any, NamedTuple


class Section(NamedTuple):
    """`missing` says why it is not shown, and "" of one that always is."""

    name: str
    title: str
    missing: str = ""


SECTIONS = (
    Section("board", "Board"),
    Section("summary", "Summary"),
    Section("paper", "Paper against reproduction"),
    Section(
        "fig1",
        "Fig. 1: distributions",
        "No finished flow at the published setting with its particles in the records: run the study paper-1d.",
    ),
    Section("convergence", "Convergence", "No convergence curve in the records: run the study paper-1d."),
    Section("fig2", "Fig. 2: noise", "No run of the noise study in the records: run the study noise."),
    Section("methods", "1D: methods", "No run of the study paper-1d in the records."),
    Section("variances", "Variances", "No run of the sampling study in the records: run the study sampling."),
    Section("schemes", "Sampling schemes", "No flow of the sampling study in the records: run the study sampling."),
    Section("scaling", "Scaling", "No run of the study scaling in the records: run the study scaling."),
    Section("nanocluster", "Figs. 3, 4: nanocluster", "No images in the records: run the study paper-nanocluster."),
    Section(
        "protein",
        "Figs. 5–8: protein",
        "No run on a protein: run the study paper-hsp90 with the structure 2IOP, or paper-adk without any file.",
    ),
    Section("consistency", "§3: theory", "No run of the study consistency in the records: run the study consistency."),
    Section("otd-vs-dto", "OTD against DTO", "No run of the study otd-vs-dto in the records: run it."),
    Section("baselines", "Speed", "No timings in the records: run cryosip speed --baselines."),
    Section("conventions", "Assumptions"),
    Section("failures", "Failures"),
    Section("provenance", "Environment, data, command"),
)


# by section, the tables and groups of figures of which one is enough to show it
PARTS = {
    "methods": ("methods", "tuned", "dto"),
    "schemes": ("schemes", "accuracies"),
    "scaling": ("axes",),
    "nanocluster": ("nanocluster", "readings", "fig3", "tau"),
    "protein": ("proteins", "hsp90_open"),
    "consistency": ("statements",),
    "otd-vs-dto": ("compared",),
}


def present(values: Mapping[str, Any]) -> set[str]:
    """The sections for which there is something among the tables of the page and its `plots`."""
    filled = {name for name, value in {**values["plots"], **values}.items() if value}
    return {s.name for s in SECTIONS if filled & set(PARTS.get(s.name, (s.name,)))}


def split(present: Container[str]) -> tuple[list[Section], list[Section]]:
    """The sections that are shown, and those for which nothing was run."""
    shown = [section for section in SECTIONS if not section.missing or section.name in present]
    return shown, [section for section in SECTIONS if section not in shown]
