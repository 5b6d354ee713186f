"""Joining a run of several processes, on one host or on several."""

import json
import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax

PATIENCE = 25.0  # seconds until all processes have met: no process waits for half a minute
ANSWER = 2.0  # more that another process waits for the answer: process 0 may have begun later
PAUSE = 0.1  # seconds between two attempts to reach process 0
# the ports of jobs, as JAX itself gives them out
FIRST_PORT, N_PORTS = 61440, 4096
LOCAL = ("localhost", "127.0.0.1")


class Place(NamedTuple):
    """A process in a run: where process 0 listens, how many there are, and which of them this is."""

    coordinator: str
    n_processes: int
    process: int


def join(coordinator: str | None = None, n_processes: int | None = None, process: int | None = None) -> int:
    """Makes this process one of a run of several, before it uses JAX for anything else.

    What is None is taken from Slurm or Open MPI. Afterwards `jax.devices()` are those of all processes, and `run` and
    the methods are to be called alike in each. Each process takes all devices that it sees: start one on each host, or
    let the scheduler show each its own.

    Parameters
    ----------
    coordinator
        HOST:PORT of process 0, a port that is free there. Under Slurm, and Open MPI before 5, it can be None.
    n_processes
        How many processes the run has; 1 leaves this process as it is.
    process
        Which of them this is, from 0.

    Returns
    -------
    int
        `process`. That with the number 0 writes and prints; the others only compute.

    Raises
    ------
    ValueError
        An argument is missing or wrong, the processes do not say the same, or have not equally many devices.
    TimeoutError
        Not all processes have met within 25 seconds: the message says where this one has tried, and who was missing.
    """
    place = _checked(coordinator, n_processes, process)
    if place.n_processes == 1:
        return 0
    _meet(place)
    jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM, and the process go on
    # programs that overlap could exchange in another order in each process, and gloo takes what comes first
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if "JAX_CPU_COLLECTIVES_IMPLEMENTATION" not in os.environ:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    host, port = _address(place.coordinator)
    jax.distributed.initialize(
        place.coordinator,
        place.n_processes,
        place.process,
        cluster_detection_method="deactivate",  # it would take one device of each host away from us
        coordinator_bind_address=f"{host}:{port}" if host in LOCAL else None,
        initialization_timeout=int(PATIENCE),
    )
    if jax.device_count() != place.n_processes * jax.local_device_count():
        raise ValueError(
            f"process {place.process} has {jax.local_device_count()} of {jax.device_count()} devices; wanted equally "
            f"many in each of the {place.n_processes} processes"
        )
    return place.process


def detected(environment: Mapping[str, str]) -> dict[str, Any]:
    """What Slurm or Open MPI say of this process, by the names of `join`."""
    if "SLURM_STEP_NODELIST" in environment:
        first = re.sub(r"\[(\w+).*", r"\1", environment["SLURM_STEP_NODELIST"].split(",")[0])
        port = FIRST_PORT + int(environment["SLURM_JOB_ID"]) % N_PORTS
        return {
            "coordinator": f"{first}:{port}",
            "n_processes": int(environment["SLURM_NTASKS"]),
            "process": int(environment["SLURM_PROCID"]),
        }
    if "OMPI_COMM_WORLD_RANK" in environment:
        place: dict[str, Any] = {
            "n_processes": int(environment["OMPI_COMM_WORLD_SIZE"]),
            "process": int(environment["OMPI_COMM_WORLD_RANK"]),
        }
        launcher = re.match(r"(\d+)\.\d+;tcp://([\d.]+)", environment.get("OMPI_MCA_orte_hnp_uri", ""))
        if launcher:
            place["coordinator"] = f"{launcher[2]}:{FIRST_PORT + int(launcher[1]) // 2**12 % N_PORTS}"
        return place
    return {}


def _checked(coordinator: str | None, n_processes: int | None, process: int | None) -> Place:
    given = {"coordinator": coordinator, "n_processes": n_processes, "process": process}
    found = detected(os.environ) | {name: value for name, value in given.items() if value is not None}
    if missing := [name for name in given if name not in found]:
        raise ValueError(f"{', '.join(missing)} is None, and neither Slurm nor Open MPI says it; wanted a value")
    place = Place(**found)
    if not isinstance(place.n_processes, int) or place.n_processes < 1:
        raise ValueError(f"n_processes is {place.n_processes!r}; wanted a whole number >= 1")
    if not isinstance(place.process, int) or not 0 <= place.process < place.n_processes:
        raise ValueError(f"process is {place.process!r}; wanted a whole number from 0 to {place.n_processes - 1}")
    _address(place.coordinator)
    return place


def _address(coordinator: str) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ValueError(f"coordinator is {coordinator!r}; wanted HOST:PORT, such as 'node01:61440'")
    return host, int(port)


def _meet(place: Place) -> None:
    """All processes come to process 0 and are told whether they are complete: JAX would end those that wait in vain."""
    until = time.monotonic() + PATIENCE
    said = _receive(place, until) if place.process == 0 else _report(place, until)
    if said:
        raise (TimeoutError if "came within" in said else ValueError)(said)


def _receive(place: Place, until: float) -> str:
    """Process 0: waits for the others, and tells each what is wrong, or nothing."""
    host, port = _address(place.coordinator)
    came: dict[int, socket.socket] = {}
    wrong = ""
    with ExitStack() as opened:
        try:
            server = opened.enter_context(socket.create_server((host if host in LOCAL else "", port)))
        except OSError as error:
            raise ValueError(f"process 0 cannot listen at {place.coordinator} ({error}); wanted a free port") from error
        while len(came) < place.n_processes - 1 and not wrong:
            try:
                other, n, number = _next(server, until)
            except TimeoutError:
                missing = sorted(set(range(1, place.n_processes)) - came.keys())
                wrong = (
                    f"{len(came) + 1} of {place.n_processes} processes came within {PATIENCE:g} s to "
                    f"{place.coordinator}; missing: {', '.join(map(str, missing))}"
                )
                break
            if n != place.n_processes:
                wrong = f"process {number} was told n_processes {n}, and process 0 {place.n_processes}; wanted the same"
            elif number in came:
                wrong = f"two processes came to {place.coordinator} with the number {number}; wanted each once"
            opened.enter_context(other)
            came[-1 if wrong else number] = other
        for other in came.values():
            other.sendall(json.dumps(wrong).encode())
    return wrong


def _next(server: socket.socket, until: float) -> tuple[socket.socket, int, int]:
    """The next process that comes, how many it was told there are, and its number; TimeoutError where none does."""
    while True:
        server.settimeout(max(0.01, until - time.monotonic()))
        other = server.accept()[0]
        try:
            other.settimeout(1.0)
            n, number = map(int, json.loads(other.recv(64)))
            return other, n, number
        except (OSError, ValueError, TypeError):  # another program's
            other.close()


def _report(place: Place, until: float) -> str:
    """Another process: goes to process 0, and hears what is wrong, or nothing."""
    reason = ""
    while time.monotonic() < until:
        try:
            with socket.create_connection(_address(place.coordinator), until - time.monotonic()) as server:
                server.settimeout(max(0.01, until + ANSWER - time.monotonic()))
                server.sendall(json.dumps([place.n_processes, place.process]).encode())
                if said := server.recv(4096):
                    return json.loads(said)
        except OSError as error:
            reason = f" ({error})"
        time.sleep(PAUSE)
    return (
        f"no answer came within {PATIENCE:g} s to process {place.process} of {place.n_processes} from "
        f"{place.coordinator}{reason}; wanted the HOST:PORT of process 0, reachable from here"
    )
