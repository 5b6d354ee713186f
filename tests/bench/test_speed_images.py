"""The energy distance of images: its share of the sgemm rate, and what the span of the nanocluster saves a flow."""

import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from cryosip.datasets.nanocluster import nanocluster
from cryosip.methods.flow import particle_flow
from cryosip.methods.registry import DISCREPANCIES

pytestmark = pytest.mark.slow

N = 1_000
ENERGY = DISCREPANCIES["energy"]
# the targets; what is asserted leaves room for machines that differ
SGEMM_SHARE = {1_024: 0.7, 16_384: 0.7}
SAVED = {"method-1": 100, "closed-form": 1_000}


def timer(f, *arguments):
    """Seconds of one call, compiled before."""
    compiled = jax.jit(f).lower(*arguments).compile()

    def seconds():
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        return time.perf_counter() - began

    seconds()
    return seconds


@pytest.mark.parametrize("p", SGEMM_SHARE)
def test_the_gradient_runs_at_the_rate_of_matrix_products(p, capsys):
    """8 N M p flops, against the best of three forms of a product of the same sizes; alternately, best of several."""
    rng = np.random.default_rng(0)
    y, observed = (jnp.asarray(rng.normal(size=(N, p)), jnp.float32) for _ in range(2))
    weights, turned = jnp.asarray(rng.normal(size=(N, N)), jnp.float32), jnp.asarray(np.asarray(observed).T)
    products = [
        timer(lambda a, b: jnp.matmul(a, b.T, precision="highest"), y, observed),
        timer(lambda a, b: jnp.matmul(a, b, precision="highest"), weights, observed),
        timer(lambda a, b: jnp.matmul(a, b, precision="highest"), y, turned),
    ]
    gradient = timer(ENERGY("pairwise").bind(observed, 0.0).gradient, y)
    rounds = [([product() for product in products], gradient()) for _ in range(9)]
    best, ours = np.min([row for row, _ in rounds]), np.min([t for _, t in rounds])
    share = 4 * best / ours  # a product has 2 N M p
    with capsys.disabled():
        print(
            f"\np = {p}: {share:.0%} of sgemm at {2 * N * N * p / best / 1e9:.0f} Gflop/s; target {SGEMM_SHARE[p]:.0%}"
        )
    assert share >= 0.8 * SGEMM_SHARE[p]


def test_what_the_span_saves_a_flow(capsys):
    """One step with the noise kept, and with it integrated out, against a step on all pixels; alternately, medians."""
    problem = nanocluster(N).problem

    def steps(of, sampling, repeats):
        method = particle_flow(of, ENERGY(), optax.adam(1e-3), N, sampling=sampling)
        many = timer(
            lambda s: jax.lax.fori_loop(0, repeats, lambda t, s: method.step(jr.fold_in(jr.key(1), t), s)[0], s),
            method.init(jr.key(0)),
        )
        return lambda: many() / repeats

    full = steps(problem._replace(span=None), "method-1", 1)
    fast = {sampling: steps(problem, sampling, 100) for sampling in SAVED}
    rounds = [(full(), [seconds() for seconds in fast.values()]) for _ in range(7)]
    slow = np.median([t for t, _ in rounds])
    for sampling, seconds in zip(SAVED, np.median([row for _, row in rounds], axis=0), strict=True):
        with capsys.disabled():
            print(f"\n{sampling}: {slow / seconds:.0f}x faster than {slow * 1e3:.0f} ms; target {SAVED[sampling]}x")
        assert slow / seconds >= SAVED[sampling] / 2


def test_the_cost_grows_with_the_number_of_particles(capsys):
    """Four times the particles cost at most five times as much where the noise is integrated out."""
    problem = nanocluster(N).problem
    target = ENERGY().bind_span(problem.observations, problem.noise_std, problem.span, True)

    def gradients(n):
        y = problem.span.coordinates(problem.sample_init(jr.key(0), n), ())
        return timer(lambda y: jax.lax.fori_loop(0, 50, lambda _, y: y - 1e-6 * target.gradient(y), y), y)

    small, large = gradients(N), gradients(4 * N)
    growth = np.median([large() / small() for _ in range(7)])
    with capsys.disabled():
        print(f"\n{growth:.1f}x the cost for 4x the particles")
    assert growth <= 5
