"""Stacks as problems: noise, scale and likelihood are those that the images were made with, whatever their contrast."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import prody
import pytest
import starfile
from scipy.spatial.transform import Rotation

from cryosip.datasets import particle_files, prody_adapter
from cryosip.datasets.given_poses import small_turns, turns_within
from cryosip.datasets.imaging import likelihood_of, observed, poses_of, problem_of
from cryosip.datasets.particle_files import Stack
from cryosip.datasets.protein import adk
from cryosip.datasets.stack import stack
from cryosip.datasets.stack_images import as_pixels, coefficients, whitened

SIZE, PIXEL, STD, N = 24, 6.0, 7.0, 300
OPTIONS = {"atom_std_in_angstroms": STD, "atoms_per_bead": 4, "n_modes": 2}


@pytest.fixture(scope="module")
def made():
    return adk(
        n_observations=N, image_size=SIZE, pixel_size_in_angstroms=PIXEL, atom_std_in_angstroms=STD, snr=1.0,
        atoms_per_bead=4, means=[[9.0, -7.0], [9.0, -7.0]], max_shift_in_angstroms=5.0, noise_std=2.0,
        defocus_range_in_angstroms=(1e4, 2e4),
    )  # fmt: skip


def images_of(instance):
    return np.asarray(instance.problem.observations).reshape(-1, SIZE, SIZE)


def written(folder, instance, images, pose=True):
    truth = instance.truth.pose
    given = Stack(images.astype(np.float32), PIXEL, np.asarray(truth.defocus), truth if pose else None)
    particle_files.write_stack(folder, given)
    return folder / "particles.star"


def recorded(folder, instance, images, **options):
    """The imaging, with its problem of all images."""
    imaging = stack(written(folder, instance, images), prody_adapter.adenylate_kinase(), **(OPTIONS | options))
    return SimpleNamespace(imaging=imaging, problem=problem_of(imaging), **imaging._asdict())


@pytest.fixture(scope="module")
def found(made, tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("stack"), made, images_of(made))


def true_images(made, found):
    """The images behind the observations, as these are weighted."""
    whole = made.problem.render(made.truth.theta, made.truth.pose).reshape(-1, SIZE, SIZE)
    return as_pixels(found.optics, whitened(found.optics, coefficients(found.optics, whole)))


def own_pose(found):
    return found.problem.pose_quadrature(0)[0]


def test_noise_and_scale_are_those_that_images_were_made_with(made, found):
    np.testing.assert_allclose(found.noise, 2.0, rtol=0.08)
    wanted = true_images(made, found)
    ours = found.problem.render(made.truth.theta, own_pose(found))
    assert float((ours * wanted).sum() / (wanted**2).sum()) == pytest.approx(1.0, abs=0.05)
    assert float(jnp.linalg.norm(ours - wanted) / jnp.linalg.norm(wanted)) < 0.06
    noise = np.asarray(found.problem.observations - wanted)
    assert noise.std() == pytest.approx(1.0, abs=0.05)


def test_the_noise_of_each_frequency_is_measured(made, tmp_path):
    signal = np.asarray(made.problem.render(made.truth.theta, made.truth.pose)).reshape(-1, SIZE, SIZE)
    k = np.fft.fftfreq(SIZE)
    shape = 1 + 3 * np.exp(-((np.hypot(k[:, None], k) * SIZE / 4) ** 2))
    white = np.random.default_rng(0).normal(size=signal.shape)
    coloured = np.fft.ifft2(np.fft.fft2(white) * shape).real
    found = recorded(tmp_path, made, signal + coloured)
    wanted = 1 + 3 * np.exp(-((np.arange(len(found.noise)) / 4) ** 2))
    np.testing.assert_allclose(found.noise[1:], wanted[1:], rtol=0.25)  # leakage blurs the spectrum
    assert found.noise[1] > 2 * found.noise[-1]


def test_the_opposite_contrast_is_found(made, found, tmp_path):
    other = recorded(tmp_path, made, -images_of(made))
    assert found.scale > 0
    assert other.scale == pytest.approx(-found.scale, rel=1e-3)
    np.testing.assert_allclose(other.problem.observations, -found.problem.observations, atol=1e-3)


def test_the_likelihood_is_that_of_the_images(made, found):
    theta, image = made.truth.theta[:8], jnp.arange(8)
    pose = jax.tree.map(lambda a: a[:8], own_pose(found))
    y, x = found.problem.observations[:8], found.problem.render(theta, pose)
    value = found.problem.log_likelihood(theta, image)
    np.testing.assert_allclose(value, 0.5 * (y**2).sum(1) - 0.5 * ((y - x) ** 2).sum(1), rtol=1e-3, atol=0.02)
    # of another structure and another image
    crossed = found.problem.log_likelihood(theta, image[::-1])
    assert float((value - crossed).mean()) > 10


def test_the_factor_of_each_image_is_integrated_out(made, found, tmp_path):
    spread = recorded(tmp_path, made, images_of(made), scale_std=0.3)
    theta, image = made.truth.theta[:8], jnp.arange(8)
    pose = jax.tree.map(lambda a: a[:8], own_pose(found))
    y, x = spread.problem.observations[:8], spread.problem.render(theta, pose)
    factor = np.linspace(-1.5, 3.5, 4_001)[:, None]
    along, norm = (np.asarray(a, float).sum(1) for a in (y * x, x**2))
    exponent = factor * along - 0.5 * factor**2 * norm - 0.5 * ((factor - 1) / 0.3) ** 2
    top = exponent.max(0)
    integral = np.exp(exponent - top).sum(0) * (factor[1] - factor[0]) / (0.3 * np.sqrt(2 * np.pi))
    value = spread.problem.log_likelihood(theta, image)
    np.testing.assert_allclose(value, top + np.log(integral), rtol=1e-3, atol=0.02)


def test_six_turns_have_the_moments_of_all_rotations_by_no_more_than_an_angle():
    for turns in (small_turns(0.1), turns_within(0.1, 0.01)):
        vectors = Rotation.from_matrix(turns.rotation).as_rotvec()
        np.testing.assert_allclose(turns.weights @ vectors, 0.0, atol=1e-9)
        np.testing.assert_allclose((vectors.T * turns.weights) @ vectors, 0.1**2 / 5 * np.eye(3), rtol=0.02, atol=1e-9)


@pytest.mark.parametrize("degrees", [0.6, 4.0])  # six nodes, and many
def test_errors_of_poses_are_integrated_out(made, found, tmp_path, degrees):
    near = recorded(tmp_path, made, images_of(made), pose_error_in_degrees=degrees)
    turns = turns_within(np.deg2rad(degrees), np.deg2rad(degrees / 8))
    theta, y = made.truth.theta[2:3], found.problem.observations[2]
    own = jax.tree.map(lambda a: jnp.repeat(a[2:3], len(turns.weights), axis=0), own_pose(found))
    rotation = jnp.asarray(turns.rotation, jnp.float32) @ own.rotation
    x = near.problem.render(jnp.repeat(theta, len(turns.weights), axis=0), own._replace(rotation=rotation))
    gain = np.asarray((x * y).sum(1) - 0.5 * (x**2).sum(1), float)
    wanted = gain.max() + np.log(turns.weights @ np.exp(gain - gain.max()))
    assert float(near.problem.log_likelihood(theta, jnp.array([2]))[0]) == pytest.approx(wanted, abs=0.1)
    drawn = near.problem.sample_pose(jax.random.key(0), 500)
    cosine = jnp.einsum("nij,mij->nm", drawn.rotation, own_pose(found).rotation).max(1)
    angle = np.rad2deg(np.arccos(np.clip((cosine - 1) / 2, -1, 1)))
    assert angle.max() < degrees + 0.1
    assert np.median(angle) > degrees / 2


def test_errors_of_shifts_are_integrated_out(made, found, tmp_path):
    std = 1.5
    near = recorded(tmp_path, made, images_of(made), shift_error_in_angstroms=std)
    step = np.linspace(-2, 2, 41)  # an image tells .3 angstroms
    away = np.stack(np.meshgrid(step, step), axis=-1).reshape(-1, 2)
    weights = np.exp(-0.5 * (away**2).sum(1) / std**2) * (step[1] - step[0]) ** 2 / (2 * np.pi * std**2)
    for image in (2, 5):
        theta, y = made.truth.theta[image : image + 1], found.problem.observations[image]
        own = jax.tree.map(lambda a, i=image: jnp.repeat(a[i : i + 1], len(away), axis=0), own_pose(found))
        moved = own._replace(shift=own.shift + jnp.asarray(away, jnp.float32))
        x = near.problem.render(jnp.repeat(theta, len(away), axis=0), moved)
        gain = np.asarray((x * y).sum(1) - 0.5 * (x**2).sum(1), float)
        wanted = gain.max() + np.log(np.exp(gain - gain.max()) @ weights)
        value = float(near.problem.log_likelihood(theta, jnp.array([image]))[0])
        assert value == pytest.approx(wanted, abs=0.15)
        assert abs(value - float(found.problem.log_likelihood(theta, jnp.array([image]))[0])) > 0.3
    drawn = (
        near.problem.sample_pose(jax.random.key(0), 400).shift - found.problem.sample_pose(jax.random.key(0), 400).shift
    )
    assert float(drawn.std()) == pytest.approx(std, rel=0.1)
    with pytest.raises(ValueError, match="shift_error_in_angstroms is 7; wanted less than atom_std_in_angstroms, 7"):
        stack(tmp_path / "particles.star", prody_adapter.adenylate_kinase(), shift_error_in_angstroms=7.0, **OPTIONS)


def test_the_first_images_are_taken(made, found, tmp_path):
    few = recorded(tmp_path, made, images_of(made), n_observations=100)
    assert few.problem.observations.shape == (100, found.optics.kept**2)
    assert own_pose(few).rotation.shape == (100, 3, 3)
    np.testing.assert_allclose(few.problem.observations, found.problem.observations[:100], rtol=0.2, atol=0.3)


def test_what_a_stack_cannot_be_is_refused(made, tmp_path):
    star = written(tmp_path, made, images_of(made))
    structure = prody_adapter.adenylate_kinase()
    with pytest.raises(ValueError, match=f"n_observations is {N + 1}; wanted at most {N}"):
        stack(star, structure, n_observations=N + 1)
    with pytest.raises(
        ValueError, match=r"the structure has a radius of .* angstroms, and images are 48 angstroms wide"
    ):
        stack(star, structure, pixel_size_in_angstroms=2.0)
    with pytest.raises(ValueError, match="amplitude is 'large'"):
        stack(star, structure, amplitude="large")
    with pytest.raises(ValueError, match=r"pose_error_in_degrees is -1\.0"):
        stack(star, structure, pose_error_in_degrees=-1.0)
    with pytest.raises(
        ValueError, match=r"pose_error_in_degrees is 90, and images tell rotations of 0\.5\d degrees apart"
    ):
        stack(star, structure, pose_error_in_degrees=90.0, **OPTIONS)
    tables = starfile.read(star)
    tables["particles"] = tables["particles"].drop(columns=["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"])
    starfile.write(tables, tmp_path / "no_angles.star")
    with pytest.raises(ValueError, match=r"no_angles\.star has no angles; wanted particles after a refinement"):
        stack(tmp_path / "no_angles.star", structure)
    flat = np.zeros_like(images_of(made))
    (tmp_path / "flat").mkdir()
    with pytest.raises(ValueError, match="are constant where no molecule is"):
        recorded(tmp_path / "flat", made, flat)


def test_clean_images_have_no_constant(made, found):
    beads_at = found.problem.render(made.truth.theta[:3], jax.tree.map(lambda a: a[:3], own_pose(found)))
    np.testing.assert_allclose(beads_at.mean(1), 0.0, atol=1e-4)


def test_some_images_have_the_problem_of_their_own(found):
    rows = np.array([7, 3, 250])
    few = problem_of(found.imaging, rows)
    np.testing.assert_allclose(few.observations, found.problem.observations[rows], atol=1e-4)
    theta = jnp.array([[1.0, -2.0], [5.0, 5.0], [0.0, 3.0]])
    wanted = found.problem.log_likelihood(theta, jnp.asarray(rows))
    np.testing.assert_allclose(few.log_likelihood(theta, jnp.arange(3)), wanted, rtol=1e-5)
    given = observed(found.particles, found.optics, rows), poses_of(found.particles, rows)
    np.testing.assert_allclose(likelihood_of(found.imaging)(*given, theta, jnp.arange(3)), wanted, rtol=1e-5)


def test_a_structure_in_the_map_is_where_it_lies(made, found, tmp_path):
    """Moved by an offset, it is seen where shifts by the offset, as it is turned, put it."""
    offset = np.array([5.0, -3.0, 2.0])
    atoms = prody.parsePDB(str(prody_adapter.adenylate_kinase()), subset="ca", chain="A")
    middle = SIZE // 2 * PIXEL
    atoms.setCoords(atoms.getCoords() - atoms.getCoords().mean(0) + middle + offset)
    prody.writePDB(str(tmp_path / "moved.pdb"), atoms)
    star = written(tmp_path, made, images_of(made))
    moved = stack(star, tmp_path / "moved.pdb", in_map=True, **OPTIONS)
    np.testing.assert_allclose(moved.molecule.rest, found.molecule.rest + offset, atol=2e-3)
    pose = jax.tree.map(lambda a: a[:5], own_pose(found))
    theta = jnp.zeros((5, 2))
    away = jnp.einsum("nij,j->ni", pose.rotation, jnp.asarray(offset, jnp.float32))[:, :2]
    there = found.imaging._replace(beads=moved.beads._replace(atoms=found.beads.atoms))
    here = problem_of(found.imaging, np.arange(5)).render(theta, pose._replace(shift=pose.shift + away))
    np.testing.assert_allclose(problem_of(there, np.arange(5)).render(theta, pose), here, atol=2e-3)


def test_an_ensemble_moves_along_its_components(made, found, tmp_path):
    atoms = prody.parsePDB(str(prody_adapter.adenylate_kinase()), subset="ca", chain="A")
    rest, motion = atoms.getCoords(), 0.3 * np.sin(np.arange(3 * len(atoms)) / 20).reshape(-1, 3)
    files = [tmp_path / f"{step}.pdb" for step in range(4)]
    for step, file in enumerate(files):
        atoms.setCoords(rest + step * motion)
        prody.writePDB(str(file), atoms)
    moving = stack(written(tmp_path, made, images_of(made)), files, **(OPTIONS | {"n_modes": 1}))
    assert (moving.half_width, found.imaging.half_width) == (5.0, 14.0)
    assert problem_of(moving, np.arange(2)).theta_box[1].tolist() == [5.0]
    per_bead = np.linalg.norm(moving.molecule.motions[0], axis=1).mean()
    assert per_bead == pytest.approx(np.linalg.norm(motion, axis=1).mean() * np.std(range(4)), rel=0.2)
