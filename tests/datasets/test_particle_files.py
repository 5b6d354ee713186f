"""Files for other programs: the conventions of RELION and cryoDRGN, and RELION itself where it is installed."""

import pickle
import shutil
import subprocess

import jax.numpy as jnp
import jax.random as jr
import mrcfile
import numpy as np
import pytest
import starfile

from cryosip.datasets import particle_files, rotations
from cryosip.datasets.euler_angles import euler_angles, rotations_of
from cryosip.datasets.particle_files import Stack
from cryosip.datasets.protein import adk
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.datasets.volumes import Cube, from_voxels


def relion_matrix(rot, tilt, psi):
    """Euler_angles2matrix of RELION's euler.cpp, which takes a point of the map to the frame of the image."""
    (ca, cb, cg), (sa, sb, sg) = (f(np.deg2rad([rot, tilt, psi])) for f in (np.cos, np.sin))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


def stack(n=4, size=8, defocus=None, known=True):
    pose = ProteinPose(rotations.uniform(jr.key(0), n), 3 * jr.normal(jr.key(1), (n, 2)), jnp.zeros(n))
    images = np.random.default_rng(0).normal(size=(n, size, size)).astype(np.float32)
    return Stack(images, 2.5, defocus, pose if known else None)


def test_angles_are_those_of_relion():
    flat = [np.diag([1.0, 1, 1]), np.diag([1.0, -1, -1]), np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])]
    matrices = np.concatenate([np.asarray(rotations.uniform(jr.key(0), 50), float), flat])
    angles = np.stack(euler_angles(matrices), axis=1)
    np.testing.assert_allclose([relion_matrix(*a) for a in angles], matrices, atol=1e-6)
    np.testing.assert_allclose(rotations_of(*angles.T), matrices, atol=1e-6)


def test_a_stack_is_what_relion_and_cryodrgn_read(tmp_path):
    given = stack()
    particle_files.write_stack(tmp_path, given)
    with mrcfile.open(tmp_path / "particles.mrcs") as file:
        np.testing.assert_array_equal(file.data, given.images)
        assert file.is_image_stack()
        assert file.voxel_size.tolist() == (2.5, 2.5, 2.5)
    tables = starfile.read(tmp_path / "particles.star")
    (optics,) = tables["optics"].to_dict("records")
    assert (optics["rlnImageSize"], optics["rlnImagePixelSize"], optics["rlnAmplitudeContrast"]) == (8, 2.5, 1.0)
    particles = tables["particles"]
    assert particles["rlnImageName"].tolist() == [f"00000{i}@particles.mrcs" for i in (1, 2, 3, 4)]
    for i, row in particles.iterrows():
        found = relion_matrix(row["rlnAngleRot"], row["rlnAngleTilt"], row["rlnAnglePsi"])
        np.testing.assert_allclose(found, given.pose.rotation[i], atol=1e-5)
    np.testing.assert_allclose(particles[["rlnOriginXAngst", "rlnOriginYAngst"]], -given.pose.shift, atol=1e-5)
    rotation, fraction = pickle.loads((tmp_path / "poses.pkl").read_bytes())
    np.testing.assert_array_equal(rotation, given.pose.rotation)
    np.testing.assert_allclose(fraction, -given.pose.shift / 20, rtol=1e-6)
    ctf = pickle.loads((tmp_path / "ctf.pkl").read_bytes())
    np.testing.assert_allclose(ctf, np.tile([8, 2.5, 0, 0, 0, 300, 0, 1, 0], (4, 1)))


def test_images_with_a_ctf_have_the_sign_that_relion_expects(tmp_path):
    given = stack(defocus=np.array([9e3, 1e4, 1.1e4, 1.2e4]))
    particle_files.write_stack(tmp_path, given)
    with mrcfile.open(tmp_path / "particles.mrcs") as file:
        np.testing.assert_array_equal(file.data, -given.images)
    ctf = pickle.loads((tmp_path / "ctf.pkl").read_bytes())
    np.testing.assert_allclose(ctf[:, [2, 3]], np.tile(given.defocus[:, None], 2))
    np.testing.assert_allclose(ctf[0, 5:8], [300, 2.7, 0.1])
    (optics,) = starfile.read(tmp_path / "particles.star")["optics"].to_dict("records")
    assert (optics["rlnSphericalAberration"], optics["rlnAmplitudeContrast"]) == (2.7, 0.1)


def test_poses_that_are_unknown_are_not_written(tmp_path):
    particle_files.write_stack(tmp_path, stack(known=False))
    assert not (tmp_path / "poses.pkl").exists()
    columns = starfile.read(tmp_path / "particles.star")["particles"].columns
    assert not any(("Angle" in name and name != "rlnDefocusAngle") or "Origin" in name for name in columns)


def test_an_odd_box_is_refused(tmp_path):
    with pytest.raises(ValueError, match="images have 7 x 7 pixels; wanted an even number"):
        particle_files.write_stack(tmp_path, stack(size=7))


@pytest.mark.parametrize("wrong", [2 * np.eye(3), np.diag([1.0, 1, -1]), np.full((3, 3), np.nan)])
def test_poses_that_are_no_rotations_are_refused(tmp_path, wrong):
    given = stack()
    pose = given.pose._replace(rotation=given.pose.rotation.at[2].set(wrong))
    with pytest.raises(ValueError, match=r"the pose of image 3 is .* wanted a rotation"):
        particle_files.write_stack(tmp_path, given._replace(pose=pose))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="RELION is not installed")
