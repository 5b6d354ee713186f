"""Energy distances between images in every reading that the paper's wording allows."""

from typing import NamedTuple

import jax
import jax.random as jr
import numpy as np
import scipy.spatial.distance
from jaxtyping import Float

from cryosip.datasets.instance import Instance
from cryosip.methods import images
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Points, Problem, in_span

FEW_COORDINATES = 512  # up to here all differences are taken in float64; beyond, Gram products in float32

Cloud = Float[np.ndarray, "n p"]


class Within(NamedTuple):
    """Of one cloud: its points, and the sum of the distances of all its pairs."""

    points: Cloud
    total: float


class Totals(NamedTuple):
    """Sums of the distances of all pairs of observations, and of all pairs of the images behind them."""

    noisy: float
    clean: float


def observed_totals(instance: Instance) -> Totals:
    """What the distances of all estimates on one data set share."""
    observed = np.asarray(instance.problem.observations)
    return Totals(_total(observed, observed), _within(_images_behind(instance)).total)


def readings(instance: Instance, observed: Totals, estimate: WeightedPoints, key: jax.Array) -> dict[str, float]:
    """D^2 of (2.9) between images of the estimate and the observations, as many images as there are observations.

    "noisy" compares noisy images with the observations, "clean" images without noise with those of the parameters
    behind the observations, "mixed" images without noise with the observations; "v" counts an image's distance 0 to
    itself, "u" leaves it out.
    """
    problem = instance.problem
    clean, noisy = simulated_images(problem, estimate, len(problem.observations), key)
    clean_within = _within(np.asarray(clean if problem.span is None else problem.span.project(clean)))
    seen = Within(np.asarray(problem.observations), observed.noisy)
    pairs = {
        "noisy": (_within(np.asarray(noisy)), seen),
        "clean": (clean_within, Within(_images_behind(instance), observed.clean)),
        "mixed": (Within(np.asarray(clean), clean_within.total), seen),
    }
    return {
        f"images_{kind}_{statistic}": _squared_distance(simulated, true, statistic)
        for kind, (simulated, true) in pairs.items()
        for statistic in ("v", "u")
    }


def _images_behind(instance: Instance) -> Cloud:
    """The images of the true parameters without noise, by their coordinates in the span where there is one."""
    return np.asarray(in_span(instance.problem).render(instance.truth.theta, instance.truth.pose))


def simulated_images(problem: Problem, estimate: WeightedPoints, n: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """n images of the estimate without and with noise."""
    key_choice, key_pose, key_noise = jr.split(key, 3)
    clean = problem.render(drawn(estimate, n, key_choice), problem.sample_pose(key_pose, n))
    return clean, clean + problem.noise_std * jr.normal(key_noise, clean.shape)


def drawn(estimate: WeightedPoints, n: int, key: jax.Array) -> Points:
    """n i.i.d. samples of the distribution of an estimate, as jr.choice takes them; numpy compiles nothing."""
    theta, below = np.asarray(estimate.theta), np.cumsum(np.asarray(estimate.weights, np.float64))
    levels = below[-1] * (1 - np.asarray(jr.uniform(key, (n,))))
    chosen = np.searchsorted(below, levels).clip(max=len(theta) - 1)
    return jax.numpy.asarray(theta[chosen])


def _squared_distance(x: Within, y: Within, statistic: str) -> float:
    n, m = len(x.points), len(y.points)
    within = x.total / (n * (n - (statistic == "u"))) + y.total / (m * (m - (statistic == "u")))
    return 2 * _total(x.points, y.points) / (n * m) - within


def _within(points: Cloud) -> Within:
    return Within(points, _total(points, points))


def _total(x: Cloud, y: Cloud) -> float:
    """Sum of the distances of all pairs."""
    if x.shape[1] <= FEW_COORDINATES:
        return float(scipy.spatial.distance.cdist(x.astype(np.float64), y.astype(np.float64)).sum())
    return images.mean_distance(x, y) * len(x) * len(y)
