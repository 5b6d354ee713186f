"""Small problems in which everything can be written out: with two pixels, and with a pose."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.datasets.registry import DATASETS
from cryosip.methods.problem import Problem


def _parabola() -> Problem:
    """y = (theta, theta^2) + noise: a nonlinear render of one parameter, with the prior N(0.2, 1)."""
    rng = np.random.default_rng(0)
    theta = rng.choice([-1.0, 0.5, 1.2], 150) + 0.1 * rng.normal(size=150)
    observations = jnp.asarray(np.stack([theta, theta**2], 1) + 0.4 * rng.normal(size=(150, 2)))
    return Problem(
        name="parabola",
        observations=observations,
        noise_std=0.4,
        render=lambda theta, _pose: jnp.concatenate([theta, theta**2], 1),
        sample_pose=lambda _key, _n: (),
        pose_quadrature=lambda _order: ((), jnp.ones(1)),
        sample_init=lambda key, n: jr.normal(key, (n, 1)),
        log_prior=lambda theta: -0.5 * ((theta - 0.2) ** 2).sum(1),
    )


def _rotated() -> Problem:
    """Points of the plane seen under a random angle; three nodes stand for it in the integral of (3.5)."""
    rng = np.random.default_rng(1)
    theta = np.array([[1.0, 0.0], [0.0, 2.0]])[rng.integers(2, size=150)] + 0.1 * rng.normal(size=(150, 2))
    turned = _turn(jnp.asarray(theta), {"angle": jnp.asarray(rng.choice([-0.5, 0.0, 0.5], 150, p=[0.25, 0.5, 0.25]))})
    return Problem(
        name="rotated",
        observations=jnp.asarray(turned + 0.3 * rng.normal(size=(150, 2))),
        noise_std=0.3,
        render=_turn,
        sample_pose=lambda key, n: {"angle": jr.uniform(key, (n,), minval=-0.5, maxval=0.5)},
        pose_quadrature=lambda _order: ({"angle": jnp.array([-0.5, 0.0, 0.5])}, jnp.array([0.25, 0.5, 0.25])),
        sample_init=lambda key, n: jr.normal(key, (n, 2)),
        log_prior=lambda theta: -0.5 * (theta**2).sum(1) / 4,
        theta_box=(jnp.array([-2.0, -1.0]), jnp.array([2.0, 3.0])),
    )


def _turn(theta: jax.Array, pose: dict[str, jax.Array]) -> jax.Array:
    """Row i of theta, turned by angle i."""
    cos, sin = jnp.cos(pose["angle"]), jnp.sin(pose["angle"])
    return jnp.stack([cos * theta[:, 0] - sin * theta[:, 1], sin * theta[:, 0] + cos * theta[:, 1]], 1)


@pytest.fixture(scope="session")
def toys() -> dict[str, Callable[[], Problem]]:
    """Made by a call, so that the arrays have the precision in force then."""
    return {
        "oned": lambda: DATASETS["oned"](n_observations=150, seed=1).problem,
        "parabola": _parabola,
        "rotated": _rotated,
    }
