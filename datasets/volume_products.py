"""sum_i w_i P_i^T P_i of many images, as an operator on volumes whose cost does not grow with their number."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cryosip.datasets.projection import contrast_transfer
from cryosip.datasets.protein_images import VOLTAGE_IN_KILOVOLTS, Camera
from cryosip.datasets.protein_poses import ProteinPose
from cryosip.datasets.volumes import OVERSAMPLING, Cube, corners, finer, half_plane, image_shells, in_ball, projections
from cryosip.methods.problem import Volumes

SCATTERED_AT_A_TIME = 1 << 21  # numbers
CORNERS = np.array(list(np.ndindex(2, 2, 2)))  # (x, y, z), as `corners` has them
# 0, and one of each pair of opposite neighbours
OFFSETS = np.array([d for d in np.ndindex(3, 3, 3) if d >= (1, 1, 1)]) - 1
# corners, and which offset leads from the first to the second
PAIRS = np.array(
    [(i, j, row) for i, j in np.ndindex(8, 8) for row in np.flatnonzero((CORNERS[j] - CORNERS[i] == OFFSETS).all(1))]
)
Maps = Float[Array, "q v"]
Stencil = Float[Array, "14 p n"]


def volumes(camera: Camera, cube: Cube) -> Volumes:
    """What methods may know of volumes: projections, onto the lowest Fourier coefficients of images, and shells."""
    reach = cube.reach
    return Volumes(
        size=cube.size,
        voxel_size=cube.voxel,
        project=jax.jit(partial(projections, camera, cube), inline=True),
        normal=partial(normal, camera, cube),
        in_ball=jax.jit(partial(in_ball, cube), inline=True),
        shells=jnp.asarray(cube.shells),
        image_shells=jnp.asarray(image_shells(reach)),
    )


def normal(
    camera: Camera, cube: Cube, pose: ProteinPose, weights: Float[Array, "m p"], precision: Float[Array, " s"]
) -> Callable[[Int[np.ndarray, "*q"], Maps], Maps]:
    """The operators sum_i w_ip P_i^T diag(precision) P_i, to be `applied` to volumes."""
    return partial(applied, cube, jax.jit(partial(stencil, camera, cube), inline=True)(pose, weights, precision))


def stencil(
    camera: Camera, cube: Cube, pose: ProteinPose, weights: Float[Array, "m p"], precision: Float[Array, " s"]
) -> Stencil:
    """sum_i w_ip P_i^T diag(precision) P_i, as products of each node of the finer grid with its neighbours.

    Slices are linear between 8 nodes, S_i(n) the weights of these, so that an image couples a node with 26 others at
    most: B_d(n) = sum_i w_ip S_i(n) S_i(n + d), for 14 offsets d, the others being their opposites. It is exact.

    Parameters
    ----------
    camera, cube
        As `projections` has them.
    pose
        Of the m images.
    weights
        p weights of each.
    precision
        Of the coordinates of an image in each shell, up to the reach of the cube.
    """
    dtype, side, (m, p) = weights.dtype, OVERSAMPLING * cube.size, weights.shape
    q_x, q_y = half_plane(cube)
    length = np.hypot(q_x, q_y)
    # of a real image the other half of the waves is the same, but with q_x = 0, where both are here
    height = np.where(q_x == 0, 1.0, 2.0) * cube.width**3 / (camera.size * camera.pixel**2) ** 2
    if camera.scattering is not None:
        height = height * (np.sinc(q_x / camera.size) * np.sinc(q_y / camera.size)) ** 2
    share = jnp.asarray(height, dtype) * precision[np.rint(length).astype(int)]

    def of_image(pose: ProteinPose) -> tuple[Float[Array, "c 3"], Float[Array, " c"]]:
        """Where its waves are on the finer grid, and their weights."""
        rotation = pose.rotation.astype(dtype)
        at = jnp.asarray(q_x, dtype)[:, None] * rotation[0] + jnp.asarray(q_y, dtype)[:, None] * rotation[1]
        if not camera.has_ctf:
            return OVERSAMPLING * at, share
        response = contrast_transfer(
            jnp.asarray(length / cube.width, dtype), pose.defocus.astype(dtype), VOLTAGE_IN_KILOVOLTS
        )
        return OVERSAMPLING * at, share * response**2

    def add(
        total: Float[Array, "14 n p"], some: tuple[ProteinPose, Float[Array, "b p"]]
    ) -> tuple[Float[Array, "14 n p"], None]:
        at, strength = jax.vmap(of_image)(some[0])
        values = (strength[:, :, None] * some[1][:, None]).reshape(-1, p)
        weight, node = (jnp.stack(parts) for parts in zip(*corners(side, at.reshape(-1, 3)), strict=True))

        def couple(total: Float[Array, "14 n p"], pair: Int[Array, "3"]) -> tuple[Float[Array, "14 n p"], None]:
            first, second, row = pair
            update = (weight[first] * weight[second])[:, None] * values
            return total.at[row, node[first]].add(update, mode="promise_in_bounds"), None

        return jax.lax.scan(couple, total, jnp.asarray(PAIRS))

    size = max(1, min(m, SCATTERED_AT_A_TIME // (len(q_x) * p)))
    n = -(-m // size)

    def in_batches(a: Float[Array, "m ..."], fill: str) -> Float[Array, "b i ..."]:
        padded = jnp.pad(a, [(0, n * size - m)] + [(0, 0)] * (a.ndim - 1), mode=fill)
        return padded.reshape(n, size, *a.shape[1:])

    # images that fill the last batch have no weight
    batches = jax.tree.map(lambda a: in_batches(a, "edge"), pose), in_batches(weights, "constant")
    total, _ = jax.lax.scan(add, jnp.zeros((len(OFFSETS), side**3, p), dtype), batches)
    return jnp.moveaxis(total, 2, 1)  # sums are fast with weights side by side, products with nodes


def applied(cube: Cube, products: Stencil, pairs: Int[np.ndarray, "*q"], maps: Maps) -> Maps:
    """sum_l A_kl V_l for each k, A_kl = sum_i w_i,pairs[k,l] P_i^T diag(precision) P_i.

    Parameters
    ----------
    cube
        The voxels.
    products
        Of `stencil`.
    pairs
        (q, q): which of the p weights couples volumes k and l; (q,) where each volume is coupled with itself alone.
    maps
        V (q, v).
    """
    side = OVERSAMPLING * cube.size
    steps = jnp.asarray(OFFSETS @ [1, side, side**2])

    def on_grid(c: Float[Array, " v"]) -> Float[Array, "2 n"]:
        return finer(cube, c, OVERSAMPLING).reshape(2, -1)

    grid = jax.vmap(on_grid)(maps)

    def mixed(some: Float[Array, "p n"], values: Float[Array, "q 2 n"]) -> Float[Array, "q 2 n"]:
        if pairs.ndim == 1:
            return some[pairs, None] * values
        rows = [sum(some[p] * value for p, value in zip(row, values, strict=True)) for row in pairs]
        return jnp.stack(rows)

    def add(total: Float[Array, "q 2 n"], one: tuple[Array, Float[Array, "p n"]]) -> tuple[Float[Array, "q 2 n"], None]:
        step, some = one
        ahead = mixed(some, jnp.roll(grid, -step, axis=2))
        behind = jnp.roll(mixed(some, grid), step, axis=2)
        return total + ahead + jnp.where(step == 0, 0, behind), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(grid), (steps, products))
    back = jax.linear_transpose(on_grid, jnp.zeros_like(maps[0]))
    return jax.vmap(lambda g: back(g)[0])(total)
