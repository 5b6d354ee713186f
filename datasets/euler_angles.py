"""RELION's Euler angles, and the rotations that they are: R = R_z(-psi) R_y(-tilt) R_z(-rot) of points."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

Degrees = Float[np.ndarray, " n"]


def euler_angles(rotation: Float[np.ndarray, "n 3 3"]) -> tuple[Degrees, Degrees, Degrees]:
    """(rot, tilt, psi) in degrees; where tilt is 0 or 180 degrees, rot is 0."""
    tilt = np.arccos(np.clip(rotation[:, 2, 2], -1, 1))
    rot = np.arctan2(rotation[:, 2, 1], rotation[:, 2, 0])
    psi = np.arctan2(rotation[:, 1, 2], -rotation[:, 0, 2])
    flat = np.abs(np.sin(tilt)) < 1e-6  # rot and psi turn about the same axis
    sign = np.sign(rotation[:, 2, 2])
    rot = np.where(flat, 0.0, rot)
    psi = np.where(flat, np.arctan2(-sign * rotation[:, 1, 0], sign * rotation[:, 0, 0]), psi)
    return np.rad2deg(rot), np.rad2deg(tilt), np.rad2deg(psi)


def rotations_of(rot: Degrees, tilt: Degrees, psi: Degrees) -> Float[np.ndarray, "n 3 3"]:
    """The rotations of angles in degrees."""
    return Rotation.from_euler("zyz", -np.stack([rot, tilt, psi], axis=1), degrees=True).as_matrix()
