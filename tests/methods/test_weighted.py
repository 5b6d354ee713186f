"""Of weighted images the first variation is the derivative of the value, and equal weights are as none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryosip.methods.registry import DISCREPANCIES

CASES = [
    ("energy", 1, 0.0),
    ("energy", 1, 0.7),
    ("energy", 3, 0.0),
    ("energy", 12, 0.0),
    ("energy", 12, 0.7),
    ("data-kl", 1, 0.7),
    ("data-kl", 12, 0.0),
    ("invariant-energy", 49, 0.0),
]


def clouds(p):
    rng = np.random.default_rng(p)
    weights = rng.random(30) + 0.1
    return (
        jnp.asarray(rng.normal(3, 1, (30, p))),
        jnp.asarray(weights / weights.sum()),
        jnp.asarray(rng.normal(2, 1.5, (40, p))),
    )


@pytest.mark.parametrize(("name", "p", "noise_std"), CASES)
def test_the_first_variation_is_the_derivative_of_the_value(x64, name, p, noise_std):
    """Along changes of the weights that keep their sum, and along any of the images."""
    y, w, observed = clouds(p)
    target = DISCREPANCIES[name]().bind(observed, noise_std).weighted
    potential, slope = jax.jit(target.variation)(y, w)
    rng, h = np.random.default_rng(0), 1e-5
    change, move = jnp.asarray(rng.normal(size=30)), jnp.asarray(rng.normal(size=y.shape))
    change = 0.01 * (change - change.mean())
    value = jax.jit(target.value)
    by_weights = float(value(y, w + h * change) - value(y, w - h * change)) / (2 * h)
    by_images = float(value(y + h * move, w) - value(y - h * move, w)) / (2 * h)
    assert float(potential @ change) == pytest.approx(by_weights, rel=1e-5, abs=1e-9)
    assert float((w[:, None] * slope * move).sum()) == pytest.approx(by_images, rel=1e-5)


@pytest.mark.parametrize(("name", "p", "noise_std"), CASES)
def test_equal_weights_are_the_plain_target(x64, name, p, noise_std):
    y, _, observed = clouds(p)
    target, equal = DISCREPANCIES[name]().bind(observed, noise_std), jnp.full(30, 1 / 30)
    value, (_, slope) = jax.jit(lambda y: (target.weighted.value(y, equal), target.weighted.variation(y, equal)))(y)
    plain, error = jax.jit(lambda y: (target.gradient(y), target.gradient_error(y)))(y)
    np.testing.assert_allclose(slope, plain, atol=float(error) + 1e-9)
    assert float(value) == pytest.approx(
        float(jax.jit(target.value)(y)), rel=2e-3, abs=1e-9
    )  # of a grid, where it has one


def test_a_point_of_twice_the_weight_is_two_points_on_the_line(x64):
    """Ties count half: on each other, and on observations."""
    y, observed = jnp.array([[0.0], [1.0], [1.0], [3.0]]), jnp.array([[1.0], [2.0]])
    weighted = DISCREPANCIES["energy"]("sorted").bind(observed, 0.0).weighted
    twice = weighted.variation(y, jnp.full(4, 0.25))
    once = weighted.variation(y[jnp.array([0, 1, 3])], jnp.array([0.25, 0.5, 0.25]))
    for of_four, of_three in zip(twice, once, strict=True):
        np.testing.assert_allclose(np.asarray(of_four)[[0, 1, 3]], of_three, atol=1e-12)
    # 2 (F_M - F_N) at 0, 1 and 3: F_M is 0, 1/4, 1 and F_N 1/8, 1/2, 7/8 there
    np.testing.assert_allclose(once[1][:, 0], [-0.25, -0.5, 0.25], atol=1e-12)
