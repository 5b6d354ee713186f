"""Per-image posteriors over structure and pose, then the law that explains them all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import scipy.stats
from jaxtyping import Array, Float, Int

from cryosip.methods import checks
from cryosip.methods.likelihood import by_blocks, candidates, render_all, squared_residuals
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, Pose, PoseMotion, PRNGKey, Problem, Weights, checked, in_span

BLOCK = 2**26  # numbers that the Jacobians of a block of images may hold
FIRST_DAMPING, EASED, STIFFENED = 1e-2, 0.3, 4.0
LEAST_DAMPING = 1e-6
UNSOLVED = 1e-4  # an image is left out whose best candidate noise would put so far away no more often than this
STILL = PoseMotion(0, lambda pose, _step: pose)


class PosteriorState(NamedTuple):
    """Row i * c + j is candidate j of image i.

    `misfit` is |y - x|^2 / (2 sigma^2). Near the candidate the likelihood, the pose integrated out, is
    exp(log_height - (z - theta)^T precision (z - theta) / 2), once both are known; `weights` are those of the law.
    """

    theta: Float[Array, "mc d"]
    pose: Pose
    misfit: Float[Array, " mc"]
    damping: Float[Array, " mc"]
    precision: Float[Array, "mc d d"]
    log_height: Float[Array, " mc"]
    weights: Weights
    n_steps: Int[Array, ""]


def posterior_npmle(
    problem: Problem,
    n_support: int = 200,
    quadrature_order: int = 1,
    n_candidates: int = 4,
    n_refinements: int = 12,
) -> Method:
    """Laplace posteriors of each image, then the nonparametric maximum likelihood estimate of the law behind them.

    The first `n_support` steps each try one structure, of a set that fills `theta_box`, in all poses of the quadrature,
    and keep for every image the `n_candidates` best pairs. The next `n_refinements` are Levenberg-Marquardt steps on
    structure and pose together, where the problem offers `pose_motion`; one more makes Laplace's approximation of the
    likelihood of image i with its pose integrated out,
    L_i(z) = sum_j exp(-|y_i - x_ij|^2 / (2 sigma^2)) |H_ij|^{-1/2} exp(-(z - z_ij)^T S_ij (z - z_ij) / 2),
    candidate j at z_ij with image x_ij, H the curvature in the pose and S that in z once the pose is integrated out.
    What follows are EM steps on the weights of sum_k w_k delta_{theta_k}, theta_k the best structure of image k, which
    maximise sum_i log sum_k w_k L_i(theta_k) [kiefer1956], [sanchez2025]. Few of them regularise. Images of which the
    search has found no structure that explains them (|y - x|^2 beyond what noise does once in 10^4) take no part.

    Raises ValueError for counts below 1 and a problem without `theta_box`.
    """
    problem = in_span(checked(problem))
    n_candidates = checks.positive_int("n_candidates", n_candidates)
    n_refinements = checks.positive_int("n_refinements", n_refinements)
    bank = candidates(problem, None, checks.positive_int("n_support", n_support))
    poses, pose_weights = problem.pose_quadrature(checks.positive_int("quadrature_order", quadrature_order))
    motion = problem.pose_motion or STILL
    y, sigma = problem.observations, problem.noise_std
    (m, p), d, n_poses = y.shape, bank.shape[1], len(pose_weights)
    assert problem.theta_box is not None  # else there were no candidates
    lower, upper = problem.theta_box
    far_from_noise = float(scipy.stats.chi2.isf(UNSOLVED, p))
    rows = jnp.repeat(jnp.arange(m), n_candidates)
    block = max(1, BLOCK // (p * (d + motion.dimension + 2)))

    def init(_key: PRNGKey) -> PosteriorState:
        n = m * n_candidates
        first = jax.tree.map(lambda a: jnp.broadcast_to(a[:1], (n, *a.shape[1:])), poses)
        fresh = jnp.full(n, FIRST_DAMPING, y.dtype)
        far = jnp.full(n, jnp.finfo(y.dtype).max / 4, y.dtype)  # no candidate yet; the runner takes inf for divergence
        theta = jnp.broadcast_to(bank[0], (n, d))
        flat, equal = jnp.zeros((n, d, d), y.dtype), jnp.full(m, 1 / m, y.dtype)
        return PosteriorState(theta, first, far, fresh, flat, jnp.zeros(n, y.dtype), equal, jnp.zeros((), jnp.int32))

    def least(misfit: Float[Array, " mc"]) -> Float[Array, " m"]:
        """That of the best candidate of each image."""
        return misfit.reshape(m, n_candidates).min(1)

    def search(state: PosteriorState) -> tuple[PosteriorState, Info]:
        """One structure in all poses: its best pose for each image competes with the candidates so far."""
        structure = bank[state.n_steps]
        images = render_all(problem, structure[None], poses, n_poses)
        squares = squared_residuals(y, images)
        best = squares.argmin(1)
        misfit = 0.5 * jnp.take_along_axis(squares, best[:, None], 1)[:, 0] / sigma**2
        worst = state.misfit.reshape(m, n_candidates).argmax(1) + n_candidates * jnp.arange(m)
        better = misfit < state.misfit[worst]

        def replaced(old: Array, new: Array) -> Array:
            kept = better.reshape(-1, *[1] * (new.ndim - 1))
            return old.at[worst].set(jnp.where(kept, new, old[worst]))

        state = state._replace(
            theta=replaced(state.theta, jnp.broadcast_to(structure, (m, d))),
            pose=jax.tree.map(lambda old, nodes: replaced(old, nodes[best]), state.pose, poses),
            misfit=replaced(state.misfit, misfit),
        )
        return state, Info(least(state.misfit).mean(), jnp.asarray(n_poses))

    def linearised(
        theta: Points, pose: Pose, row: Int[Array, " b"]
    ) -> tuple[Float[Array, "b p"], Float[Array, "b e p"]]:
        """Residuals y - x, and the derivatives of x in the structure and the pose."""

        def image(step: Float[Array, "b e"]) -> Float[Array, "b p"]:
            return problem.render(theta + step[:, :d], motion.move(pose, step[:, d:]))

        zero = jnp.zeros((len(theta), d + motion.dimension), theta.dtype)
        clean, push = jax.linearize(image, zero)
        slopes = [push(zero.at[:, e].set(1.0)) for e in range(zero.shape[1])]
        return y[row] - clean, jnp.stack(slopes, axis=1)

    def normal(theta: Points, pose: Pose, row: Int[Array, " b"]) -> tuple[Array, Array, Array]:
        """Misfit, its negative gradient and its Gauss-Newton curvature."""
        residual, slopes = linearised(theta, pose, row)
        gradient = jnp.einsum("bep,bp->be", slopes, residual, precision="highest") / sigma**2
        curvature = jnp.einsum("bep,bfp->bef", slopes, slopes, precision="highest") / sigma**2
        return 0.5 * (residual**2).sum(1) / sigma**2, gradient, curvature

    def refine(state: PosteriorState) -> tuple[PosteriorState, Info]:
        def damped(
            theta: Points, pose: Pose, damping: Weights, row: Int[Array, " b"]
        ) -> tuple[Points, Pose, Array, Array]:
            misfit, gradient, curvature = normal(theta, pose, row)
            scale = damping[:, None] * (jnp.diagonal(curvature, axis1=1, axis2=2) + jnp.finfo(theta.dtype).tiny)
            step = jnp.linalg.solve(curvature + scale[:, :, None] * jnp.eye(scale.shape[1]), gradient[..., None])[
                ..., 0
            ]
            trial = jnp.clip(theta + step[:, :d], lower, upper), motion.move(pose, step[:, d:])
            after = 0.5 * ((y[row] - problem.render(*trial)) ** 2).sum(1) / sigma**2
            better = after < misfit

            def chosen(new: Array, old: Array) -> Array:
                return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

            easier = jnp.maximum(damping * EASED, LEAST_DAMPING)
            theta, pose = jax.tree.map(chosen, trial, (theta, pose))
            return theta, pose, chosen(after, misfit), chosen(easier, damping * STIFFENED)

        theta, pose, misfit, damping = by_blocks(damped, block, state.theta, state.pose, state.damping, rows)
        state = state._replace(theta=theta, pose=pose, misfit=misfit, damping=damping)
        return state, Info(least(misfit).mean(), jnp.asarray(len(rows) * (2 + d + motion.dimension)))

    def approximate(state: PosteriorState) -> tuple[PosteriorState, Info]:
        def laplace(theta: Points, pose: Pose, row: Int[Array, " b"]) -> tuple[Array, Array]:
            misfit, _, curvature = normal(theta, pose, row)
            if motion.dimension == 0:
                return curvature, -misfit
            inner, cross = curvature[:, d:, d:], curvature[:, d:, :d]
            ridge = 1e-6 * jnp.trace(inner, axis1=1, axis2=2) + jnp.finfo(theta.dtype).tiny ** (1 / 4)
            inner += ridge[:, None, None] * jnp.eye(motion.dimension)
            marginal = curvature[:, :d, :d] - cross.swapaxes(1, 2) @ jnp.linalg.solve(inner, cross)
            return marginal, -misfit - 0.5 * jnp.linalg.slogdet(inner)[1]

        precision, log_height = by_blocks(laplace, block, state.theta, state.pose, rows)
        info = Info(least(state.misfit).mean(), jnp.asarray(len(rows) * (1 + d + motion.dimension)))
        share = solved(state) / solved(state).sum()
        return state._replace(precision=precision, log_height=log_height, weights=share), info

    def solved(state: PosteriorState) -> Float[Array, " m"]:
        """1 for images that some candidate explains as far as noise lets it, 0 for the others; 1 for all if none is."""
        explained = 2 * least(state.misfit) <= far_from_noise
        return (explained | ~explained.any()).astype(y.dtype)

    def log_likelihood(state: PosteriorState) -> Float[Array, "m k"]:
        """log L_i of the best structure of image k."""
        support = _best_structures(state, m)

        def of_image(
            center: Float[Array, "c d"], precision: Float[Array, "c d d"], log_height: Float[Array, " c"]
        ) -> Float[Array, " k"]:
            away = support - center[:, None]
            squares = jnp.einsum("ckd,cde,cke->ck", away, precision, away, precision="highest")
            return jax.nn.logsumexp(log_height[:, None] - 0.5 * squares, axis=0)

        each = (a.reshape(m, n_candidates, *a.shape[1:]) for a in (state.theta, state.precision, state.log_height))
        return jax.lax.map(lambda one: of_image(*one), tuple(each), batch_size=16)

    def reweight(state: PosteriorState) -> tuple[PosteriorState, Info]:
        joint = log_likelihood(state) + jnp.log(state.weights)  # no image that is left out may underflow to 0 / 0
        evidence = jax.nn.logsumexp(joint, axis=1)
        counts = solved(state)
        weights = (counts[:, None] * jnp.exp(joint - evidence[:, None])).sum(0)
        objective = -(evidence * counts).sum() / counts.sum()
        return state._replace(weights=weights / weights.sum()), Info(objective, jnp.asarray(0))

    def step(_key: PRNGKey, state: PosteriorState) -> tuple[PosteriorState, Info]:
        ends = jnp.cumsum(jnp.asarray([len(bank), n_refinements, 1]))
        state, info = jax.lax.switch((state.n_steps >= ends).sum(), (search, refine, approximate, reweight), state)
        return state._replace(n_steps=state.n_steps + 1), info

    def estimate(state: PosteriorState) -> WeightedPoints:
        return WeightedPoints(_best_structures(state, m), state.weights)

    return Method(init, step, estimate)


def _best_structures(state: PosteriorState, m: int) -> Points:
    """The structure of the likeliest candidate of each image."""
    best = state.misfit.reshape(m, -1).argmin(1)
    return state.theta.reshape(m, -1, state.theta.shape[1])[jnp.arange(m), best]
