"""Where a problem offers each image's likelihood, best structures are its maxima and EM is that of its table."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special

from cryosip.methods.posterior_npmle import posterior_npmle
from cryosip.methods.problem import Problem, no_pose, one_node

CENTRES = np.random.default_rng(0).normal(size=(30, 2))
PRECISION = np.array([[3.0, 1.0], [1.0, 2.0]])


def quadratic(support=None) -> Problem:
    """-(theta - c_i)^T P (theta - c_i) / 2, and no noise in the image itself."""
    centres, precision = jnp.asarray(CENTRES, jnp.float32), jnp.asarray(PRECISION, jnp.float32)

    def log_likelihood(theta, image):
        away = theta - centres[image]
        return -0.5 * ((away @ precision) * away).sum(1)

    return Problem(
        name="quadratic",
        observations=centres,
        noise_std=0.0,
        render=lambda theta, _pose: theta,
        sample_pose=no_pose,
        pose_quadrature=one_node,
        sample_init=lambda key, n: jr.normal(key, (n, 2)),
        log_prior=lambda theta: -0.5 * (theta**2).sum(1),
        theta_box=(jnp.full(2, -4.0), jnp.full(2, 4.0)),
        log_likelihood=log_likelihood,
        support=support,
    )


def after(method, steps):
    """The last state, and the objective before its last step."""
    step, state = jax.jit(method.step), method.init(jr.key(0))
    for _ in range(steps):
        state, info = step(jr.key(1), state)
    return state, float(info.objective)


def em(theta, steps):
    """Weights by EM written out, and the objective before the last step."""
    away = CENTRES[:, None] - theta
    table = -0.5 * np.einsum("ikd,de,ike->ik", away, PRECISION, away)
    weights = np.full(len(theta), 1 / len(theta))
    for _ in range(steps):
        evidence = scipy.special.logsumexp(table, axis=1, b=weights)
        weights = weights * np.exp(table - evidence[:, None]).mean(0)
    return weights, -evidence.mean()


def test_newton_steps_find_each_maximum_and_em_is_that_of_the_exact_table():
    method = posterior_npmle(quadratic(), n_support=9, n_refinements=8)
    state, objective = after(method, 9 + 8 + 20)
    theta, weights = method.estimate(state)
    np.testing.assert_allclose(
        theta, CENTRES, atol=1e-3
    )  # damping leaves 1e-2 of an error in the first step, then less
    expected, value = em(CENTRES, 20)
    np.testing.assert_allclose(weights, expected, atol=1e-3)
    assert objective == pytest.approx(value, abs=1e-3)


def test_structures_that_are_given_stay_and_only_their_weights_move():
    given = np.array([[-1.0, 0.0], [0.5, 0.5], [1.0, -1.0]], np.float32)
    method = posterior_npmle(quadratic(jnp.asarray(given)), n_refinements=8)
    state, objective = after(method, 3 + 15)
    theta, weights = method.estimate(state)
    np.testing.assert_array_equal(theta, given)
    expected, value = em(given, 15)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    assert objective == pytest.approx(value, abs=1e-5)
