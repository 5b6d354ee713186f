"""Maps of classes: the density of each structure, where and how large it is, whatever the contrast of the stack."""

import shutil
import subprocess

import jax
import jax.numpy as jnp
import jax.random as jr
import mrcfile
import numpy as np
import pytest
import starfile

from cryosip.datasets import class_maps as module
from cryosip.datasets import particle_files, prody_adapter, rotations
from cryosip.datasets.class_maps import class_maps
from cryosip.datasets.given_poses import NO_TURN
from cryosip.datasets.imaging import Imaging, poses_of
from cryosip.datasets.instance import Molecule
from cryosip.datasets.motions import motions_of
from cryosip.datasets.particle_files import Stack
from cryosip.datasets.particle_stacks import read_particles
from cryosip.datasets.projection import fourier_basis
from cryosip.datasets.protein_images import Beads
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.datasets.stack_images import Optics, clean

SIZE, PIXEL, STD, N, NOISE = 32, 5.0, 5.0, 600, 4.0
STATES = np.array([[9.0, 9.0], [-7.0, -7.0]])
LABELS = np.arange(N) % 3 // 2  # both classes are in both halves
OPTICS = Optics(SIZE, PIXEL, SIZE - 1, STD, np.ones(SIZE // 2))


@pytest.fixture(scope="module")
def moving():
    return motions_of(prody_adapter.adenylate_kinase(), n_modes=2, atoms_per_bead=4)


def made(folder, moving, has_ctf=True, contrast=1.0, noise_std=NOISE):
    """Images of both states with an astigmatic CTF, shifts and noise, as `stack` would describe them."""
    folder.mkdir(exist_ok=True)
    molecule, beads = moving
    rng = np.random.default_rng(0)
    defocus = rng.uniform(1e4, 2e4, N) if has_ctf else None
    pose = ProteinPose(rotations.uniform(jr.key(1), N), 5 * jr.normal(jr.key(2), (N, 2)), jnp.zeros(N))
    particle_files.write_stack(folder, Stack(np.zeros((N, SIZE, SIZE), np.float32), PIXEL, defocus, pose))
    file = folder / "particles.star"
    if has_ctf:
        tables = starfile.read(file)
        astigmatic = {"rlnDefocusV": defocus + rng.uniform(0, 3e3, N), "rlnDefocusAngle": rng.uniform(-180, 180, N)}
        starfile.write(tables | {"particles": tables["particles"].assign(**astigmatic)}, file)
    particles = read_particles(file)
    beads = beads._replace(atoms=contrast * beads.atoms)
    draw = jax.jit(lambda theta, pose: clean(OPTICS, beads, theta, pose))
    squares = draw(jnp.asarray(STATES[LABELS], jnp.float32), poses_of(particles, np.arange(N)))
    basis = fourier_basis(SIZE, SIZE // 2 - 1)
    images = basis.T @ np.asarray(squares) @ basis + noise_std * rng.normal(size=(N, SIZE, SIZE))
    (folder / "particles.mrcs").unlink()
    particle_files.write_mrc(folder / "particles.mrcs", -images if has_ctf else images, PIXEL)
    noise = np.full(SIZE // 2, noise_std)
    return Imaging(
        particles, molecule, beads, OPTICS, contrast, noise, np.zeros_like(noise), NO_TURN, 0.0, 0.0, 0.0, 14.0
    )


@pytest.fixture(scope="module")
def imaging(moving, tmp_path_factory):
    return made(tmp_path_factory.mktemp("stack"), moving)


@pytest.fixture(scope="module")
def maps(imaging):
    return class_maps(imaging, np.arange(N), np.eye(2)[LABELS])


@pytest.fixture(scope="module")
def densities(moving):
    """Of both states: Gaussians whose sums over voxels are the images."""
    grid = PIXEL * (np.arange(SIZE) - SIZE // 2)
    molecule, beads = moving
    shapes = molecule.rest + np.tensordot(STATES, molecule.motions, 1)
    along = np.exp(-((grid - shapes[..., None]) ** 2) / (2 * STD**2))  # (state, bead, axis, voxel)
    height = beads.atoms * PIXEL / (np.sqrt(2 * np.pi) * STD)
    return np.einsum("a,saz,say,sax->szyx", height, along[:, :, 2], along[:, :, 1], along[:, :, 0])


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def check(maps, densities):
    """Each is its own density, in the right units, and not the other's, which correlates with it by 0.88."""
    for i in range(2):
        assert correlation(maps[i], densities[i]) > 0.97
        assert correlation(maps[i], densities[1 - i]) < 0.91
        # the filter takes a share of what noise hides
        assert (maps[i] * densities[i]).sum() / (densities[i] ** 2).sum() == pytest.approx(0.97, abs=0.04)


def test_each_class_is_the_density_of_its_structure(maps, densities):
    assert maps.dtype == np.float32
    check(maps, densities)


def test_images_without_a_ctf_do_as_well(moving, densities, tmp_path):
    found = class_maps(made(tmp_path, moving, has_ctf=False), np.arange(N), np.eye(2)[LABELS])
    check(found, densities)


def test_axes_hand_and_origin_are_those_of_the_poses(maps, densities):
    (one, _), (density, _) = maps, densities
    others = [density[::-1], density[:, ::-1], density[:, :, ::-1], density[::-1, ::-1, ::-1]]
    others += [np.transpose(density, order) for order in ((0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1))]
    others += [np.roll(density, 1, axis) for axis in range(3)]
    assert max(correlation(one, other) for other in others) < correlation(one, density) - 0.04


def test_frequencies_agree_with_the_density_as_far_as_it_has_signal(maps, densities):
    """Up to 23 angstroms, where noise hides what is left of an atom; nothing is beyond Nyquist."""
    a, b = np.fft.fftn(maps[0]), np.fft.fftn(densities[0])
    k = np.fft.fftfreq(SIZE, 1 / SIZE)
    shell = np.round(np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)).astype(int).ravel()
    of_shells = [np.bincount(shell, v.ravel()) for v in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)]
    assert (of_shells[0] / np.sqrt(of_shells[1] * of_shells[2]))[1:8].min() > 0.95
    assert of_shells[1][SIZE // 2 :].max() < 1e-8 * of_shells[1].max()


def test_images_that_may_be_of_either_class_give_equal_maps(imaging, densities):
    both = class_maps(imaging, np.arange(N), np.full((N, 2), 0.5))
    np.testing.assert_array_equal(both[0], both[1])
    mean = np.tensordot(np.bincount(LABELS) / N, densities, 1)
    assert correlation(both[0], mean) > max(correlation(both[0], density) for density in densities) + 0.01


def test_the_opposite_contrast_gives_the_same_maps(maps, densities, moving, tmp_path):
    check(class_maps(made(tmp_path, moving, contrast=-1.0), np.arange(N), np.eye(2)[LABELS]), densities)


def test_neither_batches_nor_the_order_of_classes_matter(imaging, maps, monkeypatch):
    monkeypatch.setattr(module, "PIXELS", 70 * SIZE**2)
    monkeypatch.setattr(module, "BYTES", 1)
    other = class_maps(imaging, np.arange(N), np.eye(2)[1 - LABELS])
    np.testing.assert_allclose(other[::-1], maps, atol=1e-4 * maps.max())


def test_rows_are_those_of_the_images(imaging, densities):
    rows = np.flatnonzero(LABELS == 1)
    (found,) = class_maps(imaging, rows, np.ones((len(rows), 1)))
    assert correlation(found, densities[1]) > 0.97


def test_what_two_halves_do_not_share_is_filtered(moving, densities, tmp_path):
    """Of noise ten times as strong the map without the filter is mostly noise."""
    noisy = made(tmp_path, moving, noise_std=10 * NOISE)
    (found,) = class_maps(noisy, np.arange(N), np.ones((N, 1)))
    mean = np.tensordot(np.bincount(LABELS) / N, densities, 1)
    sums = module._sums(noisy, np.arange(N), np.ones((N, 1)))[0]
    raw = module._masked(module._mask(noisy), module._map(sums, SIZE))
    assert np.linalg.norm(raw - mean) > 2 * np.linalg.norm(found - mean)
    assert np.linalg.norm(found - mean) < 0.6 * np.linalg.norm(mean)


def test_outside_of_the_molecule_there_is_nothing_and_a_class_without_images_is_0(imaging, maps):
    grid = np.arange(SIZE) - SIZE // 2
    distance = np.sqrt(grid[:, None, None] ** 2 + grid[:, None] ** 2 + grid**2)
    assert np.abs(maps[:, distance > SIZE // 2]).max() < 0.02 * maps.max()
    found = class_maps(imaging, np.arange(N), np.stack([np.ones(N), np.zeros(N)], axis=1))
    assert found[0].max() > 0
    assert not found[1].any()


def test_far_from_the_middle_density_is_as_high(tmp_path):
    """Insertion alone would leave 0.9 of a bead that is 11 voxels off."""
    rest = np.array([[0.0, 0.0, 0.0], [20.0, -50.0, 10.0]])
    still = np.zeros((2, 2, 3))
    beads = Beads(np.ones(2), jnp.asarray(rest, jnp.float32), jnp.asarray(still, jnp.float32))
    molecule = Molecule("none", "A", 2, rest, still, np.ones(2), np.ones(2), np.ones(2))
    given = made(tmp_path, (molecule, beads), noise_std=0.01)
    (found,) = class_maps(given, np.arange(N), np.ones((N, 1)))
    middle, far = found[16, 16, 16], found[18, 6, 20]
    assert far == pytest.approx(middle, rel=0.04)


def test_images_of_an_odd_size_are_refused(imaging):
    odd = imaging._replace(particles=imaging.particles._replace(size=SIZE - 1))
    with pytest.raises(ValueError, match=r"images have 31 x 31 pixels; wanted an even number"):
        class_maps(odd, np.arange(N), np.ones((N, 1)))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="RELION is not installed")
@pytest.mark.parametrize("has_ctf", [True, False])
def test_relion_reconstructs_the_same_map(has_ctf, moving, tmp_path):
    """Up to 14 angstroms; in scale, too."""
    given = made(tmp_path, moving, has_ctf)
    command = ["relion_reconstruct", "--i", "particles.star", "--o", "map.mrc", *(["--ctf"] if has_ctf else [])]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with mrcfile.open(tmp_path / "map.mrc") as file:
        theirs = module._masked(module._mask(given), np.asarray(file.data))
    (ours,) = class_maps(given, np.arange(N), np.ones((N, 1)))
    k = np.fft.fftfreq(SIZE, PIXEL)
    low = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2) < 1 / 14
    a, b = (np.fft.fftn(one)[low] for one in (ours, theirs))
    assert (a * b.conj()).sum().real / np.sqrt((np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum()) > 0.99
    assert (a * b.conj()).sum().real / (np.abs(b) ** 2).sum() == pytest.approx(1.0, abs=0.05)
