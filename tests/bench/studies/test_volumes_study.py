"""What a record of volumes keeps for figures: components of the estimate, and where images are in them."""

import numpy as np
import pytest

from cryosip.bench.studies import measured_volumes
from cryosip.bench.studies.measured_volumes import along_own, pointing_as_the_truth
from cryosip.bench.volume_images import Own
from cryosip.bench.volume_metrics import principal
from cryosip.datasets.volume_frame import frame
from cryosip.methods.method import WeightedPoints

RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(80, 2)) * [3.0, 1.0] @ np.eye(2, 12, 1) + 1.0  # along the second and third coefficients
WITHIN = frame(TRUE[:, 1:])


@pytest.mark.parametrize("side", [-1, 1])
def test_components_are_those_of_the_weighted_points_and_point_as_the_truth_does(side):
    weights = RNG.random(30)
    points = RNG.normal(size=(30, 1)) * 2.0 * side @ np.eye(1, 12, 1) + RNG.normal(size=(30, 1)) @ np.eye(1, 12, 5)
    found = pointing_as_the_truth(principal(WeightedPoints(points[:, 1:], weights), 4), WITHIN)
    covariance = np.cov(points[:, 1:].T, aweights=weights, ddof=0)
    np.testing.assert_allclose((found.components.T * found.stds**2) @ found.components, covariance, atol=1e-9)
    np.testing.assert_allclose(found.mean, np.average(points[:, 1:], axis=0, weights=weights))
    assert found.components[0] @ WITHIN.components[0] > 0.9


def test_images_are_where_their_own_volumes_are(monkeypatch):
    own = Own(np.arange(0, 80, 2), TRUE[::2])
    found = pointing_as_the_truth(principal(WeightedPoints(TRUE[:, 1:], np.full(80, 1 / 80)), 4), WITHIN)
    rows = along_own(own, TRUE, found, WITHIN)
    assert rows.shape == (40, 3)
    # the estimate is the truth: so are its coordinates
    np.testing.assert_allclose(rows[:, 0], rows[:, 2], atol=1e-6)
    np.testing.assert_allclose(np.abs(rows[:, 1]), np.abs((TRUE - TRUE.mean(0))[::2, 1:] @ found.components[1]))
    monkeypatch.setattr(measured_volumes, "MOST_SHOWN", 10)
    np.testing.assert_array_equal(along_own(own, TRUE, found, WITHIN), rows[np.linspace(0, 39, 10).astype(int)])


def test_one_volume_has_one_component_and_images_no_second_coordinate():
    found = pointing_as_the_truth(principal(WeightedPoints(TRUE[:1, 1:], np.ones(1)), 4), WITHIN)
    rows = along_own(Own(np.arange(80), np.repeat(TRUE[:1], 80, 0)), TRUE, found, WITHIN)
    assert rows.shape == (80, 3)
    np.testing.assert_allclose(rows[:, :2], 0.0, atol=1e-9)
