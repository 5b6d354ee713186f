"""Gauss-Newton steps on structures that each explain a weighted mean of observations, halved until they gain."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods.problem import Points, Weights

Render = Callable[[Points], Float[Array, "e p"]]
LogPrior = Callable[[Points], Weights]
Owner = Int[Array, " e"]
Mass = Float[Array, " e"]
Total = Float[Array, "e p"]
Sigma = Float[Array, ""] | float

MAX_HALVINGS = 10
LEAST_GAIN = 0.1  # of the gain that the slope promises for a step


def ascent(
    images: Render, log_prior: LogPrior, theta: Points, mass: Mass, total: Total, sigma: Sigma
) -> tuple[Float[Array, "e p"], Points]:
    """The images of theta, and the gradient of the expected log-posterior of each theta_k.

    It is sum_e (total_e . x_e - mass_e |x_e|^2 / 2) / sigma^2 + log_prior(theta_k) over the rows e of `images` that
    theta_k owns.

    Parameters
    ----------
    images
        From all theta (k, d) to the images x (e, p).
    log_prior
        Of each theta_k, with the weight that it has in the objective.
    theta
        Structures (k, d).
    mass, total
        How many observations are seen as x_e (e,), and their sum (e, p).
    sigma
        The std of the noise, in units of y.

    Returns
    -------
    clean, gradient
        Of shapes (e, p) and (k, d).
    """
    clean, pull_back = jax.vjp(images, theta)
    misfit = (total - mass[:, None] * clean) / sigma**2
    return clean, pull_back(misfit)[0] + jax.grad(lambda t: log_prior(t).sum())(theta)


def gauss_newton(
    images: Render, owner: Owner, log_prior: LogPrior, theta: Points, mass: Mass, total: Total, sigma: Sigma
) -> tuple[Points, Int[Array, ""]]:
    """One step on each theta_k up its expected log-posterior, and how many images it rendered.

    A step is halved until it gains a tenth of what its slope promises, or not taken.

    Parameters
    ----------
    images
        From all theta (k, d) to the images x (e, p).
    owner
        Row e of `images` is one of theta_k, k = owner_e (e,).
    log_prior, theta, mass, total, sigma
        As in `ascent`.

    Returns
    -------
    theta, renders
        The structures after the step (k, d), and the count of images.
    """
    (k, d), n_images = theta.shape, len(owner)
    clean, slope = ascent(images, log_prior, theta, mass, total, sigma)
    _, push = jax.linearize(images, theta)
    slopes = [push(jnp.zeros_like(theta).at[:, i].set(1.0)) for i in range(d)]

    def owned(rows: Float[Array, " e"]) -> Weights:
        return jax.ops.segment_sum(rows, owner, k)

    products = [[owned(mass * (a * b).sum(1)) / sigma**2 for b in slopes] for a in slopes]
    curvature = jnp.stack([jnp.stack(row, axis=1) for row in products], axis=1)
    curvature -= jax.vmap(jax.hessian(lambda t: log_prior(t[None])[0]))(theta)
    ridge = 1e-6 * jnp.trace(curvature, axis1=1, axis2=2) / d + jnp.finfo(theta.dtype).tiny
    direction = jnp.linalg.solve(curvature + ridge[:, None, None] * jnp.eye(d), slope[..., None])[..., 0]
    # where images hardly change, the linear model reaches far, and only a gain in proportion shows that it holds
    promised = LEAST_GAIN * (slope * direction).sum(1)

    def gain(trial: Points) -> Weights:
        """Expected log-posterior at the trial minus that at theta, from differences: rounding stays small."""
        after = images(trial)
        pull = total - mass[:, None] * (after + clean) / 2
        fit = owned(((after - clean) * pull).sum(1)) / sigma**2
        return fit + log_prior(trial) - log_prior(theta)

    def halve(carry: tuple[Weights, Array, Array]) -> tuple[Weights, Array, Array]:
        scale, _, tries = carry
        worse = ~(gain(theta + scale[:, None] * direction) >= scale * promised)
        return jnp.where(worse, scale / 2, scale), worse, tries + 1

    def searching(carry: tuple[Weights, Array, Array]) -> Array:
        return carry[1].any() & (carry[2] < MAX_HALVINGS)

    scale, worse, tries = jax.lax.while_loop(searching, halve, (jnp.ones(k), jnp.ones(k, bool), jnp.asarray(0)))
    moved = jnp.where(worse[:, None], theta, theta + scale[:, None] * direction)
    return moved, n_images * (d + tries)
