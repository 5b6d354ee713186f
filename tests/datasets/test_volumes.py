"""Volumes: an orthonormal basis, densities whose projections are the images of atoms, slices in the right frame."""

from itertools import permutations, product

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.datasets import volumes
from cryosip.datasets.protein import adk
from cryosip.datasets.protein_images import Beads, Camera, Scattering, cropped_span
from cryosip.datasets.protein_poses import PoseRange, ProteinPose, sample_poses
from cryosip.methods.problem import halves

CUBE = volumes.Cube(32, 3.0)
CAMERA = Camera(32, 3.0, 6.0, False)
POTENTIAL = Scattering(np.array([3.0, 1.0]), np.array([6.0, 7.0]))
SMALL = {
    "n_observations": 20,
    "image_size": 16,
    "pixel_size_in_angstroms": 8.0,
    "atom_std_in_angstroms": 6.0,
    "atoms_per_bead": 4,
}


def beads(n=7):
    rest = 6 * jr.normal(jr.key(0), (n, 3))
    return Beads(np.arange(1.0, n + 1), rest, jr.normal(jr.key(1), (2, n, 3)))


def poses(n, shift=0.0, defocus=None):
    return sample_poses(PoseRange(shift, defocus), jr.key(2), n)


def rotations_of_the_cube():
    """All 24: a cube's nodes fall on nodes."""
    signed = (
        np.array(s)[:, None] * np.eye(3)[list(p)] for p in permutations(range(3)) for s in product((1, -1), repeat=3)
    )
    return np.stack([r for r in signed if np.linalg.det(r) > 0])


@pytest.mark.parametrize("size", [8, 9, 16])
def test_coefficients_are_those_of_an_orthonormal_basis(x64, size):
    cube = volumes.Cube(size, 3.0)
    c = jr.normal(jr.key(0), (5, len(cube.shells)))
    maps = volumes.voxels(cube, c)
    gram = 3.0**3 * np.einsum("izyx,jzyx->ij", maps, maps)
    np.testing.assert_allclose(gram, c @ c.T, atol=1e-10)
    np.testing.assert_allclose(volumes.from_voxels(cube, maps), c, atol=1e-12)
    assert cube.reach == (size - 1) // 2
    assert cube.shells.max() == cube.reach


def test_waves_that_a_cube_does_not_hold_are_left_out(x64):
    maps = np.random.default_rng(0).normal(size=(1, 8, 8, 8))
    cube = volumes.Cube(8, 1.0)
    once = volumes.voxels(cube, volumes.from_voxels(cube, maps))
    assert (once**2).sum() < 0.5 * (maps**2).sum()
    np.testing.assert_allclose(volumes.from_voxels(cube, once), volumes.from_voxels(cube, maps), atol=1e-12)


@pytest.mark.parametrize("scattering", [None, POTENTIAL])
def test_a_volume_is_the_density_of_its_atoms(x64, scattering):
    """A sum of normal densities at the voxels, but for the waves beyond the cube: the first has exp(-2 pi^2)."""
    camera, theta = CAMERA._replace(scattering=scattering), jnp.array([[0.7, -1.2]])
    (maps,) = volumes.voxels(CUBE, volumes.of_beads(camera, beads(), CUBE, theta))
    at = np.asarray(beads().rest + jnp.tensordot(theta[0], beads().motions, 1), float)
    axis = 3.0 * (np.arange(32) - 16)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    integrals, stds = ([2 * np.pi * 6.0**2], [6.0]) if scattering is None else scattering
    density = np.zeros((32,) * 3)
    for atoms, place in zip(beads().atoms, at, strict=True):
        for copy in product((-96.0, 0.0, 96.0), repeat=3):  # the cube is periodic
            square = sum((g - p - s) ** 2 for g, p, s in zip((x, y, z), place, copy, strict=True))
            for integral, std in zip(integrals, stds, strict=True):
                density += atoms * integral * np.exp(-0.5 * square / std**2) / (2 * np.pi * std**2) ** 1.5
    np.testing.assert_allclose(maps, density, atol=2e-6 * density.max())


