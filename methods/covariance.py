"""The covariance of volumes by least squares, and the distribution along its principal components."""

from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from cryosip.methods import checks
from cryosip.methods.kernel_regression import at_representatives
from cryosip.methods.latent_density import density
from cryosip.methods.latents import DISTRIBUTIONS, Likelihoods, coordinates, likelihoods, posteriors
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import Coefficients, PRNGKey, Problem
from cryosip.methods.volumes import (
    Maps,
    Shells,
    Views,
    filtered_consensus,
    flat_prior,
    in_halves,
    least_squares,
    power,
    project_all,
    shrunk,
    views,
    white,
)

VOLUMES = "linear", "kernel-regression"
N_ITERATIONS = 8  # of conjugate gradients, for each column
SPARE = 6  # columns beyond those that are kept: leading ones are then found in few steps
LEAST_VARIANCE = 1e-4  # of the largest


class CovarianceState(NamedTuple):
    """The mean; directions U, the first ones principal; and the covariance of coordinates in these."""

    mean: Coefficients
    directions: Maps
    covariance: Float[Array, "q q"]


def covariance(
    problem: Problem,
    n_components: int = 4,
    distribution: str = "posterior-means",
    em_steps: int = 30,
    volumes: str = "linear",
) -> Method:
    """The leading principal components of the covariance of volumes, by least squares, and each image's coordinates.

    Sigma minimises sum_i |r_i r_i^T - P_i Sigma P_i^T - sigma^2 I|^2, r_i = y_i - P_i mu [gilles2025]. Each step solves
    for its columns Sigma U in a few directions U by conjugate gradients, from two halves of the images; each column is
    multiplied in each shell by 2 F / (1 + F), F the correlation of the halves; the next directions are orthonormal to
    each other and span the columns. The variances in these directions solve the same equations there. Coordinates of
    an image are Gaussian a posteriori, with these variances as the prior.

    As in RECOVAR: mean and covariance from moments, without the noise, shrunk by halves; projected covariance;
    regularised coordinates; with "density" their density on a grid, its penalty at a knee; with "kernel-regression"
    volumes of the images near a point, how near by cross-validation of halves. Not: columns are of directions, in
    turn, and not of low frequencies; no mask but the ball, no contrast; the density is of two components, not four;
    the width of a kernel is chosen for each shell of the whole volume, and not for each of its places.

    Parameters
    ----------
    problem
        The problem; its theta are volumes, and it gives poses.
    n_components
        4 by default.
    distribution
        "posterior-means", the default: the volume of each image; "model": as many draws of the Gaussian that was found;
        "deconvolved": the volumes of all images with the weights that maximise sum_i log sum_k w_k p(y_i | z_k);
        "density": a grid in the first two components with the density that, blurred by the errors of images, is theirs.
    em_steps
        Of EM on the weights of "deconvolved"; 30 by default.
    volumes
        "linear", the default: mu + sum_k z_k U_k; "kernel-regression": at 20 points that stand for the distribution,
        each the volume of the images near it. Each image's own volume is linear in both.

    Returns
    -------
    Method
        Its estimate is theta (n, v) with weights (n,): n = m but for a grid and kernel regressions.

    Raises
    ------
    ValueError
        A count is below 1, the distribution or the volumes are unknown, or the problem has no volumes or no poses.
    """
    kept = checks.positive_int("n_components", n_components)
    em_steps = checks.positive_int("em_steps", em_steps)
    checks.one_of("distribution", distribution, (*DISTRIBUTIONS, "density"))
    checks.one_of("volumes", volumes, VOLUMES)
    seen = views(problem, "covariance")
    q, (m, _), dtype = kept + SPARE, seen.y.shape, seen.y.dtype
    noise = white(seen)

    def init(key: PRNGKey) -> CovarianceState:
        mean = filtered_consensus(seen)
        amplitude = jnp.sqrt(power(seen, mean[None])[0])[seen.volumes.shells]
        directions = jr.normal(key, (q, len(mean)), dtype) * amplitude
        return CovarianceState(mean, orthonormal(seen.volumes.in_ball(directions)), jnp.eye(q, dtype=dtype))

    def step(_key: PRNGKey, state: CovarianceState) -> tuple[CovarianceState, Info]:
        told = likelihoods(seen, noise, state.mean, state.directions)
        columns, residual = covariance_columns(seen, noise, state, told)
        directions = orthonormal(columns)
        again = likelihoods(seen, noise, state.mean, directions)
        variances, vectors = jnp.linalg.eigh(projected_covariance(again))
        variances = jnp.maximum(variances[::-1], LEAST_VARIANCE * variances[-1])
        state = CovarianceState(state.mean, vectors.T[::-1] @ directions, jnp.diag(variances))
        return state, Info(residual, jnp.asarray(m * q * (4 * N_ITERATIONS + 14)))

    def leading(state: CovarianceState) -> tuple[Likelihoods, Float[Array, "k k"]]:
        return likelihoods(seen, noise, state.mean, state.directions[:kept]), state.covariance[:kept, :kept]

    def linear(state: CovarianceState, z: Float[Array, "n k"]) -> Float[Array, "n v"]:
        return state.mean + jnp.matmul(z, state.directions[:kept], precision="highest")

    def per_image(state: CovarianceState) -> Float[Array, "m v"]:
        told, variances = leading(state)
        return linear(state, posteriors(told, jnp.linalg.inv(variances)).mean)

    def estimate(state: CovarianceState) -> WeightedPoints:
        told, variances = leading(state)
        if distribution == "density":
            z, weights = density(told, variances)
        else:
            z, weights = coordinates(told, variances, distribution, em_steps)
        if volumes == "linear":
            return WeightedPoints(linear(state, z), weights)
        return at_representatives(seen, posteriors(told, jnp.linalg.inv(variances)), z, weights)

    return Method(init, step, estimate, per_image)


