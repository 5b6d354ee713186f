"""Files for other programs come back through the readers of these, with nothing of the source lost."""

import shutil
import subprocess

import jax.numpy as jnp
import jax.random as jr
import mrcfile
import numpy as np
import pandas as pd
import prody
import pytest
import starfile
from scipy.spatial.transform import Rotation

from cryosip.bench.recovery.files import pdb_text, write_class_maps, write_posteriors, write_structures
from cryosip.datasets import particle_files, rotations
from cryosip.datasets.instance import Molecule
from cryosip.datasets.particle_files import Stack
from cryosip.datasets.particle_stacks import read_particles
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.datasets.stack import _first

N, SIZE, PIXEL = 6, 8, 2.5
IMAGES = np.random.default_rng(0).normal(size=(N, SIZE, SIZE)).astype(np.float32)
POSE = ProteinPose(rotations.uniform(jr.key(0), N), 3 * jr.normal(jr.key(1), (N, 2)), jnp.zeros(N))
DEFOCUS = np.linspace(1e4, 2e4, N)
NEW = [
    "rlnClassNumber", "cryosipMode1", "cryosipMode2", "cryosipModeStd1", "cryosipModeStd2", "cryosipGain",
    "cryosipJunkProbability",
]  # fmt: skip


@pytest.fixture
def star(tmp_path):
    """Of two optics groups, with a table and columns that cryosip does not know, and numbers of many digits."""
    particle_files.write_stack(tmp_path, Stack(IMAGES, PIXEL, DEFOCUS, POSE))
    tables = starfile.read(tmp_path / "particles.star")
    tables["optics"] = pd.concat([tables["optics"]] * 2).assign(
        rlnOpticsGroup=[1, 2], rlnOpticsGroupName=["early", "late"]
    )
    tables["particles"] = tables["particles"].assign(
        rlnOpticsGroup=[1, 2, 2, 1, 2, 1], rlnClassNumber=9, rlnLogLikeliContribution=1e5 / 3,
        rlnMicrographName=[f"grid {i}.mrc" for i in range(N)],
    )  # fmt: skip
    whole = {"general": {"rlnFinalResolution": "3.10", "rlnComment": "of two days"}} | tables
    starfile.write(whole, tmp_path / "given.star", float_format="%.12f")
    return tmp_path / "given.star"


def posteriors(m):
    rng = np.random.default_rng(1)
    return {
        "mean": rng.normal(size=(m, 2)), "std": rng.uniform(size=(m, 2)), "gain": rng.normal(size=m),
        "label": np.arange(m) % 2, "junk": rng.uniform(size=m),
    }  # fmt: skip


def written(folder, particles):
    found = posteriors(len(particles.rows))
    folder.mkdir()
    write_posteriors(folder, particles, **found)
    return found


def check(table, found):
    """The columns that are new."""
    assert list(table["rlnClassNumber"]) == list(found["label"] + 1)
    new = [*found["mean"].T, *found["std"].T, found["gain"], found["junk"]]
    for name, values in zip(NEW[1:], new, strict=True):
        np.testing.assert_allclose(table[name], values, rtol=1e-6)


def test_a_star_file_comes_back_with_all_that_it_said(star, tmp_path):
    found = written(tmp_path / "out", read_particles(star))
    text = {"parse_as_string": [*starfile.read(star)["particles"].columns, "rlnFinalResolution"]}
    given, tables = starfile.read(star, **text), starfile.read(tmp_path / "out" / "particles.star", **text)
    assert list(tables) == ["general", "optics", "particles"]
    assert tables["general"] == given["general"] == {"rlnFinalResolution": "3.10", "rlnComment": "of two days"}
    pd.testing.assert_frame_equal(tables["optics"], given["optics"])
    same = given["particles"].columns.drop("rlnClassNumber")
    pd.testing.assert_frame_equal(tables["particles"][same], given["particles"][same])
    assert list(tables["particles"]) == list(given["particles"]) + NEW[1:]
    check(starfile.read(tmp_path / "out" / "particles.star")["particles"], found)


