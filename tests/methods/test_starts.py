"""Of several starts the one with the lowest objective counts, and all are paid for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.mixture import mixture
from cryosip.methods.starts import best_of


class Walk(NamedTuple):
    place: jax.Array


def walker() -> Method:
    """Starts anywhere and walks by a random step; its objective is the square of where it was, a step costs 7."""

    def step(key, state):
        moved = Walk(state.place + 0.1 * jr.normal(key, (2,)))
        return moved, Info((state.place**2).sum(), jnp.asarray(7))

    return Method(
        lambda key: Walk(jr.normal(key, (2,))),
        step,
        lambda state: WeightedPoints(state.place[None], jnp.ones(1)),
    )


def run_alone(method, n_starts, number, steps):
    """One start with the keys that `best_of` gives it; its last state, and the objective before each step."""
    state, objectives = method.init(jr.split(jr.key(0), n_starts)[number]), []
    step = jax.jit(method.step)
    for i in range(steps):
        state, info = step(jr.split(jr.key(i + 1), n_starts)[number], state)
        objectives.append(float(info.objective))
    return state, objectives


def run_together(method, steps):
    state, infos, step = jax.jit(method.init)(jr.key(0)), [], jax.jit(method.step)
    for i in range(steps):
        state, info = step(jr.key(i + 1), state)
        infos.append(info)
    return state, infos


def test_the_lowest_objective_counts_and_all_are_paid_for():
    together = best_of(walker(), 5)
    state, infos = run_together(together, 4)
    alone = [run_alone(walker(), 5, number, 4) for number in range(5)]
    objectives = np.array([told for _, told in alone])
    assert len(set(objectives[:, 0])) == 5
    np.testing.assert_allclose([float(info.objective) for info in infos], objectives.min(0), rtol=1e-6)
    best = objectives[:, -1].argmin()
    assert best != 0  # the first would also be taken by chance
    np.testing.assert_allclose(together.estimate(state).theta[0], alone[best][0].place, rtol=1e-6)
    np.testing.assert_allclose(state.objectives, objectives[:, -1], rtol=1e-6)
    assert [int(info.forward_evaluations) for info in infos] == [35] * 4


def test_before_the_first_step_there_is_an_estimate():
    together = best_of(walker(), 3)
    assert together.estimate(together.init(jr.key(0))).theta.shape == (1, 2)


def test_a_mixture_from_three_starts_is_the_best_of_them(x64, toys):
    problem = toys["parabola"]()
    one = mixture(problem, 3, estimate_weights=True)
    three = mixture(problem, 3, estimate_weights=True, n_starts=3)
    state, infos = run_together(three, 4)
    alone = [run_alone(one, 3, number, 4) for number in range(3)]
    last = np.array([told[-1] for _, told in alone])
    assert np.ptp(last) > 1e-3
    assert float(infos[-1].objective) == pytest.approx(last.min(), abs=1e-12)
    best = one.estimate(alone[last.argmin()][0])
    np.testing.assert_allclose(three.estimate(state).theta, best.theta, atol=1e-12)
    np.testing.assert_allclose(three.estimate(state).weights, best.weights, atol=1e-12)


def test_one_start_is_the_method_itself(x64, toys):
    problem = toys["parabola"]()
    one, plain = mixture(problem, 3, n_starts=1), mixture(problem, 3)
    np.testing.assert_array_equal(one.init(jr.key(4)).theta, jax.jit(plain.init)(jr.key(4)).theta)


def test_no_start_is_refused(tiny):
    with pytest.raises(ValueError, match="n_starts is 0; wanted a whole number >= 1"):
        mixture(tiny.problem, 2, n_starts=0)
