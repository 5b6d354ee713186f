"""The metrics are the distances they are named for, and their floors are those of draws of the truth."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import ot
import pytest
import scipy.optimize
import scipy.spatial.distance
from scipy.stats import norm

from cryosip.bench import metrics
from cryosip.datasets.instance import Truth
from cryosip.datasets.registry import DATASETS
from cryosip.methods.method import WeightedPoints


def gaussian(mean, std, n=20_000):
    """N(mean, std^2) by its exact quantiles at midpoints."""
    return equal(norm.ppf((np.arange(n) + 0.5) / n, mean, std)[:, None])


def equal(theta):
    return WeightedPoints(theta, np.full(len(theta), 1 / len(theta)))


def cloud(n, d, seed):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 1.0, n)
    return WeightedPoints(rng.normal(seed, 1.0, (n, d)), weights / weights.sum())


@pytest.mark.parametrize(("m1", "s1", "m2", "s2"), [(0.0, 1.0, 3.0, 1.0), (0.0, 1.0, 0.0, 2.5), (-1.0, 0.5, 2.0, 1.5)])
def test_wasserstein_between_gaussians(m1, s1, m2, s2):
    one, other = gaussian(m1, s1), gaussian(m2, s2)
    assert metrics.w2(one, other) == pytest.approx(np.hypot(m1 - m2, s1 - s2), rel=1e-3)
    m, s = m1 - m2, abs(s1 - s2)
    w1 = abs(m) if s == 0 else s * (2 * norm.pdf(m / s) + m / s * (1 - 2 * norm.cdf(-m / s)))  # E |m + s xi|
    assert metrics.w1(one, other) == pytest.approx(w1, rel=1e-3)


def test_weights_count():
    """A quarter of the mass stays, three quarters move by 2."""
    estimate = WeightedPoints(np.array([[0.0], [2.0]]), np.array([0.25, 0.75]))
    origin = WeightedPoints(np.array([[0.0]]), np.array([1.0]))
    assert metrics.w1(estimate, origin) == pytest.approx(1.5)
    assert metrics.w2(estimate, origin) == pytest.approx(np.sqrt(3.0))
    unnormalised = WeightedPoints(estimate.theta, 8 * estimate.weights)
    assert metrics.evaluate(unnormalised, origin) == pytest.approx(metrics.evaluate(estimate, origin))


def test_both_dimensions_take_the_root_of_what_pot_returns():
    one, other = cloud(30, 1, 0), cloud(40, 1, 1)
    w2_squared = ot.emd2(one.weights, other.weights, ot.dist(one.theta, other.theta, metric="sqeuclidean"))
    assert metrics.w2(one, other) == pytest.approx(np.sqrt(w2_squared), rel=1e-9)
    flat = [WeightedPoints(np.c_[p.theta, np.zeros(len(p.theta))], p.weights) for p in (one, other)]
    for metric in metrics.METRICS.values():
        assert metric(*flat) == pytest.approx(metric(one, other), rel=1e-6)


def test_a_shift_in_the_plane():
    one = cloud(60, 2, 0)
    moved = WeightedPoints(one.theta + np.array([3.0, -4.0]), one.weights)
    assert metrics.w1(moved, one) == pytest.approx(5.0)
    assert metrics.w2(moved, one) == pytest.approx(5.0)


@pytest.mark.parametrize("d", [1, 2])
def test_energy_distance_is_the_root_of_the_double_sum(d):
    one, other = cloud(25, d, 0), cloud(30, d, 1)

    def mean_distance(p, q):
        pairs = ((a * b, np.linalg.norm(x - y)) for x, a in zip(*p, strict=True) for y, b in zip(*q, strict=True))
        return sum(mass * distance for mass, distance in pairs)

    squared = 2 * mean_distance(one, other) - mean_distance(one, one) - mean_distance(other, other)
    assert metrics.energy_distance_squared(one, other) == pytest.approx(squared, rel=1e-9)
    assert metrics.energy_distance(one, other) == pytest.approx(np.sqrt(squared), rel=1e-9)


@pytest.mark.parametrize("d", [1, 2])
def test_every_distance_to_itself_is_zero(d):
    one = cloud(50, d, 0)
    assert all(value == pytest.approx(0.0, abs=1e-6) for value in metrics.evaluate(one, one).values())


def test_thinning_keeps_the_law(monkeypatch):
    """Systematic resampling: the share of a group of the points is kept to one part in those that are left."""
    monkeypatch.setattr(metrics, "MAX_POINTS_BEYOND_1D", 200)
    rng = np.random.default_rng(0)
    theta = np.where(rng.uniform(size=(900, 1)) < 0.5, 0.0, 10.0) * np.ones((1, 2))
    weights = np.where(theta[:, 0] > 5, 3.0, 1.0) * rng.uniform(0.5, 1.5, 900)
    weights /= weights.sum()
    x, a = metrics._thinned(theta, weights)
    assert len(x) == 200
    share = weights[theta[:, 0] > 5].sum()
    # 5 standard errors of a draw of 200, an upper bound for the systematic one
    assert a @ (x[:, 0] > 5) == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 200))


def test_the_reference_is_exact_on_the_line():
    """Its distance to the truth is that of 10^4 midpoints, far below the floor of as many draws."""
    truth = DATASETS["oned"](n_observations=10).truth
    points = metrics.reference(truth)
    assert points.theta.shape == (metrics.REFERENCE_POINTS, 1)
    finer = truth.quantile((np.arange(200_000) + 0.5) / 200_000)[:, None]
    assert metrics.w1(points, equal(finer)) < 1e-3
    sampled = metrics.reference(truth._replace(quantile=None))
    assert 2e-3 < metrics.w1(sampled, points) < 0.1
    assert metrics.w1(sampled, truth) == metrics.w1(sampled, points)


@pytest.mark.slow
def test_floors_are_those_of_fresh_samples():
    """Of 60 samples that the floor did not see, nine in ten lie within its 5-95 % interval."""
    truth = DATASETS["oned"](n_observations=10).truth
    points, n = metrics.reference(truth), 300
    floors = metrics.floors(truth, points, n)
    samples = [metrics.evaluate(equal(np.asarray(truth.sample(key, n))), points) for key in jr.split(jr.key(9), 60)]
    for name, floor in floors.items():
        assert floor["n"] == n
        assert floor["q05"] < floor["median"] < floor["q95"]
        inside = np.mean([floor["q05"] <= sample[name] <= floor["q95"] for sample in samples])
        assert 0.75 <= inside <= 1.0, name


def test_against_a_sample_the_floor_of_the_sample_is_added():
    """The truth itself, measured against n draws of it, is as far as n draws are from the truth."""
    truth = DATASETS["oned"](n_observations=10).truth
    points, n = metrics.reference(truth), 300
    measured = metrics.against_samples(points, metrics.equally_weighted(metrics.samples(truth, n, draws=60)))
    floors = metrics.floors(truth, points, n, draws=60)
    for name in ("w1", "w2"):
        assert measured[name] == pytest.approx(floors[name])


@pytest.mark.parametrize(
    ("theta", "weights", "says"),
    [
        (np.zeros(3), np.ones(3), r"theta has shape \(3,\) and weights \(3,\); wanted \(k, d\) and \(k,\)"),
        (np.zeros((3, 1)), np.ones(2), r"theta has shape \(3, 1\) and weights \(2,\)"),
        (np.array([[0.0], [np.nan]]), np.ones(2), "NaN or infinite values"),
        (np.zeros((2, 1)), np.array([1.0, np.inf]), "NaN or infinite values"),
        (np.zeros((2, 1)), np.array([1.5, -0.5]), "weights range from -0.5 to 1.5; wanted none negative, not all 0"),
        (np.zeros((2, 1)), np.zeros(2), "not all 0"),
    ],
)
@pytest.mark.parametrize("metric", metrics.METRICS)
def test_bad_input_is_refused(metric, theta, weights, says):
    with pytest.raises(ValueError, match=says):
        metrics.METRICS[metric](WeightedPoints(theta, weights), gaussian(0.0, 1.0, 10))


@pytest.mark.slow
def test_the_floor_falls_like_one_over_the_root_of_n():
    truth = DATASETS["oned"](n_observations=10).truth
    points = metrics.reference(truth)
    few, many = (metrics.floors(truth, points, n, draws=60)["w1"]["median"] for n in (100, 1_600))
    assert few / many == pytest.approx(4.0, rel=0.35)


def test_the_energy_distance_in_the_plane_takes_all_points():
    """More points than a transport plan takes, with weights, against sums written out."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1_700, 2)), rng.normal(0.3, 1.2, size=(1_600, 2))
    a = rng.dirichlet(np.ones(1_700))
    distances = [np.sqrt(((u[:, None] - v) ** 2).sum(2)) for u, v in ((x, y), (x, x), (y, y))]
    b = np.full(1_600, 1 / 1_600)
    expected = 2 * a @ distances[0] @ b - a @ distances[1] @ a - b @ distances[2] @ b
    found = metrics.energy_distance_squared(WeightedPoints(x, a), WeightedPoints(y, b))
    assert found == pytest.approx(expected, rel=1e-9)


