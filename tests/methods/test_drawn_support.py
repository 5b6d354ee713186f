"""Draws of pooled posteriors and of a smoothed distribution have the moments that can be written down."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from cryosip.methods.drawn_support import Posteriors, folded, pooled_draws, redrawn
from cryosip.methods.method import WeightedPoints

WIDE = (jnp.full(2, -1e3), jnp.full(2, 1e3))


def test_pooled_draws_weigh_candidates_by_the_volume_below_them():
    """Of the first image a narrow and a wide candidate of one height; the second has one; the third takes no part."""
    theta = jnp.array([[[0.0, 0.0], [10.0, 0.0]], [[20.0, 5.0], [0.0, 0.0]], [[99.0, 99.0], [99.0, 99.0]]])
    narrow, wide = jnp.diag(jnp.array([4.0, 4.0])), jnp.diag(jnp.array([1.0, 0.25]))
    precision = jnp.array([[narrow, wide], [narrow, narrow], [narrow, narrow]])
    height = jnp.array([[-7.0, -7.0], [-3.0, -jnp.inf], [0.0, 0.0]])
    posteriors = Posteriors(theta, precision, height, jnp.array([1.0, 1.0, 0.0]))
    drawn = np.asarray(pooled_draws(jr.key(0), posteriors, 40_000, WIDE))
    at = [np.linalg.norm(drawn - place, axis=1) < 8 - 3 * (place[0] == 0) for place in ([0, 0], [10, 0], [20, 5])]
    # volumes 1 / sqrt|precision|: 1/4 and 2 share half of the draws
    np.testing.assert_allclose([mask.mean() for mask in at], [0.5 / 9, 4 / 9, 0.5], atol=0.01)
    np.testing.assert_allclose(drawn[at[1]].std(0), [1.0, 2.0], rtol=0.03)
    np.testing.assert_allclose(drawn[at[2]].mean(0), [20.0, 5.0], atol=0.02)


def test_where_an_image_tells_nothing_draws_are_as_wide_as_the_box():
    posteriors = Posteriors(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1, 1)), jnp.zeros((1, 1)), jnp.ones(1))
    drawn = np.asarray(pooled_draws(jr.key(1), posteriors, 20_000, (jnp.array([-2.0]), jnp.array([2.0]))))
    assert np.abs(drawn).max() <= 2.0
    assert 1.0 < drawn.std() < 4 / np.sqrt(12) + 0.02


def test_a_smoothed_draw_keeps_mean_and_covariance_and_fills_the_gaps():
    rng = np.random.default_rng(0)
    theta = jnp.asarray(rng.normal(size=(20_000, 2)) @ [[2.0, 1.0], [0.0, 0.5]] + [3.0, -1.0])
    weights = jnp.asarray(np.where(rng.random(20_000) < 0.5, 1.5, 0.5))
    weights /= weights.sum()
    drawn = np.asarray(redrawn(jr.key(2), WeightedPoints(theta, weights), WIDE))
    np.testing.assert_allclose(drawn.mean(0), weights @ theta, atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(np.asarray(theta).T, aweights=weights), atol=0.12)
    assert len(np.unique(drawn, axis=0)) == 20_000
    # one of three points has almost all weight: the width follows the number that is effective
    few = WeightedPoints(jnp.array([[0.0], [1.0], [2.0]]), jnp.array([0.0, 0.5, 0.5]))
    spread = np.asarray(redrawn(jr.key(3), few, (jnp.array([-9.0]), jnp.array([9.0]))))
    assert np.isfinite(spread).all()


def test_the_box_mirrors_what_is_outside():
    box = (jnp.array([0.0]), jnp.array([2.0]))
    found = folded(jnp.array([[0.5], [-0.5], [2.5], [4.5], [-3.75]]), box)
    np.testing.assert_allclose(found[:, 0], [0.5, 0.5, 1.5, 0.5, 0.25], atol=1e-6)
