"""The cache of compiled programs on disk, in the user's cache folder, and whether a program came from there."""

import hashlib
import os
import platform
import shutil
import warnings
from pathlib import Path
from typing import Any

import jax
import platformdirs

MAX_MB = 500  # of all programs; those that were not used for longest go first
LEAST_SECONDS = 0.02  # of compilation; what compiles faster is not kept
OURS_TO_SET = "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"

_COUNTS = {"compiled": 0, "read": 0}


def compilations() -> int:
    """How many programs this process has compiled so far, those that the cache had left out."""
    return _COUNTS["compiled"] - _COUNTS["read"]


def _on_seconds(event: str, duration_secs: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _COUNTS["compiled"] += 1


def _on_event(event: str, **_: Any) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _COUNTS["read"] += 1


jax.monitoring.register_event_duration_secs_listener(_on_seconds)
jax.monitoring.register_event_listener(_on_event)


def folder() -> Path:
    """Where programs are kept, by processor: machine code of one may be wrong on another."""
    return Path(platformdirs.user_cache_dir("cryosip")) / "programs" / _processor()


def in_use() -> Path | None:
    """Where this process keeps programs, if it does."""
    path = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return Path(path) if path else None


def switch_on(path: Path | None = None) -> None:
    """Keeps compiled programs in `path`, by default the user's cache folder, and takes them from there.

    JAX's own variables go first. A folder that cannot be used is told in one warning, and programs are compiled.
    """
    if any(name in os.environ for name in OURS_TO_SET):
        return
    path = path or folder()
    try:
        _mend(path)
    except OSError as error:
        warnings.warn(f"programs are compiled and not kept: cannot write {path}: {error.strerror}", stacklevel=2)
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_compilation_cache_max_size", MAX_MB * 2**20)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _tell_once(path)


def _mend(path: Path) -> None:
    """Makes the folder, and removes programs beside which no time of use is: a process was killed between the two."""
    path.mkdir(parents=True, exist_ok=True)
    probe = path / f".{os.getpid()}"
    probe.write_bytes(b"1")
    probe.unlink()
    for program in path.glob("*-cache"):
        if not program.with_name(f"{program.name.removesuffix('-cache')}-atime").exists():
            program.unlink(missing_ok=True)


def _tell_once(path: Path) -> None:
    """JAX warns for each program that it cannot read or write; one warning is enough, and what is damaged goes."""
    show, told = warnings.showwarning, False

    def shown(message: Any, *rest: Any, **named: Any) -> None:
        nonlocal told
        text = str(message)
        if "persistent compilation cache entry" not in text:
            show(message, *rest, **named)
        elif not told:
            told = True
            show(f"the cache of programs, {path}, cannot be used: {text}; they are compiled", *rest, **named)
            if text.startswith("Error reading"):
                shutil.rmtree(path, ignore_errors=True)

    warnings.showwarning = shown


def _processor() -> str:
    """A hash of the processor's name and of what it can do."""
    lines = {platform.machine(), platform.processor()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        known = ("model name", "flags", "Features", "CPU part")
        lines |= {line for line in cpuinfo.read_text().splitlines() if line.startswith(known)}
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:12]
