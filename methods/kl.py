"""The Kullback-Leibler divergence (2.7) between kernel density estimates."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryosip.methods import checks, grid, pairwise
from cryosip.methods.data import known
from cryosip.methods.discrepancy import Discrepancy, Target, one_dimensional
from cryosip.methods.problem import Images, Observations
from cryosip.methods.stored import Data, in_memory

ALGORITHMS = ("auto", "binned", "pairwise")
PAPER_VARIANCE = 0.3496  # section 4.1: the printed kernel exp(-y^2 / (2 eps)) has eps as its variance
CELLS_PER_BANDWIDTH = 16
MAX_CELLS = 2**15
MAX_NOISE = 20  # noise std per bandwidth beyond which integrating the noise out is refused
PROBES = 512  # particles at which the binned gradient is compared with the sum over all pairs

Line = Float[Array, " n"]


def kl(bandwidth: str | float = "silverman-y", algorithm: str = "auto") -> Discrepancy:
    """The Kullback-Leibler divergence (2.7) between Gaussian kernel density estimates of both samples (section 4.1).

    The value is mean_i log(rho_N / rho_M)(y_i), and row i of the gradient is grad log(rho_N / rho_M)(y_i): the first
    variation of section 2.5.1 with the two estimated densities in the place of the distributions, as the paper does.
    Densities estimated from the particles make this a flow that is no gradient of a function of the particles: n * d
    value / d y_i has one term more, (1/N) sum_j grad phi(y_i - y_j) / rho_N(y_j), the motion of the kernels' centres,
    which vanishes with the bandwidth. `bandwidth` is the std of the kernel: "silverman-y" for Silverman's rule on the
    observations, "paper" for the printed kernel with eps = 0.3496 (a variance), or a number.

    "binned" works in one dimension by FFT on a grid of 16 cells per bandwidth, with a table of the observed density,
    O(n); "pairwise" sums all pairs in any dimension. The error that is reported is measured against all pairs at 512
    particles, the outermost among them. Raises ValueError for unknown names, a bandwidth that is not positive,
    and on binding for observations that are all equal. [sanchez2025], [silverman1986].
    """
    checks.one_of("algorithm", algorithm, ALGORITHMS)
    if isinstance(bandwidth, str):
        checks.one_of("bandwidth", bandwidth, ("silverman-y", "paper"))
    else:
        bandwidth = checks.positive("bandwidth", bandwidth)

    @known
    def bind(observations: Data, noise_std: float = 0.0) -> Target:
        observed = checks.finite_matrix("observations", in_memory(observations, "discrepancy 'kl'"))
        noise_std = checks.non_negative("noise_std", noise_std)
        line = one_dimensional("kl", algorithm, observed, noise_std)
        std = _bandwidth(bandwidth, observed)
        if noise_std > MAX_NOISE * std:
            raise ValueError(
                f"bandwidth is {std:.4g} with noise {noise_std:g} to integrate; wanted noise / {MAX_NOISE}"
            )
        if line and algorithm != "pairwise":
            nodes = grid.grid_around(observed[:, 0], smoothing=max(std, noise_std), max_step=std / CELLS_PER_BANDWIDTH)
            if nodes.size <= MAX_CELLS:
                return _on_grid(nodes, observed, std, noise_std)
            grid.refuse(nodes, algorithm, MAX_CELLS)
        return _pairwise(jnp.asarray(observed), std, noise_std)

    return Discrepancy(bind)


def _bandwidth(bandwidth: str | float, observed: np.ndarray) -> float:
    if bandwidth == "paper":
        return float(np.sqrt(PAPER_VARIANCE))
    return silverman(observed) if bandwidth == "silverman-y" else float(bandwidth)


def silverman(sample: np.ndarray) -> float:
    """Silverman's rule: h = sd * (4 / ((p + 2) m))^(1 / (p + 4)) with the mean variance over the p components."""
    m, p = sample.shape
    sd = float(np.sqrt(sample.astype(np.float64).var(axis=0).mean()))
    if sd == 0:
        raise ValueError(f"all {m} observations are equal; wanted different ones, or a bandwidth given as a number")
    return sd * (4 / ((p + 2) * m)) ** (1 / (p + 4))


def _pairwise(observed: Observations, std: float, noise_std: float) -> Target:
    def value(y: Images) -> Float[Array, ""]:
        return _log_ratio(y, y, observed, std, noise_std).mean()

    def gradient(y: Images) -> Images:
        return _score_gap(y, y, observed, std, noise_std)

    def gradient_error(y: Images) -> Float[Array, ""]:
        return jnp.zeros(()) if noise_std == 0 else _error_at_probes(gradient, y, observed, std, noise_std)

    name = "noise integrated out, " if noise_std > 0 else ""
    return Target(value, gradient, f"{name}all pairs, tiled; bandwidth {std:.4g}", gradient_error)


