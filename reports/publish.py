"""The suite's own report: a page with the records behind it, small enough to be committed."""

import io
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from cryosip.records.schema import SCHEMA, Array, id_of
from cryosip.records.select import largest, read_records
from cryosip.records.write import record_path, write
from cryosip.reports import page
from cryosip.reports.section import Everything
from cryosip.reports.sections.baselines import measured_file

REPORT, RECORDS, COMMAND = "report.tar.xz", "records.tar.xz", "command.txt"
LARGE = 50_000  # numbers of an array
SHOWN = ("*.csv", "figures/fig1a.svg")  # beside the archives, for who browses the repository


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


def publish(results: Path, out: Path, command: str) -> Path:
    """Write the report and its records as archives into a folder; arrays only of records that a figure draws them of.

    Raises RuntimeError where the page of what is kept is not the page of all records.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, kept = (Path(folder) / name for name in ("whole", "kept"))
        page.build(results, whole, command)
        _keep(results, kept)
        page.build(kept, Path(folder) / "again", command)
        for file in sorted(whole.rglob("*.*")):
            if file.read_bytes() != (Path(folder) / "again" / file.relative_to(whole)).read_bytes():
                raise RuntimeError(f"{file.relative_to(whole)} needs arrays or names files that were not kept")
        out.mkdir(parents=True, exist_ok=True)
        for file in (file for pattern in SHOWN for file in whole.glob(pattern)):
            shutil.copy(file, out)
        _archive([whole / "index.html", *whole.glob("*.csv")], whole, out / REPORT)
        _archive(kept.rglob("*.*"), kept, out / RECORDS)
        (out / COMMAND).write_text(f"{command}\n")
    return out / REPORT


def unpack(published: Path, folder: Path) -> str:
    """The published report and its records into folder/report and folder/results; returns what made the records."""
    for name, target in ((REPORT, "report"), (RECORDS, "results")):
        with tarfile.open(published / name) as archive:
            archive.extractall(folder / target, filter="data")
    return (published / COMMAND).read_text().strip()


def _keep(results: Path, kept: Path) -> None:
    """The records in the form of today, whatever their schema was."""
    watched = [(record, Watched(record.arrays)) for record in read_records(results)[0]]
    records = [msgspec.structs.replace(record, arrays=arrays) for record, arrays in watched]
    page.made(Everything(records, largest(records), []))
    for record, arrays in watched:
        current = msgspec.structs.replace(record, schema=SCHEMA)
        current = msgspec.structs.replace(current, run_id=id_of(current))
        write(record_path(kept, current.study, current.run_id), current, arrays.kept())
    if timings := measured_file(results):
        (kept / timings).parent.mkdir(exist_ok=True)
        shutil.copy(results / timings, kept / timings)


def _archive(paths: Iterable[Path], folder: Path, file: Path) -> None:
    """Without times and owners: the same records give the same bytes."""
    with tarfile.open(file, "w:xz") as archive:
        for path in sorted(paths):
            data = path.read_bytes()
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python -m cryosip.reports.publish RESULTS OUT COMMAND")
    print(publish(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
