"""All pairs in any dimension, a tile of rows at a time: the exact reference, and the only form beyond one dimension."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cryosip.methods import devices, hosts
from cryosip.methods.data import datum
from cryosip.methods.problem import Images, Observations
from cryosip.methods.tiles import tile as at_a_time

FEW_PIXELS = 8  # up to here differences cost no more than the Gram product, and do not cancel
BLOCK = 256  # pixels at a time in a Gram product
TILE = 2**20  # pairs at a time: 4 MB in float32, which stays in cache

Point = Float[Array, " p"]
Distances = Float[Array, " m"]


class Radial(NamedTuple):
    """A kernel k(y, y') = value(|y - y'|), and its derivative `slope` for r > 0."""

    value: Callable[[Distances], Distances]
    slope: Callable[[Distances], Distances]


def map_rows(f: Callable[[Point], Array], y: Images, n: int, tile: int | None = None) -> Array:
    """f of every row of y, a tile of rows at a time on each device.

    Parameters
    ----------
    f
        Of one row (p,).
    y
        Rows (n, p).
    n
        How many others each row meets.
    tile
        Pairs at a time; TILE by default, whose numbers stay in the cache.

    Returns
    -------
    Array
        The results, with leading axis n.
    """

    return devices.by_rows(lambda rows: _tiled(f, rows, n, tile), y)


def _tiled(f: Callable[[Point], Array], rows: Images, n: int, tile: int | None) -> Array:
    many = max(1, (tile or at_a_time(TILE)) // n)
    return jax.lax.map(f, rows, batch_size=many) if many < len(rows) else jax.vmap(f)(rows)


def _sum_rows(f: Callable[..., Array], y: Images, tile: int | None, *clouds: list[Array]) -> Array:
    """f(row, *clouds) of every row of y, where f is a sum over the rows of the clouds, each with its `_shares`.

    In a run of several processes no device holds more of y and of the clouds than its part.
    """

    def part(rows: Images, *own: list[Array]) -> Array:
        return _tiled(lambda point: f(point, *own), rows, max(len(cloud[0]) for cloud in own), tile)

    if hosts.several():
        return devices.met(part, y, *clouds)
    return devices.by_rows(lambda rows: part(rows, *clouds), y)


def _shares(cloud: Images) -> list[Distances]:
    """What each row counts in a mean over a cloud of which a process sees parts; nothing where it sees the whole."""
    return [devices.shares(len(cloud), cloud.dtype)] if hosts.several() else []


def _mean(values: Distances, share: list[Distances], keepdims: bool = False) -> Array:
    return (values * share[0]).sum(keepdims=keepdims) if share else values.mean(keepdims=keepdims)


def centred(y: Images, cloud: Observations) -> tuple[Images, Observations]:
    """Both without the cloud's mean, which the Gram product would square; on the line there is none."""
    return (y, cloud) if cloud.shape[1] == 1 else (y - cloud.mean(0), cloud - cloud.mean(0))


def distances(point: Point, cloud: Observations) -> Distances:
    """|point - y_j|, for many pixels from the Gram product, at highest precision, which vmap turns into sgemm."""
    if cloud.shape[1] == 1:
        return jnp.abs(point - cloud[:, 0])
    if cloud.shape[1] <= FEW_PIXELS:
        squares = ((point - cloud) ** 2).sum(1)
        return _root(squares, squares > 0)
    return _from_gram((point**2).sum(), (cloud**2).sum(1), inner(cloud, point))


def inner(cloud: Observations, point: Point) -> Distances:
    """<cloud_j, point>, summed over blocks of pixels.

    A sum of squares of p terms, one after the other, errs by about eps p^(1/2) of itself, as much as what `_from_gram`
    takes for zero where p is some thousands; in blocks of k it errs by k^(1/2) eps / (p / k)^(1/2) on any CPU.
    """
    blocks = cloud.shape[1] // BLOCK
    if blocks < 2:
        return jnp.matmul(cloud, point, precision="highest")

    def add(i: Array, total: Distances) -> Distances:
        some, part = (jax.lax.dynamic_slice_in_dim(a, i * BLOCK, BLOCK, -1) for a in (cloud, point))
        return total + jnp.matmul(some, part, precision="highest")

    rest = jnp.matmul(cloud[:, blocks * BLOCK :], point[blocks * BLOCK :], precision="highest")
    return jax.lax.fori_loop(0, blocks, add, rest)


