"""What the contract says of runs: they resume to the same bits, take the memory that is planned, and are counted."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

from cryosip.bench import checkpoint, programs, runner
from cryosip.bench.check.cases import KEY, STEPS, Case, differing, tiny_problem, traced
from cryosip.bench.check.finding import Finding
from cryosip.bench.environment import peak_memory_mb, reset_peak_memory
from cryosip.bench.runner import Progress, Snapshot
from cryosip.methods.method import Method
from cryosip.methods.problem import Problem

ALLOWANCE_MB = 128.0  # beside the plan: Python, the allocator, the estimate


def resumption(case: Case) -> Iterator[Finding]:
    """A run that is stopped, kept in a checkpoint and taken up by a method that is built again ends in the same bits,
    and so does one that is evaluated more often. Numbers that differ are counted."""
    whole = _last(case.build(), 2 * STEPS)
    often = _last(case.build(), 2 * STEPS, every=1)
    half = _last(case.build(), STEPS)
    method = case.build()
    resumed = _last(method, 2 * STEPS, start=_through_a_file(half, method))
    for what, other in (("resumes from a checkpoint", resumed), ("evaluated after each step", often)):
        yield Finding(what, differing((whole.state, whole.estimate), (other.state, other.estimate)), most=0)


def _last(method: Method, steps: int, every: int | None = None, start: Progress | None = None) -> Snapshot:
    return list(runner.run(jr.key(KEY), method, steps, every or steps, start=start))[-1]


def _through_a_file(half: Snapshot, method: Method) -> Progress:
    """What a checkpoint of a run gives back. Raises ValueError where that is nothing."""
    progress = Progress(half.step, half.seconds, half.forward_evaluations, half.state)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.npz"
        checkpoint.save(file, checkpoint.Checkpoint(progress, {}, half.estimate, [], [], 0.0))
        found = checkpoint.load(file, lambda: jax.eval_shape(method.init, jr.key(KEY)))
    if found is None:
        raise ValueError("the state did not come back from its checkpoint; wanted a pytree of arrays")
    return found.progress


def memory(case: Case) -> Iterator[Finding]:
    """What the compiler plans for a step is all that it takes, but for a fixed allowance: what memory limits rely on.
    Two replicates share one program where all that differs between them is in arrays; where not, each compiles its own,
    which is slower and no fault."""
    method = case.build()
    planned = _last(method, STEPS).program.memory_mb
    reset_peak_memory()
    before = peak_memory_mb()
    _last(method, STEPS)
    yield Finding("planned memory, MB", planned, least=0)
    yield Finding("memory beyond the plan, MB", peak_memory_mb() - before - planned, most=ALLOWANCE_MB)
    other = tiny_problem(case.problem, 1)
    texts = {_text(case.build()), _text(case.build(**other._asdict()))}
    yield Finding("programs for two replicates", len(texts), least=1, most=2)


def _text(method: Method) -> programs.Text:
    return programs.step(method.step, jr.key(KEY), traced(method.init, jr.key(KEY))).text


def counting(case: Case) -> Iterator[Finding]:
    """The images that are rendered while the method is built, initialised and stepped, counted as they are computed,
    each once a step, over the forward evaluations that are reported."""
    counter = _Counter(tiny_problem(case.problem))
    method = case.build(**counter.counted())
    key = jr.key(KEY)
    state, reported = traced(method.init, key), 0
    rendered = counter.taken()
    for t in range(STEPS):
        state, info = traced(method.step, jr.fold_in(key, t), state)
        reported += int(info.forward_evaluations)
        rendered += counter.taken()
    ratio = rendered / reported if reported else np.inf if rendered else 0.0
    yield Finding("forward evaluations: rendered images / reported", ratio, most=1)


class _Counter:
    """Counts the images of a problem as they are computed; equal ones, which a compiler computes once, once."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.rows = set[bytes]()

    def counted(self) -> dict[str, Any]:
        """The fields of the problem that render, which report what they are given."""
        span = self.problem.span
        fields: dict[str, Any] = {"render": self._reporting(self.problem.render)}
        return (
            fields if span is None else fields | {"span": span._replace(coordinates=self._reporting(span.coordinates))}
        )

    def _reporting(self, render: Any) -> Any:
        def rendered(theta: jax.Array, pose: Any) -> jax.Array:
            jax.debug.callback(self._note, theta, pose)
            return render(theta, pose)

        return rendered

    def _note(self, theta: jax.Array, pose: Any) -> None:
        columns = [np.asarray(leaf).reshape(len(theta), -1) for leaf in (theta, *jax.tree.leaves(pose))]
        self.rows.update(b"".join(row) for row in zip(*[[r.tobytes() for r in c] for c in columns], strict=True))

    def taken(self) -> int:
        """The images since the last call."""
        jax.effects_barrier()
        count = len(self.rows)
        self.rows.clear()
        return count
