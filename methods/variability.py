"""3D variability analysis: volumes along a few directions, by EM for probabilistic principal components."""

from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from cryosip.methods import checks
from cryosip.methods.latents import DISTRIBUTIONS, Posteriors, coordinates, likelihoods, posteriors
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Coefficients, PRNGKey, Problem
from cryosip.methods.volumes import Maps, Shells, Views, filtered_consensus, least_squares, power, views, white

N_ITERATIONS = 5  # of conjugate gradients in each step, from the volumes before
PRIOR_WIDTH = 4.0  # of the variance of W over what it was: a prior as wide as that shrinks it further in each step
FIRST_SHARE = 0.1  # of the mean's amplitude, that random components begin with


class VariabilityState(NamedTuple):
    """V_0, W, and the variance of the coefficients of V_0 in each shell that it is held to."""

    mean: Coefficients
    maps: Maps
    prior: Shells


def variability(
    problem: Problem, n_components: int = 4, distribution: str = "posterior-means", em_steps: int = 30
) -> Method:
    """Volumes V_0 + sum_k z_k W_k with z ~ N(0, I), by EM, as 3D variability analysis with poses given.

    y_i = P_i (V_0 + sum_k z_ik W_k) + noise. E: z_i has the precision A_i = I + (P_i W)^T (P_i W) / sigma^2 and the
    mean A_i^-1 (P_i W)^T (y_i - P_i V_0) / sigma^2. M: V_0 and all W_k together, by least squares with these moments
    [punjani2021]. Their coefficients have prior variances in each shell: of V_0 that of the consensus, of W_k four
    times the mean square over all W before the step, as in `class3d`.

    As in the original: the model and EM. Not: the prior stands for its filter, there is no mask beside the ball,
    images have no scale of their own, and sigma is the problem's.

    Parameters
    ----------
    problem
        The problem; its theta are volumes, and it gives poses.
    n_components
        q; 4 by default.
    distribution
        What stands for the distribution: "posterior-means", the default, the volume of each image, as users plot it:
        it is narrower than the truth where images tell little; "model", as many draws of N(0, I); "deconvolved", the
        volumes of all images with the weights that maximise sum_i log sum_k w_k p(y_i | z_k).
    em_steps
        Of EM on these weights; 30 by default.

    Returns
    -------
    Method
        Its estimate is theta (m, v) with weights (m,).

    Raises
    ------
    ValueError
        A count is below 1, the distribution is unknown, or the problem has no volumes or no poses.
    """
    q = checks.positive_int("n_components", n_components)
    em_steps = checks.positive_int("em_steps", em_steps)
    checks.one_of("distribution", distribution, DISTRIBUTIONS)
    seen = views(problem, "variability")
    m, dtype = len(seen.y), seen.y.dtype
    noise = white(seen)
    identity = jnp.eye(q, dtype=dtype)

    def init(key: PRNGKey) -> VariabilityState:
        mean = filtered_consensus(seen)
        prior = power(seen, mean[None])[0]
        maps = FIRST_SHARE * jnp.sqrt(prior)[seen.volumes.shells] * jr.normal(key, (q, len(mean)), dtype)
        return VariabilityState(mean, maps, prior)

    def step(_key: PRNGKey, state: VariabilityState) -> tuple[VariabilityState, Info]:
        found = posteriors(likelihoods(seen, noise, state.mean, state.maps), identity)
        maps, penalty = maximised(seen, noise, found, state)
        objective = (penalty - found.evidence.sum()) / m
        renders = m * (1 + q) * (2 * N_ITERATIONS + 6)
        return VariabilityState(maps[0], maps[1:], state.prior), Info(objective, jnp.asarray(renders))

    def estimate(state: VariabilityState) -> WeightedPoints:
        told = likelihoods(seen, noise, state.mean, state.maps)
        z, weights = coordinates(told, identity, distribution, em_steps)
        return WeightedPoints(of_latents(seen, state, z), weights)

    def per_image(state: VariabilityState) -> Float[Array, "m v"]:
        return of_latents(seen, state, posteriors(likelihoods(seen, noise, state.mean, state.maps), identity).mean)

    return Method(init, step, estimate, per_image)


def of_latents(seen: Views, state: VariabilityState, z: Float[Array, "n q"]) -> Float[Array, "n v"]:
    """V_0 + sum_k z_k W_k."""
    mean, maps = seen.volumes.in_ball(state.mean[None]), seen.volumes.in_ball(state.maps)
    return mean + jnp.matmul(z, maps, precision="highest")


def priors(seen: Views, state: VariabilityState) -> Float[Array, "q s"]:
    """The variance in each shell that the coefficients of V_0 and of each W_k are held to."""
    of_maps = PRIOR_WIDTH * power(seen, seen.volumes.in_ball(state.maps)).mean(0)
    return jnp.stack([state.prior] + [of_maps] * len(state.maps))


def maximised(seen: Views, noise: Shells, found: Posteriors, state: VariabilityState) -> tuple[Maps, Float[Array, ""]]:
    """V_0 and W after the M step, and what the prior takes off the likelihood before it."""
    m, _ = found.mean.shape
    one = jnp.concatenate([jnp.ones((m, 1), found.mean.dtype), found.mean], axis=1)
    product = one[:, :, None] * one[:, None]
    product = product.at[:, 1:, 1:].add(found.covariance)
    before = jnp.concatenate([state.mean[None], state.maps])
    prior = priors(seen, state)
    penalty = 0.5 * (before**2 / prior[:, seen.volumes.shells]).sum()
    targets = one.T[:, :, None] * seen.y
    return least_squares(seen, targets, product, noise, prior, before, N_ITERATIONS).maps, penalty
