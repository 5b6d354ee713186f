"""Source-estimation tasks: likelihoods against integrals and draws, what images tell, and refusals."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

from cryosip.bench import metrics
from cryosip.datasets.registry import DATASETS
from cryosip.datasets.simulators import arm_of, four_draws, moons
from cryosip.methods.method import WeightedPoints

NAMES = ("two-moons", "inverse-kinematics", "slcp")
THETA = {
    "two-moons": [0.4, -0.7],
    "inverse-kinematics": [0.1, -0.4, 0.5, -0.1],
    "slcp": [-0.7, -2.9, -1.0, -0.9, 0.6],
}


SIMULATORS = {
    "two-moons": moons(0.1, 0.01),
    "inverse-kinematics": arm_of(np.array([0.5, 0.5, 1.0]), float(np.deg2rad(0.01))),
    "slcp": four_draws(),
}


def rows(theta, n):
    return jnp.broadcast_to(jnp.asarray(theta, jnp.float32), (n, len(theta)))


def density(name, theta, y):
    """Of each image y, up to a constant."""
    return np.exp(
        np.asarray(SIMULATORS[name].log_density(rows(theta, len(y)), jnp.asarray(y, jnp.float32)), np.float64)
    )


def drawn(name, theta, n, key=1):
    """Images of one theta."""
    problem = DATASETS[name](n_observations=5).problem
    return np.asarray(problem.render(rows(theta, n), problem.sample_pose(jr.key(key), n)), np.float64)


@pytest.mark.parametrize("name", NAMES)
def test_the_likelihood_weighs_images_as_the_simulator_draws_them(name):
    """Images of theta, weighted by the ratio of likelihoods, have the moments of images of another theta close by."""
    theta, n = np.array(THETA[name]), 200_000
    step = {"two-moons": 0.004, "inverse-kinematics": 5e-5, "slcp": 0.05}[name]
    other = theta + step * np.linspace(1.0, -0.5, len(theta))
    y, wanted = drawn(name, theta, n), drawn(name, other, n, key=2)
    ratio = (density(name, other, y) / density(name, theta, y))[:, None]
    center, scale = y.mean(0), y.std(0)
    for power in (0, 1, 2):
        weighted, plain = ratio * ((y - center) / scale) ** power, ((wanted - center) / scale) ** power
        error = np.hypot(weighted.std(0), plain.std(0)) / np.sqrt(n)
        assert (np.abs(weighted.mean(0) - plain.mean(0)) < 5 * error).all()


def test_the_density_of_two_moons_integrates_to_one():
    grid = np.linspace(-0.25, 0.25, 1501)
    center = np.array([0.25 - abs(0.4 - 0.7) / np.sqrt(2), (-0.7 - 0.4) / np.sqrt(2)])
    y = center + np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    total = density("two-moons", THETA["two-moons"], y).sum() * (grid[1] - grid[0]) ** 2
    # the constant: 1 / (pi 0.01 sqrt(2 pi)); the edge of the half-circle costs a cell
    assert total / (np.pi * 0.01 * np.sqrt(2 * np.pi)) == pytest.approx(1.0, abs=5e-3)


def test_the_density_of_the_four_draws_is_that_of_scipy():
    theta = np.array(THETA["slcp"])
    s1, s2, rho = theta[2] ** 2, theta[3] ** 2, np.tanh(theta[4])
    covariance = [[s1**2 + 1e-3, rho * s1 * s2], [rho * s1 * s2, s2**2 + 1e-3]]
    y = drawn("slcp", theta, 20)
    wanted = scipy.stats.multivariate_normal(theta[:2], covariance).logpdf(y.reshape(20, 4, 2)).sum(1)
    found = np.log(density("slcp", theta, y))
    assert found - found[0] == pytest.approx(wanted - wanted[0], rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "mirrored"),
    [
        ("two-moons", [0.7, -0.4]),  # theta_1 + theta_2 with the other sign, the same difference
        ("slcp", [-0.7, -2.9, 1.0, -0.9, 0.6]),
        ("slcp", [-0.7, -2.9, -1.0, 0.9, 0.6]),
    ],
)
def test_structures_that_no_image_tells_from_each_other_are_one_point(name, mirrored):
    instance = DATASETS[name](n_observations=5)
    pair = jnp.array([THETA[name], mirrored])
    points = np.asarray(instance.truth.identifiable(pair))
    assert points[0] == pytest.approx(points[1], abs=1e-6)
    y = drawn(name, THETA[name], 50)
    assert density(name, mirrored, y) == pytest.approx(density(name, THETA[name], y), rel=1e-3)


def test_the_end_of_the_arm_is_all_that_images_tell():
    instance = DATASETS["inverse-kinematics"](n_observations=5)
    theta = jnp.array([THETA["inverse-kinematics"]])
    end = np.asarray(instance.truth.identifiable(theta))[0]
    away = drawn("inverse-kinematics", THETA["inverse-kinematics"], 1_000) - end
    assert np.abs(away).max() < 5 * 1.3 * np.deg2rad(0.01)  # five stds of at most (1/4 + 1/4 + 1)^(1/2) each


@pytest.mark.parametrize("name", NAMES)
def test_the_start_is_not_the_truth_and_metrics_are_in_what_images_tell(name):
    instance = DATASETS[name](n_observations=300)
    truth, n = instance.truth, 300
    start, sample = instance.problem.sample_init(jr.key(1), n), truth.sample(jr.key(2), n)
    d = truth.identifiable(sample).shape[1]
    assert metrics.reference(truth).theta.shape == (metrics.REFERENCE_POINTS, d)
    errors = [metrics.w1(WeightedPoints(np.asarray(x), np.full(n, 1 / n)), truth) for x in (start, sample)]
    assert errors[0] > 1.5 * errors[1]


@pytest.mark.parametrize("name", NAMES)
def test_outliers_are_wide_and_as_many_as_asked(name):
    clean, spoilt = (DATASETS[name](n_observations=200, outliers=share) for share in (0.0, 0.1))
    y, z = (np.asarray(instance.problem.observations) for instance in (clean, spoilt))
    assert (y != z).any(1).sum() == 20
    np.testing.assert_array_equal(clean.truth.theta, spoilt.truth.theta)
    image = jnp.arange(200)
    behind = [np.asarray(i.problem.log_likelihood(i.truth.theta, image)) for i in (clean, spoilt)]
    changed = (y != z).any(1)
    np.testing.assert_allclose(behind[0][~changed], behind[1][~changed], rtol=1e-6)
    assert np.median(behind[1][changed]) < np.median(behind[0][changed]) - 5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("two-moons", {"std_radius": 0.0}, "std_radius is 0"),
        ("two-moons", {"outliers": 1.0}, "outliers is 1.0"),
        ("two-moons", {"outlier_kind": "neighbour", "outliers": 0.1}, "outlier_kind is 'neighbour'"),
        ("slcp", {"half_width": -1.0}, "half_width is -1"),
        ("slcp", {"n_observations": 0}, "n_observations is 0"),
        ("inverse-kinematics", {"lengths": [1.0, 2.0]}, "wanted 3 positive numbers"),
        ("inverse-kinematics", {"stds": [1.0, 2.0, 0.0, 1.0]}, "wanted 4 positive numbers"),
        ("inverse-kinematics", {"noise_in_degrees": 0.0}, "noise_in_degrees is 0"),
    ],
)
def test_bad_options_are_refused_by_name(name, options, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        DATASETS[name](**options)


@pytest.mark.parametrize("name", NAMES)
def test_the_likelihood_can_be_derived_everywhere(name):
    instance = DATASETS[name](n_observations=50)
    problem = instance.problem
    theta = problem.sample_init(jr.key(3), 50)
    slope = jax.grad(lambda t: problem.log_likelihood(t, jnp.arange(50)).sum())(theta)
    assert np.isfinite(slope).all()
