"""Particles of a microscope: images from files, a structure that moves along its modes, poses of a refinement."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.datasets.given_poses import MOST_RINGS, NO_TURN, Turns, small_turns, turns_within, with_error
from cryosip.datasets.instance import Molecule
from cryosip.datasets.particle_stacks import Particles, read_images, read_particles
from cryosip.datasets.particle_tables import Ctf
from cryosip.datasets.protein import AMPLITUDES, beads_of
from cryosip.datasets.protein_images import Beads
from cryosip.datasets.stack_images import (
    Optics,
    StackPose,
    as_pixels,
    bare,
    clean,
    coefficients,
    of_pixels,
    shells,
    transferred,
    whitened,
)
from cryosip.datasets.structures import load, normal_modes
from cryosip.methods import checks
from cryosip.methods.problem import Images, Points, PRNGKey, Problem, Weights

READ_AT_A_TIME = 1_000
TURNED_IMAGES, ANGLE = 50, 0.01  # radians
PAIRS = 16  # whose likelihoods are computed at a time
LOST = 0.01  # of an atom's Fourier transform, at the highest frequency that is kept
SCALED_IMAGES, SCALED_DRAWS, SCALE_STEPS = 300, 100, 4


class Recording(NamedTuple):
    """A problem whose truth nobody knows.

    `scale` takes the structure's images to those of the stack, negative where its contrast is the opposite; `noise`
    (s,) is the std of the noise of a pixel at each frequency, in units of the stack.
    """

    problem: Problem
    molecule: Molecule
    particles: Particles
    optics: Optics
    scale: float
    noise: Float[np.ndarray, " s"]


def stack(
    particles: str | Path,
    structure: str | Path,
    chain: str = "A",
    n_modes: int = 2,
    n_observations: int | None = None,
    optics_group: str | None = None,
    pixel_size_in_angstroms: float | None = None,
    pose_error_in_degrees: float = 0.0,
    atom_std_in_angstroms: float = 4.0,
    atoms_per_bead: int = 2,
    cutoff_in_angstroms: float = 15.0,
    amplitude: str = "root",
    init_half_width: float = 14.0,
    scale_std: float = 0.0,
    seed: int = 0,
) -> Recording:
    """A structure that moves along its normal modes, in the images of a stack, from the poses that its table has.

    theta are the whitened coordinates of the lowest modes, as in `protein`. The noise of each frequency is measured
    where no molecule is, outside of a circle, and images are weighted so that it is white of std 1. Of an image y_i in
    the pose R_i, off by a rotation T of which a quadrature has the nodes T_q,

        p(y_i | theta) = sum_q w_q int N(y_i; a c x(theta, T_q R_i), I) N(a; 1, s^2) da,

    with the image x of the structure after the CTF of image i, the scale c of all images, and a factor a of each, whose
    integral has a closed form.

    Parameters
    ----------
    particles
        A STAR file of RELION or a .cs file of cryoSPARC, as `read_particles` reads it.
    structure, chain
        A PDB or an mmCIF file, and its chain, "A" by default.
    n_modes
        2 by default.
    n_observations
        The first of the images; all by default.
    optics_group, pixel_size_in_angstroms
        As in `read_particles`.
    pose_error_in_degrees
        The largest angle by which rotations are off, 0 by default: they are exact. The integral over
        that error has as many nodes as images tell apart, six at least.
    atom_std_in_angstroms
        4 by default: the width of a residue, and of what a map of the resolution of the images shows of it.
    atoms_per_bead, cutoff_in_angstroms, amplitude
        As in `protein`; 2 atoms by default.
    init_half_width
        theta is sought in [-init_half_width, init_half_width] in each mode; 14 by default.
    scale_std
        s, 0 by default: all images have the same contrast.
    seed
        Of the images and structures from which the scale is found.

    Returns
    -------
    Recording
        Observations are the weighted images, with the frequencies where an atom is above 1 % of its largest value.

    Raises
    ------
    ValueError
        The table has no angles, an option is out of range, the molecule does not fit into the image, or
        `read_particles`, `load` or `normal_modes` refuse.
    OSError
        A file is missing.
    """
    table = _first(read_particles(particles, optics_group, pixel_size_in_angstroms), n_observations)
    if table.rotation is None:
        raise ValueError(f"{table.source} has no angles; wanted particles after a refinement")
    atom_std = checks.positive("atom_std_in_angstroms", atom_std_in_angstroms)
    half_width = checks.positive("init_half_width", init_half_width)
    scale_std = checks.non_negative("scale_std", scale_std)
    error = float(np.deg2rad(checks.non_negative("pose_error_in_degrees", pose_error_in_degrees)))
    trace = load(str(structure), structure, chain)
    modes = normal_modes(trace, cutoff_in_angstroms, n_modes)
    amplitudes = AMPLITUDES[checks.one_of("amplitude", amplitude, AMPLITUDES)](modes.eigenvalues)
    molecule, beads = beads_of(trace, modes, amplitudes, atoms_per_bead)
    pose = _poses(table)
    optics = _optics(table, atom_std)
    radius = float(np.linalg.norm(molecule.rest, axis=1).max()) + 2 * atom_std
    if radius > optics.size * optics.pixel / 2:
        raise ValueError(
            f"the structure has a radius of {radius:.0f} angstroms, and images are {optics.size * optics.pixel:.0f} "
            "angstroms wide; wanted images that hold it"
        )
    observations, noise, optics = _whitened_images(table, optics, radius)
    sample_init = partial(_uniform, half_width, molecule.motions.shape[0])
    scale = _scale(optics, beads, observations, pose, sample_init, checks.non_negative_int("seed", seed))
    scaled = beads._replace(atoms=np.full(1, scale) * beads.atoms)
    turns = _turns(optics, scaled, pose, error, n_modes)
    problem = Problem(
        name="stack",
        observations=observations,
        noise_std=1.0,
        render=jax.jit(lambda theta, pose: as_pixels(optics, clean(optics, scaled, theta, pose)), inline=True),
        sample_pose=partial(_sample_pose, pose, error),
        pose_quadrature=lambda _order: (pose, jnp.full(len(observations), 1 / len(observations))),
        sample_init=sample_init,
        log_prior=lambda theta: -1.5 * (theta**2).sum(1) / half_width**2,
        theta_box=(jnp.full(n_modes, -half_width), jnp.full(n_modes, half_width)),
        log_likelihood=_log_likelihood(optics, scaled, observations, pose, turns, scale_std),
    )
    return Recording(problem, molecule, table, optics, scale, noise)


def _first(table: Particles, n: int | None) -> Particles:
    """The first n images."""
    if n is None:
        return table
    n = checks.positive_int("n_observations", n)
    if n > len(table.place):
        raise ValueError(f"n_observations is {n}; wanted at most {len(table.place)}, as {table.source} has")
    ctf = None if table.ctf is None else Ctf(*(a[:n] for a in table.ctf))
    rotation = None if table.rotation is None else table.rotation[:n]
    return table._replace(place=table.place[:n], ctf=ctf, rotation=rotation, shift=table.shift[:n])


def _poses(table: Particles) -> StackPose:
    def single(a: Array | np.ndarray) -> Array:
        return jnp.asarray(a, jnp.float32)

    assert table.rotation is not None
    ctf = None if table.ctf is None else Ctf(*map(single, table.ctf))
    return StackPose(single(table.rotation), single(table.shift), ctf)


def _optics(table: Particles, atom_std: float) -> Optics:
    """Up to the frequency q where exp(-2 (pi q s)^2) is 1 %, or the highest of the images."""
    highest = np.sqrt(-np.log(LOST) / 2) / (np.pi * atom_std)
    kept = min(2 * int(np.ceil(highest * table.size * table.pixel)) + 1, 2 * ((table.size - 1) // 2) + 1)
    return Optics(table.size, table.pixel, kept, atom_std, np.ones(kept // 2 + 1))


def _whitened_images(table: Particles, optics: Optics, radius: float) -> tuple[Images, Float[np.ndarray, " s"], Optics]:
    """The images (m, kept^2), weighted so that noise is white, the std of the noise at each frequency before, and the
    optics with these weights.

    Noise is that of the pixels further than the radius from where the molecule is; at the constant, where no image
    tells it, that of the next frequency.
    """
    sign = 1.0 if table.ctf is None else -1.0  # our CTF has the opposite sign of RELION's and cryoSPARC's
    member = shells(optics.kept)
    counts = np.bincount(member.ravel())
    low = jax.jit(partial(coefficients, optics))
    found, power, share = [], np.zeros(len(counts)), 0.0
    for start in range(0, len(table.place), READ_AT_A_TIME):
        rows = np.arange(start, min(start + READ_AT_A_TIME, len(table.place)))
        squares = low(jnp.asarray(sign * read_images(table, rows)))
        pixels = np.asarray(as_pixels(optics, squares)).reshape(-1, optics.kept, optics.kept)
        empty = _outside(optics, radius, table.shift[rows])
        away = pixels - ((pixels * empty).sum((1, 2)) / np.maximum(empty.sum((1, 2)), 1))[:, None, None]
        spectrum = np.asarray(of_pixels(optics, jnp.asarray((away * empty).reshape(len(rows), -1), jnp.float32))) ** 2
        power += np.bincount(member.ravel(), spectrum.sum(0).ravel(), minlength=len(counts))
        share += empty.mean((1, 2)).sum()
        found.append(squares)
    if share < len(table.place) * 0.02:
        raise ValueError(
            f"the structure leaves {share / len(table.place):.1%} of an image empty, from which noise is measured; "
            "wanted larger images"
        )
    noise = np.sqrt(power / (counts * share))
    noise[0] = noise[1]
    if not (noise > 0).all():
        raise ValueError(f"images of {table.source} are constant where no molecule is; wanted images with their noise")
    weighted = optics._replace(weights=np.concatenate([[0.0], 1 / noise[1:]]))
    finish = jax.jit(lambda squares: as_pixels(weighted, whitened(weighted, squares)))
    return jnp.concatenate([finish(squares) for squares in found]), noise, weighted


def _outside(optics: Optics, radius: float, shift: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n k k"]:
    """1 at pixels where no molecule is, else 0."""
    pixel = optics.size * optics.pixel / optics.kept
    grid = pixel * (np.arange(optics.kept) - optics.kept // 2)
    x, y = grid - shift[:, :1], grid - shift[:, 1:]
    return (y[:, :, None] ** 2 + x[:, None] ** 2 > radius**2).astype(np.float32)


def _scale(
    optics: Optics, beads: Beads, observations: Images, pose: StackPose,
    sample_init: Callable[[PRNGKey, int], Points], seed: int,
) -> float:  # fmt: skip
    """c of y = c x + noise, by EM over structures of the initial distribution: c = sum p <y, x> / sum p |x|^2.

    The sign is that of the first step, in which all structures are as probable.
    """
    key_images, key_theta = jr.split(jr.key(seed))
    rows = jr.permutation(key_images, len(observations))[:SCALED_IMAGES]
    theta = sample_init(key_theta, SCALED_DRAWS)
    there, y = jax.tree.map(lambda a: a[rows], pose), of_pixels(optics, observations[rows])

    def products(one: Float[Array, " d"]) -> tuple[Weights, Weights]:
        x = clean(optics, beads, jnp.broadcast_to(one, (len(rows), *one.shape)), there)
        return (x * y).sum((1, 2)), (x**2).sum((1, 2))

    along, norms = (np.asarray(a, float) for a in jax.jit(partial(jax.lax.map, products))(theta))
    scale = along.sum() / norms.sum()
    for _ in range(SCALE_STEPS):
        gain = scale * along - 0.5 * scale**2 * norms
        weight = np.exp(gain - gain.max(0))
        weight /= weight.sum(0)
        scale = (weight * along).sum() / (weight * norms).sum()
    return float(scale)


def _turns(optics: Optics, beads: Beads, pose: StackPose, largest: float, d: int) -> Turns:
    """A quadrature of rotations by no more than an angle, six or as many as images tell apart.

    An image changes by noise where a molecule turns by sigma = 1 / |dx / dangle|. Measured: up to 1.25 sigma six nodes
    err by .04 of the log-likelihood, and steps of 2 sigma by .03.
    """
    if largest == 0:
        return NO_TURN
    some: StackPose = jax.tree.map(lambda a: a[:TURNED_IMAGES], pose)
    rest = jnp.zeros((len(some.shift), d))
    axes = jnp.asarray(small_turns(ANGLE / np.sqrt(0.6)).rotation[:3], jnp.float32)
    images = jax.jit(lambda pose: clean(optics, beads, rest, pose))
    still = images(some)
    changes = [((images(some._replace(rotation=axis @ some.rotation)) - still) ** 2).sum((1, 2)) for axis in axes]
    sigma = ANGLE / float(np.sqrt(np.mean(changes)))
    if largest > 2 * sigma * MOST_RINGS:
        raise ValueError(
            f"pose_error_in_degrees is {np.rad2deg(largest):g}, and images tell rotations of {np.rad2deg(sigma):.2g} "
            f"degrees apart; wanted at most {np.rad2deg(2 * sigma * MOST_RINGS):.3g}"
        )
    return small_turns(largest) if largest <= 1.25 * sigma else turns_within(largest, 2 * sigma)


def _sample_pose(pose: StackPose, error: float, key: PRNGKey, n: int) -> StackPose:
    """Those of n of the images, drawn with replacement, each off by no more than the error, in radians."""
    key_image, key_error = jr.split(key)
    rows = jr.randint(key_image, (n,), 0, len(pose.shift))
    drawn: StackPose = jax.tree.map(lambda a: a[rows], pose)
    return drawn if error == 0 else drawn._replace(rotation=with_error(error, key_error, drawn.rotation))


def _uniform(half_width: float, d: int, key: PRNGKey, n: int) -> Points:
    """theta (n, d) of the initial distribution."""
    return half_width * jr.uniform(key, (n, d), minval=-1.0)


def _log_likelihood(
    optics: Optics, beads: Beads, observations: Images, pose: StackPose, turns: Turns, scale_std: float
) -> Callable[[Points, Int[Array, " n"]], Weights]:
    """log p(y_i | theta) of pairs (theta, i), up to a constant of y_i.

    With b = <y, x>, q = |x|^2 and v = s^2, the integral over the factor of the image is exp((b + v b^2 / 2 - q / 2) /
    (1 + v q)) / sqrt(1 + v q).
    """
    variance, n_nodes = scale_std**2, len(turns.weights)

    def of_pairs(theta: Points, image: Int[Array, " b"]) -> Weights:
        nodes, weights = (jnp.asarray(a, theta.dtype) for a in turns)
        own: StackPose = jax.tree.map(lambda a: a[image], pose)
        turned = jnp.einsum("qij,bjk->bqik", nodes, own.rotation, precision="highest").reshape(-1, 3, 3)
        of_nodes = StackPose(turned, jnp.repeat(own.shift, n_nodes, axis=0), None)
        x = bare(optics, beads, jnp.repeat(theta, n_nodes, axis=0), of_nodes)
        x = x.reshape(len(image), n_nodes, *x.shape[1:])
        if own.ctf is not None:
            x = jax.vmap(partial(transferred, optics), (1, None), 1)(x, own.ctf)
        x = whitened(optics, x)
        along = jnp.einsum("bqij,bij->bq", x, of_pixels(optics, observations[image]), precision="highest")
        norm = (x**2).sum((2, 3))
        gain = along - 0.5 * norm
        if variance > 0:
            spread = 1 + variance * norm
            gain = (along + 0.5 * variance * along**2 - 0.5 * norm) / spread - 0.5 * jnp.log(spread)
        return jax.nn.logsumexp(gain, axis=1, b=weights)

    def by_blocks(theta: Points, image: Int[Array, " n"]) -> Weights:
        n = len(image)
        filled = -n % PAIRS
        blocks = [
            jnp.pad(a, ((0, filled), *[(0, 0)] * (a.ndim - 1)), mode="edge").reshape(-1, PAIRS, *a.shape[1:])
            for a in (theta, image)
        ]
        return jax.lax.map(lambda block: of_pairs(*block), tuple(blocks)).reshape(-1)[:n]

    return jax.jit(by_blocks, inline=True)
