"""How an image is fitted: its misfit, Levenberg-Marquardt steps on structure and pose, the pose integrated out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods.problem import Points, Pose, PoseMotion, Problem, Weights

MIN_DAMPING = 1e-6
DAMPING_DECREASE, DAMPING_INCREASE = 0.3, 4.0

Misfit = Float[Array, " b"]
Images = Float[Array, "b p"]
Row = Int[Array, " b"]


class Model(NamedTuple):
    """What no step changes: the problem in its span, and the structures and poses that the search tries.

    `outlier_misfit` is the |y - x|^2 / sigma^2 beyond which an image takes no part; Jacobians are made of
    `images_at_a_time` candidates at a time. `n_pairs` structures of the support have their poses integrated out for
    each candidate; `n_drawn` structures are drawn for it, if any are.
    """

    problem: Problem
    motion: PoseMotion
    bank: Points
    poses: Pose
    n_poses: int
    n_candidates: int
    outlier_misfit: float
    images_at_a_time: int
    n_pairs: int = 0
    n_drawn: int = 0


def linearise(model: Model, theta: Points, pose: Pose) -> tuple[Images, Float[Array, "b e p"]]:
    """Images, and their derivatives in the structure and then in the pose."""
    d = theta.shape[1]

    def image(step: Float[Array, "b e"]) -> Images:
        return model.problem.render(theta + step[:, :d], model.motion.move(pose, step[:, d:]))

    zero = jnp.zeros((len(theta), d + model.motion.dimension), theta.dtype)
    clean, push = jax.linearize(image, zero)
    slopes = [push(zero.at[:, e].set(1.0)) for e in range(zero.shape[1])]
    return clean, jnp.stack(slopes, axis=1)


def normal_equations(
    model: Model, theta: Points, pose: Pose, row: Row
) -> tuple[Misfit, Float[Array, "b e"], Float[Array, "b e e"]]:
    """Misfit to the observations of those rows, its negative gradient and its Gauss-Newton curvature.

    Parameters
    ----------
    model
        The problem, and how poses move.
    theta, pose
        Structures (b, d) and their poses.
    row
        Which observation each of them explains (b,).

    Returns
    -------
    misfit, gradient, curvature
        Of shapes (b,), (b, e) and (b, e, e) for e = d + the dimension of the poses; the pose comes last.
    """
    y, sigma = model.problem.observations, model.problem.noise_std
    clean, slopes = linearise(model, theta, pose)
    residual = y[row] - clean
    gradient = jnp.einsum("bep,bp->be", slopes, residual, precision="highest") / sigma**2
    curvature = jnp.einsum("bep,bfp->bef", slopes, slopes, precision="highest") / sigma**2
    return 0.5 * (residual**2).sum(1) / sigma**2, gradient, curvature


def levenberg_marquardt(
    model: Model, theta: Points, pose: Pose, damping: Weights, row: Row
) -> tuple[Points, Pose, Misfit, Weights]:
    """One damped Gauss-Newton step on structure and pose, within `theta_box`, where it lowers the misfit.

    It solves (C + damping diag(C)) step = gradient with the curvature C of the misfit.

    Parameters
    ----------
    model
        The problem, and how poses move.
    theta, pose
        Structures (b, d) and their poses.
    damping
        Of each of them (b,), without unit.
    row
        Which observation each of them explains (b,).

    Returns
    -------
    theta, pose, misfit, damping
        After the step; the damping is 0.3 of what it was where the step is taken, else 4 times as much.
    """
    problem, d = model.problem, theta.shape[1]
    assert problem.theta_box is not None  # else there were no candidates
    lower, upper = problem.theta_box
    misfit, gradient, curvature = normal_equations(model, theta, pose, row)
    scale = damping[:, None] * (jnp.diagonal(curvature, axis1=1, axis2=2) + jnp.finfo(theta.dtype).tiny)
    damped = curvature + scale[:, :, None] * jnp.eye(scale.shape[1])
    step = jnp.linalg.solve(damped, gradient[..., None])[..., 0]
    trial = jnp.clip(theta + step[:, :d], lower, upper), model.motion.move(pose, step[:, d:])
    after = 0.5 * ((problem.observations[row] - problem.render(*trial)) ** 2).sum(1) / problem.noise_std**2
    better = after < misfit
    smaller = jnp.maximum(damping * DAMPING_DECREASE, MIN_DAMPING)
    theta, pose = jax.tree.map(lambda new, old: rows_where(better, new, old), trial, (theta, pose))
    damping = rows_where(better, smaller, damping * DAMPING_INCREASE)
    return theta, pose, rows_where(better, after, misfit), damping


def integrate_pose_out(
    d: int, misfit: Misfit, curvature: Float[Array, "b e e"]
) -> tuple[Float[Array, "b d d"], Weights]:
    """The precision of the first d coordinates, and the log of the height, of exp(-misfit) with the others gone.

    The precision is the Schur complement of the block H of the others, and the height exp(-misfit) |H|^{-1/2}.
    """
    n_others = curvature.shape[1] - d
    if n_others == 0:
        return curvature, -misfit
    inner, cross = curvature[:, d:, d:], curvature[:, d:, :d]
    ridge = 1e-6 * jnp.trace(inner, axis1=1, axis2=2) + jnp.finfo(curvature.dtype).tiny ** (1 / 4)
    inner += ridge[:, None, None] * jnp.eye(n_others)
    marginal = curvature[:, :d, :d] - cross.swapaxes(1, 2) @ jnp.linalg.solve(inner, cross)
    return marginal, -misfit - 0.5 * jnp.linalg.slogdet(inner)[1]


def rows_where(condition: Array, new: Array, old: Array) -> Array:
    """Rows of the new array where the condition holds, else of the old."""
    return jnp.where(condition.reshape(-1, *[1] * (new.ndim - 1)), new, old)
