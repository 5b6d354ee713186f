"""What is called while runs go on, so that somebody can see them."""

from collections.abc import Callable
from typing import NamedTuple

from cryosip.bench.runner import Snapshot
from cryosip.records.schema import Record, RunConfig


class Place(NamedTuple):
    """A run among all that were asked for."""

    position: int
    total: int
    config: RunConfig


class Finished(NamedTuple):
    """A run that is over, and the seconds from its start to its record."""

    place: Place
    record: Record
    seconds: float


class Callbacks(NamedTuple):
    """Called at the start and at each evaluation of a run of this process; at the end of a run of any process of the
    command, and where its process died; while others run; for a run that others have made; with the list of all runs.
    """

    start: Callable[[Place], None]
    snapshot: Callable[[Snapshot], None]
    finish: Callable[[Finished], None]
    wait: Callable[[int], None] = lambda _runs: None
    skip: Callable[[Place], None] = lambda _place: None
    died: Callable[[Place, str], None] = lambda _place, _why: None
    plan: Callable[[list[Place]], None] = lambda _pending: None


SILENT = Callbacks(lambda _place: None, lambda _snapshot: None, lambda _finished: None)
