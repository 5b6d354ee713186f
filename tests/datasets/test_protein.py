"""Images of a protein are those of its formula, their noise is white, and poses, span and quadrature are as said."""

import inspect
import os
from functools import lru_cache

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal

from cryosip.datasets import protein, rotations, structures
from cryosip.datasets.gaussian_mixture import gaussian_mixture
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.datasets.registry import DATASETS

OWN_FOLDER = os.environ.get("CRYOSIP_STRUCTURES", "")
DRAWS = 20_000
SMALL = {
    "n_observations": 300,
    "image_size": 16,
    "pixel_size_in_angstroms": 8.0,
    "atom_std_in_angstroms": 6.0,
    "atoms_per_bead": 4,
}
VIEWS = {
    "rotation": {},
    "shift": {"max_shift_in_angstroms": 6.0},
    "ctf": {"defocus_range_in_angstroms": (8_000.0, 20_000.0)},
    "all": {"max_shift_in_angstroms": 6.0, "defocus_range_in_angstroms": (8_000.0, 20_000.0)},
    "fixed defocus": {"defocus_range_in_angstroms": (9_000.0, 9_000.0)},
}


PHYSICAL = {"intensity": "scattering", "atom_std_in_angstroms": 2.5}
OTHER = {"snr": 0.4, "noise_std": 2.0, "init_half_width": 3.0, **VIEWS["all"]}


def few_views(cases):
    """A problem takes seconds to build; what varies alone in the slow ones varies with the rest in "all"."""
    return [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] in ("shift", "ctf"))) for case in cases]


