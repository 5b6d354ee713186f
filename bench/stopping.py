"""A process that is told to stop, as by a scheduler that takes its machine away: it writes a checkpoint and leaves."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cryosip.bench import checkpoint

# the second is what batch systems are asked to send before the time is over, the third is Ctrl-C
SIGNALS = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT
STATUS = os.EX_TEMPFAIL  # of the command: the same command goes on from there

_told = threading.Event()


class Stopped(BaseException):
    """The process is to stop; no Exception, so that no run takes it for its own failure."""


def told() -> bool:
    """Whether this process was told to stop, also where a library has swallowed the exception."""
    return _told.is_set()


@contextmanager
def stoppable() -> Iterator[None]:
    """In the block SIGTERM and SIGUSR1 write a checkpoint of what is running, and then raise Stopped.

    SIGINT does so too, and raises KeyboardInterrupt as ever, but where the process ignores it. In a thread other than
    the main one, which gets no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: Any) -> None:
        _told.set()
        checkpoint.flush()
        raise (
            KeyboardInterrupt if number == signal.SIGINT else Stopped(f"told to stop by {signal.Signals(number).name}")
        )

    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    before = {number: signal.signal(number, stop) for number in (SIGNALS[:2] if ignored else SIGNALS)}
    try:
        yield
    finally:
        _told.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
