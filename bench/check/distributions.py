"""Reference implementations of the distributions that problems sample from, and how probable samples are."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from scipy.stats import norm

Cloud = np.ndarray  # (n, d) in float64
Cdf = Callable[[np.ndarray], np.ndarray]


class Distribution(NamedTuple):
    """On R^d: the distribution function of each coordinate, mean and covariance."""

    marginals: Sequence[Cdf]
    mean: np.ndarray
    covariance: np.ndarray
    sample: Callable[[np.random.Generator, int], Cloud]


def mixture(weights: Sequence[float], means: Any, covariances: Any) -> Distribution:
    """sum_k weights_k N(means_k, covariances_k)."""
    w, m, c = (np.asarray(a, np.float64) for a in (weights, means, covariances))
    mean = w @ m
    covariance = np.einsum("k,kij->ij", w, c) + np.einsum("k,ki,kj->ij", w, m - mean, m - mean)

    def marginal(i: int) -> Cdf:
        return lambda x: norm.cdf((x[:, None] - m[:, i]) / np.sqrt(c[:, i, i])) @ w

    def sample(rng: np.random.Generator, n: int) -> Cloud:
        k = rng.choice(len(w), n, p=w)
        return m[k] + np.einsum("nij,nj->ni", np.linalg.cholesky(c)[k], rng.normal(size=(n, m.shape[1])))

    return Distribution([marginal(i) for i in range(m.shape[1])], mean, covariance, sample)


def uniform(half_width: float, d: int) -> Distribution:
    """On a cube around the origin."""
    marginal = scipy.stats.uniform(-half_width, 2 * half_width).cdf
    covariance = half_width**2 / 3 * np.eye(d)
    return Distribution([marginal] * d, np.zeros(d), covariance, lambda rng, n: half_width * rng.uniform(-1, 1, (n, d)))


def atoms(places: Sequence[float], weights: Sequence[float]) -> Distribution:
    """sum_k weights_k delta_{places_k} on the line; each jump of the distribution function is spread over at random.

    The function of a sample is then uniform on [0, 1], as that of a continuous distribution is.
    """
    x, w = np.asarray(places, np.float64), np.asarray(weights, np.float64)

    def marginal(sample: np.ndarray) -> np.ndarray:
        nearest = np.abs(np.asarray(sample)[:, None] - x).argmin(1)
        strayed = np.abs(sample - x[nearest]) > 1e-5 * np.abs(x).max()
        spread = np.random.default_rng(0).uniform(size=len(nearest))
        return np.where(strayed, np.nan, np.cumsum(w)[nearest] - spread * w[nearest])

    mean = w @ x
    variance = np.array([[w @ (x - mean) ** 2]])
    return Distribution([marginal], np.array([mean]), variance, lambda rng, n: rng.choice(x, (n, 1), p=w))


def between(low: float, high: float) -> Distribution:
    """Uniform on an interval."""
    law = scipy.stats.uniform(low, high - low)
    return Distribution(
        [law.cdf], np.array([law.mean()]), np.array([[law.var()]]), lambda rng, n: rng.uniform(low, high, (n, 1))
    )


# (distribution of theta, initial distribution), with the defaults of the problems: those of sections 4.1 to 4.3, and
# for fredholm those of [crucinio2022] in two dimensions; its initial distribution has the moments of the observations
_ONED = mixture([0.5, 0.5], [[-2.0], [2.0]], [[[0.75**2]], [[0.3**2]]]), mixture([1.0], [[0.0]], [[[1.0]]])
_FREDHOLM = (
    mixture([1 / 3, 2 / 3], [[0.3, 0.3], [0.7, 0.7]], [0.07**2 * np.eye(2), 0.1**2 * np.eye(2)]),
    mixture([1.0], [[1.7 / 3] * 2], [(0.07**2 / 3 + 2 * 0.1**2 / 3 + 2 / 9 * 0.4**2 + 0.15**2) * np.eye(2)]),
)
_NANOCLUSTER = (
    mixture([0.2, 0.8], [[3.0, 3.0], [5.0, 5.0]], [[[0.5, 0.0], [0.0, 0.5]], [[0.7, 0.5], [0.5, 1.0]]]),
    mixture([1.0], [[4.0, 4.0]], [[[0.8, 0.3], [0.3, 0.8]]]),
)
_CORNERS = [[first, second, 0.0, 0.0] for first in (9.0, -7.0) for second in (9.0, -7.0)]
_PROTEIN = mixture([0.25] * 4, _CORNERS, [np.eye(4)] * 4), uniform(7.0, 4)
ADENYLATE_KINASE_RMSD = 7.130708  # angstroms, of the C-alphas of 4AKE and 1AKE by scipy's align_vectors
_ENSEMBLE = atoms([0.0, ADENYLATE_KINASE_RMSD], [0.3, 0.7]), between(0.0, ADENYLATE_KINASE_RMSD)
DISTRIBUTIONS: dict[str, tuple[Distribution, Distribution]] = {
    "adk": _PROTEIN,
    "fredholm": _FREDHOLM,
    "ensemble": _ENSEMBLE,
    "hsp90": _PROTEIN,
    "inverse-kinematics": (
        mixture([1.0], np.zeros((1, 4)), np.diag([1 / 16, 1 / 4, 1 / 4, 1 / 4])[None]),
        uniform(np.pi, 4),
    ),
    "nanocluster": _NANOCLUSTER,
    "oned": _ONED,
    "slcp": (uniform(3.0, 5), uniform(5.0, 5)),
    "two-moons": (uniform(1.0, 2), uniform(5.0, 2)),
}


def p_value(samples: Cloud, distribution: Distribution) -> float:
    """The probability of samples that differ from their distribution at least as much.

    Kolmogorov-Smirnov and chi-square tests of the coordinates, and the means of all coordinates and of their products
    in standard errors, by Bonferroni.
    """
    mean = distribution.mean
    known = np.concatenate([mean, distribution.covariance[np.triu_indices(len(mean))]])
    return smallest([*_marginals(samples, distribution.marginals), *_moments(samples, mean, known)])


def _marginals(samples: Cloud, marginals: Sequence[Cdf]) -> Iterator[float]:
    """By the largest gap, which detects a shift, and by counts in cells, which detect a mode that is too wide."""
    for column, cdf in zip(np.asarray(samples, np.float64).T, marginals, strict=True):
        u = np.asarray(cdf(column))
        yield float(scipy.stats.kstest(u, "uniform").pvalue)
        cells = np.clip(len(u) // 20, 2, 50)
        yield float(scipy.stats.chisquare(np.histogram(u, cells, (0, 1))[0]).pvalue)


def _moments(samples: Cloud, mean: np.ndarray, known: np.ndarray) -> Iterator[float]:
    deviations = np.asarray(samples, np.float64) - mean
    first, second = np.triu_indices(len(mean))
    moments = np.concatenate([deviations + mean, deviations[:, first] * deviations[:, second]], axis=1)
    return from_mean(moments, known)


def from_mean(samples: Cloud, mean: np.ndarray | float) -> Iterator[float]:
    """For each column, how probable its mean is given its expectation."""
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    yield from 2 * norm.sf(np.abs(samples.mean(0) - mean) / error)


def smallest(p_values: Sequence[float]) -> float:
    """Of several tests, corrected by Bonferroni."""
    return float(np.minimum(1.0, len(p_values) * np.min(p_values)))  # NaN stays NaN


def rotations_p_value(rotation: np.ndarray) -> float:
    """Uniform rotations (n, 3, 3): entries uniform on [-1, 1], angles of density (1 - cos) / pi, second moments."""
    flat = np.asarray(rotation, np.float64).reshape(len(rotation), 9)
    if np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max() > 1e-4 or np.linalg.det(rotation).min() < 0:
        return 0.0  # not rotations
    angle = np.arccos(np.clip((np.trace(rotation, axis1=1, axis2=2) - 1) / 2, -1, 1))
    entries = _marginals(flat, [scipy.stats.uniform(-1, 2).cdf] * 9)
    products = from_mean(np.einsum("ni,nj->nij", flat, flat).reshape(-1, 81), (np.eye(9) / 3).ravel())
    return smallest([*entries, *_marginals(angle[:, None], [lambda t: (t - np.sin(t)) / np.pi]), *products])


def noise_p_value(noise: Cloud) -> float:
    """White standard normal noise (n, p): values, variance, and no correlation of a pixel with its neighbours or, in
    square images, with its mirror image in the centre."""
    n, p = noise.shape
    values = noise.reshape(-1, 1)
    tests = [*_marginals(values, [norm.cdf]), *from_mean(values, 0.0), *from_mean(values**2, 1.0)]
    side = round(np.sqrt(p))
    if side > 1 and side**2 == p:
        square = noise.reshape(n, side, side)
        across = noise[:, : p // 2] * noise[:, ::-1][:, : p // 2]
        for product in (square[:, 1:] * square[:, :-1], square[:, :, 1:] * square[:, :, :-1], across):
            tests += from_mean(product.reshape(-1, 1), 0.0)
    return smallest(tests)
