"""How far an estimate is from the truth: plain functions of weighted points; POT computes the Wasserstein distances."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TypeVar

import jax
import jax.random as jr
import numpy as np
import ot
import scipy.spatial
import scipy.spatial.distance
import scipy.stats
from jaxtyping import Float

from cryosip.datasets.instance import Truth
from cryosip.methods.method import WeightedPoints

T = TypeVar("T")
V = TypeVar("V")

REFERENCE_POINTS = 10_000  # quantiles, or draws, that stand for the truth
MAX_POINTS_BEYOND_1D = 1_500  # of each side in an exact transport plan in more than one dimension
FLOOR_DRAWS, FLOOR_DRAWS_BEYOND_1D = 100, 20
SAMPLES, SAMPLES_BEYOND_1D = 20, 5
MAX_PIVOTS = 10_000_000  # of the simplex that plans a transport; the cost where it stops is no bound on the distance
SAMPLED_METRICS = ("w1", "w2", "energy_distance_squared")
LEAST_POPULATION = 1e-4  # of an estimate; one of 0 would be infinitely far in KL. REFERENCE_POINTS resolve no less


class Unsolved(float):
    """The distance of a transport plan that was not found within MAX_PIVOTS: not a number, which no table may show."""


def identified(truth: Truth, points: WeightedPoints) -> WeightedPoints:
    """The points in the coordinates that images can tell, in which distributions are compared."""
    return WeightedPoints(truth.identifiable(points.theta), points.weights)


def reference(truth: Truth) -> WeightedPoints:
    """The truth as equally weighted points: exact quantiles at the midpoints in 1D where known, else a fresh sample.

    In the coordinates of `identified`.
    """
    weights = np.full(REFERENCE_POINTS, 1 / REFERENCE_POINTS)
    if truth.quantile is None:
        drawn = truth.identifiable(truth.sample(jr.key(2**31 - 1), REFERENCE_POINTS))
        return WeightedPoints(np.asarray(drawn), weights)
    midpoints = (np.arange(REFERENCE_POINTS) + 0.5) / REFERENCE_POINTS
    return WeightedPoints(np.asarray(truth.quantile(midpoints))[:, None], weights)


def w1(estimate: WeightedPoints, truth: Truth | WeightedPoints) -> float:
    """W_1, Definition 2.2 with p = 1."""
    return _wasserstein(estimate, truth, 1)


def w2(estimate: WeightedPoints, truth: Truth | WeightedPoints) -> float:
    """W_2, Definition 2.2 with p = 2: the root, not the square."""
    return _wasserstein(estimate, truth, 2)


def energy_distance_squared(estimate: WeightedPoints, truth: Truth | WeightedPoints) -> float:
    """D_E^2, the square of (2.9)."""
    return energy_distance(estimate, truth) ** 2


def energy_distance(estimate: WeightedPoints, truth: Truth | WeightedPoints) -> float:
    """D_E, the root as in (2.9)."""
    (x, a), (y, b) = _pair(estimate, truth)
    if x.shape[1] == 1:
        return _on_the_line(x[:, 0], a, y[:, 0], b)
    within = sum(_mean_within(u.tobytes(), w.tobytes(), u.shape[1]) for u, w in ((x, a), (y, b)))
    return float(np.sqrt(max(0.0, 2 * _mean_between(x, a, y, b) - within)))


def mean_distance(one: WeightedPoints, other: WeightedPoints) -> float:
    """E|X - Y| of independent X and Y."""
    return _mean_between(*_arrays(one), *_arrays(other))


def _on_the_line(x: np.ndarray, a: np.ndarray, y: np.ndarray, b: np.ndarray) -> float:
    """(2 integral (F - G)^2)^(1/2) of two weighted samples.

    numpy adds in one order, where a product by BLAS adds in another for each number of threads.
    """
    at = np.concatenate([x, y])
    order = np.argsort(at, kind="stable")
    below = [np.cumsum(w[order]) for w in (np.pad(a, (0, len(b))), np.pad(b, (len(a), 0)))]
    gap = below[0] / below[0][-1] - below[1] / below[1][-1]
    return float(np.sqrt(2 * (gap[:-1] ** 2 * np.diff(at[order])).sum()))


@lru_cache(maxsize=64)
def _mean_within(theta: bytes, weights: bytes, d: int) -> float:
    """The mean distance within a law, kept because the truth comes again and again."""
    x, a = np.frombuffer(theta).reshape(-1, d), np.frombuffer(weights)
    return _mean_between(x, a, x, a)


def _mean_between(x: np.ndarray, a: np.ndarray, y: np.ndarray, b: np.ndarray) -> float:
    """The mean distance of two laws, some rows at a time; without BLAS, as on the line."""
    parts = (slice(i, i + 500) for i in range(0, len(x), 500))
    return float(sum((a[some] * (scipy.spatial.distance.cdist(x[some], y) * b).sum(1)).sum() for some in parts))


METRICS = {
    "w1": w1,
    "w2": w2,
    "energy_distance": energy_distance,
    "energy_distance_squared": energy_distance_squared,
}


def evaluate(
    estimate: WeightedPoints, truth: WeightedPoints, known: dict[str, float] | None = None
) -> dict[str, float]:
    """All metrics, in the truth's coordinates, but for those that are known already."""
    known = known or {}
    return known | some([name for name in METRICS if name not in known], estimate, truth)


