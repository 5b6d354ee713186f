"""Motions of an ensemble are those that it was made with, in the frame of the first structure; bad ones are named."""

import gzip
import sys

import gemmi
import mdtraj.formats
import numpy as np
import prody
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import subspace_angles
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from cryosip.datasets import prody_adapter
from cryosip.datasets.motions import motions_of
from cryosip.datasets.prody_ensembles import superposed_on_mean
from cryosip.datasets.protein import AMPLITUDES, beads_of
from cryosip.datasets.structures import load, normal_modes

K, STDS = 24, np.array([15.0, 8.0])  # angstroms, summed over 214 C-alphas: 1 and .5 of RMSD
# rotations of the second order in motions, which are 1 of 20 angstroms; XTC rounds to .01
ERROR = 0.02
ADK = prody_adapter.adenylate_kinase()
LINES = [line for line in ADK.read_text().splitlines() if line.startswith("ATOM")]
CALPHAS = [line for line in LINES if line[12:16] == " CA "]


def coordinates(lines):
    return np.array([[float(line[i : i + 8]) for i in (30, 38, 46)] for line in lines])


def write_pdb(path, places, lines=CALPHAS, chains=None):
    """The lines with other coordinates, and with other chains where they are given."""
    names = chains or [line[21] for line in lines]
    moved = zip(lines, places, names, strict=True)
    text = [line[:21] + name + line[22:30] + "".join(f"{x:8.3f}" for x in xyz) + line[54:] for line, xyz, name in moved]
    path.write_text("\n".join([*text, "END", ""]))
    return path


def write_dcd(path, frames, **cell):
    with mdtraj.formats.DCDTrajectoryFile(str(path), "w") as file:
        file.write(frames.astype(np.float32), **cell)
    return path


def write_xtc(path, frames):
    with mdtraj.formats.XTCTrajectoryFile(str(path), "w") as file:
        file.write((frames / 10).astype(np.float32))
    return path


def anywhere(structures, seed):
    """Each after a random rotation and shift."""
    rng = np.random.default_rng(seed)
    turns = Rotation.random(len(structures), rng=rng)
    return np.stack([turn.apply(x) + rng.normal(0, 20, 3) for turn, x in zip(turns, structures, strict=True)])


def onto(moving, fixed):
    """The rotation and the shift that take one structure onto another, by SciPy."""
    turn, _ = Rotation.align_vectors(fixed - fixed.mean(0), moving - moving.mean(0))
    return turn, fixed.mean(0) - turn.apply(moving.mean(0))


@pytest.fixture(scope="module")
def shape():
    return coordinates(CALPHAS)


@pytest.fixture(scope="module")
def directions():
    """Modes move no rotation and no shift along."""
    return normal_modes(load("adk"), n_modes=3).vectors[[0, 2]]


@pytest.fixture(scope="module")
def offsets(directions):
    """(K, n, 3): of the given stds, mean 0 and no correlation."""
    drawn = np.random.default_rng(0).uniform(-1, 1, (K, 2))
    left, _, right = np.linalg.svd(drawn - drawn.mean(0), full_matrices=False)
    return np.tensordot(np.sqrt(K) * left @ right * STDS, directions, 1)


def written(kind, folder, shape, offsets):
    """The arguments of an ensemble of some kind, and the structure whose frame is the first one's."""
    members = anywhere(shape + offsets, 1)
    if kind == "files":
        files = [write_pdb(folder / f"{i}.pdb", x) for i, x in enumerate(members)]
        return {"structure": files}, members[0]
    write, *details = kind.split()
    structure, frame = ADK, shape
    cell = {"cell_lengths": np.full((K, 3), 99.0), "cell_angles": np.full((K, 3), 90.0)} if "cell" in details else {}
    if "atoms" in details:
        numbers = [int(line[22:26]) for line in CALPHAS]
        rows = [numbers.index(int(line[22:26])) for line in LINES]
        members = anywhere(coordinates(LINES) + offsets[:, rows], 1)
    if "cif" in details:
        structure = folder / "adk.structure.gz"
        text = gemmi.read_structure(str(ADK)).make_mmcif_document().as_string()
        structure.write_bytes(gzip.compress(text.encode()))
    trajectory = {"dcd": write_dcd, "xtc": write_xtc}[write](folder / "frames", members, **cell)
    return {"structure": structure, "trajectory": trajectory}, frame


