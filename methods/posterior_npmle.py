"""Per-image posteriors over structure and pose, then the distribution that explains them all."""

import jax
import jax.numpy as jnp
import scipy.stats
from jaxtyping import Array, Float, Int

from cryosip.methods import checks
from cryosip.methods.drawn_support import Posteriors, pooled_draws, redrawn
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
from cryosip.methods.posterior_table import (
    PosteriorState,
    best_structures,
    candidate_rows,
    explained,
    is_tabulated,
    log_likelihoods,
    lowest_misfits,
    posteriors,
    tabulated,
)
from cryosip.methods.problem import (
    Observations,
    Points,
    Pose,
    PoseMotion,
    PRNGKey,
    Problem,
    Weights,
    checked,
    in_span,
)
from cryosip.methods.stored import mapped

BLOCK = 2**26  # numbers that the Jacobians of a block of images may hold
FIRST_DAMPING = 1e-2
OUTLIER_P_VALUE = 1e-4  # an image takes no part if noise puts it this far from its best candidate no more often
EM_STEPS = 30  # before structures are drawn again, that one included
STILL = PoseMotion(0, lambda pose, _step: pose)


def posterior_npmle(
    problem: Problem,
    n_support: int = 200,
    quadrature_order: int = 1,
    n_candidates: int = 4,
    n_refinements: int = 12,
    n_integrated: int = 0,
    n_drawn: int = 0,
    n_redraws: int = 0,
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
    n_drawn
        Structures theta_k that are drawn from the posteriors of all images, pooled: where images tell little, their
        best structures lie far outside of the distribution. 0, the default: the best structures.
    n_redraws
        How often the drawn structures are drawn again, each time after 30 EM steps, from the distribution so far,
        smoothed: `redrawn`. 0 by default.

    Returns
    -------
    Method
        Its estimate is theta_k (k, d) with the weights (k,); k is m, the number of images, or `n_drawn`.

    Raises
    ------
    ValueError
        A count is below 1, the problem has no `theta_box`, there are redraws of nothing drawn, or draws where the
        problem offers `log_likelihood`.
    """
    problem = in_span(checked(problem))
    n_candidates = checks.positive_int("n_candidates", n_candidates)
    n_refinements = checks.positive_int("n_refinements", n_refinements)
    n_integrated = checks.non_negative_int("n_integrated", n_integrated)
    n_drawn = checks.non_negative_int("n_drawn", n_drawn)
    n_redraws = checks.non_negative_int("n_redraws", n_redraws)
    if n_redraws and not n_drawn:
        raise ValueError(f"n_redraws is {n_redraws} and n_drawn 0; wanted structures that are drawn at first")
    bank = candidates(problem, problem.support, checks.positive_int("n_support", n_support))
    if problem.log_likelihood is not None:
        if n_drawn:
            raise ValueError(
                f"n_drawn is {n_drawn} and problem {problem.name!r} offers log_likelihood; wanted 0, since only "
                "Laplace posteriors can be drawn from"
            )
        return likelihood_npmle(problem, bank, n_refinements)
    poses, pose_weights = problem.pose_quadrature(checks.positive_int("quadrature_order", quadrature_order))
    motion = problem.pose_motion or STILL
    p = problem.observations.shape[1]
    outlier_misfit = float(scipy.stats.chi2.isf(OUTLIER_P_VALUE, p))
    at_a_time = max(1, BLOCK // (p * (bank.shape[1] + motion.dimension + 2)))
    n_pairs = min(n_integrated, n_drawn or len(problem.observations)) if motion.dimension else 0
    model = Model(
        problem, motion, bank, poses, len(pose_weights), n_candidates, outlier_misfit, at_a_time, n_pairs, n_drawn
    )
    phases = [search, refine, approximate, reweight, *([draw_again] if n_redraws else [])]
    first_em_step = len(bank) + n_refinements + 1

    def step(key: PRNGKey, state: PosteriorState) -> tuple[PosteriorState, Info]:
        ends = jnp.asarray([len(bank), first_em_step - 1, first_em_step])
        em_steps = state.n_steps - first_em_step
        draws = (em_steps > 0) & (em_steps % EM_STEPS == 0) & (em_steps <= EM_STEPS * n_redraws)
        phase = (state.n_steps >= ends).sum() + draws
        state, info = jax.lax.switch(phase, [lambda state, f=f: f(model, key, state) for f in phases], state)
        return state._replace(n_steps=state.n_steps + 1), info

    def estimate(state: PosteriorState) -> WeightedPoints:
        return WeightedPoints(state.support, state.weights)

    return Method(lambda _key: first_state(model), step, estimate)


def first_state(model: Model) -> PosteriorState:
    """No image has a candidate yet."""
    y, d = model.problem.observations, model.bank.shape[1]
    m, n = len(y), len(y) * model.n_candidates
    pose = jax.tree.map(lambda a: jnp.broadcast_to(a[:1], (n, *a.shape[1:])), model.poses)
    damping = jnp.full(n, FIRST_DAMPING, y.dtype)
    misfit = jnp.full(n, jnp.finfo(y.dtype).max / 4, y.dtype)  # not inf, which the runner takes for divergence
    theta = jnp.broadcast_to(model.bank[0], (n, d))
    k = model.n_drawn or m
    flat, none, equal = jnp.zeros((n, d, d), y.dtype), jnp.zeros(n, y.dtype), jnp.full(k, 1 / k, y.dtype)
    table = jnp.zeros((m, k) if is_tabulated(model) else (0, 0), y.dtype)
    support, begun = jnp.broadcast_to(model.bank[0], (k, d)), jnp.zeros((), jnp.int32)
    return PosteriorState(theta, pose, misfit, damping, flat, none, table, support, equal, begun)


def search(model: Model, _key: PRNGKey, state: PosteriorState) -> tuple[PosteriorState, Info]:
    """One structure in all poses: its best pose for each image competes with the candidates so far."""
    y, sigma, c = model.problem.observations, model.problem.noise_std, model.n_candidates
    structure = model.bank[state.n_steps]
    images = render_all(model.problem, structure[None], model.poses, model.n_poses)

    def best_of(y: Observations) -> tuple[Int[Array, " b"], Misfit]:
        squares = squared_residuals(y, images)
        best = squares.argmin(1)
        return best, 0.5 * jnp.take_along_axis(squares, best[:, None], 1)[:, 0] / sigma**2

    best, misfit = mapped(best_of, y)
    worst = state.misfit.reshape(len(y), c).argmax(1) + c * jnp.arange(len(y))
    better = misfit < state.misfit[worst]

    def replaced(old: Array, new: Array) -> Array:
        return old.at[worst].set(rows_where(better, new, old[worst]))

    state = state._replace(
        theta=replaced(state.theta, jnp.broadcast_to(structure, (len(y), len(structure)))),
        pose=jax.tree.map(lambda old, nodes: replaced(old, nodes[best]), state.pose, model.poses),
        misfit=replaced(state.misfit, misfit),
    )
    state = state._replace(support=best_structures(model, state))
    return state, Info(lowest_misfits(model, state).mean(), jnp.asarray(model.n_poses))


def refine(model: Model, _key: PRNGKey, state: PosteriorState) -> tuple[PosteriorState, Info]:
    """One Levenberg-Marquardt step on each candidate."""

    def damped(theta: Points, pose: Pose, damping: Weights, row: Row) -> tuple[Points, Pose, Misfit, Weights]:
        return levenberg_marquardt(model, theta, pose, damping, row)

    rows = candidate_rows(model)
    moved = by_blocks(damped, model.images_at_a_time, state.theta, state.pose, state.damping, rows)
    theta, pose, misfit, damping = moved
    state = state._replace(theta=theta, pose=pose, misfit=misfit, damping=damping)
    state = state._replace(support=best_structures(model, state))
    renders = len(rows) * (2 + theta.shape[1] + model.motion.dimension)
    return state, Info(lowest_misfits(model, state).mean(), jnp.asarray(renders))


def approximate(model: Model, key: PRNGKey, state: PosteriorState) -> tuple[PosteriorState, Info]:
    """Laplace's approximation at each candidate; the best structures of images that are explained get equal weights, or
    as many as are wanted are drawn from the posteriors of these images.
    """

    def laplace(theta: Points, pose: Pose, row: Row) -> tuple[Float[Array, "b d d"], Weights]:
        misfit, _, curvature = normal_equations(model, theta, pose, row)
        return integrate_pose_out(theta.shape[1], misfit, curvature)

    rows = candidate_rows(model)
    precision, log_height = by_blocks(laplace, model.images_at_a_time, state.theta, state.pose, rows)
    renders = len(rows) * (1 + state.theta.shape[1] + model.motion.dimension)
    info = Info(lowest_misfits(model, state).mean(), jnp.asarray(renders))
    state = state._replace(precision=precision, log_height=log_height)
    if model.n_drawn:
        pooled = Posteriors(*posteriors(model, state), explained(model, state))
        state = state._replace(support=pooled_draws(key, pooled, model.n_drawn, _box(model)))
    else:
        state = state._replace(weights=explained(model, state) / explained(model, state).sum())
    return tabulated(model, state, info)


def draw_again(model: Model, key: PRNGKey, state: PosteriorState) -> tuple[PosteriorState, Info]:
    """The support from the distribution so far, smoothed; then one step of EM."""
    support = redrawn(key, WeightedPoints(state.support, state.weights), _box(model))
    state = state._replace(support=support, weights=jnp.full_like(state.weights, 1 / len(support)))
    state, drawn = tabulated(model, state, Info(jnp.zeros(()), jnp.asarray(0)))
    state, info = reweight(model, key, state)
    return state, info._replace(forward_evaluations=drawn.forward_evaluations)


def _box(model: Model) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    assert model.problem.theta_box is not None  # else there were no candidates
    return model.problem.theta_box


def reweight(model: Model, _key: PRNGKey, state: PosteriorState) -> tuple[PosteriorState, Info]:
    """One step of EM on the weights."""
    joint = log_likelihoods(model, state) + jnp.log(state.weights)  # an outlier must not underflow to 0 / 0
    evidence = jax.nn.logsumexp(joint, axis=1)
    counts = explained(model, state)
    weights = (counts[:, None] * jnp.exp(joint - evidence[:, None])).sum(0)
    objective = -(evidence * counts).sum() / counts.sum()
    return state._replace(weights=weights / weights.sum()), Info(objective, jnp.asarray(0))
