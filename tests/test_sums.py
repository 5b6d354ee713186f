"""The same verdict on every processor: whatever the order in which products are added, results agree to rounding."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from examples import METHOD_OPTIONS, instance, measured
from sums import ORDERS, added

from cryosip.bench.build import build_method
from cryosip.methods.likelihood import e_step
from cryosip.methods.registry import DISCREPANCIES

PIXELS, STEPS = 256, 3


@pytest.mark.parametrize("order", ORDERS)
def test_the_sums_are_others_and_right(order):
    """Of whole numbers there is no rounding, so that a wrong term would show; of others there is."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (2, 30, 70)), rng.integers(-9, 9, (2, 70, 20))
    a32, b32 = np.float32(a), np.float32(b)
    c32 = np.float32(rng.normal(size=(30, 70)))
    plain = np.asarray(jnp.einsum("ij,ij,jk->k", c32, c32, b32[0]))

    def products():
        return (
            jnp.asarray(a32) @ jnp.asarray(b32),
            jnp.einsum("nij,njk->nik", a32, b32),
            jnp.einsum("nij,njk->nki", a32, b32).transpose(0, 2, 1),
            jax.jit(jnp.matmul)(a32, b32),
            jnp.stack([jnp.tensordot(x, y, 1) for x, y in zip(a32, b32, strict=True)]),
        )

    with added(order):
        for found in products():
            np.testing.assert_array_equal(found, a @ b)
        slope = jax.grad(lambda x: (x @ jnp.asarray(b32)).sum())(jnp.asarray(a32))
        np.testing.assert_array_equal(slope, np.broadcast_to(b.sum(2)[:, None], a.shape))
        other = np.asarray(jnp.einsum("ij,ij,jk->k", c32, c32, b32[0]))
    exact = np.einsum("ij,ij,jk->k", *map(np.float64, (c32, c32, b32[0])))
    assert (other != plain).any() or order == "sequential"
    # 30 * 70 terms, each rounded thrice
    bound = 3 * 2_100 * np.finfo(np.float32).eps * np.einsum("ij,ij,jk->k", *map(np.abs, (c32, c32, b32[0]))).max()
    np.testing.assert_allclose(other, exact, rtol=0, atol=bound)


def after_steps(method):
    """State and objective of a method on images, in float64."""
    built = build_method(instance("nanocluster").problem, method, METHOD_OPTIONS[method])
    state, step = jax.jit(built.init)(jr.key(0)), jax.jit(built.step)
    for t in range(STEPS):
        state, info = step(jr.key(t), state)
    return [np.asarray(a) for a in (*jax.tree.leaves(built.estimate(state)), info.objective)]


def sums_of_images():
    """The E-step and the gradient over pairs of images, which are Gram products, in float64."""
    rng = np.random.default_rng(0)
    y, x = jnp.asarray(rng.normal(size=(50, PIXELS))), jnp.asarray(rng.normal(size=(40, PIXELS)))
    moments = jax.jit(lambda x: e_step(y, x, jnp.full((40, 1), -jnp.log(40.0)), 3.0))(x)
    energy = measured(DISCREPANCIES["energy"]("pairwise").bind(y, 0.0), x)
    return [np.asarray(a) for a in (*jax.tree.leaves(moments), energy.value, energy.gradient)]


CASES = {
    "sums": sums_of_images,
    "mixture": lambda: after_steps("mixture"),
    "posterior-npmle": lambda: after_steps("posterior-npmle"),
    "flow": lambda: after_steps("flow"),
}


@pytest.mark.parametrize("order", [pytest.param("sequential", marks=pytest.mark.slow), "shuffled"])
@pytest.mark.parametrize("case", CASES)
def test_results_agree_to_rounding(x64, case, order):
    """Everything is compiled anew, which takes seconds.

    A sum of PIXELS products of float64 is off by PIXELS roundings of its absolute terms; the squared distance of two
    images cancels to no less than a thousandth of them; steps of a method multiply an error by less than ten each.
    """
    bound = PIXELS * np.finfo(np.float64).eps * 1e3 * 10**STEPS
    plain = CASES[case]()
    with added(order):
        other = CASES[case]()
    for a, b in zip(plain, other, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=bound * max(1.0, np.abs(a).max()))
    if (case, order) == ("sums", "shuffled"):
        assert any((a != b).any() for a, b in zip(plain, other, strict=True))
