"""What kernels are compared with: the same quantities in float64 numpy, written out, exact to rounding."""

from collections.abc import Callable, Iterator

import numpy as np
import scipy.interpolate
import scipy.special
import scipy.stats

Sample = np.ndarray  # (n, p)
Slope = Callable[[np.ndarray], np.ndarray]
ROWS = 250  # at a time
KNOTS = 1_000  # of the spline for distances under noise; it errs far less than float32


def line_gradient(y: Sample, observed: Sample) -> Sample:
    """2 (F_M - F_N)(y_i), the energy distance's on the line, a step counted half where it is."""

    def cdf(sample: np.ndarray) -> np.ndarray:
        ordered = np.sort(sample[:, 0])
        return (np.searchsorted(ordered, y[:, 0]) + np.searchsorted(ordered, y[:, 0], "right")) / (2 * len(sample))

    return (2 * (cdf(observed) - cdf(y)))[:, None]


def line_value(y: Sample, observed: Sample) -> np.ndarray:
    """Integral of (F_N - F_M)^2."""
    both = np.sort(np.concatenate([y[:, 0], observed[:, 0]]).astype(np.float64))
    cdfs = [np.searchsorted(np.sort(sample[:, 0]), both[:-1], "right") / len(sample) for sample in (y, observed)]
    return np.asarray((cdfs[0] - cdfs[1]) ** 2 @ np.diff(both))


def energy_gradient(y: Sample, observed: Sample) -> Sample:
    """Row i: mean_j of (y_i - y*_j) / |y_i - y*_j| minus that over y."""
    return _pull(y, observed, np.zeros(len(observed)), _root) - _pull(y, y, np.zeros(len(y)), _root)


def noisy_energy_gradient(y: Sample, observed: Sample, outside: np.ndarray, std: float, dims: int) -> Sample:
    """The same where noise of std in `dims` dimensions widens each simulated image, and `outside` (m,) each |y - y*|^2.

    The distance is E |u + std xi|, xi ~ N(0, I_dims), from its law, a Poisson mixture of central chi laws.
    """
    y, observed = y.astype(np.float64), observed.astype(np.float64)
    furthest = 4 * max(_squares(y - y.mean(0)).max(), _squares(observed - y.mean(0)).max())
    to_observed = _noisy_slope(std, dims, furthest + outside.max())
    to_simulated = _noisy_slope(np.sqrt(2) * std, dims, furthest)
    return _pull(y, observed, outside, to_observed) - _pull(y, y, np.zeros(len(y)), to_simulated)


def _root(squares: np.ndarray) -> np.ndarray:
    """2 d|u| / d|u|^2, which is 0 at 0."""
    return 1 / np.sqrt(np.where(squares > 0, squares, np.inf))


def _noisy_slope(std: float, dims: int, furthest: float) -> Slope:
    """2 d/ds of E |u + std xi| at s = |u|^2, on a spline."""

    def exact(squares: float) -> float:
        rate = squares / std**2 / 2
        spread = 12 * np.sqrt(rate + 1) + 40
        k = np.arange(max(0, int(rate - spread)), int(rate + spread))
        chi = np.sqrt(2.0) * scipy.special.poch(dims / 2 + np.append(k, k[-1] + 1), 0.5)
        return float(scipy.stats.poisson.pmf(k, rate) @ np.diff(chi) / std)

    knots = np.linspace(0, furthest, KNOTS)
    return scipy.interpolate.CubicSpline(knots, [exact(s) for s in knots])


def _pull(y: Sample, cloud: Sample, outside: np.ndarray, slope: Slope) -> Sample:
    """Row i: mean_j slope(|y_i - cloud_j|^2 + outside_j) (y_i - cloud_j)."""
    cloud = cloud.astype(np.float64)
    center = cloud.mean(0)
    pulls = []
    for some in _blocks(y):
        squares = _squares(some - center)[:, None] + _squares(cloud - center) - 2 * (some - center) @ (cloud - center).T
        tiny = 1e-12 * squares.max()  # what a Gram product cannot tell from zero
        weights = slope(np.where(squares > tiny, squares, 0.0) + outside) / len(cloud)
        pulls.append(weights.sum(1)[:, None] * some - weights @ cloud)
    return np.concatenate(pulls)


def kde_score_gap(y: Sample, observed: Sample, std: float) -> Sample:
    """Row i: gradient at y_i of log(rho_N / rho_M), both Gaussian kernel density estimates, on the line."""

    def score(at: np.ndarray, cloud: np.ndarray) -> np.ndarray:
        gaps = cloud[:, 0].astype(np.float64) - at
        weights = scipy.special.softmax(-0.5 * (gaps / std) ** 2, axis=1)
        return (weights * gaps).sum(1, keepdims=True) / std**2

    return np.concatenate([score(some, y) - score(some, observed) for some in _blocks(y)])


def kde_log_ratio(y: Sample, observed: Sample, std: float) -> np.ndarray:
    """Mean of log(rho_N / rho_M) over y."""

    def log_kde(at: np.ndarray, cloud: np.ndarray) -> np.ndarray:
        gaps = cloud[:, 0].astype(np.float64) - at
        return scipy.special.logsumexp(-0.5 * (gaps / std) ** 2, axis=1) - np.log(len(cloud))

    return np.asarray(np.concatenate([log_kde(some, y) - log_kde(some, observed) for some in _blocks(y)]).mean())


def gaussian_images(
    size: int,
    pixel_size: float,
    std: float,
    centers: np.ndarray,
    cotangent: np.ndarray,
    average: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of unit Gaussians at centers (n, a, 2), (x, y), and what the adjoint makes of images: (n, s, s), (n, a, 2).

    At the pixels' centres, or with `average` their means over pixels.
    """
    grid = pixel_size * (np.arange(size) - size // 2)[:, None]
    images, pulled = [], []
    for (x, y), image in zip(np.moveaxis(centers.astype(np.float64), 2, 1), cotangent.astype(np.float64), strict=True):
        (across, to_x), (down, to_y) = (_profile(grid - at, pixel_size, std, average) for at in (x, y))
        images.append(down @ across.T)
        pulled.append(np.stack([(to_x * (image.T @ down)).sum(0), (to_y * (image @ across)).sum(0)], axis=1))
    return np.stack(images), np.stack(pulled)


def _profile(gaps: np.ndarray, pixel_size: float, std: float, average: bool) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian along one axis, and its derivative by the place of its centre."""
    if not average:
        values = np.exp(-0.5 * (gaps / std) ** 2)
        return values, values * gaps / std**2
    ends = [(gaps + half) / std for half in (pixel_size / 2, -pixel_size / 2)]
    integral = std * np.sqrt(2 * np.pi) * (scipy.special.ndtr(ends[0]) - scipy.special.ndtr(ends[1]))
    slope = np.exp(-0.5 * ends[1] ** 2) - np.exp(-0.5 * ends[0] ** 2)
    return integral / pixel_size, slope / pixel_size


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", rows, rows)


def _blocks(rows: Sample) -> Iterator[np.ndarray]:
    rows = rows.astype(np.float64)
    return (rows[i : i + ROWS] for i in range(0, len(rows), ROWS))
