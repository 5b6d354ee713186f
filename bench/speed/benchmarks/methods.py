"""Each method on each problem that it supports: one step, and a small run from the problem to the estimate."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.random as jr

from cryosip.bench.examples import example_method, example_problem
from cryosip.bench.metrics import reference, w2
from cryosip.bench.runner import Snapshot, run
from cryosip.datasets.instance import Instance
from cryosip.methods.method import Method
from cryosip.methods.registry import METHODS

from .common import PROBLEMS, Timed, compiled, skipped_if_refused

STEPS = 50  # of a run


@cache
def instance(problem: str) -> Instance:
    return example_problem(problem, "small")


def built(method: str, problem: str) -> Method:
    """The method on the problem; where it does not support that problem, asv skips the benchmark."""
    with skipped_if_refused():
        return example_method(instance(problem).problem, method, "small")


@cache
def one_step(method: str, problem: str) -> Callable[[], Any]:
    """A step from the initial state, compiled; asv calls setup before each sample."""
    on_problem = built(method, problem)
    return compiled(on_problem.step, jr.key(1), on_problem.init(jr.key(0)))


def small_run(method: str, problem: str) -> Snapshot:
    """Build the method, compile its steps and run them; the last snapshot."""
    with jax.default_matmul_precision("highest"):
        *_, last = run(jr.key(0), built(method, problem), STEPS, STEPS)
    return last


class Step(Timed):
    params = (list(METHODS), PROBLEMS)
    param_names = ("method", "problem")

    def setup(self, method: str, problem: str) -> None:
        self.call = one_step(method, problem)

    def time_step(self, method: str, problem: str) -> None:
        self.call()


class Run:
    params = (list(METHODS), PROBLEMS)
    param_names = ("method", "problem")
    warmup_time = 0
    repeat = (1, 3, 5.0)

    def setup(self, method: str, problem: str) -> None:
        built(method, problem)

    def time_run(self, method: str, problem: str) -> None:
        small_run(method, problem)

    def peakmem_run(self, method: str, problem: str) -> None:
        small_run(method, problem)

    def track_compile(self, method: str, problem: str) -> float:
        program = small_run(method, problem).program
        return program.trace_seconds + program.compile_seconds

    track_compile.unit = "seconds"  # type: ignore[attr-defined]

    def track_w2(self, method: str, problem: str) -> float:
        return w2(small_run(method, problem).estimate, reference(instance(problem).truth))

    track_w2.unit = "W2"  # type: ignore[attr-defined]
