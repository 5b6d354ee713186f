"""From a configuration to a record: build the instance, hand the method its problem, run, measure."""

import datetime
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.random as jr
import numpy as np
import optax

from cryosip.bench import checkpoint, metrics, programs, sharing
from cryosip.bench.environment import environment, peak_memory_mb, reset_peak_memory
from cryosip.bench.fixed_view import principal_components
from cryosip.bench.frames import film, frame
from cryosip.bench.identity import identity_of
from cryosip.bench.image_distances import observed_totals, readings, simulated_images
from cryosip.bench.limits import NO_LIMITS, Limits, TimeUp, told
from cryosip.bench.runner import Progress, Snapshot, run
from cryosip.bench.store import SCHEMA, RunConfig
from cryosip.datasets.instance import Instance, Molecule, Truth
from cryosip.datasets.registry import DATASETS
from cryosip.methods import checks
from cryosip.methods.flow import flow_target
from cryosip.methods.method import Method, WeightedPoints
from cryosip.methods.problem import Problem
from cryosip.methods.registry import DISCREPANCIES, METHODS, OPTIMIZERS

Fields = dict[str, Any]
Arrays = dict[str, np.ndarray]
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

Measure = Callable[[RunConfig, Session], tuple[Fields, Arrays]]

# fold_in numbers of a replicate's key; small numbers would repeat the keys that split() gives the data set
RUN_KEY, ESTIMATE_KEY, VARIANCE_KEY, CONSISTENCY_KEY = 1001, 1002, 1003, 1004

EXAMPLES = 4  # images that a record shows

CURVE_METRICS = ("w1", "w2")  # the others are evaluated at the end alone, but where budgets are compared


def execute(config: RunConfig, profile: str, measure: Measure, session: Session = ALONE) -> tuple[Fields, Arrays]:
    """The record of a run and its arrays, whatever becomes of the run: a failure is a record too."""
    reset_peak_memory()
    try:
        with jax.default_matmul_precision("highest"):  # a GPU would else round factors to ten bits
            fields, arrays = measure(config, session)
    except (Exception, TimeUp) as error:  # the record says what happened; the study goes on
        status = "timeout" if isinstance(error, TimeUp) else "error"
        fields, arrays = {"status": status, "message": f"{type(error).__name__}: {error}"}, {}
    peak, limits = peak_memory_mb(), session.limits
    if peak > limits.memory_mb and not fields.get("message"):
        fields["message"] = f"it took {peak:.0f} MB, more than the {limits.memory_mb:g} MB that were allowed"
    measured = {"peak_memory_mb": peak, "limits": told(limits), "environment": environment(session.jobs)}
    identity = {"identity": identity_of(config, measure)._asdict()}
    return _head(config, profile) | identity | measured | fields, arrays


