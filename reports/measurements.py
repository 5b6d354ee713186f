"""The files that `cryosip speed` writes, which are no records: each is read whole, or told with the reason."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from cryosip.records.select import Skipped
from cryosip.records.sources import Opened

T = TypeVar("T")


def read(results: Path, file: Path | None, parse: Callable[[Any], T], what: str) -> tuple[T | None, list[Skipped]]:
    """What a file of the results holds, None where there is none; and the file if it cannot be read, with the reason.

    Parameters
    ----------
    results
        The folder.
    file
        In it; None where there is none.
    parse
        Takes what its JSON says to what it means.
    what
        It should be, for the reason.
    """
    if file is None or not (results / file).exists():
        return None, []
    try:
        return parse(json.loads((results / file).read_text(encoding="utf-8"))), []
    except (ValueError, TypeError, AttributeError, KeyError, OSError, RecursionError) as error:
        return None, [(file, f"not a measurement {what}: {type(error).__name__}: {error}")]


def first(
    sources: Iterable[Opened], read_one: Callable[[Path], tuple[T | None, list[Skipped]]]
) -> tuple[T | None, list[Skipped]]:
    """That of the first source that has any; and the files of all that cannot be read."""
    found = [(source.root, *read_one(source.folder)) for source in sources]
    unread = [(root / file, reason) for root, _, skipped in found for file, reason in skipped]
    return next((one for _, one, _ in found if one), None), unread
