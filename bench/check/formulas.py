"""Discrepancies and distances by their formulas, in float64 numpy: sums over all pairs, sharing no code with `methods`.

Clouds are (n, p). Constants that no derivative sees are left out of first variations, as the paper does.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.interpolate
import scipy.optimize
from scipy.spatial.distance import cdist, pdist
from scipy.special import logsumexp, ndtr, softmax
from scipy.stats import norm

from cryosip.bench.check.images import rotation_invariants

Cloud = np.ndarray
Line = np.ndarray
Kernel = Callable[[np.ndarray], np.ndarray]  # of distances

STEP = 1e-5  # of central differences, in units of y
NODES = 201  # of the trapezoidal rule over noise, within 9 stds
ROWS = 250  # of a matrix of distances that are held at a time
KNOTS = 1_000  # of the spline for slopes under noise; its error is far below that of float32
RING_WIDTH = 1.6  # pixels, the default of invariant-energy


class Formula(NamedTuple):
    """A discrepancy D to fixed observations: its value, and its first variation dD/drho for the points of a cloud."""

    value: Callable[[Cloud], float]
    variation: Callable[[Cloud, Cloud], Line]  # at these places, of this cloud


def slopes(formula: Formula, y: Cloud, axis: np.ndarray) -> Line:
    """Component axis_i of the gradient of the first variation at y_i, by central differences."""
    step = STEP * np.eye(y.shape[1])[axis]
    return (formula.variation(y + step, y) - formula.variation(y - step, y)) / (2 * STEP)


def _blocks(cloud: Cloud) -> Iterator[Cloud]:
    cloud = np.asarray(cloud, np.float64)
    return (cloud[i : i + ROWS] for i in range(0, len(cloud), ROWS))


def _mean(kernel: Kernel, at: Cloud, cloud: Cloud) -> Line:
    """Row i: mean_j kernel(|at_i - cloud_j|)."""
    return np.concatenate([kernel(cdist(rows, cloud)).mean(1) for rows in _blocks(at)])


def _kernels(seen: Cloud, between: Kernel, within: Kernel, plain: Kernel) -> Formula:
    """Half the squared distance in the space of a kernel, which noise of the simulated images has widened twice."""
    among_seen = _mean(plain, seen, seen).mean()
    return Formula(
        lambda y: float((_mean(within, y, y).mean() + among_seen) / 2 - _mean(between, y, seen).mean()),
        lambda at, y: _mean(within, at, y) - _mean(between, at, seen),
    )


def energy(seen: Cloud, noise_std: float) -> Formula:
    """(2.9), squared and halved."""
    p = seen.shape[1]
    between, within, plain = (
        lambda r, s=factor * noise_std: -noisy_distance(r, s, p) for factor in (1.0, np.sqrt(2), 0.0)
    )
    return _kernels(seen, between, within, plain)


# t at which the trapezoidal rule in log t, which converges exponentially, evaluates integrals over (0, inf)
LOG_STEP = 0.2
NODES_T = np.exp(np.arange(-50, 50, LOG_STEP))


def noisy_distance(r: np.ndarray, s: float, p: int) -> np.ndarray:
    """E|u + s xi| of |u| = r in p dimensions, by int_0^inf (1 - E exp(-t |u + s xi|^2)) t^(-3/2) dt / (2 sqrt(pi))."""
    if s == 0:
        return r
    if p == 1:
        return s * (2 * norm.pdf(r / s) + r / s * (2 * ndtr(r / s) - 1))
    total = np.zeros_like(r)
    for t in NODES_T:
        damping = 1 + 2 * s**2 * t
        total -= np.expm1(-p / 2 * np.log(damping) - t / damping * r**2) / np.sqrt(t)
    return total * LOG_STEP / (2 * np.sqrt(np.pi))


def noisy_slope(squares: np.ndarray, s: float, p: int) -> np.ndarray:
    """(1 / r) d/dr of `noisy_distance` at r^2 = squares; without noise 1 / r, and 0 at 0."""
    if s == 0:
        return 1 / np.sqrt(np.where(squares > 0, squares, np.inf))
    total = np.zeros_like(squares)
    for t in NODES_T:
        damping = 1 + 2 * s**2 * t
        total += np.sqrt(t) / damping * np.exp(-p / 2 * np.log(damping) - t / damping * squares)
    return total * LOG_STEP / np.sqrt(np.pi)


def energy_gradient(y: Cloud, seen: Cloud) -> Cloud:
    """Gradient of the first variation of `energy` at each y_i, where no noise is integrated out.

    mean_j of (y_i - seen_j) / |y_i - seen_j|, minus the same mean over y.
    """
    plain = partial(noisy_slope, s=0.0, p=y.shape[1])
    return _pull(y, seen, 0.0, plain) - _pull(y, y, 0.0, plain)


def noisy_energy_gradient(y: Cloud, seen: Cloud, outside: np.ndarray, std: float, dims: int) -> Cloud:
    """The same where noise widens each simulated image, of images given by their coordinates in a subspace.

    Parameters
    ----------
    y, seen
        (n, q) and (m, q), coordinates of the simulated and of the observed images.
    outside
        (m,), squared distances of the observed images from the subspace.
    std
        Of the noise in each dimension.
    dims
        Number of dimensions in which there is noise; where y holds noise of its own, those outside the subspace.

    Returns
    -------
    (n, q).
    """
    y, seen = y.astype(np.float64), seen.astype(np.float64)
    furthest = 4 * max(((cloud - y.mean(0)) ** 2).sum(1).max() for cloud in (y, seen)) + outside.max()
    knots = np.linspace(0, furthest, KNOTS)
    of_seen, of_simulated = (
        scipy.interpolate.CubicSpline(knots, noisy_slope(knots, s, dims)) for s in (std, np.sqrt(2) * std)
    )
    return _pull(y, seen, outside, of_seen) - _pull(y, y, 0.0, of_simulated)


def _pull(at: Cloud, cloud: Cloud, outside: np.ndarray | float, slope: Callable[[np.ndarray], np.ndarray]) -> Cloud:
    """Row i: mean_j slope(|at_i - cloud_j|^2 + outside_j) (at_i - cloud_j)."""
    cloud = np.asarray(cloud, np.float64)
    pulls = []
    for rows in _blocks(at):
        weights = slope(cdist(rows, cloud, "sqeuclidean") + outside) / len(cloud)
        pulls.append(weights.sum(1)[:, None] * rows - weights @ cloud)
    return np.concatenate(pulls)


def mmd(seen: Cloud, noise_std: float, kernel: str = "gaussian", bandwidth: float | None = None) -> Formula:
    """(2.8), squared and halved.

    Parameters
    ----------
    seen
        (m, p), the observations.
    noise_std
        Of the noise that is integrated out; 0 for none.
    kernel
        "gaussian", or "laplace" on the line.
    bandwidth
        By default the median distance between observations.

    Returns
    -------
    The discrepancy to these observations.
    """
    h = float(np.median(pdist(seen))) if bandwidth is None else bandwidth
    of_std = partial({"gaussian": _gaussian, "laplace": _laplace}[kernel], h, seen.shape[1])
    return _kernels(seen, of_std(noise_std), of_std(np.sqrt(2) * noise_std), of_std(0.0))


def _gaussian(h: float, p: int, s: float) -> Kernel:
    wide = np.hypot(h, s)
    return lambda r: (h / wide) ** p * np.exp(-0.5 * (r / wide) ** 2)


def _laplace(h: float, p: int, s: float) -> Kernel:
    """On the line, where noise is integrated out."""
    if s == 0:
        return lambda r: np.exp(-r / h)
    a = s / h
    return lambda r: np.exp(a**2 / 2) * (np.exp(-r / h) * ndtr(r / s - a) + np.exp(r / h) * ndtr(-r / s - a))


def silverman(seen: Cloud) -> float:
    """Silverman's rule with the mean variance over the components."""
    m, p = seen.shape
    return float(np.sqrt(seen.var(0, dtype=np.float64).mean()) * (4 / ((p + 2) * m)) ** (1 / (p + 4)))


