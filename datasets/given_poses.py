"""Images whose poses are given, exactly or with an error: how errors are drawn, and what is likely of a structure."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.spatial.transform import Rotation

from cryosip.datasets.projection import REACH, fourier_basis, on_pixels, separable
from cryosip.datasets.protein_images import Camera
from cryosip.datasets.rotations import Rotations, turned
from cryosip.methods.problem import Images, Points, PRNGKey, Weights

MOST_RINGS = 20  # of a quadrature: 51 661 rotations
IMAGES_BINNED_AT_A_TIME = 256
PLACES = 1_000  # of a table of angles


class Turns(NamedTuple):
    """Nodes of an integral over rotations near the identity, and their weights, which sum to one."""

    rotation: Float[np.ndarray, "q 3 3"]
    weights: Float[np.ndarray, " q"]


class Binned(NamedTuple):
    """Observations on pixels as coarse as the atoms allow, of which the middle ones, where the molecule is, are kept.

    `pixel` is theirs, in angstroms; images on them are `height` times as high, so that their squares sum to the same.
    """

    images: Float[Array, "m w w"]
    pixel: float
    height: float


@partial(jax.jit, static_argnums=0)
def with_error(largest: float, key: PRNGKey, rotation: Rotations) -> Rotations:
    """Each rotation, and then another by no more than the largest angle, in radians, uniform among these.

    The axis is uniform on the sphere, and the angle has the density 1 - cos, that of the Haar measure.
    """
    n = len(rotation)
    key_axis, key_angle = jr.split(key)
    angle = np.linspace(0, largest, PLACES)
    below = angle - np.sin(angle)
    axis = jr.normal(key_axis, (n, 3))
    drawn = jnp.interp(jr.uniform(key_angle, (n,)), jnp.asarray(below / below[-1]), jnp.asarray(angle))
    return turned(rotation, drawn[:, None] * axis / jnp.linalg.norm(axis, axis=1, keepdims=True))


def turns_within(largest: float, spacing: float) -> Turns:
    """A quadrature of the rotations by no more than an angle, both in radians, at least as dense as the spacing.

    A rotation is one of the beam by t, about an axis in the plane, and then one in the plane by psi. Its angle a has
    cos(a / 2) = cos(|t| / 2) cos(psi / 2), and the Haar measure is sin|t| d|t| dpsi. The t are on rings around 0, ring
    j with 6 j of them, and for each there are equal steps of psi, as far as a <= largest.

    Raises ValueError where that are more than 20 rings.
    """
    rings = max(1, int(np.ceil(largest / spacing - 0.5)))
    if rings > MOST_RINGS:
        wanted = np.rad2deg(largest / (MOST_RINGS + 0.5))
        raise ValueError(f"pose_spacing_in_degrees is {np.rad2deg(spacing):g}; wanted {wanted:.3g} or more")
    width = largest / (rings + 0.5)
    j = np.repeat(np.arange(rings + 1), [1, *6 * np.arange(1, rings + 1)])
    place = np.concatenate([[0.0], *(np.arange(6 * i) / (6 * i) for i in range(1, rings + 1))])
    area = np.where(j == 0, 2 * np.sin(width / 4) ** 2, np.sin(j * width) * width / np.maximum(6 * j, 1))
    farthest = 2 * np.arccos(np.minimum(1, np.cos(largest / 2) / np.cos(j * width / 2)))
    psi = farthest[:, None] * (2 * (np.arange(2 * rings + 1) + 0.5) / (2 * rings + 1) - 1)
    direction = 2 * np.pi * place
    tilt = (j * width)[:, None] * np.stack([np.cos(direction), np.sin(direction), np.zeros(len(j))], axis=1)
    tilted = Rotation.from_rotvec(np.repeat(tilt, psi.shape[1], axis=0))
    rotation = Rotation.from_rotvec(psi.reshape(-1, 1) * [0.0, 0.0, 1.0]) * tilted
    weights = np.repeat(area * farthest, psi.shape[1])
    return Turns(rotation.as_matrix(), weights / weights.sum())


NO_TURN = Turns(np.eye(3)[None], np.ones(1))


def small_turns(largest: float) -> Turns:
    """Six rotations, by sqrt(3 / 5) of the angle about each axis and back: exact for what is cubic in the rotation.

    The second moments are those of rotations uniform in a ball of that radius, in radians, which is small: where images
    change little within it, a denser quadrature tells no more.
    """
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    return Turns(Rotation.from_rotvec(np.sqrt(0.6) * largest * axes).as_matrix(), np.full(6, 1 / 6))


def binned(camera: Camera, observations: Images, largest_radius: float) -> Binned:
    """Images on an odd number of pixels no larger than an atom's std, by their lowest Fourier coefficients.

    White noise stays white. The image of an atom loses less than e^-9.8 of its square, exp(-(pi s / pixel)^2). Where
    the pixels of the camera are as large already, they stay.

    Parameters
    ----------
    camera
        Of the observations.
    observations
        (m, size^2).
    largest_radius
        Of the molecule around the middle of the image, in angstroms.

    Returns
    -------
    Binned
        Pixel w // 2 is at the origin.
    """
    size = camera.size
    half = int(np.ceil(size * camera.pixel / camera.atom_std)) // 2
    coarse = 2 * half + 1 if 2 * half + 1 < size else size  # odd, so that its Fourier basis is whole
    rows = fourier_basis(coarse, half).T @ fourier_basis(size, half) if coarse < size else np.eye(size)
    pixel = size * camera.pixel / coarse
    window = min(coarse, 2 * int(np.ceil((largest_radius + REACH * camera.atom_std) / pixel)) + 1)
    start = coarse // 2 - window // 2
    pixels = jnp.asarray(rows[start : start + window], observations.dtype)

    def middle(y: Images) -> Float[Array, "b w w"]:
        across = jnp.matmul(y.reshape(-1, size, size), pixels.T, precision="highest")
        return jnp.matmul(pixels, across, precision="highest")

    starts = range(0, len(observations), IMAGES_BINNED_AT_A_TIME)
    parts = [middle(observations[i : i + IMAGES_BINNED_AT_A_TIME]) for i in starts]
    return Binned(jnp.concatenate(parts), pixel, pixel / camera.pixel)


def log_likelihood(
    camera: Camera, atoms: Float[np.ndarray, " a"], scale: np.ndarray, noise_std: float, seen: Binned,
    given: Rotations, turns: Turns, shape: Callable[[Points], Float[Array, "n a 3"]],
) -> Callable[[Points, Int[Array, " n"]], Weights]:  # fmt: skip
    """log sum_q w_q exp(-|y_i - c x(theta, T_q R_i)|^2 / (2 sigma^2)) of pairs (theta, i), up to a constant of y_i.

    The pose R_i that is given of image i is off by a rotation of which the T_q are the nodes. |y - x|^2 = |y|^2 - 2 <y,
    x> + |x|^2, of which the first is a constant; it is computed on the pixels of `seen`.

    Parameters
    ----------
    camera, atoms, scale, noise_std
        How images are made: pixels, weights of the atoms, the factor c (1,), the std of the noise.
    seen
        The observations.
    given
        R_i (m, 3, 3).
    turns
        T_q and w_q.
    shape
        Takes theta (n, d) to atoms (n, a, 3), in angstroms.

    Returns
    -------
    Callable
        Takes theta (n, d) and image (n,) to (n,), pair after pair.
    """
    profile = on_pixels(seen.images.shape[1], seen.pixel, camera.atom_std)
    heights = seen.height * scale * atoms

    def of_pair(pair: tuple[Float[Array, " d"], Int[Array, ""]]) -> Float[Array, ""]:
        theta, image = pair
        nodes, weights, y = (jnp.asarray(a, theta.dtype) for a in (*turns, seen.images[image]))
        rotation = jnp.einsum("qij,jk->qik", nodes[:, :2], given[image].astype(theta.dtype), precision="highest")
        centers = jnp.einsum("qij,aj->qai", rotation, shape(theta[None])[0], precision="highest")
        clean = separable(profile, heights, centers)
        gain = jnp.einsum("qij,ij->q", clean, y, precision="highest") - 0.5 * (clean**2).sum((1, 2))
        return jax.nn.logsumexp(gain / noise_std**2, b=weights)

    return jax.jit(lambda theta, image: jax.lax.map(of_pair, (theta, image)), inline=True)
