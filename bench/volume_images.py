"""The volume that a method gives to each image, beside the true one: Fourier shell correlations and L2 distances."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Problem, in_span, part
from cryosip.methods.volumes import consensus, correlation, in_given_poses, in_halves

MOST_IMAGES = MOST_VOLUMES = 500  # that are compared
LEAST_CORRELATION, SIGMAS = 0.143, 3  # of halves, in a shell that they tell; the second in stds of that of noise
Maps = Float[Array | np.ndarray, "n v"]


class PerImage(NamedTuple):
    """Correlations (n, s) with the true volume of each image in the shells from 1 on, and the distance from it (n,)."""

    correlation: Float[np.ndarray, "n s"]
    distance: Float[np.ndarray, " n"]

    @property
    def area(self) -> float:
        """The mean over shells and images: 1 where all volumes are right, about 0 where they are noise."""
        return float(self.correlation.mean())

    @property
    def rms(self) -> float:
        return float(np.sqrt((self.distance**2).mean()))


def compared(problem: Problem, given: Maps, true: Maps) -> PerImage:
    """Volumes of images beside the true ones, without their mean grey values, which programs set as they like."""
    assert problem.volumes is not None
    shells, n = np.asarray(problem.volumes.shells)[1:], (problem.volumes.size - 1) // 2 + 1
    member = (shells[:, None] == np.arange(1, n)).astype(float)
    a, b = np.asarray(given, float)[:, 1:], np.asarray(true, float)[:, 1:]
    norms = np.sqrt((a**2 @ member) * (b**2 @ member))
    correlation = (a * b) @ member / np.maximum(norms, np.finfo(float).tiny)
    return PerImage(correlation, np.sqrt(((a - b) ** 2).sum(1)))


def of_halves(problem: Problem) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What the images tell of one volume behind all, without the truth: the correlation of two halves of them.

    The volume of each half has the largest likelihood, in the poses that are given.

    Returns
    -------
    dict
        `halves_area`, the mean of the correlation over the shells from 1 on, about 0 for noise; and `halves_shells`,
        how many shells from the first on correlate by more than 0.143 [rosenthal2003] and by three stds of the
        correlation of noise, 1 / sqrt(n) with n coefficients in a shell [vanheel2005].
    dict
        `fsc_halves` (s, 2): the correlation in each shell, and what it is held against.
    """
    seen = in_given_poses(problem)
    one, other = consensus(seen, in_halves(seen))
    found = np.asarray(correlation(seen, one[None], other[None])[0], float)[1:]
    counts = np.bincount(np.asarray(seen.volumes.shells))[1 : 1 + len(found)]
    wanted = np.maximum(LEAST_CORRELATION, SIGMAS / np.sqrt(counts))
    told = int(np.argmin(np.append(found > wanted, False)))
    return {"halves_area": float(found.mean()), "halves_shells": float(told)}, {
        "fsc_halves": np.stack([found, wanted], axis=1)
    }


class Own(NamedTuple):
    """The volumes (n, v) that a method itself gives to some images, and which these are."""

    images: Int[np.ndarray, " n"]
    volumes: Maps


def evenly(n: int) -> Int[np.ndarray, " k"]:
    """All numbers below n, or as many as are compared, evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST_IMAGES)).astype(int))


def posterior_mean(problem: Problem, volumes: WeightedPoints) -> Maps:
    """sum_k w_k p(y_i | V_k) V_k / sum_k w_k p(y_i | V_k) of each image, in the pose that the problem gives.

    All methods have this one, those that give no volume to an image too: it says what their distribution tells of it.
    """
    offered = problem.volumes
    assert offered is not None
    seen = in_span(problem)
    y, pose, maps = seen.observations, problem.poses, jnp.asarray(volumes.theta, seen.observations.dtype)

    def misfit(c: Float[Array, " v"]) -> Float[Array, " m"]:
        return 0.5 * ((y - offered.project(c, pose)) ** 2).sum(1) / problem.noise_std**2

    logits = jnp.log(jnp.asarray(volumes.weights, maps.dtype)) - jax.jit(partial(jax.lax.map, misfit))(maps).T
    return jax.nn.softmax(logits, axis=1) @ maps


def thinned(volumes: WeightedPoints) -> WeightedPoints:
    """At most 500 points, by systematic resampling."""
    theta, weights = np.asarray(volumes.theta), np.asarray(volumes.weights, float)
    if len(theta) <= MOST_VOLUMES:
        return WeightedPoints(theta, weights / weights.sum())
    levels = (np.arange(MOST_VOLUMES) + 0.5) / MOST_VOLUMES
    chosen = np.searchsorted(np.cumsum(weights / weights.sum()), levels).clip(max=len(theta) - 1)
    return WeightedPoints(theta[chosen], np.full(MOST_VOLUMES, 1 / MOST_VOLUMES))


def of_images(
    problem: Problem, true: Maps, estimate: WeightedPoints, own: Own | None
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """How near the volume of each image is to the true one, and the correlations in each shell.

    Parameters
    ----------
    problem
        It offers volumes; where it gives poses, there are volumes by Bayes' rule.
    true
        Behind each image (m, v).
    estimate
        The distribution, of volumes.
    own
        The method's own volumes of images, None where it has none.

    Returns
    -------
    dict
        `consensus_area` and `consensus_rms`, of the mean of the true volumes for every image: what every method must
        beat. `bayes_area` and `bayes_rms`, by Bayes' rule under the estimate; `own_area` and `own_rms`.
    dict
        For each of them the medians, 5 % and 95 % of images in each shell, (s, 3).
    """
    whole, rows = np.asarray(true), evenly(len(true))
    found = {"consensus": (rows, np.broadcast_to(whole.mean(0), (len(rows), whole.shape[1])))}
    if problem.poses is not None:
        found["bayes"] = rows, np.asarray(posterior_mean(part(problem, jnp.asarray(rows)), thinned(estimate)))
    if own is not None:
        some = evenly(len(own.images))
        found["own"] = own.images[some], np.asarray(own.volumes)[some]
    values: dict[str, float] = {}
    curves: dict[str, np.ndarray] = {}
    for name, (images, volumes) in found.items():
        one = compared(problem, volumes, whole[images])
        values |= {f"{name}_area": one.area, f"{name}_rms": one.rms}
        curves[f"fsc_{name}"] = np.quantile(one.correlation, [0.5, 0.05, 0.95], axis=0).T
    return values, curves
