"""The energy distance (2.9) and its first variation."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from cryosip.methods import checks, grid, hosts, images, pairwise, ranks
from cryosip.methods.data import datum, known
from cryosip.methods.discrepancy import Discrepancy, Target, WeightedTarget
from cryosip.methods.image_batches import batched
from cryosip.methods.problem import Images, Span, Weights
from cryosip.methods.stored import Data, Stored

ALGORITHMS = ("auto", "binned", "sorted", "moments", "pairwise")
AUTO_ERROR = 0.01  # of a component of the gradient, that "binned" may state for particles spread as the observations
MAX_CELLS = 2**20  # of the grid for noise, sixteen of them in a std: beyond, all pairs
AUTO_EXPANSION_ERROR = 5e-3  # of the slope of the kernel

Line = Float[Array, " n"]


def energy(algorithm: str = "auto", n_cells: int = 8192, tile: int | None = None) -> Discrepancy:
    """Half the squared energy distance, (2.9) squared and halved.

    D = E|y - y*| - E|y - y'| / 2 - E|y* - y*'| / 2 is the D = MMD^2 / 2 of section 2.5.1 with k(y, y') = -|y - y'|, so
    n * d value / d y_i = gradient_i. In one dimension D = integral (F_N - F_M)^2 and the gradient is 2 (F_M - F_N)(y_i)
    with the two distribution functions: "binned" reads them from `n_cells` cells (error at most twice the largest
    masses of a cell, O(n)), "sorted" from ranks (exact, O(n log n)), "pairwise" sums all pairs (exact, O(n^2), any
    dimension; `tile` pairs of either kind at a time, a million by default, and one more copy of the images bound the
    memory beyond images, observations and gradient).
    "auto" is "binned" in one dimension, or "sorted" where the error that it would state for particles spread as the
    observations exceeds 0.01 (no component is larger than 2), as when there are few of them, or outliers stretch the
    cells.

    In p > 1 dimensions noise is integrated out to a relative error of 0.15 / p^2 in E|y + omega - y*|. Where that noise
    exceeds what images differ by, the kernel is nearly quadratic in |y - y'|, and "moments" takes the sums from second
    moments, O(n r^2) in r coordinates; "auto" does so where its slope errs by less than 5e-3, else it is "pairwise".

    Of observations on disk 1024 are drawn in each step: an unbiased estimate, which `gradient_error` gives a standard
    error in place of a bound. Raises ValueError for an unknown algorithm, counts below 1, and on binding for one that
    needs all observations where they are on disk, and for observations that are not (m, p),
    finite and, where the algorithm asks for it, one-dimensional. [sanchez2025], [sejdinovic2013].
    """
    checks.one_of("algorithm", algorithm, ALGORITHMS)
    checks.positive_int("n_cells", n_cells)
    if tile is not None:
        checks.positive_int("tile", tile)

    @known
    def bind(observations: Data, noise_std: float = 0.0) -> Target:
        if isinstance(observations, Stored):
            noise_std = checks.non_negative("noise_std", noise_std)
            return batched(_on_disk(observations, algorithm), noise_std, noise_std > 0, tile)
        observed = checks.finite_rows("observations", observations)
        noise_std = checks.non_negative("noise_std", noise_std)
        if not _on_the_line(algorithm, observed.shape[1]):
            return _target(_observed_images(observed, noise_std, tile), algorithm, tile)
        observed = checks.finite_matrix("observations", observed)
        if noise_std > 0 and algorithm != "pairwise":
            nodes = grid.grid_around(observed[:, 0], smoothing=noise_std, max_step=noise_std / 16)
            if nodes.size <= MAX_CELLS:
                return _smoothed(nodes, observed[:, 0], noise_std)
            grid.refuse(nodes, algorithm, MAX_CELLS)
        if noise_std > 0:
            return _noisy_pairwise(observed[:, 0], noise_std)
        if algorithm == "pairwise":
            return images.pairs(_observed_images(observed, 0.0, tile), tile)
        line = observed[:, 0]
        cells = grid.grid_around(line, smoothing=0.0, min_cells=n_cells)
        if algorithm == "sorted" or (algorithm == "auto" and 4 * _heaviest(cells, jnp.asarray(line)) > AUTO_ERROR):
            return _sorted(line, ranks.ranks)
        return _binned(line, cells)

    @known
    def bind_span(observations: Data, noise_std: float, span: Span, integrate: bool) -> Target:
        noise_std = checks.positive("noise_std", noise_std)
        if isinstance(observations, Stored):
            return batched(_on_disk(observations, algorithm), noise_std, integrate, tile, span)
        observed = checks.finite_rows("observations", observations)
        return _target(_observed_in_span(observed, noise_std, span, integrate, tile), algorithm, tile)

    return Discrepancy(bind, bind_span)


def _on_the_line(algorithm: str, p: int) -> bool:
    """Whether the algorithms of one dimension apply; ValueError where the one that is asked for does not."""
    if p > 1 and algorithm in ("binned", "sorted"):
        raise ValueError(
            f"algorithm is {algorithm!r} for observations of dimension {p}; wanted 'auto', 'moments' or 'pairwise'"
        )
    if p == 1 and algorithm == "moments":
        raise ValueError("algorithm is 'moments' for observations of dimension 1; wanted one of the others")
    return p == 1


def _on_disk(observations: Stored, algorithm: str) -> Stored:
    """The observations; ValueError where the algorithm that is asked for needs all of them at once."""
    if algorithm not in ("auto", "pairwise"):
        raise ValueError(f"algorithm is {algorithm!r} for observations on disk; wanted 'auto' or 'pairwise'")
    return observations


def _within(observed: images.Rows, tile: int | None) -> float:
    """The mean distance between observations."""
    if observed.shape[1] == 1:
        return _mean_distance(np.asarray(hosts.fetched(observed))[:, 0])
    return images.mean_distance(observed, observed, tile)


def _observed_images(observed: images.Rows, noise_std: float, tile: int | None) -> images.Observed:
    """Observations without a span; the noise is integrated out of every pixel."""
    outside = np.zeros(len(observed))
    return images.Observed(observed, outside, _within(observed, tile), noise_std, observed.shape[1] if noise_std else 0)


def _observed_in_span(
    observed: images.Rows, noise_std: float, span: Span, integrate: bool, tile: int | None
) -> images.Observed:
    coordinates = images.by_rows(span.project, observed)
    outside = images.outside(observed, coordinates)
    dims = observed.shape[1] if integrate else observed.shape[1] - coordinates.shape[1]
    return images.Observed(coordinates, outside, _within(observed, tile), noise_std, dims)


def _target(observed: images.Observed, algorithm: str, tile: int | None) -> Target:
    """Second moments where they are asked for, or cheaper than all pairs and almost as exact."""
    m, r = observed.coordinates.shape
    if algorithm == "moments" and observed.noise_dims == 0:
        raise ValueError("algorithm is 'moments' and no noise is integrated out; wanted noise, a span, or 'pairwise'")
    if algorithm == "moments" or (algorithm == "auto" and observed.noise_dims > 0 and r <= m):
        plan = images.expansion(observed)
        if algorithm == "moments" or max(plan.observed.error, plan.simulated.error) <= AUTO_EXPANSION_ERROR:
            return images.from_moments(observed, plan, tile)
    return images.pairs(observed, tile)


def _sorted(observed: np.ndarray, ranks_of: Callable[[Line], Line]) -> Target:
    ordered, m = ranks.ordered(observed), len(observed)

    def gradient(y: Images) -> Images:
        below = ranks.ranks_among(ordered, y[:, 0])
        return (2 * (below / m - ranks_of(y[:, 0]) / len(y)))[:, None]

    def value(y: Images) -> Float[Array, ""]:
        return _squared_cdf_gap(y[:, 0], observed)

    return Target(value, gradient, "sorted (exact)", lambda y: jnp.zeros(()), _weighted_sorted(observed))


def _weighted_sorted(observed: np.ndarray) -> WeightedTarget:
    """Of weighted points on the line, exactly."""

    def value(y: Images, w: Weights) -> Float[Array, ""]:
        return line_variation(y[:, 0], w, jnp.asarray(observed, y.dtype)).value

    def variation(y: Images, w: Weights) -> tuple[Weights, Images]:
        found = line_variation(y[:, 0], w, jnp.asarray(observed, y.dtype))
        return found.potential, found.slope[:, None]

    return WeightedTarget(value, variation)


class LineVariation(NamedTuple):
    """D, and its first variation with its slope at each point."""

    value: Float[Array, ""]
    potential: Line
    slope: Line


def line_variation(y: Line, w: Weights, observed: Float[Array, " m"]) -> LineVariation:
    """D = integral (F_N - F_M)^2 with F_N the distribution function of weighted points: both in one sorted order.

    V' = 2 (F_M - F_N), the mean of both sides at a jump, and V its integral from the first of all points.
    """
    both = jnp.concatenate([y, observed])
    order = ranks.order(both)
    at = both[order]
    jump = jnp.concatenate([w, jnp.full(len(observed), -1 / len(observed), w.dtype)])[order]
    gap = jnp.cumsum(jump)
    step = jnp.diff(at, append=at[-1:])
    area = jnp.cumsum(gap * step)
    starts = jnp.concatenate([jnp.ones(1, bool), at[1:] != at[:-1]])
    ends = jnp.concatenate([starts[1:], jnp.ones(1, bool)])
    place = jnp.arange(len(at))
    first = jax.lax.cummax(jnp.where(starts, place, 0))
    last = jax.lax.cummin(jnp.where(ends, place, len(at) - 1), reverse=True)
    before = jnp.where(first > 0, gap[first - 1], 0.0)
    slope = jnp.zeros_like(both).at[order].set(-(before + gap[last]))
    potential = jnp.zeros_like(both).at[order].set(-2 * jnp.concatenate([jnp.zeros(1, area.dtype), area[:-1]]))
    return LineVariation((gap**2 * step).sum(), potential[: len(y)], slope[: len(y)])


def _squared_cdf_gap(y: Line, observed: np.ndarray) -> Float[Array, ""]:
    """Integral of (F_N - F_M)^2, exactly, from both samples in one sorted order."""
    both = jnp.concatenate([y, jnp.asarray(observed, y.dtype)])
    jump = jnp.concatenate([jnp.full(len(y), 1 / len(y)), jnp.full(len(observed), -1 / len(observed))])
    order = ranks.order(both)
    gap = jnp.cumsum(jump[order])[:-1]
    return jnp.sum(gap**2 * jnp.diff(both[order]))


def _binned(observed: np.ndarray, cells: grid.Grid) -> Target:
    exact = _sorted(observed, ranks.sorted_ranks)  # where particles run away, which is rare
    observed_cdf = _cell_cdf(cells, jnp.asarray(observed))

    def on_cells(y: Line) -> Line:
        return 2 * grid.interpolate(cells, observed_cdf - _cell_cdf(cells, y), y)

    gradient = grid.guarded(cells, on_cells, lambda y: exact.gradient(y[:, None])[:, 0])

    observed_heaviest = _heaviest(cells, jnp.asarray(observed))

    def gradient_error(y: Images) -> Float[Array, ""]:
        heaviest = _heaviest(cells, y[:, 0]) + observed_heaviest
        return jnp.where(grid.covers(cells, y[:, 0]), 2 * heaviest, 0.0)

    return Target(
        exact.value,
        lambda y: gradient(y[:, 0])[:, None],
        f"binned, {cells.size - 1} cells; sorted (exact) where they do not cover the particles",
        gradient_error,
        exact.weighted,
    )


def _cell_cdf(cells: grid.Grid, x: Line) -> grid.Table:
    """Distribution function at the nodes, exact there: the share of points in the cells before each."""
    left, _ = grid.locate(cells, x)
    counts = jnp.zeros(cells.size, jnp.int32).at[left + 1].add(1, mode="promise_in_bounds")
    return jnp.cumsum(counts).astype(x.dtype) / len(x)


def _heaviest(cells: grid.Grid, x: Line) -> Float[Array, ""]:
    """Largest share of the points in one cell."""
    return jnp.diff(_cell_cdf(cells, x)).max()


def _smoothed(nodes: grid.Grid, observed: np.ndarray, noise_std: float) -> Target:
    """With the noise in y_i and in rho_y: 2 (F_M * N(0, s^2) - F_N * N(0, 2 s^2)) at the clean y_i, s its std."""
    exact_cdf = np.searchsorted(np.sort(observed), nodes.nodes, side="right") / len(observed)
    observed_mass = grid.spread(nodes, jnp.asarray(observed))
    twice, once = (grid.gaussian_transfer(nodes, s * noise_std) for s in (np.sqrt(2.0), 1.0))
    observed_once = _node_cdf(grid.convolve(nodes, observed_mass, once))

    def gap(y: Line) -> grid.Table:
        return observed_once - _node_cdf(grid.convolve(nodes, grid.spread(nodes, y), twice))

    def value(y: Line) -> Float[Array, ""]:
        simulated = _node_cdf(grid.convolve(nodes, grid.spread(nodes, y), once))
        return jnp.sum((simulated - exact_cdf) ** 2) * datum(nodes.step, y.dtype)

    exact = _noisy_pairwise(observed, noise_std)
    gradient = grid.guarded(
        nodes, lambda y: 2 * grid.interpolate(nodes, gap(y), y), lambda y: exact.gradient(y[:, None])[:, 0]
    )
    # linear sharing and linear reading each err by at most step^2 / 8 times the steepest slope of a density
    steepest = np.exp(-0.5) / np.sqrt(2 * np.pi) / noise_std**2
    error = 2 * 2 * 1.5 * nodes.step**2 / 8 * steepest
    return Target(
        lambda y: grid.guarded(nodes, value, lambda y: exact.value(y[:, None]))(y[:, 0]),
        lambda y: gradient(y[:, 0])[:, None],
        f"noise integrated out, FFT on {nodes.size} cells; all pairs where they do not cover the particles",
        lambda y: jnp.where(grid.covers(nodes, y[:, 0]), datum(error, y.dtype), 0.0),
        exact.weighted,
    )


def _noisy_pairwise(observed: np.ndarray, noise_std: float) -> Target:
    """The same from all pairs, exactly."""
    within_observed = 0.5 * _mean_distance(observed)
    root = float(np.sqrt(2.0)) * noise_std

    def value(y: Images) -> Float[Array, ""]:
        to_observed = _mean_noisy_distance(y[:, 0], jnp.asarray(observed), noise_std)
        return to_observed - 0.5 * _mean_noisy_distance(y[:, 0], y[:, 0], root) - datum(within_observed, y.dtype)

    def gradient(y: Images) -> Images:
        below_observed = pairwise.map_rows(lambda u: ndtr((u - observed) / noise_std).mean(), y, len(observed))
        below = pairwise.map_rows(lambda u: ndtr((u - y[:, 0]) / root).mean(), y, len(y))
        return 2 * (below_observed - below)[:, None]

    def potentials(y: Images, w: Weights) -> tuple[Weights, Weights]:
        """E|y_k + omega - y*| and E|y_k + omega - y'| of each y_k."""

        def at(u: pairwise.Point) -> Float[Array, " 2"]:
            from_observed = _noisy_distance(u - observed, noise_std).mean()
            return jnp.stack([from_observed, w @ _noisy_distance(u - y[:, 0], root)])

        both = pairwise.map_rows(at, y, max(len(observed), len(y)))
        return both[:, 0], both[:, 1]

    def weighted_value(y: Images, w: Weights) -> Float[Array, ""]:
        to_observed, to_simulated = potentials(y, w)
        return w @ (to_observed - 0.5 * to_simulated) - datum(within_observed, y.dtype)

    def variation(y: Images, w: Weights) -> tuple[Weights, Images]:
        to_observed, to_simulated = potentials(y, w)

        def slope(u: pairwise.Point) -> Float[Array, ""]:
            return ndtr((u - observed) / noise_std).mean() - w @ ndtr((u - y[:, 0]) / root)

        slopes = pairwise.map_rows(slope, y, max(len(observed), len(y)))
        return to_observed - to_simulated, 2 * slopes[:, None]

    weighted = WeightedTarget(weighted_value, variation)
    return Target(value, gradient, "noise integrated out, all pairs, tiled", lambda y: jnp.zeros(()), weighted)


def _mean_noisy_distance(y: Line, other: Float[Array, " m"], std: float) -> Float[Array, ""]:
    """mean_{i,j} E|y_i - other_j + std xi|, xi ~ N(0, 1)."""

    def at(point: pairwise.Point) -> Float[Array, ""]:
        u = (point - other) / std
        return std * jnp.mean(2 * norm.pdf(u) + u * (2 * ndtr(u) - 1))

    return pairwise.map_rows(at, y[:, None], len(other)).mean()


def _noisy_distance(gap: Array, std: float) -> Array:
    """E|gap + std xi|, xi ~ N(0, 1): std (2 phi(u) + u (2 Phi(u) - 1)), u = gap / std."""
    u = gap / std
    return std * (2 * norm.pdf(u) + u * (2 * ndtr(u) - 1))


def _mean_distance(x: np.ndarray) -> float:
    """mean_{i,j} |x_i - x_j| from sorted values."""
    n = len(x)
    return float((np.sort(x.astype(np.float64)) * (2 * np.arange(n) - n + 1)).sum() * 2 / n**2)


def _node_cdf(density: grid.Table) -> grid.Table:
    """Trapezoidal distribution function of masses on the nodes."""
    return jnp.cumsum(density) - 0.5 * density
