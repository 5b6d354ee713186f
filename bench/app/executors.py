"""Who makes the runs on this machine: this process, or several, each with cores and a GPU of its own."""

import multiprocessing
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from types import TracebackType
from typing import Any, TypeVar

from cryosip.bench.app import worker
from cryosip.bench.app.callbacks import Callbacks
from cryosip.bench.app.work import Order, Workers

PINS = hasattr(os, "sched_setaffinity")
_STARTING = threading.Lock()  # processes inherit variables of the environment, which are those of all threads
T = TypeVar("T")


class Here(Workers):
    """This process: what is submitted is done at once, and watched."""

    def __init__(self, callbacks: Callbacks) -> None:
        self.callbacks = callbacks

    def submit(self, f: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        """f, told who watches. Of its exceptions, those that are to end the process do."""
        future: Future[T] = Future()
        try:
            future.set_result(f(*args, callbacks=self.callbacks, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class Processes(Workers):
    """Processes of this machine. One that dies takes no run of another along: the pool of each has one process."""

    def __init__(self, n: int, gpus: list[str]) -> None:
        """Raises ValueError for more processes than GPUs, where there are any."""
        if gpus and n > len(gpus):
            raise ValueError(f"--jobs is {n}, and there are {len(gpus)} GPUs ({', '.join(gpus)}); wanted one for each")
        self.capacity = n
        self._threads = ThreadPoolExecutor(n)
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        self._slots = [_Slot(cores()[i::n], gpus[i] if gpus else None) for i in range(n)]
        for slot in self._slots:
            self._free.put(slot)

    def prepare(self, order: Order) -> Order:
        """Records say how many processes shared the machine."""
        return order._replace(settings=order.settings._replace(jobs=int(self.capacity)))

    def submit(self, f: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        """f in one of the processes. BrokenExecutor where it ends before f does."""
        return self._threads.submit(self._call, f, args, named)

    def _call(self, f: Callable[..., T], args: tuple[Any, ...], named: dict[str, Any]) -> T:
        slot = self._free.get()
        try:
            return slot.call(f, args, named)
        finally:
            self._free.put(slot)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the processes, whatever they are at."""
        for slot in self._slots:
            slot.end()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(self, kind: type[BaseException] | None, _error: Any, _traceback: TracebackType | None) -> None:
        if kind is not None:
            self._stop()
        self.shutdown(cancel_futures=True)

    def _stop(self) -> None:
        """Tells all processes to write their checkpoints and leave, and waits until they have."""
        end = time.monotonic() + worker.GRACE_SECONDS
        for slot in self._slots:
            slot.tell()
        while self._free.qsize() < len(self._slots) and time.monotonic() < end:
            time.sleep(0.05)


class _Slot:
    """A place for one process, which begins with the first run, and anew after one that has ended it."""

    def __init__(self, cores: list[int], gpu: str | None) -> None:
        self.cores, self.gpu = cores, gpu
        self.pool: ProcessPoolExecutor | None = None
        self.pid: int | None = None
        self.busy = self.closed = False

    def call(self, f: Callable[..., T], args: tuple[Any, ...], named: dict[str, Any]) -> T:
        if self.closed:
            raise BrokenExecutor("the command ends")
        self.busy = True
        try:
            if self.pool is None:
                self.pool, self.pid = self._started()
            return self.pool.submit(f, *args, **named).result()
        except BrokenExecutor as error:
            self.pool = self.pid = None
            raise BrokenExecutor("its process has died") from error
        finally:
            self.busy = False

    def _started(self) -> tuple[ProcessPoolExecutor, int]:
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), worker.begin)
        with _STARTING, _on(self.cores), _with_gpu(self.gpu):
            first = pool.submit(os.getpid)
        return pool, first.result()

    def tell(self) -> None:
        self.closed = True
        self._send(signal.SIGTERM)

    def end(self) -> None:
        self.closed = True
        if self.busy:
            self._send(signal.SIGKILL)
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def _send(self, number: int) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if PINS else list(range(os.cpu_count() or 1))


def gpus() -> list[str]:
    """The GPUs that JAX would use here, without asking JAX, which would take most of their memory."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    plugin = any(find_spec(f"jax_cuda{n}_plugin") for n in (12, 13))
    if not plugin or (platforms and not {"cuda", "gpu"} & set(platforms.split(","))):
        return []
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


@contextmanager
def _on(some: list[int]) -> Iterator[None]:
    """What this thread starts is pinned to some cores; libraries take as many threads."""
    if not PINS:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, some)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _with_gpu(gpu: str | None) -> Iterator[None]:
    """What is started sees this GPU alone."""
    if gpu is None:
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        yield
    finally:
        del os.environ["CUDA_VISIBLE_DEVICES"]
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
