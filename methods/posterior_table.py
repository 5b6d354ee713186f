"""What per-image posteriors know so far, and the likelihood of each structure of the support for each image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods.image_fit import Model, Row, normal_equations
from cryosip.methods.likelihood import by_blocks
from cryosip.methods.method import Info
from cryosip.methods.pose_integral import laplace_over_pose
from cryosip.methods.problem import Points, Pose, Weights

PAIRS = 2**11  # of an image and a structure, linearised at a time
SAME_POINT = 0.1  # candidates nearer than that, in square standard deviations and in misfit, are one


class PosteriorState(NamedTuple):
    """Row i * c + j is candidate j of image i.

    `misfit` is |y - x|^2 / (2 sigma^2). Near the candidate the likelihood, the pose integrated out, is
    exp(log_height - (z - theta)^T precision (z - theta) / 2), once both are known; `weights` are those of the
    distribution on `support`.
    """

    theta: Float[Array, "mc d"]
    pose: Pose
    misfit: Float[Array, " mc"]
    damping: Float[Array, " mc"]
    precision: Float[Array, "mc d d"]
    log_height: Float[Array, " mc"]
    table: Float[Array, "m k"]
    support: Float[Array, "k d"]
    weights: Weights
    n_steps: Int[Array, ""]


def log_likelihoods(model: Model, state: PosteriorState) -> Float[Array, "m k"]:
    """log L_i of structure k of the support."""
    return state.table if is_tabulated(model) else laplace_table(model, state)


def laplace_table(model: Model, state: PosteriorState) -> Float[Array, "m k"]:
    """The same by Laplace's approximation in structure and pose together."""
    support = state.support

    def of_image(
        center: Float[Array, "c d"], precision: Float[Array, "c d d"], log_height: Float[Array, " c"]
    ) -> Float[Array, " k"]:
        away = support - center[:, None]
        squares = jnp.einsum("ckd,cde,cke->ck", away, precision, away, precision="highest")
        return jax.nn.logsumexp(log_height[:, None] - 0.5 * squares, axis=0)

    return jax.lax.map(lambda one: of_image(*one), posteriors(model, state), batch_size=16)


def paired(model: Model, state: PosteriorState) -> tuple[Float[Array, "m k"], Int[Array, ""]]:
    """log L_i of structure k of the support, poses integrated out pair by pair: Laplace's approximation in structure
    and pose together errs where images bend, that in the pose alone at the pair's own structure hardly does.

    Of the structures that each candidate makes likely, the `n_pairs` likeliest are so refined.
    """
    m, c, d = len(model.problem.observations), model.n_candidates, state.theta.shape[1]
    support, rows = state.support, candidate_rows(model)

    def drift_of(theta: Points, pose: Pose, row: Row) -> Float[Array, "b q d"]:
        curvature = normal_equations(model, theta, pose, row)[2]
        inner = curvature[:, d:, d:] + jnp.eye(model.motion.dimension, dtype=theta.dtype)
        return -jnp.linalg.solve(inner, curvature[:, d:, :d])

    drift = by_blocks(drift_of, model.images_at_a_time, state.theta, state.pose, rows)
    height = posteriors(model, state)[2].reshape(-1)

    def of_candidates(number: Row) -> Float[Array, "b k"]:
        away = support - state.theta[number][:, None]
        squares = jnp.einsum("bkd,bde,bke->bk", away, state.precision[number], away, precision="highest")
        laplace = height[number][:, None] - 0.5 * squares
        nearest = jax.lax.top_k(laplace, model.n_pairs)[1]
        pair = jnp.repeat(number, model.n_pairs)  # one row for each pair: derivatives of images know no vmap
        shift = jnp.einsum("bqd,bkd->bkq", drift[number], jnp.take_along_axis(away, nearest[..., None], 1))
        pose = jax.tree.map(lambda a: a[pair], state.pose)
        y, shift = model.problem.observations[rows[pair]], shift.reshape(len(pair), -1)
        exact = laplace_over_pose(model.problem, model.motion, support[nearest.ravel()], pose, shift, y)
        exact = jnp.where(jnp.isfinite(height[pair]), exact, -jnp.inf).reshape(nearest.shape)
        return laplace.at[jnp.arange(len(number))[:, None], nearest].set(exact)

    table = by_blocks(of_candidates, max(1, PAIRS // model.n_pairs), jnp.arange(m * c))
    return jax.nn.logsumexp(table.reshape(m, c, -1), axis=1), jnp.asarray(
        m * c * model.n_pairs * (1 + model.motion.dimension)
    )


def tabulated(model: Model, state: PosteriorState, info: Info) -> tuple[PosteriorState, Info]:
    """With the log-likelihoods of the support, where they are kept; what they cost is added."""
    if not is_tabulated(model):
        return state, info
    if not model.n_pairs:
        return state._replace(table=laplace_table(model, state)), info
    table, count = paired(model, state)
    return state._replace(table=table), info._replace(forward_evaluations=info.forward_evaluations + count)


def is_tabulated(model: Model) -> bool:
    """Whether log-likelihoods are kept from step to step; those of best structures cost little memory if not."""
    return bool(model.n_pairs or model.n_drawn)


def posteriors(
    model: Model, state: PosteriorState
) -> tuple[Float[Array, "m c d"], Float[Array, "m c d d"], Float[Array, "m c"]]:
    """Structure, precision and log height of the candidates of each image; -inf for one that has met another before it
    and would count twice.
    """
    shape = len(model.problem.observations), model.n_candidates
    known = state.theta, state.precision, state.log_height, state.misfit
    theta, precision, height, misfit = (a.reshape(*shape, *a.shape[1:]) for a in known)
    away = theta[:, :, None] - theta[:, None]
    apart = jnp.einsum("mabd,made,mabe->mab", away, precision, away, precision="highest")
    near = (apart < SAME_POINT) & (jnp.abs(misfit[:, :, None] - misfit[:, None]) < SAME_POINT)
    return theta, precision, jnp.where(jnp.tril(near, -1).any(2), -jnp.inf, height)


def explained(model: Model, state: PosteriorState) -> Float[Array, " m"]:
    """1 for images that some candidate explains as far as noise lets it, 0 for the others; 1 for all if none is."""
    inliers = 2 * lowest_misfits(model, state) <= model.outlier_misfit
    return (inliers | ~inliers.any()).astype(model.problem.observations.dtype)


def lowest_misfits(model: Model, state: PosteriorState) -> Float[Array, " m"]:
    """That of the best candidate of each image."""
    return state.misfit.reshape(-1, model.n_candidates).min(1)


def best_structures(model: Model, state: PosteriorState) -> Points:
    """The structure of the likeliest candidate of each image, in turn, as many as the support has."""
    best = state.misfit.reshape(-1, model.n_candidates).argmin(1)
    theta = state.theta.reshape(len(best), -1, state.theta.shape[1])
    return theta[jnp.arange(len(best)), best][jnp.arange(len(state.support)) % len(best)]


def candidate_rows(model: Model) -> Row:
    """The image that each candidate belongs to."""
    return jnp.repeat(jnp.arange(len(model.problem.observations)), model.n_candidates)
