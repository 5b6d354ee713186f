"""How near to the truth the data let anyone come: the NPMLE and the true family, both with exact likelihoods."""

import inspect
import math
from functools import partial
from typing import Any

import numpy as np

from cryosip.bench import metrics
from cryosip.bench.build import build_instance, reference
from cryosip.bench.execute import Session
from cryosip.bench.limits import ending_after
from cryosip.bench.measure import Arrays, finite
from cryosip.bench.studies.exact_likelihood import Likelihoods, all_pairs, likelihoods
from cryosip.bench.studies.laws import best_box, best_mixtures, mixtures_from_nodes, mixtures_of, npmle
from cryosip.bench.studies.study import Options
from cryosip.datasets.instance import Instance
from cryosip.datasets.registry import DATASETS
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import in_span
from cryosip.records.schema import Floor, Result, RunConfig

NAMES = ("w1", "w2", "energy_distance_squared")
STEPS = (1, 3, 10, 30, 100, 300, 1_000)  # of EM, after which it is compared with the truth
SUPPORT = {1: 1_500, 2: 1_500}  # points by the dimension
SUPPORT_BEYOND, SUPPORT_OVER_POSES = 2_500, 1_000  # over poses each pair costs dozens of renders
LIGHTEST = 1e-9  # points of less weight are left out where laws are compared
FAMILY_DRAWS = 4_000  # of a fitted family, for the metrics

BOX = "box"


def _rows_of_means(options: Options, _d: int) -> list[int]:
    return [len(row) for row in options["means"]]


# components of the mixture of each coordinate; one number for all coordinates together; or a uniform law on a box
FAMILIES: dict[str, Any] = {
    "adk": _rows_of_means,
    "fredholm": lambda options, _d: [len(options["means"])],
    "hsp90": _rows_of_means,
    "inverse-kinematics": lambda _options, d: [1] * d,
    "nanocluster": lambda options, _d: [len(options["means"])],
    "oned": lambda options, _d: [len(options["means"])],
    "slcp": lambda _options, _d: BOX,
    "two-moons": lambda _options, _d: BOX,
}


def measure_bound(config: RunConfig, session: Session) -> tuple[Result, Arrays]:
    """Both estimates on one instance, against the truth; the curve is that of EM.

    `npmle_*` is EM after its last step, `stopped_*` the one of its steps that is nearest to the truth by W2, which
    nobody without the truth could choose, `parametric_*` the maximum of the likelihood within the true family.
    """
    with ending_after(session.limits.seconds):
        instance, points = build_instance(config), reference(config)
        known = likelihoods(instance, support_size(instance), config.replicate)
        curve = path(instance, known, points, config.method_options["steps"])
        values = of_steps(curve)
        values |= parametric(instance, known, points, family_of(config, known.support.shape[1]), config.replicate)
        values |= {"support_points": len(known.support), "pose_draws": known.pose_draws}
        values |= {f"support_per_image_{q}": v for q, v in _quantiles(known.effective()).items()}
        floors = metrics.floors(instance.truth, points, len(instance.problem.observations))
    data_floors = {name: Floor(v["median"], v["q05"], v["q95"], int(v["n"])) for name, v in floors.items()}
    return Result(steps=len(curve["step"]), metrics=finite(values), curve=curve, data_floors=data_floors), {}


def support_size(instance: Instance) -> int:
    """How many points a support of the problem has."""
    if instance.problem.pose_motion is not None and instance.problem.log_likelihood is None:
        return SUPPORT_OVER_POSES
    return SUPPORT.get(instance.truth.theta.shape[1], SUPPORT_BEYOND)


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {"q05": float(np.quantile(values, 0.05)), "median": float(np.median(values))}


def path(instance: Instance, known: Likelihoods, points: WeightedPoints, steps: list[int]) -> dict[str, np.ndarray]:
    """Objective, gap and metrics of EM after these steps."""
    rows = []
    for now in npmle(known, steps):
        heavy = now.weights > LIGHTEST
        law = metrics.identified(instance.truth, WeightedPoints(known.support[heavy], now.weights[heavy]))
        distances = metrics.some(NAMES, law, points)
        rows.append({"step": now.step, "objective": -now.objective, "gap": now.gap, **distances})
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def of_steps(curve: dict[str, np.ndarray]) -> dict[str, float]:
    """The last step, and the one that is nearest to the truth."""
    best = int(np.nanargmin(curve["w2"]))
    last = {f"npmle_{name}": float(curve[name][-1]) for name in NAMES}
    stopped = {f"stopped_{name}": float(curve[name][best]) for name in NAMES}
    return last | stopped | {"stopped_step": float(curve["step"][best]), "npmle_gap": float(curve["gap"][-1])}


def family_of(config: RunConfig, d: int) -> list[int] | str | None:
    """The family of a problem's truth, None where none is known."""
    if config.problem not in FAMILIES:
        return None
    signature = inspect.signature(DATASETS[config.problem]).parameters
    defaults = {name: p.default for name, p in signature.items()}
    family: list[int] | str = FAMILIES[config.problem](defaults | config.problem_options, d)
    return family


def parametric(
    instance: Instance, known: Likelihoods, points: WeightedPoints, family: list[int] | str | None, seed: int
) -> dict[str, float]:
    """Metrics of the law of the family that makes the data likeliest, from the fit to the truth behind them on."""
    if family is None:
        return {}
    rng, theta = np.random.default_rng(seed), np.asarray(instance.truth.theta, np.float64)
    if family == BOX:
        lower, upper = best_box(known, theta.min(0), theta.max(0))
        drawn = lower + (upper - lower) * rng.random((FAMILY_DRAWS, len(lower)))
    else:
        assert isinstance(family, list)
        start = mixtures_of(theta, family)
        if theta.shape[1] > 1 and math.isnan(known.pose_draws):
            fitted = mixtures_from_nodes(partial(all_pairs, in_span(instance.problem)), start)
        else:
            fitted = best_mixtures(known, start)  # a grid, or likelihoods that are dear
        drawn = fitted.draw(rng, FAMILY_DRAWS)
    law = metrics.identified(instance.truth, WeightedPoints(drawn, np.full(len(drawn), 1 / len(drawn))))
    return {f"parametric_{name}": value for name, value in metrics.some(NAMES, law, points).items()}
