"""The statistics of the board: against hand-computed examples, other implementations, and simulated boards."""

import math

import numpy as np
import pytest
from scipy import stats

from cryosip.reports import ranking
from cryosip.reports.ranking import LEVEL
from cryosip.reports.spreads import paired_ratio

# Table 6 of [demsar2006]: AUC of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf. The paper ranks the last two on voting, which it
# prints alike, 2 and 3.
AUC = np.array([
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
])  # fmt: skip
TIES = 1 - (3 * 6 + 60) / (14 * 4 * 15)  # three pairs and one row of four; the paper does not correct for them
BOARDS = 1_000  # simulated


def simulated(rng: np.random.Generator, problems: int, spread: float, methods: int = 5, replicates: int = 5):
    """Errors (problems, replicates, methods): a method's, a problem's and a replicate's part of log W2, all normal."""
    shape = (problems, replicates, methods)
    own = 0.4 * rng.normal(size=(problems, 1, methods))
    return np.exp(np.linspace(0, spread, methods) + own + 0.3 * rng.normal(size=shape))


def test_the_example_of_the_paper():
    mean = ranking.ranks(-AUC).mean(0)
    assert mean == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    found = ranking.friedman(-AUC)
    assert found.chi_squared * TIES == pytest.approx(9.28, abs=5e-3)
    assert ranking.iman_davenport(9.28, 14, 4) == pytest.approx(3.69, abs=5e-3)
    assert ranking.critical_difference(4, 14, 0.05) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)
    assert ranking.critical_difference(4, 14, 0.10) == pytest.approx(2.291 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)


def test_friedman_is_that_of_scipy_and_its_p_value_nears_that_of_f():
    """Monte Carlo: 4000 permutations have a standard error of 0.008 at most."""
    for seed in range(3):
        errors = np.random.default_rng(seed).normal(size=(25, 5)).round(1) + 0.3 * np.arange(5)
        found = ranking.friedman(errors)
        assert found.chi_squared == pytest.approx(stats.friedmanchisquare(*errors.T).statistic)
        assert found.p == pytest.approx(stats.f.sf(found.f, 4, 4 * 24), abs=0.03)


def test_few_problems_that_agree_decide_nothing():
    """Two methods in one order on three problems: the chance is 1/4, the F distribution says 0."""
    errors = np.array([[1.0, 2.0]] * 3)
    found = ranking.friedman(errors)
    assert math.isinf(found.f)
    assert found.p == pytest.approx(1 / 4, abs=0.03)


def test_failures_are_last_and_share_their_rank():
    errors = np.array([[1.0, math.inf, 2.0, math.inf], [3.0, 3.0, 1.0, math.inf]])
    np.testing.assert_array_equal(ranking.ranks(errors), [[1, 3.5, 2, 3.5], [2.5, 2.5, 1, 4]])
    everything = np.full((3, 4), math.inf)
    assert ranking.friedman(everything) == (0, 0, 1)


@pytest.mark.parametrize("errors", [np.ones((3, 1)), np.array([[1.0, math.nan]]), np.ones((0, 2)), np.ones(3)])
def test_what_cannot_be_ranked_is_refused(errors):
    with pytest.raises(ValueError, match=r"wanted \(problems, at least 2 methods\) without nan"):
        ranking.ranks(errors)


def test_groups_hold_what_differs_by_less_than_the_critical_difference():
    assert ranking.level_groups([1.0, 1.5, 2.4, 4.0], 1.0) == [(0, 1), (1, 2)]
    assert ranking.level_groups([1.0, 2.0, 3.0], 1.0) == []
    assert ranking.level_groups([1.0, 2.0, 3.0], math.inf) == [(0, 2)]


def test_holm_steps_down():
    assert ranking.holm([0.01, 0.04, math.nan, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, math.nan, 0.06, 0.02], nan_ok=True
    )
    assert ranking.holm([0.5, 0.6]) == [1.0, 1.0]


def test_so_many_problems_bring_the_critical_difference_down_to_the_difference():
    for difference in (0.3, 0.75, 2.0):
        needed = int(ranking.problems_needed(5, difference))
        assert ranking.critical_difference(5, needed) <= difference < ranking.critical_difference(5, needed - 1)
    assert ranking.problems_needed(5, 0.0) == math.inf


def test_so_many_replicates_have_the_power():
    """Simulated: 4000 tests have a standard error of 0.006."""
    rng, needed = np.random.default_rng(0), int(ranking.replicates_needed(0.1, 0.15, 0.02))
    powers = {}
    for n in (needed - 2, needed):
        logs = rng.normal(0.1, 0.15, size=(4_000, n))
        powers[n] = np.mean(stats.ttest_1samp(logs, 0, axis=1).pvalue <= 0.02)
    assert powers[needed] == pytest.approx(ranking.POWER, abs=0.04)
    assert powers[needed - 2] < ranking.POWER
    assert ranking.replicates_needed(0.0, 0.1, 0.1) == math.inf
    assert ranking.replicates_needed(1e-4, 1.0, 0.1) == math.inf
    assert ranking.replicates_needed(0.1, 0.0, 0.1) == 3


