"""Programs that replicates share: equal where data alone differ, and another where anything else does."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from examples import METHOD_OPTIONS, home, instance, may_refuse

from cryosip.bench import programs
from cryosip.bench.build import build_method
from cryosip.bench.cache import compilations
from cryosip.bench.runner import run
from cryosip.methods.method import Info, Method, WeightedPoints
from cryosip.methods.registry import METHODS, VOLUME_METHODS

KEY = jr.key(0)


def step_of(method, problem, replicate=0, **options):
    built = build_method(instance(problem, replicate).problem, method, METHOD_OPTIONS[method] | options)
    return programs.step(built.step, KEY, built.init(KEY))


@pytest.mark.parametrize(
    ("method", "problem"),
    [(name, problem) for name in METHODS for problem in dict.fromkeys((home(name), "nanocluster"))],
)
def test_replicates_have_one_text_and_data_of_their_own(method, problem):
    """Tracing each method is most of the time."""
    try:
        one, other = (step_of(method, problem, replicate) for replicate in (0, 1))
    except ValueError as error:
        if not may_refuse(method, problem):
            raise
        pytest.skip(str(error))  # a method that is not ours may refuse a problem
    assert one.text == other.text
    assert hash(one.text) == hash(other.text)
    assert [a.shape for a in one.constants] == [a.shape for a in other.constants]
    assert any((a != b).any() for a, b in zip(one.constants, other.constants, strict=True))


def adam(rate):
    return {"optimizer": {"name": "adam", "learning_rate": rate}}


def test_what_is_no_data_makes_another_text():
    """A learning rate, another method, another number of particles."""
    texts = [
        step_of("flow", "oned", **options).text for options in (adam(0.05), adam(0.1), {"n_particles": 31}, adam(0.05))
    ]
    assert len({*texts, step_of("mixture", "oned").text}) == 4
    assert texts[0] == texts[3]


def text(f, *arguments):
    return programs.Text(jax.make_jaxpr(f)(*arguments).jaxpr)


TABLE = np.arange(3.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x * 0.0, lambda x: x * -0.0),
        (lambda x: x * 1.0, lambda x: x * (1.0 + 2**-23)),
        (lambda x: x + 1, lambda x: x - 1),
        (lambda x: (x, x + 1), lambda x: (x + 1, x)),
        (lambda x: x.sum(0), lambda x: x.sum(1)),
        (lambda x: jax.jit(lambda y: y * 2.0)(x), lambda x: jax.jit(lambda y: y * 3.0)(x)),
        (
            lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y * 2.0, x),
            lambda x: jax.lax.fori_loop(0, 4, lambda _, y: y * 2.0, x),
        ),
        (lambda x: jax.pure_callback(np.sin, x, x), lambda x: jax.pure_callback(np.cos, x, x)),
    ],
    ids=["sign of zero", "rounding", "operation", "order of results", "axis", "inner", "length of a loop", "callback"],
)
def test_texts_that_differ(one, other):
    x = jax.ShapeDtypeStruct((2, 2), jnp.float32)
    assert text(one, x) == text(one, x)
    assert text(one, x) != text(other, x)
    assert text(one, x) != text(one, jax.ShapeDtypeStruct((2, 3), jnp.float32))
    assert text(one, x) != text(one, jax.ShapeDtypeStruct((2, 2), jnp.float16))


def test_names_of_variables_and_of_functions_are_no_difference():
    def double(x):
        twice = x + x
        return twice * TABLE.size

    assert text(double, 1.0) == text(lambda other: (other + other) * 3, 1.0)


def sum_with(data):
    """A function of data; functions of one size have one text."""
    data = jnp.asarray(data, jnp.float32)
    return lambda x: (x * data).sum()


def test_a_call_is_compiled_once_for_all_data():
    """Whole numbers, whose sums no order rounds."""
    few = np.arange(50)
    functions = [(data, sum_with(data)) for data in (few, -few)]
    x, counts = jnp.float32(2.0), [compilations()]
    for data, function in functions:
        assert float(programs.call(function, x)) == 2 * data.sum()
        counts.append(compilations())
    assert counts[2] == counts[1]


def counting(weight):
    """A method whose objective costs a product of its own, and reads what a step had before and after."""
    data = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)

    def step(key, state):
        theta, age = state
        moved = weight * theta + data @ jr.normal(key, (3, 1))
        objective = jnp.sin(moved).sum() + (theta * data[:, :1]).sum() + age
        return (moved, age + 1), Info(objective, age * 2)

    return Method(
        lambda key: (jr.normal(key, (4, 1)), jnp.asarray(0)),
        step,
        lambda state: WeightedPoints(state[0], jnp.full(4, 0.25)),
    )


def unrolled(method, steps):
    """Objectives, states and calls by calling the step, nothing else."""
    key_init, key_steps = jr.split(KEY)
    state, calls, told = method.init(key_init), 0, []
    step = jax.jit(method.step)
    for t in range(steps):
        state, info = step(jr.fold_in(key_steps, t), state)
        calls += int(info.forward_evaluations)
        told.append((float(info.objective), state, calls))
    return told


def assert_near(found, expected, rtol):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(a.dtype, jnp.inexact):
            np.testing.assert_allclose(a, b, rtol=0, atol=rtol * (1e-30 + float(jnp.abs(b).max())))
        elif not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(a, b)


CASES = [("counting", "-"), *((method, home(method)) for method in METHODS), ("flow", "nanocluster")]


@pytest.mark.parametrize(("method", "problem"), CASES)
def test_a_run_is_its_steps_one_after_the_other(x64, method, problem):
    """In float64, so that another order of a sum is far below another sum: 5 steps of < 10^4 terms each, whose
    roundings of 2^-53 grow by less than 10^3 on the way."""
    problem = None if method == "counting" else instance(problem).problem
    built = counting(0.5) if problem is None else build_method(problem, method, METHOD_OPTIONS[method])
    expected = unrolled(built, 5)
    found = list(run(KEY, built, steps=5, every=2))[1:]
    assert [s.step for s in found] == [2, 4, 5]
    bound = 5 * 1e4 * 1e3 * 2**-53
    if method in VOLUME_METHODS:  # conjugate gradients and eigenvectors magnify what is rounded
        bound *= 1e5
    for snapshot in found:
        objective, state, calls = expected[snapshot.step - 1]
        assert snapshot.objective == pytest.approx(objective, rel=bound, abs=bound)
        assert snapshot.forward_evaluations == calls
        assert_near(snapshot.state, state, bound)


def test_a_second_run_finds_the_program_of_the_first():
    first, second = (list(run(KEY, counting(0.25), steps=2, every=2))[-1] for _ in range(2))
    other = list(run(KEY, counting(0.125), steps=2, every=2))[-1]
    assert (second.program.found, second.program.memory_mb) == (True, first.program.memory_mb)
    np.testing.assert_array_equal(first.state[0], second.state[0])
    assert (np.asarray(other.state[0]) != np.asarray(first.state[0])).any()


@pytest.mark.parametrize(
    "change",
    [
        lambda theta, age: (theta, age, age),
        lambda theta, age: {"theta": theta, "age": age},
        lambda theta, age: (theta[:2], age),
        lambda theta, age: (theta, age * 1.0),
    ],
    ids=["another leaf", "another tree", "another shape", "another type"],
)
def test_a_step_that_makes_another_kind_of_state_is_refused(change):
    method = counting(1.0)
    wrong = method._replace(step=lambda key, state: (change(*state), method.step(key, state)[1]))
    with pytest.raises(TypeError, match=r"a step of a method makes a state of .*wanted .*as `init` makes it"):
        next(run(KEY, wrong, steps=2, every=1))


def test_effects_of_a_step_are_kept():
    """What a step tells the host is no part of its state; it happens once a step all the same."""
    seen = []
    method = counting(1.0)

    def step(key, state):
        jax.debug.callback(lambda age: seen.append(int(age)), state[1], ordered=True)
        return method.step(key, state)

    list(run(KEY, method._replace(step=step), steps=3, every=3))
    jax.effects_barrier()
    assert seen == [0, 1, 2]
