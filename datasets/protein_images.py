"""Images of beads in the plane, with and without a CTF, and the span of their lowest Fourier coefficients."""

import warnings
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets.projection import (
    contrast_transfer,
    fourier_basis,
    means_on_frequencies,
    on_frequencies,
    project,
    separable,
    splatted,
)
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.methods import checks
from cryosip.methods.problem import Coordinates, Images, Points, Span

VOLTAGE_IN_KILOVOLTS = 300.0


class Scattering(NamedTuple):
    """An atom's potential as a sum of Gaussians: their integrals over the plane, and their stds in angstroms."""

    integrals: Float[np.ndarray, " g"]
    stds: Float[np.ndarray, " g"]


class Camera(NamedTuple):
    """How atoms become an image: `size` pixels of `pixel` angstroms a side, atoms of std `atom_std` in angstroms.

    Atoms of a `scattering` potential have the widths of its Gaussians instead.
    """

    size: int
    pixel: float
    atom_std: float
    has_ctf: bool
    scattering: Scattering | None = None


class Beads(NamedTuple):
    """Atoms of each bead, and where beads are at theta: rest + sum_i theta_i motions_i, in angstroms."""

    atoms: Float[np.ndarray, " a"]
    rest: Float[Array, "a 3"]
    motions: Float[Array, "d a 3"]


def bead_centers(beads: Beads, theta: Points, pose: ProteinPose) -> Float[Array, "n a 2"]:
    """Where the beads are in the plane: only two rows of the rotation matter."""
    motions = beads.motions.astype(theta.dtype)
    shape = beads.rest.astype(theta.dtype) + jnp.tensordot(theta, motions, 1, precision="highest")
    seen = jnp.einsum("nij,naj->nai", pose.rotation[:, :2].astype(theta.dtype), shape, precision="highest")
    return seen + pose.shift[:, None].astype(theta.dtype)


def unscaled_images(camera: Camera, beads: Beads, theta: Points, pose: ProteinPose) -> Images:
    """Images with c = 1.

    Parameters
    ----------
    camera
        Pixels, width of the atoms, and whether there is a CTF.
    beads
        The molecule.
    theta, pose
        Coordinates (n, d) and pose of each image.

    Returns
    -------
    Images
        (n, size^2), row by row.
    """
    size = camera.size
    centers, potential = bead_centers(beads, theta, pose), camera.scattering
    if potential is None:
        squares = project(size, camera.pixel, camera.atom_std, beads.atoms, centers)
    else:
        squares = splatted(size, camera.pixel, potential.stds, potential.integrals, beads.atoms, centers)
    if camera.has_ctf:
        basis = jnp.asarray(fourier_basis(size, (size - 1) // 2), theta.dtype)
        transfer = _transfer(basis.shape[0], size * camera.pixel, pose.defocus.astype(theta.dtype))
        squares = basis.T @ (transfer * (basis @ squares @ basis.T)) @ basis
    return squares.reshape(len(theta), size**2)


def cropped_span(camera: Camera, beads: Beads, cropped_size: int) -> Span:
    """The lowest Fourier coefficients of images, as many as an image of that odd size has; the error is not known yet.

    `beads.atoms` are multiplied by the scale c of the images.
    """
    size, potential = camera.size, camera.scattering
    basis = fourier_basis(size, cropped_size // 2)
    if potential is None:
        profile = on_frequencies(size, camera.pixel, camera.atom_std, cropped_size // 2)
    else:
        profile = means_on_frequencies(size, camera.pixel, potential.stds, potential.integrals, cropped_size // 2)

    @partial(jax.jit, inline=True)
    def projected(y: Images) -> Coordinates:
        rows = jnp.asarray(basis, y.dtype)
        return jnp.matmul(rows @ y.reshape(-1, size, size), rows.T, precision="highest").reshape(len(y), -1)

    @partial(jax.jit, inline=True)
    def coordinates(theta: Points, pose: ProteinPose) -> Coordinates:
        squares = separable(profile, beads.atoms, bead_centers(beads, theta, pose))
        if camera.has_ctf:
            squares *= _transfer(squares.shape[1], size * camera.pixel, pose.defocus.astype(theta.dtype))
        return squares.reshape(len(theta), -1)

    return Span(projected, coordinates, np.inf)


def largest_distance(span: Span, drawn: tuple[Points, ProteinPose], images: Images) -> float:
    """How far from the span the images of the drawn structures and poses lie at most."""
    inside = span.coordinates(*drawn)
    squares = (images**2).sum(1) - 2 * (span.project(images) * inside).sum(1) + (inside**2).sum(1)
    return float(jnp.sqrt(jnp.maximum(squares, 0.0).max()))


def _transfer(n_coefficients: int, width: float, defocus: Float[Array, " n"]) -> Float[Array, "n c c"]:
    """The CTF as a factor of the coefficients of `fourier_basis`: cosine and sine of a frequency alike."""
    lowest = np.arange(1, n_coefficients // 2 + 1)
    k = np.concatenate([[0], lowest, lowest]) / width
    frequency = jnp.asarray(np.hypot(k[:, None], k), defocus.dtype)
    return contrast_transfer(frequency, defocus[:, None, None], VOLTAGE_IN_KILOVOLTS)


def checked_cropped(cropped_size: int | None, size: int) -> int | None:
    """The size, or None; ValueError for one that is even or larger than the image."""
    if cropped_size is None:
        return None
    if checks.positive_int("cropped_size", cropped_size) % 2 == 0 or not 3 <= cropped_size <= size:
        raise ValueError(f"cropped_size is {cropped_size}; wanted an odd number from 3 to image_size, {size}")
    return cropped_size


def warn_of_atoms_outside(camera: Camera, beads: Beads, theta: Points, pose: ProteinPose) -> None:
    """Of the observations' own structures: motions can be so large that images do not hold them."""
    centers = jnp.abs(jax.jit(partial(bead_centers, beads))(theta, pose)).max(-1)
    outside = np.asarray(centers > camera.size * camera.pixel / 2)
    if outside.any():
        warnings.warn(
            f"{outside.mean():.2%} of the atoms lie outside of their images of {camera.size} pixels of "
            f"{camera.pixel:g} angstroms, in {outside.any(1).mean():.1%} of the images",
            stacklevel=4,
        )


def warn_of_lost_signal(option: str, error: float) -> None:
    """Methods take what is outside of a span for noise alone; `option` is what made it so small."""
    if error > 1:
        warnings.warn(
            f"{option} leaves signal of up to {error:.3g} noise_std in an image outside, which "
            "methods take for noise: they find another distribution; wanted a larger one, or none",
            stacklevel=4,
        )
