"""The maximum mean discrepancy (2.8) for Gaussian, Laplace and inverse-multiquadric kernels."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.spatial.distance
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

from cryosip.methods import checks, grid, pairwise
from cryosip.methods.data import datum, known
from cryosip.methods.discrepancy import Discrepancy, Target, one_dimensional
from cryosip.methods.pairwise import Radial
from cryosip.methods.problem import Images, Observations
from cryosip.methods.stored import Data, in_memory

ALGORITHMS = ("auto", "binned", "pairwise")
MEDIAN_SAMPLE = 2_000  # observations whose pairs give the median distance
CELLS_PER_BANDWIDTH = {"gaussian": 32, "laplace": 512, "inverse-multiquadric": 32}
MAX_CELLS = 2**15

Line = Float[Array, " n"]
Profile = Callable[[Array], Array]

# k(r) at r = |y - y'| / h
PROFILES: dict[str, Profile] = {
    "gaussian": lambda r: jnp.exp(-0.5 * r**2),
    "laplace": lambda r: jnp.exp(-r),
    "inverse-multiquadric": lambda r: jax.lax.rsqrt(1 + r**2),
}


def mmd(kernel: str = "gaussian", bandwidth: str | float = "median", algorithm: str = "auto") -> Discrepancy:
    """Half the squared maximum mean discrepancy, (2.8) squared and halved.

    D = E k(y, y') / 2 + E k(y*, y*') / 2 - E k(y, y*) is the D of section 2.5.1, so n * d value / d y_i = gradient_i.
    With r = |y - y'| / h the kernel is "gaussian" exp(-r^2 / 2), "laplace" exp(-r) or "inverse-multiquadric" (1 +
    r^2)^(-1/2); h is `bandwidth`, a number or "median" for the median distance between observations (of 2000 of them,
    evenly taken).

    "binned" works in one dimension by FFT on a grid of 32 cells per h (512 for the Laplace kernel and its cusp), O(n);
    "pairwise" sums all pairs in any dimension; "auto" takes the first where it can. Noise can be integrated out with
    the Gaussian kernel in any dimension and with the Laplace kernel in one. Raises ValueError for unknown names and a
    bandwidth that is not positive. [gretton2012].
    """
    checks.one_of("kernel", kernel, PROFILES)
    checks.one_of("algorithm", algorithm, ALGORITHMS)
    if isinstance(bandwidth, str):
        checks.one_of("bandwidth", bandwidth, ("median",))
    else:
        bandwidth = checks.positive("bandwidth", bandwidth)

    @known
    def bind(observations: Data, noise_std: float = 0.0) -> Target:
        observed = checks.finite_matrix("observations", in_memory(observations, "discrepancy 'mmd'"))
        noise_std = checks.non_negative("noise_std", noise_std)
        if kernel == "inverse-multiquadric" and noise_std > 0:
            raise ValueError(f"kernel {kernel!r} has no closed form under noise; wanted 'gaussian' or 'laplace'")
        if kernel == "laplace" or algorithm == "binned":
            one_dimensional(f"mmd with kernel {kernel!r}", algorithm, observed, noise_std)
        h = median_distance(observed) if isinstance(bandwidth, str) else float(bandwidth)
        if observed.shape[1] == 1 and algorithm != "pairwise":
            nodes = grid.grid_around(
                observed, smoothing=max(h, noise_std) / 4, max_step=h / CELLS_PER_BANDWIDTH[kernel]
            )
            if nodes.size <= MAX_CELLS:
                return _on_grid(nodes, observed, kernel, h, noise_std)
            grid.refuse(nodes, algorithm, MAX_CELLS)
        return _pairwise(jnp.asarray(observed), kernel, h, noise_std)

    return Discrepancy(bind)


def median_distance(sample: np.ndarray) -> float:
    """Median distance between different members of the sample, of 2000 evenly taken ones where there are more."""
    some = sample[np.linspace(0, len(sample) - 1, min(len(sample), MEDIAN_SAMPLE)).astype(int)]
    median = float(np.median(scipy.spatial.distance.pdist(some))) if len(some) > 1 else 0.0
    if median == 0:
        raise ValueError("the median distance between observations is 0; wanted a bandwidth given as a number")
    return median


def radial(kernel: str, h: float, noise_std: float, p: int) -> Radial:
    """k(|y - y'|), averaged over N(0, noise_std^2 I_p) in y - y'.

    Parameters
    ----------
    kernel
        A name of PROFILES.
    h
        The bandwidth, in units of y.
    noise_std
        Std of the noise in y - y'; 0 where there is none.
    p
        Dimension of y.

    Returns
    -------
    Radial
        The kernel and its slope.
    """
    profile = PROFILES[kernel]
    if noise_std == 0:
        value = lambda r: profile(r * datum(1 / h, r.dtype))  # noqa: E731
    elif kernel == "gaussian":
        wider = float(np.hypot(h, noise_std))
        height = (h / wider) ** p
        value = lambda r: datum(height, r.dtype) * profile(r * datum(1 / wider, r.dtype))  # noqa: E731
    else:
        value = _noisy_laplace(h, noise_std)
    return Radial(value, jax.grad(lambda r: value(r).sum()))


def _noisy_laplace(width: float, s: float) -> Profile:
    """E exp(-|r + s xi| / h) = e^{a^2/2} (e^{-r/h} Phi(r/s - a) + e^{r/h} Phi(-r/s - a)) a = s/h, h = `width`."""

    def value(r: Array) -> Array:
        a, h = datum(s / width, r.dtype), datum(width, r.dtype)
        ahead = jnp.exp(0.5 * a**2 - r / h + log_ndtr(r / s - a))
        return ahead + jnp.exp(0.5 * a**2 + r / h + log_ndtr(-r / s - a))

    return value


def _pairwise(observed: Observations, kernel: str, h: float, noise_std: float) -> Target:
    within, between = (radial(kernel, h, s * noise_std, observed.shape[1]) for s in (np.sqrt(2.0), 1.0))
    plain = radial(kernel, h, 0.0, observed.shape[1])
    cloud = pairwise.around_mean(observed)

    def value(y: Images) -> Float[Array, ""]:
        own = pairwise.mean_kernel(within, y, y) + pairwise.mean_kernel(plain, observed, observed)
        return 0.5 * own - pairwise.mean_kernel(between, y, observed)

    def gradient(y: Images) -> Images:
        return pairwise.slope_gap(within, between, y, cloud)

    return Target(value, gradient, f"all pairs, tiled; bandwidth {h:.4g}", lambda y: jnp.zeros(()))


def _on_grid(nodes: grid.Grid, observed: np.ndarray, kernel: str, h: float, noise_std: float) -> Target:
    """The witness function E k(y, y') - E k(y, y*) by FFT; the table of the observations is exact at the nodes."""
    profile = PROFILES[kernel]
    at_nodes = jnp.asarray(nodes.nodes, observed.dtype)[:, None]
    between = radial(kernel, h, noise_std, 1)
    observed_slope = pairwise.mean_slope(between, at_nodes, jnp.asarray(observed))[:, 0]
    observed_mass = grid.spread(nodes, jnp.asarray(observed[:, 0]))
    slope_ahead = jax.vmap(jax.grad(lambda x: profile(x / h)))

    def transfer(f: Callable[[Array], Array], std: float) -> np.ndarray:
        return grid.offset_transfer(nodes, lambda x: np.asarray(f(jnp.asarray(x)), np.float64), std)

    # sign(0) = 0: a cusp pushes a point neither way
    slope_within = transfer(lambda x: jnp.sign(x) * slope_ahead(jnp.abs(x)), np.sqrt(2.0) * noise_std)
    value_within, value_between, value_plain = (
        transfer(lambda x: profile(jnp.abs(x) / h), s * noise_std) for s in (np.sqrt(2.0), 1.0, 0.0)
    )

    def mean(transform: np.ndarray, left: grid.Table, right: grid.Table) -> Float[Array, ""]:
        return left @ grid.convolve_offsets(nodes, right, transform)

    def value(y: Line) -> Float[Array, ""]:
        mass = grid.spread(nodes, y)
        own = mean(value_within, mass, mass) + mean(value_plain, observed_mass, observed_mass)
        return 0.5 * own - mean(value_between, mass, observed_mass)

    def gradient(y: Line) -> Line:
        simulated_slope = grid.convolve_offsets(nodes, grid.spread(nodes, y), slope_within)
        return grid.interpolate(nodes, simulated_slope - observed_slope, y)

    exact = _pairwise(jnp.asarray(observed), kernel, h, noise_std)
    curvature, jump = _roughness(profile, h, noise_std)

    def gradient_error(y: Images) -> Float[Array, ""]:
        # sharing and reading linearly each err by step^2 / 8 * max|k'''|; a cusp adds its jump for pairs in reach
        heaviest = grid.spread(nodes, y[:, 0]).max() + observed_mass.max()
        bound = datum(3 / 8 * nodes.step**2 * curvature, y.dtype) + datum(4 * jump, y.dtype) * heaviest
        return jnp.where(grid.covers(nodes, y[:, 0]), bound, 0.0)

    on_grid_value = grid.guarded(nodes, value, lambda y: exact.value(y[:, None]))
    on_grid_gradient = grid.guarded(nodes, gradient, lambda y: exact.gradient(y[:, None])[:, 0])
    return Target(
        lambda y: on_grid_value(y[:, 0]),
        lambda y: on_grid_gradient(y[:, 0])[:, None],
        f"witness by FFT on {nodes.size} cells, bandwidth {h:.4g}; all pairs where they do not cover the particles",
        gradient_error,
    )


def _roughness(profile: Profile, h: float, noise_std: float) -> tuple[float, float]:
    """max |k'''| away from r = 0, and the jump of k' there, which noise makes into more of the first."""
    r = jnp.linspace(1e-3, 10.0, 4_000)
    third = jax.vmap(jax.grad(jax.grad(jax.grad(profile))))(r)
    curvature, jump = float(jnp.abs(third).max()) / h**3, 2 * abs(float(jax.grad(profile)(0.0))) / h
    if noise_std == 0:
        return curvature, jump
    steepest = float(np.exp(-0.5) / np.sqrt(2 * np.pi)) / noise_std**2  # of the density of the noise
    return curvature + jump * steepest, 0.0
