"""The two estimators of the table of [crucinio2022], as their public code runs them: EM and a flow."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import matmul_toeplitz
from scipy.stats import norm

from cryosip.datasets.gaussian_mixture import GaussianMixture
from cryosip.methods.likelihood import e_step
from cryosip.methods.problem import Observations, Points, PRNGKey

Grid = Float[np.ndarray, "..."]  # (b, ..., b), a value at each node
Axis = Float[np.ndarray, " b"]
Number = Float[Array, ""] | float

PENALTY = 0.01  # alpha, of the entropy relative to the reference measure
CENTRE, STD = 0.5, 0.25  # of the reference measure
STEPS = 49
PARTICLES = 10_000  # of the flow, and bins of EM
STEP_LENGTH = 0.01


def reference_std(dimension: int) -> float:
    """Of the reference measure that EM is drawn to and that both begin with: where d > 1 STD is taken as a variance."""
    return STD if dimension == 1 else float(np.sqrt(STD))


def nodes(n_bins: int, dimension: int) -> Axis:
    """What stands for the centres of b bins along an axis: from 1/b to 1 - 1/b, b^d as near to n_bins as may be."""
    root = n_bins ** (1 / dimension)
    around = int(np.ceil(root - 1e-9)), int(np.floor(root + 1e-9))  # the root of 10^3 is no whole number in float64
    b = min(around, key=lambda b: abs(b**dimension - n_bins))
    return np.linspace(1 / b, 1 - 1 / b, b)


def one_step_late_em(density: Grid, axis: Axis, noise_std: float) -> Grid:
    """pi at the nodes of a grid, from the density of the observations there, both up to a factor.

    pi <- pi K^T(mu / K pi) / (1 + alpha + alpha log(pi / pi_0)) [green1990], [crucinio2022], K the density of the noise
    between nodes, from pi_0 = N(CENTRE, reference_std^2 I): each step takes the penalty at the estimate before it.
    """
    kernel = norm.pdf(axis - axis[0], 0, noise_std)  # the first column of a Toeplitz matrix

    def blurred(values: Grid) -> Grid:
        for along in range(values.ndim):
            first = np.moveaxis(values, along, 0)
            product = matmul_toeplitz(kernel, first.reshape(len(axis), -1)).reshape(first.shape)
            values = np.moveaxis(product, 0, along)
        return values

    reference = product(norm.pdf(axis, CENTRE, reference_std(density.ndim)), density.ndim)
    pi = reference
    for _ in range(STEPS):
        late = 1 + PENALTY + PENALTY * np.log(np.where(pi > 0, pi / reference, 1))
        pi = np.maximum(pi * blurred(density / blurred(pi)) / late, 0)
    return pi


def product(values: Axis, dimension: int) -> Grid:
    """values_i values_j ..., an index for each dimension."""
    result = values
    for _ in range(dimension - 1):
        result = np.multiply.outer(result, values)
    return result


def exact_density(marginal: GaussianMixture, noise_std: float, axis: Axis, dimension: int) -> Grid:
    """Of y at the nodes; the code gives it to EM in the place of observations."""
    components = zip(marginal.weights, marginal.means, np.hypot(marginal.stds, noise_std), strict=True)
    return sum((w * product(norm.pdf(axis, m, s), dimension) for w, m, s in components), np.zeros(()))


def counted_density(observations: Float[np.ndarray, "m d"], axis: Axis) -> Grid:
    """The share of the observations in the cell around each node; what lies beyond all cells is left out."""
    half = (axis[1] - axis[0]) / 2
    edges = np.append(axis - half, axis[-1] + half)
    return np.histogramdd(observations, [edges] * observations.shape[1])[0] / len(observations)


def slice_sums(pi: Grid) -> Axis:
    """What the code takes as the first marginal: sums along one axis where all but two coordinates are at their lowest.

    Where d > 2 that is no marginal, but a slice at an edge of the box.
    """
    return pi if pi.ndim == 1 else pi.reshape(-1, *pi.shape[-2:])[0].sum(-1)


def noisy_flow(
    key: PRNGKey, observations: Observations, noise_std: float, n_particles: int, attraction: float
) -> Points:
    """Particles (n, d) of the flow of KL(rho_y^delta || rho_y) + alpha KL(rho_theta || pi_0) [crucinio2022].

    theta <- theta + h b / (1 + h |b|) + sqrt(2 alpha h) xi with
    b = -grad dKL/drho_theta - attraction alpha (theta - CENTRE) / STD^2, where n observations stand for all, drawn anew
    in each step (with replacement; the code draws without). `attraction` is 1 in the paper and -1 in the code.
    """
    key_init, key_steps = jr.split(key)
    d = observations.shape[1]
    theta = CENTRE + reference_std(d) * jr.normal(key_init, (n_particles, d))
    for key_step in jr.split(key_steps, STEPS):
        theta = _step(key_step, theta, observations, noise_std, attraction)
    return theta


@jax.jit
def _step(key: PRNGKey, theta: Points, observations: Observations, noise_std: Number, attraction: Number) -> Points:
    key_some, key_noise = jr.split(key)
    n, m = len(theta), len(observations)
    y = observations[jr.randint(key_some, (min(n, m),), 0, m)]
    found = e_step(y, theta, jnp.full((n, 1), -jnp.log(n)), noise_std)
    drift = n * (found.total[:, 0] - found.mass * theta) / noise_std**2
    drift -= attraction * PENALTY * (theta - CENTRE) / STD**2
    length = jnp.linalg.norm(drift, axis=1, keepdims=True)
    noise = jnp.sqrt(2 * PENALTY * STEP_LENGTH) * jr.normal(key_noise, theta.shape)
    return theta + STEP_LENGTH * drift / (1 + STEP_LENGTH * length) + noise
