"""The distribution of conformations on a grid, from a table of likelihoods: EM stopped in time, and its intervals."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.ndimage import gaussian_filter

from cryosip.methods.tabulated import Grid

MOST_STEPS, PATIENCE = 500, 20
RESAMPLES = 100
LEVELS = 0.05, 0.95
LEAST_SHARE = 0.03  # of a basin that has a structure of its own
MOST_STRUCTURES = 8

Weights = Float[np.ndarray, " k"]


class Estimate(NamedTuple):
    """Weights (k,) of the points of a grid, after `steps` of EM, and those of resampled images (2, b, k): after as many
    steps, and after four times as many.

    Where cross-validation stops EM, the distribution is too smooth by about as much as it varies, which resamples do
    not show; after four times the steps it varies more and is hardly too smooth. Intervals are of both. Measured on 20
    stacks of known truth, 90 % intervals of the cumulative hold .95 and .84 of the time along two modes, and .94 and
    .70 without.
    """

    weights: Weights
    resampled: Float[np.ndarray, "2 b k"]
    steps: int


def likelihoods(log_values: Float[np.ndarray, "m k"]) -> Float[Array, "m k"]:
    """Those of each image, with the largest 1."""
    return jnp.asarray(np.exp(log_values - log_values.max(1, keepdims=True)), jnp.float32)


@jax.jit
def em_step(
    likelihood: Float[Array, "m k"], counts: Float[Array, "b m"], weights: Float[Array, "b k"]
) -> tuple[Float[Array, "b k"], Float[Array, "b m"]]:
    """One step of EM on b sets of weights, in which image i counts as often as its row says; log-evidence before it."""
    evidence = jnp.maximum(weights @ likelihood.T, jnp.finfo(weights.dtype).tiny)
    after = weights * ((counts / evidence) @ likelihood)
    return after / after.sum(1, keepdims=True), jnp.log(evidence)


def em(
    likelihood: Float[Array, "m k"],
    counts: Float[np.ndarray, "b m"] | Int[np.ndarray, "b m"],
    steps: int,
    start: Float[np.ndarray, "b k"] | None = None,
) -> Float[np.ndarray, "b k"]:
    """Weights after so many steps, from equal ones if no others are given."""
    k, given = likelihood.shape[1], jnp.asarray(counts, likelihood.dtype)
    weights = jnp.full((len(counts), k), 1 / k) if start is None else jnp.asarray(start, likelihood.dtype)
    for _ in range(steps):
        weights, _ = em_step(likelihood, given, weights)
    return np.asarray(weights, float)


def best_steps(likelihood: Float[Array, "m k"]) -> int:
    """How many steps make weights of either half of the images most likely for the other: EM sharpens without end."""
    m, k = likelihood.shape
    even = jnp.asarray(np.arange(m) % 2 == 0, likelihood.dtype)
    counts, weights = jnp.stack([even, 1 - even]), jnp.full((2, k), 1 / k, likelihood.dtype)
    best, score = 0, -np.inf
    for step in range(MOST_STEPS):
        after, log_evidence = em_step(likelihood, counts, weights)
        now = float(((1 - counts) * log_evidence).sum())
        if now > score:
            best, score = step, now
        elif step > best + PATIENCE:
            break
        weights = after
    return best


def estimated(likelihood: Float[Array, "m k"], rng: np.random.Generator) -> Estimate:
    """The nonparametric maximum likelihood estimate on the grid, stopped early, and those of resampled images."""
    m, steps = len(likelihood), best_steps(likelihood)
    weights = em(likelihood, np.ones((1, m)), steps)[0]
    counts = rng.multinomial(m, np.full(m, 1 / m), size=RESAMPLES)
    early = em(likelihood, counts, steps)
    return Estimate(weights, np.stack([early, em(likelihood, counts, 3 * steps, early)]), steps)


def halves_of_resamples(
    likelihood: Float[Array, "m k"], steps: int, rng: np.random.Generator, pairs: int
) -> Float[np.ndarray, "p 2 k"]:
    """Pairs of estimates of half as many images each, drawn with replacement."""
    m = len(likelihood)
    counts = rng.multinomial(m // 2, np.full(m, 1 / m), size=2 * pairs)
    return em(likelihood, counts, steps).reshape(pairs, 2, -1)


def marginal(grid: Grid, weights: Float[np.ndarray, "*b k"], mode: int) -> Float[np.ndarray, "*b n"]:
    """The weights along one mode."""
    shape = weights.shape[:-1]
    cells = weights.reshape(*shape, *(grid.per_axis,) * grid.dimension)
    return cells.sum(tuple(len(shape) + axis for axis in range(grid.dimension) if axis != mode))


def with_interval(
    value: Float[np.ndarray, " n"], resampled: Float[np.ndarray, "2 b n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The value, and the outer ones of the quantiles over both sets of resamples, which hold it."""
    low, high = np.quantile(resampled, LEVELS, axis=1)
    return value, np.minimum(low.min(0), value), np.maximum(high.max(0), value)


def free_energy(
    grid: Grid, estimate: Estimate, n_images: int
) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, "n n"]]:
    """-log rho of the first two modes in k_B T above its lowest, and its std over resamples; NaN where fewer than one
    image is expected.
    """

    def plane(weights: np.ndarray) -> np.ndarray:
        n = grid.per_axis
        return weights.reshape(*weights.shape[:-1], n, n, -1).sum(-1)

    whole, resampled = plane(estimate.weights), plane(estimate.resampled)
    empty = whole * n_images < 1
    with np.errstate(divide="ignore"):
        energy = -np.log(whole)
        std = np.log(np.maximum(resampled, np.finfo(np.float32).tiny)).std((0, 1))
    energy -= energy.min()
    return np.where(empty, np.nan, energy), np.where(empty, np.nan, std)


def basins(grid: Grid, weights: Weights) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " b"]]:
    """The peak that steepest ascent leads to from each point of the grid, as a number, and the peaks, by their share.

    Peaks with less than 3 % of the weight, and all but the largest eight, are left to the nearest of the others.
    """
    n, d, k = grid.per_axis, grid.dimension, len(weights)
    cells = np.pad(weights.reshape((n,) * d), 1, constant_values=-1.0)
    numbers = np.pad(np.arange(k).reshape((n,) * d), 1)
    offsets = np.stack(np.meshgrid(*[[0, -1, 1]] * d, indexing="ij"), -1).reshape(-1, d)
    inner = [np.roll(cells, tuple(-o), tuple(range(d)))[(slice(1, -1),) * d].ravel() for o in offsets]
    names = [np.roll(numbers, tuple(-o), tuple(range(d)))[(slice(1, -1),) * d].ravel() for o in offsets]
    upward = np.stack(names)[np.argmax(np.stack(inner), axis=0), np.arange(k)]
    while (upward[upward] != upward).any():
        upward = upward[upward]
    peaks = np.unique(upward)
    share = np.array([weights[upward == peak].sum() for peak in peaks])
    order = np.argsort(-share)
    kept = peaks[order][: max(1, min(MOST_STRUCTURES, int((share >= LEAST_SHARE).sum())))]
    points = grid.points
    nearest = ((points[upward][:, None] - points[kept]) ** 2).sum(2).argmin(1)
    return nearest, kept


def smoothed(grid: Grid, weights: Weights, std: Float[np.ndarray, " d"]) -> Weights:
    """After a Gaussian of these stds along each mode."""
    step = (grid.upper - grid.lower) / (grid.per_axis - 1)
    cells = weights.reshape((grid.per_axis,) * grid.dimension)
    return gaussian_filter(cells, std / step, mode="reflect").ravel()  # which keeps the sum
