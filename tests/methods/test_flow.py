"""Every method keeps the contract; the flow is Euler's scheme of (2.17) with the draws of (2.13)-(2.15)."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from examples import may_refuse

from cryosip.bench.examples import example_method
from cryosip.datasets.registry import DATASETS
from cryosip.methods.discrepancy import Discrepancy, Target
from cryosip.methods.flow import SAMPLINGS, particle_flow
from cryosip.methods.registry import DISCREPANCIES, METHODS

FLOW = {"discrepancy": DISCREPANCIES["energy"](), "optimizer": optax.adam(0.1), "n_particles": 20}


def loop(method, key, state, steps):
    """The state after some steps, compiled."""
    return jax.jit(lambda s: jax.lax.fori_loop(0, steps, lambda t, s: method.step(jr.fold_in(key, t), s)[0], s))(state)


def equal_trees(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b))


# on the line tests/bench/test_programs.py runs every method
@pytest.mark.parametrize("name", METHODS)
def test_contract(name, small):
    """Pure functions of key and state; the estimate is a distribution; the info is finite and counts renders.

    A method that is not ours may refuse a problem by a ValueError.
    """
    try:
        method = example_method(small.problem, name)
    except ValueError as error:
        if not may_refuse(name, small.problem.name):
            raise
        pytest.skip(str(error))
    state = jax.jit(method.init)(jr.key(0))
    assert equal_trees(state, jax.jit(method.init)(jr.key(0)))
    before = jax.tree.map(np.array, state)
    step = jax.jit(method.step)
    after, info = step(jr.key(1), state)
    again, info_again = step(jr.key(1), state)
    assert equal_trees(state, before)
    assert equal_trees((after, info), (again, info_again))
    assert not equal_trees(after, state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert bool(jnp.isfinite(info.objective))
    assert int(info.forward_evaluations) >= 0
    for at in (state, after):
        theta, weights = map(np.asarray, method.estimate(at))
        assert theta.shape == (len(weights), small.truth.theta.shape[1])
        assert float(weights.sum()) == pytest.approx(1.0, abs=1e-5)
        assert bool((weights >= 0).all() & np.isfinite(theta).all())


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_only_the_key_of_the_step_decides_the_draws(sampling, tiny):
    method = METHODS["flow"](tiny.problem, **FLOW, sampling=sampling)
    state = jax.jit(method.init)(jr.key(0))
    assert not equal_trees(state.theta, jax.jit(method.init)(jr.key(1)).theta)
    step = jax.jit(method.step)
    one, other = (step(jr.key(k), state)[0].theta for k in (1, 2))
    assert equal_trees(one, other) == (sampling == "closed-form")


@pytest.mark.parametrize(
    ("name", "options", "rate", "steps"),
    [
        ("energy", {}, 0.5, 1_000),
        ("kl", {}, 0.1, 200),
        pytest.param("mmd", {"bandwidth": 3.0}, 10.0, 1_000, marks=pytest.mark.slow),
    ],
)
def test_recovers_a_gaussian(name, options, rate, steps):
    """theta ~ N(1, 0.5^2) from y = theta + N(0, 0.5^2), started at N(0, 1), with the noise integrated out."""
    m, n = 4_000, 200
    problem = DATASETS["oned"](n_observations=m, noise_std=0.5, means=[1.0], stds=[0.5], weights=[1.0], seed=2).problem
    method = particle_flow(problem, DISCREPANCIES[name](**options), optax.sgd(rate), n, sampling="closed-form")
    theta = np.asarray(loop(method, jr.key(1), jax.jit(method.init)(jr.key(0)), steps).theta)
    y_std = np.sqrt(0.5)
    # what m observations tell of the mean, and of the std of theta through var y - 0.5^2
    assert theta.mean() == pytest.approx(1.0, abs=5 * y_std / np.sqrt(m) + 0.01)
    assert theta.std() == pytest.approx(0.5, abs=5 * y_std**2 / 0.5 / np.sqrt(2 * m) + 0.01)
    observed = np.asarray(problem.observations)
    assert theta.mean() == pytest.approx(observed.mean(), abs=0.01)
    assert theta.std() == pytest.approx(np.sqrt(observed.var() - 0.25), abs=0.02)


def quartic(seen: list[float]) -> Discrepancy:
    """D = E |y|^2 / 2 + E sum y^4 / 4, whatever was observed; notes the noise it was asked to integrate out."""

    def bind(_observations, noise_std=0.0):
        seen.append(noise_std)
        value = lambda y: (0.5 * y**2 + 0.25 * y**4).sum(1).mean()  # noqa: E731
        return Target(value, lambda y: y + y**3, "quartic", lambda y: jnp.zeros(()))

    return Discrepancy(bind)


def row_of(sampling, i, j, k):
    """Which draw image (i, j) takes: its own, one of k that all share, or one of its own k."""
    return {"method-1": i, "closed-form": i, "method-2": j, "method-3": i * k + j}[sampling]


@pytest.mark.parametrize(("sampling", "k"), [("method-1", 1), ("method-2", 3), ("method-3", 3), ("closed-form", 1)])
def test_one_euler_step_written_out(x64, toys, sampling, k):
    """theta_i - dt mean_j (grad T_j)^T g(T_j(theta_i)) with the draws in their order, on turned points."""
    problem, n, dt, seen = toys["rotated"](), 5, 0.1, []
    method = particle_flow(problem, quartic(seen), optax.sgd(dt), n, sampling=sampling, n_draws=k)
    state = jax.jit(method.init)(jr.key(0))
    after, info = jax.jit(method.step)(jr.key(7), state)

    rows = {"method-1": n, "method-2": k, "method-3": n * k, "closed-form": n}[sampling]
    key_pose, key_noise = jr.split(jr.key(7))
    angle = np.asarray(problem.sample_pose(key_pose, rows)["angle"])
    noise = problem.noise_std * np.asarray(jr.normal(key_noise, (rows, 2)))
    theta, expected, values = np.asarray(state.theta), [], []
    for i in range(n):
        drift = np.zeros(2)
        for j in range(k):
            row = row_of(sampling, i, j, k)
            turn = np.array([[np.cos(angle[row]), -np.sin(angle[row])], [np.sin(angle[row]), np.cos(angle[row])]])
            y = turn @ theta[i] + (0.0 if sampling == "closed-form" else noise[row])
            drift += turn.T @ (y + y**3) / k
            values.append((0.5 * y**2 + 0.25 * y**4).sum())
        expected.append(theta[i] - dt * drift)
    np.testing.assert_allclose(after.theta, expected, atol=1e-12)
    assert float(info.objective) == pytest.approx(np.mean(values))
    assert int(info.forward_evaluations) == n * k
    assert seen == [problem.noise_std if sampling == "closed-form" else 0.0]


@pytest.mark.parametrize(
    ("name", "options"), [("energy", {}), ("mmd", {"bandwidth": 2.0}), ("kl", {"bandwidth": 0.5}), ("data-kl", {})]
)
def test_one_particle_goes_to_one_observation(name, options):
    problem = DATASETS["oned"](n_observations=1, noise_std=0.5, seed=4).problem
    method = particle_flow(problem, DISCREPANCIES[name](**options), optax.sgd(0.2), 1, sampling="closed-form")
    theta = loop(method, jr.key(1), jax.jit(method.init)(jr.key(0)), 300).theta
    assert theta.shape == (1, 1)
    assert float(theta[0, 0]) == pytest.approx(float(problem.observations[0, 0]), abs=0.02)


# one needs images; to the other a particle is a kernel, which a lone observation pulls in
@pytest.mark.parametrize("name", [name for name in DISCREPANCIES if name not in ("invariant-energy", "data-kl")])
def test_particles_at_the_observations_stay_without_noise(name, tiny):
    observed = tiny.problem.observations + 16.0  # so far from zero the noise is lost in rounding of either precision
    problem = tiny.problem._replace(observations=observed, noise_std=1e-18, sample_init=lambda _key, _n: observed)
    discrepancy = DISCREPANCIES[name]()
    method = particle_flow(problem, discrepancy, optax.sgd(1.0), len(observed))
    moved = jnp.abs(jax.jit(method.step)(jr.key(1), jax.jit(method.init)(jr.key(0)))[0].theta - observed).max()
    assert float(moved) <= float(jax.jit(discrepancy.bind(observed, 0.0).gradient_error)(observed)) + 1e-5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_particles": 0}, "n_particles is 0; wanted a whole number >= 1"),
        ({"n_particles": True}, "n_particles is True"),
        ({"sampling": "method-4"}, "sampling is 'method-4'; wanted one of .*did you mean 'method-"),
        ({"n_draws": 0, "sampling": "method-2"}, "n_draws is 0"),
        ({"n_draws": 2}, "n_draws is 2 with sampling 'method-1'; wanted 1, or sampling 'method-2' or 'method-3'"),
        ({"n_draws": 2, "sampling": "closed-form"}, "n_draws is 2 with sampling 'closed-form'"),
        (
            {"sampling": "closed-form", "discrepancy": DISCREPANCIES["mmd"]("inverse-multiquadric")},
            "no closed form under noise",
        ),
    ],
)
def test_bad_input_is_refused(options, says, tiny):
    with pytest.raises(ValueError, match=says):
        particle_flow(tiny.problem, **(FLOW | options))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"noise_std": 0.0}, "noise_std is 0.0; wanted a positive finite number"),
        ({"observations": jnp.array([[0.0], [jnp.inf]])}, "observations holds 1 NaN or infinite values of 2"),
        ({"observations": jnp.zeros((0, 1))}, r"observations has shape \(0, 1\)"),
        ({"observations": jnp.zeros((5, 2))}, r"observations has shape \(5, 2\); wanted \(m, 1\) as render makes"),
    ],
)
def test_no_method_takes_a_broken_problem(name, broken, says, tiny):
    with pytest.raises(ValueError, match=says):
        example_method(tiny.problem._replace(**broken), name)
