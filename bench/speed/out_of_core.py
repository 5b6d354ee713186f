"""Methods on more images than memory holds: seconds, images per second and the largest resident memory of each."""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from rich.table import Table

from cryosip.bench.build import build_method
from cryosip.bench.environment import environment, peak_memory_mb
from cryosip.bench.runner import run
from cryosip.datasets.instance import Instance
from cryosip.datasets.nanocluster import nanocluster
from cryosip.datasets.shards import simulated
from cryosip.methods.problem import checked
from cryosip.records import files

SCHEMA = 1
FILE = Path("speed") / "out_of_core.json"
SIZES = (10_000, 100_000, 1_000_000)
IMAGE_SIZE = 64
N_SUPPORT, N_COMPONENTS, N_PARTICLES, N_SLICES = 100, 5, 1_000, 10
GEMM = 2_048  # of the square matrices whose product is timed
MEASURED_BYTES = 2**31  # of the files, by which the disk is timed
BYTES = 4  # of a number
TRIALS = 5

Fields = dict[str, Any]


class Case(NamedTuple):
    """A method that is measured in a process of its own.

    `space` is "span", where the images are read twice and what is left of them stays in memory, or "pixels". `per` says
    what goes over the images: "build", which makes the method, or "step". `flops` are those of it for each image, in
    products of matrices; a step of a flow on pixels reads `rows` images, None for all.
    """

    name: str
    method: str
    options: Fields
    space: str
    steps: int
    per: str
    flops: int = 0
    rows: int | None = None


def _flow(discrepancy: str, **options: Any) -> Fields:
    return {
        "discrepancy": {"name": discrepancy, "options": options},
        "n_particles": N_PARTICLES,
        "optimizer": {"name": "adam", "learning_rate": 0.01},
    }


P = IMAGE_SIZE**2
DRAWN = 1_024  # observations that a step of an energy flow draws
CASES = (
    Case("reweighting", "reweighting", {"n_support": N_SUPPORT}, "span", 20, "build", 2 * P * IMAGE_SIZE),
    Case("mixture", "mixture", {"n_components": N_COMPONENTS}, "span", 10, "build", 2 * P * IMAGE_SIZE),
    Case("flow", "flow", _flow("energy"), "span", 20, "build", 2 * P * IMAGE_SIZE),
    Case("reweighting", "reweighting", {"n_support": N_SUPPORT}, "pixels", 20, "build", 2 * P * N_SUPPORT),
    Case("mixture", "mixture", {"n_components": N_COMPONENTS}, "pixels", 3, "step", 4 * P * N_COMPONENTS),
    Case("flow", "flow", _flow("energy"), "pixels", 20, "step", 4 * P * N_PARTICLES * 2, DRAWN),
    Case("sliced flow", "flow", _flow("sliced-energy", n_slices=N_SLICES), "pixels", 2, "step", 2 * P * N_SLICES),
)  # fmt: skip


def problem_instance(n: int = 2) -> Instance:
    """The nanocluster, whose images have no pose: as if poses were known."""
    return nanocluster(n_observations=n, image_size=IMAGE_SIZE, seed=0)


def first_rows(folder: Path, n: int) -> list[np.memmap]:
    """Memory maps of the first n images."""
    maps: list[Any] = []
    for path in sorted(folder.glob("images-*.npy")):
        maps.append(np.load(path, mmap_mode="r")[:n])
        n -= len(maps[-1])
        if n == 0:
            return maps
    raise ValueError(f"{folder} holds {n} images less; wanted them")


def measure(case: Case, folder: Path, n: int) -> Fields:
    """One method on the first n images, in this process: seconds to check, to build, to compile and for a step."""
    before = peak_memory_mb()
    instance = problem_instance()
    began = time.perf_counter()
    observations: Any = first_rows(folder, n)
    problem = checked(instance.problem._replace(observations=observations))
    opened, opened_cpu = time.perf_counter(), time.process_time()
    problem = problem._replace(span=None) if case.space == "pixels" else problem
    method = build_method(problem, case.method, case.options)
    jax.block_until_ready(method.estimate(method.init(jr.key(0))))
    built, built_cpu = time.perf_counter(), time.process_time()
    with jax.default_matmul_precision("highest"):
        snapshots = run(jr.key(0), method, case.steps, case.steps)
        next(snapshots)  # before the first step, when all is compiled
        begun_cpu = time.process_time()
        *_, last = snapshots
    step_seconds = last.seconds / case.steps
    per = {"build": built - opened, "step": step_seconds}[case.per]
    cpu = {"build": built_cpu - opened_cpu, "step": (time.process_time() - begun_cpu) / case.steps}[case.per]
    return {
        "name": case.name, "space": case.space, "images": n, "per": case.per,
        "check_seconds": opened - began, "build_seconds": built - opened,
        "compile_seconds": last.program.trace_seconds + last.program.compile_seconds,
        "step_seconds": step_seconds, "steps": case.steps, "finite": last.finite,
        "images_per_second": (case.rows or n) / per, "cpu_seconds": cpu, "load": os.getloadavg()[0],
        "start_mb": before, "peak_mb": peak_memory_mb(),
    }  # fmt: skip


