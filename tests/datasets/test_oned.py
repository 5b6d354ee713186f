"""The one-dimensional system draws what it says, for the paper's mixture and for any other."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
from scipy.stats import norm

from cryosip.datasets.gaussian_mixture import gaussian_mixture
from cryosip.datasets.oned import oned

PAPER = {"means": (-2.0, 2.0), "stds": (0.75, 0.3), "weights": (0.5, 0.5)}
THREE = {"means": (-5.0, 0.5, 1.0), "stds": (0.2, 2.0, 0.1), "weights": (0.2, 0.5, 0.3)}
LAWS = pytest.mark.parametrize("law", [PAPER, THREE], ids=["paper", "three"])
DRAWS = 40_000


def cdf(law, x):
    """The distribution function, written out."""
    return sum(w * norm.cdf(x, m, s) for m, s, w in zip(law["means"], law["stds"], law["weights"], strict=True))


def moments(law):
    means, stds, weights = (np.array(law[name]) for name in ("means", "stds", "weights"))
    mean = weights @ means
    return mean, np.sqrt(weights @ (stds**2 + (means - mean) ** 2))


def test_the_defaults_are_the_papers():
    instance = oned()
    problem = instance.problem
    assert problem.observations.shape == instance.truth.theta.shape == (10_000, 1)
    assert problem.noise_std == 1.5
    u = np.linspace(0.01, 0.99, 9)
    np.testing.assert_allclose(cdf(PAPER, instance.truth.quantile(u)), u, atol=1e-12)


@LAWS
@pytest.mark.parametrize("what", ["sample", "theta"])
def test_draws_follow_the_law(law, what):
    """Mean, std and distribution function within 5 standard errors; z for the grid by Bonferroni."""
    truth = oned(n_observations=DRAWS, noise_std=0.3, seed=11, **law).truth
    x = np.asarray(truth.sample(jr.key(5), DRAWS) if what == "sample" else truth.theta, np.float64)
    assert x.shape == (DRAWS, 1)
    mean, std = moments(law)
    fourth = np.mean((x - mean) ** 4)
    assert x.mean() == pytest.approx(mean, abs=5 * std / np.sqrt(DRAWS))
    assert x.var() == pytest.approx(std**2, abs=5 * np.sqrt((fourth - std**4) / DRAWS))
    places = truth.quantile(np.linspace(0.02, 0.98, 40))
    expected = cdf(law, places)
    z = norm.isf(norm.sf(5) / len(places))
    error = np.abs((x[:, 0] <= places[:, None]).mean(1) - expected) / np.sqrt(expected * (1 - expected) / DRAWS)
    assert error.max() < z


@LAWS
def test_the_quantile_inverts_the_distribution_function(law):
    mixture = gaussian_mixture(**law)
    u = np.concatenate([[1e-12, 1e-6], np.linspace(0.001, 0.999, 999), [1 - 1e-9]])
    x = mixture.quantile(u)
    np.testing.assert_allclose(cdf(law, x), u, atol=1e-12)
    np.testing.assert_allclose(mixture.cdf(x), cdf(law, x), atol=1e-14)
    assert (np.diff(x) > 0).all()


def test_the_noise_has_its_std_and_is_symmetric():
    instance = oned(n_observations=DRAWS, noise_std=0.3, seed=3, **THREE)
    noise = np.asarray(instance.problem.observations - instance.truth.theta, np.float64)[:, 0]
    assert noise.mean() == pytest.approx(0.0, abs=5 * 0.3 / np.sqrt(DRAWS))
    assert noise.std() == pytest.approx(0.3, abs=5 * 0.3 / np.sqrt(2 * DRAWS))
    assert scipy.stats.skew(noise) == pytest.approx(0.0, abs=5 * np.sqrt(6 / DRAWS))
    assert scipy.stats.kurtosis(noise) == pytest.approx(0.0, abs=5 * np.sqrt(24 / DRAWS))
    correlation = np.corrcoef(noise, np.asarray(instance.truth.theta)[:, 0])[0, 1]
    assert correlation == pytest.approx(0.0, abs=5 / np.sqrt(DRAWS))


def test_the_seed_decides_the_data():
    one, same, other = (oned(n_observations=50, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.problem.observations, same.problem.observations)
    np.testing.assert_array_equal(one.truth.theta, same.truth.theta)
    assert not jnp.intersect1d(one.problem.observations, other.problem.observations).size
    assert not jnp.intersect1d(one.truth.theta, other.truth.theta).size


def test_what_a_method_sees():
    """y = theta without a pose; the initial law and log rho_p agree; the box holds the observations."""
    problem = oned(n_observations=DRAWS, noise_std=0.3, init_mean=1.0, init_std=2.0).problem
    theta = problem.sample_init(jr.key(0), DRAWS)
    np.testing.assert_array_equal(problem.render(theta, problem.sample_pose(jr.key(1), DRAWS)), theta)
    assert float(theta.mean()) == pytest.approx(1.0, abs=5 * 2 / np.sqrt(DRAWS))
    assert float(theta.std()) == pytest.approx(2.0, abs=5 * 2 / np.sqrt(2 * DRAWS))
    offset = problem.log_prior(theta) - norm.logpdf(np.asarray(theta)[:, 0], 1.0, 2.0)
    np.testing.assert_allclose(offset, offset[0], atol=1e-4)
    nodes, weights = problem.pose_quadrature(3)
    assert jax.tree.leaves(nodes) == []
    assert weights.tolist() == [1.0]
    lower, upper = problem.theta_box
    assert lower.shape == upper.shape == (1,)
    assert bool((problem.observations >= lower).all() & (problem.observations <= upper).all())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_observations": 0}, "n_observations is 0; wanted a whole number >= 1"),
        ({"noise_std": 0.0}, "noise_std is 0.0; wanted a positive finite number"),
        ({"noise_std": float("nan")}, "noise_std is nan"),
        ({"init_std": -1.0}, "init_std is -1.0"),
        ({"init_mean": float("inf")}, "init_mean is inf; wanted a finite number"),
        ({"seed": -1}, "seed is -1; wanted a whole number >= 0"),
        ({"stds": (0.5, -0.1)}, r"stds are \[0.5, -0.1\]; wanted positive numbers"),
        ({"weights": (1.0, 0.0)}, r"weights are \[1.0, 0.0\]; wanted positive numbers"),
        ({"weights": (0.5, 0.6)}, "with sum 1.1; wanted a sum of 1"),
        ({"means": (0.0, 1.0, 2.0)}, "lengths are {'means': 3, 'stds': 2, 'weights': 2}; wanted as many"),
        ({"means": (0.0, float("nan"))}, "means holds 1 NaN or infinite values of 2"),
        ({"means": (), "stds": (), "weights": ()}, r"means has shape \(1, 0\)"),
    ],
)
def test_bad_input_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        oned(**options)
