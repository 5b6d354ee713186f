"""Per-image maximum likelihood: the baseline that looks at each image alone."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods import checks
from cryosip.methods.gauss_newton import gauss_newton, newton, no_prior
from cryosip.methods.likelihood import PAIRS, by_blocks, candidates, initial_spread, log_likelihoods, render_all
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Observations, Points, PRNGKey, Problem, Weights, checked, in_span
from cryosip.methods.stored import in_memory

IMAGES = 2**14  # that are rendered at a time; their slopes take as much again for each coordinate
Climb = Callable[[Points], tuple[Points, Weights, Int[Array, ""]]]  # theta after a step, its likelihood before, renders


class MaximumLikelihoodState(NamedTuple):
    theta: Points
    unreported_renders: Int[Array, ""]


def maximum_likelihood(
    problem: Problem, support: Points | None = None, n_support: int = 1_000, quadrature_order: int = 1
) -> Method:
    """The most likely structure of each image by itself, equally weighted.

    theta_i = argmax integral exp(-|y_i - H^omega theta|^2 / (2 sigma^2)) drho_omega, the inner integral of (3.5) for
    one image [sanchez2025]. No image learns from the others, so the distribution that is found is the true one blurred
    by the error of each theta_i; where images tell much about theta it bounds what a method can know of each. It starts
    from the most likely point of the support; each step is an expectation over the pose and a Gauss-Newton step, which
    never lowers the likelihood. Where the problem gives the likelihood of each pair, a step is one of Newton on it.

    Parameters
    ----------
    problem
        The problem.
    support
        Structures (k, d) to start from; by default the problem's `support`, else a uniform grid in its `theta_box`.
    n_support
        Points of that grid, about; 1000 by default.
    quadrature_order
        Of the pose quadrature; 1 by default, the coarsest that methods use.

    Returns
    -------
    Method
        Its estimate is theta (m, d), one for each of the m images, with equal weights.

    Raises
    ------
    ValueError
        A count is below 1, the support is not (k, d) and finite, or none is given and the problem has no `theta_box`;
        or observations on disk whose coordinates do not fit into memory.
    """
    problem = in_span(checked(problem))
    in_memory(problem.observations, "maximum-likelihood")
    order = checks.positive_int("quadrature_order", quadrature_order)
    start = candidates(problem, support, n_support)
    known = log_likelihoods(problem, start, order)
    likeliest, m = known.values.argmax(1), len(problem.observations)

    def init(_key: PRNGKey) -> MaximumLikelihoodState:
        return MaximumLikelihoodState(start[likeliest], jnp.asarray(known.evaluations))

    climb = climb_by_pose(problem, order) if problem.log_likelihood is None else climb_by_pairs(problem)

    def step(_key: PRNGKey, state: MaximumLikelihoodState) -> tuple[MaximumLikelihoodState, Info]:
        theta, log_likelihood, evaluations = climb(state.theta)
        info = Info(-log_likelihood.mean(), state.unreported_renders + evaluations)
        return MaximumLikelihoodState(theta, jnp.zeros_like(state.unreported_renders)), info

    def estimate(state: MaximumLikelihoodState) -> WeightedPoints:
        return WeightedPoints(state.theta, jnp.full(m, 1 / m))

    return Method(init, step, estimate)


def climb_by_pose(problem: Problem, order: int) -> Climb:
    """An expectation over the pose of each image, and a Gauss-Newton step on its structure."""
    pose, pose_weights = problem.pose_quadrature(order)
    n_poses, log_pose_weights = len(pose_weights), jnp.log(pose_weights)

    def climb_some(theta: Points, y: Observations) -> tuple[Points, Weights, Int[Array, " b"]]:
        b = len(y)

        def images(theta: Points) -> Float[Array, "bq p"]:
            return render_all(problem, theta, pose, n_poses)

        clean = images(theta).reshape(b, n_poses, -1)
        logits = log_pose_weights - 0.5 * ((y[:, None] - clean) ** 2).sum(2) / problem.noise_std**2
        share = jax.nn.softmax(logits, axis=1)
        seen = (share[..., None] * y[:, None]).reshape(b * n_poses, -1)
        owner = jnp.repeat(jnp.arange(b), n_poses)
        moved, renders = gauss_newton(images, owner, no_prior, theta, share.ravel(), seen, problem.noise_std)
        return moved, jax.nn.logsumexp(logits, axis=1), jnp.full(b, n_poses + renders // b)

    m, block = len(problem.observations), max(1, IMAGES // n_poses)

    def climb(theta: Points) -> tuple[Points, Weights, Int[Array, ""]]:
        parts = theta, problem.observations
        moved, log_likelihood, renders = climb_some(*parts) if m <= block else by_blocks(climb_some, block, *parts)
        return moved, log_likelihood, renders.sum()

    return climb


def climb_by_pairs(problem: Problem) -> Climb:
    """A Newton step on each structure up the likelihood that is given of its image."""
    log_likelihood, spread = problem.log_likelihood, initial_spread(problem)
    if log_likelihood is None:
        raise ValueError(f"problem {problem.name!r} has no log_likelihood; wanted one")
    m = len(problem.observations)
    image, alone = jnp.arange(m), jnp.ones(m, problem.observations.dtype)

    def climb(theta: Points) -> tuple[Points, Weights, Int[Array, ""]]:
        before = by_blocks(log_likelihood, PAIRS, theta, image)
        moved, evaluations = newton(log_likelihood, image, image, alone, no_prior, theta, spread)
        return moved, before, m + evaluations

    return climb
