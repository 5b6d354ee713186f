"""The duality gap bounds what any distribution could gain, against the certified optimum on the line."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.bench.studies.certified import likelihood, minimise
from cryosip.datasets.registry import DATASETS
from cryosip.methods.certificate import duality_gap
from cryosip.methods.marginal import marginal, negative_log_likelihood
from cryosip.methods.method import WeightedPoints


def line():
    problem = DATASETS["oned"](n_observations=100, seed=1).problem
    y = np.asarray(problem.observations)[:, 0].astype(np.float64)
    low, high = (float(bound[0]) for bound in problem.theta_box)
    return problem, minimise(likelihood(y, problem.noise_std, low, high), low, high)


def test_the_certified_optimum_has_no_gap(x64):
    problem, optimum = line()
    gap = duality_gap(problem, WeightedPoints(optimum.theta[:, None], optimum.weights))
    assert abs(gap.value) < 1e-8  # certified to 1e-10; Newton's steps end within rounding of the maximum
    assert gap.covered


def test_the_gap_bounds_what_is_lost(x64):
    problem, optimum = line()
    for seed in range(3):
        theta = jnp.asarray(np.random.default_rng(seed).normal(size=(5, 1)))
        law = WeightedPoints(theta, jnp.full(5, 0.2))
        lost = float(negative_log_likelihood(marginal(problem), law)) - optimum.value
        assert 0 < lost <= duality_gap(problem, law).value


def test_the_maximum_is_found_between_the_nodes_of_a_grid(x64):
    """Written out: one observation, seen from a point at distance r, is exp(r^2 / 2) as likely at the observation."""
    problem = DATASETS["oned"](n_observations=1, noise_std=1.0, seed=4).problem
    y = problem.observations[0]
    problem = problem._replace(theta_box=(y - 1.234, y + 4.0))
    gap = duality_gap(problem, WeightedPoints((y + 2.0)[None], jnp.ones(1)))
    assert gap.value == pytest.approx(np.exp(2.0) - 1, rel=1e-10)
    assert float(gap.theta[0]) == pytest.approx(float(y[0]), abs=1e-6)


def test_a_likelihood_that_is_offered_takes_the_place_of_images(x64, toys):
    """That of the rotated points under three known angles, each image with its own."""
    problem = toys["rotated"]()
    angle = jnp.linspace(-0.5, 0.5, len(problem.observations))

    def log_likelihood(theta, image):
        turned = problem.render(theta, {"angle": angle[image]})
        return -0.5 * ((problem.observations[image] - turned) ** 2).sum(1) / problem.noise_std**2

    rows = marginal(problem._replace(log_likelihood=log_likelihood)).log_p(jnp.array([[1.0, 0.0], [0.0, 2.0]]))
    turned = problem.render(jnp.array([[0.0, 2.0]]), {"angle": angle[7:8]})[0]
    expected = -0.5 * float(((problem.observations[7] - turned) ** 2).sum()) / 0.09
    assert float(rows[1, 7]) == pytest.approx(expected, rel=1e-9)


def test_poses_are_integrated_over_their_nodes(x64, toys):
    problem = toys["rotated"]()
    theta = jnp.array([[1.0, 0.5]])
    pose, weights = problem.pose_quadrature(1)
    turned = problem.render(jnp.repeat(theta, 3, axis=0), pose)
    squares = ((problem.observations[:, None] - turned) ** 2).sum(-1)
    expected = np.log(np.exp(-0.5 * np.asarray(squares) / 0.09) @ np.asarray(weights))
    np.testing.assert_allclose(marginal(problem).log_p(theta)[0], expected, rtol=1e-9)


def test_more_dimensions_are_said_not_to_be_covered():
    d = 3
    problem = DATASETS["oned"](n_observations=5).problem._replace(
        observations=jr.normal(jr.key(0), (5, d)),
        sample_init=lambda key, n: jr.normal(key, (n, d)),
        theta_box=(-jnp.full(d, 3.0), jnp.full(d, 3.0)),
    )
    gap = jax.block_until_ready(duality_gap(problem, WeightedPoints(jnp.zeros((1, d)), jnp.ones(1))))
    assert not gap.covered
    assert gap.value > 0


def test_a_problem_without_a_box_is_refused(tiny):
    law = WeightedPoints(jnp.zeros((1, 1)), jnp.ones(1))
    with pytest.raises(ValueError, match="has no theta_box"):
        duality_gap(tiny.problem._replace(theta_box=None), law)
