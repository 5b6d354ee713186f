"""Shared by all tests: double precision where exactness is checked, and small instances."""

import jax
import pytest

from cryosip.datasets.registry import DATASETS


@pytest.fixture
def x64():
    """float64 for the length of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def tiny():
    """The 1D problem with 300 observations."""
    return DATASETS["oned"](n_observations=300, seed=3)


# small enough for a contract test; image_size 16 has pixels of 0.5, tau is as large
SMALL = {
    "oned": {"n_observations": 300, "seed": 3},
    "nanocluster": {"n_observations": 60, "image_size": 16, "tau": 0.5, "seed": 3},
}


@pytest.fixture(params=DATASETS)
def small(request):
    """Each problem of the registry, small."""
    return DATASETS[request.param](**SMALL.get(request.param, {"n_observations": 60}))
