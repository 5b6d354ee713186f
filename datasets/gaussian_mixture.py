"""Gaussian mixtures: draws in any dimension; on the line also the distribution function and exact quantiles."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtr
from scipy.stats import norm

from cryosip.methods import checks


class GaussianMixture(NamedTuple):
    """sum_k weights_k N(means_k, stds_k^2)."""

    means: np.ndarray
    stds: np.ndarray
    weights: np.ndarray

    def sample(self, key: jax.Array, n: int) -> Float[Array, " n"]:
        key_component, key_normal = jr.split(key)
        k = jr.choice(key_component, len(self.means), (n,), p=jnp.asarray(self.weights))
        means, stds = jnp.asarray(self.means), jnp.asarray(self.stds)
        return means[k] + stds[k] * jr.normal(key_normal, (n,))

    def pdf(self, x: np.ndarray) -> np.ndarray:
        return norm.pdf(x[..., None], self.means, self.stds) @ self.weights

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


class MultivariateMixture(NamedTuple):
    """sum_k weights_k N(means_k, factors_k factors_k^T)."""

    means: Float[np.ndarray, "k d"]
    factors: Float[np.ndarray, "k d d"]
    weights: Float[np.ndarray, " k"]

    def sample(self, key: jax.Array, n: int) -> Float[Array, "n d"]:
        key_component, key_normal = jr.split(key)
        k = jr.choice(key_component, len(self.means), (n,), p=jnp.asarray(self.weights))
        normal = jr.normal(key_normal, (n, self.means.shape[1]))
        return jnp.asarray(self.means)[k] + jnp.einsum("nij,nj->ni", jnp.asarray(self.factors)[k], normal)


def gaussian_mixture(means: Sequence[float], stds: Sequence[float], weights: Sequence[float]) -> GaussianMixture:
    """A checked mixture; ValueError for lengths that differ, stds or weights <= 0, and weights that do not sum to 1."""
    columns = {"means": means, "stds": stds, "weights": weights}
    rows = {name: checks.finite_matrix(name, checks.numbers(name, x, 1)[None])[0] for name, x in columns.items()}
    lengths = {name: len(x) for name, x in rows.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"lengths are {lengths}; wanted as many stds and weights as means")
    for name in ("stds", "weights"):
        if (rows[name] <= 0).any():
            raise ValueError(f"{name} are {rows[name].tolist()}; wanted positive numbers")
    if abs((total := rows["weights"].sum()) - 1) > 1e-6:
        raise ValueError(f"weights are {rows['weights'].tolist()} with sum {total:g}; wanted a sum of 1")
    return GaussianMixture(rows["means"], rows["stds"], rows["weights"] / total)


def multivariate_mixture(
    means: Sequence[Sequence[float]], covariances: Sequence[Sequence[Sequence[float]]], weights: Sequence[float]
) -> MultivariateMixture:
    """A checked mixture; ValueError for shapes that do not match, weights off, and covariances that are none."""
    rows = checks.finite_matrix("means", checks.numbers("means", means, 2))
    shares = gaussian_mixture([0.0] * len(rows), [1.0] * len(rows), weights).weights
    if not isinstance(covariances, Sequence | np.ndarray):
        raise ValueError(f"covariances is {covariances!r}; wanted a list of matrices")
    factors = [covariance_factor(f"covariances[{k}]", c, rows.shape[1]) for k, c in enumerate(covariances)]
    if len(factors) != len(rows):
        raise ValueError(f"there are {len(factors)} covariances; wanted as many as means, {len(rows)}")
    return MultivariateMixture(rows, np.stack(factors), shares)


def covariance_factor(name: str, covariance: Sequence[Sequence[float]], d: int) -> Float[np.ndarray, "d d"]:
    """Its Cholesky factor; ValueError where it is not (d, d), symmetric and positive definite."""
    matrix = checks.finite_matrix(name, checks.numbers(name, covariance, 2))
    wanted = f"wanted a symmetric positive definite matrix of shape ({d}, {d})"
    if matrix.shape != (d, d) or not np.allclose(matrix, matrix.T):
        raise ValueError(f"{name} is {matrix.tolist()}; {wanted}")
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError(f"{name} is {matrix.tolist()}; {wanted}") from None
