"""The run store: one record per run, written whole or not at all."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

SCHEMA = 1


@dataclass(frozen=True)
class RunConfig:
    """All that decides a run, as plain values: what a record stores and a run id hashes."""

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


def run_id(config: RunConfig, code_version: str) -> str:
    """Hash of the configuration, the replicate and the code."""
    text = json.dumps({"config": asdict(config), "code": code_version, "schema": SCHEMA}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def record_path(results: Path, config: RunConfig, identity: str) -> Path:
    """results/<study>/<run_id>.json."""
    return results / config.study / f"{identity}.json"


def check_writable(folder: Path) -> None:
    """Makes the folder and a file in it, so that one that cannot be written is known before hours of work."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write(path: Path, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """The arrays first, then the record: a record on disk means that all of the run is there."""
    text = json.dumps(record, indent=1, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    if arrays:
        _write_atomically(
            path.with_suffix(".npz"), lambda file: np.savez_compressed(file, allow_pickle=False, **arrays)
        )
    write_text(path, text)
    if not arrays:
        path.with_suffix(".npz").unlink(missing_ok=True)  # of an earlier run


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
    """A record that this code wrote: its run id has the hash of the code."""
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def _write_atomically(path: Path, write_to: Callable[[IO[bytes]], Any]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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


def _umask() -> int:
    """What the user withholds from others; it can only be asked for by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
