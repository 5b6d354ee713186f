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

    f_h,-i is the density of all other points, their weights made to sum to 1; equal points are one. h is between 0.25
    and 1.5 std n^(-1/5), n = 1 / sum_i w_i^2 [silverman1986]: without a limit, points in clusters, as maximum
    likelihood leaves them, have a bandwidth of almost nothing. Distances are counted in cells of a CELLS-th of the
    range. Raises ValueError where there are no two points with weight.
    """
    x, which = np.unique(x[weights > 0], return_inverse=True)
    w = np.bincount(which, weights[weights > 0]) / weights.sum()
    if len(x) < 2:
        raise ValueError("the points are all equal; wanted two or more, for a bandwidth")
    cell = (x[-1] - x[0]) / CELLS
    lag = np.arange(CELLS + 1) * cell
    index = np.rint((x - x[0]) / cell).astype(int)
    odds = w / (1 - w)
    pairs = _pairs(index, w, w)
    others = _pairs(index, w, odds)
    others[0] -= w @ odds  # a point does not predict itself

    def score(log_h: float) -> float:
        h = np.exp(log_h)
        return float(pairs @ _normal(lag, np.sqrt(2) * h) - 2 * others @ _normal(lag, h))

    scale = np.sqrt(w @ (x - w @ x) ** 2) * (w @ w) ** 0.2
    tried = np.linspace(np.log(0.25 * scale), np.log(1.5 * scale), TRIALS)
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
