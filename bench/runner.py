"""One runner for every method: compile once, step in blocks, stop the clock while metrics are evaluated."""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr

from cryosip.bench import programs
from cryosip.bench.cache import compilations
from cryosip.bench.environment import memory_in_use_mb
from cryosip.bench.limits import MEASURING_MB, NO_LIMITS, Limits
from cryosip.methods import checks, hosts
from cryosip.methods.method import Method, State, WeightedPoints
from cryosip.methods.tiles import shared

PART_SECONDS = 2.0  # a long block is cut into parts of about this length
TILE_SHARES = (1.0, 1 / 8, 1 / 64, 1 / 512)  # tried in turn where memory is limited


class Progress(NamedTuple):
    """How far a run is: what it can be taken up from."""

    step: int
    seconds: float
    forward_evaluations: int
    state: State


class Program(NamedTuple):
    """A block of steps, compiled, and what it took to have it.

    `trace_seconds` took Python, `compile_seconds` lowering and compilation, or finding what was compiled before, in
    this process or in the cache on disk: then `found`. `memory_mb` is what the compiler plans for arguments, results
    and temporaries; host callbacks come on top. `tile_share` is what sums over pairs or images were cut to: 1 unless
    memory is limited.
    """

    advance: "Callable[[jax.Array, State, int, int, bool], Told]"
    trace_seconds: float
    compile_seconds: float
    found: bool
    memory_mb: float
    tile_share: float


class Snapshot(NamedTuple):
    """The run after `step` steps; `seconds` counts stepping alone, compilation and the caller's time left out."""

    step: int
    seconds: float
    forward_evaluations: int
    program: Program
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

    With `growth` each block is so many times as long as the one before: evaluations are even in log(step). Step t
    draws from fold_in(key, t), so the result does not depend on `every`. A run whose state or estimate stops being
    finite yields one last snapshot with `finite` False. Blocks of more than seconds are computed in parts, which
    changes no bit; `on_part` is told after each, off the clock, and a run that is given what it was told as `start`
    goes on from there, to the same bits. After the part in which `limits.seconds` are over comes a last snapshot.
    In a run of several processes (`methods.cluster`) all of them call this alike. Each is given the same estimates,
    whole and of numpy, and the clock of the slowest; the state stays where it is.
    Raises ValueError for counts below 1 and growth below 1, MemoryError where tiles of no size fit into the memory.
    """
    checks.positive_int("steps", steps)
    checks.positive_int("every", every)
    if checks.positive("growth", growth) < 1:
        raise ValueError(f"growth is {growth!r}; wanted a number >= 1")
    key_init, key_steps = jr.split(key)
    state = hosts.placed(programs.call(method.init, key_init))
    program = _compiled(method, (key_steps, state, 0, every, False), limits.memory_mb)

    def snapshot_of(now: Progress, objective: float) -> Snapshot:
        estimate = method.estimate(now.state)
        finite = hosts.all_finite((now.state, estimate))
        estimate = hosts.fetched(estimate)
        return Snapshot(now.step, now.seconds, now.forward_evaluations, program, objective, finite, estimate, now.state)

    now = Progress(0, 0.0, 0, state) if start is None else start._replace(state=hosts.placed_as(start.state, state))
    if start is None:
        yield snapshot_of(now, math.nan)
    longest = 1  # steps of a part
    for stop in (stop for stop in _stops(steps, every, growth) if stop > now.step):
        objective = math.nan
        while now.step < stop and now.seconds < limits.seconds:
            end = min(now.step + longest, stop)
            began = time.perf_counter()
            report = program.advance(key_steps, now.state, now.step, end, end == stop)
            state, told, calls = jax.block_until_ready(report)
            took = hosts.largest(time.perf_counter() - began)
            longest = max(1, min(10 * longest, int((end - now.step) * PART_SECONDS / max(took, 1e-9))))
            counted = now.forward_evaluations + int(calls[0]) * 2**16 + int(calls[1])
            now, objective = Progress(end, now.seconds + took, counted, state), float(told)
            if end < stop:
                on_part(now)
        snapshot = snapshot_of(now, objective)
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


def _compiled(method: Method, arguments: tuple[jax.Array, State, int, int, bool], memory_mb: float) -> Program:
    """The program of a block; replicates, whose data alone differ, share one.

    Raises MemoryError with the sizes where it does not fit even in the smallest tiles.
    """
    for share in TILE_SHARES:
        before, began = compilations(), time.perf_counter()
        with shared(share):
            step = programs.step(method.step, *arguments[:2])
        traced = time.perf_counter()
        program = _BLOCK.lower(*step, *arguments).compile()
        trace_seconds, compile_seconds = traced - began, time.perf_counter() - traced
        planned, held = _planned_megabytes(program), hosts.largest(memory_in_use_mb())
        if not held + max(planned, MEASURING_MB) > memory_mb:  # a plan that is not told is nan
            advance = partial(program, step.constants)
            return Program(advance, trace_seconds, compile_seconds, compilations() == before, planned, share)
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


def _block(
    text: programs.Text,
    constants: list[jax.Array],
    key: jax.Array,
    state: State,
    start: Count,
    stop: Count,
    reports: jax.Array | bool,
) -> Told:
    """Steps start ... stop - 1, at least one. Where the block reports, it tells the objective of the last; else nan.

    The objective is computed after the loop, from what the last step has left for it, so that other steps do not pay
    for it, and a block can be cut anywhere to the same bits.
    """
    update, report = text.jaxprs
    leaves, structure = jax.tree.flatten(state)

    def body(t: jax.Array, carry: tuple[list[jax.Array], Calls, list[jax.Array]]) -> Any:
        results = jax.core.eval_jaxpr(update, constants, jr.fold_in(key, t), *carry[0])
        leaves, (calls, *handed) = results[: len(carry[0])], results[len(carry[0]) :]
        return leaves, _count(carry[1], calls), handed

    zero = jnp.zeros((), jnp.uint32)
    nothing = [_blank(v.aval, key) for v in report.invars]
    leaves, calls, handed = jax.lax.fori_loop(start, stop, body, (leaves, (zero, zero), nothing))

    def objective() -> jax.Array:
        return jnp.asarray(jax.core.eval_jaxpr(report, constants, *handed)[0], float)

    told = jax.lax.cond(reports, objective, lambda: jnp.asarray(jnp.nan, float))
    return jax.tree.unflatten(structure, leaves), told, calls


_BLOCK = jax.jit(_block, static_argnums=0)


def _blank(shape: Any, key: jax.Array) -> jax.Array:
    """Something of that shape and type, before the first step."""
    if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(key, shape.shape)
    return jnp.zeros(shape.shape, shape.dtype)


def _count(calls: Calls, more: Count) -> Calls:
    """Adds to (high, low), which stand for high * 2^16 + low: 32 bits overflow within one long block."""
    low = calls[1] + jnp.asarray(more, jnp.uint32)
    return calls[0] + (low >> 16), low & 0xFFFF
