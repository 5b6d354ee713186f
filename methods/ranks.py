"""Exact ranks in one dimension: how many points lie below each point."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Line = Float[Array, " n"]


def ranks(y: Line) -> Line:
    """#{j : y_j < y_i} + half of #{j : y_j = y_i}, so that sum_j sign(y_i - y_j) = 2 rank_i - n.

    On a CPU numpy's vectorised sort is called back, which is ten times faster than the sort XLA has there.
    """
    shape = jax.ShapeDtypeStruct(y.shape, y.dtype)
    return jax.lax.platform_dependent(
        y,
        cpu=lambda y: jax.pure_callback(_ranks_numpy, shape, y, vmap_method="sequential"),
        default=_ranks_jax,
    )


def ranks_among(ordered: Line, multiplicity: Line, y: Line) -> Line:
    """#{j : z_j < y_i} + half of #{j : z_j = y_i} for sorted z and its `multiplicity`."""
    below = jnp.searchsorted(ordered, y, side="left")
    at = jnp.minimum(below, len(ordered) - 1)
    return (below + jnp.where(ordered[at] == y, 0.5 * multiplicity[at], 0.0)).astype(y.dtype)


def multiplicity(ordered: np.ndarray) -> np.ndarray:
    """How often the value at each place of a sorted array occurs."""
    return np.searchsorted(ordered, ordered, "right") - np.searchsorted(ordered, ordered, "left")


def _ranks_numpy(y: np.ndarray) -> np.ndarray:
    y = np.asarray(y)
    order = np.argsort(y)
    ordered = y[order]
    place = np.arange(len(y), dtype=y.dtype)
    if (ordered[1:] == ordered[:-1]).any():
        place = (np.searchsorted(ordered, ordered, "left") + np.searchsorted(ordered, ordered, "right")) / 2.0
    else:
        place = place + y.dtype.type(0.5)
    rank = np.empty_like(y)
    rank[order] = place
    return rank


def _ranks_jax(y: Line) -> Line:
    ordered = jnp.sort(y)
    return (jnp.searchsorted(ordered, y, side="left") + jnp.searchsorted(ordered, y, side="right")).astype(y.dtype) / 2
