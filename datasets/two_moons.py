"""Two moons: a point in the plane seen as a crescent, folded along a diagonal."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets.instance import Cloud, Instance
from cryosip.datasets.simulators import Simulator, observed, uniform
from cryosip.methods import checks
from cryosip.methods.problem import Images, Points, Pose, PRNGKey, Weights

OFFSET = 0.25  # of the centre of the crescent along the first axis
COARSEST_ANGLES = 8  # of the quadrature of order 1


class Crescent(NamedTuple):
    """Where on the crescent an observation lies: radius and angle, (n,) each."""

    radius: Float[Array, " n"]
    angle: Float[Array, " n"]


def two_moons(
    n_observations: int = 10_000,
    mean_radius: float = 0.1,
    radius_std: float = 0.01,
    source_half_width: float = 1.0,
    half_width: float = 5.0,
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """Two moons: theta in the plane, seen as a point of a crescent and folded along a diagonal.

    y = (r cos a + 1/4 - |theta_1 + theta_2| / sqrt 2, r sin a + (theta_2 - theta_1) / sqrt 2) with r ~ N(mean_radius,
    radius_std^2) and a ~ U(-pi/2, pi/2) [lueckmann2021]; the truth is uniform on [-1, 1]^2, and a method looks for it
    in [-5, 5]^2, as in [vetter2024]. (r, a) are the pose, and there is no other noise. With (u, v) = y less 1/4 and
    less the folded theta, the density is exactly

    p(y | theta) = N(sign(u) |(u, v)|; mean_radius, radius_std^2) / (pi |(u, v)|),

    which is discontinuous across u = 0 and nowhere zero, since r < 0 is possible. theta and its mirror image across
    theta_1 + theta_2 = 0 give the same images: metrics compare (|theta_1 + theta_2|, theta_2 - theta_1) / sqrt 2.

    Parameters
    ----------
    n_observations
        10^4 by default, as in [vetter2024].
    mean_radius, radius_std
        Of the crescent; 0.1 and 0.01 by default.
    source_half_width
        theta* is uniform on [-source_half_width, source_half_width]^2; 1 by default.
    half_width
        Of the square in which theta is looked for: the initial distribution and rho_p; 5 by default.
    outliers, outlier_kind
        A share of the observations that is contaminated, 0 by default, and how, as `contaminated` says; "wide", the
        default, has ten times the noise, and is the one kind here.
    seed
        Of theta* and poses; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, 2), theta (n, 2).

    Raises
    ------
    ValueError
        A count is below 1, a radius, std or width is not positive, or the source is wider than the square.
    """
    mean_radius = checks.positive("mean_radius", mean_radius)
    radius_std = checks.positive("radius_std", radius_std)
    source = checks.positive("source_half_width", source_half_width)
    if source > checks.positive("half_width", half_width):
        raise ValueError(f"source_half_width is {source:g}; wanted at most half_width, {half_width:g}")

    def sample_pose(key: PRNGKey, n: int) -> Crescent:
        key_radius, key_angle = jr.split(key)
        radius = mean_radius + radius_std * jr.normal(key_radius, (n,))
        return Crescent(radius, jr.uniform(key_angle, (n,), minval=-np.pi / 2, maxval=np.pi / 2))

    def pose_quadrature(order: int) -> tuple[Crescent, Weights]:
        """Midpoints in the angle, twice as many in each order, at two radii; a node is halved by the next order."""
        n = COARSEST_ANGLES * 2 ** (checks.positive_int("order", order, most=20) - 1)
        angle = jnp.tile(np.pi * ((jnp.arange(n) + 0.5) / n - 0.5), 2)
        radius = jnp.repeat(mean_radius + radius_std * jnp.array([-1.0, 1.0]), n)
        return Crescent(radius, angle), jnp.full(2 * n, 0.5 / n)

    density = partial(log_density, mean_radius, radius_std)
    simulator = Simulator("two-moons", _image, sample_pose, pose_quadrature, density, uniform(source, 2), _folded_axes)
    return observed(simulator, 2, half_width, n_observations, outliers, outlier_kind, seed)


def log_density(mean_radius: float, radius_std: float, theta: Points, y: Images) -> Weights:
    """log p(y_i | theta_i): of the signed radius, less the log of what a unit of angle and radius covers."""
    u, v = (y - _folded(theta)).T
    distance = jnp.sqrt(jnp.maximum(u**2 + v**2, jnp.finfo(u.dtype).tiny))  # at 0 the root has no derivative
    radius = jnp.where(u >= 0, distance, -distance)
    density = jax.scipy.stats.norm.logpdf(radius, mean_radius, radius_std)
    return density - jnp.log(np.pi * distance)


def _image(theta: Points, pose: Pose) -> Images:
    """The point of the crescent at that radius and angle around the folded theta."""
    return _folded(theta) + pose.radius[:, None] * jnp.stack([jnp.cos(pose.angle), jnp.sin(pose.angle)], axis=1)


def _folded(theta: Points) -> Images:
    """The centre of the circle that the crescent is half of."""
    across, along = _folded_axes(theta).T
    return jnp.stack([OFFSET - across, along], axis=1)


def _folded_axes(theta: Cloud) -> Cloud:
    """(|theta_1 + theta_2|, theta_2 - theta_1) / sqrt 2."""
    theta = jnp.asarray(theta)
    return jnp.stack([jnp.abs(theta[:, 0] + theta[:, 1]), theta[:, 1] - theta[:, 0]], axis=1) / np.sqrt(2)
