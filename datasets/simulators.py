"""The source-estimation tasks of Vetter et al.: simulators whose noise is their own, with exact likelihoods."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.stats
from jaxtyping import Array, Float

from cryosip.datasets.instance import Cloud, Identified, Instance, Truth, checked
from cryosip.datasets.outliers import contaminated
from cryosip.methods import checks
from cryosip.methods.problem import Images, Points, Pose, PRNGKey, Problem, Weights

WIDER = 1.5  # the box of what a user expects, in half-widths of the truth's
FEWEST_NODES = 16  # of the quadrature over the simulator's noise
TINY_RADIUS = 1e-12

Vector = Float[Array, " n"]


class Simulator(NamedTuple):
    """y = simulate(theta, noise), the log of its density at y for given theta, and what it tells of theta.

    `noise_from(u)` makes the simulator's random numbers of uniform ones (n, `dimension`).
    """

    simulate: Callable[[Points, Pose], Images]
    log_density: Callable[[Points, Images], Vector]
    noise_from: Callable[[Float[Array, "n r"]], Pose]
    dimension: int
    identifiable: Callable[[Cloud], Identified]


def moons(mean: float, std: float) -> Simulator:
    """A crescent of the given radius around a point that does not tell the sign of theta_1 + theta_2."""

    def center(theta: Points) -> Images:
        along = jnp.stack([-jnp.abs(theta.sum(1)), theta[:, 1] - theta[:, 0]], axis=1)
        return along / np.sqrt(2) + jnp.array([0.25, 0.0])

    def simulate(theta: Points, noise: Pose) -> Images:
        radius, angle = noise[:, :1], noise[:, 1:]
        return center(theta) + radius * jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1)

    def log_density(theta: Points, y: Images) -> Vector:
        away = y - center(theta)
        distance = jnp.sqrt(jnp.maximum((away**2).sum(1), TINY_RADIUS**2))
        radius = jnp.where(away[:, 0] >= 0, distance, -distance)  # the angle is within a right angle of the first axis
        return -0.5 * ((radius - mean) / std) ** 2 - jnp.log(distance)

    def noise_from(u: Float[Array, "n 2"]) -> Pose:
        return jnp.stack([mean + std * jax.scipy.special.ndtri(u[:, 0]), jnp.pi * (u[:, 1] - 0.5)], axis=1)

    def identifiable(theta: Cloud) -> Identified:
        return jnp.stack([jnp.abs(theta[:, 0] + theta[:, 1]), theta[:, 1] - theta[:, 0]], axis=1) / np.sqrt(2)

    return Simulator(simulate, log_density, noise_from, 2, identifiable)


def arm_of(lengths: np.ndarray, noise_std: float) -> Simulator:
    """The end of an arm on a rail, whose angles err by noise_std radians."""
    arm = jnp.asarray(lengths, jnp.float32)

    def angles(theta: Points) -> Float[Array, "n 3"]:
        return jnp.cumsum(theta[:, 1:], axis=1)

    def end(theta: Points, first: Float[Array, "n 3"], second: Float[Array, "n 3"]) -> Images:
        across, along = (arm * jnp.sin(first)).sum(1), (arm * jnp.cos(second)).sum(1)
        return jnp.stack([theta[:, 0] + across, along], axis=1)

    def simulate(theta: Points, noise: Pose) -> Images:
        phi = angles(theta)
        return end(theta, phi + noise[:, :3], phi + noise[:, 3:])

    def log_density(theta: Points, y: Images) -> Vector:
        phi = angles(theta)
        shrunk = np.exp(-0.5 * noise_std**2)  # the mean of cos(e)
        mean = shrunk * end(theta, phi, phi) + (1 - shrunk) * theta[:, :1] * jnp.array([1.0, 0.0])
        squares = jnp.stack([jnp.cos(phi) ** 2, jnp.sin(phi) ** 2], axis=1)  # of the slopes along each axis of y
        variance = (arm**2 * (noise_std**2 * squares + 0.5 * noise_std**4 * (1 - squares))).sum(2)
        return -0.5 * ((y - mean) ** 2 / variance + jnp.log(variance)).sum(1)

    def noise_from(u: Float[Array, "n 6"]) -> Pose:
        return noise_std * jax.scipy.special.ndtri(u)

    def identifiable(theta: Cloud) -> Identified:
        phi = angles(jnp.asarray(theta))
        return end(jnp.asarray(theta), phi, phi)

    return Simulator(simulate, log_density, noise_from, 6, identifiable)


def four_draws() -> Simulator:
    """Four draws of a Gaussian in the plane, whose mean and covariance are theta's."""

    def covariance(theta: Points) -> tuple[Vector, Vector, Vector]:
        first, second = theta[:, 2] ** 2, theta[:, 3] ** 2
        return first**2 + 1e-3, second**2 + 1e-3, jnp.tanh(theta[:, 4]) * first * second

    def simulate(theta: Points, noise: Pose) -> Images:
        a, b, c = covariance(theta)
        scale = jnp.sqrt(a)[:, None]
        slope, rest = (c / jnp.sqrt(a))[:, None], jnp.sqrt(b - c**2 / a)[:, None]
        draws = jnp.stack([scale * noise[..., 0], slope * noise[..., 0] + rest * noise[..., 1]], axis=2)
        return (theta[:, None, :2] + draws).reshape(len(theta), 8)

    def log_density(theta: Points, y: Images) -> Vector:
        a, b, c = covariance(theta)
        away = y.reshape(-1, 4, 2) - theta[:, None, :2]
        determinant = a * b - c**2
        x, z = away[..., 0], away[..., 1]
        square = b * (x**2).sum(1) - 2 * c * (x * z).sum(1) + a * (z**2).sum(1)
        return -0.5 * square / determinant - 2 * jnp.log(determinant)

    def noise_from(u: Float[Array, "n 8"]) -> Pose:
        return jax.scipy.special.ndtri(u).reshape(-1, 4, 2)

    def identifiable(theta: Cloud) -> Identified:
        theta = jnp.asarray(theta)
        return theta.at[:, 2:4].set(jnp.abs(theta[:, 2:4]))

    return Simulator(simulate, log_density, noise_from, 8, identifiable)


