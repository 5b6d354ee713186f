"""Ranks and grids in one dimension."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cryosip.methods import grid, ranks


def counted(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (z[None] < y[:, None]).sum(1) + 0.5 * (z[None] == y[:, None]).sum(1)


CASES = {
    "spread out": np.random.default_rng(0).normal(size=500),
    "many ties": np.random.default_rng(1).integers(0, 20, 500) / 7,
    "all equal": np.full(9, 0.3),
    "one": np.array([-2.0]),
    "signed zeros": np.array([-0.0, 0.0, -1.0, 1.0, 0.0]),
    "huge range": np.array([-1e30, -1.0, 0.0, 1e-30, 1.0, 1e30]),
    "widest range": np.array([-3e38, 0.0, 1.0, 2.0, 3e38]),
    "narrowest range": np.array([0.0, 5e-38, 5e-38, 2e-38]),
}
INFINITE = {"infinite": np.array([np.inf, 1.0, -np.inf, np.inf, 0.0, -np.inf]), "above": np.array([0.0, np.inf, -1.0])}


@pytest.mark.parametrize("case", CASES | INFINITE)
@pytest.mark.parametrize("form", ["numpy", "XLA"])
def test_ranks_count(case, form, monkeypatch):
    y = jnp.asarray((CASES | INFINITE)[case], jnp.float32)
    monkeypatch.setattr(ranks, "MANY", 1 if form == "numpy" else 10**9)
    found = jax.jit(lambda y: ranks.ranks(y))(y)
    np.testing.assert_array_equal(found, counted(np.asarray(y), np.asarray(y)))


@pytest.mark.parametrize("case", CASES)
def test_ranks_count_in_float64(x64, case):
    y = jnp.asarray(CASES[case])
    np.testing.assert_array_equal(jax.jit(ranks.ranks)(y), counted(np.asarray(y), np.asarray(y)))


@pytest.mark.parametrize("case", CASES | INFINITE)
def test_order_sorts(case):
    y = jnp.asarray((CASES | INFINITE)[case], jnp.float32)
    np.testing.assert_array_equal(jax.jit(lambda y: y[ranks.order(y)])(y), np.sort(y))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("other", CASES | INFINITE)
def test_ranks_among_count(case, other):
    z, y = np.float32(CASES[case]), np.float32((CASES | INFINITE)[other])
    among = ranks.ordered(z)
    np.testing.assert_array_equal(jax.jit(lambda y: ranks.ranks_among(among, y))(y), counted(z, y))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_particle_that_is_no_number_leaves_the_ranks_of_others_alone(sign):
    z, y = np.float32(CASES["spread out"]), np.float32([np.copysign(np.nan, sign), 0.3, 1e9])
    np.testing.assert_array_equal(ranks.ranks_among(ranks.ordered(z), jnp.asarray(y))[1:], counted(z, y)[1:])
    np.testing.assert_array_equal(ranks.ranks(jnp.asarray(y))[1:], [0.5, 1.5])


def test_ranks_inside_a_compiled_loop():
    y = jnp.asarray(CASES["spread out"], jnp.float32)
    looped = jax.jit(lambda y: jax.lax.fori_loop(0, 50, lambda _, x: x + 0 * ranks.ranks(x), y))
    np.testing.assert_array_equal(looped(y), y)


def test_spreading_keeps_mass_and_mean():
    x = jnp.asarray(CASES["spread out"], jnp.float32)
    nodes = grid.grid_around(np.asarray(x), smoothing=0.1, max_step=0.01)
    mass = grid.spread(nodes, x)
    assert float(mass.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(mass @ nodes.nodes) == pytest.approx(float(x.mean()), abs=1e-4)


def test_interpolation_is_exact_for_a_line():
    nodes = grid.Grid(lower=-2.0, step=0.5, size=20, margin=0.5)
    x = jnp.array([-1.3, 0.0, 3.14])
    np.testing.assert_allclose(grid.interpolate(nodes, jnp.asarray(2 * nodes.nodes - 1), x), 2 * x - 1, atol=1e-5)


def test_derivative_of_fourth_order(x64):
    nodes = grid.Grid(lower=0.0, step=0.01, size=1_000, margin=0.1)
    slope = grid.derivative(nodes, jnp.sin(jnp.asarray(nodes.nodes)))
    np.testing.assert_allclose(slope[2:-2], np.cos(nodes.nodes)[2:-2], atol=1e-9)


def test_covers_knows_its_margins():
    nodes = grid.Grid(lower=0.0, step=1.0, size=11, margin=2.0)
    for x, inside in ((2.0, True), (8.0, True), (1.9, False), (8.1, False), (np.nan, False)):
        assert bool(grid.covers(nodes, jnp.array([5.0, x]))) is inside
