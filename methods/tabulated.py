"""Likelihoods of images on a grid of structures, and by cubic splines of all structures between."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.methods.problem import Points, Weights

FEWEST = 5  # points of an axis
AT_A_TIME = 5_000  # rows of a table


class Grid(NamedTuple):
    """`per_axis` points at equal steps from lower to upper, both (d,), on each of d axes; the last is fastest."""

    lower: Float[np.ndarray, " d"]
    upper: Float[np.ndarray, " d"]
    per_axis: int

    @property
    def dimension(self) -> int:
        """d"""
        return len(self.lower)

    @property
    def points(self) -> Float[np.ndarray, "k d"]:
        """All of them."""
        axes = [np.linspace(low, high, self.per_axis) for low, high in zip(self.lower, self.upper, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, self.dimension)


def spline_matrix(count: int) -> Float[np.ndarray, "c n"]:
    """What takes values at `count` points to count + 2 coefficients of a cubic B-spline through them.

    At both ends it is one cubic over the outer two steps (not-a-knot), so that it errs there as little as within.
    """
    rows = np.zeros((count + 2, count + 2))
    for i in range(count):
        rows[i, i : i + 3] = 1 / 6, 4 / 6, 1 / 6
    rows[count, :5] = rows[count + 1, -5:] = 1, -4, 6, -4, 1
    return np.linalg.inv(rows)[:, :count]


def basis(t: Any) -> tuple[Any, Any, Any, Any]:
    """The four cubic B-splines that are not 0, at a place t in [0, 1] between two knots."""
    return (1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6


def coefficients(grid: Grid, table: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m c"]:
    """Those of the splines through each row of a table of values on the grid.

    Raises ValueError for grids of fewer than 5 points along an axis.
    """
    if grid.per_axis < FEWEST:
        raise ValueError(f"the grid has {grid.per_axis} points along an axis; wanted {FEWEST} or more")
    return _along_axes(table, spline_matrix(grid.per_axis).astype(table.dtype), grid.dimension)


def interpolated(grid: Grid, coefficients: Float[Array, "m c"]) -> Callable[[Points, Int[Array, " n"]], Weights]:
    """The splines as a function of pairs (theta, row of the table); outside of the grid the value at its border."""
    lower, step = jnp.asarray(grid.lower), (grid.upper - grid.lower) / (grid.per_axis - 1)
    side = grid.per_axis + 2

    def value(theta: Points, image: Int[Array, " n"]) -> Weights:
        place = jnp.clip((theta - lower.astype(theta.dtype)) / jnp.asarray(step, theta.dtype), 0, grid.per_axis - 1)
        cell = jnp.clip(jnp.floor(place), 0, grid.per_axis - 2)
        first = cell.astype(jnp.int32)
        index, weight = jnp.zeros((len(theta), 1), jnp.int32), jnp.ones((len(theta), 1), theta.dtype)
        for axis in range(grid.dimension):
            along = first[:, axis, None] + jnp.arange(4)
            factor = jnp.stack(basis(place[:, axis] - cell[:, axis]), axis=1)
            index = (index[:, :, None] * side + along[:, None]).reshape(len(theta), -1)
            weight = (weight[:, :, None] * factor[:, None]).reshape(len(theta), -1)
        return (coefficients[image[:, None], index] * weight).sum(1)

    return value


def refined(grid: Grid, coefficients: Float[np.ndarray, "m c"], per_axis: int) -> Float[np.ndarray, "m k"]:
    """The splines on a grid of `per_axis` points along each axis, of the same ends."""
    place = np.linspace(0, grid.per_axis - 1, per_axis)
    cell = np.minimum(np.floor(place), grid.per_axis - 2).astype(int)
    rows = np.zeros((per_axis, grid.per_axis + 2))
    rows[np.arange(per_axis)[:, None], cell[:, None] + np.arange(4)] = np.stack(basis(place - cell), axis=1)
    values = np.empty((len(coefficients), per_axis**grid.dimension), coefficients.dtype)
    for start in range(0, len(values), AT_A_TIME):
        block = coefficients[start : start + AT_A_TIME]
        values[start : start + AT_A_TIME] = _along_axes(block, rows.astype(block.dtype), grid.dimension)
    return values


def _along_axes(values: Float[np.ndarray, "m a"], matrix: Float[np.ndarray, "n c"], d: int) -> Float[np.ndarray, "m b"]:
    """Each of d axes of c numbers multiplied by the matrix."""
    cells = values.reshape(-1, *(matrix.shape[1],) * d)
    for axis in range(1, d + 1):
        cells = np.moveaxis(np.tensordot(cells, matrix, (axis, 1)), -1, axis)
    return np.ascontiguousarray(cells.reshape(len(values), -1))
