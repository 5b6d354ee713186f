"""What there is to say whether to believe a distribution whose truth nobody knows."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Array, Float, Int

from cryosip.bench import metrics
from cryosip.bench.image_distances import drawn
from cryosip.bench.recovery.distribution import LEVELS, Estimate, estimated, likelihoods, marginal, with_interval
from cryosip.bench.recovery.tables import OfImages
from cryosip.datasets.imaging import Imaging, poses_of, with_errors
from cryosip.datasets.stack_images import StackPose, as_pixels, clean
from cryosip.methods.images import mean_distance
from cryosip.methods.likelihood import of_all_pairs
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import Images
from cryosip.methods.tabulated import Grid, coefficients, refined
from cryosip.records.recovery import Between

LogLikelihood = Callable[[Float[Array, "n d"], Int[Array, " n"]], Float[Array, " n"]]

AT_A_TIME = 500  # images that are simulated, or structures whose likelihoods are read
OUTLIER_P_VALUE = 1e-4
NULL_DRAWS = 16
INNER = 0.02, 0.98  # of a cumulative: intervals are counted where it is not all but 0 or 1


class Simulated(NamedTuple):
    """Images (n, p) of known structures theta (n, d), in the poses of some images of the stack."""

    theta: Float[np.ndarray, "n d"]
    images: Images
    pose: StackPose


def between(values: np.ndarray, value: float | None = None) -> Between:
    """A number, the median by default, and the 5 % and 95 % quantiles."""
    low, middle, high = np.quantile(values, [LEVELS[0], 0.5, LEVELS[1]])
    return Between(float(middle if value is None else value), float(low), float(high))


def held_out(
    estimate: WeightedPoints,
    log_likelihood: LogLikelihood,
    evidence: Float[np.ndarray, " m"],
    rows: Int[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """log p(y_i) under an estimate over `evidence`, that of equal weights on a grid, of images it was not fitted to."""
    theta, gains = jnp.asarray(estimate.theta, jnp.float32), []
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.asarray(estimate.weights, float))
    for start in range(0, len(rows), AT_A_TIME):
        batch = rows[start : start + AT_A_TIME]
        values = np.asarray(of_all_pairs(log_likelihood, theta, jnp.asarray(batch)), float).T
        gains.append(scipy.special.logsumexp(values + log_weights, axis=1) - evidence[batch])
    return np.concatenate(gains)


def simulated(imaging: Imaging, estimate: WeightedPoints, rows: Int[np.ndarray, " n"], key: Array) -> Simulated:
    """Images of the estimate as the microscope would make them: poses and CTF of the rows, errors of poses, contrast,
    noise.
    """
    key_theta, key_pose, key_factor, key_noise = jr.split(key, 4)
    theta = drawn(estimate, len(rows), key_theta).astype(jnp.float32)
    given = poses_of(imaging.particles, rows)
    pose = with_errors(imaging, key_pose, given)
    render = jax.jit(lambda theta, pose: as_pixels(imaging.optics, clean(imaging.optics, imaging.beads, theta, pose)))
    parts = [
        np.asarray(render(theta[s : s + AT_A_TIME], jax.tree.map(lambda a, s=s: a[s : s + AT_A_TIME], pose)))
        for s in range(0, len(rows), AT_A_TIME)
    ]
    images = jnp.asarray(np.concatenate(parts))
    images *= 1 + imaging.scale_std * jr.normal(key_factor, (len(rows), 1))
    images += jr.normal(key_noise, images.shape)
    return Simulated(np.asarray(theta, float), images, given)


def energy_distance(x: Float[np.ndarray, "n p"], y: Float[np.ndarray, "n p"]) -> float:
    """D^2 of (2.9) between two sets of n images, row by row in the same pose; no image is compared with another of its
    own pose, or with itself.
    """
    n = len(x)
    across = mean_distance(x, y) * n - np.linalg.norm(x - y, axis=1).mean()
    return float((2 * across - mean_distance(x, x) * n - mean_distance(y, y) * n) / (n - 1))


def image_distance(
    imaging: Imaging, first: WeightedPoints, second: WeightedPoints, observations: Images,
    rows: Int[np.ndarray, " n"], seed: int,
) -> Between:  # fmt: skip
    """The mean D^2 of observations from images that are simulated, in their poses, from the estimate of the half that
    they are not of, beside that of images simulated from the estimate of their own half: these two differ by chance.
    """

    def draws(estimate: WeightedPoints, n: int, start: int) -> list[np.ndarray]:
        return [np.asarray(simulated(imaging, estimate, rows, jr.key(seed + start + i)).images) for i in range(n)]

    wanted, null = draws(first, NULL_DRAWS // 2, 0), [*draws(second, NULL_DRAWS, NULL_DRAWS), np.asarray(observations)]
    apart = np.array([np.mean([energy_distance(a, b) for a in wanted]) for b in null])
    return between(apart[:-1], float(apart[-1]))


def distance(grid: Grid, one: Float[np.ndarray, " k"], other: Float[np.ndarray, " k"]) -> float:
    """W2 of two sets of weights on a grid."""
    points = grid.points
    return metrics.w2(WeightedPoints(points, one), WeightedPoints(points, other))


def spread(grid: Grid, weights: Float[np.ndarray, "*b k"]) -> Float[np.ndarray, "*b"]:
    """The root mean square distance from the mean."""
    points = grid.points
    return np.sqrt(np.maximum(weights @ (points**2).sum(1) - ((weights @ points) ** 2).sum(-1), 0.0))


def junk_probabilities(evidence: Float[np.ndarray, " m"]) -> tuple[Between, Float[np.ndarray, " m"]]:
    """The share of images that are noise alone, and the probability of each, from their evidence over that of noise.

    The share is the most likely one; its interval has all whose likelihood ratio is within the 90 % quantile.
    """
    small = np.geomspace(1e-6, 0.02, 60)
    shares = np.concatenate([[0.0], small, np.linspace(0.02, 0.98, 241)[1:-1], 1 - small[::-1], [1.0]])
    with np.errstate(divide="ignore"):
        odds = np.log(shares), np.log1p(-shares)
    likelihood = np.array(
        [np.logaddexp(noise, particle + evidence).sum() for noise, particle in zip(*odds, strict=True)]
    )
    best = int(likelihood.argmax())
    near = shares[2 * (likelihood[best] - likelihood) <= scipy.stats.chi2.ppf(LEVELS[1] - LEVELS[0], 1)]
    probability = scipy.special.expit(odds[0][best] - odds[1][best] - evidence)
    return Between(float(shares[best]), float(near[0]), float(near[-1])), probability


def unexplained(squares: Float[np.ndarray, " m"], best: Float[np.ndarray, " m"], p: int) -> float:
    """The share of images whose misfit |y - x|^2 of the likeliest structure noise exceeds once in 10^4."""
    return float((squares - 2 * best > scipy.stats.chi2.isf(OUTLIER_P_VALUE, p)).mean())


def calibration(
    imaging: Imaging, of: OfImages, table_grid: Grid, fine: Grid, estimate: Estimate, rows: Int[np.ndarray, " n"],
    seed: int,
) -> tuple[Float[np.ndarray, "d 4"], Simulated, Float[np.ndarray, "n k"]]:  # fmt: skip
    """Recovers the distribution of images that are simulated from the estimate, and compares: the std along each mode,
    that of what is recovered, the share of its intervals that hold, and the largest error of its cumulative. Then the
    images, and their log-likelihoods on the fine grid.
    """
    true = WeightedPoints(fine.points, estimate.weights)
    made = simulated(imaging, true, rows, jr.key(seed))
    points = jnp.asarray(table_grid.points, jnp.float32)
    step = 250
    values = np.concatenate(
        [
            np.asarray(of(made.images[s : s + step], jax.tree.map(lambda a, s=s: a[s : s + step], made.pose), points))
            for s in range(0, len(rows), step)
        ]
    )
    log_values = refined(table_grid, coefficients(table_grid, values), fine.per_axis)
    again = estimated(likelihoods(log_values), np.random.default_rng(seed))
    return np.stack([_compared(fine, mode, estimate, again) for mode in range(fine.dimension)]), made, log_values


def _compared(fine: Grid, mode: int, true: Estimate, again: Estimate) -> Float[np.ndarray, " 4"]:
    """The std of both along a mode, the share of the intervals of `again` that hold, and the largest error."""
    axis = np.linspace(fine.lower[mode], fine.upper[mode], fine.per_axis)
    along = [marginal(fine, weights, mode) for weights in (true.weights, again.weights)]
    stds = [np.sqrt(p @ axis**2 - (p @ axis) ** 2) for p in along]
    wanted, found = (np.cumsum(p) for p in along)
    _, low, high = with_interval(found, np.cumsum(marginal(fine, again.resampled, mode), axis=-1))
    counted = (wanted > INNER[0]) & (wanted < INNER[1])
    held = ((wanted >= low) & (wanted <= high))[counted]
    return np.array([*stds, held.mean() if counted.any() else np.nan, np.abs(found - wanted).max()])