def two_moons(
    n_observations: int = 10_000,
    mean_radius: float = 0.1,
    std_radius: float = 0.01,
    half_width: float = 1.0,
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """Two moons: a crescent of noise around a point that does not tell the sign of theta_1 + theta_2.

    y = (0.25 - |theta_1 + theta_2| / sqrt 2, (theta_2 - theta_1) / sqrt 2) + r (cos a, sin a) with r ~ N(mean_radius,
    std_radius^2), a ~ U(-pi / 2, pi / 2) and theta ~ U([-half_width, half_width]^2) [vetter2024], [lueckmann2021].
    r and a are the pose, and noise_std is 0: the problem offers its likelihood. Images tell (|theta_1 + theta_2|,
    theta_2 - theta_1) / sqrt 2, in which distributions are compared.

    Parameters
    ----------
    n_observations
        10^4 by default.
    mean_radius, std_radius
        Of the crescent; 0.1 and 0.01 by default, as in the source.
    half_width
        Of the square of theta; 1 by default. `theta_box` and the initial distribution are uniform on a square 1.5 times
        as wide: the truth's own would be the solution.
    outliers, outlier_kind
        As for any problem: a share whose noise is ten times as wide; none by default.
    seed
        Of theta* and noise; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, 2), theta (n, 2).

    Raises
    ------
    ValueError
        A count is below 1, a radius or a width is not positive, or a share is outside [0, 1).
    """
    mean = checks.positive("mean_radius", mean_radius)
    std = checks.positive("std_radius", std_radius)
    width = checks.positive("half_width", half_width)

    box = WIDER * width * jnp.ones(2)
    return _instance(
        "two-moons", moons(mean, std), _uniform(width, 2), box, n_observations, outliers, outlier_kind, seed
    )


def inverse_kinematics(
    n_observations: int = 10_000,
    lengths: Sequence[float] = (0.5, 0.5, 1.0),
    stds: Sequence[float] = (0.25, 0.5, 0.5, 0.5),
    noise_in_degrees: float = 0.01,
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """Inverse kinematics: the end of an arm of three segments on a rail, from four numbers to two.

    y = (theta_1 + sum_i l_i sin(phi_i + e_i), sum_i l_i cos(phi_i + e'_i)) with phi_i = theta_2 + ... + theta_{i+1},
    e, e' ~ N(0, noise^2) each and theta ~ N(0, diag(stds^2)) [vetter2024], [kruse2021]. e and e' are the pose, and
    noise_std is 0: the problem offers its likelihood, in which y is Gaussian of the exact mean and, to the fourth order
    of the noise, the exact variance. Images tell the end of the arm, in which distributions are compared.

    Parameters
    ----------
    n_observations
        10^4 by default.
    lengths
        l of the three segments; 1/2, 1/2 and 1 by default, as in the source.
    stds
        Of theta, the rail and the three angles in radians; by default 1/4 and three times 1/2, as in the source.
    noise_in_degrees
        Of each angle, drawn for each term of y; 0.01 by default, as in the source.
    outliers, outlier_kind
        As for any problem: a share whose noise is ten times as wide; none by default.
    seed
        Of theta* and noise; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, 2), theta (n, 4); `theta_box` and the initial distribution, uniform, reach to four
        stds.

    Raises
    ------
    ValueError
        A count is below 1, a number is not positive, there are not 3 lengths and 4 stds, or a share is outside [0, 1).
    """
    arm = _positive_row("lengths", lengths, 3)
    spread = jnp.asarray(_positive_row("stds", stds, 4), jnp.float32)
    noise_std = float(np.deg2rad(checks.positive("noise_in_degrees", noise_in_degrees)))

    def sample(key: PRNGKey, n: int) -> Points:
        return spread * jr.normal(key, (n, 4))

    return _instance(
        "inverse-kinematics", arm_of(arm, noise_std), sample, 4 * spread, n_observations, outliers, outlier_kind, seed
    )


def slcp(
    n_observations: int = 10_000,
    half_width: float = 3.0,
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """Simple likelihood, complex posterior: four draws of a Gaussian in the plane, from five numbers to eight.

    y holds four draws of N((theta_1, theta_2), C), C_11 = theta_3^4 + 0.001, C_22 = theta_4^4 + 0.001, C_12 = theta_3^2
    theta_4^2 tanh theta_5, and theta ~ U([-half_width, half_width]^5) [vetter2024], [lueckmann2021]; the 0.001 are the
    former's. The normal numbers behind the draws are the pose, and noise_std is 0: the problem offers its likelihood.
    Images tell (theta_1, theta_2, |theta_3|, |theta_4|, theta_5), in which distributions are compared.

    Parameters
    ----------
    n_observations
        10^4 by default.
    half_width
        Of the cube of theta; 3 by default, as in the source. `theta_box` and the initial distribution are uniform on a
        cube 1.5 times as wide: the truth's own would be the solution.
    outliers, outlier_kind
        As for any problem: a share whose noise is ten times as wide; none by default.
    seed
        Of theta* and noise; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, 8), theta (n, 5).

    Raises
    ------
    ValueError
        A count is below 1, the width is not positive, or a share is outside [0, 1).
    """
    width = checks.positive("half_width", half_width)

    box = WIDER * width * jnp.ones(5)
    return _instance("slcp", four_draws(), _uniform(width, 5), box, n_observations, outliers, outlier_kind, seed)


def _instance(
    name: str,
    simulator: Simulator,
    sample: Callable[[PRNGKey, int], Points],
    box: Float[Array, " d"],
    n_observations: int,
    outliers: float,
    outlier_kind: str,
    seed: int,
) -> Instance:
    """The instance of a simulator; `box` are half-widths, within which the initial distribution is uniform."""
    n = checks.positive_int("n_observations", n_observations)
    checks.non_negative_int("seed", seed)
    key_theta, key_noise, key_again = jr.split(jr.key(seed), 3)

    def sample_pose(key: PRNGKey, n: int) -> Pose:
        # from the smallest number on: 0 and 1 would be infinite normal numbers
        return simulator.noise_from(jr.uniform(key, (n, simulator.dimension), minval=jnp.finfo(jnp.float32).tiny))

    theta, pose = sample(key_theta, n), sample_pose(key_noise, n)
    drawn = simulator.simulate(theta, pose)
    again = simulator.simulate(theta, sample_pose(key_again, n))  # from which an outlier's noise is measured
    observations = contaminated(drawn, outliers, outlier_kind, seed, lambda rows: again[rows])

    def log_likelihood(theta: Points, image: Array) -> Vector:
        return simulator.log_density(theta, observations[image])

    def sample_init(key: PRNGKey, n: int) -> Points:
        return box * jr.uniform(key, (n, len(box)), minval=-1.0)

    def log_prior(theta: Points) -> Weights:
        return -1.5 * ((theta / box) ** 2).sum(1)  # a Gaussian of the variance of the box

    problem = Problem(
        name=name,
        observations=observations,
        noise_std=0.0,
        render=simulator.simulate,
        sample_pose=sample_pose,
        pose_quadrature=partial(_nodes, simulator),
        sample_init=sample_init,
        log_prior=log_prior,
        theta_box=(-box, box),
        log_likelihood=log_likelihood,
    )
    return checked(Instance(problem, Truth(sample, theta, pose=pose, identifiable=simulator.identifiable)))


def _nodes(simulator: Simulator, order: int) -> tuple[Pose, Weights]:
    """Equally weighted Sobol points of the simulator's noise, twice as many with each order."""
    count = FEWEST_NODES * 2 ** (order - 1)
    unit = scipy.stats.qmc.Sobol(simulator.dimension, rng=0).random_base2(int(np.log2(count)))
    return simulator.noise_from(jnp.asarray(unit, jnp.float32)), jnp.full(count, 1 / count)


def _uniform(half_width: float, d: int) -> Callable[[PRNGKey, int], Points]:
    return lambda key, n: half_width * jr.uniform(key, (n, d), minval=-1.0)


def _positive_row(name: str, values: Sequence[float], n: int) -> np.ndarray:
    row = checks.numbers(name, values, 1)
    if len(row) != n or not (np.isfinite(row) & (row > 0)).all():
        raise ValueError(f"{name} is {values!r}; wanted {n} positive numbers")
    return row
