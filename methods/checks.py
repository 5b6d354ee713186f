"""Checks of what a user passes: each error names the value it got and the value it wanted."""

import difflib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryosip.methods import hosts

# squares of smaller and of larger numbers are 0 and infinite in single precision
MIN_MAGNITUDE, MAX_MAGNITUDE = 1e-18, 1e18
MOST_INT = 2**31 - 1  # what an index of 32 bits can count


def positive(name: str, value: Any) -> float:
    """A positive finite number, the square of which is one too."""
    if not _is_number(value) or not MIN_MAGNITUDE <= value <= MAX_MAGNITUDE:
        raise ValueError(
            f"{name} is {value!r}; wanted a positive finite number ({MIN_MAGNITUDE:g} to {MAX_MAGNITUDE:g})"
        )
    return float(value)


def non_negative(name: str, value: Any) -> float:
    """A finite number that is zero or more."""
    if not _is_number(value) or not (value == 0 or MIN_MAGNITUDE <= value <= MAX_MAGNITUDE):
        raise ValueError(
            f"{name} is {value!r}; wanted a finite number >= 0 (0, or {MIN_MAGNITUDE:g} to {MAX_MAGNITUDE:g})"
        )
    return float(value)


def positive_int(name: str, value: Any, most: int = MOST_INT) -> int:
    """A whole number of at least one."""
    return _int_from(1, name, value, most)


def non_negative_int(name: str, value: Any) -> int:
    """A whole number of at least zero."""
    return _int_from(0, name, value, MOST_INT)


def _int_from(least: int, name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}; wanted a whole number >= {least} and <= {most}")
    return int(value)


def boolean(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {value!r}; wanted True or False")
    return bool(value)


def instance_of(name: str, value: Any, wanted: type) -> Any:
    """An instance of that type."""
    if not isinstance(value, wanted):
        raise ValueError(f"{name} is {value!r}, a {type(value).__name__}; wanted a {wanted.__name__}")
    return value


def finite(name: str, value: Any) -> float:
    """A finite number, the square of which is one too."""
    if not _is_number(value) or not -MAX_MAGNITUDE <= value <= MAX_MAGNITUDE:
        raise ValueError(f"{name} is {value!r}; wanted a finite number ({-MAX_MAGNITUDE:g} to {MAX_MAGNITUDE:g})")
    return float(value)


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """One of the allowed names; the nearest ones are suggested for any other."""
    allowed = list(allowed)
    if isinstance(value, str) and value in allowed:
        return value
    near = difflib.get_close_matches(str(value), allowed, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(f"{name} is {value!r}; wanted one of {', '.join(map(repr, allowed))}{hint}")


def numbers(name: str, value: Any, ndim: int) -> np.ndarray:
    """An array in float64 of so many dimensions, from lists of numbers or an array."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = None
    if array is None or array.ndim != ndim:
        wanted = ("a number", "a list of numbers", "lists of numbers of equal length")[ndim]
        raise ValueError(f"{name} is {value!r}; wanted {wanted}")
    return array


def finite_matrix(name: str, value: Any) -> np.ndarray:
    """A concrete array of floating-point numbers, of shape (n, p), n and p at least one, all finite.

    One whose rows are in several processes is fetched as a whole into each; all of them are to call this.
    """
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{name} is a traced array; wanted concrete numbers: close over them instead of passing them")
    array = np.asarray(hosts.fetched(value))
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; wanted (n, p) with n >= 1 and p >= 1")
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise ValueError(f"{name} has dtype {array.dtype}; wanted real numbers")
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    with np.errstate(over="ignore"):
        used = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    if bad := int((~np.isfinite(used)).sum()):
        raise ValueError(f"{name} holds {bad} NaN or infinite values of {array.size}; wanted finite numbers")
    return array


def finite_rows(name: str, value: Any) -> np.ndarray | jax.Array:
    """`finite_matrix`, but that rows in several processes, as `hosts.from_rows` makes them, stay where they are."""
    if not hosts.is_apart(value):
        return finite_matrix(name, value)
    if bad := int((~jnp.isfinite(value)).sum()):
        raise ValueError(f"{name} holds {bad} NaN or infinite values of {value.size}; wanted finite numbers")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
