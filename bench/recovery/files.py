"""What was recovered from particles, in files for other programs: tables of images, structures, maps of classes."""

import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cryosip.datasets.instance import Molecule
from cryosip.datasets.particle_files import write_mrc
from cryosip.datasets.particle_stacks import Particles
from cryosip.datasets.source_tables import source_tables, star_text
from cryosip.records.files import write_bytes, write_text

POSTERIORS, PARTICLES, STRUCTURES = "images.csv", "particles.star", "structures.pdb"
MODELS = 11  # along each mode
WIDTH = 80  # of a line of a PDB file

Shape = Float[np.ndarray, "a 3"]


def write_posteriors(
    folder: Path, particles: Particles, mean: Float[np.ndarray, "m d"], std: Float[np.ndarray, "m d"],
    gain: Float[np.ndarray, " m"], label: Int[np.ndarray, " m"], junk: Float[np.ndarray, " m"],
) -> None:  # fmt: skip
    """What is known of each image, in `images.csv`, and the table that images came from with it, in `particles.star`.

    `images.csv` has the columns image (its place in the table, from 1), name, theta_1, ..., std_1, ..., gain, class
    (from 1) and junk. `particles.star` keeps the tables and columns of the file, for the images that were used, in
    their order; rlnClassNumber is the class, and cryosipMode1, ..., cryosipModeStd1, ..., cryosipGain and
    cryosipJunkProbability are new. Names of stacks are as in the file: relative to the project that it is of.

    Parameters
    ----------
    folder
        Where the files are written; it is there.
    particles
        The m images, from whose `source` the table is read again.
    mean, std
        Of the posterior of each image, along each mode.
    gain
        Log-likelihood of each image over that of noise alone, in nats.
    label
        The class of each image, from 0.
    junk
        The probability that an image is of something else.

    Raises
    ------
    OSError
        The source is no longer there, or a file cannot be written.
    """
    tables, name = source_tables(particles)
    modes = range(1, mean.shape[1] + 1)
    of_images = {"image": particles.rows + 1, "name": tables[name]["rlnImageName"].to_numpy()}
    of_images |= {f"theta_{i}": mean[:, i - 1] for i in modes} | {f"std_{i}": std[:, i - 1] for i in modes}
    of_images |= {"gain": gain, "class": label + 1, "junk": junk}
    write_text(folder / POSTERIORS, pd.DataFrame(of_images).to_csv(index=False, float_format="%.6g"))
    new = {"rlnClassNumber": label + 1} | {f"cryosipMode{i}": mean[:, i - 1] for i in modes}
    new |= {f"cryosipModeStd{i}": std[:, i - 1] for i in modes}
    new |= {"cryosipGain": gain, "cryosipJunkProbability": junk}
    write_text(folder / PARTICLES, star_text(tables | {name: tables[name].assign(**new)}))


def write_structures(
    folder: Path, molecule: Molecule, theta: Float[np.ndarray, "k d"], shares: Float[np.ndarray, " k"],
    half_width: float, center: float = 0.0,
) -> None:  # fmt: skip
    """Representative structures, in `structures.pdb`, and the motion along each mode, in `mode-1.pdb`, ...

    `structures.pdb` has a model for each, whose share and theta are in its remarks; files of modes have eleven, which
    ChimeraX plays after `open mode-1.pdb coordset true`. Beads are C-alphas of one chain, numbered from 1.

    Parameters
    ----------
    folder
        Where the files are written; it is there.
    molecule
        Whose beads are at rest + sum_i theta_i motions_i.
    theta, shares
        Of each structure.
    half_width
        Models of a mode are at equal steps of theta from -half_width to half_width.
    center
        Where the molecule's origin is along each axis, in angstroms: 0, or size // 2 times the pixel for structures
        that lie in the maps of `write_class_maps`, which begin at 0.
    """
    rest, motions = molecule.rest + center, molecule.motions
    shapes = rest + np.tensordot(theta, motions, 1)
    said = [
        f"MODEL {i}: SHARE {share:.4f}, THETA {' '.join(f'{value:.3f}' for value in place)}"
        for i, (share, place) in enumerate(zip(shares, theta, strict=True), start=1)
    ]
    write_text(folder / STRUCTURES, pdb_text(list(shapes), said))
    steps = np.linspace(-half_width, half_width, MODELS)
    for i, motion in enumerate(motions, start=1):
        said = [f"MODEL {number}: THETA_{i} {step:.3f}" for number, step in enumerate(steps, start=1)]
        write_text(folder / f"mode-{i}.pdb", pdb_text([rest + step * motion for step in steps], said))


def pdb_text(shapes: Sequence[Shape], remarks: Sequence[str]) -> str:
    """A PDB file with one model for each shape, in angstroms, after its remarks."""
    start = "REMARK   6 "
    lines = [start + line for remark in remarks for line in textwrap.wrap(remark, WIDTH - len(start))]
    for number, shape in enumerate(shapes, start=1):
        lines += [f"MODEL     {number:4d}", *(_atom(i, *place) for i, place in enumerate(shape.tolist(), start=1))]
        lines += ["TER", "ENDMDL"]
    return "\n".join([*lines, "END", ""])


def _atom(i: int, x: float, y: float, z: float) -> str:
    """Numbers begin again where their columns end."""
    return f"ATOM  {i % 100_000:5d}  CA  GLY A{i % 10_000:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C"


def write_class_maps(folder: Path, maps: Float[np.ndarray, "k s s s"], pixel: float) -> None:
    """Maps by z, y and x, with voxels of `pixel` angstroms, in `class-1.mrc`, ..."""
    with tempfile.TemporaryDirectory() as elsewhere:
        for i, voxels in enumerate(maps, start=1):
            name = f"class-{i}.mrc"
            write_mrc(Path(elsewhere) / name, voxels, pixel)
            write_bytes(folder / name, (Path(elsewhere) / name).read_bytes())
