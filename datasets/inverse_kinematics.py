"""Inverse kinematics: where an arm of three joints on a rail ends."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets.instance import Cloud, Instance
from cryosip.datasets.simulators import Simulator, normal_nodes, observed
from cryosip.methods import checks
from cryosip.methods.problem import Images, Points, PRNGKey, Weights

LENGTHS = np.array([0.5, 0.5, 1.0])  # of the segments
RANDOM_ANGLES = 2 * len(LENGTHS)  # the sine and the cosine of each joint have their own

Normals = Float[Array, "n 6"]


def inverse_kinematics(
    n_observations: int = 10_000,
    angle_std: float = 0.01 / 180 * np.pi,
    source_stds: Sequence[float] = (0.25, 0.5, 0.5, 0.5),
    half_width: float = np.pi,
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """Inverse kinematics: an arm of three joints whose foot slides on a rail, of which the end is seen.

    y = (theta_1 + sum_j l_j sin(phi_j + e_j), sum_j l_j cos(phi_j + e'_j)) with the angles phi = (theta_2, theta_2 +
    theta_3, theta_2 + theta_3 + theta_4) in radians, lengths l = (1/2, 1/2, 1) and e, e' ~ N(0, angle_std^2 I_3)
    [vandegar2021]; the arm and the truth, N(0, diag(1/16, 1/4, 1/4, 1/4)), are of [kruse2021], without noise there. A
    method looks for it in [-pi, pi]^4, as in [vetter2024]. (e, e') are the pose, and there is no other noise. Since
    sine and cosine have random angles of their own, the density is no singular one. It has no closed form:
    `log_likelihood` is the Gaussian of its exact mean and variances,

    Var y_1 = sum_j l_j^2 (A cos^2 phi_j + B sin^2 phi_j), Var y_2 = sum_j l_j^2 (A sin^2 phi_j + B cos^2 phi_j),

    A = Var sin e = (1 - exp(-2 angle_std^2)) / 2, B = Var cos e = (1 - exp(-angle_std^2))^2 / 2, and no covariance,
    plus the rounding of y. The density differs from it by a share of the order of angle_std, but for arms so straight
    that y has no first-order term, within about angle_std of it. Where theta is known only by its end, E y at
    angle_std = 0, images differ in their std alone, by 10^-4 of the arm's reach: metrics compare the ends, (n, 2).

    Parameters
    ----------
    n_observations
        10^4 by default, as in [vetter2024].
    angle_std
        In radians; a hundredth of a degree by default.
    source_stds
        Four stds of theta* around 0, the first in the unit of the arm, the others in radians.
    half_width
        Of the cube in which theta is looked for: the initial distribution and rho_p; pi by default.
    outliers, outlier_kind
        A share of the observations that is contaminated, 0 by default, and how, as `contaminated` says; "wide", the
        default, has ten times the noise, and is the one kind here.
    seed
        Of theta* and poses; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, 2), theta (n, 4).

    Raises
    ------
    ValueError
        A count is below 1, there are not four stds, or a std or the width is not positive.
    """
    angle_std = checks.positive("angle_std", angle_std)
    stds = checks.numbers("source_stds", source_stds, 1)
    if stds.shape != (4,):
        raise ValueError(f"source_stds has shape {stds.shape}; wanted (4,): a position and three angles")
    for std in stds:
        checks.positive("source_stds", std)

    def render(theta: Points, pose: Normals) -> Images:
        phi = _angles(theta)
        across = jnp.sin(phi + angle_std * pose[:, :3]) @ jnp.asarray(LENGTHS, theta.dtype)
        ahead = jnp.cos(phi + angle_std * pose[:, 3:]) @ jnp.asarray(LENGTHS, theta.dtype)
        return jnp.stack([theta[:, 0] + across, ahead], axis=1)

    def sample(key: PRNGKey, n: int) -> Points:
        return jnp.asarray(stds) * jr.normal(key, (n, 4))

    simulator = Simulator(
        "inverse-kinematics", render, _sample_pose, _pose_quadrature, partial(log_density, angle_std), sample, _end
    )
    return observed(simulator, 4, half_width, n_observations, outliers, outlier_kind, seed)


def log_density(angle_std: float, theta: Points, y: Images) -> Weights:
    """log N(y_i; m, V) with the exact mean and variances of images of theta_i, and the rounding of y."""
    phi = _angles(theta)
    along, against = -np.expm1(-2 * angle_std**2) / 2, np.expm1(-(angle_std**2)) ** 2 / 2  # A and B
    sine, cosine, lengths = jnp.sin(phi), jnp.cos(phi), jnp.asarray(LENGTHS, theta.dtype)
    shrink = np.exp(-(angle_std**2) / 2)
    mean = jnp.stack([theta[:, 0] + shrink * (sine @ lengths), shrink * (cosine @ lengths)], axis=1)
    squares = jnp.stack([cosine**2 @ lengths**2, sine**2 @ lengths**2], axis=1)
    rounding = (jnp.finfo(theta.dtype).eps * LENGTHS.sum()) ** 2
    variance = along * squares + against * ((LENGTHS**2).sum() - squares) + rounding
    return -0.5 * ((y - mean) ** 2 / variance + jnp.log(2 * np.pi * variance)).sum(1)


def _sample_pose(key: PRNGKey, n: int) -> Normals:
    return jr.normal(key, (n, RANDOM_ANGLES))


def _pose_quadrature(order: int) -> tuple[Normals, Weights]:
    """The same nodes in every order: they are right for polynomials of degree 3."""
    checks.positive_int("order", order)
    nodes = jnp.asarray(normal_nodes(RANDOM_ANGLES))
    return nodes, jnp.full(len(nodes), 1 / len(nodes))


def _angles(theta: Points) -> Float[Array, "n 3"]:
    """Of the three segments against the direction in which the arm points at theta = 0."""
    return jnp.cumsum(theta[:, 1:], axis=1)


def _end(theta: Cloud) -> Float[Array, "n 2"]:
    """Where the arm ends without noise."""
    theta = jnp.asarray(theta)
    phi, lengths = _angles(theta), jnp.asarray(LENGTHS, theta.dtype)
    return jnp.stack([theta[:, 0] + jnp.sin(phi) @ lengths, jnp.cos(phi) @ lengths], axis=1)
