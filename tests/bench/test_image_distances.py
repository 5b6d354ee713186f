"""Distances between images against sums written out, in every reading."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.bench import image_distances as module
from cryosip.bench.image_distances import observed_totals, readings, simulated_images
from cryosip.datasets.nanocluster import nanocluster
from cryosip.methods.method import WeightedPoints


def mean_distance(x, y, diagonal=True):
    distances = np.sqrt(((np.float64(x)[:, None] - np.float64(y)) ** 2).sum(2))
    return distances.mean() if diagonal else distances.sum() / (len(x) * (len(x) - 1))


@pytest.mark.parametrize(
    ("few", "span"),
    [(512, False), (10, True), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(512, True), (10, False)])],
    ids=["float64-pixels", "gram-span", "float64-span", "gram-pixels"],
)
def test_readings_are_what_they_say(few, span, monkeypatch):
    monkeypatch.setattr(module, "FEW_COORDINATES", few)
    instance = nanocluster(30, image_size=16, tau=0.5, noise_std=0.05, seed=2)
    if not span:
        instance = instance._replace(problem=instance.problem._replace(span=None))
    estimate = WeightedPoints(np.array([[3.0, 4.0], [5.0, 5.0], [4.0, 2.0]], np.float32), np.float32([0.2, 0.3, 0.5]))
    found = readings(instance, observed_totals(instance), estimate, jr.key(3))
    clean, noisy = simulated_images(instance.problem, estimate, 30, jr.key(3))
    seen, behind = instance.problem.observations, instance.problem.render(instance.truth.theta, ())
    pairs = {"noisy": (noisy, seen), "clean": (clean, behind), "mixed": (clean, seen)}
    for kind, (x, y) in pairs.items():
        for statistic in "vu":
            within = sum(mean_distance(a, a, diagonal=statistic == "v") for a in (x, y))
            expected = 2 * mean_distance(x, y) - within
            assert found[f"images_{kind}_{statistic}"] == pytest.approx(expected, abs=2e-3), (kind, statistic)
    assert found["images_noisy_u"] < found["images_noisy_v"]


def test_simulated_images_follow_the_weights_and_the_noise():
    problem = nanocluster(4, image_size=8, tau=1.0, noise_std=0.7).problem
    estimate = WeightedPoints(np.array([[2.0, 2.0], [6.0, 6.0]], np.float32), np.array([0.25, 0.75], np.float32))
    clean, noisy = simulated_images(problem, estimate, 4_000, jr.key(0))
    second = np.asarray(problem.render(jnp.asarray(estimate.theta[1:]), ()))
    share = np.isclose(clean, second).all(1).mean()
    assert share == pytest.approx(0.75, abs=5 * np.sqrt(0.75 * 0.25 / 4_000))
    assert float((noisy - clean).std()) == pytest.approx(0.7, abs=5 * 0.7 / np.sqrt(2 * noisy.size))
