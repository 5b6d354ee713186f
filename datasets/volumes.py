"""Densities on a cube as coefficients of an orthonormal basis: of atoms, of voxels, and their projections."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from cryosip.datasets.projection import contrast_transfer
from cryosip.datasets.protein_images import VOLTAGE_IN_KILOVOLTS, Beads, Camera
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.methods.problem import Coefficients, Coordinates, Points

Voxels = Float[np.ndarray, "n l l l"]

OVERSAMPLING = 2  # of the transform between whose nodes slices are interpolated
ROTATED_OVERSAMPLING = 4  # and between whose nodes volumes are, whose distances from each other are small
IMAGES_AT_A_TIME = 512
BALL_EDGE = 2  # voxels


class Cube(NamedTuple):
    """A cube of size^3 voxels of `voxel` angstroms a side, in which a volume is a sum of waves |k| <= size / 2 - 1.

    Its coefficients are those of 1, sqrt(2) cos(2 pi k x / W) and sqrt(2) sin(2 pi k x / W), each over W^(3/2), W =
    size voxel, for one k of each pair k, -k: an orthonormal basis, so that |c - c'| is the L2 distance of volumes. x =
    0 is at voxel size // 2.
    """

    size: int
    voxel: float

    @property
    def width(self) -> float:
        return self.size * self.voxel

    @property
    def reach(self) -> int:
        """The largest |k|."""
        return (self.size - 1) // 2

    @property
    def waves(self) -> Int[np.ndarray, "h 3"]:
        """One k = (k_x, k_y, k_z) of each pair, without 0, those of long waves first."""
        axis = np.arange(-self.reach, self.reach + 1)
        k = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        upper = k[len(k) // 2 + 1 :]
        upper = upper[(upper**2).sum(1) <= self.reach**2]
        return upper[np.argsort((upper**2).sum(1), kind="stable")]

    @property
    def shells(self) -> Int[np.ndarray, " v"]:
        """|k|, rounded, of each coefficient."""
        shells = np.rint(np.sqrt((self.waves**2).sum(1))).astype(int)
        return np.concatenate([[0], shells, shells])


def image_shells(n_frequencies: int) -> Int[np.ndarray, " c"]:
    """|q|, rounded, of each coordinate of images: products of `fourier_basis` with so many frequencies."""
    lowest = np.arange(1, n_frequencies + 1)
    k = np.concatenate([[0], lowest, lowest])
    return np.rint(np.hypot(k[:, None], k)).astype(int).ravel()


def of_beads(camera: Camera, beads: Beads, cube: Cube, theta: Points) -> Float[Array, "n v"]:
    """The coefficients of the density whose projections are the images of structures.

    The wave k of an atom at X is W^(-3/2) sum_j I_j exp(-2 pi^2 s_j^2 |k|^2 / W^2) exp(-2 pi i k X / W), for Gaussians
    of stds s_j whose integrals are I_j.

    Parameters
    ----------
    camera, beads
        How atoms become images, and where they are; `beads.atoms` are multiplied by the scale of the images.
    cube
        The voxels.
    theta
        Structures (n, d).
    """
    waves, width, reach = cube.waves, cube.width, cube.reach
    integrals, stds = [2 * np.pi * camera.atom_std**2], [camera.atom_std]
    if camera.scattering is not None:
        integrals, stds = list(camera.scattering.integrals), list(camera.scattering.stds)
    squares = np.concatenate([[0], (waves**2).sum(1)])
    profile = (
        sum(i * np.exp(-2 * (np.pi * s / width) ** 2 * squares) for i, s in zip(integrals, stds, strict=True))
        / width**1.5
    )
    # of x the waves have one sign
    place = tuple((np.array([0, reach, reach]) + np.concatenate([np.zeros((1, 3), int), waves])).T)

    def one(theta: Float[Array, " d"]) -> Float[Array, " v"]:
        at = beads.rest.astype(theta.dtype) + jnp.tensordot(theta, beads.motions.astype(theta.dtype), 1)
        angle = 2 * np.pi / width * at[:, :, None] * jnp.arange(reach + 1)
        cos, sin = jnp.cos(angle), -jnp.sin(angle)
        both = [jnp.concatenate([part[..., :0:-1], rest], axis=-1) for part, rest in ((cos, cos), (-sin, sin))]
        (y_cos, z_cos), (y_sin, z_sin) = (jnp.moveaxis(part[:, 1:], 1, 0) for part in both)
        x_cos, x_sin = cos[:, 0, :, None], sin[:, 0, :, None]
        plane = x_cos * y_cos[:, None] - x_sin * y_sin[:, None], x_cos * y_sin[:, None] + x_sin * y_cos[:, None]
        real, imaginary = (part.reshape(len(at), -1).T for part in plane)
        atoms = jnp.asarray(beads.atoms, theta.dtype)[:, None]
        beside = jnp.concatenate([atoms * z_cos, atoms * z_sin], axis=1)
        # four products of matrices in two: those of complex numbers are slow
        first, second = (
            jnp.split(jnp.matmul(part, beside, precision="highest"), 2, axis=1) for part in (real, imaginary)
        )
        sums = jax.lax.complex(first[0] - second[1], first[1] + second[0])
        sums = sums.reshape(reach + 1, 2 * reach + 1, 2 * reach + 1)[place]
        return _as_coefficients(jnp.asarray(profile, theta.dtype) * sums)

    return jax.lax.map(one, theta)


def voxels(cube: Cube, coefficients: Float[Array, "n v"] | Float[np.ndarray, "n v"]) -> Voxels:
    """Volumes at the voxels (n, size, size, size), indexed by z, y, x as MRC files are."""
    grid = np.zeros((len(coefficients), *(cube.size,) * 3), complex)
    z, y, x = _on_grid(cube, cube.size)
    grid[:, z, y, x] = np.asarray(_as_waves(jnp.asarray(coefficients)))
    grid *= _to_the_middle(cube.size)
    return np.fft.ifftn(grid, axes=(1, 2, 3)).real * cube.size**3 / cube.width**1.5


def from_voxels(cube: Cube, maps: Voxels) -> Float[np.ndarray, "n v"]:
    """The coefficients of maps of at least as many voxels, as wide as the cube; shorter waves are left out."""
    size = maps.shape[-1]
    waves = np.fft.fftn(maps, axes=(1, 2, 3)) * _to_the_middle(size).conj() * (cube.width / size) ** 3
    z, y, x = _on_grid(cube, size)
    half = waves[:, z, y, x][:, : 1 + len(cube.waves)] / cube.width**1.5
    return np.concatenate([half[:, :1].real, np.sqrt(2) * half[:, 1:].real, -np.sqrt(2) * half[:, 1:].imag], axis=1)


def in_ball(cube: Cube, coefficients: Float[Array, "n v"]) -> Float[Array, "n v"]:
    """Volumes times a ball that fills the cube, whose edge falls along a cosine over the outermost voxels.

    It is symmetric, and leaves shorter waves out: corners of the cube hold nothing but noise.
    """
    size = cube.size
    axis = (np.arange(size) - size // 2) / (size / 2)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    edge = 2 * BALL_EDGE / size
    profile = 0.5 * (1 + np.cos(np.pi * np.clip((radius - 1 + edge) / edge, 0, 1)))
    place = _on_grid(cube, size)
    # waves begin at the voxel in the middle, the transform at the first
    ball = jnp.asarray(np.fft.ifftshift(profile), coefficients.dtype)

    def one(c: Coefficients) -> Coefficients:
        grid = jnp.zeros((size,) * 3, jnp.result_type(c, jnp.complex64)).at[place].set(_as_waves(c[None])[0])
        waves = jnp.fft.fftn(ball * jnp.fft.ifftn(grid).real)[place]
        return _as_coefficients(waves[: 1 + len(cube.waves)])

    return jax.lax.map(one, coefficients)


def projections(camera: Camera, cube: Cube, coefficients: Coefficients, pose: ProteinPose) -> Coordinates:
    """One volume in n poses: slices of its transform, shifted, times the CTF.

    The image at q is W^(3/2) F(R^T (q_x, q_y, 0)) exp(-2 pi i q t / W) CTF(q). F between its waves is interpolated: the
    voxels, over sinc^2, are set into a cube of twice the width, and their transform is linear between its nodes. It is
    linear in the coefficients; beyond |q| = size / 2 - 1 it is 0.

    Parameters
    ----------
    camera
        Of the images, whose width is that of the cube.
    cube
        The voxels.
    coefficients
        Of one volume (v,).
    pose
        Of the n images.

    Returns
    -------
    Coordinates
        (n, (2 reach + 1)^2), in the order of `cropped_span` of the size 2 reach + 1.
    """
    dtype, reach, width = coefficients.dtype, cube.reach, cube.width
    fine = jax.lax.complex(*finer(cube, coefficients, OVERSAMPLING))
    a, b = np.arange(reach + 1), np.arange(-reach, reach + 1)
    q_x, q_y = half_plane(cube)
    inside = (q_y + reach) * len(a) + q_x
    response = np.full(len(inside), width**1.5)
    if camera.scattering is not None:  # its images are means over pixels
        response = response * np.sinc(q_x / camera.size) * np.sinc(q_y / camera.size)

    def one(pose: ProteinPose) -> Float[Array, " c"]:
        rotation, shift = pose.rotation.astype(dtype), pose.shift.astype(dtype)
        at = jnp.asarray(q_x, dtype)[:, None] * rotation[0] + jnp.asarray(q_y, dtype)[:, None] * rotation[1]
        phase = [jnp.exp(-2j * np.pi / width * jnp.asarray(k, dtype) * t) for k, t in zip((a, b), shift, strict=True)]
        waves = jnp.asarray(response, dtype) * phase[0][q_x] * phase[1][q_y + reach] * _between(fine, OVERSAMPLING * at)
        if camera.has_ctf:
            frequency = jnp.asarray(np.hypot(q_x, q_y) / width, dtype)
            waves *= contrast_transfer(frequency, pose.defocus.astype(dtype), VOLTAGE_IN_KILOVOLTS)
        whole = jnp.zeros(len(a) * len(b), waves.dtype).at[inside].set(waves, unique_indices=True)
        return _as_products(whole.reshape(len(b), -1), camera)

    return jax.lax.map(one, pose, batch_size=IMAGES_AT_A_TIME)


def rotated(cube: Cube, coefficients: Coefficients, rotation: Float[Array, "n 3 3"]) -> Float[Array, "n v"]:
    """V(R^T x) of one volume for each rotation, about the voxel in the middle: its wave k is F(R^T k).

    F between its waves is interpolated as for slices, on a finer grid. What turns out of the cube is lost: volumes
    should be 0 outside of the ball that fills it.
    """
    fine = jax.lax.complex(*finer(cube, coefficients, ROTATED_OVERSAMPLING))
    waves = jnp.asarray(np.concatenate([np.zeros((1, 3)), cube.waves]), coefficients.dtype)

    def one(rotation: Float[Array, "3 3"]) -> Float[Array, " v"]:
        at = jnp.matmul(waves, rotation.astype(coefficients.dtype), precision="highest")
        return _as_coefficients(_between(fine, ROTATED_OVERSAMPLING * at))

    return jax.lax.map(one, rotation, batch_size=IMAGES_AT_A_TIME)


def shifted(cube: Cube, coefficients: Float[Array, "n v"], shift: Float[Array, "n 3"]) -> Float[Array, "n v"]:
    """V(x - t), t in angstroms, of each volume: its wave k is F(k) exp(-2 pi i k t / W)."""
    h = len(cube.waves)
    angle = 2 * np.pi / cube.width * jnp.matmul(shift, jnp.asarray(cube.waves.T, shift.dtype), precision="highest")
    cosines, sines = coefficients[:, 1 : h + 1], coefficients[:, h + 1 :]
    turned = [cosines * jnp.cos(angle) - sines * jnp.sin(angle), sines * jnp.cos(angle) + cosines * jnp.sin(angle)]
    return jnp.concatenate([coefficients[:, :1], *turned], axis=1)


def mirrored(coefficients: Float[Array, "n v"]) -> Float[Array, "n v"]:
    """V(-x): the other hand."""
    h = coefficients.shape[1] // 2
    return coefficients.at[:, h + 1 :].multiply(-1)


def _as_products(waves: Complex[Array, "b a"], camera: Camera) -> Float[Array, " c"]:
    """Coordinates of a real image from its transform at q_y = -reach ... reach, q_x = 0 ... reach.

    Those of products of cosines and sines along y, with those along x, as in `fourier_basis`.
    """
    reach = waves.shape[1] - 1
    up, down = waves[reach:], waves[reach::-1]  # at q_y = 0 ... reach, and at the opposite
    cosine_cosine, sine_sine = (up + down).real / 2, (down - up).real / 2
    cosine_sine, sine_cosine = -(up + down).imag / 2, -(up - down).imag / 2  # along y, along x
    above = jnp.concatenate([cosine_cosine, cosine_sine[:, 1:]], axis=1)
    below = jnp.concatenate([sine_cosine[1:], sine_sine[1:, 1:]], axis=1)
    heights = np.sqrt(np.concatenate([[1.0], np.full(2 * reach, 2.0)]) / camera.size) / camera.pixel
    return (jnp.asarray(np.outer(heights, heights), above.dtype) * jnp.concatenate([above, below])).ravel()


def half_plane(cube: Cube) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """q_x and q_y of the waves of a real image: q_x >= 0, |q| <= reach."""
    a, b = np.arange(cube.reach + 1), np.arange(-cube.reach, cube.reach + 1)
    q_y, q_x = (q.ravel() for q in np.meshgrid(b, a, indexing="ij"))
    inside = q_x**2 + q_y**2 <= cube.reach**2
    return q_x[inside], q_y[inside]


def finer(cube: Cube, coefficients: Coefficients, times: int) -> Float[Array, "2 m m m"]:
    """The transform, real and imaginary, on a grid that is so many times finer (z, y, x), node 0 in the middle.

    Between its nodes it is linear: voxels are divided by sinc^2 before.
    """
    size, reach = cube.size, cube.reach
    x = np.arange(-(size // 2), size // 2 + 1)
    weight = np.where(2 * np.abs(x) == size, 0.5, 1) / size / np.sinc(x / (times * size)) ** 2
    k, node = np.arange(-reach, reach + 1), np.arange(times * size) - (times * size) // 2
    # from waves to voxels, over sinc^2, to the finer grid: along each axis by itself, and real
    phase = 2 * np.pi * (k[:, None] / size - node[:, None, None] / (times * size)) * x
    along = jnp.asarray((np.cos(phase) * weight).sum(2), coefficients.dtype)
    waves = _as_waves(coefficients[None])[0]
    place = tuple(i + reach for i in _signed(cube))
    grid = jnp.zeros((2 * reach + 1,) * 3, waves.dtype).at[place].set(waves, unique_indices=True)
    parts = jnp.stack([grid.real, grid.imag])
    for axis in (3, 2, 1):
        parts = jnp.moveaxis(jnp.tensordot(parts, along, [[axis], [1]], precision="highest"), -1, axis)
    return parts


def _between(grid: Complex[Array, "m m m"], at: Float[Array, "q 3"]) -> Complex[Array, " q"]:
    """Values of a grid (z, y, x), node 0 in the middle, at (x, y, z), linear between nodes."""
    flat, total = grid.ravel(), jnp.zeros(len(at), grid.dtype)
    for weight, place in corners(len(grid), at):
        total += weight * flat.at[place].get(mode="promise_in_bounds")
    return total


def corners(size: int, at: Float[Array, "q 3"]) -> list[tuple[Float[Array, " q"], Int[Array, " q"]]]:
    """The 8 nodes around (x, y, z) on a grid of size^3, flat, z first, and their weights in what is linear between."""
    below = jnp.minimum(jnp.floor(at), size - size // 2 - 2)  # the node beyond the last is none
    x, y, z = (below.astype(jnp.int32) + size // 2).T
    part, node = at - below, (z * size + y) * size + x
    return [
        (jnp.prod(jnp.where(np.array(corner), part, 1 - part), axis=1), node + np.dot([1, size, size**2], corner))
        for corner in np.ndindex(2, 2, 2)
    ]


def _as_waves(coefficients: Float[Array, "n v"]) -> Complex[Array, "n w"]:
    """F at 0, at the waves, and at their opposites, from coefficients."""
    h = coefficients.shape[1] // 2
    half = (coefficients[:, 1 : h + 1] - 1j * coefficients[:, h + 1 :]) / np.sqrt(2)
    return jnp.concatenate([coefficients[:, :1].astype(half.dtype), half, half.conj()], axis=1)


def _as_coefficients(waves: Complex[Array, " h"]) -> Float[Array, " v"]:
    """Coefficients from F at 0 and at the waves."""
    half = np.sqrt(2) * waves[1:]
    return jnp.concatenate([waves[:1].real, half.real, -half.imag])


def _on_grid(cube: Cube, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where 0, the waves and their opposites are on a grid of a discrete transform: z, y, x."""
    z, y, x = (k % size for k in _signed(cube))
    return z, y, x


def _signed(cube: Cube) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k of 0, of the waves and of their opposites: z, y, x."""
    k = np.concatenate([np.zeros((1, 3), int), cube.waves, -cube.waves])
    return k[:, 2], k[:, 1], k[:, 0]


def _to_the_middle(size: int) -> Complex[np.ndarray, "l l l"]:
    """Factors of a discrete transform that move x = 0 from the first voxel to the one in the middle."""
    phase = np.exp(-2j * np.pi * np.fft.fftfreq(size) * (size // 2))
    return phase[:, None, None] * phase[:, None] * phase
