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
from cryosip.bench.check.images import ensemble_images, nanocluster_images, protein_images, superposed_pair
from cryosip.bench.examples import PROTEIN, example_problem, problem_options
from cryosip.datasets import prody_adapter
from cryosip.datasets.instance import Instance
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
    "ensemble": {key: _IMAGES[key] for key in _CAMERA} | {"n_observations": 400, "snr": 1.0},
    "hsp90": _IMAGES | {"n_observations": 100},
    "nanocluster": {"n_observations": 1_000},
    "oned": {"n_observations": SAMPLES},
}
SMOOTH: dict[str, dict[str, Any]] = {
    "adk": _IMAGES | {"n_observations": 20, "snr": PROTEIN["snr"], "cropped_size": 7},
    "ensemble": {"n_observations": 20, "cropped_size": 7},
    "nanocluster": {"n_observations": 60},
    "oned": {"n_observations": 300},
}
SAME_CODE = {"hsp90": "adk"}  # with another file, to save a minute


@lru_cache
def build(name: str, smooth: bool = False) -> Instance:
    """A small problem; hsp90 from the bundled structure, since the check needs no network."""
    return example_problem(name, **(SMOOTH if smooth else PROBLEMS).get(name, {}))


def options(name: str) -> Options:
    """Those of the small problem."""
    return problem_options(name) | PROBLEMS.get(name, {})


def samplers(name: str) -> Iterator[Finding]:
    """How probable samples are under their distribution; hsp90 takes the structure of adk."""
    instance = build(name)
    problem, truth = instance.problem, instance.truth
    expected, initial = known("reference distribution", name, distributions.DISTRIBUTIONS)

    def probable(what: str, p_value: float) -> Finding:
        return Finding(f"{name}: {what}, probability", p_value, least=LEAST_PROBABLE)

    samples, first = jax.jit(lambda key: (truth.sample(key, SAMPLES), problem.sample_init(key, SAMPLES)))(jr.key(1))
    yield probable("samples of the truth", distributions.p_value(np.asarray(samples), expected))
    yield probable("parameters behind the observations", distributions.p_value(np.asarray(truth.theta), expected))
    yield probable("initial distribution", distributions.p_value(np.asarray(first), initial))
    noise = np.asarray(problem.observations, np.float64) - np.asarray(problem.render(truth.theta, truth.pose))
    yield probable("noise", distributions.noise_p_value(noise / problem.noise_std))
    if jax.tree.leaves(truth.pose):
        for what, pose in (
            ("poses", problem.sample_pose(jr.key(3), SAMPLES)),
            ("poses of the observations", truth.pose),
        ):
            yield probable(what, _pose_p_value(pose, options(name)))
    if truth.quantile is not None:
        u = (np.arange(1_000) + 0.5) / 1_000
        at_u = truth.quantile(u)
        if problem.support is None:
            error = np.abs(expected.marginals[0](at_u) - u).max()
        else:  # each given structure takes as much of [0, 1] as it has weight: the mean is exact to one step
            error = max(0.0, abs(at_u.mean() - expected.mean[0]) / np.ptp(at_u) - 1 / len(u))
        yield Finding(f"{name}: quantiles, error of their probability", float(error), most=1e-9)


def _pose_p_value(pose: Any, options: dict[str, Any]) -> float:
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


# the images behind the observations, in float64
IMAGES: dict[str, Callable[[dict[str, Any], Instance], np.ndarray]] = {
    "adk": _protein_images,
    "ensemble": _ensemble_images,
    "nanocluster": lambda options, instance: nanocluster_images(
        np.asarray(instance.truth.theta, np.float64), options["image_size"], options["tau"]
    ),
    "oned": lambda _options, instance: np.asarray(instance.truth.theta, np.float64),
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
