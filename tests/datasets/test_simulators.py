"""The simulators of source estimation: formulas written out, and likelihoods against draws and integrals."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

from cryosip.datasets.inverse_kinematics import inverse_kinematics
from cryosip.datasets.inverse_kinematics import log_density as arm_density
from cryosip.datasets.simulators import normal_nodes
from cryosip.datasets.slcp import slcp
from cryosip.datasets.two_moons import log_density as moon_density
from cryosip.datasets.two_moons import two_moons
from cryosip.methods.problem import part

FACTORIES = {"inverse-kinematics": inverse_kinematics, "slcp": slcp, "two-moons": two_moons}
EVERY = pytest.mark.parametrize("name", FACTORIES)
DIMENSIONS = {"inverse-kinematics": (4, 2, 2), "slcp": (5, 8, 5), "two-moons": (2, 2, 2)}
DRAWS = 200_000


@pytest.fixture(autouse=True)
def _in_float64():
    with jax.enable_x64(True):
        yield


def at(problem, density, theta, y):
    """p(y_i | theta) by the function that is the problem's log_likelihood at its observations."""
    behind = jnp.broadcast_to(jnp.asarray(theta), (len(problem.observations), len(theta)))
    offered = problem.log_likelihood(behind, jnp.arange(len(behind)))
    np.testing.assert_array_equal(density(behind, problem.observations), offered)
    return np.exp(density(jnp.broadcast_to(jnp.asarray(theta), (len(y), len(theta))), jnp.asarray(y)))


def drawn(problem, theta, n=DRAWS):
    """n images of one structure."""
    rows = jnp.broadcast_to(jnp.asarray(theta, float), (n, len(theta)))
    return np.asarray(jax.jit(problem.render)(rows, problem.sample_pose(jr.key(3), n)))


@EVERY
def test_the_defaults_are_sourcerers(name):
    problem, truth, *_ = FACTORIES[name]()
    d, p, e = DIMENSIONS[name]
    assert problem.observations.shape == (10_000, p)
    assert truth.theta.shape == (10_000, d)
    assert truth.identifiable(np.asarray(truth.theta)).shape == (10_000, e)
    assert problem.noise_std == 0
    assert problem.name == name
    half_width = np.pi if name == "inverse-kinematics" else 5.0
    np.testing.assert_allclose(problem.theta_box, [np.full(d, -half_width), np.full(d, half_width)])
    np.testing.assert_allclose(problem.observations, problem.render(truth.theta, truth.pose), rtol=1e-12)


def test_two_moons_as_sbibm_has_it():
    """`_map_fun` and `_likelihood` of sbibm, in numpy."""
    problem, truth, *_ = two_moons(500)
    theta, radius, angle = np.asarray(truth.theta), np.asarray(truth.pose.radius), np.asarray(truth.pose.angle)
    c, s = np.cos(-np.pi / 4), np.sin(-np.pi / 4)
    z0, z1 = c * theta[:, 0] - s * theta[:, 1], s * theta[:, 0] + c * theta[:, 1]
    moon = np.stack([np.cos(angle) * radius + 0.25, np.sin(angle) * radius], 1)
    np.testing.assert_allclose(problem.observations, moon + np.stack([-np.abs(z0), z1], 1), atol=1e-12)
    u, v = (np.asarray(problem.observations) - np.stack([-np.abs(z0), z1], 1) - [0.25, 0]).T
    r = np.hypot(u, v)
    expected = scipy.stats.norm.logpdf(r, 0.1, 0.01) - np.log(np.pi * r)  # sbibm leaves out the Jacobian pi r
    np.testing.assert_allclose(problem.log_likelihood(truth.theta, jnp.arange(500)), expected, atol=1e-8)


