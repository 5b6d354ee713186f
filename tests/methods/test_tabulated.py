"""Splines through a table of likelihoods are exact for cubics, everywhere, and change nothing on the grid."""

import jax.numpy as jnp
import numpy as np
import pytest

from cryosip.methods.tabulated import Grid, coefficients, interpolated, refined


def cubic(d, seed):
    """A polynomial of degree three in each of d variables."""
    factors = np.random.default_rng(seed).normal(size=(d, 4))
    return lambda theta: np.prod([np.polyval(f, theta[:, i]) for i, f in enumerate(factors)], axis=0)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_cubics_are_met_up_to_the_border(d):
    grid = Grid(np.full(d, -1.0), np.full(d, 2.0), 6)
    functions = [cubic(d, 0), cubic(d, 1)]
    table = np.stack([f(grid.points) for f in functions])
    spline = interpolated(grid, jnp.asarray(coefficients(grid, table), jnp.float32))
    theta = np.random.default_rng(2).uniform(-1, 2, (40, d))
    theta[:2] = [[-1.0] * d, [2.0] * d]
    for row, f in enumerate(functions):
        value = spline(jnp.asarray(theta, jnp.float32), jnp.full(len(theta), row))
        scale = np.abs(table[row]).max()  # of which float32 rounds 64 terms
        np.testing.assert_allclose(value, f(theta), atol=1e-4 * scale)
    finer = Grid(grid.lower, grid.upper, 11)
    np.testing.assert_allclose(
        refined(grid, coefficients(grid, table), 11),
        np.stack([f(finer.points) for f in functions]),
        atol=1e-9 * np.abs(table).max(),
    )


def test_splines_meet_the_table():
    grid = Grid(np.array([0.0, -3.0]), np.array([1.0, 3.0]), 7)
    table = np.random.default_rng(0).normal(size=(3, 49))
    np.testing.assert_allclose(refined(grid, coefficients(grid, table), 7), table, atol=1e-12)


def test_beyond_the_grid_is_as_at_its_border():
    grid = Grid(np.array([0.0]), np.array([1.0]), 6)
    spline = interpolated(grid, jnp.asarray(coefficients(grid, grid.points.T**2), jnp.float32))
    np.testing.assert_allclose(spline(jnp.array([[3.0], [-1.0]]), jnp.zeros(2, int)), [1.0, 0.0], atol=1e-5)


def test_a_grid_that_is_too_coarse_is_refused():
    grid = Grid(np.array([0.0]), np.array([1.0]), 4)
    with pytest.raises(ValueError, match="4 points along an axis; wanted 5 or more"):
        coefficients(grid, np.zeros((1, 4)))
