"""The nanocluster of section 4.2: four atoms in a rectangle, seen from the top."""

import bisect
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.interpolate
from jaxtyping import Array, Float

from cryosip.datasets.gaussian_mixture import MultivariateMixture, covariance_factor, multivariate_mixture
from cryosip.datasets.instance import Instance, Truth, checked
from cryosip.datasets.outliers import contaminated
from cryosip.methods import checks
from cryosip.methods.problem import (
    Coordinates,
    Images,
    Points,
    Pose,
    PRNGKey,
    Problem,
    Span,
    Weights,
    no_pose,
    one_node,
)

HALF_WIDTH = 4.0  # images show [-4, 4) x [-4, 4)
NARROWEST = 0.1  # of an atom's tau, in pixels: narrower atoms lie between the pixels, and their table has no end
SPAN_ERROR = 0.3  # an image lies at most this share of noise_std outside the span


def nanocluster(
    n_observations: int = 1_000,
    noise_std: float = 1.5,
    image_size: int = 128,
    tau: float = 0.25,
    alpha: float = 0.2,
    means: Sequence[Sequence[float]] = ((3.0, 3.0), (5.0, 5.0)),
    covariances: Sequence[Sequence[Sequence[float]]] = (((0.5, 0.0), (0.0, 0.5)), ((0.7, 0.5), (0.5, 1.0))),
    init_mean: Sequence[float] = (4.0, 4.0),
    init_covariance: Sequence[Sequence[float]] = ((0.8, 0.3), (0.3, 0.8)),
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """The nanocluster of section 4.2: the width and the height of a rectangle of four atoms, from noisy images.

    I_ij = sum_k exp(-|g_ij - a_k|^2 / (2 tau^2)) with the pixels g_ij = (-4 + 8j/S, -4 + 8i/S) in row i and column j, S
    = `image_size`, and the atoms a_k = (+-theta_1, +-theta_2) / 2; y = I + omega, omega ~ N(0, noise_std^2 I)
    [sanchez2025]. theta and its reflections in the axes give the same image.

    The truth is theta ~ alpha N(means_1, covariances_1) + (1 - alpha) N(means_2, covariances_2). The image is an outer
    product of two profiles, so `span` has few dimensions, chosen such that no image of any theta lies further than 0.3
    of `noise_std` outside. The defaults are the paper's, which does not state tau.

    Parameters
    ----------
    n_observations
        Images; 1000 by default.
    noise_std
        Std of the noise in each pixel; 1.5 by default, an atom being 1 high.
    image_size
        S, pixels of a side; 128 by default.
    tau
        Std of an atom, in the unit of the image, 8 wide; 0.25 by default, four of the default pixels.
    alpha
        Share of the first Gaussian, strictly between 0 and 1; 0.2 by default.
    means
        Two points (width, height), in the unit of the image.
    covariances
        Two symmetric positive definite matrices (2, 2).
    init_mean, init_covariance
        Of the initial distribution, which is a Gaussian, and rho_p too.
    outliers, outlier_kind
        A share of the images that is contaminated, 0 by default, and how, as `contaminated` says: "wide", the default,
        "noise" or "neighbour".
    seed
        Of theta* and noise; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, S^2), row by row, rows along y (theta_2) and columns along x (theta_1); theta
        (n, 2).

    Raises
    ------
    ValueError
        A count is below 1, tau or the noise is not positive, tau is below a tenth of a pixel, alpha is outside (0, 1),
        `means` are not two points, a covariance is none, or the share of outliers is outside [0, 1). It
        warns where tau is below the size of a pixel, and where a mean lies outside of the image.
    """
    n = checks.positive_int("n_observations", n_observations)
    noise_std = checks.positive("noise_std", noise_std)
    size = checks.positive_int("image_size (of square images)", image_size)
    tau = checks.positive("tau", tau)
    checks.non_negative_int("seed", seed)
    distribution = _checked_truth(alpha, means, covariances)
    center, factor = _checked_start(init_mean, init_covariance)
    _check_pixels(tau, size)
    if (np.abs(distribution.means) > _farthest(tau)).any():
        message = f"means are {distribution.means.tolist()}: beyond {_farthest(tau):g} no atom is in the image"
        warnings.warn(message, stacklevel=2)

    def sample_init(key: PRNGKey, n: int) -> Points:
        return jnp.asarray(center) + jr.normal(key, (n, 2)) @ jnp.asarray(factor.T)

    def log_prior(theta: Points) -> Weights:
        whitened = jnp.asarray(np.linalg.inv(factor)) @ (theta - jnp.asarray(center)).T
        return -0.5 * (whitened**2).sum(0)

    render = partial(images, size, tau)
    key_theta, key_noise = jr.split(jr.key(seed))
    theta = distribution.sample(key_theta, n)

    @jax.jit
    def observe(theta: Points, key: PRNGKey) -> Images:
        noise = jr.normal(key, (n, size, size)).swapaxes(1, 2)  # drawn by columns, as it was when images were stored so
        return render(theta, ()) + noise_std * noise.reshape(n, size**2)

    observations = contaminated(
        observe(theta, key_noise), outliers, outlier_kind, seed,
        lambda rows: render(theta[rows], ()), lambda key, k: render(distribution.sample(key, k), ()),
    )  # fmt: skip
    problem = Problem(
        name="nanocluster",
        observations=observations,
        noise_std=float(noise_std),
        render=render,
        sample_pose=no_pose,
        pose_quadrature=one_node,
        sample_init=sample_init,
        log_prior=log_prior,
        theta_box=(jnp.zeros(2), jnp.full(2, _farthest(tau))),
        span=_span(size, tau, SPAN_ERROR * noise_std),
    )
    return checked(Instance(problem, Truth(distribution.sample, theta)))


def images(size: int, tau: float, theta: Points, _pose: Pose) -> Images:
    """Images without noise, (n, size^2): rows along y, columns along x.

    Parameters
    ----------
    size, tau
        Pixels of a side, and the std of an atom in the unit of the image.
    theta
        Widths, along x, and heights, along y, (n, 2).
    _pose
        There is none.

    Returns
    -------
    Images
        Row by row.
    """
    across, down = (profile(theta[:, axis], size, tau) for axis in (0, 1))
    return (down[:, :, None] * across[:, None, :]).reshape(len(theta), size**2)


def profile(t: Weights, size: int, tau: float) -> Float[Array, "n size"]:
    """Two Gaussians at +-t / 2 on the pixels of one axis; the image is the outer product of two profiles."""
    half, x = t[:, None] / 2, jnp.asarray(_pixels(size), t.dtype)
    return jnp.exp(-0.5 * ((x - half) / tau) ** 2) + jnp.exp(-0.5 * ((x + half) / tau) ** 2)


def _checked_truth(
    alpha: float, means: Sequence[Sequence[float]], covariances: Sequence[Sequence[Sequence[float]]]
) -> MultivariateMixture:
    if not 0 < checks.positive("alpha", alpha) < 1:
        raise ValueError(f"alpha is {alpha!r}; wanted a number strictly between 0 and 1")
    _check_shape("means", means, (2, 2))
    return multivariate_mixture(means, covariances, (alpha, 1 - alpha))


def _checked_start(
    mean: Sequence[float], covariance: Sequence[Sequence[float]]
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2 2"]]:
    """The mean of the initial distribution, and the Cholesky factor of its covariance."""
    _check_shape("init_mean", mean, (2,))
    center = checks.finite_matrix("init_mean", checks.numbers("init_mean", mean, 1)[None])[0]
    return center, covariance_factor("init_covariance", covariance, 2)


def _check_shape(name: str, points: Sequence[Any], shape: tuple[int, ...]) -> None:
    found = checks.numbers(name, points, len(shape)).shape
    if found != shape:
        raise ValueError(f"{name} has shape {found}; wanted {shape}: theta is a width and a height")


def _check_pixels(tau: float, size: int) -> None:
    """ValueError where atoms lie between the pixels, a warning where they are narrower than one."""
    pixel = 2 * HALF_WIDTH / size
    if tau < NARROWEST * pixel:
        raise ValueError(f"tau is {tau:g}; wanted at least {NARROWEST:g} of a pixel, {pixel:g}")
    if tau < pixel:
        warnings.warn(f"tau is {tau:g}, below the size of a pixel, {pixel:g}: images are aliased", stacklevel=3)


def _pixels(size: int) -> np.ndarray:
    return -HALF_WIDTH + 2 * HALF_WIDTH * np.arange(size) / size


def _farthest(tau: float) -> float:
    """The width at which the atoms are two tau outside the image."""
    return 2 * (HALF_WIDTH + 2 * tau)


class _Products(NamedTuple):
    """Principal functions of one axis and which of their products, (first[r], second[r]), hold every image.

    `axis` (size, r1) has orthonormal columns; `cubics` (cells, 4, r1) are the coordinates axis^T profile(t) as cubics
    of t / step - cell, for t up to where no atom is in the image any more; `error` is the largest distance of an image.
    """

    axis: np.ndarray
    cubics: np.ndarray
    step: float
    first: np.ndarray
    second: np.ndarray
    error: float


def _products(size: int, tau: float, wanted_error: float) -> _Products:
    """As few products as leave no image further than the wanted error outside of their span."""
    step = tau / 10  # cubics then err by less than 1e-6 of an atom
    t = step * np.arange(1 + np.ceil(2 * (HALF_WIDTH + 9 * tau) / step))
    x = _pixels(size)
    profiles = sum(np.exp(-0.5 * ((x + side * t[:, None] / 2) / tau) ** 2) for side in (-1, 1))
    # where the two Gaussians of a profile meet, it has twice the square norm, and images would otherwise err most
    weight = 1 + np.exp(-((t / tau) ** 2) / 4)
    axis = np.linalg.svd(weight[:, None] * profiles, full_matrices=False)[2].T
    values = profiles @ axis
    largest = np.abs(values).max(0)
    order = np.argsort(-np.outer(largest, largest), axis=None, kind="stable")
    first, second = np.unravel_index(order, (len(largest), len(largest)))

    def error(count: int) -> float:
        """The largest distance of an image from the span of so many products."""
        left_out = np.ones((len(largest), len(largest)))
        left_out[first[:count], second[:count]] = 0
        return float(np.sqrt((values**2 @ left_out @ (values**2).T).max()))

    count = 1 + bisect.bisect_left(range(1, len(first)), True, key=lambda count: error(count) <= wanted_error)
    first, second = first[:count], second[:count]
    used = 1 + max(first.max(), second.max())
    spline = scipy.interpolate.CubicSpline(t / step, values[:, :used], bc_type="clamped")
    return _Products(axis[:, :used], spline.c[::-1].swapaxes(0, 1), step, first, second, error(count))


def _span(size: int, tau: float, wanted_error: float) -> Span:
    axis, cubics, step, first, second, error = _products(size, tau, wanted_error)
    # a matrix of zeros and ones takes columns faster than indices do, forth and back
    pick_first, pick_second = (np.eye(axis.shape[1])[:, chosen] for chosen in (first, second))

    def matmul(a: Array, b: np.ndarray) -> Array:
        return jnp.matmul(a, jnp.asarray(b, a.dtype), precision="highest")

    def on_axis(t: Weights) -> Float[Array, "n r1"]:
        """axis^T profile(t) from the cubics of the table; beyond its end no atom is in the image, and it is zero."""
        place = jnp.minimum(jnp.abs(t) / step, len(cubics))
        cell = jnp.clip(place.astype(jnp.int32), 0, len(cubics) - 1)
        u = place - cell
        powers = jnp.stack([jnp.ones_like(u), u, u**2, u**3], axis=1)
        return jnp.einsum("nc,nck->nk", powers, jnp.asarray(cubics, t.dtype)[cell], precision="highest")

    def coordinates(theta: Points, _pose: Pose) -> Coordinates:
        return matmul(on_axis(theta[:, 0]), pick_first) * matmul(on_axis(theta[:, 1]), pick_second)

    def project(y: Images) -> Coordinates:
        along_x = matmul(jnp.asarray(y).reshape(len(y), size, size), axis)
        both = jnp.einsum("nik,il->nlk", along_x, jnp.asarray(axis, along_x.dtype), precision="highest")
        return both[:, second, first]  # rows along y

    return Span(jax.jit(project), coordinates, error)