def test_slcp_against_the_gaussian_of_scipy():
    problem, truth, *_ = slcp(50)
    theta, y = np.asarray(truth.theta), np.asarray(problem.observations)
    for t, image, found in zip(theta, y, problem.log_likelihood(truth.theta, jnp.arange(50)), strict=True):
        s1, s2, rho = t[2] ** 2, t[3] ** 2, np.tanh(t[4])
        cov = [[s1**2 + 1e-3, rho * s1 * s2], [rho * s1 * s2, s2**2 + 1e-3]]
        expected = scipy.stats.multivariate_normal(t[:2], cov).logpdf(image.reshape(4, 2)).sum()
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    points = drawn(problem, theta[0]).reshape(-1, 2)
    s1, s2, rho = theta[0, 2] ** 2, theta[0, 3] ** 2, np.tanh(theta[0, 4])
    cov = np.array([[s1**2 + 1e-3, rho * s1 * s2], [rho * s1 * s2, s2**2 + 1e-3]])
    stds = np.sqrt(np.diag(cov))
    # five standard errors of a mean, and of a covariance in units of the stds
    np.testing.assert_allclose((points.mean(0) - theta[0, :2]) / stds, 0, atol=5 / np.sqrt(len(points)))
    np.testing.assert_allclose((np.cov(points.T) - cov) / np.outer(stds, stds), 0, atol=5 * np.sqrt(2 / len(points)))


@pytest.mark.parametrize("std", [0.01 / 180 * np.pi, 0.03])
def test_the_arms_mean_and_variances_are_exact(std):
    """The Gaussian's own moments, by integrals over its density on a grid, against draws."""
    problem = inverse_kinematics(5, angle_std=std).problem
    theta = np.array([0.2, 0.7, -0.5, 0.4])
    y = drawn(problem, theta)
    mean, spread = y.mean(0), y.std(0)
    axis = np.linspace(-8, 8, 201)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = (
        at(problem, partial(arm_density, std), theta, mean + grid * spread) * (axis[1] - axis[0]) ** 2 * spread.prod()
    )
    # five standard errors of draws; the trapezoidal rule of a Gaussian at 12 points a std has no error
    np.testing.assert_allclose(density.sum(), 1, atol=1e-6)
    np.testing.assert_allclose(density @ grid, 0, atol=5 / np.sqrt(DRAWS))
    np.testing.assert_allclose(density @ grid**2, 1, atol=5 * np.sqrt(2 / DRAWS))
    below = (y < mean + 0.5 * spread).all(1).mean()
    np.testing.assert_allclose(density[(grid < 0.5).all(1)].sum(), below, atol=0.03)  # a cell, and the order of std


def test_the_density_of_two_moons_integrates_to_one_and_to_the_share_of_draws():
    problem = two_moons(5).problem
    theta = np.array([0.3, -0.5])
    center = np.array([0.25 - abs(theta.sum()) / np.sqrt(2), (theta[1] - theta[0]) / np.sqrt(2)])
    axis = (np.arange(600) + 0.5) / 600 * 0.32 - 0.16
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    mass = at(problem, partial(moon_density, 0.1, 0.01), theta, center + grid) * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(mass.sum(), 1, atol=2e-3)  # the rule is of first order at the jump: a cell is 5e-4 wide
    y = drawn(problem, theta) - center
    for cut in (lambda z: z[:, 0] < 0.05, lambda z: z[:, 1] > 0.03, lambda z: np.hypot(*z.T) < 0.095):
        np.testing.assert_allclose(mass[cut(grid)].sum(), cut(y).mean(), atol=5 * 0.5 / np.sqrt(DRAWS) + 5e-3)


@EVERY
def test_structures_of_one_point_have_the_same_images(name):
    problem, truth, *_ = FACTORIES[name](50)
    theta = np.asarray(truth.theta)
    if name == "two-moons":
        mirrored = -theta[:, ::-1]
    elif name == "slcp":
        mirrored = theta * [1, 1, -1, -1, 1]
    else:  # another foot and other joints with the same end: the elbow of the two last joints on the other side
        a, b = theta[:, 1], theta[:, 1:].sum(1)
        mid = theta[:, 1] + theta[:, 2]
        swapped = np.stack([mid, a, b], 1)  # the first two segments are of one length
        mirrored = np.concatenate([theta[:, :1], np.diff(swapped, axis=1, prepend=0)], 1)
    np.testing.assert_allclose(truth.identifiable(mirrored), truth.identifiable(theta), atol=1e-12)
    assert np.abs(mirrored - theta).max() > 0.1
    images = problem.render(jnp.asarray(mirrored), truth.pose)
    atol = 5e-3 if name == "inverse-kinematics" else 1e-12  # angles of 2e-4 are drawn anew for the other arm
    np.testing.assert_allclose(images, problem.observations, atol=atol)


