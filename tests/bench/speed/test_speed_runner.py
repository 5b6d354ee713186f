"""What the runner adds to the steps of a method, whether steps stay as fast, and how long they take to compile."""

import time

import jax
import jax.random as jr
import numpy as np
import optax
import pytest

from cryosip.bench.runner import run
from cryosip.datasets.registry import DATASETS
from cryosip.methods.registry import DISCREPANCIES, METHODS, on_any_problem

pytestmark = pytest.mark.slow

# as in the paper, but for the line and a protein of few pixels
SIZES = {
    "oned": {"n_observations": 10_000},
    "nanocluster": {"n_observations": 1_000},
    "adk": {"n_observations": 100, "image_size": 32, "pixel_size_in_angstroms": 6.0, "atoms_per_bead": 2, "snr": 0.01},
}
OPTIONS = {
    "flow": {"discrepancy": DISCREPANCIES["energy"](), "optimizer": optax.adam(1e-3), "n_particles": 1_000},
    "mixture": {"n_components": 10},
}


STEPS_OF_A_LOOK = 1_000  # as in paper-1d
ROUNDS = 9  # of which the fastest counts: what else a machine does only adds


def flow(n):
    problem = DATASETS["oned"](n_observations=n).problem
    return METHODS["flow"](problem, DISCREPANCIES["energy"](), optax.adam(1e-3), n)


def seconds(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def test_the_runner_adds_little_to_the_compiled_steps(capsys):
    """Less than 3 % is wanted, where it is looked at as often as in the study; asserted is 10 %, for busy machines."""
    method, steps = flow(10_000), 5_000
    state = jax.jit(method.init)(jr.key(0))

    def bare(state):
        return jax.lax.fori_loop(0, steps, lambda t, s: method.step(jr.fold_in(jr.key(1), t), s)[0], state)

    program = jax.jit(bare).lower(state).compile()
    jax.block_until_ready(program(state))
    alone, ran = [], []
    for _ in range(ROUNDS):
        alone.append(seconds(lambda: jax.block_until_ready(program(state))))
        *_, last = run(jr.key(0), method, steps, STEPS_OF_A_LOOK)
        ran.append(last.seconds)
    with capsys.disabled():
        print(f"\nsteps of the runner take {min(ran) / min(alone):.3f} of those in a bare loop")
    assert min(ran) < 1.1 * min(alone)


def test_steps_stay_as_fast(capsys):
    """Over 10^5 of them: the last tenths beside the first."""
    tenths = np.min(
        [np.diff([s.seconds for s in run(jr.key(0), flow(1_000), 100_000, 10_000)]) for _ in range(3)], axis=0
    )
    with capsys.disabled():
        print(f"\nseconds of each 10^4 steps: {np.array2string(tenths, precision=2)}")
    assert tenths[-3:].min() < 1.2 * tenths[:3].min()


@pytest.mark.parametrize("problem", SIZES)
@pytest.mark.parametrize("method", on_any_problem())
def test_a_step_compiles_within_ten_seconds(method, problem, capsys):
    built = METHODS[method](DATASETS[problem](**SIZES[problem]).problem, **OPTIONS.get(method, {}))
    state = built.init(jr.key(0))
    with jax.default_matmul_precision("highest"):
        taken = seconds(lambda: jax.jit(built.step).lower(jr.key(1), state).compile())
    with capsys.disabled():
        print(f"\n{method} on {problem}: {taken:.1f} s")
    assert taken < 10
