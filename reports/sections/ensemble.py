"""The study ensemble: how far the populations of given structures are from the true ones, for each case of poses."""

from collections.abc import Sequence
from typing import Any

from cryosip.records.machines import timed
from cryosip.records.schema import Record
from cryosip.reports.controls import BEST_WEIGHTS
from cryosip.reports.section import Context, Section, Source
from cryosip.reports.spreads import grouped
from cryosip.reports.tables import MethodRow, method_rows, shared_data

METRICS = {"population_total_variation": "total variation", "population_kl": "KL divergence", "w2": "W2 (Å)"}
CASES = ("known", "near", "unknown")

Case = tuple[str, MethodRow]  # what is known of the poses, "" for a control, and a method


def case_rows(records: Sequence[Record]) -> list[Case]:
    """The methods of one ensemble for each case of poses, then the controls, which are the same in all cases."""
    groups = grouped(records, lambda r: str(r.config_value("problem.options.poses")))
    on = timed(records)
    tables = [(poses, method_rows(groups[poses], list(METRICS), on)) for poses in CASES if poses in groups]
    found = [(poses, row) for poses, rows in tables for row in rows if not row.control]
    # a method has no population of structures but that of its estimate: the best weights were measured by W2 alone
    controls = [row for row in tables[0][1] if row.control and row.label != BEST_WEIGHTS]
    return found + [("", row) for row in controls]


def _context(source: Source) -> Context:
    ensembles = grouped(
        sorted(source.records, key=lambda r: (r.profile, r.labels.text, r.replicate)),
        lambda r: (r.labels.text.partition(";")[0], r.profile),
    )
    tables = [
        (*key, f"{shared_data(own)} {timed(own).sentence}".rstrip(), case_rows(own)) for key, own in ensembles.items()
    ]
    return {"ensembles": tables, "metrics": METRICS} if tables else {}


def table(ensembles: Sequence[tuple[str, str, str, list[Case]]]) -> list[list[Any]]:
    """A header and one line for each method, case and metric, for a file."""
    header = ["ensemble", "profile", "poses", "method", "metric", "median", "q05", "q95", "over_floor", "setup_seconds",
              "seconds"]  # fmt: skip
    return [header] + [
        [name, profile, poses, row.label, metric, *row.metrics[metric][:3], row.ratios[metric].median,
         row.setup_seconds.median, row.seconds.median]
        for name, profile, _, rows in ensembles
        for poses, row in rows
        for metric in METRICS
    ]  # fmt: skip


SECTION = Section(
    "ensemble", "Populations of given structures", ("ensemble",), context=_context, template="ensemble.html",
    tables=lambda context: {"ensemble.csv": table(context["ensembles"])} if context else {},
    missing="No populations in the records: run the study ensemble.",
)  # fmt: skip
