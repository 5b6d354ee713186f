"""Images of beads as a stack holds them: the CTF of each, astigmatic or not, and weights that make noise white."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets.particle_tables import Ctf
from cryosip.datasets.projection import Squares, contrast_transfer, fourier_basis, separable
from cryosip.datasets.protein_images import Beads, bead_centers
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.datasets.wave_profile import on_waves
from cryosip.methods.problem import Images, Points


class Transfer(NamedTuple):
    """What the coefficients of n images are multiplied with by their CTF, as `transfer` makes it."""

    mean: Float[Array, "n c c"]
    difference: Float[Array, "n c c"] | None


class StackPose(NamedTuple):
    """omega_r of n images: rotations, shifts in angstroms, and the CTF of each, None where there is none."""

    rotation: Float[Array, "n 3 3"]
    shift: Float[Array, "n 2"]
    ctf: Ctf | Transfer | None


class Optics(NamedTuple):
    """Images of `size` pixels of `pixel` angstroms a side, of which the lowest frequencies are kept, as many as an
    image of `kept` pixels has, an odd number; atoms are Gaussians of std `atom_std` in angstroms.

    `weights` (kept // 2 + 1,) of the frequencies, by their distance from 0, make noise white of std 1; that of the
    constant is 0, which programs set as they like.
    """

    size: int
    pixel: float
    kept: int
    atom_std: float
    weights: Float[np.ndarray, " s"]


def coefficients(optics: Optics, images: Float[Array, "n s s"]) -> Squares:
    """Of the lowest frequencies of whole images, in the orthonormal basis of `fourier_basis`."""
    basis = jnp.asarray(fourier_basis(optics.size, optics.kept // 2), images.dtype)
    return jnp.matmul(basis @ images, basis.T, precision="highest")


def as_pixels(optics: Optics, squares: Squares) -> Images:
    """Coefficients as images of `kept` pixels a side, row by row; an orthonormal transform."""
    basis = jnp.asarray(fourier_basis(optics.kept, optics.kept // 2), squares.dtype)
    return jnp.matmul(basis.T @ squares, basis, precision="highest").reshape(len(squares), -1)


def of_pixels(optics: Optics, images: Images) -> Squares:
    """The inverse of `as_pixels`."""
    basis = jnp.asarray(fourier_basis(optics.kept, optics.kept // 2), images.dtype)
    return jnp.matmul(basis @ images.reshape(-1, optics.kept, optics.kept), basis.T, precision="highest")


def bare(optics: Optics, beads: Beads, theta: Points, pose: StackPose) -> Squares:
    """Coefficients of images before the CTF and weights; `beads.atoms` are multiplied by the scale of the images."""
    profile = on_waves(optics.size, optics.pixel, optics.atom_std, optics.kept // 2)
    place = ProteinPose(pose.rotation, pose.shift, jnp.zeros(len(theta)))
    return separable(profile, beads.atoms, bead_centers(beads, theta, place))


def clean(optics: Optics, beads: Beads, theta: Points, pose: StackPose) -> Squares:
    """Coefficients of weighted images after the CTF of each."""
    squares = bare(optics, beads, theta, pose)
    return whitened(optics, squares if pose.ctf is None else transferred(optics, squares, pose.ctf))


def whitened(optics: Optics, squares: Float[Array, "*n c c"]) -> Float[Array, "*n c c"]:
    """Coefficients times the weights of their frequencies."""
    return squares * jnp.asarray(optics.weights[shells(optics.kept)], squares.dtype)


def slopes(optics: Optics, squares: Float[Array, "*n c c"]) -> tuple[Float[Array, "*n c c"], Float[Array, "*n c c"]]:
    """How images change as they move along x and along y, in angstroms: of f(x - s) at s = 0.

    A cosine becomes a sine and a sine minus a cosine, each times its wave number.
    """
    half = optics.kept // 2
    k = 2 * np.pi * np.arange(1, half + 1) / (optics.size * optics.pixel)
    wave = jnp.asarray(np.concatenate([[0.0], -k, k]), squares.dtype)

    def along(axis: int) -> Float[Array, "*n c c"]:
        constant, cosines, sines = jnp.split(squares, [1, half + 1], axis)
        factor = wave if axis == -1 else wave[:, None]
        return factor * jnp.concatenate([constant, sines, cosines], axis)

    return along(-1), along(-2)


def shells(kept: int) -> np.ndarray:
    """Which of the weights each coefficient has, (kept, kept): its frequency, rounded; the last one in the corners."""
    k = np.concatenate([[0], np.arange(1, kept // 2 + 1), np.arange(1, kept // 2 + 1)])
    return np.minimum(np.round(np.hypot(k[:, None], k)).astype(int), kept // 2)


def transfer(optics: Optics, ctf: Ctf) -> Transfer:
    """The factors of `transferred`, for images that are needed again and again.

    With T the CTF of waves along (k_x, k_y) and T' of those along (k_x, -k_y), they are m = (T + T') / 2, and d = (T -
    T') / 2 with its sign, None for a CTF that is known to have no astigmatism.
    """
    half = optics.kept // 2
    k = jnp.arange(half + 1, dtype=jnp.asarray(ctf.defocus_u).dtype) / (optics.size * optics.pixel)
    along, across = (ctf_at(ctf, k, sign * k[:, None]) for sign in (1, -1))
    mean, difference = ((along + sign * across) / 2 for sign in (1, -1))
    for axis in (1, 2):
        mean, difference = (_cosines_and_sines(a, axis) for a in (mean, difference))
    traced = isinstance(ctf.defocus_u, jax.core.Tracer)
    if not traced and np.array_equal(ctf.defocus_u, ctf.defocus_v):
        return Transfer(mean, None)
    is_sine = np.arange(2 * half + 1) > half
    return Transfer(mean, jnp.where(is_sine[:, None] == is_sine, -1.0, 1.0).astype(k.dtype) * difference)


def transferred(optics: Optics, squares: Squares, ctf: Ctf | Transfer) -> Squares:
    """Images after the CTF: of cosines and sines of k_x and k_y, waves along (k_x, k_y) and (k_x, -k_y) are mixtures.

    Products become c c' -> m c c' - d s s', s s' -> m s s' - d c c', c s' -> m c s' + d s c', s c' -> m s c' + d c s',
    with the m and d of `transfer`. Without astigmatism d is 0, and the CTF a factor.
    """
    factors = ctf if isinstance(ctf, Transfer) else transfer(optics, ctf)
    if factors.difference is None:
        return factors.mean * squares
    partner = squares
    for axis in (1, 2):
        # the constant has no sine, but its difference is 0
        constant, cosines, sines = jnp.split(partner, [1, optics.kept // 2 + 1], axis)
        partner = jnp.concatenate([constant, sines, cosines], axis)
    return factors.mean * squares + factors.difference * partner


def _cosines_and_sines(of_waves: Float[Array, "n a b"], axis: int) -> Float[Array, "n c d"]:
    """What belongs to each wave along an axis, for its cosine and, but for the constant, its sine."""
    return jnp.concatenate([of_waves, jax.lax.slice_in_dim(of_waves, 1, None, axis=axis)], axis)


def ctf_at(ctf: Ctf, k_x: Float[Array, " w"], k_y: Float[Array, "h 1"]) -> Float[Array, "n h w"]:
    """(n, k_y, k_x) of frequencies in 1 / angstrom; the defocus is along `angle` from the x axis the first."""
    u, v, angle, voltage, aberration, amplitude, shift, b_factor, scale = (
        jnp.asarray(a, k_x.dtype)[:, None, None] for a in ctf
    )
    frequency, away = jnp.hypot(k_x, k_y), jnp.arctan2(k_y, k_x) - angle
    defocus = (u + v) / 2 + (u - v) / 2 * jnp.cos(2 * away)
    found = contrast_transfer(frequency, defocus, voltage, aberration, amplitude, shift)
    return scale * jnp.exp(-b_factor * frequency**2 / 4) * found
