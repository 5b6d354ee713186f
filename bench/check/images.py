"""Images by their formulas, in float64 numpy: what renderers are checked against, sharing no code with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import ndtr

Centers = np.ndarray  # (n, a, 2): along the columns and along the rows of an image
Images = np.ndarray  # (n, s, s), or (n, s * s)


def gaussians(grid: np.ndarray, std: float, centers: Centers, weights: Any = 1.0, average: bool = False) -> Images:
    """Sums of Gaussians of height 1, image_i(r, c) = sum_a weights_a exp(-|(c, r) - centers_ia|^2 / (2 std^2)).

    Parameters
    ----------
    grid
        (s,), the coordinates of the pixels' centres along either axis, equally spaced.
    std
        Of each Gaussian, in the unit of the grid.
    centers
        (n, a, 2), in the unit of the grid.
    weights
        (a,), or one for all.
    average
        Whether pixels hold the mean over their area; by default they hold the value at their centre.

    Returns
    -------
    (n, s, s).
    """
    (across, _), (down, _) = (_profiles(grid, std, centers[..., axis], average) for axis in (0, 1))
    return np.swapaxes(down * np.reshape(weights, (-1, 1)), 1, 2) @ across


def pulled_back(grid: np.ndarray, std: float, centers: Centers, cotangent: Images, average: bool = False) -> Centers:
    """Gradient of <cotangent, gaussians(grid, std, centers)> with respect to the centres.

    Parameters
    ----------
    grid, std, centers, average
        As for `gaussians`, with weights of 1.
    cotangent
        (n, s, s).

    Returns
    -------
    (n, a, 2).
    """
    (across, by_x), (down, by_y) = (_profiles(grid, std, centers[..., axis], average) for axis in (0, 1))
    along_x, along_y = down @ cotangent, across @ np.swapaxes(cotangent, 1, 2)
    return np.stack([(along_x * by_x).sum(2), (along_y * by_y).sum(2)], axis=2)


def _profiles(grid: np.ndarray, std: float, places: np.ndarray, average: bool) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians along one axis, (n, a, s), and their derivatives with respect to the place of the centre."""
    gaps = grid - places.astype(np.float64)[..., None]
    if not average:
        values = np.exp(-0.5 * (gaps / std) ** 2)
        return values, values * gaps / std**2
    pixel = grid[1] - grid[0]
    right, left = (gaps + pixel / 2) / std, (gaps - pixel / 2) / std
    values = std * np.sqrt(2 * np.pi) * (ndtr(right) - ndtr(left)) / pixel
    return values, (np.exp(-0.5 * left**2) - np.exp(-0.5 * right**2)) / pixel


def nanocluster_images(theta: np.ndarray, size: int, tau: float) -> Images:
    """Section 4.2: four atoms at (+-theta_1, +-theta_2) / 2, on a grid of [-4, 4); (n, size^2)."""
    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    return gaussians(-4 + 8 * np.arange(size) / size, tau, signs * theta[:, None] / 2).reshape(len(theta), -1)


def two_moons_images(theta: np.ndarray, radius: np.ndarray, angle: np.ndarray) -> Images:
    """[lueckmann2021]: theta rotated by -pi / 4, its first coordinate folded, and a point of the crescent."""
    c, s = np.cos(-np.pi / 4), np.sin(-np.pi / 4)
    rotated = theta @ np.array([[c, -s], [s, c]]).T
    crescent = np.stack([np.cos(angle) * radius + 0.25, np.sin(angle) * radius], 1)
    return crescent + np.stack([-np.abs(rotated[:, 0]), rotated[:, 1]], 1)


def slcp_images(theta: np.ndarray, normal: np.ndarray) -> Images:
    """Four points m + L z, L the factor of the covariance by LAPACK."""
    first, second = theta[:, 2] ** 2, theta[:, 3] ** 2
    between = np.tanh(theta[:, 4]) * first * second
    covariance = np.array([[first**2, between], [between, second**2]]).transpose(2, 0, 1) + 1e-3 * np.eye(2)
    points = np.einsum("nij,nkj->nki", np.linalg.cholesky(covariance), normal.reshape(-1, 4, 2))
    return (theta[:, None, :2] + points).reshape(len(theta), 8)


def arm_images(theta: np.ndarray, normal: np.ndarray, std: float) -> Images:
    """The end of an arm of lengths 1/2, 1/2, 1; each sine and cosine has a random angle of its own."""
    x, a, b, c = theta.T
    e = std * normal.T
    across = x + np.sin(a + e[0]) / 2 + np.sin(a + b + e[1]) / 2 + np.sin(a + b + c + e[2])
    return np.stack([across, np.cos(a + e[3]) / 2 + np.cos(a + b + e[4]) / 2 + np.cos(a + b + c + e[5])], 1)


