"""Each discrepancy of the registry between samples of several sizes: its value, its gradient and the error of that."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from cryosip.methods.discrepancy import Target
from cryosip.methods.registry import DISCREPANCIES

from .common import Timed, compiled, in_double, relative_error, skipped_if_refused

Size = tuple[int, int, int]  # particles, observations, pixels

SIZES: list[Size] = [(10_000, 10_000, 1), (300, 300, 1_024)]  # of every day
MORE_SIZES: list[Size] = [
    (1_000, 1_000, 1),
    (100_000, 100_000, 1),
    (1_000, 10_000, 1),
    (10_000, 1_000, 1),
    (1_000, 1_000, 1_024),
    (1_000, 1_000, 16_384),
]
CHECKED: list[Size] = [(3_000, 3_000, 1), (300, 300, 1_024)]  # where all pairs in float64 are cheap
NAMES = ["discrepancy", "N, M, p"]


def samples(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Simulated images, one cloud, and observed ones, two clouds along the diagonal, in float32."""
    n, m, p = size
    rng = np.random.default_rng(0)
    observed = rng.choice([-2.0, 2.0], (m, 1)) + rng.normal(0, 1.5, (m, p))
    return np.float32(rng.normal(0, 1.8, (n, p))), np.float32(observed)


def bound(name: str, observed: Any, options: dict[str, Any]) -> Target:
    """The discrepancy to observations; where it refuses such images, asv skips the benchmark."""
    with skipped_if_refused():
        return DISCREPANCIES[name](**options).bind(observed, 0.0)


def all_pairs(name: str) -> dict[str, Any]:
    """Options that select the sum over all pairs, where the discrepancy or its parts offer a choice."""
    known = inspect.signature(DISCREPANCIES[name]).parameters
    parts = {part: {"algorithm": "pairwise"} for part in known if part.endswith("_options")}
    return ({"algorithm": "pairwise"} if "algorithm" in known else {}) | parts


@cache
def program(what: str, name: str, size: Size) -> Callable[[], Any]:
    """The value or the gradient, compiled; asv calls setup before each sample."""
    y, observed = samples(size)
    return compiled(getattr(bound(name, jnp.asarray(observed), {}), what), y)


class Value(Timed):
    params = (list(DISCREPANCIES), SIZES)
    param_names = NAMES

    def setup(self, name: str, size: Size) -> None:
        self.call = program("value", name, size)

    def time_value(self, name: str, size: Size) -> None:
        self.call()

    def peakmem_value(self, name: str, size: Size) -> None:
        self.call()


class ValueOfMoreSizes(Value):
    params = (list(DISCREPANCIES), MORE_SIZES)


class Gradient(Timed):
    params = (list(DISCREPANCIES), SIZES)
    param_names = NAMES

    def setup(self, name: str, size: Size) -> None:
        self.call = program("gradient", name, size)

    def time_gradient(self, name: str, size: Size) -> None:
        self.call()

    def peakmem_gradient(self, name: str, size: Size) -> None:
        self.call()


class GradientOfMoreSizes(Gradient):
    params = (list(DISCREPANCIES), MORE_SIZES)


class Error:
    params = (list(DISCREPANCIES), CHECKED)
    param_names = NAMES
    unit = "relative error"

    def setup(self, name: str, size: Size) -> None:
        self.call = program("gradient", name, size)

    def track_gradient_error(self, name: str, size: Size) -> float:
        """Against the sum over all pairs of the same numbers in float64."""
        exact = in_double(lambda y, observed: bound(name, observed, all_pairs(name)).gradient(y), *samples(size))
        return relative_error(self.call(), exact)