def orthonormal(maps: Maps) -> Maps:
    """Rows that span the same."""
    return jnp.linalg.qr(maps.T)[0].T


def covariance_columns(
    seen: Views, noise: Shells, state: CovarianceState, told: Likelihoods
) -> tuple[Maps, Float[Array, ""]]:
    """Sigma U, shrunk, and what is left of its normal equations.

    With N_i = P_i^T P_i / sigma^2, s_i = U^T P_i^T r_i / sigma^2 and r_i = y_i - P_i mu:
    sum_i N_i (Sigma U) (U^T N_i U) = sum_i P_i^T (r_i s_i^T - P_i U) / sigma^2.
    """
    residual = seen.y - project_all(seen, state.mean[None])[0]
    targets = told.slope.T[:, :, None] * residual - project_all(seen, state.directions)
    prior = jnp.broadcast_to(flat_prior(seen) ** 2, (len(state.directions), seen.n_shells))
    start = state.covariance @ state.directions

    def of_half(share: Float[Array, " m"]) -> tuple[Maps, Float[Array, ""]]:
        products = share[:, None, None] * told.curvature
        fit = least_squares(seen, share[:, None] * targets, products, noise, prior, start, N_ITERATIONS)
        return seen.volumes.in_ball(fit.maps), fit.residual

    (one, left), (other, _) = (of_half(share) for share in in_halves(seen).T)
    return shrunk(seen, one, other), left


def projected_covariance(told: Likelihoods) -> Float[Array, "q q"]:
    """S with sum_i C_i S C_i = sum_i (s_i s_i^T - C_i), C_i = U^T N_i U, s_i as in `covariance_columns`."""
    c, s = told.curvature, told.slope
    q = s.shape[1]
    whole = jnp.einsum("mab,mcd->acbd", c, c, precision="highest").reshape(q * q, q * q)
    right = jnp.matmul(s.T, s, precision="highest") - c.sum(0)
    found = jnp.linalg.solve(whole, right.ravel()).reshape(q, q)
    return 0.5 * (found + found.T)
