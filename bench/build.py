"""From names and plain options to an instance, a method and the points that stand for the truth."""

import inspect
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import optax

from cryosip.bench import metrics
from cryosip.datasets.instance import Instance
from cryosip.datasets.registry import DATASETS
from cryosip.methods import checks
from cryosip.methods.method import Method, WeightedPoints
from cryosip.methods.problem import Problem
from cryosip.methods.registry import DISCREPANCIES, METHODS, OPTIMIZERS
from cryosip.records.schema import Choice, Config, Options, RunConfig


def build_instance(config: RunConfig) -> Instance:
    """The problem of a configuration; replicates differ by their seed alone."""
    checks.one_of("problem", config.problem, DATASETS)
    return _instance(*_name(config))


def resolved(config: RunConfig) -> Config:
    """The configuration with the defaults of all that it leaves out, as the record keeps it."""
    problem = _choice(DATASETS, config.problem, config.problem_options)
    method = _choice(METHODS, config.method, config.method_options)
    chosen = config.method_options.get("discrepancy")
    if isinstance(chosen, dict):
        of_discrepancy = _choice(DISCREPANCIES, chosen.get("name", ""), chosen.get("options", {}))
        method.defaults["discrepancy"] = {"options": of_discrepancy.defaults}
    return Config(
        problem,
        method,
        config.steps,
        config.every,
        config.growth,
        config.stop_below,
        config.stop_after_seconds,
        config.budgets,
    )


def _choice(registry: Mapping[str, Callable[..., Any]], name: str, given: Options) -> Choice:
    """With the defaults of the arguments that are not given, as JSON has them; the seed is the replicate's."""
    if name not in registry:  # an error of the run, or a measure that is no method
        return Choice(name, given)
    parameters = inspect.signature(registry[name]).parameters.values()
    known = {p.name: p.default for p in parameters if p.default is not p.empty and p.name != "seed"}
    defaults = {key: value for key, value in known.items() if key not in given}
    return Choice(name, given, json.loads(json.dumps(defaults)))


def reference(config: RunConfig) -> WeightedPoints:
    """Points that stand for the truth of a configuration."""
    return _reference(*_name(config))


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
