"""A protein that moves along its normal modes, seen from everywhere: section 4.3."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets import rotations
from cryosip.datasets.gaussian_mixture import gaussian_mixture
from cryosip.datasets.instance import Instance, Molecule, Truth, checked
from cryosip.datasets.projection import contrast_transfer, fourier_basis, on_frequencies, project, separable
from cryosip.datasets.structures import Modes, Trace, load, normal_modes
from cryosip.methods import checks
from cryosip.methods.problem import Coordinates, Images, Points, PoseMotion, PRNGKey, Problem, Span, Weights

VOLTAGE_IN_KILOVOLTS = 300.0
SNR_PIXEL_IN_ANGSTROMS = 1.5  # the pixel of the default images
MOST_POSES = 2**22  # of a quadrature: half a gigabyte
SPAN_DRAWS = 200  # images from which the error of cropped images is measured


class ProteinPose(NamedTuple):
    """omega_r of n images: rotations, shifts in the plane in angstroms, defocus in angstroms (0 without a CTF)."""

    rotation: Float[Array, "n 3 3"]
    shift: Float[Array, "n 2"]
    defocus: Float[Array, " n"]


def hsp90(**options: Any) -> Instance:
    """HSP90 of section 4.3: chain A of PDB entry 2IOP, or of the file `structure`; the options are those of protein."""
    return protein("2iop", **options)


def adk(**options: Any) -> Instance:
    """Adenylate kinase 4AKE, which needs neither file nor network, as in section 4.3; options are those of protein."""
    return protein("adk", **options)


def protein(
    name: str,
    n_observations: int = 3_000,
    image_size: int = 128,
    pixel_size_in_angstroms: float = 1.5,
    atom_std_in_angstroms: float = 2.5,
    snr: float = 1.0,
    noise_std: float = 1.0,
    cutoff_in_angstroms: float = 15.0,
    atoms_per_bead: int = 1,
    means: Sequence[Sequence[float]] = ((9.0, -7.0), (9.0, -7.0), (0.0,), (0.0,)),
    std: float = 1.0,
    init_half_width: float = 7.0,
    max_shift_in_angstroms: float = 0.0,
    defocus_range_in_angstroms: tuple[float, float] | None = None,
    cropped_size: int | None = None,
    structure: str | Path | None = None,
    chain: str = "A",
    seed: int = 0,
) -> Instance:
    """Section 4.3: a protein that moves along its normal modes, from noisy projections in unknown directions.

    The C-alpha atoms (or beads, the means of `atoms_per_bead` consecutive ones) are at X = X_0 + sum_i z_i v_i /
    sqrt(lambda_i), with the lowest modes v_i and eigenvalues lambda_i of the anisotropic network model with the given
    cutoff [atilgan2001]. An image is c * sum_a n_a exp(-|g - (R X_a)_xy - t|^2 / (2 s^2)) at the pixels g, n_a the
    atoms of bead a and s = `atom_std_in_angstroms`; y = image + noise, N(0, noise_std^2 I) [sanchez2025]. c makes the
    mean of |image|^2 equal to snr * noise_std^2 * (S / 1.5)^2, S the width of the image in angstroms: snr * 128^2 for
    the default images, and as much for larger pixels, which average the noise of those within. R is uniform on SO(3); t
    uniform on [-max_shift, max_shift]^2; with `defocus_range_in_angstroms` each image has a CTF at 300 kV of its own
    uniform defocus, part of omega_r like the rest.

    theta is z, whitened; the paper's own coordinates are z_i / sqrt(lambda_i). Mode i has equal Gaussians of the given
    std at `means[i]`, as many modes as there are means; the initial law is uniform on [-init_half_width,
    init_half_width] in each, and rho_p, which must be smooth, the Gaussian of its variance. `theta_box` is twice as
    wide. `cropped_size`, an odd number, offers as `span` the lowest Fourier coefficients of the images, as many as an
    image of that size has: its error is the largest distance of an image of 200 draws of the initial law. Shapes:
    observations (n_observations, image_size^2), row by row from the lowest y, theta (n, modes); lengths in angstroms.
    The structure is looked for as `load` says.

    The paper leaves open the chain, the atoms, cutoff, pixel size, atom width and scale of the signal.

    Raises ValueError for counts below 1, lengths and a noise that are not positive, more than 4 atoms a bead, means
    that are no lists of numbers, a cropped size that is even or larger than the image, and what `load` and
    `normal_modes` refuse; OSError where no structure can be had.
    """
    n = checks.positive_int("n_observations", n_observations)
    size = checks.positive_int("image_size (of square images)", image_size)
    pixel = checks.positive("pixel_size_in_angstroms", pixel_size_in_angstroms)
    atom_std = checks.positive("atom_std_in_angstroms", atom_std_in_angstroms)
    snr = checks.positive("snr", snr)
    noise_std = checks.positive("noise_std", noise_std)
    init_half_width = checks.positive("init_half_width", init_half_width)
    max_shift_in_angstroms = checks.non_negative("max_shift_in_angstroms", max_shift_in_angstroms)
    checks.non_negative_int("seed", seed)
    defocus_range = _checked_defocus(defocus_range_in_angstroms)
    _check_cropped(cropped_size, size)
    if checks.positive_int("atoms_per_bead", atoms_per_bead) > 4:
        raise ValueError(f"atoms_per_bead is {atoms_per_bead}; wanted 1 to 4")
    if not isinstance(means, Sequence) or not means or not all(isinstance(row, Sequence) for row in means):
        raise ValueError(f"means is {means!r}; wanted a list of centres for each mode")
    std = checks.positive("std", std)
    laws = [gaussian_mixture(row, [std] * len(row), [1 / max(1, len(row))] * len(row)) for row in means]
    d = len(laws)
    trace = load(name, structure, chain)
    modes = normal_modes(trace, cutoff_in_angstroms, d)
    molecule, atoms = _beads(trace, modes, atoms_per_bead)
    rest, motions = jnp.asarray(molecule.rest, jnp.float32), jnp.asarray(molecule.motions, jnp.float32)

    def centers(theta: Points, pose: ProteinPose) -> Float[Array, "n a 2"]:
        """Where the beads are in the plane: only two rows of the rotation matter."""
        shape = rest.astype(theta.dtype) + jnp.tensordot(theta, motions.astype(theta.dtype), 1, precision="highest")
        seen = jnp.einsum("nij,naj->nai", pose.rotation[:, :2].astype(theta.dtype), shape, precision="highest")
        return seen + pose.shift[:, None].astype(theta.dtype)

    @partial(jax.jit, inline=True)
    def images(theta: Points, pose: ProteinPose) -> Images:
        squares = project(size, pixel, atom_std, atoms, centers(theta, pose))
        if defocus_range is not None:
            basis = jnp.asarray(fourier_basis(size, (size - 1) // 2), theta.dtype)
            transfer = _transfer(basis.shape[0], size * pixel, pose.defocus.astype(theta.dtype))
            squares = basis.T @ (transfer * (basis @ squares @ basis.T)) @ basis
        return squares.reshape(len(theta), size**2)

    @partial(jax.jit, static_argnums=1, inline=True)
    def sample_pose(key: PRNGKey, n: int) -> ProteinPose:
        key_rotation, key_shift, key_defocus = jr.split(key, 3)
        shift = max_shift_in_angstroms * jr.uniform(key_shift, (n, 2), minval=-1.0)
        low, high = defocus_range or (0.0, 0.0)
        return ProteinPose(
            rotations.uniform(key_rotation, n), shift, low + (high - low) * jr.uniform(key_defocus, (n,))
        )

    @partial(jax.jit, static_argnums=1)
    def sample_truth(key: PRNGKey, n: int) -> Points:
        keys = jr.split(key, d)
        return jnp.stack([law.sample(k, n) for law, k in zip(laws, keys, strict=True)], axis=1)

    def sample_init(key: PRNGKey, n: int) -> Points:
        return init_half_width * jr.uniform(key, (n, d), minval=-1.0)

    def log_prior(theta: Points) -> Weights:
        return -1.5 * (theta**2).sum(1) / init_half_width**2

    def pose_quadrature(order: int) -> tuple[ProteinPose, Weights]:
        return _cells(order, max_shift_in_angstroms, defocus_range)

    key_theta, key_pose, key_noise, key_span = jr.split(jr.key(seed), 4)
    theta, pose = sample_truth(key_theta, n), sample_pose(key_pose, n)
    clean = images(theta, pose)
    fine_pixels = (size * pixel / SNR_PIXEL_IN_ANGSTROMS) ** 2
    # an array: a number of the data would be written into programs, which then served one data set only
    scale = np.full(1, noise_std * np.sqrt(snr * fine_pixels * n) / jnp.linalg.norm(clean))

    def render(theta: Points, pose: ProteinPose) -> Images:
        return jnp.asarray(scale, theta.dtype) * images(theta, pose)

    @partial(jax.jit, inline=True)
    def coordinates(theta: Points, pose: ProteinPose) -> Coordinates:
        profile = on_frequencies(size, pixel, atom_std, (cropped_size or 1) // 2)
        squares = separable(profile, scale * atoms, centers(theta, pose))
        if defocus_range is not None:
            squares *= _transfer(squares.shape[1], size * pixel, pose.defocus.astype(theta.dtype))
        return squares.reshape(len(theta), -1)

    def span() -> Span | None:
        if cropped_size is None:
            return None
        basis = fourier_basis(size, cropped_size // 2)

        @partial(jax.jit, inline=True)
        def projected(y: Images) -> Coordinates:
            rows = jnp.asarray(basis, y.dtype)
            return jnp.matmul(rows @ y.reshape(-1, size, size), rows.T, precision="highest").reshape(len(y), -1)

        drawn = sample_init(key_span, SPAN_DRAWS), sample_pose(key_span, SPAN_DRAWS)
        seen = render(*drawn)
        inside = coordinates(*drawn)
        outside = (seen**2).sum(1) - 2 * (projected(seen) * inside).sum(1) + (inside**2).sum(1)
        return Span(projected, coordinates, float(jnp.sqrt(jnp.maximum(outside, 0.0).max())))

    problem = Problem(
        name=name,
        observations=clean * jnp.asarray(scale, clean.dtype) + noise_std * jr.normal(key_noise, clean.shape),
        noise_std=float(noise_std),
        render=render,
        sample_pose=sample_pose,
        pose_quadrature=pose_quadrature,
        sample_init=sample_init,
        log_prior=log_prior,
        theta_box=(jnp.full(d, -2.0 * init_half_width), jnp.full(d, 2.0 * init_half_width)),
        span=span(),
        pose_motion=_pose_motion(max_shift_in_angstroms, defocus_range),
    )
    return checked(Instance(problem, Truth(sample_truth, theta, pose=pose), molecule))


def _beads(trace: Trace, modes: Modes, atoms_per_bead: int) -> tuple[Molecule, Float[np.ndarray, " a"]]:
    """Beads of consecutive atoms, how they move with each z, and how many atoms each holds."""
    starts = np.arange(0, len(trace.coordinates), atoms_per_bead)
    atoms = np.diff(np.append(starts, len(trace.coordinates))).astype(np.float64)

    def pooled(per_atom: np.ndarray) -> np.ndarray:
        return np.add.reduceat(per_atom, starts, axis=0) / atoms[:, None]

    rest = pooled(trace.coordinates - trace.coordinates.mean(0))
    motions = np.stack([pooled(v) / np.sqrt(value) for v, value in zip(modes.vectors, modes.eigenvalues, strict=True)])
    molecule = Molecule(
        trace.source, trace.chain, len(trace.coordinates), rest, motions, modes.eigenvalues, modes.collectivity
    )
    return molecule, atoms


def _transfer(n_coefficients: int, width: float, defocus: Float[Array, " n"]) -> Float[Array, "n c c"]:
    """The CTF as a factor of the coefficients of `fourier_basis`: cosine and sine of a frequency alike."""
    lowest = np.arange(1, n_coefficients // 2 + 1)
    k = np.concatenate([[0], lowest, lowest]) / width
    frequency = jnp.asarray(np.hypot(k[:, None], k), defocus.dtype)
    return contrast_transfer(frequency, defocus[:, None, None], VOLTAGE_IN_KILOVOLTS)


def _cells(order: int, max_shift: float, defocus_range: tuple[float, float] | None) -> tuple[ProteinPose, Weights]:
    """Centres of equal cells of the poses; those of order + 1 that fill cell i are in one run, i-th among the runs."""
    halved = [max_shift > 0, max_shift > 0, _varies(defocus_range)]
    finer = rotations.CHILDREN * 2 ** sum(halved)  # poses in place of one of the order before
    if order > np.log(MOST_POSES / len(rotations.grid(0))) / np.log(finer):
        raise ValueError(
            f"quadrature_order is {order}; wanted one with at most {MOST_POSES} poses: an order has {finer} times as "
            f"many as the one before, of which the first, 0, has {len(rotations.grid(0))}"
        )
    rotation = rotations.grid(order)
    axes = [np.zeros(1, int)] * 3  # cells of t_x, t_y, defocus
    turn = np.zeros(1, int)
    for level in range(order + 1):
        children = [rotations.CHILDREN if level else len(rotations.grid(0)), *(2 if level and h else 1 for h in halved)]
        child = [c.ravel() for c in np.meshgrid(*map(np.arange, children), indexing="ij")]
        turn = (children[0] * turn[:, None] + child[0]).ravel()
        axes = [
            (count * axis[:, None] + c).ravel() for axis, c, count in zip(axes, child[1:], children[1:], strict=True)
        ]
    cells = [2**order if h else 1 for h in halved]
    middle = [(axis + 0.5) / count for axis, count in zip(axes, cells, strict=True)]
    shift = max_shift * (2 * np.stack(middle[:2], axis=1) - 1)
    low, high = defocus_range or (0.0, 0.0)
    pose = ProteinPose(jnp.asarray(rotation[turn]), jnp.asarray(shift), jnp.asarray(low + (high - low) * middle[2]))
    return pose, jnp.full(len(turn), 1 / len(turn))


def _pose_motion(max_shift: float, defocus_range: tuple[float, float] | None) -> PoseMotion:
    """Turns of the molecule by radians, and where they vary the shift and the defocus, in units of their own range."""
    shifts, defocus = 2 * (max_shift > 0), int(_varies(defocus_range))
    low, high = defocus_range or (0.0, 0.0)

    def move(pose: ProteinPose, step: Float[Array, "n q"]) -> ProteinPose:
        turn, shift, focus = step[:, :3], step[:, 3 : 3 + shifts], step[:, 3 + shifts :]
        return ProteinPose(
            rotations.turned(pose.rotation, turn),
            pose.shift + max_shift * shift if shifts else pose.shift,
            pose.defocus + (high - low) * focus[:, 0] if defocus else pose.defocus,
        )

    return PoseMotion(3 + shifts + defocus, move)


def _varies(defocus_range: tuple[float, float] | None) -> bool:
    return defocus_range is not None and defocus_range[0] < defocus_range[1]


def _checked_defocus(given: tuple[float, float] | None) -> tuple[float, float] | None:
    if given is None:
        return None
    if not isinstance(given, Sequence | np.ndarray) or len(given) != 2:
        raise ValueError(f"defocus_range_in_angstroms is {given!r}; wanted (lowest, highest)")
    low, high = (checks.finite("defocus_range_in_angstroms", value) for value in given)
    if low > high:
        raise ValueError(f"defocus_range_in_angstroms is {given!r}; wanted (lowest, highest)")
    return low, high


def _check_cropped(cropped_size: int | None, size: int) -> None:
    if cropped_size is None:
        return
    if checks.positive_int("cropped_size", cropped_size) % 2 == 0 or not 3 <= cropped_size <= size:
        raise ValueError(f"cropped_size is {cropped_size}; wanted an odd number from 3 to image_size, {size}")
