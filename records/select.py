"""Which records of results folders and packs count: versions are never pooled, and no sample counts twice."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cryosip.records.read import read_record, record_files
from cryosip.records.schema import SCHEMA, Record
from cryosip.records.sources import Opened, Sources, opened

SUPERSEDED = "superseded: "  # how the reason begins where nothing is wrong with a record

Skipped = tuple[Path, str]


def read_records(sources: Sources, one_engine: bool = False) -> tuple[list[Record], list[Skipped]]:
    """Read the records of one or several sources with the arrays beside them; see `read_opened`."""
    with opened(sources) as folders:
        return read_opened(folders, one_engine)


def read_opened(folders: Iterable[Opened], one_engine: bool = False) -> tuple[list[Record], list[Skipped]]:
    """The records of all folders that count, and (path, reason) of the rest.

    Of each configuration only what the code of its youngest record made is kept, of each study only the precision of
    its youngest record, and of two records of one replicate the younger. With `one_engine`, of each study only what the
    engine of its youngest record made. Paths are relative to the results folder, and begin with the source where there
    are several. Raises ValueError where no record of a folder can be read.
    """
    records, skipped = readable(folders)
    records, superseded = selected(records, one_engine)
    return records, sorted(skipped + superseded)


def readable(folders: Iterable[Opened]) -> tuple[list[Record], list[Skipped]]:
    """All records that can be read, one of each id, and (path, reason) of the rest.

    Raises ValueError where no record of a folder can be read.
    """
    records: list[Record] = []
    skipped: list[Skipped] = []
    for source in folders:
        found, not_read = _readable(source)
        records += found
        skipped += not_read
    records, twins = one_of_each_id(records, SUPERSEDED + "{} is a record of the same run")
    return records, sorted(skipped + twins)


def _readable(source: Opened) -> tuple[list[Record], list[Skipped]]:
    records: list[Record] = []
    skipped: list[Skipped] = []
    for path in record_files(source.folder):
        relative = path.relative_to(source.folder)
        place = source.root / relative
        try:
            record, reason = read_record(source.folder, relative)
        except ValueError as error:
            skipped.append((place, str(error)))
            continue
        records.append(msgspec.structs.replace(record, path=place))
        if reason:
            skipped.append((place.with_suffix(".npz"), reason))
    if not records:
        wanted = f"no readable record in {source.name} (wanted <study>/<run_id>.json, schema 1 to {SCHEMA})"
        raise ValueError("; ".join([wanted, *(f"{path}: {reason}" for path, reason in skipped[:3])]))
    records, twins = one_of_each_id(records, "{} has the same run_id and is younger: wanted one record of a run")
    return records, skipped + twins


def selected(records: list[Record], one_engine: bool = False) -> tuple[list[Record], list[Skipped]]:
    """The records that count, as `read_opened` says, and (path, reason) of those that are superseded."""
    older: list[Skipped] = []
    study_wide = [_precision, lambda record: record.identity.engine] if one_engine else [_precision]
    for group, version in ((_configuration, _code), *((lambda record: record.study, of) for of in study_wide)):
        records, others = _of_one_version(records, group, version)
        older += others
    records, superseded = _youngest(records)
    return records, older + superseded


def one_of_each_id(records: list[Record], reason: str) -> tuple[list[Record], list[Skipped]]:
    """Of the records under one id the youngest, and the others with a reason, in which {} stands for its path."""
    newest = {record.run_id: record for record in sorted(records, key=_age)}
    kept = [record for record in records if newest[record.run_id] is record]
    return kept, [(r.path, reason.format(newest[r.run_id].path)) for r in records if newest[r.run_id] is not r]


def of_names(records: Iterable[Record], methods: Sequence[str], problems: Sequence[str]) -> list[Record]:
    """The records of these methods and problems, as one names them to run them: of FILE.py:NAME the name; of none, all.

    Raises ValueError for a name that no record has.
    """
    records = list(records)
    for kind, texts in (("method", methods), ("problem", problems)):
        names, known = {text.rpartition(":")[2] for text in texts}, {getattr(record, kind) for record in records}
        if unknown := names - known:
            raise ValueError(
                f"no record is of {kind} {' or '.join(map(repr, sorted(unknown)))}; wanted {', '.join(sorted(known))}"
            )
        records = [record for record in records if getattr(record, kind) in (names or known)]
    return records


def observations(record: Record) -> float:
    """The number of observations, as configured or as the floors of that size state it."""
    asked = record.config_number("problem.options.n_observations")
    known = [floor.n for floor in record.data_floors.values()]
    return asked if math.isfinite(asked) or not known else float(known[0])


def largest(records: Iterable[Record]) -> list[Record]:
    """On each problem of a study the profiles with the most observations, whatever their names: sizes are never pooled.

    A comparison of all problems may have one of them at another size than the rest.
    """
    records = list(records)
    size: dict[tuple[str, str, str], float] = {}
    for record in records:
        profile = (record.study, record.problem, record.profile)
        size[profile] = max(size.get(profile, -math.inf), _rank(record))
    best: dict[tuple[str, str], float] = {}
    for (study, problem, _), n in size.items():
        best[study, problem] = max(best.get((study, problem), -math.inf), n)
    return [r for r in records if size[r.study, r.problem, r.profile] == best[r.study, r.problem]]


def of_other_engines(records: Iterable[Record]) -> set[Path]:
    """The paths of records that another engine made than the youngest record of their study."""
    records = sorted(records, key=_age)
    newest = {record.study: record.identity.engine for record in records}
    return {record.path for record in records if record.identity.engine != newest[record.study]}


def _rank(record: Record) -> float:
    size = observations(record)
    return size if math.isfinite(size) else -1.0


def _of_one_version(
    records: list[Record], group: Callable[[Record], Any], version: Callable[[Record], Any]
) -> tuple[list[Record], list[Skipped]]:
    """In each group what is of the version of its youngest record."""
    newest = {group(r): version(r) for r in sorted(records, key=_age)}
    kept = [record for record in records if version(record) == newest[group(record)]]
    reason = f"{SUPERSEDED}a younger record was made by other code or in other precision"
    return kept, [(record.path, reason) for record in records if version(record) != newest[group(record)]]


def _configuration(record: Record) -> tuple[str, ...]:
    """All that replicates share."""
    return record.study, record.labels.text, json.dumps(record.config.resolved, sort_keys=True)


def _code(record: Record) -> tuple[str, ...]:
    return msgspec.structs.astuple(record.identity)


def _precision(record: Record) -> Any:
    return record.environment.get("dtype")


def _age(record: Record) -> tuple[str, str]:
    return record.created, str(record.path)


def _youngest(records: list[Record]) -> tuple[list[Record], list[Skipped]]:
    kept = {(_configuration(record), record.replicate): record for record in sorted(records, key=_age)}
    chosen = {record.path for record in kept.values()}
    gone = [(r.path, f"{SUPERSEDED}there is a younger record of the same run") for r in records if r.path not in chosen]
    return [r for r in records if r.path in chosen], gone
