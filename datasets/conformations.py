"""Distributions of a protein's conformation: each mode by itself, or a few states with their populations."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.datasets.gaussian_mixture import GaussianMixture, gaussian_mixture
from cryosip.methods import checks
from cryosip.methods.problem import Points, PRNGKey

MEANS = ((9.0, -7.0), (9.0, -7.0), (0.0,), (0.0,))
StateOf = Int[Array, " n"]


class IndependentModes(NamedTuple):
    """Each mode by itself from its own mixture: one state."""

    mixtures: Sequence[GaussianMixture]

    @property
    def dimension(self) -> int:
        return len(self.mixtures)

    def sample(self, key: PRNGKey, n: int) -> tuple[Points, StateOf]:
        """theta (n, d), and the state of each, 0."""
        keys = jr.split(key, len(self.mixtures))
        theta = [one.sample(k, n) for one, k in zip(self.mixtures, keys, strict=True)]
        return jnp.stack(theta, axis=1), jnp.zeros(n, int)


class States(NamedTuple):
    """sum_k populations_k N(centers_k, std^2 I)."""

    centers: Float[np.ndarray, "k d"]
    populations: Float[np.ndarray, " k"]
    std: float

    @property
    def dimension(self) -> int:
        return self.centers.shape[1]

    def sample(self, key: PRNGKey, n: int) -> tuple[Points, StateOf]:
        """theta (n, d), and the state of each."""
        key_state, key_normal = jr.split(key)
        state = jr.choice(key_state, len(self.populations), (n,), p=jnp.asarray(self.populations))
        return jnp.asarray(self.centers)[state] + self.std * jr.normal(key_normal, (n, self.dimension)), state


def checked_conformations(
    means: Sequence[Sequence[float]],
    std: float,
    states: Sequence[Sequence[float]] | None,
    populations: Sequence[float] | None,
) -> IndependentModes | States:
    """States where they are given, else the modes by themselves.

    Parameters
    ----------
    means
        Centres of the equal Gaussians of each mode.
    std
        Of all Gaussians.
    states, populations
        Centres (k, d) and shares (k,) of the states; without populations they are equal. None where there are none.

    Raises
    ------
    ValueError
        `means` are no lists of numbers, or are given with states; `states` are not two rows or more of finite numbers;
        populations are given without states, or are not k numbers >= 0 of the sum 1; or `std` is not positive.
    """
    if not isinstance(means, Sequence) or not means or not all(isinstance(row, Sequence) for row in means):
        raise ValueError(f"means is {means!r}; wanted a list of centres for each mode")
    std = checks.positive("std", std)
    mixtures = [gaussian_mixture(row, [std] * len(row), [1 / max(1, len(row))] * len(row)) for row in means]
    if states is None:
        if populations is not None:
            raise ValueError(f"populations is {populations!r} without states; wanted both or none")
        return IndependentModes(mixtures)
    if [one.means.tolist() for one in mixtures] != [list(row) for row in MEANS]:
        raise ValueError(f"means is {means!r} and states is {states!r}; wanted one of them")
    centers = checks.finite_matrix("states", checks.numbers("states", states, 2))
    k = len(centers)
    if k < 2:
        raise ValueError(f"states is {states!r}; wanted two or more")
    return States(centers, checked_populations([1 / k] * k if populations is None else populations, k), std)


def checked_populations(given: Sequence[float], n_structures: int) -> Float[np.ndarray, " k"]:
    """Shares of so many structures; ValueError for another number, negative ones, and another sum than 1."""
    populations = checks.numbers("populations", given, 1)
    if len(populations) != n_structures:
        raise ValueError(f"populations has {len(populations)} entries; wanted {n_structures}, one of each structure")
    if not np.isfinite(populations).all() or (populations < 0).any():
        raise ValueError(f"populations is {populations.tolist()}; wanted none that is negative, all finite")
    if abs(populations.sum() - 1) > 1e-6:
        raise ValueError(f"populations is {populations.tolist()} of the sum {populations.sum():g}; wanted a sum of 1")
    return populations / populations.sum()
