"""Rotations of space: uniform draws, small rotations, and nested grids of equal cells."""

from functools import lru_cache

import healpix
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip.methods.problem import PRNGKey

Rotations = Float[Array, "n 3 3"]  # R takes a point X of the molecule to R X; the beam runs along the third axis

CHILDREN = 8  # cells of the next order in a cell: 4 directions times 2 rotations in the plane


def uniform(key: PRNGKey, n: int) -> Rotations:
    """n rotations from the Haar measure of SO(3): normalised Gaussian quaternions [shoemake1992]."""
    return from_quaternion(jr.normal(key, (n, 4)))


def from_quaternion(q: Float[Array, "n 4"]) -> Rotations:
    """The rotation of the quaternion (w, x, y, z), of any length but zero."""
    w, x, y, z = (q / jnp.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, axis=1) for row in rows], axis=1)


def turned(rotation: Rotations, turn: Float[Array, "n 3"]) -> Rotations:
    """exp([turn]) R, Rodrigues' formula: a rotation after R, `turn` its axis times its angle in radians."""

    def exponential(w: Float[Array, "3"]) -> Float[Array, "3 3"]:
        square = (w**2).sum()
        safe = jnp.where(square > 1e-12, square, 1.0)
        angle = jnp.sqrt(safe)
        # series where the angle vanishes, so that derivatives stay finite
        a = jnp.where(square > 1e-12, jnp.sin(angle) / angle, 1 - square / 6)
        b = jnp.where(square > 1e-12, (1 - jnp.cos(angle)) / safe, 0.5 - square / 24)
        cross = jnp.cross(jnp.eye(3, dtype=w.dtype), w)
        return jnp.eye(3, dtype=w.dtype) + a * cross + b * cross @ cross

    return jnp.einsum("nij,njk->nik", jax.vmap(exponential)(turn), rotation, precision="highest")


@lru_cache(maxsize=8)
def grid(order: int) -> np.ndarray:
    """The centres of 72 * 8^order equal cells of SO(3), (cells, 3, 3): HEALPix directions [gorski2005] by angles.

    Directions and rotations in the plane are 60 / 2^order degrees apart, the grids of RELION's orders. Cells are
    nested: rows 8 i ... 8 i + 7 of order + 1 fill the cell of row i.
    """
    pixels, turns = (a.ravel() for a in np.meshgrid(np.arange(12), np.arange(6), indexing="ij"))
    for _ in range(order):
        child = np.arange(CHILDREN)
        pixels = (4 * pixels[:, None] + child // 2).ravel()
        turns = (2 * turns[:, None] + child % 2).ravel()
    base = _directions(0, pixels // 4**order)
    psi = (turns + 0.5) * 2 * np.pi / (6 * 2**order)
    beam = np.array([[0.0, 0.0, 1.0]])
    # The direction goes to that of its base pixel first: in the plane, Euler angles would tear cells apart at poles.
    return _about_beam(psi) @ _shortest(base, beam) @ _shortest(_directions(order, pixels), base)


def _directions(order: int, pixels: np.ndarray) -> np.ndarray:
    return np.stack(healpix.pix2vec(2**order, pixels, nest=True), axis=1)


def _about_beam(angle: np.ndarray) -> np.ndarray:
    c, s, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([c, -s, zero, s, c, zero, zero, zero, one], axis=1).reshape(-1, 3, 3)


def _shortest(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotations that take unit vectors (n, 3) to others, which are not their opposites."""
    cross = np.cross(np.eye(3), np.cross(start, end)[:, None])
    cosine = (start * end).sum(1)[:, None, None]
    return np.eye(3) + cross + cross @ cross / (1 + cosine)