@pytest.mark.parametrize("defocus", [None, (9_000.0, 14_000.0)])
def test_relion_makes_the_mean_volume_of_a_stack(tmp_path, defocus):
    """Angles, origins, CTF and sign, hand and voxels: the map of RELION agrees wave by wave with the mean density."""
    size, pixel = 32, 4.0
    problem, truth, _, volume = adk(
        n_observations=1_500, image_size=size, pixel_size_in_angstroms=pixel, atom_std_in_angstroms=4.0,
        atoms_per_bead=2, max_shift_in_angstroms=8.0, snr=20.0, volume_size=size, defocus_range_in_angstroms=defocus,
    )  # fmt: skip
    images = np.asarray(problem.observations).reshape(-1, size, size)
    particle_files.write_stack(tmp_path, Stack(images, pixel, defocus and np.asarray(truth.pose.defocus), truth.pose))
    command = ["relion_reconstruct", "--i", "particles.star", "--o", "mean.mrc", "--ctf"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "weights.csv").write_text("map,weight\nmean.mrc,1\n")
    maps, cube = particle_files.read_maps(tmp_path), Cube(size, pixel)
    (found,), wanted = from_voxels(cube, maps.voxels), np.asarray(volume(truth.theta)).mean(0)
    for shell in range(1, 11):
        there = cube.shells == shell
        cosine = found[there] @ wanted[there] / np.linalg.norm(found[there]) / np.linalg.norm(wanted[there])
        assert cosine > 0.98, shell


def write_map(path, data, voxel=3.0):
    particle_files.write_mrc(path, data, voxel)


def test_maps_and_weights_are_read_from_a_table(tmp_path):
    data = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32)
    for name, one in zip("ab", data, strict=True):
        write_map(tmp_path / f"{name}.mrc", one)
    (tmp_path / "weights.csv").write_text("weight,map,note\n3,b.mrc,x\n1,a.mrc,y\n")
    maps = particle_files.read_maps(tmp_path)
    np.testing.assert_array_equal(maps.voxels, data[::-1])
    np.testing.assert_array_equal(maps.weights, [0.75, 0.25])
    assert maps.voxel == 3.0


def test_classes_of_relion_are_those_of_the_last_iteration(tmp_path):
    for iteration, shares in ((25, [0.5, 0.5]), (30, [0.9, 0.1])):
        job = "run_ct25" if iteration == 30 else "run"  # it was continued
        names = [f"job/{job}_it{iteration:03d}_class00{k}.mrc" for k in (1, 2)]
        for k, name in enumerate(names):
            write_map(tmp_path / name.removeprefix("job/"), iteration + k + np.arange(64.0).reshape(4, 4, 4))
        rows = "\n".join(f"{name} {share}" for name, share in zip(names, shares, strict=True))
        text = f"data_model_classes\n\nloop_\n_rlnReferenceImage #1\n_rlnClassDistribution #2\n{rows}\n"
        (tmp_path / f"{job}_it{iteration:03d}_model.star").write_text(text)
    maps = particle_files.read_maps(tmp_path)
    np.testing.assert_allclose(maps.weights, [0.9, 0.1])
    assert maps.voxels[:, 0, 0, 0].tolist() == [30, 31]


@pytest.mark.parametrize(
    ("table", "maps", "message"),
    [
        (None, [], "neither weights.csv nor a file"),
        ("map\na.mrc\n", ["a"], r"columns \['map'\]; wanted map and weight"),
        ("map,weight\na.mrc,1\nb.mrc,1\n", ["a"], "b.mrc cannot be read as a map"),
        ("map,weight\na.mrc,-1\n", ["a"], r"weights in .* are \[-1.0\]; wanted finite ones, none negative"),
        ("map,weight\na.mrc,many\n", ["a"], "weights.csv has a weight that is no number"),
        ("map,weight\na.mrc,0\n", ["a"], "wanted finite ones, none negative, not all 0"),
        ("map,weight\nflat.mrc,1\n", ["flat"], "has 3 x 4 x 4 voxels; wanted a cube"),
        ("map,weight\nnan.mrc,1\n", ["nan"], "holds NaN or infinite values"),
        ("map,weight\na.mrc,1\ncoarse.mrc,1\n", ["a", "coarse"], "has 4 voxels of 5 angstroms a side, and .* of 3"),
        ("map,weight\nsizeless.mrc,1\n", ["sizeless"], "wanted cubes with a size"),
        ("map,weight\ntext.mrc,1\n", ["text"], "cannot be read as a map"),
        (
            "map,weight\na.mrc,1\nempty.mrc,.1\n",
            ["a", "empty"],
            "empty.mrc is 1 everywhere; wanted a map, or the weight 0",
        ),
    ],
)
def test_what_holds_no_maps_is_refused(tmp_path, table, maps, message):
    data = {"flat": np.zeros((3, 4, 4)), "empty": np.ones((4, 4, 4)), "nan": np.full((4, 4, 4), np.nan)}
    for name in maps:
        if name == "text":
            (tmp_path / "text.mrc").write_text("no map")
        else:
            voxel = {"coarse": 5.0, "sizeless": 0.0}.get(name, 3.0)
            write_map(tmp_path / f"{name}.mrc", data.get(name, np.arange(64.0).reshape(4, 4, 4)), voxel)
    if table is not None:
        (tmp_path / "weights.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        particle_files.read_maps(tmp_path)
