"""Structures are found where they should be, bad files are named, and normal modes are those of the printed network."""

import gzip
import http.client
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import platformdirs
import prody
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cryosip.datasets import prody_adapter, structures
from cryosip.datasets.structures import load, normal_modes

# as they are where no test has put others in their places
DOWNLOAD, CACHE_FOLDER = prody_adapter.download, structures.cache_folder
OWN_FOLDER = os.environ.get("CRYOSIP_STRUCTURES", "")
MMCIF_FIELDS = (
    "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_seq_id pdbx_PDB_ins_code "
    "Cartn_x Cartn_y Cartn_z occupancy auth_seq_id auth_asym_id pdbx_PDB_model_num"
)


def helix(n=12, start=1, shift=0.0):
    """C-alphas of an ideal helix, 3.8 apart, rounded as a file does it."""
    t = np.arange(start, start + n)
    return np.round(np.stack([2.3 * np.cos(1.745 * t), 2.3 * np.sin(1.745 * t), 1.5 * t], axis=1) + shift, 3)


def atom(residue, xyz, chain="A", alternate=" ", insertion=" ", name=" CA ", resname="ALA", record="ATOM  "):
    place = "".join(f"{x:8.3f}" for x in xyz)
    return f"{record}{1:5d} {name}{alternate}{resname} {chain}{residue:4d}{insertion}   {place}  1.00  0.00           C"


def chain(coordinates, first=1, name="A"):
    return "\n".join(atom(first + i, xyz, name) for i, xyz in enumerate(coordinates))


def pdb(*lines):
    return "\n".join(["REMARK   1 made up", *lines, "END"]) + "\n"


def mmcif(*rows):
    return "\n".join(["data_X", "#", "loop_", *(f"_atom_site.{name}" for name in MMCIF_FIELDS.split()), *rows])


def row(residue, xyz, model=1, alternate=".", name="CA", author="A"):
    place = " ".join(f"{x:.3f}" for x in xyz)
    return f"ATOM 1 C {name} {alternate} ALA Q {residue + 100} ? {place} 1.00 {residue} {author} {model}"


TORN = pdb(chain([*helix(5), *helix(5, shift=30)]))


def downloads(text, error=None):
    """A download of that text, which fails after it has been written where there is an error."""

    def download(pdb_id, folder):
        (path := Path(folder) / f"{pdb_id}.pdb").write_text(text)
        if error is not None:
            raise error
        return path

    return download


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """No folder, an empty cache, and no network; the tests that need them bring their own."""
    monkeypatch.delenv("CRYOSIP_STRUCTURES", raising=False)
    monkeypatch.setattr(structures, "cache_folder", lambda: tmp_path / "user" / "structures")
    monkeypatch.setattr(prody_adapter, "download", downloads("", OSError("no network")))
    return tmp_path


@pytest.fixture
def write(tmp_path):
    def write(text, name="a.pdb"):
        content = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["a.pdb", "a.pdb.gz", "no_suffix"])
def test_pdb_files_are_read(write, name, monkeypatch):
    file = write(pdb(chain(helix(), 5), chain(helix(shift=9), 1, "B")), name)
    found = load("mine", file)
    assert_array_equal(found.coordinates, helix())
    assert_array_equal(found.residues, np.arange(5, 17))
    assert found[:3] == ("mine", str(file), "A")
    monkeypatch.setenv("HOME", str(file.parent))
    assert_array_equal(load("mine", f"~/{name}", chain="B").coordinates, helix(shift=9))


@pytest.mark.parametrize("name", ["a.cif", "a.cif.gz", "no_suffix"])
def test_mmcif_files_are_read_by_the_names_of_the_authors(write, name):
    rows = [row(5 + i, xyz, model=2) for i, xyz in enumerate(helix())]
    later = [row(5 + i, xyz + 9, model=3) for i, xyz in enumerate(helix(14))]
    found = load("mine", write(mmcif(*rows, *later), name))
    assert_array_equal(found.coordinates, helix())
    assert_array_equal(found.residues, np.arange(5, 17))
    both = [line for i, xyz in enumerate(helix()) for line in (row(i, xyz, alternate="B"), row(i, xyz + 1))]
    others = [row(0, (0, 0, 0), name="N"), *both, row(1, (1, 1, 1), author="X")]
    assert_array_equal(load("mine", write(mmcif(*others), name)).coordinates, helix())