def _log_density(at: Cloud, cloud: Cloud, std: float) -> Line:
    """Of the kernel density estimate."""
    logs = [logsumexp(-0.5 * (cdist(rows, cloud) / std) ** 2, axis=1) for rows in _blocks(at)]
    return np.concatenate(logs) - np.log(len(cloud)) - 0.5 * cloud.shape[1] * np.log(2 * np.pi * std**2)


def kl(seen: Cloud, noise_std: float) -> Formula:
    """(2.7) between kernel density estimates; on the line averaged over the noise of the image that moves."""
    h = silverman(seen)

    def log_ratio(at: Cloud, y: Cloud) -> Line:
        return _log_density(at, y, np.hypot(h, noise_std)) - _log_density(at, seen, h)

    def averaged(at: Cloud, y: Cloud) -> Line:
        if noise_std == 0:
            return log_ratio(at, y)
        omega = noise_std * np.linspace(-9, 9, NODES)
        weights = np.exp(-0.5 * (omega / noise_std) ** 2)
        values = log_ratio((at + omega).reshape(-1, 1), y).reshape(len(at), -1)
        return values @ (weights / weights.sum())

    return Formula(lambda y: float(averaged(y, y).mean()), averaged)


def kl_gradient(y: Cloud, seen: Cloud) -> Cloud:
    """Gradient of the first variation of `kl` at each y_i, where no noise is integrated out."""
    h = silverman(seen)

    def score(cloud: Cloud) -> Cloud:
        cloud = np.asarray(cloud, np.float64)
        means = [softmax(-0.5 * (cdist(rows, cloud) / h) ** 2, axis=1) @ cloud for rows in _blocks(y)]
        return (np.concatenate(means) - y) / h**2

    return score(y) - score(seen)


