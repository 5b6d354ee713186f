"""Checks of what a problem may offer beside its images: their likelihood, and what they tell of a structure."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.stats

from cryosip.bench.check.cases import distance, not_finite, traced
from cryosip.bench.check.finding import ROUNDING, Finding, violation
from cryosip.datasets.instance import Instance, Truth
from cryosip.methods.problem import Points, Problem

LEAST_PROBABLE = 1e-6
MOST = 2_000  # observations; many more would find the density's jumps, at which few draws see the lower side
MOVED = 0.6  # mean absolute change of the log-likelihood where structures are moved
PAIRS, IMAGES = 4, 2_000  # structures with one image, and how many images of each
SLACK = 1e-3  # of the spread of images, as which their mean and std may differ at equal points
NEWTON_STEPS = 40


def likelihood(problem: Problem, truth: Truth) -> Iterator[Finding]:
    """log_likelihood against the observations: with y ~ p(. | theta), E p(y | theta + delta) / p(y | theta) = 1."""
    given = problem.log_likelihood
    if given is None:
        return
    behind = truth.theta[:MOST]
    m, d = behind.shape
    image = jnp.arange(m)

    def compiled(theta: Points) -> jax.Array:
        found: jax.Array = traced(given, theta, image)
        return found

    at_truth = compiled(behind)
    yield violation(f"shape of log_likelihood is {(m,)}", at_truth.shape != (m,), f"it is {at_truth.shape}")
    yield Finding("log_likelihood at the truth: numbers that are not finite", not_finite(at_truth), most=0)
    back = traced(given, behind[::-1], image[::-1])[::-1]
    yield Finding(
        "row i of log_likelihood is of theta i and image i, relative error", distance(at_truth, back), most=ROUNDING
    )
    other = compiled(jnp.roll(behind, 1, axis=0))
    yield Finding(
        "mean log_likelihood, truth less structures of other images", float((at_truth - other).mean()), least=0
    )
    delta = np.asarray(behind).std(0) * jr.rademacher(jr.key(5), (m, d), float)  # of one length: no tails
    for _ in range(80):
        change = np.asarray(compiled(behind + delta) - at_truth, np.float64)
        if np.mean(np.minimum(np.abs(change), 10)) < MOVED:
            break
        delta = 0.8 * delta
    moved = scipy.stats.ttest_1samp(np.exp(change), 1.0).pvalue
    yield Finding("mean ratio of likelihoods is 1, probability", float(moved), least=LEAST_PROBABLE)


def identifiable(instance: Instance) -> Iterator[Finding]:
    """Structures that `identifiable` maps to one point give images of one distribution, by their means and squares, but
    for a thousandth of the spread of all images; such structures are found by Newton's method from other ones."""
    problem, truth = instance.problem, instance.truth
    theta, others = truth.sample(jr.key(6), PAIRS), truth.sample(jr.key(7), PAIRS)
    points = traced(truth.identifiable, theta)
    yield Finding("identifiable: numbers that are not finite", not_finite(points), most=0)
    alike = traced(lambda a, b: _with_point(truth, a, b), others, points)
    spread = np.asarray(truth.sample(jr.key(8), 500)).std(0)
    found = np.asarray(_distance_of_rows(jnp.asarray(truth.identifiable(alike)), points)) < ROUNDING
    apart = (np.abs(np.asarray(alike - theta)) / spread).max(1) > 0.1
    images = np.asarray(problem.observations, np.float64)
    for i in np.flatnonzero(found & apart):
        one, other = (
            _images(problem, jnp.repeat(t[i : i + 1], IMAGES, axis=0), k) for k, t in enumerate((theta, alike))
        )
        what = f"images of structures with one point, pair {i + 1}, standard errors"
        yield Finding(what, _apart(one, other, images), most=6)


def _distance_of_rows(a: Points, b: Points) -> jax.Array:
    """The largest difference of each row, relative to the largest number of all."""
    return jnp.abs(a - b).max(1) / jnp.abs(b).max()


def _with_point(truth: Truth, start: Points, points: Points) -> Points:
    """Structures near `start` of which `identifiable` makes these points, by Newton steps of least norm."""

    def one(theta: jax.Array, point: jax.Array) -> jax.Array:
        def f(t: jax.Array) -> jax.Array:
            return jnp.asarray(truth.identifiable(t[None]))[0]

        def step(_: int, t: jax.Array) -> jax.Array:
            gap = jnp.clip(point - f(t), -0.3, 0.3)
            after: jax.Array = t + jnp.linalg.pinv(jax.jacfwd(f)(t), rtol=1e-3) @ gap
            return after

        solved: jax.Array = jax.lax.fori_loop(0, NEWTON_STEPS, step, theta)
        return solved

    found: jax.Array = jax.vmap(one)(start, points)
    return found


def _images(problem: Problem, theta: Points, seed: int) -> np.ndarray:
    """Noisy images, in float64."""
    key_pose, key_noise = jr.split(jr.fold_in(jr.key(9), seed))
    clean = problem.render(theta, problem.sample_pose(key_pose, len(theta)))
    return np.asarray(clean + problem.noise_std * jr.normal(key_noise, clean.shape), np.float64)


def _apart(x: np.ndarray, y: np.ndarray, observations: np.ndarray) -> float:
    """The largest difference of the means of pixels and of their squares, in standard errors and slack."""
    center, spread = observations.mean(0), observations.std(0)
    x, y = ((cloud - center) / spread for cloud in (x, y))
    moments = [np.concatenate([z, z**2], 1) for z in (x, y)]
    error = np.sqrt(sum(z.var(0) / len(z) for z in moments)) + SLACK
    return float((np.abs(moments[0].mean(0) - moments[1].mean(0)) / error).max())