def _error_at_probes(
    gradient: Callable[[Images], Images], y: Images, observed: Observations, std: float, noise_std: float
) -> Float[Array, ""]:
    """Largest deviation from all pairs at evenly ranked particles, the noise integrated four times as finely."""
    count = min(PROBES if noise_std == 0 else PROBES // 8, len(y))
    probes = jnp.argsort(y[:, 0])[np.linspace(0, len(y) - 1, count).astype(int)]
    return jnp.abs(gradient(y)[probes] - _score_gap(y[probes], y, observed, std, noise_std, refine=4)).max()


def _over_noise(f: Callable[[Array], Array], at: Array, step: float, noise_std: float) -> Array:
    """E f(at + omega) over omega ~ N(0, noise_std^2) on the line by the trapezoidal rule; f(at) without noise."""
    if noise_std == 0:
        return f(at)
    reach = 2 ** int(np.ceil(6 * noise_std / step)).bit_length()  # few sizes for all data
    omega = 6 * noise_std / reach * np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (omega / noise_std) ** 2)
    shifted = jax.lax.map(lambda u: f(at + u), jnp.asarray(omega, at.dtype))
    return jnp.tensordot(jnp.asarray(weights / weights.sum(), at.dtype), shifted, axes=1)


def _log_ratio(
    at: Float[Array, "k p"], y: Images, observed: Observations, std: float, noise_std: float
) -> Float[Array, " k"]:
    def log_ratio(at: Array) -> Array:
        return pairwise.log_kde(at, y, float(np.hypot(std, noise_std))) - pairwise.log_kde(at, observed, std)

    return _over_noise(log_ratio, at, std / 4, noise_std)


def _score_gap(
    at: Float[Array, "k p"], y: Images, observed: Observations, std: float, noise_std: float, refine: int = 1
) -> Float[Array, "k p"]:
    """E over the noise of grad log(rho_N / rho_M) at the given places."""

    def score_gap(at: Array) -> Array:
        return pairwise.kde_score(at, y, float(np.hypot(std, noise_std))) - pairwise.kde_score(at, observed, std)

    return _over_noise(score_gap, at, std / (4 * refine), noise_std)


def _on_grid(nodes: grid.Grid, observed: np.ndarray, std: float, noise_std: float) -> Target:
    """KDE by FFT, its gradient by differences of the log-density; the table of the observations is exact at the nodes.

    With noise, rho_N is the estimate of the clean particles convolved with N(0, noise_std^2), and the gradient of
    log(rho_N / rho_M) is averaged over the noise of the particle that moves, as in (2.11).
    """
    observations, at_nodes = jnp.asarray(observed), jnp.asarray(nodes.nodes, observed.dtype)[:, None]
    log_observed = grid.smoothed_table(nodes, pairwise.log_kde(at_nodes, observations, std), noise_std)
    kernel = grid.gaussian_transfer(nodes, float(np.hypot(std, noise_std))) / nodes.step
    over_noise = grid.gaussian_transfer(nodes, noise_std)
    exact = _pairwise(observations, std, noise_std)

    def log_density(y: Line) -> grid.Table:
        density = grid.convolve(nodes, grid.spread(nodes, y), kernel)
        # a lone particle has density phi(0) / n; what lies far below that is rounding of the FFT
        table = jnp.log(jnp.maximum(density, 1e-6 * density.max()))
        return grid.convolve(nodes, table, over_noise) if noise_std > 0 else table

    def value(y: Line) -> Float[Array, ""]:
        return grid.interpolate(nodes, log_density(y) - log_observed, y).mean()

    def gradient(y: Line) -> Line:
        return grid.interpolate(nodes, grid.derivative(nodes, log_density(y) - log_observed), y)

    on_grid_value = grid.guarded(nodes, value, lambda y: exact.value(y[:, None]))
    on_grid_gradient = grid.guarded(nodes, gradient, lambda y: exact.gradient(y[:, None])[:, 0])

    def gradient_all(y: Images) -> Images:
        return on_grid_gradient(y[:, 0])[:, None]

    return Target(
        lambda y: on_grid_value(y[:, 0]),
        gradient_all,
        f"KDE by FFT on {nodes.size} cells, bandwidth {std:.4g}; all pairs where they do not cover the particles",
        lambda y: _error_at_probes(gradient_all, y, observations, std, noise_std),
    )