def test_rows_are_those_of_the_images_that_were_used(star, tmp_path):
    used = _first(read_particles(star, optics_group="late"), 2)
    assert list(used.rows) == [1, 2]
    found = written(tmp_path / "out", used)
    table = starfile.read(tmp_path / "out" / "particles.star")["particles"]
    assert list(table["rlnImageName"]) == ["000002@particles.mrcs", "000003@particles.mrcs"]
    check(table, found)
    images = pd.read_csv(tmp_path / "out" / "images.csv")
    assert list(images["image"]) == [2, 3]


def test_a_table_of_images_is_written(star, tmp_path):
    found = written(tmp_path / "out", read_particles(star))
    table = pd.read_csv(tmp_path / "out" / "images.csv")
    names = ["image", "name", "theta_1", "theta_2", "std_1", "std_2", "gain", "class", "junk"]
    assert list(table) == names
    assert list(table["image"]) == [1, 2, 3, 4, 5, 6]
    assert list(table["name"]) == [f"{i:06d}@particles.mrcs" for i in range(1, N + 1)]
    assert list(table["class"]) == list(found["label"] + 1)
    values = np.column_stack([found["mean"], found["std"], found["gain"], found["junk"]])
    np.testing.assert_allclose(table[[*names[2:7], "junk"]], values, rtol=1e-5)


def test_a_star_file_of_relion_3_0_has_one_table(star, tmp_path):
    tables = starfile.read(star)
    optics = tables["optics"].iloc[0].drop(["rlnOpticsGroup", "rlnOpticsGroupName"])
    starfile.write(tables["particles"].drop(columns="rlnOpticsGroup").assign(**optics), tmp_path / "old.star")
    found = written(tmp_path / "out", read_particles(tmp_path / "old.star"))
    (table,) = starfile.read(tmp_path / "out" / "particles.star", always_dict=True).values()
    check(table, found)


def test_particles_of_cryosparc_become_a_star_file(star, tmp_path):
    """Of two exposure groups, one of them with another aberration in some images; the images are in a third order."""
    wanted = read_particles(star)
    columns = {
        "blob/path": np.array([b">particles.mrcs"] * N), "blob/idx": np.arange(N, dtype=np.uint32)[::-1],
        "blob/psize_A": np.full(N, PIXEL), "ctf/exp_group_id": np.array([7, 7, 7, 7, 8, 8], np.uint32),
        "ctf/accel_kv": np.full(N, 300.0), "ctf/cs_mm": np.array([2.7, 2.7, 2.7, 2.7, 2.7, 2.0]),
        "ctf/amp_contrast": np.full(N, 0.1), "ctf/df1_A": DEFOCUS + 300, "ctf/df2_A": DEFOCUS,
        "ctf/df_angle_rad": np.full(N, 0.3),
        "alignments3D/pose": Rotation.from_matrix(wanted.rotation.swapaxes(1, 2)).as_rotvec(),
        "alignments3D/shift": -wanted.shift / PIXEL,
    }  # fmt: skip
    rows = np.zeros(N, [(name, a.dtype, a.shape[1:]) for name, a in columns.items()])
    for name, a in columns.items():
        rows[name] = a
    np.save(tmp_path / "particles.npy", rows)
    (tmp_path / "particles.npy").rename(tmp_path / "particles.cs")
    given = _first(read_particles(tmp_path / "particles.cs"), 6)
    written(tmp_path / "out", given)
    shutil.copy(tmp_path / "particles.mrcs", tmp_path / "out")
    found = read_particles(tmp_path / "out" / "particles.star")
    assert found.pixel == PIXEL
    for name in ("place", "rotation", "shift", "ctf"):
        np.testing.assert_allclose(getattr(found, name), getattr(given, name), rtol=1e-6, atol=1e-5)
    tables = starfile.read(tmp_path / "out" / "particles.star")
    assert list(tables["optics"]["rlnOpticsGroupName"]) == [7, 8, 8]
    assert list(tables["particles"]["rlnOpticsGroup"]) == [1, 1, 1, 1, 2, 3]
    assert list(tables["particles"]["rlnMicrographName"]) == ["particles.mrcs"] * N


