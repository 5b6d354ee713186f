"""Laws on an interval that minimise a convex E(rho_theta) to a duality gap that is told, and K particles that do."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.interpolate
import scipy.optimize
from scipy.special import ndtr

Vector = np.ndarray  # in float64 throughout: theta (k,), weights (k,), observations (m,)

NODES_PER_STD = 8  # of the grid that minima of the first variation are looked for on
SPLINE_NODES_PER_STD = 24
BISECTIONS = 20
MAX_ROUNDS = 100
MAX_EVALUATIONS = 100
GRID_GAP = 1e-9
PATIENCE = 8  # rounds that may go by before the gap halves again
NEWTON_STEPS = 2
LEAST_WEIGHT = 1e-14
MERGED_WITHIN = 0.05
ROUNDING = 1e-14


class Objective(NamedTuple):
    """A convex E of laws sum_k w_k delta_{theta_k}, smooth on the scale `std` in theta.

    `at(theta, w)` gives the first variation V = dE/drho and its derivative, as functions of places, and `curvature` the
    second derivative of E in the weights. `on_support(theta, w)` gives E, and V and V' at theta itself, at once.
    """

    value: Callable[[Vector, Vector], float]
    at: Callable[[Vector, Vector], "Variation"]
    on_support: Callable[[Vector, Vector], tuple[float, Vector, Vector]]
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


def likelihood(y: Vector, noise_std: float, _low: float, _high: float) -> Objective:
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

    def on_support(theta: Vector, w: Vector) -> tuple[float, Vector, Vector]:
        own = seen(theta)
        density = own @ w
        share = 1 / density / len(y)
        level = share @ own
        return -float(np.log(density).mean()), -level, (theta * level - (share * y) @ own) / noise_std**2

    def curvature(theta: Vector, w: Vector) -> np.ndarray:
        own = seen(theta)
        scaled = own / (own @ w)[:, None]
        return scaled.T @ scaled / len(y)

    return Objective(value, at, on_support, curvature, noise_std)


def half_squared_energy(y: Vector, noise_std: float, low: float, high: float) -> Objective:
    """Half of (2.9) squared, noise integrated out: E|y - y*| - E|y - y'| / 2 - E|y* - y*'| / 2 with y = theta + omega.

    All means are closed forms of E|a + s xi|, xi ~ N(0, 1); that over the observations is a spline of order 7 through
    its values at places so near each other that it errs by less than 1e-11.
    """
    m, root = len(y), np.sqrt(2.0) * noise_std
    within = float((np.sort(y) * (2 * np.arange(m) - m + 1)).sum() / m**2)  # E|y* - y*'| / 2
    nodes = np.linspace(low, high, 8 + int(np.ceil((high - low) / noise_std * SPLINE_NODES_PER_STD)))
    means = np.array([mean_distance(node - y, noise_std).mean() for node in nodes])
    to_observed = scipy.interpolate.make_interp_spline(nodes, means, k=7)
    below_observed = to_observed.derivative()

    def value(theta: Vector, w: Vector) -> float:
        return float(w @ to_observed(theta) - 0.5 * w @ mean_distance(theta[:, None] - theta, root) @ w) - within

    def at(theta: Vector, w: Vector) -> Variation:
        return Variation(
            lambda places: to_observed(places) - mean_distance(places[:, None] - theta, root) @ w,
            lambda places: below_observed(places) - (2 * ndtr((places[:, None] - theta) / root) - 1) @ w,
        )

    def curvature(theta: Vector, _w: Vector) -> np.ndarray:
        return -mean_distance(theta[:, None] - theta, root)

    def on_support(theta: Vector, w: Vector) -> tuple[float, Vector, Vector]:
        variation = at(theta, w)
        return value(theta, w), variation.value(theta), variation.slope(theta)

    return Objective(value, at, on_support, curvature, noise_std)


OBJECTIVES: dict[str, Callable[[Vector, float, float, float], Objective]] = {
    "likelihood": likelihood,
    "energy": half_squared_energy,
}


def mean_distance(a: np.ndarray, std: float) -> np.ndarray:
    """E|a + std xi| = std (2 phi(u) + u (2 Phi(u) - 1)) with u = a / std."""
    u = a / std
    return std * (np.sqrt(2 / np.pi) * np.exp(-0.5 * u**2) + u * (2 * ndtr(u) - 1))


def minimise(objective: Objective, low: float, high: float, tolerance: float = 1e-10) -> Optimum:
    """The minimum of E over all laws on [low, high] by Newton steps on the weights of a growing support.

    Each round adds the local minima of the first variation V to the support: nodes of a grid until V is nowhere lower
    on it, then places between the nodes, and support and weights settle together. The duality gap of a convex E,
    sum_k w_k V(theta_k) - min V, bounds E - min E; the law with the smallest of all rounds is returned.
    """
    grid = np.linspace(low, high, 1 + int(np.ceil((high - low) / objective.std * NODES_PER_STD)))
    theta = grid[:: 2 * NODES_PER_STD]  # no observation is out of sight of all
    w = np.full(len(theta), 1 / len(theta))
    best = Optimum(theta, w, objective.value(theta, w), np.inf)
    on_grid, stale = True, 0
    for _ in range(MAX_ROUNDS):
        variation = objective.at(theta, w)
        level, v = w @ variation.value(theta), variation.value(grid)
        on_grid = on_grid and level - v.min() > GRID_GAP
        lowest = _local_minima(v, grid) if on_grid else _refined(variation, _local_minima(v, grid), grid)
        v_lowest = variation.value(lowest)
        gap = float(max(0.0, level - v_lowest.min()))
        stale = 0 if gap < best.certificate / 2 else stale + 1
        if gap < best.certificate:
            best = Optimum(theta, w, objective.value(theta, w), gap)
        if not on_grid and (gap <= tolerance or stale > PATIENCE):
            break
        new = lowest[v_lowest < level]
        theta, w = np.concatenate([theta, new]), np.concatenate([w, np.zeros(len(new))])
        for _ in range(NEWTON_STEPS):
            theta, w = _newton(objective, theta, w)
        if not on_grid:
            theta, w = _settled(objective, *_merged(objective, theta, w), low, high)
    theta, w = _merged(objective, best.theta, best.weights)
    return best._replace(theta=theta, weights=w)


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
        _, v, slope = objective.on_support(moved, x[k : 2 * k])
        level, flat = v - x[-1], np.where(inside, slope, x[:k] - theta)
        return np.concatenate([flat, level, [x[k : 2 * k].sum() - 1]])

    start = np.concatenate([theta, w, [w @ objective.at(theta, w).value(theta)]])
    with np.errstate(invalid="ignore"):  # weights below zero, on the way
        x = scipy.optimize.root(conditions, start, tol=1e-14, options={"maxfev": MAX_EVALUATIONS}).x
    moved, weights = x[:k], x[k : 2 * k]
    feasible = weights.min() > 0 and moved.min() >= low and moved.max() <= high
    if not feasible or objective.value(moved, weights / weights.sum()) > objective.value(theta, w):
        return theta, w
    return moved, weights / weights.sum()


def _local_minima(v: Vector, grid: Vector) -> Vector:
    """Nodes that are no higher than their neighbours, the ends included."""
    padded = np.concatenate([[np.inf], v, [np.inf]])
    return grid[(v <= padded[:-2]) & (v <= padded[2:])]


def _refined(variation: Variation, nodes: Vector, grid: Vector) -> Vector:
    """The minimum of V within a cell on either side of each node, by bisection."""
    step = grid[1] - grid[0]
    left, right = np.maximum(nodes - step, grid[0]), np.minimum(nodes + step, grid[-1])
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
        value, _, slope = objective.on_support(theta, w)
        return value, slope * w

    bounds = [(low, high)] * len(start)
    options = {"maxiter": 500, "maxfun": 1_000, "ftol": 1e-16, "gtol": 1e-11, "maxcor": 10}
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
