"""One runner for every method: compile once, step in blocks, stop the clock while the caller looks."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr

from cryosip.bench.environment import memory_in_use_mb
from cryosip.bench.limits import MEASURING_MB, NO_LIMITS, Limits
from cryosip.methods import checks
from cryosip.methods.method import Info, Method, State, WeightedPoints
from cryosip.methods.tiles import shared

PART_SECONDS = 2.0  # a long block is cut into parts of about this length
TILE_SHARES = (1.0, 1 / 8, 1 / 64, 1 / 512)  # tried in turn where memory is limited


class Progress(NamedTuple):
    """How far a run is: what it can be taken up from."""

    step: int
    seconds: float
    forward_calls: int
    state: State


class Snapshot(NamedTuple):
    """The run after `step` steps; `seconds` counts stepping alone, compilation and the caller's time left out.

    `program_memory_mb` is what the compiler plans for arguments, results and temporaries of a block of steps; data that
    the program holds as constants, and host callbacks, come on top. `tile_share` is what sums over pairs or images were
    cut to: 1 unless memory is limited.
    """

    step: int
    seconds: float
    forward_calls: int
    compile_seconds: float
    program_memory_mb: float
    tile_share: float
    objective: float
    finite: bool
    estimate: WeightedPoints
    state: State


def run(
    key: jax.Array,
    method: Method,
    steps: int,
    every: int,
    growth: float = 1.0,
    limits: Limits = NO_LIMITS,
    start: Progress | None = None,
    on_part: Callable[[Progress], None] = lambda _: None,
) -> Iterator[Snapshot]:
    """Runs a method for `steps` steps and yields a snapshot at step 0, after each `every` steps, and at the end.

    With `growth` each block is so many times as long as the one before, for looks that are even in log(step). Step t
    draws from fold_in(key, t), so the result does not depend on `every`. A run whose state or estimate stops being
    finite yields one last snapshot with `finite` False. Blocks of more than seconds are computed in parts, which
    changes no bit; `on_part` is told after each, off the clock, and a run that is given what it was told as `start`
    goes on from there, to the same bits. After the part in which `limits.seconds` are over comes a last snapshot.
    Raises ValueError for counts below 1 and growth below 1, MemoryError where tiles of no size fit into the memory.
    """
    checks.positive_int("steps", steps)
    checks.positive_int("every", every)
    if checks.positive("growth", growth) < 1:
        raise ValueError(f"growth is {growth!r}; wanted a number >= 1")
    key_init, key_steps = jr.split(key)
    state = jax.jit(method.init)(key_init)
    began = time.perf_counter()
    advance, memory, share = _compiled(method, (key_steps, state, 0, every, False), limits.memory_mb)
    compile_seconds = time.perf_counter() - began

    def look(now: Progress, objective: float) -> Snapshot:
        estimate = method.estimate(now.state)
        finite = _finite((now.state, estimate))
        told = now.step, now.seconds, now.forward_calls, compile_seconds, memory, share, objective
        return Snapshot(*told, finite, estimate, now.state)

    now = Progress(0, 0.0, 0, state) if start is None else start
    if start is None:
        yield look(now, math.nan)
    longest = 1  # steps of a part
    for stop in (stop for stop in _stops(steps, every, growth) if stop > now.step):
        objective = math.nan
        while now.step < stop and now.seconds < limits.seconds:
            end = min(now.step + longest, stop)
            began = time.perf_counter()
            state, told, calls = jax.block_until_ready(advance(key_steps, now.state, now.step, end, end == stop))
            took = time.perf_counter() - began
            longest = max(1, min(10 * longest, int((end - now.step) * PART_SECONDS / max(took, 1e-9))))
            counted = now.forward_calls + int(calls[0]) * 2**16 + int(calls[1])
            now, objective = Progress(end, now.seconds + took, counted, state), float(told)
            if end < stop:
                on_part(now)
        snapshot = look(now, objective)
        yield snapshot
        if not snapshot.finite or now.seconds >= limits.seconds:
            return
        if now.step < steps:
            on_part(now)


def _stops(steps: int, every: int, growth: float) -> list[int]:
    """The last step of each block."""
    stops, length = [0], float(every)
    while stops[-1] < steps:
        stops.append(min(stops[-1] + round(length), steps))
        length *= growth
    return stops[1:]


def _compiled(method: Method, arguments: tuple[Any, ...], memory_mb: float) -> tuple[jax.stages.Compiled, float, float]:
    """The program of a block, the megabytes that are planned for it, and the share of their size that its tiles have.

    Raises MemoryError with the sizes where it does not fit even in the smallest tiles.
    """
    for share in TILE_SHARES:
        with shared(share):
            program = jax.jit(_block(method)).lower(*arguments).compile()
        planned, held = _planned_megabytes(program), memory_in_use_mb()
        if not held + max(planned, MEASURING_MB) > memory_mb:  # a plan that is not told is nan
            return program, planned, share
    raise MemoryError(
        f"the program needs {planned:.0f} MB (and metrics {MEASURING_MB:.0f}) beside {held:.0f} MB in use, "
        f"in the smallest tiles; wanted at most {memory_mb:g} MB together"
    )


def _planned_megabytes(program: jax.stages.Compiled) -> float:
    plan = program.memory_analysis()
    if plan is None:  # not every device tells
        return float("nan")
    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return float(planned - plan.alias_size_in_bytes) / 2**20


Count = jax.Array | int
Calls = tuple[jax.Array, jax.Array]
Told = tuple[State, jax.Array, Calls]
Block = Callable[[jax.Array, State, Count, Count, jax.Array | bool], Told]


def _block(method: Method) -> Block:
    """Steps start ... stop - 1. Where the block reports, the last one tells its objective, which is nan otherwise.

    The compiler drops the objective from the other steps, and compiles the last one by itself: its rounding may differ
    from that of the same step in the loop. A block that does not report is the loop alone, and can be cut anywhere.
    """

    def block(key: jax.Array, state: State, start: Count, stop: Count, reports: jax.Array | bool) -> Told:
        def body(t: jax.Array, carry: tuple[State, Calls]) -> tuple[State, Calls]:
            state, info = method.step(jr.fold_in(key, t), carry[0])
            return state, _count(carry[1], info)

        def last(state: State, calls: Calls) -> Told:
            state, info = method.step(jr.fold_in(key, stop - 1), state)
            return state, jnp.asarray(info.objective, float), _count(calls, info)

        def nothing(state: State, calls: Calls) -> Told:
            return state, jnp.asarray(jnp.nan, float), calls

        zero = jnp.zeros((), jnp.uint32)
        looped = stop - jnp.asarray(reports, jnp.int32)
        state, calls = jax.lax.fori_loop(start, looped, body, (state, (zero, zero)))
        return jax.lax.cond(reports, last, nothing, state, calls)

    return block


def _count(calls: Calls, info: Info) -> Calls:
    """Adds to (high, low), which stand for high * 2^16 + low: 32 bits overflow within one long block."""
    low = calls[1] + info.forward_calls.astype(jnp.uint32)
    return calls[0] + (low >> 16), low & 0xFFFF


def _finite(values: Any) -> bool:
    leaves = [leaf for leaf in jax.tree.leaves(values) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
