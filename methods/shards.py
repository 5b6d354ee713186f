"""Files that hold rows of numbers: read by number, with no page of a file left in the memory of this process."""

import mmap
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from typing import Any, NamedTuple

import jax
import numpy as np

CHECKED = 2**22  # numbers that are checked at a time
ADVISED = 64  # runs of rows from which on the system is told of all before the first is read

_AHEAD = ThreadPoolExecutor(1, thread_name_prefix="cryosip-read-ahead")  # starts its thread when it is first used


class Shard(NamedTuple):
    """Rows of a file, one after the other from byte `offset` on, in the type that the file has them in."""

    path: str
    offset: int
    rows: int
    width: int
    dtype: np.dtype

    def read(self, rows: np.ndarray, into: np.ndarray) -> None:
        """Ascending rows, converted.

        Raises OSError, which names the file, where it is gone, cannot be read or ends before the rows do.
        """
        direct = into.dtype == self.dtype and into.flags.c_contiguous
        raw = into if direct else np.empty((len(rows), self.width), self.dtype)
        starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
        stops = np.append(starts[1:], len(rows))
        size = self.width * self.dtype.itemsize
        with open(self.path, "rb", buffering=0) as file:
            places = [(self.offset + int(rows[a]) * size, raw[a:b]) for a, b in zip(starts, stops, strict=True)]
            if len(places) >= ADVISED and hasattr(os, "posix_fadvise"):
                for place, part in places:
                    os.posix_fadvise(file.fileno(), place, part.nbytes, os.POSIX_FADV_WILLNEED)
            for place, part in places:
                self._fill(file, place, part)
        if not direct:
            with np.errstate(over="ignore"):
                into[:] = raw

    def _fill(self, file: FileIO, place: int, part: np.ndarray) -> None:
        view = part.view(np.uint8).reshape(-1).data
        file.seek(place)
        done = 0
        while done < len(view):
            count = file.readinto(view[done:])
            if not count:
                end = self.offset + self.rows * self.width * self.dtype.itemsize
                raise OSError(
                    f"{self.path} ends at byte {place + done}; wanted {end} bytes, {self.rows} rows of {self.width} "
                    f"{self.dtype}, as it had when it was opened"
                )
            done += count


