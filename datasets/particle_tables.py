"""Tables of particles as RELION and cryoSPARC write them: what they say of each image, in the names of RELION."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import starfile
from jaxtyping import Array, Float, Int
from scipy.spatial.transform import Rotation

from cryosip.datasets.euler_angles import rotations_of
from cryosip.methods import checks

Column = Float[np.ndarray, " n"]
OfImages = Float[Array | np.ndarray, " n"]
MILLIMETRE, MICROMETRE, DEGREE = 1e7, 1e4, np.pi / 180  # in angstroms and radians
READ = (
    "rlnImageName", "rlnImagePixelSize", "rlnImageSize", "rlnMagnification", "rlnDetectorPixelSize",
    "rlnOpticsGroup", "rlnOpticsGroupName", "rlnImageDimensionality", "rlnCtfDataAreCtfPremultiplied",
    "rlnCtfDataArePhaseFlipped", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnPhaseShift",
    "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnCtfBfactor", "rlnCtfScalefactor", "rlnAngleRot",
    "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginX", "rlnOriginY",
)  # fmt: skip
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
CHANGED = ("rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped")
# cryoSPARC's names, and what makes RELION's of them
OF_CRYOSPARC: dict[str, tuple[str, float]] = {
    "blob/psize_A": ("rlnImagePixelSize", 1.0),
    "ctf/exp_group_id": ("rlnOpticsGroupName", 1.0),
    "ctf/accel_kv": ("rlnVoltage", 1.0),
    "ctf/cs_mm": ("rlnSphericalAberration", 1.0),
    "ctf/amp_contrast": ("rlnAmplitudeContrast", 1.0),
    "ctf/df1_A": ("rlnDefocusU", 1.0),
    "ctf/df2_A": ("rlnDefocusV", 1.0),
    "ctf/df_angle_rad": ("rlnDefocusAngle", 180 / np.pi),
    "ctf/phase_shift_rad": ("rlnPhaseShift", 180 / np.pi),
    "ctf/bfactor": ("rlnCtfBfactor", 1.0),
    "ctf/scale": ("rlnCtfScalefactor", 1.0),
}


class Ctf(NamedTuple):
    """Of each image: defocus along two axes and the aberration in angstroms, angle and phase shift in radians, the
    voltage in kilovolts, the amplitude contrast, the B-factor in angstroms^2 and a factor of all.
    """

    defocus_u: OfImages
    defocus_v: OfImages
    angle: OfImages
    voltage: OfImages
    spherical_aberration: OfImages
    amplitude_contrast: OfImages
    phase_shift: OfImages
    b_factor: OfImages
    scale: OfImages


class Table(NamedTuple):
    """One row for each image, in the names of RELION, and those of its columns that nothing here reads.

    `rows` (n,) are their places in the file, from 0.
    """

    columns: dict[str, np.ndarray]
    unused: tuple[str, ...]
    rows: Int[np.ndarray, " n"]


def read_table(path: Path) -> Table:
    """Of a STAR file, or of a `.cs` file; ValueError for what is none."""
    return _of_cryosparc(path) if path.suffix == ".cs" else _of_relion(path)


def _of_relion(path: Path) -> Table:
    """The table of particles, with the columns of its optics groups."""
    try:
        tables: dict[str, Any] = starfile.read(path, always_dict=True)
    except Exception as error:  # of whatever a file that is no STAR file makes it stumble over
        raise ValueError(f"{path} cannot be read as a STAR file: {error}") from error
    named = {name: t for name, t in tables.items() if isinstance(t, pd.DataFrame) and "rlnImageName" in t}
    if len(named) != 1:
        raise ValueError(
            f"{path} has the tables {', '.join(map(repr, tables)) or 'none'}; wanted one with the column rlnImageName"
        )
    (particles,) = named.values()
    optics = tables.get("optics")
    if optics is not None:
        optics = pd.DataFrame(optics) if isinstance(optics, pd.DataFrame) else pd.DataFrame([optics])
        if "rlnOpticsGroup" not in particles or "rlnOpticsGroup" not in optics:
            raise ValueError(f"{path} has a table of optics without rlnOpticsGroup; wanted it there and in particles")
        if unknown := sorted(set(particles["rlnOpticsGroup"]) - set(optics["rlnOpticsGroup"])):
            raise ValueError(f"{path} has images of optics group {unknown[0]}, which its table of optics does not have")
        new = ["rlnOpticsGroup", *(c for c in optics if c not in particles)]
        particles = particles.merge(optics[new], on="rlnOpticsGroup", how="left", validate="many_to_one")
    columns = {str(name): particles[name].to_numpy() for name in particles}
    read, unused = {n: c for n, c in columns.items() if n in READ}, tuple(n for n in columns if n not in READ)
    return Table(read, unused, np.arange(len(particles)))


def _of_cryosparc(path: Path) -> Table:
    """cryoSPARC's rotation vectors are of the inverse rotation; its shifts are RELION's origins, in pixels."""
    try:
        rows = np.load(path, allow_pickle=False)  # an array of objects would run whatever it holds
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a .cs file: {error}") from error
    names = rows.dtype.names or ()
    if wanted := [name for name in ("blob/path", "blob/idx", "blob/psize_A") if name not in names]:
        raise ValueError(f"{path} has no field {wanted[0]}; wanted the particles of cryoSPARC, with their blobs")
    files = [(p.decode() if isinstance(p, bytes) else str(p)).removeprefix(">") for p in rows["blob/path"]]
    columns: dict[str, np.ndarray] = {
        "rlnImageName": np.array([f"{i + 1}@{file}" for i, file in zip(rows["blob/idx"].tolist(), files, strict=True)])
    }
    for name, (ours, factor) in OF_CRYOSPARC.items():
        if name in names:
            columns[ours] = rows[name].astype(str) if ours == "rlnOpticsGroupName" else rows[name] * factor
    used = {"blob/path", "blob/idx", *OF_CRYOSPARC}
    if "alignments3D/pose" in names:
        inverse = Rotation.from_rotvec(np.asarray(rows["alignments3D/pose"], float)).inv().as_matrix()
        columns["rotation"] = inverse
        shift = np.asarray(rows["alignments3D/shift"], float)
        pixel = rows["alignments3D/psize_A"] if "alignments3D/psize_A" in names else rows["blob/psize_A"]
        columns |= {f"rlnOrigin{axis}Angst": shift[:, i] * pixel for i, axis in enumerate("XY")}
        used |= {"alignments3D/pose", "alignments3D/shift", "alignments3D/psize_A"}
    return Table(columns, tuple(name for name in names if name not in used), np.arange(len(rows)))


def in_group(path: Path, table: Table, wanted: str | None) -> Table:
    """The rows of one optics group, or all, where images of all groups are alike."""
    columns = table.columns
    n = len(columns["rlnImageName"])
    if n == 0:
        raise ValueError(f"{path} names no images; wanted one or more")
    names = columns.get("rlnOpticsGroupName", columns.get("rlnOpticsGroup", np.zeros(n, int))).astype(str)
    alike = [columns[name] for name in ("rlnImageSize", "rlnImagePixelSize") if name in columns]
    kinds = {name: [float(a[names == name][0]) for a in alike] for name in np.unique(names).tolist()}
    told = "; ".join(f"{name!r}: {(names == name).sum()} images {_size_of(kind)}" for name, kind in kinds.items())
    if wanted is None:
        if len({tuple(kind) for kind in kinds.values()}) > 1:
            raise ValueError(f"{path} has optics groups of different images, {told}; wanted optics_group, one of them")
        return table
    if wanted not in kinds:
        raise ValueError(f"optics_group is {wanted!r}; wanted one of {path}: {told}")
    return Table({name: a[names == wanted] for name, a in columns.items()}, table.unused, table.rows[names == wanted])


def _size_of(kind: Sequence[float]) -> str:
    return f"of {' pixels, '.join(f'{value:g}' for value in kind)} angstroms" if len(kind) == 2 else ""


def pixel_size(path: Path, table: Table, given: float | None) -> float:
    """In angstroms: the given one, else that of the table; ValueError where it has none, several, or none above 0."""
    columns = table.columns
    if given is not None:
        return checks.positive("pixel_size_in_angstroms", given)
    if "rlnImagePixelSize" in columns:
        found = columns["rlnImagePixelSize"]
    elif {"rlnDetectorPixelSize", "rlnMagnification"} <= set(columns):
        with np.errstate(divide="ignore", invalid="ignore"):
            found = columns["rlnDetectorPixelSize"] * MICROMETRE / columns["rlnMagnification"]
    else:
        raise ValueError(f"{path} does not say how large pixels are; wanted pixel_size_in_angstroms")
    sizes = np.unique(np.asarray(found, float))
    if len(sizes) > 1 or not (np.isfinite(sizes[0]) and sizes[0] > 0):
        raise ValueError(
            f"{path} has pixels of {', '.join(f'{s:g}' for s in sizes)} angstroms; wanted one size above 0, or "
            "pixel_size_in_angstroms"
        )
    return float(sizes[0])


def _numbers(path: Path, table: Table, name: str, otherwise: float | None = None) -> Column:
    """A column; without it the same number for all, or a ValueError where there is none that would do."""
    n = len(table.columns["rlnImageName"])
    if name not in table.columns:
        if otherwise is None:
            raise ValueError(f"{path} has no {name}; wanted it beside the other columns of its kind")
        return np.full(n, otherwise)
    try:
        found = np.asarray(table.columns[name], float)
    except ValueError as error:
        raise ValueError(f"{name} of {path} is no number: {error}") from error
    if not np.isfinite(found).all():
        raise ValueError(f"{name} of {path} is {found[~np.isfinite(found)][0]}; wanted finite numbers")
    return found


def ctf(path: Path, table: Table) -> Ctf | None:
    """That of each image, None where the table has none or a constant; ValueError for images that are changed by it,
    and columns that are missing or no numbers.
    """
    column = partial(_numbers, path, table)
    for name in CHANGED:
        if column(name, 0.0).any():
            raise ValueError(f"{path} has images with {name} 1; wanted images as the microscope made them")
    if "rlnDefocusU" not in table.columns:
        return None
    found = Ctf(
        column("rlnDefocusU"),
        column("rlnDefocusV") if "rlnDefocusV" in table.columns else column("rlnDefocusU"),
        column("rlnDefocusAngle", 0.0) * DEGREE,
        column("rlnVoltage"),
        column("rlnSphericalAberration") * MILLIMETRE,
        column("rlnAmplitudeContrast"),
        column("rlnPhaseShift", 0.0) * DEGREE,
        column("rlnCtfBfactor", 0.0),
        column("rlnCtfScalefactor", 1.0),
    )
    if (found.voltage <= 0).any() or (np.abs(found.amplitude_contrast) > 1).any():
        raise ValueError(f"{path} has a voltage that is not positive, or an amplitude contrast outside [-1, 1]")
    # as images without a CTF are written
    none = [found.defocus_u, found.defocus_v, found.spherical_aberration, found.phase_shift, found.b_factor]
    is_one = not np.any(none) and (found.amplitude_contrast == 1).all() and (found.scale == 1).all()
    return None if is_one else found


def pose(path: Path, table: Table, pixel: float) -> tuple[Float[np.ndarray, "n 3 3"] | None, Float[np.ndarray, "n 2"]]:
    """Rotations, None where the table has none, and shifts in angstroms: the opposite of origins."""
    columns = table.columns
    rotation = columns.get("rotation")
    told = [name for name in ANGLES if name in columns]
    if told and len(told) < len(ANGLES):
        raise ValueError(f"{path} has {' and '.join(told)} alone; wanted all of {', '.join(ANGLES)}")
    if told:
        rotation = rotations_of(*(_numbers(path, table, name) for name in ANGLES))
    axes = [
        _numbers(path, table, f"rlnOrigin{axis}Angst")
        if f"rlnOrigin{axis}Angst" in columns
        else _numbers(path, table, f"rlnOrigin{axis}", 0.0) * pixel
        for axis in "XY"
    ]
    return rotation, -np.stack(axes, axis=1)
