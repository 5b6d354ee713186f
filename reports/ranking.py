"""Ranking methods over problems: Friedman and Nemenyi, Holm, performance profiles, and what more runs would decide.

Pure functions of errors: the smaller the better, infinite for a failure, nan nowhere. One problem is an array
(replicates, methods); several are a list of these or, of their medians, an array (problems, methods).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from cryosip.records.schema import Array
from cryosip.reports.spreads import MIN_REPLICATES, Estimate

LEVEL = 0.10  # of every test of a report: as one interval that holds 90 %
TAU_MAX = 10.0  # the largest factor of a performance profile
POWER = 0.8  # with which more replicates are to separate two methods
MOST = 10_000  # replicates; beyond it their number says nothing
PERMUTATIONS, RESAMPLES, SEED = 4_000, 400, 0


class Friedman(NamedTuple):
    """The test that all methods have the same mean rank."""

    chi_squared: float
    f: float
    p: float


def ranks(errors: Array) -> Array:
    """The rank of each method on each problem, 1 the best; equal errors, failures among them, share their mean rank.

    Raises ValueError where there are fewer than two methods, no problem, or an error that is nan.
    """
    if errors.ndim != 2 or errors.shape[0] < 1 or errors.shape[1] < 2 or np.isnan(errors).any():
        raise ValueError(f"got errors of shape {errors.shape}: wanted (problems, at least 2 methods) without nan")
    ranked: Array = stats.rankdata(errors, axis=1)
    return ranked


def friedman(errors: Array) -> Friedman:
    """Friedman's test with the correction for ties, in the form of Iman and Davenport.

    chi^2 = 12 N / (k (k + 1)) [sum_j R_j^2 - k (k + 1)^2 / 4] / c, c = 1 - sum (t^3 - t) / (N k (k^2 - 1)) over groups
    of t equal ranks on one problem; F = (N - 1) chi^2 / (N (k - 1) - chi^2). The p-value is that of permutations of the
    ranks on each problem, for with few problems the F distribution is not that of F. Sources: [friedman1937],
    [iman1980], [demsar2006].
    """
    ranked = ranks(errors)
    n, k = ranked.shape
    ties = sum(float(counts @ (counts**2 - 1)) for row in ranked for counts in [np.unique(row, return_counts=True)[1]])
    correction = 1 - ties / (n * k * (k**2 - 1))
    if correction <= 0:
        return Friedman(0.0, 0.0, 1.0)
    scale = 12 * n / (k * (k + 1)) / correction
    found = scale * _between(ranked)
    shuffled = np.random.default_rng(SEED).permuted(np.broadcast_to(ranked, (PERMUTATIONS, n, k)), axis=-1)
    as_far = np.count_nonzero(scale * _between(shuffled) >= found * (1 - 1e-12))
    return Friedman(found, iman_davenport(found, n, k), (1 + as_far) / (1 + PERMUTATIONS))


def _between(ranked: Array) -> Array:
    """Sum over methods of the squared distance of the mean rank from (k + 1) / 2."""
    centred: Array = ((ranked.mean(-2) - (ranked.shape[-1] + 1) / 2) ** 2).sum(-1)
    return centred


def iman_davenport(chi_squared: float, problems: int, methods: int) -> float:
    """F of Friedman's chi^2, infinite where all problems agree: see `friedman`."""
    rest = problems * (methods - 1) - chi_squared
    return (problems - 1) * chi_squared / rest if rest > 1e-9 else math.inf


def critical_difference(methods: int, problems: int, level: float = LEVEL) -> float:
    """Nemenyi's critical difference of mean ranks, q sqrt(k (k + 1) / (6 N)) [demsar2006].

    q is the studentized range of k methods at infinitely many degrees of freedom over sqrt(2).
    """
    return _range(methods, level) * math.sqrt(methods * (methods + 1) / (6 * problems))


def _range(methods: int, level: float) -> float:
    return float(stats.studentized_range.ppf(1 - level, methods, math.inf)) / math.sqrt(2)


def problems_needed(methods: int, difference: float, level: float = LEVEL) -> float:
    """The number of problems at which the critical difference is no larger than a difference of mean ranks."""
    if difference <= 0:
        return math.inf
    return float(math.ceil(_range(methods, level) ** 2 * methods * (methods + 1) / (6 * difference**2) - 1e-9))


