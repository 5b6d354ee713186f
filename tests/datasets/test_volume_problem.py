"""Problems whose theta are volumes: the same observations, images that are linear in theta, distances in L2."""

from functools import cache

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.bench import metrics
from cryosip.datasets.registry import DATASETS

IMAGES = {
    "n_observations": 30, "image_size": 12, "pixel_size_in_angstroms": 13.0, "atom_std_in_angstroms": 9.0,
    "atoms_per_bead": 4, "volume_size": 10,
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:volume_size")


@cache
def made(name="adk-volumes"):
    return DATASETS[name](pose_error_in_degrees=0.0, **IMAGES)


def test_observations_and_poses_are_those_of_the_molecule():
    ours, theirs = made(), made("adk")
    np.testing.assert_array_equal(ours.problem.observations, theirs.problem.observations)
    jax.tree.map(np.testing.assert_array_equal, ours.problem.poses, theirs.problem.poses)
    np.testing.assert_allclose(ours.truth.theta, theirs.volume(theirs.truth.theta), rtol=1e-6)


def test_images_are_linear_in_theta_and_those_of_the_molecule():
    problem, truth = made().problem, made().truth
    images = np.asarray(problem.render(truth.theta, truth.pose))
    twice = problem.render(2 * truth.theta, truth.pose)
    np.testing.assert_allclose(twice, 2 * images, rtol=1e-4, atol=1e-3)
    molecule = made("adk")
    wanted = molecule.problem.span.coordinates(molecule.truth.theta, molecule.truth.pose)
    found = problem.span.project(jnp.asarray(images))
    seen = np.asarray(problem.volumes.image_shells) < 4  # what all volumes have
    error = jnp.linalg.norm((found - wanted)[:, seen]) / jnp.linalg.norm(wanted[:, seen])
    assert float(error) < 0.03  # of the interpolation of slices
    np.testing.assert_allclose(found, problem.span.coordinates(truth.theta, truth.pose), rtol=1e-3, atol=1e-3)


def test_distances_from_the_truth_are_those_of_volumes():
    truth = made().truth
    true, other = truth.sample(jr.key(0), 20), truth.theta + jr.normal(jr.key(1), truth.theta.shape)
    embedded = metrics.w2(
        *(metrics.equally_weighted(np.asarray(truth.identifiable(x))[None])[0] for x in (other, true))
    )
    whole = metrics.w2(*(metrics.equally_weighted(np.asarray(x)[None])[0] for x in (other, true)))
    assert embedded == pytest.approx(whole, rel=1e-3)


def test_the_prior_is_the_gaussian_of_the_initial_distribution():
    problem = made().problem
    drawn = problem.sample_init(jr.key(5), 100)
    mean = drawn.mean(0, keepdims=True)
    at, there = problem.log_prior(mean), problem.log_prior(drawn)
    assert (np.asarray(there) < float(at[0])).all()
    # half of the number of coefficients on average, as of any Gaussian of that variance
    assert -float(there.mean()) == pytest.approx(0.5 * drawn.shape[1], rel=0.35)


def test_a_cube_in_too_few_voxels_is_refused():
    with pytest.raises(ValueError, match="volume_size is 3"):
        DATASETS["adk-volumes"](**IMAGES | {"volume_size": 3})
