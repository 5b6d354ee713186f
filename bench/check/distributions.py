"""The laws that problems say they draw from, written out once more, and how probable draws are under a law."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from scipy.stats import norm

Cloud = np.ndarray  # (n, d) in float64
Cdf = Callable[[np.ndarray], np.ndarray]


class Law(NamedTuple):
    """A law on R^d by the distribution function of each coordinate, its mean and its covariance."""

    marginals: Sequence[Cdf]
    mean: np.ndarray
    covariance: np.ndarray
    sample: Callable[[np.random.Generator, int], Cloud]


def mixture(weights: Sequence[float], means: Any, covariances: Any) -> Law:
    """sum_k weights_k N(means_k, covariances_k)."""
    w, m, c = (np.asarray(a, np.float64) for a in (weights, means, covariances))
    mean = w @ m
    covariance = np.einsum("k,kij->ij", w, c) + np.einsum("k,ki,kj->ij", w, m - mean, m - mean)

    def marginal(i: int) -> Cdf:
        return lambda x: norm.cdf((x[:, None] - m[:, i]) / np.sqrt(c[:, i, i])) @ w

    def sample(rng: np.random.Generator, n: int) -> Cloud:
        k = rng.choice(len(w), n, p=w)
        return m[k] + np.einsum("nij,nj->ni", np.linalg.cholesky(c)[k], rng.normal(size=(n, m.shape[1])))

    return Law([marginal(i) for i in range(m.shape[1])], mean, covariance, sample)


def uniform(half_width: float, d: int) -> Law:
    """On a cube around the origin."""
    one = scipy.stats.uniform(-half_width, 2 * half_width)
    covariance = half_width**2 / 3 * np.eye(d)
    return Law([one.cdf] * d, np.zeros(d), covariance, lambda rng, n: half_width * rng.uniform(-1, 1, (n, d)))


# (law of theta, initial law), with the defaults of the problems: those of sections 4.1 to 4.3
_ONED = mixture([0.5, 0.5], [[-2.0], [2.0]], [[[0.75**2]], [[0.3**2]]]), mixture([1.0], [[0.0]], [[[1.0]]])
_NANOCLUSTER = (
    mixture([0.2, 0.8], [[3.0, 3.0], [5.0, 5.0]], [[[0.5, 0.0], [0.0, 0.5]], [[0.7, 0.5], [0.5, 1.0]]]),
    mixture([1.0], [[4.0, 4.0]], [[[0.8, 0.3], [0.3, 0.8]]]),
)
_CORNERS = [[first, second, 0.0, 0.0] for first in (9.0, -7.0) for second in (9.0, -7.0)]
_PROTEIN = mixture([0.25] * 4, _CORNERS, [np.eye(4)] * 4), uniform(7.0, 4)
LAWS: dict[str, tuple[Law, Law]] = {
    "adk": _PROTEIN,
    "hsp90": _PROTEIN,
    "nanocluster": _NANOCLUSTER,
    "oned": _ONED,
}


def p_value(draws: Cloud, law: Law) -> float:
    """How probable draws that differ as much are under the law: Kolmogorov-Smirnov tests of the coordinates, and the
    means of all coordinates and of their products in standard errors, by Bonferroni."""
    known = np.concatenate([law.mean, law.covariance[np.triu_indices(len(law.mean))]])
    return smallest([*_marginals(draws, law.marginals), *_moments(draws, law.mean, known)])


def _marginals(draws: Cloud, marginals: Sequence[Cdf]) -> Iterator[float]:
    """By the largest gap, which feels a shift, and by counts in cells, which feel a mode that is too wide."""
    for column, cdf in zip(np.asarray(draws, np.float64).T, marginals, strict=True):
        u = np.asarray(cdf(column))
        yield float(scipy.stats.kstest(u, "uniform").pvalue)
        cells = np.clip(len(u) // 20, 2, 50)
        yield float(scipy.stats.chisquare(np.histogram(u, cells, (0, 1))[0]).pvalue)


def _moments(draws: Cloud, mean: np.ndarray, known: np.ndarray) -> Iterator[float]:
    away = np.asarray(draws, np.float64) - mean
    first, second = np.triu_indices(len(mean))
    seen = np.concatenate([away + mean, away[:, first] * away[:, second]], axis=1)
    return from_mean(seen, known)


def from_mean(draws: Cloud, mean: np.ndarray | float) -> Iterator[float]:
    """Of each column: how probable its mean is where its expectation is known."""
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    yield from 2 * norm.sf(np.abs(draws.mean(0) - mean) / error)


def smallest(p_values: Sequence[float]) -> float:
    """That of the least probable of several tests, by Bonferroni."""
    return float(np.minimum(1.0, len(p_values) * np.min(p_values)))  # NaN stays NaN


def rotations_p_value(rotation: np.ndarray) -> float:
    """Uniform rotations (n, 3, 3): entries uniform on [-1, 1], angles of density (1 - cos) / pi, second moments."""
    flat = np.asarray(rotation, np.float64).reshape(len(rotation), 9)
    if np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max() > 1e-4 or np.linalg.det(rotation).min() < 0:
        return 0.0  # no rotations
    angle = np.arccos(np.clip((np.trace(rotation, axis1=1, axis2=2) - 1) / 2, -1, 1))
    entries = _marginals(flat, [scipy.stats.uniform(-1, 2).cdf] * 9)
    products = from_mean(np.einsum("ni,nj->nij", flat, flat).reshape(-1, 81), (np.eye(9) / 3).ravel())
    return smallest([*entries, *_marginals(angle[:, None], [lambda t: (t - np.sin(t)) / np.pi]), *products])


def noise_p_value(noise: Cloud) -> float:
    """White standard normal noise (n, p): values, variance, and no correlation of pixels with those beside them or with
    those across the centre of a square image."""
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
