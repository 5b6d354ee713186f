"""The push-forward starts as the Gaussian of the initial distribution, and its steps follow the gradient of D."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from cryosip.datasets.registry import DATASETS
from cryosip.methods.pushforward import pushforward
from cryosip.methods.registry import DISCREPANCIES

ENERGY = DISCREPANCIES["energy"]()


def small(**options):
    problem = DATASETS["oned"](n_observations=200, noise_std=0.5, means=[1.0], stds=[0.5], weights=[1.0]).problem
    return problem, pushforward(problem, **{"discrepancy": ENERGY, "n_particles": 100, "width": 8} | options)


def test_it_starts_at_the_moments_of_the_initial_distribution():
    """Of 1000 draws, seen by 100: within 5 standard errors."""
    _, method = small(optimizer=optax.sgd(0.1))
    theta = np.asarray(method.estimate(jax.jit(method.init)(jr.key(3))).theta)
    assert abs(theta.mean()) < 5 * np.sqrt(1 / 100 + 1 / 1_000)
    assert theta.std() == pytest.approx(1.0, abs=5 * np.sqrt(0.5 / 100 + 0.5 / 1_000))


def test_a_step_follows_the_gradient_of_what_it_reports(x64):
    """The slope of the objective, by finite differences of the parameters, with the draws of one key."""
    _, method = small(optimizer=optax.sgd(1.0), sampling="closed-form")
    state, step = jax.jit(method.init)(jr.key(0)), jax.jit(method.step)
    rng = np.random.default_rng(0)
    state = state._replace(parameters=state.parameters + 0.1 * jnp.asarray(rng.normal(size=state.parameters.shape)))
    after, _ = step(jr.key(1), state)
    direction, h = jnp.asarray(rng.normal(size=state.parameters.shape)), 1e-5

    def objective(by):
        return float(step(jr.key(1), state._replace(parameters=state.parameters + by * direction))[1].objective)

    slope = (objective(h) - objective(-h)) / (2 * h)
    # the table of the noise's grid is read linearly, and the slope of such a line is not that of its values
    assert float((state.parameters - after.parameters) @ direction) == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("name", ["energy", "sliced-energy", "data-kl"])
def test_it_finds_a_gaussian(name):
    """theta ~ N(1, 0.5^2) from 200 observations, whose mean errs by 0.05."""
    sampling = "closed-form" if name == "data-kl" else "method-1"
    problem, method = small(optimizer=optax.adam(1e-2), discrepancy=DISCREPANCIES[name](), sampling=sampling)
    loop = jax.jit(lambda s: jax.lax.fori_loop(0, 400, lambda t, s: method.step(jr.fold_in(jr.key(1), t), s)[0], s))
    theta = np.asarray(method.estimate(loop(method.init(jr.key(0)))).theta)
    # 100 simulated images scatter as the data do, and the last steps with them
    assert theta.mean() == pytest.approx(float(problem.observations.mean()), abs=0.2)


def test_held_out_observations_choose_the_estimate():
    _, method = small(optimizer=optax.adam(1e-2), stop="held-out")
    state, step, scores = jax.jit(method.init)(jr.key(0)), jax.jit(method.step), []
    for t in range(40):
        state, info = step(jr.key(t), state)
        scores.append(float(state.score))
        assert int(info.forward_evaluations) == (200 if (t + 1) % 10 == 0 else 100)
    assert (np.diff(scores[9:]) <= 0).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_particles": 0}, "n_particles is 0"),
        ({"width": 0}, "width is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"sampling": "method-2"}, "wanted one of 'method-1'"),
        ({"stop": "late"}, "stop is 'late'"),
        ({"discrepancy": DISCREPANCIES["sliced-energy"](), "sampling": "closed-form"}, "cannot integrate out noise"),
    ],
)
def test_bad_input_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        small(**{"optimizer": optax.sgd(0.1)} | options)
