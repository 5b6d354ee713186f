"""Scores of estimates on images that were held out: likelihoods against their formula, the same split for all."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special
from examples import SMALL

from cryosip.bench.examples import example_problem
from cryosip.bench.execute import execute
from cryosip.bench.studies import held_out
from cryosip.methods.method import WeightedPoints
from cryosip.records.schema import Labels, RunConfig

KEY = jr.key(0)


def test_the_split_leaves_out_one_of_four_and_keeps_what_is_behind_the_rest():
    instance = example_problem("oned", n_observations=11)
    fit, left_out = held_out.split(instance)
    y = np.asarray(instance.problem.observations)
    np.testing.assert_array_equal(left_out.observations, y[[3, 7]])
    np.testing.assert_array_equal(fit.problem.observations, np.delete(y, [3, 7], axis=0))
    np.testing.assert_array_equal(fit.truth.theta, np.delete(np.asarray(instance.truth.theta), [3, 7], axis=0))
    with pytest.raises(ValueError, match="3 observations; wanted at least 4"):
        held_out.split(example_problem("oned", n_observations=3))


def test_poses_are_those_behind_the_images_that_are_kept():
    instance = example_problem("adk")
    fit, _ = held_out.split(instance)
    away = fit.problem.observations - fit.problem.render(fit.truth.theta, fit.truth.pose)
    m, p = away.shape
    spread = 5 * np.sqrt(2 / (m * p))  # five standard errors of a mean square of white noise
    assert np.mean(away**2) == pytest.approx(fit.problem.noise_std**2, rel=spread)


def test_the_score_is_the_negative_mean_log_likelihood():
    problem = example_problem("oned", n_observations=9).problem
    theta, weights = np.array([[-1.0], [0.5], [2.0]]), np.array([0.2, 0.5, 0.3])
    away = (np.asarray(problem.observations) - theta[:, 0]) / problem.noise_std
    wanted = -scipy.special.logsumexp(-0.5 * away**2, b=weights, axis=1).mean()
    estimate = WeightedPoints(jnp.asarray(theta), jnp.asarray(weights))
    assert held_out.score(problem, KEY)(estimate) == pytest.approx(wanted, rel=1e-5)
    with_zero = WeightedPoints(np.vstack([theta, [[9.0]]]), np.append(weights, 0.0))
    assert held_out.score(problem, KEY)(with_zero) == pytest.approx(wanted, rel=1e-5)


def test_a_likelihood_that_is_offered_is_the_one_that_is_taken():
    problem = example_problem("oned", n_observations=9).problem

    def twice(theta, image):
        return -((problem.observations[image, 0] - theta[:, 0]) ** 2) / problem.noise_std**2

    estimate = WeightedPoints(jnp.array([[0.0]]), jnp.ones(1))
    offered = held_out.score(problem._replace(log_likelihood=twice), KEY)(estimate)
    assert offered == pytest.approx(2 * held_out.score(problem, KEY)(estimate), rel=1e-5)


@pytest.mark.parametrize("name", ["oned", "nanocluster", "adk"])
def test_the_truth_scores_better_than_what_is_far_from_it(name):
    instance = example_problem(name, n_observations=60)
    score = held_out.score(held_out.split(instance)[1], KEY)
    theta = instance.truth.sample(jr.key(1), 200)
    weights = jnp.full(200, 1 / 200)
    truth = score(WeightedPoints(theta, weights))
    assert truth == score(WeightedPoints(theta, weights))  # the same random numbers for all
    assert truth < score(WeightedPoints(theta + 3 * jnp.std(theta, axis=0), weights))


def test_a_run_is_scored_at_every_evaluation(few_draws):
    config = RunConfig("tuning", Labels(axis="number", value=0), "oned", SMALL["oned"], "reweighting", {}, 4, 2, 100)
    record, _ = execute(config, "smoke", held_out.run_held_out)
    assert record.status == "ok", record.message
    scores = record.curve["held_out"]
    assert len(scores) == len(record.curve["step"]) == 3
    assert np.isfinite(scores).all()
    assert record.metrics["held_out"] == scores[-1]
    assert len(np.unique(scores)) == 3
