"""Where a problem gives the likelihood of each pair, methods take it in place of their pose quadrature."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.methods import gauss_newton, likelihood
from cryosip.methods.gauss_newton import newton
from cryosip.methods.likelihood import candidates, log_likelihoods
from cryosip.methods.maximum_likelihood import maximum_likelihood
from cryosip.methods.mixture import mixture
from cryosip.methods.reweighting import reweighting


def with_likelihood(problem):
    """The problem with the same likelihood as its quadrature, given pair by pair and off by a constant of each image;
    its images would lead astray."""
    pose, weights = problem.pose_quadrature(1)
    y, render, std = problem.observations, problem.render, problem.noise_std

    def of_pair(theta, i):
        clean = render(jnp.broadcast_to(theta, (len(weights), len(theta))), pose)
        return jax.nn.logsumexp(-0.5 * ((y[i] - clean) ** 2).sum(1) / std**2, b=weights) + 0.3 * i

    return problem._replace(log_likelihood=jax.vmap(of_pair), noise_std=0.0, render=lambda t, _pose: 100.0 + 0 * t)


def history(method, steps, state=None):
    """Last state, and the objective before each step."""
    state = jax.jit(method.init)(jr.key(0)) if state is None else state

    def advance(state, _):
        state, info = method.step(jr.key(1), state)
        return state, info.objective

    state, objectives = jax.jit(lambda s: jax.lax.scan(advance, s, None, length=steps))(state)
    return state, np.asarray(objectives)


@pytest.fixture
def pair(x64, toys):
    """A problem, the same with its likelihood given, and the mean of the constants between them."""
    problem = toys["rotated"]()
    return problem, with_likelihood(problem), 0.3 * np.arange(len(problem.observations)).mean()


@pytest.mark.parametrize("block", [7, 10**6])
def test_all_pairs_are_those_of_the_quadrature_however_they_are_cut(pair, block, monkeypatch):
    problem, given, _ = pair
    monkeypatch.setattr(likelihood, "PAIRS", block)
    monkeypatch.setattr(likelihood, "IMAGES", block)
    theta = problem.sample_init(jr.key(3), 11)
    by_images, by_pairs = (log_likelihoods(one, theta, 1) for one in (problem, given))
    shift = 0.3 * np.arange(150)[:, None]
    np.testing.assert_allclose(by_pairs.values, by_images.values + shift, atol=1e-10)
    images = np.asarray(
        problem.render(jnp.repeat(theta, 3, axis=0), {"angle": jnp.tile(problem.pose_quadrature(1)[0]["angle"], 11)})
    )
    squares = ((np.asarray(problem.observations)[:, None] - images) ** 2).sum(2) / problem.noise_std**2
    np.testing.assert_allclose(by_images.nearest, squares.min(1), rtol=1e-10)
    assert by_pairs.nearest is None
    assert (by_images.evaluations, by_pairs.evaluations) == (33, 150 * 11)


@pytest.mark.parametrize("concentration", [1.0, 1.5])
def test_weights_are_those_of_the_quadrature(pair, concentration):
    problem, given, constant = pair
    options = {"n_support": 25, "concentration": concentration}
    (expected, before), (found, objectives) = (history(reweighting(p, **options), 30) for p in (problem, given))
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-12)
    np.testing.assert_allclose(objectives, before - constant, atol=1e-10)


def test_no_support_is_too_far_where_only_the_likelihood_is_known(pair):
    far = jnp.array([[40.0, 0.0], [41.0, 0.0]])
    state, objectives = history(reweighting(pair[1], support=far), 5)
    assert np.isfinite(objectives).all()
    np.testing.assert_allclose(state.weights.sum(), 1)


def test_maximum_likelihood_reaches_the_same_maxima(pair):
    problem, given, constant = pair
    (expected, before), (found, objectives) = (
        history(maximum_likelihood(p, n_support=400), 40) for p in (problem, given)
    )
    assert np.diff(objectives).max() <= 1e-10
    assert objectives[0] == pytest.approx(before[0] - constant, abs=1e-10)
    assert objectives[-1] == pytest.approx(before[-1] - constant, abs=1e-4)
    assert np.quantile(np.abs(found.theta - expected.theta), 0.9) < 1e-2


@pytest.mark.parametrize(
    ("estimate_weights", "prior_weight", "anneal"), [(False, 0.5, None), (True, 0.0, None), (True, 0.0, (3.0, 20))]
)
def test_em_on_pairs_never_rises_and_ends_where_em_on_images_does(pair, estimate_weights, prior_weight, anneal):
    problem, given, constant = pair
    options = {"estimate_weights": estimate_weights, "prior_weight": prior_weight, "anneal": anneal}
    (expected, before), (found, objectives) = (history(mixture(p, 2, **options), 150) for p in (problem, given))
    if anneal is None:
        assert objectives[0] == pytest.approx(before[0] - constant, abs=1e-10)
    assert np.diff(objectives[25:]).max() <= 1e-10
    assert objectives[-1] == pytest.approx(before[-1] - constant, abs=1e-8)
    np.testing.assert_allclose(np.sort(found.theta, 0), np.sort(expected.theta, 0), atol=1e-4)


def test_the_gradient_is_that_of_the_images(pair):
    problem, given, _ = pair
    by_images, by_pairs = (history(mixture(p, 3, "gradient"), 5)[0].theta for p in (problem, given))
    np.testing.assert_allclose(by_pairs, by_images, atol=1e-8)


def test_newton_finds_the_maximum_of_a_quadratic_at_once(x64):
    """Three pairs each: the maximum of sum_e m_e (-(t - c_e)^T A (t - c_e) / 2) is the mean of the c_e by mass."""
    rng = np.random.default_rng(0)
    root, centers, mass = rng.normal(size=(3, 3)), rng.normal(size=(6, 3)), rng.random(6)
    matrix, middle = jnp.asarray(root @ root.T + np.eye(3)), jnp.asarray(centers)

    def value(theta, i):
        shift = theta - middle[i]
        return -0.5 * jnp.einsum("ea,ab,eb->e", shift, matrix, shift)

    owner = jnp.array([0, 0, 0, 1, 1, 1])
    given = value, jnp.arange(6), owner, jnp.asarray(mass), lambda t: jnp.zeros(len(t))
    moved, evaluations = newton(*given, jnp.ones((2, 3)), jnp.ones(3))
    expected = [np.average(centers[i : i + 3], axis=0, weights=mass[i : i + 3]) for i in (0, 3)]
    np.testing.assert_allclose(moved, expected, atol=1e-5)  # the Hessian is of differences
    assert int(evaluations) == 6 * (2 + 2 * 3 + 1)


def test_newton_climbs_where_the_function_is_not_concave(x64):
    """From a place between two modes of cos, curved upwards, and with a pair of no mass that is not a number."""

    def value(theta, i):
        return jnp.where(i == 0, jnp.cos(theta[:, 0]), jnp.nan)

    given = value, jnp.array([0, 1]), jnp.array([0, 0]), jnp.array([1.0, 0.0]), lambda t: jnp.zeros(len(t))
    theta, before = jnp.array([[2.5]]), np.cos(2.5)
    step = jax.jit(lambda theta: newton(*given, theta, jnp.ones(1))[0])
    for _ in range(30):
        theta = step(theta)
        assert float(jnp.cos(theta[0, 0])) >= before - 1e-12
        before = float(jnp.cos(theta[0, 0]))
    assert before == pytest.approx(1.0, abs=1e-8)


def test_tiles_of_pairs_do_not_change_a_step(pair, monkeypatch):
    method = mixture(pair[1], 3, estimate_weights=True)
    whole = history(method, 3)[0].theta
    for module in (likelihood, gauss_newton):
        monkeypatch.setattr(module, "PAIRS", 7)
    np.testing.assert_allclose(history(mixture(pair[1], 3, estimate_weights=True), 3)[0].theta, whole, atol=1e-10)


def test_the_support_is_the_one_that_is_given(tiny):
    structures = jnp.array([[-2.0], [0.5], [2.0]])
    problem = tiny.problem._replace(support=structures)
    np.testing.assert_array_equal(candidates(problem, None, 50), structures)
    np.testing.assert_array_equal(candidates(problem, structures[:1], 50), structures[:1])
    for method in (reweighting(problem), maximum_likelihood(problem)):
        theta = method.estimate(method.init(jr.key(0))).theta
        assert set(np.ravel(theta)) <= {-2.0, 0.5, 2.0}
    with pytest.raises(ValueError, match="n_refinements is 2 on a problem whose structures are given; wanted 0"):
        reweighting(problem, n_refinements=2)


@pytest.mark.parametrize("option", ["refine_poses", "estimate_noise", "background"])
def test_what_needs_images_is_refused(pair, option):
    with pytest.raises(ValueError, match=f"{option} is given, and problem 'rotated' has a likelihood of its own"):
        mixture(pair[1], 3, **{option: True})
