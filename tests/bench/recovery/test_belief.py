"""Junk, held-out gains and distances are what their formulas say."""

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats

from cryosip.bench.recovery.belief import energy_distance, held_out, junk_probabilities, spread, unexplained
from cryosip.methods.method import WeightedPoints
from cryosip.methods.tabulated import Grid


def test_junk_is_what_noise_explains_better():
    rng = np.random.default_rng(0)
    gains = np.concatenate([rng.normal(-30, 3, 100), rng.normal(30, 3, 300)])
    share, probability = junk_probabilities(gains)
    assert share.value == pytest.approx(0.25, abs=0.01)
    width = 1.645 * np.sqrt(0.25 * 0.75 / 400)  # of the binomial distribution
    assert (share.low, share.high) == pytest.approx((0.25 - width, 0.25 + width), abs=0.015)
    assert (probability[:100] > 0.99).all()
    assert (probability[100:] < 0.01).all()


def test_where_images_say_nothing_the_share_of_junk_may_be_any():
    share, _ = junk_probabilities(1e-3 * np.random.default_rng(0).normal(size=400))
    assert (share.low, share.high) == (0.0, 1.0)
    none, probability = junk_probabilities(np.full(400, 30.0))
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(2.71 / 2 / 400, rel=0.1)
    assert probability.max() < 1e-6


def test_misfits_beyond_noise_are_counted():
    rng = np.random.default_rng(0)
    squares = rng.chisquare(100, 2_000)
    squares[:50] += 200
    best = np.full(2_000, 0.0)
    assert unexplained(squares, best, 100) == pytest.approx(0.025, abs=0.002)
    assert unexplained(squares + 10, best + 5, 100) == unexplained(squares, best, 100)


def test_the_held_out_gain_is_over_equal_weights():
    evidence = np.random.default_rng(0).normal(size=6)
    points = WeightedPoints(np.array([[0.0], [1.0]]), np.array([0.25, 0.75]))

    def log_likelihood(theta, image):
        return theta[:, 0] * (1.0 + image)

    rows = np.array([1, 4])
    wanted = [np.log(0.25 + 0.75 * np.exp(1.0 + i)) - evidence[i] for i in rows]
    np.testing.assert_allclose(held_out(points, log_likelihood, evidence, rows), wanted, rtol=1e-5)


def test_the_energy_distance_leaves_out_the_own_pose():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(30, 5)).astype(np.float32) for _ in range(2))
    off = ~np.eye(30, dtype=bool)
    mean = [scipy.spatial.distance.cdist(a, b)[off].mean() for a, b in ((x, y), (x, x), (y, y))]
    assert energy_distance(x, y) == pytest.approx(2 * mean[0] - mean[1] - mean[2], abs=1e-4)
    assert energy_distance(x, y + 1) > energy_distance(x, y) + 0.5


def test_the_spread_is_the_distance_from_the_mean():
    grid = Grid(np.full(2, -1.0), np.full(2, 1.0), 5)
    weights = np.random.default_rng(0).dirichlet(np.ones(25), size=2)
    for row, value in zip(weights, spread(grid, weights), strict=True):
        centre = row @ grid.points
        assert value == pytest.approx(np.sqrt(row @ ((grid.points - centre) ** 2).sum(1)))
