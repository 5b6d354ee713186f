"""A support that is drawn where the distribution is: from posteriors of all images, then from the estimate itself."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Points, PRNGKey

Box = tuple[Float[Array, " d"], Float[Array, " d"]]


class Posteriors(NamedTuple):
    """Of image i the mixture over j of exp(log_height_ij - (z - theta_ij)^T precision_ij (z - theta_ij) / 2).

    `counts` (m,) is 0 for images that take no part, else 1.
    """

    theta: Float[Array, "m c d"]
    precision: Float[Array, "m c d d"]
    log_height: Float[Array, "m c"]
    counts: Float[Array, " m"]


def pooled_draws(key: PRNGKey, posteriors: Posteriors, n: int, box: Box) -> Points:
    """n draws of the mean over images of p(theta | y_i), for a Gaussian prior about as wide as the box.

    It is what one step of EM makes of that prior.

    Parameters
    ----------
    key
        Of the draws.
    posteriors
        Their precisions may be singular: the prior adds (2 / side)^2.
    n
        How many.
    box
        Its lower and upper corners (d,), at which what lies outside is folded back.
    """
    lower, upper = box
    precision = posteriors.precision + jnp.diag((2 / (upper - lower)) ** 2)
    half_log_volume = -0.5 * jnp.linalg.slogdet(precision)[1]
    key_image, key_candidate, key_step = jr.split(key, 3)
    image = jr.choice(key_image, len(posteriors.counts), (n,), p=posteriors.counts / posteriors.counts.sum())
    candidate = jr.categorical(key_candidate, (posteriors.log_height + half_log_volume)[image])
    root = jnp.linalg.cholesky(precision[image, candidate])
    step = jr.normal(key_step, (n, len(lower), 1), posteriors.theta.dtype)
    step = jax.scipy.linalg.solve_triangular(root, step, trans=1, lower=True)[..., 0]
    return folded(posteriors.theta[image, candidate] + step, box)


def redrawn(key: PRNGKey, law: WeightedPoints, box: Box) -> Points:
    """As many draws of a distribution on points, smoothed without making it wider: a smoothed bootstrap.

    A draw is mean + sqrt(1 - h^2) (theta_k - mean) + h N(0, covariance), with Silverman's h = n^{-1 / (d + 4)} for the
    effective number n = 1 / sum w^2 of points [silverman1986]. EM with such a smoothing now and then is a smoothed EM
    [silverman1990].
    """
    theta, weights = jnp.asarray(law.theta), jnp.asarray(law.weights)
    n, d = theta.shape
    mean = weights @ theta
    away = theta - mean
    covariance = jnp.einsum("k,kd,ke->de", weights, away, away, precision="highest")
    values, vectors = jnp.linalg.eigh(covariance)
    width = (weights**2).sum() ** (1 / (d + 4))
    key_point, key_step = jr.split(key)
    point = jr.choice(key_point, n, (n,), p=weights)
    noise = (jr.normal(key_step, theta.shape, theta.dtype) * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T
    return folded(mean + jnp.sqrt(1 - width**2) * away[point] + width * noise, box)


def folded(theta: Points, box: Box) -> Points:
    """Mirrored at the sides of a box until all lies within."""
    lower, upper = box
    side = upper - lower
    along = jnp.mod(theta - lower, 2 * side)
    return lower + jnp.minimum(along, 2 * side - along)
