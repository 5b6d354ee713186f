"""Particles of a microscope: images from files, a structure that moves along its modes, poses of a refinement."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cryosip.datasets.imaging import Imaging, fitted
from cryosip.datasets.motions import motions_of
from cryosip.datasets.particle_stacks import Particles, read_particles
from cryosip.datasets.particle_tables import Ctf
from cryosip.datasets.structures import load
from cryosip.methods import checks

OF_MODES, OF_ENSEMBLE = 14.0, 5.0  # half widths of theta


def stack(
    particles: str | Path,
    structure: str | Path | Sequence[str | Path],
    chain: str = "A",
    n_modes: int = 2,
    trajectory: str | Path | None = None,
    in_map: bool = False,
    n_observations: int | None = None,
    optics_group: str | None = None,
    pixel_size_in_angstroms: float | None = None,
    pose_error_in_degrees: float = 0.0,
    shift_error_in_angstroms: float = 0.0,
    atom_std_in_angstroms: float = 4.0,
    atoms_per_bead: int = 2,
    cutoff_in_angstroms: float = 15.0,
    amplitude: str = "root",
    init_half_width: float | None = None,
    scale_std: float = 0.0,
    seed: int = 0,
) -> Imaging:
    """A structure that moves along its normal modes, in the images of a stack, from the poses that its table has.

    theta are the whitened coordinates of the lowest modes, as in `protein`. The noise of each frequency is measured
    where no molecule is, outside of a circle, and images are weighted so that it is white of std 1. Of an image y_i in
    the pose R_i, off by a rotation T of which a quadrature has the nodes T_q,

        p(y_i | theta) = sum_q w_q int N(y_i; a c x(theta, T_q R_i), I) N(a; 1, s^2) da,

    with the image x of the structure after the CTF of image i, the scale c of all images, and a factor a of each, whose
    integral has a closed form.

    Parameters
    ----------
    particles
        A STAR file of RELION or a .cs file of cryoSPARC, as `read_particles` reads it.
    structure, chain
        A PDB or an mmCIF file, and its chain, "A" by default. Of several files, in the pose of the first, theta are
        the principal components.
    n_modes
        2 by default.
    trajectory
        A DCD or an XTC file of the structure, of whose frames theta are the principal components.
    in_map
        Whether the structure has the coordinates of the map that poses belong to: its voxel size // 2 is the origin. By
        default the origin is the mean of the (first) structure's C-alphas.
    n_observations
        The first of the images; all by default.
    optics_group, pixel_size_in_angstroms
        As in `read_particles`.
    pose_error_in_degrees
        The largest angle by which rotations are off, 0 by default: they are exact. The integral over
        that error has as many nodes as images tell apart, six at least.
    shift_error_in_angstroms
        The std of the errors of shifts along each axis, below that of an atom; 0 by default.
    atom_std_in_angstroms
        4 by default: the width of a residue, and of what a map of the resolution of the images shows of it.
    atoms_per_bead, cutoff_in_angstroms, amplitude
        As in `protein`; 2 atoms by default.
    init_half_width
        theta is sought in [-init_half_width, init_half_width] in each mode; by default 14 along normal modes, and 5
        along principal components, whose std over the ensemble is 1.
    scale_std
        s, 0 by default: all images have the same contrast.
    seed
        Of the images and structures from which the scale is found.

    Returns
    -------
    Imaging
        `problem_of` makes the problem of any of its images. There is no truth.

    Raises
    ------
    ValueError
        The table has no angles, an option is out of range, the molecule does not fit into the image, or
        `read_particles` or `motions_of` refuse.
    OSError
        A file is missing.
    """
    table = _first(read_particles(particles, optics_group, pixel_size_in_angstroms), n_observations)
    if table.rotation is None:
        raise ValueError(f"{table.source} has no angles; wanted particles after a refinement")
    atom_std = checks.positive("atom_std_in_angstroms", atom_std_in_angstroms)
    is_ensemble = trajectory is not None or not isinstance(structure, str | Path)
    width = (OF_ENSEMBLE if is_ensemble else OF_MODES) if init_half_width is None else init_half_width
    half_width = checks.positive("init_half_width", width)
    scale_std = checks.non_negative("scale_std", scale_std)
    error = float(np.deg2rad(checks.non_negative("pose_error_in_degrees", pose_error_in_degrees)))
    shift_error = checks.non_negative("shift_error_in_angstroms", shift_error_in_angstroms)
    if shift_error >= atom_std:
        raise ValueError(
            f"shift_error_in_angstroms is {shift_error:g}; wanted less than atom_std_in_angstroms, {atom_std:g}"
        )
    seed = checks.non_negative_int("seed", seed)
    molecule, beads = motions_of(structure, chain, n_modes, trajectory, atoms_per_bead, cutoff_in_angstroms, amplitude)
    if checks.boolean("in_map", in_map):
        first = structure if isinstance(structure, str | Path) else structure[0]
        middle = table.size // 2 * table.pixel
        offset = load(str(first), first, chain).coordinates.mean(0) - middle
        molecule, beads = molecule._replace(rest=molecule.rest + offset), beads._replace(rest=beads.rest + offset)
    return fitted(table, molecule, beads, atom_std, error, shift_error, scale_std, half_width, seed)


def _first(table: Particles, n: int | None) -> Particles:
    """The first n images."""
    if n is None:
        return table
    n = checks.positive_int("n_observations", n)
    if n > len(table.place):
        raise ValueError(f"n_observations is {n}; wanted at most {len(table.place)}, as {table.source} has")
    ctf = None if table.ctf is None else Ctf(*(a[:n] for a in table.ctf))
    rotation = None if table.rotation is None else table.rotation[:n]
    return table._replace(place=table.place[:n], rows=table.rows[:n], ctf=ctf, rotation=rotation, shift=table.shift[:n])
