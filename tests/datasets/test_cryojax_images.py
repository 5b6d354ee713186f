"""Our images are cryoJAX's: rotations, handedness, pixel axes, shifts and the CTF; and they are made faster."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from cryosip.bench.speed.baselines import measure
from cryosip.bench.speed.cases import renderer
from cryosip.datasets import cryojax_images
from cryosip.datasets.projection import project
from cryosip.datasets.protein import hsp90

# no rotation and no reflection takes these atoms to themselves
TOY = np.array([[0.0, 0.0, 0.0], [12.0, 0.0, 0.0], [0.0, 8.0, 0.0], [3.0, -2.0, 10.0], [-5.0, 6.0, -7.0]])
WEIGHTS = np.array([1.0, 2.0, 3.0, 1.5, 2.5])
STD = 4.0


def views(n):
    rng = np.random.default_rng(0)
    return jnp.asarray(Rotation.random(n, rng=1).as_matrix(), "f4"), jnp.asarray(rng.uniform(-5, 5, (n, 2)), "f4")


def ours(size, pixel_size, *seen, weights=WEIGHTS, std=STD):
    @jax.jit
    def images(positions, rotation, shift):
        centers = jnp.einsum("nij,naj->nai", rotation[:, :2], positions, precision="highest") + shift[:, None]
        return project(size, pixel_size, std, weights, centers)

    return images(*seen)


def theirs(size, pixel_size, *seen, weights=WEIGHTS, std=STD, **options):
    return jax.jit(lambda *seen: cryojax_images.images(size, pixel_size, std, weights, *seen, **options))(*seen)


def repeated(atoms, n):
    return jnp.broadcast_to(jnp.asarray(atoms, "f4"), (n, *np.shape(atoms)))


@pytest.mark.parametrize(
    ("pose", "size"),
    [
        ("QuaternionPose", 49),
        ("EulerAnglePose", 48),
        pytest.param("QuaternionPose", 48, marks=pytest.mark.slow),
        pytest.param("AxisAnglePose", 48, marks=pytest.mark.slow),
    ],
)
def test_images_are_cryojaxs_at_the_centres_of_pixels(pose, size):
    seen = repeated(TOY, 12), *views(12)
    expected = np.asarray(theirs(size, 2.0, *seen, sampling="point", pose=pose))
    assert_allclose(ours(size, 2.0, *seen), expected, atol=1e-5 * expected.max())


def test_the_mean_over_a_pixel_differs_by_its_square():
    """cryoJAX's default: the difference falls four times with half the pixel."""
    seen = repeated(TOY, 3), *views(3)
    coarse, fine = (
        float(jnp.abs(ours(size, pixel, *seen) - theirs(size, pixel, *seen)).max())
        for size, pixel in ((48, 2.0), (96, 1.0))
    )
    # a Gaussian's mean over a pixel of width h is lower by h^2 / (12 std^2) at its top
    assert 0.5 < coarse / (2**2 / (12 * STD**2) * float(ours(48, 2.0, *seen).max())) < 1.5
    assert coarse / fine == pytest.approx(4, rel=0.05)


# where one's images are the other's, one of both is enough
@pytest.mark.parametrize("renderer", [ours, pytest.param(theirs, marks=pytest.mark.slow)])
def test_a_mirror_image_is_another_molecule(renderer):
    """In no view does the mirrored toy look like the toy, and a rotation is not its inverse."""
    rotation, shift = views(8)
    image = renderer(48, 2.0, repeated(TOY, 8), rotation, shift)
    mirrored = renderer(48, 2.0, repeated(TOY * [1, 1, -1], 8), rotation, shift)
    undone = renderer(48, 2.0, repeated(TOY, 8), rotation.transpose(0, 2, 1), shift)
    for other in (mirrored, undone):
        assert (jnp.abs(image - other).max((1, 2)) > 0.1 * image.max((1, 2))).all()


@pytest.mark.parametrize(
    ("renderer", "size"),
    [(ours, 48), (theirs, 49), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(ours, 49), (theirs, 48)])],
)
def test_x_is_along_columns_and_y_along_rows(renderer, size):
    """A shift moves atoms as far as their own displacement; the origin is at pixel size // 2."""
    moved = np.array([[0, 0, 9], [6, 0, 0], [0, 6, 0], [-6, 2, 5], [0, 0, 0], [0, 0, 0]], "f4")[:, None]
    shift = jnp.zeros((6, 2)).at[4, 0].set(8.0).at[5, 1].set(-4.0)
    images = renderer(size, 2.0, jnp.asarray(moved), repeated(np.eye(3), 6), shift, weights=np.ones(1))
    rows, columns = np.unravel_index(np.asarray(images).reshape(6, -1).argmax(1), (size, size))
    assert (rows - size // 2).tolist() == [0, 0, 3, 1, 0, -2]
    assert (columns - size // 2).tolist() == [0, 3, 0, -3, 4, 0]


@pytest.mark.parametrize("defocus_range", [pytest.param(None, marks=pytest.mark.slow), (6_000.0, 20_000.0)])
def test_a_protein_is_cryojaxs(tmp_path, defocus_range):
    """The whole forward map: modes, rotation, shift, and the CTF with its sign, all but for one positive factor."""
    steps = np.random.default_rng(4).normal(size=(30, 3))
    coil = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    line = "ATOM  {0:5d}  CA  ALA A{0:4d}    {1:8.3f}{2:8.3f}{3:8.3f}  1.00  0.00           C"
    (tmp_path / "coil.pdb").write_text("\n".join(line.format(i, *xyz) for i, xyz in enumerate(coil)))
    problem, truth, molecule, *_ = hsp90(
        structure=tmp_path / "coil.pdb",
        n_observations=5,
        image_size=64,
        pixel_size_in_angstroms=3.0,
        atom_std_in_angstroms=6.0,
        atoms_per_bead=4,
        max_shift_in_angstroms=5.0,
        defocus_range_in_angstroms=defocus_range,
    )
    atoms = np.array([4.0] * 7 + [2.0])
    found = np.asarray(problem.render(truth.theta, truth.pose)).reshape(5, 64, 64)
    beads = jnp.asarray(molecule.rest + np.tensordot(truth.theta, molecule.motions, 1), "f4")
    seen = beads, *(truth.pose[:2] if defocus_range is None else truth.pose)
    expected = np.asarray(theirs(64, 3.0, *seen, weights=atoms, std=6.0, sampling="point"), np.float64)
    factor = (found * expected).sum() / (expected**2).sum()
    assert factor > 0
    assert_allclose(found, factor * expected, atol=2e-5 * np.abs(found).max())


@pytest.mark.slow
@pytest.mark.parametrize("radius", [50.0, 90.0])
def test_images_and_their_gradients_are_faster(radius, capsys):
    """Forward and vjp, alternately in one process, atoms in a ball: as a protein's, or filling the whole image."""
    for theirs in measure(renderer(radius), rounds=5)["rows"][1:]:
        with capsys.disabled():
            print(f"\nradius {radius:g}: {theirs['times']['ours']:.1f} times faster than {theirs['implementation']}")
        assert theirs["times"]["ours"] >= theirs["wanted"].get("ours", 1.0)
