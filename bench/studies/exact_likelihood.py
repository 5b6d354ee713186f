"""Exact likelihoods of structures for each image: in closed form, or with poses integrated around the true ones."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.special
from jaxtyping import Float
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from cryosip.bench import programs
from cryosip.datasets.instance import Instance
from cryosip.methods.image_fit import Model, integrate_pose_out, levenberg_marquardt, normal_equations
from cryosip.methods.likelihood import by_blocks, squared_residuals
from cryosip.methods.pose_integral import curvature_of_pose, newton_on_pose, normal_draws, over_pose
from cryosip.methods.problem import Points, Pose, Problem, Weights, checked, in_span

SUPPORT_KEY = 1005  # fold_in number of a replicate's key
CENTRES = 500  # draws of the truth around which half of the first support lies
NEIGHBOUR = 8  # the distance to the so-manieth neighbour is the width of a kernel
DEFENSIVE = 0.2  # share of the second support that is spread evenly over the box
FITS = 10  # Levenberg-Marquardt steps from the truth's structure and pose
POSE_DRAWS = 8
PAIRS, PAIRS_AT_A_TIME = 2**14, 2**11
NEGLIGIBLE = 15.0  # a pair whose Laplace likelihood is so far (log) below the image's best has that, not the integral

Matrix = Float[np.ndarray, "m k"]


class Likelihoods(NamedTuple):
    """log p(y_i | theta_k), up to a constant of each image, on a support of weighted points.

    `flat` are weights of the flat law on the support, with which sum_k flat_k f(theta_k) is its integral of f.
    `pose_draws` is the effective share of the draws over poses, the 5 % quantile over pairs; nan without poses.
    """

    support: Float[np.ndarray, "k d"]
    flat: Float[np.ndarray, " k"]
    log_likelihood: Matrix
    pose_draws: float

    def effective(self) -> Float[np.ndarray, " m"]:
        """How many points of the support share the likelihood of each image, under the flat law: 1 / sum w^2."""
        share = scipy.special.softmax(self.log_likelihood + np.log(self.flat), axis=1)
        return 1 / (share**2).sum(1)


def likelihoods(instance: Instance, n_support: int, seed: int) -> Likelihoods:
    """On the support that is given, else on one that is drawn where images and truth are.

    Raises ValueError for a problem with poses that offers neither its likelihood nor how poses move.
    """
    problem = in_span(checked(instance.problem))
    rng = np.random.default_rng([SUPPORT_KEY, seed])
    has_pose = bool(jax.tree.leaves(instance.truth.pose)) and problem.log_likelihood is None
    if has_pose and problem.pose_motion is None:
        raise ValueError(f"problem {problem.name!r} has poses that do not move; wanted a likelihood or a pose_motion")
    if problem.support is not None and not has_pose:
        support = np.asarray(problem.support)
        return Likelihoods(support, np.full(len(support), 1 / len(support)), all_pairs(problem, support), np.nan)
    return around_poses(instance, problem, n_support, rng) if has_pose else in_two_rounds(
        instance, problem, n_support, rng
    )  # fmt: skip


def all_pairs(problem: Problem, theta: Float[np.ndarray, "k d"]) -> Matrix:
    """In closed form, or with the noise alone where there is no pose."""
    structures, m = jnp.asarray(theta, problem.observations.dtype), len(problem.observations)
    given = problem.log_likelihood
    if given is None:

        def of_images(theta: Points, sigma: jax.Array) -> jax.Array:
            return -0.5 * squared_residuals(problem.observations, problem.render(theta, ())) / sigma**2

        return np.asarray(programs.call(of_images, structures, jnp.asarray(problem.noise_std)))
    at_a_time = max(1, 2**20 // len(theta))

    def of_image(image: jax.Array, theta: Points) -> Weights:
        return given(theta, jnp.broadcast_to(image, len(theta)))

    f = lambda rows, theta: jax.lax.map(partial(of_image, theta=theta), rows, batch_size=at_a_time)  # noqa: E731
    return np.asarray(programs.call(f, jnp.arange(m), structures))


class Kernels(NamedTuple):
    """A mixture of isotropic Gaussians, in coordinates divided by `scale`."""

    centres: Float[np.ndarray, "c d"]
    widths: Float[np.ndarray, " c"]
    scale: Float[np.ndarray, " d"]

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n d"]:
        at = rng.integers(len(self.centres), size=n)
        return self.centres[at] + self.widths[at, None] * self.scale * rng.normal(size=(n, self.centres.shape[1]))

    def log_density(self, theta: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Up to a constant that all kernels of one dimension and scale share."""
        squares = cdist(theta / self.scale, self.centres / self.scale, "sqeuclidean")
        logs = -0.5 * squares / self.widths**2 - theta.shape[1] * np.log(np.sqrt(2 * np.pi) * self.widths)
        return scipy.special.logsumexp(logs, axis=1) - np.log(len(self.centres)) - np.log(self.scale).sum()


