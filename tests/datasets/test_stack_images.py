"""The CTF on cosines and sines, astigmatic too, against cryoJAX; weights that make noise white."""

import shutil
import subprocess

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import starfile

from cryosip.datasets import cryojax_images, particle_files, rotations
from cryosip.datasets.particle_files import Stack
from cryosip.datasets.particle_stacks import read_images, read_particles
from cryosip.datasets.particle_tables import Ctf
from cryosip.datasets.projection import fourier_basis
from cryosip.datasets.protein_images import Beads
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.datasets.stack_images import (
    Optics,
    StackPose,
    as_pixels,
    clean,
    coefficients,
    of_pixels,
    shells,
    transferred,
    whitened,
)

SIZE, PIXEL, N = 32, 2.5, 3
ROUND = Ctf(*(np.full(N, a) for a in (1.5e4, 1.5e4, 0.7, 300.0, 2.7e7, 0.1, 0.0, 0.0, 1.0)))
ASTIGMATIC = ROUND._replace(
    defocus_u=np.array([1.4e4, 1e4, 2e4]),
    defocus_v=np.array([1.1e4, 1.6e4, 2.6e4]),
    angle=np.array([0.3, 1.0, 2.2]),
    voltage=np.array([100.0, 200.0, 300.0]),
    spherical_aberration=np.array([2.7e7, 1.4e7, 1e5]),
    amplitude_contrast=np.array([0.1, 0.07, 0.9]),
    phase_shift=np.array([0.0, 0.4, 0.0]),
    b_factor=np.array([0.0, 50.0, 0.0]),
    scale=np.array([1.0, 1.0, 0.8]),
)


def optics(kept):
    return Optics(SIZE, PIXEL, kept, 4.0, np.ones(kept // 2 + 1))


def in_whole_images(kept, squares):
    basis = fourier_basis(SIZE, kept // 2)
    return basis.T @ np.asarray(squares) @ basis


@pytest.mark.parametrize("kept", [31, 21])
@pytest.mark.parametrize("ctf", [ROUND, ASTIGMATIC])
def test_a_ctf_of_products_is_that_of_waves(x64, kept, ctf):
    low = coefficients(optics(kept), jnp.asarray(np.random.default_rng(0).normal(size=(N, SIZE, SIZE))))
    found = in_whole_images(kept, transferred(optics(kept), low, ctf))
    k = np.fft.fftfreq(SIZE, PIXEL)
    grid = np.stack(np.meshgrid(k, k), axis=-1)
    for i, images in enumerate(in_whole_images(kept, low)):
        one = Ctf(*(float(a[i]) for a in ctf))
        wanted = np.fft.ifft2(np.fft.fft2(images) * cryojax_images.astigmatic_transfer(grid, one)).real
        np.testing.assert_allclose(found[i], wanted, atol=1e-9)


def test_pixels_and_coefficients_are_each_other(x64):
    squares = jnp.asarray(np.random.default_rng(1).normal(size=(N, 21, 21)))
    pixels = as_pixels(optics(21), squares)
    np.testing.assert_allclose((pixels**2).sum(1), (squares**2).sum((1, 2)))
    np.testing.assert_allclose(of_pixels(optics(21), pixels), squares, atol=1e-12)


def test_shells_are_distances_from_the_constant():
    found = shells(5)
    np.testing.assert_array_equal(found, [[0, 1, 2, 1, 2], [1, 1, 2, 1, 2], [2] * 5, [1, 1, 2, 1, 2], [2] * 5])
    weighted = whitened(optics(5)._replace(weights=np.array([0.0, 2.0, 3.0])), jnp.ones((1, 5, 5)))
    np.testing.assert_array_equal(weighted[0], np.array([0.0, 2.0, 3.0])[found])


def test_the_ctf_is_compiled_once_for_all_images():
    low = jnp.ones((N, 21, 21))
    whole = jax.jit(lambda ctf: transferred(optics(21), low, ctf))(jax.tree.map(jnp.asarray, ASTIGMATIC))
    alone = transferred(optics(21), low[:1], Ctf(*(a[1:2] for a in ASTIGMATIC)))
    np.testing.assert_allclose(whole[1], alone[0], atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("relion_project") is None, reason="RELION is not installed")
def test_relion_makes_the_same_images(tmp_path):
    """Angles, origins, defocus along both axes and its angle, phase shift, B-factor, sign and hand, of no symmetry."""
    n, size, pixel, std = 40, 64, 2.5, 5.0
    rng = np.random.default_rng(0)
    atoms, weights = rng.uniform(-30, 30, (6, 3)), np.array([1.0, 2.0, 1.5, 3.0, 1.0, 2.5])
    grid = pixel * (np.arange(size) - size // 2)
    along = np.exp(-((grid - atoms[:, :, None]) ** 2) / (2 * std**2))  # (atom, axis, voxel)
    voxels = np.einsum("a,az,ay,ax->zyx", weights, along[:, 2], along[:, 1], along[:, 0])
    particle_files.write_mrc(tmp_path / "map.mrc", voxels, pixel)
    pose = ProteinPose(rotations.uniform(jr.key(1), n), 6 * jr.normal(jr.key(2), (n, 2)), jnp.zeros(n))
    blank = np.zeros((n, size, size), np.float32)
    particle_files.write_stack(tmp_path, Stack(blank, pixel, rng.uniform(1e4, 5e4, n), pose))
    tables = starfile.read(tmp_path / "particles.star")
    tables["particles"] = tables["particles"].assign(
        rlnDefocusV=rng.uniform(1e4, 5e4, n), rlnDefocusAngle=rng.uniform(-180, 180, n),
        rlnPhaseShift=rng.uniform(0, 90, n), rlnCtfBfactor=rng.uniform(0, 60, n),
    )  # fmt: skip
    starfile.write(tables, tmp_path / "given.star")
    command = ["relion_project", "--i", "map.mrc", "--o", "made", "--ang", "given.star", "--ctf"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = read_particles(tmp_path / "made.star")
    kept = 2 * int(size * pixel / 15) + 1  # up to 15 angstroms, where the map has signal
    optics = Optics(size, pixel, kept, std, np.array([0.0] + [1.0] * (kept // 2)))
    images = whitened(optics, coefficients(optics, jnp.asarray(-read_images(found, np.arange(n)))))
    beads = Beads(weights, jnp.asarray(atoms, jnp.float32), jnp.zeros((1, 6, 3)))
    view = StackPose(jnp.asarray(found.rotation), jnp.asarray(found.shift), jax.tree.map(jnp.asarray, found.ctf))
    ours = clean(optics, beads, jnp.zeros((n, 1)), view)
    cosine = (images * ours).sum((1, 2)) / jnp.sqrt((images**2).sum((1, 2)) * (ours**2).sum((1, 2)))
    assert cosine.min() > 0.99
    # a projection is an integral over angstroms, RELION's a sum over voxels
    height = (images * ours).sum() / (ours**2).sum()
    assert height == pytest.approx(np.sqrt(2 * np.pi) * std / pixel, rel=0.05)
    # each of the conventions matters
    mirrored = view.ctf._replace(angle=-view.ctf.angle)
    other = clean(optics, beads, jnp.zeros((n, 1)), view._replace(ctf=mirrored))
    assert (images * other).sum() < 0.95 * (images * ours).sum()