def test_distances_to_the_parameters_behind_the_observations():
    theta = np.random.default_rng(1).normal(size=(50, 2))
    truth = Truth(lambda key, n: jnp.zeros((n, 2)), jnp.asarray(theta))
    moved = WeightedPoints(theta + np.array([3.0, 4.0]), np.full(50, 1 / 50))
    assert metrics.to_data(moved, truth) == pytest.approx({"w1_to_data": 5.0, "w2_to_data": 5.0}, rel=1e-5)
    spread = WeightedPoints(np.concatenate([theta, theta + np.array([0.0, 1.0])]), np.full(100, 1 / 100))
    found = metrics.to_data(spread, truth)
    assert found["w1_to_data"] < found["w2_to_data"]


@pytest.mark.parametrize("d", [1, 2])
def test_no_weights_are_better_than_the_best(d):
    rng = np.random.default_rng(d)
    points = rng.normal(size=(6, d))
    truth = WeightedPoints(rng.normal(size=(400, d)), np.full(400, 1 / 400))
    nearest = scipy.spatial.distance.cdist(truth.theta, points).argmin(1)
    weights = np.bincount(nearest, minlength=6) / 400
    best = metrics.best_weights(WeightedPoints(points, np.full(6, 1 / 6)), truth)
    for name in ("w1", "w2"):
        reached = metrics.METRICS[name](WeightedPoints(points, weights), truth)
        assert best[name] == pytest.approx(reached, rel=1e-6)
        for _ in range(20):
            other = WeightedPoints(points, rng.dirichlet(np.ones(6)))
            assert metrics.METRICS[name](other, truth) >= best[name]


