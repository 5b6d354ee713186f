"""Volumes V_0 + sum_k z_k W_k: what an image tells of its z, and the distribution that explains them all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from cryosip.methods.problem import Coefficients, PRNGKey, Weights
from cryosip.methods.volumes import Maps, Shells, Views, project_all

Latents = Float[Array, "m q"]
IMAGES_AT_A_TIME = 1_000  # rows of the table of likelihoods
DRAW_KEY = 0  # of the model, which is drawn alike at every look
DISTRIBUTIONS = ("posterior-means", "model", "deconvolved")


class Likelihoods(NamedTuple):
    """log p(y_i | z) = slope_i z - z^T curvature_i z / 2 + height_i."""

    slope: Latents
    curvature: Float[Array, "m q q"]
    height: Float[Array, " m"]


class Posteriors(NamedTuple):
    """N(mean_i, covariance_i) of each image's z, and log p(y_i), all for a Gaussian prior."""

    mean: Latents
    covariance: Float[Array, "m q q"]
    evidence: Float[Array, " m"]


def likelihoods(seen: Views, noise: Shells, mean: Coefficients, maps: Maps) -> Likelihoods:
    """Of images in given poses, with white noise in each shell of variance sigma_s^2."""
    shell = jnp.minimum(seen.volumes.image_shells, seen.n_shells - 1)
    weight = seen.inside / noise[shell]
    residual = seen.y - project_all(seen, mean[None])[0]
    projected = project_all(seen, maps)
    slope = jnp.einsum("qmr,mr->mq", projected, weight * residual, precision="highest")
    curvature = jnp.einsum("qmr,r,pmr->mqp", projected, weight, projected, precision="highest")
    log_noise = (seen.inside * jnp.log(noise[shell])).sum()
    return Likelihoods(slope, curvature, -0.5 * ((weight * residual**2).sum(1) + log_noise))


def posteriors(told: Likelihoods, precision: Float[Array, "q q"]) -> Posteriors:
    """With the prior N(0, precision^-1) of z."""
    whole = told.curvature + precision
    factor = jnp.linalg.cholesky(whole)
    identity = jnp.broadcast_to(jnp.eye(len(precision), dtype=whole.dtype), whole.shape)
    covariance = jax.vmap(lambda f, b: jax.scipy.linalg.cho_solve((f, True), b))(factor, identity)
    mean = jnp.einsum("mqp,mp->mq", covariance, told.slope, precision="highest")
    log_determinant = jnp.linalg.slogdet(precision)[1] - 2 * jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)).sum(1)
    evidence = told.height + 0.5 * ((mean * told.slope).sum(1) + log_determinant)
    return Posteriors(mean, covariance, evidence)


def deconvolved(told: Likelihoods, support: Float[Array, "k q"], n_steps: int) -> Weights:
    """The weights of points z_k that maximise sum_i log sum_k w_k p(y_i | z_k), by EM: [kiefer1956]."""
    half = 0.5 * (support[:, :, None] * support[:, None]).reshape(len(support), -1)

    def of_image(slope: Float[Array, " q"], curvature: Float[Array, "q q"]) -> Weights:
        height = jnp.matmul(support, slope, precision="highest") - jnp.matmul(
            half, curvature.ravel(), precision="highest"
        )
        return height - height.max()

    blocks = (told.slope, told.curvature)
    table = jnp.exp(jax.lax.map(lambda one: of_image(*one), blocks, batch_size=IMAGES_AT_A_TIME))

    def step(_: Array, weights: Weights) -> Weights:
        mixed = jnp.maximum(table @ weights, jnp.finfo(weights.dtype).tiny)
        updated = weights * ((1 / mixed) @ table)
        return updated / updated.sum()

    k = len(support)
    return jax.lax.fori_loop(0, n_steps, step, jnp.full(k, 1 / k, support.dtype))


def coordinates(
    told: Likelihoods, covariance: Float[Array, "q q"], distribution: str, em_steps: int
) -> tuple[Latents, Weights]:
    """Points z (m, q) and weights that stand for one of DISTRIBUTIONS, the prior being N(0, covariance)."""
    m = len(told.slope)
    z, weights = posteriors(told, jnp.linalg.inv(covariance)).mean, jnp.full(m, 1 / m, covariance.dtype)
    if distribution == "model":
        z = drawn(jr.key(DRAW_KEY), m, covariance)
    elif distribution == "deconvolved":
        weights = deconvolved(told, z, em_steps)
    return z, weights


def drawn(key: PRNGKey, n: int, covariance: Float[Array, "q q"]) -> Latents:
    """z from N(0, covariance)."""
    return jr.multivariate_normal(key, jnp.zeros(len(covariance), covariance.dtype), covariance, (n,), method="eigh")