@pytest.mark.parametrize("kind", ["files", "dcd", "dcd cell", "dcd atoms", "dcd atoms cif", "xtc", "xtc atoms"])
def test_an_ensemble_moves_as_it_was_made(kind, tmp_path, shape, offsets, directions):
    arguments, frame = written(kind, tmp_path, shape, offsets)
    molecule, beads = motions_of(**arguments, atoms_per_bead=1)
    turn, shift = onto(shape, frame)
    true = np.stack([turn.apply(direction) for direction in directions])
    found = molecule.motions.reshape(2, -1)
    assert subspace_angles(found.T, true.reshape(2, -1).T).max() < ERROR
    for i in range(2):
        assert abs(found[i] @ true[i].ravel()) == pytest.approx(STDS[i], rel=ERROR)
        assert found[i][np.abs(found[i]).argmax()] > 0
    # the mean in the first structure's frame, and its centre at the origin
    assert np.abs(molecule.rest - (turn.apply(shape) + shift - frame.mean(0))).max() < 2 * ERROR
    assert_allclose(molecule.amplitudes, STDS, rtol=ERROR)
    assert_allclose(molecule.eigenvalues, molecule.amplitudes**2)
    assert ((molecule.collectivity > 0.1) & (molecule.collectivity < 1)).all()
    assert (molecule.n_atoms, molecule.chain) == (214, "A")
    assert_allclose(beads.motions, molecule.motions, rtol=1e-6, atol=1e-6)
    assert_allclose(beads.rest, molecule.rest, rtol=1e-6, atol=1e-5)


def test_theta_of_the_ensemble_has_mean_0_and_variance_1(tmp_path, shape, offsets):
    arguments, _ = written("dcd", tmp_path, shape, offsets)
    molecule, _ = motions_of(**arguments, atoms_per_bead=1)
    theta = []
    for member in shape + offsets:
        turn, shift = onto(member, molecule.rest)
        away = turn.apply(member) + shift - molecule.rest
        theta.append((away * molecule.motions).sum((1, 2)) / (molecule.motions**2).sum((1, 2)))
    assert_allclose(np.mean(theta, axis=0), 0, atol=1e-3)
    assert_allclose(np.cov(np.transpose(theta), ddof=0), np.eye(2), atol=1e-3)


def test_structures_are_superposed_on_their_mean_and_the_mean_on_the_frame():
    """Also where they differ much: no further rotation or shift brings them nearer."""
    rng = np.random.default_rng(3)
    shape = rng.normal(0, 10, (30, 3))
    members = anywhere(shape + rng.normal(0, 4, (5, 30, 3)), 4)
    moved = superposed_on_mean(members, members[0])
    mean = moved.mean(0)
    for moving, fixed in [*((x, mean) for x in moved), (mean, members[0])]:
        turn, shift = onto(moving, fixed)
        assert turn.magnitude() < 1e-4  # ProDy stops where the mean moves by 1e-4 angstroms of RMSD
        assert np.abs(turn.apply(moving) + shift - moving).max() < 1e-2
    assert_allclose([pdist(x) for x in moved], [pdist(x) for x in members])


@pytest.mark.parametrize("is_cif", [False, True])
def test_one_structure_moves_along_its_normal_modes(is_cif, tmp_path):
    structure = ADK
    if is_cif:
        structure = tmp_path / "adk.cif"
        gemmi.read_structure(str(ADK)).make_mmcif_document().write_file(str(structure))
    molecule, beads = motions_of(structure, n_modes=3, cutoff_in_angstroms=12.0, amplitude="inverse", atoms_per_bead=3)
    trace = load("adk")
    modes = normal_modes(trace, 12.0, 3)
    wanted, wanted_beads = beads_of(trace, modes, AMPLITUDES["inverse"](modes.eigenvalues), 3)
    assert molecule.source == str(structure)
    for one, other in zip(molecule[2:] + beads, wanted[2:] + wanted_beads, strict=True):
        assert_array_equal(one, other)


def test_residues_that_are_missing_in_a_structure_are_left_out(tmp_path, shape, offsets):
    """The origin is still the mean of all of the first structure."""
    first = write_pdb(tmp_path / "0.pdb", shape)
    second = write_pdb(tmp_path / "1.pdb", (shape + offsets[1])[:190], CALPHAS[:190])
    third = write_pdb(tmp_path / "2.pdb", (shape - offsets[1])[10:], CALPHAS[10:])
    molecule, beads = motions_of([first, second, third], n_modes=1, atoms_per_bead=1)
    assert molecule.n_atoms == 180
    # of three structures at 0 and +- offset the mean is at 0
    assert np.abs(molecule.rest - (shape[10:190] - shape.mean(0))).max() < 2 * ERROR
    assert_allclose(beads.rest, molecule.rest, rtol=1e-6, atol=1e-5)