def some(names: Sequence[str], estimate: WeightedPoints, truth: WeightedPoints) -> dict[str, float]:
    """The metrics of those names."""
    values = each(lambda name: METRICS[name](estimate, truth), names, estimate.theta.shape[1])
    return dict(zip(names, values, strict=True))


def each(f: Callable[[T], V], arguments: Iterable[T], d: int) -> list[V]:
    """f of each argument, on all cores where laws have d > 1 dimensions: POT lets other threads work while it plans a
    transport. On the line threads only wait for each other.
    """
    if d == 1:
        return list(map(f, arguments))
    with ThreadPoolExecutor() as pool:
        return list(pool.map(f, arguments))


def populations(points: WeightedPoints, support: Float[np.ndarray, "k d"]) -> Float[np.ndarray, " k"]:
    """The weight of each given structure: a point belongs to the nearest of them."""
    theta, weights = _arrays(points)
    _, nearest = scipy.spatial.cKDTree(support).query(theta)
    return np.bincount(nearest, weights, len(support))


def population_total_variation(true: Float[np.ndarray, " k"], estimated: Float[np.ndarray, " k"]) -> float:
    """1/2 sum_k |p_k - q_k|, from 0 to 1."""
    return float(0.5 * np.abs(true - estimated).sum())


def population_kl(true: Float[np.ndarray, " k"], estimated: Float[np.ndarray, " k"]) -> float:
    """KL(p | q) = sum_k p_k log(p_k / q_k) from the truth p to the estimate q, in nats.

    A structure that is not there, p_k = 0, adds nothing. An estimate below 1e-4 counts as 1e-4, after which q is
    scaled to the sum 1: a structure that it misses adds p_k log(10^4 p_k), and the divergence is finite.
    """
    raised = np.maximum(estimated, LEAST_POPULATION)
    there = true > 0
    ratios = true[there] / (raised / raised.sum())[there]
    return float(max(0.0, true[there] @ np.log(ratios)))


POPULATION_METRICS = {"population_total_variation": population_total_variation, "population_kl": population_kl}


def of_populations(
    estimate: WeightedPoints, truth: WeightedPoints, support: Float[np.ndarray, "k d"]
) -> dict[str, float]:
    """How far the populations of given structures are from the true ones."""
    both = [populations(points, support) for points in (truth, estimate)]
    return {name: metric(*both) for name, metric in POPULATION_METRICS.items()}


def to_data(estimate: WeightedPoints, truth: Truth) -> dict[str, float]:
    """W1 and W2 to the parameters behind the observations instead of their law: no sample of the law comes between.

    The estimate is in the coordinates of `identified`.
    """
    n = len(truth.theta)
    behind = WeightedPoints(np.asarray(truth.identifiable(truth.theta)), np.full(n, 1 / n))
    return {f"{name}_to_data": METRICS[name](estimate, behind) for name in ("w1", "w2")}


def per_mode(estimate: WeightedPoints, truth: WeightedPoints) -> dict[str, float]:
    """W1 and W2 of the marginal of each parameter by itself."""
    return {
        f"{name}_mode_{i + 1}": METRICS[name](_marginal(estimate, i), _marginal(truth, i))
        for i in range(estimate.theta.shape[1])
        for name in ("w1", "w2")
    }


def _marginal(points: WeightedPoints, i: int) -> WeightedPoints:
    return WeightedPoints(points.theta[:, i : i + 1], points.weights)


def unwhitened(estimate: WeightedPoints, truth: WeightedPoints, scale: np.ndarray) -> dict[str, float]:
    """D_E^2 in the paper's coordinates theta_i = a_i z_i, `scale` a_i."""
    scaled = (WeightedPoints(np.asarray(p.theta) * scale, p.weights) for p in (estimate, truth))
    return {"energy_distance_squared_unwhitened": energy_distance_squared(*scaled)}


def best_weights(estimate: WeightedPoints, truth: WeightedPoints) -> dict[str, float]:
    """W1 and W2 with the best weights that the estimate's own points allow: each point of the truth to the nearest."""
    x, y, b = np.asarray(estimate.theta), *_arrays(truth)
    if x.shape[1] > 1:
        y, b = _thinned(y, b)
    nearest, _ = scipy.spatial.cKDTree(x).query(y)
    return {"w1": float(b @ nearest), "w2": float(np.sqrt(b @ nearest**2))}


def collapsed(estimate: WeightedPoints, spread: np.ndarray) -> int:
    """Components that stand for nothing of their own: without weight, or within a hundredth of the initial spread
    of another that comes first."""
    theta, weights = np.asarray(estimate.theta) / spread, np.asarray(estimate.weights)
    near = scipy.spatial.distance.cdist(theta, theta) < 0.01 * np.sqrt(theta.shape[1])
    return int((np.triu(near, 1).any(0) | (weights < 0.01 / len(weights))).sum())


