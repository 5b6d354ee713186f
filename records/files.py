"""Files that are written whole or not at all."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np


def check_writable(folder: Path) -> int:
    """Makes the folder and a file in it, so that one that cannot be written is known before hours of work.

    Returns the time of that file in nanoseconds, by the clock of whatever the folder is on.
    """
    try:
        if folder.is_file():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file, and no folder; a pack is only read")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        raise OSError(error.errno, f"cannot write into {folder}: {error.strerror or error}") from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """All of the arrays or nothing, not compressed."""
    _write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def write_text(path: Path, text: str) -> None:
    """All of the text or nothing."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """All of the bytes or nothing, through a link. Raises OSError for what exists and is no file, such as a device."""
    write_through(path, lambda file: file.write(data))


def write_through(path: Path, write_to: Callable[[IO[bytes]], Any]) -> None:
    """All that a function writes or nothing, as `write_bytes` does."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(f"{path} exists and is not a file")
    _write_atomically(path, write_to)


def digest(data: bytes) -> str:
    """Of the content of a file."""
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
