"""Results as a pack: all records in the form of today, with the arrays that figures are drawn of."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from cryosip.records.files import write_text
from cryosip.records.machines import without_host
from cryosip.records.pack import Card, write_pack
from cryosip.records.schema import SCHEMA, Array, Record, id_of
from cryosip.records.select import Skipped, largest, one_of_each_id, readable, selected
from cryosip.records.sources import Opened, opened
from cryosip.records.write import record_path, write
from cryosip.reports import measurements, page
from cryosip.reports.section import Everything
from cryosip.reports.sections import out_of_core
from cryosip.reports.sections.baselines import measured_file, read_baselines
from cryosip.reports.spreads import grouped
from cryosip.reports.tables import hardware

LARGE = 50_000  # numbers of an array


class Words(NamedTuple):
    """What the author says of a pack; without a command, that of the records is made up from what they say."""

    title: str
    who: str
    what: str
    licence: str
    command: str = ""


class Kept(NamedTuple):
    """The records in a folder, the files that are not in it, and how many records lost arrays that no figure draws."""

    records: list[Record]
    left_out: list[Skipped]
    without_arrays: int


class Watched(dict[str, Array]):
    """Arrays that remember which of them were taken."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        super().__init__(arrays)
        self.taken: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        self.taken.add(name)
        return super().__getitem__(name)

    def kept(self) -> dict[str, np.ndarray]:
        """What was taken, and what else is small of a record of which something was: figures ask what there is."""
        small = {name for name, array in self.items() if self.taken and array.size < LARGE}
        return {name: array.astype(np.float32) for name, array in self.items() if name in self.taken | small}


def pack(source: Path | str, out: Path, words: Words) -> Kept:
    """Write the records of a results folder as a pack.

    Raises ValueError where no record can be read, or a word is not fit for a card, and OSError where `out` cannot be
    written.
    """
    with tempfile.TemporaryDirectory() as folder, opened(source) as (results,):
        kept = keep(results, Path(folder))
        write_kept(Path(folder), kept.records, out, words)
    return kept


def write_kept(folder: Path, records: Sequence[Record], out: Path, words: Words) -> None:
    """Write a folder of records as a pack, with the card of what they and their author say."""
    of_study = grouped(records, lambda record: (record.study, record.profile))
    commands = [page.study_command(own) for _, own in sorted(of_study.items())]
    card = Card(
        title=words.title,
        who=words.who,
        what=words.what,
        licence=words.licence,
        hardware=hardware(records),
        command=words.command or " && ".join(commands),
        cryosip=version("cryosip"),
        created=max(record.created for record in records) or "not known",
    )
    write_pack(folder, out, card)


def keep(source: Opened, folder: Path) -> Kept:
    """Write all records that can be read into a folder, in the form of today, whatever their schema was.

    They do not name their hosts, whose names may be nobody else's business: a short name keeps machines apart.
    Arrays are float32, and kept where the page of these records takes them.
    """
    readables, left_out = readable([source])
    watched = {record.path: Watched(record.arrays) for record in readables}
    shown, _ = selected([msgspec.structs.replace(record, arrays=watched[record.path]) for record in readables])
    baselines, unread = measurements.first([source], read_baselines)
    measured, unread_too = measurements.first([source], out_of_core.read_out_of_core)
    page.made(Everything(shown, largest(shown), []))
    records, twins = one_of_each_id([_current(record) for record in readables], "{} is a record of the same run")
    for record in records:
        write(record_path(folder, record.study, record.run_id), record, watched[record.path].kept())
    kept = [measured_file(source.folder) if baselines else None, out_of_core.FILE if measured else None]
    for timings in filter(None, kept):
        (folder / timings).parent.mkdir(exist_ok=True)
        _copy_timings(source.folder / timings, folder / timings)
    lost = sum(bool(record.arrays) and not watched[record.path].taken for record in records)
    return Kept(records, sorted([*left_out, *unread, *unread_too, *twins]), lost)


def _copy_timings(source: Path, target: Path) -> None:
    content = json.loads(source.read_text(encoding="utf-8"))
    if "host" in content["environment"]:
        content["environment"] = without_host(content["environment"])
        write_text(target, json.dumps(content, indent=1))
    else:
        shutil.copy(source, target)


def _current(record: Record) -> Record:
    current = msgspec.structs.replace(record, schema=SCHEMA, environment=without_host(record.environment))
    return msgspec.structs.replace(current, run_id=id_of(current))