def test_quoted_values_of_mmcif_are_read(write):
    rows = [
        row(i, xyz, name='"CA"').replace(" ALA Q ", " 'ALA' 'Q of \"two\" words' ") for i, xyz in enumerate(helix())
    ]
    assert_array_equal(load("mine", write(mmcif(*rows) + "\n#\n")).coordinates, helix())


def test_only_alpha_carbons_of_the_first_model_and_location_are_taken(write):
    lines = []
    for i, xyz in enumerate(helix()):
        lines += [atom(i, xyz + 1, name=" N  "), atom(i, xyz, alternate="C"), atom(i, xyz + 2, alternate="A")]
    lines[:3] = [line.replace("ALA", "HID") for line in lines[:3]]  # as force fields call it
    modified = {"resname": "MSE", "record": "HETATM"}
    lines[-3:-1] = [atom(11, (1, 2, 3), name=" N  ", **modified), atom(11, helix()[11], **modified)]
    lines += ["TER", atom(90, (1, 1, 1), name="CA  ", resname=" CA", record="HETATM")]
    file = write(pdb("MODEL        1", *lines, "ENDMDL", "MODEL        2", chain(helix(14)), "ENDMDL"))
    assert_array_equal(load("mine", file).coordinates, helix())
    inserted = [atom(7, xyz, insertion=letter) for xyz, letter in zip(helix(5), " ABCD", strict=True)]
    assert_array_equal(load("mine", write(pdb(*inserted))).coordinates, helix(5))


def test_adenylate_kinase_needs_no_network(monkeypatch):
    found = load("adk")
    assert found.coordinates.shape == (214, 3)
    assert found.residues.tolist() == list(range(1, 215))
    distances = np.linalg.norm(np.diff(found.coordinates, axis=0), axis=1)
    assert np.median(distances) == pytest.approx(3.8, abs=0.05)
    monkeypatch.setattr(prody, "__file__", "/elsewhere/prody/__init__.py")
    with pytest.raises(FileNotFoundError, match=r"was installed without .*4akeA_alg_fixed.pdb"):
        load("adk")


def test_prody_is_silent_keeps_its_settings_and_is_imported_late(write, monkeypatch):
    handler, said = prody.LOGGER._logger.handlers[0], io.StringIO()
    monkeypatch.setattr(handler, "stream", said)
    monkeypatch.setattr(handler, "level", 10)
    monkeypatch.setattr(type(prody.SETTINGS), "save", lambda *_: pytest.fail("the user's ~/.prodyrc is written"))
    normal_modes(load("mine", write(pdb(chain(helix())))))
    assert (said.getvalue(), handler.level) == ("", 10)
    code = "import sys, cryosip.datasets.structures; assert 'prody' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)  # its import is slow


def test_the_folder_comes_before_the_cache_and_the_cache_before_the_network(write, places, monkeypatch):
    (places / "own").mkdir()
    monkeypatch.setenv("CRYOSIP_STRUCTURES", str(places / "own"))
    for i, name in enumerate(["user/structures/pdb2iop.ent.gz", "own/deep/2IOP_A_ca.PDB", "own/z/deep/2iop.cif"]):
        made = helix(shift=i)
        file = write(mmcif(*map(row, range(12), made)) if name.endswith("cif") else pdb(chain(made)), name)
        for decoy in ("12iop.pdb", "2iop.txt", "2iop.cif.bak"):
            (file.parent / decoy).write_text("decoy")
        found = load("2Iop")
        assert_array_equal(found.coordinates, made)
        assert (found.name, found.source) == ("2Iop", str(file))
    monkeypatch.setenv("CRYOSIP_STRUCTURES", "")
    monkeypatch.chdir(places / "own")
    assert_array_equal(load("2iop").coordinates, helix())
    monkeypatch.setenv("CRYOSIP_STRUCTURES", str(places / "nowhere"))
    with pytest.raises(OSError, match=r"CRYOSIP_STRUCTURES is '.*nowhere'; wanted a folder of structures"):
        load("2iop")


