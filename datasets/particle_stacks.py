"""Particles on disk: what tables say of them, and their pixels, read when they are wanted."""

import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import mrcfile
import numpy as np
from jaxtyping import Float, Int

from cryosip.datasets.particle_tables import Ctf, Table, ctf, in_group, pixel_size, pose, read_table

LEVELS = 3  # of folders above a table in which its project may begin: RELION writes Refine3D/job012/run_data.star


class Particles(NamedTuple):
    """Images of one size on disk.

    `files` are their stacks, `place` (n, 2) the file and the place in it, from 0, of each, and `rows` (n,) their places
    in the table, from 0. `ctf` is None where there is none, `rotation` where no refinement has told it: a point X of
    the molecule is seen at (R X)_xy + shift, shifts in angstroms. `message` says what of the table is not used.
    """

    source: Path
    size: int
    pixel: float
    files: tuple[Path, ...]
    place: Int[np.ndarray, "n 2"]
    rows: Int[np.ndarray, " n"]
    ctf: Ctf | None
    rotation: Float[np.ndarray, "n 3 3"] | None
    shift: Float[np.ndarray, "n 2"]
    message: str


def read_particles(
    source: str | Path, optics_group: str | None = None, pixel_size_in_angstroms: float | None = None
) -> Particles:
    """What a STAR file of RELION 3.0, or 3.1 and later, or a `.cs` file of cryoSPARC says of particles.

    Parameters
    ----------
    source
        The file. Names of stacks in it are relative to its folder, to one above it, as in RELION's and cryoSPARC's
        projects, or those of files beside it.
    optics_group
        The name of the only group to read; all by default, where they are alike.
    pixel_size_in_angstroms
        Of the images; by default as the file says.

    Returns
    -------
    Particles
        No pixels are read but the headers of stacks.

    Raises
    ------
    FileNotFoundError
        The file or a stack is missing.
    ValueError
        The file is no such table, names no images or images outside of its project, has no pixel size, incomplete
        angles or CTFs, groups of different sizes of which none is chosen; or a stack is no MRC file, is truncated, has
        images of another size than the table says, or fewer.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; wanted a STAR file of RELION or a .cs file of cryoSPARC")
    table = in_group(path, read_table(path), optics_group)
    pixel = pixel_size(path, table, pixel_size_in_angstroms)
    files, place, size = _stacks(path, table)
    rotation, shift = pose(path, table, pixel)
    unused = f"columns that are not used: {', '.join(table.unused)}" if table.unused else ""
    return Particles(path, size, pixel, files, place, table.rows, ctf(path, table), rotation, shift, unused)


def read_images(particles: Particles, rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k s s"]:
    """The pixels of some images, in float32; ValueError where one is not finite."""
    images = np.empty((len(rows), particles.size, particles.size), np.float32)
    place = particles.place[rows]
    for number in np.unique(place[:, 0]):
        here = np.flatnonzero(place[:, 0] == number)
        with _opened(particles.files[number]) as file:
            images[here] = _as_stack(file.data)[place[here, 1]]
    finite = np.isfinite(images).all((1, 2))
    if not finite.all():
        number, index = place[np.flatnonzero(~finite)[0]]
        raise ValueError(f"image {index + 1} of {particles.files[number]} holds NaN or infinite values; wanted numbers")
    return images


def _stacks(path: Path, table: Table) -> tuple[tuple[Path, ...], Int[np.ndarray, "n 2"], int]:
    """The files of the images, where each image is, and the pixels of a side."""
    if np.any(table.columns.get("rlnImageDimensionality", 2) == 3):
        raise ValueError(f"{path} has images of three dimensions; wanted particles of single-particle analysis")
    found = [re.fullmatch(r"(?:(\d+)@)?(.+)", str(name)) for name in table.columns["rlnImageName"]]
    names = [match[2] if match else "" for match in found]
    places = np.array([int(match[1] or 1) - 1 if match else -1 for match in found])
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    files = tuple(_file(path, name) for name in numbers)
    which = np.array([numbers[name] for name in names])
    sizes = {}
    for number, file in enumerate(files):
        with _opened(file) as opened:
            count, *sides = _as_stack(opened.data).shape
        sizes[file] = sides
        last = places[which == number]
        if last.min() < 0 or last.max() >= count:
            raise ValueError(f"{path} names image {last.max() + 1} of {file}, which has {count}; wanted one of them")
    sides = list(sizes.values())
    size = int(sides[0][0])
    told = table.columns.get("rlnImageSize")
    if any(side != [size, size] for side in sides) or (told is not None and np.any(told != size)):
        listed = ", ".join(f"{file.name} {' x '.join(map(str, side))}" for file, side in list(sizes.items())[:3])
        said = "" if told is None else f" where {path.name} says {told[0]:g}"
        raise ValueError(f"images have the pixels {listed}{said}; wanted squares of one size")
    return files, np.stack([which, places], axis=1), size


def _file(path: Path, name: str) -> Path:
    """A stack, by its name in a table: of the folder, of the project around it, or beside the table."""
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{path} names the stack {name}, which is outside of its project; wanted a path within it")
    folder = path.resolve().parent
    tried = [
        folder / relative,
        *(parent / relative for parent in list(folder.parents)[:LEVELS]),
        folder / relative.name,
    ]
    for file in tried:
        if file.is_file():
            return file
    raise FileNotFoundError(f"{path} names the stack {name}, which is neither at {tried[0]} nor in a folder above")


def _opened(file: Path) -> Any:
    """A stack, its pixels left on disk; ValueError for what is none, or is not whole."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of headers that programs left incomplete
            opened = mrcfile.mmap(file, permissive=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as a stack: {error}") from error
    if opened.data is None:
        raise ValueError(f"{file} is truncated, or no MRC file; wanted a whole stack")
    return opened


def _as_stack(data: np.ndarray) -> np.ndarray:
    """One image is a stack, too."""
    return data if data.ndim == 3 else data[None]
