"""The tables that particles came from, to be given back to other programs with more columns."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile

from cryosip.datasets.euler_angles import euler_angles
from cryosip.datasets.particle_stacks import Particles
from cryosip.datasets.particle_tables import read_table
from cryosip.datasets.protein_images import VOLTAGE_IN_KILOVOLTS

OPTICS = {
    "rlnOpticsGroupName": "opticsGroup1",
    "rlnVoltage": VOLTAGE_IN_KILOVOLTS,
    "rlnSphericalAberration": 0.0,
    "rlnAmplitudeContrast": 1.0,
}  # of images without a CTF: one that is 1 for RELION
OF_IMAGES = (
    "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift", "rlnCtfBfactor", "rlnCtfScalefactor",
)  # fmt: skip

Tables = dict[str, Any]  # of STAR files: data frames, or dictionaries of tables with one row


def source_tables(particles: Particles) -> tuple[Tables, str]:
    """All tables of the file that particles came from, and the name of that of the images: of these alone, in order.

    A STAR file keeps all of its tables and columns, and what they hold to the letter. For a `.cs` file, tables of
    RELION 3.1 say what is known of images, optics and poses.
    """
    return _of_cryosparc(particles) if particles.source.suffix == ".cs" else _of_relion(particles)


def star_text(tables: Tables) -> str:
    """The content of a STAR file."""
    return starfile.to_string(tables, float_format="%.8g", na_rep="nan")


def _of_relion(particles: Particles) -> tuple[Tables, str]:
    tables: Tables = starfile.read(particles.source, always_dict=True, parse_as_string=_columns(particles.source))
    (name,) = (name for name, table in tables.items() if isinstance(table, pd.DataFrame) and "rlnImageName" in table)
    return tables | {name: tables[name].iloc[particles.rows].reset_index(drop=True)}, name


def _columns(path: Path) -> list[str]:
    """Of all tables: numbers that are read as numbers would be written in other words."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return [match[1] for line in file if (match := re.match(r"\s*_(\S+)", line))]


def _of_cryosparc(particles: Particles) -> tuple[Tables, str]:
    """Optics groups are those of the file, or several of each where images of one differ in their optics."""
    columns = {name: a[particles.rows] for name, a in read_table(particles.source).columns.items()}
    n = len(particles.rows)
    of_images = pd.DataFrame({name: columns.get(name, np.full(n, value)) for name, value in OPTICS.items()})
    groups = of_images.drop_duplicates(ignore_index=True)
    number = of_images.merge(groups.assign(number=range(1, len(groups) + 1)), how="left")["number"].to_numpy()
    optics = groups.assign(
        rlnOpticsGroup=range(1, len(groups) + 1), rlnImagePixelSize=particles.pixel, rlnImageSize=particles.size,
        rlnImageDimensionality=2,
    )  # fmt: skip
    names = pd.Series(columns["rlnImageName"], dtype=str)
    images = {"rlnImageName": names, "rlnMicrographName": names.str.partition("@")[2], "rlnOpticsGroup": number}
    images |= {name: columns[name] for name in OF_IMAGES if name in columns}
    if particles.rotation is not None:
        angles = euler_angles(particles.rotation)
        images |= dict(zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), angles, strict=True))
        images |= {f"rlnOrigin{axis}Angst": -particles.shift[:, i] for i, axis in enumerate("XY")}
    return {"optics": optics, "particles": pd.DataFrame(images)}, "particles"