@pytest.fixture
def molecule():
    rng = np.random.default_rng(2)
    rest, motions = rng.normal(size=(5, 3)) * 20, rng.normal(size=(2, 5, 3))
    return Molecule("file.pdb", "A", 10, rest, motions, np.ones(2), np.ones(2), np.ones(2))


def test_structures_are_models_of_a_pdb_file(molecule, tmp_path):
    theta, shares = np.array([[1.0, -2.0], [0.5, 3.25], [-4.0, 0.0]]), np.array([0.5, 0.3, 0.2])
    write_structures(tmp_path, molecule, theta, shares, half_width=14.0, center=100.0)
    found = prody.parsePDB(str(tmp_path / "structures.pdb"))
    shapes = molecule.rest + np.tensordot(theta, molecule.motions, 1) + 100
    np.testing.assert_allclose(found.getCoordsets(), shapes, atol=6e-4)
    assert list(found.getResnums()) == [1, 2, 3, 4, 5]
    assert set(found.getNames()) == {"CA"}
    remarks = [line for line in (tmp_path / "structures.pdb").read_text().splitlines() if line.startswith("REMARK")]
    assert remarks[1] == "REMARK   6 MODEL 2: SHARE 0.3000, THETA 0.500 3.250"
    assert len(remarks) == 3


def test_modes_are_movies_of_eleven_models(molecule, tmp_path):
    write_structures(tmp_path, molecule, np.zeros((1, 2)), np.ones(1), half_width=10.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mode-1.pdb", "mode-2.pdb", "structures.pdb"]
    found = prody.parsePDB(str(tmp_path / "mode-2.pdb")).getCoordsets()
    steps = np.linspace(-10, 10, 11)[:, None, None]
    np.testing.assert_allclose(found, molecule.rest + steps * molecule.motions[1], atol=6e-4)


def test_lines_of_a_pdb_file_keep_their_columns():
    """Of more beads than there are numbers, and remarks that are longer than a line."""
    text = pdb_text([np.full((10_001, 3), -999.9994)], ["THETA " + "1.000 " * 40])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[22:26] for line in lines if line.startswith("ATOM")][-2:] == ["   0", "   1"]
    assert {line[30:54] for line in lines if line.startswith("ATOM")} == {"-999.999" * 3}
    assert sum(line.count("1.000") for line in lines if line.startswith("REMARK")) == 40


def test_maps_are_volumes_with_the_voxel_of_the_images(tmp_path):
    maps = np.random.default_rng(3).normal(size=(2, SIZE, SIZE, SIZE)).astype(np.float32)
    write_class_maps(tmp_path, maps, PIXEL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["class-1.mrc", "class-2.mrc"]
    for i in range(2):
        with mrcfile.open(tmp_path / f"class-{i + 1}.mrc") as file:
            np.testing.assert_array_equal(file.data, maps[i])
            assert file.is_volume()
            assert file.voxel_size.x == pytest.approx(PIXEL)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("relion_star_handler") is None, reason="RELION is not installed")
def test_relion_reads_the_table_and_writes_it_again(star, tmp_path):
    found = written(tmp_path / "out", read_particles(star))
    command = ["relion_star_handler", "--i", "out/particles.star", "--o", "again.star"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    table = starfile.read(tmp_path / "again.star")["particles"]
    assert list(table["rlnClassNumber"]) == list(found["label"] + 1)
    np.testing.assert_allclose(table["rlnAngleTilt"], starfile.read(star)["particles"]["rlnAngleTilt"], atol=1e-4)
    select = ["relion_star_handler", "--i", "out/particles.star", "--o", "one.star", "--select", "rlnClassNumber"]
    subprocess.run([*select, "--minval", "2", "--maxval", "2"], cwd=tmp_path, check=True, capture_output=True)
    one = starfile.read(tmp_path / "one.star")["particles"]
    assert list(one["rlnImageName"]) == [f"{i:06d}@particles.mrcs" for i in (2, 4, 6)]
    # with a warning of labels that it does not know
    np.testing.assert_allclose(one["cryosipMode1"], found["mean"][1::2, 0], rtol=1e-5)