def composite(seen: Cloud, noise_std: float) -> Formula:
    """The sum of both."""
    first, second = kl(seen, noise_std), mmd(seen, noise_std)
    return Formula(
        lambda y: first.value(y) + second.value(y),
        lambda at, y: first.variation(at, y) + second.variation(at, y),
    )


def data_kl(seen: Cloud, noise_std: float) -> Formula:
    """(3.1) with (3.3): the negative mean log-likelihood of the observations."""
    std = noise_std or silverman(seen)

    def likelihood(x: Cloud) -> np.ndarray:
        return np.exp(-0.5 * (cdist(seen, x) / std) ** 2)

    return Formula(
        lambda x: -np.log(likelihood(x).mean(1)).mean(),
        lambda at, x: -(likelihood(at) / likelihood(x).mean(1)[:, None]).mean(0),
    )


def invariant_energy(seen: Cloud, _noise_std: float) -> Formula:
    """The energy distance of features that do not change when an image is rotated in its plane."""
    features = partial(rotation_invariants, ring_width=RING_WIDTH)
    formula = energy(features(seen), 0.0)
    return Formula(lambda y: formula.value(features(y)), lambda at, y: formula.variation(features(at), features(y)))


FORMULAS: dict[str, Callable[..., Formula]] = {
    "energy": energy,
    "kl": kl,
    "mmd": mmd,
    "composite": composite,
    "data-kl": data_kl,
    "invariant-energy": invariant_energy,
    "sliced-energy": energy,
}


def wasserstein(x: Cloud, y: Cloud, p: int) -> float:
    """W_p of as many points on either side, equally weighted: the best of all one-to-one assignments."""
    cost = cdist(x, y) ** p
    return float(cost[scipy.optimize.linear_sum_assignment(cost)].mean() ** (1 / p))


def energy_distance(x: Cloud, y: Cloud) -> float:
    """D_E of (2.9), the root."""
    return float(np.sqrt(2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()))
