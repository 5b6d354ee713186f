"""How far a distribution of volumes is from the true one, in L2, inside and outside of where that lies."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.cluster.vq
import scipy.linalg
from jaxtyping import Float

from cryosip.bench import metrics
from cryosip.datasets import volume_frame
from cryosip.datasets.instance import Instance
from cryosip.datasets.volume_frame import Frame, frame
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import PRNGKey
from cryosip.records.schema import Floor

TRIES = 4  # of k-means
CAPTURING = 4  # components of an estimate
TRUTH_KEY, DRAWS, FLOOR_SAMPLES = 1007, 1_500, 20
Coefficients = Float[np.ndarray, "n v"]


class States(NamedTuple):
    """The volumes (k, v) of discrete conformers, their populations (k,), and how many images there are."""

    volumes: Coefficients
    populations: Float[np.ndarray, " k"]
    n_images: int


class TrueVolumes(NamedTuple):
    """Draws of the true volumes, the states where these are discrete, and floors."""

    within: Frame
    states: States | None
    floors: dict[str, Floor]


def embedded(within: Frame, volumes: WeightedPoints) -> WeightedPoints:
    """Volumes in as many dimensions as distances to the truth need."""
    with jax.enable_x64(True):
        return WeightedPoints(
            np.asarray(volume_frame.embedded(within, np.asarray(volumes.theta, float))), volumes.weights
        )


def drawn(within: Frame) -> WeightedPoints:
    """The draws of the truth, as volumes are in `embedded`."""
    return metrics.equally_weighted(np.pad(within.points, [(0, 0), (0, 1)])[None])[0]


def true_volumes(instance: Instance) -> TrueVolumes:
    """Draws of the true volumes, and the floors of as many as there are images, at most 1500.

    Without the first coefficient, the mean of a map, which programs set as they set that of images.
    """
    volume = instance.volume
    assert volume is not None

    def draws(key: PRNGKey) -> Coefficients:
        return np.asarray(volume(instance.truth.sample(key, DRAWS)), float)[:, 1:]

    first, *others = jr.split(jr.key(TRUTH_KEY), 1 + FLOOR_SAMPLES)
    within, states, m = frame(draws(first)), None, len(instance.problem.observations)
    if instance.truth.states is not None:
        assert instance.truth.populations is not None
        centers = np.asarray(volume(jnp.asarray(instance.truth.states)), float)[:, 1:]
        states = States(centers, instance.truth.populations, m)
    return TrueVolumes(within, states, floors(within, states, (draws(key)[: min(m, DRAWS)] for key in others)))


def of_volumes(estimate: WeightedPoints, within: Frame, states: States | None = None) -> dict[str, float]:
    """The distances of a distribution of volumes from draws of the true one.

    Parameters
    ----------
    estimate
        Coefficients (k, v) in an orthonormal basis, and weights.
    within
        The draws of the truth.
    states
        Where the truth has some: the errors of populations are measured, too, as `of_states` does.

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
        "volume_energy_distance": _energy_distance(found, true, np.asarray(estimate.theta, float)),
        "volume_w2_inside": metrics.w2(*inside),
        "volume_outside": float(np.sqrt(weights @ np.asarray(found.theta)[:, -1] ** 2)),
        "volume_w2_support": metrics.best_weights(found, true)["w2"],
    } | ({} if states is None else of_states(estimate, states))


class Principal(NamedTuple):
    """The mean (v,), orthonormal components (k, v) and the stds along these (k,), the largest first."""

    mean: Float[np.ndarray, " v"]
    components: Float[np.ndarray, "k v"]
    stds: Float[np.ndarray, " k"]


def principal(volumes: WeightedPoints, k: int) -> Principal:
    """The leading principal components of weighted points, at most k; none along which they do not vary."""
    theta, weights = np.asarray(volumes.theta, float), np.asarray(volumes.weights, float) / np.sum(volumes.weights)
    mean = weights @ theta
    away = np.sqrt(weights)[:, None] * (theta - mean)
    # the products of the points or of the coefficients, whichever are fewer
    wide = len(away) > away.shape[1]
    products = away.T @ away if wide else away @ away.T
    leading = [max(0, len(products) - k), len(products) - 1]
    squares, vectors = (found[..., ::-1] for found in scipy.linalg.eigh(products, subset_by_index=leading))
    told = squares > np.finfo(float).eps * len(products) * max(squares[0], np.finfo(float).tiny)
    stds = np.sqrt(squares[told])
    components = vectors[:, told].T if wide else (away.T @ vectors[:, told] / stds).T
    return Principal(mean, components, stds)


