"""Minima over all laws: the duality gap bounds the true one, the solver finds what brute force finds."""

import itertools

import numpy as np
import pytest
from scipy.stats import norm

from cryosip.bench.studies import certified
from cryosip.bench.studies.certified import OBJECTIVES, best_particles, minimise, particles, quadratic_on_simplex

STD = 0.9
NORMAL = norm.ppf((np.arange(40_000) + 0.5) / 40_000)


def observed(n: int = 60, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.choice([-2.0, 0.5, 2.5], n, p=[0.5, 0.2, 0.3]) + STD * rng.normal(size=n)


def objective(name: str, y: np.ndarray) -> certified.Objective:
    return OBJECTIVES[name](y, STD, y.min(), y.max())


def law(k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-2, 2, k), rng.dirichlet(np.ones(k))


def written_out(name: str, y: np.ndarray, theta: np.ndarray, w: np.ndarray) -> float:
    """E by one sum after the other, the noise of the energy distance by its expectation."""
    if name == "likelihood":
        return -np.mean([np.log(w @ np.exp(-0.5 * ((a - theta) / STD) ** 2)) for a in y])

    def mean_gap(a: float, std: float) -> float:
        return float(np.abs(a + std * NORMAL).mean())

    cross = sum(b * np.mean([mean_gap(t - a, STD) for a in y]) for t, b in zip(theta, w, strict=True))
    pairs = zip(itertools.product(theta, repeat=2), itertools.product(w, repeat=2), strict=True)
    simulated = sum(p * q * mean_gap(s - t, np.sqrt(2) * STD) for (s, t), (p, q) in pairs)
    return cross - simulated / 2 - np.abs(y[:, None] - y).mean() / 2


@pytest.mark.parametrize("name", OBJECTIVES)
def test_value_and_derivatives(name):
    """E against its sums; V, V' and the curvature against differences of E."""
    y = observed(7)
    e, (theta, w) = objective(name, y), law(3, 1)
    theta = theta.clip(y.min(), y.max())
    assert e.value(theta, w) == pytest.approx(written_out(name, y, theta, w), rel=1e-4)
    places, step = np.array([y.min() + 0.3, 0.2]), 1e-5
    variation = e.at(theta, w)
    grown = [(e.value(np.append(theta, t), np.append((1 - step) * w, step)) - e.value(theta, w)) / step for t in places]
    np.testing.assert_allclose(variation.value(places) - w @ variation.value(theta), grown, rtol=2e-3, atol=1e-4)
    slope = (variation.value(places + step) - variation.value(places - step)) / (2 * step)
    np.testing.assert_allclose(variation.slope(places), slope, atol=1e-8)
    value, v, v_slope = e.on_support(theta, w)
    assert value == pytest.approx(e.value(theta, w), rel=1e-14)
    np.testing.assert_allclose(v, variation.value(theta), rtol=1e-12)
    np.testing.assert_allclose(v_slope, variation.slope(theta), rtol=1e-9, atol=1e-12)
    direction = np.array([0.02, -0.05, 0.03])
    second = e.value(theta, w + step * direction) + e.value(theta, w - step * direction) - 2 * e.value(theta, w)
    assert direction @ e.curvature(theta, w) @ direction == pytest.approx(second / step**2, rel=0.05)


def test_the_mean_distance_to_the_observations_is_exact():
    """The spline of order 7 between its nodes, and its derivative; two observations make the least smooth of all."""
    y = np.array([-3.0, 3.0])
    variation = objective("energy", y).at(np.zeros(1), np.zeros(1))
    places = np.linspace(-3, 3, 1_001)
    exact = certified.mean_distance(places[:, None] - y, STD).mean(1)
    np.testing.assert_allclose(variation.value(places), exact, atol=1e-11)
    slope = (2 * norm.cdf((places[:, None] - y) / STD) - 1).mean(1)
    np.testing.assert_allclose(variation.slope(places), slope, atol=1e-9)


def test_a_quadratic_on_the_simplex_against_all_faces():
    rng = np.random.default_rng(2)
    for _ in range(30):
        root, linear = rng.normal(size=(5, 4)), rng.normal(size=4)
        hessian, start = root.T @ root, np.full(4, 0.25)
        found = quadratic_on_simplex(hessian, linear, start)
        faces = (face for k in range(1, 5) for face in itertools.combinations(range(4), k))
        best = min((_on_face(hessian, linear, face) for face in faces), key=lambda w: _quadratic(hessian, linear, w))
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1)
        assert _quadratic(hessian, linear, found) <= _quadratic(hessian, linear, start)
        assert _quadratic(hessian, linear, found) >= _quadratic(hessian, linear, best) - 1e-12
        if (best > 0).all():
            np.testing.assert_allclose(found, best, atol=1e-9)


