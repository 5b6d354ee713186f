"""Weights on a support by EM, stopped by observations that are held out, on points that are drawn where the mass is."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from cryosip.methods.likelihood import log_likelihoods
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, PRNGKey, Problem, Weights, halves

Scalar = Float[Array, ""]


class Table(NamedTuple):
    """Structures theta_k and what each says of each observation: p(y_i | theta_k) / exp(top_i), with the largest 1.

    `width` is that of the cell around each structure, as a share of the support's extent in every coordinate.
    """

    theta: Points
    width: Float[Array, " k"]
    likelihood: Float[Array, "m k"]
    top: Float[Array, " m"]


class AdaptiveState(NamedTuple):
    """`weights` are those of all observations, and where some are held out also those of either half.

    `table` is None where the support stays. `best` has the least `score`: minus the log-likelihood of each half under
    the weights of the other.
    """

    table: Table | None
    weights: Float[Array, "f k"]
    best: WeightedPoints
    score: Scalar
    n_steps: Int[Array, ""]
    unreported: Int[Array, ""]


class Plan(NamedTuple):
    """What no step changes: the support to start from, how often it is drawn anew, and whom the weights are fitted to.

    `fitted` (m, f) is 1 / n for the n observations to which column f of the weights is fitted, else 0; `extra` what
    the Dirichlet prior adds to each weight.
    """

    problem: Problem
    order: int
    start: Table
    evaluations: int
    n_refinements: int
    refine_every: int
    fitted: Float[Array, "m f"]
    extra: float


def adaptive_support(
    problem: Problem, order: int, start: Table, evaluations: int, extra: float,
    stop_on_held_out: bool, n_refinements: int, refine_every: int,
) -> Method:  # fmt: skip
    """EM on the weights of `start`, which takes two-fold cross-validation and refinements into its steps.

    Three sets of weights are updated side by side: of all observations, and of either half. Early stopping takes those
    of all after so many steps as are best for the weights of one half on the other.
    """
    m = len(problem.observations)
    fitted = jnp.full((m, 1), 1 / m, problem.observations.dtype)
    if stop_on_held_out:
        halves(problem)  # refuses one observation
        even = jnp.arange(m) % 2 == 0
        fitted = jnp.concatenate([fitted, even[:, None] / even.sum(), ~even[:, None] / (~even).sum()], axis=1)
    plan = Plan(problem, order, start, evaluations, n_refinements, refine_every, fitted, extra)
    return Method(partial(first_state, plan), partial(step, plan), partial(estimate, plan))


def first_state(plan: Plan, _key: PRNGKey) -> AdaptiveState:
    """Equal weights."""
    k = len(plan.start.theta)
    weights = jnp.full((plan.fitted.shape[1], k), 1 / k)
    worst = jnp.asarray(jnp.finfo(weights.dtype).max)  # infinity would pass for a run that has failed
    table = plan.start if plan.n_refinements else None
    best = WeightedPoints(plan.start.theta, weights[0])
    return AdaptiveState(table, weights, best, worst, jnp.zeros((), jnp.int32), jnp.asarray(plan.evaluations))


def step(plan: Plan, key: PRNGKey, state: AdaptiveState) -> tuple[AdaptiveState, Info]:
    """The score of the weights, one EM step on them, and a new support where one is due."""
    table = plan.start if state.table is None else state.table
    evidence = jnp.maximum(table.likelihood @ state.weights.T, jnp.finfo(table.likelihood.dtype).tiny)
    log_evidence = jnp.log(evidence) + table.top[:, None]
    objective = -log_evidence[:, 0].mean()
    if plan.extra > 0:
        objective -= plan.extra * jnp.log(state.weights[0]).sum()
    best, score = state.best, state.score
    if len(state.weights) > 1:
        now = -(plan.fitted[:, 1:] * log_evidence[:, :0:-1]).sum()
        best = jax.tree.map(lambda new, old: jnp.where(now < score, new, old), _estimate(table, state), best)
        score = jnp.minimum(now, score)
    weights = state.weights * ((plan.fitted / evidence).T @ table.likelihood) + plan.extra
    weights = weights / weights.sum(1, keepdims=True)
    n_steps, renders = state.n_steps + 1, state.unreported
    if state.table is not None:
        number = n_steps // plan.refine_every
        due = (n_steps % plan.refine_every == 0) & (number <= plan.n_refinements)
        table, weights, n_new = jax.lax.cond(
            due, partial(refined, plan, key), lambda *same: (*same, jnp.zeros_like(renders)), table, weights
        )
        renders = renders + n_new
    after = AdaptiveState(
        None if state.table is None else table, weights, best, score, n_steps, jnp.zeros_like(renders)
    )
    return after, Info(objective, renders)


def refined(plan: Plan, key: PRNGKey, table: Table, weights: Float[Array, "f k"]) -> tuple[Table, Array, Array]:
    """As many structures, drawn by the weights of all observations, and how many images it took.

    A structure that is drawn more than once fills its cell: the first stays, and the others are uniform in the cell,
    which they share.
    """
    (k, d), key_draw, key_place = table.theta.shape, *jr.split(key)
    parent, again = resampled(key_draw, weights[0])
    count = jax.ops.segment_sum(jnp.ones(k, weights.dtype), parent, k)[parent]
    lower, upper = plan.start.theta.min(0), plan.start.theta.max(0)
    shift = (upper - lower) * table.width[parent, None] * jr.uniform(key_place, (k, d), minval=-0.5, maxval=0.5)
    theta = jnp.clip(table.theta[parent] + jnp.where(again[:, None], shift, 0.0), lower, upper)
    known = log_likelihoods(plan.problem, theta, plan.order)
    weights = weights[:, parent] / weights[0, parent]  # of all observations: equal
    table = tabled(theta, table.width[parent] * count ** (-1 / d), known.values)
    return table, weights / weights.sum(1, keepdims=True), jnp.asarray(known.evaluations)


def resampled(key: PRNGKey, weights: Weights) -> tuple[Int[Array, " k"], Array]:
    """The indices of a systematic sample, ascending, and which of them repeat the one before."""
    k = len(weights)
    places = (jnp.arange(k) + jr.uniform(key)) / k
    index = jnp.minimum(jnp.searchsorted(jnp.cumsum(weights) / weights.sum(), places), k - 1)
    return index, jnp.concatenate([jnp.zeros(1, bool), index[1:] == index[:-1]])


def tabled(theta: Points, width: Float[Array, " k"], log_likelihood: Float[Array, "m k"]) -> Table:
    """The table of structures whose log-likelihoods are known."""
    top = log_likelihood.max(1)
    return Table(theta, width, jnp.exp(log_likelihood - top[:, None]), top)


def estimate(plan: Plan, state: AdaptiveState) -> WeightedPoints:
    """The best where observations are held out, else the last."""
    return (
        state.best if len(state.weights) > 1 else _estimate(plan.start if state.table is None else state.table, state)
    )


def _estimate(table: Table, state: AdaptiveState) -> WeightedPoints:
    return WeightedPoints(table.theta, state.weights[0])
