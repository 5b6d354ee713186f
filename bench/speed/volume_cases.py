"""Comparisons on volumes: slices in many poses, and their transpose, against cryoJAX's."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from cryosip.bench.speed.baselines import Comparison, Implementation, deviation
from cryosip.datasets import cryojax_images
from cryosip.datasets.projection import fourier_basis
from cryosip.datasets.protein_images import Camera
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.datasets.volumes import Cube, from_voxels, projections

SHOWN = 8  # images whose pixels are compared with the formula
ATOMS, STD = 40, 2.0  # Gaussians in a ball of half the width, in voxels
BATCH = 64  # images of cryoJAX at a time, the fastest of 16 to 512


def slices(size: int, n: int, transposed: bool = False) -> Comparison:
    """n slices of a volume of size^3 voxels as images of size^2, or their transpose."""
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(ATOMS, 3))
    centers = ball * 0.25 * size * rng.uniform(size=(ATOMS, 1)) ** (1 / 3) / np.linalg.norm(ball, axis=1, keepdims=True)
    rotation = scipy.stats.special_ortho_group.rvs(3, size=n, random_state=rng)
    grid = np.arange(size) - size // 2
    x, y, z = (np.exp(-((grid - c[:, None]) ** 2) / (2 * STD**2)) for c in centers.T)
    voxels = np.einsum("az,ay,ax->zyx", z, y, x)

    def exact() -> np.ndarray:
        """The integrals of Gaussians along the beam."""
        at = np.einsum("nij,aj->nai", rotation[:SHOWN, :2], centers)
        x, y = (np.exp(-((grid - c[..., None]) ** 2) / (2 * STD**2)) for c in np.moveaxis(at, 2, 0))
        return np.sqrt(2 * np.pi) * STD * np.einsum("nay,nax->nyx", y, x)

    def measured(project: Callable[[Any], Any], volume: Any, pixels: Callable[[Any], Any], note: str) -> Implementation:
        found = jax.jit(project)(volume)
        timed = (lambda s: jax.linear_transpose(project, volume)(s)[0]) if transposed else project
        argument = found if transposed else volume
        run = jax.jit(timed).lower(argument).compile()
        return Implementation(
            lambda: jax.block_until_ready(run(argument)), lambda: deviation(pixels(found[:SHOWN]), exact()), note=note
        )

    def ours() -> Implementation:
        cube, camera = Cube(size, 1.0), Camera(size, 1.0, STD, False)
        pose = ProteinPose(jnp.asarray(rotation, jnp.float32), jnp.zeros((n, 2)), jnp.zeros(n))
        basis = fourier_basis(size, cube.reach).T

        def pixels(c: Any) -> np.ndarray:
            return np.einsum("yb,nba,xa->nyx", basis, np.asarray(c).reshape(len(c), basis.shape[1], -1), basis)

        volume = jnp.asarray(from_voxels(cube, voxels[None])[0], jnp.float32)
        return measured(
            lambda c: projections(camera, cube, c, pose), volume, pixels, "waves inside a disc, twice padded"
        )

    def cryojax(pad_scale: float) -> Implementation:
        values, slice_of = cryojax_images.slices(voxels, pad_scale)
        views = jnp.asarray(rotation, jnp.float32)

        def project(values: Any) -> Any:
            return jax.lax.map(partial(slice_of, values), views, batch_size=BATCH)

        def pixels(waves: Any) -> np.ndarray:
            whole = np.fft.irfft2(np.asarray(waves))
            start = (whole.shape[1] - size) // 2
            return whole[:, start : start + size, start : start + size]

        return measured(project, values, pixels, "a whole half of each transform")

    what = "Transpose of the slices" if transposed else "Slices"
    names = {f"cryoJAX, padded {scale:g} times": scale for scale in (1.0, 2.0)}
    return Comparison(
        f"{'backprojection' if transposed else 'slices'}-{size}",
        f"{what} of a volume of {size} x {size} x {size} voxels in {n} poses",
        {"ours": ours},
        {name: partial(cryojax, scale) for name, scale in names.items()},
        {},
    )
