"""Per-image posteriors over structure and pose, then the distribution that explains them all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import scipy.stats
from jaxtyping import Array, Float, Int

from cryosip.methods import checks
from cryosip.methods.image_fit import (
    Misfit,
    Model,
    Row,
    integrate_pose_out,
    levenberg_marquardt,
    normal_equations,
    rows_where,
)
from cryosip.methods.likelihood import by_blocks, candidates, render_all, squared_residuals
from cryosip.methods.likelihood_npmle import likelihood_npmle
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.pose_integral import laplace_over_pose
from cryosip.methods.problem import Points, Pose, PoseMotion, PRNGKey, Problem, Weights, checked, in_span

BLOCK = 2**26  # numbers that the Jacobians of a block of images may hold
FIRST_DAMPING = 1e-2
PAIRS = 2**11  # of an image and a structure, linearised at a time
SAME_POINT = 0.1  # candidates nearer than that, in square standard deviations and in misfit, are one
OUTLIER_P_VALUE = 1e-4  # an image takes no part if noise puts it this far from its best candidate no more often
STILL = PoseMotion(0, lambda pose, _step: pose)


class PosteriorState(NamedTuple):
    """Row i * c + j is candidate j of image i.

    `misfit` is |y - x|^2 / (2 sigma^2). Near the candidate the likelihood, the pose integrated out, is
    exp(log_height - (z - theta)^T precision (z - theta) / 2), once both are known; `weights` are those of the
    distribution.
    """

    theta: Float[Array, "mc d"]
    pose: Pose
    misfit: Float[Array, " mc"]
    damping: Float[Array, " mc"]
    precision: Float[Array, "mc d d"]
    log_height: Float[Array, " mc"]
    table: Float[Array, "m k"]
    weights: Weights
    n_steps: Int[Array, ""]


def posterior_npmle(
    problem: Problem,
    n_support: int = 200,
    quadrature_order: int = 1,
    n_candidates: int = 4,
    n_refinements: int = 12,
    n_integrated: int = 0,
) -> Method:
    """Laplace posteriors of each image, then the nonparametric maximum likelihood of the distribution behind them.

    Search: each step tries one structure, of a set that fills `theta_box`, in all poses of the quadrature. Every image
    keeps its best pairs of structure and pose, its candidates.
    Refinement: Levenberg-Marquardt steps on structure and pose together, where the problem offers `pose_motion`.
    Laplace's approximation, in one step, of the likelihood of image i with its pose integrated out:
    L_i(z) = sum_j exp(-|y_i - x_ij|^2 / (2 sigma^2)) |H_ij|^{-1/2} exp(-(z - z_ij)^T S_ij (z - z_ij) / 2),
    candidate j at z_ij with image x_ij, H the curvature in the pose and S that in z once the pose is integrated out.
    All steps that follow are EM on the weights of sum_k w_k delta_{theta_k}, theta_k the best structure of image k.
    They maximise sum_i log sum_k w_k L_i(theta_k) [kiefer1956], [sanchez2025]; few of them regularise. An image that no
    structure explains (|y - x|^2 beyond what noise does once in 10^4) takes no part. Where the problem offers
    `log_likelihood`, it takes the place of all that: see `likelihood_npmle`; `support`, where given, is the bank.

    Parameters
    ----------
    problem
        The problem; it must offer `theta_box`.
    n_support
        Structures that the search tries, one in each step; 200 by default.
    quadrature_order
        Order of the pose quadrature of the search; 1 by default, since the refinement moves between its nodes.
    n_candidates
        Candidates of each image, 4 by default: the best pair on the nodes need not be the best one after refinement.
    n_refinements
        Steps of the refinement, 12 by default.
    n_integrated
        Structures for each candidate, the likeliest, whose likelihood is Laplace's approximation in the pose alone,
        at the pair's own best pose: `paired`. 0, the default: all as above, which costs nothing and errs by .2 (the
        median of the log) for a protein at an SNR of 0.1, this by .05.

    Returns
    -------
    Method
        Its estimate is the best structure (m, d) of each of the m images with the weights (m,).

    Raises
    ------
    ValueError
        A count is below 1, or the problem has no `theta_box`.
    """
    problem = in_span(checked(problem))
    n_candidates = checks.positive_int("n_candidates", n_candidates)
    n_refinements = checks.positive_int("n_refinements", n_refinements)
    n_integrated = checks.non_negative_int("n_integrated", n_integrated)
    bank = candidates(problem, problem.support, checks.positive_int("n_support", n_support))
    if problem.log_likelihood is not None:
        return likelihood_npmle(problem, bank, n_refinements)
    poses, pose_weights = problem.pose_quadrature(checks.positive_int("quadrature_order", quadrature_order))
    motion = problem.pose_motion or STILL
    p = problem.observations.shape[1]
    outlier_misfit = float(scipy.stats.chi2.isf(OUTLIER_P_VALUE, p))
    at_a_time = max(1, BLOCK // (p * (bank.shape[1] + motion.dimension + 2)))
    n_pairs = min(n_integrated, len(problem.observations)) if motion.dimension else 0
    model = Model(problem, motion, bank, poses, len(pose_weights), n_candidates, outlier_misfit, at_a_time, n_pairs)
    phases = search, refine, approximate, reweight

    def step(_key: PRNGKey, state: PosteriorState) -> tuple[PosteriorState, Info]:
        ends = jnp.cumsum(jnp.asarray([len(bank), n_refinements, 1]))
        phase = (state.n_steps >= ends).sum()
        state, info = jax.lax.switch(phase, [lambda state, f=f: f(model, state) for f in phases], state)
        return state._replace(n_steps=state.n_steps + 1), info

    def estimate(state: PosteriorState) -> WeightedPoints:
        return WeightedPoints(best_structures(model, state), state.weights)

    return Method(lambda _key: first_state(model), step, estimate)


def first_state(model: Model) -> PosteriorState:
    """No image has a candidate yet."""
    y, d = model.problem.observations, model.bank.shape[1]
    m, n = len(y), len(y) * model.n_candidates
    pose = jax.tree.map(lambda a: jnp.broadcast_to(a[:1], (n, *a.shape[1:])), model.poses)
    damping = jnp.full(n, FIRST_DAMPING, y.dtype)
    misfit = jnp.full(n, jnp.finfo(y.dtype).max / 4, y.dtype)  # not inf, which the runner takes for divergence
    theta = jnp.broadcast_to(model.bank[0], (n, d))
    flat, equal = jnp.zeros((n, d, d), y.dtype), jnp.full(m, 1 / m, y.dtype)
    none, table = jnp.zeros(n, y.dtype), jnp.zeros((m, m) if model.n_pairs else (0, 0), y.dtype)
    return PosteriorState(theta, pose, misfit, damping, flat, none, table, equal, jnp.zeros((), jnp.int32))


def search(model: Model, state: PosteriorState) -> tuple[PosteriorState, Info]:
    """One structure in all poses: its best pose for each image competes with the candidates so far."""
    y, sigma, c = model.problem.observations, model.problem.noise_std, model.n_candidates
    structure = model.bank[state.n_steps]
    images = render_all(model.problem, structure[None], model.poses, model.n_poses)
    squares = squared_residuals(y, images)
    best = squares.argmin(1)
    misfit = 0.5 * jnp.take_along_axis(squares, best[:, None], 1)[:, 0] / sigma**2
    worst = state.misfit.reshape(len(y), c).argmax(1) + c * jnp.arange(len(y))
    better = misfit < state.misfit[worst]

    def replaced(old: Array, new: Array) -> Array:
        return old.at[worst].set(rows_where(better, new, old[worst]))

    state = state._replace(
        theta=replaced(state.theta, jnp.broadcast_to(structure, (len(y), len(structure)))),
        pose=jax.tree.map(lambda old, nodes: replaced(old, nodes[best]), state.pose, model.poses),
        misfit=replaced(state.misfit, misfit),
    )
    return state, Info(lowest_misfits(model, state).mean(), jnp.asarray(model.n_poses))


def refine(model: Model, state: PosteriorState) -> tuple[PosteriorState, Info]:
    """One Levenberg-Marquardt step on each candidate."""

    def damped(theta: Points, pose: Pose, damping: Weights, row: Row) -> tuple[Points, Pose, Misfit, Weights]:
        return levenberg_marquardt(model, theta, pose, damping, row)

    rows = candidate_rows(model)
    moved = by_blocks(damped, model.images_at_a_time, state.theta, state.pose, state.damping, rows)
    theta, pose, misfit, damping = moved
    state = state._replace(theta=theta, pose=pose, misfit=misfit, damping=damping)
    renders = len(rows) * (2 + theta.shape[1] + model.motion.dimension)
    return state, Info(lowest_misfits(model, state).mean(), jnp.asarray(renders))


def approximate(model: Model, state: PosteriorState) -> tuple[PosteriorState, Info]:
    """Laplace's approximation at each candidate; images that are explained get equal weights."""

    def laplace(theta: Points, pose: Pose, row: Row) -> tuple[Float[Array, "b d d"], Weights]:
        misfit, _, curvature = normal_equations(model, theta, pose, row)
        return integrate_pose_out(theta.shape[1], misfit, curvature)

    rows = candidate_rows(model)
    precision, log_height = by_blocks(laplace, model.images_at_a_time, state.theta, state.pose, rows)
    renders = len(rows) * (1 + state.theta.shape[1] + model.motion.dimension)
    info = Info(lowest_misfits(model, state).mean(), jnp.asarray(renders))
    share = explained(model, state) / explained(model, state).sum()
    state = state._replace(precision=precision, log_height=log_height, weights=share)
    if not model.n_pairs:
        return state, info
    table, count = paired(model, state)
    return state._replace(table=table), info._replace(forward_evaluations=info.forward_evaluations + count)


