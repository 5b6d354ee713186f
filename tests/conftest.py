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
