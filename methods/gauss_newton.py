"""Gauss-Newton steps on structures that each explain a weighted mean of observations, halved until they gain."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods.problem import Points, Weights

Render = Callable[[Points], Float[Array, "kq p"]]
LogPrior = Callable[[Points], Weights]
Mass = Float[Array, "k q"]
Total = Float[Array, "k q p"]
Sigma = Float[Array, ""] | float

MAX_HALVINGS = 10
LEAST_GAIN = 0.1  # of the gain that the slope promises for a step


def ascent(
    images: Render, log_prior: LogPrior, theta: Points, mass: Mass, total: Total, sigma: Sigma
) -> tuple[Float[Array, "kq p"], Points]:
    """The images of theta, and the gradient of the expected log-posterior of each theta_k.

    It is sum_q (total_kq . x_kq - mass_kq |x_kq|^2 / 2) / sigma^2 + log_prior(theta_k), where row (k, q) of `images` is
    x_kq, and total_kq is the sum of the observations that are seen as x_kq, mass_kq of them.
    """
    clean, pull_back = jax.vjp(images, theta)
    misfit = (total - mass[..., None] * clean.reshape(total.shape)) / sigma**2
    return clean, pull_back(misfit.reshape(clean.shape))[0] + jax.grad(lambda t: log_prior(t).sum())(theta)


def gauss_newton(
    images: Render, log_prior: LogPrior, theta: Points, mass: Mass, total: Total, sigma: Sigma
) -> tuple[Points, Int[Array, ""]]:
    """One step on each theta_k up its expected log-posterior, and how many images it rendered.

    A step is halved until it gains a tenth of what its slope promises, or not taken.
    """
    d, (k, n_poses) = theta.shape[1], mass.shape
    clean, slope = ascent(images, log_prior, theta, mass, total, sigma)
    jacobian = jax.vmap(jax.jacfwd(lambda t: images(t[None])))(theta)
    curvature = jnp.einsum("kqpd,kqpe,kq->kde", jacobian, jacobian, mass / sigma**2)
    curvature -= jax.vmap(jax.hessian(lambda t: log_prior(t[None])[0]))(theta)
    ridge = 1e-6 * jnp.trace(curvature, axis1=1, axis2=2) / d + jnp.finfo(theta.dtype).tiny
    direction = jnp.linalg.solve(curvature + ridge[:, None, None] * jnp.eye(d), slope[..., None])[..., 0]
    # where images hardly change, the linear model reaches far, and only a gain in proportion tells that it holds
    promised = LEAST_GAIN * (slope * direction).sum(1)

    def gain(trial: Points) -> Weights:
        """Expected log-posterior at the trial minus that at theta, from differences: rounding stays small."""
        after, before = (x.reshape(total.shape) for x in (images(trial), clean))
        pull = total - mass[..., None] * (after + before) / 2
        fit = jnp.einsum("kqp,kqp->k", after - before, pull) / sigma**2
        return fit + log_prior(trial) - log_prior(theta)

    def halve(carry: tuple[Weights, Array, Array]) -> tuple[Weights, Array, Array]:
        scale, _, tries = carry
        worse = ~(gain(theta + scale[:, None] * direction) >= scale * promised)
        return jnp.where(worse, scale / 2, scale), worse, tries + 1

    def searching(carry: tuple[Weights, Array, Array]) -> Array:
        return carry[1].any() & (carry[2] < MAX_HALVINGS)

    scale, worse, tries = jax.lax.while_loop(searching, halve, (jnp.ones(k), jnp.ones(k, bool), jnp.asarray(0)))
    moved = jnp.where(worse[:, None], theta, theta + scale[:, None] * direction)
    return moved, k * n_poses * (d + tries)
