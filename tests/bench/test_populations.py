"""Distances of populations of given structures against numbers by hand, and their floors."""

import jax.numpy as jnp
import numpy as np
import pytest

from cryosip.bench import examples, metrics
from cryosip.methods.method import WeightedPoints

SUPPORT = np.array([[0.0], [2.0], [5.0]])


def test_a_point_belongs_to_the_nearest_given_structure():
    points = WeightedPoints(np.array([[-3.0], [0.9], [1.1], [3.4], [3.6], [9.0]]), np.array([1, 2, 3, 4, 5, 5]) / 20)
    np.testing.assert_allclose(metrics.populations(points, SUPPORT), [3 / 20, 7 / 20, 10 / 20])


def test_total_variation_and_divergence_by_hand():
    true, estimated = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    assert metrics.population_total_variation(true, estimated) == pytest.approx(0.25)
    # 1/2 log 2 + 0 + 1/4 log 1/2
    assert metrics.population_kl(true, estimated) == pytest.approx(0.25 * np.log(2))
    true, estimated = np.array([0.75, 0.25]), np.array([0.25, 0.75])
    assert metrics.population_kl(true, estimated) == pytest.approx(0.5 * np.log(3))


def test_zeros_of_the_truth_add_nothing_and_those_of_an_estimate_count_as_the_least_population():
    half, whole = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    # the least population, 1e-4, shifts the other by as much
    assert metrics.population_kl(whole, half) == pytest.approx(np.log(2))
    expected = 0.5 * np.log(0.5 * 1.0001) + 0.5 * np.log(0.5 * 1.0001 / 1e-4)
    assert metrics.population_kl(half, whole) == pytest.approx(expected)
    assert metrics.population_kl(whole, whole) == pytest.approx(np.log(1.0001), abs=1e-9)


def test_the_floor_is_that_of_a_sample_of_as_many_structures():
    """Of populations .3 and .7, total variation is |share - .3|, whose median is .67 sqrt(.3 .7 / n)."""
    problem, truth, *_ = examples.example_problem("ensemble")
    n = 400
    points, support = metrics.reference(truth), np.asarray(problem.support)
    floor = metrics.floors(truth, points, n, 200, support)
    std = np.sqrt(0.3 * 0.7 / n)
    # the median of 200 has a standard error of 0.11 std, and shares are multiples of 1/400, 0.11 std
    assert floor["population_total_variation"]["median"] == pytest.approx(0.674 * std, abs=0.6 * std)
    assert 0 < floor["population_kl"]["median"] < 5 / n
    assert "population_kl" not in metrics.floors(truth, points, n, 2)
    exact = metrics.of_populations(WeightedPoints(jnp.asarray(support), jnp.array([0.3, 0.7])), points, support)
    assert exact == pytest.approx({"population_total_variation": 0.0, "population_kl": 0.0}, abs=1e-6)
