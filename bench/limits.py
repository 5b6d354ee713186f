"""What a run may take at most: seconds and memory."""

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

MEASURING_MB = 256.0  # what metrics may take once a program rests: transport plans and floors on several threads


class Limits(NamedTuple):
    """Seconds of building and stepping, and megabytes of the process, or of a device that has memory of its own."""

    seconds: float = math.inf
    memory_mb: float = math.inf


NO_LIMITS = Limits()


def as_json(limits: Limits) -> dict[str, float | None]:
    """As a record has them, null for what has no limit."""
    return {name: value if math.isfinite(value) else None for name, value in limits._asdict().items()}


class TimeUp(BaseException):
    """The seconds that a run may take are over; no Exception, so that no library it rings in takes it for its own."""


@contextmanager
def ending_after(seconds: float) -> Iterator[None]:
    """Raises TimeUp in the block when so many seconds are over, as soon as Python has a say."""

    def ring(*_: Any) -> None:
        raise TimeUp(f"the {seconds:g} s that were allowed are over")

    if math.isinf(seconds):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
