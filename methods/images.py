"""The energy distance of images: all pairs by tiled Gram products, or the moments of a kernel that is almost quadratic.

Both know the images by coordinates in which all of them lie; what the observations hold outside, and the noise that is
integrated out, only widens the distances.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryosip.methods import hosts, pairwise
from cryosip.methods.data import datum
from cryosip.methods.discrepancy import Scalar, Target, WeightedTarget
from cryosip.methods.noisy_distance import NoisyDistance
from cryosip.methods.problem import Coordinates, Images, Weights

REACH = 1.5  # moments hold for particles up to so many times as far from the mean as the furthest observation
TYPICAL_SAMPLE = 200

Lifted = Float[Array, "n q"]  # q = r + 2
Rows = Float[np.ndarray | Array, "m r"]  # of numpy, or of JAX where several processes hold them
Pixels = Float[np.ndarray | Array, "m p"]


class Observed(NamedTuple):
    """Observations as the energy distance needs them.

    `coordinates` (m, r) where images vary; `outside` (m,) the squared norms of what else the observations hold;
    `within` the mean distance between observations; and the noise of a simulated image that is integrated out,
    `noise_std` in each of `noise_dims` dimensions.
    """

    coordinates: Rows
    outside: Float[np.ndarray | Array, " m"]
    within: float
    noise_std: float
    noise_dims: int


def kernels(observed: Observed) -> tuple[NoisyDistance, NoisyDistance]:
    """The distance from a simulated image to an observation, and to another simulated image."""
    std, dims = observed.noise_std, observed.noise_dims
    return NoisyDistance(std, dims), NoisyDistance(float(np.sqrt(2.0)) * std, dims)


def by_rows(f: Callable[[Images], Coordinates], rows: Pixels) -> Rows:
    """f(rows) where f works row by row: of numpy in a run of one process."""
    found = hosts.by_rows(f, jnp.asarray(rows))
    return found if hosts.several() else np.asarray(found)


def outside(rows: Pixels, coordinates: Rows) -> Float[np.ndarray | Array, " m"]:
    """What the squared norms of the coordinates lack of those of the rows, in double precision."""
    with hosts.in_double():
        squares = [_row_squares(a) for a in (rows, coordinates)]
        return (squares[0] - squares[1]).clip(0.0)


def _row_squares(rows: Rows) -> Float[np.ndarray | Array, " m"]:
    if isinstance(rows, np.ndarray):
        return np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return (rows.astype(np.float64) ** 2).sum(1)


def _beside(observed: Observed) -> Rows:
    """One more coordinate holds what the observations have outside, if anything."""
    with hosts.in_double():
        if not observed.outside.any():
            return observed.coordinates
        stacked = np.column_stack if isinstance(observed.coordinates, np.ndarray) else jnp.column_stack
        return stacked([observed.coordinates, observed.outside**0.5]).astype(observed.coordinates.dtype)


def _typical(observed: Observed) -> float:
    """A distance to an observation that is as long as many are."""
    with hosts.in_double():
        some = observed.coordinates[:TYPICAL_SAMPLE].astype(np.float64)
        return kernels(observed)[0].value(float(2 * some.var(0).sum() + observed.outside.mean()))


def pairs(observed: Observed, tile: int | None) -> Target:
    """Value and gradient from all pairs: a Gram product, a matrix of weights and a product with it for each tile."""
    return to_cloud(shortfalls(observed), pairwise.around_mean(jnp.asarray(_beside(observed))), tile)


class Shortfalls(NamedTuple):
    """The distances, less a typical one: their means keep more digits, and it cancels from the sum.

    `own` is between simulated images, `other` from them to observations, `within` the mean between observations.
    """

    own: pairwise.Radial
    other: pairwise.Radial
    within: float
    slope_error: float
    algorithm: str


def shortfalls(observed: Observed) -> Shortfalls:
    """Of observations, or of a sample of them."""
    to_observed, to_simulated = kernels(observed)
    typical = _typical(observed)
    own, other = (_minus(distance, np.full(1, typical)) for distance in (to_simulated, to_observed))
    algorithm = _named(observed, "all pairs, tiled")
    return Shortfalls(own, other, typical - observed.within, to_observed.slope_error, algorithm)


def to_cloud(distances: Shortfalls, cloud: pairwise.Cloud, tile: int | None) -> Target:
    """Value and gradient from all pairs with a cloud of observations, which may be traced.

    Its points have one coordinate more than simulated images where that holds what else the observations are.
    """
    own, other = distances.own, distances.other

    def filled(y: Coordinates) -> Float[Array, "n s"]:
        return jnp.pad(y, ((0, 0), (0, len(cloud.mean) - y.shape[1])))

    def value(y: Coordinates) -> Scalar:
        within = pairwise.mean_kernel(own, y, y, tile) + datum(distances.within, y.dtype)
        return 0.5 * within - pairwise.mean_kernel(other, filled(y) - cloud.mean, cloud.points, tile)

    def gradient(y: Coordinates) -> Coordinates:
        return pairwise.slope_gap(own, other, filled(y), cloud, tile)[:, : y.shape[1]]

    def potentials(y: Coordinates, w: Weights) -> tuple[Weights, Weights, Coordinates]:
        """Of the kernels to simulated and to observed images, at each y, and the gradient of their difference."""
        each = jnp.full(len(cloud.points), 1 / len(cloud.points), y.dtype)
        within, away = pairwise.weighted_mean(own, y, y, w, tile)
        to_seen, back = pairwise.weighted_mean(other, filled(y) - cloud.mean, cloud.points, each, tile)
        return within, to_seen, away - back[:, : y.shape[1]]

    def weighted_value(y: Coordinates, w: Weights) -> Scalar:
        within, to_seen, _ = potentials(y, w)
        return w @ (0.5 * within - to_seen) + 0.5 * datum(distances.within, y.dtype)

    def variation(y: Coordinates, w: Weights) -> tuple[Weights, Coordinates]:
        within, to_seen, slope = potentials(y, w)
        return within - to_seen, slope

    error = lambda y: jnp.full((), 2 * distances.slope_error)  # noqa: E731
    return Target(value, gradient, distances.algorithm, error, WeightedTarget(weighted_value, variation))


def mean_distance(x: Rows, y: Float[np.ndarray | Array, "n r"], tile: int | None = None) -> float:
    """mean_{i,j} |x_i - y_j|, from the differences to a typical distance, whose mean keeps more digits."""
    typical = np.sqrt(((x[0] - y[-1]) ** 2).sum())
    return float(typical - _mean_shortfall(jnp.asarray(x), jnp.asarray(y), jnp.asarray(typical), tile))


@partial(jax.jit, static_argnames="tile")
def _mean_shortfall(x: Coordinates, y: Float[Array, "m r"], typical: Scalar, tile: int | None) -> Scalar:
    return pairwise.mean_kernel(_minus(NoisyDistance(0.0, 0), typical), x, y, tile)


def _minus(distance: NoisyDistance, typical: Scalar | Float[np.ndarray, "1"]) -> pairwise.Radial:
    """The kernel typical - distance."""

    def less(r: Array) -> Array:
        return jnp.asarray(typical, r.dtype) - r

    if distance.dims * distance.std == 0:
        return pairwise.Radial(less, lambda r: -jnp.ones_like(r))
    return pairwise.Radial(lambda r: less(distance.value(r**2)), lambda r: -2 * r * distance.slope(r**2))


def _named(observed: Observed, algorithm: str) -> str:
    p = observed.coordinates.shape[1]
    integrated = f", noise of {observed.noise_dims} dimensions integrated out" if observed.noise_dims else ""
    return f"{algorithm}, {p} coordinates{integrated}"


class Quadratic(NamedTuple):
    """h(s + outside_j) ~ constant_j + slope_j s + curvature_j s^2 / 2 for 0 <= s <= reach; error of h' beside h'."""

    constant: Float[np.ndarray | Array, " m"]
    slope: Float[np.ndarray | Array, " m"]
    curvature: Float[np.ndarray | Array, " m"]
    error: float


def quadratic(
    distance: NoisyDistance, outside: Float[np.ndarray | Array, " m"], reach: float, typical: float
) -> Quadratic:
    """Interpolates h' at the two Chebyshev nodes and h at a typical s.

    Parameters
    ----------
    distance
        h, of squared distances.
    outside
        What each observation adds to s (m,), in units of y^2.
    reach
        The quadratic holds for 0 <= s <= reach.
    typical
        The s at which it is exact.

    Returns
    -------
    Quadratic
        One for each observation, and the largest relative error of h' at 65 places.
    """
    low, high = (reach / 2 * (1 + sign * np.sqrt(0.5)) for sign in (-1, 1))
    curvature = (distance.slope(high + outside) - distance.slope(low + outside)) / (high - low)
    slope = distance.slope(low + outside) - curvature * low
    constant = distance.value(typical + outside) - slope * typical - curvature * typical**2 / 2
    s = np.linspace(0, reach, 65)[:, None]
    exact = distance.slope(s + outside)
    return Quadratic(constant, slope, curvature, float(abs((slope + curvature * s) / exact - 1).max()))


class Moments(NamedTuple):
    """Of a cloud c_j, what sum_j h(|y - c_j|^2) needs where h is quadratic.

    |y - c|^2 = x . z with x = (1, |y|^2, y), z = (|c|^2, 1, -2 c): the means of slope_j z_j and curvature_j z_j z_j^T.
    """

    linear: Float[Array, " q"]
    quadratic: Float[Array, "q q"]


def lifted(y: Coordinates) -> Lifted:
    """x of every row."""
    return jnp.concatenate([jnp.ones((len(y), 1), y.dtype), (y**2).sum(1, keepdims=True), y], axis=1)


def moments(x: Lifted, slope: Array, curvature: Array) -> Moments:
    """With one slope and one curvature for all points, or with one for each."""
    weighted = x.T * curvature if curvature.ndim else x.T
    squared = jnp.matmul(weighted, x, precision="highest") * (1.0 if curvature.ndim else curvature) / len(x)
    return Moments(_mirrored((slope * jnp.ones(len(x))) @ x / len(x)), _mirrored(_mirrored(squared).T))


def _mirrored(x: Array) -> Array:
    """z in place of x, along the first axis."""
    return jnp.concatenate([x[1:2], x[:1], -2 * x[2:]])


def potential(x: Lifted, m: Moments) -> Scalar:
    """Mean over y of mean_j h(|y - c_j|^2), constants left out: x . linear + x . quadratic x / 2."""
    return (x @ m.linear).mean() + 0.5 * (x * jnp.matmul(x, m.quadratic, precision="highest")).sum(1).mean()


def force(x: Lifted, m: Moments) -> Coordinates:
    """Row i: the gradient of mean_j h(|y - c_j|^2) at y_i."""
    slope = m.linear + jnp.matmul(x, m.quadratic, precision="highest")
    return 2 * x[:, 2:] * slope[:, 1:2] + slope[:, 2:]


class Expansion(NamedTuple):
    """What the moments of the observations and of a simulated cloud are made with, and how far it holds."""

    center: Float[np.ndarray | Array, " r"]
    furthest: float
    observed: Quadratic
    simulated: Quadratic
    gradient_error: float


def expansion(observed: Observed) -> Expansion:
    """Quadratics for all squared distances between points at most REACH times as far as the furthest observation."""
    with hosts.in_double():
        return _expansion(observed)


def _expansion(observed: Observed) -> Expansion:
    coordinates = observed.coordinates.astype(np.float64)
    center = coordinates.mean(0)
    squares = ((coordinates - center) ** 2).sum(1)
    furthest = max(REACH * float(np.sqrt(squares.max())), observed.noise_std)
    reach, typical = (2 * furthest) ** 2, 2 * float(squares.mean())
    to_observed, to_simulated = kernels(observed)
    with_observed = quadratic(to_observed, observed.outside, reach, typical)
    with_simulated = quadratic(to_simulated, np.zeros(1), reach, typical)
    # a component of a mean of gradients 2 h' (y - c) is at most the longest of them
    longest = (
        2 * 2 * furthest * max(float(to_observed.slope(0.0 + observed.outside).max()), float(to_simulated.slope(0.0)))
    )
    relative = with_observed.error + with_simulated.error + 2 * to_observed.slope_error
    return Expansion(center, furthest, with_observed, with_simulated, longest * relative)


def from_moments(observed: Observed, plan: Expansion, tile: int | None) -> Target:
    """Value and gradient from second moments, O((n + m) r^2); all pairs where a particle leaves what they hold for."""
    exact = pairs(observed, tile)
    seen, own = plan.observed, plan.simulated
    center = jnp.asarray(plan.center, observed.coordinates.dtype)
    cloud = lifted(jnp.asarray(observed.coordinates) - center)
    of_observed = moments(cloud, jnp.asarray(seen.slope, cloud.dtype), jnp.asarray(seen.curvature, cloud.dtype))
    with hosts.in_double():
        constant = float(seen.constant.mean() - 0.5 * own.constant[0] - 0.5 * observed.within)

    def of_simulated(x: Lifted) -> Moments:
        return moments(x, datum(own.slope.item(), x.dtype), datum(own.curvature.item(), x.dtype))

    def value(x: Lifted) -> Scalar:
        return datum(constant, x.dtype) + potential(x, of_observed) - 0.5 * potential(x, of_simulated(x))

    def gradient(x: Lifted) -> Coordinates:
        return force(x, jax.tree.map(jnp.subtract, of_observed, of_simulated(x)))

    def held(x: Lifted) -> Array:
        return x[:, 1].max() <= datum(plan.furthest**2, x.dtype)

    def guarded(near: Callable[[Lifted], Array], far: Callable[[Coordinates], Array]) -> Callable[[Coordinates], Array]:
        def either(y: Coordinates) -> Array:
            x = lifted(y - center)
            return jax.lax.cond(held(x), near, lambda x: far(x[:, 2:] + center), x)

        return either

    return Target(
        guarded(value, exact.value),
        guarded(gradient, exact.gradient),
        _named(observed, "second moments; all pairs where particles go too far"),
        lambda y: jnp.where(held(lifted(y - center)), datum(plan.gradient_error, y.dtype), exact.gradient_error(y)),
        exact.weighted,
    )
