"""From a configuration to a record: build the instance, hand the method its problem, run, measure."""

import datetime
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.random as jr
import msgspec
import numpy as np

from cryosip.bench import checkpoint, metrics, sharing, stopping
from cryosip.bench.build import build_instance, build_method, reference, resolved
from cryosip.bench.environment import dtype, environment, peak_memory_mb, reset_peak_memory
from cryosip.bench.frames import Frame, film, frame
from cryosip.bench.limits import NO_LIMITS, Limits, TimeUp, as_json
from cryosip.bench.measure import Arrays, describe
from cryosip.bench.runner import Progress, Snapshot, run
from cryosip.bench.sources import homes_of, identity_of
from cryosip.datasets.instance import Instance
from cryosip.methods.method import Method, WeightedPoints
from cryosip.methods.problem import Problem
from cryosip.records.schema import Record, Result, RunConfig, Status, id_of, printable

Curve = dict[str, list[Any]]


class Session(NamedTuple):
    """What a run has beside its configuration: who watches, its limits, its checkpoint, with how many it runs, and what
    it shares with the others.
    """

    on_snapshot: Callable[[Snapshot], None] = lambda _: None
    limits: Limits = NO_LIMITS
    checkpoint: Path | None = None
    jobs: int = 1
    shared: sharing.Shared | None = None


ALONE = Session()

Scores = Mapping[str, Callable[[WeightedPoints], float]]
NO_SCORES: Scores = {}

Measure = Callable[[RunConfig, Session], tuple[Result, Arrays]]
# of an estimate, with the points that stand for the truth and what is known of it already
Describe = Callable[
    [RunConfig, Instance, WeightedPoints, WeightedPoints, dict[str, float], sharing.Shared], tuple[Result, Arrays]
]

# fold_in number of a replicate's key; small numbers would repeat the keys that split() gives the data set
RUN_KEY = 1001

CURVE_METRICS = ("w1", "w2")  # the others are evaluated at the end alone, but where budgets are compared


def execute(config: RunConfig, profile: str, measure: Measure, session: Session = ALONE) -> tuple[Record, Arrays]:
    """The record of a run and its arrays, whatever becomes of the run: a failure is a record too."""
    reset_peak_memory()
    try:
        with jax.default_matmul_precision("highest"):  # a GPU would else round factors to ten bits
            result, arrays = measure(config, session)
    except (Exception, TimeUp) as error:  # the record says what happened; the study goes on
        if stopping.told():  # and a library has made another exception of that
            raise stopping.Stopped(str(error)) from error
        status: Status = "timeout" if isinstance(error, TimeUp) else "error"
        result, arrays = Result(status=status, message=printable(f"{type(error).__name__}: {error}")), {}
    peak, limits = peak_memory_mb(), session.limits
    if peak > limits.memory_mb and not result.message:
        over = f"it took {peak:.0f} MB, more than the {limits.memory_mb:g} MB that were allowed"
        result = msgspec.structs.replace(result, message=over)
    record = record_of(config, profile, measure, result)
    measured = {
        "peak_memory_mb": peak,
        "limits": as_json(limits),
        "environment": environment(session.jobs) | homes_of(config),
    }
    return msgspec.structs.replace(record, **measured), arrays


def record_of(config: RunConfig, profile: str, measure: Measure, result: Result | None = None) -> Record:
    """The record of a run under its id; of one that is to come without `result`."""
    record = Record(
        run_id="-",
        study=config.study,
        profile=profile,
        labels=config.labels,
        config=resolved(config),
        replicate=config.replicate,
        seed=config.replicate,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        identity=identity_of(config, measure),
        environment={"dtype": dtype()},
        **msgspec.structs.asdict(result or Result()),
    )
    return msgspec.structs.replace(record, run_id=id_of(record))


def run_method(config: RunConfig, session: Session) -> tuple[Result, Arrays]:
    """Runs a method on a problem; keeps its metrics over time, its last finite estimate and, of replicate 0, frames.

    It goes on from its checkpoint, if there is one. `limits.seconds` are for building the method and for stepping.
    """
    evaluated = CURVE_METRICS if config.budgets is None else (*CURVE_METRICS, "energy_distance_squared")
    return run_instance(build_instance(config), config, session, evaluated)


def run_instance(
    instance: Instance, config: RunConfig, session: Session, evaluated: Sequence[str], scores: Scores = NO_SCORES,
    described: Describe = describe,
) -> tuple[Result, Arrays]:  # fmt: skip
    """The same on an instance that is made already; each estimate has the metrics that are named, and the scores.

    The last estimate is `described`.
    """
    with checkpoint.writing(session.checkpoint) as writer:
        return _run_instance(instance, config, session, evaluated, scores, described, writer)