def test_residues_correspond_in_chains_of_equal_numbers(tmp_path, shape, offsets):
    chains, lines = ["A"] * 100 + ["B"] * 100, CALPHAS[:100] + CALPHAS[:100]
    files = [
        write_pdb(tmp_path / "0.pdb", (shape - offsets[0])[:200], lines, chains),
        # its first residue is missing, and its second chain comes first
        write_pdb(tmp_path / "1.pdb", np.roll((shape + offsets[0])[:200], 100, 0)[:-100][1:], lines[1:100], ["B"] * 99),
    ]
    text = files[1].read_text().replace("END\n", "")
    rest = write_pdb(tmp_path / "2.pdb", (shape + offsets[0])[:100], lines[:100], ["A"] * 100).read_text()
    files[1].write_text(text + rest)
    molecule, _ = motions_of(files, "A,B", n_modes=1, atoms_per_bead=1)
    assert molecule.n_atoms == 199
    rows = np.delete(np.arange(200), 100)
    turn, _ = onto(shape[rows], shape[rows] - offsets[0][rows])
    moved = turn.apply(offsets[0][rows])
    cosine = (molecule.motions[0] * moved).sum() / np.linalg.norm(molecule.motions[0]) / np.linalg.norm(moved)
    assert abs(cosine) > 0.99  # but for what is a rotation of these residues


def test_a_trajectory_of_all_c_alphas_gives_those_of_a_chain(tmp_path, shape, offsets):
    chains = ["B" if int(line[22:26]) < int(CALPHAS[60][22:26]) else "A" for line in LINES]
    structure = write_pdb(tmp_path / "two.pdb", coordinates(LINES), LINES, chains)
    trajectory = write_dcd(tmp_path / "frames.dcd", shape + offsets)
    molecule, _ = motions_of(structure, "A", trajectory=trajectory, atoms_per_bead=1)
    alone = write_dcd(tmp_path / "alone.dcd", (shape + offsets)[:, 60:])
    wanted, _ = motions_of(structure, "A", trajectory=alone, atoms_per_bead=1)
    assert_allclose(molecule.motions, wanted.motions)
    assert molecule.n_atoms == 154


def test_prody_is_as_silent_as_before_where_a_trajectory_is_refused(tmp_path, shape, offsets):
    before = prody.LOGGER.verbosity
    try:
        prody.LOGGER.verbosity = "info"
        with pytest.raises(ValueError, match="214 of chain 'A'") as caught:
            motions_of(ADK, trajectory=write_dcd(tmp_path / "a.dcd", (shape + offsets)[:, 1:]))
        assert prody.LOGGER.verbosity == "info"
    finally:
        prody.LOGGER.verbosity = before
    assert "has 213 atoms; wanted the 3341 of" in str(caught.value)


@pytest.mark.parametrize(
    ("n", "options", "message"),
    [
        (3, {"n_modes": 3}, "n_modes is 3, and the structures, 3, differ in 2 directions; wanted at most 2"),
        (2, {"amplitude": "inverse"}, "amplitude is 'inverse' with an ensemble"),
        (2, {"cutoff_in_angstroms": 12.0}, "cutoff_in_angstroms is 12.0 with an ensemble"),
        (2, {"trajectory": "frames.dcd"}, "structure is .* with a trajectory; wanted the one file"),
        (1, {}, "structure is a list of 1: .* wanted two or more"),
        (0, {}, "structure is a list of 0"),
        (2, {"n_modes": 0}, "n_modes is 0"),
        (2, {"n_modes": 1, "atoms_per_bead": 5}, "atoms_per_bead is 5"),
        (2, {"chain": "C"}, "no chain 'C'"),
    ],
)
def test_bad_ensembles_are_refused_by_name(n, options, message, tmp_path, shape, offsets):
    files = [write_pdb(tmp_path / f"{i}.pdb", shape + offsets[i]) for i in range(n)]
    with pytest.raises(ValueError, match=message):
        motions_of(files, **options)


def test_structures_that_do_not_differ_are_refused(tmp_path, shape):
    files = [write_pdb(tmp_path / f"{i}.pdb", x) for i, x in enumerate(anywhere([shape] * 3, 2))]
    with pytest.raises(ValueError, match="the structures are all the same up to rotations and shifts"):
        motions_of(files)


