"""Per-image maximum likelihood: the baseline that looks at each image alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods import checks
from cryosip.methods.gauss_newton import gauss_newton
from cryosip.methods.likelihood import candidates, render_all, squared_residuals
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Points, PRNGKey, Problem, Weights, checked, in_span


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
    never lowers the likelihood.

    Parameters
    ----------
    problem
        The problem.
    support
        Structures (k, d) to start from; by default a uniform grid in the problem's `theta_box`.
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
        A count is below 1, the support is not (k, d) and finite, or none is given and the problem has no `theta_box`.
    """
    problem = in_span(checked(problem))
    pose, pose_weights = problem.pose_quadrature(checks.positive_int("quadrature_order", quadrature_order))
    start = candidates(problem, support, n_support)
    y, m, n_poses = problem.observations, len(problem.observations), len(pose_weights)
    log_pose_weights, variance = jnp.log(pose_weights), problem.noise_std**2

    def images(theta: Points) -> Float[Array, "mq p"]:
        return render_all(problem, theta, pose, n_poses)

    owner = jnp.repeat(jnp.arange(m), n_poses)

    def no_prior(theta: Points) -> Weights:
        return jnp.zeros(len(theta), theta.dtype)

    logits = -0.5 * squared_residuals(y, images(start)) / variance
    likeliest = jax.nn.logsumexp(logits.reshape(m, len(start), n_poses) + log_pose_weights, axis=2).argmax(1)

    def init(_key: PRNGKey) -> MaximumLikelihoodState:
        return MaximumLikelihoodState(start[likeliest], jnp.asarray(len(start) * n_poses))

    def step(_key: PRNGKey, state: MaximumLikelihoodState) -> tuple[MaximumLikelihoodState, Info]:
        clean = images(state.theta).reshape(m, n_poses, -1)
        logits = log_pose_weights - 0.5 * ((y[:, None] - clean) ** 2).sum(2) / variance
        share = jax.nn.softmax(logits, axis=1)
        seen = (share[..., None] * y[:, None]).reshape(m * n_poses, -1)
        theta, renders = gauss_newton(images, owner, no_prior, state.theta, share.ravel(), seen, problem.noise_std)
        info = Info(-jax.nn.logsumexp(logits, axis=1).mean(), state.unreported_renders + m * n_poses + renders)
        return MaximumLikelihoodState(theta, jnp.zeros_like(state.unreported_renders)), info

    def estimate(state: MaximumLikelihoodState) -> WeightedPoints:
        return WeightedPoints(state.theta, jnp.full(m, 1 / m))

    return Method(init, step, estimate)
