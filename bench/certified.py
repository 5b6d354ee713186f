"""Laws on an interval that minimise a convex E(rho_theta) up to a duality gap that is told, and their K-particle kin."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.optimize
from scipy.special import ndtr

Vector = np.ndarray  # in float64 throughout: theta (k,), weights (k,), observations (m,)

NODES_PER_STD = 20  # of the grid that minima of the first variation are looked for on
BISECTIONS = 20
MAX_ROUNDS = 100
MAX_EVALUATIONS = 200
PATIENCE = 8  # rounds that may go by before the gap halves again
NEWTON_STEPS = 2
LEAST_WEIGHT = 1e-14
MERGED_WITHIN = 0.05
ROUNDING = 1e-14


class Objective(NamedTuple):
    """A convex E of laws sum_k w_k delta_{theta_k}, smooth on the scale `std` in theta.

    `at(theta, w)` gives the first variation V = dE/drho and its derivative, as functions of places, and `curvature` the
    second derivative of E in the weights.
    """

    value: Callable[[Vector, Vector], float]
    at: Callable[[Vector, Vector], "Variation"]
    curvature: Callable[[Vector, Vector], np.ndarray]
    std: float


class Variation(NamedTuple):
    """V and V' at any places."""

    value: Callable[[Vector], Vector]
    slope: Callable[[Vector], Vector]


class Optimum(NamedTuple):
    """A law, its E, and a bound on how far E is above its minimum over all laws on the interval."""

    theta: Vector
    weights: Vector
    value: float
    certificate: float


def likelihood(y: Vector, noise_std: float) -> Objective:
    """(3.4) without a prior: E = -mean_i log sum_k w_k exp(-(y_i - theta_k)^2 / (2 sigma^2))."""

    def seen(theta: Vector) -> np.ndarray:
        return np.exp(-0.5 * ((y[:, None] - theta) / noise_std) ** 2)

    def value(theta: Vector, w: Vector) -> float:
        return -float(np.log(seen(theta) @ w).mean())

    def at(theta: Vector, w: Vector) -> Variation:
        share = 1 / (seen(theta) @ w) / len(y)

        def slope(places: Vector) -> Vector:
            kernel = seen(places)
            return (places * (share @ kernel) - (share * y) @ kernel) / noise_std**2

        return Variation(lambda places: -share @ seen(places), slope)

    def curvature(theta: Vector, w: Vector) -> np.ndarray:
        own = seen(theta)
        scaled = own / (own @ w)[:, None]
        return scaled.T @ scaled / len(y)

    return Objective(value, at, curvature, noise_std)


def half_squared_energy(y: Vector, noise_std: float) -> Objective:
    """Half of (2.9) squared, noise integrated out: E|y - y*| - E|y - y'| / 2 - E|y* - y*'| / 2 with y = theta + omega.

    All means are closed forms of E|a + s xi|, xi ~ N(0, 1).
    """
    root, m = np.sqrt(2.0) * noise_std, len(y)
    within = float((np.sort(y) * (2 * np.arange(m) - m + 1)).sum() / m**2)  # E|y* - y*'| / 2

    def value(theta: Vector, w: Vector) -> float:
        to_observed = mean_distance(theta[:, None] - y, noise_std).mean(1)
        return float(w @ to_observed - 0.5 * w @ mean_distance(theta[:, None] - theta, root) @ w) - within

    def at(theta: Vector, w: Vector) -> Variation:
        def variation(places: Vector) -> Vector:
            to_observed = mean_distance(places[:, None] - y, noise_std).mean(1)
            return to_observed - mean_distance(places[:, None] - theta, root) @ w

        def slope(places: Vector) -> Vector:
            below_observed = ndtr((places[:, None] - y) / noise_std).mean(1)
            return 2 * (below_observed - ndtr((places[:, None] - theta) / root) @ w)

        return Variation(variation, slope)

    def curvature(theta: Vector, _w: Vector) -> np.ndarray:
        return -mean_distance(theta[:, None] - theta, root)

    return Objective(value, at, curvature, noise_std)


OBJECTIVES: dict[str, Callable[[Vector, float], Objective]] = {
    "likelihood": likelihood,
    "energy": half_squared_energy,
}


