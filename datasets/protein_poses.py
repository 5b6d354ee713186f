"""Poses of a protein's images: draws, cells for the quadrature, and how poses move."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from cryosip.datasets import rotations
from cryosip.methods import checks
from cryosip.methods.problem import PoseMotion, PRNGKey, Weights

MOST_POSES = 2**22  # of a quadrature: half a gigabyte


class ProteinPose(NamedTuple):
    """omega_r of n images: rotations, shifts in the plane in angstroms, defocus in angstroms (0 without a CTF)."""

    rotation: Float[Array, "n 3 3"]
    shift: Float[Array, "n 2"]
    defocus: Float[Array, " n"]


class PoseRange(NamedTuple):
    """Shifts are in [-max_shift, max_shift]^2, the defocus in `defocus`, both in angstroms; None: there is no CTF."""

    max_shift: float
    defocus: tuple[float, float] | None

    @property
    def defocus_varies(self) -> bool:
        return self.defocus is not None and self.defocus[0] < self.defocus[1]


def sample_poses(within: PoseRange, key: PRNGKey, n: int) -> ProteinPose:
    """Rotations uniform on SO(3), shifts and defocus uniform on their ranges."""
    key_rotation, key_shift, key_defocus = jr.split(key, 3)
    shift = within.max_shift * jr.uniform(key_shift, (n, 2), minval=-1.0)
    low, high = within.defocus or (0.0, 0.0)
    defocus = low + (high - low) * jr.uniform(key_defocus, (n,))
    return ProteinPose(rotations.uniform(key_rotation, n), shift, defocus)


def pose_cells(within: PoseRange, order: int) -> tuple[ProteinPose, Weights]:
    """Centres of equal cells of the poses; those of order + 1 that fill cell i are in one run, i-th among the runs.

    Raises ValueError for an order with more than 2^22 cells.
    """
    halved = [within.max_shift > 0, within.max_shift > 0, within.defocus_varies]
    _check_order(order, finer=rotations.CHILDREN * 2 ** sum(halved))
    rotation = rotations.grid(order)
    axes = [np.zeros(1, int)] * 3  # cells of t_x, t_y, defocus
    place = np.zeros(1, int)  # of the rotation
    for level in range(order + 1):
        children = [rotations.CHILDREN if level else len(rotations.grid(0)), *(2 if level and h else 1 for h in halved)]
        child = [c.ravel() for c in np.meshgrid(*map(np.arange, children), indexing="ij")]
        place = (children[0] * place[:, None] + child[0]).ravel()
        axes = [
            (count * axis[:, None] + c).ravel() for axis, c, count in zip(axes, child[1:], children[1:], strict=True)
        ]
    cells = [2**order if h else 1 for h in halved]
    middle = [(axis + 0.5) / count for axis, count in zip(axes, cells, strict=True)]
    shift = within.max_shift * (2 * np.stack(middle[:2], axis=1) - 1)
    low, high = within.defocus or (0.0, 0.0)
    pose = ProteinPose(jnp.asarray(rotation[place]), jnp.asarray(shift), jnp.asarray(low + (high - low) * middle[2]))
    return pose, jnp.full(len(place), 1 / len(place))


def _check_order(order: int, finer: int) -> None:
    """`finer` poses of an order stand in place of one of the order before."""
    if order > np.log(MOST_POSES / len(rotations.grid(0))) / np.log(finer):
        raise ValueError(
            f"quadrature_order is {order}; wanted one with at most {MOST_POSES} poses: an order has {finer} times as "
            f"many as the one before, of which the first, 0, has {len(rotations.grid(0))}"
        )


def pose_motion(within: PoseRange) -> PoseMotion:
    """Rotations by radians, and where they vary the shift and the defocus, in units of their own range."""
    shifts, defocus = 2 * (within.max_shift > 0), int(within.defocus_varies)
    low, high = within.defocus or (0.0, 0.0)

    def move(pose: ProteinPose, step: Float[Array, "n q"]) -> ProteinPose:
        rotation, shift, focus = step[:, :3], step[:, 3 : 3 + shifts], step[:, 3 + shifts :]
        return ProteinPose(
            rotations.turned(pose.rotation, rotation),
            pose.shift + within.max_shift * shift if shifts else pose.shift,
            pose.defocus + (high - low) * focus[:, 0] if defocus else pose.defocus,
        )

    return PoseMotion(3 + shifts + defocus, move)


def checked_defocus(given: tuple[float, float] | None) -> tuple[float, float] | None:
    """(lowest, highest) as floats, or None; ValueError for what is neither."""
    if given is None:
        return None
    if not isinstance(given, Sequence | np.ndarray) or len(given) != 2:
        raise ValueError(f"defocus_range_in_angstroms is {given!r}; wanted (lowest, highest)")
    low, high = (checks.finite("defocus_range_in_angstroms", value) for value in given)
    if low > high:
        raise ValueError(f"defocus_range_in_angstroms is {given!r}; wanted (lowest, highest)")
    return low, high