def test_a_download_is_kept(places, monkeypatch):
    text = pdb(chain(helix(6)), chain(helix(6, start=11), 11))  # residues 7 to 10 are missing
    monkeypatch.setattr(prody_adapter, "download", downloads(text))
    with pytest.warns(UserWarning, match="broken between residues 6 and 11"):
        first = load("2IOP")
    kept = places / "user" / "structures" / "2iop.pdb"
    assert first.source == str(kept)
    assert list(kept.parent.iterdir()) == [kept]
    monkeypatch.setattr(prody_adapter, "download", lambda *_: pytest.fail("downloaded twice"))
    with pytest.warns(UserWarning, match="broken"):
        assert_array_equal(load("2iop").coordinates, first.coordinates)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (pdb(chain(helix()))[:300], OSError("cut"), r"there is no file of 2iop \(cut\)"),
        (pdb(chain(helix(), 1, "B")), None, "2iop was not kept: .* no chain 'A' .*it has 'B'"),
        (pdb(chain(helix(3))), None, "not kept: .* has 3 C-alphas; wanted at least 4"),
        ("<html>busy</html>", None, "not kept: .*neither ATOM records nor"),
        (TORN, None, r"not kept: chain 'A' is broken between residues 5 and 6 \([0-9.]+ Å\); none is missing there"),
    ],
)
def test_a_bad_download_leaves_nothing(places, monkeypatch, text, error, says):
    monkeypatch.setattr(prody_adapter, "download", downloads(text, error))
    with pytest.raises(FileNotFoundError if error else ValueError, match=says):
        load("2iop")
    assert list((places / "user" / "structures").iterdir()) == []


def test_names_and_paths_that_lead_nowhere(places):
    with pytest.raises(ValueError, match=r"is a folder; wanted a PDB or an mmCIF file"):
        load("mine", places)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pdb"):
        load("mine", places / "nowhere.pdb")
    with pytest.raises(ValueError, match=r"name is 'hsp90'; wanted 'adk' or a PDB id such as '2iop', or a file"):
        load("hsp90")


def test_without_a_network_the_ways_to_a_file_are_named(places):
    with pytest.raises(FileNotFoundError) as caught:
        load("2iop")
    cache = places / "user" / "structures"
    for way in ("no network", "structure=FILE", "--structure FILE", "CRYOSIP_STRUCTURES", str(cache), "2iop.cif"):
        assert way in str(caught.value)
    cache.rmdir()
    cache.write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"the cache folder .*user/structures cannot be written .*structure=FILE"):
        load("2iop")
    assert CACHE_FOLDER() == platformdirs.user_cache_path("cryosip") / "structures"


