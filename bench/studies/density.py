"""The density of weighted points on a line by a Gaussian kernel, and its integrated squared error."""

from collections.abc import Callable

import numpy as np
import scipy.optimize
from jaxtyping import Float

Vector = Float[np.ndarray, " n"]

CELLS = 2**13  # between the first and the last point, that distances between points are counted in
TRIALS = 60  # of bandwidths before the best of them is refined


def kernel_density(x: Vector, weights: Vector, at: Vector) -> Vector:
    """sum_k weights_k N(at; x_k, h^2) with the bandwidth h of least-squares cross-validation."""
    return _normal(at[:, None] - x, bandwidth(x, weights)) @ weights


def bandwidth(x: Vector, weights: Vector) -> float:
    """The minimum over h of int f_h^2 - 2 sum_i w_i f_h,-i(x_i), least-squares cross-validation [bowman1984].

    f_h,-i is the density of all other points, their weights made to sum to 1. Distances are counted in cells of a
    CELLS-th of the range, the least bandwidth is two cells and the largest the distance of the quartiles. Raises
    ValueError where there are no two points with weight.
    """
    x, w = x[weights > 0], weights[weights > 0] / weights.sum()
    cell = (x.max() - x.min()) / CELLS if len(x) else 0.0
    if cell == 0:
        raise ValueError("the points are all equal; wanted two or more, for a bandwidth")
    lag = np.arange(CELLS + 1) * cell
    index = np.rint((x - x.min()) / cell).astype(int)
    odds = w / (1 - w)
    pairs = _pairs(index, w, w)
    others = _pairs(index, w, odds)
    others[0] -= w @ odds  # a point does not predict itself

    def score(log_h: float) -> float:
        h = np.exp(log_h)
        return float(pairs @ _normal(lag, np.sqrt(2) * h) - 2 * others @ _normal(lag, h))

    order = np.argsort(x)
    lower, upper = np.interp((0.25, 0.75), np.cumsum(w[order]) - w[order] / 2, x[order])
    largest = max(upper - lower, 4 * cell)
    tried = np.linspace(np.log(2 * cell), np.log(largest), TRIALS)
    best = int(np.argmin([score(log_h) for log_h in tried]))
    around = tried[max(best - 1, 0)], tried[min(best + 1, TRIALS - 1)]
    return float(np.exp(scipy.optimize.minimize_scalar(score, bounds=around, method="bounded").x))


def _pairs(index: np.ndarray, a: Vector, b: Vector) -> Vector:
    """sum of a_i b_j over all i and j that are so many cells apart, on either side."""
    spectra = [np.fft.rfft(np.bincount(index, c, CELLS + 1), 2 * CELLS + 2) for c in (a, b)]
    products = np.fft.irfft(spectra[0].conj() * spectra[1], 2 * CELLS + 2)
    both = products[: CELLS + 1].copy()
    both[1:] += products[:CELLS:-1][:CELLS]
    return both


def _normal(x: np.ndarray, std: float) -> np.ndarray:
    return np.exp(-0.5 * (x / std) ** 2) / (np.sqrt(2 * np.pi) * std)


def integrated_squared_error(density: Vector, truth: Callable[[Vector], Vector], nodes: Vector) -> float:
    """int (f - f*)^2 over equally distant nodes, where f is given: the sum times the distance of nodes."""
    return float(((density - truth(nodes)) ** 2).sum() * (nodes[1] - nodes[0]))
