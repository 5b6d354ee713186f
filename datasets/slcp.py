"""SLCP, simple likelihood and complex posterior: four points of a Gaussian whose mean and covariance are theta."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets.instance import Cloud, Instance
from cryosip.datasets.simulators import Simulator, normal_nodes, observed, uniform
from cryosip.methods import checks
from cryosip.methods.problem import Images, Points, PRNGKey, Weights

DRAWS = 4  # points of the plane in an observation
JITTER = 1e-3  # on the diagonal of the covariance

Factor = tuple[Weights, Weights, Weights]


def slcp(
    n_observations: int = 10_000,
    source_half_width: float = 3.0,
    half_width: float = 5.0,
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """Simple likelihood, complex posterior: four points of a Gaussian in the plane whose mean and covariance are theta.

    y = (m + L z_1, ..., m + L z_4) with z_i ~ N(0, I_2), m = (theta_1, theta_2) and L L^T = S,

    S = [[s_1^2, rho s_1 s_2], [rho s_1 s_2, s_2^2]] + 10^-3 I, s_1 = theta_3^2, s_2 = theta_4^2, rho = tanh theta_5

    [papamakarios2019], with the diagonal's 10^-3 and the truth, uniform on [-3, 3]^5, of [vetter2024]; a method looks
    for it in [-5, 5]^5, as there. z is the pose, and there is no other noise; log p(y | theta) is that of four
    Gaussian points. The signs of theta_3 and theta_4 change no image: metrics compare (theta_1, theta_2, |theta_3|,
    |theta_4|, theta_5).

    Parameters
    ----------
    n_observations
        10^4 by default, as in [vetter2024].
    source_half_width
        theta* is uniform on [-source_half_width, source_half_width]^5; 3 by default.
    half_width
        Of the cube in which theta is looked for: the initial distribution and rho_p; 5 by default.
    outliers, outlier_kind
        A share of the observations that is contaminated, 0 by default, and how, as `contaminated` says; "wide", the
        default, has ten times the noise, and is the one kind here.
    seed
        Of theta* and poses; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, 8), one point after the other; theta (n, 5).

    Raises
    ------
    ValueError
        A count is below 1, a width is not positive, or the source is wider than the cube.
    """
    source = checks.positive("source_half_width", source_half_width)
    if source > checks.positive("half_width", half_width):
        raise ValueError(f"source_half_width is {source:g}; wanted at most half_width, {half_width:g}")
    simulator = Simulator(
        "slcp", _image, _sample_pose, _pose_quadrature, _log_density, uniform(source, 5), _without_signs
    )
    return observed(simulator, 5, half_width, n_observations, outliers, outlier_kind, seed)


def _sample_pose(key: PRNGKey, n: int) -> Images:
    return jr.normal(key, (n, 2 * DRAWS))


def _pose_quadrature(order: int) -> tuple[Images, Weights]:
    """The same nodes in every order: they are right for polynomials of degree 3."""
    checks.positive_int("order", order)
    nodes = jnp.asarray(normal_nodes(2 * DRAWS))
    return nodes, jnp.full(len(nodes), 1 / len(nodes))


def _image(theta: Points, pose: Images) -> Images:
    """m + L z for each of the four z."""
    first, below, second = (entry[:, None] for entry in _factor(theta))
    z = pose.reshape(-1, DRAWS, 2)
    points = jnp.stack([first * z[..., 0], below * z[..., 0] + second * z[..., 1]], axis=2)
    return (theta[:, None, :2] + points).reshape(-1, 2 * DRAWS)


def _log_density(theta: Points, y: Images) -> Weights:
    """Four times log N(y_i; m, S), by L^-1 (y_i - m)."""
    first, below, second = (entry[:, None] for entry in _factor(theta))
    residual = y.reshape(-1, DRAWS, 2) - theta[:, None, :2]
    z_1 = residual[..., 0] / first
    z_2 = (residual[..., 1] - below * z_1) / second
    return -0.5 * (z_1**2 + z_2**2).sum(1) - DRAWS * (jnp.log(first * second)[:, 0] + np.log(2 * np.pi))


def _factor(theta: Points) -> Factor:
    """L_11, L_21 and L_22 of the Cholesky factor of S.

    L_22^2 = S_22 - L_21^2 without its cancellation: with j the jitter it is s_2^2 (s_1^2 (1 - rho^2) + j) / S_11 + j.
    """
    s_1, s_2 = theta[:, 2] ** 2, theta[:, 3] ** 2
    rho: Float[Array, " n"] = jnp.tanh(theta[:, 4])
    first = jnp.sqrt(s_1**2 + JITTER)
    left_over = s_1**2 / jnp.cosh(theta[:, 4]) ** 2 + JITTER
    return first, rho * s_1 * s_2 / first, jnp.sqrt(s_2**2 * left_over / first**2 + JITTER)


def _without_signs(theta: Cloud) -> Cloud:
    """|theta_3| and |theta_4|, and the others as they are."""
    theta = jnp.asarray(theta)
    return theta.at[:, 2:4].set(jnp.abs(theta[:, 2:4]))