def captured_variance(found: Principal, within: Frame) -> float:
    """sum_k |Sigma^(1/2) u_k|^2 / tr Sigma of the truth's covariance Sigma, u_k the first four components found."""
    along = within.points @ (within.components @ found.components[:CAPTURING].T)
    return float((along**2).sum() / (within.points**2).sum())


def of_states(estimate: WeightedPoints, states: States) -> dict[str, float]:
    """How far populations are from the true ones, p_k from q_k; each volume belongs to the state that is nearest in L2.

    `population_total_variation` is 1/2 sum_k |p_k - q_k|; `population_error_in_kT` as `error_in_kt` says.
    """
    found = metrics.populations(estimate, states.volumes)
    return {
        "population_total_variation": metrics.population_total_variation(states.populations, found),
        "population_error_in_kT": error_in_kt(states.populations, found, 1 / (2 * states.n_images)),
    }


def error_in_kt(true: Float[np.ndarray, " k"], found: Float[np.ndarray, " k"], least: float) -> float:
    """The root mean square error of free energies, -kT log(p_k / p_1), of k > 1; 1 is the most populated state.

    A population below `least`, half an image, counts as that: a state that is not found has a finite error.
    """
    energies = [-np.log(np.maximum(p, least)) for p in (found, true)]
    first = int(np.argmax(true))
    errors = np.delete(energies[0] - energies[1], first) - (energies[0] - energies[1])[first]
    return float(np.sqrt((errors**2).mean()))


def _energy_distance(found: WeightedPoints, true: WeightedPoints, all_coordinates: Coefficients) -> float:
    """(2.9): distances to and within the truth in few dimensions, those within the estimate in all."""
    weights = found.weights / np.sum(found.weights)
    spread = weights @ distances(all_coordinates) @ weights
    between = metrics.mean_distance(found, true)
    return float(np.sqrt(max(0.0, 2 * between - spread - metrics.mean_distance(true, true))))


def distances(points: Coefficients) -> Float[np.ndarray, "n n"]:
    """|x_i - x_j|, by |x_i|^2 + |x_j|^2 - 2 x_i . x_j: a product of matrices, where many coordinates take minutes."""
    away = points - points.mean(0)
    products = away @ away.T
    norms = products.diagonal()
    found = np.sqrt(np.maximum(norms[:, None] + norms - 2 * products, 0.0))
    np.fill_diagonal(found, 0.0)
    return found


def anchors(within: Frame, k: int) -> dict[str, float]:
    """What `volume_w2` of k volumes is to be held against.

    `volume_spread` is that of one volume, the mean, for every image; `volume_w2_best_points` that of the points and
    weights of k-means, below which no k volumes can be but by its local optimum.
    """
    points = within.points
    tries = [scipy.cluster.vq.kmeans2(points, min(k, len(points)), minit="++", rng=seed)[0] for seed in range(TRIES)]
    best = min(_mean_square(points, centers) for centers in tries)
    return {"volume_spread": within.spread, "volume_w2_best_points": float(np.sqrt(best))}


def floors(within: Frame, states: States | None, draws: Iterable[Coefficients]) -> dict[str, Floor]:
    """Of other draws of the truth, sample by sample: median and 5-95 %.

    Of `volume_w2` against the first draws, and of populations, whose error is that of counts, against the true ones.
    """
    samples = [metrics.equally_weighted(sample[None])[0] for sample in draws]
    found = [
        {"volume_w2": metrics.w2(embedded(within, sample), drawn(within))}
        | ({} if states is None else of_states(sample, states))
        for sample in samples
    ]
    summaries = {name: metrics.summary([values[name] for values in found]) for name in found[0]}
    n = len(samples[0].theta)
    return {name: Floor(one["median"], one["q05"], one["q95"], n) for name, one in summaries.items()}


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
