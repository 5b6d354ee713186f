"""Rotations are uniform, turns are those of the exponential map, and grids fill SO(3) with nested, equal cells."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from cryosip.datasets import rotations

DRAWS = 20_000
ORDERS = range(4)
SECOND_MOMENTS = np.einsum("ik,jl->ijkl", np.eye(3), np.eye(3)) / 3  # E R_ij R_kl


def angles(first, second):
    """Degrees between rotations."""
    trace = np.einsum("nij,nij->n", first, second)
    return np.rad2deg(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def assert_proper(r, atol):
    assert_allclose(r @ r.transpose(0, 2, 1), np.broadcast_to(np.eye(3), r.shape), atol=atol)
    assert_allclose(np.linalg.det(r), 1, atol=atol)


def test_draws_are_uniform():
    r = np.asarray(rotations.uniform(jr.key(0), DRAWS), np.float64)
    assert_proper(r, 1e-5)
    assert abs(r.mean(0)).max() < 5 * np.sqrt(1 / 3 / DRAWS)
    products = np.einsum("nij,nkl->nijkl", r, r)
    assert (abs(products.mean(0) - SECOND_MOMENTS) < 5 * products.std(0) / np.sqrt(DRAWS)).all()
    # the angle of a uniform rotation has density (1 - cos) / pi: moments of a degree in which other laws differ
    angle = np.deg2rad(angles(r, np.broadcast_to(np.eye(3), r.shape)))
    assert angle.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, abs=5 * angle.std() / np.sqrt(DRAWS))


def test_quaternions_are_scipys(x64):
    q = np.random.default_rng(1).normal(size=(20, 4))
    expected = Rotation.from_quat(q, scalar_first=True).as_matrix()
    assert_allclose(jax.jit(rotations.from_quaternion)(jnp.asarray(q)), expected, atol=1e-14)


def turns(*lengths):
    turn = np.random.default_rng(2).normal(size=(len(lengths), 3))
    return np.array(lengths)[:, None] * turn / np.linalg.norm(turn, axis=1, keepdims=True)


def some_rotations(n):
    return Rotation.random(n, rng=3).as_matrix()


def test_turns_are_scipys(x64):
    """A turn comes after the rotation; beyond 1e-6 the series is left."""
    turn, r = turns(0.0, 1e-9, 1e-6, 2e-6, 1e-3, 1.0, 3.1, 7.0), some_rotations(8)
    found = jax.jit(rotations.turned)(jnp.asarray(r), jnp.asarray(turn))
    assert_allclose(found, Rotation.from_rotvec(turn).as_matrix() @ r, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_turns_have_derivatives_at_zero(x64, dtype):
    """There they are the generators times R, forwards and backwards."""
    turn, r = jnp.asarray(turns(0.0, 1e-7, 2e-6), dtype), jnp.asarray(some_rotations(3), dtype)

    @jax.jit
    def slopes(turn):
        basis = [jnp.broadcast_to(jnp.asarray(e, dtype), turn.shape) for e in np.eye(3)]
        forwards = [jax.jvp(lambda w: rotations.turned(r, w), (turn,), (e,))[1] for e in basis]
        backwards = jax.vjp(lambda w: rotations.turned(r, w), turn)[1]
        return jnp.stack(forwards), backwards(jnp.ones_like(r))[0]

    forwards, backwards = slopes(turn)
    expected = [np.cross(np.eye(3), e) @ np.asarray(r, np.float64) for e in np.eye(3)]
    assert_allclose(forwards, expected, atol=1e-5)
    assert_allclose(backwards, np.sum(expected, axis=(2, 3)).T, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_grids_are_proper_and_everywhere(order):
    grid = rotations.grid(order)
    assert grid.shape == (72 * 8**order, 3, 3)
    assert_proper(grid, 1e-12)
    drawn = some_rotations(300)
    nearest = (drawn.reshape(-1, 9) @ grid.reshape(-1, 9).T).argmax(1)
    assert angles(drawn, grid[nearest]).max() < 60 / 2**order


@pytest.mark.parametrize("order", ORDERS)
def test_grids_are_quadratures(order):
    """Equal weights: R averages to zero, and its products to those of the Haar measure, four times closer an order."""
    grid = rotations.grid(order)
    assert_allclose(grid.mean(0), 0, atol=1e-14)
    products = np.einsum("nij,nkl->ijkl", grid, grid) / len(grid)
    assert_allclose(products, SECOND_MOMENTS, atol=0.04 / 4**order)


def test_grids_are_nested():
    """Cells halve, and children stay about their parent."""
    widest = []
    for order in ORDERS[1:]:
        parents, children = rotations.grid(order - 1), rotations.grid(order)
        cells = children.reshape(-1, rotations.CHILDREN, 3, 3)
        widest.append(angles(parents.repeat(rotations.CHILDREN, 0), children).max())
        middle = Rotation.from_matrix(cells[0]).mean().as_matrix()
        assert angles(middle[None], parents[:1])[0] < 0.3 * widest[-1]
    assert widest[0] < 30
    assert (np.divide(widest[1:], widest[:-1]) < 0.6).all()
