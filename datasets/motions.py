"""How a molecule moves: along normal modes of a structure, or principal components of structures or a trajectory."""

import inspect
import math
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float

from cryosip.datasets.elastic_network import RIGID_MODES, collectivity
from cryosip.datasets.instance import Molecule
from cryosip.datasets.prody_ensembles import superposed_on_mean
from cryosip.datasets.protein import AMPLITUDES, beads_of
from cryosip.datasets.protein_images import Beads
from cryosip.datasets.structures import FEWEST_ATOMS, Modes, Trace, load, normal_modes
from cryosip.datasets.trajectories import read_frames
from cryosip.methods import checks

LEAST_MOTION = 0.01  # angstroms of RMSD; files round coordinates to 0.001 (PDB) or 0.01 (XTC)

Structures = Float[np.ndarray, "k n 3"]


def motions_of(
    structure: str | Path | Sequence[str | Path],
    chain: str = "A",
    n_modes: int = 2,
    trajectory: str | Path | None = None,
    atoms_per_bead: int = 2,
    cutoff_in_angstroms: float = 15.0,
    amplitude: str = "root",
) -> tuple[Molecule, Beads]:
    """A molecule at rest + sum_i theta_i motions_i: along normal modes, or principal components of an ensemble.

    One structure moves along the lowest modes of its elastic network, as in `protein`. Several structures, or the
    frames of a trajectory, are superposed on their mean, and with their singular values s_i and vectors v_i

        x_k - mean = sum_i u_ki s_i v_i,    motions_i = v_i s_i / sqrt(K),

    so that the theta_i of the ensemble have mean 0, variance 1, and no correlation. Their mean is superposed on the
    first structure, and the origin is the mean of the C-alphas of that structure's chain: poses refer to it alone.

    Parameters
    ----------
    structure
        A PDB or an mmCIF file, or a list of two or more of one molecule, whose residues correspond by their numbers.
        Residues that are missing in one of them are left out.
    chain
        "A" by default, or several as "A,B"; the same in all files.
    n_modes
        2 by default.
    trajectory
        None by default; else a DCD or an XTC file of the one structure, as `read_frames` reads it. The structure gives
        the frame, and is itself no part of the ensemble.
    atoms_per_bead
        2 by default, at most 4.
    cutoff_in_angstroms, amplitude
        Of the elastic network, as in `protein`; 15 and "root" by default.

    Returns
    -------
    tuple[Molecule, Beads]
        Of principal components, `eigenvalues` are the variances s_i^2 / K in angstroms^2, summed over the atoms, from
        the largest, and `amplitudes` their roots. `source` is the first structure. Of each v_i the component of largest
        magnitude is positive.

    Raises
    ------
    ValueError
        The structures have too few residues in common, are all the same, or differ in fewer directions than n_modes (K
        structures in no more than K - 1, each of 0.01 angstroms of RMSD or more); an option of the elastic network is
        given where there is none, `structure` is a list of one or a list besides a trajectory; or `load`,
        `normal_modes` or `read_frames` refuse.
    OSError
        A file is missing.
    """
    n_modes = checks.positive_int("n_modes", n_modes)
    if trajectory is not None or not isinstance(structure, str | Path):
        _check_unused(cutoff_in_angstroms=cutoff_in_angstroms, amplitude=amplitude)
    if not isinstance(structure, str | Path):
        if trajectory is not None:
            raise ValueError(f"structure is {structure!r} with a trajectory; wanted the one file of its atoms")
        first, members = _read(structure, chain, n_modes)
        frame, what = members[0], "the structures"
    else:
        first = load(str(structure), structure, chain)
        if trajectory is None:
            modes = normal_modes(first, cutoff_in_angstroms, n_modes)
            amplitudes = AMPLITUDES[checks.one_of("amplitude", amplitude, AMPLITUDES)](modes.eigenvalues)
            return beads_of(first, modes, amplitudes, atoms_per_bead)
        members, frame, what = read_frames(trajectory, first), first.coordinates, f"the frames of {trajectory}"
    moved = superposed_on_mean(members, frame)
    modes = _principal_components(moved, n_modes, what)
    mean = first._replace(coordinates=moved.mean(0))
    molecule, beads = beads_of(mean, modes, np.sqrt(modes.eigenvalues), atoms_per_bead)
    rest = molecule.rest + frame.mean(0) - first.coordinates.mean(0)  # beads_of puts the origin into their own mean
    return molecule._replace(rest=rest), beads._replace(rest=jnp.asarray(rest, jnp.float32))


def _check_unused(**options: object) -> None:
    """ValueError for options of the elastic network beside an ensemble."""
    defaults = inspect.signature(motions_of).parameters
    for name, value in options.items():
        if value != defaults[name].default:
            raise ValueError(f"{name} is {value!r} with an ensemble, which does not use it; wanted none")


def _read(structures: Sequence[str | Path], chain: str, n_modes: int) -> tuple[Trace, Structures]:
    """The first structure, and of all of them the residues that they have in common, in the order of the first."""
    if len(structures) < 2:
        raise ValueError(
            f"structure is a list of {len(structures)}: {list(structures)}; wanted two or more, or a file that is in "
            "no list, for its normal modes"
        )
    traces = [load(str(file), file, chain) for file in structures]
    places = [_places(trace) for trace in traces]
    common = [residue for residue in places[0] if all(residue in place for place in places)]
    fewest = max(FEWEST_ATOMS, math.ceil((n_modes + RIGID_MODES) / 3))
    if len(common) < fewest:
        counts = ", ".join(f"{len(trace.residues)} of {trace.source}" for trace in traces)
        raise ValueError(f"structures have {len(common)} residues in common ({counts}); wanted {fewest} or more")
    chosen = [[place[residue] for residue in common] for place in places]
    return traces[0], np.stack([trace.coordinates[rows] for trace, rows in zip(traces, chosen, strict=True)])


def _places(trace: Trace) -> dict[tuple[int, int], int]:
    """The place of each residue, by its chain and its number; where letters tell several of a number, of the first."""
    chains = np.repeat(np.arange(len(trace.lengths)), trace.lengths)
    places: dict[tuple[int, int], int] = {}
    for i, residue in enumerate(zip(chains.tolist(), trace.residues.tolist(), strict=True)):
        places.setdefault(residue, i)
    return places


def _principal_components(superposed: Structures, n_modes: int, what: str) -> Modes:
    """Variances in angstroms^2, from the largest, and orthonormal vectors, of superposed structures."""
    k, n = superposed.shape[:2]
    if k < 2:
        raise ValueError(f"{what} are only {k}; wanted two or more")
    deviations = (superposed - superposed.mean(0)).reshape(k, 3 * n)
    # not ProDy's PCA, which refuses fewer than four structures
    _, singular, vectors = scipy.linalg.svd(deviations, full_matrices=False)
    variances = singular**2 / k
    rank = int((np.sqrt(variances / n) >= LEAST_MOTION)[: k - 1].sum())
    if rank == 0:
        raise ValueError(f"{what} are all the same up to rotations and shifts; wanted such that differ")
    if n_modes > rank:
        raise ValueError(f"n_modes is {n_modes}, and {what}, {k}, differ in {rank} directions; wanted at most {rank}")
    chosen = vectors[:n_modes]
    largest = np.take_along_axis(chosen, np.abs(chosen).argmax(1)[:, None], axis=1)
    modes = (chosen * np.sign(largest)).reshape(n_modes, n, 3)
    return Modes(variances[:n_modes], modes, collectivity(modes))
