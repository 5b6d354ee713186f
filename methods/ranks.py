"""Exact ranks in one dimension: how many points lie below each point."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from jaxtyping import Array, Float, Int

from cryosip.methods import devices
from cryosip.methods.data import datum

MANY = 4_096  # points from which numpy's vectorised sort is faster than XLA's, by a factor of three for many more

Line = Float[Array, " n"]


def ranks(y: Line) -> Line:
    """#{j : y_j < y_i} + half of #{j : y_j = y_i}, so that sum_j sign(y_i - y_j) = 2 rank_i - n.

    Where there are many points, and on a CPU, numpy sorts in XLA's own buffers (an experimental interface of JAX); a
    program with such a call in it is compiled anew by each process. `sorted_ranks` is the same without it.
    """
    if len(y) < MANY:
        return sorted_ranks(y)

    def fill(_context: Any, out: Any, y: Any) -> None:
        np.asarray(out)[...] = _ranks_numpy(np.asarray(y))

    on_cpu = buffer_callback(fill, jax.ShapeDtypeStruct(y.shape, y.dtype), vmap_method="sequential")
    return jax.lax.platform_dependent(devices.gathered(jax.lax.stop_gradient(y)), cpu=on_cpu, default=sorted_ranks)


def sorted_ranks(y: Line) -> Line:
    """`ranks` by XLA's own sort."""
    place = jnp.arange(len(y), dtype=jnp.int32)
    at = order(y)
    climbing = y[at]
    begins = jnp.concatenate([jnp.ones(1, bool), climbing[1:] != climbing[:-1]])
    first = jax.lax.cummax(jnp.where(begins, place, 0))
    ends = jnp.concatenate([begins[1:], jnp.ones(1, bool)])
    last = jax.lax.cummin(jnp.where(ends, place, len(y) - 1), reverse=True)
    rank = (first + last + 1).astype(y.dtype) / 2
    return jnp.zeros_like(y).at[at].set(rank, mode="promise_in_bounds", unique_indices=True)


def order(y: Line) -> Int[Array, " n"]:
    """Where the smallest point is, where the next, ..., equal ones in any order.

    Whole numbers that climb as the floats do, the place of each in their lower half: XLA sorts one array of these four
    times as fast as it sorts floats, and ten times as fast as two arrays together.
    """
    y = jax.lax.stop_gradient(y)
    if y.dtype != jnp.float32:
        return jnp.argsort(y).astype(jnp.int32)
    bits = jax.lax.bitcast_convert_type(y, jnp.int32)
    climbing = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    climbing = jnp.where(jnp.isnan(y), 0x7FFFFFFF, climbing)  # what is no number comes last, whatever its sign
    with jax.enable_x64(True):
        packed = (climbing.astype(jnp.int64) << 32) | jnp.arange(len(y), dtype=jnp.int64)
        return (jax.lax.sort(packed, is_stable=False) & 0xFFFFFFFF).astype(jnp.int32)


class Ordered(NamedTuple):
    """Sorted points, an infinity after them, and a look-up table: before the points of cell c stand start[c] others.

    No cell holds more than 2^halvings - 1 points; `half_tied` is half of how often the value at each place occurs, and
    the cells begin at the first point, `width` in all, `scale` of them in a unit.
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
        counts = np.bincount(_cell(points, points[0], width, scale), minlength=n_cells + 1)
    start = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32)
    half_tied = (0.5 * _multiplicity(points)).astype(of_type)
    after = (0, 1)
    return Ordered(
        np.pad(points, after, constant_values=np.inf),
        np.pad(half_tied, after),
        start,
        width,
        scale,
        int(counts.max()).bit_length(),
    )


def ranks_among(z: Ordered, y: Line) -> Line:
    """#{j : z_j < y_i} + half of #{j : z_j = y_i}: the table gives the cell, halving finds the place in it.

    Points and y meet the same rounding in `_cell`, which never decreases: cells before hold only smaller points, cells
    after only larger ones, so that halving may run past the end of a cell.
    """
    points, half_tied, start = (jnp.asarray(a).at for a in z[:3])
    first, width, scale = (datum(value, y.dtype) for value in (z.points[0], z.width, z.scale))
    below = start[_cell(y, first, width, scale)].get(mode="clip")  # a particle that is nan finds some cell

    def halve(i: Array, below: Array) -> Array:
        ahead = 1 << (halvings - 1 - i)
        tried = points[below + (ahead - 1)].get(mode="clip")  # beyond the last point stands infinity
        return jnp.where(tried < y, below + ahead, below)

    halvings = datum(z.halvings, jnp.int32)
    below = jax.lax.fori_loop(0, halvings, halve, below)
    tied = points[below].get(mode="clip") == y
    return below.astype(y.dtype) + jnp.where(tied, half_tied[below].get(mode="clip"), 0.0)


def _cell(y: Any, first: Any, width: Any, scale: Any) -> Any:
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
