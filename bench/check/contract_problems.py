"""The contract of a problem, as anyone can check it on a problem of their own: `cryosip check --problem NAME`."""

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.stats

from cryosip.bench.check import likelihoods, problems
from cryosip.bench.check.cases import differing, distance, not_finite, structure, traced
from cryosip.bench.check.distributions import smallest
from cryosip.bench.check.finding import ROUNDING, ROUNDING_64, Area, Finding, Unknown, violation
from cryosip.bench.check.leaks import leaks
from cryosip.datasets.instance import Instance, Truth
from cryosip.datasets.registry import DATASETS
from cryosip.methods import checks
from cryosip.methods.problem import Points, Pose, Problem
from cryosip.methods.problem import checked as checked_problem

OBSERVATIONS = 400  # of a problem that the table of small ones does not know
DRAWS = 16  # structures that are rendered
IN_BOX = 0.9  # of the structures behind the observations
ALONG = 0.5  # correlation of an image's derivative with the slope that a shift makes


def of_problem(name: str) -> dict[str, Area]:
    """The parts of the contract of a problem, each with its check. Raises ValueError for a name that no problem has."""
    checks.one_of("problem", name, DATASETS)
    _instance.cache_clear()
    return {f"{name}: {title}": ((name,), check) for title, check in PARTS.items()}


@lru_cache
def _instance(name: str, seed: int = 0) -> Instance:
    return DATASETS[name](**{"n_observations": OBSERVATIONS} | problems.options(name) | {"seed": seed})


def _drawn(problem: Problem, n: int = DRAWS) -> tuple[Points, Pose]:
    return traced(lambda key: (problem.sample_init(key, n), problem.sample_pose(key, n)), jr.key(1))


def forms(name: str) -> Iterator[Finding]:
    """The factory returns Instance(Problem, Truth), takes n_observations and seed, and gives the problem its name; all
    shapes agree, and numbers are finite."""
    parameters = inspect.signature(DATASETS[name]).parameters
    lacking = [argument for argument in ("n_observations", "seed") if argument not in parameters]
    yield violation("arguments n_observations and seed", bool(lacking), f"it has no {' and no '.join(lacking)}")
    instance = _instance(name)
    types = [type(part).__name__ for part in (instance, *instance[:2])]
    yield violation("types", types != ["Instance", "Problem", "Truth"], f"they are {', '.join(types)}")
    problem, truth = checked_problem(instance.problem), instance.truth
    named = isinstance(problem.name, str) and bool(problem.name)
    yield violation("name of the problem, which messages show", not named, f"it is {problem.name!r}")
    m, p = problem.observations.shape
    theta, pose = _drawn(problem)
    n, d = theta.shape
    samples = truth.sample(jr.key(2), DRAWS)
    found = {
        "render": (traced(problem.render, theta, pose), (n, p)),
        "sample_init": (theta, (DRAWS, d)),
        "log_prior": (traced(problem.log_prior, theta), (n,)),
        "truth.sample": (samples, (DRAWS, d)),
        "truth.theta": (truth.theta, (m, d)),
    }
    for what, (array, shape) in found.items():
        yield violation(f"shape of {what} is {shape}", jnp.shape(array) != shape, f"it is {jnp.shape(array)}")
        yield Finding(f"{what}: numbers that are not finite", not_finite(array), most=0)
    fewer = DATASETS[name](**problems.options(name) | {"n_observations": 7}).problem.observations
    yield Finding("observations of n_observations=7", len(fewer), least=7, most=7)
    yield from _box(problem, truth, d)


def _box(problem: Problem, truth: Truth, d: int) -> Iterator[Finding]:
    if problem.theta_box is None:
        return
    lower, upper = map(np.asarray, problem.theta_box)
    formed = lower.shape == upper.shape == (d,) and bool((lower < upper).all())
    yield violation(f"theta_box is lower < upper of shape ({d},)", not formed, f"it is {lower} to {upper}")
    theta = np.asarray(truth.theta)
    inside = ((lower <= theta) & (theta <= upper)).all(1).mean()
    yield Finding("share of the structures behind the observations in theta_box", float(inside), least=IN_BOX)


