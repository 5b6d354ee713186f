"""Gaussian mixtures on the line: draws, distribution function, exact quantiles."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtr

from cryosip.methods import checks


class GaussianMixture(NamedTuple):
    """sum_k weights_k N(means_k, stds_k^2)."""

    means: np.ndarray
    stds: np.ndarray
    weights: np.ndarray

    def sample(self, key: jax.Array, n: int) -> Float[Array, " n"]:
        key_component, key_normal = jr.split(key)
        k = jr.choice(key_component, len(self.means), (n,), p=jax.numpy.asarray(self.weights))
        means, stds = jax.numpy.asarray(self.means), jax.numpy.asarray(self.stds)
        return means[k] + stds[k] * jr.normal(key_normal, (n,))

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return ndtr((x[..., None] - self.means) / self.stds) @ self.weights

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """The inverse of the distribution function by bisection to the last bit of float64; u inside (0, 1)."""
        u = np.asarray(u, np.float64)
        low = np.full(u.shape, (self.means - 40 * self.stds).min())
        high = np.full(u.shape, (self.means + 40 * self.stds).max())
        for _ in range(64):
            middle = (low + high) / 2
            below = self.cdf(middle) < u
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2


def gaussian_mixture(means: Sequence[float], stds: Sequence[float], weights: Sequence[float]) -> GaussianMixture:
    """A checked mixture; ValueError for lengths that differ, stds or weights <= 0, and weights that do not sum to 1."""
    columns = {"means": means, "stds": stds, "weights": weights}
    for name, column in columns.items():
        if np.ndim(column) != 1:
            raise ValueError(f"{name} are {column!r}; wanted a list of numbers")
    rows = {
        name: checks.finite_matrix(name, np.atleast_2d(np.asarray(x, np.float64)))[0] for name, x in columns.items()
    }
    lengths = {name: len(x) for name, x in rows.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"lengths are {lengths}; wanted as many stds and weights as means")
    for name in ("stds", "weights"):
        if (rows[name] <= 0).any():
            raise ValueError(f"{name} are {rows[name].tolist()}; wanted positive numbers")
    if abs((total := rows["weights"].sum()) - 1) > 1e-6:
        raise ValueError(f"weights are {rows['weights'].tolist()} with sum {total:g}; wanted a sum of 1")
    return GaussianMixture(rows["means"], rows["stds"], rows["weights"] / total)
