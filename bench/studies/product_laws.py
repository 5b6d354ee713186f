"""The energy distance of laws whose coordinates are independent: a one-dimensional integral, no samples."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.integrate
import scipy.special
from jaxtyping import Float

from cryosip.datasets.gaussian_mixture import GaussianMixture

NODES = 400  # of the integral over a rate, in log space
REACH = 12.0  # of log s, below and above that of the scale of the laws
SMALL = 1e-3  # s times a length below which a series has all digits

Rates = Float[np.ndarray, " t"]


class Uniform(NamedTuple):
    """On [-half_width, half_width]."""

    half_width: float


Law = Uniform | GaussianMixture


def scaled(law: Law, factor: float) -> Law:
    """The law of `factor` times the coordinate."""
    if isinstance(law, Uniform):
        return Uniform(factor * law.half_width)
    return GaussianMixture(factor * law.means, factor * law.stds, law.weights)


def energy_distance_squared(first: Sequence[Law], second: Sequence[Law]) -> float:
    """D_E^2 = 2 E|X - Y| - E|X - X'| - E|Y - Y'|, X and Y with the independent coordinates of the laws.

    From |u| = pi^{-1/2} int_0^inf (1 - exp(-s^2 |u|^2)) / s^2 ds, in which the mean of exp(-s^2 |X - Y|^2) is a product
    over coordinates, each in closed form, one pair of components after the other.
    """
    scale = max(_spread(law) for law in (*first, *second))

    def at(log_rate: float) -> float:
        s = np.exp(log_rate)
        rates = np.array([s])
        both, one, other = (
            np.prod([_mean_of_gaussian(a, b, rates)[0] for a, b in zip(x, y, strict=True)])
            for x, y in ((first, second), (first, first), (second, second))
        )
        return float((one + other - 2 * both) / s)  # ds = s d log s

    middle = -np.log(scale)
    value, _error = scipy.integrate.quad(at, middle - REACH, middle + REACH, limit=NODES, epsabs=0.0, epsrel=1e-9)
    return float(value / np.sqrt(np.pi))


def _spread(law: Law) -> float:
    if isinstance(law, Uniform):
        return law.half_width
    return float(np.abs(law.means).max() + law.stds.max())


def _mean_of_gaussian(a: Law, b: Law, s: Rates) -> Rates:
    """E exp(-s^2 (A - B)^2)."""
    if isinstance(a, Uniform) and isinstance(b, Uniform):
        return _uniforms(a.half_width, b.half_width, s)
    if isinstance(a, Uniform):
        a, b = b, a
    assert isinstance(a, GaussianMixture)
    if isinstance(b, Uniform):
        return sum(
            (
                w * _normal_and_uniform(m, std, b.half_width, s)
                for w, m, std in zip(a.weights, a.means, a.stds, strict=True)
            ),
            np.zeros_like(s),
        )
    away = a.means[:, None] - b.means
    spread = 1 + 2 * s[:, None, None] ** 2 * (a.stds[:, None] ** 2 + b.stds**2)
    each = np.exp(-(s[:, None, None] ** 2) * away**2 / spread) / np.sqrt(spread)
    return np.einsum("tij,i,j->t", each, a.weights, b.weights)


def _normal_and_uniform(mean: float, std: float, half_width: float, s: Rates) -> Rates:
    """The density of N(mean, std^2 + 1 / (2 s^2)) over the interval, times sqrt(pi) / s."""
    root = np.sqrt(2 * (std**2 + 0.5 / s**2))
    inside = scipy.special.erf((half_width - mean) / root) + scipy.special.erf((half_width + mean) / root)
    return np.sqrt(np.pi) / s * inside / (4 * half_width)


def _uniforms(a: float, b: float, s: Rates) -> Rates:
    """The second integral of exp(-s^2 u^2) at the four sums of the half-widths."""

    def twice(u: float) -> Rates:
        return np.sqrt(np.pi) / (2 * s) * u * scipy.special.erf(s * u) + np.exp(-((s * u) ** 2)) / (2 * s**2)

    exact = (twice(a + b) - twice(a - b)) * 2 / (4 * a * b)
    square, fourth = (a**2 + b**2) / 3, (a**4 + b**4) / 5 + 2 * a**2 * b**2 / 3
    series = 1 - s**2 * square + s**4 * fourth / 2  # where the two above are large and almost equal
    return np.where(s * (a + b) < SMALL, series, exact)
