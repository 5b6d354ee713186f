"""The suite's own report: a page with the records behind it, small enough to be committed."""

import io
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cryosip.records.pack import unpack as unpack_records
from cryosip.records.sources import opened
from cryosip.reports import page
from cryosip.reports.packing import Words, keep, write_kept

REPORT, RECORDS = "report.tar.xz", "records.tar.zst"
SHOWN = ("*.csv", "figures/fig1a.svg")  # beside the archives, for who browses the repository
TITLE, WHO, LICENCE = "published", "The cryosip developers", "MIT"
WHAT = "All studies of cryosip on all of its problems, made by its developers."


def publish(results: Path, out: Path, command: str) -> Path:
    """Write the report and its records as archives into a folder; arrays only of records that a figure draws them of.

    Raises RuntimeError where the page of what is kept is not the page of all records.
    """
    with tempfile.TemporaryDirectory() as folder, opened(results) as (source,):
        whole, kept = (Path(folder) / name for name in ("whole", "kept"))
        page.build(results, whole, command)
        records = keep(source, kept).records
        page.build(kept, Path(folder) / "again", command)
        for file in sorted(whole.rglob("*.*")):
            if file.read_bytes() != (Path(folder) / "again" / file.relative_to(whole)).read_bytes():
                raise RuntimeError(f"{file.relative_to(whole)} needs arrays or names files that were not kept")
        out.mkdir(parents=True, exist_ok=True)
        for file in (file for pattern in SHOWN for file in whole.glob(pattern)):
            shutil.copy(file, out)
        _archive([whole / "index.html", *whole.glob("*.csv")], whole, out / REPORT)
        write_kept(kept, records, out / RECORDS, Words(TITLE, WHO, WHAT, LICENCE, command))
    return out / REPORT


def unpack(published: Path, folder: Path) -> str:
    """The published report and its records into folder/report and folder/results; returns what made the records."""
    with tarfile.open(published / REPORT) as archive:
        archive.extractall(folder / "report", filter="data")
    (folder / "results").mkdir()
    return unpack_records(published / RECORDS, folder / "results")[0].command


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
