"""Maps of classes of images whose poses and CTF are known, by direct Fourier inversion.

RELION's conventions throughout: maps by z, y and x, with the origin at voxel s // 2; a map's projection is a sum over
its voxels.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.fft
from jaxtyping import Complex, Float, Int

from cryosip.datasets.imaging import Imaging
from cryosip.datasets.particle_stacks import Particles, read_images
from cryosip.datasets.particle_tables import Ctf
from cryosip.datasets.stack_images import ctf_at

PIXELS = 2**20  # of the images that are read at a time
BYTES = 2**31  # of the sums of the classes that are reconstructed at a time, one class at least
LEAST = 1e-3  # of the mean weight of its shell, below which a weight does not amplify noise further
EDGE = 4  # voxels over which the mask falls off
PADDING = 2


class Waves(NamedTuple):
    """Those of images with k_x >= 0 and 0 < |k| < s / 2, each and not its conjugate, in cycles per image."""

    x: Int[np.ndarray, " p"]
    y: Int[np.ndarray, " p"]


class Sums(NamedTuple):
    """sum_i r_i CTF_i Y_i / sigma^2, real and imaginary, and sum_i r_i CTF_i^2 / sigma^2 of one class.

    They are on the half x >= 0 of a padded grid by z, y and x, in one row.
    """

    real: Float[np.ndarray, " g"]
    imaginary: Float[np.ndarray, " g"]
    weight: Float[np.ndarray, " g"]


def class_maps(
    imaging: Imaging, rows: Int[np.ndarray, " n"], shares: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, "k s s s"]:
    """The regularised least-squares map of each class, up to the highest frequency of the images.

    With r_ic the share, sigma(q) the std of the noise and P_i the slice of the rotation R_i,

        V_c = W(q) sum_i r_ic P_i^T CTF_i Y_i / sigma^2 / (sum_i r_ic P_i^T CTF_i^2 / sigma^2 + lambda(q)).

    P_i^T inserts waves into a grid of twice the resolution, trilinearly, which the inverse transform corrects; lambda
    is 1e-3 of the mean of the weights of a shell, for the waves that no image shows. W = 2 FSC / (1 + FSC) is the
    Wiener filter of the signal that every other image has in common with the rest [rosenthal2003]: 1 where maps of both
    halves agree, 0 where they do not. Maps are 0 outside of a sphere that holds the molecule wherever it moves, and the
    constant, which images do not tell, is such that their mean around it is 0.

    Parameters
    ----------
    imaging
        Of the stack, whose images have an even number of pixels a side.
    rows
        Images, of which each other is in the same half.
    shares
        Of the classes, probabilities that an image belongs to each.

    Returns
    -------
    Float[np.ndarray, "k s s s"]
        By z, y and x, in float32: the molecule's density is positive, in units of the stack, whose images are sums over
        voxels. 0 for a class of less than two images.

    Raises
    ------
    ValueError
        Images have an odd number of pixels a side, or one is not finite.
    OSError
        A stack is missing.
    """
    size, n_classes = imaging.particles.size, shares.shape[1]
    if size % 2:
        raise ValueError(f"images have {size} x {size} pixels; wanted an even number, as RELION does")
    mask = _mask(imaging)
    sums_of_two = 2 * 3 * 4 * np.prod(_shape(size))
    at_a_time = max(1, int(BYTES // sums_of_two))
    maps = np.empty((n_classes, size, size, size), np.float32)
    for start in range(0, n_classes, at_a_time):
        some = shares[:, start : start + at_a_time]
        halves = [_sums(imaging, rows[half::2], some[half::2]) for half in range(2)]
        for i, (first, second) in enumerate(zip(*halves, strict=True)):
            both = Sums(*(a + b for a, b in zip(first, second, strict=True)))
            whole, *parts = (_masked(mask, _map(sums, size)) for sums in (both, first, second))
            maps[start + i] = _filtered(whole, *parts)
    return maps


def _sums(imaging: Imaging, rows: Int[np.ndarray, " n"], shares: Float[np.ndarray, "n k"]) -> list[Sums]:
    """Of each class, read in batches."""
    size = imaging.particles.size
    waves = _waves(size)
    shell = np.round(np.hypot(waves.x, waves.y)).astype(int)
    precision = (imaging.noise[np.minimum(shell, len(imaging.noise) - 1)] ** -2).astype(np.float32)
    sums = [Sums(*np.zeros((3, int(np.prod(_shape(size)))), np.float32)) for _ in shares.T]
    batch = max(1, PIXELS // size**2)
    for start in range(0, len(rows), batch):
        some = slice(start, start + batch)
        values, ctf = _observed(imaging, rows[some], waves)
        place, weight, is_mirrored = _corners(_rotations(imaging.particles, rows[some]), waves, size)
        parts = values.real * ctf, np.where(is_mirrored, -1, 1) * values.imag * ctf, ctf**2
        for share, one in zip(shares[some].T, sums, strict=True):
            used = np.flatnonzero(share)
            at = place[used].ravel()
            for part, total in zip(parts, one, strict=True):
                of_waves = share[used, None].astype(np.float32) * part[used] * precision
                np.add.at(total, at, (of_waves[:, :, None] * weight[used]).ravel())  # fast for float32, one axis
    return sums


def _waves(size: int) -> Waves:
    y, x = np.mgrid[1 - size // 2 : size // 2, : size // 2]
    once = (np.hypot(x, y) < size / 2) & ((x > 0) | (y > 0))
    return Waves(x[once], y[once])


def _rotations(particles: Particles, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 3 3"]:
    assert particles.rotation is not None
    return particles.rotation[rows]


def _observed(
    imaging: Imaging, rows: Int[np.ndarray, " n"], waves: Waves
) -> tuple[Complex[np.ndarray, "n p"], Float[np.ndarray, "n p"]]:
    """Transforms of images of positive contrast about the molecule's origin, and the CTF of each.

    Our CTF has the opposite sign of RELION's and cryoSPARC's.
    """
    particles = imaging.particles
    images = np.fft.ifftshift(read_images(particles, rows), axes=(1, 2))
    found = scipy.fft.rfft2(images)[:, waves.y, waves.x]
    width = particles.size * particles.pixel
    turn = 2 * np.pi / width * (particles.shift[rows] @ np.stack([waves.x, waves.y]))
    found = (np.sign(imaging.scale) * np.exp(1j * turn) * found).astype(np.complex64)
    if particles.ctf is None:
        return found, np.ones(found.shape, np.float32)
    ctf = Ctf(*(np.asarray(a)[rows] for a in particles.ctf))
    k = np.arange(1 - particles.size // 2, particles.size // 2) / width
    middle = particles.size // 2 - 1
    transfer = np.asarray(ctf_at(ctf, jnp.asarray(k[middle:], jnp.float32), jnp.asarray(k[:, None], jnp.float32)))
    return -found, transfer[:, waves.y + middle, waves.x]


def _shape(size: int) -> tuple[int, int, int]:
    """Of the half of the padded grid."""
    return PADDING * size, PADDING * size, PADDING * size // 2 + 1


def _corners(
    rotation: Float[np.ndarray, "n 3 3"], waves: Waves, size: int
) -> tuple[Int[np.ndarray, "n p 8"], Float[np.ndarray, "n p 8"], Float[np.ndarray, "n p"] | np.ndarray]:
    """The eight points of the grid around each wave of an image, k_x R_1 + k_y R_2, and their weights.

    Waves with x < 0 are mirrored: their conjugates are at the opposite point.
    """
    height, depth, width = _shape(size)
    in_plane = PADDING * np.stack([waves.x, waves.y], axis=1)
    at = (in_plane @ rotation[:, :2]).astype(np.float32)
    is_mirrored = at[:, :, 0] < 0
    at = np.where(is_mirrored[:, :, None], -at, at)
    low = np.floor(at)
    above, corner = at - low, low.astype(np.intp)
    sides = [((1 - above[:, :, i], corner[:, :, i]), (above[:, :, i], corner[:, :, i] + 1)) for i in range(3)]
    shape = (*at.shape[:2], 2, 2, 2)
    place, weight = np.empty(shape, np.intp), np.empty(shape, np.float32)
    for c, (of_z, z) in enumerate(sides[2]):
        for b, (of_y, y) in enumerate(sides[1]):
            line, of_line = (z % height * depth + y % depth) * width, of_z * of_y
            for a, (of_x, x) in enumerate(sides[0]):
                place[:, :, c, b, a] = line + x
                weight[:, :, c, b, a] = of_line * of_x
    return place.reshape(*at.shape[:2], 8), weight.reshape(*at.shape[:2], 8), is_mirrored


def _map(sums: Sums, size: int) -> Float[np.ndarray, "s s s"]:
    """The quotient, transformed and corrected for the trilinear insertion."""
    shape = _shape(size)
    values = (sums.real + 1j * sums.imaginary).reshape(shape)
    weight = sums.weight.reshape(shape).copy()
    for whole in (values, weight):  # at x = 0 the mirrored half is on the grid, too
        plane = whole[:, :, 0]
        plane += np.roll(plane[::-1, ::-1], 1, axis=(0, 1)).conj()
    shell, highest = _shells(PADDING * size), PADDING * size // 2
    counts = np.bincount(shell.ravel())
    least = LEAST * (np.bincount(shell.ravel(), weight.ravel()) / counts).astype(np.float32)
    weight += least[shell]
    seen = (weight > 0) & (shell < highest)
    found = np.divide(values, weight, out=np.zeros_like(values), where=seen)
    padded = scipy.fft.fftshift(scipy.fft.irfftn(found, s=(PADDING * size,) * 3))
    start = (PADDING - 1) * size // 2
    middle = slice(start, start + size)
    spread = np.sinc((np.arange(size) - size // 2) / (PADDING * size)) ** 2
    return (padded[middle, middle, middle] / np.einsum("z,y,x->zyx", spread, spread, spread)).astype(np.float32)


def _shells(size: int) -> Int[np.ndarray, "a b c"]:
    """Distances from 0 of the half x >= 0 of a grid of waves, rounded, by z, y and x."""
    k, half = scipy.fft.fftfreq(size, 1 / size), np.arange(size // 2 + 1)
    return np.round(np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + half**2)).astype(np.int32)


def _mask(imaging: Imaging) -> Float[np.ndarray, "s s s"]:
    """1 within a sphere that holds the molecule at the ends of each motion, 0 far from it, and a cosine between."""
    molecule, size = imaging.molecule, imaging.particles.size
    moved = imaging.half_width * molecule.motions
    ends = np.concatenate([molecule.rest[None], molecule.rest + moved, molecule.rest - moved])
    radius = (np.linalg.norm(ends, axis=2).max() + 2 * imaging.optics.atom_std) / imaging.particles.pixel
    grid = np.arange(size) - size // 2
    distance = np.sqrt(grid[:, None, None] ** 2 + grid[:, None] ** 2 + grid**2)
    beyond = np.clip((distance - min(radius, size // 2 - EDGE)) / EDGE, 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * beyond)).astype(np.float32)


def _masked(mask: Float[np.ndarray, "s s s"], voxels: Float[np.ndarray, "s s s"]) -> Float[np.ndarray, "s s s"]:
    """Times the mask, less the mean where that is below 1, in the sphere that the images hold."""
    size = len(mask)
    grid = np.arange(size) - size // 2
    held = grid[:, None, None] ** 2 + grid[:, None] ** 2 + grid**2 <= (size // 2) ** 2
    around = (1 - mask) * held
    return mask * (voxels - np.float32((around * voxels).sum() / around.sum()))


def _filtered(
    whole: Float[np.ndarray, "s s s"], first: Float[np.ndarray, "s s s"], second: Float[np.ndarray, "s s s"]
) -> Float[np.ndarray, "s s s"]:
    """By 2 FSC / (1 + FSC) of two halves, 0 where their correlation is negative or there is none."""
    size = len(whole)
    shell = _shells(size)
    a, b = (scipy.fft.rfftn(half) for half in (first, second))
    along, of_first, of_second = (
        np.bincount(shell.ravel(), values.ravel()) for values in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
    )
    power = np.sqrt(of_first * of_second)
    correlation = np.clip(np.divide(along, power, out=np.zeros_like(power), where=power > 0), 0, 1)
    factor = 2 * correlation / (1 + correlation)
    factor[size // 2 :] = 0
    return scipy.fft.irfftn(scipy.fft.rfftn(whole) * factor.astype(np.float32)[shell], s=whole.shape)