def poses(name: str) -> Iterator[Finding]:
    """Poses are a pytree with leading axis n, those of the observations too, and come from the key alone; the nodes of
    the quadrature have weights that sum to 1, and render takes them. Numbers that differ are counted."""
    problem, truth, *_ = _instance(name)
    pose = problem.sample_pose(jr.key(1), DRAWS)
    for what, some, n in (
        ("sample_pose", pose, DRAWS),
        ("truth.pose", truth.pose, len(truth.theta)),
    ):
        axes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(some)}
        yield violation(f"leading axis of {what} is {n}", bool(axes - {(n,)}), f"axes are {sorted(axes)}")
    forms = structure(pose), structure(truth.pose)
    yield violation("truth.pose is formed as sample_pose", forms[0] != forms[1], f"they are {forms}")
    yield Finding("sample_pose, called again", differing(pose, problem.sample_pose(jr.key(1), DRAWS)), most=0)
    nodes, weights = problem.pose_quadrature(1)
    axes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(nodes)}
    yield violation("leading axis of the nodes", bool(axes - {weights.shape}), f"{sorted(axes)}; {weights.shape}")
    yield Finding("quadrature: the least weight", float(weights.min()), least=0)
    error = abs(np.asarray(weights, np.float64).sum() - 1)
    yield Finding("quadrature: weights sum to 1, error", float(error), most=1e-4)
    theta = jnp.repeat(problem.sample_init(jr.key(1), 1), len(weights), axis=0)
    yield Finding("images at the nodes: not finite", not_finite(traced(problem.render, theta, nodes)), most=0)
    if problem.pose_motion is not None:
        still = problem.pose_motion.move(pose, jnp.zeros((DRAWS, problem.pose_motion.dimension)))
        yield Finding("pose_motion at step 0, relative", distance(pose, still), most=ROUNDING)


