"""Stopping on observations that were held out: of all estimates on the way, the one that explains them best."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from cryosip.methods import checks
from cryosip.methods.method import Info, Method, State, WeightedPoints
from cryosip.methods.problem import PRNGKey

Scalar = Float[Array, ""]
Score = Callable[[PRNGKey, WeightedPoints], Scalar]

STOPS = ("held-out",)  # what methods call this by
EVERY = 10  # steps of a flow between two scores
SCORE_KEY = 0  # of the noise of every score, the same each time, so that scores can be compared


class StoppingState(NamedTuple):
    """`score` is that of `best`, the estimate so far; the largest number as long as there is none."""

    running: State
    best: WeightedPoints
    score: Scalar
    n_steps: Int[Array, ""]


def best_on_held_out(method: Method, score: Score, every: int, renders: int = 0) -> Method:
    """The method with the best of its estimates in place of the last: early stopping, decided by held-out data.

    Estimates are scored after steps `every`, 2 `every`, ...; before the first of them the estimate is the method's own.

    Parameters
    ----------
    method
        Fitted to some of the observations.
    score
        Of an estimate, on the other observations; lower is better, and what is not a number is never better. It draws
        with the same key each time.
    every
        Steps between two scores.
    renders
        Images that one score renders, which are counted among the forward evaluations; 0 by default.

    Returns
    -------
    Method
        Its objective is the method's own.

    Raises
    ------
    ValueError
        `every` is below 1, or `renders` below 0.
    """
    every = checks.positive_int("every", every)
    renders = checks.non_negative_int("renders", renders)

    def init(key: PRNGKey) -> StoppingState:
        state = method.init(key)
        best = method.estimate(state)
        return StoppingState(state, best, _worst(best), jnp.zeros((), jnp.int32))

    def step(key: PRNGKey, state: StoppingState) -> tuple[StoppingState, Info]:
        running, info = method.step(key, state.running)
        n_steps, now, worst = state.n_steps + 1, method.estimate(running), _worst(state.best)
        due = n_steps % every == 0

        def scored() -> Scalar:
            value = score(jr.key(SCORE_KEY), now)
            return jnp.where(jnp.isnan(value), worst, value).astype(worst.dtype)

        value = jax.lax.cond(due, scored, lambda: worst)
        better = (value < state.score) | (state.score == worst)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), now, state.best)
        after = StoppingState(running, best, jnp.minimum(value, state.score), n_steps)
        return after, Info(info.objective, info.forward_evaluations + jnp.where(due, renders, 0))

    def estimate(state: StoppingState) -> WeightedPoints:
        return state.best

    return Method(init, step, estimate)


def _worst(estimate: WeightedPoints) -> Scalar:
    """Infinity would pass for a run that has failed."""
    return jnp.asarray(jnp.finfo(jnp.result_type(estimate.theta)).max, jnp.result_type(estimate.theta))
