"""Likelihoods of all images of a stack on a grid of structures, computed batch by batch, kept on disk for a resume."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets.imaging import Imaging, likelihood_of, observed, poses_of, with_transfer
from cryosip.datasets.stack_images import StackPose
from cryosip.methods.problem import Images, Points
from cryosip.methods.tabulated import Grid, coefficients, interpolated
from cryosip.records.files import write_arrays

BATCH = 250  # images
COUNTS = (7, 9, 11, 13, 16, 19, 23, 28, 34, 41)  # points along an axis that are tried
TRIED_IMAGES, TRIED_PLACES = 12, 48
NEAR = 6.0  # nats below the likeliest structure of an image, within which others matter
TOLERANCE = 0.05  # root mean square error of the log-likelihood there

OfImages = Callable[[Images, StackPose, Points], Float[Array, "b k"]]


class Table(NamedTuple):
    """log p(y_i | theta) over that of noise alone, as coefficients of splines on a grid, and |y_i|^2."""

    grid: Grid
    coefficients: Float[np.ndarray, "m c"]
    squares: Float[np.ndarray, " m"]


def of_images(imaging: Imaging) -> OfImages:
    """Of all pairs of some images and structures; compiled once for each number of them."""
    likelihood = likelihood_of(imaging)

    @jax.jit
    def compiled(observations: Float[Array, "b p"], pose: StackPose, theta: Float[Array, "k d"]) -> Float[Array, "b k"]:
        b, k = len(observations), len(theta)
        pairs = jnp.tile(theta, (b, 1)), jnp.repeat(jnp.arange(b), k)
        return likelihood(observations, pose, *pairs).reshape(b, k)

    def of(observations: Float[Array, "b p"], pose: StackPose, theta: Float[Array, "k d"]) -> Float[Array, "b k"]:
        return compiled(observations, with_transfer(imaging.optics, pose), theta)

    return of


def fitting_grid(imaging: Imaging, of: OfImages) -> Grid:
    """The coarsest grid whose splines err by no more than the tolerance where structures matter.

    Raises ValueError where the finest that is tried errs by more.
    """
    m, d, width = len(imaging.particles.place), len(imaging.molecule.motions), imaging.half_width
    rows = np.linspace(0, m - 1, min(TRIED_IMAGES, m)).astype(int)
    data = observed(imaging.particles, imaging.optics, rows), poses_of(imaging.particles, rows)
    places = width * jr.uniform(jr.key(0), (TRIED_PLACES, d), minval=-1.0)
    exact = np.asarray(of(*data, places))
    error = np.inf
    for count in COUNTS:
        grid = Grid(np.full(d, -width), np.full(d, width), count)
        values = np.asarray(of(*data, jnp.asarray(grid.points, places.dtype)))
        spline = interpolated(grid, jnp.asarray(coefficients(grid, values)))
        pairs = jnp.tile(places, (len(rows), 1)), jnp.repeat(jnp.arange(len(rows)), TRIED_PLACES)
        near = exact > values.max(1, keepdims=True) - NEAR
        away = np.asarray(spline(*pairs)).reshape(exact.shape) - exact
        error = float(np.sqrt((away**2)[near].mean())) if near.any() else 0.0
        if error <= TOLERANCE:
            return grid
    raise ValueError(
        f"log-likelihoods on {COUNTS[-1]} structures along each mode leave errors of {error:.2g} between them; wanted "
        f"{TOLERANCE:g}, from a smaller init_half_width or a larger atom_std_in_angstroms"
    )


def of_stack(
    imaging: Imaging, of: OfImages, grid: Grid, folder: Path | None, identity: str, on_batch: Callable[[int], None]
) -> Table:
    """The table of all images; batches that `folder` has from a run of the same identity are read."""
    m = len(imaging.particles.place)
    points = jnp.asarray(grid.points, jnp.float32)
    found = [_batch(imaging, of, points, grid, start, folder, identity, on_batch) for start in range(0, m, BATCH)]
    values, squares = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Table(grid, values, squares)


def _batch(
    imaging: Imaging, of: OfImages, points: Points, grid: Grid, start: int, folder: Path | None, identity: str,
    on_batch: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Coefficients and |y|^2 of one batch; the last one is filled up with its last image, so that shapes are equal."""
    stop = min(start + BATCH, len(imaging.particles.place))
    path = None if folder is None else folder / f"{start:07d}-{identity}.npz"
    if path is not None and path.is_file():
        with np.load(path, allow_pickle=False) as file:
            values, squares = file["values"], file["squares"]
    else:
        rows = np.minimum(np.arange(start, start + BATCH), stop - 1)
        y = observed(imaging.particles, imaging.optics, rows)
        table = np.asarray(of(y, poses_of(imaging.particles, rows), points))[: stop - start]
        values, squares = coefficients(grid, table), np.asarray((y**2).sum(1))[: stop - start]
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(path, {"values": values, "squares": squares})
    on_batch(stop)
    return values, squares