@pytest.fixture(autouse=True, scope="module")
def modes_once():
    """The four lowest modes are computed once for all tests: most have the same structure."""
    found, original = {}, protein.normal_modes

    def normal_modes(trace, cutoff, n):
        key = trace.coordinates.tobytes(), cutoff
        if key not in found:
            found[key] = original(trace, cutoff, 4)
        return structures.Modes(*(each[:n] for each in found[key]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protein, "normal_modes", normal_modes)
        yield


@lru_cache
def made(**options):
    return protein.adk(**{**SMALL, **options})


@lru_cache
def clean(**options):
    problem, truth, *_ = made(**options)
    return np.asarray(jax.jit(problem.render)(truth.theta, truth.pose), np.float64)


def assert_white(noise, std):
    """Mean, variance, and covariance of all pairs of columns."""
    n, p = noise.shape
    assert abs(noise.mean()) < 5 * std / np.sqrt(n * p)
    assert abs(noise.var() / std**2 - 1) < 5 * np.sqrt(2 / (n * p))
    assert abs((noise.T @ noise / n / std**2)[np.triu_indices(p, 1)]).max() < 5.5 / np.sqrt(n)  # of 32_640 pairs


def test_the_signal_is_as_strong_as_said():
    """On average over the data, by the width of the image: in a larger pixel the noise of small ones averages out."""
    assert (clean(**OTHER) ** 2).sum(1).mean() == pytest.approx(0.4 * 2**2 * (16 * 8 / 1.5) ** 2, rel=1e-5)


def test_the_noise_is_white():
    noise = np.asarray(made(**OTHER).problem.observations, np.float64) - clean(**OTHER)
    assert_white(noise, 2.0)
    images = noise.reshape(-1, 16, 16)
    turned = images[:, ::-1, ::-1]
    for mirror in (turned, np.roll(turned, 1, (1, 2))):  # about the middle, and about the pixel of the origin
        assert abs((images * mirror).mean() / 2**2) < 5 * np.sqrt(2 / noise.size)


@pytest.mark.parametrize(
    ("means", "std"),
    [pytest.param(((3.0,),), 0.5, marks=pytest.mark.slow), (((1.0, 2.0, 6.0), (0.0,), (-4.0, 5.0)), 0.8)],
)
def test_draws_follow_the_law(means, std):
    instance = made(means=means, std=std)
    assert instance.truth.theta.shape == (300, len(means))
    for theta in (instance.truth.theta, instance.truth.sample(jr.key(5), DRAWS)):
        theta, n = np.asarray(theta, np.float64), len(theta)
        variance = np.array([np.var(row) + std**2 for row in means])
        assert (abs(theta.mean(0) - [np.mean(row) for row in means]) < 5 * np.sqrt(variance / n)).all()
        fourth = ((theta - theta.mean(0)) ** 2).std(0)
        assert (abs(theta.var(0) - variance) < 5 * fourth / np.sqrt(n) + 5 * variance / n).all()
        correlation = np.atleast_2d(np.corrcoef(theta.T)) - np.eye(len(means))
        assert (abs(correlation) < 5 / np.sqrt(n)).all()
        for column, row in zip(theta.T, means, strict=True):
            law = gaussian_mixture(row, [std] * len(row), [1 / len(row)] * len(row))
            assert scipy.stats.kstest(column, law.cdf).pvalue > 1e-4


def test_the_initial_law_and_the_box():
    problem = made(**OTHER).problem
    start = np.asarray(problem.sample_init(jr.key(0), DRAWS), np.float64)
    assert (scipy.stats.kstest(start, scipy.stats.uniform(-3, 6).cdf, axis=0).pvalue > 1e-4).all()
    offset = problem.log_prior(jnp.asarray(start, "f4")) - scipy.stats.norm(0, 3 / np.sqrt(3)).logpdf(start).sum(1)
    assert_allclose(offset, offset[0], atol=1e-4)
    assert [side.tolist() for side in problem.theta_box] == [[-6.0] * 4, [6.0] * 4]


@pytest.mark.slow
def test_the_seed_decides_the_data():
    one, other, same = made(), made(seed=2), protein.adk(**SMALL)
    assert_array_equal(one.problem.observations, same.problem.observations)
    assert_array_equal(one.truth.theta, same.truth.theta)
    assert not (one.truth.theta == other.truth.theta).any()
    assert not (one.truth.pose.rotation == other.truth.pose.rotation).all((1, 2)).any()
    assert (one.problem.observations == other.problem.observations).mean() < 1e-4


def test_rows_are_independent():
    """Each image depends on its own theta and pose only."""
    problem, truth, *_ = made(**VIEWS["all"])
    render = jax.jit(problem.render)
    order = np.random.default_rng(0).permutation(300)
    mixed = render(truth.theta[order], jax.tree.map(lambda leaf: leaf[order], truth.pose))
    images = clean(**VIEWS["all"])
    assert_allclose(mixed, images[order], atol=1e-5 * images.max())
    moved = render(truth.theta.at[7].add(1.0), truth.pose)
    assert np.flatnonzero(abs(moved - images).max(1) > 1e-3 * images.max()).tolist() == [7]


def test_images_are_the_formula():
    """c sum_a n_a exp(-|g - (R X_a)_xy - t|^2 / (2 s^2)) with X = X_0 + sum_i z_i v_i / sqrt(lambda_i)."""
    trace = structures.load("adk")
    modes = protein.normal_modes(trace, 15.0, 4)
    options = {"atoms_per_bead": 1, **VIEWS["shift"]}
    _, truth, molecule, *_ = made(**options)
    expected = modes.vectors / np.sqrt(modes.eigenvalues)[:, None, None]
    assert_allclose(molecule.motions, expected, atol=1e-9)
    assert_allclose(molecule.rest, trace.coordinates - trace.coordinates.mean(0), atol=1e-12)
    assert_array_equal(molecule.eigenvalues, modes.eigenvalues)
    assert molecule.n_atoms == len(trace.coordinates) == 214
    shape = molecule.rest + np.einsum("ni,iaj->naj", truth.theta, expected)
    seen = np.einsum("nij,naj->nai", truth.pose.rotation[:, :2], shape) + np.asarray(truth.pose.shift)[:, None]
    x, y = seen.transpose(2, 0, 1)
    grid = 8.0 * (np.arange(16) - 8)
    squares = (grid - x[..., None, None]) ** 2 + (grid[:, None] - y[..., None, None]) ** 2
    images = np.exp(-squares / (2 * 6.0**2)).sum(1).reshape(300, -1)
    factor = np.sqrt((16 * 8 / 1.5) ** 2 / (images**2).sum(1).mean())
    assert_allclose(clean(**options), factor * images, atol=2e-5 * factor * images.max())


@pytest.mark.parametrize("atoms_per_bead", [1, 2, 4])
def test_beads_keep_mass_and_center(atoms_per_bead):
    trace = structures.load("adk")
    modes = protein.normal_modes(trace, 15.0, 4)
    amplitudes = np.array([1.0, 2.0, 3.0, 4.0])
    molecule, beads = protein.beads_of(trace, modes, amplitudes, atoms_per_bead)
    atoms = beads.atoms
    assert len(atoms) == len(molecule.rest) == -(-214 // atoms_per_bead)
    assert atoms.sum() == 214
    assert (atoms[:-1] == atoms_per_bead).all()
    assert_allclose(atoms @ molecule.rest, 0, atol=1e-9)
    assert_allclose(atoms @ molecule.motions, modes.vectors.sum(1) * amplitudes[:, None], atol=1e-9)
    first = (trace.coordinates - trace.coordinates.mean(0))[atoms_per_bead : 2 * atoms_per_bead].mean(0)
    assert_allclose(molecule.rest[1], first, atol=1e-12)


@pytest.mark.parametrize(
    ("view", "size", "cropped"), [("rotation", 25, 13), pytest.param("all", 24, 15, marks=pytest.mark.slow)]
)
def test_the_span_holds_the_images(view, size, cropped):
    """Orthonormal; coordinates are those of the pixels where these resolve the atoms; the error is the largest."""
    options = {"image_size": size, "atom_std_in_angstroms": 12.0, "cropped_size": cropped, **VIEWS[view]}
    problem = made(**options).problem
    span, p = problem.span, size**2
    basis = np.asarray(span.project(jnp.eye(p)))
    assert_allclose(basis.T @ basis, np.eye(cropped**2), atol=1e-5)
    theta, pose = problem.sample_init(jr.key(1), 300), problem.sample_pose(jr.key(2), 300)
    images = np.asarray(jax.jit(problem.render)(theta, pose))
    coordinates = np.asarray(jax.jit(span.coordinates)(theta, pose))
    lengths = np.linalg.norm(images, axis=1)
    assert np.linalg.norm(images @ basis - coordinates, axis=1).max() < 1e-5 * lengths.mean() < span.error
    outside = np.linalg.norm(images - coordinates @ basis.T, axis=1).max()
    assert outside / 1.3 < span.error < 1.3 * outside  # of other draws
    assert span.error < 0.02 * lengths.mean()
    noise = np.asarray(jr.normal(jr.key(3), (300, p)))
    assert_white(np.asarray(span.project(jnp.asarray(noise)), np.float64), 1.0)
    assert made().problem.span is None


@pytest.mark.parametrize(
    ("view", "orders"), few_views([("rotation", 3), ("shift", 2), ("ctf", 3), ("all", 2), ("fixed defocus", 2)])
)
def test_cells_of_poses_are_nested(view, orders):
    max_shift = VIEWS[view].get("max_shift_in_angstroms", 0.0)
    low, high = VIEWS[view].get("defocus_range_in_angstroms", (0.0, 0.0))
    quadrature = made(**VIEWS[view]).problem.pose_quadrature
    before, _ = quadrature(0)
    assert_allclose(before.shift, np.zeros((72, 2)))
    assert_allclose(before.defocus, np.full(72, (low + high) / 2))
    children = 8 * 4 ** (max_shift > 0) * 2 ** (low < high)
    for order in range(1, orders):
        pose, weights = quadrature(order)
        assert weights.shape == (72 * children**order,)
        assert_allclose(weights, 1 / len(weights), rtol=1e-5)
        parent = ProteinPose(*(np.repeat(leaf, children, axis=0) for leaf in before))
        angle = np.arccos(np.clip((np.einsum("nij,nij->n", parent.rotation, pose.rotation) - 1) / 2, -1, 1))
        assert angle.max() < np.deg2rad(70 / 2**order)
        assert_allclose(abs(pose.shift - parent.shift), max_shift / 2**order, atol=1e-5)
        assert_allclose(abs(pose.defocus - parent.defocus), (high - low) / 2 ** (order + 1), atol=1e-2)
        rows = np.concatenate([np.reshape(pose.rotation, (-1, 9)), pose.shift, pose.defocus[:, None]], axis=1)
        assert len(np.unique(rows.round(4), axis=0)) == len(rows)
        before = pose


@pytest.mark.parametrize(("view", "dimension"), few_views(zip(VIEWS, [3, 5, 4, 6, 3], strict=True)))
def test_poses_move(view, dimension):
    """Turns in radians, shifts in units of the largest, defocus of its range, each where it varies."""
    problem, truth, *_ = made(**VIEWS[view])
    motion, pose = problem.pose_motion, truth.pose
    assert motion.dimension == dimension
    move = jax.jit(motion.move)
    for before, after in zip(pose, move(pose, jnp.zeros((300, dimension))), strict=True):
        assert_allclose(after, before, atol=1e-6)
    step = np.random.default_rng(0).normal(size=(300, dimension))
    moved = move(pose, jnp.asarray(step, "f4"))
    assert_allclose(moved.rotation, rotations.turned(pose.rotation, jnp.asarray(step[:, :3], "f4")), atol=1e-5)
    shift = VIEWS[view].get("max_shift_in_angstroms", 0.0)
    assert_allclose(moved.shift - pose.shift, shift * step[:, 3:5] if shift else 0 * pose.shift, atol=1e-4)
    low, high = VIEWS[view].get("defocus_range_in_angstroms", (0.0, 0.0))
    assert_allclose(moved.defocus - pose.defocus, (high - low) * step[:, -1], atol=1e-2)


def test_poses_are_drawn_from_their_law():
    pose = made(**VIEWS["all"]).problem.sample_pose(jr.key(4), DRAWS)
    assert abs(np.asarray(pose.rotation, np.float64).mean(0)).max() < 5 / np.sqrt(3 * DRAWS)
    for column, law in [(pose.shift[:, 0], (-6, 12)), (pose.shift[:, 1], (-6, 12)), (pose.defocus, (8_000, 12_000))]:
        assert scipy.stats.kstest(np.asarray(column, np.float64), scipy.stats.uniform(*law).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(np.column_stack([pose.shift, pose.defocus]).T) - np.eye(3)).max() < 5 / np.sqrt(DRAWS)


def test_a_file_of_ones_own(tmp_path):
    line = "ATOM  {0:5d}  CA  ALA A{0:4d}    {1:8.3f}{2:8.3f}{3:8.3f}  1.00  0.00           C"
    places = [(2.3 * np.cos(1.745 * t), 2.3 * np.sin(1.745 * t), 1.5 * t) for t in range(4)]
    (file := tmp_path / "four.pdb").write_text("\n".join(line.format(i, *xyz) for i, xyz in enumerate(places)))
    options = {**SMALL, "atoms_per_bead": 3, "cutoff_in_angstroms": 40.0, "means": ((1.0,), (0.0, 2.0))}
    problem, truth, molecule, *_ = protein.hsp90(structure=file, **options)
    assert (problem.name, molecule.source, molecule.n_atoms) == ("2iop", str(file), 4)
    assert molecule.motions.shape == (2, 2, 3)
    assert (problem.observations.shape, truth.theta.shape) == ((300, 256), (300, 2))
    assert jnp.isfinite(problem.observations).all()


@pytest.mark.filterwarnings("ignore:2iop. chain A is broken between residues 493 and 500")
def test_the_modes_of_hsp90(monkeypatch):
    monkeypatch.setenv("CRYOSIP_STRUCTURES", OWN_FOLDER)
    if not OWN_FOLDER:
        pytest.skip("CRYOSIP_STRUCTURES names no folder of structures, and tests use no network")
    molecule = protein.hsp90(**{**SMALL, "n_observations": 2}).molecule
    assert_allclose(molecule.eigenvalues, [0.0198, 0.0331, 0.0401, 0.0550], rtol=0.01)


@pytest.mark.parametrize("name", ["adk", "hsp90"])
def test_signatures_show_the_options(name):
    options = inspect.signature(DATASETS[name]).parameters
    assert options["snr"].default == 1.0
    assert options["atoms_per_bead"].default == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_observations": 0}, "n_observations is 0; wanted a whole number >= 1"),
        ({"image_size": (16, 16)}, r"image_size \(of square images\) is \(16, 16\); wanted a whole number >= 1"),
        ({"pixel_size_in_angstroms": 0.0}, "pixel_size_in_angstroms is 0.0"),
        ({"atom_std_in_angstroms": -1.0}, "atom_std_in_angstroms is -1.0"),
        ({"snr": float("nan")}, "snr is nan"),
        *[({name: 0.0}, f"{name} is 0.0; wanted a positive") for name in ("noise_std", "init_half_width")],
        ({"max_shift_in_angstroms": -1.0}, "max_shift_in_angstroms is -1.0; wanted a finite number >= 0"),
        ({"seed": -1}, "seed is -1"),
        ({"amplitude": "square"}, "amplitude is 'square'; wanted"),
        ({"intensity": "counts"}, "intensity is 'counts'; wanted"),
        ({"element": "N"}, "element is 'N' with intensity 'snr', which does not use it"),
        ({"b_factor": 2.0}, "b_factor is 2.0 with intensity 'snr'"),
        ({"intensity": "scattering"}, "atom_std_in_angstroms is 6.0 with intensity 'scattering'"),
        ({**PHYSICAL, "snr": 2.0}, "snr is 2.0 with intensity 'scattering'"),
        ({**PHYSICAL, "element": "Og"}, "element is 'Og'; wanted one with a tabulated scattering factor"),
        ({**PHYSICAL, "element": "Qq"}, "element is 'Qq'; wanted one"),
        ({**PHYSICAL, "b_factor": -1.0}, "b_factor is -1.0; wanted a finite number >= 0"),
        ({"chain": "A,Z"}, "has no chain 'Z' with C-alphas; it has 'A'"),
        ({"chain": "A,A"}, "chain is 'A,A'; wanted different chains"),
        ({"atoms_per_bead": 5}, "atoms_per_bead is 5; wanted 1 to 4"),
        ({"atoms_per_bead": 0}, "atoms_per_bead is 0; wanted a whole number >= 1"),
        ({"means": ()}, r"means is \(\); wanted a list of centres for each mode"),
        ({"means": (9.0, -7.0)}, r"means is \(9.0, -7.0\); wanted a list of centres"),
        ({"means": ((9.0, float("inf")),)}, "means holds 1 NaN or infinite"),
        ({"means": ((),)}, r"means has shape \(1, 0\)"),
        ({"max_shift_in_angstroms": 1e6}, "the data of adk overflow, or no image holds anything"),
        ({"std": 0.0}, r"std is 0\.0; wanted"),
        ({"states": ((1.0,),)}, r"states is \(\(1.0,\),\); wanted two or more"),
        ({"view_axes": ((0.0, 0.0, 1.0),)}, "with view_concentration 0; wanted a positive concentration"),
        ({"cropped_size": 8}, "cropped_size is 8; wanted an odd number from 3 to image_size, 16"),
        *[({"cropped_size": size}, f"cropped_size is {size}; wanted an odd number from 3") for size in (1, 17)],
        (
            {"defocus_range_in_angstroms": (2.0, 1.0)},
            r"_range_in_angstroms is \(2.0, 1.0\); wanted \(lowest, highest\)",
        ),
        ({"defocus_range_in_angstroms": (2.0,)}, r"is \(2.0,\); wanted \(lowest, highest\)"),
        ({"defocus_range_in_angstroms": (2.0, float("inf"))}, "defocus_range_in_angstroms is inf; wanted a finite"),
        ({"cutoff_in_angstroms": 1.0}, "cutoff_in_angstroms is 1; wanted at least 4"),
        ({"chain": "Q"}, "has no chain 'Q'"),
    ],
)
def test_bad_input_is_refused(monkeypatch, options, says):
    # these are typed, and what is wrong here is a type
    for name in ("checked_defocus", "checked_conformations", "checked_views"):
        monkeypatch.setattr(protein, name, inspect.unwrap(getattr(protein, name)))
    with pytest.raises(ValueError, match=says):
        inspect.unwrap(protein.protein)("adk", **{**SMALL, **options})
