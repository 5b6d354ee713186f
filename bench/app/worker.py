"""How a process of `--jobs` begins; it imports nothing that computes, so that it can still choose a GPU."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.process import BaseProcess

GRACE_SECONDS = 30.0  # for a checkpoint


def begin() -> None:
    """Of signals only those count that come while a run is made; without its parent the process ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Nobody would tell a process to stop whose parent was killed: it writes its checkpoint and leaves."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    end = time.monotonic() + GRACE_SECONDS
    while signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN and time.monotonic() < end:
        time.sleep(0.05)
    os._exit(1)
