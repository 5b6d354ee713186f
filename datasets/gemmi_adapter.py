"""The only file that knows gemmi: the C-alpha atoms of PDB and mmCIF files."""

import gzip
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np
from jaxtyping import Float, Int


class CAlphas(NamedTuple):
    """The C-alpha atoms of the first model of a file, in the order of the file.

    `coordinates` in angstroms; `residues` are numbers, distinguished by `insertions` (letters, "" for none) where a
    number is used twice; `alternates` are the letters of alternate locations, "" where there is but one.
    """

    chains: list[str]
    residues: Int[np.ndarray, " n"]
    insertions: list[str]
    alternates: list[str]
    coordinates: Float[np.ndarray, "n 3"]


def read_calphas(path: Path) -> CAlphas:
    """The C-alpha atoms of all chains of a PDB or mmCIF file, gzip or not: the content decides, not the name.

    Chains and residues have the names that the authors of the structure gave (auth_asym_id and auth_seq_id of
    mmCIF). C-alphas are atoms CA of amino acids, modified ones included; and those of ATOM records whose residue has
    a name that gemmi does not know, such as the HID and CYX of force fields.

    Raises OSError where the file cannot be read, and ValueError where it is no structure.
    """
    text = _text(path)
    if re.search(r"^\s*_atom_site\.", text, flags=re.MULTILINE):
        file_format = gemmi.CoorFormat.Mmcif
    elif re.search(r"^(ATOM  |HETATM)", text, flags=re.MULTILINE):
        file_format = gemmi.CoorFormat.Pdb
    else:
        raise ValueError(f"{path} has neither ATOM records nor a table _atom_site; wanted a PDB or an mmCIF file")
    try:
        if file_format == gemmi.CoorFormat.Pdb:
            _check_numbers(text)
        return _calphas(gemmi.read_structure_string(text, format=file_format))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a structure: {type(error).__name__}: {error}") from error


def _text(path: Path) -> str:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; wanted a PDB or an mmCIF file")
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":  # gemmi unpacks files by their names alone
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is damaged: its gzip stream cannot be unpacked ({error})") from error
    if not content.strip():
        raise ValueError(f"{path} is empty; wanted a PDB or an mmCIF file")
    return content.decode("utf-8", errors="replace")


def _check_numbers(text: str) -> None:
    """ValueError for a C-alpha of a PDB file's first model with a coordinate that is no number: gemmi reads it as 0."""
    for line in text.partition("\nENDMDL")[0].splitlines():
        if line.startswith(("ATOM  ", "HETATM")) and line[12:16].strip() == "CA":
            for column in (30, 38, 46):
                float(line[column : column + 8])


def _calphas(structure: gemmi.Structure) -> CAlphas:
    chains = structure[0] if len(structure) else ()
    residues = [(chain.name, residue) for chain in chains for residue in chain if _is_amino_acid(residue)]
    found = [(chain, residue.seqid, atom) for chain, residue in residues for atom in residue if atom.name == "CA"]
    return CAlphas(
        [chain for chain, _, _ in found],
        np.array([number.num for _, number, _ in found], int),
        [number.icode.strip() for _, number, _ in found],
        [atom.altloc.strip("\0") for _, _, atom in found],
        np.array([atom.pos.tolist() for _, _, atom in found]).reshape(-1, 3),
    )


def _is_amino_acid(residue: gemmi.Residue) -> bool:
    kind = gemmi.find_tabulated_residue(residue.name)
    return kind.is_amino_acid() or (residue.het_flag == "A" and not kind.found())


def scattering_factor(element: str) -> tuple[Float[np.ndarray, "5"], Float[np.ndarray, "5"]]:
    """a_j in angstroms and b_j in angstroms^2 of f(s) = sum_j a_j exp(-b_j s^2), s = k / 2, of electrons [peng1996].

    Raises ValueError for an element that has none in the table of s <= 2 / angstrom.
    """
    found = gemmi.Element(element)
    if found.name.lower() != element.lower() or (factors := found.c4322) is None:
        raise ValueError(
            f"element is {element!r}; wanted one with a tabulated scattering factor of electrons, such as 'C'"
        )
    return np.array(factors.a), np.array(factors.b)
