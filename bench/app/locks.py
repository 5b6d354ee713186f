"""Which process makes which run: a lock of the kernel's, which ends with its process, killed or not, or a lease."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryosip.bench import leases

# what file systems without locks answer, such as Lustre as it is often mounted, and some of NFS
WITHOUT_LOCKS = errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP
STALE_SECONDS = 7 * 24 * 3600.0  # that what a killed process left is kept for, should its code come back


def checkpoint_path(record: Path) -> Path:
    """results/<study>/.<run_id>.checkpoint.npz."""
    return record.with_name(f".{record.stem}.checkpoint.npz")


@contextmanager
def lock(record: Path, wait: bool = False) -> Iterator[Callable[[], bool] | None]:
    """Whether the record is this process's to make, while the block lasts; None where another process has it.

    With `wait` once no other process has it.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    file = record.with_name(f".{record.stem}.lock")
    try:
        handle = _locked(file, wait)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        file.unlink(missing_ok=True)
        with leases.lease(record, wait) as held:
            yield held
        return
    if handle is None:
        yield None
        return
    try:
        yield lambda: True
    finally:
        file.unlink(missing_ok=True)  # while it is locked: who waits for it sees that it is gone
        os.close(handle)


def _locked(file: Path, wait: bool) -> int | None:
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):  # its owner has removed it meanwhile
                if os.path.samestat(os.fstat(handle), file.stat()):
                    return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def attempts_path(record: Path) -> Path:
    """results/<study>/.<run_id>.attempts."""
    return record.with_name(f".{record.stem}.attempts")


def remove_stale_files(record: Path) -> None:
    """Removes the checkpoint of a run that is over, and what processes that were killed while writing left of it."""
    for path in record.parent.glob(f".{record.stem}.*"):
        if path.suffix != ".lock" and leases.MARK not in path.name:  # which go last, with what they stand for
            path.unlink(missing_ok=True)


def sweep(folder: Path, over: set[str]) -> None:
    """Removes what killed processes left of the runs that are over, or left a week ago, if no process is at them.

    Until then what other code or other settings left may be taken up by them.
    """
    oldest = time.time() - STALE_SECONDS
    ages: dict[str, float] = {}
    for path in folder.glob(".*.*"):
        stem = path.name.split(".")[1]
        with suppress(FileNotFoundError):
            ages[stem] = max(ages.get(stem, 0.0), path.stat().st_mtime)
    for stem, touched in ages.items():
        if touched < oldest or stem in over:
            record = folder / f"{stem}.json"
            with lock(record) as free:
                if free:
                    remove_stale_files(record)