def paired(model: Model, state: PosteriorState) -> tuple[Float[Array, "m k"], Int[Array, ""]]:
    """log L_i of the best structure of image k, poses integrated out pair by pair: Laplace's approximation in structure
    and pose together errs where images bend, that in the pose alone at the pair's own structure hardly does.

    Of the structures that each candidate makes likely, the `n_pairs` likeliest are so refined.
    """
    m, c, d = len(model.problem.observations), model.n_candidates, state.theta.shape[1]
    support, rows = best_structures(model, state), candidate_rows(model)

    def drift_of(theta: Points, pose: Pose, row: Row) -> Float[Array, "b q d"]:
        curvature = normal_equations(model, theta, pose, row)[2]
        inner = curvature[:, d:, d:] + jnp.eye(model.motion.dimension, dtype=theta.dtype)
        return -jnp.linalg.solve(inner, curvature[:, d:, :d])

    drift = by_blocks(drift_of, model.images_at_a_time, state.theta, state.pose, rows)
    height = jnp.where(repeated(model, state), -jnp.inf, state.log_height.reshape(m, c)).reshape(-1)

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
    return jax.nn.logsumexp(table.reshape(m, c, m), axis=1), jnp.asarray(
        m * c * model.n_pairs * (1 + model.motion.dimension)
    )