def run_method(config: RunConfig, session: Session) -> tuple[Fields, Arrays]:
    """Runs a method on a problem; keeps its metrics over time, its last finite estimate and, of replicate 0, frames.

    It goes on from its checkpoint, if there is one. `limits.seconds` are for building the method and for stepping.
    """
    instance = build_instance(config)
    method, setup_seconds = _set_up(instance.problem, config)
    points = _reference(*_name(config))
    looked_at = CURVE_METRICS if config.budgets is None else (*CURVE_METRICS, "energy_distance_squared")
    key = jr.fold_in(jr.key(config.replicate), RUN_KEY)
    kept = checkpoint.load(session.checkpoint, lambda: jax.eval_shape(method.init, key))
    start, curve, frames = (kept.progress, kept.curve, kept.frames) if kept else (None, {}, [])
    last, resumed_at = (kept.estimate, kept.resumed_at) if kept else (None, [])
    known: dict[str, float] = {}  # metrics of the last estimate
    keeper = checkpoint.Keeper(session.checkpoint)

    def keep(now: Progress) -> None:
        assert last is not None  # the first look comes before the first part
        estimate = last
        keeper.offer(lambda: checkpoint.Checkpoint(now, curve, estimate, frames, [*resumed_at, now.step]))

    limits = session.limits._replace(seconds=session.limits.seconds - setup_seconds)
    status, message = "ok", ""
    for snapshot in run(key, method, config.steps, config.every, config.growth, limits, start, keep):
        session.on_snapshot(snapshot)
        values = metrics.some(looked_at, snapshot.estimate, points) if snapshot.finite else {"": math.nan}
        if not all(np.isfinite(value) or isinstance(value, metrics.Unsolved) for value in values.values()):
            status = "diverged"
            message = f"the state is not finite after step {snapshot.step}; the record keeps the last finite one"
            break
        last, known = snapshot.estimate, values
        if not curve or curve["step"][-1] != snapshot.step:  # it is there where time was up before the run went on
            _append(curve, snapshot, values)
            if config.replicate == 0:
                frames.append(frame(snapshot.step, snapshot.estimate))
        if config.stop_below and all(values[name] < limit for name, limit in config.stop_below.items()):
            break
        if config.stop_after_seconds is not None and setup_seconds + snapshot.seconds >= config.stop_after_seconds:
            break
        if snapshot.step < config.steps and snapshot.seconds >= limits.seconds:
            status, message = "timeout", f"the {session.limits.seconds:g} s that were allowed are over"
            break
    if last is None:
        return {"status": "diverged", "message": "the initial state is not finite"}, {}
    final = {name: column[-1] for name, column in curve.items()}
    fields, arrays = _describe(config, instance, points, last, known, session.shared or sharing.PROCESS)
    program = snapshot.program
    outcome: Fields = {
        "status": status,
        "message": message,
        "steps": final["step"],
        "forward_calls": final["forward_calls"],
        "setup_seconds": setup_seconds,
        "trace_seconds": program.trace_seconds,
        "compile_seconds": program.compile_seconds,
        "program": "found" if program.found else "compiled",
        "run_seconds": final["seconds"],
        "program_memory_mb": _finite(program.memory_mb),
        "tile_share": program.tile_share,
        "resumed_at": resumed_at,
        "curve": curve,
    }
    return outcome | fields, arrays | film(frames)


def _set_up(problem: Problem, config: RunConfig) -> tuple[Method, float]:
    """The method, and what it costs to build: the second time, since the first compiles what it calls."""
    build_method(problem, config.method, config.method_options)
    jax.block_until_ready(jax.live_arrays())
    began = time.perf_counter()
    method = build_method(problem, config.method, config.method_options)
    jax.block_until_ready(jax.live_arrays())
    return method, time.perf_counter() - began


def build_instance(config: RunConfig) -> Instance:
    """The problem of a configuration; replicates differ by their seed alone."""
    checks.one_of("problem", config.problem, DATASETS)
    return _instance(*_name(config))


def _name(config: RunConfig) -> tuple[str, str, int]:
    return config.problem, json.dumps(config.problem_options), config.replicate


@lru_cache(maxsize=1)
def _instance(problem: str, options: str, seed: int) -> Instance:
    """The last one is kept: a study runs all its methods on it in turn."""
    return DATASETS[problem](seed=seed, **json.loads(options))


@lru_cache(maxsize=1)
def _reference(problem: str, options: str, seed: int) -> WeightedPoints:
    """Points that stand for its truth."""
    return metrics.reference(_instance(problem, options, seed).truth)


def build_method(problem: Problem, name: str, options: dict[str, Any]) -> Method:
    """A method from plain options; its discrepancy and its optimizer are given by name."""
    checks.one_of("method", name, METHODS)
    built = dict(options)
    if "discrepancy" in built:
        chosen = built["discrepancy"]
        checks.one_of("discrepancy", chosen["name"], DISCREPANCIES)
        built["discrepancy"] = DISCREPANCIES[chosen["name"]](**chosen.get("options", {}))
    if "optimizer" in built:
        built["optimizer"] = _optimizer(**built["optimizer"])
    return METHODS[name](problem, **built)


