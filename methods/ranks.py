"""Exact ranks in one dimension: how many points lie below each point."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from jaxtyping import Array, Float, Int

from cryosip.methods import devices

Line = Float[Array, " n"]


def ranks(y: Line) -> Line:
    """#{j : y_j < y_i} + half of #{j : y_j = y_i}, so that sum_j sign(y_i - y_j) = 2 rank_i - n.

    On a CPU numpy's vectorised sort works on XLA's own buffers: ten times faster than the sort XLA has there.
    """
    return _called_back(_ranks_numpy, _ranks_jax, y, y.dtype)


def order(y: Line) -> Int[Array, " n"]:
    """Where the smallest point is, where the next, ..., equal ones in any order."""
    return _called_back(lambda y: _sort(y)[1], jnp.argsort, jax.lax.stop_gradient(y), jnp.int32)


def _called_back(
    in_numpy: Callable[[np.ndarray], np.ndarray], default: Callable[[Line], Array], y: Line, dtype: Any
) -> Array:
    """From numpy between buffers on a CPU; pure_callback would take longer to hand them over than to sort."""

    def fill(_context: Any, out: Any, y: Any) -> None:
        np.asarray(out)[...] = in_numpy(np.asarray(y))

    on_cpu = buffer_callback(fill, jax.ShapeDtypeStruct(y.shape, dtype), vmap_method="sequential")
    return jax.lax.platform_dependent(devices.gathered(y), cpu=on_cpu, default=lambda y: default(y).astype(dtype))


class Ordered(NamedTuple):
    """Sorted points, infinities after them, and a look-up table: before the points of cell c stand start[c] others.

    No cell holds more than 2^halvings - 1 points, nor are there fewer infinities; `half_tied` is half of how often the
    value at each place occurs, and the cells begin at the first point, `width` in all, `scale` of them in a unit.
    """

    points: np.ndarray
    half_tied: np.ndarray
    start: np.ndarray
    width: np.floating
    scale: np.floating
    halvings: int


def ordered(points: np.ndarray) -> Ordered:
    """Sorts the points and cuts their range into eight cells for each."""
    points = np.sort(points)
    of_type, n_cells = points.dtype.type, 8 * len(points)
    with np.errstate(over="ignore", divide="ignore"):
        width = min(points[-1] - points[0], np.finfo(of_type).max)
        scale = of_type(n_cells / width)
        if not np.isfinite(scale):  # all points in one place, or nearly
            width, scale = of_type(0), of_type(0)
        counts = np.bincount(_cell(points, points[0], width, scale), minlength=n_cells)
    halvings = int(counts.max()).bit_length()
    start = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32)
    after = (0, 2**halvings)
    half_tied = (0.5 * _multiplicity(points)).astype(of_type)
    return Ordered(
        np.pad(points, after, constant_values=np.inf), np.pad(half_tied, after), start, width, scale, halvings
    )


def ranks_among(z: Ordered, y: Line) -> Line:
    """#{j : z_j < y_i} + half of #{j : z_j = y_i}: the table gives the cell, halving finds the place in it.

    Points and y meet the same rounding in `_cell`, which never decreases: cells before hold only smaller points, cells
    after only larger ones, so that halving may run past the end of a cell.
    """
    points, half_tied, start = (jnp.asarray(a).at for a in z[:3])
    below = start[_cell(y, z.points[0], z.width, z.scale)].get(mode="clip")  # a particle that is nan finds some cell
    for step in reversed(range(z.halvings)):
        tried = points[below + (2**step - 1)].get(mode="promise_in_bounds")
        below = jnp.where(tried < y, below + 2**step, below)
    tied = points[below].get(mode="promise_in_bounds") == y
    return below.astype(y.dtype) + jnp.where(tied, half_tied[below].get(mode="promise_in_bounds"), 0.0)


def _cell(y: Any, first: np.floating, width: np.floating, scale: np.floating) -> Any:
    return ((y - first).clip(0, width) * scale).astype(np.int32)


def _multiplicity(points: np.ndarray) -> np.ndarray:
    """How often the value at each place of a sorted array occurs."""
    return np.searchsorted(points, points, "right") - np.searchsorted(points, points, "left")


def _ranks_numpy(y: np.ndarray) -> np.ndarray:
    climbing, order = _sort(y)
    place = np.arange(0.5, len(y), dtype=y.dtype)
    tied = np.flatnonzero(climbing[1:] == climbing[:-1])
    if len(tied):
        first, last = (np.searchsorted(climbing, climbing[tied], side) for side in ("left", "right"))
        place[tied] = place[tied + 1] = (first + last) / 2
    rank = np.empty_like(y)
    rank[order] = place
    return rank


def _sort(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points in order, and the order. A float64 has 29 bits more than a float32: with the place of each point there
    they sort faster than by argsort.
    """
    if y.dtype == np.float32:
        packed = y.astype(np.float64) + 2.0**-266  # moves the zeros alone, whose bits would be those of subnormals
        bits = packed.view(np.int64)
        bits |= np.arange(len(y))
        packed.sort()
        if np.isfinite(packed[-1]):  # else bits have made nan of infinity
            return (bits & -(2**29)).view(np.float64), bits & (2**29 - 1)
    order = np.argsort(y)
    return y[order], order


def _ranks_jax(y: Line) -> Line:
    climbing = jnp.sort(y)
    return (jnp.searchsorted(climbing, y, side="left") + jnp.searchsorted(climbing, y, side="right")).astype(
        y.dtype
    ) / 2
