"""The distribution behind all images where a problem offers each image's likelihood: best structures, then weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods.gauss_newton import newton, no_prior
from cryosip.methods.likelihood import by_blocks, initial_spread, of_all_pairs
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, PRNGKey, Problem, Weights

PAIRS = 2**18  # of structures and images whose likelihood is computed at a time


class BestState(NamedTuple):
    """The structure (m, d) that makes each image likeliest so far, its log-likelihood, and weights of the support."""

    theta: Points
    log_likelihood: Weights
    weights: Weights
    n_steps: Int[Array, ""]


def likelihood_npmle(problem: Problem, bank: Points, n_refinements: int) -> Method:
    """Best structures of a bank by `problem.log_likelihood`, Newton steps on each, then EM on their weights.

    L_i(z) = exp(log_likelihood(z, i)) is exact, pose and noise integrated out; EM maximises sum_i log sum_k w_k
    L_i(theta_k) [kiefer1956]. Where the problem has a `support`, theta_k are its structures, and no step moves them.

    Parameters
    ----------
    problem
        It offers `log_likelihood`.
    bank
        Structures (k, d) that the search tries, one in each step.
    n_refinements
        Newton steps, within `theta_box`, where it is offered.
    """
    given = problem.log_likelihood
    assert given is not None
    m, n_moves = len(problem.observations), 0 if problem.support is not None else n_refinements
    rows, dtype, spread = jnp.arange(m), problem.observations.dtype, initial_spread(problem)
    alone = jnp.ones(m, dtype)
    k = m if problem.support is None else len(problem.support)

    def support(state: BestState) -> Points:
        return state.theta if problem.support is None else jnp.asarray(problem.support, dtype)

    def search(state: BestState) -> tuple[BestState, Info]:
        theta = jnp.broadcast_to(bank[state.n_steps], state.theta.shape)
        value = given(theta, rows)
        better = value > state.log_likelihood
        theta = jnp.where(better[:, None], theta, state.theta)
        state = state._replace(theta=theta, log_likelihood=jnp.where(better, value, state.log_likelihood))
        return state, Info(-state.log_likelihood.mean(), jnp.asarray(m))

    def refine(state: BestState) -> tuple[BestState, Info]:
        trial, evaluations = newton(given, rows, rows, alone, no_prior, state.theta, spread)
        if problem.theta_box is not None:
            trial = jnp.clip(trial, *problem.theta_box)
        value = given(trial, rows)
        better = value > state.log_likelihood  # not so where either is no number
        theta = jnp.where(better[:, None], trial, state.theta)
        value = jnp.where(better, value, state.log_likelihood)
        return state._replace(theta=theta, log_likelihood=value), Info(-value.mean(), evaluations + m)

    def reweight(state: BestState) -> tuple[BestState, Info]:
        points = support(state)

        def shares(image: Int[Array, " b"]) -> tuple[Float[Array, "b k"], Weights]:
            joint = of_all_pairs(given, points, image).T + jnp.log(state.weights)
            evidence = jax.nn.logsumexp(joint, axis=1)
            return jnp.exp(joint - evidence[:, None]), evidence

        share, evidence = by_blocks(shares, max(1, PAIRS // k), rows)
        weights = share.mean(0)
        return state._replace(weights=weights / weights.sum()), Info(-evidence.mean(), jnp.asarray(m * k))

    phases = search, refine, reweight

    def step(_key: PRNGKey, state: BestState) -> tuple[BestState, Info]:
        ends = jnp.cumsum(jnp.asarray([len(bank), n_moves]))
        state, info = jax.lax.switch((state.n_steps >= ends).sum(), phases, state)
        return state._replace(n_steps=state.n_steps + 1), info

    def init(_key: PRNGKey) -> BestState:
        theta = jnp.broadcast_to(jnp.asarray(bank[0], dtype), (m, bank.shape[1]))
        nothing = jnp.full(m, jnp.finfo(dtype).min / 4, dtype)  # not -inf, which the runner takes for divergence
        return BestState(theta, nothing, jnp.full(k, 1 / k, dtype), jnp.zeros((), jnp.int32))

    return Method(init, step, lambda state: WeightedPoints(support(state), state.weights))
