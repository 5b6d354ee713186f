"""Given structures: their path in RMSD, their populations, and the likelihood of images whose poses are given."""

import jax
import jax.numpy as jnp
import numpy as np
import prody
import pytest
import scipy.integrate
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation
from scipy.special import logsumexp

from cryosip.bench.check.images import gaussians, superposed_pair
from cryosip.datasets import conformers, given_poses, prody_adapter
from cryosip.datasets.ensemble import ensemble
from cryosip.datasets.protein_images import Camera
from cryosip.datasets.structures import Trace

FILES = prody_adapter.adenylate_kinase, prody_adapter.closed_adenylate_kinase
SMALL = {"n_observations": 6, "image_size": 48, "pixel_size_in_angstroms": 3.0, "atom_std_in_angstroms": 4.0}
TINY = {"n_observations": 5, "image_size": 12, "pixel_size_in_angstroms": 10.0, "atom_std_in_angstroms": 8.0}


def trace(coordinates, first=1):
    return Trace("made", "made.pdb", "A", np.asarray(coordinates), np.arange(first, first + len(coordinates)))


def random_shape(seed, n=12):
    return 10 * np.random.default_rng(seed).normal(size=(n, 3))


def test_superposition_undoes_a_rotation_and_a_shift_but_no_reflection():
    shape = random_shape(0)
    moved = Rotation.random(rng=1).apply(shape) + np.array([3.0, -1.0, 2.0])
    path = conformers.path_through([trace(shape), trace(moved + 0.5 * random_shape(2) / 10)], 0)
    assert path.arc_length[1] < 1.0  # angstroms: what was added is 0.5 sqrt(3) rms
    centred = shape - shape.mean(0)
    mirrored = conformers.superposed(centred * [1, 1, -1], centred)
    assert conformers.rmsd(mirrored, centred) > 1.0


def test_the_length_is_the_rmsd_of_prody():
    """By its own superposition of adenylate kinase, open and closed."""
    opened, closed = (prody.parsePDB(str(file()), subset="ca", chain="A") for file in FILES)
    prody.superpose(closed, opened)
    truth = ensemble(**TINY).truth
    assert float(truth.quantile(np.array([0.9]))[0]) == pytest.approx(prody.calcRMSD(closed, opened), rel=1e-5)


def test_arc_length_is_rmsd_along_all_structures_and_between_them():
    traces = [trace(random_shape(seed)) for seed in (0, 1, 2)]
    path = conformers.path_through(traces, 2)
    assert len(path.arc_length) == 7
    assert path.arc_length[0] == 0
    assert_allclose([conformers.rmsd(*path.shapes[i : i + 2]) for i in range(6)], np.diff(path.arc_length), rtol=1e-12)
    for first in (0, 3):  # a straight segment, whose structures no rotation brings nearer
        for i in range(first, first + 3):
            again = conformers.superposed(path.shapes[i + 1], path.shapes[first])
            assert_allclose(again, path.shapes[i + 1], atol=1e-9)
            distance = conformers.rmsd(again, path.shapes[first])
            assert distance == pytest.approx(path.arc_length[i + 1] - path.arc_length[first], rel=1e-9)


def test_shares_are_those_of_linear_interpolation_and_go_on_beyond_the_ends():
    knots = np.array([0.0, 1.0, 3.0])
    theta = jnp.array([[0.0], [0.25], [1.0], [2.0], [3.0], [4.0]])
    expected = [[1, 0, 0], [0.75, 0.25, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1], [0, -0.5, 1.5]]
    assert_allclose(conformers.shares(knots, theta), expected, atol=1e-6)


def test_residues_correspond_by_their_numbers():
    shape = random_shape(0, 20)
    path = conformers.path_through([trace(shape[:12]), trace(shape[5:] + 0.1 * random_shape(1, 15), first=6)], 0)
    assert path.shapes.shape == (2, 7, 3)
    assert path.arc_length[1] < 2.5  # not of atoms that are five residues apart
    with pytest.raises(ValueError, match=r"3 residues in common .* wanted 4 or more"):
        conformers.path_through([trace(shape[:12]), trace(shape[9:], first=10)], 0)


def test_populations_are_those_of_the_sample():
    truth = ensemble(n_between=1, populations=[0.2, 0.5, 0.3], **TINY).truth
    support = np.unique(np.asarray(truth.sample(jax.random.key(0), 20_000)), return_counts=True)
    assert_allclose(support[1] / 20_000, [0.2, 0.5, 0.3], atol=5 * 0.5 / np.sqrt(20_000))
    u = (np.arange(1_000) + 0.5) / 1_000
    assert_allclose(np.unique(truth.quantile(u), return_counts=True)[1], [200, 500, 300])
    assert_allclose(np.unique(truth.quantile(u)), support[0])


