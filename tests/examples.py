"""The small problems and options that tests share: programs are compiled once for each shape, whoever needs them."""

from functools import lru_cache
from typing import NamedTuple

import jax
import numpy as np

from cryosip.bench import examples
from cryosip.bench.studies.otd_dto import OF_VOLUMES
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import METHODS, VOLUME_METHODS

SMALL = {name: examples.problem_options(name) for name in DATASETS}
METHOD_OPTIONS = {name: examples.METHODS["tiny"].get(name, {}) for name in METHODS}  # as a RunConfig has them


def home(method: str) -> str:
    """The smallest problem that a method is for."""
    return "adk-volumes" if method in VOLUME_METHODS else "oned"


def may_refuse(method: str, problem: str) -> bool:
    """Whether a method need not support a problem: one of volumes others, others volumes, or one that is not ours."""
    return (method in VOLUME_METHODS) or problem in OF_VOLUMES or not METHOD_OPTIONS[method]


def instance(problem: str, replicate: int = 0):
    """A small problem with its truth, built once a process in each precision, here the one in force."""
    return built(problem, replicate, jax.config.jax_enable_x64)


@lru_cache
def built(problem: str, replicate: int, wide: bool):
    """The same in a given precision."""
    with jax.enable_x64(wide):
        return examples.example_problem(problem, seed=replicate)


class Measured(NamedTuple):
    """What a discrepancy tells of simulated data."""

    value: float
    gradient: np.ndarray
    error: float


def measured(target, y) -> Measured:
    """All that a bound discrepancy tells, under one program: each operation by itself would be compiled too."""
    told = jax.jit(lambda y: (target.value(y), target.gradient(y), target.gradient_error(y)))(y)
    return Measured(float(told[0]), np.asarray(told[1]), float(told[2]))
