"""How far a distribution of volumes is from the true one, in L2, inside and outside of where that lies."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.cluster.vq
from jaxtyping import Float

from cryosip.bench import metrics
from cryosip.methods.method import WeightedPoints
from cryosip.records.schema import Floor

TRIES = 4  # of k-means
LEADING_SHARE, MOST_LEADING = 0.999, 20  # of the truth's variance, and of its principal components
Coefficients = Float[np.ndarray, "n v"]


class Frame(NamedTuple):
    """Draws of the truth in their leading principal components.

    Their mean, orthonormal rows, the coordinates of the draws in these, and their root mean square distance from the
    mean.
    """

    mean: Float[np.ndarray, " v"]
    components: Float[np.ndarray, "q v"]
    points: Float[np.ndarray, "n q"]
    spread: float

    @property
    def truth(self) -> WeightedPoints:
        """The draws, as volumes are in `embedded`."""
        return metrics.equally_weighted(np.pad(self.points, [(0, 0), (0, 1)])[None])[0]


def frame(truth: Coefficients) -> Frame:
    """The fewest leading components with 0.999 of the variance of draws of the truth, at most 20."""
    mean = truth.mean(0)
    away = truth - mean
    # the products of the draws are fewer than those of the coefficients
    squares, vectors = (found[..., ::-1] for found in np.linalg.eigh(away @ away.T))
    squares = np.maximum(squares, 0.0)
    share = np.cumsum(squares) / max(squares.sum(), np.finfo(float).tiny)
    q = min(int(np.searchsorted(share, LEADING_SHARE)) + 1, MOST_LEADING, len(squares))
    components = np.linalg.qr(away.T @ vectors[:, :q])[0].T
    return Frame(mean, components, away @ components.T, float(np.sqrt(squares.sum() / len(truth))))


def embedded(within: Frame, volumes: WeightedPoints) -> WeightedPoints:
    """Volumes in q + 1 dimensions: their coordinates in the components, and how far they are from their span.

    As the truth lies in the span, |c - t|^2 = |U (c - t)|^2 + |c_outside|^2: distances to it are as in all v.
    """
    away = np.asarray(volumes.theta, float) - within.mean
    inside = away @ within.components.T
    outside = np.sqrt(np.maximum((away**2).sum(1) - (inside**2).sum(1), 0.0))
    return WeightedPoints(np.concatenate([inside, outside[:, None]], axis=1), volumes.weights)


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
    true, found = within.truth, embedded(within, estimate)
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
    found = metrics.summary([metrics.w2(sample, within.truth) for sample in samples])
    return Floor(found["median"], found["q05"], found["q95"], len(samples[0].theta))


def _mean_square(points: Coefficients, centers: Coefficients) -> float:
    """The mean squared distance to the nearest centre."""
    return float((scipy.cluster.vq.vq(points, centers)[1] ** 2).mean())


def scaled(estimate: WeightedPoints, within: Frame) -> tuple[WeightedPoints, float]:
    """The estimate times the one factor with which its mean is nearest to the truth's, and that factor.

    Maps of programs have grey values of their own. One factor for all keeps what differs between them.
    """
    mean = np.average(np.asarray(estimate.theta, float), axis=0, weights=np.asarray(estimate.weights))
    factor = float(mean @ within.mean / max(mean @ mean, np.finfo(float).tiny))
    return estimate._replace(theta=factor * np.asarray(estimate.theta, float)), factor
