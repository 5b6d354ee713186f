"""Per-image maximum likelihood finds each image's own most likely structure."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize

from cryosip.datasets.nanocluster import nanocluster
from cryosip.methods import maximum_likelihood as module
from cryosip.methods.maximum_likelihood import maximum_likelihood


def climbed(method, steps):
    """The last state, and the objective before each step."""

    def advance(state, _):
        state, info = method.step(jr.key(1), state)
        return state, info.objective

    return jax.jit(lambda s: jax.lax.scan(advance, s, None, length=steps))(jax.jit(method.init)(jr.key(0)))


def minus_log_likelihood(problem):
    """Of an image and a structure, the sum over poses, in numpy but for the render."""
    pose, weights = problem.pose_quadrature(1)
    render = jax.jit(lambda theta: problem.render(jnp.broadcast_to(theta, (len(weights), len(theta))), pose))

    def value(y, theta):
        squares = ((y - np.asarray(render(theta))) ** 2).sum(1)
        return -np.log(np.asarray(weights) @ np.exp(-0.5 * squares / problem.noise_std**2))

    return value


def test_where_images_are_parameters_each_is_its_own(x64, toys):
    problem = toys["oned"]()
    state, _ = climbed(maximum_likelihood(problem, n_support=10), 3)
    np.testing.assert_allclose(state.theta, problem.observations, atol=1e-9)


@pytest.mark.parametrize("toy", ["parabola", "rotated"])
def test_it_reaches_the_maximum_of_each_image(x64, toys, toy):
    problem = toys[toy]()
    support = jnp.linspace(-2, 2, 41)[:, None] if toy == "parabola" else None
    method = maximum_likelihood(problem, support=support, n_support=900)
    state, objectives = climbed(method, 100)
    assert np.diff(objectives).max() <= 1e-10
    theta, weights = map(np.asarray, method.estimate(state))
    value = minus_log_likelihood(problem)
    assert theta.shape == (150, problem.sample_init(jr.key(0), 1).shape[1])
    np.testing.assert_allclose(weights, 1 / 150)
    for i in range(0, 150, 15):
        y = np.asarray(problem.observations[i])
        own = value(y, theta[i])
        best = scipy.optimize.minimize(lambda t, y=y: value(y, t), theta[i], method="Nelder-Mead")
        assert own <= best.fun + 1e-4
    values = [value(y, t) for y, t in zip(np.asarray(problem.observations), theta, strict=True)]
    _, last = jax.jit(method.step)(jr.key(0), state)
    assert float(last.objective) == pytest.approx(np.mean(values), abs=1e-9)


def test_images_block_by_block_are_images_at_once(x64, toys, monkeypatch):
    problem = toys["rotated"]()  # 150 observations in three poses
    at_once, whole = climbed(maximum_likelihood(problem, n_support=100), 5)
    first = _first_step(problem)
    monkeypatch.setattr(module, "IMAGES", 3 * 47)
    rendered, render = [], problem.render
    watched = problem._replace(render=lambda theta, pose: rendered.append(len(theta)) or render(theta, pose))
    by_blocks, objectives = climbed(maximum_likelihood(watched, n_support=100), 5)
    np.testing.assert_allclose(by_blocks.theta, at_once.theta, atol=1e-9)
    np.testing.assert_allclose(objectives, whole, rtol=1e-12)
    assert 0 < rendered[-1] <= 3 * 47
    # a block halves its steps as often as its own images need
    assert 150 * 3 * 4 <= int(_first_step(problem).forward_evaluations) <= int(first.forward_evaluations)


def _first_step(problem):
    method = maximum_likelihood(problem, n_support=100)
    return jax.jit(method.step)(jr.key(0), jax.jit(method.init)(jr.key(0)))[1]


def test_it_finds_the_parameters_behind_images():
    instance = nanocluster(60, image_size=64, seed=2)
    state, _ = climbed(maximum_likelihood(instance.problem), 10)
    error = np.abs(np.asarray(state.theta - instance.truth.theta))
    assert np.median(error) < 0.15
    assert np.quantile(error, 0.9) < 0.5


def test_forward_evaluations_count_the_grid_once(toys):
    method = maximum_likelihood(toys["rotated"](), n_support=100)
    step, state = jax.jit(method.step), jax.jit(method.init)(jr.key(0))
    state, first = step(jr.key(0), state)
    _, second = step(jr.key(0), state)
    images = 150 * 3
    assert int(first.forward_evaluations) >= 100 * 3 + images * (1 + 2 + 1)
    assert (int(first.forward_evaluations) - 100 * 3) % images == 0
    assert int(second.forward_evaluations) % images == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_support": 0}, "n_support is 0; wanted a whole number >= 1"),
        ({"quadrature_order": 0}, "quadrature_order is 0"),
        ({"support": jnp.zeros((3, 2))}, r"support has shape \(3, 2\); wanted \(k, 1\)"),
        ({"support": jnp.full((3, 1), jnp.nan)}, "support holds 3 NaN"),
    ],
)
def test_bad_input_is_refused(options, says, tiny):
    with pytest.raises(ValueError, match=says):
        maximum_likelihood(tiny.problem, **options)


def test_no_box_and_no_support(toys):
    with pytest.raises(ValueError, match="'parabola' has no theta_box and no support is given"):
        maximum_likelihood(toys["parabola"]())
