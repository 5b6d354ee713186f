"""What ProDy does for ensembles: superposition, frames of DCD files, and all atoms of a structure in their order."""

import gzip
import io
import re
import struct
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

# one file alone imports ProDy; that one decides which published records hold, so it stays as it is
from cryosip.datasets.prody_adapter import _prody

FRAMES_IN_HEADER = 8  # bytes from the start of a DCD file to the number of its frames


def superposed_on_mean(
    structures: Float[np.ndarray, "k n 3"], frame: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "k n 3"]:
    """Structures, each rotated and shifted onto their mean, and all by one motion that puts their mean on a frame.

    The mean is that of the structures superposed on it, found by iteration from the frame [kabsch1976].
    """
    with _prody() as prody:
        ensemble = prody.Ensemble()
        ensemble.setCoords(np.array(frame, np.float64))
        ensemble.addCoordset(np.array(structures, np.float64))  # a copy, which ProDy moves in its place
        ensemble.iterpose(quiet=True)
        moved = ensemble.getCoordsets()
        back = prody.calcTransformation(moved.mean(0), np.array(frame, np.float64))
        atoms: Float[np.ndarray, "m 3"] = back.apply(moved.reshape(-1, 3))
    return atoms.reshape(moved.shape)


def atoms_in_order(path: Path) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "c 3"]]:
    """The coordinates of all atoms of a PDB or an mmCIF file's first model, in its order, and of its C-alphas.

    Of alternate locations there is one. The content decides, not the name, as in `gemmi_adapter`; ValueError where
    ProDy cannot read the file.
    """
    with path.open("rb") as content:
        packed = content.read(2) == b"\x1f\x8b"
    with (gzip.open if packed else open)(path, "rt", encoding="utf-8", errors="replace") as file:
        text = file.read()
    with _prody() as prody:
        has_table = re.search(r"^\s*_atom_site\.", text, flags=re.MULTILINE)
        parse = prody.parseMMCIFStream if has_table else prody.parsePDBStream
        try:
            # ProDy leaves out an atom in the last line of an mmCIF file
            atoms = parse(io.StringIO(f"{text}\n#\n"), model=1)
            found: tuple[np.ndarray, np.ndarray] = atoms.getCoords(), atoms.ca.getCoords()
        except Exception as error:  # ProDy has none of its own
            raise ValueError(f"ProDy cannot read all atoms of {path}: {type(error).__name__}: {error}") from error
    return found


def dcd_frames(path: Path) -> Generator[Float[np.ndarray, "n 3"], None, None]:
    """The frames of a DCD file of CHARMM, NAMD or OpenMM, in angstroms, one after the other.

    ValueError where ProDy cannot read the file, where it ends within a frame, and where it has fewer frames than its
    header counts; more are taken, as some programs count them at the end of a run.
    """
    with _prody() as prody:
        try:
            file = prody.DCDFile(str(path))
        except (OSError, TypeError, ValueError, struct.error) as error:
            raise ValueError(f"{path} is damaged: ProDy cannot read its header ({error}); wanted a DCD file") from error
        try:
            _check_whole(path, file)
            for _ in range(file.numFrames()):
                yield np.asarray(file.nextCoordset(), np.float64)
        finally:
            file.close()


def _check_whole(path: Path, file: Any) -> None:
    """ProDy takes the frames that are there, and reports what is missing in its log alone."""
    if file.numAtoms() < 1:
        raise ValueError(f"{path} is a DCD file of X-PLOR or has no atoms; wanted one of CHARMM, NAMD or OpenMM")
    content = path.stat().st_size - file._first_byte
    whole, rest = divmod(content, file._bytes_per_frame)
    if rest:
        raise ValueError(f"{path} is damaged: it ends within frame {whole + 1}; wanted whole frames")
    with path.open("rb") as opened:
        opened.seek(FRAMES_IN_HEADER)
        (counted,) = struct.unpack("i", opened.read(4))  # native: ProDy reads no other bytes
    if whole < counted:
        raise ValueError(f"{path} is damaged: it has {whole} of the {counted} frames that its header counts")
