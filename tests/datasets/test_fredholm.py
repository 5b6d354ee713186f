"""The deconvolution problem draws what it says, in any dimension."""

import jax.random as jr
import numpy as np
import pytest
import scipy.stats
from scipy.stats import norm

from cryosip.datasets.fredholm import fredholm
from cryosip.datasets.gaussian_mixture import gaussian_mixture

DRAWS = 20_000
OTHER = {"means": (-1.0, 0.0, 4.0), "stds": (0.5, 0.1, 1.0), "weights": (0.2, 0.5, 0.3), "noise_std": 0.7}


def moments(d, means=(0.3, 0.7), stds=(0.07, 0.1), weights=(1 / 3, 2 / 3), **_):
    """Mean and covariance of theta where all coordinates share their component."""
    mean = np.dot(weights, means)
    within, between = np.dot(weights, np.square(stds)), np.dot(weights, (np.array(means) - mean) ** 2)
    return mean, within * np.eye(d) + between * np.ones((d, d))


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("law", [{}, OTHER], ids=["paper", "other"])
def test_draws_share_their_component_over_the_coordinates(d, law):
    """Means, covariances and the first marginal within 5 standard errors; 2 d + 2 of them at most."""
    instance = fredholm(n_observations=DRAWS, dimension=d, seed=4, **law)
    mean, covariance = moments(d, **law)
    for theta in (instance.truth.theta, instance.truth.sample(jr.key(2), DRAWS)):
        x = np.asarray(theta, np.float64)
        assert x.shape == (DRAWS, d)
        np.testing.assert_allclose(x.mean(0), mean, atol=5 * np.sqrt(covariance[0, 0] / DRAWS))
        products = (x - mean)[:, :, None] * (x - mean)[:, None]
        error = products.std(0).max() / np.sqrt(DRAWS)
        np.testing.assert_allclose(products.mean(0), covariance, atol=5 * error)
    if d == 1:
        u = np.linspace(0.001, 0.999, 99)
        assert scipy.stats.kstest(np.interp(x[:, 0], instance.truth.quantile(u), u), "uniform").pvalue > 1e-6
    else:
        assert instance.truth.quantile is None


def test_the_noise_and_what_a_method_sees():
    problem, truth = fredholm(n_observations=DRAWS, dimension=3, seed=1)[:2]
    noise = np.asarray(problem.observations - truth.theta, np.float64)
    np.testing.assert_allclose(np.cov(noise.T), 0.15**2 * np.eye(3), atol=5 * 0.15**2 * np.sqrt(2 / DRAWS))
    y = np.asarray(problem.observations, np.float64)
    theta = problem.sample_init(jr.key(0), DRAWS)
    first = np.asarray(theta, np.float64)
    np.testing.assert_allclose(first.mean(0), y.mean(0), atol=5 * y.std() / np.sqrt(DRAWS))
    np.testing.assert_allclose(first.std(0), y.std(0), atol=5 * y.std() / np.sqrt(2 * DRAWS))
    offset = problem.log_prior(theta) - norm.logpdf(first, y.mean(0), y.std(0)).sum(1)
    np.testing.assert_allclose(offset, offset[0], atol=1e-4)
    np.testing.assert_array_equal(problem.render(problem.observations, ()), problem.observations)
    lower, upper = problem.theta_box
    assert bool(((problem.observations >= lower) & (problem.observations <= upper)).all())


def test_one_observation_has_an_initial_distribution():
    problem = fredholm(n_observations=1).problem
    assert float(np.std(problem.sample_init(jr.key(0), 1_000))) == pytest.approx(0.15, rel=5 / np.sqrt(2_000))


def test_the_density_is_the_derivative_of_the_distribution_function():
    mixture = gaussian_mixture((0.3, 0.7), (0.07, 0.1), (1 / 3, 2 / 3))
    x, h = np.linspace(0, 1, 50), 1e-5
    slope = (mixture.cdf(x + h) - mixture.cdf(x - h)) / (2 * h)
    np.testing.assert_allclose(mixture.pdf(x), slope, atol=1e-6)  # h^2 f'' / 6 and rounding / h


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dimension": 0}, "dimension is 0; wanted a whole number >= 1"),
        ({"dimension": 1_001}, "dimension is 1001; wanted a whole number >= 1 and <= 1000"),
        ({"noise_std": -1.0}, "noise_std is -1.0; wanted a positive finite number"),
        ({"n_observations": 0}, "n_observations is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"weights": (0.5, 0.6)}, "wanted a sum of 1"),
        ({"stds": (0.1,)}, "wanted as many stds and weights as means"),
    ],
)
def test_bad_input_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        fredholm(**options)
