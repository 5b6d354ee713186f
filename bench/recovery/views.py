"""Observed and simulated images side by side: averages of like directions, and their power at each frequency."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2
from scipy.ndimage import map_coordinates

from cryosip.datasets.imaging import Imaging, poses_of
from cryosip.datasets.stack_images import Optics, StackPose, as_pixels, of_pixels, shells, transferred
from cryosip.methods.problem import Images

VIEWS, OF_VIEW = 6, 100  # directions, and images of each at most

Rows = Int[np.ndarray, " n"]


def power(optics: Optics, images: Images) -> Float[np.ndarray, " f"]:
    """The mean square of the coefficients at each frequency but the constant; that of noise is 1."""
    member = shells(optics.kept).ravel()
    squares = np.asarray((of_pixels(optics, images) ** 2).mean(0), float).ravel()
    return (np.bincount(member, squares) / np.bincount(member))[1:]


def like_directions(imaging: Imaging, rows: Rows) -> list[Rows]:
    """Places in `rows` of images that are seen from nearly the same direction, for some directions."""
    rotation = imaging.particles.rotation
    assert rotation is not None
    direction = rotation[rows, 2]
    n = min(VIEWS, len(rows))
    centres, _ = kmeans2(direction, n, minit="++", rng=0)
    each = max(1, min(OF_VIEW, len(rows) // (2 * n)))
    return [np.argsort(-direction @ centre)[:each] for centre in centres]


def averages(imaging: Imaging, images: Images, rows: Rows, groups: list[Rows]) -> Float[np.ndarray, "v k k"]:
    """The mean of the images of each group, multiplied by their CTF, shifted to the middle and turned in the plane as
    the first of the group.
    """
    optics, found = imaging.optics, []
    for group in groups:
        pose = poses_of(imaging.particles, rows[group])
        seen = images[jnp.asarray(group)]
        if pose.ctf is not None:
            seen = as_pixels(optics, transferred(optics, of_pixels(optics, seen), pose.ctf))
        squares = np.asarray(seen).reshape(-1, optics.kept, optics.kept)
        found.append(aligned(optics, squares, jax.tree.map(np.asarray, pose)).mean(0))
    return np.stack(found)


def aligned(optics: Optics, images: Float[np.ndarray, "n k k"], pose: StackPose) -> Float[np.ndarray, "n k k"]:
    """In the middle, and turned as the first; (x, y) of an image turned by phi is at the rotation by phi of (x, y)."""
    turn = np.asarray(pose.rotation) @ np.asarray(pose.rotation)[0].T
    phi = np.arctan2(turn[:, 1, 0] - turn[:, 0, 1], turn[:, 0, 0] + turn[:, 1, 1])
    middle, pixel = optics.kept // 2, optics.size * optics.pixel / optics.kept
    y, x = np.mgrid[: optics.kept, : optics.kept] - middle
    out = []
    for image, angle, (right, up) in zip(images, phi, np.asarray(pose.shift) / pixel, strict=True):
        c, s = np.cos(angle), np.sin(angle)
        places = np.stack([s * x + c * y + up, c * x - s * y + right]) + middle
        out.append(map_coordinates(image, places, order=1, mode="nearest"))
    return np.stack(out)
