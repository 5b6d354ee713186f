"""A method on a tiny problem, run for a few steps, and how two runs are compared."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from cryosip.bench import programs
from cryosip.bench.examples import example_method, example_problem
from cryosip.methods.method import Info, Method, State, WeightedPoints
from cryosip.methods.problem import Problem

STEPS = 3  # of a run that is compared with another
KEY = 1


class Case(NamedTuple):
    """A method by its name, on a problem by its name."""

    method: str
    problem: str

    def build(self, **changes: Any) -> Method:
        """The method anew, on the tiny problem with changes to its fields."""
        return example_method(tiny_problem(self.problem)._replace(**changes), self.method)


class Trajectory(NamedTuple):
    """What some steps have come to."""

    state: State
    infos: list[Info]
    estimate: WeightedPoints


@lru_cache
def tiny_problem(name: str, seed: int = 0) -> Problem:
    """What a method may know of an instance; the instance itself is held nowhere, so that no method can find it."""
    return example_problem(name, seed=seed).problem


def traced(f: Callable[..., Any], *arguments: Any) -> Any:
    """f(*arguments), compiled; traced anew even where f was traced before, so that what hides in Python is seen."""
    return programs.call(lambda *given: f(*given), *arguments)


def advanced(method: Method, steps: int = STEPS) -> Trajectory:
    """A method after some steps."""
    key = jr.key(KEY)
    state, infos = traced(method.init, key), []
    for t in range(steps):
        state, info = traced(method.step, jr.fold_in(key, t), state)
        infos.append(info)
    return Trajectory(state, infos, method.estimate(state))


def differing(a: Any, b: Any) -> float:
    """How many numbers of two pytrees differ in a bit; infinite where structures, shapes or types do."""
    first, second = _arrays(a), _arrays(b)
    if structure(a) != structure(b) or _forms(first) != _forms(second):
        return np.inf
    return float(sum(_bits(x, y) for x, y in zip(first, second, strict=True)))


def _bits(x: np.ndarray, y: np.ndarray) -> int:
    if x.size == 0 or x.tobytes() == y.tobytes():
        return 0
    rows = (np.frombuffer(array.tobytes(), np.uint8).reshape(x.size, -1) for array in (x, y))
    return int((next(rows) != next(rows)).any(1).sum())


def distance(a: Any, b: Any) -> float:
    """The largest difference of two pytrees of numbers, relative to the largest number of the array it is in."""
    first, second = _arrays(a), _arrays(b)
    if _forms(first) != _forms(second):
        return np.inf
    return max((_relative(x, y) for x, y in zip(first, second, strict=True) if x.size), default=0.0)


def share_apart(a: Any, b: Any, rounding: float) -> float:
    """The largest share of the numbers of an array that differ by more than `rounding` times the largest number."""
    first, second = _arrays(a), _arrays(b)
    if _forms(first) != _forms(second):
        return 1.0
    pairs = [(x.astype(np.float64), y.astype(np.float64)) for x, y in zip(first, second, strict=True) if x.size]
    return max((float((~np.isclose(x, y, 0, rounding * np.abs(x).max(), True)).mean()) for x, y in pairs), default=0.0)


def _relative(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    error = np.abs(x - y)[~(np.isnan(x) & np.isnan(y)) & (x != y)]
    return float(error.max() / max(np.abs(x).max(), np.finfo(np.float32).tiny)) if error.size else 0.0


def _forms(arrays: list[np.ndarray]) -> list[Any]:
    return [(array.shape, array.dtype) for array in arrays]


def structure(tree: Any) -> Any:
    """The containers of a pytree, without its leaves."""
    return jax.tree.structure(tree)


def is_array(leaf: Any) -> bool:
    """Whether a leaf of a state is an array of numbers or a number, as a checkpoint can hold it."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float)


def _arrays(tree: Any) -> list[np.ndarray]:
    return [np.asarray(jr.key_data(leaf) if _is_key(leaf) else leaf) for leaf in jax.tree.leaves(tree)]


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def copied(tree: Any) -> Any:
    """The same numbers in other arrays and containers."""
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.array(leaf), tree)


def not_finite(tree: Any) -> float:
    """How many numbers of a pytree are not finite."""
    numbers = [array for array in _arrays(tree) if np.issubdtype(array.dtype, np.inexact)]
    return float(sum((~np.isfinite(array)).sum() for array in numbers))


@contextmanager
def global_random_numbers() -> Iterator[None]:
    """A block in which the global random numbers of numpy and Python may be seeded; afterwards all is as before."""
    numpy_state = np.random.get_state()  # noqa: NPY002 (the old generator is what is checked)
    python_state = random.getstate()
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def seed_all(seed: int) -> None:
    """Seeds the global random numbers of numpy and Python."""
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def numpy_is_seeded_as(seed: int) -> bool:
    """Whether no number was drawn from numpy's global state since seed_all(seed)."""
    return bool(np.random.RandomState(seed).uniform() == np.random.uniform())  # noqa: NPY002
