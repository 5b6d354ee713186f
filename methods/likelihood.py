"""What the likelihood of (3.5) is made of: structures to try, their images in all poses, distances to observations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, Int

from cryosip.methods import checks, devices
from cryosip.methods.pairwise import FEW_PIXELS
from cryosip.methods.problem import Observations, Points, Pose, Problem
from cryosip.methods.tiles import tile as at_a_time

TILE = 2**20  # observations times images at a time

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
    y: Observations, images: Float[Array, "kq p"], log_weights: Float[Array, "k q"], sigma: Scalar | float
) -> Moments:
    """Responsibilities r_ikq of all images for all observations, summed over tiles of the observations, on all devices.

    Parameters
    ----------
    y
        Observations (m, p).
    images
        x_kq, row k * n_poses + q (k q, p).
    log_weights
        log of the weight of each image (k, q).
    sigma
        The std of the noise, in units of y.

    Returns
    -------
    Moments
        `mass` is mean_i r_ikq, `total` is mean_i r_ikq y_i, and the log-likelihood mean_i log sum_kq exp(...).
    """
    m, n_images = len(y), len(images)

    def sums(y: Observations, n: Int[Array, ""] | int) -> Sums:
        """Over the first n rows."""
        tile = max(1, min(len(y), at_a_time(TILE) // n_images))
        rows = jnp.arange(-(-len(y) // tile) * tile).reshape(-1, tile)

        def add(
            sums: tuple[Scalar, Array, Array], row: Int[Array, " tile"]
        ) -> tuple[tuple[Scalar, Array, Array], None]:
            some = y[jnp.minimum(row, len(y) - 1)]
            logits = log_weights.reshape(-1) - 0.5 * squared_residuals(some, images) / sigma**2
            top = jax.lax.stop_gradient(logits.max(1))  # it cancels; the derivative of a maximum may divide 0 by 0
            unnormalised = jnp.exp(logits - top[:, None])
            scale = jnp.where(row < n, 1.0, 0.0) / unnormalised.sum(1)
            log_likelihood = jnp.where(row < n, top + jnp.log(unnormalised.sum(1)), 0.0).sum()
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


def by_blocks(f: Callable[..., Any], block: int, *rows: Any) -> Any:
    """f(*rows) where f works row by row, on so many rows at a time: memory stays bounded."""
    n = len(jax.tree.leaves(rows)[0])
    blocks = -(-n // at_a_time(block))
    each = -(-n // blocks)  # blocks of equal size, filled up with the last row
    taken = jnp.minimum(jnp.arange(blocks * each), n - 1).reshape(blocks, each)
    result = jax.lax.map(lambda index: f(*jax.tree.map(lambda a: a[index], rows)), taken)
    return jax.tree.map(lambda a: a.reshape(blocks * each, *a.shape[2:])[:n], result)


def candidates(problem: Problem, support: Points | np.ndarray | None, n_support: int) -> Points:
    """The support, checked; or, where there is none, about n_support points that fill the problem's box evenly."""
    d = problem.sample_init(jax.random.key(0), 1).shape[1]
    theta = jnp.asarray(checks.finite_matrix("support", _filled(problem, n_support) if support is None else support))
    if theta.shape[1] != d:
        raise ValueError(f"support has shape {theta.shape}; wanted (k, {d})")
    return theta


def _filled(problem: Problem, n_support: int) -> np.ndarray:
    """A uniform grid, corners included; beyond two dimensions, where most of a grid is border, Sobol points."""
    checks.positive_int("n_support", n_support)
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