def purity(name: str) -> Iterator[Finding]:
    """render depends on its arguments alone, compiled or not; row i is the image of theta i in pose i, whatever the
    other rows are; the same seed makes the same bits of observations, another seed others."""
    problem = _instance(name).problem
    theta, pose = _drawn(problem)
    images = traced(problem.render, theta, pose)
    yield Finding(
        "render, called again: numbers that differ", differing(images, traced(problem.render, theta, pose)), most=0
    )
    by_itself = problem.render(theta, pose)
    yield Finding(
        "render without jit, called again: numbers that differ",
        differing(by_itself, problem.render(theta, pose)),
        most=0,
    )
    yield Finding("render under jit against render alone, relative", distance(images, by_itself), most=ROUNDING)
    rows = jnp.arange(DRAWS)[::-1][: DRAWS // 2]  # fewer, and in another order
    fewer = traced(problem.render, *jax.tree.map(lambda leaf: leaf[rows], (theta, pose)))
    yield Finding(
        "row i of render is of theta i and pose i, relative error", distance(images[rows], fewer), most=ROUNDING
    )
    observations = [_again(name, seed).problem.observations for seed in (0, 1)]
    yield Finding(
        "observations of the same seed: numbers that differ", differing(problem.observations, observations[0]), most=0
    )
    same = not differing(problem.observations, observations[1])
    yield violation("another seed makes other observations", same, "they are the same")


def _again(name: str, seed: int) -> Instance:
    return _instance.__wrapped__(name, seed)


def secrets(name: str) -> Iterator[Finding]:
    """Nothing that a method can reach from the problem, through closures too, holds the structures and poses behind
    the observations or their distribution; and the observations are not the images without noise."""
    problem, truth, *_ = _instance(name)
    found = sorted({type(secret).__name__ for secret in leaks(problem, truth)})
    yield violation("the problem holds nothing of the truth", bool(found), f"it holds {', '.join(found)} of it")
    if problem.noise_std == 0:  # all noise is in the pose
        return
    clean = np.asarray(problem.render(truth.theta, truth.pose))
    share = (np.asarray(problem.observations) == clean).mean()
    yield Finding("share of observed numbers without noise", float(share), most=0.5)


def gradients(name: str) -> Iterator[Finding]:
    """The adjoint of render against finite differences, in float64; where the problem offers a span, how far images
    are from it, over the error that it states."""
    with jax.enable_x64(True):
        smooth = problems.SMOOTH.get(problems.SAME_CODE.get(name, name), {})
        problem = DATASETS[name](**{"n_observations": 60} | problems.problem_options(name) | smooth).problem
        yield Finding("gradient of render, relative error", problems.adjoint_error(problem), most=ROUNDING_64)
        if problem.span is not None:
            ratio = problems.outside(problem) / problem.span.error
            yield Finding("distance of images from their span / stated error", ratio, most=1.5)


def samplers(name: str) -> Iterator[Finding]:
    """How probable the structures behind the observations are beside samples of the truth (values, means, products),
    samples beside the quantiles, and noise: observations less their images are N(0, noise_std^2), or 0."""
    problem, truth, *_ = _instance(name)
    samples = np.asarray(traced(lambda key: truth.sample(key, problems.SAMPLES), jr.key(3)), np.float64)
    again = np.asarray(truth.sample(jr.key(3), DRAWS)), np.asarray(truth.sample(jr.key(3), DRAWS))
    yield Finding("truth.sample, called again: numbers that differ", differing(*again), most=0)
    least = problems.LEAST_PROBABLE
    behind = _two_samples(np.asarray(truth.theta, np.float64), samples)
    yield Finding("structures behind the observations, probability", behind, least=least)
    if truth.quantile is not None:
        u = (np.arange(1_000) + 0.5) / 1_000
        at_u, ordered = truth.quantile(u), np.sort(samples[:, 0])
        below, up_to = (np.searchsorted(ordered, at_u, side=side) / len(samples) for side in ("left", "right"))
        gap = np.sqrt(len(samples)) * np.maximum(u - up_to, below - u).max()  # of atoms: P(x < q) <= u <= P(x <= q)
        yield Finding("samples at the quantiles, probability", float(scipy.stats.kstwobign.sf(gap)), least=least)
    yield problems.noise(problem, truth)


def likelihood(name: str) -> Iterator[Finding]:
    """Where the problem offers a log_likelihood: with y ~ p(. | theta), the ratio p(y | theta + delta) / p(y | theta)
    has mean 1; the truth is more likely than structures of other images; row i depends on theta i and image i. And what
    `identifiable` maps to one point gives the same distribution of images."""
    instance = _instance(name)
    yield from likelihoods.likelihood(instance.problem, instance.truth)
    yield from likelihoods.identifiable(instance)


def _two_samples(few: np.ndarray, many: np.ndarray) -> float:
    """The probability that two clouds (n, d) of one distribution differ as much: by Bonferroni over the coordinates
    (Kolmogorov-Smirnov), their means and the means of their products (Welch)."""
    first, second = np.triu_indices(few.shape[1])
    center = many.mean(0)
    moments = [np.concatenate([x, (x - center)[:, first] * (x - center)[:, second]], 1) for x in (few, many)]
    by_means = scipy.stats.ttest_ind(*moments, equal_var=False).pvalue
    by_values = [scipy.stats.ks_2samp(x, y).pvalue for x, y in zip(few.T, many.T, strict=True)]
    return smallest([*by_values, *by_means])


def pixel_order(name: str) -> Iterator[Finding]:
    """Images are stored row by row, rows along y and columns along x, both ascending: where poses have a `shift`, it
    moves an image along these axes. The correlation of the change with minus the slope along x, and along y."""
    problem = _instance(name).problem
    theta, pose = _drawn(problem)
    side = round(np.sqrt(problem.observations.shape[1]))
    if side < 2 or side**2 != problem.observations.shape[1] or not hasattr(pose, "shift"):
        raise Unknown("square images with a shift in their poses: pixel order")

    def moved(step: jax.Array) -> jax.Array:
        return problem.render(theta, pose._replace(shift=pose.shift + step))

    for axis, along in enumerate("xy"):
        direction = jnp.zeros(2).at[axis].set(1.0)
        images, change = traced(lambda step: jax.jvp(moved, (jnp.zeros(2),), (step,)), direction)
        slope = np.asarray(np.gradient(np.asarray(images, np.float64).reshape(-1, side, side), axis=2 - axis))
        correlation = -_correlation(np.asarray(change, np.float64), slope)
        yield Finding(f"correlation along {along}", correlation, least=ALONG)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel(), b.ravel()
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), np.finfo(np.float64).tiny))


PARTS: dict[str, Callable[[str], Iterator[Finding]]] = {
    "shapes": forms,
    "poses": poses,
    "purity and determinism": purity,
    "holds nothing of the truth": secrets,
    "gradient of render": gradients,
    "samplers against their own moments": samplers,
    "likelihood and identifiable points": likelihood,
    "pixel order": pixel_order,
}
