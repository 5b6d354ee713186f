"""Several starts of a method, of which the best counts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from cryosip.methods.method import Info, Method, State, WeightedPoints
from cryosip.methods.problem import PRNGKey


class StartsState(NamedTuple):
    states: State  # with a leading axis, one entry for each start
    objectives: Float[Array, " starts"]


def best_of(method: Method, n_starts: int) -> Method:
    """`n_starts` independent runs of a method, stepped one after the other; the lowest objective is the estimate."""

    def init(key: PRNGKey) -> StartsState:
        states = jax.lax.map(method.init, jr.split(key, n_starts))
        return StartsState(states, jnp.zeros(n_starts))

    def step(key: PRNGKey, state: StartsState) -> tuple[StartsState, Info]:
        states, info = jax.lax.map(lambda one: method.step(*one), (jr.split(key, n_starts), state.states))
        return StartsState(states, info.objective), Info(info.objective.min(), info.forward_evaluations.sum())

    def estimate(state: StartsState) -> WeightedPoints:
        best = jnp.where(jnp.isfinite(state.objectives), state.objectives, jnp.inf).argmin()  # a start may have failed
        return method.estimate(jax.tree.map(lambda a: a[best], state.states))

    return Method(init, step, estimate)
