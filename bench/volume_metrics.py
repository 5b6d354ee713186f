"""How far a distribution of volumes is from the true one, in L2, inside and outside of where that lies."""

from collections.abc import Iterable

import jax
import jax.random as jr
import numpy as np
import scipy.cluster.vq
from jaxtyping import Float

from cryosip.bench import metrics
from cryosip.datasets import volume_frame
from cryosip.datasets.instance import Instance
from cryosip.datasets.volume_frame import Frame, frame
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import PRNGKey
from cryosip.records.schema import Floor

TRIES = 4  # of k-means
TRUTH_KEY, DRAWS, FLOOR_SAMPLES = 1007, 1_500, 20
Coefficients = Float[np.ndarray, "n v"]


def embedded(within: Frame, volumes: WeightedPoints) -> WeightedPoints:
    """Volumes in as many dimensions as distances to the truth need."""
    with jax.enable_x64(True):
        return WeightedPoints(
            np.asarray(volume_frame.embedded(within, np.asarray(volumes.theta, float))), volumes.weights
        )


def drawn(within: Frame) -> WeightedPoints:
    """The draws of the truth, as volumes are in `embedded`."""
    return metrics.equally_weighted(np.pad(within.points, [(0, 0), (0, 1)])[None])[0]


def true_volumes(instance: Instance) -> tuple[Frame, Floor]:
    """Draws of the true volumes, and the floor of as many as there are images, at most 1500.

    Without the first coefficient, the mean of a map, which programs set as they set that of images.
    """
    volume = instance.volume
    assert volume is not None

    def draws(key: PRNGKey) -> Coefficients:
        return np.asarray(volume(instance.truth.sample(key, DRAWS)), float)[:, 1:]

    first, *others = jr.split(jr.key(TRUTH_KEY), 1 + FLOOR_SAMPLES)
    within = frame(draws(first))
    n = min(len(instance.problem.observations), DRAWS)
    return within, floor(within, (draws(key)[:n] for key in others))


def of_volumes(estimate: WeightedPoints, within: Frame) -> dict[str, float]:
    """The distances of a distribution of volumes from draws of the true one.

    Parameters
    ----------
    estimate
        Coefficients (k, v) in an orthonormal basis, and weights.
    within
        The draws of the truth.

    Returns
    -------
    dict
        `volume_w1`, `volume_w2` and `volume_energy_distance` in L2; `volume_w2_inside`, W2 of the coordinates in the
        truth's leading components, and `volume_outside`, the root mean square distance from their span; and
        `volume_w2_support`, W2 with the best weights of the estimate's own volumes.
    """
    true, found = drawn(within), embedded(within, estimate)
    weights = found.weights / np.sum(found.weights)
    inside = (WeightedPoints(points.theta[:, :-1], points.weights) for points in (found, true))
    return {
        "volume_w1": metrics.w1(found, true),
        "volume_w2": metrics.w2(found, true),
        "volume_energy_distance": _energy_distance(estimate, within),
        "volume_w2_inside": metrics.w2(*inside),
        "volume_outside": float(np.sqrt(weights @ np.asarray(found.theta)[:, -1] ** 2)),
        "volume_w2_support": metrics.best_weights(found, true)["w2"],
    }


def _energy_distance(estimate: WeightedPoints, within: Frame) -> float:
    """In as many dimensions as there are volumes outside of the span: distances within the estimate count too."""
    away = np.asarray(estimate.theta, float) - within.mean
    inside = away @ within.components.T
    left, singular, _ = np.linalg.svd(away - inside @ within.components, full_matrices=False)
    found = WeightedPoints(np.concatenate([inside, left * singular], axis=1), estimate.weights)
    there = np.pad(within.points, [(0, 0), (0, len(singular))])
    return metrics.energy_distance(found, metrics.equally_weighted(there[None])[0])


def anchors(within: Frame, k: int) -> dict[str, float]:
    """What `volume_w2` of k volumes is to be held against.

    `volume_spread` is that of one volume, the mean, for every image; `volume_w2_best_points` that of the points and
    weights of k-means, below which no k volumes can be but by its local optimum.
    """
    points = within.points
    tries = [scipy.cluster.vq.kmeans2(points, min(k, len(points)), minit="++", rng=seed)[0] for seed in range(TRIES)]
    best = min(_mean_square(points, centers) for centers in tries)
    return {"volume_spread": within.spread, "volume_w2_best_points": float(np.sqrt(best))}


def floor(within: Frame, draws: Iterable[Coefficients]) -> Floor:
    """`volume_w2` of other draws of the truth against the first, sample by sample: median and 5-95 %."""
    samples = [embedded(within, metrics.equally_weighted(sample[None])[0]) for sample in draws]
    found = metrics.summary([metrics.w2(sample, drawn(within)) for sample in samples])
    return Floor(found["median"], found["q05"], found["q95"], len(samples[0].theta))


def _mean_square(points: Coefficients, centers: Coefficients) -> float:
    """The mean squared distance to the nearest centre."""
    return float((scipy.cluster.vq.vq(points, centers)[1] ** 2).mean())


def scaled(estimate: WeightedPoints, true_mean: Float[np.ndarray, " v"]) -> tuple[WeightedPoints, float]:
    """The estimate times the one factor with which its mean is nearest to the truth's, and that factor.

    Maps of programs have grey values of their own. One factor for all keeps what differs between them.
    """
    mean = np.average(np.asarray(estimate.theta, float), axis=0, weights=np.asarray(estimate.weights))
    factor = float(mean @ true_mean / max(mean @ mean, np.finfo(float).tiny))
    return estimate._replace(theta=factor * np.asarray(estimate.theta, float)), factor