def test_a_dirichlet_draw_does_not_change_with_the_replicate():
    def shares(**options):
        u = (np.arange(1_000) + 0.5) / 1_000
        return np.unique(ensemble(n_between=2, **TINY, **options).truth.quantile(u), return_counts=True)[1].tolist()

    assert shares(seed=0) == shares(seed=1) != shares(populations_seed=1)
    even = shares(concentration=1e4)
    assert np.abs(np.array(even) - 250).max() < 20  # a std of 2 for populations of 1/4


def expected_log_likelihood(instance, options, theta, turns, weights, given):
    """log sum_q w_q exp(-|y - x|^2 / 2) of all theta and images, pixel by pixel, less that of y alone."""
    size, pixel, std = (options[key] for key in ("image_size", "pixel_size_in_angstroms", "atom_std_in_angstroms"))
    grid = pixel * (np.arange(size) - size // 2)
    length, shapes = superposed_pair([file() for file in FILES])

    def images(theta, rotation):
        places = shapes[0] + theta / length * (shapes[1] - shapes[0])
        return gaussians(grid, std, np.einsum("qij,aj->qai", rotation, places)[..., :2]).reshape(len(rotation), -1)

    truth, problem = instance.truth, instance.problem
    clean = [
        images(float(t), np.asarray(r, np.float64)[None])[0]
        for t, r in zip(truth.theta[:, 0], truth.pose.rotation, strict=True)
    ]
    scale = np.sqrt(0.1 * (size * pixel / 1.5) ** 2 / np.mean(np.sum(np.square(clean), 1)))
    y = np.asarray(problem.observations, np.float64)
    squares = (y**2).sum(1)

    def of_pair(t, i):
        misfit = ((y[i] - scale * images(t, turns @ given[i])) ** 2).sum(1) - squares[i]
        return logsumexp(-0.5 * misfit, b=weights)

    return np.array([[of_pair(t, i) for i in range(len(y))] for t in theta])


@pytest.mark.parametrize(
    "options", [SMALL, SMALL | {"image_size": 25, "pixel_size_in_angstroms": 5.0}], ids=["binned", "as it is"]
)
def test_the_likelihood_of_known_poses_is_that_of_all_pixels(options):
    instance = ensemble(poses="known", **options)
    n, theta = options["n_observations"], np.array([0.0, 2.5, float(instance.problem.support[1, 0])])
    given = np.asarray(instance.truth.pose.rotation, np.float64)
    expected = expected_log_likelihood(instance, options, theta, np.eye(3)[None], np.ones(1), given)
    rows = jnp.asarray(np.repeat(theta, n)[:, None], jnp.float32), jnp.tile(jnp.arange(n), len(theta))
    found = np.asarray(instance.problem.log_likelihood(*rows)).reshape(len(theta), n)
    # of 900 and more: rounding, and the coefficients that are cropped, e^-9.8 of an atom's square
    assert_allclose(found, expected, atol=0.05)


@pytest.mark.slow
def test_poses_that_are_near_are_integrated_over_their_error():
    """Against a sum over rotations that are drawn uniformly within the error, at all pixels."""
    options = SMALL | {
        "n_observations": 2,
        "pose_error_in_degrees": 4.0,
        "image_size": 24,
        "pixel_size_in_angstroms": 6.0,
    }
    coarse, fine = (ensemble(poses="near", pose_spacing_in_degrees=s, **options) for s in (2.0, 0.7))
    theta = jnp.array([[0.0], [7.0]])
    rows = jnp.repeat(theta, 2, axis=0), jnp.tile(jnp.arange(2), 2)
    found = [np.asarray(one.problem.log_likelihood(*rows)).reshape(2, 2) for one in (coarse, fine)]
    assert_allclose(*found, atol=0.1)
    held = given_poses.with_error(
        np.deg2rad(4.0), jax.random.split(jax.random.key(0), 5)[2], coarse.truth.pose.rotation
    )
    turns = np.random.default_rng(0).normal(size=(1_000, 3))
    angle = np.deg2rad(4.0) * np.cbrt(np.random.default_rng(1).uniform(size=1_000))  # (1 - cos) is a square here
    turns = Rotation.from_rotvec(angle[:, None] * turns / np.linalg.norm(turns, axis=1)[:, None]).as_matrix()
    weights = np.full(1_000, 1 / 1_000)
    expected = expected_log_likelihood(fine, options, theta[:, 0], turns, weights, np.asarray(held, np.float64))
    # the standard error of the sum, whose terms range over less than a hundredfold: 0.06; five of them
    assert_allclose(found[1], expected, atol=0.3)


@pytest.mark.parametrize("degrees", [10.0, 120.0])
def test_errors_of_poses_and_their_quadrature_have_the_moments_of_the_haar_measure(degrees):
    """The angle has the density 1 - cos within the largest; the axes are uniform."""
    largest = np.deg2rad(degrees)
    (total, *moments) = (
        scipy.integrate.quad(lambda r, k=k: (1 - np.cos(r)) * np.cos(r) ** k, 0, largest)[0] for k in (0, 1, 2)
    )
    turns = given_poses.turns_within(largest, largest / 8)
    identity = jnp.broadcast_to(jnp.eye(3), (20_000, 3, 3))
    drawn = np.asarray(given_poses.with_error(largest, jax.random.key(0), identity), np.float64)
    for rotation, weights, error in (
        (turns.rotation, turns.weights, 1 / 2 / 8**2),  # midpoints, of the second order in the spacing
        (drawn, np.full(20_000, 5e-5), 5 / np.sqrt(20_000)),
    ):
        cosine = (np.trace(rotation, axis1=1, axis2=2) - 1) / 2
        assert cosine.min() > np.cos(largest) - 1e-6
        spread = 1 - np.cos(largest)  # of the cosine
        assert weights @ cosine == pytest.approx(moments[0] / total, abs=error * spread)
        assert weights @ cosine**2 == pytest.approx(moments[1] / total, abs=2 * error * spread)
        mean = np.einsum("q,qij->ij", weights, rotation)
        assert_allclose(mean, np.eye(3) * np.trace(mean) / 3, atol=2 * error * np.sqrt(spread))


def test_given_poses_are_off_by_no_more_than_the_error_and_are_not_the_true_ones():
    rotation = ensemble(**TINY | {"n_observations": 200}).truth.pose.rotation
    given = given_poses.with_error(np.deg2rad(10.0), jax.random.key(3), rotation)
    cosine = (np.einsum("nij,nij->n", given, rotation) - 1) / 2
    angle = np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))
    assert angle.max() < 10.01
    assert 7.0 < angle.mean() < 8.0  # 7.5