def _run_instance(
    instance: Instance, config: RunConfig, session: Session, evaluated: Sequence[str], scores: Scores,
    described: Describe, writer: checkpoint.CheckpointWriter,
) -> tuple[Result, Arrays]:  # fmt: skip
    method, setup_seconds = _set_up(instance.problem, config)
    points = reference(config)
    key = jr.fold_in(jr.key(config.replicate), RUN_KEY)
    start, curve, last, frames, resumed_at = None, Curve(), None, list[Frame](), list[int]()
    if kept := checkpoint.load(session.checkpoint, lambda: jax.eval_shape(method.init, key)):
        start, curve, last, frames, resumed_at, setup_seconds = kept
    known: dict[str, float] = {}  # metrics of the last estimate

    def keep(now: Progress) -> None:
        if stopping.told():  # and the exception was lost, as in a destructor
            raise stopping.Stopped("told to stop")
        assert last is not None  # the first evaluation comes before the first part
        estimate = last
        writer.offer(
            lambda: checkpoint.Checkpoint(now, curve, estimate, frames, [*resumed_at, now.step], setup_seconds)
        )

    limits = session.limits._replace(seconds=session.limits.seconds - setup_seconds)
    status: Status = "ok"
    message = ""
    for snapshot in run(key, method, config.steps, config.every, config.growth, limits, start, keep):
        session.on_snapshot(snapshot)
        seen = metrics.identified(instance.truth, snapshot.estimate)
        values = {"": math.nan}
        if snapshot.finite:
            scored = {name: score(snapshot.estimate) for name, score in scores.items()}
            values = metrics.some(evaluated, seen, points) | scored
        if not all(np.isfinite(value) or isinstance(value, metrics.Unsolved) for value in values.values()):
            status = "diverged"
            message = f"the state is not finite after step {snapshot.step}; the record keeps the last finite one"
            break
        last, known = snapshot.estimate, values
        if not curve or curve["step"][-1] != snapshot.step:  # it is there where time was up before the run went on
            _append(curve, snapshot, values)
            if config.replicate == 0:
                frames.append(frame(snapshot.step, seen))
        if config.stop_below and all(values[name] < limit for name, limit in config.stop_below.items()):
            break
        if config.stop_after_seconds is not None and setup_seconds + snapshot.seconds >= config.stop_after_seconds:
            break
        if snapshot.step < config.steps and snapshot.seconds >= limits.seconds:
            status, message = "timeout", f"the {session.limits.seconds:g} s that were allowed are over"
            break
    if last is None:
        return Result(status="diverged", message="the initial state is not finite"), {}
    result, arrays = described(config, instance, points, last, known, session.shared or sharing.PROCESS)
    cost = _cost(setup_seconds, snapshot, curve)
    result = msgspec.structs.replace(result, status=status, message=message, resumed_at=resumed_at, **cost)
    return result, arrays | film(frames)


def _set_up(problem: Problem, config: RunConfig) -> tuple[Method, float]:
    """The method, and what it costs to build: the second time, since the first compiles what it calls."""
    build_method(problem, config.method, config.method_options)
    jax.block_until_ready(jax.live_arrays())
    began = time.perf_counter()
    method = build_method(problem, config.method, config.method_options)
    jax.block_until_ready(jax.live_arrays())
    return method, time.perf_counter() - began


def _cost(setup_seconds: float, snapshot: Snapshot, curve: Curve) -> dict[str, Any]:
    """The fields of a record that say what a run took, and its curve."""
    final, program = {name: column[-1] for name, column in curve.items()}, snapshot.program
    return {
        "steps": final["step"],
        "forward_evaluations": final["forward_evaluations"],
        "setup_seconds": setup_seconds,
        "trace_seconds": program.trace_seconds,
        "compile_seconds": program.compile_seconds,
        "program": "found" if program.found else "compiled",
        "run_seconds": final["seconds"],
        "program_memory_mb": program.memory_mb,
        "tile_share": program.tile_share,
        "curve": {name: np.asarray(column, np.float64) for name, column in curve.items()},
    }


def _append(curve: Curve, snapshot: Snapshot, values: dict[str, float]) -> None:
    row = {
        "step": snapshot.step,
        "seconds": snapshot.seconds,
        "forward_evaluations": snapshot.forward_evaluations,
        "objective": snapshot.objective,
        **values,
    }
    for name, value in row.items():
        curve.setdefault(name, []).append(value)
