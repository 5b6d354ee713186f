"""A protein that moves along its normal modes, seen from everywhere: section 4.3."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from cryosip.datasets import gemmi_adapter
from cryosip.datasets.conformations import MEANS, checked_conformations
from cryosip.datasets.instance import Instance, Molecule, checked
from cryosip.datasets.protein_experiment import Experiment, checked_pose_error, checked_volume, simulate
from cryosip.datasets.protein_images import Beads, Camera, Scattering
from cryosip.datasets.protein_poses import PoseRange, checked_defocus
from cryosip.datasets.structures import Modes, Trace, load, normal_modes
from cryosip.datasets.views import checked_views
from cryosip.datasets.volume_problem import of_volumes
from cryosip.methods import checks

AMPLITUDES = {"root": lambda eigenvalues: eigenvalues**-0.5, "inverse": lambda eigenvalues: 1 / eigenvalues}
INTENSITIES = ("snr", "scattering")
FOUR_STATES = ((9.0, 9.0, 0.0, 0.0), (9.0, -7.0, 0.0, 0.0), (-7.0, 9.0, 0.0, 0.0), (-7.0, -7.0, 0.0, 0.0))
TWO_STATES = (FOUR_STATES[0], FOUR_STATES[3])


def protein(
    name: str,
    n_observations: int = 3_000,
    image_size: int = 128,
    pixel_size_in_angstroms: float = 1.5,
    atom_std_in_angstroms: float = 2.5,
    snr: float = 1.0,
    noise_std: float = 1.0,
    cutoff_in_angstroms: float = 15.0,
    atoms_per_bead: int = 1,
    means: Sequence[Sequence[float]] = MEANS,
    std: float = 1.0,
    states: Sequence[Sequence[float]] | None = None,
    populations: Sequence[float] | None = None,
    init_half_width: float = 7.0,
    view_concentration: float = 0.0,
    view_axes: Sequence[Sequence[float]] | None = None,
    max_shift_in_angstroms: float = 0.0,
    defocus_range_in_angstroms: tuple[float, float] | None = None,
    cropped_size: int | None = None,
    volume_size: int | None = None,
    pose_error_in_degrees: float | None = None,
    structure: str | Path | None = None,
    chain: str = "A",
    amplitude: str = "root",
    intensity: str = "snr",
    element: str = "C",
    b_factor: float = 0.0,
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """Section 4.3: a protein that moves along its normal modes, from noisy projections in unknown directions.

    The C-alpha atoms (or beads, the means of `atoms_per_bead` consecutive ones) are at X = X_0 + sum_i a_i z_i v_i with
    the lowest modes v_i of the anisotropic network model [atilgan2001] and a_i = 1 / sqrt(lambda_i) of its eigenvalues.
    An image is c * sum_a n_a exp(-|g - (R X_a)_xy - t|^2 / (2 s^2)) at the pixels g, n_a the atoms of bead a and s =
    `atom_std_in_angstroms`; y = image + noise, N(0, noise_std^2 I) [sanchez2025]. R is uniform on SO(3), t on
    [-max_shift, max_shift]^2. theta is z, whitened; the paper's own coordinates are a_i z_i.

    The defaults are the paper's where it states them; it leaves open the chain, the atoms, cutoff, pixel size, atom
    width and scale of the signal.

    Parameters
    ----------
    name
        "adk" or a PDB id, as `load` says.
    n_observations
        Images; 3000 by default.
    image_size
        S, pixels of a side; 128 by default.
    pixel_size_in_angstroms
        Of a pixel's side; 1.5 by default, with which the molecules of the paper fit into 128 pixels.
    atom_std_in_angstroms
        s; 2.5 by default, which pixels of 1.5 resolve.
    snr
        c makes the mean of |image|^2 equal to snr * noise_std^2 * (W / 1.5)^2, W the width of the image in angstroms:
        snr * noise_std^2 * 128^2 for the default images, and as much for larger pixels, which average the noise of
        those within. 1 by default.
    noise_std
        Std of the noise in each pixel, in units of y; 1 by default.
    cutoff_in_angstroms
        Of the network's springs; 15 by default, which `normal_modes` has too.
    atoms_per_bead
        1 to 4; 1 by default. More make images cheaper.
    means
        Centres of the equal Gaussians of each mode, as many modes as there are lists; by default two at 9 and -7 in the
        two lowest modes, one at 0 in the next two. Without unit, like theta.
    std
        Of these Gaussians; 1 by default.
    states, populations
        Discrete conformers in place of `means`: theta is one of `states` (k, modes), with the probability of its
        population, plus N(0, std^2 I). Populations (k,) sum to 1; by default they are equal.
    init_half_width
        The initial distribution is uniform on [-init_half_width, init_half_width] in each mode; rho_p, which must be
        smooth, is the Gaussian of its variance; `theta_box` is twice as wide. 7 by default.
    view_concentration
        kappa of the density of von Mises and Fisher [fisher1953] of the direction R^T e_3 from which a molecule is seen
        (`Views`); 0, the default: uniform. Methods are not told: `sample_pose` and `pose_quadrature` stay uniform, a
        model that is wrong on purpose where poses are integrated out. Of poses that are given, nothing is wrong but
        that methods take them to be independent of the state.
    view_axes
        The directions around which views are, of any length, in the frame of the structure: one, (0, 0, 1) by default,
        or one of each of `states`, whose poses then say something of the state.
    max_shift_in_angstroms
        0 by default: molecules are centred.
    defocus_range_in_angstroms
        (lowest, highest): each image has a CTF at 300 kV of its own uniform defocus. None, the default: no CTF.
    cropped_size
        An odd number from 3 to S: the lowest Fourier coefficients of the images, as many as an image of that size has,
        are offered as `span`, whose error is the largest distance of an image of 200 draws of the initial distribution.
        None by default.
    volume_size
        L, from 4 to S: `volumes` are offered in a cube of L^3 voxels as wide as the images, and as `span` the Fourier
        coefficients that its slices have, as `cropped_size` 2 floor((L - 1) / 2) + 1 would. None by default.
    pose_error_in_degrees
        `poses` are offered: each observation's own rotation after another by no more than so many degrees, uniform
        among these; shift and defocus as they are. None, the default: poses are unknown.
    structure
        A PDB or an mmCIF file to read in place of what the name stands for.
    chain
        Of the structure, "A" by default; "A,B" are both as one molecule.
    amplitude
        "root", the default: a_i = 1 / sqrt(lambda_i), as the paper prints; "inverse": a_i = 1 / lambda_i, with which
        atoms move further, as the paper's numbers suggest.
    intensity
        "snr", the default, for Gaussian atoms and the signal that `snr` says; "scattering" for images in units of noise
        that are integrals of the scattering potential: an atom is 4 pi sum_j a_j N(0, (b_j + B) / (8 pi^2)), averaged
        over each pixel, in 1 / angstrom, of the tabulated five Gaussians of its element [peng1996].
    element
        Of all atoms of "scattering"; "C" by default, for C-alphas.
    b_factor
        B of "scattering", in angstroms^2; 0 by default.
    outliers, outlier_kind
        A share of the images that is contaminated, 0 by default, and how, as `contaminated` says: "wide", the default,
        "noise" or "neighbour".
    seed
        Of theta*, poses and noise; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, S^2), row by row from the lowest y, rows along y and columns along x; theta (n,
        modes); `molecule` has lengths in angstroms.

    Raises
    ------
    ValueError
        A count is below 1, a length or a noise is not positive, a bead has more than 4 atoms, the cropped size is even
        or larger than the image, the volume size is below 4, larger than the image or given with a cropped size, the
        pose error is not in [0, 180], the share of outliers is outside [0, 1), an amplitude or an intensity is unknown,
        an element has no tabulated factor, an option of one intensity is given with the other, or
        `checked_conformations`, `checked_views`, `load` or `normal_modes` refuse.
    OSError
        There is no structure to be had.
    """
    size = checks.positive_int("image_size (of square images)", image_size)
    pixel = checks.positive("pixel_size_in_angstroms", pixel_size_in_angstroms)
    atom_std = checks.positive("atom_std_in_angstroms", atom_std_in_angstroms)
    max_shift = checks.non_negative("max_shift_in_angstroms", max_shift_in_angstroms)
    checked_volume(volume_size, cropped_size, size)
    scattering = _checked_scattering(intensity, element, b_factor, snr, atom_std)
    experiment = Experiment(
        name=name,
        n_observations=checks.positive_int("n_observations", n_observations),
        snr=checks.positive("snr", snr) if intensity == "snr" else None,
        noise_std=checks.positive("noise_std", noise_std),
        conformations=checked_conformations(means, std, states, populations),
        init_half_width=checks.positive("init_half_width", init_half_width),
        poses=PoseRange(max_shift, checked_defocus(defocus_range_in_angstroms)),
        views=checked_views(view_concentration, view_axes, 1 if states is None else len(states)),
        cropped_size=cropped_size,
        volume_size=volume_size,
        pose_error=checked_pose_error(pose_error_in_degrees),
        outliers=outliers,
        outlier_kind=outlier_kind,
        seed=checks.non_negative_int("seed", seed),
    )
    trace = load(name, structure, chain)
    modes = normal_modes(trace, cutoff_in_angstroms, experiment.conformations.dimension)
    amplitudes = AMPLITUDES[checks.one_of("amplitude", amplitude, AMPLITUDES)](modes.eigenvalues)
    molecule, beads = beads_of(trace, modes, amplitudes, atoms_per_bead)
    camera = Camera(size, pixel, atom_std, experiment.poses.defocus is not None, scattering)
    return checked(simulate(camera, beads, experiment)._replace(molecule=molecule))


def hsp90(**options: Any) -> Instance:
    """HSP90 of section 4.3: chain A of PDB entry 2IOP, or of the file `structure`; the options are those of protein."""
    return protein("2iop", **options)


def adk(**options: Any) -> Instance:
    """Adenylate kinase 4AKE, which needs neither file nor network, as in section 4.3; options are those of protein."""
    return protein("adk", **options)


def adk_volumes(volume_size: int = 16, **options: Any) -> Instance:
    """Adenylate kinase, or the file `structure`: theta are densities, as `of_volumes` says; options as of protein."""
    return of_volumes(adk(volume_size=volume_size, **options))


def adk_states(
    volume_size: int = 16,
    states: Sequence[Sequence[float]] = FOUR_STATES,
    populations: Sequence[float] = (0.4, 0.3, 0.2, 0.1),
    **options: Any,
) -> Instance:
    """Four discrete conformers of adenylate kinase, in unequal populations; theta are densities, as of adk_volumes."""
    return adk_volumes(volume_size, states=states, populations=populations, **options)


def adk_entangled(
    volume_size: int = 16,
    states: Sequence[Sequence[float]] = TWO_STATES,
    populations: Sequence[float] = (0.7, 0.3),
    view_concentration: float = 4.0,
    view_axes: Sequence[Sequence[float]] = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    **options: Any,
) -> Instance:
    """Two conformers of adenylate kinase, each seen mostly from a side of its own; theta are densities."""
    views = {"view_concentration": view_concentration, "view_axes": view_axes}
    return adk_volumes(volume_size, states=states, populations=populations, **views, **options)


def _show_options(factory: Callable[..., Instance]) -> None:
    """inspect.signature then shows the options and their defaults."""
    own = inspect.signature(factory).parameters
    theirs = inspect.signature(protein)
    options = [own.get(name, p) for name, p in theirs.parameters.items()]
    factory.__signature__ = theirs.replace(parameters=options)  # type: ignore[attr-defined]


for _factory in (adk, hsp90, adk_volumes, adk_states, adk_entangled):
    _show_options(_factory)


def beads_of(trace: Trace, modes: Modes, amplitudes: np.ndarray, atoms_per_bead: int) -> tuple[Molecule, Beads]:
    """Beads of consecutive atoms, how they move with each z, and how many atoms each holds; ValueError for over 4."""
    if checks.positive_int("atoms_per_bead", atoms_per_bead) > 4:
        raise ValueError(f"atoms_per_bead is {atoms_per_bead}; wanted 1 to 4")
    starts = np.arange(0, len(trace.coordinates), atoms_per_bead)
    atoms = np.diff(np.append(starts, len(trace.coordinates))).astype(np.float64)

    def pooled(per_atom: np.ndarray) -> np.ndarray:
        return np.add.reduceat(per_atom, starts, axis=0) / atoms[:, None]

    rest = pooled(trace.coordinates - trace.coordinates.mean(0))
    motions = np.stack([pooled(v) * a for v, a in zip(modes.vectors, amplitudes, strict=True)])
    molecule = Molecule(
        trace.source,
        trace.chain,
        len(trace.coordinates),
        rest,
        motions,
        modes.eigenvalues,
        modes.collectivity,
        amplitudes,
    )
    return molecule, Beads(atoms, jnp.asarray(rest, jnp.float32), jnp.asarray(motions, jnp.float32))


def _checked_scattering(
    intensity: str, element: str, b_factor: float, snr: float, atom_std: float
) -> Scattering | None:
    """The potential of an atom, None where atoms are Gaussians; ValueError for options of the other intensity."""
    scatters = checks.one_of("intensity", intensity, INTENSITIES) == "scattering"
    defaults = inspect.signature(protein).parameters
    given = (
        {"element": element, "b_factor": b_factor} if not scatters else {"snr": snr, "atom_std_in_angstroms": atom_std}
    )
    for name, value in given.items():
        if value != defaults[name].default:
            raise ValueError(f"{name} is {value!r} with intensity {intensity!r}, which does not use it; wanted none")
    if not scatters:
        return None
    a, b = gemmi_adapter.scattering_factor(checks.instance_of("element", element, str))
    b = b + checks.non_negative("b_factor", b_factor)
    return Scattering(4 * np.pi * a, np.sqrt(b / (8 * np.pi**2)))
