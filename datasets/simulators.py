"""What simulators with random numbers of their own have in common: a box to search, nodes for what they draw, and how
an instance is made of them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.datasets.instance import Cloud, Instance, Truth, checked
from cryosip.datasets.outliers import contaminated
from cryosip.methods import checks
from cryosip.methods.problem import Images, Points, Pose, PRNGKey, Problem, Weights

BORDER = 0.01  # of the half width: where the density of the prior falls from its plateau to zero

Densities = Callable[[Points, Images], Weights]


class Simulator(NamedTuple):
    """y = render(theta, pose): its own random numbers are the pose, and there is no other noise.

    `log_density(theta, y)` of (n, d) and (n, p) is log p(y_i | theta_i); the rest is as in `Problem` and `Truth`.
    """

    name: str
    render: Callable[[Points, Pose], Images]
    sample_pose: Callable[[PRNGKey, int], Pose]
    pose_quadrature: Callable[[int], tuple[Pose, Weights]]
    log_density: Densities
    sample: Callable[[PRNGKey, int], Points]
    identifiable: Callable[[Cloud], Cloud]


def observed(
    simulator: Simulator,
    d: int,
    half_width: float,
    n_observations: int,
    outliers: float,
    outlier_kind: str,
    seed: int,
) -> Instance:
    """An instance with one observation of each theta*; theta is looked for in the cube of that half width.

    The initial distribution is uniform there. rho_p is the same with a soft border, the distribution of a uniform
    point that is moved by logistic noise of scale s, a hundredth of the half width h:
    log rho_p = sum_i log sigmoid((h - theta_i) / s) + log sigmoid((h + theta_i) / s) + const.

    Raises ValueError where a count is below 1, the seed is negative, the half width is not positive or `contaminated`
    refuses.
    """
    n = checks.positive_int("n_observations", n_observations)
    half_width = checks.positive("half_width", half_width)
    checks.non_negative_int("seed", seed)
    key_theta, key_pose = jr.split(jr.key(seed))
    theta, pose = simulator.sample(key_theta, n), simulator.sample_pose(key_pose, n)
    render = jax.jit(simulator.render)
    observations = render(theta, pose)
    if outliers != 0:  # the noise of an outlier is measured from another image of the same theta
        again = render(theta, simulator.sample_pose(jr.fold_in(key_pose, 1), n))
        observations = contaminated(observations, outliers, outlier_kind, seed, lambda rows: again[rows])
    log_density = simulator.log_density  # by itself: a method that can reach the simulator can draw the truth

    def sample_init(key: PRNGKey, n: int) -> Points:
        return jr.uniform(key, (n, d), minval=-half_width, maxval=half_width)

    def log_prior(theta: Points) -> Weights:
        scale = BORDER * half_width
        below, above = ((half_width + side * theta) / scale for side in (-1, 1))
        return (jax.nn.log_sigmoid(below) + jax.nn.log_sigmoid(above)).sum(1)

    def log_likelihood(theta: Points, image: Int[Array, " n"]) -> Weights:
        return log_density(theta, observations[image])

    problem = Problem(
        name=simulator.name,
        observations=observations,
        noise_std=0.0,
        render=simulator.render,
        sample_pose=simulator.sample_pose,
        pose_quadrature=simulator.pose_quadrature,
        sample_init=sample_init,
        log_prior=log_prior,
        theta_box=(jnp.full(d, -half_width), jnp.full(d, half_width)),
        log_likelihood=log_likelihood,
    )
    return checked(Instance(problem, Truth(simulator.sample, theta, None, pose, simulator.identifiable)))


def uniform(half_width: float, d: int) -> Callable[[PRNGKey, int], Points]:
    """Draws (n, d) from the cube [-half_width, half_width]^d."""
    return lambda key, n: jr.uniform(key, (n, d), minval=-half_width, maxval=half_width)


def normal_nodes(d: int) -> Float[np.ndarray, "q d"]:
    """+-sqrt(d) e_i: the mean over these 2 d points is that over N(0, I_d) of all polynomials of degree 3."""
    return np.sqrt(d) * np.concatenate([np.eye(d), -np.eye(d)])