def floors(
    truth: Truth,
    points: WeightedPoints,
    n: int,
    draws: int | None = None,
    support: Float[np.ndarray, "k d"] | None = None,
) -> dict[str, dict[str, float]]:
    """Each metric of n i.i.d. draws of the truth: median and 5-95 %; with a support those of populations too."""
    draws = draws or (FLOOR_DRAWS if points.theta.shape[1] == 1 else FLOOR_DRAWS_BEYOND_1D)
    drawn = equally_weighted(samples(truth, n, draws))

    def of_sample(sample: WeightedPoints) -> dict[str, float]:
        values = evaluate(sample, points)
        return values if support is None else values | of_populations(sample, points, support)

    values = each(of_sample, drawn, points.theta.shape[1])
    return _summaries({name: [v[name] for v in values] for name in values[0]}, n)


def _summaries(values: dict[str, list[float]], n: int) -> dict[str, dict[str, float]]:
    """Of each metric that was computed for every sample."""
    return {name: summary(v) | {"n": n} for name, v in values.items() if not any(isinstance(x, Unsolved) for x in v)}


def samples(truth: Truth, n: int, draws: int | None = None) -> Float[np.ndarray, "draws n d"]:
    """Samples of n i.i.d. draws of the truth: the first of many, so that one program makes all sizes."""
    d = jax.eval_shape(truth.identifiable, truth.theta).shape[1]
    draws = draws or (SAMPLES if d == 1 else SAMPLES_BEYOND_1D)
    sample = jax.jit(lambda key: truth.identifiable(truth.sample(key, max(n, REFERENCE_POINTS))))
    keys = jr.split(jr.key(2**31 - 2), draws)
    return np.stack([np.asarray(sample(key))[:n] for key in keys])


def equally_weighted(drawn: Float[np.ndarray, "draws n d"]) -> list[WeightedPoints]:
    """Each sample as a distribution."""
    return [WeightedPoints(theta, np.full(len(theta), 1 / len(theta))) for theta in drawn]


def against_samples(estimate: WeightedPoints, drawn: list[WeightedPoints]) -> dict[str, dict[str, float]]:
    """One estimate against samples of the truth: what measuring against a sample adds."""
    n, d = drawn[0].theta.shape
    values = {name: each(partial(METRICS[name], estimate), drawn, d) for name in SAMPLED_METRICS}
    return _summaries(values, n)


def summary(values: list[float]) -> dict[str, float]:
    """Median and 5-95 %."""
    q05, median, q95 = np.quantile(values, [0.05, 0.5, 0.95])
    return {"median": float(median), "q05": float(q05), "q95": float(q95)}


def _wasserstein(estimate: WeightedPoints, truth: Truth | WeightedPoints, p: int) -> float:
    (x, a), (y, b) = _pair(estimate, truth)
    if x.shape[1] == 1:
        cost = ot.wasserstein_1d(x[:, 0], y[:, 0], a, b, p=p)  # W_p^p, not W_p
    else:
        (x, a), (y, b) = _thinned(x, a), _thinned(y, b)
        distances = ot.dist(x, y, metric="euclidean") ** p
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="numItermax reached")  # the record says so
            cost, log = ot.emd2(a, b, distances, numItermax=MAX_PIVOTS, log=True)
        if log["warning"] is not None:
            return Unsolved("nan")
    return float(max(0.0, cost)) ** (1 / p)


def _pair(
    estimate: WeightedPoints, truth: Truth | WeightedPoints
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    if isinstance(truth, Truth):
        estimate, truth = identified(truth, estimate), reference(truth)
    return _arrays(estimate), _arrays(truth)


def _arrays(points: WeightedPoints) -> tuple[np.ndarray, np.ndarray]:
    theta, weights = (np.asarray(a, np.float64) for a in points)
    if theta.ndim != 2 or weights.shape != theta.shape[:1]:
        raise ValueError(f"theta has shape {theta.shape} and weights {weights.shape}; wanted (k, d) and (k,)")
    if not (np.isfinite(theta).all() and np.isfinite(weights).all()):
        raise ValueError("theta or weights hold NaN or infinite values; wanted finite numbers")
    if (weights < 0).any() or weights.sum() == 0:
        raise ValueError(f"weights range from {weights.min():g} to {weights.max():g}; wanted none negative, not all 0")
    return theta, weights / weights.sum()


def _thinned(x: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_POINTS_BEYOND_1D points, by systematic resampling."""
    if len(x) <= MAX_POINTS_BEYOND_1D:
        return x, a
    order = np.random.default_rng(0).permutation(len(x))
    levels = (np.arange(MAX_POINTS_BEYOND_1D) + 0.5) / MAX_POINTS_BEYOND_1D
    chosen = order[np.searchsorted(np.cumsum(a[order]), levels).clip(max=len(x) - 1)]
    return x[chosen], np.full(MAX_POINTS_BEYOND_1D, 1 / MAX_POINTS_BEYOND_1D)
