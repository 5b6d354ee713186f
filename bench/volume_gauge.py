"""Distances of volumes from the true ones where each may be moved and mirrored to fit.

A program that searches poses finds each of its maps in a frame of its own, and with either hand.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import ot
from jaxtyping import Array, Float

from cryosip.bench.metrics import summary
from cryosip.datasets import rotations, volumes
from cryosip.datasets.instance import Instance
from cryosip.datasets.volumes import Cube
from cryosip.methods.problem import PRNGKey
from cryosip.records.schema import Floor

TRUTH_KEY, DRAWS, FLOOR_SAMPLES = 1007, 300, 5
ORDER, SEARCHED_SIZE = 2, 12  # of the search: rotations 15 degrees apart, and the waves of a cube of so many voxels
TRIED, STEPS = 8, 8  # best rotations of each hand from where it goes on, and its steps of Gauss and Newton
DIFFERENCE = np.deg2rad(2.0)  # of rotations, for derivatives: interpolation has kinks
LARGEST = np.deg2rad(20.0)  # rotation between a map and a true volume that both fit the mean
Coefficients = Float[np.ndarray, "n v"]
Volume = Float[Array, " v"]


class Movable(NamedTuple):
    """Volumes (n, v), and their derivatives (n, 6, v) with rotations about three axes and with shifts along them.

    Without the first coefficient, the mean of a map, which programs set as they like.
    """

    volumes: Float[np.ndarray, "n u"]
    slopes: Float[np.ndarray, "n 6 u"]


def true_volumes(instance: Instance) -> tuple[Coefficients, Floor]:
    """300 draws of the true volumes, and the floor of `volume_w2_aligned`, of as many draws as there are images or 300.

    The floor allows the same motions.
    """
    volume, offered = instance.volume, instance.problem.volumes
    assert volume is not None
    assert offered is not None
    cube, n = Cube(offered.size, offered.voxel_size), min(len(instance.problem.observations), DRAWS)

    def draws(key: PRNGKey) -> Coefficients:
        return np.asarray(volume(instance.truth.sample(key, DRAWS)), float)

    first, *others = jr.split(jr.key(TRUTH_KEY), 1 + FLOOR_SAMPLES)
    true = draws(first)
    there = movable(cube, true)
    found = summary([_w2(np.full(n, 1 / n), squares(movable(cube, draws(key)[:n]), there)) for key in others])
    return true, Floor(found["median"], found["q05"], found["q95"], n)


def of_volumes(
    cube: Cube, hands: Float[np.ndarray, "2 k v"], weights: Float[np.ndarray, " k"], true: Coefficients
) -> dict[str, float]:
    """`volume_w2_aligned`, W2 from the truth, and `volume_spread_aligned`, that of the mean for every image.

    The distance of volumes is min_g |g V - t| over all rigid motions, and both hands: near the frames in which V and t
    fit the mean of the truth, and to second order in the motion from there.

    Parameters
    ----------
    cube
        The voxels.
    hands, weights
        Maps in both hands, as `aligned` gives them, in the grey values of the truth; and their weights.
    true
        Draws of the truth.
    """
    mean = true.mean(0)
    fit, still = jax.jit(partial(_fitted, cube, jnp.asarray(mean, jnp.float32))), jnp.eye(3)[None]
    # moved as maps are, so that what is alike is in nearly the same frame: small distances tell the third order
    there = movable(cube, np.stack([fit(jnp.asarray(volume, jnp.float32), still)[0] for volume in true]))
    spread = squares(movable(cube, mean[None]), there)
    nearest = np.minimum(*(squares(movable(cube, hand), there) for hand in hands))
    return {"volume_w2_aligned": _w2(weights, nearest), "volume_spread_aligned": float(np.sqrt(spread.mean()))}


def _w2(weights: Float[np.ndarray, " k"], costs: Float[np.ndarray, "k n"]) -> float:
    n = costs.shape[1]
    return float(np.sqrt(ot.emd2(weights / weights.sum(), np.full(n, 1 / n), costs)))


def squares(a: Movable, b: Movable) -> Float[np.ndarray, "k n"]:
    """min_g |g V - t|^2 of all pairs, over small motions g.

    It is |V - t|^2 - s H^-1 s, s_a = <L_a V, t> and H_ab = (<L_a V, L_b t> + <L_b V, L_a t>) / 2: the second order of
    <exp(w L) V, t>, whose L_a are antisymmetric. Where that has no maximum at a small w, g is the identity.
    """
    slope = np.einsum("iav,jv->ija", a.slopes, b.volumes, optimize=True)
    curvature = np.einsum("iav,jbv->ijab", a.slopes, b.slopes, optimize=True)
    curvature = (curvature + curvature.swapaxes(2, 3)) / 2
    peaked = np.linalg.eigvalsh(curvature)[..., 0] > 0
    motion = np.linalg.solve(np.where(peaked[..., None, None], curvature, np.eye(6)), slope[..., None])[..., 0]
    small = peaked & (np.linalg.norm(motion[..., :3], axis=-1) < LARGEST)
    apart = (a.volumes**2).sum(1)[:, None] + (b.volumes**2).sum(1) - 2 * a.volumes @ b.volumes.T
    return np.maximum(apart - np.where(small, (slope * motion).sum(-1), 0.0), 0.0)


def movable(cube: Cube, whole: Coefficients) -> Movable:
    """Volumes with their derivatives."""
    slopes = jax.jit(partial(jax.lax.map, partial(_slopes, cube)))(jnp.asarray(whole, jnp.float32))
    return Movable(np.asarray(whole, float)[:, 1:], np.asarray(slopes, float)[..., 1:])


def _slopes(cube: Cube, volume: Volume) -> Float[Array, "6 v"]:
    """Derivatives with the axis times the angle of a rotation, and with the shift in angstroms."""
    steps = DIFFERENCE * jnp.eye(3)
    around = rotations.turned(jnp.tile(jnp.eye(3), (6, 1, 1)), jnp.concatenate([steps, -steps]))
    forward, backward = jnp.split(volumes.rotated(cube, volume, around), 2)
    along = jax.jacfwd(lambda t: volumes.shifted(cube, volume[None], t[None])[0])(jnp.zeros(3)).T
    return jnp.concatenate([(forward - backward) / (2 * DIFFERENCE), along])


def aligned(
    cube: Cube, maps: Coefficients, weights: Float[np.ndarray, " k"], mean: Float[np.ndarray, " v"]
) -> Float[np.ndarray, "2 k v"]:
    """Maps (k, v), each moved to where it fits a volume best: in the better hand, and in the other.

    All rotations of a grid are tried; the best are improved, with a shift, by Gauss-Newton steps. Each map has a grey
    scale of its own there, but all have the sign that fits better.
    """
    size = min(cube.size, SEARCHED_SIZE)
    low = Cube(size, cube.width / size)
    coarse, target = (volumes.from_voxels(low, volumes.voxels(cube, whole)) for whole in (maps, mean[None]))
    search = jax.jit(partial(_similarities, low, jnp.asarray(target[0], jnp.float32)))
    similar = np.stack([search(jnp.asarray(volume, jnp.float32)) for volume in coarse])
    norms = np.maximum(np.linalg.norm(maps[:, 1:], axis=1), np.finfo(np.float32).tiny)
    right, opposite = (weights / norms @ each.max((1, 2)) for each in (similar, -similar))
    sign = 1.0 if right >= opposite else -1.0
    start = jnp.asarray(rotations.grid(ORDER), jnp.float32)[np.argsort(-sign * similar)[..., :TRIED]]
    fit = jax.jit(partial(_fitted, cube, jnp.asarray(mean, jnp.float32)))
    moved, distance = np.empty((2, *maps.shape)), np.empty((2, len(maps)))
    for k, scale in enumerate(sign * np.linalg.norm(mean[1:]) / norms):
        both = jnp.asarray(scale * maps[k : k + 1], jnp.float32)
        for hand, volume in enumerate((both, volumes.mirrored(both))):
            found, distance[hand, k] = fit(volume[0], start[k, hand])
            moved[hand, k] = np.asarray(found) / scale
    return np.where((distance[0] <= distance[1])[:, None], moved, moved[::-1])


def _similarities(cube: Cube, target: Volume, volume: Volume) -> Float[Array, "2 r"]:
    """<R V, t> for all rotations of the grid, of V and of its mirror image."""
    turned, h = volumes.rotated(cube, volume, jnp.asarray(rotations.grid(ORDER), volume.dtype)), len(cube.waves)
    even, odd = turned[:, 1 : h + 1] @ target[1 : h + 1], turned[:, h + 1 :] @ target[h + 1 :]
    return jnp.stack([even + odd, even - odd])


def _fitted(
    cube: Cube, target: Volume, volume: Volume, starts: Float[Array, "s 3 3"]
) -> tuple[Volume, Float[Array, ""]]:
    """The volume where |g V - t| is least, near one of the rotations, and that distance."""

    def moved(rotation: Float[Array, "3 3"], shift: Float[Array, "3"]) -> Volume:
        return volumes.shifted(cube, volumes.rotated(cube, volume, rotation[None]), shift[None])[0]

    def distance(moved: Volume) -> Float[Array, ""]:
        return jnp.linalg.norm((target - moved)[1:])

    def step(_: int, state: tuple[Array, Array, Volume]) -> tuple[Array, Array, Volume]:
        rotation, shift, best = state
        here = moved(rotation, shift)
        slopes = _slopes(cube, here)[:, 1:]
        motion = jnp.linalg.solve(slopes @ slopes.T, slopes @ (target - here)[1:])
        further = rotations.turned(jnp.eye(3)[None], motion[None, :3])[0]
        rotation, shift = further @ rotation, further @ shift + motion[3:]
        new = moved(rotation, shift)
        return rotation, shift, jnp.where(distance(new) < distance(best), new, best)

    def near(rotation: Float[Array, "3 3"]) -> tuple[Volume, Float[Array, ""]]:
        start = rotation, jnp.zeros(3), moved(rotation, jnp.zeros(3))
        _, _, best = jax.lax.fori_loop(0, STEPS, step, start)
        return best, distance(best)

    found, apart = jax.lax.map(near, starts)
    return found[apart.argmin()], apart.min()


def on_background(cube: Cube, maps: Float[np.ndarray, "n u"]) -> Coefficients:
    """Maps with the first coefficient with which they are 0, on average, outside of the ball that fills the cube.

    What is not 0 there, rotations would take out of the cube.
    """
    whole = np.pad(np.asarray(maps, float), [(0, 0), (1, 0)])
    axis = np.arange(cube.size) - cube.size // 2
    outside = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 > (cube.size / 2) ** 2
    whole[:, 0] = -volumes.voxels(cube, whole)[:, outside].mean(1) * cube.width**1.5
    return whole
