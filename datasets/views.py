"""Viewing directions that are not uniform: around an axis, which may be another one for each state."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.datasets.rotations import Rotations
from cryosip.methods import checks
from cryosip.methods.problem import PRNGKey

AXIS = ((0.0, 0.0, 1.0),)
Directions = Float[Array, "n 3"]


class Views(NamedTuple):
    """Directions d = R^T e_3 along which the beam passes a molecule, with the density of von Mises and Fisher.

    kappa / (4 pi sinh kappa) exp(kappa a_k d), whose mean is (coth kappa - 1 / kappa) a_k, with kappa the concentration
    and a_k the axis of the state [fisher1953].
    """

    concentration: float
    axes: Float[np.ndarray, "k 3"]  # unit vectors, one of each state

    def sample(self, key: PRNGKey, state: Int[Array, " n"]) -> Rotations:
        """Rotations of images of these states, the angle in the plane uniform."""
        key_cosine, key_side, key_plane = jr.split(key, 3)
        axis, kappa = jnp.asarray(self.axes)[state], self.concentration
        # the inverse of the distribution function of a_k d
        cosine = 1 + jnp.log1p(np.expm1(-2 * kappa) * jr.uniform(key_cosine, (len(state), 1))) / kappa
        cosine = jnp.clip(cosine, -1, 1)
        direction = cosine * axis + jnp.sqrt(1 - cosine**2) * _across(key_side, axis)
        first = _across(key_plane, direction)
        return jnp.stack([first, jnp.cross(direction, first), direction], axis=1)


def _across(key: PRNGKey, axis: Directions) -> Directions:
    """Unit vectors orthogonal to unit vectors, uniform among these."""
    drawn = jr.normal(key, axis.shape)
    drawn -= (drawn * axis).sum(1, keepdims=True) * axis
    return drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)


def checked_views(concentration: float, axes: Sequence[Sequence[float]] | None, n_states: int) -> Views | None:
    """How views are concentrated, None where they are uniform.

    Raises ValueError for a negative concentration, axes without one, and axes that are not one for all states, or one
    for each, in three dimensions and longer than 0.
    """
    if checks.non_negative("view_concentration", concentration) == 0:
        if axes is not None:
            raise ValueError(f"view_axes is {axes!r} with view_concentration 0; wanted a positive concentration")
        return None
    given = checks.finite_matrix("view_axes", checks.numbers("view_axes", AXIS if axes is None else axes, 2))
    lengths = np.linalg.norm(given, axis=1, keepdims=True)
    if given.shape not in ((1, 3), (n_states, 3)) or not lengths.all():
        raise ValueError(f"view_axes is {axes!r}; wanted one direction, or one of each state ({n_states}), as x, y, z")
    return Views(float(concentration), np.broadcast_to(given / lengths, (n_states, 3)))
