"""A uniform grid in one dimension: binning, convolution by FFT, interpolation; and where it stops being valid."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.signal
from jaxtyping import Array, Bool, Float

from cryosip.methods.data import datum

LEAST_SIZE = 2**11
MOST_CELLS = 2**30  # who asks for a grid refuses far fewer

Line = Float[Array, " n"]
Table = Float[Array, " cells"]


class Grid(NamedTuple):
    """Nodes lower + step * (0 ... size - 1); points closer than `margin` to an end are not covered.

    Where a largest step is asked for, sizes are LEAST_SIZE times powers of four: data of one kind then nearly always
    have grids of one size, and one program serves them all.
    """

    lower: float
    step: float
    size: int
    margin: float

    @property
    def nodes(self) -> np.ndarray:
        return self.lower + self.step * np.arange(self.size)


def grid_around(points: np.ndarray, smoothing: float, max_step: float = np.inf, min_cells: int = 1) -> Grid:
    """A grid over the points, widened on either side by half their range and by 12 smoothing lengths, 6 of them margin.

    A range of zero is taken as a thousandth of the points' size, so that the grid is never a point.

    Parameters
    ----------
    points
        Numbers, in any shape.
    smoothing
        The length over which what is on the grid is smoothed, in the unit of the points.
    max_step
        The largest step between nodes; none by default, then `min_cells` decides.
    min_cells
        Cells at least, where there is no largest step.

    Returns
    -------
    Grid
        With the margin within which it is not valid.
    """
    low, high = float(points.min()), float(points.max())
    width = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-12)
    low, high = low - width / 2 - 12 * smoothing, high + width / 2 + 12 * smoothing
    cells = int(min(np.ceil((high - low) / max_step), MOST_CELLS))
    size = min_cells + 1 if np.isinf(max_step) else LEAST_SIZE
    while size <= cells:
        size *= 4
    step = (high - low) / (size - 1)
    return Grid(low, step, size, max(6 * smoothing, step))


def refuse(grid: Grid, algorithm: str, max_cells: int) -> None:
    """ValueError where the binned algorithm was asked for by name and would need too many cells."""
    if algorithm == "binned":
        raise ValueError(f"algorithm 'binned' would need {grid.size} cells; wanted at most {max_cells}, or 'auto'")


def covers(grid: Grid, x: Line) -> Bool[Array, ""]:
    """Whether every point lies inside the margins."""
    upper = grid.lower + grid.step * (grid.size - 1)
    low, high = (datum(end, x.dtype) for end in (grid.lower + grid.margin, upper - grid.margin))
    return (x.min() >= low) & (x.max() <= high)


def guarded(grid: Grid, on_grid: Callable[[Line], Array], anywhere: Callable[[Line], Array]) -> Callable[[Line], Array]:
    """`on_grid` while the grid covers all points, the slower `anywhere` otherwise: a table is never extrapolated."""
    return lambda x: jax.lax.cond(covers(grid, x), on_grid, anywhere, x)


def locate(grid: Grid, x: Line) -> tuple[Array, Line]:
    """The node on the left of each point, and how far the point is on its way to the next, in [0, 1]."""
    position = (x - datum(grid.lower, x.dtype)) * datum(1 / grid.step, x.dtype)
    left = jnp.clip(position.astype(jnp.int32), 0, grid.size - 2)
    return left, position - left


def spread(grid: Grid, x: Line) -> Table:
    """Mass 1/n of each point, shared linearly between the two nodes beside it."""
    left, fraction = locate(grid, x)
    mass = jnp.zeros(grid.size, x.dtype).at[left].add(1 - fraction, mode="promise_in_bounds")
    return mass.at[left + 1].add(fraction, mode="promise_in_bounds") / len(x)


def interpolate(grid: Grid, table: Table, x: Line) -> Line:
    """The table at x, linearly."""
    left, fraction = locate(grid, x)
    at_left = table.at[left].get(mode="promise_in_bounds")
    at_right = table.at[left + 1].get(mode="promise_in_bounds")
    return at_left + fraction * (at_right - at_left)


def derivative(grid: Grid, table: Table) -> Table:
    """The derivative at the nodes by central differences of fourth order."""
    near = jnp.roll(table, -1) - jnp.roll(table, 1)
    far = jnp.roll(table, -2) - jnp.roll(table, 2)
    return (8 * near - far) * datum(1 / (12 * grid.step), table.dtype)


def frequencies(grid: Grid) -> np.ndarray:
    """Angular frequencies of the real FFT on the grid."""
    return 2 * np.pi * scipy.fft.rfftfreq(grid.size, grid.step)


def gaussian_transfer(grid: Grid, std: float) -> np.ndarray:
    """Fourier transform of N(0, std^2) at the grid's frequencies."""
    return np.exp(-0.5 * (std * frequencies(grid)) ** 2)


def convolve(grid: Grid, table: Table, transfer: np.ndarray) -> Table:
    """Convolution with a kernel, given by its Fourier transform, that reaches no further than the margins."""
    return jnp.fft.irfft(jnp.fft.rfft(table) * transfer, n=grid.size).astype(table.dtype)


def offset_transfer(grid: Grid, kernel: Callable[[np.ndarray], np.ndarray], std: float) -> np.ndarray:
    """Fourier transform of a kernel of any reach, given at the 2 size offsets, convolved with N(0, std^2)."""
    offsets = grid.step * scipy.fft.fftfreq(2 * grid.size, 1 / (2 * grid.size))
    omega = 2 * np.pi * scipy.fft.rfftfreq(2 * grid.size, grid.step)
    return scipy.fft.rfft(kernel(offsets)) * np.exp(-0.5 * (std * omega) ** 2)


def convolve_offsets(grid: Grid, table: Table, transfer: np.ndarray) -> Table:
    """Convolution with a kernel given by `offset_transfer`."""
    return jnp.fft.irfft(jnp.fft.rfft(table, n=2 * grid.size) * transfer)[: grid.size].astype(table.dtype)


def smoothed_table(grid: Grid, table: Table, std: float) -> Table:
    """The average of a table over N(0, std^2), continued linearly beyond the ends."""
    if std == 0:
        return table
    reach = int(np.ceil(6 * std / grid.step))
    weight = np.exp(-0.5 * (grid.step / std * np.arange(-reach, reach + 1)) ** 2)
    values = np.asarray(table, np.float64)
    before = values[0] + (values[1] - values[0]) * np.arange(-reach, 0)
    after = values[-1] + (values[-1] - values[-2]) * np.arange(1, reach + 1)
    whole = scipy.signal.fftconvolve(np.concatenate([before, values, after]), weight / weight.sum(), mode="valid")
    return jnp.asarray(whole, table.dtype)