def mean_distance(a: np.ndarray, std: float) -> np.ndarray:
    """E|a + std xi| = std (2 phi(u) + u (2 Phi(u) - 1)) with u = a / std."""
    u = a / std
    return std * (np.sqrt(2 / np.pi) * np.exp(-0.5 * u**2) + u * (2 * ndtr(u) - 1))


def minimise(objective: Objective, low: float, high: float, tolerance: float = 1e-10) -> Optimum:
    """The minimum of E over all laws on [low, high] by Newton steps on the weights of a growing support.

    Each round adds every local minimum of the first variation V, found on a grid and refined by bisection. The duality
    gap of a convex E, sum_k w_k V(theta_k) - min V, bounds E - min E; the best law of all rounds is returned.
    """
    grid = np.linspace(low, high, 1 + int(np.ceil((high - low) / objective.std * NODES_PER_STD)))
    theta, w = np.array([(low + high) / 2]), np.ones(1)
    best = Optimum(theta, w, objective.value(theta, w), np.inf)
    stale = 0
    for _ in range(MAX_ROUNDS):
        variation = objective.at(theta, w)
        lowest = _local_minima(variation, grid)
        v, v_lowest = variation.value(theta), variation.value(lowest)
        gap = float(max(0.0, w @ v - v_lowest.min()))
        stale = 0 if gap < best.certificate / 2 else stale + 1
        if gap < best.certificate:
            best = Optimum(theta, w, objective.value(theta, w), gap)
        if gap <= tolerance or stale > PATIENCE:
            break
        new = lowest[v_lowest < w @ v]
        theta, w = np.concatenate([theta, new]), np.concatenate([w, np.zeros(len(new))])
        for _ in range(NEWTON_STEPS):
            theta, w = _newton(objective, theta, w)
        theta, w = _settled(objective, *_merged(objective, theta, w), low, high)
    return best


def _merged(objective: Objective, theta: Vector, w: Vector) -> tuple[Vector, Vector]:
    """Points within a twentieth of std drawn together to their mean, where that does not raise E."""
    order = np.argsort(theta)
    theta, w = theta[order], w[order]
    group = np.concatenate([[0], np.cumsum(np.diff(theta) > MERGED_WITHIN * objective.std)])
    total = np.bincount(group, w)
    mean = np.bincount(group, w * theta) / total
    return (mean, total) if objective.value(mean, total) <= objective.value(theta, w) + ROUNDING else (theta, w)


def _settled(objective: Objective, theta: Vector, w: Vector, low: float, high: float) -> tuple[Vector, Vector]:
    """Points and weights moved at once to where V is level and flat at every point, where that lowers E."""
    k = len(theta)
    inside = (theta > low) & (theta < high)

    def conditions(x: Vector) -> Vector:
        moved = np.where(inside, x[:k], theta)
        variation = objective.at(moved, x[k : 2 * k])
        level = variation.value(moved) - x[-1]
        flat = np.where(inside, variation.slope(moved), x[:k] - theta)
        return np.concatenate([flat, level, [x[k : 2 * k].sum() - 1]])

    start = np.concatenate([theta, w, [w @ objective.at(theta, w).value(theta)]])
    x = scipy.optimize.root(conditions, start, tol=1e-14, options={"maxfev": MAX_EVALUATIONS}).x
    moved, weights = x[:k], x[k : 2 * k]
    feasible = weights.min() > 0 and moved.min() >= low and moved.max() <= high
    if not feasible or objective.value(moved, weights / weights.sum()) > objective.value(theta, w):
        return theta, w
    return moved, weights / weights.sum()


def _local_minima(variation: Variation, grid: Vector) -> Vector:
    """Places where the first variation has a local minimum: within a cell around each low node, the ends included."""
    v = variation.value(grid)
    padded = np.concatenate([[np.inf], v, [np.inf]])
    low_nodes = np.flatnonzero((v <= padded[:-2]) & (v <= padded[2:]))
    left, right = grid[np.maximum(low_nodes - 1, 0)], grid[np.minimum(low_nodes + 1, len(grid) - 1)]
    for _ in range(BISECTIONS):
        middle = (left + right) / 2
        rising = variation.slope(middle) > 0
        left, right = np.where(rising, left, middle), np.where(rising, middle, right)
    return (left + right) / 2


