"""Classes of volumes: what is known of them after some steps, and how likely each makes each image."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cryosip.methods.problem import Weights
from cryosip.methods.volumes import Maps, Shells, Views, image_counts

LEAST_NOISE = 1e-3  # of the problem's variance: no shell is fitted without error
FASTEST_FALL = 0.5  # of the noise in a pass: classes that part while it is high end in better optima, and fewer vanish
MORE_SHELLS = 10  # beyond the last that the data tell, as in RELION


class Class3DState(NamedTuple):
    """Volumes, their shares, the variance of the noise in each shell, that of coefficients, the last shell that images
    are compared in, and the steps taken.
    """

    maps: Maps
    weights: Weights
    noise: Shells
    prior: Float[Array, "k s"]
    last_shell: Int[Array, ""]
    n_steps: Int[Array, ""]


def log_joint(seen: Views, state: Class3DState, squares: Float[Array, "k m s"]) -> Float[Array, "k m"]:
    """log p(y_i, k) from the squared residuals in each shell."""
    inside = jnp.arange(seen.n_shells) <= state.last_shell
    exponent = jnp.where(inside, squares / state.noise + image_counts(seen) * jnp.log(state.noise), 0.0).sum(2)
    return jnp.log(state.weights)[:, None] - 0.5 * exponent


def last_told(told: Float[Array, "k s"]) -> Int[Array, ""]:
    """The last shell to compare in: some beyond the last in which data tell of a class more than its prior, > 1."""
    some = (told > 1).any(0)
    return jnp.where(some, jnp.arange(told.shape[1]), 0).max() + MORE_SHELLS
