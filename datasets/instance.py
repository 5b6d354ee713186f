"""A problem together with the truth behind it. The truth never reaches a method."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryosip.methods.problem import Points, Pose, PRNGKey, Problem

Cloud = Float[Array | np.ndarray, "n d"]
Identified = Float[Array | np.ndarray, "n e"]


class Truth(NamedTuple):
    """The distribution that was to be found.

    `sample(key, n)` draws (n, d) in the coordinates that methods move, `theta` and `pose` hold the theta* and omega_r
    behind the observations, and `quantile(u)` is the exact quantile function where d = 1 and it is known, else None.
    `identifiable` (n, d) -> (n, e), where several theta give the same distribution of images, maps them to the same
    point: metrics compare the distributions of these points, and a quantile function is theirs. Where the truth lies in
    few of many dimensions, it may keep these and the distance from them. `states` (k, d) and `populations` (k,) are
    those of discrete conformers, else None.
    """

    sample: Callable[[PRNGKey, int], Points]
    theta: Points
    quantile: Callable[[np.ndarray], np.ndarray] | None = None
    pose: Pose = ()
    identifiable: Callable[[Cloud], Identified] = lambda theta: theta
    states: Cloud | None = None
    populations: Float[np.ndarray, " k"] | None = None


class Molecule(NamedTuple):
    """What a protein's images are of: beads at rest + sum_i theta_i motions_i, in angstroms.

    `source` is the file of the structure, `n_atoms` the C-alpha atoms of the chain; `eigenvalues` (d,) of the modes,
    `collectivity` (d,), the share of the atoms that move, and `amplitudes` (d,), which take theta to the paper's
    coordinates.
    """

    source: str
    chain: str
    n_atoms: int
    rest: Float[np.ndarray, "a 3"]
    motions: Float[np.ndarray, "d a 3"]
    eigenvalues: Float[np.ndarray, " d"]
    collectivity: Float[np.ndarray, " d"]
    amplitudes: Float[np.ndarray, " d"]


class Instance(NamedTuple):
    """`volume`, where the problem offers volumes, takes theta (n, d) to their coefficients (n, v)."""

    problem: Problem
    truth: Truth
    molecule: Molecule | None = None
    volume: Callable[[Points], Float[Array, "n v"]] | None = None


def checked(instance: Instance) -> Instance:
    """The instance, or ValueError where options of extraordinary size have left data that are no finite numbers."""
    data = instance.problem.observations, instance.truth.theta, instance.truth.pose
    if not all(bool(jnp.isfinite(array).all()) for array in jax.tree.leaves(data)):
        raise ValueError(
            f"the data of {instance.problem.name} overflow, or no image holds anything; wanted options whose images "
            "single precision holds"
        )
    return instance
