"""All pairs in any dimension, a tile of rows at a time: the exact reference, and the only form beyond one dimension."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cryosip.methods import devices
from cryosip.methods.problem import Images, Observations

FEW_PIXELS = 8  # up to here differences cost no more than the Gram product, and do not cancel
TILE = 2**20  # pairs at a time: 4 MB in float32, which stays in cache

Point = Float[Array, " p"]
Distances = Float[Array, " m"]


class Radial(NamedTuple):
    """A kernel k(y, y') = value(|y - y'|), and its derivative `slope` for r > 0."""

    value: Callable[[Distances], Distances]
    slope: Callable[[Distances], Distances]


def map_rows(f: Callable[[Point], Array], y: Images, n: int, tile: int | None = None) -> Array:
    """f of every row of y, where each row meets n others, `tile` pairs at a time (TILE by default) on each device."""

    def tiled(rows: Images) -> Array:
        return jax.lax.map(f, rows, batch_size=max(1, min(len(rows), (tile or TILE) // n)))

    return devices.by_rows(tiled, y)


def centred(y: Images, cloud: Observations) -> tuple[Images, Observations]:
    """Both without the cloud's mean, which the Gram product would square; on the line there is none."""
    return (y, cloud) if cloud.shape[1] == 1 else (y - cloud.mean(0), cloud - cloud.mean(0))


def distances(point: Point, cloud: Observations) -> Distances:
    """|point - y_j|, for many pixels from the Gram product, at highest precision, which vmap turns into sgemm.

    What the Gram product cannot tell from zero is zero, so that a point never pushes itself.
    """
    if cloud.shape[1] == 1:
        return jnp.abs(point - cloud[:, 0])
    if cloud.shape[1] <= FEW_PIXELS:
        squares = ((point - cloud) ** 2).sum(1)
        apart = squares > 0
    else:
        norms = (cloud**2).sum(1) + (point**2).sum()
        squares = norms - 2 * jnp.matmul(cloud, point, precision="highest")
        apart = squares > 4 * jnp.finfo(cloud.dtype).eps * norms
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), 0.0)  # the root has no slope at 0


def mean_kernel(kernel: Radial, y: Images, cloud: Observations, tile: int | None = None) -> Float[Array, ""]:
    """mean_{i,j} k(y_i, cloud_j)."""
    y, cloud = centred(y, cloud)
    return map_rows(lambda point: kernel.value(distances(point, cloud)).mean(), y, len(cloud), tile).mean()


def mean_slope(kernel: Radial, y: Images, cloud: Observations, tile: int | None = None) -> Images:
    """Row i: mean_j of grad_y k(y, cloud_j) at y = y_i, where a pair at distance 0 counts 0."""
    return mean_slope_near_zero(kernel, *centred(y, cloud), tile)


def mean_slope_near_zero(kernel: Radial, y: Images, cloud: Observations, tile: int | None = None) -> Images:
    """The same for points that are centred already."""

    def at(point: Point) -> Point:
        r = distances(point, cloud)
        if cloud.shape[1] == 1:
            ahead = point > cloud[:, 0]
            return jnp.where(r > 0, jnp.where(ahead, kernel.slope(r), -kernel.slope(r)), 0.0).mean(keepdims=True)
        weight = jnp.where(r > 0, kernel.slope(r) / jnp.where(r > 0, r, 1.0), 0.0) / len(cloud)
        return point * weight.sum() - jnp.matmul(weight, cloud, precision="highest")

    return map_rows(at, y, len(cloud), tile)


def log_kde(y: Images, cloud: Observations, std: float) -> Float[Array, " n"]:
    """log of (1/n) sum_j N(y_i; cloud_j, std^2 I)."""
    n, p = cloud.shape
    y, cloud = centred(y, cloud)
    log_norm = jnp.log(n) + 0.5 * p * jnp.log(2 * jnp.pi * std**2)
    return map_rows(lambda u: jax.nn.logsumexp(-0.5 * (distances(u, cloud) / std) ** 2) - log_norm, y, n)


def kde_score(y: Images, cloud: Observations, std: float, tile: int | None = None) -> Images:
    """Row i: gradient at y_i of log (1/n) sum_j N(y; cloud_j, std^2 I)."""
    y, cloud = centred(y, cloud)

    def at(point: Point) -> Point:
        weight = jax.nn.softmax(-0.5 * (distances(point, cloud) / std) ** 2)
        if cloud.shape[1] == 1:
            return jnp.sum(weight * (cloud[:, 0] - point), keepdims=True) / std**2
        return (jnp.matmul(weight, cloud, precision="highest") - point) / std**2

    return map_rows(at, y, len(cloud), tile)