def test_the_profile_is_the_share_within_a_factor_and_its_area_the_integral():
    problems = [np.array([[1.0, 2.0, math.inf], [4.0, 1.0, 2.0]]), np.array([[1.0, 20.0, 1.0]])]
    shares = ranking.profile(problems, np.array([1.0, 2.0, 4.0, 10.0]))
    np.testing.assert_allclose(shares, [[0.75, 0.25, 0.5], [0.75, 0.5, 0.75], [1, 0.5, 0.75], [1, 0.5, 0.75]])
    taus = np.geomspace(1, ranking.TAU_MAX, 20_001)
    integral = np.trapezoid(ranking.profile(problems, taus), np.log(taus), axis=0) / math.log(ranking.TAU_MAX)
    assert [found.value for found in ranking.areas(problems)] == pytest.approx(integral, abs=2e-4)


def test_where_all_failed_no_factor_is_enough():
    problems = [np.full((2, 3), math.inf)] * 3
    assert not ranking.profile(problems, np.array([10.0])).any()
    assert [found.value for found in ranking.areas(problems)] == [0, 0, 0]
    assert [found.value for found in ranking.mean_ranks(problems)] == [2, 2, 2]


def test_intervals_are_within_what_ranks_can_be_and_follow_the_replicates_where_problems_agree():
    rng = np.random.default_rng(0)
    sure = [np.exp(np.arange(3) + 0.01 * rng.normal(size=(5, 3))) for _ in range(4)]
    assert [(e.low, e.high) for e in ranking.mean_ranks(sure)] == [(1, 1), (2, 2), (3, 3)]
    close = [np.array([[1.0, 1.1], [1.0, 0.9], [1.0, 1.2], [1.0, 1.3], [1.0, 0.8]])] * 4  # always the same order
    first, second = ranking.mean_ranks(close)
    assert (first.value, second.value) == (1, 2)
    assert (first.low, second.high) == (1, 2)
    assert first.high > 1.1
    assert math.isnan(ranking.mean_ranks(close[:2])[0].low)


@pytest.mark.slow  # 1000 boards with a bootstrap each
@pytest.mark.parametrize("score", ["mean_ranks", "areas"])
def test_intervals_over_problems_hold_what_they_say(score):
    rng = np.random.default_rng(3)
    one = {"mean_ranks": ranking.rank_scores, "areas": ranking.area_scores}[score]
    truth = one(simulated(rng, 200_000, 0.8)).mean(0)
    held = []
    for _ in range(BOARDS):
        found = np.array(getattr(ranking, score)(list(simulated(rng, 12, 0.8))))
        held.append((found[:, 1] <= truth) & (truth <= found[:, 2]))
    assert np.mean(held) == pytest.approx(1 - LEVEL, abs=0.02)


def test_intervals_of_a_ratio_hold_what_they_say():
    rng, held = np.random.default_rng(4), []
    for _ in range(BOARDS):
        logs = 0.2 + 0.4 * rng.normal(size=6)
        found = paired_ratio([(math.exp(x), 1.0) for x in logs])
        held.append(found.low <= math.exp(0.2) <= found.high)
    assert np.mean(held) == pytest.approx(1 - LEVEL, abs=0.02)


def test_the_p_value_of_a_ratio_is_that_of_the_t_test():
    logs = np.array([0.1, 0.3, -0.1, 0.4])
    found = paired_ratio([(math.exp(x), 1.0) for x in logs])
    assert found.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)
    assert found.std == pytest.approx(logs.std(ddof=1))
    assert paired_ratio([(1.0, 1.0)] * 4).p == 1
    assert paired_ratio([(1.0, 2.0)] * 4).p == 0
    assert math.isnan(paired_ratio([(1.0, 2.0)] * 2).p)


def test_holm_finds_a_false_difference_no_more_often_than_it_says():
    rng, methods, wrong = np.random.default_rng(5), 5, 0
    first, second = np.triu_indices(methods, 1)
    for _ in range(BOARDS):
        logs = rng.normal(size=(5, methods))
        p_values = stats.ttest_1samp(logs[:, first] - logs[:, second], 0, axis=0).pvalue
        wrong += min(ranking.holm(p_values.tolist())) <= LEVEL
    assert wrong / BOARDS <= LEVEL + 0.02


@pytest.mark.parametrize("problems", [3, 12])
def test_nemenyi_finds_a_false_difference_no_more_often_than_it_says(problems):
    rng, wrong = np.random.default_rng(6), 0
    width = ranking.critical_difference(5, problems)
    for _ in range(BOARDS):
        errors = rng.normal(size=(problems, 5))
        apart = np.ptp(ranking.ranks(errors).mean(0)) >= width
        wrong += apart and ranking.friedman(errors).p <= LEVEL
    assert wrong / BOARDS <= LEVEL + 0.02


def test_nemenyi_finds_a_difference_that_is_there():
    rng = np.random.default_rng(7)
    errors = rng.normal(size=(15, 4)) + np.array([0, 0, 0, 4.0])
    mean = np.sort(ranking.ranks(errors).mean(0))
    assert ranking.friedman(errors).p < 0.01
    assert ranking.level_groups(mean.tolist(), ranking.critical_difference(4, 15)) == [(0, 2)]