def test_entries_are_fetched_as_pdb_or_as_mmcif(places, monkeypatch):
    def fetched(there=None, error=None):
        def fetch(pdb_id, folder, format):
            if error is not None:
                raise error
            if format == there:
                (Path(folder) / f"{pdb_id}.{format}").write_text("")

        monkeypatch.setattr(prody, "fetchPDBviaHTTP", fetch)
        (places / (there or "none")).mkdir()
        return DOWNLOAD("2iop", places / (there or "none")).name

    assert [fetched("pdb"), fetched("cif")] == ["2iop.pdb", "2iop.cif"]
    with pytest.raises(OSError, match="gave no file for 2iop: no network, or no such entry"):
        fetched()
    with pytest.raises(OSError, match="the download of 2iop broke off: Incomplete"):
        fetched("broken", http.client.IncompleteRead(b""))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", r"a\.pdb is empty"),
        (bytes(range(256)) * 9, r"a\.pdb has neither ATOM records nor a table _atom_site; wanted a PDB or an mmCIF"),
        (gzip.compress(b"ATOM" * 99, mtime=0)[:-9], r"a\.pdb is damaged: its gzip stream cannot be unpacked"),
        (pdb(atom(1, (0, 0, 0))[:40]), r"a\.pdb cannot be read as a structure: ValueError: could not convert"),
        (
            pdb(chain(helix())).replace("1.148", "     "),
            r"cannot be read as a structure: ValueError: could not convert",
        ),
        (mmcif(row(1, (0, 0, 0)))[:-9], r"a\.pdb cannot be read as a structure: ValueError: .*Wrong number of values"),
        (mmcif(*map(row, range(12), helix())).replace("1.148", "?"), "has NaN or infinite coordinates in 1 of 12"),
        (pdb(chain(helix(), 1, "C"), chain(helix(), 1, "B")), "no chain 'A' with .*; it has 'B', 'C'"),
        (pdb(atom(1, (0, 0, 0), name="CA  ", resname=" CA")), "no chain 'A' with C-alphas; it has none"),
        (mmcif(row(1, (0, 0, 0), name="P")), "no chain 'A' with C-alphas; it has none"),
        (pdb(chain(helix(3))), r"chain 'A' of .*a\.pdb has 3 C-alphas; wanted at least 4"),
        (pdb(chain(helix()), chain(helix() + 1, 7)), "has residue 7 twice; wanted one C-alpha"),
        (pdb(chain([*helix(), (np.nan, 0, 0), (0, np.inf, 0)])), "infinite coordinates in 2 of 14"),
        (pdb(chain([*helix(), *helix(2)])), "has 2 C-alphas at the place of another"),
    ],
)
def test_bad_files_are_refused(write, content, says):
    with pytest.raises(ValueError, match=says):
        load("mine", write(content))


def test_broken_chains_are_warned_of(write, recwarn):
    for n_parts in (1, 2, 6):
        parts = [chain(helix(4, shift=20 * i), 1 + 13 * i) for i in range(n_parts)]
        load("mine", write(pdb(*parts)))
    one, many = (str(recwarn.pop(UserWarning).message) for _ in range(2))
    assert not recwarn.list
    assert one == "mine: chain A is broken between residues 4 and 14 (31.5 Å)"
    assert many.endswith("14 (31.5 Å), 17 and 27 (31.5 Å), 30 and 40 (31.5 Å) and elsewhere, 5 breaks in all")


@pytest.mark.filterwarnings("ignore:2iop. chain A is broken between residues 493 and 500")
def test_the_modes_of_2iop(monkeypatch):
    monkeypatch.setenv("CRYOSIP_STRUCTURES", OWN_FOLDER)
    try:
        found = load("2iop")
    except FileNotFoundError:
        pytest.skip("CRYOSIP_STRUCTURES names no folder that holds 2iop")
    assert found.coordinates.shape == (618, 3)
    assert_allclose(normal_modes(found).eigenvalues, [0.0198, 0.0331, 0.0401, 0.0550], atol=1e-4)


def test_chains_together_are_one_molecule(tmp_path, recwarn):
    """In the order that is asked for; where one ends and the next begins no chain is broken."""
    (file := tmp_path / "two.pdb").write_text(pdb(chain(helix(6)), chain(helix(7, shift=40), name="B")))
    trace = load("made", file, "B, A")
    assert_allclose(trace.coordinates, [*helix(7, shift=40), *helix(6)], atol=1e-9)
    assert trace.lengths == (7, 6)
    assert not recwarn.list
    with pytest.raises(ValueError, match="has no chain 'C' with C-alphas; it has 'A', 'B'"):
        load("made", file, "A,C")


def test_of_several_files_one_that_has_the_chain(tmp_path, monkeypatch):
    (tmp_path / "9xyz_A.pdb").write_text(pdb(chain(helix(6))))
    (tmp_path / "9xyz_A_and_B.pdb").write_text(pdb(chain(helix(6)), chain(helix(7, shift=40), name="B")))
    (tmp_path / "9xyz_x.pdb").write_text("no structure")
    monkeypatch.setenv("CRYOSIP_STRUCTURES", str(tmp_path))
    assert Path(load("9xyz").source).name == "9xyz_A.pdb"
    assert Path(load("9xyz", chain="B").source).name == "9xyz_A_and_B.pdb"
    with pytest.raises(ValueError, match=r"9xyz_A\.pdb has no chain 'Z'"):
        load("9xyz", chain="Z")
