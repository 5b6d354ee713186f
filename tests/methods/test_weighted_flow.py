"""Implicit steps reach the certified optimum, on the line and in the plane; explicit ones are the flow written out."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.stats import norm

from cryosip.bench.studies.certified import likelihood, minimise
from cryosip.datasets.registry import DATASETS
from cryosip.methods.certificate import duality_gap
from cryosip.methods.implicit_flow import LEAST_WEIGHT, implicit_step, merged
from cryosip.methods.marginal import marginal, negative_log_likelihood, variation
from cryosip.methods.method import WeightedPoints
from cryosip.methods.problem import no_pose, one_node
from cryosip.methods.registry import DISCREPANCIES
from cryosip.methods.weighted_flow import weighted_flow

DATA_KL = DISCREPANCIES["data-kl"]()


def run(method, steps):
    state = jax.jit(method.init)(jr.key(0))
    block = jax.jit(lambda s: jax.lax.fori_loop(0, steps, lambda t, s: method.step(jr.key(t), s)[0], s))
    return block(state)


def test_the_optimum_on_the_line_is_reached(x64):
    problem = DATASETS["oned"](n_observations=200, seed=1).problem
    y = np.asarray(problem.observations)[:, 0]
    low, high = (float(bound[0]) for bound in problem.theta_box)
    optimum = minimise(likelihood(y, problem.noise_std, low, high), low, high)
    method = weighted_flow(problem, DATA_KL, n_particles=20)
    law = method.estimate(run(method, 60))
    assert duality_gap(problem, law).value < 1e-4
    assert float(negative_log_likelihood(marginal(problem), law)) == pytest.approx(optimum.value, abs=1e-4)


def plane():
    """Two Gaussians in the plane under isotropic noise."""
    rng = np.random.default_rng(0)
    theta = np.array([[-1.5, 0.0], [1.5, 1.0]])[rng.integers(2, size=200)] + 0.3 * rng.normal(size=(200, 2))
    y = jnp.asarray(theta + rng.normal(size=(200, 2)))
    return DATASETS["oned"](n_observations=2).problem._replace(
        observations=y,
        noise_std=1.0,
        render=lambda theta, _pose: theta,
        sample_pose=no_pose,
        pose_quadrature=one_node,
        sample_init=lambda key, n: jr.normal(key, (n, 2)),
        log_prior=lambda theta: -0.5 * (theta**2).sum(1),
        theta_box=(y.min(0), y.max(0)),
    )


@pytest.mark.parametrize("offered", [False, True])
def test_the_certificate_in_the_plane(x64, offered):
    problem = plane()
    if offered:  # and nothing is left of the images

        def log_likelihood(theta, image):
            return -0.5 * ((problem.observations[image] - theta) ** 2).sum(1)

        problem = problem._replace(log_likelihood=log_likelihood, noise_std=0.0)
    method = weighted_flow(problem, DATA_KL, n_particles=30)
    assert duality_gap(problem, method.estimate(run(method, 80))).value < 1e-4


def test_in_single_precision_the_gap_stays_closed():
    """Particles that search come and go all the time, and must not move those that have weight."""
    problem = DATASETS["fredholm"](n_observations=300, dimension=2, seed=0).problem
    method = weighted_flow(problem, DATA_KL, n_particles=50)
    state, step, gaps = run(method, 100), jax.jit(method.step), []
    for t in range(100, 120):
        state, _ = step(jr.key(t), state)
        if t % 4 == 0:
            gaps.append(duality_gap(problem, method.estimate(state)).value)
    assert max(gaps) < 2e-5


def test_observations_far_from_all_particles_are_found():
    """A particle that searches close to one has a ratio beyond any float, and must still take one finite step to it."""
    problem = DATASETS["oned"](n_observations=500, outliers=0.1, seed=2).problem
    method = weighted_flow(problem, DATA_KL, n_particles=100)
    state = run(method, 100)
    assert np.abs(problem.observations).max() > 30 * problem.noise_std
    assert np.isfinite(state.theta).all()
    assert duality_gap(problem, method.estimate(state)).value < 1e-4


def test_what_has_no_weight_moves_nothing_else(x64):
    """One that searches where the ratio is small would lose weight that it does not have: the rest answer only it."""
    problem = DATASETS["oned"](n_observations=100, seed=1).problem
    theta, weights = jnp.array([[0.0], [1.5], [-4.0]]), jnp.array([0.4, 0.6 - LEAST_WEIGHT, LEAST_WEIGHT])
    of = marginal(problem)
    at = variation(of, theta, jnp.array([0.4, 0.6, 0.0]))
    growth, move = implicit_step(at, weights, jnp.asarray(1e3))
    two = variation(of, theta[:2], jnp.array([0.4, 0.6]))
    alone, moved = implicit_step(two, jnp.array([0.4, 0.6]), jnp.asarray(1e3))
    np.testing.assert_allclose(growth[:2], alone, rtol=1e-4)
    np.testing.assert_allclose(move[:2], moved, rtol=1e-4)


def test_small_steps_are_those_of_the_flow(x64, toys):
    """x / t -> grad D and D - 1, where H is negligible beside 1 / t."""
    problem = toys["parabola"]()
    theta, weights = jnp.array([[-0.9], [0.3], [1.1]]), jnp.array([0.2, 0.5, 0.3])
    y, std = np.asarray(problem.observations), problem.noise_std

    def ratio(at):
        def p(theta):
            return norm.pdf(y[:, 0], theta, std) * norm.pdf(y[:, 1], theta**2, std)

        f = sum(w * p(float(t)) for w, t in zip(weights, theta[:, 0], strict=True))
        return (p(at) / f).mean()

    t, h = 1e-7, 1e-5
    growth, move = implicit_step(variation(marginal(problem), theta, weights), weights, jnp.asarray(t))
    np.testing.assert_allclose(growth / t, [ratio(float(a)) - 1 for a in theta[:, 0]], rtol=1e-4)
    slopes = [(ratio(float(a) + h) - ratio(float(a) - h)) / (2 * h) for a in theta[:, 0]]
    np.testing.assert_allclose(move[:, 0] / t, slopes, rtol=1e-4)


def test_the_likelihood_never_falls(toys):
    method = weighted_flow(toys["rotated"](), DATA_KL, n_particles=10)
    state, step, values = jax.jit(method.init)(jr.key(0)), jax.jit(method.step), []
    for t in range(30):
        state, info = step(jr.key(t), state)
        values.append(float(info.objective))
    # what is merged or drawn anew has little weight, and may cost as much
    assert (np.diff(values) < 1e-4).all()
    assert values[-1] < values[0] - 0.1


def test_particles_that_meet_become_one():
    theta, weights = jnp.array([[0.0], [1.0], [0.02], [5.0]]), jnp.array([0.1, 0.6, 0.3, LEAST_WEIGHT])
    places, found = merged(theta, weights, jnp.array([0.05]))
    np.testing.assert_allclose(found, [0.4, 0.6, LEAST_WEIGHT, LEAST_WEIGHT], rtol=1e-5)
    np.testing.assert_allclose(places[:, 0], [0.015, 1.0, 0.02, 5.0], rtol=1e-5)


def test_one_explicit_step_written_out(x64):
    """On the line, noise integrated out: V from sums over all pairs."""
    problem = DATASETS["oned"](n_observations=40, seed=2).problem
    method = weighted_flow(
        problem, DISCREPANCIES["energy"](), optax.sgd(0.1), 6, sampling="closed-form", weight_rate=0.5
    )
    state = jax.jit(method.init)(jr.key(0))
    weights = jnp.array([0.1, 0.1, 0.2, 0.3, 0.2, 0.1])
    after, info = jax.jit(method.step)(jr.key(1), state._replace(log_weights=jnp.log(weights)))
    x, y, s = np.asarray(state.theta)[:, 0], np.asarray(problem.observations)[:, 0], problem.noise_std

    def distance(gap, std):
        u = gap / std
        return std * (2 * norm.pdf(u) + u * (2 * norm.cdf(u) - 1))

    root, w = np.sqrt(2) * s, np.asarray(weights)
    to_y, to_x = x[:, None] - y, x[:, None] - x
    potential = distance(to_y, s).mean(1) - distance(to_x, root) @ w
    slope = 2 * norm.cdf(to_y / s).mean(1) - 2 * norm.cdf(to_x / root) @ w
    np.testing.assert_allclose(after.theta[:, 0], x - 0.1 * slope, atol=1e-10)
    expected = w * np.exp(-0.5 * (potential - w @ potential))
    np.testing.assert_allclose(jnp.exp(after.log_weights), expected / expected.sum(), rtol=1e-9)
    within = np.abs(y[:, None] - y).mean() / 2
    value = w @ distance(to_y, s).mean(1) - w @ distance(to_x, root) @ w / 2 - within
    assert float(info.objective) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("optimizer", [None, optax.sgd(0.1)])
def test_held_out_observations_choose_the_estimate(optimizer):
    """The kept score is the lowest, and halves of the observations are fitted and judged."""
    problem = DATASETS["oned"](n_observations=60, seed=3).problem
    method = weighted_flow(problem, DATA_KL, optimizer, 10, stop="held-out")
    state = run(method, 30)
    assert jax.tree.all(jax.tree.map(lambda a: bool(np.isfinite(a).all()), state))
    if optimizer is None:
        judge = marginal(problem._replace(observations=problem.observations[1::2]))
        assert float(state.score) == pytest.approx(float(negative_log_likelihood(judge, state.best)), rel=1e-5)
        assert float(state.score) <= float(negative_log_likelihood(judge, method.estimate(state)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"discrepancy": DISCREPANCIES["energy"]()}, "no likelihood"),
        ({"discrepancy": DATA_KL, "sampling": "method-1"}, "sampled noise"),
        ({"discrepancy": DISCREPANCIES["kl"](), "optimizer": optax.sgd(0.1)}, "no form for weighted images"),
        ({"discrepancy": DISCREPANCIES["mmd"](), "optimizer": optax.sgd(0.1)}, "no form for weighted images"),
        ({"discrepancy": DATA_KL, "optimizer": optax.sgd(0.1), "anneal": (2.0, 5)}, "wanted none"),
        ({"discrepancy": DATA_KL, "anneal": (0.5, 5)}, "anneal factor is 0.5"),
        ({"discrepancy": DATA_KL, "anneal": (3.0,)}, r"wanted \(factor, steps\)"),
        ({"discrepancy": DATA_KL, "n_particles": 0}, "n_particles is 0"),
        ({"discrepancy": DATA_KL, "weight_rate": 0.0}, "weight_rate is 0.0"),
        ({"discrepancy": DATA_KL, "stop": "early"}, "stop is 'early'"),
        ({"discrepancy": DATA_KL, "optimizer": optax.sgd(0.1), "sampling": "method-2"}, "wanted one of 'method-1'"),
    ],
)
def test_bad_input_is_refused(tiny, options, says):
    with pytest.raises(ValueError, match=says):
        weighted_flow(tiny.problem, **options)


def test_weights_are_normalised_without_underflow():
    from cryosip.methods.weighted_flow import normalised

    found = normalised(jnp.array([0.0, -500.0]))
    assert np.isfinite(jnp.exp(found) ** 2).all()
    assert float(WeightedPoints(jnp.zeros((2, 1)), jnp.exp(found)).weights.sum()) == pytest.approx(1.0)