def protein_images(
    molecule: Any, theta: np.ndarray, pose: Any, size: int, pixel: float, std: float, atoms_per_bead: int
) -> Images:
    """Section 4.3, up to one factor common to all images: every bead at every pixel, then the CTF.

    Parameters
    ----------
    molecule
        `rest` (b, 3), `motions` (d, b, 3) and the number of atoms, `n_atoms`; the last bead holds what is left of them.
    theta
        (n, d), the amplitudes of the motions.
    pose
        Rotations (n, 3, 3), shifts (n, 2) and defocus (n,), in angstroms.
    size
        Pixels along a side; odd, so that no frequency is its own negative.
    pixel, std
        Size of a pixel and standard deviation of a bead, in angstroms.
    atoms_per_bead
        The weight of each bead but the last.

    Returns
    -------
    (n, size^2).
    """
    rotation, shift, defocus = (np.asarray(a, np.float64) for a in pose)
    atoms = np.full(len(molecule.rest), atoms_per_bead)
    atoms[-1] = molecule.n_atoms - atoms[:-1].sum()
    places = (molecule.rest + np.tensordot(theta, molecule.motions, 1)) @ rotation.transpose(0, 2, 1)
    grid = pixel * (np.arange(size) - size // 2)
    images = gaussians(grid, std, places[..., :2] + shift[:, None], atoms)
    frequency = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(size, pixel)]))
    seen = np.fft.ifft2(np.fft.fft2(images) * _contrast_transfer(frequency, defocus[:, None, None])).real
    return seen.reshape(len(theta), -1)


def superposed_pair(files: Sequence[str | Path]) -> tuple[float, np.ndarray]:
    """The least RMSD of the C-alphas of two PDB files of one chain, and both structures there, (2, a, 3), centred."""
    first, second = (_calphas(file) for file in files)
    rotation, _ = Rotation.align_vectors(first, second)
    both = np.stack([first, rotation.apply(second)])
    return float(np.sqrt(((both[0] - both[1]) ** 2).sum(1).mean())), both


def _calphas(file: str | Path) -> np.ndarray:
    """Columns 31 to 54 of the records of chain A, less their mean."""
    lines = Path(file).read_text().splitlines()
    atoms = [line for line in lines if line.startswith("ATOM") and line[12:16] == " CA " and line[21] == "A"]
    places = np.array([[float(line[i : i + 8]) for i in (30, 38, 46)] for line in atoms])
    return places - places.mean(0)


def ensemble_images(
    shapes: np.ndarray, share: np.ndarray, rotation: np.ndarray, size: int, pixel: float, std: float
) -> Images:
    """Structures between two given ones, up to one factor common to all images: every atom at every pixel.

    Parameters
    ----------
    shapes
        (2, a, 3), in angstroms.
    share
        (n,), of the second.
    rotation
        (n, 3, 3).
    size, pixel, std
        Pixels of a side, their size and the standard deviation of an atom, in angstroms.

    Returns
    -------
    (n, size^2).
    """
    places = shapes[0] + share[:, None, None] * (shapes[1] - shapes[0])
    seen = np.einsum("nij,naj->nai", np.asarray(rotation, np.float64), places)[..., :2]
    return gaussians(pixel * (np.arange(size) - size // 2), std, seen).reshape(len(share), -1)


def _contrast_transfer(q: np.ndarray, defocus: np.ndarray) -> np.ndarray:
    """The CTF at 300 kV, spherical aberration 2.7 mm, amplitude contrast 0.1; lengths in angstroms."""
    wavelength = 0.019687
    chi = np.pi * wavelength * q**2 * (defocus - 0.5 * wavelength**2 * q**2 * 2.7e7)
    return -np.sqrt(1 - 0.1**2) * np.sin(chi) - 0.1 * np.cos(chi)


def rotation_invariants(images: Images, ring_width: float) -> np.ndarray:
    """|<b_mk, image>|: b_mk are e^{i m phi} g_k(r), for each m orthonormal over k by Gram-Schmidt.

    The rings g_k are Gaussians around radii (k + 1/2) ring_width, of half a width as their std, within the largest
    circle whose pixels all lie in the image; m goes up to half a ring's circumference in widths. The centre has no
    angle and is left out where m > 0.

    Parameters
    ----------
    images
        (n, s * s), squares.
    ring_width
        In pixels.

    Returns
    -------
    (n, number of functions).
    """
    size = round(np.sqrt(images.shape[1]))
    x = np.arange(size) - size // 2
    z = (x + 1j * x[:, None]).ravel()
    radius, edge = np.abs(z), size // 2 - 1
    unit = z / np.where(radius == 0, 1, radius)  # 0 at the centre, and 0^0 = 1
    rings = ring_width * (np.arange(max(1, int(edge / ring_width))) + 0.5)
    moduli = []
    for m in range(int(np.pi * rings[-1] / ring_width) + 1):
        orthonormal: list[np.ndarray] = []
        for ring in rings[np.pi * rings / ring_width >= m]:
            wave = np.exp(-2 * ((radius - ring) / ring_width) ** 2) * (radius <= edge) * unit**m
            for _ in range(2):  # the second pass removes what rounding left
                for before in orthonormal:
                    wave = wave - (before.conj() @ wave) * before
            orthonormal.append(wave / np.linalg.norm(wave))
        moduli += [np.abs(images @ wave) for wave in orthonormal]
    return np.stack(moduli, axis=1)