def _quadratic(hessian, linear, w):
    return 0.5 * w @ hessian @ w + linear @ w


def _on_face(hessian, linear, face):
    """The minimum on a face, its first corner where that leaves the simplex."""
    k, inside = len(face), list(face)
    system = np.block([[hessian[np.ix_(inside, inside)], np.ones((k, 1))], [np.ones((1, k)), np.zeros((1, 1))]])
    w = np.zeros(4)
    w[inside] = np.linalg.solve(system, np.append(-linear[inside], 1))[:k]
    return w if w.min() >= 0 else np.eye(4)[inside[0]]


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("n", [pytest.param(3, marks=pytest.mark.slow), 60])
def test_no_law_lies_below_the_certified_minimum(name, n):
    """Random laws, weights that EM or a descent finds on a fine grid, and the law itself moved a little."""
    y = observed(n)
    e = objective(name, y)
    best = minimise(e, y.min(), y.max())
    assert 0 <= best.certificate < 1e-8
    assert best.weights.min() > 0
    assert best.weights.sum() == pytest.approx(1)
    assert best.value == pytest.approx(e.value(best.theta, best.weights), abs=1e-13)
    rng = np.random.default_rng(3)
    for i in range(50):
        assert e.value(*law(5, i)) >= best.value - best.certificate - 1e-13
        moved = (best.theta + 0.01 * rng.normal(size=len(best.theta))).clip(y.min(), y.max())
        assert e.value(moved, best.weights) >= best.value - best.certificate - 1e-13
    grid, w = np.linspace(y.min(), y.max(), 81), np.full(81, 1 / 81)
    for _ in range(1_000):  # exponentiated gradient descent
        w = w * np.exp(-0.5 * (e.at(grid, w).value(grid) - e.at(grid, w).value(grid).min()))
        w /= w.sum()
    assert best.value - 1e-12 <= e.value(grid, w) <= best.value + 5e-3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_certificate_bounds_the_gap_of_a_search_that_stops_early(name, monkeypatch):
    y = observed()
    e = objective(name, y)
    exact = minimise(e, y.min(), y.max()).value
    for rounds in (1, 2, 3):
        monkeypatch.setattr(certified, "MAX_ROUNDS", rounds)
        early = minimise(e, y.min(), y.max())
        assert early.value - exact <= early.certificate + 1e-12
        assert early.certificate > 1e-6


def test_one_particle_is_the_mean_of_the_likelihood():
    y = observed()
    theta, value = particles(objective("likelihood", y), np.array([1.0]), y.min(), y.max())
    assert theta[0] == pytest.approx(y.mean(), abs=1e-6)
    assert value == pytest.approx(0.5 * y.var() / STD**2, rel=1e-10)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_particles_never_beat_the_optimum_and_more_are_never_worse(name):
    y = observed()
    e = objective(name, y)
    best = minimise(e, y.min(), y.max())
    found = best_particles(e, best, [1, 2, 4, 8], y.min(), y.max(), 2, 0)
    values = [value for _, value in found]
    assert [len(theta) for theta, _ in found] == [1, 2, 4, 8]
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(values))
    assert values[-1] >= best.value - best.certificate
    pairs = itertools.product(np.linspace(y.min(), y.max(), 71), repeat=2)
    two = min(e.value(np.array(pair), np.array([0.5, 0.5])) for pair in pairs)
    assert values[1] <= two
    assert values[1] == pytest.approx(two, abs=5e-3)
