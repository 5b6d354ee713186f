"""Images of Gaussian atoms: separable sums, their hand-written adjoint, the contrast transfer function.

An image is P_y P_x^T with one column of P_x and of P_y for each atom: its profile along each axis. Profiles are
Gaussians on pixels, or the lowest Fourier coefficients of these, in which white noise stays white and a CTF is a
factor.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Line = Float[Array, " a"]
Columns = Float[Array, "c ag"]
Centers = Float[Array, "n a 2"]
Squares = Float[Array, "n c c"]

CACHED = 2**18  # atoms times pixels of a profile, of as many images at a time: they stay in the cache of a core
REACH = 5.5  # an atom so many stds outside of the window adds less than rounding
SPHERICAL_ABERRATION = 2.7e7  # angstroms
AMPLITUDE_CONTRAST = 0.1
WINDOWS = (4, 6, 8)  # eighths of the image that are rendered, the smallest that holds all atoms


class Profile(NamedTuple):
    """Atoms at x (a,), in angstroms, along an axis: `size` c, values (c, a g), d values / dx given x and the values.

    An atom is a sum of g Gaussians of these `heights`, one by default; its g columns follow each other.
    """

    size: int
    values: Callable[[Line], Columns]
    slopes: Callable[[Line, Any], Columns]
    heights: tuple[float, ...] = (1.0,)


def pixel_centers(size: int, pixel_size: float) -> np.ndarray:
    """Where pixels are, in angstroms: the origin is at pixel size // 2, as in RELION and cryoJAX."""
    return pixel_size * (np.arange(size) - size // 2)


def on_pixels(size: int, pixel_size: float, std: float) -> Profile:
    """exp(-(x_j - x)^2 / (2 std^2)) at the centres of the pixels."""
    grid = pixel_centers(size, pixel_size)[:, None]

    def values(x: Line) -> Columns:
        return jnp.exp(-0.5 * ((jnp.asarray(grid, x.dtype) - x) / std) ** 2)

    def slopes(x: Line, values: Columns) -> Columns:
        return values * (jnp.asarray(grid, x.dtype) - x) / std**2

    return Profile(size, values, slopes)


def means_over_pixels(
    size: int, pixel_size: float, stds: Float[np.ndarray, " g"], heights: Float[np.ndarray, " g"]
) -> Profile:
    """The mean over each pixel of a normal density, for each of the stds: (erf(r_+) - erf(r_-)) / (2 h).

    r_+- = (x_j - x +- h / 2) / (sqrt(2) std), for pixels of width h at x_j.
    """
    edges = pixel_size * (np.arange(size + 1) - size // 2 - 0.5)[:, None]

    def reduced(x: Line) -> Columns:
        """From the atom to the edges of the pixels, in units of sqrt(2) std, (c + 1, a g)."""
        away = jnp.asarray(edges, x.dtype) - jnp.repeat(x, len(stds))
        return away * jnp.asarray(np.tile(np.sqrt(0.5) / stds, len(x)), x.dtype)

    def values(x: Line) -> Columns:
        return jnp.diff(jax.scipy.special.erf(reduced(x)), axis=0) / (2 * pixel_size)

    def slopes(x: Line, _values: Any) -> Columns:
        scale = jnp.asarray(np.tile(-np.sqrt(0.5 / np.pi) / (stds * pixel_size), len(x)), x.dtype)
        return scale * jnp.diff(jnp.exp(-(reduced(x) ** 2)), axis=0)

    return Profile(size, values, slopes, tuple(heights))


def on_frequencies(size: int, pixel_size: float, std: float, n_frequencies: int) -> Profile:
    """The product of `fourier_basis(size, n_frequencies)` with the profile on pixels, in closed form.

    Images are then periodic: an atom that leaves on one side comes in on the other.

    Parameters
    ----------
    size
        Pixels of the axis.
    pixel_size, std
        Of a pixel and of an atom, in angstroms.
    n_frequencies
        How many frequencies besides the constant.

    Returns
    -------
    Profile
        Of 1 + 2 n_frequencies values: the constant, the cosines, the sines.
    """
    k = 2 * np.pi * np.arange(1, n_frequencies + 1)[:, None] / (size * pixel_size)
    # the transform of a Gaussian, for a constant, cosines and sines of unit norm on the grid
    constant = std * np.sqrt(2 * np.pi / size) / pixel_size
    height = np.sqrt(2) * constant * np.exp(-0.5 * (k * std) ** 2)

    def values(x: Line) -> Columns:
        cosines, sines = _multiples(x * float(k[0, 0]), n_frequencies)
        heights = jnp.asarray(height, x.dtype)
        return jnp.concatenate([jnp.full((1, len(x)), constant, x.dtype), heights * cosines, heights * sines])

    def slopes(x: Line, values: Columns) -> Columns:
        cosines, sines = values[1 : n_frequencies + 1], values[n_frequencies + 1 :]
        wave = jnp.asarray(k, x.dtype)
        return jnp.concatenate([jnp.zeros((1, len(x)), x.dtype), -wave * sines, wave * cosines])

    return Profile(1 + 2 * n_frequencies, values, slopes)


def means_on_frequencies(
    size: int, pixel_size: float, stds: Float[np.ndarray, " g"], heights: Float[np.ndarray, " g"], n_frequencies: int
) -> Profile:
    """The product of `fourier_basis(size, n_frequencies)` with `means_over_pixels`, aliasing and all.

    Atoms are narrow: means are taken over the few pixels around each, whose coefficients are turned by its phase.
    Images are periodic, as those of `on_frequencies`.
    """
    around = _pixels_around(pixel_size, stds)
    local = means_over_pixels(2 * around + 1, pixel_size, stds, heights)
    wave = 2 * np.pi / size
    turns = wave * np.outer(np.arange(1, n_frequencies + 1), np.arange(-around, around + 1))
    constant, height = np.full((1, 2 * around + 1), 1 / np.sqrt(size)), np.sqrt(2 / size)

    def coefficients(x: Line, near: Callable[[Line], Columns]) -> Columns:
        """Of what is `near` the pixel that holds each atom."""
        pixel = jnp.round(x / pixel_size)
        means = near(x - pixel_size * pixel)
        by_cosine, by_sine = (jnp.asarray(height * f(turns), x.dtype) @ means for f in (np.cos, np.sin))
        cosines, sines = (jnp.repeat(part, len(stds), axis=1) for part in _multiples(wave * pixel, n_frequencies))
        return jnp.concatenate(
            [jnp.asarray(constant, x.dtype) @ means, by_cosine * cosines - by_sine * sines,
             by_cosine * sines + by_sine * cosines]
        )  # fmt: skip

    def values(x: Line) -> Columns:
        return coefficients(x, local.values)

    def slopes(x: Line, _values: Any) -> Columns:
        return coefficients(x, lambda away: local.slopes(away, None))

    return Profile(1 + 2 * n_frequencies, values, slopes, local.heights)


def _multiples(angle: Line, n: int) -> tuple[Columns, Columns]:
    """cos(j angle), sin(j angle) for j = 1 ... n by doubling: products are cheaper than cosines."""
    cosines, sines = jnp.cos(angle)[None], jnp.sin(angle)[None]
    while len(cosines) < n:
        c, s = cosines[-1], sines[-1]
        cosines, sines = (
            jnp.concatenate([cosines, c * cosines - s * sines]),
            jnp.concatenate([sines, s * cosines + c * sines]),
        )
    return cosines[:n], sines[:n]


def fourier_basis(size: int, n_frequencies: int) -> np.ndarray:
    """Orthonormal rows (1 + 2 n_frequencies, size): the constant, cosines, sines of the lowest frequencies."""
    angles = 2 * np.pi * np.outer(np.arange(1, n_frequencies + 1), np.arange(size) - size // 2) / size
    constant = np.full((1, size), 1 / np.sqrt(size))
    return np.concatenate([constant, np.sqrt(2 / size) * np.cos(angles), np.sqrt(2 / size) * np.sin(angles)])


def project(size: int, pixel_size: float, std: float, weights: Float[np.ndarray, " a"], centers: Centers) -> Squares:
    """sum_a weights_a exp(-|g - c_a|^2 / (2 std^2)) at the pixels g.

    Only a window in the middle that holds all atoms of all images is computed; the rest of the image is zero to
    rounding.

    Parameters
    ----------
    size
        Pixels of a side.
    pixel_size, std
        Of a pixel's side and of an atom, in angstroms.
    weights
        Heights of the atoms (a,).
    centers
        c_a = (x, y) in angstroms, (n, a, 2); the origin is at pixel size // 2.

    Returns
    -------
    Squares
        Images (n, size, size), rows along y, columns along x.
    """
    windows = sorted({min(size, 2 * -(-eighths * size // 16)) for eighths in WINDOWS})

    def windowed(window: int, centers: Centers) -> Squares:
        start = size // 2 - window // 2
        border = (start, size - window - start)
        images = separable(on_pixels(window, pixel_size, std), weights, centers)
        return jnp.pad(images, ((0, 0), border, border))

    reach = jnp.abs(jax.lax.stop_gradient(centers)).max() + REACH * std
    halves = jnp.asarray([(window // 2 - 1) * pixel_size for window in windows[:-1]], reach.dtype)
    return jax.lax.switch((reach > halves).sum(), [partial(windowed, window) for window in windows], centers)


def splatted(
    size: int,
    pixel_size: float,
    stds: Float[np.ndarray, " g"],
    integrals: Float[np.ndarray, " g"],
    weights: Float[np.ndarray, " a"],
    centers: Centers,
) -> Squares:
    """sum_a weights_a sum_j integral_j N(c_a, std_j^2), averaged over each pixel, of atoms that are narrow.

    Each atom is added to the few pixels around it; the rest of its image is zero to rounding.

    Parameters
    ----------
    size, pixel_size, weights, centers
        As in `project`.
    stds, integrals
        Of the Gaussians of an atom (g,), in angstroms, and over the plane.

    Returns
    -------
    Squares
        As in `project`.
    """
    around = _pixels_around(pixel_size, stds)
    side, n, g = 2 * around + 1, len(weights), len(stds)
    local = means_over_pixels(side, pixel_size, stds, integrals)
    heights = np.outer(weights, local.heights).ravel()
    block = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2), inserted_window_dims=(), scatter_dims_to_operand_dims=(0, 1)
    )

    def image(center: Float[Array, "a 2"]) -> Float[Array, "c c"]:
        pixel = jnp.round(center / pixel_size)
        x, y = (center - pixel_size * pixel).T
        across = (local.values(x) * jnp.asarray(heights, center.dtype)).reshape(side, n, g)
        blocks = jnp.einsum("yag,xag->ayx", local.values(y).reshape(side, n, g), across)
        # a border takes the blocks that reach over the edge; those beyond are dropped
        first = pixel[:, ::-1].astype(jnp.int32) + (size // 2 - around + side)
        canvas = jnp.zeros((size + 2 * side,) * 2, center.dtype)
        mode = jax.lax.GatherScatterMode.FILL_OR_DROP
        return jax.lax.scatter_add(canvas, first, blocks, block, mode=mode)[side:-side, side:-side]

    return jax.lax.map(image, centers)


def _pixels_around(pixel_size: float, stds: Float[np.ndarray, " g"]) -> int:
    """How many pixels on each side of its own an atom reaches."""
    return int(np.ceil(REACH * stds.max() / pixel_size + 0.5))


def separable(profile: Profile, weights: Float[np.ndarray, " a"], centers: Centers) -> Squares:
    """sum_a weights_a P(y_a) P(x_a)^T for atoms at centers (x, y); its adjoint is written by hand."""

    n, g = len(weights), len(profile.heights)
    batch = max(1, min(len(centers), CACHED // (n * g * profile.size)))
    heights = np.outer(weights, profile.heights).ravel()

    def weighted(columns: Columns) -> Columns:
        return columns * jnp.asarray(heights, columns.dtype)

    def image(center: Float[Array, "a 2"]) -> Float[Array, "c c"]:
        return profile.values(center[:, 1]) @ weighted(profile.values(center[:, 0])).T

    def push(center: Float[Array, "a 2"], shift: Float[Array, "a 2"]) -> Float[Array, "c c"]:
        """How the image changes with the centers."""
        x, y = center.T
        across, down, by_x, by_y = profile.values(x), profile.values(y), *jnp.repeat(shift, g, axis=0).T
        along_x = weighted(profile.slopes(x, across) * by_x)
        along_y = profile.slopes(y, down) * by_y
        return down @ along_x.T + along_y @ weighted(across).T

    def pull(center: Float[Array, "a 2"], image: Float[Array, "c c"]) -> Float[Array, "a 2"]:
        """The adjoint of push: two products of the size of the one that makes the image."""
        x, y = center.T
        across, down = profile.values(x), profile.values(y)
        along_x = (profile.slopes(x, across) * (image.T @ down)).sum(0)
        along_y = (profile.slopes(y, down) * (image @ across)).sum(0)
        return weighted(jnp.stack([along_x, along_y])).T.reshape(n, g, 2).sum(1)

    def each(f: Callable[..., Array], *arguments: Array) -> Array:
        return jax.lax.map(lambda rows: f(*rows), arguments, batch_size=batch)

    @jax.custom_jvp
    def images(centers: Centers) -> Squares:
        return each(image, centers)

    def tangent(primals: tuple[Centers], tangents: tuple[Centers]) -> tuple[Squares, Squares]:
        (centers,), (shifts,) = primals, tangents
        pushed = jax.custom_derivatives.linear_call(partial(each, push), partial(each, pull), centers, shifts)
        return images(centers), pushed

    images.defjvp(tangent)
    return images(centers)


def contrast_transfer(
    frequency: Float[Array, "..."],
    defocus: Float[Array, "..."],
    voltage_in_kilovolts: float | Float[Array, "..."],
    spherical_aberration: Float[Array, "..."] | None = None,
    amplitude_contrast: Float[Array, "..."] | None = None,
    phase_shift: float | Float[Array, "..."] = 0.0,
) -> Float[Array, "..."]:
    """The CTF at spatial frequencies q in 1 / angstrom, all of them broadcast against each other [rohou2015].

    -sqrt(1 - A^2) sin(chi) - A cos(chi), chi = pi lambda q^2 (z - lambda^2 q^2 C_s / 2) + phi, for a defocus z and a
    spherical aberration C_s in angstroms, 2.7 mm by default, an amplitude contrast A, 0.1 by default, and a phase shift
    phi in radians.
    """
    aberration = SPHERICAL_ABERRATION if spherical_aberration is None else spherical_aberration
    amplitude = AMPLITUDE_CONTRAST if amplitude_contrast is None else amplitude_contrast
    volts = 1e3 * voltage_in_kilovolts
    wavelength = (
        12.2639 / (volts + 0.97845e-6 * volts**2) ** 0.5
    )  # angstroms, relativistic; the constants are cryoJAX's
    square = frequency**2
    chi = np.pi * wavelength * square * (defocus - 0.5 * wavelength**2 * square * aberration) + phase_shift
    return -((1 - amplitude**2) ** 0.5) * jnp.sin(chi) - amplitude * jnp.cos(chi)
