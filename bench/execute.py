"""From a configuration to a record: build the instance, hand the method its problem, run, measure."""

import datetime
import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import jax
import jax.random as jr
import numpy as np
import optax

from cryosip.bench import metrics
from cryosip.bench.environment import environment, peak_memory_mb, reset_peak_memory
from cryosip.bench.runner import Snapshot, run
from cryosip.bench.store import SCHEMA, RunConfig
from cryosip.datasets.instance import Instance, Truth
from cryosip.datasets.registry import DATASETS
from cryosip.methods import checks
from cryosip.methods.method import Method, WeightedPoints
from cryosip.methods.problem import Problem
from cryosip.methods.registry import DISCREPANCIES, METHODS

Fields = dict[str, Any]
Arrays = dict[str, np.ndarray]
Curve = dict[str, list[Any]]
OnSnapshot = Callable[[Snapshot], None]
Measure = Callable[[RunConfig, OnSnapshot], tuple[Fields, Arrays]]

# fold_in numbers of a replicate's key; small numbers would repeat the keys that split() gives the data set
RUN_KEY, ESTIMATE_KEY, VARIANCE_KEY = 1001, 1002, 1003

CURVE_METRICS = ("w1", "w2")  # the others are evaluated at the end alone

OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {"adam": optax.adam, "sgd": optax.sgd}


def execute(config: RunConfig, profile: str, measure: Measure, on_snapshot: OnSnapshot) -> tuple[Fields, Arrays]:
    """The record of a run and its arrays, whatever becomes of the run: a failure is a record too."""
    reset_peak_memory()
    try:
        fields, arrays = measure(config, on_snapshot)
    except Exception as error:  # the record says what happened; the study goes on
        fields, arrays = {"status": "error", "message": f"{type(error).__name__}: {error}"}, {}
    measured = {"peak_memory_mb": peak_memory_mb(), "environment": environment()}
    return _head(config, profile) | measured | fields, arrays


def run_method(config: RunConfig, on_snapshot: OnSnapshot) -> tuple[Fields, Arrays]:
    """Runs a method on a problem and keeps its metrics over time and its last finite estimate."""
    instance = build_instance(config)
    method = build_method(instance.problem, config.method, config.method_options)
    points = metrics.reference(instance.truth)
    curve: Curve = {}
    last, message = None, ""
    for snapshot in run(jr.fold_in(jr.key(config.replicate), RUN_KEY), method, config.steps, config.every):
        on_snapshot(snapshot)
        if not snapshot.finite:
            message = f"the state is not finite after step {snapshot.step}; the record keeps the last finite one"
            break
        last, values = snapshot, {name: metrics.METRICS[name](snapshot.estimate, points) for name in CURVE_METRICS}
        _append(curve, snapshot, values)
        if config.stop_below and all(values[name] < limit for name, limit in config.stop_below.items()):
            break
    if last is None:
        return {"status": "diverged", "message": "the initial state is not finite"}, {}
    fields, arrays = _describe(config, instance, points, last.estimate)
    outcome: Fields = {
        "status": "diverged" if message else "ok",
        "message": message,
        "steps": last.step,
        "forward_calls": last.forward_calls,
        "compile_seconds": last.compile_seconds,
        "run_seconds": last.seconds,
        "curve": curve,
    }
    return outcome | fields, arrays


def build_instance(config: RunConfig) -> Instance:
    """The problem of a configuration; replicates differ by their seed alone."""
    checks.one_of("problem", config.problem, DATASETS)
    return DATASETS[config.problem](seed=config.replicate, **config.problem_options)


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


def _optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
    checks.one_of("optimizer", name, OPTIMIZERS)
    checks.positive("learning_rate", learning_rate)
    return OPTIMIZERS[name](learning_rate)


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
            **{name: plain[name] for name in ("steps", "every", "stop_below")},
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
    """JSON has no NaN and no infinity: null stands for both."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _describe(
    config: RunConfig, instance: Instance, points: WeightedPoints, estimate: WeightedPoints
) -> tuple[Fields, Arrays]:
    """Metrics of the estimate beside those of the initial law and of draws of the truth, and the clouds themselves."""
    problem = instance.problem
    key_init, key_estimate = jr.split(jr.fold_in(jr.key(config.replicate), ESTIMATE_KEY))
    n = len(problem.observations)
    initial = WeightedPoints(problem.sample_init(key_init, n), np.full(n, 1 / n))
    simulated = _simulate(problem, key_estimate, estimate, n)
    discrepancy = float(jax.jit(DISCREPANCIES["energy"]().bind(problem.observations, 0.0).value)(simulated))

    def floors(size: int) -> Any:
        return _of_law("floors", lambda: metrics.floors(instance.truth, points, size), points, size)

    samples = _of_law("samples", lambda: metrics.samples(instance.truth, n), points, n)
    fields: Fields = {
        "algorithm": _algorithm(config, problem, simulated),
        "metrics": _plain(metrics.evaluate(estimate, points) | {"discrepancy": discrepancy}),
        "initial_metrics": _plain(metrics.evaluate(initial, points)),
        "floors": floors(len(estimate.theta)),
        "data_floors": floors(n),
        "sampled_metrics": metrics.against_samples(estimate, samples),
        "dataset_hash": _hash(problem, instance.truth),
    }
    arrays = {
        "theta": estimate.theta,
        "weights": estimate.weights,
        "theta_init": initial.theta,
        "theta_true": points.theta,
    }
    if problem.observations.shape[1] == 1:
        y_init = _simulate(problem, key_init, initial, n)
        arrays |= {"y_observed": problem.observations, "y_estimated": simulated, "y_init": y_init}
    return fields, {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _simulate(problem: Problem, key: jax.Array, estimate: WeightedPoints, n: int) -> jax.Array:
    """n noisy images of the estimate."""
    key_choice, key_pose, key_noise = jr.split(key, 3)
    chosen = jr.choice(key_choice, len(estimate.theta), (n,), p=jax.numpy.asarray(estimate.weights))
    clean = problem.render(jax.numpy.asarray(estimate.theta)[chosen], problem.sample_pose(key_pose, n))
    return clean + problem.noise_std * jr.normal(key_noise, clean.shape)


def _algorithm(config: RunConfig, problem: Problem, simulated: jax.Array) -> Fields | None:
    """Which algorithm computed the discrepancy, and its error on images like those of the estimate."""
    chosen = config.method_options.get("discrepancy")
    if chosen is None:
        return None
    closed_form = config.method_options.get("sampling") == "closed-form"
    discrepancy = DISCREPANCIES[chosen["name"]](**chosen.get("options", {}))
    target = discrepancy.bind(problem.observations, problem.noise_std if closed_form else 0.0)
    error = float(jax.jit(target.gradient_error)(simulated))
    return {"name": target.algorithm, **_plain({"gradient_error": error})}


_LAWS: dict[tuple[str, bytes, int], Any] = {}


def _of_law(what: str, make: Callable[[], Any], points: WeightedPoints, n: int) -> Any:
    """What depends on the truth's law and n alone is made once, and shared by all runs of a session on that law."""
    key = what, hashlib.sha256(np.ascontiguousarray(points.theta).tobytes()).digest(), n
    if key not in _LAWS:
        _LAWS[key] = make()
    return _LAWS[key]


def _hash(problem: Problem, truth: Truth) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(problem.observations).tobytes())
    digest.update(np.ascontiguousarray(truth.theta).tobytes())
    return digest.hexdigest()[:16]