def test_binned_noise_is_white():
    y = jax.random.normal(jax.random.key(0), (400, 64 * 64))
    seen = given_poses.binned(Camera(64, 1.5, 3.0, False), y, 20.0)
    w = seen.images.shape[1]
    assert w % 2 == 1
    assert w < 64
    assert 2.8 < seen.pixel <= 3.0
    flat = np.asarray(seen.images, np.float64).reshape(400, -1)[:, ::7]
    covariance = flat.T @ flat / 400
    assert abs(np.diag(covariance).mean() - 1) < 5 * np.sqrt(2 / flat.size)
    assert abs(covariance[np.triu_indices(len(covariance), 1)]).max() < 5.5 / np.sqrt(400)


@pytest.mark.slow  # compiled in float64
def test_the_gradient_of_the_likelihood_is_that_of_differences(x64):
    problem = ensemble(**TINY | {"pose_spacing_in_degrees": 8.0}).problem
    theta, image = jnp.linspace(0.5, 6.5, 5)[:, None], jnp.arange(5)
    slope = jax.grad(lambda t: problem.log_likelihood(t, image).sum())(theta)[:, 0]
    step = 1e-4
    ends = [problem.log_likelihood(theta + s, image) for s in (step, -step)]
    assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-6)


def test_unknown_poses_have_no_likelihood_of_their_own():
    problem = ensemble(poses="unknown", **TINY).problem
    assert problem.log_likelihood is None
    assert len(problem.pose_quadrature(1)[1]) == 576
    assert problem.support.shape == (2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structures": [str(FILES[0]())]}, "structures has 1 entry.*wanted two or more"),
        ({"structures": "4ake.pdb"}, "structures is '4ake.pdb'; wanted a list"),
        ({"structures": [str(FILES[0]())] * 2}, "are the same"),
        ({"populations": [0.3, 0.6]}, "sum 0.9; wanted a sum of 1"),
        ({"populations": [0.3, 0.3, 0.4]}, "populations has 3 entries; wanted 2"),
        ({"populations": [1.3, -0.3]}, "wanted none that is negative"),
        ({"populations": [0.3, 0.7], "concentration": 1.0}, "wanted one of them"),
        ({"concentration": -1.0}, "concentration is -1.0; wanted a positive"),
        ({"poses": "guessed"}, "poses is 'guessed'; wanted one of 'known', 'near', 'unknown'"),
        ({"pose_error_in_degrees": -10.0}, "pose_error_in_degrees is -10.0; wanted a positive"),
        ({"pose_error_in_degrees": 200.0}, "pose_error_in_degrees is 200.0; wanted .* up to 180"),
        ({"pose_spacing_in_degrees": 0.01}, "pose_spacing_in_degrees is 0.01; wanted 0.488 or more"),
        ({"n_between": -1}, "n_between is -1"),
        ({"cropped_size": 4}, "cropped_size is 4; wanted an odd number"),
    ],
)
def test_bad_input_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        ensemble(**TINY | options)
