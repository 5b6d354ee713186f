"""Shared by all tests: double precision where exactness is checked, and small instances."""

import os

import jax
import pytest

from cryosip.bench import metrics, sharing
from cryosip.datasets.registry import DATASETS


def pytest_configure(config):
    """Compiling is most of the work of the fast tests; the slow ones measure what optimised programs take.

    Programs are kept for other processes and later sessions, unless pytest's own cache is off.
    """
    if config.option.markexpr == "not slow":
        jax.config.update("jax_disable_most_optimizations", True)
    if hasattr(config, "cache") and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(config.rootpath / ".pytest_cache" / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture
def x64():
    """float64 for the length of a test."""
    with jax.enable_x64(True):
        yield


FEW = {"REFERENCE_POINTS": 100, "FLOOR_DRAWS": 2, "FLOOR_DRAWS_BEYOND_1D": 2, "SAMPLES": 2, "SAMPLES_BEYOND_1D": 2}
OF_FEW = sharing.Shared()


@pytest.fixture
def few_draws(monkeypatch):
    """Metrics of few points: exact ones take most of the time of a run of few steps. Says how few."""
    for name, few in FEW.items():
        monkeypatch.setattr(metrics, name, few)
    monkeypatch.setattr(sharing, "PROCESS", OF_FEW)
    monkeypatch.setattr(sharing, "of", lambda _results: OF_FEW)
    return FEW


@pytest.fixture
def tiny():
    """The 1D problem with 300 observations."""
    return DATASETS["oned"](n_observations=300, seed=3)


# small enough for a contract test; image_size 16 has pixels of 0.5, tau is as large
SMALL = {
    "oned": {"n_observations": 300, "seed": 3},
    "adk": {
        "n_observations": 20,
        "image_size": 12,
        "pixel_size_in_angstroms": 10.0,
        "atom_std_in_angstroms": 8.0,
        "atoms_per_bead": 4,
        "snr": 0.002,  # so low that a few hundred structures cover the data
        "seed": 3,
    },
    "nanocluster": {"n_observations": 60, "image_size": 16, "tau": 0.5, "seed": 3},
}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if name == "adk" else name for name in SMALL])
def small(request):
    """Each problem of the registry, small; hsp90 is adk with another file."""
    assert set(SMALL) == set(DATASETS) - {"hsp90"}
    return DATASETS[request.param](**SMALL[request.param])
