"""Gauss-Newton and Newton steps on structures that each explain a share of the observations, halved until they gain."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods.likelihood import PAIRS, by_blocks
from cryosip.methods.problem import Points, Weights

Render = Callable[[Points], Float[Array, "e p"]]
LogPrior = Callable[[Points], Weights]
Owner = Int[Array, " e"]
Mass = Float[Array, " e"]
Total = Float[Array, "e p"]
PairLikelihood = Callable[[Points, Int[Array, " e"]], Float[Array, " e"]]
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

    def gain(trial: Points) -> Weights:
        """Expected log-posterior at the trial minus that at theta, from differences: rounding stays small."""
        after = images(trial)
        pull = total - mass[:, None] * (after + clean) / 2
        fit = owned(((after - clean) * pull).sum(1)) / sigma**2
        return fit + log_prior(trial) - log_prior(theta)

    moved, tries = halved_until_gained(gain, theta, direction, slope)
    return moved, n_images * (d + tries)


def newton(
    log_likelihood: PairLikelihood,
    image: Int[Array, " e"],
    owner: Owner,
    mass: Mass,
    log_prior: LogPrior,
    theta: Points,
    spread: Float[Array, " d"],
) -> tuple[Points, Int[Array, ""]]:
    """One step on each theta_k up sum_e mass_e log p(y_image_e | theta_k) + log_prior(theta_k), over the e it owns.

    Newton's direction with the absolute eigenvalues of the Hessian [dauphin2014], so that it goes up also where the
    function is not concave. A step is halved until it gains a tenth of what its slope promises, or not taken.

    Parameters
    ----------
    log_likelihood
        Of pairs, as `Problem` offers it.
    image, owner
        The pairs: observation image_e and structure theta_k, k = owner_e (e,).
    mass
        How much each pair counts (e,).
    log_prior
        Of each theta_k, with the weight that it has in the objective.
    theta
        Structures (k, d).
    spread
        A length in each coordinate (d,), of which the differences take the cube root of the precision.

    Returns
    -------
    theta, evaluations
        The structures after the step (k, d), and the count of pairs.
    """
    d = theta.shape[1]
    owned = partial(_owned, owner, mass, len(theta))
    pairs = log_likelihood, image, owner, mass, log_prior, theta

    def values(theta: Points) -> Float[Array, " e"]:
        return by_blocks(log_likelihood, PAIRS, theta[owner], image)

    slope, before = pair_slopes(*pairs), values(theta)
    eigenvalue, basis = jnp.linalg.eigh(pair_hessian(*pairs, spread))
    least = 1e-6 * jnp.abs(eigenvalue).mean(1, keepdims=True) + jnp.finfo(theta.dtype).tiny
    along = jnp.einsum("kij,ki->kj", basis, slope) / jnp.maximum(jnp.abs(eigenvalue), least)
    direction = jnp.einsum("kij,kj->ki", basis, along)

    def gain(trial: Points) -> Weights:
        return owned(values(trial) - before) + log_prior(trial) - log_prior(theta)

    moved, tries = halved_until_gained(gain, theta, direction, slope)
    return moved, len(owner) * (2 + 2 * d + tries)


def no_prior(theta: Points) -> Weights:
    """log rho_p of each structure, up to a constant, where nothing is known of it."""
    return jnp.zeros(len(theta), theta.dtype)


def pair_slopes(
    log_likelihood: PairLikelihood,
    image: Int[Array, " e"],
    owner: Owner,
    mass: Mass,
    log_prior: LogPrior,
    theta: Points,
) -> Points:
    """The gradient of what `newton` climbs, for each theta_k."""
    rows = by_blocks(jax.grad(lambda t, i: log_likelihood(t, i).sum()), PAIRS, theta[owner], image)
    return _owned(owner, mass, len(theta), rows) + jax.grad(lambda t: log_prior(t).sum())(theta)


def pair_hessian(
    log_likelihood: PairLikelihood,
    image: Int[Array, " e"],
    owner: Owner,
    mass: Mass,
    log_prior: LogPrior,
    theta: Points,
    spread: Float[Array, " d"],
) -> Float[Array, "k d d"]:
    """Its Hessian for each theta_k, from differences of gradients, which any likelihood has."""
    slopes = partial(pair_slopes, log_likelihood, image, owner, mass, log_prior)
    steps = jnp.diag(jnp.cbrt(jnp.finfo(theta.dtype).eps) * spread)
    differences = jax.lax.map(lambda step: (slopes(theta + step) - slopes(theta - step)) / (2 * step.sum()), steps)
    hessian = jnp.moveaxis(differences, 0, 2)
    return (hessian + hessian.mT) / 2


def _owned(owner: Owner, mass: Mass, k: int, rows: Float[Array, "e ..."]) -> Float[Array, "k ..."]:
    """Sums over what each structure owns; of pairs that do not count, no number matters, be it infinite."""
    weight = mass.reshape(-1, *(1,) * (rows.ndim - 1))
    return jax.ops.segment_sum(jnp.where(weight > 0, weight * rows, 0.0), owner, k)


def halved_until_gained(
    gain: Callable[[Points], Weights], theta: Points, direction: Points, slope: Points
) -> tuple[Points, Int[Array, ""]]:
    """theta_k after its step, halved until it gains a tenth of what the slope promises, or not taken; and the tries."""
    k = len(theta)
    # where images hardly change, the linear model reaches far, and only a gain in proportion shows that it holds
    promised = LEAST_GAIN * (slope * direction).sum(1)

    def halve(carry: tuple[Weights, Array, Array]) -> tuple[Weights, Array, Array]:
        scale, _, tries = carry
        worse = ~(gain(theta + scale[:, None] * direction) >= scale * promised)
        return jnp.where(worse, scale / 2, scale), worse, tries + 1

    def searching(carry: tuple[Weights, Array, Array]) -> Array:
        return carry[1].any() & (carry[2] < MAX_HALVINGS)

    scale, worse, tries = jax.lax.while_loop(searching, halve, (jnp.ones(k), jnp.ones(k, bool), jnp.asarray(0)))
    return jnp.where(worse[:, None], theta, theta + scale[:, None] * direction), tries
