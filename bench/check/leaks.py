"""What a problem holds of its truth: everything that its fields and closures reach, compared with what is secret."""

import functools
from typing import Any

import jax
import numpy as np

from cryosip.datasets.conformations import States
from cryosip.datasets.gaussian_mixture import GaussianMixture, MultivariateMixture
from cryosip.datasets.instance import Instance, Truth
from cryosip.methods.problem import Problem


def held(value: Any, seen: dict[int, Any] | None = None) -> dict[int, Any]:
    """Every object that can be reached from a value through containers, closures, defaults and wrappers."""
    seen = {} if seen is None else seen
    if id(value) in seen or isinstance(value, str | bytes | int | float | type(None) | type):
        return seen
    seen[id(value)] = value
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, tuple | list | set):
        parts = list(value)
    elif isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    else:
        cells = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
        names = ("__wrapped__", "__self__", "__defaults__", "__kwdefaults__", "__func__", "fun")
        parts = cells + [getattr(value, name, None) for name in names]
    for part in parts:
        held(part, seen)
    return seen


def leaks(problem: Problem, truth: Truth) -> list[Any]:
    """What a problem holds of its truth: the distribution, its sampler, or arrays of its numbers."""
    secret = [np.asarray(leaf) for leaf in jax.tree.leaves((truth.theta, truth.pose, truth.populations))]
    if problem.support is not None:
        secret += _populations(problem.support, truth)
    secret = [s for s in secret if (s != s.ravel()[0]).any()]  # one number throughout says nothing
    known = list(held(tuple(problem)).values())
    laws = [v for v in known if isinstance(v, Truth | Instance | GaussianMixture | MultivariateMixture | States)]
    samplers = [v for v in known if v is truth.sample or v is truth.quantile]
    arrays = [np.asarray(v) for v in known if isinstance(v, np.ndarray | jax.Array) and v.dtype != object]
    shared = [a for a in arrays for s in secret if a.size and _holds(a.ravel(), s.ravel(), problem.support)]
    return [*laws, *samplers, *shared]


def _populations(support: Any, truth: Truth) -> list[np.ndarray]:
    """What the law of given structures holds beside them."""
    arrays = [np.asarray(v, np.float32) for v in held(truth.sample).values() if isinstance(v, np.ndarray | jax.Array)]
    return [a for a in arrays if a.size == len(support) and not np.isin(a, np.asarray(support)).all()]


def _holds(array: np.ndarray, secret: np.ndarray, support: Any) -> bool:
    """Whether most numbers of the secret are in the array; of given structures, whether each is there as often."""
    if support is not None and np.isin(secret, np.asarray(support)).all():
        return len(array) == len(secret) and bool((np.sort(array) == np.sort(secret)).all())
    return bool(np.isin(secret, array.astype(secret.dtype)).mean() > 0.5)
