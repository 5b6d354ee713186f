"""Trajectories of a molecule: which of their atoms are the C-alphas of a structure, and what is checked in them."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np
import scipy.spatial
from jaxtyping import Float, Int

from cryosip.datasets.mdtraj_adapter import xtc_frames
from cryosip.datasets.prody_ensembles import atoms_in_order, dcd_frames
from cryosip.datasets.structures import LONGEST_STEP, Trace

XTC_MAGIC = (1995, 2023)  # the latter from 300 million atoms on
SAME_PLACE = 0.01  # angstroms; two readers of one file differ by rounding
NEAREST_NEIGHBOUR, FARTHEST_NEIGHBOUR = 1.0, 9.0  # angstroms; in a chain, C-alphas are 3.8 apart and never 2.5 or 5


def read_frames(file: str | Path, trace: Trace) -> Float[np.ndarray, "k n 3"]:
    """The C-alphas of a trace in all frames of a DCD or an XTC file, in angstroms; the content decides, not the name.

    A frame has the C-alphas of the trace in its order; or all C-alphas or all atoms of the file that the trace was
    read from, in the order of that file.

    Parameters
    ----------
    file
        A DCD file, in angstroms, or an XTC file, in nanometers. Atoms are not wrapped at the box.
    trace
        From `load`.

    Raises
    ------
    ValueError
        The file is neither, is damaged, has no frame, has another number of atoms than the structure, or coordinates
        that are not finite or in which neighbours in a chain are not between 1 and 9 angstroms apart.
    ImportError
        An XTC file without MDTraj.
    OSError
        The file is missing or cannot be read.
    """
    path = Path(file).expanduser()
    columns: Int[np.ndarray, " n"] | None = None
    chosen = []
    with closing(_frames(path)) as frames:
        for frame in frames:
            if columns is None:
                columns = _columns(path, len(frame), trace)
            chosen.append(frame[columns])
    if not chosen:
        raise ValueError(f"{path} has no frame; wanted two or more")
    found = np.stack(chosen)
    _check_frames(path, found, trace)
    return found


def _frames(path: Path) -> Generator[Float[np.ndarray, "n 3"], None, None]:
    if path.is_dir():
        raise ValueError(f"trajectory is {str(path)!r}, a folder; wanted a DCD or an XTC file")
    with path.open("rb") as file:
        start = file.read(8)
    if start[4:] == b"CORD":
        return dcd_frames(path)
    if int.from_bytes(start[:4], "big") in XTC_MAGIC:
        return xtc_frames(path)
    raise ValueError(f"{path} is no trajectory: it starts with {start!r}; wanted a DCD or an XTC file")


def _columns(path: Path, n_atoms: int, trace: Trace) -> Int[np.ndarray, " n"]:
    """Where the atoms of a trace are among those of a frame: where the same place is in the structure's file."""
    if n_atoms == len(trace.coordinates):
        return np.arange(n_atoms)
    atoms, calphas = atoms_in_order(Path(trace.source))
    for there in (atoms, calphas):
        distance, place = scipy.spatial.cKDTree(there).query(trace.coordinates)
        if n_atoms == len(there) and distance.max() < SAME_PLACE:
            return place
    raise ValueError(
        f"{path} has {n_atoms} atoms; wanted the {len(atoms)} of {trace.source}, its {len(calphas)} C-alphas, or the "
        f"{len(trace.coordinates)} of chain {trace.chain!r}"
    )


def _check_frames(path: Path, frames: Float[np.ndarray, "k n 3"], trace: Trace) -> None:
    """That coordinates are finite and molecules whole, in angstroms and in the order of the trace."""
    if (bad := ~np.isfinite(frames).all((1, 2))).any():
        raise ValueError(f"{path} has NaN or infinite coordinates in {bad.sum()} of {len(frames)} frames")
    neighbours = np.linalg.norm(np.diff(trace.coordinates, axis=0), axis=1) < LONGEST_STEP
    steps = np.linalg.norm(np.diff(frames, axis=1), axis=2)[:, neighbours]
    wrong = (steps < NEAREST_NEIGHBOUR) | (steps > FARTHEST_NEIGHBOUR)
    if wrong.any():
        i, j = (int(index) for index in np.argwhere(wrong)[0])
        raise ValueError(
            f"{path} has neighbours in chain {trace.chain!r} that are {steps[i, j]:.2g} angstroms apart in frame "
            f"{i + 1}; wanted {NEAREST_NEIGHBOUR:g} to {FARTHEST_NEIGHBOUR:g}: molecules that are not cut at the box, "
            f"in angstroms, and in the order of {trace.source}"
        )
