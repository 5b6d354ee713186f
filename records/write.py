"""Writes a record with its arrays: results/<study>/<run_id>.json, and .npz beside it."""

import io
import re
from pathlib import Path

import msgspec
import numpy as np

from cryosip.records.files import digest, write_bytes, write_text
from cryosip.records.schema import Record, as_json


def record_path(results: Path, study: str, run_id: str) -> Path:
    """results/<study>/<run_id>.json; ValueError for names that would lead elsewhere."""
    for kind, name in (("study", study), ("run id", run_id)):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+=-]*", name):
            raise ValueError(f"{kind} is {name!r}; wanted a plain name, such as 'paper-1d'")
    return results / study / f"{run_id}.json"


def write(path: Path, record: Record, arrays: dict[str, np.ndarray]) -> None:
    """The arrays first, then the record: a record on disk means that all of the run is there.

    The record holds a hash of the file of its arrays: whoever is killed between the two leaves an older record, and a
    reader sees that the arrays beside it are of another run; "" where there are none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    if arrays:
        np.savez_compressed(data, allow_pickle=False, **arrays)
    text = as_json(msgspec.structs.replace(record, arrays_hash=digest(data.getvalue()) if arrays else ""))
    if arrays:
        write_bytes(path.with_suffix(".npz"), data.getvalue())
    write_text(path, text)
    if not arrays:
        path.with_suffix(".npz").unlink(missing_ok=True)  # of an earlier run