@EVERY
def test_likelihood_is_smooth_and_of_its_own_row(name):
    problem, truth, *_ = FACTORIES[name](40)
    image = jnp.arange(40)
    given = problem.log_likelihood(truth.theta, image)
    np.testing.assert_array_equal(problem.log_likelihood(truth.theta[::-1], image[::-1])[::-1], given)
    half = part(problem, jnp.arange(0, 40, 2))
    np.testing.assert_array_equal(half.log_likelihood(truth.theta[::2], jnp.arange(20)), given[::2])
    slopes = jax.grad(lambda t: problem.log_likelihood(t, image).sum())(truth.theta)
    direction = jr.normal(jr.key(1), slopes.shape)
    step = 1e-7
    ahead, behind = (problem.log_likelihood(truth.theta + s * step * direction, image) for s in (1, -1))
    found, expected = (slopes * direction).sum(1), (ahead - behind) / (2 * step)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(found).max())


@EVERY
def test_the_nodes_have_the_mean_image_and_weights_of_one(name):
    problem, truth, *_ = FACTORIES[name](3)
    for order in (1, 2, 3):
        pose, weights = problem.pose_quadrature(order)
        theta = jnp.repeat(truth.theta[:1], len(weights), axis=0)
        np.testing.assert_allclose(weights.sum(), 1, atol=1e-12)
        images = drawn(problem, np.asarray(truth.theta[0]))
        allowed = 5 * images.std(0) / np.sqrt(DRAWS) + 1e-3 * (name == "two-moons")  # midpoints err by 0.2 % of 0.06
        assert (np.abs(weights @ problem.render(theta, pose) - images.mean(0)) < allowed).all()


def test_nodes_have_the_moments_of_the_normal_distribution():
    for d in (2, 6, 8):
        nodes = normal_nodes(d)
        np.testing.assert_allclose(nodes.mean(0), 0, atol=1e-15)
        np.testing.assert_allclose(nodes.T @ nodes / len(nodes), np.eye(d), atol=1e-14)
        np.testing.assert_allclose(np.einsum("ni,nj,nk->ijk", nodes, nodes, nodes), 0, atol=1e-13)


@EVERY
def test_log_prior_is_flat_inside_and_falls_outside(name):
    problem = FACTORIES[name](3, half_width=4.0).problem
    d = DIMENSIONS[name][0]
    theta = jnp.array([0.0, 3.5, 4.0, 4.5])[:, None] * jnp.eye(d)[0]
    inside, near, edge, outside = np.asarray(problem.log_prior(theta))
    np.testing.assert_allclose([near - inside, edge - inside], [0, -np.log(2)], atol=1e-4)
    np.testing.assert_allclose(outside - inside, -12.5, atol=1e-4)  # half a unit is 12.5 hundredths of the half width


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("two-moons", {"mean_radius": 0.0}, "mean_radius is 0.0; wanted a positive"),
        ("two-moons", {"radius_std": -1.0}, "radius_std is -1.0; wanted a positive"),
        ("two-moons", {"source_half_width": 6.0}, "source_half_width is 6; wanted at most half_width, 5"),
        ("slcp", {"source_half_width": 6.0}, "source_half_width is 6; wanted at most half_width, 5"),
        ("slcp", {"half_width": 0.0}, "half_width is 0.0; wanted a positive"),
        ("inverse-kinematics", {"angle_std": 0.0}, "angle_std is 0.0; wanted a positive"),
        ("inverse-kinematics", {"source_stds": (1.0,)}, r"source_stds has shape \(1,\); wanted \(4,\)"),
        ("inverse-kinematics", {"source_stds": (1.0, 1.0, 0.0, 1.0)}, "source_stds is"),
        *((name, {"n_observations": 0}, "n_observations is 0; wanted a whole number >= 1") for name in FACTORIES),
        *((name, {"seed": -1}, "seed is -1; wanted a whole number >= 0") for name in FACTORIES),
    ],
)
def test_bad_options_are_refused_by_name(name, options, message):
    with pytest.raises(ValueError, match=message):
        FACTORIES[name](**{"n_observations": 5} | options)
