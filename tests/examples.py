"""The small problems and options that tests share: programs are compiled once for each shape, whoever needs them."""

from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np

from cryosip.datasets import prody_adapter
from cryosip.datasets.registry import DATASETS

# the sizes keep what they test: image_size 16 has pixels of 0.5, and tau is as large; the snr of the protein is so low
# that a few hundred structures cover the data
PROTEIN = {
    "n_observations": 12,
    "image_size": 12,
    "pixel_size_in_angstroms": 10.0,
    "atom_std_in_angstroms": 8.0,
    "atoms_per_bead": 4,
    "snr": 0.002,
}
SMALL = {
    "oned": {"n_observations": 60},
    "nanocluster": {"n_observations": 40, "image_size": 16, "tau": 0.5},
    "adk": PROTEIN,
    "hsp90": PROTEIN,
}
ADAM = {"name": "adam", "learning_rate": 0.05}
# as a RunConfig has them
METHOD_OPTIONS = {
    "flow": {"discrepancy": {"name": "energy"}, "optimizer": ADAM, "n_particles": 30},
    "maximum-likelihood": {"n_support": 20},
    "mixture": {"n_components": 4, "estimate_weights": True},
    "posterior-npmle": {"n_support": 4, "n_refinements": 2},
    "reweighting": {"n_support": 400},
}


def structure(problem: str) -> dict[str, str]:
    """HSP90's own structure is downloaded; the tests take the one that is at hand."""
    return {"structure": str(prody_adapter.adenylate_kinase())} if problem == "hsp90" else {}


def instance(problem: str, replicate: int = 0):
    """A small problem with its truth, built once a process in each precision, here the one in force."""
    return built(problem, replicate, jax.config.jax_enable_x64)


@lru_cache
def built(problem: str, replicate: int, wide: bool):
    """The same in a given precision."""
    with jax.enable_x64(wide):
        return DATASETS[problem](seed=replicate, **SMALL[problem], **structure(problem))


class Measured(NamedTuple):
    """What a discrepancy tells of simulated data."""

    value: float
    gradient: np.ndarray
    error: float


def measured(target, y) -> Measured:
    """All that a bound discrepancy tells, under one program: each operation by itself would be compiled too."""
    told = jax.jit(lambda y: (target.value(y), target.gradient(y), target.gradient_error(y)))(y)
    return Measured(float(told[0]), np.asarray(told[1]), float(told[2]))