def plane(seed, n=60):
    return equal(np.random.default_rng(seed).normal(size=(n, 2)))


def test_a_transport_plan_that_stops_at_its_cap_is_no_distance(monkeypatch, recwarn):
    """POT then returns the cost of no plan, above or below the distance, and warns; here the metric is marked."""
    right = metrics.w2(plane(0), plane(1))
    monkeypatch.setattr(metrics, "MAX_PIVOTS", 10)
    stopped = metrics.w2(plane(0), plane(1))
    assert isinstance(stopped, metrics.Unsolved)
    assert np.isnan(stopped)
    assert right == pytest.approx(exact_w2(plane(0), plane(1)), rel=1e-9)  # some hundred sums in float64
    assert not [w for w in recwarn if "numItermax" in str(w.message)]


def exact_w2(x, y):
    """Of as many points with equal weights: the best assignment."""
    cost = scipy.spatial.distance.cdist(x.theta, y.theta) ** 2
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    return np.sqrt(cost[rows, columns].mean())


def test_floors_leave_out_what_was_not_solved(monkeypatch):
    truth = DATASETS["nanocluster"](n_observations=2, image_size=16, tau=0.5).truth
    points = plane(2)
    monkeypatch.setattr(metrics, "MAX_PIVOTS", 3)
    found = set(metrics.floors(truth, points, 30, draws=2))
    assert {"energy_distance", "energy_distance_squared"} <= found
    assert not found & {"w1", "w2"}


def test_distributions_are_compared_in_what_images_can_tell():
    """Images tell |theta_1| alone: the mirrored estimate is as good, a shifted one is not."""

    def sample(key, n):
        return 1.0 + 0.1 * jr.normal(key, (n, 2))

    truth = Truth(sample, sample(jr.key(3), 50), identifiable=lambda theta: jnp.abs(theta[:, :1]))
    estimate = equal(np.asarray(sample(jr.key(1), 500)))
    mirrored = WeightedPoints(-estimate.theta, estimate.weights)
    assert metrics.reference(truth).theta.shape[1] == metrics.samples(truth, 20).shape[2] == 1
    for metric in metrics.METRICS.values():
        assert metric(mirrored, truth) == pytest.approx(metric(estimate, truth), abs=1e-12)
        assert metric(equal(1.0 + estimate.theta), truth) > 5 * metric(estimate, truth)
    seen = metrics.identified(truth, mirrored)
    assert metrics.w2(seen, metrics.reference(truth)) == metrics.w2(mirrored, truth)
    assert metrics.to_data(seen, truth)["w1_to_data"] < 0.1
