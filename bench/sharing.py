"""What depends on a distribution or a data set alone: computed once for a results folder, and shared by its runs."""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cryosip.bench.sources import engine
from cryosip.records import files

T = TypeVar("T")
Key = tuple[Any, ...]


class Shared:
    """Values by key: of this process, and where there is a folder, of all processes that have it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.values: dict[Key, Any] = {}

    def once(self, key: Key, make: Callable[[], T]) -> T:
        """The value of a key, made if no run of this process has made it."""
        if key not in self.values:
            self.values[key] = make()
        found: T = self.values[key]
        return found

    def numbers(self, key: Key, make: Callable[[], T]) -> T:
        """The same for dictionaries of numbers, which a file keeps too."""
        return self.once(key, lambda: self._filed(key, make, _as_text, json.loads))

    def array(self, key: Key, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The same for an array."""
        return self.once(key, lambda: self._filed(key, make, _as_bytes, _as_array))

    def _filed(self, key: Key, make: Callable[[], T], pack: Callable[[T], bytes], unpack: Callable[[bytes], T]) -> T:
        """From the file of the key; a file that is not whole, or of another engine, is not it."""
        if self.folder is None:
            return make()
        file = self.folder / hashlib.sha256(repr((engine(), *key)).encode()).hexdigest()[:24]
        with contextlib.suppress(OSError, ValueError):
            data = file.read_bytes()
            if hashlib.sha256(data[32:]).digest() == data[:32]:
                return unpack(data[32:])
        value = make()
        data = pack(value)
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_bytes(file, hashlib.sha256(data).digest() + data)
        return value


PROCESS = Shared()  # of runs without a results folder


@cache
def of(results: Path) -> Shared:
    """What the runs of a results folder share."""
    return Shared(results / ".shared")


def _as_text(numbers: Any) -> bytes:
    return json.dumps(numbers).encode()


def _as_bytes(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    return data.getvalue()


def _as_array(data: bytes) -> np.ndarray:
    array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    return array
