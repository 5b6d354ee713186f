"""What the benchmarks share: programs compiled for exact shapes, the problems, and errors against double precision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from asv_runner.benchmarks.mark import SkipNotImplemented

from cryosip.bench.check.problems import SAME_CODE
from cryosip.datasets.registry import DATASETS

PROBLEMS = [name for name in DATASETS if name not in SAME_CODE]
ROUNDING = 1e-5  # smaller errors are rounding, which depends on the order of a sum


class Timed:
    """asv's attributes for timing a compiled call: many single calls, after a warm-up."""

    warmup_time = 0.1
    repeat = (3, 200, 0.5)  # at least, at most, seconds


@contextmanager
def skipped_if_refused() -> Iterator[None]:
    """Where a method or a discrepancy refuses its arguments, asv skips the benchmark and says why."""
    try:
        yield
    except ValueError as error:
        raise SkipNotImplemented(str(error)) from error


def compiled(f: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """f compiled for exactly these arguments, at the precision of runs; each call waits for its result."""
    with jax.default_matmul_precision("highest"):
        program = jax.jit(f).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))


def in_double(f: Callable[..., Any], *arguments: Any) -> Any:
    """f evaluated at the same numbers in float64."""
    with jax.enable_x64(True):
        return f(*jax.tree.map(lambda a: jnp.asarray(np.asarray(a), np.float64), arguments))


def relative_error(computed: Any, exact: Any) -> float:
    """The largest difference between two pytrees of arrays as a share of the largest entry, at least ROUNDING.

    Raises ValueError where it is not finite: asv takes nan for a benchmark that was skipped.
    """
    ours, truth = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)]) for tree in (computed, exact))
    error = float(np.abs(ours - truth).max() / np.abs(truth).max())
    if not np.isfinite(error):
        raise ValueError(f"the error is {error}; wanted a finite one")
    return max(ROUNDING, error)
