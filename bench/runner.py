"""One runner for every method: compile once, step in blocks, stop the clock while the caller looks."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr

from cryosip.methods import checks
from cryosip.methods.method import Info, Method, State, WeightedPoints


class Snapshot(NamedTuple):
    """The run after `step` steps; `seconds` counts stepping alone, compilation and the caller's time left out.

    `program_memory_mb` is what the compiler plans for arguments, results and temporaries of a block of steps; data that
    the program holds as constants, and host callbacks, come on top.
    """

    step: int
    seconds: float
    forward_calls: int
    compile_seconds: float
    program_memory_mb: float
    objective: float
    finite: bool
    estimate: WeightedPoints
    state: State


def run(key: jax.Array, method: Method, steps: int, every: int, growth: float = 1.0) -> Iterator[Snapshot]:
    """Runs a method for `steps` steps and yields a snapshot at step 0, after each `every` steps, and at the end.

    With `growth` each block is so many times as long as the one before, for looks that are even in log(step). Step t
    draws from fold_in(key, t), so the result does not depend on `every`. A run whose state stops being finite
    yields one last snapshot with `finite` False. Raises ValueError for counts below 1 and growth below 1.
    """
    checks.positive_int("steps", steps)
    checks.positive_int("every", every)
    if checks.positive("growth", growth) < 1:
        raise ValueError(f"growth is {growth!r}; wanted a number >= 1")
    key_init, key_steps = jr.split(key)
    state = jax.jit(method.init)(key_init)
    started = time.perf_counter()
    advance = jax.jit(_block(method)).lower(key_steps, state, 0, every).compile()
    compile_seconds = time.perf_counter() - started
    memory = _planned_megabytes(advance)

    def look(step: int, seconds: float, calls: int, objective: float) -> Snapshot:
        estimate = method.estimate(state)
        return Snapshot(step, seconds, calls, compile_seconds, memory, objective, _finite(state), estimate, state)

    yield look(0, 0.0, 0, float("nan"))
    seconds, forward_calls = 0.0, 0
    stops = _stops(steps, every, growth)
    for start, stop in zip([0, *stops], stops, strict=False):
        began = time.perf_counter()
        state, info, calls = jax.block_until_ready(advance(key_steps, state, start, stop))
        seconds += time.perf_counter() - began
        forward_calls += int(calls[0]) * 2**16 + int(calls[1])
        snapshot = look(stop, seconds, forward_calls, float(info.objective))
        yield snapshot
        if not snapshot.finite:
            return


def _stops(steps: int, every: int, growth: float) -> list[int]:
    """The last step of each block."""
    stops, length = [0], float(every)
    while stops[-1] < steps:
        stops.append(min(stops[-1] + round(length), steps))
        length *= growth
    return stops[1:]


def _planned_megabytes(program: jax.stages.Compiled) -> float:
    plan = program.memory_analysis()
    if plan is None:  # not every device tells
        return float("nan")
    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return float(planned - plan.alias_size_in_bytes) / 2**20


Count = jax.Array | int
Calls = tuple[jax.Array, jax.Array]
Block = Callable[[jax.Array, State, Count, Count], tuple[State, Info, Calls]]


def _block(method: Method) -> Block:
    """Steps start ... stop - 1. Only the last one reports; the compiler drops the objective from the others."""

    def block(key: jax.Array, state: State, start: Count, stop: Count) -> tuple[State, Info, Calls]:
        def body(t: jax.Array, carry: tuple[State, Calls]) -> tuple[State, Calls]:
            state, info = method.step(jr.fold_in(key, t), carry[0])
            return state, _count(carry[1], info)

        zero = jnp.zeros((), jnp.uint32)
        state, calls = jax.lax.fori_loop(start, stop - 1, body, (state, (zero, zero)))
        state, info = method.step(jr.fold_in(key, stop - 1), state)
        return state, info, _count(calls, info)

    return block


def _count(calls: Calls, info: Info) -> Calls:
    """Adds to (high, low), which stand for high * 2^16 + low: 32 bits overflow within one long block."""
    low = calls[1] + info.forward_calls.astype(jnp.uint32)
    return calls[0] + (low >> 16), low & 0xFFFF


def _finite(state: State) -> bool:
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
