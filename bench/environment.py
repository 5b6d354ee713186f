"""What a record says of the machine and the versions that made it."""

import contextlib
import importlib.metadata
import os
import platform
import re
import resource
import socket
import subprocess
import sys
import uuid
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

from cryosip.records.machines import short_name

PACKAGES = ("cryosip", "jax", "jaxlib", "optax", "numpy", "scipy", "pot", "cryojax", "prody")
NVIDIA = Path("/proc/driver/nvidia/version")
MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))  # random, and for no other machine to know


@cache
def environment(jobs: int = 1) -> dict[str, Any]:
    """Commit, versions, host, device, driver, processor, threads, precision; null for what cannot be told.

    `machine` is a short name that stands for the host in what travels, such as packs. With more than one of `jobs`, as
    many processes shared the machine, and their seconds are those of a shared machine.
    """
    host = socket.gethostname()
    return {
        **_git(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "host": host,
        "machine": short_name(host, _machine_id()),
        "device": _devices(),
        "driver": _driver(),
        "cpu": _cpu(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "jobs": jobs,
        "dtype": dtype(),
    }


def reset_peak_memory() -> None:
    """Starts the measurement of peak memory anew, where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Largest resident memory of this process since the last reset, or since its start."""
    return _resident_mb("VmHWM")


def memory_in_use_mb() -> float:
    """Memory in use on the device that computes, or of this process where the device has none of its own."""
    stats = jax.local_devices()[0].memory_stats()
    return stats["bytes_in_use"] / 2**20 if stats else _resident_mb("VmRSS")


def _resident_mb(field: str) -> float:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10  # only the largest is known
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def folder(package: str) -> Path:
    """Where the sources of a package of cryosip are. Raises RuntimeError where it is not installed."""
    spec = find_spec(f"cryosip.{package}")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"package cryosip.{package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _git() -> dict[str, Any]:
    """Commit of the checkout that holds the sources, and whether it has changes; null in an installed package."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder("bench"), capture_output=True, text=True, check=True).stdout

    try:
        if git("ls-files", "runner.py"):
            return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        pass  # no git, or no checkout
    return {"commit": None, "dirty": None}


def dtype() -> str:
    """The precision of numbers by default."""
    return str(jax.numpy.zeros(()).dtype)


def version(name: str) -> str | None:
    """Of an installed distribution; None where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine_id() -> str:
    """What this machine alone knows of itself, "" where there is nothing: nobody can guess what is hashed with it."""
    for path in MACHINE_IDS:
        with contextlib.suppress(OSError):
            if known := path.read_text().strip():
                return known
    address = uuid.getnode()
    return "" if address >> 40 & 1 else f"{address:x}"  # that bit: no address, but a random number for this process


def _devices() -> str:
    """All that compute, such as "cuda NVIDIA A100 × 2"."""
    kinds = Counter(f"{device.platform} {device.device_kind}" for device in jax.devices())
    return ", ".join(kind + (f" × {count}" if count > 1 else "") for kind, count in kinds.items())


def _driver() -> str | None:
    """The version of NVIDIA's driver and of the platform as JAX names it; None on a processor."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return None
    text = NVIDIA.read_text() if NVIDIA.exists() else ""
    versions = [f"NVIDIA {found[0]}" for found in [re.search(r"\d+\.\d[.\d]*", text)] if found]
    return ", ".join([*versions, " ".join(device.client.platform_version.split())])


def _cpu() -> str | None:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or None
