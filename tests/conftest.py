"""Shared by all tests: how programs are compiled and given back, double precision, and small instances."""

import ctypes
import gc
import os
import sys
from importlib.metadata import version
from pathlib import Path

import jax
import pytest
from examples import built, instance

from cryosip.bench import build, metrics, sharing
from cryosip.bench.check.problems import SAME_CODE
from cryosip.datasets.registry import DATASETS

HELD_MB = 1150  # from which on a process gives its programs back
# XLA's older code for fusions compiles in a third of the time; a version that does not know the flag would abort
QUICK, KNOWN_BY = "--xla_cpu_use_fusion_emitters=false", ("0.10.",)


def pytest_configure(config):
    """Compiling is most of the work of the fast tests; the slow ones measure what optimised programs take.

    Programs are kept for other processes and later sessions, unless pytest's own cache is off.
    """
    if config.option.markexpr == "not slow":
        jax.config.update("jax_disable_most_optimizations", True)
        if version("jaxlib").startswith(KNOWN_BY) and QUICK not in os.environ.get("XLA_FLAGS", ""):
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
    if hasattr(config, "cache") and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(config.rootpath / ".pytest_cache" / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.005)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


# tests that took two seconds of a core and more, by their names: each has a cheaper relative in the fast suite, or
# looks at what seldom changes
EXPENSIVE = Path(__file__).with_name("expensive.txt").read_text(encoding="utf-8").split("\n")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks them as slow, as if they said so themselves."""
    for item in items:
        if item.nodeid.removeprefix("tests/") in EXPENSIVE:
            item.add_marker(pytest.mark.slow)


def held_mb():
    """What this process holds of the memory; 0 where the system does not tell."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if told.exists() else 0.0


left_mb = 0.0


def pytest_runtest_teardown():
    """Programs are never given back by themselves: a worker would hold those of all its tests."""
    global left_mb
    if held_mb() > max(HELD_MB, left_mb + 200):
        built.cache_clear()
        build._instance.cache_clear()
        build._reference.cache_clear()
        jax.clear_caches()
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        left_mb = held_mb()


@pytest.fixture
def x64():
    """float64 for the length of a test."""
    with jax.enable_x64(True):
        yield


FEW = {"REFERENCE_POINTS": 100, "FLOOR_DRAWS": 2, "FLOOR_DRAWS_BEYOND_1D": 2, "SAMPLES": 2, "SAMPLES_BEYOND_1D": 2}
OF_FEW = sharing.Shared()


@pytest.fixture(scope="module")
def few_draws():
    """Metrics of few points: exact ones take most of the time of a run of few steps. Says how few."""
    with pytest.MonkeyPatch.context() as patch:
        for name, few in FEW.items():
            patch.setattr(metrics, name, few)
        patch.setattr(sharing, "PROCESS", OF_FEW)
        patch.setattr(sharing, "of", lambda _results: OF_FEW)
        yield FEW


@pytest.fixture
def tiny():
    """The 1D problem with 300 observations."""
    return DATASETS["oned"](n_observations=300, seed=3)


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.slow] * (name in ("oned", "adk")))
        for name in DATASETS
        if name not in SAME_CODE
    ]
)
def small(request):
    """Each problem of the registry, small, but for those that are others with another file or other options."""
    return instance(request.param)
