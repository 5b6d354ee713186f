"""Given structures of one molecule in one frame, and the path through them, in angstroms of RMSD."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets.structures import FEWEST_ATOMS, Trace, load
from cryosip.methods import checks
from cryosip.methods.problem import Points

LEAST_STEP = 1e-3  # angstroms; files have their coordinates in these

Coordinates = Float[np.ndarray, "a 3"]


class Conformers(NamedTuple):
    """K structures on a path: `arc_length` (K,) rises from 0, in angstroms, `shapes` (K, a, 3) are centred.

    The path is straight between consecutive structures, which are superposed: there, the difference of two arc lengths
    is the RMSD of the two structures, the least that any rotation gives.
    """

    arc_length: Float[np.ndarray, " k"]
    shapes: Float[np.ndarray, "k a 3"]


def read(structures: Sequence[str | Path], chain: str) -> list[Trace]:
    """The C-alpha traces of a chain in each of the files; ValueError where there are fewer than two."""
    if isinstance(structures, str | Path) or not isinstance(structures, Sequence):
        raise ValueError(f"structures is {structures!r}; wanted a list of PDB or mmCIF files")
    if len(structures) < 2:
        raise ValueError(f"structures has {len(structures)} entry: {list(structures)}; wanted two or more")
    return [load(Path(file).stem if isinstance(file, str | Path) else "?", file, chain) for file in structures]


def path_through(traces: Sequence[Trace], n_between: int) -> Conformers:
    """The structures in their order, with so many more between two of them, at equal steps along the straight line.

    Parameters
    ----------
    traces
        Two or more; residues of the same number correspond.
    n_between
        0 or more.

    Returns
    -------
    Conformers
        Of K = len(traces) + n_between * (len(traces) - 1) structures, of the residues that all traces have.

    Raises
    ------
    ValueError
        The traces have fewer than 4 residues in common, or two that follow each other are the same structure.
    """
    between = checks.non_negative_int("n_between", n_between) + 1
    given = [shape - shape.mean(0) for shape in _common_residues(traces)]
    for i in range(1, len(given)):
        given[i] = superposed(given[i], given[i - 1])
    steps = np.array([rmsd(*pair) for pair in pairwise(given)])
    for i in np.flatnonzero(steps < LEAST_STEP).tolist():
        files = f"{traces[i].source} and {traces[i + 1].source}"
        raise ValueError(f"structures that follow each other are the same: {files}; wanted an RMSD of {LEAST_STEP:g} Å")
    share = np.arange(len(traces) * between - n_between) / between  # whole numbers are the given structures
    segment = np.minimum(share.astype(int), len(steps) - 1)
    along = (share - segment)[:, None, None]
    shapes = (1 - along) * np.stack(given)[segment] + along * np.stack(given)[segment + 1]
    return Conformers(np.interp(share, np.arange(len(given)), np.append(0.0, np.cumsum(steps))), shapes)


def superposed(moving: Coordinates, fixed: Coordinates) -> Coordinates:
    """The rotated structure that is nearest to another; both are centred [kabsch1976]."""
    left, _, right = np.linalg.svd(moving.T @ fixed)
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])  # no reflection
    nearest: Coordinates = moving @ left @ handed @ right
    return nearest


def rmsd(first: Coordinates, second: Coordinates) -> float:
    """The root of the mean square distance of corresponding atoms, as they stand."""
    return float(np.sqrt(((first - second) ** 2).sum(1).mean()))


def shares(arc_length: Float[np.ndarray, " k"], theta: Points) -> Float[Array, "n k"]:
    """By how much each given structure is in the one at arc length theta (n, 1); beyond the ends the path goes on."""
    knots = jnp.asarray(arc_length, theta.dtype)
    place = jnp.clip(jnp.searchsorted(knots, theta[:, 0], side="right") - 1, 0, len(arc_length) - 2)
    along = ((theta[:, 0] - knots[place]) / (knots[place + 1] - knots[place]))[:, None]
    first, second = (jax.nn.one_hot(i, len(arc_length), dtype=theta.dtype) for i in (place, place + 1))
    return (1 - along) * first + along * second


def _common_residues(traces: Sequence[Trace]) -> list[Coordinates]:
    """The coordinates of the residues whose numbers all traces have, in their order."""
    common = set.intersection(*(set(trace.residues.tolist()) for trace in traces))
    if len(common) < FEWEST_ATOMS:
        files = ", ".join(trace.source for trace in traces)
        raise ValueError(f"structures have {len(common)} residues in common ({files}); wanted {FEWEST_ATOMS} or more")
    chosen = [np.unique(trace.residues, return_index=True) for trace in traces]
    return [
        trace.coordinates[index[np.isin(number, list(common))]]
        for trace, (number, index) in zip(traces, chosen, strict=True)
    ]