def _newton(objective: Objective, theta: Vector, w: Vector) -> tuple[Vector, Vector]:
    """One step on the weights within the simplex, halved until E falls; what has lost its weight leaves."""
    gradient, hessian = objective.at(theta, w).value(theta), objective.curvature(theta, w)
    step = quadratic_on_simplex(hessian, gradient - hessian @ w, w) - w
    now, promised = objective.value(theta, w), float(gradient @ step)
    length = 1.0
    while length > 1e-6 and objective.value(theta, w + length * step) > now + 1e-4 * length * min(promised, 0.0):
        length /= 2
    if length <= 1e-6:
        return theta, w
    w = np.maximum(w + length * step, 0.0)
    kept = w > LEAST_WEIGHT
    return theta[kept], w[kept] / w[kept].sum()


def quadratic_on_simplex(hessian: np.ndarray, linear: Vector, start: Vector) -> Vector:
    """A point of the simplex below `start` for w^T H w / 2 + b^T w, H >= 0 on vectors of sum 0: the minimum, where no
    weight that has fallen to zero would have to rise again.

    From minimum to minimum of the free weights (their sum fixed), each step cut where one of them falls to zero.
    """
    w, free = start.copy(), np.ones(len(start), bool)
    for _ in range(2 * len(start)):
        h = hessian[np.ix_(free, free)]
        ones = np.ones((len(h), 1))
        system = np.block([[h, ones], [ones.T, np.zeros((1, 1))]])
        residual = np.concatenate([-(linear[free] + h @ w[free]), [0.0]])
        step = np.zeros(len(w))
        step[free] = np.linalg.lstsq(system, residual, rcond=1e-14)[0][:-1]
        blocked = free & (w + step < 0)
        if not blocked.any():
            return w + step
        lengths = np.where(blocked, w / np.maximum(w - (w + step), 1e-300), np.inf)
        first = int(np.argmin(lengths))
        w = np.maximum(w + lengths[first] * step, 0.0)
        w[first], free[first] = 0.0, False
    return w


def particles(objective: Objective, start: Vector, low: float, high: float) -> tuple[Vector, float]:
    """K particles of equal weight that minimise E locally, by L-BFGS from the start, never worse than it."""
    w = np.full(len(start), 1 / len(start))

    def value_and_slope(theta: Vector) -> tuple[float, Vector]:
        return objective.value(theta, w), objective.at(theta, w).slope(theta) * w

    bounds = [(low, high)] * len(start)
    options = {"maxiter": 1_000, "maxfun": 2_000, "ftol": 1e-16, "gtol": 1e-11, "maxcor": 30}
    found = scipy.optimize.minimize(
        value_and_slope, start.clip(low, high), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return np.sort(found.x), float(found.fun)


def best_particles(
    objective: Objective, optimum: Optimum, counts: list[int], low: float, high: float, n_starts: int, seed: int
) -> list[tuple[Vector, float]]:
    """rho^K for each K: the lowest E of many starts.

    Starts are K quantiles of the optimum, the shares of K that its weights round to, the K/2 particles before, each
    twice, and `n_starts` draws of the optimum; all but the first are spread by a tenth of std, since particles that
    coincide never part.
    """
    rng = np.random.default_rng(seed)
    found: list[tuple[Vector, float]] = []
    for k in counts:
        starts = [_quantiles(optimum, (np.arange(k) + 0.5) / k), _rounded(optimum, k)]
        starts += [_quantiles(optimum, rng.random(k)) for _ in range(n_starts)]
        if found and k % len(found[-1][0]) == 0:
            starts.append(np.repeat(found[-1][0], k // len(found[-1][0])))
        spread = [0.0] + [0.1 * objective.std] * (len(starts) - 1)
        tried = [
            particles(objective, start + s * rng.normal(size=k), low, high)
            for start, s in zip(starts, spread, strict=True)
        ]
        found.append(min(tried, key=lambda pair: pair[1]))
    return found


def _quantiles(law: Optimum, u: Vector) -> Vector:
    order = np.argsort(law.theta)
    levels = np.cumsum(law.weights[order])
    return law.theta[order][np.searchsorted(levels, u).clip(max=len(levels) - 1)]


def _rounded(law: Optimum, k: int) -> Vector:
    """Each point as often as its weight says, the rest to the largest remainders."""
    times = np.floor(k * law.weights).astype(int)
    rest = np.argsort(times - k * law.weights)[: k - times.sum()]
    times[rest] += 1
    return np.repeat(law.theta, times)