def _from_gram(square: Float[Array, ""], squares: Distances, products: Distances) -> Distances:
    """What the Gram product cannot tell from zero is zero, so that a point never pushes itself."""
    norms = square + squares
    between = norms - 2 * products
    return _root(between, between > 4 * jnp.finfo(between.dtype).eps * norms)


def _root(squares: Distances, apart: Bool[Array, " m"]) -> Distances:
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1.0)), 0.0)  # the root has no slope at 0


def mean_kernel(kernel: Radial, y: Images, cloud: Observations, tile: int | None = None) -> Float[Array, ""]:
    """mean_{i,j} k(y_i, cloud_j).

    Parameters
    ----------
    kernel
        Of the distance.
    y
        Points (n, p).
    cloud
        The others (m, p).
    tile
        Pairs at a time; TILE by default, whose numbers stay in the cache.

    Returns
    -------
    Array
        A number.
    """
    y, cloud = centred(y, cloud)

    def at(point: Point, others: list[Array]) -> Array:
        cloud, *share = others
        return _mean(kernel.value(distances(point, cloud)), share)

    return _sum_rows(at, y, tile, [cloud, *_shares(cloud)]).mean()


def mean_slope(kernel: Radial, y: Images, cloud: Observations, tile: int | None = None) -> Images:
    """Row i: mean_j of grad_y k(y, cloud_j) at y = y_i, where a pair at distance 0 counts 0.

    Parameters
    ----------
    kernel
        Of the distance.
    y
        Points (n, p).
    cloud
        The others (m, p).
    tile
        Pairs at a time; TILE by default, whose numbers stay in the cache.

    Returns
    -------
    Images
        (n, p).
    """
    y, cloud = centred(y, cloud)

    def at(point: Point, others: list[Array]) -> Point:
        cloud, *share = others
        if cloud.shape[1] == 1:
            r, ahead = distances(point, cloud), point > cloud[:, 0]
            signed = jnp.where(r > 0, jnp.where(ahead, kernel.slope(r), -kernel.slope(r)), 0.0)
            return _mean(signed, share, keepdims=True)
        weight = _weight(kernel, distances(point, cloud), share)
        return point * weight.sum() - jnp.matmul(weight, cloud, precision="highest")

    return _sum_rows(at, y, tile, [cloud, *_shares(cloud)])


def weighted_mean(
    kernel: Radial, y: Images, cloud: Observations, weights: Distances, tile: int | None = None
) -> tuple[Float[Array, " n"], Images]:
    """Row i: sum_j w_j k(y_i, cloud_j), and its gradient at y_i, where a pair at distance 0 counts 0.

    Parameters
    ----------
    kernel
        Of the distance.
    y
        Points (n, p).
    cloud
        The others (m, p).
    weights
        Of the others (m,).
    tile
        Pairs at a time; TILE by default, whose numbers stay in the cache.

    Returns
    -------
    potential, gradient
        (n,) and (n, p).
    """
    y, cloud = centred(y, cloud)

    def at(point: Point) -> Array:
        r = distances(point, cloud)
        pull = weights * _weight(kernel, r, []) * len(r)
        if cloud.shape[1] <= FEW_PIXELS:  # differences do not cancel
            slope = pull @ (point - cloud)
        else:
            slope = point * pull.sum() - jnp.matmul(pull, cloud, precision="highest")
        return jnp.append(slope, weights @ kernel.value(r))

    rows = map_rows(at, y, len(cloud), tile)
    return rows[:, -1], rows[:, :-1]


class Cloud(NamedTuple):
    """Points less their mean, which the Gram product would square; the mean, and the squared norms of the rest.

    For few pixels, where differences are taken instead, the points stay as they are, and the mean is none.
    """

    points: Observations
    mean: Point
    squares: Distances


def around_mean(points: Observations) -> Cloud:
    """The same points as a cloud around their mean."""
    mean = points.mean(0) * (points.shape[1] > FEW_PIXELS)
    rest = points - mean
    return Cloud(rest, mean, (rest**2).sum(1))


