"""Distances of distributions of volumes: as in all dimensions, split exactly, with anchors that mean what they say."""

import numpy as np
import pytest

from cryosip.bench import metrics, volume_metrics
from cryosip.datasets.volume_frame import MOST_LEADING, frame
from cryosip.methods.method import WeightedPoints

RNG = np.random.default_rng(0)
DIRECTIONS = np.linalg.qr(RNG.normal(size=(40, 40)))[0]


def truth(n=300, rank=3):
    """Draws in a space of three of forty dimensions, away from 0."""
    return 5.0 * DIRECTIONS[5] + RNG.normal(size=(n, rank)) * [3.0, 2.0, 1.0][:rank] @ DIRECTIONS[:rank]


def equal(points):
    return metrics.equally_weighted(points[None])[0]


def test_distances_in_few_dimensions_are_those_in_all():
    true, found = truth(), RNG.normal(size=(50, 40))
    weights = RNG.random(50)
    values = volume_metrics.of_volumes(WeightedPoints(found, weights), frame(true))
    for name in ("w1", "w2", "energy_distance"):
        wanted = metrics.METRICS[name](WeightedPoints(found, weights), equal(true))
        assert values[f"volume_{name}"] == pytest.approx(wanted, rel=1e-6)
    best = metrics.best_weights(WeightedPoints(found, weights), equal(true))["w2"]
    assert values["volume_w2_support"] == pytest.approx(best, rel=1e-6)
    assert values["volume_w2"] ** 2 >= values["volume_w2_inside"] ** 2 + values["volume_outside"] ** 2 - 1e-9


def test_what_is_outside_is_told_from_what_is_inside():
    true = truth()
    away = volume_metrics.of_volumes(equal(true + 2.0 * DIRECTIONS[9]), frame(true))
    assert away["volume_w2"] == pytest.approx(2.0)
    assert away["volume_outside"] == pytest.approx(2.0)
    assert away["volume_w2_inside"] == pytest.approx(0.0, abs=1e-6)
    along = volume_metrics.of_volumes(equal(true + 2.0 * DIRECTIONS[0]), frame(true))
    assert along["volume_w2_inside"] == pytest.approx(along["volume_w2"], rel=1e-6)
    assert along["volume_w2"] == pytest.approx(2.0, rel=1e-6)
    assert along["volume_outside"] == pytest.approx(0.0, abs=1e-6)


def test_the_mean_alone_is_as_far_as_the_spread():
    true = truth()
    anchors = volume_metrics.anchors(frame(true), 3)
    mean = volume_metrics.of_volumes(equal(true.mean(0)[None]), frame(true))
    assert mean["volume_w2"] == pytest.approx(anchors["volume_spread"])
    assert anchors["volume_spread"] == pytest.approx(np.sqrt(true.var(0).sum()))
    assert anchors["volume_w2_best_points"] < anchors["volume_spread"]


def test_the_best_points_of_four_volumes_are_these():
    four = 4.0 * DIRECTIONS[:4]
    true = four[RNG.integers(0, 4, 200)]
    assert volume_metrics.anchors(frame(true), 4)["volume_w2_best_points"] == pytest.approx(0.0, abs=1e-6)
    assert volume_metrics.anchors(frame(true), 2)["volume_w2_best_points"] > 1.0


def test_the_frame_holds_what_varies_and_no_more():
    assert frame(truth()).components.shape == (3, 40)
    noisy = truth() + 1e-3 * RNG.normal(size=(300, 40))
    assert frame(noisy).components.shape == (3, 40)
    assert len(frame(RNG.normal(size=(300, 40))).components) == MOST_LEADING


@pytest.mark.parametrize("factor", [0.02, -7.0])
def test_one_factor_is_fitted_for_all_maps(factor):
    true = truth()
    found, fitted = volume_metrics.scaled(equal(true / factor), frame(true).mean)
    assert fitted == pytest.approx(factor)
    np.testing.assert_allclose(found.theta, true)
    unequal = WeightedPoints(true * np.linspace(0.5, 1.5, len(true))[:, None], np.full(len(true), 1 / len(true)))
    assert (
        volume_metrics.of_volumes(volume_metrics.scaled(unequal, frame(true).mean)[0], frame(true))["volume_w2"] > 1.0
    )


def test_the_floor_is_that_of_other_draws():
    floor = volume_metrics.floor(frame(truth()), (truth(100) for _ in range(5)))
    assert 0.1 < floor.q05 <= floor.median <= floor.q95 < 3.0
    assert floor.n == 100
