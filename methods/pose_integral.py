"""The likelihood of a structure for an image, its pose integrated out by importance sampling around a pose nearby."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float

from cryosip.methods.problem import Images, Points, Pose, PoseMotion, Problem, Weights

WIDER = 1.3  # the proposal's std over that of the Gauss-Newton curvature: tails must be heavier than the integrand's
WIDEST = 1.0  # std of the proposal, in the units of the motion (radians, shares of a range), where images tell little


class Integral(NamedTuple):
    """log of the integral of each pair (b,), and the share (b,) of the draws that is effective: 1 / (n sum w^2)."""

    log_likelihood: Float[Array, " b"]
    effective: Float[Array, " b"]


def normal_draws(n: int, dimension: int) -> Float[np.ndarray, "n q"]:
    """n quasi-random draws of N(0, I), each with its opposite: Sobol points through the quantile function."""
    half = max(1, -(-n // 2))
    unit = scipy.stats.qmc.Sobol(dimension, rng=0).random_base2(int(np.ceil(np.log2(half))))[:half]
    draws = scipy.stats.norm.ppf(unit)
    return np.concatenate([draws, -draws])[:n].astype(np.float32)


def curvature_of_pose(
    problem: Problem, motion: PoseMotion, theta: Points, pose: Pose, y: Images
) -> tuple[Weights, Float[Array, "b q"], Float[Array, "b q q"]]:
    """|y - x|^2 / (2 sigma^2), its negative gradient in the pose and its Gauss-Newton curvature there."""
    zero = jnp.zeros((len(theta), motion.dimension), theta.dtype)
    clean, push = jax.linearize(lambda step: problem.render(theta, motion.move(pose, step)), zero)
    slopes = jnp.stack([push(zero.at[:, e].set(1.0)) for e in range(motion.dimension)], axis=1)
    residual, sigma = y - clean, problem.noise_std
    gradient = jnp.einsum("bep,bp->be", slopes, residual, precision="highest") / sigma**2
    curvature = jnp.einsum("bep,bfp->bef", slopes, slopes, precision="highest") / sigma**2
    return 0.5 * (residual**2).sum(1) / sigma**2, gradient, curvature


def newton_on_pose(problem: Problem, motion: PoseMotion, theta: Points, pose: Pose, y: Images) -> Pose:
    """After one Gauss-Newton step on the pose alone, where it lowers the misfit."""
    misfit, gradient, curvature = curvature_of_pose(problem, motion, theta, pose, y)
    ridge = 1e-3 * jnp.trace(curvature, axis1=1, axis2=2) + jnp.finfo(theta.dtype).tiny
    damped = curvature + ridge[:, None, None] * jnp.eye(motion.dimension, dtype=theta.dtype)
    trial = motion.move(pose, jnp.linalg.solve(damped, gradient[..., None])[..., 0])
    after = 0.5 * ((y - problem.render(theta, trial)) ** 2).sum(1) / problem.noise_std**2
    better = after < misfit
    return jax.tree.map(lambda new, old: jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old), trial, pose)


def over_pose(
    problem: Problem,
    motion: PoseMotion,
    theta: Points,
    pose: Pose,
    precision: Float[Array, "b q q"],
    y: Images,
    draws: Float[Array, "e q"],
) -> Integral:
    """log of the integral of exp(-|y - x(theta, pose moved by u)|^2 / (2 sigma^2)) du, near u = 0.

    It is the mean of exp(-misfit(u)) / N(u; 0, C) over draws u = C^{1/2} e of the proposal, C^{-1} = precision /
    1.3^2 + I: importance sampling, exact as the draws grow in number. It is up to a constant free of theta, since poses
    have a density that is constant on the scale of C.

    Parameters
    ----------
    problem, motion
        Whose images, and how poses move.
    theta, pose
        Structures (b, d), and poses near their best ones.
    precision
        The Gauss-Newton curvature of the misfit in the pose (b, q, q).
    y
        Observations (b, p).
    draws
        e, as of `normal_draws` (e, q).
    """
    inverse = precision / WIDER**2 + jnp.eye(motion.dimension, dtype=theta.dtype) / WIDEST**2
    lower = jnp.linalg.cholesky(inverse)
    log_volume = jnp.log(jnp.diagonal(lower, axis1=1, axis2=2)).sum(1)  # of N(u; 0, C) at e: log|C|^{-1/2} - |e|^2 / 2

    def log_ratio(e: Float[Array, " q"]) -> Float[Array, " b"]:
        each = jnp.broadcast_to(e, (len(theta), motion.dimension))[..., None]
        step = jax.scipy.linalg.solve_triangular(lower, each, trans=1, lower=True)[..., 0]
        clean = problem.render(theta, motion.move(pose, step))
        misfit = 0.5 * ((y - clean) ** 2).sum(1) / problem.noise_std**2
        return -misfit + 0.5 * (e**2).sum() - log_volume

    logs = jax.lax.map(log_ratio, draws)
    total = jax.nn.logsumexp(logs, axis=0)
    share = jnp.exp(logs - total)
    return Integral(total - jnp.log(len(draws)), 1 / (len(draws) * (share**2).sum(0)))


def laplace_over_pose(
    problem: Problem, motion: PoseMotion, theta: Points, pose: Pose, shift: Float[Array, "b q"], y: Images
) -> Weights:
    """log of the integral over poses by Laplace's approximation at the pair's own best pose, from one linearisation.

    -misfit + g^T H^{-1} g / 2 - log|H| / 2 at the pose moved by `shift`, with the negative gradient g and the
    Gauss-Newton curvature H of the misfit there: what one Gauss-Newton step still gains is counted in.
    """
    misfit, gradient, curvature = curvature_of_pose(problem, motion, theta, motion.move(pose, shift), y)
    inner = curvature + (1 / WIDEST**2) * jnp.eye(motion.dimension, dtype=theta.dtype)
    gain = (gradient * jnp.linalg.solve(inner, gradient[..., None])[..., 0]).sum(1)
    return -misfit + 0.5 * jnp.minimum(gain, misfit) - 0.5 * jnp.linalg.slogdet(inner)[1]
