"""The observations of a protein, and what is offered of them: draws of structures and poses, noise, spans, volumes."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from cryosip.datasets import volume_products, volumes
from cryosip.datasets.conformations import IndependentModes, StateOf, States
from cryosip.datasets.given_poses import with_error
from cryosip.datasets.instance import Instance, Truth
from cryosip.datasets.outliers import contaminated
from cryosip.datasets.protein_images import (
    Beads,
    Camera,
    checked_cropped,
    cropped_span,
    largest_distance,
    unscaled_images,
    warn_of_atoms_outside,
    warn_of_lost_signal,
)
from cryosip.datasets.protein_poses import PoseRange, ProteinPose, pose_cells, pose_motion, sample_poses
from cryosip.datasets.views import Views
from cryosip.methods import checks
from cryosip.methods.problem import Images, Points, PRNGKey, Problem

SNR_PIXEL_IN_ANGSTROMS = 1.5  # the pixel of the default images
SPAN_DRAWS = 200  # images from which the error of cropped images is measured
POSE_ERROR_KEY = 1006  # fold_in number of the seed's key
VIEW_KEY = 1010  # fold_in number of the key of poses


class Experiment(NamedTuple):
    """The options of `protein` that say what is drawn, how strong the signal is and what is offered, checked.

    Without an SNR images have the units that they are rendered in.
    """

    name: str
    n_observations: int
    snr: float | None
    noise_std: float
    conformations: IndependentModes | States
    init_half_width: float
    poses: PoseRange
    views: Views | None  # of the truth alone
    cropped_size: int | None
    volume_size: int | None
    pose_error: float | None  # in radians
    outliers: float
    outlier_kind: str
    seed: int


def simulate(camera: Camera, beads: Beads, experiment: Experiment) -> Instance:
    """The observations of an experiment, and the truth behind them."""
    n, d, half_width = experiment.n_observations, experiment.conformations.dimension, experiment.init_half_width
    images = jax.jit(partial(unscaled_images, camera, beads), inline=True)
    sample_pose = jax.jit(partial(sample_poses, experiment.poses), static_argnums=1, inline=True)
    sample_state = jax.jit(partial(_conformations, experiment.conformations), static_argnums=1)
    particles = partial(_particles, sample_state, sample_pose, experiment.views)
    sample_init = partial(_uniform, half_width, d)

    key_theta, key_pose, key_noise, key_span = jr.split(jr.key(experiment.seed), 4)
    theta, pose = particles(key_theta, key_pose, n)
    warn_of_atoms_outside(camera, beads, theta, pose)
    clean = images(theta, pose)
    # an array: a number of the data would be written into programs, which then served one data set only
    scale = np.ones(1)
    if experiment.snr is not None:
        fine_pixels = (camera.size * camera.pixel / SNR_PIXEL_IN_ANGSTROMS) ** 2
        scale = np.full(1, experiment.noise_std * np.sqrt(experiment.snr * fine_pixels * n) / jnp.linalg.norm(clean))

    def render(theta: Points, pose: ProteinPose) -> Images:
        return jnp.asarray(scale, theta.dtype) * images(theta, pose)

    span, cropped_size = None, experiment.cropped_size
    scaled, cube = beads._replace(atoms=scale * beads.atoms), None
    option = f"cropped_size {cropped_size}"
    if experiment.volume_size is not None:
        option = f"volume_size {experiment.volume_size}"
        cube = volumes.Cube(experiment.volume_size, camera.size * camera.pixel / experiment.volume_size)
        cropped_size = 2 * cube.reach + 1
    if cropped_size is not None:
        span = cropped_span(camera, scaled, cropped_size)
        drawn = sample_init(key_span, SPAN_DRAWS), sample_pose(key_span, SPAN_DRAWS)
        span = span._replace(error=largest_distance(span, drawn, render(*drawn)))
        warn_of_lost_signal(option, span.error / experiment.noise_std)
    noise = experiment.noise_std * jr.normal(key_noise, clean.shape)
    observations = contaminated(
        clean * jnp.asarray(scale, clean.dtype) + noise,
        experiment.outliers, experiment.outlier_kind, experiment.seed,
        lambda rows: jnp.asarray(scale, clean.dtype) * clean[rows],
        lambda key, k: render(*particles(key, jr.fold_in(key, 1), k)),
    )  # fmt: skip
    problem = Problem(
        name=experiment.name,
        observations=observations,
        noise_std=experiment.noise_std,
        render=render,
        sample_pose=sample_pose,
        pose_quadrature=partial(pose_cells, experiment.poses),
        sample_init=sample_init,
        log_prior=lambda theta: -1.5 * (theta**2).sum(1) / half_width**2,
        theta_box=(jnp.full(d, -2.0 * half_width), jnp.full(d, 2.0 * half_width)),
        span=span,
        pose_motion=pose_motion(experiment.poses),
        volumes=None if cube is None else volume_products.volumes(camera, cube),
        poses=None if experiment.pose_error is None else refined(experiment.pose_error, experiment.seed, pose),
    )
    volume = None if cube is None else jax.jit(partial(volumes.of_beads, camera, scaled, cube))
    truth, among = Truth(lambda key, n: sample_state(key, n)[0], theta, pose=pose), experiment.conformations
    if isinstance(among, States):
        truth = truth._replace(states=among.centers, populations=among.populations)
    return Instance(problem, truth, volume=volume)


def refined(error: float, seed: int, pose: ProteinPose) -> ProteinPose:
    """Poses as a refinement leaves them: off by no more than an angle, in radians."""
    if error == 0:
        return pose
    key = jr.fold_in(jr.key(seed), POSE_ERROR_KEY)
    return pose._replace(rotation=with_error(error, key, pose.rotation))


def _conformations(among: IndependentModes | States, key: PRNGKey, n: int) -> tuple[Points, StateOf]:
    return among.sample(key, n)


def _particles(
    sample_state: Callable[[PRNGKey, int], tuple[Points, StateOf]],
    sample_pose: Callable[[PRNGKey, int], ProteinPose],
    views: Views | None,
    key_theta: PRNGKey,
    key_pose: PRNGKey,
    n: int,
) -> tuple[Points, ProteinPose]:
    """theta* (n, d) and the poses, whose rotations may depend on the state."""
    theta, state = sample_state(key_theta, n)
    pose = sample_pose(key_pose, n)
    if views is None:
        return theta, pose
    return theta, pose._replace(rotation=views.sample(jr.fold_in(key_pose, VIEW_KEY), state))


def _uniform(half_width: float, d: int, key: PRNGKey, n: int) -> Points:
    """theta (n, d) of the initial distribution."""
    return half_width * jr.uniform(key, (n, d), minval=-1.0)


def checked_pose_error(degrees: float | None) -> float | None:
    """In radians, or None; ValueError for what is not in [0, 180]."""
    if degrees is None:
        return None
    if checks.non_negative("pose_error_in_degrees", degrees) > 180:
        raise ValueError(f"pose_error_in_degrees is {degrees}; wanted one from 0 to 180")
    return float(np.deg2rad(degrees))


def checked_volume(volume_size: int | None, cropped_size: int | None, size: int) -> None:
    """ValueError for sizes of the span or of a cube that an image does not have, and where both are given."""
    checked_cropped(cropped_size, size)
    if volume_size is None:
        return
    if cropped_size is not None:
        raise ValueError(f"cropped_size is {cropped_size} with volume_size {volume_size}; wanted one of them")
    if not 4 <= checks.positive_int("volume_size", volume_size) <= size:
        raise ValueError(f"volume_size is {volume_size}; wanted a number from 4 to image_size, {size}")
