"""Sums over images of projections and their transposes: the same as image by image."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.datasets import volume_products
from cryosip.datasets.protein_images import Camera, Scattering
from cryosip.datasets.protein_poses import PoseRange, sample_poses
from cryosip.datasets.volumes import Cube

POTENTIAL = Scattering(np.array([3.0, 1.0]), np.array([6.0, 7.0]))
PAIRS = np.array([[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("size", "defocus", "scattering", "pairs", "numbers"),
    [
        (8, None, None, PAIRS, 1 << 21),
        (7, (5_000.0, 20_000.0), None, PAIRS, 200),  # images in turns, and some that are left
        (8, (5_000.0, 20_000.0), POTENTIAL, np.arange(2), 300),
    ],
)
def test_sums_over_images_are_those_of_each(size, defocus, scattering, pairs, numbers, x64, monkeypatch):
    monkeypatch.setattr(volume_products, "SCATTERED_AT_A_TIME", numbers)
    cube, camera = Cube(size, 3.0), Camera(size, 3.0, 6.0, defocus is not None, scattering)
    pose = sample_poses(PoseRange(2.0, defocus), jr.key(2), 7)
    offered = volume_products.volumes(camera, cube)
    weights = jr.normal(jr.key(3), (7, 1 + pairs.max()))
    precision = jr.uniform(jr.key(4), (1 + cube.reach,)) + 0.5
    maps = jr.normal(jr.key(5), (2, len(cube.shells)))
    found = offered.normal(pose, weights, precision)(pairs, maps)

    shell = offered.image_shells
    of_coordinate = jnp.where(shell <= cube.reach, precision[jnp.minimum(shell, cube.reach)], 0.0)
    transposed = jax.linear_transpose(lambda c: offered.project(c, pose), maps[0])

    def one(k: int, j: int) -> jax.Array:
        pair = pairs[k, j] if pairs.ndim == 2 else pairs[k]
        image = weights[:, [pair]] * of_coordinate * offered.project(maps[j], pose)
        return transposed(image)[0]

    coupled = [[0, 1], [0, 1]] if pairs.ndim == 2 else [[0], [1]]
    wanted = [sum(one(k, j) for j in of_k) for k, of_k in enumerate(coupled)]
    np.testing.assert_allclose(found, jnp.stack(wanted), rtol=1e-9, atol=1e-9 * float(jnp.abs(found).max()))