@pytest.mark.parametrize(
    "view", [{}, {"shift": 6.0}, {"shift": 6.0, "defocus": (9_000.0, 14_000.0)}], ids=["rotation", "shift", "ctf"]
)
@pytest.mark.parametrize("scattering", [None, POTENTIAL])
def test_slices_are_the_images_of_the_atoms(x64, monkeypatch, view, scattering):
    """In all rotations of a cube, which tell each axis and sign, and all others; the finer the grid, the nearer."""
    monkeypatch.setattr(volumes, "OVERSAMPLING", 6)
    camera = CAMERA._replace(scattering=scattering, has_ctf="defocus" in view)
    pose = poses(48, **view)
    pose = pose._replace(rotation=pose.rotation.at[:24].set(rotations_of_the_cube()))
    theta = jnp.array([[0.7, -1.2]])
    (c,) = volumes.of_beads(camera, beads(), CUBE, theta)
    found = volumes.projections(camera, CUBE, c, pose)
    wanted = cropped_span(camera, beads(), 31).coordinates(jnp.tile(theta, (48, 1)), pose)
    inside = volumes.image_shells(15) < 15
    np.testing.assert_allclose(found[:, inside], wanted[:, inside], atol=6e-3 * float(jnp.abs(wanted).max()))


def test_the_error_of_slices_falls_with_the_square_of_the_spacing(x64, monkeypatch):
    pose, theta = poses(300, 6.0), jnp.array([[0.7, -1.2]])
    (c,) = volumes.of_beads(CAMERA, beads(), CUBE, theta)
    wanted = cropped_span(CAMERA, beads(), 31).coordinates(jnp.tile(theta, (300, 1)), pose)
    inside, errors = volumes.image_shells(15) < 15, []
    for oversampling in (2, 4):
        monkeypatch.setattr(volumes, "OVERSAMPLING", oversampling)
        missed = (volumes.projections(CAMERA, CUBE, c, pose) - wanted)[:, inside]
        errors.append(float(jnp.linalg.norm(missed) / jnp.linalg.norm(wanted)))
    assert errors[0] < 0.01  # without the correction of the voxels 0.015
    assert errors[1] < 0.3 * errors[0]


def densities(x):
    """Of seven beads whose places (n, 7, 3) are given."""
    free = Beads(np.arange(1.0, 8), jnp.zeros((7, 3)), jnp.eye(21).reshape(21, 7, 3))
    return volumes.of_beads(CAMERA, free, CUBE, x.reshape(len(x), -1))


def test_a_rotated_volume_is_that_of_rotated_atoms(x64):
    rest = beads().rest
    rotation = jnp.concatenate([rotations_of_the_cube(), poses(20).rotation])
    wanted = densities(jnp.einsum("nij,aj->nai", rotation, rest))
    found = volumes.rotated(CUBE, densities(rest[None])[0], rotation)
    assert (jnp.linalg.norm(found - wanted, axis=1) < 0.005 * jnp.linalg.norm(wanted, axis=1)).all()


def test_a_quarter_turn_only_exchanges_waves(x64):
    """Nodes fall on nodes: there and back is the same as twice nowhere."""
    (volume,) = densities(beads().rest[None])
    quarter, still = jnp.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), jnp.eye(3)
    there, nowhere = volumes.rotated(CUBE, volume, jnp.stack([quarter, still]))
    np.testing.assert_allclose(
        volumes.rotated(CUBE, there, quarter.T[None]), volumes.rotated(CUBE, nowhere, still[None]), atol=1e-8
    )


def test_shifts_and_the_mirror_image_are_exact(x64):
    rest, t = beads().rest, jnp.array([3.0, -7.0, 4.0])
    still, shifted, mirrored = densities(jnp.stack([rest, rest + t, -rest]))
    np.testing.assert_allclose(volumes.shifted(CUBE, still[None], t[None])[0], shifted, atol=1e-8)
    np.testing.assert_allclose(volumes.mirrored(still[None])[0], mirrored, atol=1e-10)


