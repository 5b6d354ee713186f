"""Of all estimates that are scored on the way the best one is kept, and each score is paid for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.stopping import best_on_held_out


class Line(NamedTuple):
    place: jax.Array


def walker() -> Method:
    """Starts at 0 and goes on by 1 a step, each of which costs 7."""

    def step(_key, state):
        return Line(state.place + 1), Info(-state.place, jnp.asarray(7))

    return Method(lambda _key: Line(jnp.zeros(())), step, lambda s: WeightedPoints(s.place[None, None], jnp.ones(1)))


def places(method, steps):
    """The estimate after each step, and what each cost."""
    state, step, found, costs = jax.jit(method.init)(jr.key(0)), jax.jit(method.step), [], []
    for i in range(steps):
        state, info = step(jr.key(i), state)
        found.append(float(method.estimate(state).theta[0, 0]))
        costs.append(int(info.forward_evaluations))
    return found, costs


def test_the_best_of_the_scored_estimates_is_kept():
    method = best_on_held_out(walker(), lambda _key, law: (law.theta[0, 0] - 5.0) ** 2, every=2, renders=3)
    found, costs = places(method, 10)
    assert found == [1, 2, 2, 4, 4, 4, 4, 4, 4, 4]  # at 4 and 6 the score is the same; 5 is not scored
    assert costs == [7, 10] * 5


def test_scores_are_drawn_with_one_key():
    """With a new draw each time, noise of this size would make any place the best."""
    method = best_on_held_out(walker(), lambda key, law: law.theta[0, 0] + 1e3 * jr.normal(key, ()), every=1)
    assert places(method, 20)[0] == [1] * 20


def test_what_is_not_a_number_is_never_the_best():
    score = lambda _key, law: jnp.where(law.theta[0, 0] == 3, 0.0, jnp.nan)  # noqa: E731
    assert places(best_on_held_out(walker(), score, every=1), 5)[0] == [1, 2, 3, 3, 3]


def test_the_state_is_finite_from_the_beginning():
    """Where a number is not, the runner takes the run for one that has failed."""
    state = best_on_held_out(walker(), lambda _key, _law: jnp.inf, every=1).init(jr.key(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(("every", "renders", "name"), [(0, 0, "every"), (1, -1, "renders")])
def test_counts_are_refused(every, renders, name):
    with pytest.raises(ValueError, match=name):
        best_on_held_out(walker(), lambda _key, _law: jnp.zeros(()), every, renders)
