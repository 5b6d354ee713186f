"""Checks of the discrepancies: gradients against finite differences, fast algorithms against sums over all pairs."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cryosip.bench.check import formulas
from cryosip.bench.check.finding import ROUNDING, ROUNDING_64, Finding, known
from cryosip.methods.registry import DISCREPANCIES

COARSEST = 0.02  # of the largest component, whatever error an algorithm states
VALUE_ERROR = 2e-3  # of binned values, which state no error of their own

EXACT: dict[str, dict[str, Any]] = {
    "composite": {"kl_options": {"algorithm": "pairwise"}, "mmd_options": {"algorithm": "pairwise"}},
    "energy": {"algorithm": "pairwise"},
    "kl": {"algorithm": "pairwise"},
    "mmd": {"algorithm": "pairwise"},
    "sliced-energy": {"n_slices": 2},  # on the line each slice is exact
}
PIXELS = 49
# (pixels, std of the noise that is integrated out) that each discrepancy takes
CASES: dict[str, list[tuple[int, float]]] = {
    "composite": [(1, 0.0), (1, 1.5), (PIXELS, 0.0)],
    "data-kl": [(1, 0.0), (1, 1.5), (PIXELS, 0.0), (PIXELS, 1.5)],
    "energy": [(1, 0.0), (1, 1.5), (PIXELS, 0.0), (PIXELS, 1.5)],
    "invariant-energy": [(PIXELS, 0.0)],
    "kl": [(1, 0.0), (1, 1.5), (PIXELS, 0.0)],
    "mmd": [(1, 0.0), (1, 1.5), (PIXELS, 0.0), (PIXELS, 1.5)],
    "sliced-energy": [(1, 0.0)],
}


def gradients(name: str) -> Iterator[Finding]:
    """Gradients of sums over all pairs against finite differences of the formula of the first variation."""
    for p, noise_std in known("formula", name, CASES):
        with jax.enable_x64(True):
            found, _ = _gradient(name, EXACT.get(name, {}), p, noise_std, 60, ROUNDING_64)
        yield found


# algorithms that are no plain sum over pairs in float64: (options, options of the formula, pixels, noise)
FAST: dict[str, list[tuple[dict[str, Any], dict[str, Any], int, float]]] = {
    "composite": [({}, {}, 1, 0.0)],
    "data-kl": [({}, {}, PIXELS, 1.5)],
    "energy": [
        ({"algorithm": "sorted"}, {}, 1, 0.0),
        ({"algorithm": "binned"}, {}, 1, 0.0),
        ({}, {}, 1, 1.5),
        ({}, {}, PIXELS, 0.0),
        ({"algorithm": "moments"}, {}, 256, 30.0),
    ],
    "invariant-energy": [({}, {}, PIXELS, 0.0)],
    "kl": [({}, {}, 1, 0.0), ({}, {}, 1, 1.5), ({}, {}, PIXELS, 0.0)],
    "mmd": [
        ({}, {}, 1, 0.0),
        ({}, {}, 1, 1.5),
        ({"kernel": "laplace"}, {"kernel": "laplace"}, 1, 1.5),
        ({}, {}, PIXELS, 0.0),
    ],
    "sliced-energy": [({"n_slices": 2}, {}, 1, 0.0)],
}


def algorithms(name: str) -> Iterator[Finding]:
    """The algorithms of runs, in their precision; the limit is twice the error that they state, plus rounding."""
    for options, of_formula, p, noise_std in known("formula", name, FAST):
        n = 60 if p > 1 else 300 if noise_std else 2_000
        yield from _gradient(name, options, p, noise_std, n, ROUNDING, of_formula)


def _gradient(
    name: str, options: dict[str, Any], p: int, noise_std: float, n: int, rounding: float, of_formula: Any = None
) -> tuple[Finding, Finding]:
    """The error of one component of each gradient, in units of the largest component, and that of the value."""
    rng = np.random.default_rng([p, n])
    dtype = jnp.zeros(()).dtype
    y, seen = rng.normal(0, 1.5, (n, p)), rng.normal(0.5, 1.0, (n + 20, p)) * rng.choice([1, 3], (n + 20, 1))
    # on a lattice: points on the line tie, or are further apart than the differences reach
    y, seen = (np.round(cloud * 4096) / 4096 for cloud in (y, seen))
    axis = rng.integers(p, size=n)
    formula = formulas.FORMULAS[name](seen, noise_std, **(of_formula or {}))
    expected = formulas.slopes(formula, y, axis)
    target = DISCREPANCIES[name](**options).bind(jnp.asarray(seen, dtype), noise_std)
    run = jax.jit(lambda y: (target.gradient(y), target.gradient_error(y), target.value(y)))
    gradient, error, value = run(y.astype(dtype))
    found, size = np.asarray(gradient)[np.arange(n), axis], np.abs(expected).max()
    limit, exact = min(2 * float(error) / size, COARSEST) + rounding, formula.value(y)
    noise = f", noise {noise_std:g} integrated out" if noise_std else ""
    chosen = "".join(f" {value}" for value in options.values() if isinstance(value, str))
    what = f"{name}{chosen}, {p} pixel{'s' * (p > 1)}{noise}"
    return (
        Finding(f"{what}: gradient, relative error", float(np.abs(found - expected).max() / size), most=limit),
        Finding(f"{what}: value, error", abs(float(value) - exact), most=VALUE_ERROR * abs(exact) + ROUNDING),
    )
