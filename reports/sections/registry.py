"""All sections of the page in its order: a study has its section in the file of its name, and its line here."""

from cryosip.records.machines import timed
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.sections import (
    board,
    bound,
    certificates,
    consistency,
    contamination,
    ensemble,
    fredholm,
    nanocluster,
    oned,
    otd_dto,
    out_of_core,
    paper,
    protein,
    readings,
    sampling,
    scaling,
    stability,
    summary,
    tuning,
    volumes,
)
from cryosip.reports.sections.baselines import baseline_table
from cryosip.reports.spreads import grouped
from cryosip.reports.tables import method_rows


def _other_studies(source: Source) -> Context:
    """The runs of studies that no section takes, as plain tables of all their metrics."""
    others = [r for r in source.everything.shown if r.study not in KNOWN_STUDIES]
    tables = [
        (study, problem, metrics, method_rows(own, metrics), timed(own).sentence)
        for (study, problem), own in sorted(grouped(others, lambda r: (r.study, r.problem)).items())
        for metrics in [sorted({name for r in own for name in r.metrics})]
    ]
    return {"studies": tables} if tables else {}


OTHER_STUDIES = Section("others", "", context=_other_studies, template="other_studies.html")
BASELINES = Section(
    "baselines", "Speed", template="baselines.html",
    missing="No timings in the records: run cryosip speed --baselines.",
    context=lambda source: {"baselines": source.everything.baselines} if source.everything.baselines else {},
    tables=lambda context: {"baselines.csv": baseline_table(context["baselines"])} if context else {},
)  # fmt: skip
OUT_OF_CORE = Section(
    "out-of-core", "Data larger than memory", template="out_of_core.html",
    missing="No measurement out of core in the records: run cryosip speed --out-of-core.",
    context=lambda source: out_of_core.context_of(source.everything.out_of_core),
    drawn=out_of_core.figures_of,
    tables=lambda context: {"out_of_core.csv": out_of_core.measured_table(context)} if context else {},
)  # fmt: skip

SECTIONS = (
    board.SECTION,
    summary.SUMMARY,
    paper.PAPER,
    *oned.SECTIONS,
    *sampling.SECTIONS,
    scaling.SECTION,
    nanocluster.SECTION,
    protein.SECTION,
    readings.SECTION,
    consistency.SECTION,
    contamination.SECTION,
    fredholm.SECTION,
    ensemble.SECTION,
    volumes.SECTION,
    stability.SECTION,
    OTHER_STUDIES,
    otd_dto.SECTION,
    tuning.SECTION,
    bound.SECTION,
    certificates.SECTION,
    BASELINES,
    OUT_OF_CORE,
    paper.CONVENTIONS,
    summary.FAILURES,
    summary.PROVENANCE,
)
KNOWN_STUDIES = frozenset(study for section in SECTIONS for study in section.studies)
