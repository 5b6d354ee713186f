"""Reference implementations of the source-estimation tasks, as their authors write them [vetter2024]."""

import numpy as np


def moons(theta: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Two moons, of radius and angle."""
    radius, angle = pose.T
    p = np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], axis=1)
    q = np.stack([-np.abs(theta[:, 0] + theta[:, 1]) / np.sqrt(2), (-theta[:, 0] + theta[:, 1]) / np.sqrt(2)], axis=1)
    return p + q


def arm(theta: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Inverse kinematics, of six errors of angles: three for each coordinate."""
    total = np.zeros((len(theta), 2))
    for segment, length in enumerate((0.5, 0.5, 1.0)):
        angle = theta[:, 1 : 2 + segment].sum(1)
        total[:, 0] += length * np.sin(angle + pose[:, segment])
        total[:, 1] += length * np.cos(angle + pose[:, 3 + segment])
    total[:, 0] += theta[:, 0]
    return total


def four_draws(theta: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Simple likelihood, complex posterior: four draws of a Gaussian in the plane, by the factor of its covariance."""
    s1, s2, rho = theta[:, 2] ** 2, theta[:, 3] ** 2, np.tanh(theta[:, 4])
    covariance = np.stack(
        [np.stack([s1**2 + 1e-3, rho * s1 * s2], axis=1), np.stack([rho * s1 * s2, s2**2 + 1e-3], axis=1)], axis=1
    )
    factor = np.linalg.cholesky(covariance)
    draws = theta[:, None, :2] + np.einsum("nij,nkj->nki", factor, pose)
    return draws.reshape(len(theta), 8)
