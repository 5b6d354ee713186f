"""Early stopping by the halves of the data, and a support that is drawn anew where the mass is."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special

from cryosip.datasets.registry import DATASETS
from cryosip.methods.adaptive_support import resampled
from cryosip.methods.likelihood import log_likelihoods
from cryosip.methods.problem import halves
from cryosip.methods.reweighting import reweighting


def states(method, steps):
    """The state after each step, from the first on."""
    state, step, found = jax.jit(method.init)(jr.key(0)), jax.jit(method.step), []
    for t in range(steps):
        state, info = step(jr.key(t), state)
        found.append((state, info))
    return found


def test_the_estimate_is_of_all_data_after_the_steps_that_are_best_for_the_halves(x64, toys):
    """Each half is fitted by a method of its own, which gives the scores."""
    problem = toys["oned"]()
    theta = jnp.linspace(-6, 6, 60)[:, None]
    parts = problem, *halves(problem)
    weights = [[np.full(60, 1 / 60)] for _ in parts]
    for path, one in zip(weights, parts, strict=True):
        path += [np.asarray(state.weights) for state, _ in states(reweighting(one, support=theta), 199)]
    tables = [np.asarray(log_likelihoods(one, theta, 1).values) for one in parts[1:]]

    def score(a, b):
        explained = [scipy.special.logsumexp(table, axis=1, b=w) for table, w in zip(tables, (b, a), strict=True)]
        return -sum(values.mean() for values in explained)

    scores = [score(a, b) for a, b in zip(weights[1], weights[2], strict=True)]
    best = int(np.argmin(scores))
    assert 5 < best < 190
    method = reweighting(problem, support=theta, stop_on_held_out=True)
    last = states(method, 200)[-1][0]
    assert float(last.score) == pytest.approx(scores[best], abs=1e-10)
    np.testing.assert_allclose(method.estimate(last).weights, weights[0][best], atol=1e-12)


def test_without_refinement_and_stopping_nothing_changes(x64, toys):
    """No refinement is due within the steps: the same weights as EM on the support that stays."""
    problem = toys["rotated"]()
    plain, adaptive = (
        reweighting(problem, n_support=25, concentration=1.5, **options)
        for options in ({}, {"n_refinements": 1, "refine_every": 40})
    )
    expected, found = (states(method, 30) for method in (plain, adaptive))
    np.testing.assert_allclose(found[-1][0].weights[0], expected[-1][0].weights, atol=1e-12)
    assert float(found[-1][1].objective) == pytest.approx(float(expected[-1][1].objective), abs=1e-12)


def test_a_refined_support_is_where_the_mass_is_and_fits_better(x64):
    """Refined after steps 10 and 20, of which each renders the support anew; the likelihood of EM then gains."""
    problem = DATASETS["oned"](n_observations=60, noise_std=0.1).problem
    fixed, refined = (
        states(reweighting(problem, n_support=60, **options), 400)
        for options in ({}, {"n_refinements": 2, "refine_every": 10})
    )
    counts = [int(info.forward_evaluations) for _, info in refined]
    assert counts == [60 if t in (0, 9, 19) else 0 for t in range(400)]
    before, after = refined[18][0].table, refined[-1][0].table
    assert before.theta.shape == after.theta.shape == (60, 1)
    assert float(after.width.min()) < float(before.width.max()) <= 1 / 60 + 1e-9
    np.testing.assert_array_equal(refined[19][0].table.theta, after.theta)
    assert float(refined[-1][1].objective) < float(fixed[-1][1].objective) - 1e-3
    table = log_likelihoods(problem, after.theta, 1).values
    np.testing.assert_allclose(after.likelihood, jnp.exp(table - after.top[:, None]), rtol=1e-9)


def test_children_stay_in_the_cells_of_their_parents(x64, toys):
    """Cells tile the box: a child is within half a cell of a point before, and cells that are shared get smaller."""
    problem = toys["rotated"]()
    method = reweighting(problem, n_support=400, n_refinements=1, refine_every=5)
    found = states(method, 5)
    before, after = found[3][0].table, found[4][0].table
    extent = np.asarray(before.theta.max(0) - before.theta.min(0))
    apart = np.abs(np.asarray(after.theta)[:, None] - np.asarray(before.theta)) / extent
    nearest = apart.max(2).min(1)
    assert nearest.max() <= 0.5 / 20 + 1e-12
    assert (nearest > 0).mean() > 0.3
    assert np.isclose(np.asarray(after.width), 1 / 20).any()
    assert float(after.width.min()) <= 1 / 20 / np.sqrt(2)
    np.testing.assert_allclose(found[4][0].weights[0], 1 / 400, atol=1e-12)


def test_a_systematic_sample_has_each_index_as_often_as_its_weight_says():
    weights = jnp.array([0.05, 0.5, 0.0, 0.25, 0.2])
    for key in jr.split(jr.key(0), 20):
        index, again = resampled(key, weights)
        count = np.bincount(index, minlength=5)
        assert (np.abs(count - 5 * np.asarray(weights)) < 1).all()
        assert count[2] == 0
        np.testing.assert_array_equal(again[1:], index[1:] == index[:-1])


def test_stopping_and_refining_go_together(toys):
    """The best support is kept with its weights; halves that know nothing of a part of it stay finite."""
    method = reweighting(toys["rotated"](), n_support=100, stop_on_held_out=True, n_refinements=4, refine_every=5)
    found = states(method, 60)
    scores = [float(state.score) for state, _ in found]
    assert np.isfinite(scores).all()
    assert np.diff(scores).max() <= 0
    theta, weights = method.estimate(found[-1][0])
    assert theta.shape == (100, 2)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    assert len(np.unique(np.round(theta, 6), axis=0)) == 100


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_refinements": -1}, "n_refinements is -1; wanted a whole number >= 0"),
        ({"refine_every": 0}, "refine_every is 0; wanted a whole number >= 1"),
    ],
)
def test_bad_input_is_refused(options, says, tiny):
    with pytest.raises(ValueError, match=says):
        reweighting(tiny.problem, **options)


def test_one_observation_cannot_be_held_out(tiny):
    alone = tiny.problem._replace(observations=tiny.problem.observations[:1])
    with pytest.raises(ValueError, match="has 1 observation; wanted 2 or more"):
        reweighting(alone, support=alone.observations, stop_on_held_out=True)