class Reader:
    """Rows of shards in their order, or some of them, as numbers of one type."""

    def __init__(self, shards: Sequence[Shard], dtype: np.dtype, index: np.ndarray | None = None) -> None:
        """Row i is row `index[i]` of all; None for all rows."""
        self.shards, self.dtype, self.index = tuple(shards), dtype, index
        self.width = shards[0].width
        self.starts = np.cumsum([0, *(shard.rows for shard in shards)])
        self._lock = threading.Lock()
        self._next: tuple[int, int, Future] | None = None  # first row, the one after the last, and the rows to be

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.index is None else len(self.index)

    def kept(self, rows: np.ndarray) -> "Reader":
        """A reader of some of the rows."""
        rows = np.arange(len(self))[rows]
        return Reader(self.shards, self.dtype, rows if self.index is None else self.index[rows])

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The rows of an index of any shape, which may repeat; beyond the ends those at the ends.

        Where they are all rows of a range, the range that follows is read ahead, in another thread.
        """
        index = np.clip(index, 0, len(self) - 1)
        low, high = int(index.min()), int(index.max()) + 1
        if high - low > index.size:
            distinct, place = np.unique(index, return_inverse=True)
            return self._numbered(distinct)[place.reshape(index.shape)]
        block, start = self._range(low, high)
        same = index.size == high - low and (np.diff(index.ravel()) == 1).all()
        found = block[low - start : high - start] if same else block[index.ravel() - start]
        return found.reshape(*index.shape, self.width)

    def _range(self, low: int, high: int) -> tuple[np.ndarray, int]:
        """A block that holds these rows, and the row that it begins with."""
        with self._lock:
            known, self._next = self._next, None
        ahead = known is not None and known[0] <= low and high <= known[1]
        block = known[2].result() if known and ahead else self._numbered(np.arange(low, high))
        if high < len(self):
            end = min(high + high - low, len(self))
            with self._lock:
                self._next = high, end, _AHEAD.submit(lambda: self._numbered(np.arange(high, end)))
        return block, known[0] if known and ahead else low

    def _numbered(self, rows: np.ndarray) -> np.ndarray:
        """Rows by their numbers, in their order."""
        found = np.empty((len(rows), self.width), self.dtype)
        numbers = rows if self.index is None else self.index[rows]
        order = None if (np.diff(numbers) > 0).all() else np.argsort(numbers, kind="stable")
        ascending = numbers if order is None else numbers[order]
        cuts = np.searchsorted(ascending, self.starts)
        for shard, start, a, b in zip(self.shards, self.starts, cuts, cuts[1:], strict=False):
            if a < b:
                shard.read(ascending[a:b] - start, found[a:b])
        if order is None:
            return found
        placed = np.empty_like(found)
        placed[order] = found
        return placed


def reader(value: Any) -> Reader | None:
    """A reader of a memory map or of a list of them, whose numbers are finite; None for anything else.

    Raises ValueError, with the number and the file of the shard, for one that is not (n, p) with rows one after the
    other, of another width or kind of numbers than the first, or complex, and for NaN and infinite values.
    """
    many = isinstance(value, list | tuple)
    maps = list(value) if many else [value]
    if not maps or not any(_is_mapped(one) for one in maps):
        return None
    shards = [_shard(f"observations[{i}]" if many else "observations", one) for i, one in enumerate(maps)]
    first = shards[0]
    for i, shard in enumerate(shards):
        if shard.width != first.width:
            raise ValueError(f"observations[{i}] ({shard.path}) has rows of {shard.width}; wanted {first.width}")
        if shard.dtype.kind != first.dtype.kind:
            raise ValueError(
                f"observations[{i}] ({shard.path}) has dtype {shard.dtype}; wanted the kind of {first.dtype}, the first"
            )
    common = np.result_type(*(shard.dtype for shard in shards))
    wide = np.result_type(common, np.float32) if common.kind == "f" else np.float64
    found = Reader(shards, np.dtype(jax.dtypes.canonicalize_dtype(wide)))
    _check_finite(found, many)
    return found


def _is_mapped(value: Any) -> bool:
    """Whether it is a part of a file still: what is computed from a memory map is a `numpy.memmap` by name alone."""
    return isinstance(value, np.memmap) and getattr(value, "_mmap", None) is not None


def _shard(name: str, value: Any) -> Shard:
    if not _is_mapped(value) and np.size(value):
        raise ValueError(f"{name} is a {type(value).__name__}; wanted a memory map, as the other shards are")
    path = os.fspath(getattr(value, "filename", None) or "")
    name = f"{name} ({path})"
    if value.ndim != 2 or 0 in value.shape:
        raise ValueError(f"{name} has shape {value.shape}; wanted (n, p) with n >= 1 and p >= 1")
    if value.dtype.kind not in "iuf":
        raise ValueError(f"{name} has dtype {value.dtype}; wanted real numbers")
    if not path or value.mode == "c" or not value.flags.c_contiguous:
        raise ValueError(
            f"{name} has mode {value.mode!r} and strides {value.strides}; wanted rows one after the other in a file, "
            "as numpy.load(path, mmap_mode='r') has them"
        )
    start = np.frombuffer(value._mmap, np.uint8).__array_interface__["data"][0]
    mapped_from = value.offset - value.offset % mmap.ALLOCATIONGRANULARITY
    offset = mapped_from + value.__array_interface__["data"][0] - start
    rows, width = value.shape
    return Shard(path, offset, rows, width, value.dtype)


def _check_finite(found: Reader, many: bool) -> None:
    step = max(1, CHECKED // found.width)
    for low in range(0, len(found), step):
        finite = np.isfinite(found.rows(np.arange(low, min(low + step, len(found))))).all(1)
        if not finite.all():
            row = low + int(finite.argmin())
            i = int(np.searchsorted(found.starts, row, side="right")) - 1
            name = f"observations[{i}]" if many else "observations"
            raise ValueError(
                f"{name} ({found.shards[i].path}) holds NaN or infinite values in row {row - int(found.starts[i])}; "
                "wanted finite numbers"
            )
