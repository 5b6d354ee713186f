"""A choice of several settings of a method, made on observations that are held out, as a part of its steps."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from cryosip.methods.method import Info, Method, State, WeightedPoints
from cryosip.methods.problem import PRNGKey

Scalar = Float[Array, ""]
Number = Int[Array, ""]
Step = Callable[[PRNGKey, State, Number], tuple[State, Info]]


class SelectionState(NamedTuple):
    """Choice number `choice` has run for `n_steps`; when all c have, `choice` is c + that of `best`.

    `best` has the least `score`, the largest number as long as there is none.
    """

    running: State
    choice: Number
    n_steps: Number
    best: State
    best_choice: Number
    score: Scalar


def chosen_on_held_out(
    first: Callable[[PRNGKey, Number | int], State],
    fit: Step,
    go_on: Step,
    score: Callable[[State], tuple[Scalar, Number]],
    estimate: Callable[[State], WeightedPoints],
    lengths: Int[Array, " c"],
) -> Method:
    """Each of c choices is fitted in turn to some observations; the best on the others goes on with all.

    Parameters
    ----------
    first
        The state that a choice starts from, of the same shapes for all.
    fit, go_on
        A step of a choice on some of the observations, and on all.
    score
        Of a state, on the other observations, lower is better; and how many images it renders.
    estimate
        Of a state.
    lengths
        How many steps each choice is fitted for, before it is scored (c,).

    Returns
    -------
    Method
        Its estimate is that of the choice that runs.
    """
    n_choices = len(lengths)

    def init(key: PRNGKey) -> SelectionState:
        running = first(key, 0)
        zero = jnp.zeros((), jnp.int32)
        worst = jnp.asarray(
            jnp.finfo(jnp.result_type(estimate(running).theta)).max
        )  # infinity would pass for a failure
        return SelectionState(running, zero, zero, running, zero, worst)

    def judged(key: PRNGKey, state: SelectionState) -> tuple[SelectionState, Number]:
        """The next choice, or the best."""
        value, renders = score(state.running)
        better = value < state.score
        best, best_choice = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), (state.running, state.choice), (state.best, state.best_choice)
        )
        following = state.choice + 1
        last = following == n_choices
        running = jax.tree.map(
            lambda old, new: jnp.where(last, old, new), best, first(key, jnp.minimum(following, n_choices - 1))
        )
        choice = jnp.where(last, n_choices + best_choice, following)
        least = jnp.minimum(jnp.where(better, value, state.score), state.score)
        return SelectionState(running, choice, jnp.zeros_like(state.n_steps), best, best_choice, least), renders

    def step(key: PRNGKey, state: SelectionState) -> tuple[SelectionState, Info]:
        choosing = state.choice < n_choices
        running, info = jax.lax.cond(choosing, fit, go_on, key, state.running, state.choice % n_choices)
        state = state._replace(running=running, n_steps=state.n_steps + 1)
        due = choosing & (state.n_steps == lengths[state.choice % n_choices])
        key_next = jr.fold_in(key, 1)
        state, renders = jax.lax.cond(
            due, judged, lambda _key, same: (same, jnp.zeros_like(info.forward_evaluations)), key_next, state
        )
        return state, Info(info.objective, info.forward_evaluations + renders)

    return Method(init, step, lambda state: estimate(state.running))
