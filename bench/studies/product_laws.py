"""The energy distance of laws whose coordinates are independent: a one-dimensional integral, no samples."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.integrate
import scipy.special

from cryosip.datasets.gaussian_mixture import GaussianMixture

NODES = 500  # of the integral over a rate
REACH = 12.0  # of log s, below and above that of the scale of the laws
SMALL = 1e-3  # s times a length below which a series has all digits


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
    scale = max(_reach(law) for law in (*first, *second))

    def at(log_rate: float) -> float:
        s = float(np.exp(log_rate))
        both, one, other = (
            math.prod(_mean_of_gaussian(a, b, s) for a, b in zip(x, y, strict=True))
            for x, y in ((first, second), (first, first), (second, second))
        )
        return (one + other - 2 * both) / s  # ds = s d log s

    # smooth in log s and falling to zero on both sides, where the rule of equal steps has all digits soon
    log_rates = np.linspace(-REACH, REACH, NODES) - math.log(scale)
    return float(scipy.integrate.trapezoid([at(x) for x in log_rates], log_rates) / math.sqrt(math.pi))


def _reach(law: Law) -> float:
    if isinstance(law, Uniform):
        return law.half_width
    return float(np.abs(law.means).max() + law.stds.max())


def _mean_of_gaussian(a: Law, b: Law, s: float) -> float:
    """E exp(-s^2 (A - B)^2)."""
    if isinstance(a, Uniform):
        return _of_uniforms(a.half_width, b.half_width, s) if isinstance(b, Uniform) else _mean_of_gaussian(b, a, s)
    if isinstance(b, Uniform):
        return float(a.weights @ _of_normals_and_uniform(a.means, a.stds, b.half_width, s))
    spread = 1 + 2 * s**2 * (a.stds[:, None] ** 2 + b.stds**2)
    each = np.exp(-(s**2) * (a.means[:, None] - b.means) ** 2 / spread) / np.sqrt(spread)
    return float(a.weights @ each @ b.weights)


def _of_normals_and_uniform(means: np.ndarray, stds: np.ndarray, half_width: float, s: float) -> np.ndarray:
    """The mass of N(mean, std^2 + 1 / (2 s^2)) on the interval, over its length, times sqrt(pi) / s."""
    root = np.sqrt(2 * (stds**2 + 0.5 / s**2))
    inside = scipy.special.erf((half_width - means) / root) + scipy.special.erf((half_width + means) / root)
    return np.sqrt(np.pi) / s * inside / (4 * half_width)


def _of_uniforms(a: float, b: float, s: float) -> float:
    """From the second integral of exp(-s^2 u^2) at the sum and the difference of the half-widths."""
    if s * (a + b) < SMALL:  # where these are large and almost equal
        square, fourth = (a**2 + b**2) / 3, (a**4 + b**4) / 5 + 2 * a**2 * b**2 / 3
        return 1 - s**2 * square + s**4 * fourth / 2

    def twice(u: float) -> float:
        return math.sqrt(math.pi) / (2 * s) * u * math.erf(s * u) + math.exp(-((s * u) ** 2)) / (2 * s**2)

    return (twice(a + b) - twice(a - b)) / (2 * a * b)
