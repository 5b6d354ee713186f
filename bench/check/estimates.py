"""Checks of metrics and their sampling floors, and of the objective of EM."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.random as jr
import numpy as np

from cryosip.bench import metrics
from cryosip.bench.check import distributions, formulas
from cryosip.bench.check.finding import Finding, known
from cryosip.bench.check.problems import build
from cryosip.methods.method import Method, WeightedPoints
from cryosip.methods.registry import METHODS

METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "w1": lambda x, y: formulas.wasserstein(x, y, 1),
    "w2": lambda x, y: formulas.wasserstein(x, y, 2),
    "energy_distance": formulas.energy_distance,
    "energy_distance_squared": lambda x, y: formulas.energy_distance(x, y) ** 2,
}


def distances(name: str) -> Iterator[Finding]:
    """Distances of weighted points against the best assignment of as many equal ones."""
    for d in (1, 2):
        rng = np.random.default_rng(d)
        counts = rng.multinomial(60, np.full(20, 1 / 20))
        x, y = rng.normal(size=(20, d)), rng.normal(0.5, 2.0, (60, d))
        found = metrics.METRICS[name](WeightedPoints(x, counts / 60), WeightedPoints(y, np.full(60, 1 / 60)))
        expected = known("formula", name, METRICS)(np.repeat(x, counts, axis=0), y)
        yield Finding(f"{name} in {d}D, relative error", abs(found / expected - 1), most=1e-9)


# methods of EM alone, whose objective can only fall, with the defaults of their other options
EM: dict[str, dict[str, Any]] = {"mixture": {"n_components": 3, "prior_weight": 0.1}, "reweighting": {"n_support": 64}}
EM_STEPS = 30


def em(name: str) -> Iterator[Finding]:
    """The objective of EM in float64 before each step: it never rises."""
    for method, options in EM.items():
        with jax.enable_x64(True):
            objective = _objectives(METHODS[method](build(name, smooth=True).problem, **options))
        rise, fall = np.diff(objective).max() / np.abs(objective).max(), objective[0] - objective[-1]
        yield Finding(f"{name}: {method}, largest relative rise of the objective", float(rise), most=1e-12)
        yield Finding(f"{name}: {method}, fall of the objective", float(fall), least=1e-6)


def _objectives(method: Method) -> np.ndarray:
    def step(state: Any, _: Any) -> tuple[Any, jax.Array]:
        after, info = method.step(jr.key(0), state)
        return after, info.objective

    return np.asarray(jax.lax.scan(step, method.init(jr.key(0)), length=EM_STEPS)[1])


FLOOR_POINTS, TRUTH_POINTS = 64, 1_500
FLOOR_SAMPLES, FLOOR_SAMPLES_BEYOND_1D = 400, 100  # transport plans take time


def floors(name: str) -> Iterator[Finding]:
    """Fresh samples of the reference distribution have a W2 as the floor says, within its 5-95 %."""
    truth, n = build(name).truth, TRUTH_POINTS
    repeats = FLOOR_SAMPLES_BEYOND_1D if truth.quantile is None else FLOOR_SAMPLES
    theta = truth.sample(jr.key(8), n) if truth.quantile is None else truth.quantile((np.arange(n) + 0.5) / n)[:, None]
    points = WeightedPoints(np.asarray(theta), np.full(n, 1 / n))
    floor = metrics.floors(truth, points, FLOOR_POINTS, repeats)["w2"]
    reference = known("reference distribution", name, distributions.DISTRIBUTIONS)[0]
    rng, weights = np.random.default_rng(0), np.full(FLOOR_POINTS, 1 / FLOOR_POINTS)
    fresh = [WeightedPoints(reference.sample(rng, FLOOR_POINTS), weights) for _ in range(repeats)]
    scored = np.array(metrics.each(lambda sample: metrics.w2(sample, points), fresh, points.theta.shape[1]))
    # of a median of so many samples, the std of which follows from the interval
    spread = (floor["q95"] - floor["q05"]) / 3.29 / floor["median"]
    margin = 4 * 1.2533 * spread * np.sqrt(2 / repeats)
    ratio = float(np.median(scored)) / floor["median"]
    yield Finding(f"{name}: W2 of i.i.d. samples / floor", ratio, 1 - margin, 1 + margin)
    share = float(((scored >= floor["q05"]) & (scored <= floor["q95"])).mean())
    margin = 4 * np.sqrt(0.9 * 0.1 * 2 / repeats)
    yield Finding(f"{name}: share of i.i.d. samples within the floor's 5-95 %", share, 0.9 - margin, 1.0)
