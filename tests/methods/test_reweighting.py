"""EM on the weights climbs to the nonparametric maximum likelihood; a support out of reach is refused."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from cryosip.datasets.registry import DATASETS
from cryosip.methods.reweighting import ReweightingState, reweighting


def history(method, steps):
    """Last weights, and the objective before each step."""

    def advance(state, _):
        state, info = method.step(jr.key(1), state)
        return state, info.objective

    state, objectives = jax.jit(lambda s: jax.lax.scan(advance, s, None, length=steps))(jax.jit(method.init)(jr.key(0)))
    return np.asarray(state.weights), np.asarray(objectives)


def likelihood(problem, theta):
    """p(y_i | theta_k) up to one constant: the sum over the poses, in numpy."""
    pose, pose_weights = problem.pose_quadrature(1)
    table = np.zeros((len(problem.observations), len(theta)))
    for q, mass in enumerate(np.asarray(pose_weights)):
        some = jax.tree.map(lambda a, q=q: jnp.full(len(theta), a[q]), pose)
        images = np.asarray(problem.render(jnp.asarray(theta), some))
        squares = ((np.asarray(problem.observations)[:, None] - images) ** 2).sum(2)
        table += mass * np.exp(-0.5 * squares / problem.noise_std**2)
    return table


@pytest.mark.parametrize(("toy", "concentration"), [("oned", 1.8), ("rotated", 1.0), ("rotated", 1.8)])
def test_em_never_lowers_the_penalised_likelihood(x64, toys, toy, concentration):
    problem = toys[toy]()
    method = reweighting(problem, n_support=25, concentration=concentration)
    weights, objectives = history(method, 200)
    assert np.diff(objectives).max() <= 1e-12
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    theta = np.asarray(method.estimate(jax.jit(method.init)(jr.key(0))).theta)
    _, one_more = jax.jit(method.step)(jr.key(1), ReweightingState(jnp.asarray(weights), jnp.asarray(0)))
    penalty = (concentration - 1) / len(problem.observations) * np.log(weights).sum() if concentration > 1 else 0.0
    expected = -np.log(likelihood(problem, theta) @ weights).mean() - penalty
    assert float(one_more.objective) == pytest.approx(expected, abs=1e-10)


def test_the_weights_reach_the_nonparametric_maximum(x64, toys):
    """mean_i p(y_i | theta_k) / p(y_i) <= 1 for all k, with equality where there is weight."""
    problem = toys["oned"]()
    method = reweighting(problem, n_support=20)
    weights, _ = history(method, 30_000)
    table = likelihood(problem, np.asarray(method.estimate(jax.jit(method.init)(jr.key(0))).theta))
    gain = (table / (table @ weights)[:, None]).mean(0)
    assert gain.max() == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(gain[weights > 1e-2], 1.0, atol=1e-4)


def test_a_dirichlet_prior_reaches_its_fixed_point(x64, toys):
    """w_k = (sum_i r_ik + concentration - 1) / (M + K (concentration - 1))."""
    problem, m, k, c = toys["oned"](), 150, 20, 3.0
    method = reweighting(problem, n_support=k, concentration=c)
    weights, _ = history(method, 3_000)
    table = likelihood(problem, np.asarray(method.estimate(jax.jit(method.init)(jr.key(0))).theta)) * weights
    counts = (table / table.sum(1, keepdims=True)).sum(0)
    np.testing.assert_allclose(weights, (counts + c - 1) / (m + k * (c - 1)), atol=1e-9)


def test_two_separate_points_get_the_shares_of_their_classes():
    instance = DATASETS["oned"](
        n_observations=400, noise_std=0.5, means=[-20.0, 20.0], stds=[0.01, 0.01], weights=[0.3, 0.7]
    )
    support = jnp.array([[-20.0], [20.0]])
    method = reweighting(instance.problem, support=support)
    weights, _ = history(method, 1)
    np.testing.assert_array_equal(method.estimate(jax.jit(method.init)(jr.key(0))).theta, support)
    share = float((instance.problem.observations > 0).mean())
    np.testing.assert_allclose(weights, [1 - share, share], atol=1e-5)


def test_renders_are_counted_once(toys):
    """The images of the support never change: 25 points in 3 poses, at the first step."""
    method = reweighting(toys["rotated"](), n_support=25)
    state, calls = jax.jit(method.init)(jr.key(0)), []
    for t in range(3):
        state, info = method.step(jr.key(t), state)
        calls.append(int(info.forward_evaluations))
    assert calls == [75, 0, 0]


def test_the_grid_fills_the_box_in_two_dimensions(toys):
    problem = toys["rotated"]()
    method = reweighting(problem, n_support=100)
    theta = np.asarray(method.estimate(jax.jit(method.init)(jr.key(0))).theta)
    assert theta.shape == (100, 2)
    assert len(np.unique(theta, axis=0)) == 100
    np.testing.assert_allclose([theta.min(0), theta.max(0)], [[-2.0, -1.0], [2.0, 3.0]])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concentration": 0.5}, "concentration is 0.5; wanted a number >= 1"),
        ({"concentration": float("nan")}, "concentration is nan; wanted a positive finite number"),
        ({"n_support": 0}, "n_support is 0; wanted a whole number >= 1"),
        ({"quadrature_order": 0}, "quadrature_order is 0"),
        ({"support": jnp.zeros((4, 2))}, r"support has shape \(4, 2\); wanted \(k, 1\)"),
        ({"support": jnp.array([[0.0], [jnp.nan]])}, "support holds 1 NaN or infinite values of 2"),
        ({"support": jnp.array([[40.0], [41.0]])}, "the support does not cover the data: 300 of 300 .* noise_std from"),
    ],
)
def test_bad_input_is_refused(options, says, tiny):
    with pytest.raises(ValueError, match=says):
        reweighting(tiny.problem, **options)


def test_no_box_and_no_support_is_refused(tiny):
    with pytest.raises(ValueError, match="'oned' has no theta_box and no support is given; wanted one of them"):
        reweighting(tiny.problem._replace(theta_box=None))


def test_a_single_observation_out_of_reach_is_refused(tiny):
    observed = tiny.problem.observations.at[7].set(60.0)
    support = jnp.linspace(-8, 8, 30)[:, None]
    with pytest.raises(ValueError, match="1 of 300 observations lie further than"):
        reweighting(tiny.problem._replace(observations=observed), support=support)
