"""EM on a grid, when it stops, what its intervals hold, and what is read off its estimate."""

import numpy as np
import pytest
import scipy.stats

from cryosip.bench.recovery.distribution import (
    Estimate,
    basins,
    best_steps,
    em,
    em_step,
    estimated,
    free_energy,
    halves_of_resamples,
    likelihoods,
    marginal,
    smoothed,
    with_interval,
)
from cryosip.methods.tabulated import Grid

LINE = Grid(np.array([-6.0]), np.array([6.0]), 41)


def measured(n, std, rng):
    """log-likelihoods of n points of two peaks, each measured with an error of this std."""
    theta = rng.choice([-2.5, 2.5], n) + rng.normal(size=n)
    y = theta + std * rng.normal(size=n)
    return -0.5 * ((y[:, None] - LINE.points[:, 0]) / std) ** 2


def test_no_step_makes_the_data_less_likely():
    likelihood = likelihoods(measured(100, 1.0, np.random.default_rng(0)))
    counts, weights, last = np.ones((1, 100)), np.full((1, 41), 1 / 41), -np.inf
    for _ in range(30):
        weights, log_evidence = em_step(likelihood, counts, weights)
        assert float(log_evidence.sum()) >= last - 1e-3
        last = float(log_evidence.sum())


def test_counts_are_repeated_images():
    values = measured(20, 1.0, np.random.default_rng(0))
    counts = np.random.default_rng(1).multinomial(20, np.full(20, 1 / 20), size=3)
    together = em(likelihoods(values), counts, 10)
    for row, count in zip(together, counts, strict=True):
        again = likelihoods(np.repeat(values, count, axis=0))
        np.testing.assert_allclose(row, em(again, np.ones((1, 20)), 10)[0], atol=1e-5)
    halfway = em(likelihoods(values), counts, 4)
    np.testing.assert_allclose(em(likelihoods(values), counts, 6, halfway), together, atol=1e-6)


def test_noise_alone_says_nothing():
    rng = np.random.default_rng(0)
    told = likelihoods(measured(400, 1.0, rng))
    untold = likelihoods(1e-3 * rng.normal(size=(400, 41)))
    assert best_steps(told) > 3
    np.testing.assert_allclose(estimated(untold, rng).weights, 1 / 41, rtol=0.02)


def test_intervals_hold():
    """Of 12 data sets; nine tenths of 12, less three standard errors of a share of 12 independent ones: .64."""
    cells = np.diff(LINE.points[:, 0])[0] / 2
    edges = LINE.points[:, 0] + cells
    truth = (scipy.stats.norm.cdf(edges, -2.5) + scipy.stats.norm.cdf(edges, 2.5)) / 2
    counted, held, widths = (truth > 0.02) & (truth < 0.98), [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        found = estimated(likelihoods(measured(300, 1.2, rng)), rng)
        value, low, high = with_interval(np.cumsum(found.weights), np.cumsum(found.resampled, axis=-1))
        assert (low <= value).all()
        assert (value <= high).all()
        held.append(((low <= truth) & (truth <= high))[counted].mean())
        widths.append((high - low)[counted].mean())
    assert np.mean(held) > 0.75
    assert np.mean(widths) < 0.15  # a std of sqrt(1 / 4 / 300) alone makes .095


def test_halves_of_resamples_differ():
    likelihood = likelihoods(measured(200, 1.0, np.random.default_rng(0)))
    pairs = halves_of_resamples(likelihood, 5, np.random.default_rng(1), 3)
    assert pairs.shape == (3, 2, 41)
    np.testing.assert_allclose(pairs.sum(-1), 1, rtol=1e-5)
    assert (np.abs(pairs[:, 0] - pairs[:, 1]).sum(1) > 0.05).all()


@pytest.mark.parametrize("d", [1, 2, 3])
def test_peaks_and_what_leads_to_them(d):
    grid = Grid(np.full(d, -6.0), np.full(d, 6.0), 13)
    far = ((grid.points - 3) ** 2).sum(1), ((grid.points + 3) ** 2).sum(1), ((grid.points - [5.0] + 10) ** 2).sum(1)
    heights = 0.68, 0.3, 0.02
    weights = sum(h * np.exp(-0.5 * f) / np.exp(-0.5 * f).sum() for h, f in zip(heights, far[:2], strict=False))
    weights[0] += 0.02 - 0.0  # a corner, with too small a share
    weights /= weights.sum()
    label, peaks = basins(grid, weights)
    np.testing.assert_allclose(grid.points[peaks], [[3.0] * d, [-3.0] * d])
    assert label[0] == 1  # the corner is nearer to the second
    share = np.bincount(label, weights)
    np.testing.assert_allclose(share, [0.68 / 1.0, 0.32], atol=0.02)


def test_the_energy_is_that_of_the_density():
    grid = Grid(np.full(2, -3.0), np.full(2, 3.0), 7)
    weights = np.exp(-0.5 * (grid.points**2).sum(1))
    weights[0] = 0.0
    weights /= weights.sum()
    resampled = weights * np.exp(0.1 * np.random.default_rng(0).normal(size=(2, 500, 49)))
    energy, std = free_energy(grid, Estimate(weights, resampled, 3), 10_000)
    wanted = 0.5 * (grid.points**2).sum(1).reshape(7, 7)
    assert np.isnan(energy[0, 0])
    known = ~np.isnan(energy)
    np.testing.assert_allclose(energy[known], wanted[known], atol=1e-9)
    np.testing.assert_allclose(std[known], 0.1, atol=0.02)
    assert np.isnan(free_energy(grid, Estimate(weights, resampled, 3), 10)[0]).sum() > 30


def test_marginals_and_smoothing_keep_the_weight():
    grid = Grid(np.full(3, -1.0), np.full(3, 1.0), 5)
    weights = np.random.default_rng(0).dirichlet(np.ones(125), size=(2, 4))
    for mode in range(3):
        along = marginal(grid, weights, mode)
        axis = grid.points[:, mode]
        for i, x in enumerate(np.linspace(-1, 1, 5)):
            np.testing.assert_allclose(along[..., i], weights[..., np.isclose(axis, x)].sum(-1))
    smooth = smoothed(grid, weights[0, 0], np.array([0.5, 0.0, 0.0]))
    assert smooth.sum() == pytest.approx(1)
    assert smooth.std() < weights[0, 0].std()