def test_projections_are_linear_and_have_an_adjoint(x64):
    pose, size = poses(3, 6.0), len(CUBE.shells)
    project = lambda c: volumes.projections(CAMERA, CUBE, c, pose)  # noqa: E731
    c, y = jr.normal(jr.key(0), (size,)), jr.normal(jr.key(1), (3, 961))
    (back,) = jax.linear_transpose(project, c)(y)
    assert float(back @ c) == pytest.approx(float((y * project(c)).sum()), rel=1e-10)


def test_shells_of_images_are_their_frequencies(x64):
    axis = 3.0 * (np.arange(32) - 16)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    span, shells = cropped_span(CAMERA, beads(), 31), volumes.image_shells(15)
    for qx, qy in [(0, 0), (1, 0), (3, 4), (2, -3), (6, 5)]:
        image = np.cos(2 * np.pi * (qx * x + qy * y) / 96 + 0.3).reshape(1, -1)
        there = np.abs(np.asarray(span.project(jnp.asarray(image)))[0]) > 1e-9
        assert set(shells[there]) == {round(np.hypot(qx, qy))}


@pytest.mark.parametrize("options", [{}, {"volume_size": 12}, {"defocus_range_in_angstroms": (9_000.0, 14_000.0)}])
def test_a_problem_offers_volumes_whose_projections_are_its_images(options):
    instance = adk(**SMALL | {"volume_size": 16, "pose_error_in_degrees": 0.0} | options)
    problem, truth = instance.problem, instance.truth
    assert problem.poses is truth.pose
    c = instance.volume(truth.theta)
    assert c.shape == (20, len(problem.volumes.shells))
    pose = [jax.tree.map(lambda a, i=i: a[i : i + 1], problem.poses) for i in range(20)]
    found = jnp.concatenate([problem.volumes.project(one, at) for one, at in zip(c, pose, strict=True)])
    wanted = problem.span.coordinates(truth.theta, truth.pose)
    seen = problem.volumes.image_shells < (problem.volumes.size - 1) // 2  # the last shell lacks neighbours
    assert jnp.linalg.norm((found - wanted)[:, seen]) < 0.03 * jnp.linalg.norm(wanted)
    assert problem.volumes.voxel_size * problem.volumes.size == 128


def test_poses_are_off_by_no_more_than_their_error():
    problem, truth, *_ = adk(**SMALL | {"pose_error_in_degrees": 2.0})
    between = np.einsum("nij,nkj->nik", problem.poses.rotation, truth.pose.rotation)
    angle = np.rad2deg(np.arccos(np.clip((np.trace(between, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert 1.0 < angle.max() < 2.0 + 1e-2
    assert angle.min() > 0.01
    fit, held_out = halves(problem)
    np.testing.assert_array_equal(fit.poses.rotation, problem.poses.rotation[::2])
    np.testing.assert_array_equal(held_out.poses.rotation, problem.poses.rotation[1::2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"volume_size": 3}, "volume_size is 3; wanted a number from 4 to image_size, 16"),
        ({"volume_size": 17}, "volume_size is 17; wanted a number from 4 to image_size, 16"),
        ({"volume_size": 8, "cropped_size": 7}, "cropped_size is 7 with volume_size 8; wanted one of them"),
        ({"pose_error_in_degrees": 181.0}, "pose_error_in_degrees is 181.0; wanted one from 0 to 180"),
        ({"pose_error_in_degrees": -1.0}, "pose_error_in_degrees is -1.0; wanted"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        adk(**SMALL | options)


def test_a_pose_holds_what_a_projection_needs():
    """A pose without a CTF has a defocus of 0, which is not used."""
    (c,) = volumes.of_beads(CAMERA, beads(), CUBE, jnp.zeros((1, 2)))
    pose = poses(2)
    other = ProteinPose(pose.rotation, pose.shift, pose.defocus + 9_000.0)
    project = volumes.projections
    np.testing.assert_array_equal(project(CAMERA, CUBE, c, pose), project(CAMERA, CUBE, c, other))