def child() -> None:
    """`measure` with arguments of the command line, its fields in a line of standard output."""
    index, folder, n = sys.argv[1:]
    print(json.dumps(measure(CASES[int(index)], Path(folder), int(n))))


def in_own_process(index: int, folder: Path, n: int) -> Fields:
    """`measure` in a new process, none of whose files is in the system's cache at first.

    Raises RuntimeError with what it printed where it fails.
    """
    for path in folder.glob("images-*.npy"):
        _forget(path)
    code = "from cryosip.bench.speed.out_of_core import child; child()"
    command = [sys.executable, "-c", code, str(index), str(folder), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{CASES[index].name} on {n} images failed:\n{done.stderr[-2_000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _forget(path: Path) -> None:
    """Takes the pages of a file, which is written, out of the system's cache, where it offers that."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def physical(folder: Path) -> Fields:
    """Bytes a second from the disk and the system's cache, and operations a second in sgemm; the most of 5 trials."""
    paths = sorted(folder.glob("images-*.npy"))
    paths = paths[: max(1, MEASURED_BYTES // paths[0].stat().st_size)]
    disk, cache = [], []
    for _ in range(TRIALS):
        for path in paths:
            _forget(path)
        disk.append(_read(paths))
        cache.append(_read(paths))
    a = jnp.asarray(np.random.default_rng(0).standard_normal((GEMM, GEMM), np.float32))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    product(a).block_until_ready()
    seconds = []
    for _ in range(TRIALS):
        began = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return {
        "disk_bytes_per_second": max(disk), "cache_bytes_per_second": max(cache),
        "flops_per_second": 2 * GEMM**3 / min(seconds),
    }  # fmt: skip


def _read(paths: Sequence[Path]) -> float:
    buffer, total, began = memoryview(bytearray(2**24)), 0, time.perf_counter()
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return total / (time.perf_counter() - began)


def limited(row: Fields, case: Case, rates: Fields) -> Fields:
    """The row with the fewest seconds that disk and sgemm allow for what goes over the images, and which it is."""
    n = case.rows or row["images"]
    least = {
        "disk": BYTES * P * n / rates["disk_bytes_per_second"],
        "sgemm": case.flops * n / rates["flops_per_second"],
    }
    limit = max(least, key=lambda name: least[name])
    return row | {"limit": limit, "limit_seconds": least[limit]}


def record(sizes: Sequence[int], results: Path, show: Callable[[Fields], None]) -> Path:
    """Simulate the most images beside the results, measure all cases, show each, and write the file of timings.

    RESULTS/speed/out_of_core.json is written whole or not at all; the images are deleted. Raises ValueError where the
    disk has too little space for them.
    """
    path, sizes, rows = results / FILE, sorted(set(sizes)), []
    files.check_writable(path.parent)
    with tempfile.TemporaryDirectory(prefix="images-", dir=path.parent) as name:
        folder, began = Path(name), time.perf_counter()
        simulated(problem_instance(), sizes[-1], folder)
        simulation_seconds = time.perf_counter() - began
        rates = physical(folder)
        for n in sizes:
            for index, case in enumerate(CASES):
                rows.append(limited(in_own_process(index, folder, n), case, rates))
                show(rows[-1])
    content = {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": environment(),
        "image_size": IMAGE_SIZE,
        "simulation": {"images": sizes[-1], "seconds": simulation_seconds},
        "rates": rates,
        "rows": rows,
    }
    files.write_text(path, json.dumps(content, indent=1, allow_nan=False))
    return path


def table(row: Fields) -> Table:
    """A measurement for the terminal."""
    shown = Table(title=f"{row['name']} on {row['images']:,} images, {row['space']}", title_justify="left")
    names = ("check_seconds", "build_seconds", "step_seconds", "images_per_second", "peak_mb", "limit_seconds")
    for name in names:
        shown.add_column(name.replace("_", " "), justify="right")
    shown.add_row(*(f"{row[name]:.4g}" for name in names))
    return shown
