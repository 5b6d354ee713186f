"""Supports of posterior-npmle that are drawn: their likelihoods, when they are drawn anew, and what is refused."""

import numpy as np
import pytest
import scipy.special
from test_posterior_npmle import linear, seen_under_an_angle, states

from cryosip.datasets.registry import DATASETS
from cryosip.methods.posterior_npmle import posterior_npmle


def test_drawn_structures_are_weighed_by_the_exact_likelihoods(x64):
    """Before and after they are drawn anew, which happens in EM step 31 alone."""
    problem, matrix = linear()
    y = np.asarray(problem.observations)
    method = posterior_npmle(problem, n_support=16, n_candidates=1, n_refinements=12, n_drawn=150, n_redraws=1)
    passed, _ = states(method, 29 + 30 + 1 + 10)
    supports = [np.asarray(method.estimate(state).theta) for state in passed]
    changed = [t for t in range(29, len(supports) - 1) if (supports[t + 1] != supports[t]).any()]
    assert changed == [29 + 30]
    for state in (passed[29], passed[-1]):
        theta, weights = (np.asarray(a) for a in method.estimate(state))
        assert (theta.shape, weights.sum()) == ((150, 2), pytest.approx(1.0))
        exact = -0.5 * ((y[:, None] - theta @ matrix.T) ** 2).sum(2) / 0.7**2
        np.testing.assert_allclose(state.table, exact, atol=1e-6)
    after = passed[29 + 31]
    evidence = scipy.special.logsumexp(np.asarray(after.table), axis=1) - np.log(150)
    np.testing.assert_allclose(after.weights, np.exp(after.table - evidence[:, None]).mean(0) / 150, rtol=1e-6)


def test_drawn_structures_may_have_their_poses_integrated_pair_by_pair(x64):
    """The same posteriors, and the same draws, with another table of about the same likelihoods."""
    problem = seen_under_an_angle()[0]
    common = {"n_support": 49, "n_candidates": 1, "n_refinements": 12, "n_drawn": 30}
    tables = []
    for n in (0, 30):
        method = posterior_npmle(problem, **common, n_integrated=n)
        state = states(method, 49 + 12 + 1)[0][-1]
        tables.append(np.asarray(state.table) - np.asarray(state.table).max(1, keepdims=True))
    near = tables[1] > -5
    assert (tables[0] != tables[1]).any()
    assert np.median(np.abs(tables[0] - tables[1])[near]) < 0.2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_drawn": -1}, "n_drawn is -1; wanted a whole number >= 0"),
        ({"n_drawn": 10, "n_redraws": -1}, "n_redraws is -1; wanted a whole number >= 0"),
        ({"n_redraws": 2}, "n_redraws is 2 and n_drawn 0; wanted structures that are drawn at first"),
    ],
)
def test_draws_that_cannot_be_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        posterior_npmle(linear()[0], **options)


def test_nothing_is_drawn_where_a_problem_offers_its_likelihood():
    problem = DATASETS["two-moons"](n_observations=20).problem
    with pytest.raises(ValueError, match="n_drawn is 10 and problem 'two-moons' offers log_likelihood; wanted 0"):
        posterior_npmle(problem, n_drawn=10)
