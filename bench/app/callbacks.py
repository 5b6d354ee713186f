"""What is called while runs go on, so that somebody can see them."""

from collections.abc import Callable
from typing import NamedTuple

from cryosip.bench.runner import Snapshot
from cryosip.records.schema import Record, RunConfig


class Callbacks(NamedTuple):
    """Called at the start, at each evaluation and at the end of a run; while others run; with the list of all runs."""

    start: Callable[[int, int, RunConfig], None]
    snapshot: Callable[[Snapshot], None]
    finish: Callable[[Record], None]
    wait: Callable[[int], None] = lambda _runs: None
    plan: Callable[[list[tuple[int, RunConfig]]], None] = lambda _pending: None
