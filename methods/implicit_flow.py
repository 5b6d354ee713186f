"""The Wasserstein-Fisher-Rao flow of the likelihood by linearly implicit steps: the NPMLE with moving support."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from cryosip.methods.marginal import LEAST_WEIGHT, Marginal, Variation, log_p, mixed, to_the_power, variation
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, PRNGKey, Problem, Weights

FIRST_TIME_STEP = 1.0  # of the flow, whose steps are EM's on the weights where they have this length
FASTER, SLOWER = 3.0, 4.0  # the time step grows so after a step up the likelihood, and shrinks after one down
MOST_GROWTH = 5.0  # of a log-weight in a step
ALL_LOST = -1.0  # growth of a log-weight at which a linear model of the weight has nothing left
MERGED_WITHIN = 3e-3  # of the std of the initial distribution
REDRAWN = 0.2  # of the searching particles that have found nothing, in a step
NEAR = 0.5  # stds of the initial distribution, from a particle that has weight to one that is drawn near it

Scalar = Float[Array, ""]


class ImplicitState(NamedTuple):
    theta: Points
    weights: Weights
    time_step: Scalar
    n_steps: Int[Array, ""]


def implicit_flow(problem: Problem, of: Marginal, n_particles: int, anneal: tuple[float, int] = (1.0, 1)) -> Method:
    """Ascends the likelihood of (3.4) by linearly implicit Euler steps of the Wasserstein-Fisher-Rao flow.

    The flow is d theta_k / dt = grad D(theta_k), d log w_k / dt = D(theta_k) - 1 with D(theta) = mean_i p(y_i | theta)
    / f(y_i) [yan2024]. A step of length t solves (H + I / t) x = g, with g its right side and H the Hessian of the
    objective, without what is not convex of it, in the coordinates sqrt(w_k) log w_k and sqrt(w_k) theta_k in which the
    metric of the flow is the identity: for small t it is Euler's, for large t Newton's. t grows as long as the
    likelihood does. A particle that has lost its weight, or has met another, searches for places where D exceeds 1, the
    directions of steepest ascent of the conditional-gradient method [lindsay1983]: from the box of the problem or the
    initial distribution, or near a particle with weight. With `anneal` the likelihood is taken to the power
    1 / factor^2 at first, as of noise `factor` times as wide, and geometrically to itself within so many steps.
    """

    def estimate(state: ImplicitState) -> WeightedPoints:
        return WeightedPoints(state.theta, counted(state.weights))

    spread = jnp.maximum(problem.sample_init(jr.key(0), 1_000).std(0), jnp.finfo(problem.observations.dtype).tiny)
    return Method(partial(_first_state, problem, n_particles), partial(_step, problem, of, spread, anneal), estimate)


def _first_state(problem: Problem, n: int, key: PRNGKey) -> ImplicitState:
    theta = problem.sample_init(key, n)
    weights = jnp.full(n, 1 / n, theta.dtype)
    return ImplicitState(theta, weights, jnp.full((), FIRST_TIME_STEP, theta.dtype), jnp.zeros((), jnp.int32))


def _step(
    problem: Problem,
    of: Marginal,
    spread: Float[Array, " d"],
    anneal: tuple[float, int],
    key: PRNGKey,
    state: ImplicitState,
) -> tuple[ImplicitState, Info]:
    theta, weights, time_step, n_steps = state
    factor, steps = anneal
    power = factor ** (-2 * jnp.maximum(0.0, 1 - n_steps.astype(theta.dtype) / max(1, steps)))
    of = to_the_power(of, power)
    at = variation(of, theta, counted(weights))
    growth, move = implicit_step(at, weights, time_step)
    moved = theta + jnp.clip(move, -spread, spread)
    grown = jnp.maximum(weights * jnp.exp(jnp.clip(growth, -MOST_GROWTH, MOST_GROWTH)), LEAST_WEIGHT)
    grown = grown / grown.sum()
    after = mixed(log_p(of, moved), counted(grown))
    # from differences, observation by observation: their rounding is far below that of the mean
    gain = (after - at.log_f).mean()
    up = gain >= -jnp.finfo(gain.dtype).eps
    searching = _searches(weights)
    theta = jnp.where((up | searching)[:, None], moved, theta)
    theta, weights = merged(theta, jnp.where(up, grown, weights), MERGED_WITHIN * spread)
    lost = _searches(weights) & (at.share.mean(1) < 1) & jr.bernoulli(jr.fold_in(key, 0), REDRAWN, searching.shape)
    theta = jnp.where(lost[:, None], _drawn(problem, jr.fold_in(key, 1), theta, weights, spread), theta)
    longest = jnp.finfo(gain.dtype).eps ** -0.5  # beyond it rounding moves what the likelihood hardly tells apart
    time_step = jnp.clip(jnp.where(up, time_step * FASTER, time_step / SLOWER), 1e-6, longest)
    renders = len(theta) * of.renders * (2 + of.per_axis * theta.shape[1])
    return ImplicitState(theta, weights, time_step, n_steps + 1), Info(-at.log_f.mean(), jnp.asarray(renders))


def implicit_step(at: Variation, weights: Weights, time_step: Scalar) -> tuple[Weights, Points]:
    """By how much each log-weight grows in a step of that length, and each particle moves.

    Solved twice. In the linear model a particle without weight, or one that loses more than it has, would go on below
    zero, and the others would make up for what it never had: it moves, but the others do not answer it.
    """
    searching = _searches(weights)
    growth, _move = _solution(at, weights, time_step, searching)
    return _solution(at, weights, time_step, searching | (growth < ALL_LOST))


def _solution(
    at: Variation, weights: Weights, time_step: Scalar, unanswered: Bool[Array, " k"]
) -> tuple[Weights, Points]:
    k, m, d = at.score.shape
    root = jnp.sqrt(weights)
    of_weights = root[:, None] * at.share
    of_places = jnp.moveaxis(of_weights[..., None] * at.score, -1, 1).reshape(k * d, m)
    jacobian = jnp.concatenate([of_weights, of_places])
    slope = (at.share[..., None] * at.score).mean(1)
    right = jnp.concatenate([root * (at.share.mean(1) - 1), (root[:, None] * slope).ravel()])
    hessian = jnp.matmul(jacobian, jacobian.T, precision="highest") / m
    particle = jnp.concatenate([jnp.arange(k), jnp.repeat(jnp.arange(k), d)])
    apart = unanswered[particle] & (particle[:, None] != particle)
    hessian = jnp.where(apart | apart.T, 0.0, hessian)
    # that of log D where D is steep: it reaches further, and is the same where D is level
    level = jnp.maximum(at.share.mean(1), jnp.finfo(root.dtype).eps)[:, None, None]
    values, vectors = jnp.linalg.eigh(slope[:, :, None] * slope[:, None] / level - at.curvature)
    convex = (vectors * jnp.maximum(values, 0)[:, None, :]) @ jnp.swapaxes(vectors, 1, 2)
    each = jnp.arange(k)
    blocks = jnp.zeros((k, d, k, d), root.dtype).at[each, :, each, :].set(convex).reshape(k * d, k * d)
    hessian = hessian.at[k:, k:].add(blocks) + jnp.eye(len(hessian)) / time_step
    # the diagonal scaled to one, since searching particles may see slopes of any size
    scale = 1 / jnp.sqrt(jnp.diag(hessian))
    x = scale * jnp.linalg.solve(scale[:, None] * hessian * scale, scale * right)
    return x[:k] / root, x[k:].reshape(k, d) / root[:, None]


def merged(theta: Points, weights: Weights, within: Float[Array, " d"]) -> tuple[Points, Weights]:
    """Particles that have met become one at their mean, in the place of the first; the others are free to search."""
    together = (jnp.abs(theta[:, None] - theta) <= within).all(-1) & ~_searches(weights)
    first = jnp.where(_searches(weights), jnp.arange(len(theta)), together.argmax(1))
    total = jax.ops.segment_sum(weights, first, len(theta))
    mean = jax.ops.segment_sum(weights[:, None] * theta, first, len(theta)) / jnp.maximum(total, LEAST_WEIGHT)[:, None]
    alone = jnp.bincount(first, length=len(theta)) < 2
    total = jnp.maximum(total, LEAST_WEIGHT)
    return jnp.where(alone[:, None], theta, mean), total / total.sum()


def _searches(weights: Weights) -> Bool[Array, " k"]:
    return weights <= 2 * LEAST_WEIGHT


def counted(weights: Weights) -> Weights:
    """Without the particles that search."""
    kept = jnp.where(_searches(weights), 0.0, weights)
    return kept / kept.sum()


def _drawn(problem: Problem, key: PRNGKey, theta: Points, weights: Weights, spread: Float[Array, " d"]) -> Points:
    """New places for particles that search: half of them anywhere, half near a particle that has weight."""
    key_far, key_near, key_step, key_which = jr.split(key, 4)
    if problem.theta_box is None:
        far = problem.sample_init(key_far, len(theta))
    else:
        lower, upper = problem.theta_box
        far = lower + (upper - lower) * jr.uniform(key_far, theta.shape, theta.dtype)
    near = theta[jr.categorical(key_near, jnp.log(weights), shape=(len(theta),))]
    near += NEAR * spread * jr.normal(key_step, theta.shape, theta.dtype)
    return jnp.where(jr.bernoulli(key_which, 0.5, (len(theta), 1)), far, near)
