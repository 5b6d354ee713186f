"""Parts of a problem: some of its observations, and a likelihood that goes with them."""

import jax.numpy as jnp
import numpy as np
import pytest

from cryosip.datasets.registry import DATASETS
from cryosip.methods import problem as contract


def with_likelihood(n=5):
    """y = theta + noise, with its likelihood offered."""
    problem = DATASETS["oned"](n_observations=n).problem
    y, s = problem.observations[:, 0], problem.noise_std
    return problem._replace(log_likelihood=lambda theta, image: -0.5 * (y[image] - theta[:, 0]) ** 2 / s**2)


def test_a_part_is_the_problem_of_its_observations():
    problem = with_likelihood()
    some = contract.part(problem, jnp.array([3, 1]))
    np.testing.assert_array_equal(some.observations, problem.observations[jnp.array([3, 1])])
    theta = jnp.array([[0.5], [-1.0]])
    np.testing.assert_array_equal(
        some.log_likelihood(theta, jnp.array([1, 0])), problem.log_likelihood(theta, jnp.array([1, 3]))
    )
    assert contract.part(problem._replace(log_likelihood=None), jnp.array([0])).log_likelihood is None


def test_halves_are_all_observations_once():
    problem = with_likelihood()
    fit, held_out = contract.halves(problem)
    both = np.concatenate([fit.observations, held_out.observations])
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(problem.observations, axis=0))
    assert (len(fit.observations), len(held_out.observations)) == (3, 2)
    with pytest.raises(ValueError, match="has 1 observation; wanted 2"):
        contract.halves(with_likelihood(1))


def test_noise_may_be_zero_where_the_likelihood_is_offered():
    problem = with_likelihood()._replace(noise_std=0.0)
    assert contract.checked(problem).noise_std == 0.0
    with pytest.raises(ValueError, match=r"noise_std is 0\.0"):
        contract.checked(problem._replace(log_likelihood=None))
    with pytest.raises(ValueError, match=r"noise_std is -1\.0"):
        contract.checked(problem._replace(noise_std=-1.0))