def kernels(centres: Float[np.ndarray, "c d"]) -> Kernels:
    """Each as wide as its neighbours are apart."""
    scale = np.maximum(centres.std(0), 1e-6)
    each = min(NEIGHBOUR, len(centres) - 1) + 1
    apart = cKDTree(centres / scale).query(centres / scale, each)[0][:, -1] / np.sqrt(centres.shape[1])
    return Kernels(centres, np.maximum(apart, 1e-4), scale)


def of_truth(instance: Instance, seed: int) -> Kernels:
    """Around fresh draws of the truth."""
    key = jr.fold_in(jr.key(seed), SUPPORT_KEY)
    return kernels(np.asarray(instance.truth.sample(key, CENTRES), np.float64))


def box(instance: Instance) -> tuple[np.ndarray, np.ndarray]:
    """`theta_box`, widened to what holds the truth behind the data and the start."""
    drawn = instance.problem.sample_init(jr.key(0), CENTRES)
    points = [np.asarray(instance.truth.theta), np.asarray(drawn)]
    if instance.problem.theta_box is not None:
        points.append(np.stack([np.asarray(side) for side in instance.problem.theta_box]))
    both = np.concatenate(points)
    return both.min(0), both.max(0)


def in_two_rounds(instance: Instance, problem: Problem, n: int, rng: np.random.Generator) -> Likelihoods:
    """Half in the box and half around the truth; then kernels around draws of the posteriors of all images, pooled.

    The prior of these posteriors is the flat law, so that where the support is dense the data are, not the truth: a
    support that had points where the truth has them would tell EM what the data do not.
    """
    lower, upper = box(instance)
    if len(lower) == 1:  # a grid has no sampling error
        grid = np.linspace(lower, upper, n)
        return Likelihoods(grid, np.full(n, 1 / n), all_pairs(problem, grid), np.nan)
    truth = of_truth(instance, int(rng.integers(2**31)))
    even = lower + (upper - lower) * rng.random((n - n // 2, len(lower)))
    first = np.concatenate([even, truth.draw(rng, n // 2)])
    log_even = -np.log(np.maximum(upper - lower, 1e-12)).sum()

    def log_box(theta: np.ndarray) -> np.ndarray:
        return np.where(((theta >= lower) & (theta <= upper)).all(1), log_even, -np.inf)

    log_first = np.logaddexp(log_box(first), truth.log_density(first)) - np.log(2)
    posterior = scipy.special.softmax(all_pairs(problem, first) - log_first, axis=1).mean(0)
    chosen = np.unique(rng.choice(n, size=n, p=posterior / posterior.sum()))
    pooled = kernels(first[chosen])
    n_even = int(DEFENSIVE * n)
    support = np.concatenate([even[:n_even], pooled.draw(rng, n - n_even)])
    logs = np.log(DEFENSIVE) + log_box(support), np.log1p(-DEFENSIVE) + pooled.log_density(support)
    return Likelihoods(support, flat_weights(np.logaddexp(*logs)), all_pairs(problem, support), np.nan)


def flat_weights(log_density: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """1 / density of what the points were drawn from, normalised."""
    return scipy.special.softmax(-log_density)


def around_poses(instance: Instance, problem: Problem, n: int, rng: np.random.Generator) -> Likelihoods:
    """Drawn from Laplace posteriors of all images under a broad prior, not where the truth is; poses by `over_pose`."""
    assert problem.theta_box is not None
    assert problem.pose_motion is not None
    lower, upper = (np.asarray(side, np.float64) for side in problem.theta_box)
    fit = fitted(instance, problem)
    broad = fit.precision + np.diag(1 / ((upper - lower) / 2) ** 2)
    roots = np.linalg.cholesky(np.linalg.inv(broad))
    at = np.arange(n) % len(roots)
    support = fit.theta[at] + np.einsum("kde,ke->kd", roots[at], rng.normal(size=(n, len(lower))))
    support = support[((support >= lower) & (support <= upper)).all(1)]
    away = support - fit.theta[:, None]
    squares = np.einsum("mkd,mde,mke->mk", away, broad, away, optimize=True)
    heights = 0.5 * np.linalg.slogdet(broad)[1] - 0.5 * len(lower) * np.log(2 * np.pi)
    log_pooled = scipy.special.logsumexp(heights[:, None] - 0.5 * squares, axis=0) - np.log(len(roots))
    flat = flat_weights(log_pooled)
    laplace = fit.log_height[:, None] - 0.5 * np.einsum("mkd,mde,mke->mk", away, fit.precision, away, optimize=True)
    near = np.nonzero(laplace > laplace.max(1, keepdims=True) - NEGLIGIBLE)
    exact, share = integrals(problem, fit, support, *near)
    laplace[near] = exact
    return Likelihoods(support, flat, laplace, float(np.quantile(share, 0.05)))


class Fit(NamedTuple):
    """For each image the structure and pose next to the truth's that explain it best, and the likelihood around them.

    `drift` (m, q, d) is how the best pose moves with the structure; `inner` (m, q, q) the curvature in the pose.
    """

    theta: Float[np.ndarray, "m d"]
    pose: Pose
    precision: Float[np.ndarray, "m d d"]
    log_height: Float[np.ndarray, " m"]
    drift: Float[np.ndarray, "m q d"]
    inner: Float[np.ndarray, "m q q"]


def fitted(instance: Instance, problem: Problem) -> Fit:
    """Levenberg-Marquardt steps from the truth, and Laplace's approximation there."""
    assert problem.pose_motion is not None
    rows, d = jnp.arange(len(problem.observations)), instance.truth.theta.shape[1]
    model = Model(problem, problem.pose_motion, instance.truth.theta[:1], instance.truth.pose, 1, 1, np.inf, 1)

    def fit(theta: Points, pose: Pose, row: jax.Array) -> tuple[jax.Array, ...]:
        damping = jnp.full(len(row), 1e-2, theta.dtype)
        for _ in range(FITS):
            theta, pose, _, damping = levenberg_marquardt(model, theta, pose, damping, row)
        misfit, _, curvature = normal_equations(model, theta, pose, row)
        return theta, pose, *integrate_pose_out(d, misfit, curvature), curvature

    f = partial(by_blocks, fit, 64)
    theta, pose, precision, height, curvature = programs.call(f, instance.truth.theta, instance.truth.pose, rows)
    inner, cross = (np.asarray(block, np.float64) for block in (curvature[:, d:, d:], curvature[:, d:, :d]))
    inner += 1e-6 * np.trace(inner, axis1=1, axis2=2)[:, None, None] * np.eye(inner.shape[1])
    precision, height = (np.asarray(a, np.float64) for a in (precision, height))
    return Fit(np.asarray(theta, np.float64), pose, precision, height, -np.linalg.solve(inner, cross), inner)


def integrals(
    problem: Problem, fit: Fit, support: np.ndarray, image: np.ndarray, structure: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """log of the integral over poses of each pair (image, structure), and the effective share of its draws."""
    motion = problem.pose_motion
    assert motion is not None
    draws = jnp.asarray(normal_draws(POSE_DRAWS, motion.dimension))

    def pairs(theta: Points, pose: Pose, shift: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        pose = newton_on_pose(problem, motion, theta, motion.move(pose, shift), y)
        precision = curvature_of_pose(problem, motion, theta, pose, y)[2]
        return over_pose(problem, motion, theta, pose, precision, y, draws)

    f, found = partial(by_blocks, pairs, PAIRS_AT_A_TIME), []
    for begin in range(0, len(image), PAIRS):
        i, k = (np.resize(rows[begin : begin + PAIRS], PAIRS) for rows in (image, structure))  # one shape, one program
        away = support[k] - fit.theta[i]
        shift = np.einsum("bqd,bd->bq", fit.drift[i], away)
        theta, shift = (jnp.asarray(a, problem.observations.dtype) for a in (support[k], shift))
        found.append(
            programs.call(f, theta, jax.tree.map(lambda a, i=i: a[i], fit.pose), shift, problem.observations[i])
        )
    logs, share = (np.concatenate([np.asarray(part[at], np.float64) for part in found]) for at in (0, 1))
    return logs[: len(image)], share[: len(image)]
