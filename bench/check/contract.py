"""The contract of a method, as anyone can check it on a method of their own: `cryosip check --method NAME`."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from cryosip.bench.check import cases, peeking
from cryosip.bench.check.cases import KEY, Case, advanced, differing, tiny_problem, traced
from cryosip.bench.check.contract_runs import counting, memory, resumption
from cryosip.bench.check.finding import Area, Finding, violation
from cryosip.bench.check.problems import SAME_CODE
from cryosip.datasets.registry import DATASETS
from cryosip.methods import checks
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.problem import part
from cryosip.methods.registry import METHODS

ROUNDING = 1e-3  # of the largest number: a step that is compiled as a whole fuses what it rounds
APART = 0.1  # of the numbers: an optimizer that divides by the size of a gradient makes much of one that is nearly 0


def of_method(name: str) -> dict[str, Area]:
    """The parts of the contract, each with the problems that the method supports, and its check.

    Raises ValueError for a name that no method has.
    """
    checks.one_of("method", name, METHODS)
    tried = [problem for problem in DATASETS if problem not in SAME_CODE]
    refusals = {problem: refusal for problem in tried if (refusal := _refusal(Case(name, problem)))}
    supported = [problem for problem in tried if problem not in refusals]

    def support(_method: str) -> Iterator[Finding]:
        """The problems that the method supports, one at least; it refuses all others with ValueError."""
        yield violation("supports a problem", not supported, "refuses every problem; wanted one that it supports")
        for problem, refusal in refusals.items():
            yield Finding(f"{problem}: refused: {refusal}", np.nan, unchecked=True)

    areas: dict[str, Area] = {f"{name}: problems": ((name,), support)}
    for title, check in PARTS.items():
        areas[f"{name}: {title}"] = supported, _on(name, check)
    return areas


def _refusal(case: Case) -> str:
    """Why the method does not support the problem; what breaks off otherwise is found by the checks."""
    try:
        case.build()
    except ValueError as error:
        return str(error)
    except Exception:
        return ""
    return ""


def _on(method: str, check: Callable[[Case], Iterator[Finding]]) -> Callable[[str], Iterator[Finding]]:
    def on_problem(problem: str) -> Iterator[Finding]:
        for finding in check(Case(method, problem)):
            yield finding._replace(what=f"{problem}: {finding.what}")

    on_problem.__doc__ = check.__doc__
    return on_problem


def forms(case: Case) -> Iterator[Finding]:
    """Estimates are points (k, d), finite, with weights (k,) >= 0 that sum to 1; a step keeps the shapes and types of
    the state, and reports a scalar objective and a whole number of forward evaluations."""
    method = case.build()
    yield violation("a Method of init, step, estimate", not _is_method(method), f"it is {method!r}")
    key, d = jr.key(KEY), tiny_problem(case.problem).sample_init(jr.key(0), 1).shape[1]
    before = method.init(key)
    odd = {type(leaf).__name__ for leaf in jax.tree.leaves(before) if not cases.is_array(leaf)}
    yield violation("the state is a pytree of arrays", bool(odd), f"it holds {', '.join(sorted(odd))}")
    after, info = method.step(key, before)
    were, are = (jax.tree.map(lambda a: (jnp.shape(a), str(jnp.result_type(a))), tree) for tree in (before, after))
    yield violation("a step keeps the shapes and types of the state", were != are, f"from {were} to {are}")
    yield violation("step returns Info", not isinstance(info, Info), f"it returns a {type(info).__name__}")
    yield from _scalars(info)
    yield from _estimates([method.estimate(before), method.estimate(after)], d)


def _is_method(method: Any) -> bool:
    if not isinstance(method, Method):
        return False
    *needed, per_image = method
    return all(map(callable, needed)) and (per_image is None or callable(per_image))


def _scalars(info: Info) -> Iterator[Finding]:
    objective, calls = (np.asarray(number) for number in info)
    real = objective.shape == () and np.issubdtype(objective.dtype, np.floating)
    yield violation("the objective is a real scalar", not real, f"shape {objective.shape}, {objective.dtype}")
    whole = calls.shape == () and np.issubdtype(calls.dtype, np.integer) and calls >= 0
    said = f"{calls!r}; wanted a whole scalar"
    yield violation("forward_evaluations are a whole number >= 0", not whole, said)


def _estimates(estimates: list[WeightedPoints], d: int) -> Iterator[Finding]:
    """Of those after init and after a step."""
    kinds = [type(estimate).__name__ for estimate in estimates if not isinstance(estimate, WeightedPoints)]
    yield violation("estimate returns WeightedPoints", bool(kinds), f"it returns a {', '.join(kinds)}")
    arrays = [(np.asarray(theta), np.asarray(weights)) for theta, weights in estimates]
    shapes = [(theta.shape, weights.shape) for theta, weights in arrays]
    bad = [pair for pair in shapes if pair[0] != (*pair[1], d) or pair[0][0] == 0]
    yield violation(f"shapes of the estimate: theta (k, {d}), weights (k,)", bool(bad), f"theta and weights are {bad}")
    yield Finding("estimate: numbers that are not finite", cases.not_finite(estimates), most=0)
    yield Finding("estimate: the least weight", float(min(weights.min() for _, weights in arrays)), least=0)
    error = max(abs(weights.sum(dtype=np.float64) - 1) for _, weights in arrays)
    yield Finding("estimate: weights sum to 1, error", float(error), most=1e-4)


def purity(case: Case) -> Iterator[Finding]:
    """What init, step and estimate return depends on their arguments alone, and changes none of them: not on earlier
    calls, nor on random numbers of numpy and Python, nor on whether jit compiles it. Numbers that differ are counted.
    """
    method, key, other = case.build(), jr.key(KEY), jr.key(KEY + 1)
    state = method.init(key)
    before = cases.copied(state)
    alone = method.step(key, state)
    method.estimate(state)
    yield Finding("the state that step and estimate are given is changed", differing(before, state), most=0)

    yield Finding("init, called again", differing(traced(method.init, key), traced(method.init, key)), most=0)
    first = traced(method.step, key, state)
    traced(method.step, other, first[0])
    again = traced(method.step, key, state)
    yield Finding("step, called again after another step", differing(first, again), most=0)
    yield Finding("step without jit, called again", differing(alone, method.step(key, state)), most=0)
    estimates = method.estimate(state), method.estimate(state)
    yield Finding("estimate, called again", differing(*estimates), most=0)
    apart = cases.share_apart(first, alone, ROUNDING)
    yield Finding("step under jit against step alone, share of numbers that differ", apart, most=APART)


def determinism(case: Case) -> Iterator[Finding]:
    """A method that is built again makes the same bits of the same key; random numbers come from that key alone, never
    from numpy's or Python's global state. Numbers that differ are counted."""
    with cases.global_random_numbers():
        cases.seed_all(0)
        first = advanced(case.build())
        untouched = cases.numpy_is_seeded_as(0)
        cases.seed_all(0)
        second = advanced(case.build())
        cases.seed_all(1)
        third = advanced(case.build())
    yield Finding("built again", differing(first, second), most=0)
    yield violation("global random state of numpy", not untouched, "random numbers are drawn from it")
    yield Finding("other global random seeds of numpy and Python", differing(second, third), most=0)


def truth(case: Case) -> Iterator[Finding]:
    """A method is given a Problem. It makes no instance of a problem, touches no truth and imports nothing of
    cryosip but cryosip.methods; and its estimate depends on the observations."""
    imports = peeking.imports_beyond_methods(METHODS[case.method])
    yield violation("imports nothing but cryosip.methods", bool(imports), "; ".join(imports))
    tiny_problem(case.problem)  # which is made before anyone watches
    with peeking.watched() as seen:
        try:
            advanced(case.build())
        except Exception:
            if not seen:
                raise
    yield violation("sees no truth", bool(seen), "; ".join(dict.fromkeys(seen)))
    if seen:
        return
    other = tiny_problem(case.problem, 1)
    others = case.build(observations=other.observations, log_likelihood=other.log_likelihood)
    same = not differing(advanced(case.build()).estimate, advanced(others).estimate)
    yield violation("the estimate depends on the observations", same, "it ignores them: other data, the same bits")


def duplicates(case: Case) -> Iterator[Finding]:
    """State and estimate stay finite where all observations are equal, and where all initial points are, as distances
    of zero have no gradient. Numbers that are not finite are counted."""
    problem = tiny_problem(case.problem)

    def same_point(key: jax.Array, n: int) -> jax.Array:
        return jnp.repeat(problem.sample_init(key, 1), n, axis=0)

    first = part(problem, jnp.zeros(len(problem.observations), int))
    equal = {"observations": first.observations, "log_likelihood": first.log_likelihood}
    changes: dict[str, dict[str, Any]] = {
        "equal observations": equal,
        "equal initial points": {"sample_init": same_point},
        "both equal": equal | {"sample_init": same_point},
    }
    for what, change in changes.items():
        try:
            after = advanced(case.build(**change))
        except ValueError as error:
            yield Finding(f"duplicate points: {what}: refused: {error}", np.nan, unchecked=True)
            continue
        bad = cases.not_finite((after.state, after.estimate))
        yield Finding(f"duplicate points: {what}: not finite", bad, most=0)


def refusals(case: Case) -> Iterator[Finding]:
    """Observations and noise that no method can take are refused with ValueError when the method is built, as
    cryosip.methods.problem.checked does."""
    problem = tiny_problem(case.problem)
    too_low = 0.0 if problem.log_likelihood is None else -1.0  # all noise of a given likelihood may be in the pose
    bad: dict[str, dict[str, Any]] = {
        "observations with NaN": {"observations": problem.observations.at[0, 0].set(jnp.nan)},
        f"noise_std {too_low:g}": {"noise_std": too_low},
    }
    for what, change in bad.items():
        try:
            case.build(**change)
        except ValueError:
            yield violation(f"refuses {what}", False, "")
        else:
            yield violation(f"refuses {what}", True, "it accepts them; wanted ValueError")


PARTS: dict[str, Callable[[Case], Iterator[Finding]]] = {
    "shapes": forms,
    "purity": purity,
    "determinism": determinism,
    "sees no truth": truth,
    "finite on duplicate points": duplicates,
    "refuses bad input": refusals,
    "resumes to the same bits": resumption,
    "memory as planned": memory,
    "counts what it renders": counting,
}
