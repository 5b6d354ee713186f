"""Problems whose images are their parameters: y = theta + omega with Gaussian omega, in any dimension."""

from collections.abc import Callable

import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets.instance import Instance, Truth, checked
from cryosip.methods.problem import Images, Points, Pose, PRNGKey, Problem, Weights, no_pose, one_node

Coordinates = Float[Array, " d"] | float  # one number for all coordinates, or one for each


def observed(theta: Points, noise_std: float, key: PRNGKey) -> Images:
    """theta + omega with omega ~ N(0, noise_std^2 I)."""
    return theta + noise_std * jr.normal(key, theta.shape)


def with_additive_noise(
    name: str,
    observations: Images,
    theta: Points,
    noise_std: float,
    init: tuple[Coordinates, Coordinates],
    sample: Callable[[PRNGKey, int], Points],
    quantile: Callable[[np.ndarray], np.ndarray] | None,
) -> Instance:
    """The instance of y = theta + omega without a pose.

    Parameters
    ----------
    name
        Of the problem.
    observations, theta
        (n, d) each: what is observed, and the theta* behind it.
    noise_std
        Of each coordinate of omega.
    init
        Mean and std of the initial distribution, Gaussian with independent coordinates, which is also rho_p.
    sample, quantile
        Of the truth, as in `Truth`.

    Returns
    -------
    Instance
        `theta_box` holds all observations.
    """
    mean, std = init
    d = theta.shape[1]

    def render(theta: Points, _pose: Pose) -> Images:
        return theta

    def sample_init(key: PRNGKey, n: int) -> Points:
        return mean + std * jr.normal(key, (n, d))

    def log_prior(theta: Points) -> Weights:
        return (-0.5 * ((theta - mean) / std) ** 2).sum(1)

    problem = Problem(
        name=name,
        observations=observations,
        noise_std=noise_std,
        render=render,
        sample_pose=no_pose,
        pose_quadrature=one_node,
        sample_init=sample_init,
        log_prior=log_prior,
        theta_box=(observations.min(0), observations.max(0)),
    )
    return checked(Instance(problem, Truth(sample, theta, quantile)))
