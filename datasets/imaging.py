"""How a structure is seen in the images of a stack: noise and contrast, fitted once, and the problem of any images."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.datasets.given_poses import MOST_RINGS, NO_TURN, Turns, small_turns, turns_within, with_error
from cryosip.datasets.instance import Molecule
from cryosip.datasets.particle_stacks import Particles, read_images
from cryosip.datasets.particle_tables import Ctf
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
    slopes,
    transfer,
    transferred,
    whitened,
)
from cryosip.methods.problem import Images, Points, PRNGKey, Problem, Weights

READ_AT_A_TIME = 1_000
MEASURED = 3_000  # images, at most, of which noise is measured
SCALED_IMAGES, SCALED_DRAWS, SCALE_STEPS = 300, 100, 4
TURNED_IMAGES, ANGLE = 50, 0.01  # radians
PAIRS = 16  # whose likelihoods are computed at a time
LOST = 0.05  # of an atom's Fourier transform, at the highest frequency that is kept: of the power 1e-4

Likelihood = Callable[[Images, StackPose, Points, Int[Array, " n"]], Weights]


class Imaging(NamedTuple):
    """What the likelihood of an image needs besides the image.

    The images of `beads` have the contrast of the stack: their atoms are `scale` times the molecule's, negative where
    its contrast is the opposite. `noise` (s,) is the std of the noise of a pixel at each frequency, in units of the
    stack, and `noise_error` (s,) the relative std of its square as it was measured. Rotations are off by no more than
    `pose_error`, in radians, an integral with the nodes `turns`; shifts by a Gaussian of std `shift_error` along each
    axis, in angstroms; `scale_std` is that of the factor of an image. theta lies within `half_width` of 0.
    """

    particles: Particles
    molecule: Molecule
    beads: Beads
    optics: Optics
    scale: float
    noise: Float[np.ndarray, " s"]
    noise_error: Float[np.ndarray, " s"]
    turns: Turns
    pose_error: float
    shift_error: float
    scale_std: float
    half_width: float


def fitted(
    particles: Particles, molecule: Molecule, beads: Beads, atom_std: float, pose_error: float, shift_error: float,
    scale_std: float,
    half_width: float, seed: int,
) -> Imaging:  # fmt: skip
    """With noise, scale and a quadrature that suit the stack, measured on some of its images; lengths in angstroms.

    Raises ValueError where the molecule does not fit into the image, images show no noise, or rotations are off by more
    than a quadrature can follow.
    """
    optics = _optics(particles, atom_std)
    radius = float(np.linalg.norm(molecule.rest, axis=1).max()) + 2 * atom_std
    if radius > optics.size * optics.pixel / 2:
        raise ValueError(
            f"the structure has a radius of {radius:.0f} angstroms, and images are {optics.size * optics.pixel:.0f} "
            "angstroms wide; wanted images that hold it"
        )
    key_rows, key_theta = jr.split(jr.key(seed))
    rows = np.asarray(jr.permutation(key_rows, len(particles.place)))
    noise, noise_error = _noise(particles, optics, radius, np.sort(rows[:MEASURED]))
    optics = optics._replace(weights=np.concatenate([[0.0], 1 / noise[1:]]))
    some = np.sort(rows[:SCALED_IMAGES])
    pose, d = poses_of(particles, some), len(molecule.motions)
    observations = observed(particles, optics, some)
    scale = _scale(optics, beads, observations, pose, _uniform(half_width, d, key_theta, SCALED_DRAWS))
    beads = beads._replace(atoms=np.full(1, scale) * beads.atoms)
    turns = _turns(optics, beads, pose, pose_error, d)
    return Imaging(
        particles,
        molecule,
        beads,
        optics,
        scale,
        noise,
        noise_error,
        turns,
        pose_error,
        shift_error,
        scale_std,
        half_width,
    )


def problem_of(imaging: Imaging, rows: Int[np.ndarray, " m"] | None = None) -> Problem:
    """That of some of the images, all by default: their lowest frequencies, weighted so that noise is white, of std 1.

    Frequencies are kept up to where an atom is 5 % of its largest value.
    """
    rows = np.arange(len(imaging.particles.place)) if rows is None else rows
    optics, beads, width = imaging.optics, imaging.beads, imaging.half_width
    pose, d = poses_of(imaging.particles, rows), len(imaging.molecule.motions)
    observations = observed(imaging.particles, optics, rows)
    likelihood, ready = likelihood_of(imaging), with_transfer(optics, pose)
    return Problem(
        name="stack",
        observations=observations,
        noise_std=1.0,
        render=jax.jit(lambda theta, pose: as_pixels(optics, clean(optics, beads, theta, pose)), inline=True),
        sample_pose=partial(_sample_pose, imaging, pose),
        pose_quadrature=lambda _order: (pose, jnp.full(len(observations), 1 / len(observations))),
        sample_init=partial(_uniform, width, d),
        log_prior=lambda theta: -1.5 * (theta**2).sum(1) / width**2,
        theta_box=(jnp.full(d, -width), jnp.full(d, width)),
        log_likelihood=jax.jit(lambda theta, image: likelihood(observations, ready, theta, image), inline=True),
    )


def poses_of(particles: Particles, rows: Int[np.ndarray, " n"]) -> StackPose:
    """Those that the table has of some images; it must have angles."""
    assert particles.rotation is not None

    def single(a: np.ndarray) -> Array:
        return jnp.asarray(a[rows], jnp.float32)

    ctf = None if particles.ctf is None else Ctf(*(single(np.asarray(a)) for a in particles.ctf))
    return StackPose(single(particles.rotation), single(particles.shift), ctf)


def with_transfer(optics: Optics, pose: StackPose) -> StackPose:
    """The same poses, with the factors of their CTFs: a likelihood need not compute them for each pair."""
    return pose._replace(ctf=transfer(optics, pose.ctf)) if isinstance(pose.ctf, Ctf) else pose


def observed(particles: Particles, optics: Optics, rows: Int[np.ndarray, " n"]) -> Images:
    """Some of the images (n, kept^2), their noise white."""
    finish = jax.jit(lambda images: as_pixels(optics, whitened(optics, coefficients(optics, images))))
    found = np.empty((len(rows), optics.kept**2), np.float32)
    for start in range(0, len(rows), READ_AT_A_TIME):
        some = slice(start, start + READ_AT_A_TIME)
        found[some] = finish(_read(particles, rows[some]))
    return jnp.asarray(found)


def _read(particles: Particles, rows: Int[np.ndarray, " n"]) -> Float[Array, "n s s"]:
    """Pixels, with the sign of our CTF, which is the opposite of RELION's and cryoSPARC's."""
    images = read_images(particles, rows)
    return jnp.asarray(images if particles.ctf is None else -images)


def _optics(particles: Particles, atom_std: float) -> Optics:
    """Up to the frequency q where exp(-2 (pi q s)^2) is 5 %, or the highest of the images."""
    highest = np.sqrt(-np.log(LOST) / 2) / (np.pi * atom_std)
    half = min(int(np.ceil(highest * particles.size * particles.pixel)), (particles.size - 1) // 2)
    return Optics(particles.size, particles.pixel, 2 * half + 1, atom_std, np.ones(half + 1))


def _noise(
    particles: Particles, optics: Optics, radius: float, rows: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """The std of the noise at each frequency, of the pixels further than the radius from where the molecule is; at the
    constant, which no image tells, that of the next frequency. Then the relative std of its square.
    """
    member = shells(optics.kept).ravel()
    counts = np.bincount(member)
    low = jax.jit(lambda images: as_pixels(optics, coefficients(optics, images)))
    power, share = np.zeros(len(counts)), 0.0
    for start in range(0, len(rows), READ_AT_A_TIME):
        some = rows[start : start + READ_AT_A_TIME]
        pixels = np.asarray(low(_read(particles, some))).reshape(-1, optics.kept, optics.kept)
        empty = _outside(optics, radius, particles.shift[some])
        away = pixels - ((pixels * empty).sum((1, 2)) / np.maximum(empty.sum((1, 2)), 1))[:, None, None]
        spectrum = np.asarray(of_pixels(optics, jnp.asarray((away * empty).reshape(len(some), -1), jnp.float32))) ** 2
        power += np.bincount(member, spectrum.sum(0).ravel())
        share += empty.mean((1, 2)).sum()
    if share < len(rows) * 0.02:
        raise ValueError(
            f"the structure leaves {share / len(rows):.1%} of an image empty, from which noise is measured; wanted "
            "larger images"
        )
    noise = np.sqrt(power / (counts * share))
    noise[0] = noise[1]
    if not (noise > 0).all():
        raise ValueError(
            f"images of {particles.source} are constant where no molecule is; wanted images with their noise"
        )
    return noise, np.sqrt(2 / (counts * share))


def _outside(optics: Optics, radius: float, shift: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n k k"]:
    """1 at pixels where no molecule is, else 0."""
    pixel = optics.size * optics.pixel / optics.kept
    grid = pixel * (np.arange(optics.kept) - optics.kept // 2)
    x, y = grid - shift[:, :1], grid - shift[:, 1:]
    return (y[:, :, None] ** 2 + x[:, None] ** 2 > radius**2).astype(np.float32)


def _scale(optics: Optics, beads: Beads, observations: Images, pose: StackPose, theta: Float[Array, "t d"]) -> float:
    """c of y = c x + noise, by EM over some structures: c = sum p <y, x> / sum p |x|^2.

    The sign is that of the first step, in which all structures are as probable.
    """
    y = of_pixels(optics, observations)

    def products(one: Float[Array, " d"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        x = clean(optics, beads, jnp.broadcast_to(one, (len(y), *one.shape)), pose)
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


def _sample_pose(imaging: Imaging, pose: StackPose, key: PRNGKey, n: int) -> StackPose:
    """Those of n of the images, drawn with replacement, with errors."""
    key_image, key_error = jr.split(key)
    rows = jr.randint(key_image, (n,), 0, len(pose.shift))
    return with_errors(imaging, key_error, jax.tree.map(lambda a: a[rows], pose))


def with_errors(imaging: Imaging, key: PRNGKey, pose: StackPose) -> StackPose:
    """Poses as they may be, where those are given: rotations and shifts are off."""
    key_rotation, key_shift = jr.split(key)
    if imaging.pose_error > 0:
        pose = pose._replace(rotation=with_error(imaging.pose_error, key_rotation, pose.rotation))
    return pose._replace(shift=pose.shift + imaging.shift_error * jr.normal(key_shift, pose.shift.shape))


def _uniform(half_width: float, d: int, key: PRNGKey, n: int) -> Points:
    """theta (n, d) of the initial distribution."""
    return half_width * jr.uniform(key, (n, d), minval=-1.0)


def _over_shifts(
    optics: Optics, variance: float, x: Float[Array, "b q c c"], y: Float[Array, "b c c"]
) -> Float[Array, "b q"]:
    """log of the integral over shifts, of images x (b, q) for each y."""
    by_x, by_y = slopes(optics, x)
    g_x, g_y = (jnp.einsum("bqij,bij->bq", slope, y, precision="highest") for slope in (by_x, by_y))
    xx, xy, yy = ((s * t).sum((2, 3)) for s, t in ((by_x, by_x), (by_x, by_y), (by_y, by_y)))
    p_x, p_y = xx + 1 / variance, yy + 1 / variance
    determinant = p_x * p_y - xy**2
    fit = (p_y * g_x**2 - 2 * xy * g_x * g_y + p_x * g_y**2) / determinant
    return 0.5 * fit - 0.5 * jnp.log(variance**2 * determinant)


def likelihood_of(imaging: Imaging) -> Likelihood:
    """log p(y_i | theta) of pairs (theta, i), up to a constant of y_i, where y_i are observations in poses.

    It is 0 where there is no molecule. With b = <y, x>, q = |x|^2 and v = s^2, the integral over the factor of the
    image is exp((b + v b^2 / 2 - q / 2) / (1 + v q)) / sqrt(1 + v q). Where shifts err by a Gaussian of variance u, and
    x + S t is the image after one by t, short beside an atom, it is also exp(g^T (A + 1 / u)^-1 g / 2) / sqrt|1 + u A|,
    with g = S^T y, since S^T x = 0, and A = S^T S.
    """
    optics, beads, turns = imaging.optics, imaging.beads, imaging.turns
    variance, n_nodes = imaging.scale_std**2, len(turns.weights)

    def of_pairs(
        observations: Float[Array, "m p"], pose: StackPose, theta: Float[Array, "b d"], image: Int[Array, " b"]
    ) -> Float[Array, " b"]:
        nodes, weights = (jnp.asarray(a, theta.dtype) for a in turns)
        own: StackPose = jax.tree.map(lambda a: a[image], pose)
        turned = jnp.einsum("qij,bjk->bqik", nodes, own.rotation, precision="highest").reshape(-1, 3, 3)
        of_nodes = StackPose(turned, jnp.repeat(own.shift, n_nodes, axis=0), None)
        x = bare(optics, beads, jnp.repeat(theta, n_nodes, axis=0), of_nodes)
        x = x.reshape(len(image), n_nodes, *x.shape[1:])
        if own.ctf is not None:
            x = jax.vmap(partial(transferred, optics), (1, None), 1)(x, own.ctf)
        x = whitened(optics, x)
        y = of_pixels(optics, observations[image])
        along = jnp.einsum("bqij,bij->bq", x, y, precision="highest")
        norm = (x**2).sum((2, 3))
        gain = along - 0.5 * norm
        if variance > 0:
            spread = 1 + variance * norm
            gain = (along + 0.5 * variance * along**2 - 0.5 * norm) / spread - 0.5 * jnp.log(spread)
        if imaging.shift_error > 0:
            gain += _over_shifts(optics, imaging.shift_error**2, x, y)
        return jax.nn.logsumexp(gain, axis=1, b=weights)

    def by_blocks(
        observations: Float[Array, "m p"], pose: StackPose, theta: Points, image: Int[Array, " n"]
    ) -> Weights:
        n = len(image)
        filled = -n % PAIRS
        blocks = [
            jnp.pad(a, ((0, filled), *[(0, 0)] * (a.ndim - 1)), mode="edge").reshape(-1, PAIRS, *a.shape[1:])
            for a in (theta, image)
        ]
        return jax.lax.map(lambda block: of_pairs(observations, pose, *block), tuple(blocks)).reshape(-1)[:n]

    return by_blocks