def repeated(model: Model, state: PosteriorState) -> Float[Array, "m c"]:
    """Candidates that have met one before them: they would count twice."""
    shape = len(model.problem.observations), model.n_candidates
    theta, precision, misfit = (a.reshape(*shape, *a.shape[1:]) for a in (state.theta, state.precision, state.misfit))
    away = theta[:, :, None] - theta[:, None]
    apart = jnp.einsum("mabd,made,mabe->mab", away, precision, away, precision="highest")
    near = (apart < SAME_POINT) & (jnp.abs(misfit[:, :, None] - misfit[:, None]) < SAME_POINT)
    return jnp.tril(near, -1).any(2)


def reweight(model: Model, state: PosteriorState) -> tuple[PosteriorState, Info]:
    """One step of EM on the weights."""
    joint = log_likelihoods(model, state) + jnp.log(state.weights)  # an outlier must not underflow to 0 / 0
    evidence = jax.nn.logsumexp(joint, axis=1)
    counts = explained(model, state)
    weights = (counts[:, None] * jnp.exp(joint - evidence[:, None])).sum(0)
    objective = -(evidence * counts).sum() / counts.sum()
    return state._replace(weights=weights / weights.sum()), Info(objective, jnp.asarray(0))


def log_likelihoods(model: Model, state: PosteriorState) -> Float[Array, "m k"]:
    """log L_i of the best structure of image k."""
    if model.n_pairs:
        return state.table
    support = best_structures(model, state)

    def of_image(
        center: Float[Array, "c d"], precision: Float[Array, "c d d"], log_height: Float[Array, " c"]
    ) -> Float[Array, " k"]:
        away = support - center[:, None]
        squares = jnp.einsum("ckd,cde,cke->ck", away, precision, away, precision="highest")
        return jax.nn.logsumexp(log_height[:, None] - 0.5 * squares, axis=0)

    shape = len(support), model.n_candidates
    each = (a.reshape(*shape, *a.shape[1:]) for a in (state.theta, state.precision, state.log_height))
    return jax.lax.map(lambda one: of_image(*one), tuple(each), batch_size=16)


def explained(model: Model, state: PosteriorState) -> Float[Array, " m"]:
    """1 for images that some candidate explains as far as noise lets it, 0 for the others; 1 for all if none is."""
    inliers = 2 * lowest_misfits(model, state) <= model.outlier_misfit
    return (inliers | ~inliers.any()).astype(model.problem.observations.dtype)


def lowest_misfits(model: Model, state: PosteriorState) -> Float[Array, " m"]:
    """That of the best candidate of each image."""
    return state.misfit.reshape(-1, model.n_candidates).min(1)


def best_structures(model: Model, state: PosteriorState) -> Points:
    """The structure of the likeliest candidate of each image."""
    best = state.misfit.reshape(-1, model.n_candidates).argmin(1)
    theta = state.theta.reshape(len(best), -1, state.theta.shape[1])
    return theta[jnp.arange(len(best)), best]


def candidate_rows(model: Model) -> Row:
    """The image that each candidate belongs to."""
    return jnp.repeat(jnp.arange(len(model.problem.observations)), model.n_candidates)