def slope_gap(own: Radial, other: Radial, y: Images, observed: Cloud, tile: int | None = None) -> Images:
    """`mean_slope(own, y, y) - mean_slope(other, y, observed)`: the first variation of a mean of kernels.

    In one go, which for many pixels saves a third: each cloud stays around its own mean, and the gap between the two
    means enters where it counts. Beyond arguments and result, memory holds y around its mean and `tile` pairs of either
    kind.

    Parameters
    ----------
    own, other
        The kernel between simulated images, and that from them to observations.
    y
        Simulated images (n, p).
    observed
        Observations around their mean (m, p).
    tile
        Pairs at a time; TILE by default, whose numbers stay in the cache.

    Returns
    -------
    Images
        (n, p).
    """
    if y.shape[1] <= FEW_PIXELS:
        return mean_slope(own, y, y, tile) - mean_slope(other, y, observed.points, tile)
    product = partial(jnp.matmul, precision="highest")
    simulated = around_mean(y)
    gap = simulated.mean - observed.mean
    along_gap = inner(observed.points, gap)

    def at(point: Point, drawn: list[Array], seen: list[Array]) -> Point:
        (points, squares, *share), (seen_points, seen_squares, along, *seen_share) = drawn, seen
        square = (point**2).sum()
        r = _from_gram(square, squares, inner(points, point))
        from_observed = square + 2 * product(gap, point) + product(gap, gap)
        s = _from_gram(from_observed, seen_squares, inner(seen_points, point) + along)
        near, far = _weight(own, r, share), _weight(other, s, seen_share)
        pulled = product(far, seen_points) - product(near, points)
        return (near.sum() - far.sum()) * point - far.sum() * gap + pulled

    drawn = [simulated.points, simulated.squares, *_shares(simulated.points)]
    seen = [observed.points, observed.squares, along_gap, *_shares(observed.points)]
    return _sum_rows(at, simulated.points, tile, drawn, seen)


def _weight(kernel: Radial, r: Distances, share: list[Distances]) -> Distances:
    """k'(r) / r over m, or times the shares of a part of the cloud, and 0 at distance 0."""
    pull = jnp.where(r > 0, kernel.slope(r) / jnp.where(r > 0, r, 1.0), 0.0)
    return pull * share[0] if share else pull / len(r)


def log_kde(y: Images, cloud: Observations, std: float) -> Float[Array, " n"]:
    """log of (1/n) sum_j N(y_i; cloud_j, std^2 I)."""
    n, p = cloud.shape
    y, cloud = centred(y, cloud)
    scale = datum(1 / std, y.dtype)
    log_norm = datum(np.log(n) + 0.5 * p * np.log(2 * np.pi * std**2), y.dtype)
    return _log_sums(y, cloud, scale, log_norm, at_a_time(TILE))


@partial(jax.jit, static_argnames="tile")
def _log_sums(y: Images, cloud: Observations, scale: Array, log_norm: Array, tile: int) -> Float[Array, " n"]:
    """The rows of `log_kde`: a program that all data of one size share."""
    return map_rows(
        lambda u: jax.nn.logsumexp(-0.5 * (distances(u, cloud) * scale) ** 2) - log_norm, y, len(cloud), tile
    )


def kde_score(y: Images, cloud: Observations, std: float, tile: int | None = None) -> Images:
    """Row i: gradient at y_i of log (1/n) sum_j N(y; cloud_j, std^2 I).

    Parameters
    ----------
    y
        Points (n, p).
    cloud
        Centres of the Gaussians (m, p).
    std
        Of each Gaussian, in units of y.
    tile
        Pairs at a time; TILE by default, whose numbers stay in the cache.

    Returns
    -------
    Images
        (n, p).
    """
    y, cloud = centred(y, cloud)
    scale, squared = datum(1 / std, y.dtype), datum(1 / std**2, y.dtype)

    def at(point: Point) -> Point:
        weight = jax.nn.softmax(-0.5 * (distances(point, cloud) * scale) ** 2)
        if cloud.shape[1] == 1:
            return jnp.sum(weight * (cloud[:, 0] - point), keepdims=True) * squared
        return (jnp.matmul(weight, cloud, precision="highest") - point) * squared

    return map_rows(at, y, len(cloud), tile)
