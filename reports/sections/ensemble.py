"""The study ensemble: how far the populations of given structures are from the true ones, for each case of poses."""

from cryosip.reports.section import Context, Section, Source
from cryosip.reports.spreads import grouped
from cryosip.reports.tables import method_rows, shared_data

METRICS = ("population_total_variation", "population_kl", "w2")


def _tables(source: Source) -> Context:
    """A table for each ensemble and case of poses: on other data methods have other floors."""
    cases = grouped(
        sorted(source.records, key=lambda r: (r.labels.text, r.replicate)), lambda r: (r.profile, r.labels.text)
    )
    return (
        {
            "cases": [
                (f"{text} ({profile})", shared_data(own), method_rows(own, METRICS))
                for (profile, text), own in cases.items()
            ],
            "metrics": METRICS,
        }
        if cases
        else {}
    )


SECTION = Section(
    "ensemble", "Populations of given structures", ("ensemble",), context=_tables, template="ensemble.html",
    missing="No populations in the records: run the study ensemble.",
)  # fmt: skip
