"""What a run may take at most: seconds and memory."""

import ctypes
import math
import signal
import threading
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
    if math.isinf(seconds):
        yield
        return
    ringing = _signalled if threading.current_thread() is threading.main_thread() else _raised_in_this_thread
    try:
        with ringing(seconds):
            yield
    except TimeUp as error:
        raise TimeUp(f"the {seconds:g} s that were allowed are over") from error


@contextmanager
def _signalled(seconds: float) -> Iterator[None]:
    """By a signal, which also ends a call of the system that waits; the main thread alone gets them."""

    def ring(*_: Any) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _raised_in_this_thread(seconds: float) -> Iterator[None]:
    """By an exception that another thread sets in this one."""
    thread, over, lock = ctypes.c_ulong(threading.get_ident()), False, threading.Lock()

    def ring() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TimeUp))

    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)  # set, but not raised yet
