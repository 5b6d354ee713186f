"""Numbers that are data: arguments of a compiled program, so that it serves other data too."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

P = ParamSpec("P")
R = TypeVar("R")


def datum(value: int | float | np.number, dtype: Any) -> Array:
    """The number, in functions that are traced: Python's numbers are written into programs, arrays are handed over."""
    return jnp.asarray(np.full(1, value), dtype)[0]


def known(f: Callable[P, R]) -> Callable[P, R]:
    """f, computed at once also where it is called from functions that are traced; its arguments are known by then."""

    @wraps(f)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.ensure_compile_time_eval():
            return f(*args, **kwargs)

    return computed