def _optimizer(name: str, learning_rate: float, cosine_steps: int | None = None) -> optax.GradientTransformation:
    """With `cosine_steps` the rate falls to zero along a cosine within those steps."""
    checks.one_of("optimizer", name, OPTIMIZERS)
    checks.positive("learning_rate", learning_rate)
    if cosine_steps is None:
        return OPTIMIZERS[name](learning_rate)
    return OPTIMIZERS[name](
        optax.cosine_decay_schedule(learning_rate, checks.positive_int("cosine_steps", cosine_steps))
    )


def _head(config: RunConfig, profile: str) -> Fields:
    plain = asdict(config)
    return {
        "schema": SCHEMA,
        "study": config.study,
        "profile": profile,
        "setting": config.setting,
        "problem": config.problem,
        "method": config.method,
        "config": {
            "problem": {"name": config.problem, "options": config.problem_options},
            "method": {"name": config.method, "options": config.method_options},
            **{
                name: plain[name]
                for name in ("steps", "every", "growth", "stop_below", "stop_after_seconds", "budgets")
            },
        },
        "replicate": config.replicate,
        "seed": config.replicate,
        "status": "ok",
        "message": "",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _append(curve: Curve, snapshot: Snapshot, values: dict[str, float]) -> None:
    row = {
        "step": snapshot.step,
        "seconds": snapshot.seconds,
        "forward_calls": snapshot.forward_calls,
        "objective": snapshot.objective,
        **values,
    }
    for name, value in _plain(row).items():
        curve.setdefault(name, []).append(value)


def _plain(values: dict[str, Any]) -> Fields:
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for both."""
    return value if np.isfinite(value) else None


def _describe(
    config: RunConfig,
    instance: Instance,
    points: WeightedPoints,
    estimate: WeightedPoints,
    known: dict[str, float],
    of_all: sharing.Shared,
) -> tuple[Fields, Arrays]:
    """Metrics of the estimate beside those of the initial law and of draws of the truth, and the clouds themselves."""
    problem = instance.problem
    key_init, key_estimate = jr.split(jr.fold_in(jr.key(config.replicate), ESTIMATE_KEY))
    n = len(problem.observations)
    initial = WeightedPoints(problem.sample_init(key_init, n), np.full(n, 1 / n))
    data = _hash(problem, instance.truth)
    initial_metrics = of_all.numbers(("initial", data), lambda: _plain(_evaluate(instance, initial, points)))
    if problem.observations.shape[1] == 1:
        distances, images = _on_the_line(problem, estimate, initial, key_estimate, key_init)
    else:
        distances, images = {}, _examples(instance) if config.replicate == 0 else {}
        if "discrepancy" in config.method_options:  # the distances of images are what it minimises
            totals = of_all.once(("totals", data), lambda: observed_totals(instance))
            distances = readings(instance, totals, estimate, key_estimate)
            seen = of_all.numbers(
                ("initial images", data), lambda: _plain(readings(instance, totals, initial, key_init))
            )
            initial_metrics = initial_metrics | seen
    drawn_by = identity_of(config, run_method).problem  # the reference is of all draws, and samples are drawn anew
    law = drawn_by + hashlib.sha256(np.ascontiguousarray(points.theta).tobytes()).hexdigest()
    size = len(estimate.theta)
    floors, data_floors = (
        of_all.numbers(("floors", law, k), partial(metrics.floors, instance.truth, points, k)) for k in (size, n)
    )
    samples = metrics.equally_weighted(of_all.array(("samples", law, n), lambda: metrics.samples(instance.truth, n)))
    values = _evaluate(instance, estimate, points, known) | metrics.to_data(estimate, instance.truth) | distances
    fields: Fields = {
        "algorithm": _algorithm(config, problem, estimate, key_estimate),
        "metrics": _plain(values),
        "unsolved": [name for name, value in values.items() if isinstance(value, metrics.Unsolved)],
        "initial_metrics": initial_metrics,
        "oracle_metrics": metrics.best_weights(estimate, points),
        "floors": floors,
        "data_floors": data_floors,
        "sampled_metrics": metrics.against_samples(estimate, samples),
        "initial_sampled_metrics": of_all.numbers(
            ("initial samples", data), lambda: metrics.against_samples(initial, samples)
        ),
        "dataset_hash": data,
    }
    if instance.molecule is not None:
        molecule = instance.molecule
        fields["molecule"] = _molecule(molecule)
        if config.replicate == 0:
            images |= {"beads": molecule.rest, "motions": molecule.motions.reshape(len(molecule.motions), -1)}
            images |= principal_components(instance, initial, estimate, key_estimate)
    if config.method == "mixture":
        fields["collapsed_components"] = metrics.collapsed(estimate, np.asarray(initial.theta).std(0))
    arrays = {
        "theta": estimate.theta,
        "weights": estimate.weights,
        "theta_init": initial.theta,
        "theta_true": points.theta,
    }
    return fields, {name: np.asarray(array, np.float32) for name, array in (arrays | images).items()}


def _on_the_line(
    problem: Problem, estimate: WeightedPoints, initial: WeightedPoints, key_estimate: jax.Array, key_init: jax.Array
) -> tuple[Fields, dict[str, Any]]:
    """Half the squared distance of simulated data from the observations, and the data themselves."""
    n = len(problem.observations)
    distance = DISCREPANCIES["energy"]().bind(problem.observations, 0.0).value
    y, y_init = (
        simulated_images(problem, points, n, key)[1] for points, key in ((estimate, key_estimate), (initial, key_init))
    )
    images = {"y_observed": problem.observations, "y_estimated": y, "y_init": y_init}
    return {"discrepancy": float(programs.call(distance, y))}, images


def _examples(instance: Instance) -> dict[str, Any]:
    """A few images without and with noise."""
    some = instance.truth.theta[:EXAMPLES]
    pose = jax.tree.map(lambda a: a[:EXAMPLES], instance.truth.pose)
    return {
        "image_clean": instance.problem.render(some, pose),
        "image_noisy": instance.problem.observations[:EXAMPLES],
    }


def _algorithm(config: RunConfig, problem: Problem, estimate: WeightedPoints, key: jax.Array) -> Fields | None:
    """Which algorithm computed the discrepancy, and its error on images of the estimate."""
    chosen = config.method_options.get("discrepancy")
    if chosen is None:
        return None
    sampling = config.method_options.get("sampling", "method-1")
    discrepancy = DISCREPANCIES[chosen["name"]](**chosen.get("options", {}))
    problem, target = flow_target(problem, discrepancy, sampling)
    clean, noisy = simulated_images(problem, estimate, len(problem.observations), key)
    error = float(programs.call(target.gradient_error, clean if sampling == "closed-form" else noisy))
    return {"name": target.algorithm, **_plain({"gradient_error": error})}


def _evaluate(
    instance: Instance, estimate: WeightedPoints, points: WeightedPoints, known: dict[str, float] | None = None
) -> dict[str, float]:
    """All metrics; of a protein also mode by mode and in the paper's coordinates."""
    values = metrics.evaluate(estimate, points, known)
    if instance.molecule is None:
        return values
    scale = 1 / np.sqrt(instance.molecule.eigenvalues)
    return values | metrics.per_mode(estimate, points) | metrics.unwhitened(estimate, points, scale)


def _molecule(molecule: Molecule) -> Fields:
    """What a reader must know of the structure; of its file the name alone."""
    return {
        "source": Path(molecule.source).name,
        "chain": molecule.chain,
        "n_atoms": molecule.n_atoms,
        "n_beads": len(molecule.rest),
        "eigenvalues": molecule.eigenvalues.tolist(),
        "collectivity": molecule.collectivity.tolist(),
    }


def _hash(problem: Problem, truth: Truth) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(problem.observations).tobytes())
    digest.update(np.ascontiguousarray(truth.theta).tobytes())
    return digest.hexdigest()[:16]
