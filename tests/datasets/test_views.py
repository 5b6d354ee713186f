"""Views around an axis follow the density of von Mises and Fisher, those of each state around its own."""

import inspect

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

from cryosip.datasets.views import checked_views

DRAWS = 20_000
AXES = np.array([[1.0, 2.0, -2.0], [0.0, 0.0, 1.0]])
UNIT = AXES / np.linalg.norm(AXES, axis=1, keepdims=True)


def drawn(concentration, axes=AXES):
    """Rotations of images of two states in turn, and the states."""
    state = np.arange(DRAWS) % 2
    views = checked_views(concentration, axes.tolist(), 2)
    return np.asarray(views.sample(jr.key(0), jnp.asarray(state)), np.float64), state


@pytest.mark.parametrize("concentration", [0.01, 4.0, 300.0])
def test_the_moment_along_each_axis_is_the_known_one(concentration):
    """coth k - 1 / k, and nothing across."""
    rotation, state = drawn(concentration)
    wanted = 1 / np.tanh(concentration) - 1 / concentration
    for k, axis in enumerate(UNIT):
        direction = rotation[state == k, 2]
        error = 5 * direction.std(0) / np.sqrt(len(direction)) + 1e-6
        assert (abs(direction.mean(0) - wanted * axis) < error).all()
        along = np.sort(direction @ axis)
        law = np.expm1(concentration * (along + 1)) / np.expm1(2 * concentration)
        assert scipy.stats.kstest(law, "uniform").pvalue > 1e-4


def test_the_angle_in_the_plane_is_uniform_and_rotations_are_proper():
    rotation, _ = drawn(4.0)
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1) - np.eye(3), 0, atol=1e-4)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-4)
    other = np.array([0.3, -0.5, 0.7])  # seen on the image under a uniform angle, whatever the direction
    angle = np.arctan2(rotation[:, 1] @ other, rotation[:, 0] @ other)
    assert scipy.stats.kstest((angle + np.pi) / (2 * np.pi), "uniform").pvalue > 1e-4
    circle = np.exp(1j * angle)
    assert abs((circle[:, None] * rotation[:, 2]).mean(0)).max() < 5 / np.sqrt(DRAWS)


def test_one_axis_is_that_of_all_states():
    views = checked_views(2.0, None, 3)
    np.testing.assert_array_equal(views.axes, [[0.0, 0.0, 1.0]] * 3)
    assert checked_views(0.0, None, 3) is None


@pytest.mark.parametrize(
    ("concentration", "axes", "says"),
    [
        (-1.0, None, "view_concentration is -1.0; wanted a finite number >= 0"),
        (0.0, [[0, 0, 1]], r"view_axes is \[\[0, 0, 1\]\] with view_concentration 0"),
        (1.0, [0, 0, 1], r"view_axes is \[0, 0, 1\]; wanted lists of numbers"),
        (1.0, [[0, 0, 1]] * 3, r"one of each state \(2\)"),
        (1.0, [[0, 1]], "wanted one direction"),
        (1.0, [[0, 0, 0]], "wanted one direction"),
        (1.0, [[0, 0, float("nan")]], "view_axes holds 1 NaN"),
    ],
)
def test_axes_that_cannot_be_are_refused(concentration, axes, says):
    with pytest.raises(ValueError, match=says):
        inspect.unwrap(checked_views)(concentration, axes, 2)  # some are of another type
