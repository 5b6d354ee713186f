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
    floor = volume_metrics.floors(frame(truth()), None, (truth(100) for _ in range(5)))["volume_w2"]
    assert 0.1 < floor.q05 <= floor.median <= floor.q95 < 3.0
    assert floor.n == 100


def test_what_four_components_capture_is_their_share_of_the_true_variance():
    true = truth(rank=2)
    share = true[:, None] @ DIRECTIONS[:2].T
    along = (share[:, 0] - share[:, 0].mean(0)) ** 2
    one = equal(np.outer(RNG.normal(size=60), DIRECTIONS[0]))
    mean = equal(true.mean(0)[None])

    def captured(points):
        return volume_metrics.captured_variance(volume_metrics.principal(points, 4), frame(true))

    assert captured(one) == pytest.approx(along[:, 0].sum() / along.sum(), rel=1e-6)
    assert captured(equal(true)) == pytest.approx(1.0)
    assert captured(mean) == 0.0
    # a fifth component found does not count
    five = equal(RNG.normal(size=(60, 5)) * [9.0, 8.0, 7.0, 6.0, 5.0] @ DIRECTIONS[[9, 10, 11, 12, 0]])
    everything = volume_metrics.captured_variance(volume_metrics.principal(five, 5), frame(true))
    assert everything == pytest.approx(captured(five))
    assert captured(five) < 0.5


@pytest.mark.parametrize("n", [6, 300])
def test_principal_components_are_those_of_weighted_points(n):
    points, weights = RNG.normal(size=(n, 40)) * np.arange(1, 41), RNG.random(n)
    found = volume_metrics.principal(WeightedPoints(points, weights), 3)
    mean = weights @ points / weights.sum()
    covariance = (points - mean).T * weights / weights.sum() @ (points - mean)
    np.testing.assert_allclose(found.mean, mean)
    np.testing.assert_allclose(found.stds**2, np.linalg.eigvalsh(covariance)[:-4:-1], rtol=1e-8)
    np.testing.assert_allclose(covariance @ found.components.T, found.components.T * found.stds**2, atol=1e-8)


STATES = volume_metrics.States(4.0 * DIRECTIONS[:3], np.array([0.5, 0.25, 0.25]), 100)


def test_a_volume_belongs_to_the_nearest_state():
    """Populations 1/4, 1/2, 1/4 of weights that sum to 8, the mean grey value left out by the caller."""
    first, second, third = DIRECTIONS[:3]
    found = np.stack([3.0 * first, 2.5 * second + 2.0 * first, 9.0 * second, third])
    values = volume_metrics.of_states(WeightedPoints(found, np.array([2.0, 3.0, 1.0, 2.0])), STATES)
    assert values["population_total_variation"] == pytest.approx(0.25)
    # against the first, log 2 for log 1/2, and log 1 for log 1/2
    assert values["population_error_in_kT"] == pytest.approx(np.sqrt(((2 * np.log(2)) ** 2 + np.log(2) ** 2) / 2))
    with_states, without = (volume_metrics.of_volumes(equal(found), frame(truth(20)), s) for s in (STATES, None))
    assert set(values) == set(with_states) - set(without)


def test_of_two_states_the_error_is_that_of_their_free_energy_and_a_state_that_is_missed_counts_half_an_image():
    true = np.array([0.3, 0.7])
    assert volume_metrics.error_in_kt(true, true, 0.005) == 0
    assert volume_metrics.error_in_kt(true, np.array([0.5, 0.5]), 0.005) == pytest.approx(np.log(7 / 3))
    assert volume_metrics.error_in_kt(true, np.array([0.0, 1.0]), 0.005) == pytest.approx(np.log(200 * 3 / 7))


def test_floors_of_populations_are_those_of_counts():
    """Of 400 draws of 1/2, 1/4, 1/4: standard deviations .025 and .0217, the mean of |x| is .8 of them."""
    draws = (STATES.volumes[RNG.choice(3, 400, p=STATES.populations)] for _ in range(60))
    floors = volume_metrics.floors(frame(truth(20)), STATES, draws)
    floor = floors["population_total_variation"]
    assert floor.median == pytest.approx(0.5 * 0.8 * (0.025 + 2 * 0.0217), rel=0.4)
    assert floor.q05 < floor.median < floor.q95
    assert (floor.n, set(floors)) == (400, {"volume_w2", "population_total_variation", "population_error_in_kT"})
