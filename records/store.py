"""The run store: one record per run, written whole or not at all."""

import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

SCHEMA = 2


@dataclass(frozen=True)
class RunConfig:
    """A run as plain values: what a record stores, and a run id hashes with what decides the result."""

    study: str
    setting: str
    problem: str
    problem_options: dict[str, Any]
    method: str
    method_options: dict[str, Any]
    steps: int
    every: int
    replicate: int
    stop_below: dict[str, float] | None = None
    growth: float = 1.0  # of the steps between looks
    stop_after_seconds: float | None = None
    budgets: dict[str, list[float]] | None = None  # seconds and forward calls at which the run is compared with others


class OtherSchema(ValueError):
    """A record that another version of cryosip wrote."""


def record_path(results: Path, config: RunConfig, run_id: str) -> Path:
    """results/<study>/<run_id>.json; ValueError for names that would lead elsewhere."""
    for kind, name in (("study", config.study), ("run id", run_id)):
        if not re.fullmatch(r"[A-Za-z0-9][\w.+=-]*", name):
            raise ValueError(f"{kind} is {name!r}; wanted a plain name, such as 'paper-1d'")
    return results / config.study / f"{run_id}.json"


def check_writable(folder: Path) -> int:
    """Makes the folder and a file in it, so that one that cannot be written is known before hours of work.

    Returns the time of that file in nanoseconds, by the clock of whatever the folder is on.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        raise OSError(error.errno, f"cannot write into {folder}: {error.strerror or error}") from error


def write(path: Path, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """The arrays first, then the record: a record on disk means that all of the run is there.

    The record holds a hash of the file of its arrays: whoever is killed between the two leaves an older record, and a
    reader sees that the arrays beside it are of another run; "" where there are none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    if arrays:
        np.savez_compressed(data, allow_pickle=False, **arrays)
    text = json.dumps(record | {"arrays_hash": _hash(data.getvalue()) if arrays else ""}, indent=1, allow_nan=False)
    if arrays:
        write_bytes(path.with_suffix(".npz"), data.getvalue())
    write_text(path, text)
    if not arrays:
        path.with_suffix(".npz").unlink(missing_ok=True)  # of an earlier run


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """All of the arrays or nothing, not compressed."""
    _write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def write_text(path: Path, text: str) -> None:
    """All of the text or nothing."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """All of the bytes or nothing, through a link. Raises OSError for what exists and is no file, such as a device."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(f"{path} exists and is not a file")
    _write_atomically(path, lambda file: file.write(data))


def read(path: Path) -> dict[str, Any]:
    """A record that this code wrote: its run id has the hash of what decides its result.

    Raises OtherSchema for one of another schema, and ValueError for what is no whole record of that id with its arrays.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not complete JSON in UTF-8: {error}") from None
    if not isinstance(record, dict) or "schema" not in record:
        raise ValueError(f"{path} is not a cryosip record: it has no schema")
    if record["schema"] != SCHEMA:
        raise OtherSchema(f"{path} has schema {record['schema']!r}: this version of cryosip writes schema {SCHEMA}")
    if record.get("run_id") != path.stem or not all(isinstance(record.get(k), str) for k in ("status", "message")):
        raise ValueError(f"{path} is not the record of run {path.stem}")
    arrays = path.with_suffix(".npz")
    if record.get("arrays_hash") != (_hash(arrays.read_bytes()) if arrays.exists() else ""):
        raise ValueError(f"{path} has not the arrays that it was written with")
    return record


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _write_atomically(path: Path, write_to: Callable[[IO[bytes]], Any]) -> None:
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name.lstrip('.')}.")
        try:
            with os.fdopen(handle, "wb") as file:
                write_to(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}") from error


def _umask() -> int:
    """What the user withholds from others; it can only be asked for by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
