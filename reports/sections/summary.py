"""What the page says of all studies at once: the summary, the runs that failed, and where the records are from."""

import math
from collections import Counter
from collections.abc import Iterable

from cryosip.records.machines import timed
from cryosip.records.schema import Record
from cryosip.records.select import largest, observations, of_other_engines
from cryosip.records.sources import Opened
from cryosip.reports import tables
from cryosip.reports.section import Context, Everything, Section, Source, of_study
from cryosip.reports.sections.board import OTHER_ENGINE
from cryosip.reports.sections.paper import paper_rows
from cryosip.reports.sections.statements import statements
from cryosip.reports.sections.verdicts import VERDICTS
from cryosip.reports.spreads import grouped
from cryosip.reports.tables import hardware


def _summary(source: Source) -> Context:
    records, shown = source.everything.records, source.everything.shown
    rows = paper_rows(records)
    counts = Counter(row.verdict for row in rows)
    shown_paths = {record.path for record in shown}
    return {
        "ran": [row for row in rows if row.verdict != "not run"],
        "counts": [(verdict, counts[verdict]) for verdict in VERDICTS if counts[verdict]],
        "statements": statements(of_study(shown, "consistency")),
        "sizes": sizes(shown),
        "hidden": Counter((r.study, r.profile) for r in records if r.path not in shown_paths),
        "total": len(records),
        "newest": max(record.created for record in records),
        "other_engine": OTHER_ENGINE if of_other_engines(largest(records)) else "",
        **_failures(source),
    }


def _failures(source: Source) -> Context:
    failed = [record for record in source.everything.records if record.status != "ok"]
    return {"failed": failed, "skipped": source.everything.skipped}


def _provenance(source: Source) -> Context:
    records = source.everything.records
    return {
        "environment": [*tables.distinct(records, "environment"), *tables.distinct(records, "identity")],
        "algorithms": tables.algorithms(records),
        "datasets": tables.datasets(records),
        "command": source.everything.command,
        "sources": _sources(source.everything),
        "several_machines": _several_machines(source.everything.shown),
    }


def _sources(everything: Everything) -> list[tuple[Opened, int, list[str]]]:
    """Where there are several sources or a pack: each with how many of its records are used, and their hardware."""
    if len(everything.sources) < 2 and not any(source.card for source in everything.sources):
        return []
    used = [[r for r in everything.records if r.path.is_relative_to(source.root)] for source in everything.sources]
    return [(source, len(own), hardware(own)) for source, own in zip(everything.sources, used, strict=True)]


def _several_machines(records: Iterable[Record]) -> list[str]:
    """The studies whose records are of more than one machine."""
    return [study for study, own in grouped(records, lambda r: r.study).items() if timed(own).sentence]


def sizes(records: Iterable[Record]) -> dict[str, str]:
    """What each study ran: profile, observations, steps and replicates."""
    found: dict[str, str] = {}
    for study, own in grouped(records, lambda r: r.study).items():
        parts = [f"profile {_joined(r.profile for r in own)}"]
        for word, values in (("n = {}", map(observations, own)), ("{} steps", (r.config_number("steps") for r in own))):
            known = [value for value in values if math.isfinite(value)]
            parts += [word.format(_joined(f"{value:,.0f}" for value in sorted(known)))] if known else []
        found[study] = "; ".join([*parts, f"replicates: {len({r.replicate for r in own})}"])
    return found


def _joined(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))


SUMMARY = Section("summary", "Summary", context=_summary, template="summary.html")
FAILURES = Section("failures", "Failures", context=_failures, template="failures.html")
PROVENANCE = Section("provenance", "Environment, data, command", context=_provenance, template="provenance.html")
