"""Which process makes which run, on file systems without locks: files that their owner touches for as long as it lives.

The owner of a run is who created the file of the highest number, which only one process can. Whoever sees that file
unchanged for long, or its process dead, creates the next.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

BEAT_SECONDS = 10.0
SILENT_SECONDS = 120.0  # by the clock of who looks: those of two hosts may differ
POLL_SECONDS = 0.5
MARK = ".lease-"

_changes: dict[Path, tuple[int, float]] = {}  # of the files of others: when they were touched last, and seen so first


class Process(NamedTuple):
    """A process among those of all hosts; `since` tells it from a later one of the same number."""

    host: str
    system: str
    pid: int
    since: str


@contextmanager
def lease(record: Path, wait: bool) -> Iterator[Callable[[], bool] | None]:
    """Whether the run is still this process's while the block lasts; None at once where it is another's.

    With `wait` once no other process has it. A host that was asleep for long may find that another has taken its run.
    """
    file = _taken(record, wait)
    if file is None:
        yield None
        return
    over = threading.Event()
    beat = threading.Thread(target=_touch, args=(file, over), daemon=True)
    beat.start()
    try:
        yield lambda: _files(record)[-1:] == [file]
    finally:
        over.set()
        beat.join()
        if _files(record)[-1:] == [file]:  # the highest goes last
            for old in _files(record):
                old.unlink(missing_ok=True)


def _taken(record: Path, wait: bool) -> Path | None:
    while True:
        files = _files(record)
        if not files or _is_over(files[-1]):
            number = int(files[-1].name.rpartition(MARK)[2]) + 1 if files else 0
            file = record.with_name(f".{record.stem}{MARK}{number:06d}")
            with suppress(FileExistsError):  # another process was faster
                _create(file)
                return file
        if not wait:
            return None
        time.sleep(POLL_SECONDS)


def _files(record: Path) -> list[Path]:
    return sorted(record.parent.glob(f".{record.stem}{MARK}*"))


def _create(file: Path) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(handle, "w") as opened:
        opened.write(json.dumps(_process(os.getpid())))


def _touch(file: Path, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        with suppress(OSError):  # it is gone, or the file system is for a while
            os.utime(file)


def _is_over(file: Path) -> bool:
    """Whether its owner is a process of this host that is dead, or was silent for as long as this process looks."""
    try:
        touched = file.stat().st_mtime_ns
        owner = Process(*json.loads(file.read_text()))
    except FileNotFoundError:
        return False  # its owner is done: look again
    except (ValueError, TypeError):
        owner = None  # it is being written
    here = _process(os.getpid())
    if owner is not None and (owner.host, owner.system) == (here.host, here.system):
        return _process(owner.pid) != owner
    seen, since = _changes.get(file, (None, 0.0))
    if seen != touched:
        _changes[file] = touched, time.monotonic()
        return False
    return time.monotonic() - since > SILENT_SECONDS


def _process(pid: int) -> Process:
    """Of this host; `system` differs where numbers of processes mean others: after a start, or in a container."""
    boot = _read("/proc/sys/kernel/random/boot_id")
    with suppress(OSError):
        boot += str(os.stat("/proc/self/ns/pid").st_ino)
    return Process(socket.gethostname(), boot, pid, _started(pid))


def _started(pid: int) -> str:
    """When a process of this host began, in any unit; "" for one that is not, or has ended and is not yet buried."""
    if Path("/proc/self/stat").exists():
        state, *fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split() or ["Z"]
        return "" if state == "Z" else fields[18]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text().strip()
    return ""
