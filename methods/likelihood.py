"""What the likelihood of (3.5) is made of: structures to try, their images in all poses, distances to observations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, Int

from cryosip.methods import checks, devices, hosts
from cryosip.methods.pairwise import FEW_PIXELS
from cryosip.methods.problem import Observations, Points, Pose, Problem
from cryosip.methods.stored import Data, mapped, rows_at_a_time
from cryosip.methods.tiles import tile as at_a_time

TILE = 2**20  # observations times images at a time
PAIRS = 2**16  # of an observation and a structure at a time
IMAGES = 2**25  # observations times images that are compared at a time

Scalar = Float[Array, ""]
Sums = tuple[Scalar, Array, Array]


class Moments(NamedTuple):
    """What the E-step keeps: mean log-likelihood, and for each image (k, q) its mass and its total of observations."""

    log_likelihood: Scalar
    mass: Float[Array, "k q"]
    total: Float[Array, "k q p"]


def squared_residuals(y: Float[Array, "m p"], images: Float[Array, "k p"]) -> Float[Array, "m k"]:
    """|y_i - x_k|^2, for many pixels from the Gram product of centred data, at highest precision."""
    if y.shape[1] <= FEW_PIXELS:
        return sum(((y[:, i, None] - images[:, i]) ** 2 for i in range(y.shape[1])), jnp.zeros(()))
    center = y.mean(0)  # of the data: a component far away must not spoil the others
    y, images = y - center, images - center
    gram = jnp.matmul(y, images.T, precision="highest")
    return jnp.maximum((y**2).sum(1)[:, None] + (images**2).sum(1) - 2 * gram, 0.0)


def e_step(
    y: Data,
    images: Float[Array, "kq p"],
    log_weights: Float[Array, "k q"],
    sigma: Scalar | float,
    background: Callable[[Observations], Float[Array, " m"]] | None = None,
) -> Moments:
    """Responsibilities r_ikq of all images for all observations, summed over tiles of the observations, on all devices.

    Parameters
    ----------
    y
        Observations (m, p), in memory or on disk.
    images
        x_kq, row k * n_poses + q (k q, p).
    log_weights
        log of the weight of each image (k, q).
    sigma
        The std of the noise, in units of y.
    background
        log of what else may have made each observation, beside the images and in their units; None by default.

    Returns
    -------
    Moments
        `mass` is mean_i r_ikq, `total` is mean_i r_ikq y_i, and the log-likelihood mean_i log sum_kq exp(...). The
        background is in the sum, and its share is what the masses lack of 1.
    """
    m, n_images = len(y), len(images)

    def sums(y: Data, n: Int[Array, ""] | int) -> Sums:
        """Over the first n rows."""
        tile = max(1, min(rows_at_a_time(y), at_a_time(TILE) // n_images))
        rows = jnp.arange(-(-len(y) // tile) * tile).reshape(-1, tile)

        def add(
            sums: tuple[Scalar, Array, Array], row: Int[Array, " tile"]
        ) -> tuple[tuple[Scalar, Array, Array], None]:
            some = y[jnp.minimum(row, len(y) - 1)]
            logits = log_weights.reshape(-1) - 0.5 * squared_residuals(some, images) / sigma**2
            top = jax.lax.stop_gradient(logits.max(1))  # it cancels; the derivative of a maximum may divide 0 by 0
            if background is not None:
                top = jnp.maximum(top, background(some))
            unnormalised = jnp.exp(logits - top[:, None])
            evidence = unnormalised.sum(1)
            if background is not None:
                evidence += jnp.exp(background(some) - top)
            scale = jnp.where(row < n, 1.0, 0.0) / evidence
            log_likelihood = jnp.where(row < n, top + jnp.log(evidence), 0.0).sum()
            total = jnp.matmul(unnormalised.T, some * scale[:, None], precision="highest")
            return (sums[0] + log_likelihood, sums[1] + scale @ unnormalised, sums[2] + total), None

        zeros = jnp.zeros((), y.dtype), jnp.zeros(n_images, y.dtype), jnp.zeros(images.shape, y.dtype)
        return jax.lax.scan(add, zeros, rows)[0]

    log_likelihood, mass, total = devices.summed(sums, y)
    shape = log_weights.shape
    return Moments(log_likelihood / m, mass.reshape(shape) / m, total.reshape(*shape, -1) / m)


def render_all(problem: Problem, theta: Points, pose: Pose, n_poses: int) -> Float[Array, "kq p"]:
    """H^{omega_q} G(theta_k) for all k and q.

    Parameters
    ----------
    problem
        Whose `render` is taken.
    theta
        Structures (k, d).
    pose
        The poses, with leading axis n_poses where there are any.
    n_poses
        How many nodes q.

    Returns
    -------
    Array
        Images (k q, p); row k * n_poses + q.
    """
    poses = jax.tree.map(lambda a: jnp.tile(a, (len(theta),) + (1,) * (a.ndim - 1)), pose)
    return problem.render(jnp.repeat(theta, n_poses, axis=0), poses)


class Likelihoods(NamedTuple):
    """log p(y_i | theta_k) of all pairs, up to a constant of y_i, and what it took.

    `nearest` is min_k |y_i - x_k|^2 / sigma^2 over all images of the structures, None where the likelihood is given;
    `evaluations` counts images, or pairs where the likelihood is given.
    """

    values: Float[Array, "m k"]
    nearest: Float[Array, " m"] | None
    evaluations: int


def log_likelihoods(problem: Problem, theta: Points, order: int) -> Likelihoods:
    """The likelihood that the problem gives of each pair, or the inner integral of (3.5) by the pose quadrature.

    Parameters
    ----------
    problem
        The problem.
    theta
        Structures (k, d).
    order
        Of the pose quadrature.
    """
    m, k = len(problem.observations), len(theta)
    if problem.log_likelihood is not None:
        return Likelihoods(of_all_pairs(problem.log_likelihood, theta, jnp.arange(m)).T, None, m * k)
    pose, pose_weights = problem.pose_quadrature(order)
    n_poses = len(pose_weights)

    y, n_rows = problem.observations, rows_at_a_time(problem.observations)

    def of(some: Points) -> tuple[Float[Array, "m k"], Float[Array, " m"]]:
        images = render_all(problem, some, pose, n_poses)

        def of_rows(y: Observations) -> tuple[Float[Array, "b k"], Float[Array, " b"]]:
            squares = squared_residuals(y, images)
            squares = (squares / problem.noise_std**2).reshape(len(y), len(some), n_poses)
            return jax.nn.logsumexp(-0.5 * squares, axis=2, b=pose_weights), squares.min((1, 2))

        return mapped(of_rows, y)

    def by_structures(some: Points) -> tuple[Float[Array, "k m"], Float[Array, "k m"]]:
        values, nearest = of(some)
        return values.T, jnp.broadcast_to(nearest, values.T.shape)

    block = max(1, IMAGES // (n_rows * n_poses))
    if k <= block:
        values, nearest = of(theta)
    else:
        each, nearest = by_blocks(by_structures, block, theta)
        values, nearest = each.T, nearest.min(0)
    return Likelihoods(hosts.laid_out(values, m), nearest, k * n_poses)


def of_all_pairs(f: Callable[[Points, Int[Array, " n"]], Any], theta: Points, image: Int[Array, " b"]) -> Any:
    """f of each structure with each image, (k, b, ...), where it takes pairs (n, d) and (n,) to rows."""
    k, b = len(theta), len(image)
    rows = by_blocks(f, PAIRS, jnp.repeat(theta, b, axis=0), jnp.tile(image, k))
    return jax.tree.map(lambda a: a.reshape(k, b, *a.shape[1:]), rows)


def by_blocks(f: Callable[..., Any], block: int, *rows: Any) -> Any:
    """f(*rows) where f works row by row, on so many rows at a time: memory stays bounded."""
    n = len(jax.tree.leaves(rows)[0])
    blocks = -(-n // at_a_time(block))
    each = -(-n // blocks)  # blocks of equal size, filled up with the last row
    taken = jnp.minimum(jnp.arange(blocks * each), n - 1).reshape(blocks, each)
    result = jax.lax.map(lambda index: f(*jax.tree.map(lambda a: a[index], rows)), taken)
    return jax.tree.map(lambda a: a.reshape(blocks * each, *a.shape[2:])[:n], result)


def candidates(problem: Problem, support: Points | np.ndarray | None, n_support: int) -> Points:
    """The support, checked; by default the problem's, else about n_support points that fill its box."""
    d = problem.sample_init(jax.random.key(0), 1).shape[1]
    checks.positive_int("n_support", n_support)
    support = problem.support if support is None else support
    theta = jnp.asarray(checks.finite_matrix("support", _filled(problem, n_support) if support is None else support))
    if theta.shape[1] != d:
        raise ValueError(f"support has shape {theta.shape}; wanted (k, {d})")
    return theta


def initial_spread(problem: Problem) -> Float[Array, " d"]:
    """The std of the initial distribution in each coordinate, 1 where it has none: a length of theta."""
    spread = problem.sample_init(jax.random.key(0), 1_000).std(0)
    return jnp.where(spread > 0, spread, 1.0)


def _filled(problem: Problem, n_support: int) -> np.ndarray:
    """A uniform grid, corners included; beyond two dimensions, where most of a grid is border, Sobol points."""
    if problem.theta_box is None:
        raise ValueError(f"problem {problem.name!r} has no theta_box and no support is given; wanted one of them")
    lower, upper = (np.asarray(bound) for bound in problem.theta_box)
    if len(lower) > 2:
        unit = scipy.stats.qmc.Sobol(len(lower), rng=0).random_base2(int(np.ceil(np.log2(n_support))))[:n_support]
        return (lower + (upper - lower) * unit).astype(problem.observations.dtype)
    per_axis = max(2, round(n_support ** (1 / len(lower))))
    axes = [np.linspace(low, high, per_axis) for low, high in zip(lower, upper, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(lower))
    return points.astype(problem.observations.dtype)
