"""The distribution behind all images where a problem offers each image's likelihood: best structures, then weights."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods.likelihood import by_blocks
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, PRNGKey, Problem, Weights

PAIRS = 2**18  # of structures and images whose likelihood is computed at a time
FIRST_DAMPING, MIN_DAMPING, MAX_DAMPING = 1e-2, 1e-6, 1e6
DAMPING_DECREASE, DAMPING_INCREASE = 0.3, 4.0

PairLikelihood = Callable[[Points, Int[Array, " n"]], Weights]


class BestState(NamedTuple):
    """The structure (m, d) that makes each image likeliest so far, its log-likelihood, and weights of the support."""

    theta: Points
    log_likelihood: Weights
    damping: Weights
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
        Newton steps, damped as Levenberg and Marquardt do and within `theta_box`, where it is offered.
    """
    given = problem.log_likelihood
    assert given is not None
    m, n_moves = len(problem.observations), 0 if problem.support is not None else n_refinements
    rows, dtype = jnp.arange(m), problem.observations.dtype
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
        theta, value, damping = newton(problem, given, state.theta, state.damping, rows)
        state = state._replace(theta=theta, log_likelihood=value, damping=damping)
        return state, Info(-value.mean(), jnp.asarray(m * (2 + theta.shape[1])))

    def reweight(state: BestState) -> tuple[BestState, Info]:
        points = support(state)

        def shares(image: Int[Array, " b"]) -> tuple[Float[Array, "b k"], Weights]:
            joint = pairs(given, points, image) + jnp.log(state.weights)
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
        damping, equal = jnp.full(m, FIRST_DAMPING, dtype), jnp.full(k, 1 / k, dtype)
        return BestState(theta, nothing, damping, equal, jnp.zeros((), jnp.int32))

    return Method(init, step, lambda state: WeightedPoints(support(state), state.weights))


def pairs(given: PairLikelihood, theta: Points, image: Int[Array, " b"]) -> Float[Array, "b k"]:
    """log L_i of each structure for each of the images."""
    k = len(theta)
    return given(jnp.tile(theta, (len(image), 1)), jnp.repeat(image, k)).reshape(len(image), k)


def newton(
    problem: Problem, given: PairLikelihood, theta: Points, damping: Weights, rows: Int[Array, " m"]
) -> tuple[Points, Weights, Weights]:
    """(C + damping diag(C)) step = gradient, taken where it raises the log-likelihood; C = |Hessian|, its eigenvalues
    made positive. Returns structures, their log-likelihood and the damping that follows.
    """
    d = theta.shape[1]

    def of_one(z: Float[Array, " d"], row: Int[Array, ""]) -> Float[Array, ""]:
        return given(z[None], row[None])[0]

    gradient, hessian = (jax.vmap(f(of_one))(theta, rows) for f in (jax.grad, jax.hessian))
    values, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(hessian), hessian, 0.0))
    curvature = jnp.einsum("bde,be,bfe->bdf", vectors, jnp.abs(values), vectors)
    scale = jnp.diagonal(curvature, axis1=1, axis2=2) + jnp.finfo(theta.dtype).tiny ** (1 / 4)
    damped = curvature + (damping[:, None] * scale)[:, :, None] * jnp.eye(d, dtype=theta.dtype)
    trial = theta + jnp.linalg.solve(damped, gradient[..., None])[..., 0]
    if problem.theta_box is not None:
        trial = jnp.clip(trial, *problem.theta_box)
    before, after = given(theta, rows), given(trial, rows)
    better = after > before  # not so where either is no number
    lowered, raised = (
        jnp.maximum(damping * DAMPING_DECREASE, MIN_DAMPING),
        jnp.minimum(damping * DAMPING_INCREASE, MAX_DAMPING),
    )
    return (
        jnp.where(better[:, None], trial, theta),
        jnp.where(better, after, before),
        jnp.where(better, lowered, raised),
    )
