"""Checks of what a user passes: each error names the value it got and the value it wanted."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


def positive(name: str, value: Any) -> float:
    """A positive finite number."""
    if not _is_number(value) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value!r}; wanted a positive finite number")
    return float(value)


def non_negative(name: str, value: Any) -> float:
    """A finite number that is zero or more."""
    if not _is_number(value) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value!r}; wanted a finite number >= 0")
    return float(value)


def positive_int(name: str, value: Any) -> int:
    """A whole number of at least one."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is {value!r}; wanted a whole number >= 1")
    return int(value)


def non_negative_int(name: str, value: Any) -> int:
    """A whole number of at least zero."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{name} is {value!r}; wanted a whole number >= 0")
    return int(value)


def instance_of(name: str, value: Any, wanted: type) -> Any:
    """An instance of that type."""
    if not isinstance(value, wanted):
        raise ValueError(f"{name} is {value!r}, a {type(value).__name__}; wanted a {wanted.__name__}")
    return value


def finite(name: str, value: Any) -> float:
    """A finite number."""
    if not _is_number(value) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; wanted a finite number")
    return float(value)


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """One of the allowed names; the nearest ones are suggested for any other."""
    allowed = list(allowed)
    if value in allowed:
        return value
    near = difflib.get_close_matches(str(value), allowed, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(f"{name} is {value!r}; wanted one of {', '.join(map(repr, allowed))}{hint}")


def finite_matrix(name: str, value: Any) -> np.ndarray:
    """A concrete array of shape (n, p), n and p at least one, all finite."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{name} is a traced array; wanted concrete numbers: close over them instead of passing them")
    array = np.asarray(value)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; wanted (n, p) with n >= 1 and p >= 1")
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise ValueError(f"{name} has dtype {array.dtype}; wanted real numbers")
    if bad := int((~np.isfinite(array)).sum()):
        raise ValueError(f"{name} holds {bad} NaN or infinite values of {array.size}; wanted finite numbers")
    return array


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
