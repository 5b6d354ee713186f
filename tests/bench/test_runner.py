"""The runner: looking more often changes nothing, the caller's time is not counted, a failure ends the run."""

import itertools
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from examples import home, instance

from cryosip.bench import runner
from cryosip.bench.examples import example_method
from cryosip.bench.runner import run
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.registry import METHODS


def walk(fails_at=None):
    """A random walk of 4 particles that counts its steps, and turns NaN where told."""

    def step(key, state):
        theta, count = state
        theta = theta + jr.normal(key, theta.shape)
        count = count + 1
        if fails_at is not None:
            theta = jnp.where(count >= fails_at, jnp.nan, theta)
        return (theta, count), Info(count.astype(jnp.float32), jnp.asarray(3))

    return Method(
        lambda key: (jr.normal(key, (4, 1)), jnp.asarray(0)),
        step,
        lambda state: WeightedPoints(state[0], jnp.full(4, 0.25)),
    )


def test_snapshots_come_at_the_right_steps_and_count_the_renders():
    snapshots = list(run(jr.key(0), walk(), steps=10, every=4))
    assert [s.step for s in snapshots] == [0, 4, 8, 10]
    assert [s.forward_evaluations for s in snapshots] == [0, 12, 24, 30]
    assert [int(s.state[1]) for s in snapshots] == [0, 4, 8, 10]
    assert np.isnan(snapshots[0].objective)
    assert [s.objective for s in snapshots[1:]] == [4.0, 8.0, 10.0]
    assert snapshots[0].seconds == 0.0
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(snapshots))
    assert all(s.finite and s.program.compile_seconds > 0 for s in snapshots)
    np.testing.assert_array_equal(snapshots[-1].estimate.theta, snapshots[-1].state[0])


def test_looks_even_in_the_logarithm_change_nothing_else():
    even = list(run(jr.key(0), walk(), steps=10, every=1))
    growing = list(run(jr.key(0), walk(), steps=10, every=1, growth=2.0))
    assert [s.step for s in growing] == [0, 1, 3, 7, 10]
    np.testing.assert_array_equal(growing[-1].estimate.theta, even[-1].estimate.theta)
    assert growing[-1].forward_evaluations == even[-1].forward_evaluations
    with pytest.raises(ValueError, match=r"growth is 0.5; wanted a number >= 1"):
        next(run(jr.key(0), walk(), steps=1, every=1, growth=0.5))


def test_the_planned_memory_grows_with_the_state():
    def pairs(n):
        def step(key, theta):
            return theta + jnp.sin(theta - theta.T).sum(1, keepdims=True) @ theta.T @ theta, Info(
                jnp.zeros(()), jnp.asarray(n)
            )

        return Method(lambda key: jr.normal(key, (n, 1)), step, lambda theta: WeightedPoints(theta, jnp.full(n, 1 / n)))

    small, large = (next(run(jr.key(0), pairs(n), steps=3, every=1)).program.memory_mb for n in (100, 1_000))
    assert 8 * 1_000 / 2**20 <= small < large
    assert large >= 4 * 1_000**2 / 2**20  # an N x N array in single precision


def test_the_count_of_renders_outgrows_32_bits():
    """1000 particles with 1000 draws for 25 000 steps are 2.5e10 renders, whatever the length of a block."""
    method = walk()._replace(step=lambda _key, state: (state, Info(state[0].sum(), jnp.asarray(10**6))))
    for every in (25_000, 999):
        assert list(run(jr.key(0), method, steps=25_000, every=every))[-1].forward_evaluations == 25_000 * 10**6


def test_every_step_draws_anew():
    thetas = [s.estimate.theta for s in run(jr.key(0), walk(), steps=6, every=1)]
    increments = np.diff(np.stack(thetas), axis=0)
    assert len(np.unique(increments)) == increments.size
    other = list(run(jr.key(1), walk(), steps=6, every=1))[-1].estimate.theta
    assert not np.intersect1d(other, thetas[-1]).size


EACH = [name if name in ("flow", "mixture") else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]


@pytest.mark.parametrize("name", EACH)
def test_the_result_does_not_depend_on_how_often_one_looks(name, tiny):
    method = example_method(tiny.problem if home(name) == "oned" else instance(home(name)).problem, name)
    often, seldom = (list(run(jr.key(3), method, steps=50, every=every))[-1] for every in (7, 50))
    assert often.step == seldom.step == 50
    assert often.forward_evaluations == seldom.forward_evaluations
    assert often.objective == seldom.objective
    for a, b in zip(jax.tree.leaves(often.state), jax.tree.leaves(seldom.state), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", EACH)
def test_neither_cutting_nor_going_on_changes_a_bit(name, tiny, monkeypatch):
    """In parts of one step, then from where some of these parts ended: between looks, and at one."""
    method, parts = example_method(tiny.problem if home(name) == "oned" else instance(home(name)).problem, name), []
    whole = list(run(jr.key(3), method, steps=24, every=12))
    monkeypatch.setattr(runner, "PART_SECONDS", 0.0)
    cut = list(run(jr.key(3), method, steps=24, every=12, on_part=parts.append))
    assert [part.step for part in parts] == list(range(1, 24))
    for start, expected in ((None, whole), (parts[6], whole[1:]), (parts[11], whole[2:])):
        found = cut if start is None else list(run(jr.key(3), method, steps=24, every=12, start=start))
        assert [s.step for s in found] == [s.step for s in expected]
        for a, b in zip(found, expected, strict=True):
            assert (a.forward_evaluations, str(a.objective)) == (b.forward_evaluations, str(b.objective))
            for leaf, other in zip(jax.tree.leaves(a.state), jax.tree.leaves(b.state), strict=True):
                np.testing.assert_array_equal(leaf, other)
        assert start is None or found[0].seconds > start.seconds


def test_parts_are_as_long_as_they_may_be():
    """A block of 10^5 steps in parts of about PART_SECONDS, from one step on: an early stop loses no more."""
    parts = []
    *_, last = run(jr.key(0), walk(), steps=100_000, every=100_000, on_part=parts.append)
    assert last.step == 100_000
    assert [part.step for part in parts][:3] == [1, 11, 111]
    assert all(b.seconds - a.seconds < 3 * runner.PART_SECONDS for a, b in itertools.pairwise(parts))


def test_a_state_that_is_not_finite_ends_the_run():
    snapshots = list(run(jr.key(0), walk(fails_at=13), steps=40, every=5))
    assert [(s.step, s.finite) for s in snapshots] == [(0, True), (5, True), (10, True), (15, False)]
    assert bool(jnp.isfinite(snapshots[-2].estimate.theta).all())
    assert [s.step for s in run(jr.key(0), walk(fails_at=13), steps=40, every=1)][-1] == 13


def test_the_callers_time_and_compilation_are_not_counted():
    for snapshot in run(jr.key(0), walk(), steps=6, every=2):
        time.sleep(0.15)
        last = snapshot
    assert last.seconds < 0.1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 0}, "steps is 0; wanted a whole number >= 1"),
        ({"every": 0}, "every is 0; wanted a whole number >= 1"),
    ],
)
def test_bad_input_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        next(run(jr.key(0), walk(), **{"steps": 5, "every": 1, **options}))
