"""The energy distance of images: its share of the sgemm rate, and what the span of the nanocluster saves a flow."""

import jax.random as jr
import numpy as np
import pytest

from cryosip.bench.speed.baselines import looped, measure, row, seconds
from cryosip.bench.speed.cases import steps_nanocluster
from cryosip.bench.speed.image_cases import SGEMM, energy_images
from cryosip.datasets.nanocluster import nanocluster
from cryosip.methods.registry import DISCREPANCIES

pytestmark = pytest.mark.slow

N = 1_000


@pytest.mark.parametrize("p", [1_024, 16_384])
def test_the_gradient_runs_at_the_rate_of_matrix_products(p, capsys):
    """8 N M p flops, against the fastest of three products of the same sizes; what is asserted leaves room."""
    comparison = energy_images(p, N)
    products = row(measure(comparison._replace(baselines={SGEMM: comparison.baselines[SGEMM]}), rounds=9), SGEMM)
    share, wanted = products["times"]["ours"], products["wanted"]["ours"]
    with capsys.disabled():
        rate = 8 * N * N * p / products["seconds"] / 1e9
        print(f"\np = {p}: {share:.0%} of sgemm at {rate:.0f} Gflop/s; wanted {wanted:.0%}")
    assert share >= 0.75 * wanted


def test_what_the_span_saves_a_flow(capsys):
    """One step with the noise kept, and with it integrated out, against a step on all pixels."""
    full = measure(steps_nanocluster(N))["rows"][-1]
    assert set(full["wanted"]) == {"noise kept", "noise integrated out"}
    for name, wanted in full["wanted"].items():
        with capsys.disabled():
            print(f"\n{name}: {full['times'][name]:.0f}x faster than {full['seconds'] * 1e3:.0f} ms; wanted {wanted:g}")
        assert full["times"][name] >= wanted / 2


def test_the_cost_grows_with_the_number_of_particles(capsys):
    """Four times the particles cost at most five times as much where the noise is integrated out."""
    problem = nanocluster(N).problem
    target = DISCREPANCIES["energy"]().bind_span(problem.observations, problem.noise_std, problem.span, True)

    def gradients(n):
        y = problem.span.coordinates(problem.sample_init(jr.key(0), n), ())
        return looped(target.gradient, lambda: np.asarray(y), y, 50)

    small, large = gradients(N), gradients(4 * N)
    growth = np.median([seconds(large) / seconds(small) for _ in range(8)][1:])
    with capsys.disabled():
        print(f"\n{growth:.1f}x the cost for 4x the particles")
    assert growth <= 5
