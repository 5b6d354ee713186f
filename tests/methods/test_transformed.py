"""Discrepancies under jit, grad and vmap: the simulated images may be traced, the observations may not."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.methods.registry import DISCREPANCIES

LINE, IMAGES = (12, 1), (12, 64)
CASES = [
    *((name, LINE) for name in DISCREPANCIES if name != "invariant-energy"),
    *((name, IMAGES) for name in DISCREPANCIES),
]


def clouds(shape):
    y, observed = jr.normal(jr.key(0), (2, *shape)), 1 + 2 * jr.normal(jr.key(1), shape)
    return y, observed


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_value_and_gradient_under_jit_and_vmap_are_those_outside(name, shape, x64):
    discrepancy, (y, observed) = DISCREPANCIES[name](), clouds(shape)
    target = discrepancy.bind(observed, 0.0)

    def inside(y):
        return discrepancy.value(y, observed), discrepancy.gradient(y, observed)

    found = jax.jit(jax.vmap(inside))(y)
    outside = jax.jit(lambda y: [(target.value(sample), target.gradient(sample)) for sample in y])(y)
    for i, (value, gradient) in enumerate(outside):
        # the same sums of some tens of terms, in another order
        np.testing.assert_allclose(found[0][i], value, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found[1][i], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "shape"), [case for case in CASES if case[0] not in ("kl", "composite")])
def test_the_derivative_of_the_value_is_the_gradient(name, shape, x64):
    """n * d value / d y_i = gradient_i; of "kl" and what holds it the gradient has one term less, see its docstring."""
    options = {"algorithm": "pairwise"} if name in ("energy", "mmd") else {}
    discrepancy, (y, observed) = DISCREPANCIES[name](**options), clouds(shape)
    slope = jax.jit(jax.grad(lambda y: discrepancy.value(y, observed)))(y[0])
    np.testing.assert_allclose(len(y[0]) * slope, discrepancy.gradient(y[0], observed), rtol=1e-9, atol=1e-11)


def test_traced_observations_are_refused():
    y, observed = clouds(LINE)
    with pytest.raises(ValueError, match="observations is a traced array; wanted concrete numbers"):
        jax.jit(lambda observed: DISCREPANCIES["energy"]().value(y[0], observed))(observed)


def test_all_algorithms_of_the_line_work_inside_jit(x64):
    y, observed = clouds((3_000, 1))
    for algorithm in ("binned", "sorted"):
        discrepancy = DISCREPANCIES["energy"](algorithm=algorithm)
        inside = jax.jit(lambda y, d=discrepancy: d.gradient(y, observed))(y[0])
        np.testing.assert_array_equal(inside, jax.jit(discrepancy.bind(observed, 0.0).gradient)(y[0]))
        assert jnp.abs(inside).max() > 0
