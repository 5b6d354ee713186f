"""Who makes the runs on other machines: the workers of a Dask scheduler, or jobs of SLURM by submitit."""

import asyncio
import importlib
import importlib.metadata
import json
import logging
import math
import os
import shutil
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from cryosip.bench import checkpoint
from cryosip.bench.app import work
from cryosip.bench.app.work import Order, Workers
from cryosip.bench.stopping import Stopped

T = TypeVar("T")
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

ANSWER_SECONDS = 20.0  # that a scheduler may take to answer
TRIES = 5  # to ask all workers
LOOK_SECONDS = 1.0  # between two looks at the jobs of a batch system


def _imported(module: str, option: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{option} needs {module}: pip install 'cryosip[cluster]' ({error})") from error


class Dask(Workers):
    """The workers of a scheduler, each of which makes one run at a time; where some have a GPU (GPU=1), these alone.

    What a worker is at when the command ends goes on to its record.
    """

    capacity = math.inf
    after_stop = "workers finish the runs that they are at; the same command goes on from there"

    def __init__(self, where: str) -> None:
        """Raises OSError for a scheduler that does not answer."""
        distributed = _imported("distributed", "--scheduler")
        for logger in ("distributed", "distributed.client"):  # we tell it ourselves
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self.where, self.plugin = where, _imported("cryosip.bench.app.dask_worker", "--scheduler").Leaving()
        try:  # before there is a client, which would try for longer, and again when it is closed
            address = _address(Path(where)) if where.endswith(".json") or Path(where).exists() else where
            asyncio.run(_answer(address))
        except Exception as error:  # another server may answer anything
            why = str(error) or "silence"
            raise OSError(f"no scheduler has answered at {where} within {ANSWER_SECONDS:g} s: {why}") from error
        self.client = distributed.Client(address, timeout=ANSWER_SECONDS, set_as_default=False)

    def workers(self) -> dict[str, Any]:
        """What the scheduler knows of each, by address."""
        found: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return found

    def count(self) -> int:
        """Workers at present."""
        return max(1, len(self.workers()))

    def prepare(self, order: Order) -> Order:
        """Raises ValueError with the names of workers that have another version, another folder or several threads."""
        workers = self.workers()
        if not workers:
            warnings.warn(f"the scheduler {self.where} has no workers yet: waiting for some", stacklevel=2)
        many = [name for name, worker in workers.items() if worker["nthreads"] > 1]
        if many:
            raise ValueError(f"{', '.join(many)} has several threads; wanted workers of one: dask worker --nthreads 1")
        versions = self.client.run(importlib.metadata.version, "cryosip", on_error="return")
        refused = {name: "has no cryosip" for name, found in versions.items() if isinstance(found, ImportError)}
        if not refused:  # a worker that dies meanwhile answers with an OSError, and is not refused
            answers = self.client.run(work.prepare, order, on_error="return")
            unfit = {name: error for name, error in answers.items() if isinstance(error, ImportError | ValueError)}
            refused = {name: f"has cryosip {versions.get(name)}: {error}" for name, error in unfit.items()}
        if refused:
            raise ValueError("; ".join(f"{name} {why}; wanted {order.version}" for name, why in refused.items()))
        _patiently(lambda: self.client.register_plugin(self.plugin))
        on_one_host = max(Counter(worker["host"] for worker in workers.values()).values(), default=1)
        return order._replace(settings=order.settings._replace(jobs=on_one_host))

    def submit(self, f: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        """f on one of the workers. BrokenExecutor where those that were tried have died."""
        gpus = any(worker["resources"].get("GPU") for worker in self.workers().values())
        remote = self.client.submit(f, *args, **named, pure=False, resources={"GPU": 1} if gpus else None)
        future: Future[T] = Future()
        remote.add_done_callback(lambda _: _hand_over(remote, future))
        return future

    def __exit__(self, kind: Any, _error: Any, _traceback: Any) -> None:
        if kind is None:  # else workers are at runs still, and are to write checkpoints where they are closed
            with suppress(Exception):  # one may have died
                _patiently(lambda: self.client.unregister_worker_plugin(self.plugin.name))
        self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the scheduler."""
        self.client.close()


def _patiently(ask: Callable[[], Any]) -> None:
    """Asks all workers, of which one may die meanwhile: then once more."""
    for _ in range(TRIES - 1):
        with suppress(OSError):
            ask()
            return
    ask()


def _address(file: Path) -> str:
    """From the file of a scheduler, which may come a little later where that has just been started."""
    late = time.monotonic() + ANSWER_SECONDS
    while not file.exists():
        if time.monotonic() > late:
            raise FileNotFoundError("there is no such file")
        time.sleep(0.2)
    return str(json.loads(file.read_text())["address"])


async def _answer(address: str) -> None:
    """Waits for the first words of a scheduler."""
    distributed = importlib.import_module("distributed")
    security = distributed.Security().get_connection_args("client")
    connecting = distributed.comm.connect(address, timeout=ANSWER_SECONDS, **security)
    comm = await asyncio.wait_for(connecting, ANSWER_SECONDS)
    await comm.close()


def _hand_over(remote: Any, future: Future[Any]) -> None:
    """The result of a task, or its exception; where the scheduler gave it up, for its workers have died, ours."""
    error = remote.exception() if remote.status == "error" else None
    if remote.status in ("cancelled", "lost") or type(error).__name__ == "KilledWorker":
        future.set_exception(BrokenExecutor("its workers have died"))
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(remote.result())


class Slurm(Workers):
    """Jobs of SLURM by submitit, one for each run, in arrays; of this machine with cluster=local.

    Jobs go on when the command ends, and write their records.
    """

    outlasting = True
    after_stop = "its jobs go on by themselves; the same command finds their records"

    def __init__(self, text: str, folder: Path) -> None:
        """Raises ValueError for options that are none, and where there is no SLURM."""
        submitit = _imported("submitit", "--slurm")
        given = _options(text)
        cluster = given.pop("cluster", "slurm")
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise ValueError("--slurm finds no sbatch here; wanted a machine that submits to SLURM, or cluster=local")
        self.capacity = math.inf if cluster == "slurm" else len(os.sched_getaffinity(0))
        try:
            self.jobs = submitit.AutoExecutor(folder, cluster=cluster)
            shared = self.jobs._typed_parameters()
            self.jobs.update_parameters(**{k if k in shared else f"slurm_{k}": v for k, v in given.items()})
        except (NameError, AssertionError, ValueError, TypeError) as error:
            raise ValueError(f"--slurm {text}: {str(error).splitlines()[0]}") from error
        self._calls: list[tuple[Call, Future[Any]]] = []
        self._running: list[tuple[Any, Future[Any]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def submit(self, f: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        """f in a job. BrokenExecutor where it ends before f does."""
        future: Future[T] = Future()
        self._calls.append(((f, args, named), future))
        return future

    def _watch(self) -> None:
        """Submits what was given since the last look as one array, and hands over what has ended."""
        while not self._over.wait(LOOK_SECONDS):
            new, self._calls = self._calls, []
            if new:
                self._submit(new)
            ended = [pair for pair in self._running if pair[0].done()]
            self._running = [pair for pair in self._running if pair not in ended]
            for job, future in ended:
                _tell(job, future)

    def _submit(self, calls: list[tuple[Call, Future[Any]]]) -> None:
        try:
            with self.jobs.batch():
                self._running += [(self.jobs.submit(Job(call)), future) for call, future in calls]
        except Exception as error:  # sbatch refuses: whoever waits is told
            for _, future in calls:
                future.set_exception(OSError(f"jobs cannot be submitted: {error}"))

    def count(self) -> int:
        """Jobs that run at present."""
        return max(1, sum(job.state == "RUNNING" for job, _ in self._running))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Looks at the jobs no longer."""
        self._over.set()
        self._thread.join()


def _tell(job: Any, future: Future[Any]) -> None:
    try:
        result, error = job.result()
    except Exception as failure:  # killed, or it ended in its own way
        future.set_exception(BrokenExecutor(f"job {job.job_id}: {str(failure).splitlines()[0]}"))
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class Job:
    """A call as a job of submitit, which tells it before its time is over, and queues it again."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __call__(self) -> tuple[Any, BaseException | None]:
        """The result, or the exception: submitit would make text of it."""
        f, args, named = self.call
        try:
            return f(*args, **named), None
        except (Exception, Stopped) as error:
            return None, error

    def checkpoint(self) -> Any:
        """Writes what the run has; what is queued again goes on from there."""
        checkpoint.flush()
        return _imported("submitit", "--slurm").helpers.DelayedSubmission(self)


def _options(text: str) -> dict[str, str | int]:
    """partition=gpu,gpus_per_node=1,time=60; ValueError for what is not so."""
    options: dict[str, str | int] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not (name and equals and value):
            raise ValueError(f"--slurm has {part!r}; wanted OPTION=VALUE, such as partition=gpu,time=60")
        options[name] = int(value) if value.isdigit() else value
    return options