def level_groups(mean_ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """The first and last place of each largest run of sorted mean ranks that differ by less than the difference."""
    found: list[tuple[int, int]] = []
    for first, low in enumerate(mean_ranks):
        last = max(at for at, high in enumerate(mean_ranks) if at == first or high - low < difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down rule [holm1979]; nan, no test, is not counted."""
    known = sorted((p, at) for at, p in enumerate(p_values) if not math.isnan(p))
    adjusted, least = [math.nan] * len(p_values), 0.0
    for step, (p, at) in enumerate(known):
        least = max(least, min(1.0, (len(known) - step) * p))
        adjusted[at] = least
    return adjusted


def replicates_needed(mean: float, std: float, level: float) -> float:
    """How many replicates separate two methods with probability POWER by the t-test of their log ratios.

    Parameters
    ----------
    mean, std
        Of the log ratio over replicates, taken as the true ones.
    level
        Of the two-sided test.

    Returns
    -------
    float
        inf where MOST are too few.
    """
    if mean == 0 or not math.isfinite(mean * std):
        return math.inf
    low, high = MIN_REPLICATES - 1, MIN_REPLICATES
    while _power(high, mean, std, level) < POWER:
        low, high = high, 2 * high
        if low > MOST:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, mean, std, level) >= POWER else (middle, high)
    return float(high) if high <= MOST else math.inf


def _power(n: int, mean: float, std: float, level: float) -> float:
    """That |t| exceeds its quantile where t has the noncentral distribution; far from it, of the normal one."""
    away = math.inf if std == 0 else abs(mean) / std * math.sqrt(n)
    quantile = float(stats.t.ppf(1 - level / 2, n - 1))
    return 1.0 if away > quantile + 30 else float(stats.nct.sf(quantile, n - 1, away))


def factors(errors: Array) -> Array:
    """Each error over the smallest of its row; infinite where it is, also where all are."""
    best = errors.min(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Array = np.where(np.isfinite(errors), errors / best, math.inf)
    return np.where((errors == best) & np.isfinite(errors), 1.0, ratio)


def profile(problems: Sequence[Array], taus: Array) -> Array:
    """The performance profile [dolan2002]: (taus, methods), the share of replicates within a factor of the best.

    A replicate is one data set, on which all methods are compared; every problem has the same weight.
    """
    shares = [(factors(own)[None] <= taus[:, None, None] * (1 + 1e-12)).mean(1) for own in problems]
    mean: Array = np.mean(shares, axis=0)
    return mean


def area_scores(errors: Array) -> Array:
    """The area below each method's profile of one problem over log tau in [1, TAU_MAX], normalised to [0, 1].

    1 - log(min(factor, TAU_MAX)) / log(TAU_MAX), the mean over replicates; the last two axes are (replicates, methods).
    """
    capped = np.minimum(factors(errors), TAU_MAX)
    scores: Array = (1 - np.log(capped) / math.log(TAU_MAX)).mean(-2)
    return scores


def rank_scores(errors: Array) -> Array:
    """The rank of each method by its median over replicates; the last two axes are (replicates, methods)."""
    ranked: Array = stats.rankdata(_medians(errors), axis=-1)
    return ranked


def _medians(errors: Array) -> Array:
    """Over replicates; infinite, not nan, where one of the two in the middle is."""
    ordered, n = np.sort(errors, axis=-2), errors.shape[-2]
    middle: Array = (ordered[..., (n - 1) // 2, :] + ordered[..., n // 2, :]) / 2
    return middle


def mean_ranks(problems: Sequence[Array]) -> list[Estimate]:
    """The mean rank over problems of each method, with its 90 % interval as in `over_problems`."""
    return over_problems(problems, rank_scores, (1.0, float(problems[0].shape[1])))


def areas(problems: Sequence[Array]) -> list[Estimate]:
    """The area below each method's performance profile, with its 90 % interval as in `over_problems`."""
    return over_problems(problems, area_scores, (0.0, 1.0))


def over_problems(
    problems: Sequence[Array], score: Callable[[Array], Array], ends: tuple[float, float]
) -> list[Estimate]:
    """The mean over problems of a score of each method, with a 90 % interval for a mean over many such problems.

    mean +- t sqrt(max(s^2, b^2) / N): t of N - 1 degrees of freedom, s the standard deviation of the score over the N
    problems, b^2 the mean over problems of its variance in a bootstrap of the replicates, which counts where all
    problems agree by chance. A bootstrap of problems holds too little where N is small, and one of problems and then of
    replicates counts the scatter of replicates twice: measured for N = 3 to 20, their 90 % intervals hold 59 to 98 %.

    Parameters
    ----------
    problems
        (replicates, methods) errors of each.
    score
        From (..., replicates, methods) to (..., methods).
    ends
        The least and the largest score there is, at which the interval ends.

    Returns
    -------
    list[Estimate]
        Of each method; no interval for fewer than MIN_REPLICATES problems.
    """
    scores = np.array([score(own) for own in problems])
    n, mean = len(scores), scores.mean(0)
    if n < MIN_REPLICATES:
        return [Estimate(float(value), math.nan, math.nan, n) for value in mean]
    rng = np.random.default_rng(SEED)
    resampled = [score(own[rng.integers(len(own), size=(RESAMPLES, len(own)))]).var(0) for own in problems]
    variance = np.maximum(scores.var(0, ddof=1), np.mean(resampled, axis=0))
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * np.sqrt(variance / n)
    low, high = np.clip([mean - half, mean + half], *ends)
    return [Estimate(*part, n) for part in zip(mean.tolist(), low.tolist(), high.tolist(), strict=True)]