def test_structures_with_few_residues_in_common_are_refused(tmp_path, shape):
    files = [
        write_pdb(tmp_path / "0.pdb", shape[:100], CALPHAS[:100]),
        write_pdb(tmp_path / "1.pdb", shape[97:], CALPHAS[97:]),
    ]
    with pytest.raises(ValueError, match=r"3 residues in common \(100 of .*0.pdb, 117 of .*1.pdb\); wanted 4"):
        motions_of(files)
    files[1] = write_pdb(tmp_path / "1.pdb", shape[96:], CALPHAS[96:])
    with pytest.raises(ValueError, match=r"4 residues in common .* wanted 5"):
        motions_of(files, n_modes=7)


def cut(path, n):
    path.write_bytes(path.read_bytes()[:n])


def spoilt(place, value):
    """What writes frames of which some coordinates are further by a value."""

    def write(path, frames):
        frames = frames.copy()
        frames[place] += value
        write_dcd(path, frames)

    return write


FRAME = 4 * 3 * (214 + 2)  # bytes


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path, x: write_dcd(path, x) and cut(path, -100), f"damaged: it ends within frame {K}"),
        (lambda path, x: write_dcd(path, x) and cut(path, -FRAME), f"damaged: it has {K - 1} of the {K} frames"),
        (lambda path, x: write_dcd(path, x) and cut(path, 50), "damaged: ProDy cannot read its header"),
        (lambda path, x: write_dcd(path, x) and cut(path, -K * FRAME), f"damaged: it has 0 of the {K} frames"),
        (lambda path, x: write_xtc(path, x) and cut(path, -100), "damaged: MDTraj cannot read it"),
        (lambda path, x: write_xtc(path, x) and cut(path, 50), "damaged: MDTraj cannot read it"),
        (lambda path, x: write_dcd(path, x) and cut(path, 4), "is no trajectory: it starts with"),
        (lambda path, x: path.write_text("ATOM"), "is no trajectory: it starts with"),
        (lambda path, x: path.write_bytes(b""), "is no trajectory: it starts with b''"),
        (lambda path, x: path.mkdir(), "a folder; wanted a DCD or an XTC"),
        (lambda path, x: write_dcd(path, x[:1]), "are only 1; wanted two or more"),
        (lambda path, x: write_dcd(path, x[[0, 0, 0]]), "are all the same"),
        (lambda path, x: write_dcd(path, x / 10), "apart in frame 1; wanted 1 to 9"),
        (spoilt((3, slice(50, None)), 90.0), "apart in frame 4; wanted 1 to 9"),
        (spoilt((3, 50, 1), np.nan), f"NaN or infinite coordinates in 1 of {K} frames"),
    ],
)
def test_bad_trajectories_are_refused_by_name(write, message, tmp_path, shape, offsets):
    path = tmp_path / "frames.dat"
    write(path, shape + offsets)
    with pytest.raises(ValueError, match=message) as caught:
        motions_of(ADK, trajectory=path)
    assert str(path) in str(caught.value)


def test_frames_that_a_header_does_not_count_are_read(tmp_path, shape, offsets):
    path = write_dcd(tmp_path / "frames.dcd", shape + offsets)
    wanted, _ = motions_of(ADK, trajectory=path)
    content = path.read_bytes()
    path.write_bytes(content[:8] + bytes(4) + content[12:])
    found, _ = motions_of(ADK, trajectory=path)
    assert_array_equal(found.motions, wanted.motions)


def test_an_x_plor_file_is_refused(tmp_path, shape, offsets):
    path = write_dcd(tmp_path / "frames.dcd", shape + offsets)
    content = path.read_bytes()
    path.write_bytes(content[:84] + bytes(4) + content[88:])  # the version of CHARMM
    with pytest.raises(ValueError, match="is a DCD file of X-PLOR"):
        motions_of(ADK, trajectory=path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there_is_none"):
        motions_of(ADK, trajectory=tmp_path / "there_is_none.dcd")
    with pytest.raises(FileNotFoundError, match="there_is_none"):
        motions_of([ADK, tmp_path / "there_is_none.pdb"])


def test_what_to_install_is_said_where_mdtraj_is_missing(tmp_path, shape, offsets, monkeypatch):
    path = write_xtc(tmp_path / "frames.xtc", shape + offsets)
    monkeypatch.setitem(sys.modules, "mdtraj.formats", None)
    with pytest.raises(ImportError, match="pip install mdtraj"):
        motions_of(ADK, trajectory=path)
